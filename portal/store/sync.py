"""What a node keeps of its dealings with the hub: counters, documents, evidence. The SQL of it.

Names in the table `sync`: `counter` (the highest request counter that may have been used),
`exchanged_at` (the last accepted exchange), `delta` and `delta_at` (number and time of the last
sealed balances that the hub has), `backup` and `backup_at` (the same of the sealed backup),
`watch_until_at`.
"""

from collections.abc import Mapping
from typing import Any

from portal.domain.document import Document
from portal.domain.ledger import Kind
from portal.store.db import Database, Row
from portal.store.ledger import Entry

_SET = (
    "INSERT INTO sync (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)


class SyncStore:
    """Reads and writes of it."""

    def __init__(self, database: Database):
        self._database = database

    def numbers(self) -> dict[str, int]:
        """Every number by its name."""
        return {
            row["name"]: int(row["value"])
            for row in self._database.all("SELECT name, value FROM sync")
        }

    async def set_numbers(self, values: dict[str, int]) -> None:
        """Store numbers; when this returns they survive a power cut."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(_SET, list(values.items()))

    # -- documents -------------------------------------------------------------------------

    def documents(self) -> list[Row]:
        """All documents: name, scope, state, version, note, why, at."""
        return self._database.all(
            "SELECT name, scope, state, version, note, why, at FROM policy_document"
            " ORDER BY name, scope, state"
        )

    async def keep_document(
        self,
        document: Document,
        state: str,
        note: str,
        *,
        why: str = "",
        at: int,
        payload: Mapping[str, Any],
    ) -> None:
        """Keep a document in a state, with a POLICY record of it; one that is applied or refused
        waits no longer."""
        async with self._database.transaction() as transaction:
            transaction.append(Entry(Kind.POLICY, at, payload))
            await transaction.run(
                "INSERT INTO policy_document (name, scope, state, version, note, why, at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name, scope, state) DO UPDATE"
                " SET version = excluded.version, note = excluded.note, why = excluded.why,"
                " at = excluded.at",
                (document.name, document.scope, state, document.version, note, why, at),
            )
            if state != "waiting":
                await transaction.run(
                    "DELETE FROM policy_document WHERE name = ? AND scope = ? AND version <= ?"
                    " AND state = 'waiting'",
                    (document.name, document.scope, document.version),
                )

    # -- evidence --------------------------------------------------------------------------

    async def keep_evidence(self, what: str, ours: str, theirs: str, *, at: int) -> bool:
        """Keep two notes; False when they are kept already."""
        async with self._database.transaction() as transaction:
            return bool(
                await transaction.run(
                    "INSERT INTO evidence (at, what, ours, theirs) SELECT ?, ?, ?, ?"
                    " WHERE NOT EXISTS (SELECT 1 FROM evidence WHERE what = ? AND theirs = ?)",
                    (at, what, ours, theirs, what, theirs),
                )
            )

    def evidence(self) -> list[Row]:
        """All of it, the oldest first: id, at, what, ours, theirs."""
        return self._database.all("SELECT id, at, what, ours, theirs FROM evidence ORDER BY id")
