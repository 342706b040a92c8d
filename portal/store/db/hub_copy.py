"""Copies of a hub's database between a PostgreSQL server and a SQLite file.

A hub's backup holds a SQLite file whatever the hub's own database is. So it needs none of the
server's programs, comes back into either, and is the way from one to the other.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from portal.store.db import trouble
from portal.store.db.either import StoreUnavailableError, hub_migrations

ROWS_AT_ONCE = 2_000
_VERSIONS = "schema_version"


class FileCopy:
    """A SQLite file with a hub's tables that is being written or read, by nobody else."""

    def __init__(self, path: Path, connection: aiosqlite.Connection):
        self._path = path
        self._connection = connection

    @classmethod
    async def make(cls, path: Path) -> "FileCopy":
        """A new file with all tables, empty. Raises StoreUnavailableError."""
        connection = await aiosqlite.connect(path, isolation_level=None)
        copy = cls(path, connection)
        try:
            for pragma in (
                # As in the database of a hub, which it may become.
                "PRAGMA auto_vacuum=INCREMENTAL",
                # What is cut short is thrown away as a whole.
                "PRAGMA journal_mode=OFF",
                "PRAGMA synchronous=OFF",
            ):
                await connection.execute(pragma)
            await connection.execute(
                f"CREATE TABLE {_VERSIONS} (number BIGINT PRIMARY KEY, applied_at BIGINT NOT NULL)"
            )
            for _, statements in hub_migrations("sqlite"):
                for statement in statements:
                    await connection.execute(statement)
        except BaseException as error:
            await connection.close()
            copy.say_unavailable(error)
            raise
        return copy

    @classmethod
    async def open(cls, path: Path) -> "FileCopy":
        """A file that is there, to be read."""
        return cls(path, await aiosqlite.connect(f"file:{path}?mode=ro", uri=True))

    async def tables(self, *, with_versions: bool) -> dict[str, list[str]]:
        """The columns of each table."""
        rows = await self._connection.execute_fetchall(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            " ORDER BY name"
        )
        found = {}
        for (table,) in rows:
            if with_versions or table != _VERSIONS:
                columns = await self._connection.execute_fetchall(f"PRAGMA table_info({table})")
                found[table] = [str(column[1]) for column in columns]
        return found

    async def add(self, table: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
        """Add rows. Raises StoreUnavailableError."""
        try:
            await self._connection.execute("BEGIN")
            await self._connection.executemany(
                f"INSERT INTO {table} ({', '.join(columns)})"
                f" VALUES ({', '.join('?' * len(columns))})",
                [tuple(row) for row in rows],
            )
            await self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.say_unavailable(error)
            raise

    async def rows(
        self, table: str, columns: Sequence[str]
    ) -> AsyncIterator[list[tuple[Any, ...]]]:
        """All rows of a table, some at a time."""
        async with self._connection.execute(f"SELECT {', '.join(columns)} FROM {table}") as cursor:
            while rows := await cursor.fetchmany(ROWS_AT_ONCE):
                yield [tuple(row) for row in rows]

    def say_unavailable(self, error: BaseException) -> None:
        """Raise StoreUnavailableError where the disk is at fault."""
        said = trouble(error)
        if said is not None:
            raise StoreUnavailableError(
                f"The copy {self._path} cannot be written: {said}."
            ) from error

    async def close(self) -> None:
        """Let the file go."""
        await self._connection.close()
