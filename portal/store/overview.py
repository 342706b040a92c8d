"""The SQL of the day view: cards given, data by site and day; and deeds that change no row.

Every statement goes along an index: the page is as fast with five million sessions as with five.
"""

from contextlib import suppress

from portal.store import audit
from portal.store.audit import Deed
from portal.store.db import Database, DatabaseError


class OverviewStore:
    """What the operator's first page reads."""

    def __init__(self, database: Database):
        self._database = database

    async def settle(self) -> None:
        """Have everything that is committed in its tables before it is read here. On a full disk
        people read what is there."""
        with suppress(DatabaseError):
            await self._database.settle()

    def given(self, site_id: int, since_at: int, taken_back: str) -> tuple[int, int]:
        """How many cards were given since a moment, and how many of these nobody has used yet.

        Not those that ended for the reason `taken_back`: nobody has them. A card that was revoked
        or replaced since is none that can be used, so it does not count among the unused.
        """
        row = self._database.one(
            "SELECT COUNT(*) AS given, COALESCE(SUM(a.first_used_at IS NULL"
            " AND v.revoked_at IS NULL AND v.replaced_at IS NULL), 0) AS unused"
            " FROM voucher v JOIN account a ON a.id = v.account_id"
            " WHERE v.site_id = ? AND v.given_at >= ?"
            " AND (v.end_reason IS NULL OR v.end_reason <> ?)",
            (site_id, since_at, taken_back),
        )
        return (0, 0) if row is None else (row["given"], row["unused"])

    def octets(self, site_id: int, first_day: str) -> int:
        """What was used at a site since a day, except what open sessions have pending."""
        row = self._database.one(
            "SELECT COALESCE(SUM(octets), 0) AS octets FROM site_day"
            " WHERE site_id = ? AND day >= ?",
            (site_id, first_day),
        )
        return 0 if row is None else int(row["octets"])

    async def record(self, at: int, deed: Deed) -> None:
        """Write a deed that changes nothing in the database."""
        async with self._database.transaction() as transaction:
            await audit.write(transaction, at, deed)
