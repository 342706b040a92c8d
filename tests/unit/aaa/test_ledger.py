"""The ledger at a node: what is recorded, when, in which transaction, and what is forgotten."""

import asyncio
import dataclasses
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portal.domain.ledger import DayTotal, Flag, Kind, LedgerError, Record, Usage
from portal.domain.note import is_signed, parse_checkpoint, parse_note
from portal.ledger import ROLLED_BACK
from portal.ledger_hours import day_total
from portal.pseudonyms import NOBODY
from portal.signing import verify
from portal.store import db
from portal.store.db import Database, DatabaseError
from portal.store.ledger import Entry
from radius.packet import CLASS
from tests.unit import ledger_check
from tests.unit.aaa.rig import INTERIM, ON, START, START_AT, STOP, NodeRig, play

GATEWAY = "10.0.0.2"
MAC = "02-AA-BB-CC-DD-01"
BEFORE_MIDNIGHT = START_AT + 4 * 3600 + 50 * 60
HOUR_S, DAY_S = 3_600, 86_400


async def records(rig: NodeRig, *kinds: Kind) -> list[tuple[Record, dict[str, Any]]]:
    path = await rig.settled()
    ledger_check.check(path)
    return [pair for pair in ledger_check.records_of(path) if pair[0].kind in kinds]


async def usages(rig: NodeRig) -> list[tuple[Record, Usage]]:
    found = []
    for record, _ in await records(rig, Kind.SESSION, Kind.SLICE):
        assert isinstance(record.payload, Usage)
        found.append((record, record.payload))
    return found


async def session(rig: NodeRig, serial: str, name: str, status: int, **said: Any) -> None:
    await rig.account(GATEWAY, status, name, user=serial, mac=MAC, ip="10.1.0.9", **said)


def test_a_session_is_one_record_at_its_end_and_none_before(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s1", START)
        for n in range(1, 6):
            rig.sleep(300)
            used = {"time_s": 300 * n, "input_octets": n, "output_octets": 10 * n}
            await session(rig, serial, "s1", INTERIM, **used)
        assert await usages(rig) == []
        for _ in range(3):  # a gateway repeats what it thinks is lost
            used = {"time_s": 1_600, "input_octets": 7, "output_octets": 70}
            await session(rig, serial, "s1", STOP, cause=4, **used)
        [(record, usage)] = await usages(rig)
        assert (record.kind, record.site, record.boot) == (Kind.SESSION, 1, rig.node.boot)
        assert usage.flags == Flag.FIRST | Flag.LAST
        assert (usage.gateway, usage.profile, usage.cause) == (1, 1, 4)
        assert (usage.input_octets, usage.output_octets) == (7, 70)
        assert (usage.duration_s, usage.counted_s) == (1_600, 1_600)
        [(_, personal)] = await records(rig, Kind.SESSION)
        assert personal.pop("session") > 0
        assert personal == {"mac": "02aabbccdd01", "ip": "10.1.0.9", "serial": serial}

    play(tmp_path, story, GATEWAY)


def test_a_card_has_one_name_a_month_and_another_the_next(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        (first, _), (second, _) = await rig.cards("p", 2)
        for n, serial in enumerate((first, first, second, first)):
            if n == 3:
                rig.sleep(20 * DAY_S)
            await session(rig, serial, f"s{n}", STOP, time_s=10, input_octets=1, output_octets=1)
        await rig.account(GATEWAY, STOP, "x", user="siapa", time_s=10, output_octets=5)
        names = [usage.pseudonym for _, usage in await usages(rig)]
        assert names[0] == names[1]
        assert len({*names}) == 4 and names[4] == NOBODY
        await rig.restart()
        await session(rig, first, "s9", STOP, time_s=10, input_octets=1, output_octets=1)
        assert (await usages(rig))[-1][1].pseudonym == names[3]

    play(tmp_path, story, GATEWAY)


def test_a_day_s_usage_is_in_its_day_and_its_total_is_the_sum_of_its_records(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path, at=BEFORE_MIDNIGHT).open()
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        today = date(2026, 11, 18).toordinal()
        await session(rig, serial, "s0", STOP, time_s=30, input_octets=1, output_octets=1)
        await session(rig, serial, "s1", START)
        rig.sleep(120)
        await session(rig, serial, "s1", INTERIM, time_s=120, input_octets=100, output_octets=1_000)
        await rig.node.hours.look()
        assert [usage.flags for _, usage in await usages(rig)] == [Flag.FIRST | Flag.LAST]
        rig.sleep(180)  # midnight has passed
        await rig.node.hours.look()
        await rig.node.hours.look()
        _, (cut, piece) = await usages(rig)
        assert (cut.kind, piece.flags, piece.cause) == (Kind.SLICE, Flag.FIRST, 0)
        assert (piece.input_octets, piece.output_octets, piece.duration_s) == (100, 1_000, 120)
        assert await records(rig, Kind.DAY_TOTAL) == []
        used = {"time_s": 300, "input_octets": 150, "output_octets": 1_500}
        await session(rig, serial, "s1", STOP, **used)
        *_, (end, rest) = await usages(rig)
        assert (end.kind, rest.flags) == (Kind.SESSION, Flag.LAST)
        assert (rest.input_octets, rest.output_octets, rest.duration_s) == (50, 500, 180)
        rig.sleep(HOUR_S)
        await rig.node.hours.look()
        totals = ledger_check.day_totals(await rig.settled())
        assert totals == {
            (1, today): DayTotal(
                today,
                sessions=2,
                users=1,
                input_octets=101,
                output_octets=1_001,
                seconds=150,
                peak=2,
            )
        }
        rig.sleep(DAY_S)
        await rig.node.hours.look()
        await rig.node.hours.look()
        totals = ledger_check.day_totals(await rig.settled())
        assert totals[1, today + 1].output_octets == 500
        assert totals[1, today + 1].sessions == 0 and totals[1, today + 1].users == 1
        assert len(await records(rig, Kind.DAY_TOTAL)) == 2
        await rig.close()

    asyncio.run(story())


def test_a_day_that_ended_while_the_node_was_off_gets_its_usage(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path, at=BEFORE_MIDNIGHT).open()
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s1", START)
        rig.sleep(60)
        await session(rig, serial, "s1", INTERIM, time_s=60, input_octets=1, output_octets=1)
        rig.sleep(600)
        await rig.restart()
        await rig.node.hours.look()
        [(cut, piece)] = await usages(rig)
        assert (cut.kind, cut.at) == (Kind.SLICE, BEFORE_MIDNIGHT + 60)
        assert piece.duration_s == 60
        # What is reported today before the first look is today's.
        await rig.restart()
        await session(rig, serial, "s1", INTERIM, time_s=700, input_octets=9, output_octets=1)
        await rig.node.hours.look()
        assert len(await usages(rig)) == 1
        await rig.close()

    asyncio.run(story())


def test_what_comes_after_the_close_is_added_and_the_day_is_told_again(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s1", START)
        rig.sleep(60)
        await session(rig, serial, "s1", INTERIM, time_s=60, input_octets=1, output_octets=1)
        rig.sleep(2_000)
        rig.node.accounting.close_stale()
        [(_, first)] = await usages(rig)
        assert first.flags == Flag.FIRST | Flag.LAST | Flag.CUT and first.cause == 2
        rig.sleep(DAY_S)
        await rig.node.hours.tell_days()
        # A report that lay on the way.
        late = {"time_s": 90, "input_octets": 5, "output_octets": 1, "event_at": START_AT + 90}
        await session(rig, serial, "s1", STOP, cause=1, **late)
        *_, (_, second) = await usages(rig)
        assert second.flags & (Flag.FIRST | Flag.LAST | Flag.LATE) == Flag.LAST | Flag.LATE
        assert (second.input_octets, second.duration_s) == (4, 30)
        rig.sleep(DAY_S)
        await rig.node.hours.tell_days()
        totals = ledger_check.day_totals(await rig.settled())
        assert sum(total.input_octets for total in totals.values()) == 5
        assert sum(total.sessions for total in totals.values()) == 1

    play(tmp_path, story, GATEWAY)


def test_a_session_that_goes_on_after_its_close_counts_once(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, code),) = await rig.cards("p")
        reply = await rig.access(GATEWAY, code, code, MAC, acct_session_id="s1")
        assert reply is not None
        said = {"class_value": reply.first[CLASS]}
        await session(rig, serial, "s1", START, **said)
        await rig.account(GATEWAY, ON, None)
        rig.sleep(60)
        used = {"time_s": 60, "input_octets": 9, "output_octets": 9}
        await session(rig, serial, "s1", INTERIM, **used, **said)
        rig.sleep(60)
        used = {"time_s": 120, "input_octets": 11, "output_octets": 9}
        await session(rig, serial, "s1", STOP, **used, **said)
        first, second = [usage for _, usage in await usages(rig)]
        assert first.flags == Flag.FIRST | Flag.LAST | Flag.CUT
        assert second.flags == Flag.LAST and second.input_octets == 11

    play(tmp_path, story, GATEWAY)


def test_people_s_deeds_say_what_was_done_and_keep_who_in_the_village(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, _),) = await rig.cards("p", data_day="1GB")
        await rig.node.vouchers.revoke([serial], "hilang", by="ani")
        await rig.node.admin.set_site("TJL", {"power_window": "18:00-06:00", "helper": "Bu Sari"})
        deeds = await records(rig, Kind.ACTION)
        audit = ledger_check.read(await rig.settled(), "SELECT action, site_id FROM audit")
        assert [(deed.payload["action"], deed.site or None) for deed, _ in deeds] == [  # type: ignore[call-overload, index]
            tuple(row) for row in audit
        ]
        revoked = next(p for deed, p in deeds if deed.payload == {"action": "voucher.revoke"})
        assert revoked == {"by": "ani", "object": serial, "reason": "hilang"}
        told = [dict(record.payload) for record, _ in await records(rig, Kind.CONFIG)]  # type: ignore[arg-type]
        assert told[-1] == {"what": "site", "number": 1, "power_window": "18:00-06:00"}
        profile = {"what": "profile", "number": 1, "name": "p"}
        assert profile | {"limits": {"data_day_octets": 10**9}} in told
        gateway = {"what": "gateway", "number": 1, "name": "pos-1", "family": "coova"}
        assert gateway in told

    play(tmp_path, story, GATEWAY)


def test_a_deed_that_is_rolled_back_leaves_neither_a_record_nor_a_gap(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        store = rig.node.ledger.store
        before = store.head()
        database = rig.node.store.database
        for _ in range(2):
            with pytest.raises(DatabaseError):
                async with database.transaction() as transaction:
                    transaction.append(Entry(Kind.ACTION, 1, {"action": "x"}))
                    await transaction.run("INSERT INTO nowhere VALUES (1)")
        assert store.head() == before
        rig.node.ledger.append(Kind.POLICY, {"name": "profiles"})
        with pytest.raises(LedgerError):
            rig.node.ledger.append(Kind.POLICY, {"share": 0.5})
        assert len(await records(rig, Kind.POLICY)) == 1

    play(tmp_path, story, GATEWAY)


def test_what_a_failed_commit_did_not_write_comes_once_with_the_next(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s1", START)
        database = rig.node.store.database
        write, failures = database._writer.write, 2

        async def failing(statements: Any) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                statements = [*statements, ("INSERT INTO nowhere VALUES (1)", ((),))]
            await write(statements)

        database._writer.write = failing  # type: ignore[method-assign]
        rig.sleep(60)
        for _ in range(4):
            used = {"time_s": 60, "input_octets": 9_000, "output_octets": 0}
            await session(rig, serial, "s1", STOP, **used)
        assert failures == 0
        [(_, usage)] = await usages(rig)
        assert usage.input_octets == 9_000
        [(gap, _)] = await records(rig, Kind.GAP)
        assert isinstance(gap.payload, dict)
        assert (gap.payload["cause"], gap.payload["failures"]) == ("commits failed", 2)
        await rig.restart()
        assert len(await usages(rig)) == 1

    play(tmp_path, story, GATEWAY)


def test_boots_power_cuts_and_the_clock_are_recorded(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        assert await records(rig, Kind.GAP) == []
        await rig.node._save_clock()
        await rig.node.commit.now()
        await rig.restart()
        [(gap, _)] = await records(rig, Kind.GAP)
        assert gap.payload == {"cause": "power cut", "from": START_AT, "to": START_AT + 7}
        await rig.close()
        rig.sleep(DAY_S)
        await rig.open()
        assert len(await records(rig, Kind.GAP)) == 1
        boots = [boot.payload for boot, _ in await records(rig, Kind.BOOT)]
        assert [boot["off_since"] for boot in boots] == [0, START_AT, START_AT + 7]  # type: ignore[call-overload, index]
        # The battery is empty: it is 1970, until a time service puts it right.
        await rig.restart()
        await rig.node.hours.look()
        rig.at = 500.0
        await rig.restart()
        rig.sleep(10)
        rig.at = START_AT + 9 * DAY_S
        rig.is_synchronised = True
        await rig.node.hours.look()
        [(moved, _)] = await records(rig, Kind.CLOCK)
        assert isinstance(moved.payload, dict) and moved.payload["state"] == "synchronised"
        assert 7 * DAY_S < moved.payload["jumped_s"] < 9 * DAY_S
        await rig.close()

    asyncio.run(story())


def test_every_hour_says_how_the_node_is(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.node.admin.set_site("TJL", {"power_window": "22:00-06:00"})
        ((serial, _),) = await rig.cards("p")
        rig.node.backhaul._fails(rig.node.now())
        rig.node.backhaul._fails(rig.node.now())
        rig.node.backhaul._fails(rig.node.now())
        rig.sleep(HOUR_S // 2)
        rig.node.backhaul._works()
        await session(rig, serial, "s1", START)
        rig.sleep(HOUR_S // 2)
        for _ in range(3):
            await rig.node.hours.look()
        [(record, _)] = await records(rig, Kind.HEALTH)
        health = record.payload
        assert isinstance(health, dict)
        assert health["down"] == [[START_AT, START_AT + HOUR_S // 2]]
        assert (health["backhaul"], health["online"], health["dark"]) == ("up", 1, [1])
        assert health["heard"] == {"1": HOUR_S // 2}
        assert health["free_octets"] > 0 and health["database_octets"] > 0
        head = rig.node.ledger.store.head()
        assert head is not None and 0 < health["backlog"] < head.size
        wan = [(record.at, record.payload) for record, _ in await records(rig, Kind.WAN)]
        up_at = START_AT + HOUR_S // 2
        assert wan == [(START_AT, {"state": "down"}), (up_at, {"state": "up"})]
        for _ in range(3):
            rig.node.backhaul._fails(rig.node.now())
        await rig.node.commit.now()
        await rig.restart()
        [*_, (last, _)] = await records(rig, Kind.WAN)
        assert last.payload == {"state": "unknown"}

    play(tmp_path, story, GATEWAY)


def test_a_checkpoint_is_signed_by_the_box_and_names_its_log(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.node.commit.now()
        note = parse_note(rig.node.ledger.checkpoint())
        checkpoint, head = parse_checkpoint(note.text), rig.node.ledger.store.head()
        assert head is not None
        assert (checkpoint.size, checkpoint.root) == (head.size, head.root)
        assert is_signed(note, rig.node.signing.key, verify)
        assert checkpoint.origin == f"pesisir/node/{rig.node.signing.node_id}/0"

    play(tmp_path, story, GATEWAY)


def test_a_rolled_back_node_tells_again_what_the_hub_does_not_have(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s1", STOP, time_s=10, input_octets=1, output_octets=1)
        await rig.node.commit.now()
        ledger = rig.node.ledger
        known = ledger.store.head()
        assert known is not None
        note = ledger.checkpoint()
        await session(rig, serial, "s2", STOP, time_s=10, input_octets=2, output_octets=2)
        await session(rig, serial, "s3", START)
        await ledger.open_epoch(note, ROLLED_BACK, replayed_below=1 << 62, replay_from=known.size)
        await session(rig, serial, "s3", STOP, time_s=20, input_octets=3, output_octets=3)
        found = [
            (usage.input_octets, bool(usage.flags & Flag.REPLAYED))
            for _, usage in await usages(rig)
        ]
        assert found == [(1, False), (2, False), (2, True), (3, True)]
        [*_, (epoch, _)] = await records(rig, Kind.EPOCH)
        assert isinstance(epoch.payload, dict)
        assert (epoch.payload["parent"], epoch.payload["why"]) == (note, ROLLED_BACK)
        await rig.restart()
        head = rig.node.ledger.store.head()
        assert head is not None and head.epoch == 1
        rig.sleep(DAY_S)
        await rig.node.hours.tell_days()
        [total] = ledger_check.day_totals(await rig.settled()).values()
        assert (total.input_octets, total.sessions) == (6, 3)

    play(tmp_path, story, GATEWAY)


def test_an_erased_person_is_nowhere_in_the_file_and_the_tree_stands(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open({"PESISIR_PRIVACY_PERSONAL_DAYS": "30"})
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        for n in range(40):
            mac = f"02-AA-BB-CC-{n:02X}-7E"
            said = {"time_s": 10 + n, "input_octets": n, "output_octets": 1}
            await rig.account(GATEWAY, STOP, f"s{n}", user=serial, mac=mac, ip="10.9.8.7", **said)
        [*_, (_, usage)] = await usages(rig)
        path = await rig.settled()
        traces = [b"02aabbcc107e", b"10.9.8.7", b'"serial":"' + serial.encode(), usage.pseudonym]
        await rig.node.store.database.empty_log()
        assert all(trace in path.read_bytes() for trace in traces)
        rig.sleep(62 * DAY_S)
        # The phone's next session is recent, and stays.
        await session(rig, serial, "new", STOP, time_s=9, input_octets=1, output_octets=1)
        before = rig.node.ledger.store.head()
        assert await rig.node.retention.forget() == 40
        assert await rig.node.retention.forget() == 0
        found = await records_without_check(rig, Kind.ERASURE)
        erasures = [dict(record.payload) for record, _ in found]  # type: ignore[arg-type]
        assert [(one["what"], one["count"]) for one in erasures] == [
            ("sessions", 40),
            ("phones", 40),
            *[(one["what"], one["count"]) for one in erasures[2:]],
        ]
        parts = next(one for one in erasures if one["what"] == "personal parts")
        assert parts["rule"] == "personal_days=30" and parts["count"] >= 40
        assert before is not None and parts["last"][1] < before.size
        assert ("pseudonyms", 1) in [(one["what"], one["count"]) for one in erasures]
        await rig.node.store.database.empty_log()
        files = [path, *path.parent.glob("pesisir.db-*")]
        for trace in traces[:3]:
            for file in files:
                if trace == traces[2]:
                    assert file.read_bytes().count(trace) <= 1, "only the new session's"
                else:
                    assert trace not in file.read_bytes(), (trace, file)
        names = rig.node.store.database.all("SELECT octets FROM pseudonym")
        assert usage.pseudonym not in [row["octets"] for row in names]
        ledger_check.check_tree(path)
        await rig.close()

    asyncio.run(story())


@pytest.mark.parametrize("has_hub", [False, True])
def test_bodies_are_pruned_when_they_are_old_and_with_a_hub_only_when_it_has_them(
    tmp_path: Path, has_hub: bool
) -> None:
    async def story() -> None:
        environment = {"PESISIR_HUB_URL": "https://hub.example"} if has_hub else {}
        rig = await NodeRig(tmp_path).open(environment)
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        for n in range(4):
            said = {"time_s": 10, "input_octets": n, "output_octets": 1}
            await session(rig, serial, f"s{n}", STOP, **said)
        rig.sleep(DAY_S)
        await rig.node.hours.tell_days()
        store = rig.node.ledger.store
        seqs = [record.seq for record, _ in await records(rig, Kind.SESSION)]
        for size in (3, 4, seqs[3] + 1):
            await store.keep_cosigned(0, size, "note", at=START_AT + size, backed_up=seqs[1] + 1)
        rig.sleep(390 * DAY_S)
        await rig.node.retention.forget()
        path = await rig.settled()
        assert len([1 for r, _ in ledger_check.records_of(path) if r.kind == Kind.SESSION]) == 4
        rig.sleep(20 * DAY_S)
        await rig.node.retention.forget()
        ledger_check.check_tree(await rig.settled())
        left = [r.seq for r, _ in ledger_check.records_of(path) if r.kind == Kind.SESSION]
        assert left == (seqs[2:] if has_hub else [])
        assert [row["size"] for row in store.cosigned_checkpoints()] == [seqs[3] + 1]
        assert len(ledger_check.day_totals(path)) == 1
        database = rig.node.store.database
        for sql in (
            "DELETE FROM ledger",
            "UPDATE ledger SET public = x'01'",
            "UPDATE ledger SET at = 0",
            "UPDATE ledger SET leaf = x'01'",
        ):
            with pytest.raises(DatabaseError, match="append-only"):
                await database.write([(sql, ((),))])
        await rig.close()

    asyncio.run(story())


def test_a_ledger_begins_with_the_upgrade_and_says_from_when(tmp_path: Path) -> None:
    """Sessions that ended before are not in it; what comes late for one counts from there."""

    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.close()
        for file in rig.directory.glob(f"{db.FILE_NAME}*"):
            file.unlink()
        old = [step for step in db.migrations() if step[0] < 10]
        path = rig.directory / db.FILE_NAME
        db.migrate(path, old)
        database = await Database.open(path)
        columns = (
            "INSERT INTO session (id, gateway_id, site_id, acct_session_id, has_class, started_at,"
            " last_seen_at, ended_at, is_stopped, is_superseded, input_octets, output_octets,"
            " session_time_s, base_input_octets, base_output_octets, counted_s, pending_octets,"
            " pending_s) VALUES (?, 1, 1, ?, 0, ?, ?, ?, 0, 0, 10, 20, 60, 0, 0, 60, 0, 0)"
        )
        at = START_AT - 100
        await database.write(
            [(columns, ((7, "s7", at, at + 60, at + 60), (8, "s8", at, at, None)))]
        )
        # The power was cut before the last two were in their table.
        rows = [
            (
                *(number, None, 1, 1, f"s{number}", None, None, False, at),
                *(None, None, at + 60, ended_at, None, False, False),
                *(10, 20, 60, 0, 0, 60, None, 0, 0),
            )
            for number, ended_at in ((9, at + 60), (10, None))
        ]
        changes = msgspec.msgpack.encode({"sessions": rows})
        await database.write([("INSERT INTO journal (changes) VALUES (?)", ((changes,),))])
        await database.close()
        db.migrate(path)
        await rig.open()
        await rig.gateway("pos-1", GATEWAY)
        for name in ("s7", "s8", "s9", "s10"):
            said = {"time_s": 70, "input_octets": 15, "output_octets": 20}
            await rig.account(GATEWAY, STOP, name, **said)
        [(first, _), *_] = await records_without_check(rig, Kind.EPOCH)
        assert isinstance(first.payload, dict) and first.payload["from"] == START_AT
        found = [record.payload for record, _ in await records_without_check(rig, Kind.SESSION)]
        assert len(found) == 4
        for late, whole in (found[:2], found[2:]):
            assert isinstance(late, Usage) and isinstance(whole, Usage)
            assert (late.input_octets, late.output_octets, late.duration_s) == (5, 0, 10)
            assert late.flags == Flag.LAST | Flag.LATE
            assert (whole.input_octets, whole.output_octets, whole.duration_s) == (15, 20, 70)
            assert whole.flags == Flag.FIRST | Flag.LAST
        await rig.close()

    asyncio.run(story())


async def records_without_check(rig: NodeRig, kind: Kind) -> list[tuple[Record, dict[str, Any]]]:
    return [p for p in ledger_check.records_of(await rig.settled()) if p[0].kind == kind]


def test_the_peak_of_a_day_counts_phones_that_were_online_at_once() -> None:
    def usage(duration_s: int, *, first: bool = True) -> Usage:
        return Usage(int(first), b"0123456789", 1, 1, duration_s, duration_s, duration_s, 1, 2, 0)

    pieces = [(100, usage(50)), (120, usage(20)), (140, usage(15)), (99, usage(0, first=False))]
    total = day_total(7, pieces)
    assert total == DayTotal(7, 3, 1, 4, 8, 85, 2)
    assert dataclasses.replace(day_total(7, []), day=7) == DayTotal(7, 0, 0, 0, 0, 0, 0)
