"""Both databases behave alike behind the one interface."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from portal.store.db import DatabaseTooNewError
from portal.store.db.either import (
    HubDatabase,
    StoreUnavailableError,
    hub_migrations,
    migrate_hub,
    open_hub_database,
)
from tests import postgres_server

Work = Callable[[HubDatabase], Awaitable[None]]


@pytest.fixture
def use(tmp_path: Path, database_url: str) -> Callable[[Work], None]:
    """Runs work on an empty, open database."""

    def run(work: Work) -> None:
        async def whole() -> None:
            database = await open_hub_database(tmp_path, database_url)
            try:
                await work(database)
            finally:
                await database.close()

        asyncio.run(whole())

    return run


def test_what_raises_is_rolled_back(use: Callable[[Work], None]) -> None:
    async def work(database: HubDatabase) -> None:
        async with database.transaction() as transaction:
            await transaction.run("CREATE TABLE t (n BIGINT PRIMARY KEY, b BYTEA, x TEXT)")
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as transaction:
                await transaction.run("INSERT INTO t (n) VALUES (?)", (1,))
                assert await transaction.one("SELECT n FROM t") is not None
                1 / 0  # noqa: B018
        assert await database.all("SELECT n FROM t") == []
        async with database.transaction() as transaction:
            await transaction.run_many(
                "INSERT INTO t (n, b, x) VALUES (?, ?, '?')", [(n, bytes([n])) for n in range(3)]
            )
            assert await transaction.run("UPDATE t SET b = ? WHERE n > ?", (b"\x00\xff", 0)) == 2
        rows = await database.all("SELECT n, b, x FROM t ORDER BY n")
        assert [(row["n"], bytes(row["b"]), row["x"]) for row in rows] == [
            (0, b"\x00", "?"),
            (1, b"\x00\xff", "?"),
            (2, b"\x00\xff", "?"),
        ]
        assert await database.octets() > 0

    use(work)


def test_a_lock_lets_one_after_the_other(use: Callable[[Work], None]) -> None:
    async def work(database: HubDatabase) -> None:
        async with database.transaction() as transaction:
            await transaction.run("CREATE TABLE t (n BIGINT)")
            await transaction.run("INSERT INTO t (n) VALUES (0)")

        async def add() -> None:
            async with database.transaction() as transaction:
                await transaction.lock("t")
                row = await transaction.one("SELECT n FROM t")
                assert row is not None
                await asyncio.sleep(0.005)
                await transaction.run("UPDATE t SET n = ?", (row["n"] + 1,))

        await asyncio.gather(*(add() for _ in range(12)))
        row = await database.one("SELECT n FROM t")
        assert row is not None and row["n"] == 12

    use(work)


def test_migrations_run_once_and_a_newer_database_is_refused(use: Callable[[Work], None]) -> None:
    async def work(database: HubDatabase) -> None:
        await migrate_hub(database, 5)
        await migrate_hub(database, 6)
        newest = hub_migrations(database.dialect)[-1][0]
        rows = await database.all("SELECT number, applied_at FROM schema_version ORDER BY number")
        assert [row["number"] for row in rows][-1] == newest
        assert {row["applied_at"] for row in rows} == {5}
        async with database.transaction() as transaction:
            await transaction.run("UPDATE schema_version SET number = 900 WHERE number = 1")
        with pytest.raises(DatabaseTooNewError, match="schema version 900"):
            await migrate_hub(database, 7)

    use(work)


def test_a_migration_that_fails_leaves_nothing(use: Callable[[Work], None]) -> None:
    async def work(database: HubDatabase) -> None:
        steps = [(1, ["CREATE TABLE a (n BIGINT)"]), (2, ["CREATE TABLE b (n BIGINT)", "NONSENSE"])]
        with pytest.raises(Exception, match=r"(?i)syntax error"):
            await migrate_hub(database, 1, steps)
        rows = await database.all("SELECT number FROM schema_version")
        assert [row["number"] for row in rows] == [1]
        with pytest.raises(Exception, match=r"(?i)no such table|does not exist"):
            await database.all("SELECT n FROM b")

    use(work)


def test_a_server_that_is_not_there_is_said_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://hub:geheim@127.0.0.1:1/hub"
    with pytest.raises(StoreUnavailableError) as caught:
        asyncio.run(open_hub_database(tmp_path, url))
    assert "geheim" not in str(caught.value)
    assert str(caught.value).endswith(" cannot be used: Connection refused.")


@pytest.mark.skipif(
    postgres_server.missing() is not None and os.environ.get("CI") != "true",
    reason="PostgreSQL is not installed",
)
def test_a_server_that_goes_away_is_unavailable_and_stores_nothing(tmp_path: Path) -> None:
    async def whole() -> None:
        with postgres_server.running() as url:
            database = await open_hub_database(tmp_path, url)
            async with database.transaction() as transaction:
                await transaction.run("CREATE TABLE t (n BIGINT)")
        with pytest.raises(StoreUnavailableError, match="cannot be used now"):
            async with database.transaction() as transaction:
                await transaction.run("INSERT INTO t (n) VALUES (1)")
        with pytest.raises(StoreUnavailableError):
            await database.all("SELECT n FROM t")
        await database.close()

    asyncio.run(whole())


def test_who_waits_for_a_table_is_told_to_try_again(tmp_path: Path, server_url: str) -> None:
    async def whole() -> None:
        database = await open_hub_database(tmp_path, server_url)
        other = await open_hub_database(tmp_path, server_url)
        async with database.transaction() as transaction:
            await transaction.run("CREATE TABLE t (n BIGINT)")
            await transaction.run("INSERT INTO t (n) VALUES (1)")
        # Somebody reads for long, as a backup does: the table cannot be written anew.
        async with other.transaction() as reading:
            assert await reading.one("SELECT n FROM t") is not None
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                await database.vacuum(["t"])
        await database.vacuum(["t"])
        # The table is being written anew: an exchange does not hang.
        async with other.transaction() as writing:
            await writing.run("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                async with database.transaction() as transaction:
                    await transaction.run("INSERT INTO t (n) VALUES (2)")
        async with database.transaction() as transaction:
            await transaction.run("INSERT INTO t (n) VALUES (2)")
        await database.close()
        await other.close()

    asyncio.run(whole())


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    if postgres_server.missing() is not None:
        pytest.skip("PostgreSQL is not installed")

    async def whole() -> None:
        with postgres_server.running() as url:
            database = await open_hub_database(tmp_path, url)
            async with database.transaction() as transaction:
                await transaction.run("CREATE TABLE t (n BIGINT)")
            killer = await open_hub_database(tmp_path, url)
            with pytest.raises(StoreUnavailableError, match="cannot be used now"):
                async with database.transaction() as transaction:
                    await transaction.run("INSERT INTO t (n) VALUES (1)")
                    # As a restart of the server does, in the middle of an exchange.
                    await killer.all(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                    )
                    await transaction.run("INSERT INTO t (n) VALUES (2)")
            async with database.transaction() as transaction:
                await transaction.run("INSERT INTO t (n) VALUES (3)")
            assert [row["n"] for row in await database.all("SELECT n FROM t")] == [3]
            await killer.close()
            await database.close()

    asyncio.run(whole())


def test_a_server_that_refuses_the_password_or_the_name_is_said(
    tmp_path: Path, postgres_server_url: str
) -> None:
    url = postgres_server_url.rpartition("/")[0] + "/geheim_gibts_nicht"
    with pytest.raises(StoreUnavailableError, match="does not exist") as caught:
        asyncio.run(open_hub_database(tmp_path, url.replace("hub@", "hub:geheim@")))
    assert "geheim@" not in str(caught.value)
    nobody = postgres_server_url.replace("hub@", "niemand:geheim@")
    with pytest.raises(StoreUnavailableError, match='role "niemand" does not exist'):
        asyncio.run(open_hub_database(tmp_path, nobody))
