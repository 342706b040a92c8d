"""Property tests: any order of logins, roaming, moves, lost and shuffled packets, reboots of
gateways, power cuts of the node, clock jumps, and what people do to the card meanwhile (top-ups,
extensions, replacing it), against a model that counts with plain numbers.

The model knows what each gateway measured and which packets the node acknowledged. It holds the
node to: usage exact to the octet and second; used + everything granted and not yet used never above
the quota, superseded grants aside; no phone locked out by a Stop that never came; a quota that
people raise by what they said and by nothing else; a ledger whose records of each session add up to
what its row says, and whose tree is that of its records.
"""

import asyncio
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.domain.session import Kind, Report, Session, apply
from portal.errors import DeskError
from radius.packet import ACCESS_ACCEPT, CLASS, SERVICE_TYPE, SESSION_TIMEOUT, integer_attribute
from tests.unit import ledger_check
from tests.unit.aaa.rig import INTERIM, ON, START, START_AT, STOP, NodeRig

ADDRESSES = ("10.20.0.1", "10.20.0.2")
PHONES = ("02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02", "02-AA-BB-CC-DD-03")
BEFORE_MIDNIGHT = START_AT + 4 * 3600 + 50 * 60
"""23:56 in Makassar: sessions are cut in two by the end of the day."""
QUOTA = 10_000_000
QUOTA_S = 18_000
VALID_S = 1000 * 86_400
MAX_TOTAL = (14559, 3)


@dataclass
class Running:
    """A session as its gateway knows it."""

    phone: str
    gateway: int
    serial: str
    acct: str
    class_value: bytes
    limit: int
    timeout_s: int
    began_s: float
    received: int = 0
    sent: int = 0
    """What the node was told and acknowledged: the latest by session time."""
    told_time_s: int = -1
    told_octets: int = 0
    is_superseded: bool = False
    is_stopped: bool = False
    heard_s: float = 0.0
    waiting: list[bytes] = field(default_factory=list)


class World:
    """Phones and gateways in front of a node, and what the node ought to have counted."""

    def __init__(self, rig: NodeRig, serial: str, code: str, devices: int, chance: random.Random):
        self.rig = rig
        self.serial = serial
        self.code = code
        self.devices = devices
        self.chance = chance
        self.quota = QUOTA
        self.quota_s = QUOTA_S
        self.extra_valid_s = 0
        self.sessions: list[Running] = []
        self.on_air: dict[tuple[str, int], Running] = {}
        self.boots = [0, 0]
        self.count = 0

    def used(self) -> int:
        return sum(running.told_octets for running in self.sessions)

    def used_s(self) -> int:
        return sum(max(running.told_time_s, 0) for running in self.sessions)

    def outstanding(self) -> int:
        return sum(
            max(0, running.limit - running.told_octets)
            for running in self.sessions
            if not running.is_superseded and not running.is_stopped
        )

    def outstanding_s(self) -> int:
        return sum(
            max(0, running.timeout_s - max(running.told_time_s, 0))
            for running in self.sessions
            if not running.is_superseded and not running.is_stopped
        )

    async def log_in(self, phone: str, gateway: int, *, by_mac: bool) -> None:
        self.count += 1
        acct = f"{self.boots[gateway]:02d}{self.count:06d}"
        user = phone if by_mac else self.code
        reply = await self.rig.access(
            ADDRESSES[gateway],
            user,
            user,
            phone,
            acct_session_id=acct,
            more=integer_attribute(SERVICE_TYPE, 2 if by_mac else 1),
        )
        assert reply is not None
        mine = [
            running
            for running in self.sessions
            if running.phone == phone and not running.is_superseded
        ]
        if reply.code != ACCESS_ACCEPT:
            others = {
                running.phone
                for running in self.sessions
                if not running.is_superseded and not running.is_stopped
            } - {phone}
            held = [running for running in mine if not running.is_stopped]
            left = self.quota - self.used() - self.outstanding()
            left += sum(max(0, r.limit - r.told_octets) for r in held)
            left_s = self.quota_s - self.used_s() - self.outstanding_s()
            left_s += sum(max(0, r.timeout_s - max(r.told_time_s, 0)) for r in held)
            if not by_mac:
                assert len(others) >= self.devices or left <= 0 or left_s <= 0, (
                    "an honest phone is locked out"
                )
            return
        for running in mine:
            running.is_superseded = True
        limit = int.from_bytes(reply.vendor(*MAX_TOTAL) or b"", "big")
        timeout_s = reply.integer(SESSION_TIMEOUT) or 0
        assert limit > 0 and 0 < timeout_s <= 86_400
        assert self.used() + self.outstanding() + limit <= self.quota, "granted twice"
        assert self.used_s() + self.outstanding_s() + timeout_s <= self.quota_s, "granted twice"
        running = Running(
            phone,
            gateway,
            self.serial,
            acct,
            reply.first[CLASS],
            limit,
            timeout_s,
            self.rig.elapsed_s,
        )
        running.heard_s = self.rig.elapsed_s
        self.sessions.append(running)
        # A gateway has one session a phone; the other gateway may keep a dead one.
        self.on_air[(phone, gateway)] = running
        if self.chance.random() < 0.8:
            await self.tell(running, START)

    async def move(self, phone: str, gateway: int) -> None:
        from portal.door import Phone
        from portal.tickets import Ticket

        mac = phone.replace("-", "").lower()
        self.rig.node.accounts.card_of_serial(self.serial, self.rig.node.now())
        account = self.rig.node.vouchers.find(self.serial).account
        account.move_count = 0
        ticket = self.rig.door.check_code(
            self.code, Phone(mac, True, gateway + 1, "10.1.0.9"), move=True
        )
        if not isinstance(ticket, Ticket):
            return
        # Whom the move displaced is the node's choice; what it displaced holds nothing any more.
        held = {device.mac for device in account.devices.values() if device.session_id is not None}
        for running in self.sessions:
            if running.phone.replace("-", "").lower() not in held:
                running.is_superseded = True
        await self.log_in(phone, gateway, by_mac=False)

    def use(self, running: Running, octets: int) -> None:
        """The phone downloads; its gateway stops it at the limit."""
        octets = min(octets, running.limit - running.received - running.sent)
        upload = octets // 7
        running.received += upload
        running.sent += octets - upload

    def time_s(self, running: Running) -> int:
        return min(int(self.rig.elapsed_s - running.began_s), running.timeout_s)

    async def tell(self, running: Running, status: int) -> None:
        """The gateway reports; the packet is lost, delayed, repeated or acknowledged."""
        time_s = 0 if status == START else self.time_s(running)
        datagram = self.rig.accounting(
            status,
            running.acct,
            user=running.serial,
            mac=running.phone,
            ip=f"10.{running.gateway + 1}.0.{9 + PHONES.index(running.phone)}",
            class_value=running.class_value,
            time_s=time_s,
            input_octets=running.received if status != START else None,
            output_octets=running.sent if status != START else None,
            cause=5 if status == STOP else None,
        )
        octets = running.received + running.sent if status != START else 0
        fate = self.chance.random()
        if fate < 0.15:
            return
        if fate < 0.3:
            running.waiting.append(datagram)
            self.note_delayed(running, len(running.waiting) - 1, status, time_s, octets)
            return
        await self.deliver(running, datagram, status, time_s, octets)
        if fate < 0.45:
            await self.deliver(running, datagram, status, time_s, octets)

    def note_delayed(
        self, running: Running, index: int, status: int, time_s: int, octets: int
    ) -> None:
        self.delayed.append((running, running.waiting[index], status, time_s, octets))

    @property
    def delayed(self) -> list[tuple[Running, bytes, int, int, int]]:
        if not hasattr(self, "_delayed"):
            self._delayed: list[tuple[Running, bytes, int, int, int]] = []
        return self._delayed

    async def deliver(
        self, running: Running, datagram: bytes, status: int, time_s: int, octets: int
    ) -> None:
        reply = await self.rig.send(datagram, ADDRESSES[running.gateway], is_acct=True)
        assert reply is not None, "accounting that was stored is answered"
        running.heard_s = self.rig.elapsed_s
        if running.is_stopped:
            return
        if time_s >= running.told_time_s:
            running.told_time_s = time_s
            running.told_octets = max(running.told_octets, octets)
        if status == STOP:
            running.is_stopped = True

    async def deliver_late(self) -> None:
        self.chance.shuffle(self.delayed)
        for late in self.delayed[:3]:
            await self.deliver(*late)
        del self.delayed[:3]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, as the node's sweep sees it. Who was silent for three interims is gone:
        the phone left, its gateway forgot it, its packets never come."""
        self.rig.sleep(seconds)
        self.rig.node.accounting.close_stale()
        await self.rig.node.hours.look()
        await self.rig.node.commit.now()
        for running in self.sessions:
            if self.rig.elapsed_s - running.heard_s > 900:
                running.is_superseded = True
                if self.on_air.get((running.phone, running.gateway)) is running:
                    del self.on_air[(running.phone, running.gateway)]
        self.delayed[:] = [
            late for late in self.delayed if self.rig.elapsed_s - late[0].heard_s <= 900
        ]

    async def restart(self) -> None:
        """Cut the node's power; nobody listened meanwhile, so silence counts anew."""
        await self.rig.restart()
        for running in self.sessions:
            if not running.is_superseded:
                running.heard_s = self.rig.elapsed_s

    async def reboot(self, gateway: int) -> None:
        """The gateway loses power: no Stop, perhaps an Accounting-On, ids may come again."""
        self.boots[gateway] += 1
        for key in [key for key in self.on_air if key[1] == gateway]:
            del self.on_air[key]
        self.delayed[:] = [late for late in self.delayed if late[0].gateway != gateway]
        if self.chance.random() < 0.6:
            await self.rig.account(ADDRESSES[gateway], ON, None)
            for running in self.sessions:
                # What the node had heard of has ended; an Accept without a Start still holds.
                if running.gateway == gateway and running.told_time_s >= 0:
                    running.is_superseded = True

    async def top_up(self, octets: int, seconds: int) -> None:
        await self.rig.node.vouchers.top_up(
            self.serial, octets=octets, seconds=seconds, reason="kurang", by="ani"
        )
        self.quota += octets
        self.quota_s += seconds

    async def extend(self, seconds: int) -> None:
        await self.rig.node.vouchers.extend(self.serial, seconds=seconds, reason="lama", by="ani")
        self.extra_valid_s += seconds

    async def replace(self) -> None:
        issued = await self.rig.node.vouchers.replace([self.serial], "hilang", by="budi")
        old, self.serial = self.serial, issued["vouchers"][0]["serial"]
        self.code = issued["vouchers"][0]["code"]
        assert self.rig.show(old)["state"] == "replaced"
        # Whatever its phones held ends; what their gateways still report is counted.
        for running in self.sessions:
            running.is_superseded = True

    async def at_once(self, running: Running | None, amount: int) -> None:
        """Two people change the card at once while a gateway reports."""
        changes = [self.top_up(amount, amount % 97), self.replace()]
        self.chance.shuffle(changes)
        if running is not None:
            changes.append(self.tell(running, INTERIM))
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert [type(outcome) for outcome in refused] == [DeskError]
        assert isinstance(refused[0], DeskError) and refused[0].key == "cards.busy"

    def check(self) -> None:
        shown = self.rig.show(self.serial)
        assert shown["octets_used"] == self.used()
        assert shown["seconds_used"] == self.used_s()
        assert shown["octets_left"] == max(0, self.quota - self.used())
        assert shown["seconds_left"] == max(0, self.quota_s - self.used_s())
        if shown["first_used_at"] is not None:
            ends_at = shown["first_used_at"] + VALID_S + self.extra_valid_s
            assert shown["expires_at"] == ends_at


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["login", "login", "mac", "move", "use", "use", "interim", "interim", "interim", "stop"]
            + ["late", "late", "reboot", "restart", "sleep", "sleep", "clock", "stale"]
            + ["top up", "extend", "replace", "at once"]
        ),
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(1, 4_000_000),
    ),
    min_size=5,
    max_size=40,
)


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(ACTIONS, st.integers(1, 3), st.integers(0, 2**32))
def test_any_history_is_counted_exactly_and_never_granted_twice(
    actions: list[tuple[str, int, int, int]], devices: int, seed: int
) -> None:
    async def play(directory: Path) -> None:
        rig = await NodeRig(directory, at=BEFORE_MIDNIGHT).open()
        rig.reject_after_s = 0.0
        rig.node.aaa.reject_after_s = 0.0
        try:
            for number, address in enumerate(ADDRESSES):
                await rig.gateway(f"pos-{number}", address)
            [(serial, code)] = await rig.cards(
                "p", data_total="10MB", time_total="5h", valid="1000d", devices=str(devices)
            )
            world = World(rig, serial, code, devices, random.Random(seed))
            for what, phone, gateway, amount in actions:
                await act(world, what, PHONES[phone], gateway, amount)
                world.check()
            rig.sleep(2 * 86_400)
            await rig.node.hours.tell_days()
            ledger_check.check(await rig.settled())
        finally:
            await rig.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory)))


async def act(world: World, what: str, phone: str, gateway: int, amount: int) -> None:
    running = world.on_air.get((phone, gateway))
    match what:
        case "login":
            await world.log_in(phone, gateway, by_mac=False)
        case "mac":
            await world.log_in(phone, gateway, by_mac=True)
        case "move":
            await world.move(phone, gateway)
        case "use" if running is not None:
            world.use(running, amount)
        case "interim" if running is not None:
            await world.tell(running, INTERIM)
        case "stop" if running is not None:
            del world.on_air[(phone, gateway)]
            await world.tell(running, STOP)
        case "late":
            await world.deliver_late()
        case "top up":
            await world.top_up(amount, amount % 3000)
        case "extend":
            await world.extend(amount)
        case "replace":
            await world.replace()
        case "at once":
            await world.at_once(running, amount)
        case "reboot":
            await world.reboot(gateway)
        case "restart":
            await world.restart()
        case "sleep":
            await world.pass_time(amount % 400)
        case "clock":
            world.rig.at += (amount % 200 - 100) * 3600
        case "stale":
            await world.pass_time(1000)


# One session against a model, for counters that fall and wrap


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 5 << 30), st.integers(0, 5 << 30)),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_session_with_gigawords_counts_what_its_latest_packet_says(
    steps: list[tuple[int, int, int]], has_losses: bool, chance: random.Random
) -> None:
    """Counters that only grow: loss, repeats and disorder leave the latest packet's values."""
    time_s = received = sent = 0
    reports = []
    for more_s, more_received, more_sent in steps:
        time_s += more_s + 1
        received += more_received
        sent += more_sent
        reports.append(Report(Kind.INTERIM, 1000 + time_s, time_s, received, sent, True))
    arriving = [r for r in reports if not has_losses or chance.random() < 0.7]
    arriving += [r for r in arriving if chance.random() < 0.3]
    chance.shuffle(arriving)
    session = Session(1, 1, 1, 1, "s", None, None, 1000, 1000)
    total = sum(apply(session, report, sends_gigawords=True).octets for report in arriving)
    latest = max(arriving, key=lambda report: report.session_time_s or 0, default=None)
    expected = 0 if latest is None else (latest.input_octets or 0) + (latest.output_octets or 0)
    assert total == session.octets == expected


@given(
    st.lists(st.integers(0, (1 << 32) - (3 << 30) - 2), min_size=1, max_size=30), st.integers(0, 99)
)
def test_32_bit_counters_that_wrap_are_counted_on(steps: list[int], other: int) -> None:
    """Without Gigawords, as long as a report comes at least once in each last GiB of a round."""
    session = Session(1, 1, 1, 1, "s", None, None, 0, 0)
    truth = time_s = 0
    for step in steps:
        time_s += 60
        truth += step
        apply(
            session,
            Report(Kind.INTERIM, time_s, time_s, truth % (1 << 32), other, False),
            sends_gigawords=False,
        )
    assert session.input_octets == truth
    assert session.output_octets == other


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 10_000), st.integers(0, 10_000)),
        min_size=1,
        max_size=20,
    )
)
def test_every_restart_of_a_gateway_s_counters_is_a_new_segment(
    steps: list[tuple[bool, int, int]],
) -> None:
    session = Session(1, 1, 1, 1, "s", None, None, 0, 0)
    truth = received = sent = time_s = 0
    for is_restart, more_received, more_sent in steps:
        time_s += 60
        if is_restart and received and sent:
            # A restart shows only if a counter falls; the gateway's new ones start below.
            received, sent = min(more_received, received - 1), min(more_sent, sent - 1)
            truth += received + sent
        else:
            received, sent = received + more_received, sent + more_sent
            truth += more_received + more_sent
        apply(
            session,
            Report(Kind.INTERIM, time_s, time_s, received, sent, True),
            sends_gigawords=True,
        )
    assert session.octets == truth
