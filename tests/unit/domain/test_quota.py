"""Quota: what is kept of past days is enough for every window to come; what a top-up changes."""

from datetime import date
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from portal.domain import hours
from portal.domain.profile import Profile
from portal.domain.quota import (
    Grant,
    Reason,
    Refusal,
    Running,
    Usage,
    decide,
    expires_at,
    total_quota,
    windows_left,
)

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


# Top-ups

CREDITS = st.lists(
    st.tuples(st.integers(0, 70), st.integers(0, 10**9), st.integers(0, 3600)), max_size=20
)
LIMITED = Profile(
    "p",
    data_day_octets=100,
    data_week_octets=1000,
    data_month_octets=10_000,
    data_total_octets=100_000,
    time_day_s=60,
)


@given(CREDITS, CREDITS, st.integers(0, 400), st.lists(st.integers(0, 40), max_size=5))
def test_a_top_up_raises_each_window_that_holds_its_day_and_the_total_by_just_that(
    credits: list[tuple[int, int, int]],
    used: list[tuple[int, int, int]],
    loaded: int,
    later: list[int],
) -> None:
    today = FIRST + 70 + loaded
    plain, topped = Usage(WIT), Usage(WIT)
    for back, octets, seconds in used:
        for usage in (plain, topped):
            usage.add(today - back, octets, seconds)
    # Some windows are there already, others are begun later.
    topped.left(LIMITED, noon(today))
    topped.set_credits(((today - back, o, s) for back, o, s in credits), noon(today))
    for ahead in (0, *sorted(later)):
        now = noon(today + ahead)
        pairs = zip(
            windows_left(LIMITED, plain, now), windows_left(LIMITED, topped, now), strict=True
        )
        for before, after in pairs:
            assert (after.octets_used, after.seconds_used) == (
                before.octets_used,
                before.seconds_used,
            )
            given_octets, given_s = 0, 0
            for back, octets, seconds in credits:
                if before.window == "total" or is_in(today - back, before.window, now):
                    given_octets += octets
                    given_s += seconds
            assert after.octets_quota == (before.octets_quota or 0) + given_octets
            if before.seconds_quota is not None:
                assert after.seconds_quota == before.seconds_quota + given_s


def is_in(day: int, window: str, now: int) -> bool:
    start_at, end_at = hours.window_at(window, now, WIT)
    return start_at <= noon(day) < end_at


def test_a_top_up_is_seen_although_what_was_left_is_remembered() -> None:
    now = noon(FIRST + 10)
    usage = Usage(WIT)
    usage.add(FIRST + 10, 100, 0)
    assert usage.left(LIMITED, now).used_up is Reason.USED_UP_DATA
    usage.set_credits([(FIRST + 10, 40, 0)], now)
    assert usage.left(LIMITED, now).octets == 40
    # Once more the whole of it, not one on top of the other.
    usage.set_credits([(FIRST + 10, 40, 0)], now)
    assert usage.left(LIMITED, now).octets == 40


def test_what_has_no_limit_gets_none_by_a_top_up() -> None:
    usage = Usage(WIT)
    usage.set_credits([(FIRST, 40, 40)], noon(FIRST))
    profile = Profile("p", data_day_octets=100)
    [day] = windows_left(profile, usage, noon(FIRST))
    assert (day.octets_quota, day.seconds_quota) == (140, None)
    assert total_quota(profile, usage) == (None, None)


def test_an_extension_moves_the_end_of_validity() -> None:
    profile = Profile("p", valid_s=1000)
    assert expires_at(profile, None, 500) is None
    assert expires_at(profile, 10, 500) == 1510
    found = decide(profile, Usage(WIT), now=1400, first_used_at=10, extra_valid_s=500)
    assert isinstance(found, Grant) and found.seconds == 110
    unused = decide(profile, Usage(WIT), now=1400, first_used_at=None, extra_valid_s=500)
    assert isinstance(unused, Grant) and unused.seconds == 1500
    assert decide(profile, Usage(WIT), now=1510, first_used_at=10, extra_valid_s=500) == Refusal(
        Reason.EXPIRED
    )


def test_a_session_that_goes_on_gets_the_last_octet_and_second_of_its_quota_and_none_more() -> None:
    profile = Profile("p", data_session_octets=1_000, time_session_s=600)

    def rest(octets: int, seconds: int) -> Grant | Refusal:
        running = Running(octets, seconds)
        return decide(profile, Usage(WIT), now=1400, first_used_at=10, running=running)

    found = rest(999, 599)
    assert isinstance(found, Grant) and (found.octets, found.seconds) == (1, 1)
    assert rest(1_000, 599) == Refusal(Reason.USED_UP_DATA)
    assert rest(999, 600) == Refusal(Reason.USED_UP_TIME)
