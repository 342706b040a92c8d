"""Retention at the hub: single sessions go when their months are over, the sums of days stay.

A record goes by when it came, which is never before it was made: a box whose clock stood in 1970
loses nothing by it. Its leaf stays, so the log can still be checked from end to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from portal.domain.ledger import Kind
from portal.hub.forgetting import forget, zone_of
from portal.store.db.either import HubTransaction, Row
from portal.store.hub import HubStore
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.store.hub_usage import HubUsageStore

GOES = (Kind.SESSION, Kind.SLICE, Kind.HEALTH)
"""Kinds that tell of single sessions, or of single hours."""
RECORDS_AT_ONCE = 2_000
"""In one transaction: nodes wait no longer than that."""
CLASS = "session records"
TABLES = ("record", "session_record", "event", "user_day", "user_month", "site_hour")
"""What is smaller afterwards."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted."""

    before: date
    records: int


def first_kept(now: int, months: int) -> date:
    """The first day whose sessions are kept: of the month so many whole months ago."""
    today = datetime.fromtimestamp(now, UTC).date()
    month = today.year * 12 + today.month - 1 - months
    return date(month // 12, month % 12 + 1, 1)


class Retention:
    """Deletes what is over."""

    def __init__(
        self, nodes: HubStore, ledger: HubLedgerStore, usage: HubUsageStore, *, months: int
    ):
        self._nodes = nodes
        self._ledger = ledger
        self._usage = usage
        self._months = months

    async def prune(self, now: int) -> Pruned:
        """Delete what is over, in small transactions, and record it; what is done stays done."""
        before = first_kept(now, self._months)
        # Zones are up to fourteen hours ahead of UTC: their first of the month is earlier.
        cut_at = int(datetime.combine(before, time(), UTC).timestamp()) - 14 * 3600
        count = 0
        for node in await self._nodes.nodes():
            for head in await self._ledger.heads(self._nodes.database, node["node_id"]):
                count += await self._prune_epoch(head, before, cut_at, now)
        return Pruned(before, count)

    async def _prune_epoch(self, head: HubHead, before: date, cut_at: int, now: int) -> int:
        count = 0
        while True:
            async with self._nodes.database.transaction() as transaction:
                await transaction.lock(f"node {head.node_id}")
                current = await self._ledger.head(transaction, head.node_id, head.epoch)
                if current is None:
                    return count
                came = await self._ledger.received_before(transaction, current, cut_at)
                first, stop = current.pruned_size, min(came, current.pruned_size + RECORDS_AT_ONCE)
                rows = await self._ledger.whole_records(transaction, current, first, stop)
                going = [row for row in rows if row["kind"] in GOES]
                await self._delete(transaction, current, going, before, now)
                if stop > first:
                    await self._ledger.set_pruned(transaction, current, stop)
            count += len(going)
            if stop >= came:
                return count

    async def _delete(
        self,
        transaction: HubTransaction,
        head: HubHead,
        rows: Sequence[Row],
        before: date,
        now: int,
    ) -> None:
        node_id = head.node_id
        month = before.year * 12 + before.month - 1
        await self._usage.delete_users_before(transaction, node_id, before.toordinal(), month)
        if not rows:
            return
        zones: dict[int, ZoneInfo] = {
            row["number"]: zone_of(row["zone"])
            for row in await self._usage.names(transaction, node_id)
            if row["what"] == "site"
        }
        await forget(transaction, self._ledger, self._usage, node_id, rows, zones)
        await self._usage.note_pruning(
            transaction, node_id, CLASS, now, before.toordinal(), len(rows)
        )
