"""Attempts: what gateways were asked to do with sessions, and what they said to it.

One for each action, however often it had to be repeated, kept on disk with its newest outcome. An
answer proves nothing: whether a session has ended, or keeps its new limits, accounting says.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from portal.admin import Admin
from portal.sessions import Live
from portal.store.actions import ActionStore
from portal.store.batch import Batch
from portal.store.db import Row
from portal.store.ledger import Rule
from radius.dynauth import Outcome

DISCONNECT, COA = "disconnect", "coa"
NODE = ""
"""Asks by itself; people have names."""
OUTCOMES_KEPT = 200
"""What people asked for stays in memory; the disk has it longer, the audit for ever."""
_NEWEST_KEPT = 5_000
WANTED_FOR_S = 86_400
"""A session whose end was asked for so long ago is over, whatever its gateway does: no
Session-Timeout is longer."""


@dataclass(slots=True, eq=False)
class Attempt:
    """A gateway was asked for something, by a person or by the node itself."""

    number: int
    """Its row; counts from 1."""
    kind: str
    """`disconnect` or `coa`."""
    why: str
    """A word: `operator` where a person asked for just this, else what led to it."""
    session_id: int
    gateway_id: int
    site_id: int
    serial: str
    device: str | None
    """The name of a known device, whose card nobody holds."""
    gateway: str
    mac: str | None
    by: str
    """An operator, `command line`, or NODE."""
    asked_at: int
    sent: int = 0
    """Requests that led to an answer or to none; more than one where the session went on."""
    answer: str | None = None
    """`ack`, `nak`, `timeout` or, when nobody could be asked, `unasked`; None while it is awaited.
    It proves nothing: the session has ended when accounting says so."""
    answered_at: int | None = None
    error_cause: int | None = None
    """Error-Cause of a NAK (RFC 5176 3.5); many gateways give none."""
    round_trip_ms: int | None = None

    def take(self, outcome: Outcome | None, at: int) -> None:
        """Keep the newest outcome; None: there was nobody to ask."""
        self.answered_at = at
        if outcome is None:
            self.answer, self.error_cause, self.round_trip_ms = "unasked", None, None
            return
        self.sent += 1
        self.answer, self.error_cause = outcome.kind, outcome.error_cause
        round_trip_s = outcome.round_trip_s
        self.round_trip_ms = None if round_trip_s is None else round(round_trip_s * 1000)


class Attempts:
    """The attempts in memory and on disk."""

    def __init__(
        self,
        store: ActionStore,
        admin: Admin,
        *,
        now: Callable[[], int],
        soon: Callable[[], None],
        device_name: Callable[[int], str | None] = lambda voucher_id: None,
    ):
        """`soon`: have what changed written; `device_name`: of the known device with this card."""
        self._store = store
        self._admin = admin
        self._now = now
        self._soon = soon
        self._device_name = device_name
        self._next = store.next_id()
        self.of_people: deque[Attempt] = deque(maxlen=OUTCOMES_KEPT)
        """What people asked for, oldest first."""
        self._newest: OrderedDict[tuple[int, str], Attempt] = OrderedDict()
        self._dirty: dict[int, Attempt] = {}

    # -- in memory -------------------------------------------------------------------------

    def begin(self, live: Live, kind: str, why: str, by: str = NODE) -> Attempt:
        """A new attempt, which is not asked yet."""
        session = live.session
        attempt = Attempt(
            number=self._next,
            kind=kind,
            why=why,
            session_id=session.id,
            gateway_id=session.gateway_id,
            site_id=session.site_id,
            serial=live.serial,
            device=None if session.voucher_id is None else self._device_name(session.voucher_id),
            gateway=self._admin.gateway_name(session.gateway_id) or "",
            mac=session.mac,
            by=by,
            asked_at=self._now(),
        )
        self._next += 1
        if by != NODE:
            self.of_people.append(attempt)
        self._newest[session.id, kind] = attempt
        self._newest.move_to_end((session.id, kind))
        if len(self._newest) > _NEWEST_KEPT:
            self._newest.popitem(last=False)
        self._changed(attempt)
        return attempt

    def withdraw(self, attempt: Attempt) -> None:
        """It could not be written down who asked, so nothing is asked."""
        self.of_people.remove(attempt)
        self._dirty.pop(attempt.number, None)
        if self._newest.get((attempt.session_id, attempt.kind)) is attempt:
            del self._newest[attempt.session_id, attempt.kind]

    def newest(self, session_id: int, kind: str) -> Attempt | None:
        """The attempt that a repeated request belongs to."""
        return self._newest.get((session_id, kind))

    def take(self, attempt: Attempt, outcome: Outcome | None) -> None:
        """Keep an outcome; None: there was nobody to ask."""
        attempt.take(outcome, self._now())
        self._changed(attempt)

    def by_number(self, number: int) -> Attempt | None:
        """What a person asked for lately, by its number."""
        return next((one for one in self.of_people if one.number == number), None)

    def of_person(self, session_id: int) -> Attempt | None:
        """The newest attempt of a person to end a session."""
        return next(
            (one for one in reversed(self.of_people) if one.session_id == session_id),
            None,
        )

    # -- on disk ---------------------------------------------------------------------------

    def wanted(self) -> list[int]:
        """Open sessions whose end was asked for before the node started."""
        return self._store.wanted_disconnects(self._now() - WANTED_FOR_S)

    async def stored(self, number: int) -> Attempt | None:
        """An attempt from memory, else from disk; None when it is too old or never was."""
        known = self.by_number(number) or self._dirty.get(number)
        if known is None:
            row = await self._store.action(number)
            known = None if row is None else self._read(row)
        return known

    async def of_gateway(self, gateway_id: int, limit: int) -> list[Attempt]:
        """What a gateway was asked last, newest first, with what came of it until now."""
        found = {
            row["id"]: self._read(row) for row in await self._store.of_gateway(gateway_id, limit)
        }
        # What was asked or answered a moment ago is not on disk yet.
        for attempt in self._newest.values():
            if attempt.gateway_id == gateway_id:
                found[attempt.number] = attempt
        return sorted(found.values(), key=lambda one: -one.number)[:limit]

    async def forget_before(self, rule: Rule) -> int:
        """Drop what was asked before a moment; return how many rows."""
        at = rule.before_at
        for key, attempt in list(self._newest.items()):
            if attempt.asked_at < at:
                del self._newest[key]
        while self.of_people and self.of_people[0].asked_at < at:
            self.of_people.popleft()
        return await self._store.forget_before(rule)

    def _read(self, row: Row) -> Attempt:
        voucher_id = row["voucher_id"]
        return Attempt(
            number=row["id"],
            kind=row["kind"],
            why=row["why"],
            session_id=row["session_id"],
            gateway_id=row["gateway_id"],
            site_id=row["site_id"],
            serial=row["serial"] or "",
            device=None if voucher_id is None else self._device_name(voucher_id),
            gateway=self._admin.gateway_name(row["gateway_id"]) or "",
            mac=row["mac"],
            by=row["asked_by"],
            asked_at=row["at"],
            sent=row["sent"],
            answer=row["answer"],
            answered_at=row["answered_at"],
            error_cause=row["error_cause"],
            round_trip_ms=row["round_trip_ms"],
        )

    def _changed(self, attempt: Attempt) -> None:
        self._dirty[attempt.number] = attempt
        self._soon()

    def collect(self, batch: Batch) -> Callable[[bool], None]:
        """Put everything unwritten into a batch; call the result with whether it was committed."""
        taken, self._dirty = self._dirty, {}
        batch.actions = [
            (
                *(one.number, one.asked_at, one.gateway_id, one.site_id, one.session_id),
                *(one.kind, one.why, one.by, one.sent, one.answer, one.answered_at),
                *(one.error_cause, one.round_trip_ms),
            )
            for one in taken.values()
        ]

        def settle(is_committed: bool) -> None:
            if not is_committed:
                self._dirty = {**taken, **self._dirty}

        return settle
