"""Gateway families: what each make of gateway says, in words the rest of the program understands.

One family is one file here, found by being here: `family("coova")` is the module
`radius.nas.coova`, which keeps to the `Family` protocol. A family reads its gateway's redirect into
an `Arrival`, builds the hand-off that logs the phone in, turns `Limits` into reply attributes,
knows the quirks of its accounting, and lists the attributes that name a session in a
Disconnect-Request.

What holds for all of them:

* Everything in a redirect is typed by whoever holds the phone. A family gives back validated text
  (addresses, numbers, lengths), never trusted text; only `is_signed` says that a gateway wrote it.
* A phone is only ever sent to a literal private address (RFC 1918, RFC 4193), so that a crafted
  redirect cannot carry a one-time password to a stranger's host.
* A limit of 0 means "no limit" at every gateway we know, so `Limits` refuses it: what is used up is
  an Access-Reject.
"""

import functools
import hashlib
import hmac
import importlib
import ipaddress
import pkgutil
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import quote

from radius.packet import (
    ACCT_INTERIM_INTERVAL,
    ACCT_SESSION_ID,
    IDLE_TIMEOUT,
    SESSION_TIMEOUT,
    USER_NAME,
    VENDOR_SPECIFIC,
    Packet,
    integer_attribute,
)

MIN_INTERIM_S = 60
WISPR = 14122
WISPR_BANDWIDTH_MAX_UP = 7
WISPR_BANDWIDTH_MAX_DOWN = 8

SERVICE_TYPE_FRAMED = 2
SERVICE_TYPE_ADMINISTRATIVE = 6

MAX_UINT32 = 2**32 - 1
_MAX_UINT64 = 2**64 - 1
_MAX_TEXT = 253
_MAX_URL = 2000
_PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_pack_two_integers = struct.Struct("!BBIBBI").pack
_MAC_SEPARATORS = str.maketrans("", "", ":-. ")
_MAC_DIGITS = re.compile("[0-9A-Fa-f]{12}")
_MD = re.compile("[0-9A-Fa-f]{32}")


class ArrivalError(ValueError):
    """A redirect that must not be followed, or a hand-off that cannot be built.

    The text says what is wrong, the value seen and what was expected. It may repeat what the phone
    sent, so a page shows it only escaped.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may use, as the gateway is told. A field that is None is not limited.

    `octets` counts both directions; rates are k bit/s (10^3), down is towards the phone. Raises
    ValueError for a limit below 1 or beyond what RADIUS can carry.
    """

    session_timeout_s: int
    interim_s: int
    idle_timeout_s: int | None
    octets: int | None
    rate_down_kbps: int | None
    rate_up_kbps: int | None

    def __post_init__(self) -> None:
        # One is made for every login, so the usual case is one expression.
        if not (
            1 <= self.session_timeout_s <= MAX_UINT32
            and 1 <= self.interim_s <= MAX_UINT32
            and (self.idle_timeout_s is None or 1 <= self.idle_timeout_s <= MAX_UINT32)
            and (self.octets is None or 1 <= self.octets <= _MAX_UINT64)
            and (self.rate_down_kbps is None or 1 <= self.rate_down_kbps <= MAX_UINT32)
            and (self.rate_up_kbps is None or 1 <= self.rate_up_kbps <= MAX_UINT32)
        ):
            raise ValueError(
                f"{self}, expected each to be at least 1 (0 means no limit to a gateway) and at"
                f" most {MAX_UINT32}, octets {_MAX_UINT64}"
            )


@dataclass(frozen=True, slots=True)
class Arrival:
    """A phone that a gateway's redirect sent to us; see the module's note on trust."""

    family: str
    state: str
    """`notyet` (may log in), `success` (just logged in), `failed` (see reason), `already` (online),
    `logoff`.
    """
    mac: str | None
    """12 lower-case hex digits."""
    ip: str | None
    nas_id: str | None
    login_base: str
    """Where the gateway takes the hand-off: `http://10.1.0.1:3990` (coova),
    `http://10.5.50.1/login` (mikrotik).
    """
    challenge: bytes | None
    """What the gateway wants to see again in the hand-off: sixteen octets, openNDS's `hid` 32.
    None: the gateway gave none, or uses none.
    """
    session_id: str | None
    """The Acct-Session-Id of the coming or running session."""
    reply: str | None
    """The Reply-Message of our own RADIUS answer, as the gateway passed it on."""
    reason: str | None
    """Why it failed: `reject`, `timeout` (RADIUS did not answer the gateway), `limit` (the
    gateway's own), `other`.
    """
    return_url: str | None
    """What the phone had asked for. Most often a probe of its operating system: never followed."""
    seconds_left: int | None
    user_name: str | None = None
    """The User-Name of a session that is or was running."""


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What names a running session, as the gateway has it: the texts it sent, unchanged.

    If an Access-Accept gave the session another User-Name, that one.
    """

    user_name: str
    acct_session_id: str
    framed_ip: str | None
    mac: str | None
    nas_id: str | None
    nas_ip: str | None


class Family(Protocol):
    """What a module in this package has."""

    LABEL: str
    """The make's name for people."""
    DISCONNECT_PORT: int
    """UDP port on which it takes Disconnect-Requests, as our configuration sets it; 0 where
    `USES_RADIUS` is False.
    """
    DISCONNECT_AT_ACCOUNTING_PORT: bool
    """It may also take them at the port its accounting comes from, through NAT too."""
    CAN_DISCONNECT: bool
    SIGNS_DISCONNECT: bool
    """A Disconnect-Request to it carries Message-Authenticator (RFC 5176 3.4 leaves it open)."""
    STAMPS_DISCONNECT: bool
    """A Disconnect-Request to it carries Event-Timestamp (RFC 5176 6.3)."""
    LIMITS_DATA: bool
    """It enforces `Limits.octets` itself. Where it does not but has `SENDS_OCTETS`, a data quota is
    cut by Disconnect once accounting says that it is used up.
    """
    SENDS_OCTETS: bool
    """Its accounting has octets. A profile with a data quota cannot be kept without."""
    USES_RADIUS: bool
    """It speaks RADIUS itself; False: a program of ours beside it speaks for it."""
    COA: str
    """`limits`: a CoA-Request changes limits of a running session; `none`: it takes none."""
    COA_CHANGES: frozenset[str]
    """Which limits a CoA-Request changes there: of `time`, `data`, `rate`."""
    SIGNS_ARRIVALS: bool
    """With a UAM secret its redirects are signed, so that what others say of it is not believed."""

    def read_arrival(
        self, query: Mapping[str, str], *, allow_loopback: bool = False
    ) -> Arrival | None:
        """The redirect with these decoded query parameters; None if it is not this family's.

        `allow_loopback` is for a gateway we know at a loopback address. Raises `ArrivalError`.
        """
        ...

    def is_signed(self, urls: Sequence[str], raw_query: str, secret: str) -> bool:
        """True if the gateway that shares `secret` wrote this redirect.

        `raw_query` is the text after `?` as received, nothing decoded; `urls` are the texts before
        `?` that the gateway may have used: the portal's configured address, and the address as
        received.
        """
        ...

    def hand_off_url(
        self,
        arrival: Arrival,
        user_name: str,
        password: str,
        uam_secret: str | None,
        return_url: str,
    ) -> str:
        """The gateway's address that logs this phone in; the browser goes there by GET.

        After a login the gateway sends the phone to `return_url`, or back to the portal. Raises
        `ArrivalError` if the arrival lacks what the gateway needs: send the phone to
        `login_start_url` for a fresh one.
        """
        ...

    def login_start_url(self, login_base: str, return_url: str | None) -> str | None:
        """Where a phone gets redirected to the portal anew; `return_url` comes back in that
        arrival's `return_url`.
        """
        ...

    def logoff_url(self, login_base: str) -> str | None:
        """Where a phone ends its own session."""
        ...

    def status_url(self, login_base: str) -> str | None:
        """Where the gateway tells a phone the state of its session."""
        ...

    def form_action(self, arrival: Arrival) -> str:
        """The origin of the hand-off, for the `form-action` of a Content-Security-Policy."""
        ...

    def accept_attributes(self, limits: Limits) -> bytes:
        """The encoded attributes of an Access-Accept with these limits."""
        ...

    def is_swapped(self, packet: Packet) -> bool:
        """True if this accounting packet calls upload Output and download Input, against RFC 2866
        5.3.
        """
        ...

    def is_administrative(self, packet: Packet) -> bool:
        """True for the gateway's session about itself, which is nobody's usage."""
        ...

    def is_mac_login(self, packet: Packet, user_name: str) -> bool:
        """True if this Access-Request asks whether a phone may come back by its MAC alone."""
        ...

    def disconnect_attributes(self, keys: SessionKeys) -> list[tuple[int, bytes]]:
        """Type and value of the attributes that name this session in a Disconnect-Request."""
        ...

    def coa_attributes(self, keys: SessionKeys, limits: Limits) -> list[tuple[int, bytes]]:
        """Type and value of the attributes of a CoA-Request that gives this session new limits.

        `limits` count from the session's beginning, as those of an Access-Accept do, and replace
        them all; what is not in `COA_CHANGES` stays as it was. Empty where `COA` is `none`.
        """
        ...

    def accounting_response_attributes(self, limits: Limits) -> bytes:
        """The encoded attributes of an Accounting-Response that give its session new limits,
        counted from the session's beginning; b"" where the family honours none.
        """
        ...


@functools.cache
def family_names() -> tuple[str, ...]:
    """The families there are, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@functools.cache
def family(name: str) -> Family:
    """The family of this name. Raises ValueError if there is none."""
    if name not in family_names():
        raise ValueError(
            f"unknown gateway family {name!r}, expected one of {', '.join(family_names())}"
        )
    return cast(Family, importlib.import_module(f"{__name__}.{name}"))


def read_arrival(query: Mapping[str, str], *, allow_loopback: bool = False) -> Arrival | None:
    """The redirect with these decoded query parameters, whatever its family; None if it is no
    arrival.

    Raises `ArrivalError`.
    """
    for name in family_names():
        arrival = family(name).read_arrival(query, allow_loopback=allow_loopback)
        if arrival is not None:
            return arrival
    return None


def canonical_mac(text: str | None) -> str | None:
    """A MAC address as 12 lower-case hex digits; None if it is not one.

    Takes `AA-BB-CC-DD-EE-FF`, `aa:bb:cc:dd:ee:ff`, `aabb.ccdd.eeff` and bare digits.
    """
    if text is None or len(text) > 17:
        return None
    digits = text.translate(_MAC_SEPARATORS)
    if _MAC_DIGITS.fullmatch(digits) is None:
        return None
    return digits.lower()


# For the families


def private_host(name: str, text: str, allow_loopback: bool) -> str:
    """A literal private address as it stands in a URL (IPv6 in brackets).

    `name` is the parameter, for the message. Raises `ArrivalError` for a host name, a public
    address, and a loopback address unless `allow_loopback`.
    """
    wanted = "a private or loopback" if allow_loopback else "a private"
    error = ArrivalError(f"{name} is {text[:80]!r}, expected {wanted} IP address")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise error from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise error
    if not any(address in network for network in _PRIVATE_NETWORKS) and not (
        allow_loopback and address.is_loopback
    ):
        raise error
    return f"[{address}]" if address.version == 6 else str(address)


def port_number(name: str, text: str) -> int:
    """A TCP port from decimal text. Raises `ArrivalError` outside 1..65535."""
    port = whole_number(text)
    if port is None or not 1 <= port <= 65535:
        raise ArrivalError(f"{name} is {text[:80]!r}, expected a port from 1 to 65535")
    return port


def whole_number(text: str | None) -> int | None:
    """A number of up to ten ASCII digits; None for anything else."""
    if text is None or not 1 <= len(text) <= 10 or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def literal_address(text: str | None) -> str | None:
    """An IP address in its usual form; None for anything else."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def short_text(text: str | None) -> str | None:
    """Text from a redirect without control characters, cut at 253 characters; None if nothing is
    left.
    """
    return _printable(text, _MAX_TEXT)


def url_text(text: str | None) -> str | None:
    """An address from a redirect without control characters, cut at 2,000 characters; None if
    nothing is left.
    """
    return _printable(text, _MAX_URL)


def _printable(text: str | None, most: int) -> str | None:
    if not text:
        return None
    return "".join(char for char in text[:most] if char.isprintable()).strip() or None


def query_text(fields: Mapping[str, str]) -> str:
    """A URL query. Everything is %-encoded: CoovaChilli does not read `+` as a space."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def is_uam_signed(urls: Sequence[str], texts: Sequence[str], md: str, secret: str) -> bool:
    """True if `md` is the MD5, in hex, of one of `urls`, `?`, one of `texts`, and the UAM secret.

    `texts` are the spellings of the query before `&md=` that the gateway may have signed (source:
    CoovaChilli redir.c, re-computed for observed redirects; uspot uam.c). A browser adds the `/` of
    a missing path before it comes here, so an address is tried with and without it.
    """
    if not secret or _MD.fullmatch(md) is None:
        return False
    claimed = md.upper()
    is_fitting = False
    for base in _spellings(urls):
        for query in texts:
            text = f"{base}?{query}{secret}".encode("utf-8", "surrogateescape")
            digest = hashlib.md5(text, usedforsecurity=False).hexdigest().upper()
            is_fitting |= hmac.compare_digest(digest, claimed)
    return is_fitting


def _spellings(urls: Sequence[str]) -> list[str]:
    bases = []
    for url in urls:
        base = url.partition("?")[0]
        bases.append(base)
        # Not parsed as an address: the host is whatever a phone wrote into its request.
        _, slash, path = base.partition("://")[2].partition("/")
        if not slash:
            bases.append(base + "/")
        elif not path:
            bases.append(base[:-1])
    return bases


def timing_attributes(limits: Limits, *, no_idle_timeout_s: int | None = None) -> bytes:
    """Session-Timeout, Acct-Interim-Interval and, if limited, Idle-Timeout (RFC 2865 5.27, 5.28,
    RFC 2869 5.16).

    The interim interval is at least 60 s: RFC 2869 2.1 forbids less, and CoovaChilli 1.9 then uses
    its own default. `no_idle_timeout_s` is sent where idleness is not limited, to a gateway that
    takes a limit of its own if it is told none.
    """
    encoded = _pack_two_integers(
        *(SESSION_TIMEOUT, 6, limits.session_timeout_s),
        *(ACCT_INTERIM_INTERVAL, 6, max(MIN_INTERIM_S, limits.interim_s)),
    )
    idle_timeout_s = limits.idle_timeout_s
    if idle_timeout_s is None:
        idle_timeout_s = no_idle_timeout_s
    if idle_timeout_s is not None:
        encoded += integer_attribute(IDLE_TIMEOUT, idle_timeout_s)
    return encoded


def bandwidth_attributes(limits: Limits) -> bytes:
    """WISPr-Bandwidth-Max-Up and -Down in bit/s (Wi-Fi Alliance WISPr 1.0), at most 4.29 Gbit/s."""
    encoded = b""
    for kind, rate_kbps in (
        (WISPR_BANDWIDTH_MAX_UP, limits.rate_up_kbps),
        (WISPR_BANDWIDTH_MAX_DOWN, limits.rate_down_kbps),
    ):
        if rate_kbps is not None:
            encoded += vendor_integer(WISPR, kind, min(rate_kbps * 1000, MAX_UINT32))
    return encoded


def attribute_list(encoded: bytes) -> list[tuple[int, bytes]]:
    """Type and value of each of these well-formed attributes."""
    found = []
    at = 0
    while at < len(encoded):
        end = at + encoded[at + 1]
        found.append((encoded[at], encoded[at + 2 : end]))
        at = end
    return found


def name_and_session_id(keys: SessionKeys) -> list[tuple[int, bytes]]:
    """User-Name and Acct-Session-Id, which RFC 5176 3 wants in every request."""
    return [
        (USER_NAME, keys.user_name.encode()),
        (ACCT_SESSION_ID, keys.acct_session_id.encode()),
    ]


def vendor_integer(vendor: int, kind: int, value: int) -> bytes:
    """One Vendor-Specific attribute with an unsigned 32-bit number (RFC 2865 5.26)."""
    return _pack_two_integers(VENDOR_SPECIFIC, 12, vendor, kind, 6, value)
