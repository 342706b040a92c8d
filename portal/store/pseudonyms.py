"""Pseudonyms' SQL. Every statement stands next to the function that runs it."""

from portal.store.db import Database


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

    def accounts(self, octets: bytes) -> list[tuple[int, int]]:
        """(account, month) that a name stands for: none once its mapping was erased."""
        rows = self._database.all(
            "SELECT account_id, month FROM pseudonym WHERE octets = ?", (octets,)
        )
        return [(row["account_id"], row["month"]) for row in rows]
