"""Limits that change while a session runs: by CoA, in the Accounting-Response, or by ending it."""

from pathlib import Path
from typing import Any

import pytest

from radius.dynauth import Outcome
from radius.packet import (
    ACCESS_ACCEPT,
    ACCT_SESSION_ID,
    IDLE_TIMEOUT,
    SESSION_TIMEOUT,
    USER_NAME,
)
from tests.unit.aaa.dynauth_stage import (
    COOVA,
    DOWN,
    GENERIC,
    MAX_TOTAL,
    MB,
    MIKROTIK,
    OTHER,
    PHONE,
    RATE_LIMIT,
    UP,
    USPOT,
    number,
    online,
    report,
    sender,
    session,
    settle,
    stage,
)
from tests.unit.aaa.rig import INTERIM, STOP, NodeRig, octets_granted

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
        seen: set[tuple[int | None, int | None]] = set()
        change = air.change

        async def look(*args: Any, **options: Any) -> Outcome:
            rows = await rig.node.store.database.all_slowly("SELECT granted_octets FROM session")
            devices = await rig.node.store.database.all_slowly("SELECT granted_octets FROM device")
            seen.add((rows[0]["granted_octets"], devices[0]["granted_octets"]))
            return await change(*args, **options)

        air.change = look  # type: ignore[method-assign]
        await rig.node.vouchers.top_up(serial, octets=60 * MB, reason="kurang")
        await settle(rig)
        # The gateway has two ports to ask, and the first answer spares the other: once or twice.
        assert seen == {(80 * MB, 80 * MB)}, "half of 160 MB, for two phones"
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
