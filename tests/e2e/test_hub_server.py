"""A hub whose data are in a PostgreSQL server, as a program: saved, wiped, put back, refused."""

import asyncio
from pathlib import Path

import pytest

from portal import settings
from portal.serve_hub import Hub
from tests.e2e import command
from tests.e2e.command import pesisir
from tests.e2e.test_hub_command import directory, running
from tests.unit.hub.conftest import postgres_server_url, server_url
from tests.unit.hub.office import Office
from tests.unit.hub.written_node import NOON, WrittenNode

__all__ = ["directory", "postgres_server_url", "server_url"]


def test_a_running_hub_on_a_server_is_saved_wiped_and_put_back(
    tmp_path: Path, server_url: str
) -> None:
    place, file = tmp_path / "hub", tmp_path / "hub.backup"
    made = ("init", "--role", "hub", "--dir", place, "--url", "https://hub.example.id:8443")
    assert pesisir(*made, "--database", server_url).status == 0
    node = WrittenNode()

    async def enrol() -> None:
        hub = await Hub.open(place, settings.load_for_hub(place, {}), lambda: NOON)
        office = Office(hub, NOON)
        await office.enrol(node)
        node.session(1)
        await office.take(node)
        await hub.close()

    asyncio.run(enrol())
    with running(place) as (process, _):
        saved = command.process("backup", file, "--dir", place, "--json").json
        assert saved["counts"] and saved["octets"] == file.stat().st_size
        process.kill()  # as a power cut
        process.wait()
    refused = pesisir("restore", file, "--dir", place)
    assert "expected an empty one" in refused.sentence()
    empty = server_url.replace("/hub_", "/wiped_hub_")
    run_on(server_url, f"CREATE DATABASE {empty.rpartition('/')[2]}")
    try:
        toml = place / settings.FILE_NAME
        toml.write_text(toml.read_text().replace(server_url, empty))
        restored = pesisir("restore", file, "--dir", place, "--json").json
        assert restored["database"] == "postgresql" and len(restored["kept"]) == 1
        with running(place):
            checked = command.process("check", "--dir", place, "--json").json
            assert checked["ok"], checked
            assert any("3 records" in each["message"] for each in checked["checks"])
    finally:
        run_on(server_url, f"DROP DATABASE {empty.rpartition('/')[2]} WITH (FORCE)")


def run_on(url: str, words: str) -> None:
    """Say something to a PostgreSQL server."""
    import asyncpg

    async def say() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(words)
        finally:
            await connection.close()

    asyncio.run(say())


@pytest.mark.parametrize("words", [("hub",), ("check",), ("site", "list")])
def test_a_server_that_is_not_there_is_one_plain_sentence(
    directory: Path, words: tuple[str, ...]
) -> None:
    nowhere = "postgresql://hub:geheim@127.0.0.1:1/hub"
    done = command.process(*words, "--dir", directory, PESISIR_DATABASE_URL=nowhere)
    assert done.status == 1 and done.err.count("\n") == 1
    assert "Connection refused." in done.err and "geheim" not in done.err
