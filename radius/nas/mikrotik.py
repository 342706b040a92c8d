"""MikroTik RouterOS HotSpot, versions 6.48 to 7: a login page that forwards to the portal, Mikrotik
attributes.

Written after MikroTik's documentation and reports from the field, not yet tried on hardware;
docs/gateways.md tells the two apart.

* RouterOS has no address of an outside portal. Our `login.html` on the router sends the phone here
  with the parameters `mac ip nas srv login orig err`; the names other sites' pages use for the same
  things are read as well.
* Nothing in the redirect is signed.
* The hand-off is a GET of the router's login page with user name and password in clear
  (`login-by=http-pap`): a one-time password, never the code of a card.
* It tells errors by text only, in English as long as we read `error-orig`.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from radius.nas import (
    Arrival,
    ArrivalError,
    Limits,
    SessionKeys,
    attribute_list,
    canonical_mac,
    literal_address,
    private_host,
    query_text,
    short_text,
    timing_attributes,
    url_text,
    vendor_integer,
)
from radius.packet import (
    ACCT_SESSION_ID,
    CALLING_STATION_ID,
    FRAMED_IP_ADDRESS,
    USER_NAME,
    Packet,
    vendor_attribute,
)

LABEL = "MikroTik HotSpot"
DISCONNECT_PORT = 3799
# A listening socket of its own (`/radius incoming`).
DISCONNECT_AT_ACCOUNTING_PORT = False
CAN_DISCONNECT = True
# RouterOS 7.15 and later drop a Disconnect-Request without it while require-message-auth is on, its
# default (reports from the field); earlier versions ignore it.
SIGNS_DISCONNECT = True
# A router without a battery clock wakes up in 1970, and whether RouterOS checks the window of RFC
# 5176 6.3 is not known.
STAMPS_DISCONNECT = False
LIMITS_DATA = True
SENDS_OCTETS = True
USES_RADIUS = True
COA = "limits"
# Mikrotik-Total-Limit is not in MikroTik's list of what a CoA-Request may change.
COA_CHANGES = frozenset(("time", "rate"))
SIGNS_ARRIVALS = False

MIKROTIK = 14988
RATE_LIMIT = 8
TOTAL_LIMIT = 17
TOTAL_LIMIT_GIGAWORDS = 18

# Mikrotik-Rate-Limit needs both directions; this stands for the one that is not limited.
_UNLIMITED_KBPS = 1_000_000

_MAC = ("mac",)
_IP = ("ip",)
_NAS_ID = ("nas", "identity")
_LOGIN = ("login", "link-login-only", "link-login")
_RETURN_URL = ("orig", "link-orig", "dst")
_ERROR = ("err", "error-orig", "error")

_PATH = re.compile(r"/[A-Za-z0-9/_.~-]*")
# Pieces of the texts in the errors.txt that RouterOS comes with.
_TIMEOUT = ("radius server is not responding",)
_LIMIT = (
    "session limit reached",
    "no more sessions are allowed",
    "uptime limit",
    "traffic limit",
    "transfer limit",
)
_REJECT = (
    "invalid username",
    "invalid user name",
    "invalid password",
    "is not allowed to log in from this mac",
    "not found",
)
_OTHER = (
    "internal error",
    "configuration error",
    "cannot assign ip address",
    "hotspot service is shutting down",
    "already authorizing",
    "web browser did not send challenge response",
    "already logged in",
)
_NOT_LOGGED_IN = "you are not logged in"


def read_arrival(query: Mapping[str, str], *, allow_loopback: bool = False) -> Arrival | None:
    """A redirect by our `login.html` or one like it, known by a MAC and a login address; see
    `radius.nas.Family`.

    `chap-id` and `chap-challenge` are not read: the hand-off is http-pap only.
    """
    login = _first(query, _LOGIN)
    mac = _first(query, _MAC)
    if login is None or mac is None:
        return None
    state, reason, reply = _read_error(short_text(_first(query, _ERROR)))
    return Arrival(
        family="mikrotik",
        state=state,
        mac=canonical_mac(mac),
        ip=literal_address(_first(query, _IP)),
        nas_id=short_text(_first(query, _NAS_ID)),
        login_base=_read_login(login, allow_loopback),
        challenge=None,
        session_id=None,
        reply=reply,
        reason=reason,
        return_url=url_text(_first(query, _RETURN_URL)),
        seconds_left=None,
    )


def _first(query: Mapping[str, str], names: Sequence[str]) -> str | None:
    for name in names:
        value = query.get(name)
        # A variable that the router did not fill in, because it does not know it or because the
        # page was not opened through it.
        if value and not value.startswith("$("):
            return value
    return None


def _read_login(text: str, allow_loopback: bool) -> str:
    """The login page's address without its query, `http://10.5.50.1/login`."""
    seen = f"the login address is {text[:80]!r}"
    if not (text.isascii() and text.isprintable()) or " " in text or "\\" in text:
        raise ArrivalError(f"{seen}, expected an http address without odd characters")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ArrivalError(f"{seen}, expected http://ADDRESS/login") from None
    if parts.scheme not in ("http", "https"):
        raise ArrivalError(f"{seen}, expected http or https")
    if "@" in parts.netloc:
        raise ArrivalError(f"{seen}, expected no user name before the host")
    if port == 0:
        raise ArrivalError(f"{seen}, expected a port from 1 to 65535")
    if _PATH.fullmatch(parts.path) is None:
        raise ArrivalError(f"{seen}, expected a path like /login")
    origin = f"{parts.scheme}://{private_host('the login host', host, allow_loopback)}"
    if port is not None:
        origin += f":{port}"
    return origin + parts.path


def _read_error(text: str | None) -> tuple[str, str | None, str | None]:
    """State, reason and reply for an error text.

    A text that RouterOS does not have is the Reply-Message of our Access-Reject (errors.txt:
    radius-reply).
    """
    if text is None:
        return "notyet", None, None
    lowered = text.lower()
    if _NOT_LOGGED_IN in lowered:
        return "notyet", None, None
    for reason, pieces in (
        ("timeout", _TIMEOUT),
        ("limit", _LIMIT),
        ("other", _OTHER),
        ("reject", _REJECT),
    ):
        if any(piece in lowered for piece in pieces):
            return "failed", reason, None
    return "failed", "reject", text


def is_signed(urls: Sequence[str], raw_query: str, secret: str) -> bool:
    """Never: RouterOS signs nothing."""
    return False


def hand_off_url(
    arrival: Arrival,
    user_name: str,
    password: str,
    uam_secret: str | None,
    return_url: str,
) -> str:
    """The router's login page with `username`, `password` and, if not empty, `dst`; see
    `radius.nas.Family`.
    """
    fields = {"username": user_name, "password": password}
    if return_url:
        fields["dst"] = return_url
    return f"{arrival.login_base}?{query_text(fields)}"


def login_start_url(login_base: str, return_url: str | None) -> str | None:
    """The bare login page, which forwards to the portal; `dst` comes back as `orig`."""
    return f"{login_base}?{query_text({'dst': return_url})}" if return_url else login_base


def logoff_url(login_base: str) -> str | None:
    """The router's `/logout`."""
    return f"{_origin(login_base)}/logout"


def status_url(login_base: str) -> str | None:
    """The router's `/status`."""
    return f"{_origin(login_base)}/status"


def form_action(arrival: Arrival) -> str:
    """The router's origin."""
    return _origin(arrival.login_base)


def _origin(login_base: str) -> str:
    parts = urlsplit(login_base)
    return f"{parts.scheme}://{parts.netloc}"


def accept_attributes(limits: Limits) -> bytes:
    """Timing, Mikrotik-Total-Limit with -Gigawords, Mikrotik-Rate-Limit; see `radius.nas.Family`.

    Mikrotik-Rate-Limit is `rx/tx` as the router sees it: rx is the phone's upload.
    """
    encoded = timing_attributes(limits)
    if limits.rate_up_kbps is not None or limits.rate_down_kbps is not None:
        encoded += _rate_limit(limits)
    if limits.octets is not None:
        high, low = divmod(limits.octets, 2**32)
        if low == 0:
            # A Total-Limit of 0 is reported to mean "no limit", and nobody has said what it means
            # beside Gigawords.
            high, low = high - 1, 2**32 - 1
        encoded += vendor_integer(MIKROTIK, TOTAL_LIMIT, low)
        encoded += vendor_integer(MIKROTIK, TOTAL_LIMIT_GIGAWORDS, high)
    return encoded


def _rate_limit(limits: Limits) -> bytes:
    up = limits.rate_up_kbps or _UNLIMITED_KBPS
    down = limits.rate_down_kbps or _UNLIMITED_KBPS
    return vendor_attribute(MIKROTIK, RATE_LIMIT, f"{up}k/{down}k".encode())


def is_swapped(packet: Packet) -> bool:
    """False: Input is what the router received from the phone.

    MikroTik's page on RADIUS says so and, some lines on, the contrary; a data quota counts both and
    does not mind.
    """
    return False


def is_administrative(packet: Packet) -> bool:
    """False: a HotSpot has no session about itself."""
    return False


def is_mac_login(packet: Packet, user_name: str) -> bool:
    """True for `login-by=mac`: the phone's own MAC as User-Name.

    The password says nothing: with `mac-auth-mode` it is the MAC, empty or missing. RouterOS has no
    Service-Type of its own for it, so typing one's MAC on the router's page looks the same; it
    takes only the phone's own, so nothing is won.
    """
    mac = canonical_mac(user_name)
    return mac is not None and mac == canonical_mac(packet.text(CALLING_STATION_ID))


def disconnect_attributes(keys: SessionKeys) -> list[tuple[int, bytes]]:
    """User-Name, Framed-IP-Address and Acct-Session-Id.

    User-Name alone does not find a HotSpot session, and one that is a MAC may hit the wireless
    registration table instead; the address settles both (reports from the field). NAS-IP-Address
    stays out: a value that differs from the router's own is refused.
    """
    attributes = [(USER_NAME, keys.user_name.encode())]
    address = literal_address(keys.framed_ip)
    if address is not None and "." in address and ":" not in address:
        attributes.append((FRAMED_IP_ADDRESS, bytes(map(int, address.split(".")))))
    attributes.append((ACCT_SESSION_ID, keys.acct_session_id.encode()))
    return attributes


def coa_attributes(keys: SessionKeys, limits: Limits) -> list[tuple[int, bytes]]:
    """What names the session, timing, and Mikrotik-Rate-Limit even if nothing is limited: what a
    CoA-Request leaves out stays as it was.

    The data limit is left out: it is not in MikroTik's list of what can be changed.
    """
    encoded = timing_attributes(limits) + _rate_limit(limits)
    return disconnect_attributes(keys) + attribute_list(encoded)


def accounting_response_attributes(limits: Limits) -> bytes:
    """None: MikroTik's documentation knows of no limits there."""
    return b""
