"""What the program on an openNDS gateway says, as RADIUS attributes; what aaa says, as its words.

Everything is checked here: a word that is not what it should be makes the line worthless.
"""

import ipaddress
import re

from radius.nas import Limits, canonical_mac
from radius.packet import (
    ACCT_DELAY_TIME,
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLING_STATION_ID,
    CLASS,
    FRAMED_IP_ADDRESS,
    USER_NAME,
    attribute,
    integer_attribute,
)

_STATUS_TYPES = {"start": 1, "stop": 2, "use": 3}
_CAUSES = {
    "user": 1,
    "lost": 2,
    "idle": 4,
    "time": 5,
    "quota": 5,
    "admin": 6,
    "reboot": 11,
}
"""Acct-Terminate-Cause (RFC 2866 5.10). A used up quota is 5, as at CoovaChilli."""
SESSION_ID = re.compile(r"[0-9a-z]{8,64}")
_COUNTER = re.compile(r"([0-9]{1,18})(k?)")
_CLASS = re.compile(r"(?:[0-9a-f]{2}){1,253}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def report_attributes(words: list[str]) -> bytes | None:
    """The attributes of an Accounting-Request for a line of the program; None for a malformed one.

    `start|use|stop ID MAC IP CLASS USER SECONDS UP DOWN CAUSE AGO`: counters in octets, or in units
    of 1,024 with a `k` at the end; AGO: seconds since it happened. Directions are the phone's: UP
    came from it, which is Acct-Input (RFC 2866 5.3).
    """
    if len(words) != 11:
        return None
    kind, session_id, mac, ip, class_hex, user, seconds, up, down, cause, ago = words
    phone, counters = canonical_mac(mac), (_octets(up), _octets(down))
    if (
        kind not in _STATUS_TYPES
        or SESSION_ID.fullmatch(session_id) is None
        or phone is None
        or counters[0] is None
        or counters[1] is None
        or _NUMBER.fullmatch(seconds) is None
        or _NUMBER.fullmatch(ago) is None
        or (class_hex != "-" and _CLASS.fullmatch(class_hex) is None)
        or len(user) > 64
    ):
        return None
    body = (
        integer_attribute(ACCT_STATUS_TYPE, _STATUS_TYPES[kind])
        + attribute(ACCT_SESSION_ID, session_id.encode())
        + attribute(CALLING_STATION_ID, dashes(phone).encode())
    )
    at_ip = address(ip)
    if at_ip is not None:
        body += framed_ip(at_ip)
    if class_hex != "-":
        body += attribute(CLASS, bytes.fromhex(class_hex))
    if user != "-":
        body += attribute(USER_NAME, user.encode())
    if kind != "start":
        body += (
            integer_attribute(ACCT_SESSION_TIME, int(seconds))
            + integer_attribute(ACCT_INPUT_OCTETS, counters[0] & 0xFFFFFFFF)
            + integer_attribute(ACCT_INPUT_GIGAWORDS, counters[0] >> 32)
            + integer_attribute(ACCT_OUTPUT_OCTETS, counters[1] & 0xFFFFFFFF)
            + integer_attribute(ACCT_OUTPUT_GIGAWORDS, counters[1] >> 32)
        )
    if kind == "stop" and cause in _CAUSES:
        body += integer_attribute(ACCT_TERMINATE_CAUSE, _CAUSES[cause])
    if int(ago):
        body += integer_attribute(ACCT_DELAY_TIME, int(ago))
    return body


def limit_words(limits: Limits) -> tuple[str, ...]:
    """SECONDS OCTETS UP_KBPS DOWN_KBPS IDLE_S INTERIM_S, 0 for no limit."""
    numbers = (
        limits.session_timeout_s,
        limits.octets or 0,
        limits.rate_up_kbps or 0,
        limits.rate_down_kbps or 0,
        limits.idle_timeout_s or 0,
        limits.interim_s,
    )
    return tuple(str(number) for number in numbers)


def _octets(text: str) -> int | None:
    found = _COUNTER.fullmatch(text)
    if found is None:
        return None
    octets = int(found[1]) * (1024 if found[2] else 1)
    return octets if octets >> 32 <= 0xFFFFFFFF else None


def address(text: str) -> str | None:
    """An IPv4 address, None for anything else."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return None


def framed_ip(ip: str) -> bytes:
    """The attribute for an IPv4 address."""
    return attribute(FRAMED_IP_ADDRESS, ipaddress.IPv4Address(ip).packed)


def dashes(mac: str) -> str:
    """As most gateways write a MAC in Calling-Station-Id (RFC 3580 3.21)."""
    return "-".join(mac[at : at + 2] for at in range(0, 12, 2)).upper()


def colons(mac: str) -> str:
    """As openNDS writes a MAC."""
    return ":".join(mac[at : at + 2] for at in range(0, len(mac), 2))
