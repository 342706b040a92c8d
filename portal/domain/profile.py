"""Profile: the named limits of a voucher, and the texts people write them in.

Pure. A profile is only numbers; what is left of them is for `quota` to say. The parsers here read
what a person types at the command line, the formatters write the same texts back, exactly: reading
what was written gives the same number.

Units: kB, MB, GB, TB are powers of 1000 octets; k, M, G are powers of 1000 bit/s; durations are
s, m, h, d.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from portal.domain.hours import parse_hours

WINDOWS = ("session", "day", "week", "month", "total")

MAX_OCTETS = 10**15  # a petabyte: beyond it only a slip of the hand, and far from 2^63 in any sum
MAX_DURATION_S = 36_500 * 86_400  # a century
MAX_RATE_KBPS = 4_000_000  # WISPr-Bandwidth-Max is 32 bits of bit/s, so it ends at 4,29 Gbit/s
INTERIM_RANGE_S = (
    60,
    3_600,
)  # RFC 2869 section 5.16: never under 60; over an hour a crash loses it
DEVICES_RANGE = (1, 100)


@dataclass(frozen=True, slots=True)
class Profile:
    """Named limits of a voucher; None means no limit.

    A data quota is input + output octets; a time quota adds up the times of all devices.
    """

    name: str
    data_session_octets: int | None = None
    data_day_octets: int | None = None
    data_week_octets: int | None = None
    data_month_octets: int | None = None
    data_total_octets: int | None = None
    time_session_s: int | None = None
    time_day_s: int | None = None
    time_week_s: int | None = None
    time_month_s: int | None = None
    time_total_s: int | None = None
    rate_down_kbps: int | None = None  # towards the phone
    rate_up_kbps: int | None = None
    valid_s: int | None = None  # runs from first use
    devices: int = 1  # at once
    idle_s: int = 900
    interim_s: int = 300
    hours: str | None = None  # as `hours.parse_hours` gives them, in the site's zone
    throttle_kbps: int | None = None  # rate once a quota is used up; None = cut
    remember_phone: bool = True  # MAC return


def interim_of_session_s(profile: Profile, session_id: int) -> int:
    """Return the interim interval of one session: up to a tenth longer than the profile's, each its
    own, so that the phones of a village that all logged in when the power came back do not report
    in step for ever after (conformance item 43).
    """
    spread_s = profile.interim_s // 10
    return min(profile.interim_s + session_id % (spread_s + 1), INTERIM_RANGE_S[1])


def data_quota(profile: Profile, window: str) -> int | None:
    """Return the octets allowed in one `window` (a name of WINDOWS), None for no limit."""
    match window:
        case "session":
            return profile.data_session_octets
        case "day":
            return profile.data_day_octets
        case "week":
            return profile.data_week_octets
        case "month":
            return profile.data_month_octets
        case "total":
            return profile.data_total_octets
    raise ValueError(f"window is {window!r}; expected one of {', '.join(WINDOWS)}")


def time_quota(profile: Profile, window: str) -> int | None:
    """Return the seconds allowed in one `window` (a name of WINDOWS), None for no limit."""
    match window:
        case "session":
            return profile.time_session_s
        case "day":
            return profile.time_day_s
        case "week":
            return profile.time_week_s
        case "month":
            return profile.time_month_s
        case "total":
            return profile.time_total_s
    raise ValueError(f"window is {window!r}; expected one of {', '.join(WINDOWS)}")


# --- texts to numbers --------------------------------------------------------------------------

# At most two decimals: an Indonesian writes 1.500 MB and means one thousand five hundred.
_AMOUNT = re.compile(r"([0-9]{1,16})(?:[.,]([0-9]{1,2}))?\s*([A-Za-z/]*)")
_OCTET_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_OCTET_UNITS |= {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_OCTET_NAMES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_RATE_UNITS = {"K": 1, "M": 10**3, "G": 10**6}
_RATE_NAMES = (("G", 10**6), ("M", 10**3), ("k", 1))
_DURATION = re.compile(
    r"(?:([0-9]{1,12})d)?\s*(?:([0-9]{1,12})h)?\s*(?:([0-9]{1,12})m)?\s*(?:([0-9]{1,12})s)?"
)
_DURATION_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def parse_octets(text: str) -> int:
    """Read an amount of data: `500MB`, `1.5 GB`, `2G`, or bare octets.

    Raises ValueError when it is not one, not a whole number of octets, zero, or over MAX_OCTETS.
    """
    octets = _scaled(text, _OCTET_UNITS)
    if octets is None:
        raise ValueError(
            f"amount of data is {text!r};"
            " expected a number (at most two decimals) and kB, MB, GB or TB"
        )
    if not 0 < octets <= MAX_OCTETS:
        raise ValueError(
            f"amount of data is {text!r}; expected 1 octet to {format_octets(MAX_OCTETS)}"
        )
    return octets


def parse_duration_s(text: str) -> int:
    """Read a duration in seconds: `2h`, `90m`, `1h30m`, `30d`.

    The unit is not optional: `--valid 30` could mean days to one and seconds to another.
    Raises ValueError when it is not one, zero, or over MAX_DURATION_S.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or not any(match.groups()):
        raise ValueError(
            f"duration is {text!r}; expected numbers with d, h, m or s, such as 1h30m or 30d"
        )
    seconds = sum(
        int(number) * unit_s
        for number, (_, unit_s) in zip(match.groups(), _DURATION_UNITS, strict=True)
        if number
    )
    if not 0 < seconds <= MAX_DURATION_S:
        raise ValueError(f"duration is {text!r}; expected 1s to {format_duration(MAX_DURATION_S)}")
    return seconds


def parse_rate_kbps(text: str) -> int:
    """Read a rate in kbit/s: `512k`, `2M`, `1.5M`.

    The unit is not optional, for gateways and people differ whether a bare number is bit/s or
    kbit/s. Raises ValueError when it is not one, not whole kbit/s, zero, or over MAX_RATE_KBPS.
    """
    bare = re.sub(r"(?i)(?<=[kmg])(bit/s|bps)$", "", text.strip())
    kbps = _scaled(bare, _RATE_UNITS)
    if kbps is None:
        raise ValueError(f"rate is {text!r}; expected a number and k or M, such as 512k or 2M")
    if not 0 < kbps <= MAX_RATE_KBPS:
        raise ValueError(f"rate is {text!r}; expected 1k to {format_rate(MAX_RATE_KBPS)}")
    return kbps


def parse_when_used_up(text: str) -> int | None:
    """Read `cut` (None) or `throttle:128k` (the rate in kbit/s). Raises ValueError else."""
    word, colon, rate = text.strip().partition(":")
    if word.lower() == "cut" and not colon:
        return None
    if word.lower() == "throttle" and rate:
        return parse_rate_kbps(rate)
    raise ValueError(f"when-used-up is {text!r}; expected cut or throttle:RATE such as 128k")


def _scaled(text: str, units: dict[str, int]) -> int | None:
    """Return the whole number `text` stands for, None when it is none."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    whole, decimals, unit = match.groups()
    scale = units.get(unit.upper())
    if scale is None:
        return None
    decimals = decimals or ""
    amount, rest = divmod(int(whole + decimals) * scale, 10 ** len(decimals))
    return None if rest else amount


# --- numbers to texts --------------------------------------------------------------------------


def format_octets(octets: int) -> str:
    """Write an amount of data so that `parse_octets` reads the same: `500MB`, `1.5GB`."""
    return _exact(octets, _OCTET_NAMES) or str(octets)


def format_duration(seconds: int) -> str:
    """Write a duration so that `parse_duration_s` reads the same: `1h30m`, `30d`."""
    parts = []
    rest = seconds
    for name, unit_s in _DURATION_UNITS:
        count, rest = divmod(rest, unit_s)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def format_rate(kbps: int) -> str:
    """Write a rate so that `parse_rate_kbps` reads the same: `512k`, `1.5M`."""
    return _exact(kbps, _RATE_NAMES) or f"{kbps}k"


def format_when_used_up(throttle_kbps: int | None) -> str:
    """Write what happens at a used-up quota so that `parse_when_used_up` reads the same."""
    return "cut" if throttle_kbps is None else f"throttle:{format_rate(throttle_kbps)}"


def _exact(amount: int, names: tuple[tuple[str, int], ...]) -> str:
    """Return `amount` in its largest unit that needs at most two decimals, else ''."""
    for name, scale in names:
        hundredths, rest = divmod(amount * 100, scale)
        if amount >= scale and not rest:
            whole, decimals = divmod(hundredths, 100)
            return f"{whole}.{decimals:02d}".rstrip("0").rstrip(".") + name
    return ""


# --- the settings as the command line names them -----------------------------------------------


def change(profile: Profile, **named: str) -> Profile:
    """Return `profile` with the settings named as `pesisir profile set` names them.

    `change(p, data_day="500MB", rate_down="none")`: the option names of the command, with
    underscores, and their texts; `none` brings the default back. Raises ValueError with a sentence
    that names the setting, the value and what was expected.
    """
    values: dict[str, Any] = {}
    for setting, text in named.items():
        if setting not in _SETTINGS:
            raise ValueError(
                f"profile has no setting {setting!r}; expected one of {', '.join(_SETTINGS)}"
            )
        field, parse, _ = _SETTINGS[setting]
        if text.strip().lower() == "none":
            values[field] = _DEFAULTS[field]
            continue
        try:
            values[field] = parse(text)
        except ValueError as error:
            raise ValueError(f"{setting.replace('_', '-')}: {error}") from None
    return replace(profile, **values)


def settings(profile: Profile) -> dict[str, str]:
    """Return every setting of `profile` as `change` reads it, `none` for what has no limit."""
    texts = {}
    for setting, (field, _, write) in _SETTINGS.items():
        value = getattr(profile, field)
        texts[setting] = "none" if value is None and setting != "when_used_up" else write(value)
    return texts


def _parse_interim_s(text: str) -> int:
    least_s, most_s = INTERIM_RANGE_S
    seconds = parse_duration_s(text)
    if not least_s <= seconds <= most_s:
        raise ValueError(
            f"duration is {text!r};"
            f" expected {format_duration(least_s)} to {format_duration(most_s)}"
        )
    return seconds


def _parse_devices(text: str) -> int:
    least, most = DEVICES_RANGE
    if not re.fullmatch(r"[0-9]{1,4}", text.strip()) or not least <= int(text) <= most:
        raise ValueError(f"number of devices is {text!r}; expected {least} to {most}")
    return int(text)


def _parse_yes_no(text: str) -> bool:
    match text.strip().lower():
        case "yes":
            return True
        case "no":
            return False
    raise ValueError(f"answer is {text!r}; expected yes or no")


def _format_yes_no(is_yes: bool) -> str:
    return "yes" if is_yes else "no"


_Setting = tuple[str, Callable[[str], Any], Callable[[Any], str]]

# setting: (field, from text, to text)
_SETTINGS: dict[str, _Setting] = {
    **{
        f"data_{window}": (f"data_{window}_octets", parse_octets, format_octets)
        for window in WINDOWS
    },
    **{
        f"time_{window}": (f"time_{window}_s", parse_duration_s, format_duration)
        for window in WINDOWS
    },
    "rate_down": ("rate_down_kbps", parse_rate_kbps, format_rate),
    "rate_up": ("rate_up_kbps", parse_rate_kbps, format_rate),
    "valid": ("valid_s", parse_duration_s, format_duration),
    "devices": ("devices", _parse_devices, str),
    "idle": ("idle_s", parse_duration_s, format_duration),
    "interim": ("interim_s", _parse_interim_s, format_duration),
    "hours": ("hours", parse_hours, str),
    "when_used_up": ("throttle_kbps", parse_when_used_up, format_when_used_up),
    "remember_phone": ("remember_phone", _parse_yes_no, _format_yes_no),
}
_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(Profile) if field.name != "name"
}
