"""Exchange: whatever the link and the hub do, the hub ends with the node's records, each once."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain import exchange
from portal.domain.exchange import Answered, Head, Send, Sent, State


def well(size: int, interval_s: int = 0) -> Answered:
    return Answered(200, size, is_cosigned=True, interval_s=interval_s)


def after(state: State, sent: Sent, answer: Answered, log_size: int) -> State:
    return exchange.answered(state, sent, answer, log_size).state


def test_a_short_backlog_goes_in_one_batch_with_its_checkpoint() -> None:
    assert exchange.plan(State(size=10, acked=10), 30) == Send(10, 20)


def test_the_checkpoint_of_a_long_backlog_goes_first_and_once() -> None:
    state = State(size=10, acked=10)
    assert exchange.plan(state, 5000) == Send(10, 0)
    then = exchange.answered(state, Sent(10, 0, 5000), Answered(200, 10), 5000)
    assert then.is_again
    assert exchange.plan(then.state, 5000) == Send(10, 500)
    assert then.state.acked == 10


def test_without_anything_new_an_exchange_brings_the_answer_only() -> None:
    state = State(size=30, acked=30)
    assert exchange.plan(state, 30) == Send(30, 0)
    then = exchange.answered(state, Sent(30, 0, 30), well(30, interval_s=300), 30)
    assert (then.is_again, then.wait_s, then.state.standing) == (False, 300, "well")


def test_a_timeout_halves_the_batch_and_an_accepted_batch_doubles_it_again() -> None:
    state = State(size=0, acked=0)
    for expected in (250, 125, 62, 31, 15, 8, 8):
        then = exchange.failed(state, is_timeout=True)
        assert then.is_retry
        state = then.state
        assert state.most == expected
    state = after(state, Sent(0, 8, 8), well(8), 2000)
    assert (state.most, state.failures) == (16, 0)


def test_a_cut_leaves_the_batch_as_long_as_it_was() -> None:
    assert exchange.failed(State(0, 0), is_timeout=False).state.most == 500


def test_a_kept_connection_that_the_hub_closed_is_tried_anew_at_once() -> None:
    then = exchange.failed(State(0, 0), is_timeout=False, is_reused=True)
    assert (then.is_again, then.state.failures) == (True, 0)


def test_waits_grow_to_half_an_hour_and_are_thrown_over_their_whole_length() -> None:
    assert [exchange.retry_s(count, 1.0) for count in (1, 2, 3, 6, 7, 60)] == [
        30,
        60,
        120,
        960,
        1800,
        1800,
    ]
    assert exchange.retry_s(7, 0.5) == 900
    assert exchange.retry_s(7, 0.0) == exchange.RETRY_LEAST_S


def test_after_a_gap_it_goes_on_where_the_hub_is() -> None:
    state = State(size=50, acked=50)
    then = exchange.answered(state, Sent(50, 10, 60), Answered(409, 20, problem="gap"), 60)
    assert then.is_again
    assert exchange.plan(then.state, 60) == Send(20, 40, is_proof_wanted=True)


def test_a_hub_that_names_another_place_each_time_is_not_run_after() -> None:
    state = State(size=50, acked=50)
    answers = []
    for size in (40, 30, 20, 10):
        then = exchange.answered(
            state, Sent(state.size, 10, 60), Answered(409, size, problem="gap"), 60
        )
        answers.append(then.is_again)
        state = then.state
    assert answers == [True, True, False, False]


def test_a_hub_that_lost_records_is_shown_its_signature_and_gets_them_again() -> None:
    state = State(size=50, acked=50)
    then = exchange.answered(state, Sent(50, 0, 50), Answered(200, 20, problem="behind"), 50)
    assert then.is_again
    assert exchange.plan(then.state, 50) == Send(20, 30, is_proof_wanted=True)
    state = after(then.state, Sent(20, 30, 50), well(50), 50)
    assert (state.size, state.acked, state.is_proof_wanted) == (50, 50, False)


@pytest.mark.parametrize(
    "answer",
    [
        Answered(200, 55),
        Answered(404, 0),
        Answered(500, 0),
        Answered(302, 0),
        Answered(422, 0, problem="body"),
        Answered(409, 50, problem="gap"),
        Answered(409, 70, problem="gap"),
    ],
)
def test_an_answer_that_makes_no_sense_changes_nothing_and_waits(answer: Answered) -> None:
    state = State(size=50, acked=50)
    then = exchange.answered(state, Sent(50, 10, 60), answer, 60)
    assert (then.is_again, then.is_retry, then.state.standing) == (False, True, "refused")
    assert (then.state.size, then.state.acked) == (50, 50)


def test_a_hub_that_has_more_is_shown_the_whole_log_and_must_say_why() -> None:
    then = exchange.answered(State(size=50, acked=50), Sent(50, 10, 60), well(70), 60)
    assert then.is_again
    assert exchange.plan(then.state, 60) == Send(60, 0)
    again = exchange.answered(then.state, Sent(60, 0, 60), well(70), 60)
    assert (again.is_again, again.is_retry, again.state.standing) == (False, True, "refused")


def test_pending_and_revoked_nodes_wait_without_forgetting_anything() -> None:
    state = State(size=0, acked=0)
    pending = exchange.answered(state, Sent(0, 0, 9), Answered(202, 0, problem="pending"), 9)
    assert (pending.wait_s, pending.state.standing) == (exchange.PENDING_S, "pending")
    revoked = exchange.answered(state, Sent(0, 0, 9), Answered(410, 0, problem="revoked"), 9)
    assert (revoked.wait_s, revoked.state.standing) == (exchange.REVOKED_S, "revoked")
    # Whom the hub takes nothing from asks with a checkpoint, and sends when it says yes.
    for state in (pending.state, revoked.state):
        assert exchange.plan(state, 9) == Send(0, 0)
        then = exchange.answered(state, Sent(0, 0, 9), Answered(200, 0), 9)
        assert then.is_again and exchange.plan(then.state, 9) == Send(0, 9)


def test_a_used_counter_is_overtaken_once_and_then_waited_for() -> None:
    answer = Answered(401, 1234, problem="counter")
    first = exchange.answered(State(0, 0), Sent(0, 0, 0), answer, 0)
    assert (first.is_again, first.counter_above) == (True, 1234)
    second = exchange.answered(first.state, Sent(0, 0, 0), answer, 0)
    assert (second.is_again, second.is_retry) == (False, True)


FORK = Answered(409, 80, problem="fork")
OURS = Head(epoch=0, size=80, is_signed_by_us=True, is_signed_by_hub=True, is_known=False)


def test_a_head_that_we_signed_and_do_not_know_means_an_older_disk() -> None:
    then = exchange.answered(State(50, 50), Sent(50, 10, 60), FORK, 60, OURS)
    assert (then.is_new_epoch, then.evidence, then.is_again) == (True, "rolled_back", True)


def test_two_boxes_with_one_name_overtake_each_other_once_an_hour_at_most() -> None:
    then = exchange.answered(State(50, 50), Sent(50, 10, 60), FORK, 60, OURS, since_epoch_s=600.0)
    assert (then.is_new_epoch, then.is_again, then.wait_s) == (False, False, 3000)
    assert then.state.standing == "fork"


@pytest.mark.parametrize(
    "head",
    [
        replace(OURS, is_signed_by_us=False),
        replace(OURS, is_signed_by_hub=False),
        replace(OURS, is_known=True),
    ],
)
def test_a_hub_that_cannot_show_our_signature_is_kept_as_a_liar(head: Head) -> None:
    then = exchange.answered(State(50, 50), Sent(50, 10, 60), FORK, 60, head)
    assert (then.evidence, then.is_new_epoch, then.is_retry) == ("hub_lies", False, True)
    assert then.state.standing == "hub_lies"


class ModelHub:
    """A hub that obeys the contract, on a list of numbers."""

    def __init__(self) -> None:
        self.records: list[int] = []
        self.backup: list[int] = []

    def answer(self, sent: Sent, records: list[int], acked: int, is_proof: bool) -> Answered:
        size = len(self.records)
        if sent.first > size:
            return Answered(409, size, problem="gap")
        if not records and size < acked and not is_proof:
            return Answered(200, size, problem="behind")
        for number, record in enumerate(records, sent.first):
            if number < len(self.records):
                assert self.records[number] == record
            else:
                self.records.append(record)
        size = len(self.records)
        return Answered(200, size, is_cosigned=size >= sent.size)


@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_breaks_the_hub_gets_every_record_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)
    hub = ModelHub()
    log: list[int] = []
    state = State(0, 0)
    for step in range(200):
        if step < 150 and dice.random() < 0.3:
            log += range(len(log), len(log) + dice.choice([1, 5, 700]))
        if step < 150 and dice.random() < 0.05:
            hub.records = list(hub.backup)
        if dice.random() < 0.05:
            hub.backup = list(hub.records)
        if step < 150 and dice.random() < 0.1:
            # Killed: only what was cosigned is remembered.
            state = State(state.acked, state.acked)
        send = exchange.plan(state, len(log))
        records = log[send.first : send.first + send.most]
        size = send.first + len(records) if records else len(log)
        sent = Sent(send.first, len(records), size)
        fate = dice.random() if step < 150 else 1.0
        if fate < 0.15:
            state = exchange.failed(state, is_timeout=True).state
            continue
        answer = hub.answer(sent, records, state.acked, send.is_proof_wanted)
        if fate < 0.3:
            state = exchange.failed(state, is_timeout=fate < 0.2).state
            continue
        then = exchange.answered(state, sent, answer, len(log))
        assert then.evidence is None
        assert then.state.acked >= state.acked
        state = then.state
    assert hub.records == log
    assert state.acked == len(log)
