"""For tests of what the node asks gateways to do with running sessions.

A whole node on real datagrams; in place of the sender's sockets stands one that notes what would be
sent and answers as told. The wire itself is in tests/unit/radius/test_conformance_dynauth.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portal.domain.session import Session
from portal.sessions import Live
from radius.dynauth import Outcome
from radius.packet import (
    ACCESS_ACCEPT,
    CLASS,
    VENDOR_SPECIFIC,
    Packet,
)
from tests.unit.aaa.rig import INTERIM, START, NodeRig, play

COOVA, MIKROTIK, GENERIC, USPOT = "10.20.0.1", "10.20.0.2", "10.20.0.3", "10.20.0.4"
PHONE, OTHER = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
MAX_TOTAL = (14559, 3)
DOWN, UP = (14122, 8), (14122, 7)
RATE_LIMIT = (14988, 8)
MB = 1_000_000
Story = Callable[[NodeRig], Awaitable[None]]


class Sender:
    """Notes what is asked; answers ack unless told otherwise."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int, dict[Any, bytes]]] = []
        """Kind, address, port, values by type and (vendor, type), of the family's own port."""
        self.through: list[int] = []
        """Ports asked by the socket that hears accounting, as a second way."""
        self.outcome = Outcome("ack", None, 0.031)
        self.answers: dict[str, Outcome] = {}

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.asked]

    def _ask(
        self, kind: str, address: str, port: int, attributes: list[tuple[int, bytes]], options: Any
    ) -> Outcome:
        values: dict[Any, bytes] = {}
        for number, value in attributes:
            if number == VENDOR_SPECIFIC:
                values[int.from_bytes(value[:4], "big"), value[4]] = value[6:]
            else:
                values[number] = value
        if options["through"] is None:
            self.asked.append((kind, address, port, values))
        else:
            self.through.append(port)
        return self.answers.get(kind, self.outcome)

    async def disconnect(
        self, address: str, port: int, secret: bytes, attributes: Any, **options: Any
    ) -> Outcome:
        return self._ask("disconnect", address, port, attributes, options)

    async def change(
        self, address: str, port: int, secret: bytes, attributes: Any, **options: Any
    ) -> Outcome:
        return self._ask("coa", address, port, attributes, options)

    def close(self) -> None:
        pass


def sender(rig: NodeRig) -> Sender:
    """Stand in for the sender of the node that runs now."""
    made = Sender()
    rig.node.disconnects._sender = made  # type: ignore[assignment]
    return made


async def settle(rig: NodeRig) -> None:
    """Let what the node does by itself come to its end."""
    for _ in range(3):
        tasks = [*rig.node.renewals._tasks, *rig.node.disconnects._tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        await rig.node.commit.now()


async def online(
    rig: NodeRig,
    address: str,
    code: str,
    serial: str,
    *,
    acct: str = "s1",
    mac: str = PHONE,
    user: str | None = None,
) -> bytes:
    """A phone logs in and its session begins; the Class."""
    reply = await rig.access(address, user or code, user or code, mac, acct_session_id=acct)
    assert reply is not None and reply.code == ACCESS_ACCEPT
    class_value = reply.first[CLASS]
    await rig.account(address, START, acct, user=serial, mac=mac, class_value=class_value)
    return class_value


async def report(
    rig: NodeRig,
    address: str,
    serial: str,
    class_value: bytes,
    *,
    time_s: int,
    octets: int,
    acct: str = "s1",
    mac: str = PHONE,
    status: int = INTERIM,
) -> Packet:
    reply = await rig.account(
        *(address, status, acct),
        user=serial,
        mac=mac,
        class_value=class_value,
        time_s=time_s,
        input_octets=0,
        output_octets=octets,
    )
    assert reply is not None
    await settle(rig)
    return reply


def live(rig: NodeRig, acct: str = "s1") -> Live:
    return next(one for one in rig.node.sessions.in_memory() if one.session.acct_session_id == acct)


def session(rig: NodeRig, acct: str = "s1") -> Session:
    return live(rig, acct).session


def number(value: bytes | None) -> int:
    assert value is not None
    return int.from_bytes(value, "big")


def stage(tmp_path: Path, story: Story) -> None:
    async def with_others(rig: NodeRig) -> None:
        await rig.gateway("mikrotik", MIKROTIK, "mikrotik")
        await rig.gateway("generic", GENERIC, "generic")
        await rig.gateway("uspot", USPOT, "uspot")
        await story(rig)

    play(tmp_path, with_others, COOVA)
