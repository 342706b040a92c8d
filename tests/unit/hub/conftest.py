"""Every test of a hub's store runs on SQLite and on a real PostgreSQL server."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests import postgres_server
from tests.unit.hub.office import Story, Tell, make_directory, office
from tests.unit.hub.written_node import WrittenNode

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The URL of a server that runs for this test run."""
    absent = postgres_server.missing()
    if absent is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    with postgres_server.running() as url:
        yield url


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database of a server, for the time of the block."""
    import asyncpg

    name = f"hub_{os.getpid()}_{next(_numbers)}"

    async def say(words: str) -> None:
        connection = await asyncpg.connect(server_url)
        try:
            await connection.execute(words)
        finally:
            await connection.close()

    asyncio.run(say(f"CREATE DATABASE {name}"))
    try:
        yield f"{server_url.rpartition('/')[0]}/{name}"
    finally:
        asyncio.run(say(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def server_url(postgres_server_url: str) -> Iterator[str]:
    """The URL of an empty database of a server."""
    with fresh_database(postgres_server_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """`[database] url` of an empty database: of a file under `tmp_path`, and of a server."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    with fresh_database(request.getfixturevalue("postgres_server_url")) as url:
        yield url


@pytest.fixture
def hub_directory(tmp_path: Path, database_url: str) -> Path:
    """A hub's directory that was just made."""
    return make_directory(tmp_path, database_url)


@pytest.fixture
def tell(hub_directory: Path) -> Tell:
    """Runs a story on a hub with one enrolled node."""

    def run(story: Story) -> None:
        async def whole() -> None:
            async with office(hub_directory) as place:
                node = WrittenNode()
                await place.enrol(node)
                await story(place, node)

        asyncio.run(whole())

    return run
