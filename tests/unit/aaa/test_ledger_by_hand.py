"""Somebody changes records in the database by hand: the node signs nothing of it, and goes on."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from portal.domain.ledger import Kind, decode
from tests.unit.aaa.rig import STOP, NodeRig
from tests.unit.aaa.test_ledger import DAY_S, GATEWAY, session


def _by_hand(path: Path, sql: str) -> None:
    """What somebody does to a record behind the program's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DROP TRIGGER ledger_never_changes")
        database.execute(sql)


@pytest.mark.parametrize(
    "change", ["public = x'00'", "c_loc = NULL", "public = X'01' || public", "leaf = zeroblob(32)"]
)
def test_no_total_is_signed_of_records_that_were_changed_by_hand(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s", STOP, time_s=9, input_octets=1, output_octets=1)
        path = await rig.settled()
        _by_hand(path, f"UPDATE ledger SET {change} WHERE kind = 1")
        rig.sleep(2 * DAY_S)
        await rig.node.hours.look()
        await rig.settled()
        totals = rig.node.store.database.all("SELECT seq FROM ledger WHERE kind = 3")
        assert totals == []
        assert "day_not_told" in caplog.text
        await rig.close()

    asyncio.run(story())


def test_a_record_that_was_changed_by_hand_is_not_told_again(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        for n in range(2):
            await session(rig, serial, f"s{n}", STOP, time_s=9, input_octets=1, output_octets=1)
        path = await rig.settled()
        _by_hand(path, "UPDATE ledger SET public = x'00' WHERE kind = 1 AND seq % 2 = 0")
        await rig.node.ledger.open_epoch(None, "rolled back", replayed_below=0, replay_from=0)
        rows = rig.node.store.database.all("SELECT public FROM ledger WHERE epoch = 1 ORDER BY seq")
        again = [decode(row["public"]) for row in rows]
        assert [record.kind for record in again].count(Kind.SESSION) == 1
        (gap,) = [dict(r.payload) for r in again if r.kind == Kind.GAP]  # type: ignore[arg-type]
        assert (gap["cause"], gap["failures"]) == ("records changed", 1)
        await rig.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger_epoch SET frontier = x'00'",
        "UPDATE ledger_epoch SET frontier = NULL",
        "UPDATE ledger_epoch SET frontier = 'text'",
        "DELETE FROM ledger_epoch",
    ],
)
def test_a_node_starts_on_a_damaged_ledger_and_goes_on_in_a_new_epoch(
    tmp_path: Path, sql: str
) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        await rig.gateway("pos-1", GATEWAY)
        ((serial, _),) = await rig.cards("p")
        await session(rig, serial, "s0", STOP, time_s=9, input_octets=1, output_octets=1)
        path = await rig.settled()
        await rig.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            if "NULL" in sql:
                database.execute("PRAGMA ignore_check_constraints = 1")
                database.execute("PRAGMA writable_schema = 1")
                database.execute(
                    "UPDATE sqlite_schema SET sql = replace (sql, 'frontier BLOB NOT NULL',"
                    " 'frontier BLOB') WHERE name = 'ledger_epoch'"
                )
                database.execute("PRAGMA writable_schema = RESET")
            database.execute(sql)
        await rig.open()
        head = rig.node.ledger.store.head()
        assert head is not None and head.epoch == 1 and head.size > 0
        await session(rig, serial, "s1", STOP, time_s=9, input_octets=1, output_octets=1)
        await rig.settled()
        kinds = [
            row["kind"]
            for row in rig.node.store.database.all("SELECT kind FROM ledger WHERE epoch = 1")
        ]
        assert kinds[0] == Kind.EPOCH and Kind.SESSION in kinds
        await rig.restart()
        head = rig.node.ledger.store.head()
        assert head is not None and head.epoch == 1
        await rig.close()

    asyncio.run(story())
