"""Proof: does the hub still have what it has cosigned, and do its sums follow from it.

For auditors and for the nightly look: everything is made anew from the stored octets, nothing is
believed that can be computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from portal.domain.merkle import Frontier
from portal.hub import checkpoints
from portal.hub.checkpoints import CheckpointError, Cosigner
from portal.hub.proof_of_rows import RowFault, RowsProof
from portal.hub.retention import first_kept
from portal.store.db.either import Row
from portal.store.hub import HubStore
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.store.hub_usage import HubUsageStore

_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something stored that is not what it should be."""

    node_id: str
    epoch: int
    what: str
    """One plain sentence."""


class Proof:
    """Checks what the hub has stored."""

    def __init__(
        self,
        nodes: HubStore,
        ledger: HubLedgerStore,
        usage: HubUsageStore,
        cosigner: Cosigner,
        *,
        months: int,
    ):
        """`months`: the retention of sessions, `[privacy] session_months`."""
        self._nodes = nodes
        self._ledger = ledger
        self._rows = RowsProof(ledger, usage)
        self._cosigner = cosigner
        self._database = nodes.database
        self._months = months

    def _first_day(self, now: int) -> int:
        # A month more: what came late is deleted by when it came.
        return first_kept(now, self._months - 1).toordinal()

    async def faults(self, node_id: str, now: int) -> list[Fault]:
        """Everything that is wrong with what the hub has of a node, the first of each kind."""
        found: list[Fault] = []
        keys = await self._nodes.all_keys_of(self._database, node_id)
        try:
            heads = await self._ledger.heads(self._database, node_id)
        except ValueError as error:
            return [Fault(node_id, -1, f"The stored head cannot be read: {error}.")]
        cosigned = await self._ledger.checkpoints(self._database, node_id)
        sizes = {head.epoch: head.size for head in heads}
        for row in cosigned:
            if row["size"] > sizes.get(row["epoch"], -1):
                what = f"This hub has cosigned {row['size']} records and no longer knows of them."
                found.append(Fault(node_id, row["epoch"], what))
                break
        for its_node, epoch, size in await self._ledger.sizes(self._database):
            if its_node == node_id and size != sizes[epoch]:
                what = f"The stored head says {size} records and is of another number."
                found.append(Fault(node_id, epoch, what))
        for head in heads:
            found += [Fault(node_id, head.epoch, what) for what in await self._of_log(head, keys)]
        count = await self._ledger.count_records(node_id)
        if count > sum(sizes.values()):
            found.append(Fault(node_id, -1, f"There are {count} records; fewer were cosigned."))
        try:
            await self._rows.check(node_id, heads, self._first_day(now))
        except RowFault as fault:
            found.append(Fault(node_id, -1, str(fault)))
        return found

    async def _of_log(self, head: HubHead, keys: Sequence[bytes]) -> list[str]:
        """The tree is made anew from records and leaves, and met with every cosigned checkpoint."""
        cosigned = {
            row["size"]: row
            for row in await self._ledger.checkpoints(self._database, head.node_id)
            if row["epoch"] == head.epoch
        }
        found = []
        frontier = Frontier()
        last = 0
        while frontier.size < head.size:
            first = frontier.size
            end = min(head.size, first + _AT_ONCE)
            leaves = await self._ledger.leaves(self._database, head.node_id, head.epoch, first, end)
            for its_leaf in leaves:
                frontier.append(its_leaf)
                signed = cosigned.get(frontier.size)
                if signed is not None:
                    what = self._of_checkpoint(signed, frontier, head, keys)
                    if what is not None:
                        return [
                            f"{what}; the first wrong record is one of {last} to"
                            f" {frontier.size - 1}."
                        ]
                    last = frontier.size
            if len(leaves) < end - first:
                return [
                    f"Records are missing: of {first} to {end - 1} only {len(leaves)} are there."
                ]
        if frontier.root() != head.frontier.root():
            found.append(f"The stored head has another root than the {head.size} records.")
        if head.size and head.size not in cosigned:
            found.append(f"There is no cosigned checkpoint of all {head.size} records.")
        return found

    def _of_checkpoint(
        self, row: Row, frontier: Frontier, head: HubHead, keys: Sequence[bytes]
    ) -> str | None:
        signed, size = str(row["note"]), frontier.size
        try:
            seen = checkpoints.read(signed, head.node_id, head.epoch, keys)
            signed_at = self._cosigner.signed_at(signed)
        except (CheckpointError, ValueError) as error:
            return f"The checkpoint of {size} records is not the node's ({str(error).rstrip('.')})"
        if signed_at is None:
            return f"The checkpoint of {size} records does not have this hub's cosignature"
        if signed_at != row["cosigned_at"]:
            return f"The checkpoint of {size} records was cosigned at another time than is noted"
        if seen.checkpoint.root != frontier.root() or seen.checkpoint.size != size:
            return f"The first {size} records have another root than the cosigned checkpoint"
        return None
