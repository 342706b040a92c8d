"""Forgetting single records at the hub, for retention and for a person's erasure."""

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from portal.domain.ledger import Kind, decode
from portal.hub.rollups import day_and_month
from portal.store.db.either import HubTransaction, Row
from portal.store.hub_ledger import HubLedgerStore
from portal.store.hub_usage import HubUsageStore

DEFAULT_ZONE = ZoneInfo("Asia/Jakarta")
"""Of a site whose zone nobody told yet; half of Indonesia's villages are in it."""

FORGOTTEN = "forgotten"
"""The fact that says whether deleted rows may still stand in the database's files."""


def zone_of(name: str) -> ZoneInfo:
    """A zone by its name; the default for a name that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return DEFAULT_ZONE


async def forget(
    transaction: HubTransaction,
    ledger: HubLedgerStore,
    usage: HubUsageStore,
    node_id: str,
    rows: Sequence[Row],
    zones: Mapping[int, ZoneInfo],
) -> None:
    """Replace records (`epoch, seq, public, c_loc`, in order) by their leaves, and delete what they
    were taken apart into."""
    sessions, events = [], []
    for row in rows:
        record = decode(bytes(row["public"]))
        if record.kind in (Kind.SESSION, Kind.SLICE):
            zone = zones.get(record.site, DEFAULT_ZONE)
            day, _ = day_and_month(record.at, zone)
            sessions.append((day, row["epoch"], row["seq"]))
        else:
            events.append((int(record.kind), record.at, row["epoch"], row["seq"]))
    await ledger.replace_by_leaves(transaction, node_id, rows)
    await usage.delete_sessions(transaction, node_id, sessions)
    await usage.delete_events(transaction, node_id, events)
