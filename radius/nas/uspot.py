"""OpenWrt's uspot: UAM redirects like CoovaChilli's with habits of their own, RFC attributes and
WISPr bandwidth.

Written after the source of uspot (f00b4r0/uspot, 2024 to 2025), not yet tried on hardware;
docs/gateways.md has the account.

* The redirect's `md` is made as CoovaChilli's. uspot writes most values without %-encoding, and the
  browser then encodes some, so the text is tried both ways.
* Its challenge is made of the phone's MAC and never changes. What answers it can be shown again, so
  it must be a one-time password; and it reads no more than 16 octets of a password.
* There are no codes for what went wrong: `res=reject` stands for our Access-Reject and for no
  answer alike, and the Reply-Message is not passed on.
* Accounting has times and no octets, so that a data quota cannot be kept. (Builds of 2025 count
  with the option `counters`; not tried.)
* Class comes back, if at all, with what is not printable written as `\\ooo`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote, urlsplit

from radius.nas import (
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
    whole_number,
)
from radius.packet import CALLING_STATION_ID, SERVICE_TYPE, Packet

LABEL = "OpenWrt uspot"
DISCONNECT_PORT = 3799
# radius-das is a program of its own with its own socket.
DISCONNECT_AT_ACCOUNTING_PORT = False
CAN_DISCONNECT = True
# It refuses a request with either (source: radius-das.c, disconnect_attrid_not_supported).
SIGNS_DISCONNECT = False
STAMPS_DISCONNECT = False
LIMITS_DATA = False
SENDS_OCTETS = False
USES_RADIUS = True
COA = "limits"
# Any other attribute in a CoA-Request is taken for one that names the session, and matches none
# (source: uspot.uc, das_coa_filter_changes).
COA_CHANGES = frozenset(("time",))
SIGNS_ARRIVALS = True

SERVICE_TYPE_CALL_CHECK = 10
# Without Idle-Timeout it takes its own default of 600 s; 0 would end the session at once.
NO_IDLE_TIMEOUT_S = 86_400

_STATES = {"notyet": "notyet", "success": "success", "reject": "failed", "logoff": "logoff"}
_CHALLENGE = re.compile("[0-9A-Fa-f]{32}")
_MAX_USER_NAME_OCTETS = 253
# uam.c reads MIN(length, 16) octets of a hidden password.
_MAX_PASSWORD_OCTETS = 16


def read_arrival(query: Mapping[str, str], *, allow_loopback: bool = False) -> Arrival | None:
    """A UAM redirect, known by `res`, `uamip` and `uamport`; see `radius.nas.Family`.

    A `res` we do not know is a phone that may log in. `uamport` may be missing: uspot leaves it
    empty while its option `uam_port` is not set, and listens on 3990 (source: portal.uc).
    """
    res = query.get("res")
    uamip = query.get("uamip")
    uamport = query.get("uamport")
    if not res or uamip is None or uamport is None:
        return None
    host = private_host("uamip", uamip, allow_loopback)
    port = port_number("uamport", uamport or "3990")
    state = _STATES.get(res, "notyet")
    return Arrival(
        family="uspot",
        state=state,
        mac=canonical_mac(query.get("mac")),
        ip=literal_address(query.get("ip")),
        nas_id=short_text(query.get("nasid")),
        login_base=f"http://{host}:{port}",
        challenge=_read_challenge(query.get("challenge")),
        session_id=short_text(query.get("sessionid")),
        reply=short_text(query.get("reply")),
        reason="reject" if state == "failed" else None,
        return_url=url_text(query.get("userurl")),
        seconds_left=whole_number(query.get("timeleft")),
    )


def _read_challenge(text: str | None) -> bytes | None:
    if not text:
        return None
    if _CHALLENGE.fullmatch(text) is None:
        raise ArrivalError(f"challenge is {text[:80]!r}, expected 32 hexadecimal digits")
    return bytes.fromhex(text)


def is_signed(urls: Sequence[str], raw_query: str, secret: str) -> bool:
    """True if `md` is the last parameter and fits; see `radius.nas.Family`.

    A network name with a space is in the signed text as a space and arrives as `%20`.
    """
    signed, separator, md = raw_query.rpartition("&md=")
    if not separator:
        return False
    plain = unquote(signed, errors="surrogateescape")
    texts = dict.fromkeys((signed, signed.replace("%20", " "), plain))
    return is_uam_signed(urls, list(texts), md, secret)


def hand_off_url(
    arrival: Arrival,
    user_name: str,
    password: str,
    uam_secret: str | None,
    return_url: str,
) -> str:
    """The `/logon` address; see `radius.nas.Family`.

    The password is hidden as CoovaChilli's with a UAM secret, and plain without one (source:
    handler-uam.uc). `return_url` goes as `redir`, which uspot decodes once and writes unchanged
    into the `userurl` of its next redirect, hence encoded twice. Raises `ArrivalError` without a
    challenge and for a name over 253 or a password over 16 octets.
    """
    if arrival.challenge is None:
        raise ArrivalError(
            f"the arrival in state {arrival.state!r} has no challenge, expected 16 octets"
        )
    if not 1 <= len(user_name.encode()) <= _MAX_USER_NAME_OCTETS:
        raise ArrivalError("the user name must have 1 to 253 octets")
    plain = password.encode()
    if len(plain) > _MAX_PASSWORD_OCTETS:
        raise ArrivalError(
            f"the password has {len(plain)} octets, uspot takes {_MAX_PASSWORD_OCTETS}"
        )
    hidden = password
    if uam_secret:
        secret = arrival.challenge + uam_secret.encode()
        key = hashlib.md5(secret, usedforsecurity=False).digest()
        hidden = bytes(a ^ b for a, b in zip(plain.ljust(16, b"\0"), key, strict=True)).hex()
    fields = {"username": user_name, "password": hidden}
    if return_url:
        fields["redir"] = quote(return_url, safe="")
    return f"{arrival.login_base}/logon?{query_text(fields)}"


def login_start_url(login_base: str, return_url: str | None) -> str | None:
    """`/hotspot/` on port 80, where its own probe redirect leads: tries MAC authentication, then
    redirects to the portal with `redir` as `userurl` (source: handler-cpd.uc, portal.uc).
    """
    host = urlsplit(login_base).netloc.rpartition(":")[0]
    start = f"http://{host}/hotspot/"
    if not return_url:
        return start
    return f"{start}?{query_text({'redir': quote(return_url, safe='')})}"


def logoff_url(login_base: str) -> str | None:
    """`/logoff`: ends the session and comes back with `res=logoff`."""
    return f"{login_base}/logoff"


def status_url(login_base: str) -> str | None:
    """None: there is no such page."""
    return None


def form_action(arrival: Arrival) -> str:
    """The origin of `/logon`."""
    return arrival.login_base


def accept_attributes(limits: Limits) -> bytes:
    """Timing and WISPr bandwidth, the latter enforced if OpenWrt's `ratelimit` is installed.

    `limits.octets` has no attribute here: `LIMITS_DATA` is False. Without an idle time a day is
    sent: leaving it out means 600 s there.
    """
    encoded = timing_attributes(limits, no_idle_timeout_s=NO_IDLE_TIMEOUT_S)
    return encoded + bandwidth_attributes(limits)


def is_swapped(packet: Packet) -> bool:
    """False: what octets there are go as RFC 2866 has it, unless its option `swapio` is set."""
    return False


def is_administrative(packet: Packet) -> bool:
    """False: it has no session about itself."""
    return False


def is_mac_login(packet: Packet, user_name: str) -> bool:
    """True for its `mac_auth`: Service-Type Call-Check and the phone's own MAC as User-Name
    (source: uspot.uc, client_auth). A login through the portal has no Service-Type.
    """
    if packet.integer(SERVICE_TYPE) != SERVICE_TYPE_CALL_CHECK:
        return False
    mac = canonical_mac(user_name)
    return mac is not None and mac == canonical_mac(packet.text(CALLING_STATION_ID))


def disconnect_attributes(keys: SessionKeys) -> list[tuple[int, bytes]]:
    """User-Name and Acct-Session-Id, nothing more.

    Every attribute must equal what the login's Access-Request said, an attribute it does not know
    is refused, and NAS-IP-Address is never stored, so it never fits (source: uspot.uc,
    das_match_client).
    """
    return name_and_session_id(keys)


def coa_attributes(keys: SessionKeys, limits: Limits) -> list[tuple[int, bytes]]:
    """User-Name, Acct-Session-Id and timing: Session-Timeout counts from the login, and it changes
    nothing else.
    """
    encoded = timing_attributes(limits, no_idle_timeout_s=NO_IDLE_TIMEOUT_S)
    return name_and_session_id(keys) + attribute_list(encoded)


def accounting_response_attributes(limits: Limits) -> bytes:
    """None: it does not read the answer (source: radius-client.c, rc_acct)."""
    return b""
