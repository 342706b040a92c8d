"""Enrolment at the hub: tokens for sites, boxes that come with them, a person who approves.

A token is good for one box and a week. The box proves that it has it; six words tell the person who
approves that the keys which came are those of the box somebody stands in front of. Replacing a box
is the same enrolment for a site that has one: the old box loses the site and, with its last one,
the right to report.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from portal.domain import enrol_token, six_words
from portal.domain.ledger import node_id as node_id_of
from portal.errors import DeskError, UserError
from portal.place_values import check_zone, sentence, site_value
from portal.store.audit import Deed
from portal.store.db.either import HubTransaction, Row
from portal.store.hub import HubStore
from portal.store.hub_office import OfficeStore

TWO_BOXES = "two_boxes"
"""A second box asks for a site, or comes with a token that another has used."""
_SITE_CODE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}")
_GROUP = re.compile(r"[a-z0-9][a-z0-9-]{0,31}|")


class Refused(Exception):
    """A box that is not let in; `str()` is one English sentence for who stands there."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True, repr=False)
class Invitation:
    """A token that was just made; it is shown once."""

    site: str
    name: str
    zone: str
    token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Presented:
    """What a box sends to be let in."""

    token_id: str
    node_id: str
    signing: bytes
    sealing: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """What it is answered."""

    state: str
    """"pending" or "active"."""
    site: dict[str, str]
    """code, name, zone, power_window, without_node."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A box that waits for a person."""

    token_id: str
    site: str
    node_id: str
    words: tuple[str, ...]
    presented_at: int
    replaces: str | None
    """The box that reports for this site now."""


class Enrolments:
    """The hub's boxes, from the token to the revocation."""

    def __init__(
        self,
        store: HubStore,
        office: OfficeStore,
        *,
        ca_der: bytes,
        now: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._office = office
        self._ca_der = ca_der
        self._now = now
        self._random_bytes = random_bytes
        self.on_regrouped: Callable[[str, str], Awaitable[None]] | None = None
        """Told a group that has other sites now, and by whom."""

    # --- sites and tokens

    async def add_site(
        self,
        code: str,
        name: str,
        zone: str,
        by: str,
        *,
        group: str = "",
        power_window: str = "",
        without_node: str = "closed",
    ) -> Invitation:
        """Add a site and make its first token. Raises UserError for a bad or taken value."""
        code = code.upper()
        if not _SITE_CODE.fullmatch(code):
            raise DeskError("site_code", code=code[:20])
        check_zone(zone)
        name = sentence("site name", name, 80)
        if not name:
            raise DeskError("site_name")
        values = self._checked({"power_window": power_window, "without_node": without_node})
        group = _group(group)
        now = self._now()
        async with self._store.database.transaction() as transaction:
            if not await self._store.add_site(transaction, code, name, zone, group, now):
                raise DeskError("site_taken", code=code)
            await self._office.set_site(transaction, code, list(values.items()))
            deed = Deed(by, "site.add", None, code, details=name)
            await self._office.write_deed(transaction, now, deed)
            made = await self._invite(transaction, code, name, zone, by, now)
        await self._regrouped({group}, by)
        return made

    async def set_site(self, code: str, changes: dict[str, str], by: str) -> None:
        """Change what is named of a site: name, group_name, power_window, without_node."""
        values = self._checked(changes)
        now = self._now()
        async with self._store.database.transaction() as transaction:
            before = await self._site(transaction, code)
            values = {name: value for name, value in values.items() if value != before[name]}
            if values:
                await self._office.set_site(transaction, code, list(values.items()))
                details = "; ".join(f"{name}: {value}" for name, value in values.items())
                deed = Deed(by, "site.set", None, code, details=details)
                await self._office.write_deed(transaction, now, deed)
        group = values.get("group_name", before["group_name"])
        if group != before["group_name"]:
            await self._regrouped({group, before["group_name"]}, by)

    async def _regrouped(self, groups: set[str], by: str) -> None:
        if self.on_regrouped is not None:
            for group in sorted(groups - {""}):
                await self.on_regrouped(group, by)

    def _checked(self, changes: dict[str, str]) -> dict[str, str]:
        values: dict[str, str] = {}
        for name, value in changes.items():
            if name == "group_name":
                values[name] = _group(value)
            elif name == "without_node":
                if value not in ("closed", "open"):
                    raise DeskError("site_without_node")
                values[name] = value
            elif name in ("name", "power_window"):
                values[name] = site_value(name, value)
            else:
                raise UserError(f"a site at the hub has no {name}")
        return values

    async def invite(self, code: str, by: str) -> Invitation:
        """A further token of a site, for its first box or one that takes its place; older tokens
        that nobody used are withdrawn."""
        now = self._now()
        async with self._store.database.transaction() as transaction:
            site = await self._site(transaction, code)
            return await self._invite(transaction, code, site["name"], site["zone"], by, now)

    async def _site(self, transaction: HubTransaction, code: str) -> Row:
        site = await self._store.site(transaction, code)
        if site is None:
            raise DeskError("site_unknown", code=code[:20])
        return site

    async def _invite(
        self, transaction: HubTransaction, code: str, name: str, zone: str, by: str, now: int
    ) -> Invitation:
        token = enrol_token.make(self._random_bytes, self._ca_der)
        expires_at = now + enrol_token.LIFE_S
        await self._office.add_enrolment(
            transaction, token.id, token.key, code, by, now, expires_at
        )
        deed = Deed(by, "enrolment.invite", None, code)
        await self._office.write_deed(transaction, now, deed)
        return Invitation(code, name, zone, token.text(), expires_at)

    # --- a box comes

    async def present(self, box: Presented) -> Welcome:
        """A box comes with a token, or asks again. Raises Refused."""
        if len(box.signing) != 32 or len(box.sealing) != 32:
            raise Refused(422, "the keys of the box are not 32 octets each")
        words = await asyncio.to_thread(self.words, box.signing, box.sealing)
        now = self._now()
        refused: Refused | None = None
        async with self._store.database.transaction() as transaction:
            await transaction.lock("enrolment")
            row = await self._office.enrolment(transaction, box.token_id)
            wanted = (
                b""
                if row is None
                else enrol_token.proof(
                    bytes(row["token_key"]),
                    *(box.node_id, box.signing, box.sealing, self._ca_der),
                )
            )
            if row is None or not hmac.compare_digest(wanted, box.proof):
                raise Refused(403, "this hub does not know the token, or it is mistyped")
            if row["state"] in ("refused", "withdrawn"):
                raise Refused(403, "the office has withdrawn this token; ask for another")
            if row["state"] == "open":
                await self._first(transaction, row, box, words, now)
            elif (row["node_id"], bytes(row["signing"])) != (box.node_id, box.signing):
                await self._office.raise_alarm(
                    transaction,
                    row["node_id"],
                    TWO_BOXES,
                    f"{row['site']} {box.node_id}",
                    now,
                    f"the token of {row['site']} came a second time, from the box {box.node_id}",
                )
                refused = Refused(409, "another box has used this token; ask the office")
            state = "active" if row["state"] == "approved" else "pending"
            site = await self._site(transaction, row["site"])
        # Raised only now, so that the alarm is kept.
        if refused is not None:
            raise refused
        return Welcome(state, _told(site))

    async def _first(
        self,
        transaction: HubTransaction,
        row: Row,
        box: Presented,
        words: tuple[str, ...],
        now: int,
    ) -> None:
        if now >= row["expires_at"]:
            raise Refused(403, "the token is older than a week; ask the office for another")
        known = await self._store.node(transaction, box.node_id)
        if known is None:
            if node_id_of(box.signing) != box.node_id:
                raise Refused(403, "the name of the box does not fit its key")
            await self._store.add_node(transaction, box.node_id, box.signing, box.sealing, now)
        elif known["state"] == "revoked":
            raise Refused(403, "the office has revoked this box; it needs new keys")
        elif box.signing not in await self._store.keys_of(transaction, box.node_id):
            raise Refused(403, "the box is known here by another key")
        await self._office.present(
            transaction,
            row["token_id"],
            node_id=box.node_id,
            signing=box.signing,
            sealing=box.sealing,
            words=" ".join(words),
            at=now,
        )
        site = await self._site(transaction, row["site"])
        if site["node_id"] not in (None, box.node_id):
            await self._office.raise_alarm(
                transaction,
                box.node_id,
                TWO_BOXES,
                row["site"],
                now,
                f"{row['site']} has the box {site['node_id']}, and {box.node_id} asks for it",
            )

    def words(self, signing: bytes, sealing: bytes) -> tuple[str, ...]:
        """The six words of a box's keys at this hub. Takes long: run it in a thread."""
        return enrol_token.words(signing, sealing, self._ca_der)

    # --- a person decides

    async def waiting(self) -> list[Waiting]:
        """The boxes that wait for a person, oldest first."""
        sites = {row["code"]: row["node_id"] for row in await self._store.sites()}
        return [
            Waiting(
                row["token_id"],
                row["site"],
                row["node_id"],
                tuple(row["words"].split()),
                row["presented_at"],
                sites[row["site"]] if sites[row["site"]] != row["node_id"] else None,
            )
            for row in await self._office.enrolments(self._store.database, "pending")
        ]

    async def approve(self, token_id: str, by: str, *, words: str | None, replace: bool) -> str:
        """Let a box report for its site; return its node id.

        `words`: what a person heard from the box, compared here; None where the caller has shown
        them and somebody said yes. Raises DeskError for other words, and for a site that has a
        box already unless `replace` is true.
        """
        now = self._now()
        async with self._store.database.transaction() as transaction:
            await transaction.lock("enrolment")
            row = await self._pending(transaction, token_id)
            if words is not None:
                self._compare(words, row["words"])
            site = await self._site(transaction, row["site"])
            old, node_id = site["node_id"], str(row["node_id"])
            if old is not None and old != node_id:
                if not replace:
                    raise DeskError("enrolment_replace", site=row["site"], node=old)
                await self._office.set_replaces(transaction, node_id, old)
            await self._store.set_state(transaction, node_id, "active", now)
            await self._store.give_site(transaction, row["site"], node_id)
            await self._office.site_begins(transaction, row["site"], node_id, now)
            await self._office.decide(transaction, token_id, "approved", by, now)
            deed = Deed(by, "enrolment.approve", None, row["site"], details=node_id)
            await self._office.write_deed(transaction, now, deed)
            if old is not None and old != node_id:
                await self._office.end_alarm(
                    transaction, node_id, TWO_BOXES, row["site"], by, "replaced", now
                )
                if not await self._store.sites_of(transaction, old):
                    await self._end(transaction, old, by, f"replaced by {node_id}", now)
        return node_id

    def _compare(self, typed: str, right: str) -> None:
        try:
            heard = six_words.read(typed)
        except ValueError as error:
            raise DeskError("enrolment_words_unknown") from error
        if not hmac.compare_digest(" ".join(heard), right):
            raise DeskError("enrolment_words")

    async def _pending(self, transaction: HubTransaction, token_id: str) -> Row:
        row = await self._office.enrolment(transaction, token_id)
        if row is None or row["state"] != "pending":
            raise DeskError("enrolment_gone")
        return row

    async def refuse(self, token_id: str, by: str, reason: str) -> None:
        """Do not let a box in; its token is worth nothing from now on."""
        reason = _reason(reason)
        now = self._now()
        async with self._store.database.transaction() as transaction:
            await transaction.lock("enrolment")
            row = await self._pending(transaction, token_id)
            node_id = str(row["node_id"])
            await self._office.decide(transaction, token_id, "refused", by, now)
            node = await self._store.node(transaction, node_id)
            if node is not None and node["state"] == "pending":
                await self._store.set_state(transaction, node_id, "revoked", now)
            await self._office.end_alarm(
                transaction, node_id, TWO_BOXES, row["site"], by, reason, now
            )
            deed = Deed(by, "enrolment.refuse", None, row["site"], reason, node_id)
            await self._office.write_deed(transaction, now, deed)

    async def revoke(self, node_id: str, by: str, reason: str) -> None:
        """Take a box's right to report: what it sends beyond what is here is refused."""
        reason = _reason(reason)
        now = self._now()
        async with self._store.database.transaction() as transaction:
            await transaction.lock("enrolment")
            node = await self._store.node(transaction, node_id)
            if node is None:
                raise DeskError("node_unknown", node=node_id[:20])
            if node["state"] == "revoked":
                raise DeskError("node_revoked", node=node_id)
            await self._end(transaction, node_id, by, reason, now)

    async def _end(
        self, transaction: HubTransaction, node_id: str, by: str, reason: str, now: int
    ) -> None:
        await self._store.set_state(transaction, node_id, "revoked", now)
        await self._office.site_ends(transaction, node_id, now)
        heads = await self._office.heads(transaction, node_id)
        details = "; ".join(f"epoch {row['epoch']}: {row['size']} records" for row in heads)
        deed = Deed(by, "node.revoke", None, node_id, reason, details)
        await self._office.write_deed(transaction, now, deed)

    # --- new keys of a box

    async def take_key(self, node_id: str, old: bytes, new: bytes) -> None:
        """Take another signing key of a box, beside the one that signed the request.

        The old one stays good until an exchange signed with the new one comes: a box that loses
        the answer, or its power, before it has kept the new key goes on with what it has. Asked
        twice, it is done once. Raises Refused.
        """
        if len(new) != 32:
            raise Refused(422, "a signing key is 32 octets")
        now = self._now()
        async with self._store.database.transaction() as transaction:
            node = await self._store.node(transaction, node_id)
            if node is not None and node["state"] == "revoked":
                raise Refused(410, "the office has taken this box's right to report")
            keys = await self._store.keys_of(transaction, node_id)
            if new in keys:
                return
            if old not in keys:
                raise Refused(401, "the key that signs is not this box's")
            if new in await self._store.all_keys_of(transaction, node_id):
                raise Refused(409, "the box had this key before; it needs a new one")
            await self._store.add_key(transaction, node_id, new, now)
            deed = Deed(node_id, "node.key", None, node_id)
            await self._office.write_deed(transaction, now, deed)


def _told(site: Row) -> dict[str, str]:
    names = ("code", "name", "zone", "power_window", "without_node")
    return {name: str(site[name]) for name in names}


def _group(text: str) -> str:
    group = text.strip().lower()
    if not _GROUP.fullmatch(group):
        raise DeskError("site_group", group=text[:40])
    return group


def _reason(text: str) -> str:
    reason = " ".join(text.split())
    if not 4 <= len(reason) <= 200:
        raise DeskError("reason")
    return reason
