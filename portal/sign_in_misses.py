"""Misses of people who sign in, kept over a restart: pulling the plug shortens nobody's wait."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from portal.misses import FORGIVEN_AFTER_S, Misses
from portal.store.db import DatabaseError, Row, trouble

log = logging.getLogger(__name__)

_NAME = "name:"


class MissStore(Protocol):
    """Where misses are kept."""

    def misses(self) -> Sequence[Mapping[str, Any] | Row]:
        """All of them: `who, misses, last_at`."""

    async def keep_miss(self, who: str, misses: int, at: int, forget_before_at: int) -> None:
        """Set the misses of `who`, the last at `at`; forget those whose last is older."""

    async def forgive_misses(self, who: str) -> None:
        """Forget the misses of `who`."""


class SignInMisses:
    """Who must wait before the next password, by where they come from and by the name they give."""

    def __init__(
        self, store: MissStore | None, *, now: Callable[[], int], elapsed_s: Callable[[], float]
    ):
        """`store`: None where a restart forgets them."""
        self._store = store
        self._now = now
        self._elapsed_s = elapsed_s
        self._misses = Misses()
        for row in () if store is None else store.misses():
            # A clock that went back makes them younger, at most just missed.
            last_s = elapsed_s() - max(0, now() - row["last_at"])
            who = str(row["who"])
            if who.startswith(_NAME):
                self._misses.recall_site(int(who.removeprefix(_NAME)), row["misses"], last_s)
            else:
                self._misses.recall(who, row["misses"], last_s)

    def wait_s(self, who: str | None, name: int | None) -> float:
        """Seconds to wait before the next try, 0: none. `who` None is somebody who cannot be told
        from others, held up only by the misses of the name."""
        return self._misses.wait_s(who, name, self._elapsed_s())

    async def miss(self, who: str) -> None:
        """Count a wrong password of somebody; on disk before it is looked at."""
        self._misses.miss(who, None, self._elapsed_s())
        await self._keep(who, self._misses.in_a_row(who))

    async def miss_name(self, name: int) -> None:
        """Count a wrong password for a name."""
        self._misses.miss(None, name, self._elapsed_s())
        await self._keep(f"{_NAME}{name}", self._misses.lately(name, self._elapsed_s()))

    async def forgive(self, who: str) -> None:
        """They have shown who they are."""
        self._misses.forgive(who)
        if self._store is not None:
            try:
                await self._store.forgive_misses(who)
            except DatabaseError as error:
                _check_trouble(error)

    async def _keep(self, who: str, misses: int) -> None:
        if self._store is None:
            return
        now = self._now()
        try:
            await self._store.keep_miss(who, misses, now, now - int(FORGIVEN_AFTER_S))
        except DatabaseError as error:
            _check_trouble(error)


def _check_trouble(error: DatabaseError) -> None:
    """On a full disk people still come in, to see that it is full; misses are in memory then."""
    if trouble(error) is None:
        raise error
    log.error("sign_in_misses_not_kept error=%s", error)
