"""The RADIUS server: what must be checked before anybody decides, and what must hold afterwards.

A packet passes, in this order: source address known, well-formed, right code for the port, signed
as its code demands, gateway found, not a retransmission. Only then the handler sees it, as an
`Exchange`. Everything that fails is dropped and counted, never answered.

The handler decides and answers when it can: at once, after a commit, after a delay. The server
signs the answer, remembers it for retransmissions and sends it from the address that was asked.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence, Set
from socket import socket
from typing import Final, Protocol

from radius.clients import Client, Clients, Group, plain_address
from radius.dropped import Dropped
from radius.duplicates import KEEP_S, Duplicates, Entry
from radius.listener import Control, Listener, Peer, control_address, open_listeners
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    CHAP_PASSWORD,
    COA_ACK,
    COA_NAK,
    DISCONNECT_ACK,
    DISCONNECT_NAK,
    EAP_MESSAGE,
    NAS_IDENTIFIER,
    PROXY_STATE,
    STATUS_SERVER,
    USER_PASSWORD,
    MessageAuthenticator,
    Packet,
    PacketError,
    attribute,
    build_reply,
    message_authenticator_state,
    parse,
    verify_accounting,
)

__all__ = ["Client", "Clients", "Exchange", "Handler", "Outlet", "Server"]

logger = logging.getLogger(__name__)

DYNAMIC_ANSWERS: Final = frozenset((DISCONNECT_ACK, DISCONNECT_NAK, COA_ACK, COA_NAK))
SWEEP_EVERY_S = 10.0
MAX_SOURCES: Final = 4096
STATUS_PER_SECOND = 20
# Beyond this a reply may be cut into fragments, which village VPN links lose.
LARGE_REPLY_OCTETS: Final = 1200

STATS = (
    "access_requests",
    "accounting_requests",
    "status_requests",
    "answers",
    "duplicate",
    "duplicate_in_progress",
    "unknown_client",
    "unknown_nas_identifier",
    "malformed",
    "wrong_code",
    "wrong_authenticator",
    "wrong_message_authenticator",
    "missing_message_authenticator",
    "unsigned_proxy_state",
    "status_limited",
    "unhealthy",
    "handler_failed",
    "large_reply",
    "reply_too_large",
    "send_failed",
)


class Handler(Protocol):
    """Who decides. Both calls come from the event loop and must not block."""

    def access(self, exchange: "Exchange") -> None:
        """An authenticated Access-Request; unsigned ones come too where the policy allows it."""

    def accounting(self, exchange: "Exchange") -> None:
        """An authenticated Accounting-Request, to be answered when it is durable (RFC 2866 4.1)."""

    def is_healthy(self) -> bool:
        """False keeps Status-Server unanswered, so that gateways fail over (RFC 5997 4.2)."""


class Outlet(Protocol):
    """Where a packet came in and its answer leaves; a `Listener` is one."""

    number: int
    is_acct: bool
    address: tuple[str, int]

    def send(self, datagram: bytes, peer: Peer, control: Control | None) -> None:
        """Send a reply to `peer`. Raises OSError if it cannot."""


class _Source:
    """What is known of one source address."""

    __slots__ = (
        "address",
        "duplicates",
        "generation",
        "group",
        "is_learned",
        "last_at_s",
        "status_count",
        "status_second",
    )

    def __init__(self, address: str, group: Group, generation: int, is_learned: bool) -> None:
        self.address = address
        self.group = group
        self.generation = generation
        self.is_learned = is_learned
        self.duplicates = Duplicates()
        self.last_at_s = 0.0
        self.status_second = 0
        self.status_count = 0


class Exchange:
    """One request on its way to one answer.

    `source` is the sender's address, without a v4-mapped prefix, and port.
    """

    __slots__ = (
        "_control",
        "_duplicates",
        "_entry",
        "_is_over",
        "_key",
        "_outlet",
        "_peer",
        "_server",
        "client",
        "note",
        "packet",
        "source",
    )

    note: str
    """Why it is answered so, for those who watch; unset while the handler has nothing to say."""

    def __init__(
        self,
        server: "Server",
        packet: Packet,
        client: Client,
        source: tuple[str, int],
        outlet: Outlet,
        peer: Peer,
        control: Control | None,
        duplicates: Duplicates,
        key: int,
        entry: Entry,
    ) -> None:
        self.packet = packet
        self.client = client
        self.source = source
        self._server = server
        self._outlet = outlet
        self._peer = peer
        self._control = control
        self._duplicates = duplicates
        self._key = key
        self._entry = entry
        self._is_over = False

    @property
    def local_address(self) -> str:
        """The address of ours that was asked: where the gateway expects its server to be."""
        asked = control_address(self._control) if self._control else None
        return asked or self._outlet.address[0]

    def answer(self, code: int, attributes: bytes = b"") -> None:
        """Send the answer and keep it for retransmissions.

        A second call, or one after `drop`, is ignored. An answer that would be longer than 4096
        octets is not sent but logged.
        """
        if self._is_over:
            return
        self._is_over = True
        try:
            reply = build_reply(self.packet, code, attributes, self.client.secret)
        except ValueError as error:
            self._duplicates.forget(self._key, self._entry)
            self._server._refuse_reply(self, error)
            return
        if len(reply) > LARGE_REPLY_OCTETS:
            self._server.stats["large_reply"] += 1
        self._entry.reply = reply
        self._server._send(reply, self._outlet, self._peer, self._control)

    def send_back(self, datagram: bytes) -> None:
        """Send a request of ours to where this one came from, out of the address and port it asked:
        the way that a NAT in between holds open. Raises OSError if it cannot."""
        self._outlet.send(datagram, self._peer, self._control)

    def drop(self) -> None:
        """Give no answer and forget the request: a retransmission is handled anew."""
        if not self._is_over:
            self._is_over = True
            self._duplicates.forget(self._key, self._entry)


def _ignore_learned(address: str) -> None:
    pass


class Server:
    """Authentication and accounting on any number of UDP sockets.

    `learned` names source addresses that once sent a valid Message-Authenticator: policy `auto`
    requires it from them. `on_learned` is called once for each further one. `clock` gives monotonic
    seconds. `stats` counts packets by what became of them.
    """

    def __init__(
        self,
        clients: Clients,
        handler: Handler,
        *,
        learned: Iterable[str] = (),
        on_learned: Callable[[str], None] = _ignore_learned,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats: dict[str, int] = dict.fromkeys(STATS, 0)
        self._clients = clients
        self._handler = handler
        self._learned = set(learned)
        self._on_learned = on_learned
        self.clock = self._clock = clock
        self.dropped = self._drop = Dropped(self.stats)
        # For those who watch (radius/watched.py), who set and clear these three.
        self.make_exchange: Callable[..., Exchange] | None = None
        self.on_repeated: Callable[[Packet, Client, tuple[str, int], bool], None] | None = None
        self.on_status: Callable[[str, bool], None] | None = None
        # Source by address as the socket writes it: a v4-mapped spelling is a second key.
        self._sources: dict[str, _Source] = {}
        self._take_answer: Callable[[bytes, tuple[str, int]], None] | None = None
        self._listeners: list[Listener] = []
        self._outbox: list[tuple[bytes, Outlet, Peer, Control | None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None

    async def start(self, auth: Sequence[str], acct: Sequence[str]) -> None:
        """Listen on addresses like `0.0.0.0:1812` and `[::]:1812`; port 0 takes a free one.

        Raises OSError with one plain sentence; then no socket is open.
        """
        self._listeners = open_listeners(auth, acct)
        self._loop = asyncio.get_running_loop()
        for listener in self._listeners:
            listener.start(self._loop, self.receive)
        self._sweep_timer = self._loop.call_later(SWEEP_EVERY_S, self._sweep_again)

    @property
    def auth_addresses(self) -> list[tuple[str, int]]:
        """The real addresses and ports of the authentication sockets."""
        return [listener.address for listener in self._listeners if not listener.is_acct]

    @property
    def acct_addresses(self) -> list[tuple[str, int]]:
        """The real addresses and ports of the accounting sockets."""
        return [listener.address for listener in self._listeners if listener.is_acct]

    @property
    def learned(self) -> Set[str]:
        """The source addresses that have sent a valid Message-Authenticator, ever."""
        return self._learned

    def acct_socket(self) -> socket:
        """The first accounting socket; raises OSError if there is none.

        A Disconnect-Request sent from it finds its way through a NAT the gateway's accounting
        opened. Its answer comes back here: see `hear_answers`.
        """
        for listener in self._listeners:
            if listener.is_acct:
                return listener.socket
        raise OSError("the RADIUS server has no accounting socket, it is not started")

    def hear_answers(self, take: Callable[[bytes, tuple[str, int]], None]) -> None:
        """Hand answers to Disconnect and CoA that reach an accounting socket to `take`.

        It gets the datagram and the sender's address and port. The sender is a known gateway and
        the packet well-formed; nothing else is checked.
        """
        self._take_answer = take

    def close(self) -> None:
        """Close every socket; answers that come later are not sent."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        self._post_all()
        for listener in self._listeners:
            listener.close(self._loop)
        self._listeners = []

    def receive(self, outlet: Outlet, datagram: bytes, peer: Peer, control: Control | None) -> None:
        """Take one datagram; never raises."""
        try:
            self._receive(outlet, datagram, peer, control)
        except Exception:
            self.stats["handler_failed"] += 1
            logger.exception("a packet from %s failed inside the server, it stays unanswered", peer)

    def _receive(
        self, outlet: Outlet, datagram: bytes, peer: Peer, control: Control | None
    ) -> None:
        now_s = self._clock()
        source = self._sources.get(peer[0])
        if source is None or source.generation != self._clients.generation:
            source = self._find_source(peer[0])
            if source is None:
                address = plain_address(peer[0])
                self._drop(
                    "unknown_client", address, "no gateway has this address", datagram, now_s
                )
                return
        source.last_at_s = now_s
        try:
            packet = parse(datagram)
        except PacketError as error:
            self._drop("malformed", source.address, str(error), datagram, now_s)
            return
        code = packet.code
        if code == ACCESS_REQUEST and not outlet.is_acct:
            self.stats["access_requests"] += 1
            client = self._check_access(source, packet, now_s)
        elif code == ACCOUNTING_REQUEST and outlet.is_acct:
            self.stats["accounting_requests"] += 1
            client = self._check_accounting(source, packet, now_s)
        elif code == STATUS_SERVER:
            self._answer_status(source, packet, outlet, peer, control, now_s)
            return
        elif code in DYNAMIC_ANSWERS and outlet.is_acct and self._take_answer is not None:
            self._take_answer(packet.raw, (source.address, peer[1]))
            return
        else:
            kind = "accounting" if outlet.is_acct else "authentication"
            detail = f"code {code} is not for the {kind} port"
            self._drop("wrong_code", source.address, detail, datagram, now_s)
            return
        if client is None:
            return
        key = (outlet.number << 16 | peer[1]) << 16 | code << 8 | packet.identifier
        duplicates = source.duplicates
        entry = duplicates.begin(key, packet.authenticator, now_s)
        if entry is None:
            entry = duplicates.find(key)
            if self.on_repeated is not None:
                is_sent = entry is not None and entry.reply is not None
                self.on_repeated(packet, client, (source.address, peer[1]), is_sent)
            self._answer_again(entry, outlet, peer, control)
            return
        sender = (source.address, peer[1])
        # A plain class is made without the detour over a variable.
        exchange = (
            Exchange(self, packet, client, sender, outlet, peer, control, duplicates, key, entry)
            if self.make_exchange is None
            else self.make_exchange(
                self, packet, client, sender, outlet, peer, control, duplicates, key, entry
            )
        )
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s from %s, gateway %s", packet, exchange.source, client.name)
        try:
            if code == ACCOUNTING_REQUEST:
                self._handler.accounting(exchange)
            elif EAP_MESSAGE in packet.first:
                exchange.answer(ACCESS_REJECT, _eap_failure(packet))
            elif USER_PASSWORD in packet.first and CHAP_PASSWORD in packet.first:
                exchange.answer(ACCESS_REJECT)
            else:
                self._handler.access(exchange)
        except Exception:
            self.stats["handler_failed"] += 1
            logger.exception(
                "%s from %s, gateway %s, failed and stays unanswered",
                packet,
                exchange.source,
                client.name,
            )
            exchange.drop()

    def _find_source(self, host: str) -> _Source | None:
        """The source at an address as the socket writes it, brought up to date."""
        address = plain_address(host)
        generation = self._clients.generation
        group = self._clients.at(address)
        source = self._sources.get(address)
        if group is None:
            if source is not None:
                del self._sources[address]
                self._sources.pop(host, None)
            return None
        if source is None or source.group.secret != group.secret:
            # Remembered answers are signed with the old secret.
            source = _Source(address, group, generation, address in self._learned)
        source.group = group
        source.generation = generation
        if len(self._sources) >= MAX_SOURCES:
            self._make_room()
        self._sources[address] = self._sources[host] = source
        return source

    def _check_access(self, source: _Source, packet: Packet, now_s: float) -> Client | None:
        """The gateway of an Access-Request, None if the packet was dropped."""
        signature = message_authenticator_state(packet, source.group.secret)
        if signature is MessageAuthenticator.wrong:
            detail = "Message-Authenticator does not fit the shared secret"
            self._drop("wrong_message_authenticator", source.address, detail, packet.raw, now_s)
            return None
        client = self._choose(source, packet, now_s)
        if client is None:
            return None
        if signature is MessageAuthenticator.valid:
            if not source.is_learned:
                self._learn(source)
            return client
        policy = client.require_message_authenticator
        is_required = policy == "yes" or (policy == "auto" and source.is_learned)
        if is_required or EAP_MESSAGE in packet.first:
            detail = f"Access-Request of gateway {client.name} has no Message-Authenticator"
            self._drop("missing_message_authenticator", source.address, detail, packet.raw, now_s)
            return None
        if policy != "no" and PROXY_STATE in packet.first:
            detail = f"Access-Request of gateway {client.name} is unsigned but has a Proxy-State"
            self._drop("unsigned_proxy_state", source.address, detail, packet.raw, now_s)
            return None
        return client

    def _check_accounting(self, source: _Source, packet: Packet, now_s: float) -> Client | None:
        """The gateway of an Accounting-Request, None if the packet was dropped."""
        secret = source.group.secret
        if not verify_accounting(packet, secret):
            detail = "Request Authenticator does not fit the shared secret"
            self._drop("wrong_authenticator", source.address, detail, packet.raw, now_s)
            return None
        if message_authenticator_state(packet, secret) is MessageAuthenticator.wrong:
            detail = "Message-Authenticator does not fit the shared secret"
            self._drop("wrong_message_authenticator", source.address, detail, packet.raw, now_s)
            return None
        return self._choose(source, packet, now_s)

    def _choose(self, source: _Source, packet: Packet, now_s: float) -> Client | None:
        client = source.group.choose(packet.first.get(NAS_IDENTIFIER))
        if client is None:
            seen = packet.text(NAS_IDENTIFIER)
            detail = f"none of the gateways at this address has the NAS-Identifier {seen!r}"
            self._drop(
                "unknown_nas_identifier", source.address, detail, packet.raw, now_s, seen=seen
            )
        return client

    def _learn(self, source: _Source) -> None:
        source.is_learned = True
        if source.address not in self._learned:
            self._learned.add(source.address)
            self._on_learned(source.address)

    def _answer_again(
        self, entry: Entry | None, outlet: Outlet, peer: Peer, control: Control | None
    ) -> None:
        if entry is None or entry.reply is None:
            self.stats["duplicate_in_progress"] += 1
            return
        self.stats["duplicate"] += 1
        self._send(entry.reply, outlet, peer, control)

    def _answer_status(
        self,
        source: _Source,
        packet: Packet,
        outlet: Outlet,
        peer: Peer,
        control: Control | None,
        now_s: float,
    ) -> None:
        """Status-Server (RFC 5997): answered on both ports, without cache, only when healthy."""
        self.stats["status_requests"] += 1
        secret = source.group.secret
        signature = message_authenticator_state(packet, secret)
        if signature is not MessageAuthenticator.valid:
            reason = (
                "missing_message_authenticator"
                if signature is MessageAuthenticator.absent
                else "wrong_message_authenticator"
            )
            detail = f"Status-Server: {signature} Message-Authenticator"
            self._drop(reason, source.address, detail, packet.raw, now_s)
            return
        if source.status_second != int(now_s):
            source.status_second = int(now_s)
            source.status_count = 0
        source.status_count += 1
        if source.status_count > STATUS_PER_SECOND:
            self.stats["status_limited"] += 1
            return
        is_healthy = self._handler.is_healthy()
        if self.on_status is not None:
            self.on_status(source.address, is_healthy)
        if not is_healthy:
            self.stats["unhealthy"] += 1
            return
        code = ACCOUNTING_RESPONSE if outlet.is_acct else ACCESS_ACCEPT
        self._send(build_reply(packet, code, b"", secret), outlet, peer, control)

    def _send(self, reply: bytes, outlet: Outlet, peer: Peer, control: Control | None) -> None:
        """Send an answer with all others of this turn of the event loop: one by one, each would
        wake its asker while the rest are still being worked on."""
        if self._loop is None:
            self._post(((reply, outlet, peer, control),))
            return
        if not self._outbox:
            self._loop.call_soon(self._post_all)
        self._outbox.append((reply, outlet, peer, control))

    def _post_all(self) -> None:
        outbox, self._outbox = self._outbox, []
        self._post(outbox)

    def _post(self, answers: Sequence[tuple[bytes, Outlet, Peer, Control | None]]) -> None:
        failed = 0
        for reply, outlet, peer, control in answers:
            try:
                outlet.send(reply, peer, control)
            except OSError as error:
                # A full send buffer or a lost route: the gateway asks again and gets what is kept.
                failed += 1
                logger.debug("no answer to %s: %s", peer, error)
        self.stats["send_failed"] += failed
        self.stats["answers"] += len(answers) - failed

    def _refuse_reply(self, exchange: Exchange, error: ValueError) -> None:
        self.stats["reply_too_large"] += 1
        logger.error("%s, gateway %s: %s", exchange.packet, exchange.client.name, error)

    def _sweep_again(self) -> None:
        self._sweep(self._clock())
        if self._loop is not None:
            self._sweep_timer = self._loop.call_later(SWEEP_EVERY_S, self._sweep_again)

    def _sweep(self, now_s: float) -> None:
        """Give memory back: requests and sources older than 30 s."""
        for host, source in list(self._sources.items()):
            source.duplicates.expire(now_s)
            if not source.duplicates and now_s - source.last_at_s > KEEP_S:
                del self._sources[host]

    def _make_room(self) -> None:
        """A network of gateways has more sources than are remembered: forget the idle ones."""
        self._sweep(self._clock())
        if len(self._sources) >= MAX_SOURCES:
            by_age = sorted(self._sources.items(), key=lambda item: item[1].last_at_s)
            for host, _source in by_age[: MAX_SOURCES // 2]:
                del self._sources[host]


def _eap_failure(packet: Packet) -> bytes:
    """EAP-Message with the EAP-Failure for the EAP packet in a request (RFC 3579 2.6.3)."""
    eap = packet.first[EAP_MESSAGE]
    identifier = eap[1] if len(eap) > 1 else 0
    return attribute(EAP_MESSAGE, bytes((4, identifier, 0, 4)))
