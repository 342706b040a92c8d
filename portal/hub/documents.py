"""Documents: what the office wants of its nodes, signed, and what each node has of it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.domain import document as documents
from portal.domain import note
from portal.domain.document import ALL, NO_PREVIOUS, Document, DocumentError
from portal.errors import UserError
from portal.signing import verify
from portal.store.db.either import HubTransaction, Reading
from portal.store.hub import HubStore
from portal.store.hub_documents import DocumentStore
from portal.wire import Exchange

MOST_SENT_OCTETS = 256_000
"""Of documents in one answer; the rest comes with the next."""
_GROUP = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Standing:
    """A document at a node: what is wanted, and what is."""

    name: str
    scope: str
    wanted_version: int
    held_version: int
    held_at: int | None
    refused_version: int
    refused_why: str | None

    @property
    def state(self) -> str:
        """`applied`, `refused` (the wanted version), or `waiting` for the node's next exchange."""
        if self.held_version >= self.wanted_version:
            return "applied"
        return "refused" if self.refused_version == self.wanted_version else "waiting"


class Documents:
    """Signs documents and hands them out."""

    def __init__(
        self,
        store: DocumentStore,
        nodes: HubStore,
        key: note.Key,
        sign: Callable[[bytes], bytes],
    ):
        self.store = store
        self._nodes = nodes
        self._key = key
        self._sign = sign

    # --- the office

    async def publish(
        self,
        name: str,
        scope: str,
        content: Mapping[str, Any],
        *,
        by: str,
        now: int,
        not_before_at: int = 0,
    ) -> Document:
        """Sign the next version of a document. Raises UserError for what cannot be one, or a scope
        that no site is in."""
        async with self.store.database.transaction() as transaction:
            await transaction.lock(f"document {name} {scope}")
            await self._check_scope(transaction, scope)
            last = await self.store.newest(transaction, name, scope)
            version = 1 if last is None else int(last["version"]) + 1
            held = await self.store.highest_held(transaction, name, scope)
            if held >= version:
                # This hub was put back from a backup; nodes have versions it does not know. One
                # above theirs would have to name theirs as the one before.
                version = held + 2
            previous = NO_PREVIOUS if last is None else str(last["sha256"])
            document = Document(name, scope, version, not_before_at, previous, content)
            try:
                text = documents.text_of(document)
                signed = note.format_note(text, [note.sign_note(text, self._key, self._sign)])
            except (DocumentError, note.NoteError) as error:
                raise UserError(f"The document cannot be published: {error}.") from error
            digest = documents.digest(text)
            await self.store.add(
                transaction, name, scope, version, not_before_at, digest, signed, now, by
            )
            await self._nodes.write_audit(
                transaction, now, by, "document.publish", f"{name} {scope}", f"version {version}"
            )
        return document

    def is_ours(self, signed: str) -> bool:
        """Whether this hub signed a stored version as it stands."""
        try:
            return note.is_signed(note.parse_note(signed), self._key, verify)
        except note.NoteError:
            return False

    async def _check_scope(self, reading: Reading, scope: str) -> None:
        kind, _, value = scope.partition(" ")
        if kind == "site" and await self._nodes.site(reading, value) is None:
            raise UserError(f"There is no site {value!r}; expected one of: pesisir site list")
        if kind == "group" and not _GROUP.fullmatch(value):
            raise UserError(f"The group is {value!r}; expected small letters, digits and dashes.")

    async def standings(self, node_id: str) -> list[Standing]:
        """Wanted and actual state of every document at a node."""
        reading = self.store.database
        states = {
            (row["name"], row["scope"]): row for row in await self.store.states(reading, node_id)
        }
        found = []
        for row in await self._wanted(reading, node_id):
            state = states.get((row["name"], row["scope"]))
            found.append(
                Standing(
                    row["name"],
                    row["scope"],
                    row["version"],
                    0 if state is None else state["held_version"],
                    None if state is None else state["held_at"],
                    0 if state is None else state["refused_version"],
                    None if state is None else state["refused_why"],
                )
            )
        return found

    # --- a node's exchange

    async def note_held(
        self, transaction: HubTransaction, node_id: str, exchange: Exchange, now: int
    ) -> None:
        """Keep what a node says it holds or refused, as far as it is new."""
        if not exchange.held and not exchange.refused:
            return
        known = {
            (row["name"], row["scope"]): row
            for row in await self.store.states(transaction, node_id)
        }
        held = [
            (each.name, each.scope, each.version)
            for each in exchange.held[:200]
            if _is_sane(each.name, each.scope, each.version)
            and (
                (each.name, each.scope) not in known
                or known[each.name, each.scope]["held_version"] != each.version
            )
        ]
        refused = [
            (each.name, each.scope, each.version, each.why.replace("\x00", " ")[:300])
            for each in exchange.refused[:200]
            if _is_sane(each.name, each.scope, each.version)
            and (
                (each.name, each.scope) not in known
                or known[each.name, each.scope]["refused_version"] != each.version
            )
        ]
        await self.store.set_held(transaction, node_id, held, now)
        await self.store.set_refused(transaction, node_id, refused, now)

    async def wanted_by(
        self, reading: Reading, node_id: str, exchange: Exchange, now: int
    ) -> list[str]:
        """Signed documents that the node should apply and does not hold."""
        held = {(each.name, each.scope): each.version for each in exchange.held}
        refused = {(each.name, each.scope): each.version for each in exchange.refused}
        sent: list[str] = []
        octets = 0
        for row in await self._wanted(reading, node_id):
            place = (row["name"], row["scope"])
            if held.get(place, 0) >= row["version"] or refused.get(place) == row["version"]:
                continue
            octets += len(row["note"].encode())
            if sent and octets > MOST_SENT_OCTETS:
                break
            sent.append(row["note"])
        return sent

    async def _wanted(self, reading: Reading, node_id: str) -> list[Any]:
        sites = await self._nodes.sites_of(reading, node_id)
        scopes = [ALL, *(f"site {site['code']}" for site in sites)]
        groups = {f"group {site['group_name']}" for site in sites if site["group_name"]}
        # A group that its sites have left too: the version that no longer names them takes back.
        for row in await self.store.states(reading, node_id):
            if row["scope"].startswith("group ") and row["held_version"]:
                groups.add(row["scope"])
        scopes += sorted(groups)
        return await self.store.wanted(reading, scopes)


def _is_sane(name: str, scope: str, version: int) -> bool:
    return (
        name in documents.NAMES
        and len(scope) <= 64
        and scope.isprintable()
        and 0 <= version < 2**53
    )
