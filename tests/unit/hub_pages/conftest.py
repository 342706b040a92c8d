"""The office's pages are tested on SQLite and on a real PostgreSQL server, like the hub's store.

A hub is started once for a file of tests on each database; every test finds it empty.
"""

from collections.abc import Iterator

import pytest

from tests.unit.hub.conftest import fresh_database, postgres_server_url
from tests.unit.hub_pages.office import Office, office

__all__ = ["hub", "own_hub", "postgres_server_url", "url", "used_hub"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """`[database] url` of each kind of database."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    with fresh_database(request.getfixturevalue("postgres_server_url")) as found:
        yield found


@pytest.fixture(scope="module")
def used_hub(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[Office]:
    """An office that the tests of a file have one after the other."""
    with office(tmp_path_factory.mktemp("office"), url) as found:
        yield found


@pytest.fixture
def hub(used_hub: Office) -> Office:
    """An office with the site TJL, without a box."""
    used_hub.empty()
    used_hub.add_site()
    return used_hub


@pytest.fixture
def own_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """The same for who leaves traces in the program's memory, on SQLite."""
    with office(tmp_path_factory.mktemp("office")) as found:
        found.add_site()
        yield found
