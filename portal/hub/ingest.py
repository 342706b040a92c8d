"""Ingest: a node's records are verified and stored, or refused with what proves why.

One exchange is one transaction: the request counter, the records, the roll-ups, the checkpoint and
its cosignature, or none of them. A record is stored once, however often it is sent; what was
cosigned is never changed.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from portal.domain.merkle import Frontier
from portal.hub import batches
from portal.hub.alarms import Alarms
from portal.hub.batches import Batch, RefusedError
from portal.hub.checkpoints import Cosigner
from portal.hub.documents import Documents
from portal.hub.node_logs import NodeLogs
from portal.hub.sealed import Sealed
from portal.hub.usage import UsageKeeper
from portal.store.db.either import HubTransaction
from portal.store.hub import HubStore
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.wire import Answer, Exchange, Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An HTTP status and what the node is told."""

    status: int
    answer: Answer


_STATUSES: dict[str | None, int] = {
    None: 200,
    Problem.BEHIND: 200,
    Problem.BODY: 422,
    Problem.FULL: 503,
}
"""The HTTP status of an answer with such a problem; of all others it is 409."""


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
        self._documents = documents
        self._sealed = sealed
        self._cosigner = cosigner
        self._logs = NodeLogs(ledger, usage, alarms, cosigner)
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
        batch = batches.read(exchange, node_id, keys, is_repeatable=counter is None)
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
                await self._logs.refuse_over(transaction, head, newest, batch, now)
            if await self._logs.is_behind(transaction, head, batch, now):
                problem = RefusedError(
                    Problem.BEHIND,
                    f"The hub has {head.size} records and lost others; send your proof.",
                )
            else:
                cosigned = await self._logs.extend(transaction, head, batch, now)
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
