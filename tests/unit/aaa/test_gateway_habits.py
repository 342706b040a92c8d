"""Habits of gateways that the node must be told of, or must refuse: counters the wrong way round,
accounting without octets."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal import aaa, data_counting
from portal.domain.profile import WINDOWS, Profile
from portal.domain.quota import Reason
from portal.door import Phone, Problem
from portal.errors import DeskError, UserError
from portal.tickets import Ticket
from radius.packet import ACCESS_ACCEPT, ACCESS_REJECT, CLASS, REPLY_MESSAGE, integer_attribute
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig, play

GW, USPOT = "10.20.0.1", "10.20.0.2"
PHONE, MAC = "02-AA-BB-CC-DD-01", "02aabbccdd01"
HERE = Phone(MAC, True, 2, "10.20.0.57")


def run(tmp_path: Path, story: Callable[[NodeRig], Any], *, family: str = "uspot") -> None:
    async def with_second(rig: NodeRig) -> None:
        await rig.gateway("pos-2", USPOT, family)
        await story(rig)

    play(tmp_path, with_second, GW)


# --- data quotas where no octets are counted


@pytest.mark.parametrize("window", WINDOWS)
def test_a_card_with_a_data_quota_is_refused_where_no_octets_are_counted(
    tmp_path: Path, window: str
) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.node.admin.set_profile("p", {f"data_{window}": "1GB"})
        [(serial, code)] = await rig.cards("p", time_total="10h")
        refused = await rig.access(USPOT, code, code, PHONE, acct_session_id="s1")
        assert refused is not None and refused.code == ACCESS_REJECT
        assert refused.text(REPLY_MESSAGE) == aaa.REPLY_MESSAGES[Reason.DATA_NOT_COUNTED]
        problem = rig.door.check_code(code, HERE)
        assert isinstance(problem, Problem) and problem.reason is Reason.DATA_NOT_COUNTED
        assert not problem.can_move
        shown = rig.show(serial)
        assert (shown["state"], shown["first_used_at"]) == ("unused", None)
        assert shown["devices_in_use"] == 0
        assert rig.node.aaa.refused_phones[(2, MAC)][1] is Reason.DATA_NOT_COUNTED
        # The same card works where octets are counted.
        accepted = await rig.access(GW, code, code, PHONE, acct_session_id="s2")
        assert accepted is not None and accepted.code == ACCESS_ACCEPT

    run(tmp_path, story)


def test_a_phone_with_such_a_card_does_not_come_back_there_by_its_mac(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="1GB")
        reply = await rig.access(GW, code, code, PHONE, acct_session_id="s1")
        assert reply is not None
        await rig.account(GW, START, "s1", user=serial, mac=PHONE, class_value=reply.first[CLASS])
        check = integer_attribute(6, 10)
        back = await rig.access(USPOT, PHONE, PHONE, PHONE, acct_session_id="s2", more=check)
        assert back is not None and back.code == ACCESS_REJECT
        assert back.text(REPLY_MESSAGE) == aaa.REPLY_MESSAGES[Reason.DATA_NOT_COUNTED]
        # The session that runs elsewhere goes on.
        assert rig.show(serial)["open_sessions"] == 1

    run(tmp_path, story)


def test_a_move_to_such_a_gateway_takes_nothing_away(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="1GB")
        reply = await rig.access(GW, code, code, PHONE, acct_session_id="s1")
        assert reply is not None
        await rig.account(GW, START, "s1", user=serial, mac=PHONE, class_value=reply.first[CLASS])
        other = Phone("02aabbccdd02", True, 2, "10.20.0.58")
        problem = rig.door.check_code(code, other, move=True)
        assert isinstance(problem, Problem) and problem.reason is Reason.DATA_NOT_COUNTED
        shown = rig.show(serial)
        assert (shown["open_sessions"], shown["devices_in_use"]) == (1, 1)

    run(tmp_path, story)


def test_a_card_for_time_works_there_to_the_second(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", time_total="10h")
        ticket = rig.door.check_code(code, HERE)
        assert isinstance(ticket, Ticket)
        reply = await rig.access(USPOT, serial, ticket.password, PHONE, acct_session_id="s1")
        assert reply is not None and reply.code == ACCESS_ACCEPT
        await rig.account(USPOT, START, "s1", user=serial, mac=PHONE)
        rig.sleep(300)
        await rig.account(USPOT, INTERIM, "s1", user=serial, mac=PHONE, time_s=300)
        rig.sleep(61)
        await rig.account(USPOT, STOP, "s1", user=serial, mac=PHONE, time_s=361, cause=2)
        shown = rig.show(serial)
        assert (shown["seconds_used"], shown["octets_used"]) == (361, 0)

    run(tmp_path, story)


def test_who_sets_it_up_is_told_in_a_plain_sentence(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        admin = rig.node.admin
        pos = admin.gateway("pos-2")
        assert data_counting.gateway_advice(admin, pos) == []
        data = await admin.set_profile("harian", {"data_day": "500MB"})
        time = await admin.set_profile("jam", {"time_total": "2h"})
        assert data_counting.gateway_advice(admin, pos) == [
            "Cards with a data quota will be refused at gateway 'pos-2', because OpenWrt uspot"
            " counts no data; give out cards with a time quota there, not of harian."
        ]
        assert data_counting.profile_advice(admin, data) == [
            "Cards of profile 'harian' will be refused at pos-2, which counts no data; a time quota"
            " works there."
        ]
        assert data_counting.profile_advice(admin, time) == []
        assert data_counting.gateway_advice(admin, admin.gateway("pos-1")) == []

    run(tmp_path, story)


def test_cards_that_no_gateway_of_their_site_lets_in_are_not_made(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        admin, vouchers = rig.node.admin, rig.node.vouchers
        await admin.add_site("WAI", "Waisai", "Asia/Jayapura")
        await admin.set_profile("harian", {"data_day": "500MB"})
        await admin.set_profile("jam", {"time_total": "2h"})
        # No gateway yet: nothing is known of it.
        await vouchers.issue("harian", site="WAI")
        await rig.gateway("pos-3", "10.20.0.3", "uspot", site="WAI")
        for make in (vouchers.issue, vouchers.give):
            with pytest.raises(DeskError) as caught:
                await make("harian", site="WAI")
            assert str(caught.value) == (
                "Cards of profile harian have a data quota, but the gateway of Waisai counts no"
                " data; choose a profile with a time quota."
            )
        await vouchers.issue("jam", site="WAI")
        # One that counts is enough.
        await vouchers.issue("harian", site="TJL")

    run(tmp_path, story)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_data_quota_of_any_window_is_one(window: str) -> None:
    assert not data_counting.has_data_quota(Profile("p", time_total_s=3600))
    profile = Profile("p", **{f"data_{window}_octets": 1})  # type: ignore[arg-type]
    assert data_counting.has_data_quota(profile)


def test_a_generic_gateway_counts_data_though_it_limits_none(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p", data_total="1GB")
        reply = await rig.access(USPOT, code, code, PHONE, acct_session_id="s1")
        assert reply is not None and reply.code == ACCESS_ACCEPT

    run(tmp_path, story, family="generic")


# --- counters the wrong way round

VIEW_POINT_CLIENT = bytes.fromhex("1a0c000038df0a0600000002")
VIEW_POINT_NAS = bytes.fromhex("1a0c000038df0a0600000001")


@pytest.mark.parametrize(
    ("family", "setting", "more", "is_turned"),
    [
        ("mikrotik", "auto", b"", False),
        ("mikrotik", "yes", b"", True),
        ("mikrotik", "no", b"", False),
        ("coova", "auto", VIEW_POINT_CLIENT, True),
        ("coova", "auto", VIEW_POINT_NAS, False),
        ("coova", "no", VIEW_POINT_CLIENT, False),
        ("coova", "yes", VIEW_POINT_NAS, True),
        ("generic", "yes", b"", True),
    ],
)
def test_counters_are_turned_as_the_setting_says_else_the_packet(
    tmp_path: Path, family: str, setting: str, more: bytes, is_turned: bool
) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.node.admin.set_gateway("pos-2", {"swap_octets": setting})
        await rig.cards("p", data_total="1GB")
        [(serial, code)] = await rig.cards("p", data_total="1GB")
        reply = await rig.access(USPOT, code, code, PHONE, acct_session_id="s1")
        assert reply is not None
        report = {
            "user": serial,
            "mac": PHONE,
            "class_value": reply.first[CLASS],
            "time_s": 60,
            "input_octets": 1_001,
            "output_octets": 90_003,
            "more": more,
        }
        rig.sleep(60)
        await rig.account(USPOT, INTERIM, "s1", **report)
        (listed,) = await rig.node.history.listed(serial=serial)
        seen = (listed["input_octets"], listed["output_octets"])
        assert seen == ((90_003, 1_001) if is_turned else (1_001, 90_003))
        assert rig.show(serial)["octets_used"] == 91_004

    run(tmp_path, story, family=family)


def test_the_setting_is_kept_on_disk_and_checked(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        admin = rig.node.admin
        assert admin.gateway("pos-1").swap_octets == "auto"
        await admin.set_gateway("pos-1", {"swap_octets": "yes"})
        await admin.add_gateway("pos-9", family="generic", address="10.9.9.9", swap_octets="no")
        for change in ("maybe", "", "YES"):
            with pytest.raises(UserError, match="expected auto, yes or no"):
                await admin.set_gateway("pos-1", {"swap_octets": change})
        await rig.restart()
        assert rig.node.admin.gateway("pos-1").swap_octets == "yes"
        assert rig.node.admin.gateway("pos-9").swap_octets == "no"

    run(tmp_path, story)


# --- one-time passwords at a gateway that plays a hand-off again


def test_a_hand_off_is_good_once_for_one_gateway_and_one_phone(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", time_total="10h", devices="3")
        for address, phone in ((GW, PHONE), (USPOT, "02-AA-BB-CC-DD-09")):
            ticket = rig.ticket(code, HERE)
            reply = await rig.access(address, serial, ticket.password, phone, acct_session_id="x")
            assert reply is not None and reply.code == ACCESS_REJECT, "another gateway or phone"
        ticket = rig.ticket(code, HERE)
        reply = await rig.access(USPOT, serial, ticket.password, PHONE, acct_session_id="s1")
        assert reply is not None and reply.code == ACCESS_ACCEPT
        again = await rig.access(USPOT, serial, ticket.password, PHONE, acct_session_id="s2")
        assert again is not None and again.code == ACCESS_REJECT
        late = rig.ticket(code, HERE)
        rig.sleep(61)
        reply = await rig.access(USPOT, serial, late.password, PHONE, acct_session_id="s3")
        assert reply is not None and reply.code == ACCESS_REJECT
        await asyncio.sleep(0)

    run(tmp_path, story)
