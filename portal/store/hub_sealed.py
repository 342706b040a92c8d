"""Sealed octets of nodes: the newest backup, and the balances since."""

from collections.abc import Sequence

from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row

BACKUP, DELTA = "backup", "delta"


class SealedStore:
    """What the hub keeps and cannot read."""

    def __init__(self, database: HubDatabase):
        self.database = database

    async def backup(self, reading: Reading, node_id: str) -> Row | None:
        """`number, octets, received_at` of the newest backup."""
        return await reading.one(
            "SELECT number, octets, received_at FROM sealed WHERE node_id = ? AND kind = ?"
            " ORDER BY number DESC, received_at DESC LIMIT 1",
            (node_id, BACKUP),
        )

    async def backup_standing(self, reading: Reading, node_id: str) -> Row | None:
        """`number, received_at` of the newest backup, without its octets."""
        return await reading.one(
            "SELECT number, received_at FROM sealed WHERE node_id = ? AND kind = ?"
            " ORDER BY number DESC, received_at DESC LIMIT 1",
            (node_id, BACKUP),
        )

    async def deltas(self, reading: Reading, node_id: str) -> list[Row]:
        """`number, octets` of the balances since, in order."""
        return await reading.all(
            "SELECT number, octets FROM sealed WHERE node_id = ? AND kind = ? ORDER BY number",
            (node_id, DELTA),
        )

    async def delta_octets(self, reading: Reading, node_id: str) -> int:
        """How many octets the deltas have together."""
        row = await reading.one(
            "SELECT CAST(COALESCE(SUM(LENGTH(octets)), 0) AS BIGINT) AS octets FROM sealed"
            " WHERE node_id = ? AND kind = ?",
            (node_id, DELTA),
        )
        return 0 if row is None else int(row["octets"])

    async def put(
        self,
        transaction: HubTransaction,
        node_id: str,
        kind: str,
        number: int,
        octets: bytes,
        at: int,
    ) -> None:
        """Keep a backup or a delta; one of the same number is replaced."""
        await transaction.run(
            "INSERT INTO sealed (node_id, kind, number, octets, received_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (node_id, kind, number) DO UPDATE SET"
            " octets = excluded.octets, received_at = excluded.received_at",
            (node_id, kind, number, octets, at),
        )

    async def delete(
        self, transaction: HubTransaction, node_id: str, rows: Sequence[tuple[str, int]]
    ) -> None:
        """Forget what a backup contains: kind and highest number of each."""
        for kind, number in rows:
            await transaction.run(
                "DELETE FROM sealed WHERE node_id = ? AND kind = ? AND number <= ?",
                (node_id, kind, number),
            )
