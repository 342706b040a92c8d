"""Phones and cards: coming back without typing, moving, sharing, and what ends a grant.

MAC return, devices at once, moves, hours, validity, throttle, replacing and revoking.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portal import aaa
from portal.domain.quota import Reason
from portal.door import Phone, Problem
from portal.tickets import Ticket
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    CLASS,
    REPLY_MESSAGE,
    SERVICE_TYPE,
    SESSION_TIMEOUT,
    integer_attribute,
)
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig, octets_granted, play

GW = "10.20.0.1"
PHONE_A, PHONE_B = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
MAX_TOTAL, MAX_TOTAL_GIGAWORDS = (14559, 3), (14559, 23)


def run(tmp_path: Path, story: Callable[[NodeRig], Any]) -> None:
    play(tmp_path, story, GW)


def here(gateway_id: int | None = 1, mac: str | None = "02aabbccdd01") -> Phone:
    return Phone(mac, mac is not None, gateway_id, "10.1.0.9")


# MAC return


async def _log_in(rig: NodeRig, code: str, mac: str, acct: str) -> Any:
    reply = await rig.access(GW, code, code, mac, acct_session_id=acct)
    assert reply is not None and reply.code == ACCESS_ACCEPT
    await rig.account(
        GW, START, acct, user=code, mac=mac, ip="10.1.0.9", class_value=reply.first[CLASS]
    )
    return reply


async def _returns(rig: NodeRig, mac: str, acct: str) -> bool:
    before_s, rig.node.aaa.reject_after_s = rig.node.aaa.reject_after_s, 30.0
    began = asyncio.get_running_loop().time()
    reply = await rig.access(
        GW, mac, mac, mac, acct_session_id=acct, more=integer_attribute(SERVICE_TYPE, 2)
    )
    assert reply is not None
    assert asyncio.get_running_loop().time() - began < 30, "MAC authentication waits for nothing"
    rig.node.aaa.reject_after_s = before_s
    return reply.code == ACCESS_ACCEPT


def test_a_phone_comes_back_without_typing_while_its_card_is_good(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB")
        assert not await _returns(rig, PHONE_A, "m0")
        reply = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            STOP,
            "s1",
            mac=PHONE_A,
            class_value=reply.first[CLASS],
            time_s=60,
            input_octets=1,
            output_octets=4_000_000,
            cause=4,
        )
        assert await _returns(rig, PHONE_A, "m1")
        assert not await _returns(rig, PHONE_B, "m2")
        rig.sleep(3600)
        await rig.restart()
        assert await _returns(rig, PHONE_A, "m3")
        await rig.node.vouchers.revoke([serial], "hilang")
        assert not await _returns(rig, PHONE_A, "m4")

    run(tmp_path, story)


def test_the_resident_s_logout_ends_mac_return_until_the_code_is_typed(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        reply = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW, STOP, "s1", mac=PHONE_A, class_value=reply.first[CLASS], time_s=60, cause=1
        )
        assert not await _returns(rig, PHONE_A, "m1")
        rig.sleep(40)
        await rig.restart()
        assert not await _returns(rig, PHONE_A, "m2")
        await _log_in(rig, code, PHONE_A, "s2")
        assert await _returns(rig, PHONE_A, "m3")

    run(tmp_path, story)


def test_profiles_and_gateways_can_switch_mac_return_off(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p", remember_phone="no")
        await _log_in(rig, code, PHONE_A, "s1")
        assert not await _returns(rig, PHONE_A, "m1")
        [(_, other)] = await rig.cards("q")
        await _log_in(rig, other, PHONE_B, "s2")
        await rig.node.admin.set_gateway("pos-1", {"mac_auth": False})
        assert not await _returns(rig, PHONE_B, "m2")

    run(tmp_path, story)


# Devices, moves, hours, validity


def test_a_second_phone_is_refused_at_the_gateway_and_moved_at_the_portal(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB")
        first = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            INTERIM,
            "s1",
            mac=PHONE_A,
            class_value=first.first[CLASS],
            time_s=60,
            input_octets=1_000_000,
            output_octets=3_000_000,
        )
        refused = await rig.access(GW, code, code, PHONE_B)
        assert refused is not None and refused.code == ACCESS_REJECT
        other = here(mac="02aabbccdd02")
        problem = rig.door.check_code(code, other)
        assert isinstance(problem, Problem)
        assert problem.reason is Reason.IN_USE and problem.can_move
        ticket = rig.ticket(code, other, move=True)
        moved = await rig.access(GW, serial, ticket.password, PHONE_B, acct_session_id="s2")
        assert moved is not None and moved.code == ACCESS_ACCEPT
        assert octets_granted(moved) == 6_000_000
        assert not await _returns(rig, PHONE_A, "m1")
        # The old phone goes on for a while: the Disconnect is lost, and every octet is counted.
        await rig.account(
            GW,
            INTERIM,
            "s1",
            mac=PHONE_A,
            class_value=first.first[CLASS],
            time_s=90,
            input_octets=1_000_000,
            output_octets=5_000_000,
        )
        assert rig.show(serial)["octets_used"] == 6_000_000
        assert rig.show(serial)["devices_in_use"] == 1

    run(tmp_path, story)


def test_a_card_moves_five_times_a_day(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        for n in range(7):
            mac = f"02-AA-BB-CC-DD-{n:02X}"
            phone = here(mac=f"02aabbccdd{n:02x}")
            ticket = rig.door.check_code(code, phone, move=True)
            if n == 6:
                assert isinstance(ticket, Problem)
                assert ticket.reason is Reason.TOO_MANY_MOVES and ticket.retry_at
                rig.sleep(86_400)
                ticket = rig.door.check_code(code, phone, move=True)
            assert isinstance(ticket, Ticket), ticket
            reply = await rig.access(GW, serial, ticket.password, mac, acct_session_id=f"s{n}")
            assert reply is not None and reply.code == ACCESS_ACCEPT

    run(tmp_path, story)


def test_several_devices_share_what_is_left(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p", data_total="3MB", devices="3")
        grants = []
        for n in range(3):
            reply = await rig.access(GW, code, code, f"02-AA-BB-CC-DD-{n:02X}")
            assert reply is not None and reply.code == ACCESS_ACCEPT
            grants.append(octets_granted(reply))
        assert sum(grants) <= 3_000_000 and min(grants) > 0
        fourth = await rig.access(GW, code, code, "02-AA-BB-CC-DD-0F")
        assert fourth is not None and fourth.code == ACCESS_REJECT

    run(tmp_path, story)


def test_a_grant_ends_at_the_hour_s_edge_and_outside_it_there_is_none(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        # The story begins at 19:06:40 in Makassar.
        [(_, code)] = await rig.cards("p", hours="06:00-20:00")
        reply = await rig.access(GW, code, code, PHONE_A)
        assert reply is not None and reply.integer(SESSION_TIMEOUT) == 53 * 60 + 20
        rig.sleep(3600)
        refused = await rig.access(GW, code, code, PHONE_A)
        assert refused is not None and refused.text(REPLY_MESSAGE) == "Di luar jam layanan."
        problem = rig.door.check_code(code, here())
        assert isinstance(problem, Problem) and problem.retry_at == 1_795_000_000 - 400 + 39_600

    run(tmp_path, story)


def test_validity_runs_from_first_use_and_use_before_ends_unused_cards(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", valid="2d")
        await rig.node.admin.set_profile("late", {})
        issued = await rig.node.vouchers.issue("late", count=1, use_before="2026-11-18")
        late = issued["vouchers"][0]
        assert rig.show(serial)["expires_at"] is None
        rig.sleep(86_400)
        reply = await rig.access(GW, code, code, PHONE_A)
        assert reply is not None and reply.integer(SESSION_TIMEOUT) == 86_400
        shown = rig.show(serial)
        assert shown["expires_at"] - shown["first_used_at"] == 2 * 86_400
        passed = await rig.access(GW, late["code"], late["code"], PHONE_B)
        assert passed is not None and passed.code == ACCESS_REJECT
        assert rig.show(late["serial"])["state"] == "expired"
        rig.sleep(2 * 86_400)
        expired = await rig.access(GW, code, code, PHONE_A)
        assert expired is not None and expired.code == ACCESS_REJECT
        assert rig.show(serial)["state"] == "expired"

    run(tmp_path, story)


def test_throttle_gives_the_essential_rate_without_data_limit_until_the_window_ends(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards(
            "p", data_day="1MB", rate_down="2M", when_used_up="throttle:128k"
        )
        reply = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            STOP,
            "s1",
            mac=PHONE_A,
            class_value=reply.first[CLASS],
            time_s=60,
            input_octets=0,
            output_octets=1_000_000,
            cause=5,
        )
        throttled = await rig.access(GW, code, code, PHONE_A, acct_session_id="s2")
        assert throttled is not None and throttled.code == ACCESS_ACCEPT
        assert throttled.vendor(*MAX_TOTAL) is None
        assert int.from_bytes(throttled.vendor(14122, 8) or b"", "big") == 128_000
        midnight_s = (24 - 19) * 3600 - 400
        assert throttled.integer(SESSION_TIMEOUT) == midnight_s
        await rig.account(
            GW,
            STOP,
            "s2",
            mac=PHONE_A,
            class_value=throttled.first[CLASS],
            time_s=60,
            input_octets=0,
            output_octets=5_000,
            cause=5,
        )
        assert rig.show(serial)["octets_used"] == 1_005_000
        rig.sleep(midnight_s)
        fresh = await rig.access(GW, code, code, PHONE_A, acct_session_id="s3")
        assert fresh is not None and octets_granted(fresh) == 1_000_000

    run(tmp_path, story)


def test_used_up_is_a_reject_with_its_reason_never_a_limit_of_zero(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="1MB")
        reply = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            STOP,
            "s1",
            mac=PHONE_A,
            class_value=reply.first[CLASS],
            time_s=60,
            input_octets=0,
            output_octets=1_400_000,
            cause=5,
        )
        shown = rig.show(serial)
        assert shown["octets_used"] == 1_400_000 and shown["octets_left"] == 0
        assert shown["state"] == "used_up"
        refused = await rig.access(GW, code, code, PHONE_A)
        assert refused is not None and refused.code == ACCESS_REJECT
        assert refused.text(REPLY_MESSAGE) == "Data di kartu ini sudah habis."

    run(tmp_path, story)


def test_replacing_a_card_moves_the_balance_and_late_reports_still_count(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB")
        reply = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            INTERIM,
            "s1",
            mac=PHONE_A,
            class_value=reply.first[CLASS],
            time_s=60,
            input_octets=0,
            output_octets=2_000_000,
        )
        issued = await rig.node.vouchers.replace([serial], "hilang")
        new = issued["vouchers"][0]
        dead = await rig.access(GW, code, code, PHONE_A)
        assert dead is not None and dead.code == ACCESS_REJECT
        assert rig.show(serial)["state"] == "replaced"
        await rig.account(
            GW,
            STOP,
            "s1",
            mac=PHONE_A,
            class_value=reply.first[CLASS],
            time_s=90,
            input_octets=0,
            output_octets=3_000_000,
            cause=6,
        )
        assert rig.show(new["serial"])["octets_left"] == 7_000_000
        alive = await rig.access(GW, new["code"], new["code"], PHONE_B)
        assert alive is not None and octets_granted(alive) == 7_000_000
        await rig.restart()
        assert rig.show(new["serial"])["octets_used"] == 3_000_000

    run(tmp_path, story)


def test_an_accept_is_not_repeated_once_its_card_was_revoked(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        first = await rig.access(GW, code, code, PHONE_A, acct_session_id="s1")
        assert first is not None and first.code == ACCESS_ACCEPT
        await rig.node.vouchers.revoke([serial], "hilang")
        again = await rig.access(GW, code, code, PHONE_A, acct_session_id="s1")
        assert again is not None and again.code == ACCESS_REJECT

    run(tmp_path, story)


def test_hundreds_of_cards_are_revoked_and_replaced_together(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 120)
        serials = [serial for serial, _ in cards]
        issued = await rig.node.vouchers.replace(serials[:60], "cetak ulang")
        assert [card["replaces"] for card in issued["vouchers"]] == serials[:60]
        assert {rig.show(serial)["state"] for serial in serials[:60]} == {"replaced"}
        ended = await rig.node.vouchers.revoke(serials[60:], "hilang")
        assert [card["state"] for card in ended] == ["revoked"] * 60
        for _, code in cards[::20]:
            reply = await rig.access(GW, code, code, PHONE_A)
            assert reply is not None and reply.code == ACCESS_REJECT

    run(tmp_path, story)


def test_a_phone_that_returns_with_a_used_up_card_is_refused_at_once_and_blamed_for_nothing(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p", data_total="1MB")
        reply = await _log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            STOP,
            "s1",
            mac=PHONE_A,
            class_value=reply.first[CLASS],
            time_s=60,
            output_octets=1_000_000,
            cause=5,
        )
        rig.node.aaa.reject_after_s = aaa.REJECT_AFTER_S
        assert not await _returns(rig, PHONE_A, "m1")
        assert rig.door.last_refusal(1, None, "02aabbccdd01") is None

    run(tmp_path, story)


def test_sessions_keep_the_name_of_a_gateway_that_was_removed(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        await _log_in(rig, code, PHONE_A, "s1")
        await rig.node.admin.remove_gateway("pos-1")
        await rig.restart()
        assert [s["gateway"] for s in await rig.node.history.listed()] == ["pos-1"]

    run(tmp_path, story)


def test_an_address_that_two_villages_use_shows_nobody_s_card(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code), (_, other)] = await rig.cards("p", 2)
        await _log_in(rig, code, PHONE_A, "s1")
        found = rig.door.status_of_address("10.1.0.9", None)
        assert found is not None and found[1].serial == serial
        far = await rig.gateway("pos-2", "10.20.0.2")
        reply = await rig.access("10.20.0.2", other, other, PHONE_B, acct_session_id="f1")
        assert reply is not None
        await rig.account(
            "10.20.0.2", START, "f1", mac=PHONE_B, ip="10.1.0.7", class_value=reply.first[CLASS]
        )
        assert rig.door.status_of_address("10.1.0.9", None) is None
        assert rig.door.status_of_address("10.1.0.9", 1) is not None
        assert rig.door.status_of_address("10.1.0.9", far) is None

    run(tmp_path, story)
