"""Epochs: what the first record of a node's new log says of the one before.

A node that was put back from an older disk, or whose box was replaced, begins a new epoch that
names the last checkpoint it knows. What the hub has beyond that the node has forgotten: the records
stay, and a person at the office looks at it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from portal.domain.ledger import Kind, Record
from portal.domain.note import NoteError
from portal.hub import checkpoints
from portal.hub.alarms import Alarm, Alarms
from portal.hub.checkpoints import CheckpointError, Cosigner
from portal.store.db.either import HubTransaction
from portal.store.hub_alarms import Evidence
from portal.store.hub_ledger import HubHead, HubLedgerStore


class Epochs:
    """Looks at the first record of an epoch."""

    def __init__(self, ledger: HubLedgerStore, alarms: Alarms, cosigner: Cosigner):
        self._ledger = ledger
        self._alarms = alarms
        self._cosigner = cosigner

    async def look_at(
        self, transaction: HubTransaction, head: HubHead, records: Sequence[Record], now: int
    ) -> int | None:
        """Note the parent of a new epoch in its head, and raise what does not fit.

        Returns the epoch before, when this hub has cosigned more of it than it has now.
        """
        if not records or records[0].kind != Kind.EPOCH:
            return None
        payload = records[0].payload
        parent = payload.get("parent") if isinstance(payload, Mapping) else None
        heads = await self._ledger.heads(transaction, head.node_id)
        before = [each for each in heads if each.epoch < head.epoch and each.size]
        if parent is None:
            if before:
                await self._rolled_back(transaction, head, before, None, None, now)
            return None
        found = self._own(parent)
        if found is None:
            await self._alarms.raise_alarm(
                transaction,
                head.node_id,
                Alarm.UNKNOWN_PARENT,
                str(head.epoch),
                f"Epoch {head.epoch} goes on from a checkpoint that this hub never cosigned.",
                [Evidence("node", "parent", str(parent).encode())],
                now,
            )
            return None
        head.parent_node, head.parent_epoch, head.parent_size = found
        # The box that was replaced may have sent more than the office could bring back.
        if head.parent_node != head.node_id:
            heads = await self._ledger.heads(transaction, head.parent_node)
            before = [each for each in heads if each.size]
        await self._rolled_back(transaction, head, before, found, str(parent), now)
        return await self._lost(transaction, head, before, str(parent), now)

    async def _lost(
        self,
        transaction: HubTransaction,
        head: HubHead,
        before: Sequence[HubHead],
        parent: str,
        now: int,
    ) -> int | None:
        """The parent's epoch, when the hub lacks records of it that it has cosigned."""
        epoch, size = head.parent_epoch, head.parent_size
        if epoch is None or size is None or head.parent_node is None:
            return None
        has = sum(each.size for each in before if each.epoch == epoch)
        if has >= size:
            return None
        await self._alarms.raise_alarm(
            transaction,
            head.parent_node,
            Alarm.HUB_LOST_DATA,
            f"{epoch}/{has}",
            f"The hub had cosigned {size} records of epoch {epoch} and has {has}; it asks the node"
            " for the others.",
            [Evidence("hub", "lost checkpoint", parent.encode())],
            now,
        )
        return epoch if head.parent_node == head.node_id else None

    def _own(self, parent: Any) -> tuple[str, int, int] | None:
        """(node, epoch, size) of a note that this hub has cosigned, None for any other."""
        if not isinstance(parent, str):
            return None
        try:
            node_id, epoch, checkpoint = checkpoints.read_cosigned(parent)
            is_own = self._cosigner.is_own(parent)
        except (CheckpointError, NoteError):
            return None
        return (node_id, epoch, checkpoint.size) if is_own else None

    async def _rolled_back(
        self,
        transaction: HubTransaction,
        head: HubHead,
        before: Sequence[HubHead],
        parent: tuple[str, int, int] | None,
        parent_note: str | None,
        now: int,
    ) -> None:
        """Raise an alarm when the hub has records that the new epoch does not go on from."""
        since = (-1, 0) if parent is None else parent[1:]
        forgotten = [
            (each, since[1] if each.epoch == since[0] else 0)
            for each in before
            if (each.epoch, each.size) > since
        ]
        if not forgotten:
            return
        told = ", ".join(
            f"{size} to {each.size - 1} of epoch {each.epoch}" for each, size in forgotten
        )
        evidence = [
            Evidence("hub", f"checkpoint of epoch {each.epoch}", each.cosigned.encode())
            for each, _ in forgotten
            if each.cosigned is not None
        ]
        if parent_note is not None:
            evidence.append(Evidence("node", "parent", parent_note.encode()))
        await self._alarms.raise_alarm(
            transaction,
            head.node_id,
            Alarm.ROLLED_BACK,
            f"epoch {head.epoch}",
            f"Epoch {head.epoch} was begun without records {told}, which the hub has:"
            " an older disk was put back, or the box was replaced.",
            evidence,
            now,
        )
