"""Reads and checks `tests/vectors/<family>.txt`; the form is explained in coova.txt."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from radius.nas import Arrival, ArrivalError, Family, Limits, SessionKeys
from radius.packet import ACCESS_REQUEST, ACCOUNTING_REQUEST, Packet, attribute, parse, sign_request

VECTORS = Path(__file__).parents[2] / "vectors"
KINDS = ("url", "grant", "accounting", "access", "session")


@dataclass
class Vector:
    title: str
    lines: dict[str, str] = field(default_factory=dict)
    expect: dict[str, str] = field(default_factory=dict)


def read(family: str) -> list[Vector]:
    vectors: list[Vector] = []
    for line in (VECTORS / f"{family}.txt").read_text().splitlines():
        if line.startswith("== "):
            vectors.append(Vector(line.removeprefix("== ")))
        elif line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            if name == "expect":
                name, _, value = value.partition(" ")
                vectors[-1].expect[name] = value
            else:
                vectors[-1].lines[name] = value
    assert vectors and all(any(kind in v.lines for kind in KINDS) for v in vectors)
    return vectors


def check(family: Family, vector: Vector) -> None:
    """Every line of the vector is used, or the test fails."""
    lines = dict(vector.lines)
    if "url" in lines:
        _check_arrival(family, lines, vector.expect)
    elif "grant" in lines:
        limits = _limits(lines.pop("grant"))
        assert family.accept_attributes(limits).hex() == lines.pop("attributes").replace(" ", "")
        renewal = lines.pop("renewal", "").replace(" ", "")
        assert family.accounting_response_attributes(limits).hex() == renewal
    elif "session" in lines:
        empty: dict[str, str | None] = dict.fromkeys(f.name for f in _fields(SessionKeys))
        given = dict(part.split("=", 1) for part in lines.pop("session").split())
        keys = SessionKeys(**(empty | given))  # type: ignore[arg-type]
        if "coa" in lines:
            attributes = family.coa_attributes(keys, _limits(lines.pop("limits")))
            expected = lines.pop("coa")
        else:
            attributes = family.disconnect_attributes(keys)
            expected = lines.pop("disconnect")
        encoded = b"".join(attribute(kind, value) for kind, value in attributes)
        assert encoded.hex() == expected.replace(" ", "")
    elif "access" in lines:
        packet = request(ACCESS_REQUEST, lines.pop("access"))
        user_name = packet.text(1) or ""
        assert family.is_mac_login(packet, user_name) is (lines.pop("mac_login") == "yes")
    else:
        packet = request(ACCOUNTING_REQUEST, lines.pop("accounting"))
        assert family.is_swapped(packet) is (lines.pop("swapped") == "yes")
        assert family.is_administrative(packet) is (lines.pop("administrative") == "yes")
    assert lines == {}


def _limits(text: str) -> Limits:
    numbers = dict(part.split("=") for part in text.split())
    return limits_of(**{name: int(value) for name, value in numbers.items()})


def _check_arrival(family: Family, lines: dict[str, str], expect: dict[str, str]) -> None:
    url, _, raw_query = lines.pop("url").partition("?")
    query = dict(parse_qsl(raw_query, keep_blank_values=True))
    allow_loopback = lines.pop("loopback", "no") == "yes"
    if "error" in lines:
        with pytest.raises(ArrivalError) as caught:
            family.read_arrival(query, allow_loopback=allow_loopback)
        assert lines.pop("error") in str(caught.value)
        return
    arrival = family.read_arrival(query, allow_loopback=allow_loopback)
    assert arrival is not None
    seen = {f.name: _shown(getattr(arrival, f.name)) for f in _fields(Arrival)}
    del seen["family"]
    assert {name: value for name, value in seen.items() if value is not None} == expect
    if "signed" in lines:
        urls = [url, *lines.pop("portal").split()]
        assert family.is_signed(urls, raw_query, lines.pop("secret")) is (
            lines.pop("signed") == "yes"
        )
    if "handoff" in lines:
        user_name, password, uam_secret, return_url = lines.pop("handoff").split()
        location = family.hand_off_url(
            arrival,
            user_name,
            password,
            None if uam_secret == "-" else uam_secret,
            "" if return_url == "-" else return_url,
        )
        assert location == lines.pop("location")
        # Without RADIUS the hand-off stays at the portal.
        origin = family.form_action(arrival) if family.USES_RADIUS else url.rstrip("/")
        assert location.startswith(origin + "/")


def _shown(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.hex()
    return None if value is None else str(value)


def _fields(kind: type) -> tuple["dataclasses.Field[object]", ...]:
    return dataclasses.fields(kind)


def limits_of(
    session_timeout_s: int = 3600,
    interim_s: int = 300,
    idle_timeout_s: int | None = None,
    octets: int | None = None,
    rate_down_kbps: int | None = None,
    rate_up_kbps: int | None = None,
) -> Limits:
    return Limits(
        session_timeout_s=session_timeout_s,
        interim_s=interim_s,
        idle_timeout_s=idle_timeout_s,
        octets=octets,
        rate_down_kbps=rate_down_kbps,
        rate_up_kbps=rate_up_kbps,
    )


def request(code: int, hexadecimal: str) -> Packet:
    """A request of this code with these attributes, read back."""
    authenticator = bytes(16) if code == ACCESS_REQUEST else None
    attributes = bytes.fromhex(hexadecimal)
    return parse(sign_request(code, 1, attributes, b"rahasia", authenticator=authenticator))
