"""A box that was stopped between its new key and the record of it tells of the key at its start."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from portal import enrolment
from portal.domain import ledger
from portal.domain.ledger import Kind
from portal.signing import SigningKeys, verify
from tests.unit.aaa.rig import NodeRig


def test_a_kept_key_is_told_at_the_next_start_with_the_old_ones_signature(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        old = rig.node.signing
        await rig.close()
        fresh = SigningKeys(os.urandom(32), old.exchange, old.node_id, (old.public,))
        statement = ledger.key_statement(old.node_id, old.public, fresh.public)
        beside = rig.directory / enrolment.NEXT_KEY_NAME
        beside.mkdir()
        fresh.write(beside)
        (beside / "signature").write_text(old.sign(statement).hex())
        # Not kept yet: nothing is told, and asking again goes on from here.
        await rig.open()
        assert told(rig) == []
        await rig.close()
        assert beside.exists()
        fresh.write(rig.directory)
        await rig.open()
        (payload,) = told(rig)
        assert (payload["old"], payload["new"]) == (str(old.key), str(fresh.key))
        assert verify(old.public, bytes.fromhex(payload["signature"]), statement)
        assert not beside.exists()
        await rig.close()
        await rig.open()
        assert len(told(rig)) == 1
        await rig.close()

    asyncio.run(story())


def test_a_node_whose_disk_takes_no_record_starts_and_tells_of_its_key_later(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        old = rig.node.signing
        path = await rig.settled()
        await rig.close()
        fresh = SigningKeys(os.urandom(32), old.exchange, old.node_id, (old.public,))
        statement = ledger.key_statement(old.node_id, old.public, fresh.public)
        beside = rig.directory / enrolment.NEXT_KEY_NAME
        beside.mkdir()
        for place in (beside, rig.directory):
            fresh.write(place)
        (beside / "signature").write_text(old.sign(statement).hex())
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute(
                "CREATE TRIGGER full BEFORE INSERT ON ledger WHEN NEW.kind = 10"
                " BEGIN SELECT RAISE (FAIL, 'database or disk is full'); END"
            )
        await rig.open()
        assert told(rig) == []
        await rig.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("DROP TRIGGER full")
        await rig.open()
        assert len(told(rig)) == 1
        await rig.close()

    asyncio.run(story())


def told(rig: NodeRig) -> list[dict[str, str]]:
    found = []
    for _, public, _ in rig.node.ledger.store.records(0, 0, 1000):
        record = ledger.decode(public)
        if record.kind == Kind.KEY:
            assert isinstance(record.payload, dict)
            found.append(record.payload)
    return found
