"""Hours: days, weeks and months as a site's clock cuts them, and opening hours.

Pure. Instants are epoch seconds UTC; a zone is a `ZoneInfo` its caller keeps. Everything holds in
zones with summer time too: a day lasts from the first instant of its date to the first instant of
the next, and opening hours follow the clock on the wall, whatever jumps that makes.
"""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_DAY_S = 86_400


class Window(NamedTuple):
    """A stretch of time over which a quota counts; `end_at` is the first second after it."""

    start_at: int
    end_at: int


# --- windows -----------------------------------------------------------------------------------


def day_of(at: int, zone: ZoneInfo) -> date:
    """Return the date on the wall at `at`."""
    return datetime.fromtimestamp(at, zone).date()


def window_at(kind: str, at: int, zone: ZoneInfo) -> Window:
    """Return the `day`, `week` (from Monday) or `month` that `at` lies in.

    About 6 microseconds; callers on the hot path keep the window until its end.
    """
    today = datetime.fromtimestamp(at, zone).date()
    if kind == "day":
        first, after = today, today + _DAY
    elif kind == "week":
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
    elif kind == "month":
        first = today.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    else:
        raise ValueError(f"window is {kind!r}; expected day, week or month")
    return Window(_start_of(first, zone), _start_of(after, zone))


def next_midnight(at: int, zone: ZoneInfo) -> int:
    """Return the first instant of the day after the one `at` lies in."""
    return _start_of(day_of(at, zone) + _DAY, zone)


def end_of_day(day: date, zone: ZoneInfo) -> int:
    """Return the first instant after `day`: what was good until that day ends here."""
    return _start_of(day + _DAY, zone)


def _start_of(day: date, zone: ZoneInfo) -> int:
    """Return the first instant of `day`.

    Where midnight is skipped, fold 0 counts with the offset before the jump and so gives the jump
    itself; where it comes twice, fold 0 is the first. A clock put back from past midnight would
    show a finished day once more; no zone of tzdata 2026 does that after 2011.
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


# --- opening hours -----------------------------------------------------------------------------

_RANGE = re.compile(r"([0-9]{1,2})[:.]([0-9]{2})\s*[-\u2013]\s*([0-9]{1,2})[:.]([0-9]{2})")


def parse_hours(text: str) -> str:
    """Read opening hours such as `6:00-22:00` or `08:00-12:00, 20:00-02:00` and normalise them.

    Ranges come back sorted, with overlapping and touching ones joined, also over midnight; the
    whole day is `00:00-24:00`. Raises ValueError for anything else, also for a range that ends
    where it begins (nothing, or the whole day?).
    """
    is_minute_open = [False] * 1440
    for part in text.split(","):
        start, end = _parse_range(part.strip(), text)
        for minute in range(start, end):
            is_minute_open[minute % 1440] = True
    if all(is_minute_open):
        return "00:00-24:00"
    ranges = []
    for start in range(1440):
        if is_minute_open[start] and not is_minute_open[start - 1]:
            end = start
            while is_minute_open[end % 1440]:
                end += 1
            ranges.append(f"{_clock(start)}-{_clock(end if end <= 1440 else end - 1440)}")
    return ",".join(ranges)


def is_open(hours: str | None, at: int, zone: ZoneInfo) -> bool:
    """Tell whether `hours` (None = always) are open at `at`."""
    if hours is None:
        return True
    is_open_before, edges = _edges(hours)
    local = datetime.fromtimestamp(at, zone)
    second = local.hour * 3600 + local.minute * 60 + local.second
    is_changed = sum(edge <= second for edge in edges) % 2 == 1
    return is_open_before != is_changed


def closes_at(hours: str | None, at: int, zone: ZoneInfo) -> int | None:
    """Return the end of the open stretch that `at` lies in; None when it never ends.

    A closed moment has no such stretch and gives `at` itself: nothing is left.
    """
    if hours is None or not _edges(hours)[1]:
        return None
    return _change_at(hours, at, zone) if is_open(hours, at, zone) else at


def opens_at(hours: str | None, at: int, zone: ZoneInfo) -> int:
    """Return the next opening, or `at` itself when that is an open moment."""
    return at if is_open(hours, at, zone) else _change_at(hours or "", at, zone)


def _change_at(hours: str, at: int, zone: ZoneInfo) -> int:
    """Return the first instant after `at` at which `hours` open or close."""
    _, edges = _edges(hours)
    was_open = is_open(hours, at, zone)
    while True:
        local = datetime.fromtimestamp(at, zone)
        second = local.hour * 3600 + local.minute * 60 + local.second
        edge = next((edge for edge in edges if edge > second), edges[0] + _DAY_S)
        change_at = at + edge - second
        offset = local.utcoffset()
        if datetime.fromtimestamp(change_at, zone).utcoffset() == offset:
            return change_at
        # The clock is put forward or back on the way: go on from there by the new clock.
        before_at, after_at = at, change_at
        while after_at - before_at > 1:
            middle_at = (before_at + after_at) // 2
            if datetime.fromtimestamp(middle_at, zone).utcoffset() == offset:
                before_at = middle_at
            else:
                after_at = middle_at
        if is_open(hours, after_at, zone) != was_open:
            return after_at
        at = after_at


@lru_cache(maxsize=256)
def _edges(hours: str) -> tuple[bool, tuple[int, ...]]:
    """Return whether `hours` are open right before midnight, and the seconds of day they change.

    No edge at all means always open.
    """
    is_open_before = False
    edges: set[int] = set()
    for part in parse_hours(hours).split(","):
        start, end = _parse_range(part, hours)
        is_open_before = is_open_before or end >= 1440
        for minute in (start, end):  # one by one: the whole day begins and ends at the same edge
            edges ^= {minute * 60 % _DAY_S}
    return is_open_before, tuple(sorted(edges))


def _parse_range(part: str, text: str) -> tuple[int, int]:
    """Return the first minute and the minute after the last, over 1440 when it passes midnight."""
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(f"hours are {text!r}; expected ranges such as 06:00-22:00,23:00-02:00")
    start_hour, start_minute, end_hour, end_minute = (int(group) for group in match.groups())
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start >= 1440 or end > 1440 or start_minute > 59 or end_minute > 59:
        raise ValueError(f"hours are {text!r}; expected times from 00:00 to 24:00")
    if start == end:
        raise ValueError(
            f"hours are {text!r}; expected a range that ends after it begins"
            " (the whole day is 00:00-24:00)"
        )
    return start, end if end > start else end + 1440


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
