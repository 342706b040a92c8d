"""Complaints of residents: the SQL, nothing else.

`contact` and `serial` are personal parts: `forget_contacts` erases them.
"""

from collections.abc import Callable

from portal.store import audit
from portal.store.audit import Deed
from portal.store.db import Database, Row
from portal.store.ledger import Rule

_COLUMNS = (
    "id, site_id, category, words, contact, serial, created_at, answer, answered_at, answered_by"
)


class ComplaintStore:
    """Reads and writes of complaints."""

    def __init__(self, database: Database):
        self._database = database

    def open(self) -> list[Row]:
        """Id, site and time of every complaint that waits for an answer, oldest first."""
        return self._database.all(
            "SELECT id, site_id, created_at FROM complaint WHERE answered_at IS NULL ORDER BY id"
        )

    def one(self, complaint_id: int) -> Row | None:
        """A complaint by its id."""
        return self._database.one(f"SELECT {_COLUMNS} FROM complaint WHERE id = ?", (complaint_id,))

    async def unanswered(self, site_id: int) -> list[Row]:
        """The complaints of a site that wait for an answer, oldest first."""
        return await self._database.all_slowly(
            f"SELECT {_COLUMNS} FROM complaint WHERE site_id = ? AND answered_at IS NULL"
            " ORDER BY created_at, id",
            (site_id,),
        )

    async def answered(self, site_id: int, before_id: int | None, limit: int) -> list[Row]:
        """Answered complaints of a site with an id under `before_id`, newest first."""
        return await self._database.all_slowly(
            f"SELECT {_COLUMNS} FROM complaint WHERE site_id = ? AND answered_at IS NOT NULL"
            " AND (? IS NULL OR id < ?) ORDER BY id DESC LIMIT ?",
            (site_id, before_id, before_id, limit),
        )

    async def add(
        self,
        *,
        site_id: int,
        category: str,
        words: str,
        contact: str,
        serial: str | None,
        at: int,
    ) -> int:
        """Insert a complaint; return its id."""
        async with self._database.transaction() as transaction:
            return await transaction.insert(
                "INSERT INTO complaint (site_id, category, words, contact, serial, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (site_id, category, words, contact, serial, at),
            )

    async def answer(self, complaint_id: int, answer: str, *, at: int, deed: Deed) -> bool:
        """Write the answer of a complaint that has none; False when somebody was quicker."""
        async with self._database.transaction() as transaction:
            is_written = await transaction.run(
                "UPDATE complaint SET answer = ?, answered_at = ?, answered_by = ?"
                " WHERE id = ? AND answered_at IS NULL",
                (answer, at, deed.by, complaint_id),
            )
            if is_written:
                await audit.write(transaction, at, deed)
            return bool(is_written)

    async def delete_answered(self, rule: Rule, deed_of: Callable[[int, int], Deed]) -> int:
        """Delete what was answered before the rule's moment, with one deed for each site, made of
        its id and how many there were; return how many in all."""
        rows = await self._database.all_slowly(
            "SELECT site_id, COUNT(*) AS n FROM complaint WHERE answered_at < ? GROUP BY site_id",
            (rule.before_at,),
        )
        if not rows:
            return 0
        total = 0
        async with self._database.transaction() as transaction:
            for row in rows:
                deleted = await transaction.run(
                    "DELETE FROM complaint WHERE site_id = ? AND answered_at < ?",
                    (row["site_id"], rule.before_at),
                )
                total += deleted
                await audit.write(transaction, rule.at, deed_of(row["site_id"], deleted))
            transaction.append(rule.erased("complaints", total))
        return total

    async def forget_contacts(self, rule: Rule) -> int:
        """Erase contact and card of complaints made before a moment; return of how many."""
        async with self._database.transaction() as transaction:
            gone = await transaction.run(
                "UPDATE complaint SET contact = '', serial = NULL"
                " WHERE created_at < ? AND (contact <> '' OR serial IS NOT NULL)",
                (rule.before_at,),
            )
            if gone:
                transaction.append(rule.erased("contacts", gone))
            return gone
