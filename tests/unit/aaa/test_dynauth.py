"""What the node asks gateways to do with running sessions, and what it makes of their answers.

A whole node on real datagrams; in place of the sender's sockets stands one that notes what would be
sent and answers as told. The wire itself is in tests/unit/radius/test_conformance_dynauth.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from portal.domain.session import Session
from portal.errors import UserError
from portal.sessions import Live
from radius.dynauth import Outcome
from radius.packet import (
    ACCESS_ACCEPT,
    ACCT_SESSION_ID,
    CLASS,
    IDLE_TIMEOUT,
    SESSION_TIMEOUT,
    USER_NAME,
    VENDOR_SPECIFIC,
    Packet,
)
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig, octets_granted, play

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


# Quota changes


def test_a_top_up_reaches_a_running_session_by_coa_with_its_full_set_of_limits(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", rate_down="2M", rate_up="512k")
        air = sender(rig)
        value = await online(rig, COOVA, code, serial)
        rig.sleep(300)
        assert not (await report(rig, COOVA, serial, value, time_s=300, octets=40 * MB)).first, (
            "what the Accept said still holds"
        )
        await rig.node.vouchers.top_up(serial, octets=50 * MB, reason="kurang")
        await settle(rig)
        [(kind, address, port, values)] = air.asked
        assert (kind, address) == ("coa", COOVA)
        assert values[USER_NAME] == serial.encode() and values[ACCT_SESSION_ID] == b"s1"
        assert number(values[MAX_TOTAL]) == 150 * MB, "counted from the session's beginning"
        assert number(values[DOWN]) == 2_000_000 and number(values[UP]) == 512_000
        assert number(values[SESSION_TIMEOUT]) == 86_400 and IDLE_TIMEOUT in values
        assert session(rig).granted_octets == 150 * MB
        # And again with every report: the CoA-Request may have been lost.
        answer = await report(rig, COOVA, serial, value, time_s=310, octets=41 * MB)
        assert octets_granted(answer) == 150 * MB

    stage(tmp_path, story)


def test_what_a_gateway_may_have_been_told_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", devices="2")
        air = sender(rig)
        await online(rig, COOVA, code, serial)
        seen: list[int | None] = []
        change = air.change

        async def look(*args: Any, **options: Any) -> Outcome:
            rows = await rig.node.store.database.all_slowly("SELECT granted_octets FROM session")
            devices = await rig.node.store.database.all_slowly("SELECT granted_octets FROM device")
            seen.extend((rows[0]["granted_octets"], devices[0]["granted_octets"]))
            return await change(*args, **options)

        air.change = look  # type: ignore[method-assign]
        await rig.node.vouchers.top_up(serial, octets=60 * MB, reason="kurang")
        await settle(rig)
        assert seen == [80 * MB, 80 * MB], "half of 160 MB, for two phones"
        await rig.restart()
        assert session(rig).granted_octets == 80 * MB

    stage(tmp_path, story)


def test_a_data_top_up_waits_for_the_next_login_where_coa_changes_no_data(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", time_day="2h")
        air = sender(rig)
        await online(rig, MIKROTIK, code, serial)
        await rig.node.vouchers.top_up(serial, octets=50 * MB, reason="kurang")
        await settle(rig)
        assert air.asked == []
        assert session(rig).granted_octets == 100 * MB
        await rig.node.vouchers.top_up(serial, seconds=3_600, reason="kurang")
        await settle(rig)
        [(kind, _, port, values)] = air.asked
        assert (kind, port) == ("coa", 3799)
        assert number(values[SESSION_TIMEOUT]) == 3 * 3600
        assert session(rig).granted_octets == 100 * MB, "its data limit is as it was"
        assert session(rig).granted_s == 3 * 3600

    stage(tmp_path, story)


def test_an_extension_and_a_profile_reach_running_sessions_where_they_can(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 4, valid="1h", rate_down="2M")
        air = sender(rig)
        places = (COOVA, MIKROTIK, GENERIC, USPOT)
        for n, (address, (serial, code)) in enumerate(zip(places, cards, strict=True)):
            mac = f"02-AA-BB-CC-DD-0{n}"
            await online(rig, address, code, serial, acct=f"s{n}", mac=mac)
        for serial, _ in cards:
            await rig.node.vouchers.extend(serial, seconds=7_200, reason="lama")
        await settle(rig)
        assert {address for _, address, _, _ in air.asked} == {COOVA, MIKROTIK, USPOT}
        for _, _, _, values in air.asked:
            assert number(values[SESSION_TIMEOUT]) == 3 * 3600
        air.asked.clear()
        await rig.node.admin.set_profile("p", {"rate_down": "1M"})
        await settle(rig)
        assert {address for _, address, _, _ in air.asked} == {COOVA, MIKROTIK}
        by_address = {address: values for _, address, _, values in air.asked}
        assert number(by_address[COOVA][DOWN]) == 1_000_000
        assert by_address[MIKROTIK][RATE_LIMIT].endswith(b"/1000k")

    stage(tmp_path, story)


def test_a_profile_made_smaller_is_told_and_never_frees_what_was_granted(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", devices="2")
        air = sender(rig)
        air.outcome = Outcome("timeout")
        value = await online(rig, COOVA, code, serial)
        await rig.node.admin.set_profile("p", {"data_day": "40MB"})
        await settle(rig)
        assert number(air.asked[-1][3][MAX_TOTAL]) == 20 * MB
        assert session(rig).granted_octets == 50 * MB, "it may not have heard"
        other = await rig.access(COOVA, code, code, OTHER, acct_session_id="s2")
        assert other is not None and other.code != ACCESS_ACCEPT, "40 MB less 50 MB"
        # It goes on beyond the smaller limit: then it has to end.
        air.asked.clear()
        await report(rig, COOVA, serial, value, time_s=60, octets=45 * MB)
        assert air.kinds() == ["disconnect"]

    stage(tmp_path, story)


# Accounting-Response


def test_only_families_that_take_limits_from_an_accounting_response_get_them(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        assert rig.node.renewals.answering == {"coova"}
        cards = await rig.cards("p", 2, time_day="2h")
        sender(rig)
        for n, address in enumerate((MIKROTIK, GENERIC)):
            serial, code = cards[n]
            mac = f"02-AA-BB-CC-DD-0{n}"
            value = await online(rig, address, code, serial, acct=f"s{n}", mac=mac)
            await rig.node.vouchers.top_up(serial, seconds=600, reason="kurang")
            reply = await report(
                rig, address, serial, value, time_s=60, octets=1, acct=f"s{n}", mac=mac
            )
            assert not reply.first

    stage(tmp_path, story)


def test_a_new_day_brings_its_quota_to_a_session_that_goes_on(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        sender(rig)
        value = await online(rig, COOVA, code, serial)
        rig.sleep(300)
        assert not (await report(rig, COOVA, serial, value, time_s=300, octets=70 * MB)).first
        rig.sleep(18_300)  # 19:06 in Makassar, now after midnight
        answer = await report(rig, COOVA, serial, value, time_s=18_600, octets=70 * MB)
        assert octets_granted(answer) == 170 * MB
        answer = await report(rig, COOVA, serial, value, time_s=18_660, octets=90 * MB)
        assert octets_granted(answer) == 170 * MB, "the same in every answer"
        stop = await report(rig, COOVA, serial, value, time_s=18_700, octets=90 * MB, status=STOP)
        assert not stop.first

    stage(tmp_path, story)


def test_a_share_grows_with_what_the_other_phone_leaves(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="100MB", devices="2")
        sender(rig)
        value = await online(rig, COOVA, code, serial)
        answer = await report(rig, COOVA, serial, value, time_s=60, octets=40 * MB)
        assert octets_granted(answer) == 70 * MB, "40 used and half of the 60 left"
        other = await rig.access(COOVA, code, code, OTHER, acct_session_id="s2")
        assert other is not None and octets_granted(other) == 30 * MB

    stage(tmp_path, story)


def test_a_counter_nobody_understands_gets_no_new_limit(tmp_path: Path) -> None:
    """32-bit counters without Gigawords that fell: what the gateway would compare is not known."""

    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="20GB")
        air = sender(rig)
        await online(rig, COOVA, code, serial)
        common = {"user": serial, "mac": PHONE, "gigawords": False, "input_octets": 0}
        await rig.account(COOVA, INTERIM, "s1", time_s=60, output_octets=4_000_000_000, **common)
        await rig.account(COOVA, INTERIM, "s1", time_s=90, output_octets=100_000_000, **common)
        await settle(rig)
        await rig.node.vouchers.top_up(serial, octets=50 * MB, reason="kurang")
        await settle(rig)
        assert air.asked == []
        assert session(rig).granted_octets == 20_000 * MB

    stage(tmp_path, story)


# Throttle


def test_a_used_up_card_is_slowed_down_in_place_where_that_can_be_told(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", when_used_up="throttle:128k")
        sender(rig)
        value = await online(rig, COOVA, code, serial)
        answer = await report(rig, COOVA, serial, value, time_s=300, octets=101 * MB)
        assert octets_granted(answer) == 0, "no data limit"
        assert number(answer.vendor(*DOWN)) == 128_000
        until_midnight_s = 300 + 53 * 60 + 20 + 4 * 3600 - 0
        assert number(answer.first[SESSION_TIMEOUT]) == pytest.approx(until_midnight_s, abs=400)
        assert session(rig).granted_octets is None

    stage(tmp_path, story)


def test_where_it_cannot_be_told_the_session_ends_and_the_next_login_is_slow(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 2, data_day="100MB", when_used_up="throttle:128k")
        air = sender(rig)
        for n, address in enumerate((GENERIC, MIKROTIK)):
            serial, code = cards[n]
            mac = f"02-AA-BB-CC-DD-0{n}"
            value = await online(rig, address, code, serial, acct=f"s{n}", mac=mac)
            await report(
                *(rig, address, serial, value),
                time_s=300,
                octets=101 * MB,
                acct=f"s{n}",
                mac=mac,
            )
            assert air.kinds() == ["disconnect"]
            air.asked.clear()
            await report(
                *(rig, address, serial, value),
                time_s=301,
                octets=101 * MB,
                acct=f"s{n}",
                mac=mac,
                status=STOP,
            )
            again = await rig.access(address, code, code, mac, acct_session_id=f"t{n}")
            assert again is not None and again.code == ACCESS_ACCEPT
            rate = again.vendor(*RATE_LIMIT) or again.vendor(*DOWN) or b""
            assert rate in (b"128k/128k", (128_000).to_bytes(4, "big"))

    stage(tmp_path, story)


@pytest.mark.parametrize("answer", ["nak", "timeout"])
def test_a_gateway_that_does_not_take_the_slow_rate_is_asked_to_end_the_session(
    tmp_path: Path, answer: str
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", when_used_up="throttle:128k")
        air = sender(rig)
        air.answers["coa"] = Outcome(answer)
        value = await online(rig, COOVA, code, serial)
        await report(rig, COOVA, serial, value, time_s=300, octets=101 * MB)
        assert air.kinds() == ["coa", "disconnect"]

    stage(tmp_path, story)


def test_a_yes_to_the_slow_rate_is_believed_only_when_it_is_seen(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 2, data_day="100MB", when_used_up="throttle:128k")
        air = sender(rig)
        for n, speed in enumerate((20_000, 2_000_000)):  # octets a second
            serial, code = cards[n]
            mac = f"02-AA-BB-CC-DD-0{n}"
            more: dict[str, Any] = {"acct": f"s{n}", "mac": mac}
            value = await online(rig, COOVA, code, serial, acct=f"s{n}", mac=mac)
            rig.sleep(300)
            await report(rig, COOVA, serial, value, time_s=300, octets=101 * MB, **more)
            assert air.kinds() == ["coa"]
            used = 101 * MB + 300 * speed
            rig.sleep(300)
            await report(rig, COOVA, serial, value, time_s=600, octets=used, **more)
            assert air.kinds() == (["coa"] if n == 0 else ["coa", "disconnect"])
            air.asked.clear()

    stage(tmp_path, story)


def test_a_top_up_lifts_the_slow_rate(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB", when_used_up="throttle:128k")
        air = sender(rig)
        value = await online(rig, COOVA, code, serial)
        await report(rig, COOVA, serial, value, time_s=300, octets=101 * MB)
        air.asked.clear()
        await rig.node.vouchers.top_up(serial, octets=50 * MB, reason="kurang")
        await settle(rig)
        [(kind, _, _, values)] = air.asked
        assert kind == "coa" and number(values[MAX_TOTAL]) == 150 * MB
        assert DOWN not in values, "what a CoA-Request leaves out is lifted there"
        answer = await report(rig, COOVA, serial, value, time_s=310, octets=102 * MB)
        assert octets_granted(answer) == 150 * MB and number(answer.vendor(*DOWN)) == 0

    stage(tmp_path, story)


# What gateways let go on


def test_hours_and_validity_that_are_over_end_sessions_that_go_on(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(one, one_code)] = await rig.cards("evening", hours="06:00-20:00")
        [(two, two_code)] = await rig.cards("short", valid="1h")
        [(three, three_code)] = await rig.cards("free")
        air = sender(rig)
        await online(rig, COOVA, one_code, one, acct="a", mac="02-AA-BB-CC-DD-0A")
        await online(rig, MIKROTIK, two_code, two, acct="b", mac="02-AA-BB-CC-DD-0B")
        await online(rig, GENERIC, three_code, three, acct="c", mac="02-AA-BB-CC-DD-0C")
        rig.sleep(53 * 60)  # 19:59:40
        rig.node.renewals.sweep()
        await settle(rig)
        assert air.asked == []
        rig.sleep(50)  # 20:00:30: its gateway ends it by itself
        rig.node.renewals.sweep()
        await settle(rig)
        assert air.asked == []
        rig.sleep(40)
        rig.node.renewals.sweep()
        await settle(rig)
        assert [(kind, address) for kind, address, _, _ in air.asked] == [("disconnect", COOVA)]
        rig.sleep(7 * 60)
        rig.node.renewals.sweep()
        await settle(rig)
        assert (air.asked[-1][0], air.asked[-1][1]) == ("disconnect", MIKROTIK)
        assert len(air.asked) == 2, "what is wanted already is asked at its own reports"

    stage(tmp_path, story)


def test_a_revoked_cards_session_is_asked_to_end_until_it_has(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        air.outcome = Outcome("ack")
        value = await online(rig, COOVA, code, serial)
        await rig.node.vouchers.revoke([serial], "dicuri")
        await settle(rig)
        assert air.kinds() == ["disconnect"]
        rig.sleep(300)
        answer = await report(rig, COOVA, serial, value, time_s=300, octets=MB)
        assert not answer.first and air.kinds() == ["disconnect"] * 2, "an ACK is not believed"
        rows = await rig.node.disconnects.actions(1)
        assert [(row.kind, row.why, row.by, row.sent, row.answer) for row in rows] == [
            ("disconnect", "revoked", "", 2, "ack")
        ]

    stage(tmp_path, story)


# Answers


def test_a_session_its_gateway_does_not_know_is_over_at_its_last_evidence(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        value = await online(rig, COOVA, code, serial)
        rig.sleep(300)
        await report(rig, COOVA, serial, value, time_s=300, octets=MB)
        seen_at = rig.node.now()
        rig.sleep(100)
        air.outcome = Outcome("nak", 503, 0.01)
        found = await rig.node.history.disconnect(session(rig).id)
        assert found["outcome"] == "nak" and found["meaning"] == "session context not found"
        assert (session(rig).ended_at, session(rig).end_cause) == (seen_at, "Lost-Service")
        # Should it have been wrong, a report of more says so.
        await report(rig, COOVA, serial, value, time_s=420, octets=2 * MB)
        assert session(rig).is_open and session(rig).octets == 2 * MB

    stage(tmp_path, story)


@pytest.mark.parametrize("cause", [401, 404, 501, 504, 506, 508, None])
def test_another_refusal_ends_nothing(tmp_path: Path, cause: int | None) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        await online(rig, COOVA, code, serial)
        air.outcome = Outcome("nak", cause, 0.01)
        found = await rig.node.history.disconnect(session(rig).id)
        assert (found["outcome"], found["error_cause"]) == ("nak", cause)
        assert session(rig).is_open
        row = (await rig.node.disconnects.actions(1))[0]
        assert (row.answer, row.error_cause, row.round_trip_ms) == ("nak", cause, 10)

    stage(tmp_path, story)


def test_a_disconnect_for_a_session_that_is_gone_is_refused_in_a_sentence(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        value = await online(rig, COOVA, code, serial)
        await report(rig, COOVA, serial, value, time_s=5, octets=0, status=STOP)
        with pytest.raises(UserError, match="has ended already"):
            await rig.node.history.disconnect(session(rig).id)
        with pytest.raises(UserError, match="There is no session 77"):
            await rig.node.history.disconnect(77)
        assert air.asked == []

    stage(tmp_path, story)


def test_a_lost_change_is_told_again_at_the_next_reports_three_times_in_all(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", time_day="2h")
        air = sender(rig)
        air.outcome = Outcome("timeout")
        value = await online(rig, MIKROTIK, code, serial)
        await rig.node.vouchers.top_up(serial, seconds=600, reason="kurang")
        await settle(rig)
        for n in range(5):
            rig.sleep(300)
            await report(rig, MIKROTIK, serial, value, time_s=300 * (n + 1), octets=1)
        assert air.kinds() == ["coa"] * 3
        row = (await rig.node.disconnects.actions(rig.node.admin.gateway("mikrotik").id))[0]
        assert (row.kind, row.why, row.sent, row.answer) == ("coa", "top_up", 3, "timeout")
        # A further change is another row.
        air.outcome = Outcome("ack", None, 0.2)
        await rig.node.vouchers.top_up(serial, seconds=600, reason="kurang")
        await settle(rig)
        rows = await rig.node.disconnects.actions(rig.node.admin.gateway("mikrotik").id)
        assert rows[0].answer == "ack" and rows[0].round_trip_ms == 200

    stage(tmp_path, story)


# Kept on disk


def test_attempts_outlive_a_power_cut_and_the_asking_goes_on(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        air.outcome = Outcome("timeout")
        value = await online(rig, COOVA, code, serial)

        async def record(attempt: object) -> None:
            pass

        attempt = await rig.node.disconnects.begin(live(rig), "sari", record)
        await settle(rig)
        await rig.restart()
        air = sender(rig)
        known = await rig.node.disconnects.stored(attempt.number)
        assert known is not None
        assert (known.by, known.why, known.answer, known.sent) == ("sari", "operator", "timeout", 1)
        assert (known.serial, known.gateway, known.mac) == (serial, "pos-1", "02aabbccdd01")
        rig.sleep(30)
        await report(rig, COOVA, serial, value, time_s=37, octets=MB)
        assert air.kinds() == ["disconnect"]
        newer = (await rig.node.disconnects.actions(1))[0]
        assert newer.number == attempt.number + 1

    stage(tmp_path, story)


def test_what_gateways_were_asked_is_forgotten_with_the_personal_parts(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        sender(rig)
        await online(rig, COOVA, code, serial)
        await rig.node.history.disconnect(session(rig).id)
        assert len(await rig.node.disconnects.actions(1)) == 1
        rig.sleep(91 * 86_400)
        await rig.node.retention.forget()
        assert await rig.node.disconnects.actions(1) == []

    stage(tmp_path, story)


# Where a request goes


def test_the_port_accounting_comes_from_is_asked_through_the_socket_that_heard_it(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        await online(rig, COOVA, code, serial)
        exchange = live(rig).exchange
        assert exchange is not None
        await rig.node.history.disconnect(session(rig).id)
        assert [port for _, _, port, _ in air.asked] == [3799]
        assert air.through == [exchange.source[1]]

    stage(tmp_path, story)


def test_the_newest_packet_of_a_gateway_shows_the_way_to_all_its_sessions(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 2, data_day="100MB")
        air = sender(rig)
        for n, (serial, code) in enumerate(cards):
            mac = f"02-AA-BB-CC-DD-0{n}"
            await online(rig, COOVA, code, serial, acct=f"s{n}", mac=mac)
        newest = live(rig, "s1").exchange
        assert newest is not None
        await rig.node.history.disconnect(session(rig, "s0").id)
        assert air.through == [newest.source[1]]
        assert air.asked[0][3][ACCT_SESSION_ID] == b"s0"

    stage(tmp_path, story)


def test_a_family_with_a_way_of_its_own_is_not_asked_over_udp(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="100MB")
        air = sender(rig)
        await online(rig, COOVA, code, serial)
        asked = []

        async def way(gateway: Any, keys: Any) -> Outcome:
            asked.append((gateway.name, keys.acct_session_id))
            return Outcome("ack", None, 0.5)

        rig.node.disconnects.ways["coova"] = way
        told: list[tuple[str, str]] = []
        rig.node.disconnects.on_outcome = lambda kind, one, why, outcome: told.append((kind, why))
        found = await rig.node.history.disconnect(session(rig).id)
        assert (found["outcome"], found["round_trip_ms"]) == ("ack", 500)
        assert asked == [("pos-1", "s1")] and air.asked == []
        assert told == [("disconnect", "operator")]

    stage(tmp_path, story)
