"""What a restored database needs to know of the one it takes the place of.

Ids handed out since the backup was made live on in gateways (Class) and on paper (serials): the
restored node must not hand them out again. Nor must it sign other records under numbers that were
signed before, so its ledger goes on in a new epoch.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from portal.store.db import Database, DatabaseError
from portal.store.journal import Journal

BOOTS_AHEAD = 1000
"""Boots a backup may be behind when the newer database is lost; session ids begin with the boot."""
BATCHES_AHEAD = 10


@dataclass(frozen=True, slots=True)
class Lost:
    """What happened after a backup and is unknown to it."""

    vouchers: int
    batches: tuple[str, ...]  # serials' first parts
    ended: tuple[str, ...]  # serials revoked or replaced since, which work again
    sessions: int
    octets: int


async def lost_since(current: Path, backup: Path, made_at: int) -> Lost | None:
    """What `current` knows beyond `backup`, made at `made_at`; None when it cannot be read."""
    try:
        newer = await Database.open(current)
    except DatabaseError:
        return None
    try:
        await Journal(newer).replay()
        older = await Database.open(backup)
        try:
            used = [
                database.all("SELECT COALESCE(SUM(total_octets), 0) AS octets FROM account")[0]
                for database in (newer, older)
            ]
        finally:
            await older.close()
        issued = newer.all(
            "SELECT COUNT(*) AS n, substr(serial, 1, instr(serial, '-') - 1) AS batch FROM voucher"
            " WHERE issued_at > ?"
            " AND batch_id NOT IN (SELECT id FROM batch WHERE kind = 'unfinished')"
            " GROUP BY batch ORDER BY MIN(id)",
            (made_at,),
        )
        ended = newer.all(
            "SELECT serial FROM voucher"
            " WHERE issued_at <= ? AND (revoked_at > ? OR replaced_at > ?) ORDER BY id",
            (made_at, made_at, made_at),
        )
        begun = newer.all("SELECT COUNT(*) AS n FROM session WHERE started_at > ?", (made_at,))
        return Lost(
            vouchers=sum(row["n"] for row in issued),
            batches=tuple(row["batch"] for row in issued),
            ended=tuple(row["serial"] for row in ended),
            sessions=begun[0]["n"],
            octets=max(0, used[0]["octets"] - used[1]["octets"]),
        )
    except DatabaseError:
        return None
    finally:
        await newer.close()


async def number_ahead(restored: Path, current: Path | None) -> None:
    """Let `restored` count boots and batches on from where `current` was, or from far enough when
    that is not known.
    """
    known: dict[str, int] = {}
    epochs = (-1, 0, "")
    if current is not None:
        try:
            newer = await Database.open(current)
            try:
                epochs = _epochs(newer)
                for row in newer.all(_COUNTERS):
                    known[row["name"]] = int(row["value"])
            finally:
                await newer.close()
        except (DatabaseError, ValueError):
            known = {}
    database = await Database.open(restored)
    try:
        old_epochs = _epochs(database)
        old = {row["name"]: int(row["value"]) for row in database.all(_COUNTERS)}
        ahead = {"boot": BOOTS_AHEAD, "batch_number": BATCHES_AHEAD}
        last = max(epochs, old_epochs)
        async with database.transaction() as transaction:
            await transaction.run(
                _KEEP,
                ("must_open_epoch", json.dumps({"above": last[0], "parent": last[2] or None})),
            )
            for name, step in ahead.items():
                value = (
                    max(known[name], old.get(name, 0))
                    if name in known
                    else (old.get(name, 0) + step)
                )
                await transaction.run(_KEEP, (name, str(value)))
    finally:
        await database.close()


def _epochs(database: Database) -> tuple[int, int, str]:
    """The newest epoch of a database's ledger, -1 for none, and size and text of the newest
    checkpoint that the hub has cosigned."""
    if database.one("SELECT 1 FROM sqlite_schema WHERE name = 'ledger_epoch'") is None:
        return (-1, 0, "")
    row = database.one(
        "SELECT e.epoch, COALESCE(c.size, 0) AS size, COALESCE(c.note, '') AS note"
        " FROM ledger_epoch AS e LEFT JOIN checkpoint AS c ON c.epoch <= e.epoch"
        " ORDER BY e.epoch DESC, c.epoch DESC, c.size DESC LIMIT 1"
    )
    return (-1, 0, "") if row is None else (row["epoch"], row["size"], row["note"])


_KEEP = (
    "INSERT INTO box (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_COUNTERS = "SELECT name, value FROM box WHERE name IN ('boot', 'batch_number')"
