from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.domain.hours import (
    Window,
    closes_at,
    day_of,
    end_of_day,
    is_open,
    next_midnight,
    opens_at,
    parse_hours,
    window_at,
)

JAKARTA, MAKASSAR, JAYAPURA = (
    ZoneInfo(f"Asia/{city}") for city in ("Jakarta", "Makassar", "Jayapura")
)
BERLIN = ZoneInfo("Europe/Berlin")  # summer time changes at 02:00 and 03:00
BEIRUT = ZoneInfo("Asia/Beirut")  # at 00:00: midnight is skipped in spring
HAVANA = ZoneInfo("America/Havana")  # at 00:00 and 01:00: midnight comes twice in autumn
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # by half an hour
ZONES = (JAKARTA, MAKASSAR, JAYAPURA, BERLIN, BEIRUT, HAVANA, LORD_HOWE)

zones = st.sampled_from(ZONES)
instants = st.integers(0, 2**32)
# The days on which the zones above put their clocks forward or back, and those around them.
changes = st.sampled_from(
    [
        int(datetime(year, month, day, tzinfo=ZoneInfo("UTC")).timestamp())
        for year in (2025, 2026)
        for month in (3, 4, 10, 11)
        for day in range(1, 31)
    ]
).flatmap(lambda start_at: st.integers(start_at, start_at + 86_400))
kinds = st.sampled_from(["day", "week", "month"])
clocks = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
ranges = st.tuples(clocks, clocks).filter(lambda pair: pair[0] != pair[1]).map("-".join)
texts = st.lists(ranges, min_size=1, max_size=4).map(",".join)


def local(
    zone: ZoneInfo, y: int, m: int, d: int, h: int = 0, min: int = 0, s: int = 0, fold: int = 0
) -> int:
    return int(datetime(y, m, d, h, min, s, tzinfo=zone, fold=fold).timestamp())


# --- windows


@given(kinds, instants | changes, zones)
def test_a_window_holds_its_instant_and_touches_its_neighbours(
    kind: str, at: int, zone: ZoneInfo
) -> None:
    window = window_at(kind, at, zone)
    assert window.start_at <= at < window.end_at
    assert window_at(kind, window.start_at, zone) == window
    assert window_at(kind, window.end_at - 1, zone) == window
    assert window_at(kind, window.end_at, zone).start_at == window.end_at
    assert window_at(kind, window.start_at - 1, zone).end_at == window.start_at


@given(instants | changes, zones)
def test_a_window_is_what_the_wall_shows(at: int, zone: ZoneInfo) -> None:
    def shown(window: Window) -> tuple[date, date]:
        return day_of(window.start_at, zone), day_of(window.end_at - 1, zone)

    today = day_of(at, zone)
    assert shown(window_at("day", at, zone)) == (today, today)
    first, last = shown(window_at("week", at, zone))
    assert (first.isoweekday(), last.isoweekday()) == (1, 7)
    assert first <= today <= last
    first, last = shown(window_at("month", at, zone))
    assert (first.year, first.month, first.day) == (today.year, today.month, 1)
    assert (last.month, (last + timedelta(days=1)).day) == (today.month, 1)


@pytest.mark.parametrize("zone", [JAKARTA, MAKASSAR, JAYAPURA])
@pytest.mark.parametrize(
    ("year", "month", "days"), [(2026, 2, 28), (2028, 2, 29), (2026, 4, 30), (2026, 12, 31)]
)
def test_months_of_every_length(zone: ZoneInfo, year: int, month: int, days: int) -> None:
    start_at = local(zone, year, month, 1)
    for day in (1, 15, days):
        window = window_at("month", local(zone, year, month, day, 23, 59, 59), zone)
        assert window == (start_at, start_at + days * 86_400)


def test_the_zones_of_indonesia_begin_their_days_an_hour_apart() -> None:
    at = local(JAKARTA, 2026, 11, 21, 12)
    starts = [window_at("day", at, zone).start_at for zone in (JAYAPURA, MAKASSAR, JAKARTA)]
    assert starts == [
        int(datetime.fromisoformat(text).timestamp())
        for text in ("2026-11-20T15:00Z", "2026-11-20T16:00Z", "2026-11-20T17:00Z")
    ]


def test_a_day_may_have_23_or_25_hours() -> None:
    assert _hours_of(window_at("day", local(BERLIN, 2026, 3, 29, 12), BERLIN)) == 23
    assert _hours_of(window_at("day", local(BERLIN, 2026, 10, 25, 12), BERLIN)) == 25
    assert _hours_of(window_at("week", local(BERLIN, 2026, 10, 25, 12), BERLIN)) == 7 * 24 + 1


def test_a_day_whose_midnight_is_skipped_begins_at_the_jump() -> None:
    window = window_at("day", local(BEIRUT, 2026, 3, 29, 12), BEIRUT)
    assert datetime.fromtimestamp(window.start_at, BEIRUT).hour == 1
    assert datetime.fromtimestamp(window.start_at - 1, BEIRUT).hour == 23


def test_a_day_whose_midnight_comes_twice_begins_at_the_first() -> None:
    window = window_at("day", local(HAVANA, 2026, 11, 1, 12), HAVANA)
    assert window.start_at == local(HAVANA, 2026, 11, 1, fold=0)
    assert window.start_at == local(HAVANA, 2026, 11, 1, fold=1) - 3_600


@given(instants | changes, zones)
def test_midnights_are_the_ends_of_days(at: int, zone: ZoneInfo) -> None:
    end_at = window_at("day", at, zone).end_at
    assert next_midnight(at, zone) == end_at
    assert end_of_day(day_of(at, zone), zone) == end_at


def test_an_unknown_kind_of_window_is_refused() -> None:
    with pytest.raises(ValueError, match="window is 'year'; expected day, week or month"):
        window_at("year", 0, JAKARTA)


def _hours_of(window: Window) -> float:
    return (window.end_at - window.start_at) / 3_600


# --- opening hours


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("06:00-22:00", "06:00-22:00"),
        ("6:00-22:00", "06:00-22:00"),
        ("06.00 - 22.00", "06:00-22:00"),
        ("06.00\u201322.00", "06:00-22:00"),
        ("20:00-02:00", "20:00-02:00"),
        ("18:00-24:00", "18:00-24:00"),
        ("18:00-00:00", "18:00-24:00"),
        ("00:00-24:00", "00:00-24:00"),
        ("13:00-15:00, 08:00-12:00", "08:00-12:00,13:00-15:00"),
        ("08:00-12:00,12:00-15:00", "08:00-15:00"),
        ("08:00-12:00,10:00-15:00", "08:00-15:00"),
        ("00:00-04:00,22:00-24:00", "22:00-04:00"),
        ("06:00-18:00,18:00-06:00", "00:00-24:00"),
        ("00:00-00:01", "00:00-00:01"),
    ],
)
def test_hours_are_normalised(text: str, expected: str) -> None:
    assert parse_hours(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "06:00",
        "06:00-",
        "6-22",
        "06:00-22:00,",
        "06:00-06:00",
        "24:00-06:00",
        "06:00-24:01",
        "06:60-22:00",
        "06:00-25:00",
        "٠6:00-22:00",
        "06:00-22:00;23:00-24:00",
        "always",
    ],
)
def test_what_is_no_hours_is_refused_with_what_was_seen(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_hours(text)
    assert repr(text) in str(refused.value)
    assert "expected" in str(refused.value)


@given(texts)
def test_normal_hours_stay_as_they_are(text: str) -> None:
    normal = parse_hours(text)
    assert parse_hours(normal) == normal


@settings(max_examples=25)  # 2,880 instants each
@given(texts)
def test_hours_are_open_in_exactly_the_minutes_of_their_ranges(text: str) -> None:
    midnight_at = local(MAKASSAR, 2026, 11, 21)
    hours = parse_hours(text)
    pairs = [part.split("-") for part in text.split(",")]
    for minute in range(1440):
        clock = f"{minute // 60:02d}:{minute % 60:02d}"
        expected = any(_is_between(clock, *pair) for pair in pairs)
        assert is_open(hours, midnight_at + minute * 60, MAKASSAR) == expected
        assert is_open(hours, midnight_at + minute * 60 + 59, MAKASSAR) == expected


def _is_between(clock: str, start: str, end: str) -> bool:
    return start <= clock < end if start < end else clock >= start or clock < end


@given(texts, instants | changes, zones)
def test_opening_and_closing_are_where_is_open_changes(text: str, at: int, zone: ZoneInfo) -> None:
    hours = parse_hours(text)
    closing_at, opening_at = closes_at(hours, at, zone), opens_at(hours, at, zone)
    if not is_open(hours, at, zone):
        assert closing_at == at
        assert opening_at > at
        assert not is_open(hours, opening_at - 1, zone)
        assert is_open(hours, opening_at, zone)
    elif hours != "00:00-24:00":
        assert opening_at == at
        assert closing_at is not None and closing_at > at
        assert is_open(hours, closing_at - 1, zone)
        assert not is_open(hours, closing_at, zone)
    else:
        assert closing_at is None


CHANGE_DAYS = [
    (MAKASSAR, (2026, 11, 21)),
    (BERLIN, (2026, 3, 28)),
    (BERLIN, (2026, 10, 24)),
    (BEIRUT, (2026, 3, 28)),
    (HAVANA, (2026, 10, 31)),
    (LORD_HOWE, (2026, 4, 4)),
]


@pytest.mark.parametrize(("zone", "day"), CHANGE_DAYS)
@pytest.mark.parametrize(
    "hours",
    ["06:00-22:00", "22:00-02:30", "00:00-00:30,02:30-03:00", "18:00-24:00", "01:45-02:15"],
)
def test_every_minute_of_three_days_agrees_with_the_next_change(
    hours: str, zone: ZoneInfo, day: tuple[int, int, int]
) -> None:
    start_at = local(zone, *day)
    minutes = range(start_at, start_at + 3 * 86_400, 60)
    was_open = [is_open(hours, at, zone) for at in minutes]
    next_change_at = None
    checked = 0
    for at, is_now_open, is_then_open in reversed(
        list(zip(minutes, was_open, was_open[1:] + [was_open[-1]], strict=True))
    ):
        if is_now_open != is_then_open:
            next_change_at = at + 60
        if next_change_at is None:
            continue
        checked += 1
        assert closes_at(hours, at, zone) == (next_change_at if is_now_open else at)
        assert opens_at(hours, at, zone) == (at if is_now_open else next_change_at)
    assert checked > 1440


def test_hours_over_midnight_close_in_the_morning() -> None:
    evening_at = local(MAKASSAR, 2026, 12, 31, 23)
    assert closes_at("20:00-02:00", evening_at, MAKASSAR) == local(MAKASSAR, 2027, 1, 1, 2)
    afternoon_at = local(MAKASSAR, 2026, 12, 31, 15, 30, 1)
    assert opens_at("20:00-02:00", afternoon_at, MAKASSAR) == local(MAKASSAR, 2026, 12, 31, 20)


def test_no_hours_and_all_hours_never_close() -> None:
    for hours in (None, "00:00-24:00"):
        assert is_open(hours, 1, JAKARTA)
        assert closes_at(hours, 1, JAKARTA) is None
        assert opens_at(hours, 1, JAKARTA) == 1
