"""Asking a gateway to end a session: the client side of RFC 5176 (Disconnect-Request).

* A request is sent up to three times, byte for byte the same, and given up 10 s after the first
  (waits of 2, 3 and 5 s). No answer proves nothing: the gateway may have acted. Neither does an
  ACK: accounting is what counts.
* An answer is taken only from the address and port that was asked, with the same identifier, a
  fitting Response Authenticator and, if there is one, a fitting Message-Authenticator. Anything
  else is counted and ignored, and the wait goes on: a forged answer must not hide the real one.
* An identifier is used again towards one address and port only after its answer or its end (RFC
  5176 2.3), and the least recently used comes first, so that a late answer meets no other request.
* Gateways drop requests from an address that is not their RADIUS server's (RFC 5176 6.1;
  CoovaChilli 1.9 does), so the sending address can be set for each request.
* Event-Timestamp in an answer is not compared with our clock: village routers wake up in 1970. The
  Request Authenticator already ties an answer to its request.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from radius.packet import (
    ACCT_SESSION_ID,
    CALLED_STATION_ID,
    CALLING_STATION_ID,
    CHARGEABLE_USER_IDENTITY,
    DISCONNECT_ACK,
    DISCONNECT_NAK,
    DISCONNECT_REQUEST,
    ERROR_CAUSE,
    EVENT_TIMESTAMP,
    FRAMED_INTERFACE_ID,
    FRAMED_IP_ADDRESS,
    FRAMED_IPV6_PREFIX,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    NAS_IPV6_ADDRESS,
    NAS_PORT,
    NAS_PORT_ID,
    USER_NAME,
    VENDOR_SPECIFIC,
    Packet,
    PacketError,
    attribute,
    integer_attribute,
    sign_request,
    verify_response,
)

WAITS_S = (2.0, 3.0, 5.0)
SESSION_NOT_FOUND = 503

# RFC 5176 3.5
ERROR_CAUSES = {
    201: "residual session context removed",
    202: "invalid EAP packet",
    401: "unsupported attribute",
    402: "missing attribute",
    403: "NAS identification mismatch",
    404: "invalid request",
    405: "unsupported service",
    406: "unsupported extension",
    407: "invalid attribute value",
    501: "administratively prohibited",
    502: "request not routable",
    503: "session context not found",
    504: "session context not removable",
    505: "other proxy processing error",
    506: "resources unavailable",
    507: "request initiated",
    508: "multiple session selection unsupported",
}

# RFC 5176 3: a Disconnect-Request names a gateway and a session, nothing else.
_NAMING = frozenset(
    (
        USER_NAME,
        NAS_IP_ADDRESS,
        NAS_PORT,
        FRAMED_IP_ADDRESS,
        VENDOR_SPECIFIC,
        CALLED_STATION_ID,
        CALLING_STATION_ID,
        NAS_IDENTIFIER,
        ACCT_SESSION_ID,
        NAS_PORT_ID,
        CHARGEABLE_USER_IDENTITY,
        NAS_IPV6_ADDRESS,
        FRAMED_INTERFACE_ID,
        FRAMED_IPV6_PREFIX,
    )
)
# Far below 256, so that a free identifier is never one that was just in use.
_MAX_UNDER_WAY = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request."""

    kind: str
    """`ack`, `nak` or `timeout`."""
    error_cause: int | None = None
    """Error-Cause of the answer (RFC 5176 3.5); many gateways give none."""
    round_trip_s: float | None = None
    """From the first sending to the answer; None without one."""

    @property
    def is_session_unknown(self) -> bool:
        """True if the gateway says it has no such session, so that ours can be closed."""
        return self.kind == "nak" and self.error_cause == SESSION_NOT_FOUND

    def describe(self) -> str:
        """`nak: session context not found (503)`, for a log line."""
        if self.error_cause is None:
            return self.kind
        meaning = ERROR_CAUSES.get(self.error_cause, "unknown Error-Cause")
        return f"{self.kind}: {meaning} ({self.error_cause})"


class _Pending:
    """One request under way."""

    __slots__ = ("answer", "authenticator", "secret")

    def __init__(self, datagram: bytes, secret: bytes) -> None:
        self.authenticator = datagram[4:20]
        self.secret = secret
        self.answer: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()


class _Peer:
    """What is under way from one of our sockets towards one gateway's address and port."""

    __slots__ = ("_last", "pending", "places")

    def __init__(self) -> None:
        self.pending: dict[int, _Pending] = {}
        self.places = asyncio.Semaphore(_MAX_UNDER_WAY)
        self._last = -1

    def take_identifier(self) -> int:
        """An identifier that is not under way, the least recently used first."""
        while True:
            self._last = (self._last + 1) % 256
            if self._last not in self.pending:
                return self._last


class _Endpoint(asyncio.DatagramProtocol):
    """One of our sockets: matches answers to requests."""

    def __init__(self, stats: Counter[str]) -> None:
        self._stats = stats
        self._transport: asyncio.DatagramTransport | None = None
        self._peers: dict[tuple[str, int], _Peer] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def peer(self, address: str, port: int) -> _Peer:
        return self._peers.setdefault((address, port), _Peer())

    def send(self, datagram: bytes, address: str, port: int) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram, (address, port))

    def error_received(self, exc: Exception) -> None:
        self._stats["send_error"] += 1
        _log.warning("a Disconnect-Request could not be sent: %s", exc)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        peer = self._peers.get((str(_plain_address(addr[0])), addr[1]))
        if peer is None:
            self._stats["wrong_source"] += 1
            return
        if len(data) < 2 or data[0] not in (DISCONNECT_ACK, DISCONNECT_NAK):
            self._stats["wrong_code"] += 1
            return
        pending = peer.pending.get(data[1])
        if pending is None or pending.answer.done():
            self._stats["unexpected"] += 1
            return
        try:
            pending.answer.set_result(verify_response(pending.authenticator, data, pending.secret))
        except PacketError as error:
            self._stats["not_authentic"] += 1
            _log.warning("answer to a Disconnect-Request from %s ignored: %s", addr[0], error)

    def close(self) -> None:
        for peer in self._peers.values():
            for pending in peer.pending.values():
                pending.answer.cancel()
        if self._transport is not None:
            self._transport.close()


class DynamicAuthorization:
    """Sends Disconnect-Requests and waits for their answers. One for a process, in its event loop.

    `waits_s` has one entry for each sending: how long to wait for an answer after it. `stats`
    counts what was sent and what was ignored.
    """

    def __init__(self, *, waits_s: Sequence[float] = WAITS_S) -> None:
        self.stats: Counter[str] = Counter()
        self._waits_s = tuple(waits_s)
        self._endpoints: dict[tuple[int, str | None], _Endpoint] = {}
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def disconnect(
        self,
        address: str,
        port: int,
        secret: bytes,
        attributes: list[tuple[int, bytes]],
        *,
        local_address: str | None = None,
        message_authenticator: bool = False,
        event_timestamp: int | None = None,
    ) -> Outcome:
        """Ask the gateway at `address` to end the session that `attributes` name.

        `attributes`, `port`, and whether to pass `message_authenticator` and `event_timestamp`
        (epoch seconds UTC, the same in every sending, RFC 5176 6.3) come from the gateway's family.
        `local_address` is the address the gateway has for its RADIUS server. Without one, and if it
        cannot be used, the system chooses. Raises ValueError for
        an `address` that is no IP address and for attributes that a Disconnect-Request must not
        have.
        """
        target = _plain_address(address)
        encoded = _encode(attributes, event_timestamp)
        endpoint = await self._endpoint(target.version, local_address)
        if endpoint is None:
            return Outcome("timeout")
        peer = endpoint.peer(str(target), port)
        async with peer.places:
            identifier = peer.take_identifier()
            datagram = sign_request(
                DISCONNECT_REQUEST,
                identifier,
                encoded,
                secret,
                message_authenticator=message_authenticator,
            )
            pending = _Pending(datagram, secret)
            peer.pending[identifier] = pending
            try:
                outcome = await self._exchange(endpoint, pending, datagram, str(target), port)
            finally:
                del peer.pending[identifier]
        self.stats[outcome.kind] += 1
        return outcome

    async def _exchange(
        self, endpoint: _Endpoint, pending: _Pending, datagram: bytes, address: str, port: int
    ) -> Outcome:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for wait_s in self._waits_s:
            if self._is_closed:
                break
            endpoint.send(datagram, address, port)
            self.stats["sent"] += 1
            await asyncio.wait((pending.answer,), timeout=wait_s)
            if pending.answer.done():
                break
        if not pending.answer.done() or pending.answer.cancelled():
            return Outcome("timeout")
        answer = pending.answer.result()
        return Outcome(
            "ack" if answer.code == DISCONNECT_ACK else "nak",
            answer.integer(ERROR_CAUSE),
            loop.time() - started,
        )

    async def _endpoint(self, version: int, local_address: str | None) -> _Endpoint | None:
        if local_address is not None and _plain_address(local_address).version != version:
            local_address = None
        async with self._opening:
            # A local address that is gone may come back with its interface, so only what could be
            # opened is kept.
            for local in (local_address, None):
                endpoint = self._endpoints.get((version, local))
                if endpoint is None and not self._is_closed:
                    endpoint = await self._open(version, local)
                if endpoint is not None:
                    return endpoint
        return None

    async def _open(self, version: int, local_address: str | None) -> _Endpoint | None:
        local = local_address or ("0.0.0.0" if version == 4 else "::")
        try:
            _, endpoint = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Endpoint(self.stats), local_addr=(local, 0)
            )
        except OSError as error:
            _log.warning("cannot send Disconnect-Requests from %s: %s", local, error)
            return None
        self._endpoints[version, local_address] = endpoint
        return endpoint

    def close(self) -> None:
        """Close the sockets; what is under way ends as `timeout`."""
        self._is_closed = True
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._endpoints.clear()


def _plain_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address without scope, an IPv4-mapped one as IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        raise ValueError(f"the gateway's address is {text!r}, expected an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _encode(attributes: Sequence[tuple[int, bytes]], event_timestamp: int | None) -> bytes:
    for kind, _ in attributes:
        if kind not in _NAMING:
            raise ValueError(
                f"attribute {kind} in a Disconnect-Request, expected only attributes that name a"
                " gateway or a session"
            )
    encoded = b"".join(attribute(kind, value) for kind, value in attributes)
    if event_timestamp is not None:
        encoded += integer_attribute(EVENT_TIMESTAMP, event_timestamp)
    return encoded
