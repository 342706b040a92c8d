"""Everything after the Access-Accept may be lost (design, quota rules 2 and 8), or only some of it.

The world of test_properties.py, with gateways that hear every CoA-Request, every Disconnect-Request
and every limit in an Accounting-Response, none of them, or some by chance. However that goes, used
+ everything the gateways still allow never exceeds the quota.
"""

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radius.dynauth import Outcome
from radius.packet import ACCT_SESSION_ID, SESSION_TIMEOUT, VENDOR_SPECIFIC
from tests.unit.aaa.rig import START, STOP, NodeRig
from tests.unit.aaa.test_properties import (
    ADDRESSES,
    MAX_TOTAL,
    PHONES,
    Running,
    World,
    act,
)


class Air:
    """Takes the place of the node's sender: what is asked reaches the gateway, or does not."""

    def __init__(self, world: "ControlledWorld") -> None:
        self._world = world
        self.sent: list[tuple[str, str, bytes]] = []
        """Kind, address, Acct-Session-Id."""

    async def disconnect(
        self, address: str, port: int, secret: bytes, attributes: list[tuple[int, bytes]], **_: Any
    ) -> Outcome:
        self.sent.append(("disconnect", address, dict(attributes)[ACCT_SESSION_ID]))
        # A gateway that says yes and goes on, or says nothing.
        return Outcome("ack" if self._world.is_heard() else "timeout")

    async def change(
        self, address: str, port: int, secret: bytes, attributes: list[tuple[int, bytes]], **_: Any
    ) -> Outcome:
        acct = dict(attributes)[ACCT_SESSION_ID]
        self.sent.append(("coa", address, acct))
        if not self._world.is_heard():
            return Outcome("timeout")
        for running in self._world.sessions:
            if running.acct.encode() == acct and ADDRESSES[running.gateway] == address:
                self._world.obey(running, attributes)
        # The answer can be lost too.
        return Outcome("ack" if self._world.is_heard() else "timeout")

    def hear(self, datagram: bytes, sender: tuple[str, int]) -> None:
        raise AssertionError("nothing is answered over UDP here")

    def close(self) -> None:
        pass


class ControlledWorld(World):
    """Gateways that hear a share of what they are told."""

    heard: float = 1.0
    superseded: dict[int, tuple[int, int]]
    """What a session had reported when it was superseded, by its number."""

    def watch(self) -> None:
        """Stand in for the sender of the node that runs now."""
        self.air = Air(self)
        self.rig.node.disconnects._sender = self.air  # type: ignore[assignment]

    def is_heard(self) -> bool:
        return self.chance.random() < self.heard

    def obey(self, running: Running, attributes: list[tuple[int, bytes]]) -> None:
        """Take over limits, which count from the session's beginning; 0 is no limit."""
        if self.on_air.get((running.phone, running.gateway)) is not running:
            return
        vendor = {}
        for kind, value in attributes:
            if kind == SESSION_TIMEOUT:
                running.timeout_s = int.from_bytes(value, "big")
            elif kind == VENDOR_SPECIFIC:
                vendor[int.from_bytes(value[:4], "big"), value[4]] = value[6:]
        limit = int.from_bytes(vendor[MAX_TOTAL], "big")
        assert limit > 0 and running.timeout_s > 0, "0 would be no limit at all"
        running.limit = limit

    async def deliver(
        self, running: Running, datagram: bytes, status: int, time_s: int, octets: int
    ) -> None:
        reply = await self.rig.send(datagram, ADDRESSES[running.gateway], is_acct=True)
        assert reply is not None
        running.heard_s = self.rig.elapsed_s
        if not running.is_stopped:
            if time_s >= running.told_time_s:
                running.told_time_s = time_s
                running.told_octets = max(running.told_octets, octets)
            running.is_stopped = status == STOP
        if status in (START, STOP):
            assert not reply.first, "nothing may be changed by these"
        elif reply.first and self.is_heard():
            pairs = [(kind, value) for kind in reply.first for value in reply.all(kind)]
            self.obey(running, pairs)

    async def restart(self) -> None:
        await super().restart()
        self.watch()

    async def settle(self) -> None:
        """Let what the node does by itself come to its end."""
        for _ in range(3):
            tasks = [*self.rig.node.renewals._tasks, *self.rig.node.disconnects._tasks]
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.rig.node.commit.now()

    def check_limits(self) -> None:
        """What superseded sessions still reported is on top: it was used already when the next
        grant was given, only not known."""
        octets = seconds = 0
        for number, running in enumerate(self.sessions):
            if running.is_superseded:
                known = (running.told_octets, max(running.told_time_s, 0))
                first = self.superseded.setdefault(number, known)
                octets, seconds = octets + known[0] - first[0], seconds + known[1] - first[1]
        assert self.used() + self.outstanding() - octets <= self.quota, "more than there is"
        assert self.used_s() + self.outstanding_s() - seconds <= self.quota_s, "more than there is"


# Each phone has its gateway, so that most of what happens happens to a session.
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["login"] * 4
            + ["use"] * 5
            + ["interim"] * 6
            + ["sleep", "sleep", "top up", "top up", "move", "late", "stop", "restart", "stale"]
            + ["extend", "replace", "reboot"]
        ),
        st.integers(0, 2),
        st.integers(1, 4_000_000),
    ),
    min_size=10,
    max_size=40,
)


@pytest.mark.parametrize("heard", [0.0, 0.5, 1.0], ids=["all lost", "half lost", "none lost"])
def test_limits_hold_whatever_is_lost(heard: float) -> None:
    @settings(
        max_examples=40,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(ACTIONS, st.integers(1, 3), st.integers(0, 2**32))
    def run(actions: list[tuple[str, int, int]], devices: int, seed: int) -> None:
        async def play(directory: Path) -> None:
            rig = await NodeRig(directory).open()
            rig.reject_after_s = 0.0
            rig.node.aaa.reject_after_s = 0.0
            try:
                for number, address in enumerate(ADDRESSES):
                    await rig.gateway(f"pos-{number}", address)
                [(serial, code)] = await rig.cards(
                    "p", data_total="10MB", time_total="5h", valid="1000d", devices=str(devices)
                )
                chance = random.Random(seed)
                world = ControlledWorld(rig, serial, code, devices, chance)
                world.heard, world.superseded = heard, {}
                world.watch()
                for what, phone, amount in actions:
                    await act(world, what, PHONES[phone], phone % 2, amount)
                    await world.settle()
                    world.check()
                    world.check_limits()
            finally:
                await rig.close()

        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(play(Path(directory)))

    run()
