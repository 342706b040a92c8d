"""The hub's alarms, and the octets that prove them."""

from collections.abc import Sequence
from typing import NamedTuple

from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row


class Evidence(NamedTuple):
    """One thing that one side has said."""

    side: str
    """"node" or "hub"."""
    what: str
    """"checkpoint", "promise", "records" ..."""
    octets: bytes


class AlarmStore:
    """Alarms, once for each thing that does not fit."""

    def __init__(self, database: HubDatabase):
        self.database = database

    async def raise_alarm(
        self,
        transaction: HubTransaction,
        node_id: str,
        kind: str,
        key: str,
        detail: str,
        evidence: Sequence[Evidence],
        now: int,
    ) -> None:
        """Raise an alarm, or count one more of it and let it stand again; the evidence of the first
        time stays."""
        await transaction.run(
            "INSERT INTO alarm (node_id, kind, alarm_key, first_at, last_at, count, detail)"
            " VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (node_id, kind, alarm_key) DO UPDATE SET"
            " last_at = excluded.last_at, count = alarm.count + 1,"
            " ended_at = NULL, ended_by = NULL, reason = NULL",
            (node_id, kind, key, now, now, detail),
        )
        await transaction.run_many(
            "INSERT INTO evidence (node_id, kind, alarm_key, side, what, octets, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (node_id, kind, alarm_key, side, what) DO NOTHING",
            [(node_id, kind, key, each.side, each.what, each.octets, now) for each in evidence],
        )

    async def how_many(self, reading: Reading, node_id: str, kind: str, key: str) -> int:
        """How many alarms of a kind there are about a node, when this one is another; else 0."""
        row = await reading.one(
            "SELECT COUNT(*) AS n, MAX(CASE WHEN alarm_key = ? THEN 1 ELSE 0 END) AS is_known"
            " FROM alarm WHERE node_id = ? AND kind = ?",
            (key, node_id, kind),
        )
        return 0 if row is None or row["is_known"] else int(row["n"])

    async def end(
        self,
        transaction: HubTransaction,
        node_id: str,
        kind: str,
        key: str,
        by: str,
        reason: str,
        now: int,
    ) -> int:
        """End an alarm, if it is going on; how many that were."""
        return await transaction.run(
            "UPDATE alarm SET ended_at = ?, ended_by = ?, reason = ?"
            " WHERE node_id = ? AND kind = ? AND alarm_key = ? AND ended_at IS NULL",
            (now, by, reason, node_id, kind, key),
        )

    async def going_on(self) -> list[Row]:
        """All alarms that nobody has ended, newest first."""
        return await self.database.all(
            "SELECT * FROM alarm WHERE ended_at IS NULL ORDER BY last_at DESC, node_id, kind"
        )

    async def all_alarms(self, limit: int = 500) -> list[Row]:
        """The newest alarms."""
        return await self.database.all(
            "SELECT * FROM alarm ORDER BY last_at DESC, node_id, kind LIMIT ?", (limit,)
        )

    async def evidence(self, node_id: str, kind: str, key: str) -> list[Row]:
        """`side, what, octets, at` of an alarm."""
        return await self.database.all(
            "SELECT side, what, octets, at FROM evidence"
            " WHERE node_id = ? AND kind = ? AND alarm_key = ? ORDER BY side, what",
            (node_id, kind, key),
        )
