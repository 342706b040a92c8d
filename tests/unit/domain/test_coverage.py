"""Coverage: each hour of a site is exactly one of six things."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain import coverage
from portal.domain.coverage import (
    BACKHAUL_DOWN,
    CLOCK_DOUBTFUL,
    HOUR_S,
    IDLE,
    NO_POWER,
    NO_REPORT,
    STATES,
    USED,
    Hour,
    Report,
    Stretch,
    Usage,
)

ZONE = ZoneInfo("Asia/Makassar")
DAY_AT = int(datetime(2026, 11, 2, tzinfo=ZONE).timestamp())
DAY_S = 86_400


def at(hour: float) -> int:
    return DAY_AT + int(hour * HOUR_S)


def day(
    *,
    reports: list[Report] | None = None,
    downs: list[Stretch] | None = None,
    usage: dict[int, Usage] | None = None,
    power: str | None = None,
    now: float = 30,
) -> dict[int, str]:
    """The states of 2 November by the hour on the wall."""
    found = coverage.hours(
        DAY_AT,
        DAY_AT + DAY_S,
        now_at=at(now),
        reports=reports or [],
        downs=downs or [],
        usage=usage or {},
        power_hours=power,
        zone=ZONE,
    )
    return {(hour.start_at - DAY_AT) // HOUR_S: hour.state for hour in found}


def test_nothing_heard_is_no_report_and_never_idle() -> None:
    assert set(day().values()) == {NO_REPORT}


def test_an_hour_with_a_report_and_no_usage_is_idle() -> None:
    states = day(reports=[Report(at(9.5))])
    assert (states[9], states[10]) == (IDLE, NO_REPORT)


def test_usage_makes_an_hour_used() -> None:
    assert day(usage={at(9): Usage(1, 10)})[9] == USED


def test_a_silent_hour_outside_the_power_window_is_no_power() -> None:
    states = day(power="06:00-22:00")
    assert [states[hour] for hour in (5, 6, 21, 22)] == [NO_POWER, NO_REPORT, NO_REPORT, NO_POWER]


@pytest.mark.parametrize(("end", "state"), [("22:29", NO_POWER), ("22:30", NO_REPORT)])
def test_an_hour_with_power_for_half_of_it_should_have_reported(end: str, state: str) -> None:
    assert day(power=f"06:00-{end}")[22] == state


def test_a_power_window_over_midnight_is_kept() -> None:
    states = day(power="18:00-02:00")
    assert [states[hour] for hour in (1, 2, 17, 18)] == [NO_REPORT, NO_POWER, NO_POWER, NO_REPORT]


def test_a_box_that_ran_outside_its_power_window_is_believed() -> None:
    states = day(reports=[Report(at(3.1))], usage={at(4): Usage(1, 0)}, power="06:00-22:00")
    assert (states[3], states[4]) == (IDLE, USED)


def test_half_an_hour_without_backhaul_makes_a_quiet_hour_down() -> None:
    reports = [Report(at(9)), Report(at(10))]
    states = day(reports=reports, downs=[Stretch(at(9.5), at(10.4))])
    assert (states[9], states[10]) == (BACKHAUL_DOWN, IDLE)


def test_stretches_that_overlap_count_once() -> None:
    downs = [Stretch(at(9), at(9.3)), Stretch(at(9.1), at(9.4)), Stretch(at(9.2), at(9.25))]
    assert day(reports=[Report(at(9))], downs=downs)[9] == IDLE


def test_usage_shows_that_there_was_a_link() -> None:
    states = day(usage={at(9): Usage(1, 10)}, downs=[Stretch(at(9), at(10))])
    assert states[9] == USED


def test_a_silent_hour_is_not_called_down_for_what_was_known_before() -> None:
    assert day(downs=[Stretch(at(0), at(24))])[9] == NO_REPORT


def test_a_doubtful_clock_comes_before_everything_it_told() -> None:
    states = day(
        reports=[Report(at(9)), Report(at(9.5), True)],
        usage={at(9): Usage(1, 10)},
        downs=[Stretch(at(9), at(10))],
    )
    assert states[9] == CLOCK_DOUBTFUL


def test_hours_to_come_are_left_out_and_the_one_under_way_is_there() -> None:
    assert max(day(now=12.5)) == 12


instants = st.integers(DAY_AT - DAY_S, DAY_AT + 2 * DAY_S)
windows = st.none() | st.sampled_from(
    ["00:00-24:00", "06:00-22:00", "18:00-02:30", "05:10-05:20", "01:00-03:00,12:00-13:59"]
)


@st.composite
def stretches(draw: st.DrawFn) -> Stretch:
    start_at = draw(instants)
    return Stretch(start_at, start_at + draw(st.integers(0, DAY_S)))


@st.composite
def told(draw: st.DrawFn) -> dict[str, object]:
    hours = st.integers(0, 47).map(lambda n: DAY_AT + n * HOUR_S)
    return {
        "reports": draw(st.lists(st.builds(Report, instants, st.booleans()), max_size=20)),
        "downs": draw(st.lists(stretches(), max_size=5)),
        "usage": draw(
            st.dictionaries(
                hours, st.builds(Usage, st.integers(0, 9), st.integers(0, 9)), max_size=9
            )
        ),
        "power_hours": draw(windows),
        "zone": draw(st.sampled_from([ZONE, ZoneInfo("Asia/Jakarta"), ZoneInfo("Asia/Jayapura")])),
    }


def found(told: dict[str, object], first: int, end: int, now: int) -> list[Hour]:
    return coverage.hours(first, end, now_at=now, **told)  # type: ignore[arg-type]


@given(told(), instants, instants, instants)
def test_every_hour_that_has_begun_is_there_once_with_one_state(
    told: dict[str, object], first: int, end: int, now: int
) -> None:
    hours = found(told, first, end, now)
    wanted = [at for at in range(-(-first // HOUR_S) * HOUR_S, end, HOUR_S) if at <= now]
    assert [hour.start_at for hour in hours] == wanted
    assert {hour.state for hour in hours} <= set(STATES)
    assert sum(coverage.counts(hours).values()) == len(hours)


@given(told())
def test_no_hour_is_called_quiet_unless_the_node_said_so(told: dict[str, object]) -> None:
    heard = {coverage.hour_of(one.at) for one in told["reports"]}  # type: ignore[attr-defined]
    for hour in found(told, DAY_AT, DAY_AT + DAY_S, DAY_AT + DAY_S):
        if hour.state in (IDLE, BACKHAUL_DOWN, CLOCK_DOUBTFUL):
            assert hour.start_at in heard
        if hour.state in (NO_REPORT, NO_POWER):
            assert hour.start_at not in heard and not hour.usage


@given(told(), st.integers(DAY_AT, DAY_AT + DAY_S - 1))
def test_a_late_report_takes_only_its_own_hour_out_of_the_unknown(
    told: dict[str, object], late_at: int
) -> None:
    before = found(told, DAY_AT, DAY_AT + DAY_S, DAY_AT + DAY_S)
    told["reports"] = [*told["reports"], Report(late_at)]  # type: ignore[misc]
    after = found(told, DAY_AT, DAY_AT + DAY_S, DAY_AT + DAY_S)
    for old, new in zip(before, after, strict=True):
        if old.start_at == coverage.hour_of(late_at):
            assert new.state not in (NO_REPORT, NO_POWER)
        else:
            assert new == old


@given(windows, instants, instants, instants)
def test_electricity_adds_up_over_neighbouring_stretches(
    power: str | None, one: int, two: int, three: int
) -> None:
    first, middle, last = sorted((one, two, three))
    whole = coverage.open_s(power, first, last, ZONE)
    parts = coverage.open_s(power, first, middle, ZONE) + coverage.open_s(power, middle, last, ZONE)
    assert whole == parts
    assert 0 <= whole <= last - first
