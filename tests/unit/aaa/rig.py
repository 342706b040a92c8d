"""A whole node on a clock that tests move, fed with real RADIUS datagrams without sockets.

`NodeRig` opens the same Node that `pesisir node` runs, on a database file of its own, and hands
datagrams to the same RADIUS server; only the UDP sockets are left out. `restart` is a power cut:
the node is thrown away without a word and opened again from what the disk has.
"""

import asyncio
import itertools
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portal import keys, settings
from portal.door import Door, Phone
from portal.node import Node
from portal.node_clock import Clocks
from portal.store import db
from portal.tickets import Ticket
from radius.packet import (
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLING_STATION_ID,
    CLASS,
    COA_REQUEST,
    DISCONNECT_REQUEST,
    EVENT_TIMESTAMP,
    FRAMED_IP_ADDRESS,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    attribute,
    integer_attribute,
    sign_request,
    verify_response,
)
from radius.password import hide
from radius.server import Server
from tests.unit import new_database
from tests.unit.radius.rig import Outbox

SECRET = "pantai-secret-0123456789"
START_AT = 1_795_000_000
"""2026-11-18 11:06:40 UTC, a Wednesday: 19:06 in Makassar."""
START, STOP, INTERIM, ON, OFF = 1, 2, 3, 7, 8

_files = itertools.count(1)


class NodeRig:
    """A node, its gateways and its time."""

    def __init__(self, directory: Path, *, at: float = START_AT):
        self.directory = directory / f"node-{next(_files)}"
        self.directory.mkdir(mode=0o700)
        self.at = at
        self.elapsed_s = 1000.0
        self.is_synchronised = False
        self.reject_after_s = 0.01
        self.node: Node
        self._identifiers = itertools.count()
        self._ports = itertools.count(20_000)
        self._started = False

    async def open(self, environment: dict[str, str] | None = None) -> "NodeRig":
        """Make the directory at the first call, open the node."""
        if not self._started:
            keys.write(self.directory, keys.make(os.urandom))
            self._started = True
            path = self.directory / db.FILE_NAME
            if not path.exists():
                new_database.create(path)
        clocks = Clocks(lambda: self.at, lambda: self.elapsed_s, lambda: self.is_synchronised)
        found = settings.load(self.directory, environment or {})
        self.node = await Node.open(self.directory, found, clocks)
        await self.node.begin_service()
        self.node.aaa.reject_after_s = self.reject_after_s
        self.server = Server(
            self.node.clients,
            self.node.aaa,
            learned=self.node.store.learned_addresses(),
            on_learned=self.node.learned_address,
            clock=lambda: self.elapsed_s,
        )
        if not self.node.admin.sites_by_id:
            await self.node.admin.add_site("TJL", "Tanjung Laut", "Asia/Makassar")
        return self

    async def close(self) -> None:
        """Stop the node in good order."""
        await self.node.close()

    async def restart(self, environment: dict[str, str] | None = None) -> None:
        """Cut the power: nothing that was not committed survives."""
        node = self.node
        for task in node._tasks:
            task.cancel()
        if node.commit._task is not None:
            node.commit._task.cancel()
        await asyncio.gather(*node._tasks, return_exceptions=True)
        await node.disconnects.stop()
        node._database._settler = None  # the journal stays as it is
        await node._database.close()
        self.elapsed_s += 7
        self.at += 7
        await self.open(environment)

    async def settled(self) -> Path:
        """Have everything in its tables; returns the database file."""
        await self.node.commit.now()
        while len(self.node.store.journal):
            await self.node.commit.settle()
        return self.directory / db.FILE_NAME

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds
        self.elapsed_s += seconds

    @property
    def door(self) -> Door:
        """What the portal's pages use."""
        return self.node.door

    async def gateway(self, name: str, address: str, family: str = "coova", **more: Any) -> int:
        """Add a gateway; returns its id."""
        gateway = await self.node.admin.add_gateway(
            name, family=family, address=address, secret=SECRET, **more
        )
        return gateway.id

    async def cards(self, profile: str, count: int = 1, **limits: str) -> list[tuple[str, str]]:
        """Set a profile and issue cards of it: [(serial, code)]."""
        await self.node.admin.set_profile(profile, limits)
        issued = await self.node.vouchers.issue(profile, count=count)
        return [(card["serial"], card["code"]) for card in issued["vouchers"]]

    def show(self, key: str) -> dict[str, Any]:
        """`pesisir voucher show`."""
        return self.node.vouchers.show(key)

    # -- packets ---------------------------------------------------------------------------

    async def send(self, datagram: bytes, address: str, *, is_acct: bool) -> Packet | None:
        """Hand in one datagram and wait until everything it caused is durable; the reply if any."""
        outbox = Outbox(1 if is_acct else 0, is_acct=is_acct)
        port = next(self._ports) % 40_000 + 20_000
        self.server.receive(outbox, datagram, (address, port), None)
        await self.node.commit.now()
        if not outbox.sent and not is_acct:
            await asyncio.sleep(self.node.aaa.reject_after_s + 0.02)
            for _ in range(20):
                # Late on a busy machine: both timers ran out at once.
                if not outbox.sent:
                    await asyncio.sleep(0)
        # What the node asks the gateway goes back by the same way.
        replies = [one for one in outbox.sent if one[0] not in (DISCONNECT_REQUEST, COA_REQUEST)]
        if not replies:
            return None
        return verify_response(datagram[4:20], replies[0], SECRET.encode())

    async def access(
        self,
        address: str,
        user: str,
        password: str | None,
        mac: str,
        *,
        acct_session_id: str | None = None,
        more: bytes = b"",
    ) -> Packet | None:
        """Send an Access-Request with Message-Authenticator; PAP when there is a password."""
        authenticator = os.urandom(16)
        body = attribute(USER_NAME, user.encode())
        if password is not None:
            hidden = hide(password.encode(), authenticator, SECRET.encode())
            body += attribute(USER_PASSWORD, hidden)
        body += attribute(CALLING_STATION_ID, mac.encode())
        if acct_session_id is not None:
            body += attribute(ACCT_SESSION_ID, acct_session_id.encode())
        body += more
        datagram = sign_request(
            ACCESS_REQUEST,
            next(self._identifiers) % 256,
            body,
            SECRET.encode(),
            message_authenticator=True,
            authenticator=authenticator,
        )
        return await self.send(datagram, address, is_acct=False)

    def accounting(
        self,
        status: int,
        acct_session_id: str | None,
        *,
        user: str = "",
        mac: str | None = None,
        ip: str | None = None,
        class_value: bytes | None = None,
        time_s: int | None = None,
        input_octets: int | None = None,
        output_octets: int | None = None,
        gigawords: bool = True,
        cause: int | None = None,
        event_at: int | None = None,
        nas_id: str | None = None,
        more: bytes = b"",
    ) -> bytes:
        """Build an Accounting-Request."""
        body = integer_attribute(ACCT_STATUS_TYPE, status)
        if user:
            body += attribute(USER_NAME, user.encode())
        if acct_session_id is not None:
            body += attribute(ACCT_SESSION_ID, acct_session_id.encode())
        if mac is not None:
            body += attribute(CALLING_STATION_ID, mac.encode())
        if ip is not None:
            body += attribute(FRAMED_IP_ADDRESS, bytes(int(part) for part in ip.split(".")))
        if class_value is not None:
            body += attribute(CLASS, class_value)
        if time_s is not None:
            body += integer_attribute(ACCT_SESSION_TIME, time_s)
        for octets, low, high in (
            (input_octets, ACCT_INPUT_OCTETS, ACCT_INPUT_GIGAWORDS),
            (output_octets, ACCT_OUTPUT_OCTETS, ACCT_OUTPUT_GIGAWORDS),
        ):
            if octets is not None:
                body += integer_attribute(low, octets & 0xFFFFFFFF)
                if gigawords:
                    body += integer_attribute(high, octets >> 32)
        if cause is not None:
            body += integer_attribute(ACCT_TERMINATE_CAUSE, cause)
        if event_at is not None:
            body += attribute(EVENT_TIMESTAMP, struct.pack("!I", event_at))
        if nas_id is not None:
            body += attribute(NAS_IDENTIFIER, nas_id.encode())
        return sign_request(
            ACCOUNTING_REQUEST, next(self._identifiers) % 256, body + more, SECRET.encode()
        )

    async def account(self, address: str, *args: Any, **kwargs: Any) -> Packet | None:
        """Send an Accounting-Request built by `accounting`."""
        return await self.send(self.accounting(*args, **kwargs), address, is_acct=True)

    def ticket(self, code: str, phone: Phone, *, move: bool = False) -> Ticket:
        """A one-time password from the portal's door."""
        ticket = self.door.check_code(code, phone, move=move)
        assert isinstance(ticket, Ticket), ticket
        return ticket


def play(tmp_path: Path, story: Callable[[NodeRig], Awaitable[None]], gateway: str) -> None:
    """Open a node with one gateway at this address, let the story happen, close it."""

    async def whole() -> None:
        rig = await NodeRig(tmp_path).open()
        try:
            await rig.gateway("pos-1", gateway)
            await story(rig)
        finally:
            await rig.close()

    asyncio.run(whole())


def octets_granted(packet: Packet) -> int:
    """CoovaChilli-Max-Total-Octets with its Gigawords."""
    low, high = packet.vendor(14559, 3), packet.vendor(14559, 23)
    assert low is not None and high is not None
    return int.from_bytes(high, "big") << 32 | int.from_bytes(low, "big")
