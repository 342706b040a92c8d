"""Group commit: one transaction for everything that changed while the last one was being written.

No timer: under load batches form by themselves, and a single packet waits for nothing but the disk
(measured: a transaction per packet gives 0.08 of the throughput). Whoever must not answer before
the change is durable leaves a callback.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from portal.store.batch import Batch
from portal.store.db import DatabaseError
from portal.store.journal import SETTLE_AT_ROWS
from portal.store.node import NodeStore

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Pause after a commit that failed, before the next try."""

T = TypeVar("T")
Collector = Callable[[Batch], Callable[[bool], None]]


class GroupCommit:
    """Writes what the collectors hold, batch after batch, and then tells who waited."""

    def __init__(
        self,
        store: NodeStore,
        collectors: Sequence[Collector],
        *,
        on_failure: Callable[[Exception], None] | None = None,
    ):
        self._journal = store.journal
        self._collectors = collectors
        self._on_failure = on_failure
        self._waiting: list[tuple[Callable[[bool, Any], None], Any]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self.is_healthy = True
        """Whether the last commit succeeded."""
        self.commits = 0
        self.failures = 0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="group commit")

    async def stop(self) -> None:
        """Write what is there and end."""
        self._is_stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None

    def soon(self) -> None:
        """Write the changes made so far; nobody waits for them."""
        self._wake.set()

    def then(self, callback: Callable[[bool, T], None], about: T) -> None:
        """Write the changes made so far, then call back with True, or False when they could not be.

        What could not be written stays in memory and is tried again with the next commit. `about`
        is handed to the callback, which saves a closure for each packet.
        """
        if not self._waiting:
            self._wake.set()
        self._waiting.append((callback, about))

    async def now(self) -> bool:
        """Write the changes made so far and wait; False when they could not be written."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.then(_tell, future)
        return await future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            is_last = self._is_stopping
            waiting, self._waiting = self._waiting, []
            is_committed = await self._write()
            for callback, about in waiting:
                try:
                    callback(is_committed, about)
                except Exception:
                    log.exception("commit_callback_failed")
            if is_committed and len(self._journal) >= SETTLE_AT_ROWS:
                await self.settle()
            if is_last:
                return
            if not is_committed:
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def settle(self) -> None:
        """Bring what is committed into its tables; what fails is tried again the next time."""
        try:
            await self._journal.settle()
        except DatabaseError as error:
            log.error("settling_failed error=%s", error)

    async def _write(self) -> bool:
        batch = Batch()
        settles = [collect(batch) for collect in self._collectors]
        is_committed = False
        try:
            await self._journal.commit(batch)
            is_committed = True
            self.commits += 1
        except Exception as error:
            # Whatever it is: if this task ended, nothing would ever be stored again.
            self.failures += 1
            # First, for it may make room for the line in the log.
            if self._on_failure is not None:
                self._on_failure(error)
            if self.is_healthy:
                log.error(
                    "commit_failed error=%s; accounting stays unanswered until it works",
                    error,
                    exc_info=None if isinstance(error, DatabaseError) else error,
                )
        finally:
            for settle in settles:
                settle(is_committed)
        if is_committed and not self.is_healthy:
            log.warning("commit_works_again")
        self.is_healthy = is_committed
        return is_committed


def _tell(is_committed: bool, future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(is_committed)
