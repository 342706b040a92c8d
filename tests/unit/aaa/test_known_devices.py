"""Devices by name: phones that are blocked, and devices that need no card."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from portal.devices import hidden_mac
from portal.domain.quota import Reason
from portal.door import Phone, Problem
from portal.errors import DeskError
from portal.tickets import Ticket
from radius.packet import (
    ACCESS_ACCEPT,
    CLASS,
    REPLY_MESSAGE,
    SERVICE_TYPE,
    USER_NAME,
    Packet,
    integer_attribute,
)
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig, octets_granted, play

GW, GW_2 = "10.20.0.1", "10.20.0.2"
PHONE_A, PHONE_B, CLOCK = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02", "02-AA-BB-CC-DD-10"
MAC_A, MAC_CLOCK = "02aabbccdd01", "02aabbccdd10"
MB = 1_000_000
FRAMED = integer_attribute(SERVICE_TYPE, 2)


def run(tmp_path: Path, story: Callable[[NodeRig], Awaitable[None]]) -> None:
    """One site with two gateways, one of another site."""

    async def begin(rig: NodeRig) -> None:
        await rig.node.admin.add_site("SBR", "Seberang", "Asia/Makassar")
        await rig.gateway("pos-2", GW_2, site="SBR")
        await rig.node.admin.set_profile("p", {"data_total": "10MB"})
        await story(rig)

    play(tmp_path, begin, GW)


async def card(rig: NodeRig) -> tuple[str, str]:
    made = await rig.node.vouchers.give("p", site="TJL")
    return made["serial"], made["code"]


async def log_in(rig: NodeRig, code: str, mac: str, session: str, gateway: str = GW) -> Packet:
    reply = await rig.access(gateway, code, code, mac, acct_session_id=session)
    assert reply is not None
    return reply


async def by_mac(rig: NodeRig, mac: str, session: str, gateway: str = GW) -> Packet:
    reply = await rig.access(gateway, mac, mac, mac, acct_session_id=session, more=FRAMED)
    assert reply is not None
    return reply


async def is_let_in(asking: Awaitable[Packet]) -> bool:
    return (await asking).code == ACCESS_ACCEPT


async def report(
    rig: NodeRig, status: int, session: str, mac: str, value: bytes, octets: int = 0, **more: Any
) -> None:
    await rig.account(
        *(GW, status, session),
        mac=mac,
        ip="10.1.0.9",
        class_value=value,
        time_s=more.pop("time_s", 0),
        input_octets=0,
        output_octets=octets,
        **more,
    )


async def refusal(work: Awaitable[object]) -> str:
    with pytest.raises(DeskError) as caught:
        await work
    assert str(caught.value) != caught.value.key, "every refusal has a sentence"
    return caught.value.key


def here(mac: str = MAC_A) -> Phone:
    return Phone(mac, True, 1, "10.1.0.9")


# Blocked phones


def test_a_blocked_phone_is_refused_at_both_doors_of_its_site_until_it_is_let_in(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        _, code = await card(rig)
        devices, site_id = rig.node.devices, rig.node.admin.site("TJL").id
        assert await is_let_in(log_in(rig, code, PHONE_A, "s1"))
        shown = await devices.block("02:AA:bb:cc:dd:01", site_id, "mengganggu", by="ani")
        assert (shown["mac"], shown["reason"], shown["blocked_by"]) == (
            *(MAC_A, "mengganggu"),
            "ani",
        )
        assert devices.is_blocked(MAC_A, site_id)
        for _ in range(2):
            reply = await log_in(rig, code, PHONE_A, "s2")
            assert reply.code != ACCESS_ACCEPT
            assert reply.text(REPLY_MESSAGE) == "HP ini diblokir petugas. Hubungi petugas."
            assert not await is_let_in(by_mac(rig, PHONE_A, "m1"))
            problem = rig.door.check_code(code, here())
            assert isinstance(problem, Problem) and problem.reason is Reason.BLOCKED
            assert problem.status is None, "whose card it is, is not told"
            other = rig.node.vouchers.find(code)
            again = rig.door.ticket_for(other.id, here())
            assert isinstance(again, Problem) and again.reason is Reason.BLOCKED
            # A wrong code tells nothing else, and is no miss.
            wrong = rig.door.check_code("123456789017", here())
            assert isinstance(wrong, Problem) and wrong.reason is not Reason.UNKNOWN_CODE
            await rig.restart()
            devices = rig.node.devices
        # Others, and other sites, are not meant.
        assert isinstance(rig.door.check_code(code, here("02aabbccdd02")), Ticket)
        assert await is_let_in(log_in(rig, code, PHONE_A, "s3", GW_2))
        rig.sleep(1000)
        rig.node.accounting.close_stale()
        await devices.unblock(PHONE_A, site_id, "sudah bicara", by="budi")
        assert await is_let_in(log_in(rig, code, PHONE_A, "s4"))
        lines = await rig.node.audit.lines(None, object=hidden_mac(MAC_A))
        assert [(one.operator, one.action, one.reason) for one in lines] == [
            ("budi", "device.unblock", "sudah bicara"),
            ("ani", "device.block", "mengganggu"),
        ]

    run(tmp_path, story)


def test_blocking_ends_the_sessions_of_the_phone_and_frees_the_card(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        serial, code = await card(rig)
        value = (await log_in(rig, code, PHONE_A, "s1")).first[CLASS]
        await report(rig, START, "s1", PHONE_A, value)
        assert not await is_let_in(log_in(rig, code, PHONE_B, "s2"))
        await rig.node.devices.block(MAC_A, rig.node.admin.site("TJL").id, "dicuri")
        [live] = rig.node.sessions.of_mac(MAC_A)
        assert live.wants_disconnect and live.session.is_superseded
        # An Accept from just before, whose session begins now, holds nothing either.
        await report(rig, STOP, "s1", PHONE_A, value, 3 * MB, time_s=60)
        assert octets_granted(await log_in(rig, code, PHONE_B, "s3")) == 7 * MB
        assert rig.show(serial)["octets_used"] == 3 * MB

    run(tmp_path, story)


def test_an_accept_that_no_session_came_of_is_taken_back_by_blocking(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        _, code = await card(rig)
        value = (await log_in(rig, code, PHONE_A, "s1")).first[CLASS]
        await rig.node.devices.block(MAC_A, rig.node.admin.site("TJL").id, "dicuri")
        assert await is_let_in(log_in(rig, code, PHONE_B, "s2"))
        # A retransmission of what was accepted is refused now.
        assert not await is_let_in(log_in(rig, code, PHONE_A, "s1"))
        await report(rig, START, "s1", PHONE_A, value)
        [live] = rig.node.sessions.of_mac(MAC_A)
        assert live.session.is_superseded

    run(tmp_path, story)


def test_what_cannot_be_blocked(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        devices, site_id = rig.node.devices, rig.node.admin.site("TJL").id
        for mac in ("", "kosong", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"):
            assert await refusal(devices.block(mac, site_id, "x")) == "devices.mac"
        assert await refusal(devices.block(MAC_A, site_id, " ")) == "cards.reason_missing"
        assert await refusal(devices.unblock(MAC_A, site_id)) == "devices.not_blocked"
        outcomes = await asyncio.gather(
            devices.block(MAC_A, site_id, "x"),
            refusal(devices.block(MAC_A, site_id, "y")),
        )
        assert outcomes[1] == "devices.blocked_already"
        await devices.add_known("Absen", MAC_CLOCK, "p", "attendance", None, "TJL")
        assert await refusal(devices.block(MAC_CLOCK, site_id, "x")) == "devices.block_known"
        assert [one["mac"] for one in devices.blocked(site_id)] == [MAC_A]
        assert devices.blocked(site_id + 1) == []

    run(tmp_path, story)


# Known devices


async def known(rig: NodeRig, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": "Mesin absen",
        "mac": MAC_CLOCK,
        "profile": "p",
        "kind": "attendance",
        "alarm_after_s": 3600,
        "site": "TJL",
        "by": "ani",
    }
    return await rig.node.devices.add_known(**{**options, **more})


def test_a_known_device_comes_in_by_its_mac_and_its_usage_is_counted(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        assert not await is_let_in(by_mac(rig, CLOCK, "m0"))
        added = await known(rig)
        assert (added["last_heard_at"], added["is_silent"], added["is_online"]) == (
            *(None, False),
            False,
        )
        for session in ("m1", "m2", "m3"):
            reply = await by_mac(rig, CLOCK, session)
            assert reply.code == ACCESS_ACCEPT
            serial = reply.text(USER_NAME)
            value = reply.first[CLASS]
            await report(rig, START, session, CLOCK, value, user=serial)
            # A logout by the device, and one by a person, change nothing about it.
            cause = 1 if session == "m1" else 6
            await report(rig, STOP, session, CLOCK, value, 2 * MB, time_s=30, cause=cause)
            await rig.restart()
        [shown] = rig.node.devices.known()
        assert (shown["octets_used"], shown["seconds_used"]) == (6 * MB, 90)
        assert octets_granted(await by_mac(rig, CLOCK, "m4")) == 4 * MB
        # At its own site, where the gateway lets phones come back, and with no other MAC.
        assert not await is_let_in(by_mac(rig, CLOCK, "m5", GW_2))
        assert not await is_let_in(by_mac(rig, PHONE_A, "m6"))
        await rig.node.admin.set_gateway("pos-1", {"mac_auth": False})
        assert not await is_let_in(by_mac(rig, CLOCK, "m7"))

    run(tmp_path, story)


def test_a_profile_without_mac_return_lets_a_known_device_in(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.node.admin.set_profile("p", {"remember_phone": "no"})
        await known(rig)
        assert await is_let_in(by_mac(rig, CLOCK, "m1"))
        assert await is_let_in(by_mac(rig, CLOCK, "m2"))

    run(tmp_path, story)


def test_nobody_finds_or_holds_the_card_of_a_known_device(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        serial, _ = await card(rig)
        await known(rig)
        hidden = (await by_mac(rig, CLOCK, "m1")).text(USER_NAME)
        assert hidden is not None
        for _ in range(2):
            cards = rig.node.vouchers
            assert [one["serial"] for one in await cards.listed()] == [serial]
            for text in (hidden, hidden.split("-")[0], CLOCK, "----"):
                assert await cards.find_cards(text) == []
            for work in (
                cards.revoke([hidden], "x"),
                cards.replace([hidden], "x"),
                cards.top_up(hidden, octets=1, reason="x"),
                cards.confirm_given(hidden),
            ):
                assert await refusal(work) == "cards.unknown_serial"
            batch = hidden.split("-")[0]
            assert await refusal(cards.codes_of(batch)) == "cards.unknown_batch"
            assert await refusal(cards.revoke_batch(batch, "x")) == "cards.unknown_batch"
            reply = await rig.access(GW, hidden, "x", PHONE_A, acct_session_id="s1")
            assert reply is not None and reply.code != ACCESS_ACCEPT
            await rig.restart()
        held = rig.node.accounts.card_of_serial(hidden, rig.node.now())
        assert held is not None and rig.node.devices.name_of(held.id) == "Mesin absen"

    run(tmp_path, story)


def test_a_device_just_heard_of_is_told_by_its_name(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await known(rig)
        reply = await by_mac(rig, CLOCK, "m1")
        site_id = rig.node.admin.site("TJL").id
        [seen] = rig.node.vouchers.recent_phones(site_id)
        assert (seen["what"], seen["device"], seen["serial"]) == ("accepted", "Mesin absen", None)
        await report(rig, START, "m1", CLOCK, reply.first[CLASS])
        [seen] = rig.node.vouchers.recent_phones(site_id)
        assert (seen["what"], seen["device"], seen["serial"]) == ("online", "Mesin absen", None)

    run(tmp_path, story)


def test_a_silent_device_is_worth_an_alarm_only_while_there_is_power(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await known(rig)
        await known(rig, name="PC", mac=MAC_A, kind="office", alarm_after_s=None)

        def silent() -> list[str]:
            return [one["name"] for one in rig.node.devices.known() if one["is_silent"]]

        reply = await by_mac(rig, CLOCK, "m1")
        value = reply.first[CLASS]
        await report(rig, START, "m1", CLOCK, value)
        rig.sleep(1800)
        await report(rig, INTERIM, "m1", CLOCK, value, MB, time_s=1800)
        heard_at = rig.node.now()
        rig.sleep(3600)
        assert silent() == []
        rig.sleep(1)
        assert silent() == ["Mesin absen"]
        shown = {one["name"]: one for one in rig.node.devices.known()}
        assert shown["Mesin absen"]["last_heard_at"] == heard_at
        assert shown["PC"]["last_heard_at"] is None
        # It is 20.36 there; the power came on an hour ago at most.
        await rig.node.admin.set_site("TJL", {"power_window": "19:40-23:00"})
        assert silent() == []
        await rig.node.admin.set_site("TJL", {"power_window": "19:00-23:00"})
        assert silent() == ["Mesin absen"]
        # A node that did not listen has heard nothing from anybody.
        await rig.restart()
        assert silent() == []
        rig.sleep(3601)
        assert silent() == ["Mesin absen"]

    run(tmp_path, story)


def test_a_removed_device_is_cut_off_and_its_name_may_come_back(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        added = await known(rig)
        value = (await by_mac(rig, CLOCK, "m1")).first[CLASS]
        await report(rig, START, "m1", CLOCK, value)
        devices = rig.node.devices
        assert devices.find_known("mesin ABSEN") == devices.find_known(CLOCK) == added["id"]
        assert await refusal(devices.remove_known(added["id"], "")) == "cards.reason_missing"
        removed = await devices.remove_known(added["id"], "diganti", by="budi")
        assert removed["name"] == "Mesin absen"
        [live] = rig.node.sessions.of_mac(MAC_CLOCK)
        assert live.wants_disconnect and live.session.is_superseded
        for _ in range(2):
            assert not await is_let_in(by_mac(rig, CLOCK, "m2"))
            await rig.restart()
        devices = rig.node.devices
        assert devices.known() == []
        assert await refusal(devices.remove_known(added["id"], "lagi")) == "devices.removed"
        # With a card it is a phone like others.
        _, code = await card(rig)
        assert await is_let_in(log_in(rig, code, CLOCK, "s1"))
        again = await known(rig)
        assert again["octets_used"] == 0
        assert await is_let_in(by_mac(rig, CLOCK, "m3"))
        lines = await rig.node.audit.lines(None, object=added["name"])
        assert not any(MAC_CLOCK in f"{one.object}{one.details}" for one in lines)
        assert [(one.operator, one.action, one.reason) for one in lines] == [
            ("ani", "device.add", ""),
            ("budi", "device.remove", "diganti"),
            ("ani", "device.add", ""),
        ]

    run(tmp_path, story)


def test_what_cannot_be_a_known_device(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await known(rig)
        devices = rig.node.devices
        for wrong, key in (
            ({"name": " "}, "devices.name"),
            ({"name": "x" * 61}, "devices.name"),
            ({"name": "mesin absen", "mac": MAC_A}, "devices.name_taken"),
            ({"name": "Lain"}, "devices.known_already"),
            ({"name": "Lain", "site": "SBR"}, "devices.known_already"),
            ({"mac": "absen"}, "devices.mac"),
            ({"kind": "kulkas", "mac": MAC_A}, "devices.kind"),
            ({"profile": "q", "mac": MAC_A}, "cards.unknown_profile"),
            ({"alarm_after_s": 60, "mac": MAC_A}, "devices.alarm"),
        ):
            assert await refusal(known(rig, **wrong)) == key
        # The same name at another site is another device.
        await known(rig, mac=MAC_A, site="SBR")
        with pytest.raises(DeskError) as caught:
            devices.find_known("Mesin absen")
        assert caught.value.key == "devices.ambiguous"
        assert devices.find_known("Mesin absen", rig.node.admin.site("SBR").id)
        with pytest.raises(DeskError) as caught:
            devices.find_known("Kulkas")
        assert caught.value.key == "devices.unknown"
        site_id = rig.node.admin.site("TJL").id
        await devices.block("02aabbccdd77", site_id, "x")
        blocked = known(rig, name="Lain", mac="02aabbccdd77")
        assert await refusal(blocked) == "devices.known_blocked"

    run(tmp_path, story)


def test_a_device_that_had_a_card_is_counted_on_its_own_from_now_on(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        serial, code = await card(rig)
        value = (await log_in(rig, code, CLOCK, "s1")).first[CLASS]
        await report(rig, START, "s1", CLOCK, value)
        await report(rig, STOP, "s1", CLOCK, value, MB, time_s=10, cause=4)
        await known(rig)
        assert octets_granted(await by_mac(rig, CLOCK, "m1")) == 10 * MB
        assert rig.show(serial)["octets_used"] == MB

    run(tmp_path, story)
