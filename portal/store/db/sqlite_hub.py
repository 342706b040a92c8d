"""A hub's database in one SQLite file: one writer, and a few readers that never wait for it."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiosqlite

from portal.store.db import trouble
from portal.store.db.either import HubTransaction, Row, StoreUnavailableError

READERS = 3
CACHE_KIB = 65_536
"""Page cache of the writer; a hub has more memory than a node."""


class _Transaction:
    """See `either.HubTransaction`."""

    def __init__(self, connection: aiosqlite.Connection):
        self._connection = connection

    async def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount

    async def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            await self._connection.executemany(sql, rows)

    async def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        return next(iter(await self.all(sql, parameters)), None)

    async def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return cast(list[Row], list(await self._connection.execute_fetchall(sql, parameters)))

    async def lock(self, name: str) -> None:
        """Nothing to do: a transaction has the whole file for itself."""


def _text(stored: bytes) -> str:
    return stored.decode(errors="surrogateescape")


class SqliteHubDatabase:
    """See `either.HubDatabase`. The caller holds the directory's lock."""

    dialect = "sqlite"

    def __init__(
        self, path: Path, writer: aiosqlite.Connection, readers: Sequence[aiosqlite.Connection]
    ):
        self.path = path
        self._writer = writer
        self._all_readers = readers
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        for reader in readers:
            self._readers.put_nowait(reader)
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> "SqliteHubDatabase":
        """Open the file, or make it, for nobody else to read. Raises StoreUnavailableError."""
        opened: list[aiosqlite.Connection] = []
        uri = f"file:{quote(str(path))}?mode=ro"
        try:
            # SQLite gives its other files the mode of the first.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            writer = await aiosqlite.connect(path, isolation_level=None, timeout=5.0)
            opened.append(writer)
            writer.row_factory = sqlite3.Row
            for pragma in (
                # Takes effect in a new file only: free pages go back without a rewrite.
                "PRAGMA auto_vacuum=INCREMENTAL",
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=FULL",
                "PRAGMA foreign_keys=ON",
                "PRAGMA secure_delete=ON",
                "PRAGMA journal_size_limit=67108864",
                f"PRAGMA cache_size=-{CACHE_KIB:d}",
            ):
                await writer.execute(pragma)
            for _ in range(READERS):
                reader = await aiosqlite.connect(uri, uri=True, timeout=5.0, isolation_level=None)
                opened.append(reader)
                reader.row_factory = sqlite3.Row
                # What somebody changed by hand must be readable, to be shown as changed.
                reader.text_factory = _text
        except (OSError, sqlite3.Error) as error:
            for connection in opened:
                await connection.close()
            raise StoreUnavailableError(
                f"The database {path} cannot be opened: {error}."
            ) from error
        return cls(path, writer, opened[1:])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[HubTransaction]:
        """One transaction, alone on the writer."""
        async with self._lock:
            try:
                await self._writer.execute("BEGIN IMMEDIATE")
                yield _Transaction(self._writer)
                await self._writer.execute("COMMIT")
            except BaseException as error:
                # After some errors SQLite has rolled back by itself.
                with suppress(sqlite3.Error, ValueError):
                    await self._writer.rollback()
                self._say_unavailable(error)
                raise

    def _say_unavailable(self, error: BaseException) -> None:
        said = trouble(error)
        if said is None and getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            said = "another program writes to it"
        if said is not None:
            raise StoreUnavailableError(
                f"The database {self.path} cannot be used now: {said}."
            ) from error

    async def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row."""
        return next(iter(await self.all(sql, parameters)), None)

    async def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows, as of the last commit."""
        reader = await self._readers.get()
        try:
            return cast(list[Row], list(await reader.execute_fetchall(sql, parameters)))
        except sqlite3.Error as error:
            self._say_unavailable(error)
            raise
        finally:
            self._readers.put_nowait(reader)

    async def vacuum(self, tables: Sequence[str]) -> None:
        """Give free pages back and empty the write-ahead log, where deleted rows stand too; in the
        pages that stay, `secure_delete` has overwritten them."""
        async with self._lock:
            try:
                await self._writer.execute_fetchall("PRAGMA incremental_vacuum")
                await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                self._say_unavailable(error)
                raise

    async def octets(self) -> int:
        """Size of the file and its write-ahead log."""
        names = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(name.stat().st_size for name in names if name.exists())

    async def backup_to(self, path: Path) -> None:
        """Write a compact copy of the committed database to `path`, which must not exist."""
        reader = await self._readers.get()
        try:
            await reader.execute_fetchall("VACUUM INTO ?", (str(path),))
        except sqlite3.Error as error:
            self._say_unavailable(error)
            raise
        finally:
            self._readers.put_nowait(reader)

    async def close(self) -> None:
        """Close all connections."""
        for connection in (*self._all_readers, self._writer):
            await connection.close()
