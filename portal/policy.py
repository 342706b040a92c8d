"""Policy: what the hub wants of this node, verified, applied through the node's own use cases.

A document is believed for its signature, and only once: versions of a name and scope only grow. A
bad or older one is refused and reported, and what was applied last stays in force for weeks without
a hub. Documents of one name add up; where two say different things the narrower scope holds.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portal.admin import Admin
from portal.devices import Devices
from portal.domain import document as documents
from portal.domain import note as notes
from portal.domain.document import Document, DocumentError
from portal.errors import UserError
from portal.notices import Notices
from portal.operators import Operators
from portal.policy_contents import (
    ContentError,
    Effective,
    Notice,
    check,
    effective,
)
from portal.store.sync import SyncStore
from portal.wire import Held, Refused

log = logging.getLogger(__name__)

HUB = "hub"
"""Who did it, in the audit."""
DIGEST_SHOWN = 16
DISBELIEVED_MOST = 100
"""Documents of somebody else that are recorded between two starts, each once."""

Record = Callable[[Mapping[str, Any]], None]
"""Appends a POLICY record of what cannot be kept to the ledger, given its payload."""


@dataclass(frozen=True, slots=True)
class _Kept:
    document: Document
    note: str
    why: str
    at: int


class Policy:
    """The documents of the hub at this node."""

    def __init__(
        self,
        store: SyncStore,
        admin: Admin,
        notices: Notices,
        devices: Devices,
        operators: Operators,
        *,
        key: Callable[[], str | None],
        verify: notes.Verify,
        record: Record,
        now: Callable[[], int],
    ):
        """`key`: the hub's key for documents as enrolment left it, None before."""
        self._store = store
        self._admin = admin
        self._notices = notices
        self._devices = devices
        self._operators = operators
        self._key = key
        self._verify = verify
        self._record = record
        self._now = now
        self._disbelieved: set[str] = set()
        self._kept: dict[str, dict[tuple[str, str], _Kept]] = {
            "applied": {},
            "waiting": {},
            "refused": {},
        }
        for row in store.documents():
            # What was verified when it came is parsed only: the key may have changed since.
            text = notes.parse_note(row["note"]).text
            kept = _Kept(documents.parse(text), row["note"], row["why"], row["at"])
            self._kept[row["state"]][(row["name"], row["scope"])] = kept

    # -- what the hub is told --------------------------------------------------------------

    def held(self) -> list[Held]:
        """What is applied, or waits for its time."""
        known = {**self._kept["applied"], **self._kept["waiting"]}
        return [Held(*place, kept.document.version) for place, kept in sorted(known.items())]

    def refused(self) -> list[Refused]:
        """What was refused since the last good version."""
        return [
            Refused(*place, kept.document.version, kept.why)
            for place, kept in sorted(self._kept["refused"].items())
            if kept.document.version > self._version(place)
        ]

    def shown(self) -> list[dict[str, Any]]:
        """Every document for people: name, scope, version, state, why, at."""
        return [
            {
                "name": name,
                "scope": scope,
                "version": kept.document.version,
                "state": state,
                "why": kept.why,
                "at": kept.at,
            }
            for state in ("applied", "waiting", "refused")
            for (name, scope), kept in sorted(self._kept[state].items())
            if state != "refused" or kept.document.version > self._version((name, scope))
        ]

    # -- receiving -------------------------------------------------------------------------

    async def receive(self, received: list[str]) -> None:
        """Take documents as they came from the hub, each a signed note."""
        for note in received:
            try:
                document = self._verified(note)
            except (DocumentError, notes.NoteError) as error:
                # Whose it is cannot be known, so there is nothing to report it under.
                log.warning("policy_not_believed error=%s", error)
                digest = documents.digest(note)[:DIGEST_SHOWN]
                # It comes again with every exchange, for as long as its sender likes.
                if digest not in self._disbelieved and len(self._disbelieved) < DISBELIEVED_MOST:
                    self._disbelieved.add(digest)
                    self._record({"state": "refused", "digest": digest, "why": str(error)[:200]})
                continue
            await self._take(document, note)

    async def apply_due(self) -> None:
        """Apply what waited for its time."""
        for kept in list(self._kept["waiting"].values()):
            if kept.document.not_before_at <= self._now():
                await self._apply(kept.document, kept.note)

    def _verified(self, note: str) -> Document:
        line = self._key()
        if line is None:
            raise DocumentError("there is no hub whose documents count here")
        parsed = notes.parse_note(note)
        if not notes.is_signed(parsed, notes.parse_key(line), self._verify):
            raise DocumentError("a document is not signed by the hub of this node")
        return documents.parse(parsed.text)

    async def _take(self, document: Document, note: str) -> None:
        place = (document.name, document.scope)
        known = self._kept["waiting"].get(place) or self._kept["applied"].get(place)
        if known is not None and known.note == note:
            return
        fault = self._fault(document, known)
        if fault is not None:
            await self._refuse(document, note, fault)
        elif document.not_before_at > self._now():
            await self._keep(document, "waiting", note)
        else:
            await self._apply(document, note)

    def _fault(self, document: Document, known: _Kept | None) -> str | None:
        """Why a document cannot be taken, None when it can."""
        if known is not None:
            last = known.document.version
            if document.version < last:
                return f"version {document.version} is older than version {last}, which is in force"
            if document.version == last:
                return f"another document has been version {last} already"
            expected = documents.digest(notes.parse_note(known.note).text)
            if document.version == last + 1 and document.previous != expected:
                return f"version {document.version} names another version {last} than the one here"
        try:
            check(document, self._admin)
        except ContentError as error:
            return str(error)
        return None

    def _version(self, place: tuple[str, str]) -> int:
        kept = self._kept["applied"].get(place)
        return 0 if kept is None else kept.document.version

    async def _apply(self, document: Document, note: str) -> None:
        place = (document.name, document.scope)
        before = self._effective(document.name)
        now = [kept.document for kept in self._of(document.name, place)]
        try:
            # Sites and profiles may have changed while it waited.
            check(document, self._admin)
            after = effective([*now, document], self._admin)
            await self._switch(document, before, after)
        except (UserError, ContentError) as error:
            log.error("policy_not_applied document=%s scope=%s error=%s", *place, error)
            try:
                await self._switch(document, effective([*now, document], self._admin), before)
            except (UserError, ContentError) as again:
                log.error("policy_not_put_back document=%s scope=%s error=%s", *place, again)
            await self._refuse(document, note, str(error))
            return
        await self._keep(document, "applied", note)

    def _of(self, name: str, without: tuple[str, str]) -> list[_Kept]:
        return [
            kept
            for place, kept in self._kept["applied"].items()
            if place[0] == name and place != without
        ]

    def _effective(self, name: str) -> Effective:
        kept = [kept.document for kept in self._of(name, ("", ""))]
        return effective(kept, self._admin)

    async def _refuse(self, document: Document, note: str, why: str) -> None:
        place = (document.name, document.scope)
        known = self._kept["refused"].get(place)
        if known is not None and known.note == note:
            return
        log.warning(
            "policy_refused document=%s scope=%s version=%d why=%s", *place, document.version, why
        )
        await self._keep(document, "refused", note, why=why)

    async def _keep(self, document: Document, state: str, note: str, *, why: str = "") -> None:
        place, at = (document.name, document.scope), self._now()
        payload = {
            "document": document.name,
            "scope": document.scope,
            "version": document.version,
            "digest": documents.digest(notes.parse_note(note).text)[:DIGEST_SHOWN],
            "state": state,
        }
        await self._store.keep_document(
            document,
            state,
            note,
            why=why,
            at=at,
            payload=payload | ({"why": why[:200]} if why else {}),
        )
        self._kept[state][place] = _Kept(document, note, why, at)
        waiting = self._kept["waiting"].get(place)
        is_over = waiting is not None and waiting.document.version <= document.version
        if state != "waiting" and is_over:
            del self._kept["waiting"][place]

    # -- applying --------------------------------------------------------------------------

    async def _switch(self, document: Document, before: Effective, after: Effective) -> None:
        """Bring the node from one state to another. Each step leaves alone what is so already, so
        that a switch that was cut off by the power is repeated without harm."""
        steps: dict[str, Callable[[Effective, Effective], Awaitable[None]]] = {
            "profiles": self._set_profiles,
            "announcements": self._announce,
            "blocked": self._block,
            "settings": self._set_sites,
        }
        if document.name == "reset":
            for name, password_hash in after.resets.items():
                if before.resets.get(name) != password_hash:
                    await self._operators.take_password(name, password_hash, by=HUB)
            return
        await steps[document.name](before, after)

    async def _set_profiles(self, before: Effective, after: Effective) -> None:
        for name, texts in after.profiles.items():
            await self._admin.set_profile(name, texts, by=HUB)

    async def _set_sites(self, before: Effective, after: Effective) -> None:
        for code, fields in after.sites.items():
            await self._admin.set_site(code, fields, by=HUB)

    async def _block(self, before: Effective, after: Effective) -> None:
        for (site_id, mac), reason in after.blocked.items():
            if not self._devices.is_blocked(mac, site_id):
                await self._devices.block(mac, site_id, reason, by=HUB)
        for site_id, mac in before.blocked.keys() - after.blocked.keys():
            if self._devices.is_blocked(mac, site_id):
                await self._devices.unblock(mac, site_id, by=HUB)

    async def _announce(self, before: Effective, after: Effective) -> None:
        now = self._now()
        for notice in before.notices:
            if notice not in after.notices:
                live = self._live(notice)
                if live is not None:
                    await self._notices.end(live, notice.site_id, by=HUB)
        for notice in after.notices:
            is_over = notice.ends_at is not None and notice.ends_at <= now
            if is_over or self._live(notice) is not None:
                continue
            await self._notices.add(
                notice.site_id,
                notice.words,
                starts_at=max(notice.starts_at, now),
                ends_at=notice.ends_at,
                by=HUB,
            )

    def _live(self, notice: Notice) -> int | None:
        """The id of the announcement with these words at that site, while it runs or will run."""
        return next(
            (one.id for one in self._notices.live(notice.site_id) if one.words == notice.words),
            None,
        )
