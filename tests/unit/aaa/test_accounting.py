"""Accounting: section A5 of the conformance checklist and quota rules 1, 4, 5, 6 and 7.

Items: 33 answered when durable, 34 answered though ignored, 35 status types, 36 what must not be
there, 37 logical repeats, 38 event time, 39 order, 40 Gigawords, 41 times and causes, 42 nothing
but Proxy-State in the answer, 43 stale sessions, 44 one session a phone.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal.domain.profile import Profile, interim_of_session_s
from portal.errors import UserError
from radius.packet import (
    ACCESS_REJECT,
    ACCOUNTING_RESPONSE,
    ACCT_DELAY_TIME,
    ACCT_INTERIM_INTERVAL,
    CLASS,
    REPLY_MESSAGE,
    SERVICE_TYPE,
    STATE,
    USER_PASSWORD,
    attribute,
    integer_attribute,
    vendor_attribute,
)
from tests.unit.aaa.rig import INTERIM, OFF, ON, START, START_AT, STOP, NodeRig, play

GW, GW2 = "10.20.0.1", "10.20.0.2"
MAC, MAC_B = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
GIB = 1 << 30
FRAMED = integer_attribute(SERVICE_TYPE, 2)
"""CoovaChilli's MAC authentication says so."""


def run(tmp_path: Path, story: Callable[[NodeRig], Any]) -> None:
    play(tmp_path, story, GW)


async def log_in(rig: NodeRig, code: str, *, acct: str = "s1", mac: str = MAC) -> dict[str, Any]:
    reply = await rig.access(GW, code, code, mac, acct_session_id=acct)
    assert reply is not None and CLASS in reply.first, reply
    return {"mac": mac, "class_value": reply.first[CLASS], "ip": "10.1.0.9"}


async def sessions(rig: NodeRig) -> list[dict[str, Any]]:
    return await rig.node.history.listed()


def test_the_answer_carries_nothing_and_comes_after_the_commit(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        reply = await rig.account(GW, START, "s1", **keys)
        assert reply is not None and reply.code == ACCOUNTING_RESPONSE and not reply.first
        written = rig.node.store.database.one("SELECT changes FROM journal ORDER BY id DESC")
        assert written is not None and b"s1" in written["changes"]

    run(tmp_path, story)


def test_what_cannot_be_stored_stays_unanswered_and_counts_once_after_repair(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        await rig.account(GW, START, "s1", **keys)
        database = rig.node.store.database
        await database._writer.execute("PRAGMA query_only=ON")
        report = {"time_s": 60, "input_octets": 10, "output_octets": 20, **keys}
        assert await rig.account(GW, INTERIM, "s1", **report) is None
        assert not rig.node.is_healthy()
        refused = await rig.access(GW, code, code, MAC)
        assert refused is not None and refused.code == ACCESS_REJECT
        assert "penuh" in (refused.text(REPLY_MESSAGE) or "")
        await database._writer.execute("PRAGMA query_only=OFF")
        rig.node.disk.look()
        for _ in range(1_000):
            if rig.node.is_healthy():
                break
            await asyncio.sleep(0.05)
        assert rig.node.is_healthy()
        assert await rig.account(GW, INTERIM, "s1", **report) is not None
        assert rig.show(serial)["octets_used"] == 30
        await rig.restart()
        assert rig.show(serial)["octets_used"] == 30

    run(tmp_path, story)


@pytest.mark.parametrize("status", [9, 10, 11, 12, 13, 14, 15, 99])
def test_status_types_without_usage_are_answered_and_make_no_session(
    tmp_path: Path, status: int
) -> None:
    async def story(rig: NodeRig) -> None:
        assert await rig.account(GW, status, "t1") is not None
        assert await sessions(rig) == []

    run(tmp_path, story)


def test_an_unknown_user_s_session_is_recorded_for_nobody(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        assert await rig.account(GW, START, "x", user="tamu-lain", mac=MAC) is not None
        [found] = await sessions(rig)
        assert found["serial"] is None

    run(tmp_path, story)


def test_passwords_and_states_in_accounting_are_ignored(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        more = attribute(USER_PASSWORD, b"x" * 16) + attribute(STATE, b"s")
        assert await rig.account(GW, START, "x", user="u", more=more) is not None
        assert await rig.account(GW, START, None, user="u") is not None
        assert len(await sessions(rig)) == 1

    run(tmp_path, story)


def test_repeats_with_new_identifiers_add_nothing(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        for status, time_s, octets in (
            (START, 0, None),
            (START, 0, None),
            (INTERIM, 60, 500),
            (INTERIM, 60, 500),
            (STOP, 90, 800),
            (STOP, 90, 800),
            (START, 0, None),
            (INTERIM, 60, 500),
        ):
            await rig.account(
                GW, status, "s1", time_s=time_s, input_octets=octets, output_octets=octets, **keys
            )
        shown = rig.show(serial)
        assert (shown["octets_used"], shown["seconds_used"]) == (1600, 90)
        assert shown["open_sessions"] == 0
        assert len(await sessions(rig)) == 1

    run(tmp_path, story)


def test_a_start_resent_after_the_stop_does_not_reopen(tmp_path: Path) -> None:
    """Seen with CoovaChilli over a lossy link: the Start came 2.3 s after the Stop."""

    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        await rig.account(GW, STOP, "s1", time_s=5, input_octets=1, output_octets=2, **keys)
        rig.sleep(2.3)
        await rig.account(GW, START, "s1", event_at=START_AT, **keys)
        assert rig.show(serial)["open_sessions"] == 0
        [found] = await sessions(rig)
        assert found["ended_at"] is not None and found["started_at"] == START_AT - 5

    run(tmp_path, story)


def test_the_same_holds_without_class(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        await log_in(rig, code)
        keys = {"user": serial, "mac": MAC}
        rig.sleep(5)
        await rig.account(GW, STOP, "s1", time_s=5, input_octets=1, output_octets=2, **keys)
        await rig.restart()
        await rig.account(GW, START, "s1", event_at=START_AT, **keys)
        await rig.account(GW, INTERIM, "s1", time_s=4, input_octets=1, output_octets=1, **keys)
        assert rig.show(serial)["open_sessions"] == 0
        assert rig.show(serial)["octets_used"] == 3
        assert len(await sessions(rig)) == 1

    run(tmp_path, story)


def test_an_interim_for_an_unknown_session_creates_it_backwards(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        rig.sleep(600)
        await rig.account(GW, INTERIM, "s1", time_s=600, input_octets=7, output_octets=8, **keys)
        [found] = await sessions(rig)
        assert found["started_at"] == START_AT
        assert rig.show(serial)["seconds_used"] == 600

    run(tmp_path, story)


def test_late_packets_change_no_total(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        for time_s, octets in ((120, 900), (60, 500), (180, 1000), (0, 0), (170, 999)):
            await rig.account(
                GW, INTERIM, "s1", time_s=time_s, input_octets=octets, output_octets=0, **keys
            )
        assert rig.show(serial)["octets_used"] == 1000

    run(tmp_path, story)


def test_octets_are_64_bit_with_gigawords(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        for time_s, octets in ((60, 3 * GIB), (120, 5 * GIB), (180, 9 * GIB)):
            await rig.account(
                GW, INTERIM, "s1", time_s=time_s, input_octets=octets, output_octets=1, **keys
            )
        assert rig.show(serial)["octets_used"] == 9 * GIB + 1

    run(tmp_path, story)


def test_a_32_bit_counter_wraps_where_gigawords_never_came(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        for time_s, octets in ((60, 3 * GIB + 5), (120, GIB), (180, 2 * GIB)):
            await rig.account(
                GW,
                INTERIM,
                "s1",
                time_s=time_s,
                input_octets=octets,
                output_octets=7,
                gigawords=False,
                **keys,
            )
        assert rig.show(serial)["octets_used"] == 6 * GIB + 7

    run(tmp_path, story)


def test_falling_counters_are_a_new_segment_of_both_directions(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        for time_s, received, sent in ((60, 1000, 2000), (120, 50, 2100), (120, 60, 2100)):
            await rig.account(
                GW, INTERIM, "s1", time_s=time_s, input_octets=received, output_octets=sent, **keys
            )
        assert rig.show(serial)["octets_used"] == 3000 + 2150 + 10

    run(tmp_path, story)


def test_a_broken_counter_is_not_believed(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        await rig.account(
            GW, INTERIM, "s1", time_s=60, input_octets=(1 << 64) - 1, output_octets=5, **keys
        )
        await rig.account(
            GW, INTERIM, "s1", time_s=0xFFFFFFF0, input_octets=9, output_octets=5, **keys
        )
        assert rig.show(serial)["octets_used"] == 14
        assert rig.node.is_healthy()

    run(tmp_path, story)


def test_coova_s_client_view_is_turned_round(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        for view, acct in ((2, "s1"), (1, "s2")):
            await rig.account(
                GW,
                INTERIM,
                acct,
                time_s=60,
                input_octets=200_000,
                output_octets=8_000,
                more=vendor_attribute(14559, 10, view.to_bytes(4, "big")),
                **keys,
            )
        second, first = await sessions(rig)
        assert (first["input_octets"], first["output_octets"]) == (8_000, 200_000)
        assert (second["input_octets"], second["output_octets"]) == (200_000, 8_000)

    run(tmp_path, story)


def test_missing_session_time_is_computed_and_causes_are_named(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        await rig.account(GW, START, "s1", **keys)
        rig.sleep(100)
        await rig.account(GW, INTERIM, "s1", input_octets=1, output_octets=1, **keys)
        assert rig.show(serial)["seconds_used"] == 100
        await rig.account(GW, STOP, "s1", cause=18, **keys)
        await rig.account(GW, STOP, "s9", cause=77, user="x")
        causes = [found["end_cause"] for found in await sessions(rig)]
        assert causes == ["77", "Host-Request"]

    run(tmp_path, story)


def test_delay_time_and_event_timestamp_say_when_it_happened(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.account(GW, STOP, "a", user="x", more=integer_attribute(ACCT_DELAY_TIME, 90))
        await rig.account(GW, STOP, "b", user="x", event_at=START_AT - 300)
        await rig.account(GW, STOP, "c", user="x", event_at=86_400)
        await rig.account(GW, STOP, "d", user="x", event_at=START_AT + 500)
        ended = [found["ended_at"] - START_AT for found in await sessions(rig)]
        assert ended == [0, 0, -300, -90]

    run(tmp_path, story)


# Closing without a Stop


@pytest.mark.parametrize("status", [ON, OFF])
def test_accounting_on_and_off_close_that_gateway_s_sessions_at_their_last_evidence(
    tmp_path: Path, status: int
) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.gateway("pos-2", GW2)
        [(serial, code), (other, _)] = await rig.cards("p", 2)
        keys = await log_in(rig, code)
        await rig.account(GW, INTERIM, "s1", time_s=60, input_octets=1, output_octets=1, **keys)
        await rig.account(GW2, START, "s1", user=other, mac=MAC_B)
        rig.sleep(500)
        assert await rig.account(GW, status, None) is not None
        assert rig.show(serial)["open_sessions"] == 0
        assert rig.show(other)["open_sessions"] == 1
        closed = next(s for s in await sessions(rig) if s["serial"] == serial)
        assert closed["ended_at"] == START_AT and closed["end_cause"] == "NAS-Reboot"
        # It was only a restart of a service: an interim reopens and adds what is new.
        await rig.account(GW, INTERIM, "s1", time_s=560, input_octets=5, output_octets=5, **keys)
        assert rig.show(serial)["open_sessions"] == 1
        assert rig.show(serial)["octets_used"] == 10

    run(tmp_path, story)


def test_three_silent_interims_close_a_session_only_while_the_node_listens(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        await rig.account(GW, INTERIM, "s1", time_s=60, input_octets=1, output_octets=1, **keys)
        [session] = rig.node.sessions.open_sessions()
        silent_s = 3 * interim_of_session_s(Profile("p"), session.session.id)
        rig.sleep(silent_s - 1)
        rig.node.accounting.close_stale()
        assert rig.show(serial)["open_sessions"] == 1
        await rig.restart()
        rig.sleep(silent_s - 1)
        rig.node.accounting.close_stale()
        assert rig.show(serial)["open_sessions"] == 1
        rig.sleep(2)
        rig.node.accounting.close_stale()
        shown = rig.show(serial)
        assert shown["open_sessions"] == 0 and shown["last_ended_at"] == START_AT
        await rig.account(GW, STOP, "s1", time_s=70, input_octets=3, output_octets=1, **keys)
        assert rig.show(serial)["octets_used"] == 4

    run(tmp_path, story)


def test_item_43_sessions_report_at_intervals_of_their_own(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 40, interim="5m")
        told = set()
        for n, (_, code) in enumerate(cards):
            reply = await rig.access(GW, code, code, f"02-00-00-00-00-{n:02X}")
            assert reply is not None
            told.add(reply.integer(ACCT_INTERIM_INTERVAL) or 0)
        assert min(told) >= 300 and max(told) <= 330 and len(told) > 20

    run(tmp_path, story)


@pytest.mark.parametrize("time_s", [2**31 + 1, 2**32 - 1, 40 * 86_400])
def test_item_41_an_absurd_session_time_is_ignored_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, time_s: int
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", time_total="2h")
        keys = await log_in(rig, code)
        await rig.account(GW, START, "s1", **keys)
        rig.sleep(60)
        await rig.account(GW, INTERIM, "s1", time_s=time_s, input_octets=1, output_octets=1, **keys)
        assert rig.show(serial)["seconds_used"] == 60
        assert "session_time_ignored" in caplog.text and str(time_s) in caplog.text

    run(tmp_path, story)


def test_a_new_session_of_a_phone_closes_its_older_one(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.gateway("pos-2", GW2)
        [(serial, code)] = await rig.cards("p", data_total="10MB")
        keys = await log_in(rig, code)
        await rig.account(
            GW, INTERIM, "s1", time_s=60, input_octets=0, output_octets=1_000_000, **keys
        )
        rig.sleep(100)
        reply = await rig.access(GW2, MAC, MAC, MAC, acct_session_id="r1", more=FRAMED)
        assert reply is not None and CLASS in reply.first
        await rig.account(GW2, START, "r1", mac=MAC, class_value=reply.first[CLASS])
        shown = rig.show(serial)
        assert shown["open_sessions"] == 1 and shown["devices_in_use"] == 1
        old = (await sessions(rig))[1]
        assert old["ended_at"] == START_AT and old["end_cause"] == "Superseded"
        await rig.account(
            GW, STOP, "s1", time_s=90, input_octets=0, output_octets=1_500_000, cause=1, **keys
        )
        assert rig.show(serial)["octets_used"] == 1_500_000
        back = await rig.access(GW2, MAC, MAC, MAC, acct_session_id="r2", more=FRAMED)
        assert back is not None and CLASS in back.first, (
            "the old gateway's late Stop logs nobody out"
        )

    run(tmp_path, story)


def test_another_phone_at_the_same_address_ends_the_older_session(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.account(GW, START, "a", user="x", mac=MAC, ip="10.1.0.7")
        rig.sleep(10)
        await rig.account(GW, START, "b", user="y", mac=MAC_B, ip="10.1.0.7")
        assert [s["ended_at"] is None for s in await sessions(rig)] == [True, False]

    run(tmp_path, story)


def test_ids_used_again_after_a_reboot_are_another_session(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _)] = await rig.cards("p")
        keys = {"user": serial, "mac": MAC}
        await rig.account(GW, START, "80000001", **keys)
        rig.sleep(3000)
        await rig.account(
            GW, INTERIM, "80000001", time_s=3000, input_octets=9, output_octets=0, **keys
        )
        rig.sleep(600)
        await rig.account(GW, START, "80000001", **keys)
        rig.sleep(60)
        await rig.account(
            GW, INTERIM, "80000001", time_s=60, input_octets=5, output_octets=0, **keys
        )
        assert rig.show(serial)["octets_used"] == 14
        assert len(await sessions(rig)) == 2
        assert rig.show(serial)["open_sessions"] == 1

    run(tmp_path, story)


def test_gateways_added_twice_at_once_are_one_and_a_plain_sentence(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        outcomes = await asyncio.gather(
            *(rig.gateway("twin", "10.20.0.9") for _ in range(2)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, UserError)]
        assert len(refused) == 1 and "already" in str(refused[0])

    run(tmp_path, story)


def test_an_error_of_ours_in_a_commit_is_loud_and_accounting_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        keys = await log_in(rig, code)
        rig.node._box_changes.append(("broken", object()))  # type: ignore[arg-type]
        assert await rig.account(GW, INTERIM, "s1", time_s=9, input_octets=1, **keys) is None
        assert "commit_failed" in caplog.text
        rig.node._box_changes.clear()
        assert await rig.node.commit.now()
        assert await rig.account(GW, INTERIM, "s1", time_s=9, input_octets=1, **keys) is not None
        assert rig.show(serial)["octets_used"] == 1

    run(tmp_path, story)
