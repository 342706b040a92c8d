"""A running server and gateways to ask it, for tests: real UDP sockets on loopback, no waiting.

`Rig.ask` sends datagrams and then one more from a gateway of its own, the fence. Loopback keeps the
order, and the server works through a socket in order: when the fence is answered, so is all that
will be answered at once. Nothing sleeps, and a missing answer is known at once.
"""

import asyncio
import hashlib
import hmac
import itertools
import os
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from types import TracebackType

from radius.listener import Control, Peer
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    ACCT_SESSION_ID,
    ACCT_STATUS_TYPE,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    attribute,
    integer_attribute,
)
from radius.password import hide
from radius.server import Client, Clients, Exchange, Server

SECRET = b"pantai-secret-0123456789"
FENCE_ADDRESS = "127.0.0.250"
FENCE = Client(999, "fence", ip_network(f"{FENCE_ADDRESS}/32"), b"fence-secret-0123456789")
PATIENCE_S = 30.0
START = integer_attribute(ACCT_STATUS_TYPE, 1) + attribute(ACCT_SESSION_ID, b"81600001")
"""The attributes of an accounting Start."""


def gateway(
    network: str = "127.0.0.1/32",
    *,
    number: int = 1,
    name: str = "warung",
    secret: bytes = SECRET,
    nas_id: str | None = None,
    policy: str = "auto",
) -> Client:
    return Client(number, name, ip_network(network), secret, nas_id, policy)


# Packets are signed here with hashlib and hmac, not with the code under test.


def raw_packet(code: int, identifier: int, authenticator: bytes, attributes: bytes) -> bytes:
    return struct.pack("!BBH", code, identifier, 20 + len(attributes)) + authenticator + attributes


def signed_packet(
    code: int, identifier: int, authenticator: bytes, attributes: bytes, secret: bytes
) -> bytes:
    """With Message-Authenticator as the last attribute, like CoovaChilli's."""
    packet = raw_packet(code, identifier, authenticator, attributes + b"\x50\x12" + bytes(16))
    return packet[:-16] + hmac.new(secret, packet, "md5").digest()


def access_request(
    identifier: int = 1,
    attributes: bytes = b"",
    *,
    secret: bytes = SECRET,
    user: bytes = b"A017-23",
    password: bytes | None = b"rahasia",
    is_signed: bool = True,
    authenticator: bytes | None = None,
) -> bytes:
    authenticator = authenticator or os.urandom(16)
    body = attribute(USER_NAME, user)
    if password is not None:
        body += attribute(USER_PASSWORD, hide(password, authenticator, secret))
    body += attributes
    if is_signed:
        return signed_packet(ACCESS_REQUEST, identifier, authenticator, body, secret)
    return raw_packet(ACCESS_REQUEST, identifier, authenticator, body)


def accounting_request(
    identifier: int = 1,
    attributes: bytes = b"",
    *,
    secret: bytes = SECRET,
    code: int = ACCOUNTING_REQUEST,
) -> bytes:
    empty = raw_packet(code, identifier, bytes(16), attributes)
    return empty[:4] + hashlib.md5(empty + secret).digest() + attributes


def status_server(identifier: int = 1, *, secret: bytes = SECRET) -> bytes:
    return signed_packet(12, identifier, os.urandom(16), b"", secret)


def nas_identifier(name: str) -> bytes:
    return attribute(NAS_IDENTIFIER, name.encode())


def reply_fits(request: bytes, reply: bytes, secret: bytes = SECRET) -> bool:
    """Identifier, Length and Response Authenticator (RFC 2865 3)."""
    expected = hashlib.md5(reply[:4] + request[4:20] + reply[20:] + secret).digest()
    return (
        reply[1] == request[1]
        and len(reply) == int.from_bytes(reply[2:4], "big")
        and reply[4:20] == expected
    )


def begins_with_right_message_authenticator(
    request: bytes, reply: bytes, secret: bytes = SECRET
) -> bool:
    blank = reply[:4] + request[4:20] + reply[20:22] + bytes(16) + reply[38:]
    return reply[20:22] == b"\x50\x12" and reply[22:38] == hmac.new(secret, blank, "md5").digest()


class Desk:
    """A handler that keeps what it was asked and answers as told."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.is_well = True
        self.on_access: Callable[[Exchange], None] = lambda exchange: exchange.answer(ACCESS_ACCEPT)
        self.on_accounting: Callable[[Exchange], None] = lambda exchange: exchange.answer(
            ACCOUNTING_RESPONSE
        )

    def access(self, exchange: Exchange) -> None:
        if exchange.client.name == FENCE.name:
            exchange.answer(ACCESS_ACCEPT)
            return
        self.seen.append(exchange)
        self.on_access(exchange)

    def accounting(self, exchange: Exchange) -> None:
        if exchange.client.name == FENCE.name:
            exchange.answer(ACCOUNTING_RESPONSE)
            return
        self.seen.append(exchange)
        self.on_accounting(exchange)

    def is_healthy(self) -> bool:
        return self.is_well


class Outbox:
    """An outlet for packets handed in directly: keeps what is sent."""

    def __init__(self, number: int = 0, *, is_acct: bool = False) -> None:
        self.number = number
        self.is_acct = is_acct
        self.address = ("127.0.0.1", 1812)
        self.sent: list[bytes] = []

    def send(self, datagram: bytes, peer: Peer, control: Control | None) -> None:
        self.sent.append(datagram)


class Rig:
    """A server on loopback with its own event loop, driven by plain calls."""

    def __init__(
        self,
        *gateways: Client,
        learned: Iterable[str] = (),
        auth: str = "127.0.0.1:0",
        acct: str = "127.0.0.1:0",
    ) -> None:
        self.desk = Desk()
        self.learned: list[str] = []
        self.now_s = 1000.0
        self.clients = Clients((*(gateways or (gateway(),)), FENCE))
        self.server = Server(
            self.clients,
            self.desk,
            learned=learned,
            on_learned=self._learn,
            clock=lambda: self.now_s,
        )
        self._listen = (auth, acct)
        self._loop = asyncio.new_event_loop()
        self._sockets: dict[str, socket.socket] = {}
        self._fences = itertools.count()

    def __enter__(self) -> "Rig":
        auth, acct = self._listen
        try:
            self._loop.run_until_complete(self.server.start([auth], [acct]))
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.close()
        for sock in self._sockets.values():
            sock.close()
        self._loop.close()

    def _learn(self, address: str) -> None:
        if address != FENCE_ADDRESS:
            self.learned.append(address)

    @property
    def stats(self) -> dict[str, int]:
        return self.server.stats

    def replace_clients(self, *gateways: Client) -> None:
        self.clients.replace((*gateways, FENCE))

    def socket_at(self, address: str) -> socket.socket:
        """The gateway's socket at an address, or at a further port of it: `127.0.0.1#2`."""
        if address not in self._sockets:
            host = address.partition("#")[0]
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind((host, 0))
            self._sockets[address] = sock
        return self._sockets[address]

    def port(self, *, is_acct: bool) -> int:
        addresses = self.server.acct_addresses if is_acct else self.server.auth_addresses
        return addresses[0][1]

    def ask(
        self,
        *datagrams: bytes,
        source: str = "127.0.0.1",
        to: str = "127.0.0.1",
        is_acct: bool = False,
    ) -> list[bytes]:
        """Send datagrams; what came back to the sender by the time all were worked through."""
        return [
            reply
            for reply, _sender in self.ask_from(*datagrams, source=source, to=to, is_acct=is_acct)
        ]

    def ask_from(
        self, *datagrams: bytes, source: str, to: str, is_acct: bool
    ) -> list[tuple[bytes, str]]:
        """The same, with the address each reply came from."""
        port = self.port(is_acct=is_acct)
        sock = self.socket_at(source)
        for datagram in datagrams:
            sock.sendto(datagram, (to, port))
        if ":" in to:
            return [self._wait_for(sock), *self.received(source)]
        self.fence(is_acct=is_acct)
        return self.received(source)

    def fence(self, *, is_acct: bool) -> None:
        """Return when the server has worked through everything sent before."""
        identifier = next(self._fences) % 256
        make = accounting_request if is_acct else access_request
        attributes = attribute(44, os.urandom(8))
        sock = self.socket_at(FENCE_ADDRESS)
        target = ("127.0.0.1", self.port(is_acct=is_acct))
        sock.sendto(make(identifier, attributes, secret=FENCE.secret), target)
        self._wait_for(sock)

    def received(self, source: str = "127.0.0.1") -> list[tuple[bytes, str]]:
        """What lies in a gateway's socket, with the sender's address."""
        self._loop.run_until_complete(asyncio.sleep(0))  # answers leave with the next turn
        found: list[tuple[bytes, str]] = []
        while True:
            try:
                datagram, sender = self.socket_at(source).recvfrom(5000)
            except BlockingIOError:
                return found
            found.append((datagram, sender[0]))

    def _wait_for(self, sock: socket.socket) -> tuple[bytes, str]:
        """Let the server's event loop turn until a datagram comes."""
        waiting = asyncio.wait_for(self._loop.sock_recvfrom(sock, 5000), PATIENCE_S)
        datagram, sender = self._loop.run_until_complete(waiting)
        return datagram, sender[0]
