"""Either database: what a hub's store needs of SQLite and of PostgreSQL, in one small interface.

SQL is written once, in the subset both understand, with `?` for parameters. Where a schema has to
differ, a comment says it: `/*sqlite TEXT*/` is text on SQLite and a comment on PostgreSQL, and the
other way round. Rows are read by the names of their columns.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from portal.store.db import MIGRATIONS, DatabaseTooNewError, statements_of

HUB_FILE_NAME = "pesisir.hub.db"
HUB_MIGRATIONS = MIGRATIONS / "hub"


class Row(Protocol):
    """One row of an answer."""

    def __getitem__(self, name: str) -> Any: ...


class StoreUnavailableError(Exception):
    """Nothing can be stored or read now (disk full, server away); `str()` is one plain sentence.

    What was being done is not done, and may be tried again."""


class Reading(Protocol):
    """Questions, inside a transaction or outside."""

    async def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row, None without any."""

    async def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows."""


class HubTransaction(Reading, Protocol):
    """What may be done inside `HubDatabase.transaction`."""

    async def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement; return the number of rows it changed."""

    async def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute one statement for many rows."""

    async def lock(self, name: str) -> None:
        """Let nobody else hold the lock of this name until the transaction ends."""


class HubDatabase(Reading, Protocol):
    """A hub's database. All but programming mistakes raise StoreUnavailableError."""

    dialect: str
    """"sqlite" or "postgresql"."""

    def transaction(self) -> AbstractAsyncContextManager[HubTransaction]:
        """One transaction: committed at the end, rolled back if it raises."""

    async def vacuum(self, tables: Sequence[str]) -> None:
        """Have deleted rows of these tables gone from the files."""

    async def octets(self) -> int:
        """How large the database is."""

    async def backup_to(self, path: Path) -> None:
        """Write what is committed now into a new SQLite file; whoever writes goes on meanwhile."""

    async def close(self) -> None:
        """Close all connections; what was not committed is gone."""


def hub_migrations(dialect: str) -> list[tuple[int, list[str]]]:
    """The hub's numbered steps for a dialect, oldest first. A released step is never edited."""
    steps = []
    for path in sorted(HUB_MIGRATIONS.glob("[0-9]*.sql")):
        text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
        text = re.sub(rf"/\*{dialect} (.*?)\*/", r"\1", text, flags=re.DOTALL)
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        steps.append((int(path.name.split("_")[0]), list(statements_of(text))))
    return steps


async def migrate_hub(
    database: HubDatabase, now: int, steps: Sequence[tuple[int, Sequence[str]]] | None = None
) -> None:
    """Bring a database to the newest schema, each step and its number in one transaction.

    Raises DatabaseTooNewError when it is ahead of this program.
    """
    plan = hub_migrations(database.dialect) if steps is None else steps
    newest = plan[-1][0]
    async with database.transaction() as transaction:
        await transaction.lock("migrations")
        await transaction.run(
            "CREATE TABLE IF NOT EXISTS schema_version"
            " (number BIGINT PRIMARY KEY, applied_at BIGINT NOT NULL)"
        )
    for number, statements in plan:
        async with database.transaction() as transaction:
            await transaction.lock("migrations")
            row = await transaction.one("SELECT max(number) AS number FROM schema_version")
            version = int(row["number"] or 0) if row is not None else 0
            if version > newest:
                raise DatabaseTooNewError(
                    f"The hub's database has schema version {version}, newer than this program's"
                    f" {newest}; install the newer program again, nothing was changed."
                )
            if number <= version:
                continue
            for statement in statements:
                await transaction.run(statement)
            await transaction.run(
                "INSERT INTO schema_version (number, applied_at) VALUES (?, ?)", (number, now)
            )


async def open_hub_database(directory: Path, url: str) -> HubDatabase:
    """The database that `[database] url` names; "sqlite" is a file in `directory`.

    Raises StoreUnavailableError when it cannot be opened, and UserError when the driver for
    PostgreSQL is not installed.
    """
    if url == "sqlite":
        from portal.store.db.sqlite_hub import SqliteHubDatabase

        return await SqliteHubDatabase.open(directory / HUB_FILE_NAME)
    from portal.store.db.postgres import PostgresHubDatabase

    return await PostgresHubDatabase.open(url)
