"""Accidents between two events that are each well: a commit under way, a restart, an eviction."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portal.door import Phone
from portal.store.db import Row
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    CLASS,
    SERVICE_TYPE,
    SESSION_TIMEOUT,
    Packet,
    integer_attribute,
)
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig

GW, GW_2 = "10.20.0.1", "10.20.0.2"
PHONE_A, PHONE_B = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
MB = 1_000_000
FRAMED = integer_attribute(SERVICE_TYPE, 2)


def run(tmp_path: Path, story: Callable[[NodeRig], Awaitable[None]]) -> None:
    async def play() -> None:
        rig = await NodeRig(tmp_path).open()
        try:
            await rig.gateway("pos-1", GW)
            await rig.gateway("pos-2", GW_2)
            await story(rig)
        finally:
            await rig.close()

    asyncio.run(play())


def here(mac: str = "02aabbccdd01") -> Phone:
    return Phone(mac, True, 1, "10.1.0.9")


async def log_in(rig: NodeRig, code: str, mac: str, session: str, gateway: str = GW) -> bytes:
    """Type the code at the gateway's own page; the Class."""
    reply = await rig.access(gateway, code, code, mac, acct_session_id=session)
    assert reply is not None and reply.code == ACCESS_ACCEPT
    return reply.first[CLASS]


def octets_of(reply: Packet) -> int:
    low, high = reply.vendor(14559, 3), reply.vendor(14559, 23)
    assert low is not None and high is not None
    return int.from_bytes(high + low, "big")


async def refused(rig: NodeRig, code: str, mac: str, session: str, gateway: str = GW) -> bool:
    reply = await rig.access(gateway, code, code, mac, acct_session_id=session)
    assert reply is not None
    return reply.code == ACCESS_REJECT


def test_a_login_while_the_end_of_the_last_session_is_being_written(tmp_path: Path) -> None:
    """The row on disk is about to say that the phone holds nothing: its new grant must be written
    before the Accept."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("tetap", data_total="500MB")
        first = await log_in(rig, code, PHONE_A, "s1")
        await rig.account(GW, START, "s1", mac=PHONE_A, class_value=first)
        stop = rig.accounting(
            STOP,
            "s1",
            mac=PHONE_A,
            class_value=first,
            time_s=10,
            input_octets=1,
            output_octets=1,
        )
        journal = rig.node.store.journal
        commit, gate, is_writing = journal.commit, asyncio.Event(), asyncio.Event()

        async def slow(batch: object) -> None:
            is_writing.set()
            await gate.wait()
            await commit(batch)  # type: ignore[arg-type]

        journal.commit = slow  # type: ignore[method-assign]
        stopping = asyncio.create_task(rig.send(stop, GW, is_acct=True))
        await is_writing.wait()
        coming = asyncio.create_task(log_in(rig, code, PHONE_A, "s2"))
        await asyncio.sleep(0.01)
        gate.set()
        await stopping
        await coming
        journal.commit = commit  # type: ignore[method-assign]
        await rig.restart()
        assert await refused(rig, code, PHONE_B, "s3")

    run(tmp_path, story)


def test_a_session_begun_on_an_older_grant_holds_its_own_after_a_restart(tmp_path: Path) -> None:
    """A re-login that an older row covers writes none of its own; the power goes; the phone stays
    on for longer than a grant without session is kept."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("tetap", data_total="500MB", interim="5m")
        first = await log_in(rig, code, PHONE_A, "s1")
        await rig.account(GW, START, "s1", mac=PHONE_A, class_value=first)
        second = await log_in(rig, code, PHONE_A, "s2")
        await rig.account(GW, START, "s2", mac=PHONE_A, class_value=second)
        await rig.restart()
        for minutes in range(5, 30, 5):
            rig.sleep(300)
            await rig.account(
                GW,
                INTERIM,
                "s2",
                mac=PHONE_A,
                class_value=second,
                time_s=60 * minutes,
                input_octets=0,
                output_octets=minutes * MB,
            )
            rig.node.accounting.close_stale()
            await rig.node.commit.now()
        assert await refused(rig, code, PHONE_B, "s3")

    run(tmp_path, story)


def test_a_late_start_of_an_older_login_does_not_free_the_grant_of_the_newest(
    tmp_path: Path,
) -> None:
    """The power goes between the second Accept and its Start; the first one's Start comes late."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("tetap", data_total="500MB")
        first = await log_in(rig, code, PHONE_A, "s1")
        await rig.node.admin.set_profile("tetap", {"idle": "10m"})
        second = await log_in(rig, code, PHONE_A, "s2")
        assert first != second
        await rig.restart()
        await rig.account(GW, START, "s1", mac=PHONE_A, class_value=first)
        await rig.account(GW, STOP, "s1", mac=PHONE_A, class_value=first, time_s=1)
        assert await refused(rig, code, PHONE_B, "s3")

    run(tmp_path, story)


def test_a_phone_that_asks_again_gets_the_answer_it_has(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("tetap", data_total="500MB")
        first = await log_in(rig, code, PHONE_A, "s1")
        assert await log_in(rig, code, PHONE_A, "s2") == first
        await rig.restart()
        again = await log_in(rig, code, PHONE_A, "s3")
        assert again != first, "a node that was off decides anew"
        assert await log_in(rig, code, PHONE_A, "s4", GW_2) != again, "Class is good at one gateway"
        [newest] = {await log_in(rig, code, PHONE_A, f"s{n}") for n in range(5, 9)}
        await rig.account(GW, START, "s8", mac=PHONE_A, class_value=newest)
        assert await log_in(rig, code, PHONE_A, "s9") != newest, "that session has begun"
        await rig.node.vouchers.revoke([serial], "hilang")
        assert await refused(rig, code, PHONE_A, "s10")

    run(tmp_path, story)


def test_an_answer_given_again_is_on_disk(tmp_path: Path) -> None:
    """Both requests come before the commit of the first: neither is answered before it."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("tetap", data_total="500MB")
        journal = rig.node.store.journal
        commit, gate = journal.commit, asyncio.Event()

        async def slow(batch: object) -> None:
            await gate.wait()
            await commit(batch)  # type: ignore[arg-type]

        journal.commit = slow  # type: ignore[method-assign]
        asking = [asyncio.create_task(log_in(rig, code, PHONE_A, f"s{n}")) for n in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in asking)
        gate.set()
        await asyncio.gather(*asking)

    run(tmp_path, story)


def test_what_changes_meanwhile_is_decided_anew(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("tetap", data_total="500MB", valid="30d")
        first = await rig.access(GW, code, code, PHONE_A, acct_session_id="s1")
        await rig.node.vouchers.top_up(serial, octets=100 * MB, reason="kurang")
        second = await rig.access(GW, code, code, PHONE_A, acct_session_id="s2")
        assert first is not None and second is not None
        assert (octets_of(first), octets_of(second)) == (500 * MB, 600 * MB)
        rig.sleep(29 * 86_400 + 86_000)
        late = await rig.access(GW, code, code, PHONE_A, acct_session_id="s3")
        rig.sleep(100)
        later = await rig.access(GW, code, code, PHONE_A, acct_session_id="s4")
        assert late is not None and later is not None
        seconds = [reply.integer(SESSION_TIMEOUT) or 0 for reply in (late, later)]
        assert seconds[0] - seconds[1] >= 100, "validity ends for both at the same moment"

    run(tmp_path, story)


def test_a_grant_that_an_older_row_covers_only_in_part_is_written_first(tmp_path: Path) -> None:
    """Of the older grant most is used: after a power cut the row would set aside only the rest."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("dua", data_total="100MB", devices="2")
        first = await log_in(rig, code, PHONE_A, "s1")
        await rig.account(
            GW,
            INTERIM,
            "s1",
            mac=PHONE_A,
            class_value=first,
            time_s=300,
            input_octets=0,
            output_octets=40 * MB,
        )
        again = await rig.access(GW_2, code, code, PHONE_A, acct_session_id="s2")
        await rig.restart()
        other = await rig.access(GW, code, code, PHONE_B, acct_session_id="s3")
        assert again is not None and other is not None
        assert octets_of(again) + octets_of(other) <= 60 * MB

    run(tmp_path, story)


def test_the_end_of_an_old_card_does_not_forget_the_phone_for_its_new_one(tmp_path: Path) -> None:
    """A shared phone changed cards; then the operator revokes the first one."""

    async def story(rig: NodeRig) -> None:
        [(old, old_code), (new, new_code)] = await rig.cards("tetap", 2, data_total="500MB")
        for session, code in (("s1", old_code), ("s2", new_code)):
            value = await log_in(rig, code, PHONE_A, session)
            await rig.account(GW, START, session, mac=PHONE_A, class_value=value)
            rig.sleep(60)
            await rig.account(GW, STOP, session, mac=PHONE_A, class_value=value, time_s=60, cause=4)
        await rig.node.vouchers.revoke([old], "hilang")
        back = await rig.access(GW, PHONE_A, PHONE_A, PHONE_A, acct_session_id="s3", more=FRAMED)
        assert back is not None and back.code == ACCESS_ACCEPT, new

    run(tmp_path, story)


def test_a_start_that_comes_after_the_card_moved_away_holds_nothing(tmp_path: Path) -> None:
    """The Start of phone A is lost; phone B takes the card over; A's first interim comes."""

    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("tetap", data_total="500MB", interim="5m")
        value = await log_in(rig, code, PHONE_A, "s1")
        rig.sleep(60)
        ticket = rig.ticket(code, here("02aabbccdd02"), move=True)
        moved = await rig.access(GW, serial, ticket.password, PHONE_B, acct_session_id="s2")
        assert moved is not None and moved.code == ACCESS_ACCEPT
        second = moved.first[CLASS]
        await rig.account(GW, START, "s2", mac=PHONE_B, class_value=second)
        rig.sleep(240)
        await rig.account(
            GW,
            INTERIM,
            "s1",
            mac=PHONE_A,
            class_value=value,
            time_s=300,
            input_octets=0,
            output_octets=MB,
        )
        [left] = [live for live in rig.node.sessions.of_mac("02aabbccdd01")]
        assert left.session.is_superseded
        assert rig.show(serial)["devices_in_use"] == 1
        assert rig.show(serial)["octets_used"] == MB

    run(tmp_path, story)


def test_a_late_packet_counts_after_its_account_was_dropped_and_read_again(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("tetap", 40, data_total="500MB", devices="2")
        serial, code = cards[0]
        rig.node.accounts._kept = 16
        value = await log_in(rig, code, PHONE_A, "s1")
        await rig.account(GW, START, "s1", mac=PHONE_A, class_value=value)
        rig.sleep(1000)
        rig.node.accounting.close_stale()
        await rig.node.commit.now()
        for other, _ in cards[1:]:
            rig.show(other)
        second = await log_in(rig, code, PHONE_B, "s2", GW_2)
        await rig.account(GW_2, START, "s2", mac=PHONE_B, class_value=second)
        await rig.account(
            GW_2,
            STOP,
            "s2",
            mac=PHONE_B,
            class_value=second,
            time_s=0,
            input_octets=0,
            output_octets=7 * MB,
        )
        await rig.account(
            GW,
            INTERIM,
            "s1",
            mac=PHONE_A,
            class_value=value,
            time_s=1000,
            input_octets=0,
            output_octets=5 * MB,
        )
        assert rig.show(serial)["octets_used"] == 12 * MB
        assert rig.show(serial)["open_sessions"] == 1
        await rig.restart()
        assert rig.show(serial)["octets_used"] == 12 * MB

    run(tmp_path, story)


def test_a_session_time_of_many_years_burns_no_quota(tmp_path: Path) -> None:
    """A gateway woke up in 1970 and was put right: it says that the session lasts since then."""

    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("jam", time_total="10h")
        value = await log_in(rig, code, PHONE_A, "s1")
        await rig.account(GW, START, "s1", mac=PHONE_A, class_value=value)
        for time_s in (1_795_000_000, 0xFFFFFFFF):
            rig.sleep(300)
            await rig.account(
                GW,
                INTERIM,
                "s1",
                mac=PHONE_A,
                class_value=value,
                time_s=time_s,
                input_octets=0,
                output_octets=MB,
            )
        assert rig.show(serial)["seconds_used"] == 600
        assert rig.show(serial)["octets_used"] == MB

    run(tmp_path, story)


def test_a_long_list_of_cards_lets_the_gateways_in_between(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("tetap", 300, data_total="500MB")
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(others())
        read, before = rig.node.store.list_vouchers, 0

        async def noting(**wanted: Any) -> list[Row]:
            nonlocal before
            rows = await read(**wanted)
            before = turns
            return rows

        rig.node.store.list_vouchers = noting  # type: ignore[method-assign]
        assert len(await rig.node.vouchers.listed()) == 300
        assert turns - before >= 5
        counting.cancel()

    run(tmp_path, story)
