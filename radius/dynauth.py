"""Asking a gateway to end a session or to change its limits: the client side of RFC 5176
(Disconnect-Request and CoA-Request).

* A request is sent up to three times, byte for byte the same, and given up 10 s after the first
  (waits of 2, 3 and 5 s). No answer proves nothing: the gateway may have acted. Neither does an
  ACK: accounting is what counts.
* An answer is taken only from the address and port that was asked, with the code that answers the
  request, the same identifier, a fitting Response Authenticator and, if there is one, a fitting
  Message-Authenticator. Anything else is counted and ignored, and the wait goes on: a forged answer
  must not hide the real one.
* An identifier is used again towards one address and port only after its answer or its end (RFC
  5176 2.3), and the least recently used comes first, so that a late answer meets no other request.
  While there are others, the same request does not go again under the same identifier: its Request
  Authenticator would be the same, and an answer heard before would fit again.
* Gateways drop requests from an address that is not their RADIUS server's (RFC 5176 6.1;
  CoovaChilli 1.9 does), so the sending address can be set for each request. Through a NAT only the
  socket that hears the gateway's accounting finds it: a request can be sent by that one, and the
  answers it hears are given to `hear`.
* An answer with an Event-Timestamp more than 300 s from our time is stale (RFC 5176 6.3) and
  ignored, unless it is from before 2020: village routers wake up in 1970, and the Request
  Authenticator already ties an answer to its request.
"""

import asyncio
import ipaddress
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from radius.packet import (
    ACCT_SESSION_ID,
    CALLED_STATION_ID,
    CALLING_STATION_ID,
    CHAP_CHALLENGE,
    CHAP_PASSWORD,
    CHARGEABLE_USER_IDENTITY,
    COA_ACK,
    COA_NAK,
    COA_REQUEST,
    DISCONNECT_ACK,
    DISCONNECT_NAK,
    DISCONNECT_REQUEST,
    EAP_MESSAGE,
    ERROR_CAUSE,
    EVENT_TIMESTAMP,
    FRAMED_INTERFACE_ID,
    FRAMED_IP_ADDRESS,
    FRAMED_IPV6_PREFIX,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    NAS_IPV6_ADDRESS,
    NAS_PORT,
    NAS_PORT_ID,
    PROXY_STATE,
    USER_NAME,
    USER_PASSWORD,
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
STALE_AFTER_S = 300
"""The window of RFC 5176 6.3."""
_CLOCKS_RUN_SINCE_AT = 1_577_836_800  # 2020-01-01; a gateway's clock before it is none

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
# RFC 5176 3.6 keeps these out of a CoA-Request; what signs and stamps it is added here.
_NEVER_IN_COA = frozenset(
    (
        USER_PASSWORD,
        CHAP_PASSWORD,
        CHAP_CHALLENGE,
        EAP_MESSAGE,
        MESSAGE_AUTHENTICATOR,
        EVENT_TIMESTAMP,
        PROXY_STATE,
        ERROR_CAUSE,
    )
)
_ANSWERS = {DISCONNECT_REQUEST: (DISCONNECT_ACK, DISCONNECT_NAK), COA_REQUEST: (COA_ACK, COA_NAK)}
_NAMES = {DISCONNECT_REQUEST: "Disconnect-Request", COA_REQUEST: "CoA-Request"}
_ANY_ANSWER = frozenset(code for codes in _ANSWERS.values() for code in codes)
# Far below 256, so that a free identifier is never one that was just in use.
_MAX_UNDER_WAY = 64
_PEERS_KEPT = 1024
"""Addresses and ports towards which identifiers are remembered; a NAT gives new ports all the
time."""

Send = Callable[[bytes], None]
"""Sends a datagram on a way of its own; raises OSError when it cannot."""

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

    __slots__ = ("answer", "authenticator", "codes", "secret")

    def __init__(self, datagram: bytes, secret: bytes) -> None:
        self.authenticator = datagram[4:20]
        self.codes = _ANSWERS[datagram[0]]
        self.secret = secret
        self.answer: asyncio.Future[Packet] = asyncio.get_running_loop().create_future()


class _Peer:
    """What is under way from one of our sockets towards one gateway's address and port."""

    __slots__ = ("_last", "_spent", "pending", "places")

    def __init__(self) -> None:
        self.pending: dict[int, _Pending] = {}
        self.places = asyncio.Semaphore(_MAX_UNDER_WAY)
        # Not always 0, lest the first requests after each start be the same ones.
        self._last = random.randrange(256)
        self._spent: dict[int, bytes] = {}

    def next_request(self, sign: Callable[[int], bytes]) -> bytes:
        """The request, signed with an identifier that is not under way, the least recently used
        first; one under which this very request went last only when there is no other."""
        free = [at % 256 for at in range(self._last + 1, self._last + 257)]
        free = [identifier for identifier in free if identifier not in self.pending]
        datagram = sign(free[0])
        for identifier in free:
            other = sign(identifier)
            if self._spent.get(identifier) != other[4:20]:
                datagram = other
                break
        self._last = datagram[1]
        self._spent[self._last] = datagram[4:20]
        return datagram


class _Endpoint(asyncio.DatagramProtocol):
    """One of our sockets: matches answers to requests. Without a transport it is the socket that
    hears accounting, and each request brings its own way to be sent."""

    def __init__(self, stats: Counter[str], now: Callable[[], float]) -> None:
        self._stats = stats
        self._now = now
        self._transport: asyncio.DatagramTransport | None = None
        self._peers: dict[tuple[str, int], _Peer] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def peer(self, address: str, port: int) -> _Peer:
        key = (address, port)
        peer = self._peers.pop(key, None) or _Peer()
        self._peers[key] = peer
        if len(self._peers) > _PEERS_KEPT:
            self._forget_idle()
        return peer

    def _forget_idle(self) -> None:
        """Drop the half that was not asked for longest, except what waits for an answer."""
        for key, peer in list(self._peers.items())[: _PEERS_KEPT // 2]:
            if not peer.pending and not peer.places.locked():
                del self._peers[key]

    def send(self, datagram: bytes, address: str, port: int) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram, (address, port))

    def error_received(self, exc: Exception) -> None:
        self._stats["send_error"] += 1
        _log.warning("a request could not be sent: %s", exc)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        peer = self._peers.get((str(_plain_address(addr[0])), addr[1]))
        if peer is None:
            self._stats["wrong_source"] += 1
            return
        if len(data) < 2 or data[0] not in _ANY_ANSWER:
            self._stats["wrong_code"] += 1
            return
        pending = peer.pending.get(data[1])
        if pending is None or pending.answer.done():
            self._stats["unexpected"] += 1
            return
        if data[0] not in pending.codes:
            self._stats["wrong_code"] += 1
            return
        try:
            answer = verify_response(pending.authenticator, data, pending.secret)
        except PacketError as error:
            self._stats["not_authentic"] += 1
            _log.warning("answer from %s ignored: %s", addr[0], error)
            return
        stamp = answer.integer(EVENT_TIMESTAMP)
        if stamp is not None and stamp >= _CLOCKS_RUN_SINCE_AT:
            if abs(self._now() - stamp) > STALE_AFTER_S:
                self._stats["stale"] += 1
                _log.warning(
                    "answer from %s ignored: its Event-Timestamp is %d s from our time, expected at"
                    " most %d s",
                    *(addr[0], abs(self._now() - stamp), STALE_AFTER_S),
                )
                return
        pending.answer.set_result(answer)

    def close(self) -> None:
        for peer in self._peers.values():
            for pending in peer.pending.values():
                pending.answer.cancel()
        if self._transport is not None:
            self._transport.close()


class DynamicAuthorization:
    """Sends Disconnect- and CoA-Requests and waits for their answers. One for a process, in its
    event loop.

    `waits_s` has one entry for each sending: how long to wait for an answer after it. `now` is
    epoch seconds UTC. `stats` counts what was sent and what was ignored.
    """

    def __init__(
        self, *, waits_s: Sequence[float] = WAITS_S, now: Callable[[], float] = time.time
    ) -> None:
        self.stats: Counter[str] = Counter()
        self._waits_s = tuple(waits_s)
        self._now = now
        self._endpoints: dict[tuple[int, str | None], _Endpoint] = {}
        self._of_accounting = _Endpoint(self.stats, now)
        self._opening = asyncio.Lock()
        self._is_closed = False

    def hear(self, datagram: bytes, sender: tuple[str, int]) -> None:
        """Take an answer that reached the socket which hears accounting; for
        `radius.server.Server.hear_answers`."""
        self._of_accounting.datagram_received(datagram, sender)

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
        through: Send | None = None,
    ) -> Outcome:
        """Ask the gateway at `address` to end the session that `attributes` name.

        `attributes`, `port`, and whether to pass `message_authenticator` and `event_timestamp`
        (epoch seconds UTC, the same in every sending, RFC 5176 6.3) come from the gateway's family.
        `local_address` is the address the gateway has for its RADIUS server. Without one, and if it
        cannot be used, the system chooses. With `through` the request leaves by that, and its
        answer comes to `hear`. Raises ValueError for an `address` that is no IP address and for
        attributes that a Disconnect-Request must not have.
        """
        return await self._request(
            DISCONNECT_REQUEST,
            (address, port),
            secret,
            _encode(attributes, event_timestamp),
            local_address,
            message_authenticator,
            through,
        )

    async def change(
        self,
        address: str,
        port: int,
        secret: bytes,
        attributes: list[tuple[int, bytes]],
        *,
        local_address: str | None = None,
        message_authenticator: bool = False,
        event_timestamp: int | None = None,
        through: Send | None = None,
    ) -> Outcome:
        """Ask the gateway at `address` to give a session new limits (CoA-Request).

        `attributes` name the session, by User-Name and Acct-Session-Id at least, and carry the
        limits; what a gateway does with a limit left out differs (RFC 5176 3 leaves it as it was,
        CoovaChilli 1.9 lifts it), so the family lists them all. The rest is as in `disconnect`.
        Raises ValueError for attributes that a CoA-Request must not have, and for one that names no
        single session: a gateway applies it to every session that fits.
        """
        _check_change(attributes)
        return await self._request(
            COA_REQUEST,
            (address, port),
            secret,
            _encoded(attributes, event_timestamp),
            local_address,
            message_authenticator,
            through,
        )

    async def _request(
        self,
        code: int,
        where: tuple[str, int],
        secret: bytes,
        encoded: bytes,
        local_address: str | None,
        message_authenticator: bool,
        through: Send | None,
    ) -> Outcome:
        target, port = _plain_address(where[0]), where[1]
        if through is not None:
            endpoint, send = self._of_accounting, through
        else:
            opened = await self._endpoint(target.version, local_address)
            if opened is None:
                return Outcome("timeout")
            endpoint = opened

            def send(datagram: bytes) -> None:
                endpoint.send(datagram, str(target), port)

        peer = endpoint.peer(str(target), port)
        async with peer.places:
            datagram = peer.next_request(
                lambda identifier: sign_request(
                    code, identifier, encoded, secret, message_authenticator=message_authenticator
                )
            )
            pending = peer.pending[datagram[1]] = _Pending(datagram, secret)
            try:
                outcome = await self._exchange(pending, datagram, send)
            finally:
                del peer.pending[datagram[1]]
        self.stats[outcome.kind] += 1
        return outcome

    async def _exchange(self, pending: _Pending, datagram: bytes, send: Send) -> Outcome:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for wait_s in self._waits_s:
            if self._is_closed:
                break
            try:
                send(datagram)
                self.stats["sent"] += 1
            except OSError as error:
                # A full send buffer or a lost route: the next try may find it better.
                self.stats["send_error"] += 1
                _log.warning("a %s could not be sent: %s", _NAMES[datagram[0]], error)
            await asyncio.wait((pending.answer,), timeout=wait_s)
            if pending.answer.done():
                break
        if not pending.answer.done() or pending.answer.cancelled():
            return Outcome("timeout")
        answer = pending.answer.result()
        return Outcome(
            "ack" if answer.code == pending.codes[0] else "nak",
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
                lambda: _Endpoint(self.stats, self._now), local_addr=(local, 0)
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
        self._of_accounting.close()


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
    """The attributes of a Disconnect-Request."""
    for kind, _ in attributes:
        if kind not in _NAMING:
            raise ValueError(
                f"attribute {kind} in a Disconnect-Request, expected only attributes that name a"
                " gateway or a session"
            )
    return _encoded(attributes, event_timestamp)


def _check_change(attributes: Sequence[tuple[int, bytes]]) -> None:
    kinds = {kind for kind, _ in attributes}
    never = sorted(kinds & _NEVER_IN_COA)
    if never:
        raise ValueError(
            f"attribute {never[0]} in a CoA-Request, expected attributes that name a session and"
            " what it may have"
        )
    if not {USER_NAME, ACCT_SESSION_ID} <= kinds:
        raise ValueError(
            "a CoA-Request without User-Name or Acct-Session-Id, expected both: it would change"
            " every session that fits"
        )


def _encoded(attributes: Sequence[tuple[int, bytes]], event_timestamp: int | None) -> bytes:
    encoded = b"".join(attribute(kind, value) for kind, value in attributes)
    if event_timestamp is not None:
        encoded += integer_attribute(EVENT_TIMESTAMP, event_timestamp)
    return encoded
