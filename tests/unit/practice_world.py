"""A practice gateway for tests, and a small RADIUS server that answers as told: real UDP and HTTP,
a clock that the test moves."""

import asyncio
import http.client
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from portal.practice.uam import uam_key, uam_quote
from radius import packet as radius

SECRET = b"a shared secret of 22+"
UAM_SECRET = "greatsecret"
PORTAL = "http://127.0.0.1:8080/"
CODE = b"482917305515"
Address = tuple[str, int]
Answer = tuple[int, bytes] | None


class Node(asyncio.DatagramProtocol):
    """Answers what `answers` says, and keeps every datagram."""

    def __init__(self) -> None:
        self.accept = radius.attribute(radius.CLASS, b"\x00class\xff")
        self.answers: Callable[[radius.Packet], Answer] = self.usual
        self.datagrams: list[tuple[bytes, Address]] = []
        self.arrived = asyncio.Event()
        self.transport: asyncio.DatagramTransport | None = None

    def usual(self, packet: radius.Packet) -> Answer:
        if packet.code == radius.ACCOUNTING_REQUEST:
            assert radius.verify_accounting(packet, SECRET)
            return radius.ACCOUNTING_RESPONSE, b""
        if packet.integer(radius.SERVICE_TYPE) == 2:
            return radius.ACCESS_REJECT, b""
        return radius.ACCESS_ACCEPT, self.accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        assert self.transport is not None
        self.datagrams.append((data, (str(addr[0]), addr[1])))
        self.arrived.set()
        packet = radius.parse(data)
        if packet.code in (radius.ACCESS_REQUEST, radius.ACCOUNTING_REQUEST):
            answer = self.answers(packet)
            if answer is not None:
                reply = radius.build_reply(packet, answer[0], answer[1], SECRET)
                self.transport.sendto(reply, addr)

    @property
    def address(self) -> Address:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")
        return str(host), int(port)

    def packets(self, code: int | None = None, status: int | None = None) -> list[radius.Packet]:
        """What arrived, in order, of this code and this Acct-Status-Type."""
        found = [radius.parse(data) for data, _ in self.datagrams]
        return [
            packet
            for packet in found
            if code in (None, packet.code)
            and status in (None, packet.integer(radius.ACCT_STATUS_TYPE))
        ]

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for datagrams until the condition holds, at most a minute."""
        async with asyncio.timeout(60):
            while not is_true():
                self.arrived.clear()
                await self.arrived.wait()


START, STOP, INTERIM, ON, OFF = 1, 2, 3, 7, 8


class Clock:
    def __init__(self) -> None:
        self.at = 1_795_300_000.0

    def __call__(self) -> float:
        return self.at


class World:
    """A node, a gateway and a first phone on the Wi-Fi."""

    def __init__(self, node: Node, gateway: PracticeGateway, clock: Clock) -> None:
        self.node = node
        self.gateway = gateway
        self.clock = clock
        self.phone = gateway.phones[0]

    async def logon(self, phone: Phone | None = None, user_name: str = "A017-23") -> str:
        """Log in as a portal would, with PAP."""
        phone = phone or self.phone
        self.gateway.arrival_url(phone)
        return await self.gateway.logon(phone, hand_off(phone, user_name))

    async def stops(self) -> list[radius.Packet]:
        await self.gateway.settled()
        return self.node.packets(status=STOP)


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    node, clock = Node(), Clock()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: node, local_addr=("127.0.0.1", 0)
    )
    settings: dict[str, Any] = {
        "radius_auth": node.address,
        "radius_acct": node.address,
        "secret": SECRET.decode(),
        "uam_secret": UAM_SECRET,
        "portal_url": PORTAL,
        "nas_id": "latihan",
        "clock": clock,
        "listen": ("127.0.0.1", 0),
        "retry_s": (0.05, 0.05, 0.05),
    }
    gateway = PracticeGateway(**(settings | options))
    try:
        await gateway.start()
        yield World(node, gateway, clock)
    finally:
        await gateway.stop()
        transport.close()
        await asyncio.sleep(0)


def hand_off(phone: Phone, user_name: str, password: bytes = CODE, size: int = 16) -> str:
    key = uam_key(phone.challenge, UAM_SECRET)
    padded = password.ljust(size, b"\0")
    hidden = bytes(octet ^ key[i % 16] for i, octet in enumerate(padded)).hex()
    return f"username={uam_quote(user_name)}&password={hidden}&userurl="


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


async def fetch(
    url: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers (lower case) and body of one request; redirects are not followed."""

    def ask() -> tuple[int, dict[str, str], str]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers=headers or {})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, body

    return await asyncio.to_thread(ask)


def octets_limit(octets: int) -> bytes:
    limit = radius.vendor_attribute(14559, 3, (octets & 0xFFFFFFFF).to_bytes(4))
    return limit + radius.vendor_attribute(14559, 23, (octets >> 32).to_bytes(4))
