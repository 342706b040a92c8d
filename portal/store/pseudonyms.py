"""Pseudonyms' SQL. Every statement stands next to the function that runs it."""

from portal.store.db import Database
from portal.store.ledger import Rule


class PseudonymStore:
    """Reads and erases the names of accounts; new ones are written by the group commit."""

    def __init__(self, database: Database):
        self._database = database

    def stored(self, account_id: int, month: int) -> bytes | None:
        """The name of an account in a month."""
        row = self._database.one(
            "SELECT octets FROM pseudonym WHERE account_id = ? AND month = ?", (account_id, month)
        )
        return None if row is None else bytes(row["octets"])

    async def forget(self, before_month: int, rule: Rule) -> int:
        """Delete the names of months before one; return how many. Whose they were nobody can tell
        any more."""
        async with self._database.transaction() as transaction:
            gone = await transaction.run("DELETE FROM pseudonym WHERE month < ?", (before_month,))
            if gone:
                transaction.append(rule.erased("pseudonyms", gone))
            return gone

    def accounts(self, octets: bytes) -> list[tuple[int, int]]:
        """(account, month) that a name stands for: none once its mapping was erased."""
        rows = self._database.all(
            "SELECT account_id, month FROM pseudonym WHERE octets = ?", (octets,)
        )
        return [(row["account_id"], row["month"]) for row in rows]
