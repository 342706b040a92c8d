"""Roll-ups: what a batch of records adds to the sums the hub's pages read.

Pure. All figures are differences, added in the transaction that stores the records; so what is
stored once is counted once. A usage record belongs to the day of its `at` in the site's zone, as in
the node's own day totals.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from portal.domain.ledger import PSEUDONYM_OCTETS, Flag, Record, Usage
from portal.domain.quota import day_ordinal

NOBODY = bytes(PSEUDONYM_OCTETS)
"""The pseudonym of a session without a card; it counts for nobody."""
LATEST_AT = 4_102_444_800
"""2100-01-01: a clock that says more is wrong, and calendars end."""
MINUTES = 60
_HOUR_S = 3600
_MOST_IN_A_MINUTE = 65_535
_LONGEST_S = 90_000
"""A usage record tells of one day; the longest has 25 hours."""
_OPEN = struct.Struct(f">{MINUTES}H")
NOBODY_OPEN = bytes(_OPEN.size)


@dataclass(frozen=True, slots=True)
class Told:
    """A usage record, its day, and what it tells that is new to the hub."""

    epoch: int
    record: Record
    usage: Usage
    day: int
    month: int
    is_session: bool
    """It is the first that the hub hears of its session."""
    input_octets: int
    output_octets: int
    counted_s: int


@dataclass(slots=True)
class DaySum:
    """What is added to a site's day under a profile, or to its month."""

    sessions: int = 0
    users: int = 0
    input_octets: int = 0
    output_octets: int = 0
    counted_s: int = 0


@dataclass(slots=True)
class UserSum:
    """What is added to a pseudonym's month at a site."""

    sessions: int = 0
    octets: int = 0
    counted_s: int = 0


@dataclass(slots=True)
class HourSum:
    """What is added to an hour of a site."""

    sessions: int = 0
    octets: int = 0
    changes: list[int] = field(default_factory=lambda: [0] * (MINUTES + 1))
    """By minute: how many more are open than in the minute before."""


@dataclass(slots=True)
class Sums:
    """What a batch adds; the counts of users are for the store, which knows who was seen."""

    days: dict[tuple[int, int, int], DaySum] = field(default_factory=dict)
    """(site, day, profile)"""
    months: dict[tuple[int, int], DaySum] = field(default_factory=dict)
    """(month, site)"""
    user_days: set[tuple[int, bytes, int, int]] = field(default_factory=set)
    """(day, pseudonym, site, profile)"""
    user_months: dict[tuple[int, bytes, int], UserSum] = field(default_factory=dict)
    """(month, pseudonym, site)"""
    hours: dict[tuple[int, int], HourSum] = field(default_factory=dict)
    """(site, hour since 1970)"""


def day_and_month(at: int, zone: ZoneInfo) -> tuple[int, int]:
    """The day (ordinal) and month (since year 0) of a record's time."""
    at = min(at, LATEST_AT)
    local = datetime.fromtimestamp(at, zone)
    return day_ordinal(at, zone), local.year * 12 + local.month - 1


def month_of_day(day: int) -> int:
    """The month (since year 0) of a day (ordinal)."""
    its = date.fromordinal(day)
    return its.year * 12 + its.month - 1


def sums_of(told: Iterable[Told], zone_of: Callable[[int], ZoneInfo]) -> Sums:
    """What these records add; `zone_of` gives the zone of a site's number."""
    sums = Sums()
    for each in told:
        add_to(sums, each, zone_of(each.record.site))
    return sums


def add_to(sums: Sums, each: Told, zone: ZoneInfo) -> None:
    """Add what one record adds; `zone` is its site's."""
    record, usage = each.record, each.usage
    site, octets = record.site, each.input_octets + each.output_octets
    for added in (
        sums.days.setdefault((site, each.day, usage.profile), DaySum()),
        sums.months.setdefault((each.month, site), DaySum()),
    ):
        added.sessions += each.is_session
        added.input_octets += each.input_octets
        added.output_octets += each.output_octets
        added.counted_s += each.counted_s
    if usage.pseudonym != NOBODY:
        sums.user_days.add((each.day, usage.pseudonym, site, usage.profile))
        user = sums.user_months.setdefault((each.month, usage.pseudonym, site), UserSum())
        user.sessions += each.is_session
        user.octets += octets
        user.counted_s += each.counted_s
    _add_hours(sums, each, octets, zone)


def _add_hours(sums: Sums, each: Told, octets: int, zone: ZoneInfo) -> None:
    """Minutes in which the session was open, and its octets in proportion to time.

    What became known late or is told again was open in minutes that are counted already.
    """
    record, usage = each.record, each.usage
    end_at = min(record.at, LATEST_AT)
    started_at = max(end_at - usage.started_ago_s, end_at - _LONGEST_S, 0)
    if usage.duration_s and not usage.flags & Flag.FIRST:
        # A session that was given up and went on: what it was open before has been told.
        started_at = max(started_at, end_at - usage.duration_s)
    # What was before midnight is in the slice before; zones of whole hours have midnight on one.
    if day_ordinal(started_at, zone) != each.day:
        local = datetime.fromtimestamp(end_at, zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        started_at = max(started_at, int(midnight.timestamp()))
    if each.is_session:
        first = sums.hours.setdefault((record.site, started_at // _HOUR_S), HourSum())
        first.sessions += 1
    is_open = not usage.flags & (Flag.LATE | Flag.REPLAYED)
    length_s = max(1, end_at - started_at)
    given = 0
    for hour in range(started_at // _HOUR_S, end_at // _HOUR_S + 1):
        found = sums.hours.setdefault((record.site, hour), HourSum())
        until_s = min(max(end_at, started_at + 1), (hour + 1) * _HOUR_S) - started_at
        share = octets * min(until_s, length_s) // length_s
        found.octets += share - given
        given = share
        if is_open:
            first_minute = max(0, started_at - hour * _HOUR_S) // 60
            last_minute = min(MINUTES - 1, (end_at - hour * _HOUR_S) // 60)
            if end_at > started_at and end_at == hour * _HOUR_S + last_minute * 60:
                last_minute -= 1  # gone before this minute began
            if last_minute >= first_minute:
                found.changes[first_minute] += 1
                found.changes[last_minute + 1] -= 1


def minutes_after(stored: bytes, changes: list[int]) -> tuple[bytes, int]:
    """The sessions open in each minute of an hour after the changes, as stored; and their peak."""
    now_open = 0
    counts = list(_OPEN.unpack(stored))
    for minute in range(MINUTES):
        now_open += changes[minute]
        counts[minute] = min(_MOST_IN_A_MINUTE, counts[minute] + now_open)
    return _OPEN.pack(*counts), max(counts)
