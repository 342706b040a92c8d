"""Essentials: the rows without which a village's cards would be worthless, read and put back.

Not the ledger, which the hub has; not the pseudonyms, so that a mapping that was deleted is gone;
no copies of codes, no complaints, no old days. All SQL of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from portal.store.db import Database

USAGE_DAYS: Final = 40
"""Days of usage that a month's quota can still ask for."""

MOST_ACCOUNTS: Final = 5000
"""A statement does not name more of them."""

Table = tuple[list[str], list[list[Any]]]
"""Columns, rows."""

# In the order in which rows refer to each other.
_WHOLE: Final = (
    "site",
    "gateway",
    "removed_gateway",
    "learned_address",
    "profile",
    "profile_number",
    "operator",
    "blocked_device",
    "policy_document",
)
_ORDER: Final = (
    "box",
    *_WHOLE[:6],
    "batch",
    "account",
    "voucher",
    "usage_day",
    "site_day",
    "credit",
    "device",
    "known_device",
    "session",
    *_WHOLE[6:],
    "announcement",
)
_ACCOUNT_TABLES: Final = ("usage_day", "credit", "device")
_CONFIGURATION: Final = ("site.%", "gateway.%", "profile.%", "operator.%", "device.%")
_NOT_KEPT: Final = {"voucher": ("sealed_code",)}
_BOX: Final = "SELECT name, value FROM box WHERE name IN ('boot', 'batch_number', 'clock_at')"


@dataclass(frozen=True, slots=True)
class Since:
    """What a delta is made from."""

    at: int
    """Epoch s: rows changed since then."""
    told_at: int
    """Epoch s: until when open sessions may have been told as open."""
    day: str
    """The oldest day of usage, YYYY-MM-DD."""


async def everything(database: Database, day: str, now: int) -> dict[str, Table]:
    """All essentials; usage from `day` on, announcements that are not over at `now`."""
    tables = {name: await _read(database, name) for name in _WHOLE}
    tables |= await counters(database)
    for name in ("batch", "account", "voucher", "credit", "device", "known_device"):
        tables[name] = await _read(database, name)
    for name in ("usage_day", "site_day"):
        tables[name] = await _read(database, name, "WHERE day >= ?", (day,))
    tables["session"] = await _read(database, "session", "WHERE ended_at IS NULL")
    tables["announcement"] = await _read(
        database,
        "announcement",
        "WHERE removed_at IS NULL AND (ends_at IS NULL OR ends_at > ?)",
        (now,),
    )
    return tables


async def changed(database: Database, since: Since) -> dict[str, Table] | None:
    """The rows of what changed since a moment, whole; empty when nothing did, None when it is too
    much to pick out."""
    ids = await _touched(database, since.at)
    if len(ids) > MOST_ACCOUNTS:
        return None
    tables: dict[str, Table] = {}
    is_configured = await database.all_slowly(
        "SELECT 1 FROM audit WHERE at >= ? AND ("
        + " OR ".join("action LIKE ?" for _ in _CONFIGURATION)
        + ") LIMIT 1",
        (since.at, *_CONFIGURATION),
    )
    if is_configured:
        for name in (*_WHOLE, "known_device"):
            tables[name] = await _read(database, name)
    if ids:
        marks = ", ".join("?" * len(ids))
        tables["batch"] = await _read(
            database,
            "batch",
            f"WHERE id IN (SELECT batch_id FROM voucher WHERE account_id IN ({marks}))"
            " AND issued_at >= ?",
            (*ids, since.at),
        )
        tables["account"] = await _read(database, "account", f"WHERE id IN ({marks})", ids)
        tables["voucher"] = await _read(
            database,
            "voucher",
            f"WHERE account_id IN ({marks}) AND (issued_at >= ? OR revoked_at >= ?"
            " OR replaced_at >= ? OR given_at >= ?)",
            (*ids, since.at, since.at, since.at, since.at),
        )
        for name in _ACCOUNT_TABLES:
            days = "" if name == "device" else " AND day >= ?"
            tables[name] = await _read(
                database,
                name,
                f"WHERE account_id IN ({marks}){days}",
                (*ids, since.day) if days else ids,
            )
    # What a session used is in its account when it ends; its end matters where it was told as open.
    tables["session"] = await _read(
        database,
        "session",
        "WHERE last_seen_at >= ? AND (ended_at IS NULL OR started_at <= ?)",
        (since.at, since.told_at),
    )
    return {name: table for name, table in tables.items() if table[1]}


async def counters(database: Database) -> dict[str, Table]:
    """What numbers are given out from, and the clock: it goes with every delta."""
    return {"box": await _rows(database, "box", _BOX)}


async def _touched(database: Database, at: int) -> list[int]:
    """Accounts whose balance or card changed since a moment."""
    rows = await database.all_slowly(
        "SELECT v.account_id AS id FROM session s JOIN voucher v ON v.id = s.voucher_id"
        " WHERE s.last_seen_at >= ?"
        " UNION SELECT account_id FROM voucher WHERE issued_at >= ?"
        " UNION SELECT v.account_id FROM audit a JOIN voucher v ON v.serial = a.object"
        " WHERE a.at >= ?"
        " UNION SELECT account_id FROM device WHERE granted_at >= ?",
        (at, at, at, at),
    )
    return [row["id"] for row in rows]


async def _read(
    database: Database, table: str, where: str = "", parameters: Sequence[Any] = ()
) -> Table:
    return await _rows(database, table, f"SELECT * FROM {table} {where}", parameters)


async def _rows(database: Database, table: str, sql: str, parameters: Sequence[Any] = ()) -> Table:
    rows = await database.all_slowly(sql, parameters)
    if not rows:
        return [], []
    columns = [name for name in rows[0].keys() if name not in _NOT_KEPT.get(table, ())]
    return columns, [[_value(table, row, name) for name in columns] for row in rows]


def _value(table: str, row: Any, column: str) -> Any:
    """Whose session it was is needed while it runs, not afterwards."""
    is_over = table == "session" and row["ended_at"] is not None
    return None if is_over and column in ("mac", "framed_ip") else row[column]


async def put(database: Database, tables: Mapping[str, Table]) -> None:
    """Put rows in place of those with the same keys. What this program's schema does not have is
    left out: the rows may come from an older one."""
    async with database.transaction() as transaction:
        for name in _ORDER:
            if name not in tables or not tables[name][1]:
                continue
            columns, rows = tables[name]
            known = {row["name"] for row in database.all(f"PRAGMA table_info({name})")}
            kept = [place for place, column in enumerate(columns) if column in known]
            names = [columns[place] for place in kept]
            keys = [row["name"] for row in database.all(_KEYS, (name,))]
            changes = ", ".join(f"{one} = excluded.{one}" for one in names if one not in keys)
            await transaction.run_many(
                f"INSERT INTO {name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
                f" ON CONFLICT ({', '.join(keys)}) DO "
                + (f"UPDATE SET {changes}" if changes else "NOTHING"),
                [[row[place] for place in kept] for row in rows],
            )


_KEYS = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk"


async def set_box(database: Database, values: Mapping[str, str]) -> None:
    """Store values of the box."""
    async with database.transaction() as transaction:
        await transaction.run_many(
            "INSERT INTO box (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            list(values.items()),
        )


def count_cards(database: Database) -> int:
    """How many cards people may hold."""
    row = database.one(
        "SELECT COUNT(*) AS n FROM voucher v JOIN batch b ON b.id = v.batch_id"
        " WHERE b.kind = 'cards'"
    )
    return 0 if row is None else int(row["n"])
