"""Any other RADIUS gateway with its own login page: RFC attributes and WISPr bandwidth, nothing
else.

It has no redirect to us and no data limit that we know of. A resident types the code on the
gateway's page, which asks us by PAP; time, idle time and speed are limited, data is only counted.
"""

from collections.abc import Mapping, Sequence

from radius.nas import (
    SERVICE_TYPE_ADMINISTRATIVE,
    Arrival,
    ArrivalError,
    Limits,
    SessionKeys,
    bandwidth_attributes,
    canonical_mac,
    name_and_session_id,
    timing_attributes,
)
from radius.packet import (
    CALLING_STATION_ID,
    SERVICE_TYPE,
    Packet,
)

LABEL = "Other RADIUS gateway"
DISCONNECT_PORT = 3799
# Not known, so both that port and DISCONNECT_PORT are tried.
DISCONNECT_AT_ACCOUNTING_PORT = True
# Asking costs three small packets, and an answer is not believed anyway.
CAN_DISCONNECT = True
SIGNS_DISCONNECT = False
# RFC 5176 6.3: SHOULD be there.
STAMPS_DISCONNECT = True
LIMITS_DATA = False
SENDS_OCTETS = True
USES_RADIUS = True
# Which attributes it takes in a CoA-Request is not known, and an ACK proves nothing.
COA = "none"
COA_CHANGES: frozenset[str] = frozenset()
SIGNS_ARRIVALS = False

_SERVICE_TYPE_NAS_PROMPT = 7
_NO_GUESTS = frozenset((SERVICE_TYPE_ADMINISTRATIVE, _SERVICE_TYPE_NAS_PROMPT))


def read_arrival(query: Mapping[str, str], *, allow_loopback: bool = False) -> Arrival | None:
    """None: it sends nobody here."""
    return None


def is_signed(urls: Sequence[str], raw_query: str, secret: str) -> bool:
    """False: there is no redirect."""
    return False


def hand_off_url(
    arrival: Arrival,
    user_name: str,
    password: str,
    uam_secret: str | None,
    return_url: str,
) -> str:
    """Raises `ArrivalError`: people type their code on the gateway's own page."""
    raise ArrivalError("a generic gateway has no hand-off, its own login page takes the code")


def login_start_url(login_base: str, return_url: str | None) -> str | None:
    """None: not known."""
    return None


def logoff_url(login_base: str) -> str | None:
    """None: not known."""
    return None


def status_url(login_base: str) -> str | None:
    """None: not known."""
    return None


def form_action(arrival: Arrival) -> str:
    """Raises `ArrivalError`: there is no hand-off."""
    raise ArrivalError("a generic gateway has no hand-off, its own login page takes the code")


def accept_attributes(limits: Limits) -> bytes:
    """Timing and WISPr bandwidth. `limits.octets` has no attribute here: `LIMITS_DATA` is False."""
    return timing_attributes(limits) + bandwidth_attributes(limits)


def is_swapped(packet: Packet) -> bool:
    """False: as RFC 2866 has it."""
    return False


def is_administrative(packet: Packet) -> bool:
    """True for Service-Type Administrative or NAS-Prompt: somebody at the gateway's console."""
    return packet.integer(SERVICE_TYPE) in _NO_GUESTS


def is_mac_login(packet: Packet, user_name: str) -> bool:
    """True if User-Name is the phone's own MAC.

    Service-Type is Call-Check, Framed, Login or missing, by make (RFC 3580 3.1 asks for
    Call-Check).
    """
    if packet.integer(SERVICE_TYPE) in _NO_GUESTS:
        return False
    mac = canonical_mac(user_name)
    return mac is not None and mac == canonical_mac(packet.text(CALLING_STATION_ID))


def disconnect_attributes(keys: SessionKeys) -> list[tuple[int, bytes]]:
    """User-Name and Acct-Session-Id, which RFC 5176 3 wants in every request; more can only make a
    match fail.
    """
    return name_and_session_id(keys)


def coa_attributes(keys: SessionKeys, limits: Limits) -> list[tuple[int, bytes]]:
    """None: `COA` says so."""
    return []


def accounting_response_attributes(limits: Limits) -> bytes:
    """None: RFC 2866 5.13 allows no limits in an Accounting-Response."""
    return b""
