"""Dialects: how each family's gateways really write their packets, for the dialect suite.

A `Dialect` is one make with its habits; the lists of attributes are those of a CoovaChilli 1.9 on
the wire, of MikroTik's documentation, of uspot's source and of what an openNDS says through the
program beside it. `generic` is an access point's controller that knows the RFCs and no more. Knows
no socket, no clock and no case.
"""

import hashlib
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from portal.practice.uam import uam_key, uam_quote
from radius.packet import (
    ACCT_DELAY_TIME,
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_INTERIM_INTERVAL,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLED_STATION_ID,
    CALLING_STATION_ID,
    CLASS,
    COA_REQUEST,
    EVENT_TIMESTAMP,
    FRAMED_IP_ADDRESS,
    IDLE_TIMEOUT,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    NAS_PORT,
    NAS_PORT_ID,
    NAS_PORT_TYPE,
    SERVICE_TYPE,
    SESSION_TIMEOUT,
    USER_NAME,
    VENDOR_SPECIFIC,
    Packet,
)

Attributes = list[tuple[int, bytes]]

START, STOP, INTERIM, ON, OFF = 1, 2, 3, 7, 8
COOVA, WISPR, MIKROTIK = 14559, 14122, 14988
GATEWAY_MAC = "02-11-22-33-44-01"
_WIRELESS = 19
_MAX_OCTETS = 2**32
_PROBE = "http://connectivitycheck.gstatic.com/generate_204"


@dataclass(frozen=True, slots=True)
class Station:
    """A phone behind a gateway."""

    mac: str
    """12 lower-case hex digits."""
    ip: str
    unit: int
    """Counts the phones from 1."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a session has used; upload and download as the phone means them."""

    up_octets: int
    down_octets: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Dialect:
    """One make of gateway and its habits."""

    family: str
    spell_mac: Callable[[str], str]
    spell_session: Callable[[int, int], str]
    """Its Acct-Session-Id for (epoch seconds, count)."""
    login_service: int | None
    """Service-Type of a login through the portal."""
    return_service: int | None
    """Service-Type of a phone that asks whether it may come back."""
    signs: bool
    """Message-Authenticator in an Access-Request."""
    password_octets: int = 128
    """What it can take of a password."""
    swaps: bool = False
    """It calls the download Input."""
    sends_octets: bool = True
    sends_gigawords: bool = True
    class_habit: str = "whole"
    """`whole`, `none`, or `escaped`: with what is not printable as `\\ooo`."""
    announces: bool = True
    """Accounting-On when it starts."""
    stamps: bool = False
    """Event-Timestamp in accounting."""
    delays: bool = False
    """Acct-Delay-Time in accounting."""

    # -- packets ---------------------------------------------------------------------------

    def access(
        self,
        station: Station,
        session_id: str,
        user_name: bytes,
        *,
        place: "Place",
        is_return: bool = False,
    ) -> Attributes:
        """An Access-Request but for the password, which needs the authenticator."""
        attributes: Attributes = []
        if self.family == "coova":
            attributes.append(_vendor(COOVA, 8, b"1.9"))
        attributes.append((USER_NAME, user_name))
        service = self.return_service if is_return else self.login_service
        if service is not None:
            attributes.append((SERVICE_TYPE, _number(service)))
        attributes.append((ACCT_SESSION_ID, session_id.encode()))
        return attributes + self._station(station, place)

    def accounting(
        self,
        status: int,
        station: Station,
        session_id: str,
        user_name: str,
        *,
        place: "Place",
        at: int,
        class_value: bytes | None,
        counters: Counters | None = None,
        cause: int | None = None,
        delay_s: int = 0,
    ) -> Attributes:
        """An Accounting-Request of a session; a Start has no counters, only a Stop has a cause."""
        attributes = self._accounting(at, delay_s)
        attributes.append((USER_NAME, user_name.encode()))
        if counters is not None:
            attributes += self._counters(counters)
        if cause is not None:
            attributes.append((ACCT_TERMINATE_CAUSE, _number(cause)))
        attributes.append((ACCT_STATUS_TYPE, _number(status)))
        attributes.append((ACCT_SESSION_ID, session_id.encode()))
        returned = self.return_class(class_value)
        if returned is not None:
            attributes.append((CLASS, returned))
        return attributes + self._station(station, place)

    def announcement(self, status: int, *, place: "Place", at: int, session_id: str) -> Attributes:
        """Accounting-On or -Off; only uspot gives it an Acct-Session-Id."""
        attributes = self._accounting(at, 0)
        attributes.append((ACCT_STATUS_TYPE, _number(status)))
        if self.family == "uspot":
            attributes.append((ACCT_SESSION_ID, session_id.encode()))
        else:
            attributes.append((CALLING_STATION_ID, b"00-00-00-00-00-00"))
        return [*attributes, *place.attributes()]

    def return_class(self, value: bytes | None) -> bytes | None:
        """The Class it sends back for the one it was given."""
        if value is None or self.class_habit == "none":
            return None
        if self.class_habit == "escaped":
            text = "".join(chr(o) if 32 <= o < 127 else f"\\{o:03o}" for o in value)
            return text.encode()[:253]
        return value

    def _accounting(self, at: int, delay_s: int) -> Attributes:
        attributes: Attributes = []
        if self.family == "coova":
            attributes.append(_vendor(COOVA, 8, b"1.9"))
            attributes.append(_vendor(COOVA, 10, _number(2 if self.swaps else 1)))
        if self.stamps:
            attributes.append((EVENT_TIMESTAMP, _number(at)))
        if self.delays:
            attributes.append((ACCT_DELAY_TIME, _number(delay_s)))
        return attributes

    def _counters(self, counters: Counters) -> Attributes:
        attributes = [(ACCT_SESSION_TIME, _number(counters.seconds))]
        if not self.sends_octets:
            return attributes
        into, out = counters.up_octets, counters.down_octets
        if self.swaps:
            into, out = out, into
        attributes.append((ACCT_INPUT_OCTETS, _number(into % _MAX_OCTETS)))
        attributes.append((ACCT_OUTPUT_OCTETS, _number(out % _MAX_OCTETS)))
        if self.sends_gigawords:
            attributes.append((ACCT_INPUT_GIGAWORDS, _number(into // _MAX_OCTETS)))
            attributes.append((ACCT_OUTPUT_GIGAWORDS, _number(out // _MAX_OCTETS)))
        return attributes

    def _station(self, station: Station, place: "Place") -> Attributes:
        attributes: Attributes = [
            (FRAMED_IP_ADDRESS, socket.inet_aton(station.ip)),
            (NAS_PORT_TYPE, _number(_WIRELESS)),
            (NAS_PORT, _number(0 if self.family == "uspot" else station.unit)),
        ]
        if self.family == "coova":
            attributes.append((NAS_PORT_ID, f"{station.unit:08d}".encode()))
        if self.family == "mikrotik":
            attributes.append((NAS_PORT_ID, b"bridge-guest"))
            attributes.append(_vendor(MIKROTIK, 10, socket.inet_aton(station.ip)))
        attributes.append((CALLING_STATION_ID, self.spell_mac(station.mac).encode()))
        return [*attributes, *place.attributes()]


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway as its packets name it."""

    nas_id: str
    nas_ip: str
    called: str = GATEWAY_MAC

    def attributes(self) -> Attributes:
        """What names the gateway."""
        return [
            (CALLED_STATION_ID, self.called.encode()),
            (NAS_IP_ADDRESS, socket.inet_aton(self.nas_ip)),
            (NAS_IDENTIFIER, self.nas_id.encode()),
        ]


def _dashes(mac: str) -> str:
    return "-".join(re.findall("..", mac)).upper()


def _colons(mac: str) -> str:
    return ":".join(re.findall("..", mac))


DIALECTS: dict[str, Dialect] = {
    dialect.family: dialect
    for dialect in (
        Dialect(
            family="coova",
            spell_mac=_dashes,
            spell_session=lambda at, count: f"{at}{count:08x}",
            login_service=1,
            return_service=2,
            signs=True,
            swaps=True,
            stamps=True,
        ),
        Dialect(
            family="generic",
            spell_mac=lambda mac: _colons(mac).replace(":", "-"),
            spell_session=lambda at, count: f"{count:08X}-{at:08X}",
            login_service=None,
            return_service=10,
            signs=False,
            delays=True,
        ),
        Dialect(
            family="mikrotik",
            spell_mac=lambda mac: _colons(mac).upper(),
            spell_session=lambda at, count: f"80a{count:05x}",
            login_service=None,
            return_service=None,
            signs=True,
            announces=False,
            delays=True,
        ),
        Dialect(
            family="opennds",
            spell_mac=_colons,
            spell_session=lambda at, count: f"{at:08x}{count:08x}",
            login_service=None,
            return_service=10,
            signs=True,
            stamps=True,
        ),
        Dialect(
            family="uspot",
            spell_mac=_dashes,
            spell_session=lambda at, count: f"{(at * 2654435761 + count) % 2**64:016x}",
            login_service=None,
            return_service=10,
            signs=False,
            password_octets=16,
            sends_octets=False,
            class_habit="escaped",
            delays=True,
        ),
    )
}


# -- redirects and hand-offs ---------------------------------------------------------------


class HandOffError(Exception):
    """A hand-off this gateway would not take."""


@dataclass(frozen=True, slots=True)
class Door:
    """A gateway's side of the portal: it sends phones there and reads the hand-off."""

    dialect: Dialect
    address: str
    nas_id: str
    uam_secret: str
    portal_url: str
    """With the slash, as the gateway was configured."""

    def challenge(self, station: Station) -> bytes:
        """Sixteen octets; at uspot the same for a phone for ever."""
        mac = self.dialect.spell_mac(station.mac)
        return hashlib.md5(f"tantangan {self.nas_id} {mac}".encode()).digest()

    def redirect(
        self,
        station: Station,
        session_id: str,
        state: str = "notyet",
        *,
        hand_off: str = "",
        reply: str = "",
    ) -> str:
        """Where the phone is sent: the portal's address with this family's parameters.

        `state` is `notyet`, `success` or `failed`; after a `hand_off` it brings back the return
        address that was in it, and with `failed` the Reply-Message, where the make passes it on.
        """
        mac = self.dialect.spell_mac(station.mac)
        probe = self._return_address(hand_off) or _PROBE
        match self.dialect.family:
            case "coova":
                challenge = self.challenge(station).hex()
                reason = "&reason=reject" if state == "failed" else ""
                told = f"&reply={uam_quote(reply)}" if reply else ""
                query = (
                    f"res={state}{reason}&uamip={self.address}&uamport=3990&challenge={challenge}"
                    f"{told}&called={GATEWAY_MAC}&mac={mac}&ip={station.ip}&nasid={self.nas_id}"
                    f"&sessionid={session_id}&userurl={uam_quote(probe)}"
                )
                return self._signed(f"{self.portal_url}?{query}")
            case "uspot":
                challenge = self.challenge(station).hex().upper()
                res = "reject" if state == "failed" else state
                query = (
                    f"res={res}&uamip={self.address}&uamport=3990&challenge={challenge}"
                    f"&mac={mac}&ip={station.ip}&called={GATEWAY_MAC}&nasid={self.nas_id}"
                    f"&ssid=Wifi Desa&sessionid={session_id}&userurl={probe}"
                )
                # The browser cannot send a space.
                return self._signed(f"{self.portal_url}?{query}").replace(" ", "%20")
            case "mikrotik":
                login = uam_quote(f"http://{self.address}/login")
                error = uam_quote(reply or "invalid username or password")
                error = error if state == "failed" else ""
                return (
                    f"{self.portal_url}?mac={uam_quote(mac)}&ip={station.ip}&nas={self.nas_id}"
                    f"&srv=hs-desa&login={login}&orig={uam_quote(probe)}&err={error}"
                )
        raise HandOffError(f"{self.dialect.family} sends nobody to the portal")

    def _return_address(self, hand_off: str) -> str:
        """What the hand-off asks to be brought back, as this make writes it."""
        query = dict(part.partition("=")[::2] for part in urlsplit(hand_off).query.split("&"))
        name = {"coova": "userurl", "uspot": "redir", "mikrotik": "dst"}[self.dialect.family]
        # Decoded once; uspot writes the result unchanged into its next redirect.
        return unquote(query.get(name, ""))

    def _signed(self, url: str) -> str:
        return f"{url}&md={hashlib.md5((url + self.uam_secret).encode()).hexdigest().upper()}"

    def read_hand_off(self, url: str, station: Station) -> tuple[bytes, bytes]:
        """User name and password as this gateway reads them from the hand-off's address, cut where
        it cuts; raises `HandOffError`."""
        parts = urlsplit(url)
        if parts.hostname != self.address:
            raise HandOffError(f"the hand-off goes to {parts.hostname}, expected {self.address}")
        # Percent signs are decoded, a plus stays.
        query = {
            name: unquote(value)
            for name, _, value in (part.partition("=") for part in parts.query.split("&"))
        }
        match self.dialect.family:
            case "coova" | "uspot":
                if parts.path != "/logon":
                    raise HandOffError(f"the path is {parts.path}, expected /logon")
                key = uam_key(self.challenge(station), self.uam_secret)
                hidden = bytes.fromhex(query["password"])[: self.dialect.password_octets]
                plain = bytes(octet ^ key[at % 16] for at, octet in enumerate(hidden))
                if self.dialect.family == "uspot":
                    plain = plain.split(b"\0")[0]
                return query["username"].encode(), plain
            case "mikrotik":
                if parts.path != "/login":
                    raise HandOffError(f"the path is {parts.path}, expected /login")
                return query["username"].encode(), query["password"].encode()
        raise HandOffError(f"{self.dialect.family} takes no hand-off")


# -- limits --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """The limits an Access-Accept told, as this make reads them; None: not told."""

    session_s: int | None
    idle_s: int | None
    interim_s: int | None
    octets: int | None
    down_bps: int | None
    up_bps: int | None


def told(dialect: Dialect, accept: Packet) -> Told:
    """Read an Access-Accept with the eyes of this make, which knows no other vendor's words."""
    octets = down_bps = up_bps = None
    if dialect.family == "mikrotik":
        rate = accept.vendor(MIKROTIK, 8)
        if rate is not None:
            up_bps, down_bps = (_rate(part) for part in rate.decode().split("/"))
        octets = _long(accept, MIKROTIK, 17, 18)
    else:
        up_bps, down_bps = _vendor_number(accept, WISPR, 7), _vendor_number(accept, WISPR, 8)
        if dialect.family in ("coova", "opennds"):
            octets = _long(accept, COOVA, 3, 23)
    return Told(
        accept.integer(SESSION_TIMEOUT),
        accept.integer(IDLE_TIMEOUT),
        accept.integer(ACCT_INTERIM_INTERVAL),
        octets,
        down_bps,
        up_bps,
    )


def _rate(text: str) -> int:
    """`512k` or `2M` in bit/s, as RouterOS reads them."""
    units = {"k": 1000, "M": 1_000_000}
    return int(text.rstrip("kM")) * units.get(text[-1], 1)


def _long(packet: Packet, vendor: int, low: int, high: int) -> int | None:
    below = _vendor_number(packet, vendor, low)
    if below is None:
        return None
    return below + (_vendor_number(packet, vendor, high) or 0) * _MAX_OCTETS


def _vendor_number(packet: Packet, vendor: int, kind: int) -> int | None:
    value = packet.vendor(vendor, kind)
    return None if value is None else int.from_bytes(value, "big")


# -- Disconnect-Request and CoA-Request ----------------------------------------------------


_CHANGES = frozenset((SESSION_TIMEOUT, IDLE_TIMEOUT, ACCT_INTERIM_INTERVAL))
"""What uspot changes; any other attribute must name the session."""


def takes_request(dialect: Dialect, request: Packet, login: Attributes) -> bool | None:
    """Whether this make ends or changes the session that its own `login` (an Access-Request's
    attributes) began: True, False for a NAK, None for no answer at all."""
    said = dict(login)
    named = dict(request.first)
    if request.code == COA_REQUEST:
        if dialect.family in ("generic", "opennds"):
            return None
        named = {kind: value for kind, value in named.items() if kind not in _CHANGES}
    match dialect.family:
        case "coova":
            if USER_NAME not in named:
                return None
            wanted = named.get(ACCT_SESSION_ID, said[ACCT_SESSION_ID])
            return named[USER_NAME] == said[USER_NAME] and wanted == said[ACCT_SESSION_ID]
        case "uspot":
            known = {USER_NAME, NAS_IDENTIFIER, CALLED_STATION_ID, CALLING_STATION_ID}
            known.add(ACCT_SESSION_ID)
            return all(kind in known and said.get(kind) == named[kind] for kind in named)
        case "mikrotik":
            if MESSAGE_AUTHENTICATOR not in named:
                return None
            return (
                all(named.get(kind) == said[kind] for kind in (USER_NAME, FRAMED_IP_ADDRESS))
                and NAS_IP_ADDRESS not in named
            )
    return named.get(ACCT_SESSION_ID) == said[ACCT_SESSION_ID]


# -- octets --------------------------------------------------------------------------------


def _number(value: int) -> bytes:
    return struct.pack("!I", value)


def _vendor(vendor: int, kind: int, value: bytes) -> tuple[int, bytes]:
    return VENDOR_SPECIFIC, struct.pack("!IBB", vendor, kind, len(value) + 2) + value
