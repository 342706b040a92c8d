"""Sync: the node's way to its hub, exchange after exchange, whatever the link does.

What to send and what an answer means is decided in portal/domain/exchange.py; here are the records,
the signatures, the disk and the waiting. An exchange that dies anywhere is begun again: the hub
absorbs what it has, and nothing is noted here before the hub has signed for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from portal import wire
from portal.domain import exchange, ledger, merkle
from portal.domain.exchange import Answered, Sent, State, Then
from portal.ledger import ROLLED_BACK, Ledger
from portal.policy import Policy
from portal.store.sync import SyncStore
from portal.sync.client import HubClient, Reply, Unreachable
from portal.sync.log import Log, SentLog
from portal.sync.sealed_state import SealedState, Told, TooMuch
from portal.sync.trust import HubTrust

log = logging.getLogger(__name__)

WATCH_INTERVAL_S: Final = 300
WATCH_S: Final = 2 * 3600
"""How long somebody watches before the usual interval is back: a forgotten switch costs money."""
LOOK_EVERY_S: Final = 60.0
REPORT_S: Final = 3.0
"""After documents have come: so soon the hub is told what became of them."""
BACKUP_EVERY_S: Final = 20 * 3600
BACKUP_RETRY_S: Final = 2 * 3600
BACKUP_HOURS: Final = range(0, 5)
"""Of the day where the first site is: the night's data is the cheapest where there is a tariff."""
MOST_EXCHANGES: Final = 2000
"""In one round: a million records. A hub that keeps a node busy for ever is left alone."""
MOST_BESIDE_BALANCES: Final = 20
"""Records: with more of them balances go in an exchange of their own over the same connection, so
that a batch of records costs what records cost."""
JITTER: Final = 0.1
"""Of the interval, either way: a hundred villages after a power cut must not call together."""


class Clock(Protocol):
    """What an exchange must know of time."""

    def now(self) -> int:
        """The node's time, epoch s."""

    def elapsed_s(self) -> float:
        """Seconds that nobody can set."""

    def is_doubtful(self) -> bool:
        """Whether the time may be far off."""

    def hour(self) -> int:
        """The hour of the day at the first site."""


_NOT_ABOUT_THE_LOG: Final = (
    wire.Problem.BEHIND,
    wire.Problem.GAP,
    wire.Problem.PENDING,
    wire.Problem.UNKNOWN,
    wire.Problem.COUNTER,
    wire.Problem.REVOKED,
    wire.Problem.FULL,
)


@dataclass(slots=True)
class Outcome:
    """How a round of exchanges went, for who asked for it."""

    exchanges: int = 0
    records: int = 0
    documents: int = 0
    then: Then | None = None
    sentence: str = ""
    """What went wrong, in English; empty when nothing did."""


class Sync:
    """The exchange of one node with its hub."""

    def __init__(
        self,
        store: SyncStore,
        ledger: Ledger,
        policy: Policy,
        sealed: SealedState,
        clock: Clock,
        *,
        trust: Callable[[], HubTrust | None],
        proxy: str | None,
        interval_s: int,
        throw: Callable[[], float],
        first_session_id: Callable[[], int],
        client: Callable[..., HubClient] = HubClient,
    ):
        """`throw`: a random number, 0 to 1. `first_session_id`: of this run of the node."""
        self._store = store
        self._ledger = ledger
        self._log = SentLog(ledger)
        self._is_all = False
        self._policy = policy
        self._sealed = sealed
        self._clock = clock
        self._trust = trust
        self._proxy = proxy
        self._interval_s = interval_s
        self._throw = throw
        self._first_session_id = first_session_id
        self._make_client = client
        self._numbers = store.numbers()
        self._client: tuple[HubTrust, HubClient] | None = None
        self._epoch = -1
        self._state = State(0, 0)
        self._opened_s: float | None = None
        self._is_backup_wanted = False
        self._backup_tried_s = float("-inf")
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()
        self._due_s = float("-inf")
        self._failed_at: int | None = None
        self._clock_off_s: int | None = None
        self._sentence = ""
        self.running = False
        """Whether an exchange is under way."""
        self.on_round: Callable[[bool], None] = lambda is_answered: None
        """Told after each round whether the hub answered."""

    # -- for people ------------------------------------------------------------------------

    @property
    def is_enrolled(self) -> bool:
        """Whether this node has a hub."""
        return self._trust() is not None

    @property
    def standing(self) -> exchange.Standing:
        """How the last exchange left the node with its hub."""
        return self._state.standing

    @property
    def is_refused(self) -> bool:
        """Whether the hub takes nothing from this box until somebody at the office acts."""
        return self.is_enrolled and self._state.standing in exchange.REFUSED_STANDINGS

    def status(self) -> dict[str, Any]:
        """How the node stands with its hub."""
        trust, head = self._trust(), self._ledger.store.head()
        acked = self._ledger.store.acked()
        size = 0 if head is None else head.size
        return {
            "hub": None if trust is None else trust.url,
            "standing": self._state.standing if trust is not None else "none",
            "epoch": 0 if head is None else head.epoch,
            "size": size,
            "acked": acked.size,
            "waiting": size - acked.size,
            "backed_up": acked.backed_up,
            "exchanged_at": self._numbers.get("exchanged_at"),
            "failed_at": self._failed_at,
            "problem": self._sentence,
            "watch_until_at": self.watch_until_at,
            "balances_at": self._numbers.get("delta_at"),
            "backup_at": self._numbers.get("backup_at"),
            "running": self.running,
            "documents": self._policy.shown(),
            "clock_off_s": self._clock_off_s,
            "evidence": len(self._store.evidence()),
        }

    @property
    def watch_until_at(self) -> int | None:
        """Until when the node exchanges every five minutes, None where it does not."""
        until_at = self._numbers.get("watch_until_at", 0)
        return until_at if until_at > self._clock.now() else None

    async def watch(self, is_on: bool) -> None:
        """Exchange every five minutes for two hours, or no longer."""
        until_at = self._clock.now() + WATCH_S if is_on else 0
        await self._set(watch_until_at=until_at)
        if is_on:
            self.soon()

    def soon(self) -> None:
        """Exchange now; nobody waits for it."""
        self._due_s = float("-inf")
        self._wake.set()

    def interval_s(self) -> int:
        """Seconds between two exchanges that go well."""
        return WATCH_INTERVAL_S if self.watch_until_at is not None else self._interval_s

    # -- the loop --------------------------------------------------------------------------

    async def run(self) -> None:
        """Exchange for ever."""
        self._due_s = self._clock.elapsed_s() + 5 + 25 * self._throw()
        while True:
            wait_s = min(LOOK_EVERY_S, max(0.0, self._due_s - self._clock.elapsed_s()))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._policy.apply_due()
                if self._clock.elapsed_s() >= self._due_s:
                    if self.is_enrolled:
                        await self.now()
                    else:
                        # Whoever enrols asks for an exchange at once.
                        self._due_s = self._clock.elapsed_s() + LOOK_EVERY_S
            except Exception:
                # Whatever it is: a node that exchanges no more is one that nobody trusts.
                log.exception("exchange_failed")
                self._due_s = self._clock.elapsed_s() + exchange.RETRY_MOST_S

    async def now(self) -> Outcome:
        """One round: everything that waits, and what the hub has for us."""
        async with self._busy:
            self.running = True
            before = self._policy.held(), self._policy.refused()
            try:
                outcome = await self._round()
            finally:
                self.running = False
            wait_s = self._wait_s(outcome.then)
            if before != (self._policy.held(), self._policy.refused()):
                # The office waits to see what came of its documents.
                wait_s = min(wait_s, REPORT_S)
            self._due_s = self._clock.elapsed_s() + wait_s
            return outcome

    def close(self) -> None:
        """Break off what is going on."""
        if self._client is not None:
            self._client[1].interrupt()

    def _wait_s(self, then: Then | None) -> float:
        if then is not None and then.is_retry:
            return exchange.retry_s(then.state.failures, self._throw())
        if then is not None and then.wait_s:
            is_watched = self.watch_until_at is not None and then.state.standing == "well"
            return min(then.wait_s, WATCH_INTERVAL_S) if is_watched else then.wait_s
        spread = 1 + JITTER * (2 * self._throw() - 1)
        return self.interval_s() * spread

    # -- a round ---------------------------------------------------------------------------

    async def _round(self) -> Outcome:
        outcome = Outcome()
        self._is_all = False
        self._log.resent.clear()
        trust = self._trust()
        if trust is None:
            outcome.sentence = "this node has no hub; it gets one with: pesisir enrol"
            return outcome
        client = self._client_of(trust)
        try:
            while outcome.exchanges < MOST_EXCHANGES:
                outcome.exchanges += 1
                outcome.then = then = await self._exchange(trust, client, outcome)
                self._state = then.state
                if not then.is_again:
                    break
            if outcome.then is not None and outcome.then.state.standing == "well":
                await self._back_up(trust, client)
        finally:
            client.close()
            self.on_round(outcome.then is not None and outcome.then.state.standing != "late")
            self._sentence = outcome.sentence
            if outcome.sentence:
                self._failed_at = self._clock.now()
                log.warning("exchange %s", outcome.sentence)
        return outcome

    def _client_of(self, trust: HubTrust) -> HubClient:
        if self._client is None or self._client[0] != trust:
            client = self._make_client(
                trust.url,
                trust.authority,
                node_id=self._ledger.keys.node_id,
                # The box may change its key while the way to the hub is kept.
                signer=lambda message: self._ledger.keys.sign(message),
                proxy=self._proxy,
            )
            self._client = (trust, client)
        return self._client[1]

    async def _exchange(self, trust: HubTrust, client: HubClient, outcome: Outcome) -> Then:
        head = await self._log.next()
        if head.epoch != self._epoch:
            self._epoch = head.epoch
            self._state = State(head.acked, head.acked, standing=self._state.standing)
        plan = exchange.plan(self._state, head.size)
        records = self._log.records(head.epoch, plan.first, plan.most)
        if plan.most and not records:
            outcome.sentence = (
                f"the hub asks for record {plan.first}, which is no longer here; what it lost"
                " stands in its backup"
            )
            return exchange.failed(self._state, is_timeout=False)
        after = await self._log.tree(head.epoch, plan.first)
        after.extend(ledger.leaf(public, c_loc) for public, c_loc in records)
        covered = after if plan.most else head.tree
        sent = Sent(plan.first, len(records), covered.size)
        is_last = not plan.most or covered.size == head.size
        looked_at = self._clock.now()
        balances, told = await self._balances(trust) if is_last else (None, None)
        is_apart = balances is not None and len(records) > MOST_BESIDE_BALANCES
        if is_apart:
            balances = told = None
        message = self._message(
            head,
            sent,
            covered,
            records,
            delta=balances,
            proof=self._proof(head.epoch) if plan.is_proof_wanted else None,
        )
        checkpoint = message.checkpoint
        try:
            reply = await self._request(client, "POST", "exchange", wire.pack(message))
            answer = _answer(reply)
        except Unreachable as error:
            outcome.sentence = str(error)
            return exchange.failed(
                self._state, is_timeout=error.why == "timeout", is_reused=error.is_reused
            )
        if answer is None:
            outcome.sentence = f"whoever answered with status {reply.status} is not the hub"
            return exchange.answered(self._state, sent, Answered(404, 0), head.size)
        if answer.problem == wire.Problem.BEHIND and answer.lost is not None:
            # It was put back from a backup, so it has older balances too.
            self._is_backup_wanted = True
            # Where the box has nothing of it, the hub goes on without.
            self._is_all = not self._log.resend(answer.lost)
            return Then(self._state, is_again=True)
        whole = self._log.cosigned(trust, checkpoint, answer.cosignature)
        if answer.cosignature is not None and whole is None:
            await self._keep_evidence("hub_lies", checkpoint, answer.cosignature)
        # Of an epoch that is over the hub may have what this box has forgotten.
        is_clipped = head.is_over and reply.status == 200
        size = min(answer.size, head.size) if is_clipped else answer.size
        then = exchange.answered(
            self._state,
            sent,
            Answered(reply.status, size, whole is not None, answer.problem, answer.interval_s),
            head.size,
            await self._log.judged(trust, answer.head),
            since_epoch_s=None
            if self._opened_s is None
            else self._clock.elapsed_s() - self._opened_s,
        )
        if head.is_over and answer.problem not in (None, *_NOT_ABOUT_THE_LOG):
            # The hub has gone on from another end of it; the epoch after it tells the rest.
            self._log.given_up.add(head.epoch)
            return Then(self._state, is_again=True)
        outcome.sentence = "" if then.state.standing == "well" else _why(answer, then)
        if then.evidence is not None:
            await self._keep_evidence(then.evidence, checkpoint, answer.head or answer.detail)
        if then.counter_above is not None:
            await self._set(counter=max(self._numbers.get("counter", 0), then.counter_above))
        if then.is_new_epoch:
            await self._go_on_after(answer, sent)
        if then.state.standing == "well":
            await self._note(answer, whole, sent, head.epoch)
            if told is not None:
                self._sealed.keep(told)
                number = self._numbers.get("delta", 0) if balances is None else balances.number
                await self._set(delta_at=looked_at, delta=number)
            if records:
                self._log.known = (head.epoch, after)
            outcome.records += len(records)
            outcome.documents += len(answer.documents)
            await self._policy.receive(answer.documents)
        if then.state.standing == "well" and not then.is_again:
            if head.is_over:
                self._log.lost.discard(head.epoch)
            return replace(then, is_again=head.is_over or is_apart)
        return then

    def _message(
        self,
        log: Log,
        sent: Sent,
        covered: merkle.Frontier,
        records: list[tuple[bytes, bytes]],
        *,
        delta: wire.Delta | None = None,
        proof: str | None = None,
    ) -> wire.Exchange:
        return wire.Exchange(
            version=wire.VERSION,
            epoch=log.epoch,
            first=sent.first,
            records=wire.pack_records(records),
            checkpoint=self._log.signed(log.node, log.epoch, covered),
            acked_size=max(self._state.acked, log.acked),
            held=self._policy.held(),
            refused=self._policy.refused(),
            delta=delta,
            proof=proof,
            is_all=self._is_all,
        )

    async def _note(
        self,
        answer: wire.Answer,
        whole: str | None,
        sent: Sent,
        epoch: int,
    ) -> None:
        """Keep what the hub has signed for and what else it told."""
        now = self._clock.now()
        if whole is not None:
            await self._ledger.store.keep_cosigned(
                epoch, sent.size, whole, at=now, backed_up=answer.backed_up_size
            )
        await self._set(exchanged_at=now)
        self._clock_off_s = answer.now_at - now if answer.now_at else None
        self._is_backup_wanted |= answer.wants_backup

    # -- without a link --------------------------------------------------------------------

    async def batches(self) -> list[bytes]:
        """The exchanges that carry everything the hub has not signed for, for a stick."""
        async with self._busy:
            return [wire.pack(message) async for message in self._unsent()]

    async def _unsent(self) -> AsyncIterator[wire.Exchange]:
        for each in await self._log.logs():
            tree = await self._log.tree(each.epoch, each.acked)
            while tree.size < each.size:
                records = self._log.records(
                    each.epoch, tree.size, min(exchange.MOST_RECORDS, each.size - tree.size)
                )
                if not records:
                    break
                sent = Sent(tree.size, len(records), tree.size + len(records))
                tree.extend(ledger.leaf(public, c_loc) for public, c_loc in records)
                yield self._message(each, sent, tree, records)

    async def take_answers(self, answers: list[bytes]) -> Outcome:
        """Take what the hub answered on a stick: cosignatures of what was sent, and documents."""
        outcome = Outcome()
        trust = self._trust()
        if trust is None:
            outcome.sentence = "this node has no hub; it gets one with: pesisir enrol"
            return outcome
        async with self._busy:
            for body in answers:
                answer = _answer(Reply(200, body))
                if answer is None:
                    continue
                if await self._keep_carried(trust, answer):
                    outcome.exchanges += 1
                outcome.documents += len(answer.documents)
                await self._policy.receive(answer.documents)
        return outcome

    async def _keep_carried(self, trust: HubTrust, answer: wire.Answer) -> bool:
        """Keep the checkpoint that an answer cosigns; False where it does not, or another's."""
        if answer.cosignature is None:
            return False
        for log in await self._log.logs():
            if not log.acked < answer.size <= log.size:
                continue
            tree = await self._log.tree(log.epoch, answer.size)
            checkpoint = self._log.signed(log.node, log.epoch, tree)
            whole = self._log.cosigned(trust, checkpoint, answer.cosignature)
            if whole is not None:
                await self._ledger.store.keep_cosigned(
                    log.epoch,
                    answer.size,
                    whole,
                    at=self._clock.now(),
                    backed_up=answer.backed_up_size,
                )
                # The next exchange begins from what is stored now.
                self._epoch = -1
                return True
        return False

    def _proof(self, epoch: int) -> str | None:
        """The newest checkpoint of an epoch that the hub has cosigned."""
        notes = [
            row["note"]
            for row in self._ledger.store.cosigned_checkpoints()
            if row["epoch"] == epoch
        ]
        return str(notes[-1]) if notes else None

    async def _go_on_after(self, answer: wire.Answer, sent: Sent) -> None:
        """An older disk is in this box: begin an epoch that names what the hub has seen last."""
        # What the hub has of this epoch, or of later ones, is from a future that the box forgot.
        is_fork = answer.problem in (wire.Problem.FORK, wire.Problem.EPOCH)
        within = sent.first <= answer.size <= sent.first + sent.count
        same = (answer.size if within else sent.first) if is_fork else sent.size
        await self._ledger.open_epoch(
            answer.head,
            ROLLED_BACK,
            replayed_below=self._first_session_id(),
            replay_from=same if is_fork else None,
            known=(self._epoch, same),
        )
        self._opened_s = self._clock.elapsed_s()
        log.error("rolled_back epoch=%d", self._epoch)

    async def _keep_evidence(self, what: str, ours: str, theirs: str) -> None:
        if await self._store.keep_evidence(what, ours, theirs, at=self._clock.now()):
            log.error("evidence_kept what=%s", what)

    # -- what the office can restore -------------------------------------------------------

    async def _balances(self, trust: HubTrust) -> tuple[wire.Delta | None, Told | None]:
        """Balances that changed since the hub got some; (None, None) where a backup comes first."""
        told_at = self._numbers.get("delta_at")
        if not trust.recovery or not told_at:
            return None, None
        try:
            octets, told = await self._sealed.delta(told_at, trust.recovery)
        except TooMuch:
            self._is_backup_wanted = True
            return None, None
        if octets is None:
            return None, told
        return wire.Delta(self._numbers.get("delta", 0) + 1, octets), told

    async def _back_up(self, trust: HubTrust, client: HubClient) -> None:
        """Once a night, or when the hub holds none: everything a new box needs, sealed."""
        now, made_at = self._clock.now(), self._numbers.get("backup_at", 0)
        is_due = now - made_at > BACKUP_EVERY_S and self._clock.hour() in BACKUP_HOURS
        tried_s = self._clock.elapsed_s() - self._backup_tried_s
        is_missing = self._is_backup_wanted and tried_s > BACKUP_RETRY_S
        if not trust.recovery or not (is_due or is_missing):
            return
        self._backup_tried_s = self._clock.elapsed_s()
        number = self._numbers.get("delta", 0)
        sealed, told = await self._sealed.backup(trust.recovery)
        body = wire.pack(wire.Backup(number, sealed))
        try:
            reply = await self._request(client, "PUT", "backup", body)
        except Unreachable as error:
            log.warning("backup_not_sent %s", error)
            return
        if reply.status in (200, 201, 204):
            self._sealed.keep(told)
            await self._set(backup_at=now, backup=number, delta_at=now)
            self._is_backup_wanted = False
        else:
            log.warning("backup_not_taken status=%d", reply.status)

    # -- small things ----------------------------------------------------------------------

    async def _request(self, client: HubClient, method: str, what: str, body: bytes) -> Reply:
        counter = self._numbers.get("counter", 0) + 1
        # First on disk, then on the wire: no counter is used twice, whenever the power goes.
        await self._set(counter=counter)
        return await client.request(
            method,
            client.path(what),
            body,
            counter=counter,
            created_at=self._clock.now(),
            is_clock_doubtful=self._clock.is_doubtful(),
        )

    async def _set(self, **values: int) -> None:
        await self._store.set_numbers(values)
        self._numbers |= values


def _answer(reply: Reply) -> wire.Answer | None:
    """The hub's answer; None for something that only a proxy or a stranger says."""
    try:
        return wire.unpack(reply.body, wire.Answer)
    except wire.WireError:
        return None


def _why(answer: wire.Answer, then: Then) -> str:
    """What went wrong, without a full stop: more is said behind it."""
    if answer.detail or answer.problem:
        return (answer.detail or str(answer.problem)).rstrip(".")
    if then.evidence is not None:
        return "the hub shows what does not fit this box's log; both sides are kept"
    return "the hub's answer does not fit what this box sent"
