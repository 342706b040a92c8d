"""What the node asks gateways to end, and what it makes of their answers."""

from pathlib import Path
from typing import Any

import pytest

from portal.errors import UserError
from radius.dynauth import Outcome
from radius.packet import (
    ACCT_SESSION_ID,
)
from tests.unit.aaa.dynauth_stage import (
    COOVA,
    GENERIC,
    MB,
    MIKROTIK,
    live,
    online,
    report,
    sender,
    session,
    settle,
    stage,
)
from tests.unit.aaa.rig import STOP, NodeRig

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
