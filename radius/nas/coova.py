"""CoovaChilli and other ChilliSpot heirs: UAM redirects, ChilliSpot attributes.

Written after the source of CoovaChilli 1.9 and packets of that version on the wire;
docs/gateways.md has the account.

* The redirect's `md` is the MD5 of its own text and the UAM secret. It has no date, so it can be
  shown again: it proves that the gateway wrote the address, not that this phone brought it.
* The hand-off is a GET of `/logon`. The password is hidden by XOR with MD5(challenge + UAM secret),
  or with the bare challenge when no secret is set. `+` is not decoded to a space there, so
  everything is %-encoded.
* Out of the box its counters are seen from the phone: Input is the download, against RFC 2866. Each
  accounting packet says which way round it is.
* A data limit is checked every 3 s, so a fast phone overshoots; accounting has the true count.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

from radius.nas import (
    MAX_UINT32,
    SERVICE_TYPE_ADMINISTRATIVE,
    SERVICE_TYPE_FRAMED,
    WISPR,
    WISPR_BANDWIDTH_MAX_DOWN,
    WISPR_BANDWIDTH_MAX_UP,
    Arrival,
    ArrivalError,
    Limits,
    SessionKeys,
    attribute_list,
    bandwidth_attributes,
    canonical_mac,
    is_uam_signed,
    literal_address,
    name_and_session_id,
    port_number,
    private_host,
    query_text,
    short_text,
    timing_attributes,
    url_text,
    vendor_integer,
    whole_number,
)
from radius.packet import (
    CALLING_STATION_ID,
    SERVICE_TYPE,
    Packet,
)

LABEL = "CoovaChilli"
DISCONNECT_PORT = 3799
# Accounting leaves from `coaport`, the socket that takes Disconnect-Requests (seen on 1.9).
DISCONNECT_AT_ACCOUNTING_PORT = True
CAN_DISCONNECT = True
# It ignores both (source: chilli.c, coa handler; a Disconnect with Message-Authenticator was
# acknowledged).
SIGNS_DISCONNECT = False
STAMPS_DISCONNECT = False
LIMITS_DATA = True
SENDS_OCTETS = True
USES_RADIUS = True
COA = "limits"
COA_CHANGES = frozenset(("time", "data", "rate"))
SIGNS_ARRIVALS = True

COOVACHILLI = 14559
MAX_TOTAL_OCTETS = 3
ACCT_VIEW_POINT = 10
MAX_TOTAL_GIGAWORDS = 23

_VIEW_POINT_CLIENT = (2).to_bytes(4, "big")
_STATES = frozenset(("notyet", "success", "failed", "already", "logoff"))
_REASONS = frozenset(("reject", "timeout"))
_CHALLENGE = re.compile("[0-9A-Fa-f]{32}")
_MAX_USER_NAME_OCTETS = 253
# RADIUS_PWSIZE in its source: what /logon can hold.
_MAX_PASSWORD_OCTETS = 128


def read_arrival(query: Mapping[str, str], *, allow_loopback: bool = False) -> Arrival | None:
    """A UAM redirect, known by `res`, `uamip` and `uamport`; see `radius.nas.Family`.

    A `res` we do not know (`splash`, `wispr`, ...) is a phone that may log in.
    """
    res = query.get("res")
    uamip = query.get("uamip")
    uamport = query.get("uamport")
    if not res or uamip is None or uamport is None:
        return None
    host = private_host("uamip", uamip, allow_loopback)
    port = port_number("uamport", uamport)
    state = res if res in _STATES else "notyet"
    reason = None
    if state == "failed":
        stated = query.get("reason", "reject")
        reason = stated if stated in _REASONS else "other"
    return Arrival(
        family="coova",
        state=state,
        mac=canonical_mac(query.get("mac")),
        ip=literal_address(query.get("ip")),
        nas_id=short_text(query.get("nasid")),
        login_base=f"http://{host}:{port}",
        challenge=_read_challenge(query.get("challenge")),
        session_id=short_text(query.get("sessionid")),
        reply=short_text(query.get("reply")),
        reason=reason,
        return_url=url_text(query.get("userurl")),
        seconds_left=whole_number(query.get("timeleft")),
        user_name=short_text(query.get("uid")),
    )


def _read_challenge(text: str | None) -> bytes | None:
    if not text:
        return None
    if _CHALLENGE.fullmatch(text) is None:
        raise ArrivalError(f"challenge is {text[:80]!r}, expected 32 hexadecimal digits")
    return bytes.fromhex(text)


def is_signed(urls: Sequence[str], raw_query: str, secret: str) -> bool:
    """True if `md` is the last parameter and fits; see `radius.nas.Family`.

    `md` = MD5(address up to, not including, `&md=`, then the secret), in hex (source: redir.c;
    re-computed for observed redirects). Parameters after `md` are not covered by it, so they make
    the redirect unsigned.
    """
    signed, separator, md = raw_query.rpartition("&md=")
    return bool(separator) and is_uam_signed(urls, [signed], md, secret)


def hand_off_url(
    arrival: Arrival,
    user_name: str,
    password: str,
    uam_secret: str | None,
    return_url: str,
) -> str:
    """The `/logon` address with the password hidden as PAP; see `radius.nas.Family`.

    An empty `return_url` is left out; the phone comes back to the portal with `res=success` in any
    case. Raises `ArrivalError` without a challenge and for a name over 253 or a password over 128
    octets.
    """
    if arrival.challenge is None:
        raise ArrivalError(
            f"the arrival in state {arrival.state!r} has no challenge, expected 16 octets"
        )
    if not 1 <= len(user_name.encode()) <= _MAX_USER_NAME_OCTETS:
        raise ArrivalError("the user name must have 1 to 253 octets")
    fields = {
        "username": user_name,
        "password": _hide_password(password, arrival.challenge, uam_secret or ""),
    }
    if return_url:
        fields["userurl"] = return_url
    return f"{arrival.login_base}/logon?{query_text(fields)}"


def _hide_password(password: str, challenge: bytes, uam_secret: str) -> str:
    plain = password.encode()
    if len(plain) > _MAX_PASSWORD_OCTETS:
        raise ArrivalError(
            f"the password has {len(plain)} octets, CoovaChilli takes {_MAX_PASSWORD_OCTETS}"
        )
    key = challenge
    if uam_secret:
        key = hashlib.md5(challenge + uam_secret.encode(), usedforsecurity=False).digest()
    padded = plain.ljust(max(16, -(-len(plain) // 16) * 16), b"\0")
    return bytes(octet ^ key[at % 16] for at, octet in enumerate(padded)).hex()


def login_start_url(login_base: str, return_url: str | None) -> str | None:
    """`/prelogin`: redirects to the portal with the current challenge and `return_url` as `userurl`
    (redir.c).
    """
    start = f"{login_base}/prelogin"
    return f"{start}?{query_text({'userurl': return_url})}" if return_url else start


def logoff_url(login_base: str) -> str | None:
    """`/logoff`: ends the session and comes back with `res=logoff`."""
    return f"{login_base}/logoff"


def status_url(login_base: str) -> str | None:
    """`/status`: comes back with `res=already` and the time left, or `res=notyet`."""
    return f"{login_base}/status"


def form_action(arrival: Arrival) -> str:
    """The origin of `/logon`."""
    return arrival.login_base


def accept_attributes(limits: Limits) -> bytes:
    """Timing, CoovaChilli-Max-Total-Octets with -Gigawords, WISPr bandwidth; see
    `radius.nas.Family`.

    Both halves of the data limit are always sent: an update that leaves one out sets it to 0. Rates
    go as WISPr bit/s, measured at CoovaChilli 1.9: 512000 gives 563 kbit/s down, 256000 gives 282
    kbit/s up.
    """
    encoded = timing_attributes(limits) + bandwidth_attributes(limits)
    return encoded if limits.octets is None else encoded + _data_limit(limits.octets)


def _data_limit(octets: int) -> bytes:
    high, low = divmod(octets, 2**32)
    return vendor_integer(COOVACHILLI, MAX_TOTAL_OCTETS, low) + vendor_integer(
        COOVACHILLI, MAX_TOTAL_GIGAWORDS, high
    )


def is_swapped(packet: Packet) -> bool:
    """True if CoovaChilli-Acct-View-Point says "client" (2), the default without its option
    `swapoctets`.

    A packet without the attribute is taken as RFC 2866 has it.
    """
    return packet.vendor(COOVACHILLI, ACCT_VIEW_POINT) == _VIEW_POINT_CLIENT


def is_administrative(packet: Packet) -> bool:
    """True for the session of its `adminuser`, whose counters add up those of all phones."""
    return packet.integer(SERVICE_TYPE) == SERVICE_TYPE_ADMINISTRATIVE


def is_mac_login(packet: Packet, user_name: str) -> bool:
    """True for its `macauth`: Service-Type Framed and the phone's own MAC as User-Name.

    A login through the portal has Service-Type Login, so nobody becomes a MAC by typing it there.
    """
    if packet.integer(SERVICE_TYPE) != SERVICE_TYPE_FRAMED:
        return False
    mac = canonical_mac(user_name)
    return mac is not None and mac == canonical_mac(packet.text(CALLING_STATION_ID))


def disconnect_attributes(keys: SessionKeys) -> list[tuple[int, bytes]]:
    """User-Name and Acct-Session-Id.

    Without User-Name it does not answer at all; without Acct-Session-Id it ends every session of
    that name (observed).
    """
    return name_and_session_id(keys)


def coa_attributes(keys: SessionKeys, limits: Limits) -> list[tuple[int, bytes]]:
    """User-Name, Acct-Session-Id and the complete set of limits: what a CoA-Request leaves out
    becomes unlimited (source: chilli.c, config_radius_session without reconfig).

    Session-Timeout and data count from the session's beginning: a limit below what is used cuts at
    the next check (observed).
    """
    return name_and_session_id(keys) + attribute_list(accept_attributes(limits))


def accounting_response_attributes(limits: Limits) -> bytes:
    """Every limit, 0 for none: with its option `acctupdate` it takes over what is there, and keeps
    what is left out (source: chilli.c, config_radius_session with reconfig). Without the option
    they are ignored.
    """
    encoded = timing_attributes(limits, no_idle_timeout_s=0)
    for kind, rate_kbps in (
        (WISPR_BANDWIDTH_MAX_UP, limits.rate_up_kbps),
        (WISPR_BANDWIDTH_MAX_DOWN, limits.rate_down_kbps),
    ):
        encoded += vendor_integer(WISPR, kind, min((rate_kbps or 0) * 1000, MAX_UINT32))
    return encoded + _data_limit(limits.octets or 0)
