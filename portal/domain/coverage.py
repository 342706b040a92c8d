"""Coverage: what is known of each hour of a site, so that no hole in the data looks like quiet.

Pure. "Nobody used it", "no power as scheduled", "the backhaul was down" and "no data arrived" are
four different things to a reviewer; each hour is exactly one of STATES. Instants are epoch seconds
UTC, hours are those of the clock in UTC, which every zone of Indonesia shares.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from portal.domain.hours import closes_at, is_open, opens_at

HOUR_S = 3_600

USED = "used"
IDLE = "idle"
NO_POWER = "no_power"
BACKHAUL_DOWN = "backhaul_down"
NO_REPORT = "no_report"
CLOCK_DOUBTFUL = "clock_doubtful"
STATES = (USED, IDLE, NO_POWER, BACKHAUL_DOWN, NO_REPORT, CLOCK_DOUBTFUL)
"""In the order in which a page counts them."""


@dataclass(frozen=True, slots=True)
class Report:
    """One record by which a node shows that it was running."""

    at: int
    is_clock_doubtful: bool = False
    """The node did not know the time when it wrote this."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From an instant until another, the second not included."""

    start_at: int
    end_at: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in an hour."""

    sessions: int = 0
    octets: int = 0
    peak: int = 0
    """Most phones online at once."""

    def __bool__(self) -> bool:
        return self.sessions > 0 or self.octets > 0


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of a site."""

    start_at: int
    state: str
    usage: Usage


def hour_of(at: int) -> int:
    """The first instant of the hour that `at` lies in."""
    return at - at % HOUR_S


def open_s(power_hours: str | None, start_at: int, end_at: int, zone: ZoneInfo) -> int:
    """For how long there is electricity between two instants; `power_hours` None: always."""
    if power_hours is None:
        return end_at - start_at
    total_s, at = 0, start_at
    while at < end_at:
        if is_open(power_hours, at, zone):
            until = closes_at(power_hours, at, zone)
            until = end_at if until is None else min(until, end_at)
            total_s += until - at
        else:
            until = opens_at(power_hours, at, zone)
        at = until
    return total_s


def state(*, is_used: bool, is_heard: bool, is_doubtful: bool, down_s: int, powered_s: int) -> str:
    """The state of one hour.

    A clock that was not known puts even what was used in a wrong hour, so it comes first; usage
    shows that there was a link, for a while at least. A silent hour is blamed on the schedule when
    there was power for less than half of it.
    """
    if is_heard and is_doubtful:
        return CLOCK_DOUBTFUL
    if is_used:
        return USED
    if is_heard:
        return BACKHAUL_DOWN if 2 * down_s >= HOUR_S else IDLE
    return NO_POWER if 2 * powered_s < HOUR_S else NO_REPORT


def hours(
    first_at: int,
    end_at: int,
    *,
    now_at: int,
    reports: Iterable[Report],
    downs: Sequence[Stretch],
    usage: Mapping[int, Usage],
    power_hours: str | None,
    zone: ZoneInfo,
) -> list[Hour]:
    """Each hour that begins from `first_at` on, before `end_at`, and is over or under way by
    `now_at`.

    `reports`, `downs` (stretches without backhaul) and `usage` (by the hour's first instant) are
    what the node has told so far; an hour of which nothing has arrived yet is NO_REPORT.
    """
    heard: dict[int, bool] = {}
    for report in reports:
        hour = hour_of(report.at)
        heard[hour] = heard.get(hour, False) or report.is_clock_doubtful
    found = []
    start_at = -(-first_at // HOUR_S) * HOUR_S
    while start_at < min(end_at, now_at + 1):
        over_at = start_at + HOUR_S
        used = usage.get(start_at, Usage())
        found.append(
            Hour(
                start_at,
                state(
                    is_used=bool(used),
                    is_heard=start_at in heard or bool(used),
                    is_doubtful=heard.get(start_at, False),
                    down_s=_overlap_s(downs, start_at, over_at),
                    powered_s=open_s(power_hours, start_at, over_at, zone),
                ),
                used,
            )
        )
        start_at = over_at
    return found


def counts(found: Iterable[Hour]) -> dict[str, int]:
    """How many hours are in each state; every state is there."""
    counted = dict.fromkeys(STATES, 0)
    for hour in found:
        counted[hour.state] += 1
    return counted


def _overlap_s(stretches: Sequence[Stretch], start_at: int, end_at: int) -> int:
    """For how long any of the stretches lies between two instants; overlapping ones count once."""
    total_s, reached_at = 0, start_at
    for stretch in sorted(stretches, key=lambda one: one.start_at):
        begin, end = max(stretch.start_at, reached_at), min(stretch.end_at, end_at)
        if end > begin:
            total_s += end - begin
            reached_at = end
    return total_s
