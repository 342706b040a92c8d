"""Whether a phone is captive, and how much longer not: against what its gateway really does."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.captivity import CAPTIVE, Captivity
from portal.domain import hours, quota
from radius.packet import (
    ACCESS_ACCEPT,
    CLASS,
    SERVICE_TYPE,
    SESSION_TIMEOUT,
    Packet,
    integer_attribute,
)
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig, octets_granted, play

GATEWAY = "10.20.0.1"
OTHER_GATEWAY = "10.30.0.1"
PHONE, OTHER = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
IP, OTHER_IP = "10.20.1.7", "10.20.1.8"
LIMITS = {"data_day": "500MB", "time_day": "2h"}

Story = Callable[[NodeRig], Awaitable[None]]


class Session:
    """One session of a phone at a gateway."""

    def __init__(self, rig: NodeRig, acct: str, mac: str, ip: str, address: str) -> None:
        self.rig, self.acct, self.mac, self.ip, self.address = rig, acct, mac, ip, address
        self.class_value = b""
        self.timeout_s = 0
        self.limit_octets: int | None = None
        self.began_s = 0.0
        self.is_told = True
        """Its gateway has the limits the node means; a top-up may not have reached it."""

    async def log_in(self, user: str, *, by_mac: bool = False) -> bool:
        reply = await self.rig.access(
            self.address,
            user,
            user,
            self.mac,
            acct_session_id=self.acct,
            more=integer_attribute(SERVICE_TYPE, 2 if by_mac else 1),
        )
        assert reply is not None
        if reply.code != ACCESS_ACCEPT:
            return False
        self.class_value = reply.first[CLASS]
        self.timeout_s = int.from_bytes(reply.first[SESSION_TIMEOUT], "big")
        self.limit_octets = octets_granted(reply) if reply.vendor(14559, 3) else None
        self.began_s = self.rig.elapsed_s
        return True

    async def report(self, status: int, octets: int = 0) -> None:
        time_s = int(self.rig.elapsed_s - self.began_s)
        reply = await self.rig.account(
            self.address,
            status,
            self.acct,
            mac=self.mac,
            ip=self.ip,
            class_value=self.class_value,
            time_s=None if status == START else time_s,
            input_octets=None if status == START else octets // 3,
            output_octets=None if status == START else octets - octets // 3,
        )
        assert reply is not None
        self.hear(reply)

    def hear(self, reply: Packet) -> None:
        """Take new limits from an Accounting-Response, as CoovaChilli does (`acctupdate`)."""
        self.is_told = True
        if reply.vendor(14559, 3) is not None and self.limit_octets is not None:
            self.limit_octets = octets_granted(reply) or None
        if SESSION_TIMEOUT in reply.first:
            self.timeout_s = int.from_bytes(reply.first[SESSION_TIMEOUT], "big")


async def online(
    rig: NodeRig,
    code: str,
    acct: str = "a1",
    mac: str = PHONE,
    ip: str = IP,
    address: str = GATEWAY,
) -> Session:
    found = Session(rig, acct, mac, ip, address)
    assert await found.log_in(code)
    await found.report(START)
    return found


def test_a_phone_counts_down_by_the_tightest_limit(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("harian", 1, **LIMITS)
        of = rig.node.captivities.of
        assert of(IP) == CAPTIVE == Captivity(True, None, None)
        session = await online(rig, code)
        assert of(IP) == Captivity(False, 7_200, 500_000_000)
        rig.sleep(100)
        assert of(IP).seconds_left == 7_100, "time runs before it is reported"
        rig.sleep(200)
        await session.report(INTERIM, 120_000_000)
        assert of(IP) == Captivity(False, 6_900, 380_000_000)
        rig.sleep(50)
        await session.report(STOP, 130_000_000)
        assert of(IP) == CAPTIVE

    play(tmp_path, story, GATEWAY)


def test_without_limits_nothing_counts_down(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("bebas")
        await online(rig, code)
        assert rig.node.captivities.of(IP) == Captivity(False, None, None)

    play(tmp_path, story, GATEWAY)


def test_a_used_up_phone_is_captive_even_while_its_stop_is_lost(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("harian", 1, **LIMITS)
        session = await online(rig, code)
        rig.sleep(60)
        await session.report(INTERIM, 500_000_000)
        assert rig.node.captivities.of(IP) == CAPTIVE

        rig.sleep(86_400)
        [(_, code)] = await rig.cards("waktu", time_day="1h")
        session = await online(rig, code, "a2", OTHER, OTHER_IP)
        rig.sleep(3_599)
        assert rig.node.captivities.of(OTHER_IP) == Captivity(False, 1)
        rig.sleep(1)
        assert rig.node.captivities.of(OTHER_IP) == CAPTIVE, "its gateway has the limit itself"

    play(tmp_path, story, GATEWAY)


def test_a_slowed_phone_is_not_captive_and_has_no_limit(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("pelan", data_day="10MB", when_used_up="throttle:64k")
        session = await online(rig, code)
        assert rig.node.captivities.of(IP) == Captivity(False, None, 10_000_000)
        rig.sleep(60)
        await session.report(INTERIM, 10_000_000)
        assert rig.node.captivities.of(IP) == Captivity(False), "it comes back by itself"
        await session.report(STOP, 10_000_000)
        await online(rig, code, "a2")
        assert rig.node.captivities.of(IP) == Captivity(False)

    play(tmp_path, story, GATEWAY)


def test_opening_hours_and_validity_end_it(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        # It is 19:06:40 in Makassar.
        [(_, code)] = await rig.cards("sore", hours="18:00-20:00", valid="30d")
        await online(rig, code)
        assert rig.node.captivities.of(IP) == Captivity(False, 53 * 60 + 20)
        rig.sleep(53 * 60 + 20)
        assert rig.node.captivities.of(IP) == CAPTIVE

        [(_, code)] = await rig.cards("singkat", valid="10m")
        await online(rig, code, "a2", OTHER, OTHER_IP)
        assert rig.node.captivities.of(OTHER_IP) == Captivity(False, 600)
        rig.sleep(600)
        assert rig.node.captivities.of(OTHER_IP) == CAPTIVE

    play(tmp_path, story, GATEWAY)


def test_a_limit_of_each_session_is_told_too(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("sesi", data_session="50MB", time_session="30m")
        session = await online(rig, code)
        rig.sleep(300)
        await session.report(INTERIM, 20_000_000)
        rig.sleep(100)
        assert rig.node.captivities.of(IP) == Captivity(False, 1_400, 30_000_000)

    play(tmp_path, story, GATEWAY)


def test_a_revoked_card_is_about_to_be_captive(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("harian", 1, **LIMITS)
        session = await online(rig, code)
        await rig.node.vouchers.revoke([serial], "hilang")
        # Whether it is out already, its gateway says, and nobody else.
        assert rig.node.captivities.of(IP) == Captivity(False, 0, 0)
        await session.report(STOP, 10)
        assert rig.node.captivities.of(IP) == CAPTIVE

    play(tmp_path, story, GATEWAY)


def test_while_the_link_is_down_only_the_gateways_clock_runs(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("dua", time_day="2h", devices="2")
        session = await online(rig, code)
        given_s = session.timeout_s
        backhaul = rig.node.backhaul
        backhaul._outages.append((int(rig.at), None))
        rig.sleep(600)
        assert backhaul.state == "down"
        found = rig.node.captivities.of(IP)
        assert not found.is_captive, "it is in, though nobody answers"
        # The card keeps its two hours; the session is cut when its gateway says so.
        assert found.seconds_left == given_s - 600
        limits = rig.node.captivities._unreported_s(
            rig.node.sessions.at_ip(IP)[0].session, int(rig.at)
        )
        assert limits == 0

    play(tmp_path, story, GATEWAY)


def test_two_phones_of_one_card_are_each_told_what_they_may_use(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("berdua", data_day="400MB", devices="2")
        first = await online(rig, code)
        second = await online(rig, code, "a2", OTHER, OTHER_IP)
        told = [rig.node.captivities.of(ip).octets_left for ip in (IP, OTHER_IP)]
        assert told == [first.limit_octets, second.limit_octets]
        assert sum(octets or 0 for octets in told) <= 400_000_000

    play(tmp_path, story, GATEWAY)


# --- who cannot be told, and who was put out in silence -------------------------------------------


def test_an_address_that_went_to_another_phone_speaks_of_that_phone(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, lost), (_, code)] = await rig.cards("harian", 2, **LIMITS)
        session = await online(rig, lost)
        rig.sleep(600)
        await session.report(INTERIM, 499_000_000)
        # No Stop is heard; its address is leased again.
        await online(rig, code, "a2", OTHER, IP)
        assert rig.node.captivities.of(IP) == Captivity(False, 7_200, 500_000_000)

    play(tmp_path, story, GATEWAY)


def test_the_same_network_in_two_villages_tells_nobody(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, first), (_, second)] = await rig.cards("harian", 2, **LIMITS)
        await rig.gateway("pos-2", OTHER_GATEWAY)
        await online(rig, first, ip="10.1.0.7")
        assert rig.node.captivities.of("10.1.0.7").is_captive is False
        await online(rig, second, "b1", OTHER, "10.1.0.8", OTHER_GATEWAY)
        assert rig.node.captivities.of("10.1.0.7") == CAPTIVE
        assert rig.node.captivities.of("10.1.0.8") == CAPTIVE

    play(tmp_path, story, GATEWAY)


def test_guest_networks_side_by_side_are_told_apart(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, first), (_, second)] = await rig.cards("harian", 2, **LIMITS)
        await rig.gateway("pos-2", OTHER_GATEWAY)
        one, two = (rig.node.admin.gateway(name).guest_net for name in ("pos-1", "pos-2"))
        assert (one, two) == ("10.64.0.0/22", "10.64.4.0/22"), "as given without being asked for"
        await online(rig, first, ip="10.64.0.9")
        await online(rig, second, "b1", OTHER, "10.64.4.9", OTHER_GATEWAY)
        assert rig.node.captivities.of("10.64.0.9") == Captivity(False, 7_200, 500_000_000)
        assert rig.node.captivities.of("10.64.4.9") == Captivity(False, 7_200, 500_000_000)
        # A gateway that was set up as a copy of another.
        [(_, third)] = await rig.cards("harian", 1, **LIMITS)
        await online(rig, third, "b2", "02-AA-BB-CC-DD-03", "10.64.0.77", OTHER_GATEWAY)
        assert rig.node.captivities.of("10.64.0.9") == CAPTIVE
        assert rig.node.captivities.of("10.64.0.77") == CAPTIVE
        assert rig.node.captivities.of("10.64.4.9").is_captive is False

    play(tmp_path, story, GATEWAY)


def test_behind_a_gateway_that_hides_phones_nobody_is_told_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("harian", 1, **LIMITS)
        captivities = rig.node.captivities
        assert captivities.of(GATEWAY) == CAPTIVE and not captivities.hiding, "nobody is in"
        await online(rig, code)
        assert captivities.of(GATEWAY, is_phone=False) == CAPTIVE and not captivities.hiding
        assert captivities.of(GATEWAY) == captivities.of(GATEWAY) == CAPTIVE
        assert captivities.hiding == {"pos-1"}
        assert caplog.text.count("phones_hidden gateway=pos-1") == 1
        assert captivities.of(IP).is_captive is False, "a phone that is not hidden is told"

    play(tmp_path, story, GATEWAY)


def test_a_phone_its_gateway_put_out_in_silence_is_captive(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("harian", 1, **LIMITS)
        gateway = rig.node.admin.gateway("pos-1")
        captivities = rig.node.captivities
        captivities.redirected(IP, gateway, "notyet", b"res=notyet&challenge=01")
        rig.sleep(1)
        session = await online(rig, code)
        assert captivities.of(IP).is_captive is False
        rig.sleep(10)
        captivities.redirected(IP, gateway, "notyet", b"res=notyet&challenge=01")
        assert captivities.of(IP).is_captive is False, "an old page, loaded again"
        captivities.redirected(OTHER_IP, gateway, "notyet", b"res=notyet&challenge=02")
        assert captivities.of(IP).is_captive is False, "another phone"
        captivities.redirected(IP, gateway, "notyet", b"res=notyet&challenge=03")
        assert captivities.of(IP) == CAPTIVE
        rig.sleep(10)
        await session.report(INTERIM, 5)
        assert captivities.of(IP).is_captive is False, "its gateway says that it is in"
        rig.sleep(10)
        captivities.redirected(IP, gateway, "logoff", b"res=logoff&challenge=04")
        assert captivities.of(IP) == CAPTIVE
        captivities.redirected(IP, gateway, "success", b"res=success")
        assert captivities.of(IP).is_captive is False
        captivities.redirected(GATEWAY, gateway, "notyet", b"res=notyet&challenge=05")
        assert GATEWAY not in captivities._redirected, "the address of all behind it"

    play(tmp_path, story, GATEWAY)


def test_redirects_of_many_addresses_are_forgotten_again(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        gateway = rig.node.admin.gateway("pos-1")
        for number in range(2_100):
            ip = f"10.20.{number // 250}.{number % 250}"
            rig.node.captivities.redirected(ip, gateway, "notyet", b"%d" % number)
        assert len(rig.node.captivities._redirected) == 2_000

    play(tmp_path, story, GATEWAY)


def test_a_session_the_node_does_not_know_is_not_captive(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.account(GATEWAY, START, "x1", user="tamu", mac=PHONE, ip=IP)
        assert rig.node.captivities.of(IP) == Captivity(False)

    play(tmp_path, story, GATEWAY)


# --- never more than is left ----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("log in"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("use"), st.integers(0, 1), st.integers(0, 120_000_000)),
        st.tuples(st.just("stop"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 40_000), st.just(0)),
        st.tuples(st.just("nap"), st.integers(1, 400), st.just(0)),
        st.tuples(st.just("down"), st.just(0), st.just(0)),
        st.tuples(st.just("top up"), st.integers(1, 50), st.just(0)),
        st.tuples(st.just("power cut"), st.just(0), st.just(0)),
    ),
    max_size=25,
)
PROFILES = st.fixed_dictionaries(
    {},
    optional={
        "data_day": st.just("200MB"),
        "data_week": st.just("500MB"),
        "data_total": st.just("700MB"),
        "time_day": st.just("1h"),
        "time_month": st.just("3h"),
        "time_session": st.just("30m"),
        "data_session": st.just("100MB"),
        "valid": st.just("2d"),
        "hours": st.just("07:00-22:00"),
    },
)


async def never_more_than_is_left(
    rig: NodeRig, devices: int, limits: dict[str, str], steps: list[tuple[str, int, int]]
) -> None:
    await rig.gateway("pos-1", GATEWAY)
    [(serial, code)] = await rig.cards("acak", 1, devices=str(devices), **limits)
    places = ((PHONE, IP), (OTHER, OTHER_IP))
    on: dict[int, tuple[Session, int]] = {}
    acct = 0

    def check() -> None:
        now = rig.node.now()
        card = rig.node.accounts.card_of_serial(serial, now)
        assert card is not None
        profile = rig.node.admin.profiles_by_name["acak"]
        usage = card.account.usage
        for number, (_, ip) in enumerate(places):
            found = rig.node.captivities.of(ip)
            if number not in on:
                assert found == CAPTIVE
                continue
            session, used = on[number]
            if found.is_captive:
                continue
            for left in (found.seconds_left, found.octets_left):
                assert left is None or left >= 0
            # By the windows, counted from the days and not from the sums that are kept.
            zone = usage.zone
            for window in ("day", "week", "month", "total"):
                data = getattr(profile, f"data_{window}_octets")
                time_s = getattr(profile, f"time_{window}_s")
                first = 0
                if window != "total":
                    start_at = hours.window_at(window, now, zone).start_at
                    first = hours.day_of(start_at, zone).toordinal()
                spent = [both for day, both in usage.days.items() if day >= first]
                given = [one for one in usage.credits if one[0] >= first]
                if data is not None:
                    data += sum(octets for _, octets, _ in given)
                    assert found.octets_left is not None
                    assert found.octets_left <= data - sum(octets for octets, _ in spent)
                if time_s is not None:
                    time_s += sum(seconds for _, _, seconds in given)
                    assert found.seconds_left is not None
                    assert found.seconds_left <= time_s - sum(seconds for _, seconds in spent)
            if not session.is_told:
                continue
            # By its gateway, which cuts it then.
            own_s = session.timeout_s - int(rig.elapsed_s - session.began_s)
            if session.timeout_s < quota.SESSION_TIMEOUT_MAX_S and found.seconds_left is not None:
                assert found.seconds_left <= max(own_s, 0)
            if session.limit_octets is not None:
                assert found.octets_left is not None
                assert found.octets_left <= session.limit_octets - used

    for step, number, octets in steps:
        if step == "log in" and number not in on:
            mac, ip = places[number]
            acct += 1
            session = Session(rig, f"a{acct}", mac, ip, GATEWAY)
            if await session.log_in(code):
                await session.report(START)
                on[number] = (session, 0)
        elif step in ("use", "stop") and number in on:
            session, used = on[number]
            if session.limit_octets is not None:
                octets = min(octets, session.limit_octets - used)
            used += octets
            await session.report(STOP if step == "stop" else INTERIM, used)
            on[number] = (session, used)
            if step == "stop":
                del on[number]
        elif step in ("wait", "nap"):
            rig.sleep(number)
            for other, (session, used) in list(on.items()):
                if rig.elapsed_s - session.began_s >= session.timeout_s:
                    # Its gateway has cut it, on the second.
                    late_s = rig.elapsed_s - session.began_s - session.timeout_s
                    session.began_s += late_s
                    await session.report(STOP, used)
                    del on[other]
        elif step == "down":
            outages = rig.node.backhaul._outages
            if outages and outages[-1][1] is None:
                outages[-1] = (outages[-1][0], int(rig.at))
            else:
                outages.append((int(rig.at), None))
        elif step == "top up" and ("data_day" in limits or "data_total" in limits):
            await rig.node.vouchers.top_up(serial, octets=number * 1_000_000, reason="uji")
            for session, _ in on.values():
                session.is_told = False
        elif step == "power cut":
            await rig.restart()
        check()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(devices=st.integers(1, 2), limits=PROFILES, steps=STEPS)
def test_what_is_told_is_never_more_than_is_left(
    devices: int, limits: dict[str, str], steps: list[tuple[str, int, int]]
) -> None:
    async def whole(directory: str) -> None:
        rig = await NodeRig(Path(directory)).open()
        try:
            await never_more_than_is_left(rig, devices, limits, steps)
        finally:
            await rig.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(whole(directory))
