"""The office's pages are tested on SQLite and on a real PostgreSQL server, like the hub's store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.hub.conftest import database_url, postgres_server_url
from tests.unit.hub_pages.office import Office, office

__all__ = ["database_url", "hub", "postgres_server_url"]


@pytest.fixture
def hub(tmp_path: Path, database_url: str) -> Iterator[Office]:
    """An office with the site TJL, without a box."""
    with office(tmp_path, database_url) as found:
        found.add_site()
        yield found
