"""Quota: what is kept of past days is enough for every window to come."""

from datetime import date
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from portal.domain import hours
from portal.domain.quota import Usage

WIT = ZoneInfo("Asia/Jayapura")
FIRST = date(2026, 1, 1).toordinal()


def noon(day: int) -> int:
    return hours.end_of_day(date.fromordinal(day), WIT) - 43_200


@given(
    st.lists(
        st.tuples(st.integers(0, 70), st.integers(0, 10**9), st.integers(0, 3600)), max_size=60
    ),
    st.integers(0, 400),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_condensed_days_fill_every_later_window_as_the_days_themselves(
    used: list[tuple[int, int, int]], loaded: int, later: list[int]
) -> None:
    today = FIRST + 70 + loaded
    whole, condensed = Usage(WIT), Usage(WIT)
    needed = min(
        hours.day_of(hours.window_at(window, noon(today), WIT).start_at, WIT).toordinal()
        for window in ("week", "month")
    )
    for back, octets, seconds in used:
        day = today - back
        if day < needed:
            continue
        whole.days.setdefault(day, [0, 0])
        whole.days[day][0] += octets
        whole.days[day][1] += seconds
        condensed.recall(day, octets, seconds, noon(today))
    assert len(condensed.days) <= 3
    for ahead in (0, *sorted(later)):
        now = noon(today + ahead)
        for window in ("day", "week", "month"):
            expected, found = whole.tally(window, now), condensed.tally(window, now)
            assert (found.octets, found.seconds) == (expected.octets, expected.seconds)
