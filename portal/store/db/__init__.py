"""The database file: opening, migrations, one writer and one quick reader.

The only package that knows the drivers; what a hub uses, on SQLite or PostgreSQL, is in
`portal.store.db.either`. SQLite in WAL mode with `synchronous=FULL`: a commit that
returned survives a power cut. The writer goes through aiosqlite, so that an fsync never stops the
event loop; the reader is a second, read-only connection for point reads by key, which cost some
20 microseconds and are not worth a thread hop.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import aiosqlite

FILE_NAME = "pesisir.db"
MIGRATIONS = Path(__file__).parent.parent / "migrations"
CACHE_KIB = 8192
"""Page cache of each connection; 8 MiB keeps the node under its 120 MB."""

Row = sqlite3.Row
Statement = tuple[str, Sequence[Sequence[Any]]]
"""SQL and the rows to execute it for."""
DatabaseError = sqlite3.Error


# The driver asks whether a value of these types is to be stored as something else. It takes the
# answer no from two errors that are raised and caught, 2,800 instructions for each None in a row;
# the answer "as itself" costs 1,200.
sqlite3.register_adapter(type(None), lambda value: value)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(bytes, lambda value: value)

_TROUBLES = tuple(
    f"SQLITE_{name}"
    for name in ("FULL", "IOERR", "READONLY", "CANTOPEN", "CORRUPT", "NOTADB", "NOMEM", "PERM")
)


def trouble(error: BaseException) -> str | None:
    """What SQLite says when the disk or the file is at fault; None for a mistake of our own."""
    name: str = getattr(error, "sqlite_errorname", "")
    return str(error) if name.startswith(_TROUBLES) else None


class DatabaseTooNewError(Exception):
    """The file was written by a newer program; `str()` is one plain sentence."""


class DatabaseUnusableError(Exception):
    """The file cannot be opened or is no database; `str()` is one plain sentence."""


def migrations() -> list[tuple[int, list[str]]]:
    """The numbered steps and their statements, oldest first. A released step is never edited."""
    steps = []
    for path in sorted(MIGRATIONS.glob("[0-9]*.sql")):
        text = re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
        statements = list(statements_of(text))
        steps.append((int(path.name.split("_")[0]), statements))
    return steps


def statements_of(text: str) -> Iterator[str]:
    """The statements of a script; a trigger's own semicolons do not part it."""
    statement = ""
    for piece in text.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n;"):
                yield statement.strip()
            statement = ""


def migrate(path: Path, steps: Sequence[tuple[int, Iterable[str]]] | None = None) -> None:
    """Bring the file at `path` to the newest schema; create it when it is not there.

    Each step and its version number are one transaction. Raises DatabaseTooNewError when the file
    is ahead of this program, DatabaseUnusableError when it cannot be used at all.
    """
    plan = migrations() if steps is None else steps
    newest = plan[-1][0]
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error as error:
        raise DatabaseUnusableError(f"The database {path} cannot be opened: {error}.") from error
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > newest:
            raise DatabaseTooNewError(
                f"The database {path} has schema version {version}, newer than this program's "
                f"{newest}; install the newer program again, nothing was changed."
            )
        for number, statements in plan:
            if number <= version:
                continue
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number:d}")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise DatabaseUnusableError(f"The database {path} cannot be used: {error}.") from error
    finally:
        connection.close()


class _Writer(aiosqlite.Connection):
    """aiosqlite's connection, that also does a whole batch in one hop to its thread: each statement
    by itself costs the event loop some 80 microseconds, a busy commit has eight."""

    async def write(self, statements: Sequence[Statement]) -> None:
        """Execute each statement for all its rows, then commit; roll back if anything raises."""
        # aiosqlite gives this method no types.
        await self._execute(_write, self._conn, statements)  # type: ignore[no-untyped-call]

    async def write_in_passing(self, statements: Sequence[Statement]) -> None:
        """The same without waiting for the disk."""
        await self._execute(  # type: ignore[no-untyped-call]
            _write_in_passing, self._conn, statements
        )


def _write(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    try:
        for sql, rows in statements:
            connection.executemany(sql, rows)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _write_in_passing(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")
    try:
        _write(connection, statements)
    finally:
        connection.execute("PRAGMA synchronous=FULL")


class Settler(Protocol):
    """Who keeps committed changes that are not yet in their tables."""

    def __len__(self) -> int:
        """How many there are."""

    async def settle_in(self, transaction: "Transaction") -> None:
        """Write them."""

    def forget(self) -> None:
        """They were committed."""


class Scribe(Protocol):
    """Who keeps the ledger: makes rows of records while nobody else writes."""

    def statements(self, entries: Sequence[Any]) -> Sequence[Statement]:
        """What appends these records, numbered on from the last that was committed."""

    def ended(self, is_committed: bool) -> None:
        """The transaction with the last `statements` is over."""


class Database:
    """One writer and one reader of a database file."""

    def __init__(self, path: Path, writer: _Writer, reader: sqlite3.Connection):
        self.path = path
        self._writer = writer
        self._reader = reader
        self._lock = asyncio.Lock()
        self._settler: Settler | None = None
        self._scribe: Scribe | None = None

    def settled_by(self, settler: "Settler") -> None:
        """Let `settler` write what it holds before anybody reads or changes its tables, and when
        the database is closed."""
        self._settler = settler

    def recorded_by(self, scribe: "Scribe") -> None:
        """Let `scribe` append what transactions have for the ledger; without one it is dropped."""
        self._scribe = scribe

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open a migrated file. The caller holds the directory's lock: there is one writer."""
        writer = _Writer(
            lambda: sqlite3.connect(path, isolation_level="IMMEDIATE", timeout=5.0),
            iter_chunk_size=64,
        )
        await writer
        for pragma in (
            "PRAGMA synchronous=FULL",
            "PRAGMA foreign_keys=ON",
            "PRAGMA secure_delete=ON",
            "PRAGMA wal_autocheckpoint=1000",
            "PRAGMA journal_size_limit=16777216",
            f"PRAGMA cache_size=-{CACHE_KIB:d}",
        ):
            await writer.execute(pragma)
        reader = _read_only(path)
        reader.row_factory = sqlite3.Row
        reader.execute(f"PRAGMA cache_size=-{CACHE_KIB:d}")
        return cls(path, writer, reader)

    async def close(self) -> None:
        """Close both connections; what was not committed is gone."""
        with suppress(sqlite3.Error):
            # What cannot be settled now is settled at the next start.
            await self.settle()
        self._reader.close()
        await self._writer.close()

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row, read in place: only for look-ups by key."""
        row: Row | None = self._reader.execute(sql, parameters).fetchone()
        return row

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows, read in place: only for short lists, or before the node listens."""
        return self._reader.execute(sql, parameters).fetchall()

    async def all_slowly(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of a longer query, read in a thread of its own so that RADIUS goes on."""
        with suppress(sqlite3.Error):
            # On a full disk people still read all that is in the tables.
            await self.settle()

        def read() -> list[Row]:
            connection = _read_only(self.path)
            try:
                connection.row_factory = sqlite3.Row
                return connection.execute(sql, parameters).fetchall()
            finally:
                connection.close()

        return await asyncio.to_thread(read)

    async def write(
        self,
        statements: Sequence[Statement],
        *,
        entries: Sequence[Any] = (),
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """One transaction of statements, each executed for all its rows, and of records for the
        ledger; `then` is called once they are committed, before anybody else writes."""
        async with self._lock:
            if entries and self._scribe is not None:
                await _whole(self._record(self._scribe, statements, entries))
            else:
                await self._writer.write(statements)
            then()

    async def _record(
        self, scribe: Scribe, statements: Sequence[Statement], entries: Sequence[Any]
    ) -> None:
        is_committed = False
        try:
            await self._writer.write([*statements, *scribe.statements(entries)])
            is_committed = True
        finally:
            scribe.ended(is_committed)

    async def write_in_passing(self, statements: Sequence[Statement]) -> None:
        """One short transaction that survives the end of the program, but a power cut only together
        with the next one that `write` or `transaction` committed: the log has them in order.

        For a piece of something long, which makes nobody wait for the disk. It does not settle,
        so it may touch no row that the settler writes.
        """
        async with self._lock:
            await self._writer.write_in_passing(statements)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """One transaction, alone on the writer: committed at the end, rolled back if it raises."""
        async with self._lock:
            try:
                transaction = Transaction(self._writer)
                if self._settler is not None:
                    await self._settler.settle_in(transaction)
                yield transaction
            except BaseException:
                await self._writer.rollback()
                raise
            await _whole(self._commit(transaction))

    async def _commit(self, transaction: "Transaction") -> None:
        scribe = self._scribe if transaction.entries else None
        is_committed = False
        try:
            if scribe is not None:
                await transaction.write(scribe.statements(transaction.entries))
            await self._writer.commit()
            is_committed = True
        except BaseException:
            await self._writer.rollback()
            raise
        finally:
            if scribe is not None:
                scribe.ended(is_committed)
        if self._settler is not None:
            self._settler.forget()

    async def settle(self) -> None:
        """Have everything in its tables."""
        if self._settler is not None and len(self._settler):
            async with self.transaction():
                pass

    async def empty_log(self) -> None:
        """Bring the write-ahead log into the file and cut it off: what was erased is in neither."""
        async with self._lock:
            cursor = await self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            await cursor.close()

    async def backup_to(self, path: Path) -> None:
        """Write a compact copy of the committed database to `path`, which must not exist."""
        await self.settle()

        def copy() -> None:
            connection = _read_only(self.path)
            try:
                connection.execute("VACUUM INTO ?", (str(path),))
            finally:
                connection.close()

        await asyncio.to_thread(copy)


class Transaction:
    """What may be done inside `Database.transaction`."""

    def __init__(self, connection: aiosqlite.Connection):
        self._connection = connection
        self.entries: list[Any] = []

    def append(self, entry: Any) -> None:
        """Append a record (`portal.store.ledger.Entry`) to the ledger when the transaction is
        committed."""
        self.entries.append(entry)

    async def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one statement; return the number of rows it changed."""
        async with self._connection.execute(sql, parameters) as cursor:
            return cursor.rowcount

    async def insert(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Execute one INSERT; return the row id."""
        async with self._connection.execute(sql, parameters) as cursor:
            return int(cursor.lastrowid or 0)

    async def write(self, statements: Sequence[Statement]) -> None:
        """Execute each statement for all its rows, without an end of the transaction."""
        for sql, rows in statements:
            if rows:
                await self._connection.executemany(sql, rows)

    async def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute one statement for many rows in a single hop to the writer's thread."""
        await self._connection.executemany(sql, rows)


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, also when the caller is cancelled: a commit that was begun is on disk,
    and what it settled must not be settled once more."""
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((doing,))
        if not doing.cancelled():
            # Seen: asyncio complains of an exception that nobody asked for.
            doing.exception()
        raise


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)


@contextmanager
def reading(path: Path) -> Iterator[Callable[[str, Sequence[Any]], Iterator[Row]]]:
    """What runs statements on one state of a file, whatever a running node adds meanwhile, and
    gives their rows; changes nothing. Raises DatabaseError."""
    connection = _read_only(path)
    connection.row_factory = Row
    try:
        connection.execute("BEGIN")
        yield connection.execute
    finally:
        connection.close()


def check_file(path: Path) -> str | None:
    """None when SQLite finds the file sound, else what it says (`PRAGMA quick_check`)."""
    try:
        connection = _read_only(path)
        try:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return None if answer == "ok" else answer


def schema_version(path: Path) -> int:
    """The schema version of a file; raises DatabaseUnusableError when it is no database."""
    try:
        connection = _read_only(path)
        try:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DatabaseUnusableError(f"The database {path} cannot be used: {error}.") from error
