"""Sealed state at the hub: what the office needs to bring a lost box back, and cannot read itself.

One backup for each node, the newest, and the balances that changed since it was made.
"""

from portal.store.db.either import HubTransaction, Reading
from portal.store.hub import HubStore
from portal.store.hub_ledger import HubLedgerStore
from portal.store.hub_sealed import BACKUP, DELTA, SealedStore
from portal.wire import Backup, Delta, Recovery

MOST_DELTA_OCTETS = 100_000
MOST_DELTAS_OCTETS = 32_000_000
"""Of all deltas of a node since its backup; a month of the largest."""
BACKUP_WANTED_AFTER_OCTETS = 8_000_000
BACKUP_WANTED_AFTER_S = 40 * 3600


class Sealed:
    """Keeps backups and deltas."""

    def __init__(self, store: SealedStore, nodes: HubStore, ledger: HubLedgerStore):
        self._store = store
        self._nodes = nodes
        self._ledger = ledger

    async def add_delta(
        self, transaction: HubTransaction, node_id: str, delta: Delta, now: int
    ) -> None:
        """Keep changed balances; what the backup has already, or is too long, is left."""
        backup = await self._store.backup_standing(transaction, node_id)
        if delta.number <= (0 if backup is None else backup["number"]):
            return
        if len(delta.octets) > MOST_DELTA_OCTETS:
            return
        kept = await self._store.delta_octets(transaction, node_id)
        if kept + len(delta.octets) <= MOST_DELTAS_OCTETS:
            await self._store.put(transaction, node_id, DELTA, delta.number, delta.octets, now)

    async def put_backup(
        self, transaction: HubTransaction, node_id: str, backup: Backup, now: int
    ) -> None:
        """Keep a backup instead of the one before it and of the deltas it contains."""
        await self._store.delete(transaction, node_id, [(BACKUP, 2**62), (DELTA, backup.number)])
        await self._store.put(transaction, node_id, BACKUP, backup.number, backup.sealed, now)

    async def number(self, reading: Reading, node_id: str) -> int:
        """The delta number up to which the backup goes; 0 without one."""
        backup = await self._store.backup_standing(reading, node_id)
        return 0 if backup is None else int(backup["number"])

    async def is_wanted(self, reading: Reading, node_id: str, now: int) -> bool:
        """Whether a node should send a backup: there is none, an old one, or much has changed."""
        backup = await self._store.backup_standing(reading, node_id)
        if backup is None or now - backup["received_at"] > BACKUP_WANTED_AFTER_S:
            return True
        octets = await self._store.delta_octets(reading, node_id)
        return octets > BACKUP_WANTED_AFTER_OCTETS

    async def recovery(self, reading: Reading, node_id: str) -> Recovery:
        """What a box gets that takes the place of another, or has lost its own disk."""
        node = await self._nodes.node(reading, node_id)
        source = node_id
        if node is not None and node["replaces"] is not None:
            source = str(node["replaces"])
        backup = await self._store.backup(reading, source)
        newest = await self._ledger.newest(reading, source)
        number = 0 if backup is None else int(backup["number"])
        return Recovery(
            None if backup is None else Backup(number, bytes(backup["octets"])),
            [
                Delta(row["number"], bytes(row["octets"]))
                for row in await self._store.deltas(reading, source)
                if row["number"] > number
            ],
            None if newest is None else newest.cosigned,
            0 if newest is None else newest.epoch + 1,
        )
