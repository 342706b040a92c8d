"""A hub's database in a PostgreSQL server, through asyncpg (the optional extra `hub`)."""

import asyncio
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from portal.errors import UserError
from portal.store.db.either import HubTransaction, Row, StoreUnavailableError
from portal.store.db.hub_copy import ROWS_AT_ONCE, FileCopy

try:
    import asyncpg
except ImportError as error:
    raise UserError(
        "database.url names a PostgreSQL server and the driver is not installed;"
        " install the package asyncpg (pip install asyncpg)"
    ) from error

CONNECTIONS = 8
CONNECT_WITHIN_S = 10.0
STATEMENT_WITHIN_S = 300.0
VACUUM_WITHIN_S = 3600.0
LOCK_WITHIN_S = 5.0
"""Whoever waits longer for a table (it is written anew, a backup reads it) is told to try again."""
_TEMPORARY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.OperatorInterventionError,  # shut down, starting up, cancelled
    asyncpg.PostgresSystemError,  # an error of the server's disk
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    TimeoutError,
    OSError,
)


@lru_cache(maxsize=1000)
def numbered(sql: str) -> str:
    """`?` as `$1`, `$2` ..., but for those in quoted text."""
    count = 0

    def place(found: re.Match[str]) -> str:
        nonlocal count
        if found[0] != "?":
            return found[0]
        count += 1
        return f"${count}"

    return re.sub(r"'[^']*'|\?", place, sql)


class _Transaction:
    """See `either.HubTransaction`."""

    def __init__(self, connection: Any):
        self._connection = connection

    async def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        status = await self._connection.execute(numbered(sql), *parameters)
        # "INSERT 0 5", "UPDATE 5", "CREATE TABLE"
        last = str(status).rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            await self._connection.executemany(numbered(sql), rows)

    async def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        return cast(Row | None, await self._connection.fetchrow(numbered(sql), *parameters))

    async def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return cast(list[Row], await self._connection.fetch(numbered(sql), *parameters))

    async def lock(self, name: str) -> None:
        await self._connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", name)


class PostgresHubDatabase:
    """See `either.HubDatabase`. Several programs may use it at once."""

    dialect = "postgresql"

    def __init__(self, pool: Any):
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> "PostgresHubDatabase":
        """Connect. Raises StoreUnavailableError; the URL's password is in no message."""
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=CONNECTIONS,
                timeout=CONNECT_WITHIN_S,
                command_timeout=STATEMENT_WITHIN_S,
                # An acknowledged record survives the server's power cut.
                server_settings={
                    "synchronous_commit": "on",
                    "lock_timeout": f"{LOCK_WITHIN_S * 1000:.0f}",
                    "application_name": "pesisir hub",
                },
            )
        except (*_TEMPORARY, asyncpg.PostgresError, ValueError) as error:
            raise StoreUnavailableError(
                f"The PostgreSQL server of database.url cannot be used: {_plain(error)}."
            ) from error
        return cls(pool)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[HubTransaction]:
        """One transaction on a connection of its own."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                yield _Transaction(connection)
        except _TEMPORARY as error:
            raise _unavailable(error) from error

    async def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row."""
        try:
            return cast(Row | None, await self._pool.fetchrow(numbered(sql), *parameters))
        except _TEMPORARY as error:
            raise _unavailable(error) from error

    async def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows."""
        try:
            return cast(list[Row], await self._pool.fetch(numbered(sql), *parameters))
        except _TEMPORARY as error:
            raise _unavailable(error) from error

    async def vacuum(self, tables: Sequence[str]) -> None:
        """Write the tables anew, the only way to have deleted rows gone from them. Whoever needs
        one meanwhile is told to try again after LOCK_WITHIN_S, and so is this where somebody reads
        one for long; the server's write-ahead log and its backups keep to their own periods."""
        try:
            for table in tables:
                await self._pool.execute(f"VACUUM (FULL) {table}", timeout=VACUUM_WITHIN_S)
        except _TEMPORARY as error:
            raise _unavailable(error) from error

    async def octets(self) -> int:
        """Size of the database."""
        row = await self.one("SELECT pg_database_size(current_database()) AS octets")
        return int(row["octets"]) if row is not None else 0

    async def backup_to(self, path: Path) -> None:
        """Write what is committed now into a new SQLite file, while all goes on."""
        try:
            copy = await FileCopy.make(path)
            try:
                async with (
                    self._pool.acquire() as connection,
                    connection.transaction(isolation="repeatable_read", readonly=True),
                ):
                    for table, columns in (await copy.tables(with_versions=True)).items():
                        cursor = await connection.cursor(
                            f"SELECT {', '.join(columns)} FROM {table}"
                        )
                        while rows := await cursor.fetch(ROWS_AT_ONCE):
                            await copy.add(table, columns, rows)
            finally:
                await copy.close()
        except _TEMPORARY as error:
            raise _unavailable(error) from error

    async def fill_from(self, path: Path) -> None:
        """Take all rows of a SQLite file, which has this program's schema, into the tables, which
        are empty; all of them or none."""
        copy = await FileCopy.open(path)
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                for table, columns in (await copy.tables(with_versions=False)).items():
                    async for rows in copy.rows(table, columns):
                        await connection.copy_records_to_table(
                            table, records=rows, columns=columns, timeout=STATEMENT_WITHIN_S
                        )
        except _TEMPORARY as error:
            raise _unavailable(error) from error
        except (asyncpg.PostgresError, sqlite3.Error, ValueError, TypeError) as error:
            # Such as text where a number belongs, put into the file by hand.
            raise StoreUnavailableError(
                f"The PostgreSQL server does not take the rows of {path.name}: {_plain(error)}."
            ) from error
        finally:
            await copy.close()

    async def close(self) -> None:
        """Close all connections."""
        try:
            await asyncio.wait_for(self._pool.close(), 5.0)
        except (TimeoutError, *_TEMPORARY):
            self._pool.terminate()


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__


def _unavailable(error: BaseException) -> StoreUnavailableError:
    return StoreUnavailableError(f"The PostgreSQL server cannot be used now: {_plain(error)}.")
