"""RADIUS from the gateway's side: ask a server over UDP, in the words of CoovaChilli 1.9.

For the practice gateway and for tests. The packets carry the attributes of a real CoovaChilli in
the order it sends them, with the Message-Authenticator last. pyrad is the codec, with an empty
dictionary and raw values: keys are attribute types or (vendor, type), values are octets. Sockets
are plain asyncio. Knows no phone, no portal and no clock.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from pyrad.dictionary import Dictionary
from pyrad.packet import AcctPacket, AuthPacket, CoAPacket, PacketError

from radius.packet import (
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_INPUT_PACKETS,
    ACCT_INTERIM_INTERVAL,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_OUTPUT_PACKETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLED_STATION_ID,
    CALLING_STATION_ID,
    CHAP_CHALLENGE,
    CHAP_PASSWORD,
    CLASS,
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
    USER_PASSWORD,
)

log = logging.getLogger(__name__)

Address = tuple[str, int]

COOVA: Final = 14559
WISPR: Final = 14122
COOVA_VERSION: Final = (COOVA, 8)
COOVA_VIEW_POINT: Final = (COOVA, 10)
COOVA_MAX_TOTAL_OCTETS: Final = (COOVA, 3)
COOVA_MAX_TOTAL_GIGAWORDS: Final = (COOVA, 23)
WISPR_LOCATION_ID: Final = (WISPR, 1)
WISPR_LOCATION_NAME: Final = (WISPR, 2)
WISPR_LOGOFF_URL: Final = (WISPR, 3)
WISPR_RATE_UP: Final = (WISPR, 7)
WISPR_RATE_DOWN: Final = (WISPR, 8)
# Acct-Status-Type, RFC 2866 section 5.1
START, STOP, INTERIM, ACCOUNTING_ON, ACCOUNTING_OFF = 1, 2, 3, 7, 8
# Service-Type, RFC 2865 section 5.6: UAM logins and MAC authentication of CoovaChilli
LOGIN, FRAMED = 1, 2
_WIRELESS: Final = 19  # NAS-Port-Type Wireless-802.11
# CoovaChilli replaces an Acct-Interim-Interval below 60 s by definteriminterval (300 s).
_INTERIM_LEAST_S: Final = 60
_INTERIM_DEFAULT_S: Final = 300
_NO_STATION: Final = "00-00-00-00-00-00"  # Calling-Station-Id of Accounting-On and -Off
_OCTETS_A_PACKET: Final = 1400  # only for Acct-Input-Packets and Acct-Output-Packets
_NO_NAMES: Final = Dictionary()


@dataclass(frozen=True, slots=True)
class Station:
    """A phone in RADIUS words: the MAC in upper case with dashes, the address, its unit number."""

    calling_station_id: str
    ip: str
    unit: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What an interim or a Stop reports; input and output in the view of the packet."""

    input_octets: int
    output_octets: int
    session_time_s: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What an Access-Accept allows; None is no limit."""

    session_timeout_s: int | None = None
    idle_timeout_s: int | None = None
    interim_s: int = _INTERIM_DEFAULT_S
    octets: int | None = None  # both directions together
    rate_down_bps: int | None = None
    rate_up_bps: int | None = None


class Client(asyncio.DatagramProtocol):
    """One UDP socket: asks servers, repeats identical octets, matches answers by address,
    Identifier and authenticators. What is no answer goes to `on_request`."""

    def __init__(self, on_request: Callable[[bytes, Address], None] | None = None) -> None:
        self._on_request = on_request
        self._waiting: dict[tuple[Address, int], tuple[Any, asyncio.Future[Any]]] = {}
        self._identifier = 0
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(
        cls, host: str, port: int, on_request: Callable[[bytes, Address], None] | None = None
    ) -> Self:
        """Bind to host:port (0: any free one). Raises OSError when it is taken."""
        _, client = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(on_request), local_addr=(host, port)
        )
        return client

    @property
    def port(self) -> int:
        """The real local port."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def identifier(self) -> int:
        """The next Identifier; CoovaChilli counts them up."""
        self._identifier = (self._identifier + 1) % 256
        return self._identifier

    def ask(self, request: Any, server: Address, waits_s: Sequence[float]) -> asyncio.Task[Any]:
        """Send at once, and the same octets again after each wait but the last.

        The task gives the answer, a packet of pyrad, or None when none came. An answer must fit
        the request's authenticator, and to an Access-Request it must carry a right
        Message-Authenticator (CVE-2024-3596; RouterOS 7.15 demands it, CoovaChilli 1.9 does not).
        """
        octets = request.RequestPacket()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[server, request.id] = (request, answer)
        self.send(octets, server)
        return asyncio.create_task(self._repeat(octets, server, waits_s, answer))

    async def _repeat(
        self, octets: bytes, server: Address, waits_s: Sequence[float], answer: asyncio.Future[Any]
    ) -> Any:
        try:
            for turn, wait_s in enumerate(waits_s):
                if turn:
                    self.send(octets, server)
                await asyncio.wait((answer,), timeout=wait_s)
                if answer.done():
                    return answer.result()
            return None
        finally:
            key = (server, octets[1])
            if key in self._waiting and self._waiting[key][1] is answer:
                del self._waiting[key]

    def send(self, octets: bytes, to: Address) -> None:
        """Send one datagram."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(octets, to)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The selector loop's class is no subclass of asyncio.DatagramTransport.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        source = (str(addr[0]), int(addr[1]))
        if len(data) >= 20 and (source, data[1]) in self._waiting:
            request, answer = self._waiting[source, data[1]]
            with suppress(PacketError):
                reply = request.CreateReply(packet=data)
                if request.VerifyReply(reply, data, enforce_ma=True):
                    if not answer.done():
                        answer.set_result(reply)
                    return
        if self._on_request is not None:
            self._on_request(data, source)

    def error_received(self, exc: Exception) -> None:
        # ICMP "port unreachable" while the server is down; the retransmission is the remedy.
        log.debug("radius_client_error error=%s", exc)


class CoovaPackets:
    """Builds and reads the packets of one CoovaChilli (observed: coova-chilli 1.9, e0c7d7a).

    `view_point` is CoovaChilli-Acct-View-Point: 2 counts from the client (the default of
    CoovaChilli: input is the download), 1 from the NAS (its `swapoctets`).
    """

    def __init__(
        self, secret: bytes, nas_id: str, nas_ip: str, mac: str, *, view_point: int = 2
    ) -> None:
        self._secret = secret
        self._nas_id = nas_id
        self._nas_ip = nas_ip
        self._mac = mac
        self._view_point = view_point

    def access_request(
        self,
        identifier: int,
        station: Station,
        session_id: str,
        user_name: bytes,
        *,
        service_type: int,
        password: bytes | None = None,
        chap: tuple[bytes, bytes] | None = None,
        class_values: Sequence[bytes] = (),
        logoff_url: str | None = None,
    ) -> Any:
        """An Access-Request with PAP (`password`) or CHAP (challenge, CHAP-Password).

        A user name is cut at 253 octets, as CoovaChilli does.
        """
        request = AuthPacket(id=identifier, secret=self._secret, dict=_NO_NAMES)
        request[COOVA_VERSION] = [b"1.9"]
        request[USER_NAME] = [user_name[:253]]
        if chap is not None:
            request[CHAP_CHALLENGE], request[CHAP_PASSWORD] = [chap[0]], [chap[1]]
        if password is not None:
            request[USER_PASSWORD] = [request.PwCrypt(password)]
        request[SERVICE_TYPE] = [_number(service_type)]
        request[ACCT_SESSION_ID] = [session_id.encode()]
        if class_values:
            request[CLASS] = list(class_values)
        self._add_station(request, station)
        if logoff_url is not None:
            request[WISPR_LOGOFF_URL] = [logoff_url.encode()]
        # pyrad would put it first; CoovaChilli has it last. pyrad fills it in where it stands.
        request[MESSAGE_AUTHENTICATOR] = [bytes(16)]
        request.message_authenticator = True
        return request

    def accounting(
        self,
        identifier: int,
        at: int,
        status: int,
        station: Station,
        session_id: str,
        user_name: str,
        class_values: Sequence[bytes],
        *,
        counters: Counters | None = None,
        cause: int | None = None,
    ) -> Any:
        """An Accounting-Request of a session: a Start has no counters, only a Stop has a cause."""
        request = self._accounting(identifier, at)
        request[USER_NAME] = [user_name.encode()]
        if counters is not None:
            into, out = counters.input_octets, counters.output_octets
            request[ACCT_INPUT_OCTETS] = [_number(into & 0xFFFFFFFF)]
            request[ACCT_OUTPUT_OCTETS] = [_number(out & 0xFFFFFFFF)]
            request[ACCT_INPUT_GIGAWORDS] = [_number(into >> 32)]
            request[ACCT_OUTPUT_GIGAWORDS] = [_number(out >> 32)]
            request[ACCT_INPUT_PACKETS] = [_number(-(-into // _OCTETS_A_PACKET) & 0xFFFFFFFF)]
            request[ACCT_OUTPUT_PACKETS] = [_number(-(-out // _OCTETS_A_PACKET) & 0xFFFFFFFF)]
            request[ACCT_SESSION_TIME] = [_number(counters.session_time_s)]
        if cause is not None:
            request[ACCT_TERMINATE_CAUSE] = [_number(cause)]
        request[ACCT_STATUS_TYPE] = [_number(status)]
        request[ACCT_SESSION_ID] = [session_id.encode()]
        if class_values:
            request[CLASS] = list(class_values)
        self._add_station(request, station)
        return request

    def announcement(self, identifier: int, at: int, status: int) -> Any:
        """Accounting-On or Accounting-Off: no session id and no user name."""
        request = self._accounting(identifier, at)
        if status == ACCOUNTING_OFF:
            request[ACCT_TERMINATE_CAUSE] = [_number(0)]
        request[ACCT_STATUS_TYPE] = [_number(status)]
        request[NAS_PORT_TYPE] = [_number(_WIRELESS)]
        self._add_place(request, _NO_STATION)
        return request

    def dynamic_request(self, data: bytes) -> Any | None:
        """A Disconnect-Request or CoA-Request with the right authenticator, else None."""
        if data[:1] not in (b"\x28", b"\x2b"):
            return None
        try:
            request = CoAPacket(packet=data, secret=self._secret, dict=_NO_NAMES)
        except PacketError:
            return None
        is_right = request.VerifyCoARequest() and (
            MESSAGE_AUTHENTICATOR not in request or request.verify_message_authenticator()
        )
        return request if is_right else None

    def dynamic_answer(self, request: Any, *, is_done: bool) -> bytes:
        """ACK or NAK to it, without attributes."""
        reply = request.CreateReply()
        reply.code = request.code + (1 if is_done else 2)
        answer: bytes = reply.ReplyPacket()
        return answer

    def _accounting(self, identifier: int, at: int) -> Any:
        request = AcctPacket(id=identifier, secret=self._secret, dict=_NO_NAMES)
        request[COOVA_VERSION] = [b"1.9"]
        request[COOVA_VIEW_POINT] = [_number(self._view_point)]
        request[EVENT_TIMESTAMP] = [_number(at)]
        return request

    def _add_station(self, request: Any, station: Station) -> None:
        request[FRAMED_IP_ADDRESS] = [socket.inet_aton(station.ip)]
        request[NAS_PORT_TYPE] = [_number(_WIRELESS)]
        request[NAS_PORT] = [_number(station.unit)]
        request[NAS_PORT_ID] = [f"{station.unit:08d}".encode()]
        self._add_place(request, station.calling_station_id)

    def _add_place(self, request: Any, calling_station_id: str) -> None:
        request[CALLING_STATION_ID] = [calling_station_id.encode()]
        request[CALLED_STATION_ID] = [self._mac.encode()]
        request[NAS_IP_ADDRESS] = [socket.inet_aton(self._nas_ip)]
        request[NAS_IDENTIFIER] = [self._nas_id.encode()]
        request[WISPR_LOCATION_ID] = [b"isocc=id,cc=62,ac=,network=Pesisir,Latihan"]
        request[WISPR_LOCATION_NAME] = [b"Latihan"]


def read_limits(accept: Any) -> Limits:
    """The limits in an Access-Accept (a pyrad packet with raw values). 0 is no limit, and an
    Acct-Interim-Interval below 60 s is replaced, both as in CoovaChilli 1.9."""

    def number(key: int | tuple[int, int]) -> int | None:
        values = accept.get(key, [])
        if not values or len(values[0]) != 4:
            return None
        return int.from_bytes(values[0]) or None

    octets = ((number(COOVA_MAX_TOTAL_GIGAWORDS) or 0) << 32) + (
        number(COOVA_MAX_TOTAL_OCTETS) or 0
    )
    interim_s = number(ACCT_INTERIM_INTERVAL) or _INTERIM_DEFAULT_S
    return Limits(
        session_timeout_s=number(SESSION_TIMEOUT),
        idle_timeout_s=number(IDLE_TIMEOUT),
        interim_s=interim_s if interim_s >= _INTERIM_LEAST_S else _INTERIM_DEFAULT_S,
        octets=octets or None,
        rate_down_bps=number(WISPR_RATE_DOWN),
        rate_up_bps=number(WISPR_RATE_UP),
    )


def _number(value: int) -> bytes:
    return struct.pack("!I", value)
