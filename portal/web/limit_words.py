"""Limits in words: the limits of a profile as people type and read them, in the page's language.

What is typed becomes the words of `profile set` (`2 jam` is `2h`), and back. The village's desk and
the office's pages have the same.
"""

import re

from portal.domain import profile as profiles
from portal.domain.hours import parse_hours
from portal.domain.profile import Profile
from portal.errors import DeskError
from portal.web.text import Translator

LIMITS = (
    "data_day",
    "data_week",
    "data_month",
    "data_total",
    "data_session",
    "time_day",
    "time_week",
    "time_month",
    "time_total",
    "time_session",
    "valid",
    "rate_down",
    "rate_up",
    "devices",
    "when_used_up",
    "remember_phone",
    "idle",
    "interim",
)
"""What only admins change, in the order people think of it; with the hours that is all."""
CHOICES = {"remember_phone": ("yes", "no")}
"""Limits that are chosen, not typed; the text is `settings.<choice>`."""
NO_LIMIT = "none"
_CUT, _THROTTLE = "cut", "throttle:"
_UNITS = (("d", "days"), ("h", "hours"), ("m", "minutes"), ("s", "seconds"))
_DURATIONS = ("time_", "valid", "idle", "interim")
_SPOKEN = re.compile(
    r"([0-9]+) ?(hari|days?|jam|hours?|menit|minutes?|detik|seconds?|[dhms])(?![a-z])",
    re.IGNORECASE,
)
_UNIT_OF = {"hari": "d", "jam": "h", "menit": "m", "detik": "s"}
VALUE_LONGEST = 80


def labelled(t: Translator, error: DeskError | None) -> tuple[str, DeskError | None]:
    """The field an error is about, and the error with the label people see."""
    if error is None or "field" not in error.values:
        return "", error
    field = str(error.values["field"]).replace(" ", "_")
    return field, DeskError(error.key, **{**error.values, "field": t(f"settings.{field}")})


def with_dots(hours: str) -> str:
    """Hours as people here write them."""
    return hours.replace(":", ".").replace(",", ", ")


def limit_text(t: Translator, profile: Profile, name: str) -> str:
    """A limit as it stands in the form, in the page's language; nothing for none."""
    return value_text(t, name, profiles.settings(profile)[name])


def value_text(t: Translator, name: str, value: str) -> str:
    """A value as `profile set` has it, as it stands in a form; nothing for none."""
    if value in (NO_LIMIT, _CUT):
        return ""
    if name == "hours":
        return with_dots(value)
    if name.startswith(_DURATIONS):
        parts = re.findall(r"([0-9]+)([dhms])", value)
        return " ".join(t(f"time.{dict(_UNITS)[unit]}", n=int(n)) for n, unit in parts)
    return value.removeprefix(_THROTTLE)


def _spoken(name: str, value: str) -> str:
    """What was typed in the words of `profile set`: `2 jam` is `2h`, `1.000 MB` is `1000MB`."""
    if name.startswith(_DURATIONS):
        plain = re.sub(r"(?<=[0-9])[.,](?=[0-9]{3}(?![0-9]))", "", value)
        return _SPOKEN.sub(lambda found: found[1] + _unit(found[2]), plain).replace(" ", "")
    if name == "when_used_up" and value not in ("", _CUT) and not value.startswith(_THROTTLE):
        return _THROTTLE + value
    return value


def _unit(word: str) -> str:
    return _UNIT_OF.get(word.lower(), word[0].lower())


def checked_limit(profile: Profile, name: str, value: str) -> str:
    """A typed limit in the form `change` reads; raises DeskError."""
    if not value:
        return _CUT if name == "when_used_up" else NO_LIMIT
    try:
        if name == "hours":
            return parse_hours(value)
        spoken = _spoken(name, value)
        profiles.change(profile, **{name: spoken})
    except ValueError as error:
        key = "site.hours" if name == "hours" else "settings.limit"
        raise DeskError(key, field=name.replace("_", " "), text=value[:VALUE_LONGEST]) from error
    return spoken


def limits_said(t: Translator, profile: Profile) -> str:
    """The main limits of a profile in one line."""
    parts = []
    for window in profiles.WINDOWS:
        octets, seconds = profiles.data_quota(profile, window), profiles.time_quota(profile, window)
        per = t(f"settings.per_{window}")
        if octets is not None:
            parts.append(f"{t.quota(octets)} {per}")
        if seconds is not None:
            parts.append(f"{t.duration(seconds)} {per}")
    if profile.valid_s is not None:
        parts.append(t("settings.valid_for", duration=t.duration(profile.valid_s)))
    return ", ".join(parts) if parts else t("settings.unlimited")
