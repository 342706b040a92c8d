"""A database file as the migrations leave it, made once in a test process and copied from then on:
each step of a migration waits for the disk."""

import tempfile
from functools import cache
from pathlib import Path

from portal.store import db


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / db.FILE_NAME
        db.migrate(path)
        return path.read_bytes()


def create(path: Path) -> None:
    """A database of the newest schema at `path`."""
    path.write_bytes(_migrated())
