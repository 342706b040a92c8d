"""Ingest: a node's records are verified and stored, or refused with what proves why.

One exchange is one transaction: the request counter, the records, the roll-ups, the checkpoint and
its cosignature, or none of them. A record is stored once, however often it is sent; what was
cosigned is never changed.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from portal.domain import merkle
from portal.domain.ledger import Kind, LedgerError, Record, decode, leaf
from portal.domain.merkle import Frontier
from portal.domain.note import NoteError
from portal.hub import checkpoints
from portal.hub.alarms import Alarm, Alarms
from portal.hub.checkpoints import CheckpointError, Cosigner, Seen
from portal.hub.documents import Documents
from portal.hub.epochs import Epochs
from portal.hub.sealed import Sealed
from portal.hub.usage import UsageKeeper
from portal.store.db.either import HubTransaction
from portal.store.hub import HubStore
from portal.store.hub_alarms import Evidence
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.wire import Answer, Exchange, Problem, WireError, pack_records, unpack_records

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An HTTP status and what the node is told."""

    status: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Batch:
    """What an exchange brings, read and found well-formed."""

    exchange: Exchange
    seen: Seen
    records: list[Record]
    pieces: list[tuple[bytes, bytes]]
    leaves: list[bytes]

    @property
    def first(self) -> int:
        """Sequence number of the first record."""
        return self.exchange.first

    @property
    def end(self) -> int:
        """Sequence number after the last record."""
        return self.exchange.first + len(self.records)


_STATUSES: dict[str | None, int] = {
    None: 200,
    Problem.BEHIND: 200,
    Problem.BODY: 422,
    Problem.FULL: 503,
}
"""The HTTP status of an answer with such a problem; of all others it is 409."""


class RefusedError(Exception):
    """The exchange changes nothing in the log; the alarms raised meanwhile are kept."""

    def __init__(
        self, problem: Problem, detail: str, size: int | None = None, lost: int | None = None
    ) -> None:
        super().__init__(detail)
        self.lost = lost
        """An earlier epoch that has to come first."""
        self.problem = problem
        self.size = size
        """Up to where both sides have the same, where that is less than the hub has."""


class Ingest:
    """Takes exchanges of nodes."""

    def __init__(
        self,
        nodes: HubStore,
        ledger: HubLedgerStore,
        usage: UsageKeeper,
        alarms: Alarms,
        documents: Documents,
        sealed: Sealed,
        cosigner: Cosigner,
    ):
        self._nodes = nodes
        self._ledger = ledger
        self._usage = usage
        self._alarms = alarms
        self._documents = documents
        self._sealed = sealed
        self._cosigner = cosigner
        self._epochs = Epochs(ledger, alarms, cosigner)
        self.on_taken: Callable[[int], None] = lambda count: None
        """Told how many records were new, after the commit."""

    async def take(
        self, node_id: str, counter: int | None, exchange: Exchange, now: int
    ) -> Outcome:
        """Take an exchange whose request signature is good.

        `counter` is None for one that came on a stick, where a repeat only brings what is known.
        Raises StoreUnavailableError when nothing can be stored now, WireError and CheckpointError
        for a body that no node of ours sends.
        """
        keys = await self._nodes.keys_of(self._nodes.database, node_id)
        batch = _read(exchange, node_id, keys)
        return await self._in_transaction(
            node_id, counter, now, lambda transaction: self._take(transaction, node_id, batch, now)
        )

    async def _in_transaction(
        self,
        node_id: str,
        counter: int | None,
        now: int,
        work: Callable[[HubTransaction], Awaitable[tuple[HubHead, Answer, int]]],
    ) -> Outcome:
        """Do `work` alone for this node, when the request is a new one."""
        taken = 0
        async with self._nodes.database.transaction() as transaction:
            await transaction.lock(f"node {node_id}")
            node = await self._nodes.node(transaction, node_id)
            if node is None or node["state"] != "active":
                return _of_state(None if node is None else str(node["state"]), now)
            if counter is not None and not await self._nodes.take_counter(
                transaction, node_id, counter, now
            ):
                return Outcome(
                    401,
                    Answer(
                        int(node["request_counter"]),
                        now_at=now,
                        problem=Problem.COUNTER,
                        detail="This request counter was used before.",
                    ),
                )
            _, answer, taken = await work(transaction)
        self.on_taken(taken)
        return Outcome(_STATUSES.get(answer.problem, 409), answer)

    async def _take(
        self, transaction: HubTransaction, node_id: str, batch: Batch, now: int
    ) -> tuple[HubHead, Answer, int]:
        exchange = batch.exchange
        head = await self._ledger.head(transaction, node_id, exchange.epoch)
        newest = await self._ledger.newest(transaction, node_id)
        if head is None:
            head = HubHead(node_id, exchange.epoch, Frontier())
        await self._documents.note_held(transaction, node_id, exchange, now)
        if exchange.delta is not None:
            await self._sealed.add_delta(transaction, node_id, exchange.delta, now)
        cosigned: str | None = None
        size_before = head.size
        problem: RefusedError | None = None
        try:
            if newest is not None and newest.epoch > exchange.epoch and batch.end > head.size:
                raise RefusedError(
                    Problem.EPOCH,
                    f"Epoch {exchange.epoch} is over: the hub knows epoch {newest.epoch}.",
                    await self._same(transaction, head, batch),
                )
            if await self._is_behind(transaction, head, batch, now):
                problem = RefusedError(
                    Problem.BEHIND,
                    f"The hub has {head.size} records and lost others; send your proof.",
                )
            else:
                cosigned = await self._extend(transaction, head, batch, now)
        except RefusedError as refused:
            problem = refused
            log.warning("exchange_refused node=%s problem=%s %s", node_id, refused.problem, refused)
            head = await self._ledger.head(transaction, node_id, exchange.epoch) or HubHead(
                node_id, exchange.epoch, Frontier()
            )
        proof = None
        if problem is not None:
            # A box goes on after the newest epoch, whichever of them it came with.
            proof = head.cosigned if newest is None else newest.cosigned
        answer = Answer(
            head.size if problem is None or problem.size is None else problem.size,
            # A node that has it already, and asks for news only, does not pay for it again.
            cosignature=None
            if cosigned is None or (not batch.records and exchange.acked_size == batch.end)
            else self._cosigner.line_of(cosigned),
            documents=await self._documents.wanted_by(transaction, node_id, exchange, now),
            now_at=now,
            backed_up_size=head.backed_up_size,
            backup_number=await self._sealed.number(transaction, node_id),
            wants_backup=await self._sealed.is_wanted(transaction, node_id, now),
            problem=None if problem is None else problem.problem,
            detail="" if problem is None else str(problem),
            head=proof,
            lost=None if problem is None else problem.lost,
        )
        return head, answer, head.size - size_before

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

    async def _is_behind(
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

    async def _extend(
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
        due = {}
        for what, signed in (("promise", head.promised), ("lost checkpoint", head.proven)):
            if signed is not None:
                checkpoint = checkpoints.read_cosigned(signed)[2]
                due[checkpoint.size] = (what, signed, checkpoint.root)
        for its_leaf in leaves:
            head.frontier.append(its_leaf)
            if head.size in due:
                what, signed, root = due[head.size]
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
            None,
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
        if not batch.records:
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


def _of_state(state: str | None, now: int) -> Outcome:
    """The answer to a node that may not report."""
    if state == "pending":
        return Outcome(
            202,
            Answer(
                0,
                now_at=now,
                problem=Problem.PENDING,
                detail="Nobody at the office has approved this node yet.",
            ),
        )
    if state == "revoked":
        detail = "The office has taken this node's right to report."
        return Outcome(410, Answer(0, problem=Problem.REVOKED, detail=detail))
    return Outcome(401, Answer(0, problem=Problem.UNKNOWN, detail="No such node."))


def _size_of(signed: str | None) -> int:
    return 0 if signed is None else checkpoints.read_cosigned(signed)[2].size


def _read(exchange: Exchange, node_id: str, keys: list[bytes]) -> Batch:
    """What an exchange brings. Raises WireError or CheckpointError for what makes no sense."""
    if exchange.version != 1:
        raise WireError(f"the exchange has version {exchange.version}; expected 1")
    if exchange.epoch < 0 or exchange.first < 0 or exchange.acked_size < 0:
        raise WireError("the exchange has a negative number; expected none")
    seen = checkpoints.read(exchange.checkpoint, node_id, exchange.epoch, keys)
    pieces = unpack_records(exchange.records)
    records = []
    for place, (public, _) in enumerate(pieces):
        seq = exchange.first + place
        try:
            record = decode(public)
        except LedgerError as error:
            raise WireError(f"record {seq} cannot be read: {error}") from error
        if record.seq != seq:
            raise WireError(f"a record has number {record.seq}; expected {seq}")
        if (record.kind == Kind.EPOCH) != (seq == 0):
            raise WireError(f"record {seq} is {record.kind.name}; expected EPOCH first and only")
        records.append(record)
    leaves = [leaf(public, c_loc) for public, c_loc in pieces]
    return Batch(exchange, seen, records, pieces, leaves)
