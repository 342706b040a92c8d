from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain.hours import parse_hours
from portal.domain.profile import (
    DEVICES_RANGE,
    INTERIM_RANGE_S,
    MAX_DURATION_S,
    MAX_OCTETS,
    MAX_RATE_KBPS,
    WINDOWS,
    Profile,
    change,
    data_quota,
    format_duration,
    format_octets,
    format_rate,
    format_when_used_up,
    parse_duration_s,
    parse_octets,
    parse_rate_kbps,
    parse_when_used_up,
    settings,
    time_quota,
)

octets = st.integers(1, MAX_OCTETS)
durations = st.integers(1, MAX_DURATION_S)
rates = st.integers(1, MAX_RATE_KBPS)
clocks = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")
hours = (
    st.lists(st.tuples(clocks, clocks).filter(lambda pair: pair[0] != pair[1]), min_size=1)
    .map(lambda pairs: ",".join("-".join(pair) for pair in pairs))
    .map(parse_hours)
)


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    values = {}
    for field in fields(Profile):
        if field.name.endswith("_octets"):
            values[field.name] = draw(st.none() | octets)
        elif field.name.endswith("_kbps"):
            values[field.name] = draw(st.none() | rates)
        elif field.name.endswith("_s") and field.default is None:
            values[field.name] = draw(st.none() | durations)
    return Profile(
        name="warga",
        devices=draw(st.integers(*DEVICES_RANGE)),
        idle_s=draw(durations),
        interim_s=draw(st.integers(*INTERIM_RANGE_S)),
        hours=draw(st.none() | hours),
        remember_phone=draw(st.booleans()),
        **values,
    )


def test_a_new_profile_has_the_defaults_of_the_design() -> None:
    profile = Profile("warga")
    assert (profile.devices, profile.idle_s, profile.interim_s) == (1, 900, 300)
    assert profile.remember_phone is True
    rest = [field.name for field in fields(Profile) if getattr(profile, field.name) is None]
    assert len(rest) == len(fields(Profile)) - 5  # all but those above and the name


def test_each_window_has_its_own_quotas() -> None:
    profile = Profile(
        "warga",
        data_session_octets=1,
        data_day_octets=2,
        data_week_octets=3,
        data_month_octets=4,
        data_total_octets=5,
        time_session_s=11,
        time_day_s=12,
        time_week_s=13,
        time_month_s=14,
        time_total_s=15,
    )
    assert [data_quota(profile, window) for window in WINDOWS] == [1, 2, 3, 4, 5]
    assert [time_quota(profile, window) for window in WINDOWS] == [11, 12, 13, 14, 15]


def test_an_unknown_window_is_refused() -> None:
    for quota in (data_quota, time_quota):
        with pytest.raises(ValueError, match="window is 'year'; expected one of session, day"):
            quota(Profile("warga"), "year")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        (" 2GB ", 2_000_000_000),
        ("2G", 2_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("1,5GB", 1_500_000_000),
        ("64kB", 64_000),
        ("64k", 64_000),
        ("1TB", 10**12),
        ("12345", 12_345),
        ("12345B", 12_345),
        ("0.01kB", 10),
    ],
)
def test_amounts_of_data(text: str, expected: int) -> None:
    assert parse_octets(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MB",
        "0",
        "0MB",
        "-1",
        "-5MB",
        "500XB",
        "500MiB",
        "500Mb/s",
        "1.500MB",
        "1.5",
        "0.001MB",
        "5e3",
        "1_000",
        "٥00MB",
        "1001TB",
        "9" * 400,
        "unlimited",
        "5 0MB",
    ],
)
def test_what_is_no_amount_of_data_is_refused_with_what_was_seen(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_octets(text)
    assert repr(text) in str(refused.value)
    assert "expected" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", 7_200),
        ("90m", 5_400),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("30d", 2_592_000),
        ("1d2h3m4s", 93_784),
        ("45s", 45),
        ("2H", 7_200),
        ("0h5m", 300),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration_s(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "30", "0s", "0h0m", "-2h", "1.5h", "30m1h", "2h2h", "2w", "1h30", "h", "٣0m", "36501d"],
)
def test_what_is_no_duration_is_refused_with_what_was_seen(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_duration_s(text)
    assert repr(text) in str(refused.value)
    assert "expected" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512k", 512),
        ("2M", 2_000),
        ("2m", 2_000),
        ("1.5M", 1_500),
        ("1G", 1_000_000),
        ("2 Mbps", 2_000),
        ("512kbit/s", 512),
    ],
)
def test_rates(text: str, expected: int) -> None:
    assert parse_rate_kbps(text) == expected


@pytest.mark.parametrize("text", ["", "512", "0k", "-1M", "0.5k", "2MB", "bps", "2Mbpsbps", "5G"])
def test_what_is_no_rate_is_refused_with_what_was_seen(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_rate_kbps(text)
    assert repr(text) in str(refused.value)
    assert "expected" in str(refused.value)


def test_when_used_up() -> None:
    assert parse_when_used_up("cut") is None
    assert parse_when_used_up("throttle:128k") == 128
    assert parse_when_used_up(" Throttle:1M ") == 1_000


@pytest.mark.parametrize("text", ["", "throttle", "throttle:", "throttle:128", "cut:128k", "slow"])
def test_another_word_for_when_used_up_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_when_used_up(text)


@given(octets)
def test_a_written_amount_is_read_back(amount: int) -> None:
    assert parse_octets(format_octets(amount)) == amount


@given(durations)
def test_a_written_duration_is_read_back(seconds: int) -> None:
    assert parse_duration_s(format_duration(seconds)) == seconds


@given(rates)
def test_a_written_rate_is_read_back(kbps: int) -> None:
    assert parse_rate_kbps(format_rate(kbps)) == kbps


@given(st.none() | rates)
def test_a_written_when_used_up_is_read_back(kbps: int | None) -> None:
    assert parse_when_used_up(format_when_used_up(kbps)) == kbps


def test_numbers_are_written_the_short_way() -> None:
    assert format_octets(500_000_000) == "500MB"
    assert format_octets(1_500_000_000) == "1.5GB"
    assert format_octets(1_230_000) == "1.23MB"
    assert format_octets(1_234_560) == "1234.56kB"
    assert format_octets(1_234_567) == "1234567"
    assert format_octets(0) == "0"
    assert format_duration(5_400) == "1h30m"
    assert format_duration(30 * 86_400) == "30d"
    assert format_duration(0) == "0s"
    assert format_rate(512) == "512k"
    assert format_rate(2_000) == "2M"
    assert format_rate(1_234) == "1234k"
    assert format_when_used_up(None) == "cut"


@given(profiles())
def test_the_settings_of_a_profile_make_the_same_profile(profile: Profile) -> None:
    assert change(Profile("warga"), **settings(profile)) == profile


def test_settings_say_what_has_no_limit_and_what_is_cut() -> None:
    texts = settings(Profile("warga"))
    assert (texts["data_day"], texts["hours"], texts["when_used_up"]) == ("none", "none", "cut")
    assert (texts["devices"], texts["idle"], texts["remember_phone"]) == ("1", "15m", "yes")


@given(profiles())
def test_none_brings_every_default_back(profile: Profile) -> None:
    assert change(profile, **dict.fromkeys(settings(profile), "none")) == Profile("warga")


def test_what_is_not_named_stays() -> None:
    before = change(Profile("warga"), data_day="500MB", rate_down="2M", idle="30m")
    after = change(before, rate_down="none", hours="6:00-22:00", when_used_up="throttle:128k")
    assert after == Profile(
        "warga",
        data_day_octets=500_000_000,
        idle_s=1_800,
        hours="06:00-22:00",
        throttle_kbps=128,
    )
    assert change(after) == after


@pytest.mark.parametrize(
    ("setting", "text", "sentence"),
    [
        ("data_day", "much", "data-day: amount of data is 'much'; expected a number (at most two"),
        ("interim", "59s", "interim: duration is '59s'; expected 1m to 1h"),
        ("interim", "61m", "interim: duration is '61m'; expected 1m to 1h"),
        ("interim", "3601s", "interim: duration is '3601s'; expected 1m to 1h"),
        ("devices", "0", "devices: number of devices is '0'; expected 1 to 100"),
        ("devices", "101", "devices: number of devices is '101'; expected 1 to 100"),
        ("devices", "1.5", "devices: number of devices is '1.5'; expected 1 to 100"),
        ("remember_phone", "maybe", "remember-phone: answer is 'maybe'; expected yes or no"),
        ("hours", "all day", "hours: hours are 'all day'; expected ranges"),
        ("when_used_up", "stop", "when-used-up: when-used-up is 'stop'; expected cut or"),
    ],
)
def test_a_wrong_setting_says_which_what_and_what_was_expected(
    setting: str, text: str, sentence: str
) -> None:
    with pytest.raises(ValueError) as refused:
        change(Profile("warga"), **{setting: text})
    assert str(refused.value).startswith(sentence)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="no setting 'data_year'; expected one of data_session"):
        change(Profile("warga"), data_year="1TB")


def test_the_name_is_no_setting() -> None:
    with pytest.raises(ValueError, match="no setting 'name'"):
        change(Profile("warga"), name="tamu")
