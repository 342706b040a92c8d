"""Announcements of sites: the SQL, nothing else.

A row is never deleted: an announcement that was ended early keeps its words and says when.
"""

from portal.store import audit
from portal.store.audit import Deed
from portal.store.db import Database, Row, Transaction

_COLUMNS = "id, site_id, words, starts_at, ends_at, created_at, removed_at"
_INSERT = (
    "INSERT INTO announcement (site_id, words, starts_at, ends_at, created_at)"
    " VALUES (?, ?, ?, ?, ?)"
)
_END = "UPDATE announcement SET removed_at = ? WHERE id = ? AND removed_at IS NULL"


class NoticeStore:
    """Reads and writes of announcements."""

    def __init__(self, database: Database):
        self._database = database

    def not_over(self, at: int) -> list[Row]:
        """Announcements of all sites that run at `at` or later, the first to begin first."""
        return self._database.all(
            f"SELECT {_COLUMNS} FROM announcement"
            " WHERE removed_at IS NULL AND (ends_at IS NULL OR ends_at > ?)"
            " ORDER BY starts_at, id",
            (at,),
        )

    async def over(self, site_id: int, at: int, limit: int) -> list[Row]:
        """Announcements of a site that have ended by `at`, the newest first."""
        return await self._database.all_slowly(
            f"SELECT {_COLUMNS} FROM announcement WHERE site_id = ?"
            " AND (removed_at IS NOT NULL OR ends_at <= ?) ORDER BY id DESC LIMIT ?",
            (site_id, at, limit),
        )

    async def add(
        self,
        site_id: int,
        words: str,
        starts_at: int,
        ends_at: int | None,
        *,
        at: int,
        deed: Deed,
    ) -> int:
        """Insert an announcement; return its id."""
        async with self._database.transaction() as transaction:
            made = await transaction.insert(_INSERT, (site_id, words, starts_at, ends_at, at))
            await audit.write(transaction, at, deed)
            return made

    async def end(self, announcement_id: int, *, at: int, deed: Deed) -> bool:
        """End an announcement now; False when somebody had done so already."""
        async with self._database.transaction() as transaction:
            if not await transaction.run(_END, (at, announcement_id)):
                return False
            await audit.write(transaction, at, deed)
            return True

    async def replace(
        self, old_ids: list[int], site_id: int, words: str, *, at: int, deed: Deed
    ) -> int | None:
        """End some announcements and, where there are words, begin one without an end in their
        place; return its id."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(_END, [(at, old) for old in old_ids])
            made = await self._begin(transaction, site_id, words, at) if words else None
            await audit.write(transaction, at, deed)
            return made

    async def _begin(self, transaction: Transaction, site_id: int, words: str, at: int) -> int:
        return await transaction.insert(_INSERT, (site_id, words, at, None, at))
