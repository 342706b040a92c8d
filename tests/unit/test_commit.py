"""Group commit when a commit fails: those who wait are told, and what failed is written later."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from portal.commit import GroupCommit
from portal.store import db
from portal.store.batch import Batch
from portal.store.db import Database
from portal.store.node import NodeStore

TOO_LARGE = 2**70
"""SQLite has no such number: the driver raises OverflowError, which is no database error."""


def test_a_fault_of_ours_ends_neither_the_commits_nor_what_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting: list[tuple[str, str]] = [("first", "1")]
    bad: list[tuple[int]] = [(TOO_LARGE,)]
    failures: list[Exception] = []
    told: list[tuple[bool, str]] = []

    def collect(batch: Batch) -> Callable[[bool], None]:
        batch.box, batch.gigaword_gateways = list(waiting), list(bad)

        def settle(is_committed: bool) -> None:
            if is_committed:
                waiting.clear()

        return settle

    async def work() -> None:
        path = tmp_path / db.FILE_NAME
        db.migrate(path)
        database = await Database.open(path)
        store = NodeStore(database)
        commit = GroupCommit(store, (collect,), on_failure=failures.append)
        commit.start()
        commit.then(lambda is_committed, name: told.append((is_committed, name)), "first")
        assert not await commit.now()
        assert (commit.is_healthy, store.box()) == (False, {})
        bad.clear()
        assert await commit.now()
        assert (commit.is_healthy, store.box()) == (True, {"first": "1"})
        # With nothing to do it sleeps.
        commits = commit.commits
        await asyncio.sleep(0.1)
        assert commit.commits == commits
        await commit.stop()
        await database.close()

    with caplog.at_level(logging.WARNING, logger="portal.commit"):
        asyncio.run(asyncio.wait_for(work(), 60))
    assert told == [(False, "first")]
    assert isinstance(failures[0], OverflowError)
    assert "commit_failed" in caplog.text and "commit_works_again" in caplog.text
    assert "OverflowError" in caplog.text, "where a fault of ours is, the log says"
