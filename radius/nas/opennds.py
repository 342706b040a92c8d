"""openNDS 9 to 11 (OpenWrt, Debian): a FAS redirect, and no RADIUS at all.

A program of ours on the gateway asks, reports and is asked over HTTP; the node turns that into the
packets that `accept_attributes` and the rest of this file are about. Written after the source of
openNDS 9.10 to 11 and after 9.10.0 on the wire; docs/gateways.md has the account.

* Read is FAS level 1 (and 4, which looks the same): `fas` is Base64 of `name=value` pairs. It is
  not signed, so who holds the phone may write anything there. Only `hid` is the gateway's: the hash
  of a token that it keeps for this phone.
* Level 0 shows the token itself, levels 2 and 3 encrypt; both are refused, our configuration sets
  level 1.
* The hand-off leads to the portal itself, which tells our program at the gateway to let this phone
  in. The way by `/opennds_auth/` and a BinAuth script is not taken: in 9.10 a script that fails, or
  a busy `ndsctl`, lets the phone in with no limits (http_microhttpd.c, do_binauth; observed). The
  faskey, the gateway's UAM secret here, is never used; it is there so that nobody knows it.
* That an arrival is true is known by `hid` too: our program says which phone has which.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote, urlsplit

from radius.nas import (
    WISPR,
    WISPR_BANDWIDTH_MAX_DOWN,
    WISPR_BANDWIDTH_MAX_UP,
    Arrival,
    ArrivalError,
    Limits,
    SessionKeys,
    bandwidth_attributes,
    canonical_mac,
    literal_address,
    name_and_session_id,
    port_number,
    private_host,
    query_text,
    short_text,
    timing_attributes,
    url_text,
    vendor_integer,
)
from radius.packet import (
    ACCT_INTERIM_INTERVAL,
    CALLING_STATION_ID,
    IDLE_TIMEOUT,
    SERVICE_TYPE,
    SESSION_TIMEOUT,
    Packet,
)

FAMILY = "opennds"
LABEL = "openNDS"
# There is no such port: our program at the gateway asks what it should end.
DISCONNECT_PORT = 0
DISCONNECT_AT_ACCOUNTING_PORT = False
CAN_DISCONNECT = True
SIGNS_DISCONNECT = False
STAMPS_DISCONNECT = False
# openNDS limits each direction by itself; our program adds them up.
LIMITS_DATA = True
SENDS_OCTETS = True
USES_RADIUS = False
COA = "none"
COA_CHANGES: frozenset[str] = frozenset()
# By `hid`, which our program at the gateway vouches for; see `is_signed`.
SIGNS_ARRIVALS = True

ENTER_PATH = "/gateway/opennds/enter"
"""Where the portal takes the hand-off."""

SERVICE_TYPE_CALL_CHECK = 10
COOVACHILLI = 14559
MAX_TOTAL_OCTETS = 3
MAX_TOTAL_GIGAWORDS = 23

# QUERYMAXLEN of openNDS is 8192; ours is a fraction of that.
_MAX_FAS = 4096
_HID = re.compile("[0-9a-f]{64}")
_SERIAL_SUFFIX = re.compile(r"\s*Node:[0-9a-fA-F:]{12,17}\s*$")
_REASONS = frozenset(("reject", "timeout"))


def read_arrival(query: Mapping[str, str], *, allow_loopback: bool = False) -> Arrival | None:
    """A FAS redirect of level 1 or 4, known by `fas`; see `radius.nas.Family`.

    `res=failed` with a `reason` is added by the portal itself, when the gateway did not let the
    phone in. Raises `ArrivalError` for the other levels and for text that is not such a redirect.
    """
    fas = query.get("fas")
    if not fas:
        if "authaction" in query and "tok" in query:
            raise ArrivalError("openNDS has fas_secure_enabled 0, expected 1")
        return None
    if "iv" in query:
        raise ArrivalError("openNDS has fas_secure_enabled 2 or 3, expected 1")
    fields = _read_fas(fas)
    if "hid" not in fields or "gatewayaddress" not in fields:
        raise ArrivalError("fas has no hid and gatewayaddress, expected a redirect of openNDS")
    hid = fields["hid"]
    if _HID.fullmatch(hid) is None:
        raise ArrivalError(f"hid is {hid[:80]!r}, expected 64 hexadecimal digits")
    login_base = _read_address(fields["gatewayaddress"], allow_loopback)
    name = _SERIAL_SUFFIX.sub("", unquote(fields.get("gatewayname", "")))
    state, reason = "notyet", None
    if query.get("status") == "authenticated":
        state = "already"
    elif query.get("res") == "failed":
        stated = query.get("reason", "")
        state, reason = "failed", stated if stated in _REASONS else "other"
    return Arrival(
        family=FAMILY,
        state=state,
        mac=canonical_mac(fields.get("clientmac")),
        ip=literal_address(fields.get("clientip")),
        nas_id=short_text(name),
        login_base=login_base,
        challenge=bytes.fromhex(hid),
        session_id=None,
        reply=None,
        reason=reason,
        return_url=_read_origin_url(unquote(fields.get("originurl", "")), login_base),
        seconds_left=None,
    )


def _read_fas(fas: str) -> dict[str, str]:
    """The first value of each name. A `+` of Base64 arrives as a space."""
    try:
        if len(fas) > _MAX_FAS:
            raise ValueError
        text = base64.b64decode(fas.replace(" ", "+"), validate=True).decode()
    except (ValueError, binascii.Error, UnicodeDecodeError):
        raise ArrivalError(
            f"fas is {fas[:40]!r}, expected Base64 of at most {_MAX_FAS} characters"
        ) from None
    fields: dict[str, str] = {}
    for piece in text.split(", "):
        name, separator, value = piece.partition("=")
        if separator and value != "(null)":
            fields.setdefault(name, value)
    return fields


def _read_address(text: str, allow_loopback: bool) -> str:
    host, separator, port = text.rpartition(":")
    if not separator:
        raise ArrivalError(f"gatewayaddress is {text[:80]!r}, expected ADDRESS:PORT")
    name = "gatewayaddress"
    return f"http://{private_host(name, host, allow_loopback)}:{port_number(name, port)}"


def _read_origin_url(text: str, login_base: str) -> str | None:
    """What the phone had asked for; what `login_start_url` was given, if that brought it here.

    9.10 decodes the query and drops the path: `http://GATEWAY/?userurl=http://...?a=b&c=d`.
    """
    for start in (f"{login_base}/?userurl=", f"{login_base}/login?userurl="):
        if text.startswith(start):
            text = text.removeprefix(start)
    return url_text(text)


def write_fas(hid: str, mac: str | None, nas_id: str | None, login_base: str) -> str:
    """The `fas` of a redirect, as far as `read_arrival` needs it: for the portal, which sends a
    phone that was not let in to itself. Raises `ArrivalError` for a hid that is none.
    """
    if _HID.fullmatch(hid) is None:
        raise ArrivalError(f"hid is {hid[:80]!r}, expected 64 hexadecimal digits")
    mac = mac or ""
    fields = {
        "hid": hid,
        "clientmac": ":".join(mac[at : at + 2] for at in range(0, len(mac), 2)),
        "gatewayname": quote(nas_id or "", safe=""),
        "gatewayaddress": login_base.removeprefix("http://"),
    }
    text = ", ".join(f"{name}={value}" for name, value in fields.items() if value)
    return base64.b64encode(text.encode()).decode()


def is_signed(urls: Sequence[str], raw_query: str, secret: str) -> bool:
    """False: nothing ties the text to the faskey. The portal asks our program at the gateway
    whether the phone with this MAC has this `hid`.
    """
    return False


def hand_off_url(
    arrival: Arrival,
    user_name: str,
    password: str,
    uam_secret: str | None,
    return_url: str,
) -> str:
    """The portal's own `ENTER_PATH`, under the origin of `return_url`; see `radius.nas.Family`.

    Raises `ArrivalError` without a hid or a `return_url`.
    """
    if arrival.challenge is None:
        raise ArrivalError(f"the arrival in state {arrival.state!r} has no hid")
    parts = urlsplit(return_url)
    if not parts.netloc:
        raise ArrivalError("the hand-off needs the address of the portal to return to")
    fields = {
        "hid": arrival.challenge.hex(),
        "user": user_name,
        "password": password,
        "next": return_url,
    }
    return f"{parts.scheme}://{parts.netloc}{ENTER_PATH}?{query_text(fields)}"


def login_start_url(login_base: str, return_url: str | None) -> str | None:
    """`/login`, made for RFC 8910: the one address of its own from which openNDS 9.10 redirects to
    the portal (observed: `/` and any other path answer 511 or 404).
    """
    start = f"{login_base}/login"
    return f"{start}?{query_text({'userurl': return_url})}" if return_url else start


def logoff_url(login_base: str) -> str | None:
    """None: `/opennds_deny/` ends the session, but leaves the phone at an error page of openNDS
    (511, observed). The portal ends the session through our program.
    """
    return None


def status_url(login_base: str) -> str | None:
    """None: its status page is for people, and tells the portal nothing."""
    return None


def form_action(arrival: Arrival) -> str:
    """The gateway's origin, though the hand-off itself stays at the portal."""
    return arrival.login_base


def accept_attributes(limits: Limits) -> bytes:
    """What `limits_of` reads again: timing, CoovaChilli-Max-Total-Octets with -Gigawords, WISPr
    bandwidth.
    """
    encoded = timing_attributes(limits) + bandwidth_attributes(limits)
    if limits.octets is not None:
        high, low = divmod(limits.octets, 2**32)
        encoded += vendor_integer(COOVACHILLI, MAX_TOTAL_OCTETS, low)
        encoded += vendor_integer(COOVACHILLI, MAX_TOTAL_GIGAWORDS, high)
    return encoded


def limits_of(packet: Packet) -> Limits:
    """The limits of an Access-Accept that this family's `accept_attributes` wrote.

    Raises ValueError if Session-Timeout or Acct-Interim-Interval is missing.
    """
    session_timeout_s = packet.integer(SESSION_TIMEOUT)
    interim_s = packet.integer(ACCT_INTERIM_INTERVAL)
    if session_timeout_s is None or interim_s is None:
        raise ValueError("an Access-Accept without Session-Timeout and Acct-Interim-Interval")
    low = _vendor_number(packet, COOVACHILLI, MAX_TOTAL_OCTETS)
    high = _vendor_number(packet, COOVACHILLI, MAX_TOTAL_GIGAWORDS)
    down_bps = _vendor_number(packet, WISPR, WISPR_BANDWIDTH_MAX_DOWN)
    up_bps = _vendor_number(packet, WISPR, WISPR_BANDWIDTH_MAX_UP)
    return Limits(
        session_timeout_s=session_timeout_s,
        interim_s=interim_s,
        idle_timeout_s=packet.integer(IDLE_TIMEOUT),
        octets=None if low is None else low + ((high or 0) << 32),
        rate_down_kbps=None if down_bps is None else max(1, down_bps // 1000),
        rate_up_kbps=None if up_bps is None else max(1, up_bps // 1000),
    )


def _vendor_number(packet: Packet, vendor: int, kind: int) -> int | None:
    value = packet.vendor(vendor, kind)
    return None if value is None or len(value) != 4 else int.from_bytes(value, "big")


def is_swapped(packet: Packet) -> bool:
    """False: our program says what came from the phone and what went to it."""
    return False


def is_administrative(packet: Packet) -> bool:
    """False: there is no session about the gateway itself."""
    return False


def is_mac_login(packet: Packet, user_name: str) -> bool:
    """True for Service-Type Call-Check and the phone's own MAC as User-Name: our program asks
    whether a phone may come back.
    """
    if packet.integer(SERVICE_TYPE) != SERVICE_TYPE_CALL_CHECK:
        return False
    mac = canonical_mac(user_name)
    return mac is not None and mac == canonical_mac(packet.text(CALLING_STATION_ID))


def disconnect_attributes(keys: SessionKeys) -> list[tuple[int, bytes]]:
    """User-Name and Acct-Session-Id, for whoever takes it to the gateway."""
    return name_and_session_id(keys)


def coa_attributes(keys: SessionKeys, limits: Limits) -> list[tuple[int, bytes]]:
    """None: `COA` says so."""
    return []


def accounting_response_attributes(limits: Limits) -> bytes:
    """None: our program asks for what it needs."""
    return b""
