"""Nodes' logs at the hub: extended by what fits, or refused with what both sides signed.

Everything happens in the caller's transaction, which is alone for this node. What was cosigned is
never changed; a refusal changes nothing but alarms.
"""

from portal.domain import merkle
from portal.domain.note import NoteError
from portal.hub import checkpoints
from portal.hub.alarms import Alarm, Alarms
from portal.hub.batches import Batch, RefusedError
from portal.hub.checkpoints import CheckpointError, Cosigner, Seen
from portal.hub.epochs import Epochs
from portal.hub.usage import UsageKeeper
from portal.store.db.either import HubTransaction
from portal.store.hub_alarms import Evidence
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.wire import Problem, pack_records


class NodeLogs:
    """Verifies and stores."""

    def __init__(
        self,
        ledger: HubLedgerStore,
        usage: UsageKeeper,
        alarms: Alarms,
        cosigner: Cosigner,
    ):
        self._ledger = ledger
        self._usage = usage
        self._alarms = alarms
        self._cosigner = cosigner
        self._epochs = Epochs(ledger, alarms, cosigner)

    # --- an epoch that is over

    async def refuse_over(
        self, transaction: HubTransaction, head: HubHead, newest: HubHead, batch: Batch, now: int
    ) -> None:
        """Refuse new records of an epoch before the newest: an older disk, or a second box with a
        copy of it, that goes on where another has gone on already."""
        detail = f"Epoch {head.epoch} is over: the hub knows epoch {newest.epoch}."
        evidence = [Evidence("node", "checkpoint", batch.seen.signed.encode())]
        if newest.cosigned is not None:
            evidence.append(Evidence("hub", "checkpoint", newest.cosigned.encode()))
        await self._alarms.raise_alarm(
            transaction,
            head.node_id,
            Alarm.ROLLED_BACK,
            f"{head.epoch}/over",
            f"{detail} An older disk was put back, or a copy of the box runs.",
            evidence,
            now,
        )
        raise RefusedError(Problem.EPOCH, detail, await self._same(transaction, head, batch))

    async def _same(self, transaction: HubTransaction, head: HubHead, batch: Batch) -> int:
        """Up to where the batch has the records that the hub has."""
        end = min(head.size, batch.end)
        if end <= batch.first:
            return head.size
        known = await self._ledger.leaves(transaction, head.node_id, head.epoch, batch.first, end)
        same = 0
        for ours, theirs in zip(known, batch.leaves, strict=False):
            if ours != theirs:
                break
            same += 1
        return batch.first + same

    # --- a hub that has lost records

    async def is_behind(
        self, transaction: HubTransaction, head: HubHead, batch: Batch, now: int
    ) -> bool:
        """Whether the node says that we cosigned more than we have, and has not proven it yet."""
        exchange = batch.exchange
        if exchange.acked_size <= max(head.size, _size_of(head.proven)):
            return False
        if exchange.proof is None:
            return True
        try:
            node_id, epoch, lost = checkpoints.read_cosigned(exchange.proof)
            is_own = self._cosigner.is_own(exchange.proof)
        except (CheckpointError, NoteError):
            is_own = False
        if not is_own or (node_id, epoch) != (head.node_id, head.epoch):
            raise RefusedError(
                Problem.BODY, "The proof is no checkpoint of this log with this hub's cosignature."
            )
        if lost.size <= head.size:
            return False
        head.proven = exchange.proof
        await self._ledger.save_head(transaction, head, now)
        evidence = [Evidence("hub", "lost checkpoint", exchange.proof.encode())]
        if head.cosigned is not None:
            evidence.append(Evidence("hub", "checkpoint", head.cosigned.encode()))
        await self._alarms.raise_alarm(
            transaction,
            head.node_id,
            Alarm.HUB_LOST_DATA,
            f"{head.epoch}/{head.size}",
            f"The hub had cosigned {lost.size} records of epoch {head.epoch} and has {head.size};"
            " it takes the others again from the node.",
            evidence,
            now,
        )
        return False

    # --- the log

    async def extend(
        self,
        transaction: HubTransaction,
        head: HubHead,
        batch: Batch,
        now: int,
    ) -> str | None:
        """Verify and store; the cosigned note of the node's checkpoint, None for a promise."""
        if batch.first > head.size:
            await self._gap(transaction, head, batch, now)
        overlap = min(head.size, batch.end) - batch.first
        if overlap > 0:
            await self._compare(transaction, head, batch, overlap, now)
        size = batch.seen.checkpoint.size
        if not batch.records and size > head.size:
            await self._promise(transaction, head, batch, now)
            return None
        if batch.records and size != batch.end:
            raise RefusedError(
                Problem.BODY,
                f"The checkpoint is of {size} records and the batch ends at {batch.end}.",
            )
        if size < head.size:
            return await self._older(transaction, head, batch, now)
        new = batch.leaves[max(0, overlap) :]
        await self._append(transaction, head, batch, new, now)
        if head.frontier.root() != batch.seen.checkpoint.root:
            await self._fork(
                transaction,
                head,
                batch,
                f"root/{size}/{batch.seen.checkpoint.root.hex()[:16]}",
                f"The node signed another root for {size} records than the records have.",
                now,
            )
        if new:
            lost = await self._epochs.look_at(transaction, head, batch.records[-len(new) :], now)
            if lost is not None and not batch.exchange.is_all:
                raise RefusedError(
                    Problem.BEHIND,
                    f"The hub has lost records of epoch {lost}; send them first.",
                    lost=lost,
                )
            await self._store(transaction, head, batch, len(new), now)
        elif size == 0:
            return None
        else:
            known = await self._ledger.checkpoint(transaction, head.node_id, head.epoch, size)
            if known is not None:
                return known
        return await self._cosign(transaction, head, batch.seen, now)

    async def _append(
        self,
        transaction: HubTransaction,
        head: HubHead,
        batch: Batch,
        leaves: list[bytes],
        now: int,
    ) -> None:
        """Extend the frontier; what was promised, or cosigned and lost, must come true."""
        due: dict[int, list[tuple[str, str, bytes]]] = {}
        for what, signed in (("promise", head.promised), ("lost checkpoint", head.proven)):
            if signed is not None:
                checkpoint = checkpoints.read_cosigned(signed)[2]
                due.setdefault(checkpoint.size, []).append((what, signed, checkpoint.root))
        for its_leaf in leaves:
            head.frontier.append(its_leaf)
            for what, signed, root in due.get(head.size, ()):
                if head.frontier.root() != root:
                    await self._fork(
                        transaction,
                        head,
                        batch,
                        f"{what}/{head.size}",
                        f"The records up to {head.size} are others than the {what} says.",
                        now,
                        [Evidence("node", what, signed.encode())],
                    )
        if head.size >= _size_of(head.promised):
            head.promised = None
        if head.size >= _size_of(head.proven):
            head.proven = None

    async def _store(
        self, transaction: HubTransaction, head: HubHead, batch: Batch, count: int, now: int
    ) -> None:
        records, pieces = batch.records[-count:], batch.pieces[-count:]
        await self._ledger.add_records(
            transaction,
            head.node_id,
            head.epoch,
            [
                (record.seq, int(record.kind), record.at, record.site, public, c_loc)
                for record, (public, c_loc) in zip(records, pieces, strict=True)
            ],
        )
        await self._usage.take(transaction, head, records, now)
        head.newest_at = records[-1].at
        await self._alarms.store.end(
            transaction,
            head.node_id,
            Alarm.GAP,
            f"{head.epoch}/{head.size - count}",
            "hub",
            "The missing records have come.",
            now,
        )

    async def _cosign(
        self, transaction: HubTransaction, head: HubHead, seen: Seen, now: int
    ) -> str:
        cosigned = self._cosigner.cosign(seen, now)
        size = seen.checkpoint.size
        await self._ledger.add_checkpoint(transaction, head, size, cosigned, now)
        if size == head.size:
            head.cosigned = cosigned
            await self._ledger.save_head(transaction, head, now)
        return cosigned

    # --- what does not fit

    async def _gap(
        self, transaction: HubTransaction, head: HubHead, batch: Batch, now: int
    ) -> None:
        detail = f"Records {head.size} to {batch.first - 1} of epoch {head.epoch} are missing."
        if head.proven is None:
            evidence = [Evidence("node", "checkpoint", batch.seen.signed.encode())]
            if head.cosigned is not None:
                evidence.append(Evidence("hub", "checkpoint", head.cosigned.encode()))
            await self._alarms.raise_alarm(
                transaction,
                head.node_id,
                Alarm.GAP,
                f"{head.epoch}/{head.size}",
                detail,
                evidence,
                now,
            )
        raise RefusedError(Problem.GAP, detail)

    async def _compare(
        self, transaction: HubTransaction, head: HubHead, batch: Batch, overlap: int, now: int
    ) -> None:
        """Absorb what is known; raise for other records at known places."""
        first = batch.first
        known = await self._ledger.leaves(
            transaction, head.node_id, head.epoch, first, first + overlap
        )
        if len(known) < overlap:
            await self._damaged(transaction, head, f"records from {first} on are missing", now)
        for place, ours in enumerate(known[:overlap]):
            if ours == batch.leaves[place]:
                continue
            seq = first + place
            stored = await self._ledger.records(transaction, head.node_id, head.epoch, seq, seq + 1)
            await self._fork(
                transaction,
                head,
                batch,
                f"{head.epoch}/{seq}",
                f"Record {seq} of epoch {head.epoch} is another than the hub has.",
                now,
                [
                    Evidence("node", "record", pack_records([batch.pieces[place]])),
                    *(
                        Evidence("hub", "record", pack_records([(row["public"], row["c_loc"])]))
                        for row in stored
                    ),
                ],
                seq,
            )

    async def _older(
        self, transaction: HubTransaction, head: HubHead, batch: Batch, now: int
    ) -> str:
        """A checkpoint of fewer records than the hub has: a repeat, or a node that was put back."""
        seen = batch.seen
        size = seen.checkpoint.size
        known = await self._ledger.checkpoint(transaction, head.node_id, head.epoch, size)
        if known is not None:
            root = checkpoints.read_cosigned(known)[2].root
        else:
            leaves = await self._ledger.leaves(transaction, head.node_id, head.epoch, 0, size)
            if len(leaves) < size:
                await self._damaged(transaction, head, f"records below {size} are missing", now)
            root = merkle.root(leaves)
        if root != seen.checkpoint.root:
            await self._fork(
                transaction,
                head,
                batch,
                f"root/{size}/{seen.checkpoint.root.hex()[:16]}",
                f"The node signed another root for {size} records than it had sent.",
                now,
            )
        if not batch.records and not batch.is_repeatable:
            # Without records the checkpoint is of the node's whole log.
            detail = (
                f"The node has {size} records of epoch {head.epoch} and had sent {head.size}:"
                " an older disk was put back."
            )
            evidence = [Evidence("node", "checkpoint", seen.signed.encode())]
            if head.cosigned is not None:
                evidence.append(Evidence("hub", "checkpoint", head.cosigned.encode()))
            await self._alarms.raise_alarm(
                transaction,
                head.node_id,
                Alarm.ROLLED_BACK,
                f"{head.epoch}/{size}",
                detail,
                evidence,
                now,
            )
            raise RefusedError(Problem.ROLLED_BACK, detail)
        return known or await self._cosign(transaction, head, seen, now)

    async def _promise(
        self, transaction: HubTransaction, head: HubHead, batch: Batch, now: int
    ) -> None:
        """Keep a checkpoint of records that have not come yet: they cannot be others any more."""
        seen = batch.seen
        if head.promised is not None:
            promised = checkpoints.read_cosigned(head.promised)[2]
            if promised.size == seen.checkpoint.size and promised.root != seen.checkpoint.root:
                await self._fork(
                    transaction,
                    head,
                    batch,
                    f"promise/{promised.size}",
                    f"The node signed two roots for {promised.size} records.",
                    now,
                    [Evidence("node", "promise", head.promised.encode())],
                )
            if promised.size >= seen.checkpoint.size:
                return
        head.promised = seen.signed
        await self._ledger.save_head(transaction, head, now)

    async def _fork(
        self,
        transaction: HubTransaction,
        head: HubHead,
        batch: Batch,
        key: str,
        detail: str,
        now: int,
        evidence: list[Evidence] | None = None,
        same: int | None = None,
    ) -> None:
        """Raise the alarm with both sides, and refuse."""
        both = [Evidence("node", "checkpoint", batch.seen.signed.encode()), *(evidence or ())]
        if head.cosigned is not None:
            both.append(Evidence("hub", "checkpoint", head.cosigned.encode()))
        await self._alarms.raise_alarm(
            transaction, head.node_id, Alarm.FORK, key, detail, both, now
        )
        raise RefusedError(Problem.FORK, detail, same)

    async def _damaged(
        self, transaction: HubTransaction, head: HubHead, what: str, now: int
    ) -> None:
        detail = f"In the hub's own table of epoch {head.epoch} {what}."
        evidence = []
        if head.cosigned is not None:
            evidence.append(Evidence("hub", "checkpoint", head.cosigned.encode()))
        await self._alarms.raise_alarm(
            transaction,
            head.node_id,
            Alarm.HUB_DAMAGED,
            f"{head.epoch}/{head.size}",
            detail,
            evidence,
            now,
        )
        raise RefusedError(Problem.FULL, detail)


def _size_of(signed: str | None) -> int:
    return 0 if signed is None else checkpoints.read_cosigned(signed)[2].size
