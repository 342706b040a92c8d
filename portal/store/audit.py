"""The audit: who did what, written in the transaction of the deed itself.

The table takes no UPDATE and no DELETE (triggers of 0002_desk.sql). Every statement stands next to
the function that runs it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from portal.domain.ledger import WHOLE_NODE, Kind
from portal.store.db import Database, Row, Transaction
from portal.store.ledger import Entry

INSERT = (
    "INSERT INTO audit (at, operator, action, site_id, object, reason, details)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True)
class Deed:
    """Something a person did. Never holds a code, a password or a secret."""

    by: str
    """The operator's name, or "command line"."""
    action: str
    """One of portal.audit.ACTIONS, such as "voucher.revoke"."""
    site_id: int | None
    """None: it concerns the whole node, and only who sees all its sites reads it."""
    object: str
    """What it was done to: a serial, a batch, an operator's name, a site's code, the name of a
    known device; of a blocked phone, which is somebody's, the end of its MAC."""
    reason: str = ""
    details: str = ""
    """Short plain text, "before -> after"."""

    def row(self, at: int) -> tuple[int, str, str, int | None, str, str, str]:
        """The values of INSERT; `at` in epoch seconds UTC."""
        return (at, self.by, self.action, self.site_id, self.object, self.reason, self.details)

    def entry(self, at: int) -> Entry:
        """The deed for the ledger: the hub learns what was done, the village who and to what."""
        personal = {"by": self.by, "object": self.object}
        if self.reason:
            personal["reason"] = self.reason
        if self.details:
            personal["details"] = self.details
        site = WHOLE_NODE if self.site_id is None else self.site_id
        return Entry(Kind.ACTION, at, {"action": self.action}, site, personal)


async def write(transaction: Transaction, at: int, deed: Deed) -> None:
    """Record a deed in the caller's transaction: both are written, or neither."""
    await transaction.insert(INSERT, deed.row(at))
    transaction.append(deed.entry(at))


class AuditStore:
    """Reads the audit, newest first; adds deeds that change nothing else."""

    def __init__(self, database: Database):
        self._database = database

    async def record(self, at: int, deed: Deed) -> None:
        """Write a deed by itself."""
        async with self._database.transaction() as transaction:
            await write(transaction, at, deed)

    async def recorded(
        self,
        site_ids: Collection[int] | None,
        *,
        before_id: int | None = None,
        object: str | None = None,
        operator: str | None = None,
        limit: int,
    ) -> list[Row]:
        """At most `limit` rows older than row `before_id`; `site_ids` None: all, the node's too."""
        wheres: list[str] = []
        values: list[int | str] = []
        if site_ids is not None:
            wheres.append(f"site_id IN ({', '.join('?' * len(site_ids))})")
            values += site_ids
        for column, value in (("object", object), ("operator", operator)):
            if value is not None:
                wheres.append(f"{column} = ?")
                values.append(value)
        if before_id is not None:
            wheres.append("id < ?")
            values.append(before_id)
        return await self._database.all_slowly(
            "SELECT id, at, operator, action, site_id, object, reason, details FROM audit"
            + (f" WHERE {' AND '.join(wheres)}" if wheres else "")
            + " ORDER BY id DESC LIMIT ?",
            (*values, limit),
        )
