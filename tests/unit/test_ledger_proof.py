"""A node's own look at its ledger: whatever was changed by hand is found and named, and a good one
is not blamed."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from portal import signing
from portal.domain.ledger import NO_PERSONAL, ClockQuality, Kind, Record, encode, leaf
from portal.domain.merkle import Frontier
from portal.store import ledger_proof
from tests.unit.aaa.rig import STOP, NodeRig

Change = Callable[[sqlite3.Connection], object]
GATEWAY = "10.20.0.1"


def _written(directory: Path, *, is_erased: bool = False) -> Path:
    """The database of a node with a cosigned checkpoint over some of its records."""

    async def story() -> Path:
        rig = await NodeRig(directory).open()
        await rig.gateway("pos-1", GATEWAY)
        (serial, _), (other, _) = await rig.cards("p", count=2)
        for n in range(6):
            said = {"time_s": 10 + n, "input_octets": 100, "output_octets": 1000}
            who = serial if n % 2 else other
            await rig.account(GATEWAY, STOP, f"s{n}", user=who, mac=f"02-AA-BB-CC-DD-0{n}", **said)
            if n == 3:
                await rig.settled()
                store, head = rig.node.ledger.store, rig.node.ledger.store.head()
                assert head is not None
                await store.keep_cosigned(0, head.size, rig.node.ledger.checkpoint(), at=1)
        if is_erased:
            await rig.node.vouchers.erase(serial, "wish")
            rig.sleep(3 * 86_400)
            await rig.node.retention.forget()
        path = await rig.settled()
        await rig.close()
        return path

    return asyncio.run(story())


def _check(path: Path) -> int:
    keys = signing.SigningKeys.read(path.parent)
    return ledger_proof.check(path, keys.known_keys, signing.verify)


@pytest.mark.parametrize("is_erased", [False, True])
def test_a_good_ledger_is_good(tmp_path: Path, is_erased: bool) -> None:
    assert _check(_written(tmp_path, is_erased=is_erased)) > 6


def _sql(statement: str) -> Change:
    return lambda database: database.execute(statement)


def _rebuilt(database: sqlite3.Connection) -> None:
    """The tree made anew over what is there now, as somebody would who knows how."""
    frontier = Frontier()
    rows = database.execute("SELECT seq, public, c_loc, leaf FROM ledger ORDER BY seq").fetchall()
    for seq, public, c_loc, its_leaf in rows:
        fresh = its_leaf if public is None else leaf(public, c_loc)
        database.execute("UPDATE ledger SET leaf = ? WHERE seq = ?", (fresh, seq))
        frontier.append(fresh)
    database.execute(
        "UPDATE ledger_epoch SET size = ?, frontier = ?", (frontier.size, frontier.to_octets())
    )


def _other_usage(database: sqlite3.Connection) -> None:
    ((seq, public),) = database.execute("SELECT seq, public FROM ledger WHERE kind = 1 LIMIT 1")
    changed = public[:-1] + bytes((public[-1] ^ 1,))
    database.execute("UPDATE ledger SET public = ? WHERE seq = ?", (changed, seq))


def _odd_erasure(database: sqlite3.Connection) -> None:
    """A last record that speaks of bodies without saying which."""
    ((seq, at),) = database.execute("SELECT seq, at FROM ledger ORDER BY seq DESC LIMIT 1")
    payload = {"what": "bodies", "records": [7]}
    record = Record(Kind.ERASURE, seq, 1, at, ClockQuality.RUNNING, 0, payload)
    database.execute(
        "UPDATE ledger SET kind = 9, site = 0, public = ?, c_loc = ?, salt = NULL, personal = NULL"
        " WHERE seq = ?",
        (encode(record), NO_PERSONAL, seq),
    )


def _all(*changes: Change) -> Change:
    def change(database: sqlite3.Connection) -> None:
        for each in changes:
            each(database)

    return change


FIRST = "(SELECT MIN (seq) FROM ledger WHERE kind = 1)"
CHANGES: dict[str, tuple[Change, str]] = {
    "another payload": (_other_usage, r"record \d+ of epoch 0 was changed"),
    "and a tree to it": (_all(_other_usage, _rebuilt), r"one of 0 to \d+ was changed"),
    "nonsense": (
        _sql(f"UPDATE ledger SET public = 'x' WHERE seq = {FIRST}"),
        r"record \d+ of epoch 0 was changed",
    ),
    "no commitment": (
        _sql(f"UPDATE ledger SET c_loc = NULL WHERE seq = {FIRST}"),
        r"record \d+ of epoch 0 was changed",
    ),
    "another person": (
        _sql(f"UPDATE ledger SET personal = x'7b7d' WHERE seq = {FIRST}"),
        r"record \d+ of epoch 0 was changed",
    ),
    "no body": (
        _sql(f"UPDATE ledger SET public = NULL, c_loc = NULL WHERE seq = {FIRST}"),
        r"record \d+ of epoch 0 has no body, and no ERASURE record says so",
    ),
    "another time": (
        _sql(f"UPDATE ledger SET at = at + 9 WHERE seq = {FIRST}"),
        r"record \d+ of epoch 0 stands under another number, kind, time or site",
    ),
    "dropped": (
        _sql(f"DELETE FROM ledger WHERE seq = {FIRST}"),
        r"record \d+ of epoch 0 is missing",
    ),
    "tail dropped": (
        _all(_sql("DELETE FROM ledger WHERE seq > 8"), _rebuilt),
        r"record 9 of epoch 0 is missing: the hub has cosigned \d+",
    ),
    "frontier": (
        _sql("UPDATE ledger_epoch SET frontier = x'00'"),
        "epoch 0 was kept as .* records and another tree",
    ),
    "size": (_sql("UPDATE ledger_epoch SET size = size - 1"), "epoch 0 was kept as"),
    "no epoch": (_sql("DELETE FROM ledger_epoch"), "record 0 of epoch 0 is in no known epoch"),
    "no table": (_sql("DROP TABLE ledger"), "it cannot be read"),
    "another checkpoint": (
        _sql("UPDATE checkpoint SET note = replace (note, '/0', '/1')"),
        "has a bad signature",
    ),
    "no checkpoint": (_sql("UPDATE checkpoint SET note = x'ff'"), "cannot be read"),
    "an erasure of nothing": (
        _all(_odd_erasure, _rebuilt),
        r"record \d+ of epoch 0 is an ERASURE that does not say of what",
    ),
    "leaf": (
        _sql("UPDATE ledger SET leaf = 'x' WHERE seq = 3"),
        "record 3 of epoch 0 was changed",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_hand_is_found_and_named(tmp_path: Path, name: str) -> None:
    path = _written(tmp_path)
    change, expected = CHANGES[name]
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DROP TRIGGER ledger_never_changes")
        database.execute("DROP TRIGGER ledger_never_shrinks")
        change(database)
    with pytest.raises(ledger_proof.LedgerFault, match=expected):
        _check(path)
