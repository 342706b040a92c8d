"""The SQL of what gateways were asked to do, and what they answered (RFC 5176).

Rows are written with the group commit (`Batch.actions`); here they are read and forgotten.
"""

from portal.store.db import Database, Row
from portal.store.ledger import Rule

_ACTION = (
    "SELECT a.id, a.at, a.gateway_id, a.site_id, a.session_id, a.kind, a.why, a.asked_by, a.sent,"
    " a.answer, a.answered_at, a.error_cause, a.round_trip_ms, s.mac, s.voucher_id, v.serial"
    " FROM gateway_action a LEFT JOIN session s ON s.id = a.session_id"
    " LEFT JOIN voucher v ON v.id = s.voucher_id"
)


class ActionStore:
    """Reads actions, newest first."""

    def __init__(self, database: Database):
        self._database = database

    def next_id(self) -> int:
        """The first id that no action has."""
        row = self._database.one("SELECT MAX(id) AS last FROM gateway_action")
        return 1 if row is None or row["last"] is None else int(row["last"]) + 1

    def wanted_disconnects(self, since_at: int) -> list[int]:
        """Open sessions whose end was asked for since a moment; at the start of the node only."""
        rows = self._database.all(
            "SELECT DISTINCT a.session_id FROM gateway_action a JOIN session s"
            " ON s.id = a.session_id WHERE a.at >= ? AND a.kind = 'disconnect'"
            " AND s.ended_at IS NULL",
            (since_at,),
        )
        return [row["session_id"] for row in rows]

    async def action(self, action_id: int) -> Row | None:
        """One action with the phone and card of its session, None when there is none."""
        rows = await self._database.all_slowly(f"{_ACTION} WHERE a.id = ?", (action_id,))
        return rows[0] if rows else None

    async def of_gateway(self, gateway_id: int, limit: int) -> list[Row]:
        """What a gateway was asked last, newest first."""
        return await self._database.all_slowly(
            f"{_ACTION} WHERE a.gateway_id = ? ORDER BY a.id DESC LIMIT ?", (gateway_id, limit)
        )

    async def forget_before(self, rule: Rule) -> int:
        """Drop what was asked before a moment; return how many rows."""
        async with self._database.transaction() as transaction:
            gone = await transaction.run(
                "DELETE FROM gateway_action WHERE at < ?", (rule.before_at,)
            )
            if gone:
                transaction.append(rule.erased("gateway actions", gone))
            return gone
