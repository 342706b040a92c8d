"""Values of places: what people type about sites and gateways, checked and in its stored form.

Also how a change of them is told in the audit. Decides nothing and knows no store.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from portal import walled_garden
from portal.domain.hours import parse_hours
from portal.domain.profile import Profile
from portal.errors import DeskError, UserError

SITE_LONGEST = {
    "name": 80,
    "zone": 64,
    "helper": 120,
    "power_window": 80,
    "wifi_name": 32,
    "counter": 60,
    "opening_hours": 80,
    "open_services": 400,
    "without_node": 6,
}
"""What a site has that people may change, and the most letters of each. `wifi_name` is in octets,
as IEEE 802.11 limits it."""
HOURS_FIELDS = ("power_window", "opening_hours")

_SECRETS = frozenset(("secret", "uam_secret"))


def site_value(field: str, text: str) -> str:
    """A field of a site as it is stored.

    Raises DeskError `site.too_long`, `site.hours` and those of walled_garden.services, UserError
    for a field that no site has.
    """
    if field not in SITE_LONGEST:
        raise UserError(f"A site has no {field!r}; expected {', '.join(SITE_LONGEST)}.")
    text = " ".join(text.split())
    longest = SITE_LONGEST[field]
    length = len(text.encode()) if field == "wifi_name" else len(text)
    if length > longest:
        raise DeskError("site.too_long", field=field.replace("_", " "), length=length, most=longest)
    if field == "open_services":
        return walled_garden.services(text)
    if field == "without_node" and text not in ("closed", "open"):
        raise UserError(f"Without a node is {text!r}; expected closed or open.")
    if field in HOURS_FIELDS and text:
        try:
            return parse_hours(text)
        except ValueError as error:
            raise DeskError("site.hours", field=field.replace("_", " "), text=text) from error
    return text


def swap_octets(text: str) -> str:
    """Whether a gateway's counters are the wrong way round: `auto`, `yes` or `no`."""
    if text not in ("auto", "yes", "no"):
        raise UserError(f"Swap octets is {text!r}; expected auto, yes or no.")
    return text


def check_zone(zone: str) -> None:
    """Raise UserError when the zone is not in the tz database."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"The zone is {zone!r}; expected a name such as Asia/Jakarta, Asia/Makassar or"
            " Asia/Jayapura."
        ) from error


def network(text: str) -> str:
    """An address, or a network in CIDR form; raises DeskError `gateways.address`."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise DeskError("gateways.address", text=text[:80]) from error
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def nas_id(text: str | None) -> str | None:
    """A NAS-Identifier, None for none; raises DeskError `gateways.nas_id`."""
    if text is None or text == "":
        return None
    if len(text.encode()) > 253 or not text.isprintable():
        raise DeskError("gateways.nas_id")
    return text


def sentence(what: str, text: str, longest: int) -> str:
    """A line with single spaces; raises UserError when it is longer than `longest` letters."""
    text = " ".join(text.split())
    if len(text) > longest:
        raise UserError(f"The {what} has {len(text)} characters; expected at most {longest}.")
    return text


def capital(text: str) -> str:
    """A sentence's beginning in upper case, and no full stop."""
    return text[:1].upper() + text[1:].rstrip(".")


def limits_of(profile: Profile) -> dict[str, Any]:
    """What a profile says beyond the defaults."""
    defaults = asdict(Profile(profile.name))
    return {key: value for key, value in asdict(profile).items() if value != defaults[key]}


def differences(before: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """What changes, for the audit: `field: before -> after`; of a secret only that it does."""
    parts = []
    for field, value in changes.items():
        if field in _SECRETS:
            parts.append(f"{field}: changed")
            continue
        old, new = (_said(text) for text in (before.get(field), value))
        parts.append(f"{field}: {old} -> {new}")
    return "; ".join(parts)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)
