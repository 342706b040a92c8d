"""Quota: what a voucher has used in each window, and so what one more session may use.

Pure. Callers pass the time, the usage they keep and what other devices hold; nothing here knows
SQL or RADIUS. A grant is given so that used + everything granted and not yet used never exceeds a
quota, whatever the order of logins and however many messages to gateways are lost (design, quota
rule 2).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from portal.domain import hours
from portal.domain.profile import Profile
from portal.domain.session import Delta, share

SESSION_TIMEOUT_MAX_S: Final = 86_400
"""A session ends at the latest after a day, so that a lost limit heals (design, quota rule 4)."""
PIECE_OCTETS: Final = 100_000
PIECE_S: Final = 60
"""With several devices a grant is a share of what is left, but not below this: a card's last octets
are not worth a dozen logins."""


class Reason(StrEnum):
    """Why a phone may not go on. One word list for log, page and Reply-Message."""

    USED_UP_DATA = "used_up_data"
    USED_UP_TIME = "used_up_time"
    EXPIRED = "expired"
    USE_BEFORE_PASSED = "use_before_passed"
    OUTSIDE_HOURS = "outside_hours"
    RESERVED = "reserved"
    REVOKED = "revoked"
    REPLACED = "replaced"
    IN_USE = "in_use"
    UNKNOWN_CODE = "unknown_code"
    MISTYPED = "mistyped"
    WRONG_PASSWORD = "wrong_password"
    UNKNOWN_PHONE = "unknown_phone"
    TOO_MANY_MISSES = "too_many_misses"
    TOO_MANY_MOVES = "too_many_moves"
    CHALLENGE_STALE = "challenge_stale"
    DISK_FULL = "disk_full"
    BLOCKED = "blocked"
    BAD_REQUEST = "bad_request"
    DATA_NOT_COUNTED = "data_not_counted"


_windows: dict[tuple[str, str], tuple[int, int, int]] = {}


def _window(window: str, now: int, zone: ZoneInfo) -> tuple[int, int, int]:
    """(start, end, first day) of a window; the last one of each zone is remembered, since all cards
    of a site share it and it costs 10 microseconds to find."""
    key = (window, zone.key)
    known = _windows.get(key)
    if known is None or not known[0] <= now < known[1]:
        start_at, end_at = hours.window_at(window, now, zone)
        known = (start_at, end_at, hours.day_of(start_at, zone).toordinal())
        _windows[key] = known
    return known


def first_day_needed(now: int, zone: ZoneInfo) -> int:
    """The first day (ordinal) that a week's or month's quota can still ask for."""
    return min(_window("week", now, zone)[2], _window("month", now, zone)[2])


@dataclass(slots=True)
class Tally:
    """Usage in one calendar window, and what was given on top of its quota."""

    start_at: int
    end_at: int
    first_day: int
    octets: int = 0
    seconds: int = 0
    credit_octets: int = 0
    credit_s: int = 0


@dataclass(slots=True)
class Usage:
    """What a voucher has used, by day in its site's zone and in total."""

    zone: ZoneInfo
    days: dict[int, list[int]] = field(default_factory=dict)
    """Day ordinal -> [octets, seconds], at least for the current month and week."""
    total_octets: int = 0
    total_s: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    credits: tuple[tuple[int, int, int], ...] = ()
    """Top-ups of days that a window can still hold: (day, octets, seconds)."""
    credit_octets: int = 0
    """All top-ups there ever were: what the total quota is raised by."""
    credit_s: int = 0
    _left: "Left | None" = None
    _left_of: Profile | None = None
    _left_until_at: int = 0

    def left(self, profile: Profile, now: int) -> "Left":
        """What the calendar and total quotas of a profile leave; remembered until usage is added, a
        day ends or the profile changes, since phones ask again more often than that."""
        known = self._left
        if known is None or self._left_of is not profile or now >= self._left_until_at:
            known = self._left = _left(windows_left(profile, self, now))
            self._left_of = profile
            self._left_until_at = _window("day", now, self.zone)[1]
        return known

    def is_still(self, left: "Left", profile: Profile, now: int) -> bool:
        """Whether `left`, which this gave for the profile before, is what it would give now."""
        return self._left is left and self._left_of is profile and now < self._left_until_at

    def tally(self, window: str, now: int) -> Tally:
        """The day, week or month that `now` is in; a window once begun is never taken back."""
        tally = self.tallies.get(window)
        if tally is not None and now < tally.end_at:
            return tally
        start_at, end_at, first_day = _window(window, now, self.zone)
        tally = Tally(start_at, end_at, first_day)
        for day, (octets, seconds) in self.days.items():
            if day >= first_day:
                tally.octets += octets
                tally.seconds += seconds
        for day, octets, seconds in self.credits:
            if day >= first_day:
                tally.credit_octets += octets
                tally.credit_s += seconds
        self.tallies[window] = tally
        return tally

    def add(self, day: int, octets: int, seconds: int) -> None:
        """Count usage of one day (ordinal in the site's zone), which may be an earlier one."""
        of_day = self.days.get(day)
        if of_day is None:
            self.days[day] = [octets, seconds]
        else:
            of_day[0] += octets
            of_day[1] += seconds
        self.total_octets += octets
        self.total_s += seconds
        self._left = None
        for tally in self.tallies.values():
            if day >= tally.first_day:
                tally.octets += octets
                tally.seconds += seconds

    def set_credits(self, credits: Iterable[tuple[int, int, int]], now: int) -> None:
        """Take all top-ups of the account, (day, octets, seconds) each, in place of those known.

        A top-up raises the quota of every calendar window that contains its day, and the total;
        what was used stays as it is. Those of days that no window will hold again only count for
        the total.
        """
        kept = []
        needed = first_day_needed(now, self.zone)
        self.credit_octets = self.credit_s = 0
        for day, octets, seconds in credits:
            self.credit_octets += octets
            self.credit_s += seconds
            if day >= needed:
                kept.append((day, octets, seconds))
        self.credits = tuple(kept)
        for tally in self.tallies.values():
            of_window = [credit for credit in kept if credit[0] >= tally.first_day]
            tally.credit_octets = sum(octets for _, octets, _ in of_window)
            tally.credit_s = sum(seconds for _, _, seconds in of_window)
        self._left = None

    def recall(self, day: int, octets: int, seconds: int, now: int) -> None:
        """Take what was stored of a day, without counting it again in the total.

        Days that are over are kept together where no window will ever part them again: windows
        begin at midnights to come, so what lies behind today in the same week and month stays
        together. A month takes three entries instead of thirty.
        """
        if day < _window("day", now, self.zone)[2]:
            firsts = (_window("week", now, self.zone)[2], _window("month", now, self.zone)[2])
            day = max((first for first in firsts if first <= day), default=day)
        of_day = self.days.setdefault(day, [0, 0])
        of_day[0] += octets
        of_day[1] += seconds

    def split(self, delta: Delta, counted_s: int, now: int) -> list[tuple[int, int, int]]:
        """Cut a delta at midnights: [(day, octets, seconds)], adding up to the octet and second.

        `counted_s` is the part of the delta's seconds that counts (an outage gives the rest back).
        Octets and seconds are spread evenly over the time between the two reports (quota rule 4).
        """
        today = self.tally("day", now)
        if delta.since_at >= today.start_at or delta.until_at <= delta.since_at:
            return [(today.first_day, delta.octets, counted_s)]
        pieces: list[tuple[int, int, int]] = []
        whole_s = delta.until_at - delta.since_at
        at, octets_before, seconds_before = delta.since_at, 0, 0
        while at < delta.until_at:
            day = hours.day_of(at, self.zone)
            end_at = min(hours.end_of_day(day, self.zone), delta.until_at)
            octets = share(delta.octets, end_at - delta.since_at, whole_s)
            seconds = share(counted_s, end_at - delta.since_at, whole_s)
            pieces.append((day.toordinal(), octets - octets_before, seconds - seconds_before))
            at, octets_before, seconds_before = end_at, octets, seconds
        return pieces


class WindowLeft(NamedTuple):
    """One quota of a voucher and how far it is used."""

    window: str
    octets_quota: int | None
    octets_used: int
    seconds_quota: int | None
    seconds_used: int
    resets_at: int | None
    """When the window ends and the quota is whole again; None for a total."""


class Grant(NamedTuple):
    """What one session may use before it must ask again."""

    octets: int | None
    """Both directions together; None = unlimited."""
    seconds: int
    """Session-Timeout: never 0, never over a day."""
    held_s: int | None
    """Seconds of time quota this grant holds; None when no time quota limits it."""
    rate_down_kbps: int | None
    rate_up_kbps: int | None
    is_throttled: bool = False


class Refusal(NamedTuple):
    """Why there is no grant, and when there will be one again (None: never)."""

    reason: Reason
    retry_at: int | None = None


class Held(NamedTuple):
    """What other devices of the voucher hold: granted and not yet used."""

    devices: int = 0
    octets: int | None = 0
    """None: one of them has no data limit."""
    seconds: int | None = 0


NOBODY: Final = Held()


class Running(NamedTuple):
    """What a session that goes on has used of its session's quota."""

    octets: int
    seconds: int
    """Those that count: an outage of the backhaul gives time back."""


class Left(NamedTuple):
    """The least that any window leaves; None = unlimited."""

    octets: int | None
    seconds: int | None
    used_up: Reason | None
    """Why there is nothing, when a window is used up."""
    again_at: int | None
    """When all used-up windows have ended; None for a total."""


def _left(windows: "list[WindowLeft]") -> Left:
    octets: int | None = None
    seconds: int | None = None
    used_up: Reason | None = None
    again_at: int | None = 0
    for window in windows:
        spent: Reason | None = None
        if window.octets_quota is not None:
            rest = window.octets_quota - window.octets_used
            octets = rest if octets is None else min(octets, rest)
            if rest <= 0:
                spent = Reason.USED_UP_DATA
        if window.seconds_quota is not None:
            rest = window.seconds_quota - window.seconds_used
            seconds = rest if seconds is None else min(seconds, rest)
            if rest <= 0:
                spent = spent or Reason.USED_UP_TIME
        if spent is not None:
            used_up = spent
            if window.resets_at is None or again_at is None:
                again_at = None
            else:
                again_at = max(again_at, window.resets_at)
    return Left(octets, seconds, used_up, again_at)


def windows_left(profile: Profile, usage: Usage, now: int) -> list[WindowLeft]:
    """The quotas of a profile with top-ups and what is used of each, the shortest window first."""
    found = []
    for window, octets, seconds in (
        ("day", profile.data_day_octets, profile.time_day_s),
        ("week", profile.data_week_octets, profile.time_week_s),
        ("month", profile.data_month_octets, profile.time_month_s),
    ):
        if octets is not None or seconds is not None:
            tally = usage.tally(window, now)
            if octets is not None:
                octets += tally.credit_octets
            if seconds is not None:
                seconds += tally.credit_s
            found.append(
                WindowLeft(window, octets, tally.octets, seconds, tally.seconds, tally.end_at)
            )
    octets, seconds = total_quota(profile, usage)
    if octets is not None or seconds is not None:
        found.append(WindowLeft("total", octets, usage.total_octets, seconds, usage.total_s, None))
    return found


def total_quota(profile: Profile, usage: Usage) -> tuple[int | None, int | None]:
    """(octets, seconds) a voucher may use in all, top-ups included; None = unlimited."""
    octets, seconds = profile.data_total_octets, profile.time_total_s
    return (
        None if octets is None else octets + usage.credit_octets,
        None if seconds is None else seconds + usage.credit_s,
    )


def session_left(profile: Profile, octets: int, seconds: int) -> WindowLeft | None:
    """What one session may use, of which it has used so much; None where nothing is set. The quota
    is whole again with the next session, whenever that is."""
    if profile.data_session_octets is None and profile.time_session_s is None:
        return None
    return WindowLeft(
        "session", profile.data_session_octets, octets, profile.time_session_s, seconds, None
    )


def expires_at(profile: Profile, first_used_at: int | None, extra_s: int = 0) -> int | None:
    """When validity ends, `extra_s` after what the profile gives: None before first use, or without
    `valid`."""
    if profile.valid_s is None or first_used_at is None:
        return None
    return first_used_at + profile.valid_s + extra_s


def decide(
    profile: Profile,
    usage: Usage,
    *,
    now: int,
    first_used_at: int | None,
    extra_valid_s: int = 0,
    held: Held = NOBODY,
    running: Running | None = None,
) -> Grant | Refusal:
    """Return what a new session may use, or why there is none.

    `extra_valid_s` is what the voucher was extended by, `held` what its other devices hold. With
    `running` it is what that session may use from now on. Used
    up is a refusal, never a limit of 0: to every gateway 0 means unlimited. Under `throttle` a
    used-up window gives the essential rate without data limit until the window ends.
    """
    seconds = SESSION_TIMEOUT_MAX_S
    end_at = expires_at(profile, first_used_at, extra_valid_s)
    if end_at is not None:
        if now >= end_at:
            return Refusal(Reason.EXPIRED)
        seconds = min(seconds, end_at - now)
    elif profile.valid_s is not None:
        seconds = min(seconds, profile.valid_s + extra_valid_s)
    if profile.hours is not None:
        closes_at = hours.closes_at(profile.hours, now, usage.zone)
        if not hours.is_open(profile.hours, now, usage.zone):
            return Refusal(Reason.OUTSIDE_HOURS, hours.opens_at(profile.hours, now, usage.zone))
        if closes_at is not None:
            seconds = min(seconds, closes_at - now)

    octets_left, seconds_left, used_up, again_at = usage.left(profile, now)
    if used_up is not None:
        if profile.throttle_kbps is None:
            return Refusal(used_up, again_at)
        if again_at is not None:
            seconds = min(seconds, again_at - now)
        return Grant(
            None,
            max(seconds, 1),
            None,
            _least(profile.rate_down_kbps, profile.throttle_kbps),
            _least(profile.rate_up_kbps, profile.throttle_kbps),
            is_throttled=True,
        )

    free = max(profile.devices - held.devices, 1)
    most_octets, most_s = profile.data_session_octets, profile.time_session_s
    if running is not None:
        if most_octets is not None:
            most_octets -= running.octets
            if most_octets <= 0:
                return Refusal(Reason.USED_UP_DATA)
        if most_s is not None:
            most_s -= running.seconds
            if most_s <= 0:
                return Refusal(Reason.USED_UP_TIME)
    octets = _portion(octets_left, held.octets, free, PIECE_OCTETS, most_octets)
    time_s = _portion(seconds_left, held.seconds, free, PIECE_S, most_s)
    if (octets is not None and octets <= 0) or (time_s is not None and time_s <= 0):
        return Refusal(Reason.RESERVED)
    if time_s is not None:
        seconds = min(seconds, time_s)
    held_s = None if time_s is None else seconds
    return Grant(octets, max(seconds, 1), held_s, profile.rate_down_kbps, profile.rate_up_kbps)


def _portion(
    left: int | None, held: int | None, free: int, piece: int, per_session: int | None
) -> int | None:
    """This session's share of what is left once the other devices' grants are set aside, and not
    more than a session may have."""
    if left is None:
        return per_session
    if held is None:
        return 0
    rest = left - held
    if free > 1 and rest > 0:
        rest = max(rest // free, min(rest, piece))
    return rest if per_session is None else min(rest, per_session)


def _least(first: int | None, second: int) -> int:
    return second if first is None else min(first, second)


def day_ordinal(at: int, zone: ZoneInfo) -> int:
    """The day of an instant in a zone, as a proleptic ordinal."""
    return hours.day_of(at, zone).toordinal()


def day_text(ordinal: int) -> str:
    """An ordinal as YYYY-MM-DD, the form stored."""
    return date.fromordinal(ordinal).isoformat()
