"""Session: what accounting packets say about one session, and what that adds to usage.

Usage is counted from the absolute counters a gateway reports, so that a packet that is lost, late,
repeated or out of order neither creates nor destroys an octet. Pure: callers pass the time, and
nothing here knows SQL, RADIUS or quotas.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

WRAP: Final = 1 << 32
"""A 32-bit counter without Gigawords starts again here (RFC 2869 5.1)."""
WRAP_SUSPECT_OCTETS: Final = 3 << 30
"""A counter above 3 GiB that falls has wrapped; below it the gateway has restarted it."""
SESSION_TIME_MAX_S: Final = 0x7FFFFFFF
"""RFC 2866 5.7 has 32 bits; above 2^31 a gateway has sent a negative number."""


class Kind(IntEnum):
    """Acct-Status-Type of the packets that carry usage (RFC 2866 5.1)."""

    START = 1
    STOP = 2
    INTERIM = 3


START: Final = Kind.START
STOP: Final = Kind.STOP
INTERIM: Final = Kind.INTERIM
"""For the hot path: an enum looks its members up each time."""


class Report:
    """One accounting packet, directions as RFC 2866 means them: input comes from the phone.

    `event_at` is when it happened, epoch seconds UTC. The counters are full 64-bit numbers, None
    when the packet has none (as a Start).
    """

    __slots__ = (
        "end_cause",
        "event_at",
        "has_gigawords",
        "input_octets",
        "kind",
        "output_octets",
        "session_time_s",
    )

    # Written out, here and below: what `dataclass` makes is not compiled, each packet pays for it.
    def __init__(
        self,
        kind: Kind,
        event_at: int,
        session_time_s: int | None,
        input_octets: int | None,
        output_octets: int | None,
        has_gigawords: bool,
        end_cause: str | None = None,
    ) -> None:
        self.kind = kind
        self.event_at = event_at
        self.session_time_s = session_time_s
        self.input_octets = input_octets
        self.output_octets = output_octets
        self.has_gigawords = has_gigawords
        self.end_cause = end_cause


class Delta:
    """What a report added: octets and seconds used between two moments."""

    __slots__ = ("octets", "seconds", "since_at", "until_at")

    def __init__(self, since_at: int, until_at: int, octets: int, seconds: int) -> None:
        self.since_at = since_at
        self.until_at = until_at
        self.octets = octets
        self.seconds = seconds


NOTHING: Final = Delta(0, 0, 0, 0)


class Told(NamedTuple):
    """What the ledger's records about one session tell of it."""

    records: int = 0
    input_octets: int = 0
    output_octets: int = 0
    session_time_s: int = 0
    counted_s: int = 0


UNTOLD: Final = Told()


@dataclass(slots=True, eq=False)
class Session:
    """One accounting session as the node knows it."""

    id: int
    voucher_id: int | None
    """None for a user the node does not know; such a session is recorded and counts for nobody."""
    gateway_id: int
    site_id: int
    acct_session_id: str
    mac: str | None
    framed_ip: str | None
    started_at: int
    last_seen_at: int
    """Time of the latest evidence, epoch seconds UTC."""
    has_class: bool = False
    """Whether the gateway returned our Class, so that the row is found by its id."""
    ended_at: int | None = None
    end_cause: str | None = None
    is_stopped: bool = False
    """A real Stop came: nothing changes any more. False with `ended_at` set: closed by the node."""
    is_superseded: bool = False
    """A newer login took its grant: it holds nothing, but what it uses is counted."""
    input_octets: int = 0
    output_octets: int = 0
    session_time_s: int = 0
    raw_input_octets: int = 0
    """The gateway's counter as last reported, from which the next difference is taken."""
    raw_output_octets: int = 0
    granted_octets: int | None = None
    granted_s: int | None = None
    counted_s: int = 0
    """Seconds counted against the time quota: session time less what an outage gave back."""
    pending_day: int = 0
    """Day (proleptic ordinal, in the site's zone) of the usage not yet in the day totals."""
    pending_octets: int = 0
    pending_s: int = 0
    told: Told = UNTOLD
    """What the ledger has of it."""

    @property
    def octets(self) -> int:
        """Both directions together."""
        return self.input_octets + self.output_octets

    @property
    def is_open(self) -> bool:
        """Whether the session runs, as far as the node knows."""
        return self.ended_at is None


def apply(session: Session, report: Report, *, sends_gigawords: bool) -> Delta:
    """Take one report into the session and return what it adds to usage.

    Rules 1 and 5 of the design: a lower Acct-Session-Time is late and changes no total; the same or
    a higher one with a lower counter is a new segment of both directions, or a wrap where the
    gateway has never sent Gigawords (`sends_gigawords` False) and the old value was over 3 GiB.
    After a real Stop nothing changes; after any other close a report with news adds it, and an
    interim reopens.
    """
    if session.is_stopped:
        return NOTHING
    event_at = report.event_at
    time_s = report.session_time_s
    if time_s is None:
        time_s = event_at - session.started_at
    if not 0 <= time_s <= SESSION_TIME_MAX_S:
        time_s = min(max(time_s, 0), SESSION_TIME_MAX_S)
    delta = NOTHING
    if time_s >= session.session_time_s:
        octets = _count(session, report, sends_gigawords)
        seconds = time_s - session.session_time_s
        if octets or seconds:
            since_at = session.last_seen_at
            until_at = event_at if event_at > since_at else since_at
            delta = Delta(since_at, until_at, octets, seconds)
            session.session_time_s = time_s
            session.last_seen_at = until_at
            if session.ended_at is not None and report.kind is INTERIM:
                session.ended_at = None
                session.end_cause = None
        elif session.ended_at is None and event_at > session.last_seen_at:
            session.last_seen_at = event_at
    if report.kind is STOP:
        session.ended_at = max(event_at, session.started_at)
        session.end_cause = report.end_cause
        session.is_stopped = True
    return delta


def _count(session: Session, report: Report, sends_gigawords: bool) -> int:
    """Add the octets of a report that is not late; return how many they are."""
    old_input, old_output = session.raw_input_octets, session.raw_output_octets
    new_input, new_output = report.input_octets, report.output_octets
    if new_input is None:
        new_input = old_input
    if new_output is None:
        new_output = old_output
    more_input: int | None = new_input - old_input
    more_output: int | None = new_output - old_output
    if new_input < old_input or new_output < old_output:
        more_input = _difference(old_input, new_input, sends_gigawords)
        more_output = _difference(old_output, new_output, sends_gigawords)
    if more_input is None or more_output is None:
        more_input, more_output = new_input, new_output
    session.raw_input_octets = new_input
    session.raw_output_octets = new_output
    session.input_octets += more_input
    session.output_octets += more_output
    return more_input + more_output


def _difference(old: int, new: int, sends_gigawords: bool) -> int | None:
    """Octets between two readings of one counter; None when the gateway has begun at zero again."""
    if new >= old:
        return new - old
    if not sends_gigawords and old > WRAP_SUSPECT_OCTETS:
        return new + WRAP - old
    return None


def close(session: Session, end_cause: str) -> None:
    """Close a session for which no Stop came, at its last evidence (design, quota rule 5)."""
    if session.ended_at is None:
        session.ended_at = session.last_seen_at
        session.end_cause = end_cause


def untold(session: Session) -> Told:
    """What no record tells yet; `records` counts those there are."""
    told = session.told
    return Told(
        told.records,
        session.input_octets - told.input_octets,
        session.output_octets - told.output_octets,
        session.session_time_s - told.session_time_s,
        session.counted_s - told.counted_s,
    )


def mark_told(session: Session) -> None:
    """Note that one more record tells all there is."""
    session.told = Told(
        session.told.records + 1,
        session.input_octets,
        session.output_octets,
        session.session_time_s,
        session.counted_s,
    )


def share(amount: int, part_s: int, whole_s: int) -> int:
    """The part of `amount` that falls in the first `part_s` of `whole_s` seconds, rounded down.

    Taking shares of ever longer parts and subtracting gives pieces that add up to `amount` exactly.
    """
    if whole_s <= 0 or part_s >= whole_s:
        return amount
    return amount * max(part_s, 0) // whole_s


def overlap_s(spans: list[tuple[int, int | None]], since_at: int, until_at: int) -> int:
    """Seconds of [since_at, until_at) that lie in the spans; an end of None is still running."""
    total = 0
    for start_at, end_at in spans:
        end = until_at if end_at is None else min(end_at, until_at)
        total += max(0, end - max(start_at, since_at))
    return total
