"""Upgrades: a database of the first schema, in use, is brought to the newest one."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from portal.store import db
from portal.store.db import Database, DatabaseUnusableError
from portal.store.journal import Journal

FIRST: dict[str, list[tuple[Any, ...]]] = {
    "box": [("batch_number", "2"), ("boot", "7")],
    "site": [
        (1, "TJL", "Tanjung", "Asia/Makassar", "Ibu Sari", "18:00-23:00", "Ronda malam"),
        (2, "WSI", "Waisai", "Asia/Jayapura", "", "", ""),
    ],
    "gateway": [
        (3, 1, "pos-1", "coova", "10.0.0.1", None, "rahasia", "kunci", 1, "http://10.1.0.1:3990", 1)
    ],
    "removed_gateway": [(2, "pos-lama")],
    "learned_address": [("10.0.0.1",)],
    "profile": [("harian", '{"data_day_octets": 500000000}')],
    "batch": [(1, 1, "harian", "loket", 100), (2, 2, "harian", "", 200)],
    "account": [
        (1, "harian", 150, 5_000, 60, "2026-11-20", 1, 9),
        (2, "harian", None, 0, 0, None, 0, None),
    ],
    "voucher": [
        (1, 1, 1, 1, "A001-01", b"a", "0001", None, 100, None, None, 160, "basah"),
        (2, 1, 1, 1, "A001-02", b"b", "0002", None, 160, None, None, None, None),
        (3, 2, 2, 2, "A002-01", b"c", "0003", b"sealed", 200, 900, None, None, None),
    ],
    "usage_day": [(1, "2026-11-19", 2_000, 20), (1, "2026-11-20", 3_000, 40)],
    "device": [(1, "02aabbccdd01", 1, 3, 9, 10, None, 170)],
    "session": [
        (
            *(9, 2, 3, 1, "s9", "02aabbccdd01", "10.1.0.9", 1, 170, 10, None, 400, None, None),
            *(0, 0, 4_000, 1_000, 60, 0, 0, 60, "2026-11-20", 700, 5),
        )
    ],
    "outage": [(300, 350)],
    "operator": [("kepala", "admin", None, "hash", 0, 1), ("sari", "operator", 1, "hash", 1, 2)],
}
"""Rows of every table of 0001_node.sql, in an order that keeps its references."""


def rows_of(path: Path, table: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    try:
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
        return [column[0] for column in cursor.description], cursor.fetchall()
    finally:
        connection.close()


def first_schema(path: Path) -> None:
    db.migrate(path, db.migrations()[:1])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys=ON")
    found = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    assert {name for (name,) in found} == FIRST.keys()
    for table, rows in FIRST.items():
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    connection.commit()
    connection.close()


def test_nothing_of_an_old_database_is_lost(tmp_path: Path) -> None:
    path = tmp_path / db.FILE_NAME
    first_schema(path)
    before = {table: rows_of(path, table) for table in FIRST}
    db.migrate(path)
    db.migrate(path)
    assert db.schema_version(path) == db.migrations()[-1][0]
    assert db.check_file(path) is None
    for table, (columns, rows) in before.items():
        now_columns, now_rows = rows_of(path, table)
        kept = [name for name in columns if name in now_columns]
        assert set(columns) - set(kept) <= {"announcement"}
        old = [tuple(row[columns.index(name)] for name in kept) for row in rows]
        new = [tuple(row[now_columns.index(name)] for name in kept) for row in now_rows]
        assert new == old, table
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    said = connection.execute("SELECT site_id, words, ends_at FROM announcement").fetchall()
    assert said == [(1, "Ronda malam", None)]
    connection.close()
    assert rows_of(path, "site_day")[1] == [
        (1, "2026-11-19", 2_000, 20),
        (1, "2026-11-20", 3_000, 40),
    ]


def test_an_upgrade_that_breaks_off_changes_nothing_and_is_done_later(tmp_path: Path) -> None:
    path = tmp_path / db.FILE_NAME
    first_schema(path)
    steps = db.migrations()
    number, statements = steps[1]
    for at in range(len(statements)):
        broken = [steps[0], (number, [*statements[:at], "INSERT INTO nowhere VALUES (1)"])]
        with pytest.raises(DatabaseUnusableError):
            db.migrate(path, broken)
        assert db.schema_version(path) == 1
    assert rows_of(path, "site")[1] == FIRST["site"]
    db.migrate(path)
    assert rows_of(path, "voucher")[1][0][:5] == FIRST["voucher"][0][:5]


def test_the_audit_of_an_upgraded_database_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / db.FILE_NAME
    first_schema(path)
    db.migrate(path)

    async def story() -> None:
        database = await Database.open(path)
        await Journal(database).replay()
        await database.write(
            [
                (
                    "INSERT INTO audit (at, operator, action, object) VALUES (?, ?, ?, ?)",
                    ((1, "sari", "sign_in", "sari"),),
                )
            ]
        )
        for sql in ("DELETE FROM audit", "UPDATE audit SET operator = 'kepala'"):
            with pytest.raises(db.DatabaseError, match="append-only"):
                await database.write([(sql, ((),))])
        assert [row["operator"] for row in database.all("SELECT * FROM audit")] == ["sari"]
        await database.close()

    asyncio.run(story())


def test_an_upgrade_takes_whole_macs_out_of_the_audit(tmp_path: Path) -> None:
    path = tmp_path / db.FILE_NAME
    first_schema(path)
    db.migrate(path, db.migrations()[:4])
    connection = sqlite3.connect(path)
    deeds = [
        ("device.add", "02aabbccdd01", "", "Absen (lama) (attendance), kantor"),
        ("device.remove", "02aabbccdd01", "rusak", "Absen (lama)"),
        ("device.block", "**:**:**:**:dd:02", "x", ""),
        ("voucher.issue", "A001", "", "12 x p"),
    ]
    connection.executemany(
        "INSERT INTO audit (at, operator, action, site_id, object, reason, details)"
        " VALUES (1, 'ani', ?, 1, ?, ?, ?)",
        deeds,
    )
    connection.commit()
    connection.close()
    db.migrate(path)
    connection = sqlite3.connect(path)
    told = connection.execute("SELECT action, object, reason, details FROM audit").fetchall()
    hidden = "**:**:**:**:dd:01"
    assert told == [
        ("device.add", "Absen (lama)", "", f"{hidden} (attendance), kantor"),
        ("device.remove", "Absen (lama)", "rusak", hidden),
        *deeds[2:],
    ]
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("UPDATE audit SET reason = ''")
    connection.close()
