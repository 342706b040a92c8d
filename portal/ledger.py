"""The keeper of the ledger: turns what happens at a node into records, each written in the
transaction of what it is about.

Sessions are told when they end and at midnight, never at an interim update. What a record says of a
session is what no earlier one said, so that sums over records are sums of usage.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from portal import place_values
from portal.admin import Admin
from portal.domain import hours, note
from portal.domain.ledger import (
    WHOLE_NODE,
    ClockQuality,
    Flag,
    Kind,
    Record,
    Usage,
    decode,
    encode,
    origin,
    parse_origin,
    person_octets,
)
from portal.domain.session import Session, mark_told, untold
from portal.pseudonyms import NOBODY, Pseudonyms, month_of_local
from portal.reports import TERMINATE_CAUSES
from portal.sessions import Live, Sessions
from portal.signing import SigningKeys
from portal.store.batch import Batch
from portal.store.db import Row
from portal.store.ledger import (
    Entry,
    Head,
    Kept,
    LedgerStore,
    Opening,
    Stamp,
    gateway_config,
    is_whole,
    profile_config,
    site_config,
)

log = logging.getLogger(__name__)

CAUSES: Final = {text: number for number, text in TERMINATE_CAUSES.items()}
OTHER_CAUSE: Final = 10
"""NAS-Request, for an end that the node decided and RFC 2866 has no number for."""
FIRST_START, RESTORED, NEW_KEY, ROLLED_BACK = "first start", "restored", "new key", "rolled back"
REPLACED, DAMAGED = "replaced box", "damaged"
"""Why an epoch was opened."""
CHANGED_BY_HAND = "records changed"
"""Cause of a gap: records that nobody can tell again, since somebody has changed them."""
# For the hot path, where an enum costs a call for each `|`.
_FIRST: Final = int(Flag.FIRST)
_LAST: Final = int(Flag.LAST)
_LATE: Final = int(Flag.LATE)
_CUT: Final = int(Flag.CUT)
_REPLAYED: Final = int(Flag.REPLAYED)


class Ledger:
    """Keeps the ledger of a node."""

    def __init__(
        self,
        store: LedgerStore,
        keys: SigningKeys,
        admin: Admin,
        sessions: Sessions,
        pseudonyms: Pseudonyms,
        *,
        now: Callable[[], int],
        soon: Callable[[], None],
    ):
        self.store = store
        self.keys = keys
        self._admin = admin
        self._sessions = sessions
        self._pseudonyms = pseudonyms
        self._now = now
        self._soon = soon
        self.is_restored = False
        """Whether an older disk was put back before this start."""
        self._entries: list[Entry] = []
        self._day_ends: dict[int, tuple[str, int]] = {}
        """Site -> its zone and the end of its day."""
        self._failing_since: int | None = None
        self._failures = 0

    # -- appending -------------------------------------------------------------------------

    def append(
        self,
        kind: Kind,
        payload: Mapping[str, Any],
        *,
        site: int = WHOLE_NODE,
        at: int | None = None,
        personal: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a record with the next group commit: in the same transaction as everything else
        that changed in memory by now. Who writes in a transaction of their own gives it the
        `Entry` instead (`Transaction.append`). Raises LedgerError for what no record can hold.
        """
        entry = Entry(kind, self._now() if at is None else at, payload, site, personal)
        # A record that cannot be written must not hold up those behind it.
        encode(Record(kind, 0, 0, entry.at, ClockQuality.RUNNING, site, payload))
        self._entries.append(entry)
        self._soon()

    def collect(self, batch: Batch) -> Callable[[bool], None]:
        """Put what waits into a batch; call the result with whether it was committed."""
        taken, self._entries = self._entries, []
        batch.entries.extend(taken)
        failing_since, failures = self._failing_since, self._failures
        if failing_since is not None:
            payload = {
                "cause": "commits failed",
                "from": failing_since,
                "to": self._now(),
                "failures": failures,
            }
            batch.entries.append(Entry(Kind.GAP, self._now(), payload))

        def settle(is_committed: bool) -> None:
            if not is_committed:
                self._entries = taken + self._entries
            elif failing_since is not None:
                self._failing_since = None
                self._failures = 0

        return settle

    def commit_failed(self) -> None:
        """A group commit failed: nothing was acknowledged meanwhile, and the next one says so."""
        if self._failing_since is None:
            self._failing_since = self._now()
        self._failures += 1

    # -- sessions --------------------------------------------------------------------------

    def closed(self, live: Live, *, was_open: bool) -> None:
        """A session ended, or a packet came for one that had: tell what is new."""
        session = live.session
        if not was_open and session.told.records and not any(untold(session)[1:]):
            return
        at = max(session.ended_at or 0, session.last_seen_at)
        flags = _LAST
        if not was_open:
            flags |= _LATE
        if not session.is_stopped:
            flags |= _CUT
        self._tell(live, Kind.SESSION, at, flags)

    def slice(self, now: int) -> bool:
        """Where a day has ended since the last call, tell what open sessions used until then."""
        is_any = False
        for site in list(self._admin.sites_by_id.values()):
            known = self._day_ends.get(site.id)
            if known is not None and known[0] == site.zone and now < known[1]:
                continue
            zone = self._admin.zone(site.id)
            start_at, end_at = hours.window_at("day", now, zone)
            self._day_ends[site.id] = (site.zone, end_at)
            for live in self._sessions.open_sessions():
                session = live.session
                if session.site_id != site.id or session.started_at >= start_at:
                    continue
                # At the node's start a session may have been heard of today already.
                if known is None and session.last_seen_at >= start_at:
                    continue
                if any(untold(session)[1:]):
                    at = min(session.last_seen_at, start_at - 1)
                    self._tell(live, Kind.SLICE, at, 0)
                    self._sessions.changed(live)
                    is_any = True
        if is_any:
            self._soon()
        return is_any

    def _tell(self, live: Live, kind: Kind, at: int, flags: int) -> None:
        session, account = live.session, live.account
        local = datetime.fromtimestamp(at, self._admin.zone(session.site_id))
        piece = untold(session)
        head = self.store.head()
        if not piece.records:
            flags |= _FIRST
        if head is not None and head.replayed_below and _may_be_told(session, head):
            flags |= _REPLAYED
        pseudonym, profile = NOBODY, 0
        if account is not None:
            pseudonym = self._pseudonyms.of(account.id, month_of_local(local))
            profile = self.store.profile_number(account.profile)
        usage = Usage(
            flags=flags,
            pseudonym=pseudonym,
            gateway=session.gateway_id,
            profile=profile,
            started_ago_s=max(0, at - session.started_at),
            duration_s=max(0, piece.session_time_s),
            counted_s=max(0, piece.counted_s),
            input_octets=max(0, piece.input_octets),
            output_octets=max(0, piece.output_octets),
            cause=0 if session.end_cause is None else CAUSES.get(session.end_cause, OTHER_CAUSE),
        )
        mark_told(session)
        self._entries.append(
            Entry(
                kind,
                at,
                usage,
                session.site_id,
                person_octets(
                    session=session.id,
                    mac=session.mac,
                    ip=session.framed_ip,
                    serial=live.serial or None,
                ),
                day=local.toordinal(),
            )
        )

    # -- checkpoints and epochs ------------------------------------------------------------

    def checkpoint(self) -> str:
        """A signed note of how far the log has got, as committed (C2SP tlog-checkpoint)."""
        head = self._open_head()
        at = note.Checkpoint(origin(head.node, head.epoch), head.size, head.root)
        text = note.checkpoint_text(at)
        return note.format_note(text, (note.sign_note(text, self.keys.key, self.keys.sign),))

    def _open_head(self) -> Head:
        head = self.store.head()
        if head is None:
            raise RuntimeError("the ledger has no epoch; expected Ledger.begin before")
        return head

    async def begin(self, box: Mapping[str, str], *, first_session_id: int) -> None:
        """At the node's start: open an epoch where there is none, after an older disk was put back
        (`must_open_epoch`), and where the keys are another box's. `first_session_id`: of this run.
        """
        head = self.store.head()
        if head is None and "epoch_parent" in box:
            await self.open_epoch(box["epoch_parent"], REPLACED, replayed_below=first_session_id)
        elif "must_open_epoch" in box:
            known = json.loads(box["must_open_epoch"])
            self.is_restored = True
            await self.open_epoch(
                known["parent"] or self._parent(),
                RESTORED,
                replayed_below=first_session_id,
                above=known["above"],
            )
        elif self.store.is_damaged or (head is None and self.store.highest_epoch() >= 0):
            # Residents come first: the log goes on, and what is damaged stays as it is for others
            # to look at.
            log.error("ledger_damaged epoch=%d", self.store.highest_epoch())
            await self.open_epoch(
                self._parent(),
                DAMAGED,
                replayed_below=first_session_id,
                above=self.store.highest_epoch(),
            )
        elif head is None:
            await self.open_epoch(None, FIRST_START, replayed_below=0)
        elif head.node != self.keys.node_id:
            # The other box may have gone on for a while.
            await self.open_epoch(self._parent(), NEW_KEY, replayed_below=first_session_id)

    def _parent(self) -> str | None:
        newest = self.store.cosigned()
        return None if newest is None else str(newest["note"])

    async def open_epoch(
        self,
        parent: str | None,
        why: str,
        *,
        replayed_below: int,
        replay_from: int | None = None,
        known: tuple[int, int] | None = None,
        above: int = -1,
    ) -> None:
        """Begin a new epoch that goes on from `parent`, the last checkpoint the hub is known to
        have cosigned.

        Sessions with an id under `replayed_below` may be told for the second time; what the present
        epoch has from record `replay_from` on is told again, since the hub has other records there.
        `known`: the epoch and record from which on the hub has what this box has forgotten, where
        that is not the parent's end. `above`: an epoch that is known to be taken.
        """
        head, now = self.store.head(), self._now()
        epochs = [above, -1 if head is None else head.epoch]
        if parent is not None:
            text = note.parse_note(parent).text
            epochs.append(parse_origin(note.parse_checkpoint(text).origin)[1])
        epoch = max(epochs) + 1
        opening = Opening(epoch, self.keys.node_id, now, replayed_below, replay_from)
        payload: dict[str, Any] = {
            "why": why,
            "key": str(self.keys.key),
            "parent": parent,
            "from": now,
        }
        if known is not None:
            payload["known"] = list(known)
        entries = [Entry(Kind.EPOCH, now, payload), *self._all_config(now)]
        await self.store.open(opening, entries, self._again)

    def _all_config(self, now: int) -> list[Entry]:
        """What every number stands for, so that an epoch explains itself."""
        admin = self._admin
        return [
            *(site_config(site.id, now, asdict(site)) for site in admin.sites_by_id.values()),
            *(
                gateway_config(gateway.id, gateway.site_id, now, asdict(gateway))
                for gateway in admin.gateways_by_id.values()
            ),
            *(
                profile_config(
                    self.store.profile_number(name), name, now, place_values.limits_of(profile)
                )
                for name, profile in admin.profiles_by_name.items()
            ),
        ]

    def _again(self, rows: Sequence[Row]) -> list[Entry]:
        entries, changed = [], 0
        for row in rows:
            if not is_whole(row):
                # Signing it again would make true what somebody wrote there by hand.
                changed += 1
                continue
            record = decode(row["public"])
            if record.kind == Kind.EPOCH:
                continue
            payload, day = record.payload, 0
            if isinstance(payload, Usage):
                payload = _replayed(payload)
                if record.site in self._admin.sites_by_id:
                    zone = self._admin.zone(record.site)
                    day = hours.day_of(record.at, zone).toordinal()
            entries.append(
                Entry(
                    record.kind,
                    record.at,
                    payload,
                    record.site,
                    day=day,
                    kept=Kept(
                        Stamp(record.boot, record.clock_quality),
                        row["c_loc"],
                        row["salt"],
                        row["personal"],
                    ),
                )
            )
        if changed:
            now = self._now()
            gap = {"cause": CHANGED_BY_HAND, "from": now, "to": now, "failures": changed}
            entries.append(Entry(Kind.GAP, now, gap))
        return entries


def _may_be_told(session: Session, head: Head) -> bool:
    """Whether the box may have told of a session and forgotten it: it knew it before the older disk
    was put back, or first heard of it after that, from a gateway, as one that was going on."""
    return session.id < head.replayed_below or session.started_at < head.opened_at


def _replayed(usage: Usage) -> Usage:
    return usage._replace(flags=usage.flags | _REPLAYED)
