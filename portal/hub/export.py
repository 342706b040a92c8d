"""Export at the hub: what it has of one node's log, as a file that proves itself.

In the format of portal/domain/ledger_file.py, so what verifies a node's own file verifies the hub's
copy of it, on another machine and without this hub. Rows are written as they stand and nothing is
put right; the hub signs nothing anew.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from portal.domain import ledger_file, note
from portal.domain.ledger import node_key_name
from portal.errors import UserError
from portal.store.db.either import Row
from portal.store.hub import HubStore
from portal.store.hub_ledger import HubHead, HubLedgerStore, leaf_of, octets

PAGE = 2_000
"""Records read at once: a few hundred kB."""


class LedgerExport:
    """Writes logs out."""

    def __init__(self, nodes: HubStore, ledger: HubLedgerStore, cosigner: note.Key):
        self._nodes = nodes
        self._ledger = ledger
        self._cosigner = cosigner

    async def keys(self, node_id: str) -> list[note.Key]:
        """The keys that prove a node's log: all of the node's, and the one of this hub."""
        name = node_key_name(node_id)
        public = await self._nodes.all_keys_of(self._nodes.database, node_id)
        return [*(note.Key(name, note.ED25519, each) for each in public), self._cosigner]

    async def write(self, node_id: str, target: Path) -> int:
        """Write a node's log to `target`, which must not exist; how many records it has.

        Raises UserError when the hub has no record of it, OSError when the file cannot be written.
        """
        database = self._nodes.database
        heads = [head for head in await self._ledger.heads(database, node_id) if head.size]
        if not heads:
            raise UserError(f"The hub has no record of the box {node_id}.")
        checkpoints = await self._ledger.checkpoints(database, node_id)
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(ledger_file.head_line(node_id, has_personal=False))
            for key in await self.keys(node_id):
                file.write(ledger_file.key_line(key))
            for head in heads:
                await self._write_epoch(file, head, checkpoints)
            total = sum(head.size for head in heads)
            # Read after the records: retention goes on meanwhile.
            now = await self._ledger.heads(database, node_id)
            dropped = {head.epoch: head.pruned_size for head in now}
            file.write(ledger_file.end_line(total, dropped))
        return total

    async def _write_epoch(self, file: TextIO, head: HubHead, checkpoints: Sequence[Row]) -> None:
        notes = {row["size"]: str(row["note"]) for row in checkpoints if row["epoch"] == head.epoch}
        file.write(ledger_file.epoch_line(head.epoch))
        for first in range(0, head.size, PAGE):
            end = min(head.size, first + PAGE)
            place = (self._nodes.database, head.node_id, head.epoch, first, end)
            whole = {row["seq"]: row for row in await self._ledger.records(*place)}
            pruned = await self._ledger.pruned_leaves(*place) if len(whole) < end - first else {}
            for seq in range(first, end):
                # A record that was taken away leaves no line, and the verifier names it.
                if seq in whole:
                    public, c_loc = octets(whole[seq]["public"]), octets(whole[seq]["c_loc"])
                    its_leaf = leaf_of(whole[seq])
                    file.write(ledger_file.record_line(seq, its_leaf, public, c_loc))
                elif seq in pruned:
                    file.write(ledger_file.record_line(seq, pruned[seq], None, None))
                if seq + 1 in notes:
                    file.write(ledger_file.checkpoint_line(notes[seq + 1]))
        for size in sorted(size for size in notes if size > head.size):
            # Cosigned over records that are no longer here: the verifier says so.
            file.write(ledger_file.checkpoint_line(notes[size]))
