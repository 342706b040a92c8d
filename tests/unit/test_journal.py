"""The journal: what is committed reaches its tables once, whatever happens in between."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.store import db
from portal.store.batch import Batch
from portal.store.db import Database, DatabaseError
from portal.store.journal import Journal

ACCOUNTS = (1, 2, 3)
DAYS = ("2026-11-20", "2026-11-21")


def session_row(
    session_id: int, seen_at: int, octets: int, ended_at: int | None
) -> tuple[object, ...]:
    return (
        *(session_id, None, 1, 1, f"s{session_id}", "020000000001", None, True, 1_000),
        *(None, None, seen_at, ended_at, None, ended_at is not None, False),
        *(octets, 0, seen_at - 1_000, 0, 0, 0, None, 0, 0),
        *(0, 0, 0, 0, 0),
    )


def counters_row(session_id: int, seen_at: int, octets: int) -> tuple[int, ...]:
    return (seen_at, octets, 0, seen_at - 1_000, 0, 0, 0, session_id)


@dataclass(frozen=True)
class Change:
    kind: str
    key: int
    amount: int


changes = st.builds(
    Change,
    st.sampled_from(("session", "counters", "usage", "account", "device")),
    st.sampled_from(ACCOUNTS),
    st.integers(0, 10**12),
)
steps = st.one_of(
    st.lists(changes, max_size=6),
    st.sampled_from(("settle", "power cut", "restart", "read")),
)


class Model:
    """What the tables must say."""

    def __init__(self) -> None:
        self.sessions: dict[int, tuple[int, int]] = {}
        self.usage: dict[tuple[int, str], int] = {}
        self.accounts: dict[int, int] = {}
        self.devices: dict[int, int] = {}
        self.clock = 1_000

    def batch(self, wanted: list[Change]) -> Batch:
        batch = Batch()
        named: set[int] = set()
        for change in wanted:
            self.clock += 1
            key, amount = change.key, change.amount
            if change.kind in ("session", "counters") and key not in named:
                named.add(key)  # one batch has each session once
                if change.kind == "session" or key not in self.sessions:
                    batch.sessions.append(session_row(key, self.clock, amount, None))
                else:
                    batch.counters.append(counters_row(key, self.clock, amount))
                self.sessions[key] = (self.clock, amount)
            elif change.kind == "usage":
                day = DAYS[amount % 2]
                batch.usage.append((key, day, amount, 1))
                self.usage[(key, day)] = self.usage.get((key, day), 0) + amount
            elif change.kind == "account" and not any(row[-1] == key for row in batch.accounts):
                batch.accounts.append((1_000, amount, 0, None, 0, None, key))
                self.accounts[key] = amount
            elif change.kind == "device" and not any(row[0] == key for row in batch.devices):
                batch.devices.append((key, "020000000001", True, 1, None, amount, None, 1_000))
                self.devices[key] = amount
        return batch

    async def check(self, database: Database) -> None:
        sessions = await database.all_slowly("SELECT id, last_seen_at, input_octets FROM session")
        assert {row[0]: (row[1], row[2]) for row in sessions} == self.sessions
        usage = await database.all_slowly("SELECT account_id, day, octets FROM usage_day")
        assert {(row[0], row[1]): row[2] for row in usage} == self.usage
        accounts = await database.all_slowly(
            "SELECT id, total_octets FROM account WHERE first_used_at IS NOT NULL"
        )
        assert {row[0]: row[1] for row in accounts} == self.accounts
        devices = await database.all_slowly("SELECT account_id, granted_octets FROM device")
        assert {row[0]: row[1] for row in devices} == self.devices
        assert database.all("SELECT * FROM journal") == []


async def opened(path: Path) -> tuple[Database, Journal]:
    database = await Database.open(path)
    journal = Journal(database)
    await journal.replay()
    return database, journal


async def cut_power(path: Path) -> None:
    """The files as a kill leaves them: the write-ahead log is not yet in the database."""
    left = path.with_name("left")
    left.mkdir()
    for name in os.listdir(path.parent):
        if name.startswith(path.name) and not name.endswith("-shm"):
            shutil.copy(path.with_name(name), left / name)


async def play(path: Path, story: list[list[Change] | str]) -> None:
    db.migrate(path)
    database, journal = await opened(path)
    async with database.transaction() as transaction:
        await transaction.run("INSERT INTO profile (name, limits) VALUES ('p', '{}')")
        for account in ACCOUNTS:
            await transaction.run("INSERT INTO account (id, profile) VALUES (?, 'p')", (account,))
    model = Model()
    for step in story:
        if isinstance(step, list):
            await journal.commit(model.batch(step))
        elif step == "settle":
            await journal.settle()
        elif step == "read":
            await model.check(database)
        elif step == "restart":
            await database.close()
            database, journal = await opened(path)
        else:
            await cut_power(path)
            await database.close()
            for name in os.listdir(path.parent):
                if name.startswith(path.name):
                    path.with_name(name).unlink()
            for file in path.with_name("left").iterdir():
                file.rename(path.with_name(file.name))
            path.with_name("left").rmdir()
            database, journal = await opened(path)
    await model.check(database)
    await database.close()


@given(st.lists(steps, max_size=25))
def test_every_change_reaches_its_table_once(story: list[list[Change] | str]) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory) / db.FILE_NAME, story))


def run(tmp_path: Path, work: Callable[[Path, Database, Journal], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        path = tmp_path / db.FILE_NAME
        db.migrate(path)
        database, journal = await opened(path)
        await work(path, database, journal)
        await database.close()

    asyncio.run(asyncio.wait_for(all_of_it(), 120))


def test_a_commit_is_on_disk_before_its_rows_are_in_their_tables(tmp_path: Path) -> None:
    async def work(path: Path, database: Database, journal: Journal) -> None:
        await journal.commit(Batch(sessions=[session_row(7, 1_001, 5, None)]))
        assert len(database.all("SELECT id FROM journal")) == 1
        assert database.all("SELECT id FROM session") == []
        assert journal.holds_session(7) and len(journal) == 1
        await journal.settle()
        assert [row["id"] for row in database.all("SELECT id FROM session")] == [7]
        assert database.all("SELECT id FROM journal") == []
        assert not journal.holds_session(7) and len(journal) == 0

    run(tmp_path, work)


def test_what_cannot_be_settled_is_kept_and_settled_later(tmp_path: Path) -> None:
    async def work(path: Path, database: Database, journal: Journal) -> None:
        await journal.commit(Batch(usage=[(1, "2026-11-21", 10, 1)]))
        await database.write([("ALTER TABLE usage_day RENAME TO hidden", ((),))])
        with pytest.raises(DatabaseError):
            await journal.settle()
        await journal.commit(Batch(usage=[(1, "2026-11-21", 5, 1)]))
        await database.write([("ALTER TABLE hidden RENAME TO usage_day", ((),))])
        await journal.settle()
        assert [tuple(row) for row in database.all("SELECT * FROM usage_day")] == [
            (1, "2026-11-21", 15, 2)
        ]

    run(tmp_path, work)


def test_a_task_that_is_cancelled_while_it_settles_settles_once(tmp_path: Path) -> None:
    async def work(path: Path, database: Database, journal: Journal) -> None:
        await journal.commit(Batch(usage=[(1, "2026-11-21", 10, 1)]))
        begun = asyncio.Event()
        commit = database._writer.commit

        async def slow_commit() -> None:
            begun.set()
            await commit()
            await asyncio.sleep(0.05)

        database._writer.commit = slow_commit  # type: ignore[method-assign]
        task = asyncio.ensure_future(journal.settle())
        await begun.wait()
        # A node that stops cancels what runs in the background, and settles what is left.
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await journal.settle()
        assert [tuple(row) for row in database.all("SELECT * FROM usage_day")] == [
            (1, "2026-11-21", 10, 1)
        ]

    run(tmp_path, work)


def test_a_change_that_fails_in_the_middle_loses_nothing_of_the_journal(tmp_path: Path) -> None:
    async def work(path: Path, database: Database, journal: Journal) -> None:
        await journal.commit(Batch(usage=[(1, "2026-11-21", 10, 1)]))
        with pytest.raises(RuntimeError):
            async with database.transaction():
                raise RuntimeError("somebody's change fails")
        assert len(journal) == 1 and len(database.all("SELECT id FROM journal")) == 1
        await journal.settle()
        assert [row["octets"] for row in database.all("SELECT octets FROM usage_day")] == [10]

    run(tmp_path, work)
