"""Exchange: what a node sends its hub next, and what an answer, or none, makes of it.

Pure. One state, `plan` and the reactions; sizes and sequence numbers only, no record and no octet.
The rules behind it: the checkpoint of a long backlog goes first, so that even ten seconds of link
fix the history; batches halve after a timeout; whatever is sent twice is absorbed by the hub; the
node goes on from where the hub says it is; nothing that a hub answers makes a node forget records.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

MOST_RECORDS: Final = 500
FEWEST_RECORDS: Final = 8
"""A batch is not halved below this: some 600 octets, one packet."""
RETRY_FIRST_S: Final = 30
RETRY_MOST_S: Final = 1800
RETRY_LEAST_S: Final = 5
"""Even the luckiest throw waits so long: a link that has just come back is busy."""
PENDING_S: Final = 60
"""Somebody stands beside the box and waits for the approval."""
REVOKED_S: Final = 6 * 3600
EPOCH_EVERY_S: Final = 3600
"""Two boxes with one identity overtake each other in turn; each does so once an hour at most."""

REFUSED_STANDINGS: Final = ("unknown", "revoked", "fork", "hub_lies")
"""The hub answers, and somebody at the office has to act."""
Standing = Literal[
    "new", "well", "late", "pending", "unknown", "revoked", "fork", "hub_lies", "refused"
]
"""How a node stands with its hub, for people: `late` = no answer, `refused` = an answer that made
no sense here."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the two logs are. Kept in memory; at a start made from what is stored."""

    size: int
    """Records that the hub has, as far as known: the next batch begins here."""
    acked: int
    """Size of the newest checkpoint that the hub has cosigned; it never shrinks in an epoch."""
    most: int = MOST_RECORDS
    """Longest batch that is tried now."""
    failures: int = 0
    """Tries in a row that came to nothing."""
    promised: int = 0
    """Size of the longest checkpoint that the hub was given without its records."""
    is_proof_wanted: bool = False
    """The hub has lost records and must see its own signature."""
    standing: Standing = "new"


@dataclass(frozen=True, slots=True)
class Send:
    """One exchange: records from `first`, at most `most`; or none, and the log's checkpoint."""

    first: int
    most: int
    """0: no records."""
    is_proof_wanted: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent in the end: a batch may have become shorter to fit."""

    first: int
    count: int
    size: int
    """Of the checkpoint that went with it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that could be read. Signatures in it were checked by who made this."""

    status: int
    size: int
    is_cosigned: bool = False
    """It holds the hub's good cosignature of the checkpoint that was sent."""
    problem: str | None = None
    interval_s: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """The hub's newest cosigned checkpoint of this node, sent with a problem, and what it is."""

    epoch: int
    size: int
    is_signed_by_us: bool
    is_signed_by_hub: bool
    is_known: bool
    """The node's own log has this root at this size."""


@dataclass(frozen=True, slots=True)
class Then:
    """What follows: the new state, and what to do. At most one of the waits is set."""

    state: State
    is_again: bool = False
    """Send at once what `plan` says now."""
    wait_s: float = 0.0
    """Send when so many seconds have passed; 0 with `is_again` False: at the usual interval."""
    is_retry: bool = False
    """It came to nothing: wait as `retry_s` says."""
    evidence: str | None = None
    """A word for what both sides' notes are kept as."""
    is_new_epoch: bool = False
    """Open the epoch after the head's, naming the head as its parent."""
    counter_above: int | None = None
    """The request counter must be above this."""


def plan(state: State, log_size: int) -> Send:
    """What to send now. `log_size`: records in the node's log."""
    behind = log_size - state.size
    if state.standing in ("pending", "revoked"):
        # Asking costs little; records are sent to a hub that takes them.
        return Send(min(state.size, log_size), 0, state.is_proof_wanted)
    if behind <= 0 or (behind > state.most and state.promised < log_size):
        return Send(min(state.size, log_size), 0, state.is_proof_wanted)
    return Send(state.size, min(behind, state.most), state.is_proof_wanted)


def retry_s(failures: int, throw: float) -> float:
    """Seconds until the next try after so many failures; `throw` is random, 0 to 1 (full jitter).

    So many boxes that lost their hub together do not come back together.
    """
    most = min(RETRY_MOST_S, RETRY_FIRST_S << max(0, min(failures - 1, 16)))
    return max(RETRY_LEAST_S, throw * most)


def failed(state: State, *, is_timeout: bool, is_reused: bool = False) -> Then:
    """No answer: the link is down, broke or took too long. The hub may have stored everything."""
    if is_reused and not is_timeout:
        # The hub closed a kept connection; that says nothing about the link.
        return Then(state, is_again=True)
    most = max(FEWEST_RECORDS, state.most // 2) if is_timeout else state.most
    return Then(
        replace(state, failures=state.failures + 1, most=most, standing="late"), is_retry=True
    )


def answered(
    state: State,
    sent: Sent,
    answer: Answered,
    log_size: int,
    head: Head | None = None,
    *,
    since_epoch_s: float | None = None,
) -> Then:
    """What an answer means. `since_epoch_s`: since this run opened an epoch; None: it did not."""
    problem = answer.problem
    if answer.status == 200:
        return _accepted(state, sent, answer, log_size)
    if answer.status == 202 and problem == "pending":
        waits = answer.interval_s or PENDING_S
        return Then(replace(state, failures=0, standing="pending"), wait_s=waits)
    if answer.status == 410:
        return Then(replace(state, failures=0, standing="revoked"), wait_s=REVOKED_S)
    if answer.status == 409 and problem == "gap":
        return _gap(state, answer, log_size)
    if answer.status == 409:
        return _other_log(state, head, since_epoch_s)
    if answer.status == 401 and problem == "counter":
        return Then(
            replace(state, failures=state.failures + 1),
            is_again=state.failures == 0,
            is_retry=state.failures > 0,
            counter_above=answer.size,
        )
    if answer.status == 401:
        return _retry(state, "unknown")
    if answer.status in (413, 422):
        most = max(FEWEST_RECORDS, state.most // 2)
        return _retry(replace(state, most=most), "refused")
    return _retry(state, "refused" if answer.status != 503 else "late")


def _accepted(state: State, sent: Sent, answer: Answered, log_size: int) -> Then:
    if answer.size > log_size and sent.count:
        # What was sent the hub has, and more: an older disk. Shown the whole log, it says so.
        now = replace(state, size=log_size, promised=log_size)
        return Then(now, is_again=True)
    if answer.size > log_size:
        return _retry(state, "refused")
    is_behind = answer.size < state.acked
    is_before = is_behind and answer.size < sent.first
    if sent.count and answer.size < sent.first + sent.count and not is_before:
        # It says that it accepted, and that it did not.
        return _retry(state, "refused")
    acked = max(state.acked, sent.size) if answer.is_cosigned else state.acked
    now = replace(
        state,
        size=answer.size,
        acked=acked,
        most=min(MOST_RECORDS, state.most * 2) if sent.count else state.most,
        failures=0,
        promised=max(state.promised, sent.size),
        is_proof_wanted=is_behind,
        standing="well",
    )
    if is_behind or answer.size < log_size:
        return Then(now, is_again=True)
    return Then(now, wait_s=answer.interval_s)


def _gap(state: State, answer: Answered, log_size: int) -> Then:
    if answer.size > log_size or answer.size == state.size:
        return _retry(state, "refused")
    now = replace(
        state,
        size=answer.size,
        failures=state.failures + 1,
        is_proof_wanted=answer.size < state.acked,
    )
    # A hub that names another place each time is not run after.
    return Then(now, is_again=now.failures < 3, is_retry=now.failures >= 3)


def _other_log(state: State, head: Head | None, since_epoch_s: float | None) -> Then:
    """The hub has another log of this node, or a longer one."""
    forked = replace(state, failures=0, standing="fork")
    if head is None:
        return replace(_retry(state, "fork"), evidence="fork")
    if not head.is_signed_by_us or not head.is_signed_by_hub or head.is_known:
        # Nothing that this node signed stands against its log: the hub cannot show what it claims.
        return replace(_retry(state, "hub_lies"), evidence="hub_lies")
    if since_epoch_s is not None and since_epoch_s < EPOCH_EVERY_S:
        return Then(forked, wait_s=EPOCH_EVERY_S - since_epoch_s, evidence="fork")
    return Then(forked, evidence="rolled_back", is_new_epoch=True, is_again=True)


def _retry(state: State, standing: Standing) -> Then:
    return Then(replace(state, failures=state.failures + 1, standing=standing), is_retry=True)
