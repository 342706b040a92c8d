"""Exchanges in every order that links, sticks, old disks and odd nodes bring them in."""

import asyncio
from dataclasses import replace

import pytest

from portal import wire
from portal.domain import ledger
from portal.domain.ledger import MOST_NUMBER, NO_PERSONAL, ClockQuality, DayTotal, Kind, Record
from portal.hub_process import check as hub_check
from portal.wire import Problem, WireError, pack_records
from tests.unit.hub.office import Office, Tell
from tests.unit.hub.written_node import NOON, WrittenNode


async def is_good(place: Office) -> bool:
    """Whether `pesisir check` finds nothing wrong."""
    return all(check["status"] != "fail" for check in await hub_check.look(place.hub))


def test_two_exchanges_at_once_are_taken_one_after_the_other(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for number in range(30):
            node.session(number, at=NOON + number)
        sent = [node.exchange(0, count) for count in (32, 5, 20, 32, 11, 1)]
        outcomes = await asyncio.gather(
            *(
                place.hub.ingest.take(node.node_id, None, each, place.now)
                for each in (*sent, node.exchange(20))
            )
        )
        taken = [outcome.answer.problem for outcome in outcomes]
        assert set(taken) <= {None, Problem.GAP} and taken[:6] == [None] * 6
        assert (await place.take(node)).answer.size == 32
        assert await place.totals(node) == (30, 30 * 1100)
        assert await is_good(place)

    tell(story)


def test_a_repeat_with_a_checkpoint_of_its_own_is_cosigned_as_well(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for number in range(6):
            node.session(number)
        await place.take(node)
        for end in (3, 5, 3, 8):
            outcome = await place.take(node, node.exchange(1, end - 1))
            assert (outcome.status, outcome.answer.size) == (200, 8)
            assert outcome.answer.cosignature is not None
        rows = await place.hub.store.database.all("SELECT size FROM checkpoint ORDER BY size")
        assert [row["size"] for row in rows] == [3, 5, 8]
        assert await place.totals(node) == (6, 6600)
        assert await is_good(place)

    tell(story)


def test_a_batch_of_known_and_new_records_adds_the_new_ones(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        node.session(2)
        node.session(3)
        sent = node.exchange(1)
        assert (await place.take(node, sent)).answer.size == 5
        assert (await place.take(node, sent)).answer.size == 5
        assert await place.totals(node) == (3, 3300)
        other = node.records[4]
        node.records.pop()
        node.session(3, down=7)
        node.session(4)
        outcome = await place.take(node, node.exchange(2))
        assert (outcome.answer.problem, outcome.answer.size) == (Problem.FORK, 4)
        assert await place.totals(node) == (3, 3300)
        node.records[4:] = [other]
        assert (await place.take(node)).status == 200
        assert await is_good(place)

    tell(story)


def test_a_gap_of_one_epoch_is_not_ended_by_records_of_another(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        parent = node.cosigned
        node.session(1)
        node.session(2)
        assert (await place.take(node, node.exchange(3))).answer.problem == Problem.GAP
        node.next_epoch(parent)
        node.session(3)
        assert (await place.take(node)).status == 200
        assert ("gap", "0/2") in await place.alarms()

    tell(story)


def test_what_happens_again_after_somebody_ended_the_alarm_stands_again(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        node.records.pop()
        node.session(1, down=5)
        forked = node.exchange(0)
        await place.take(node, forked)
        assert await place.alarms() == [("fork", "0/2")]
        alarms = place.hub.alarms
        assert await alarms.end(node.node_id, "fork", "0/2", "siti", "box was copied", place.now)
        assert await place.alarms() == []
        await place.take(node, forked)
        assert await place.alarms() == [("fork", "0/2")]

    tell(story)


def test_the_hundredth_alarm_of_a_kind_goes_on_being_itself(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        good = node.exchange()
        for number in range(105):
            root = number.to_bytes(32, "little")
            lie = replace_checkpoint(good, node.checkpoint(root=root))
            await place.hub.ingest.take(node.node_id, None, lie, place.now)
        standing = await place.alarms()
        assert len(standing) == 101 and ("fork", "further") in standing
        first = node.checkpoint(root=bytes(32))
        await place.hub.ingest.take(
            node.node_id, None, replace_checkpoint(good, first), place.now + 5
        )
        rows = await place.hub.alarms.store.all_alarms()
        again = [row for row in rows if row["last_at"] == place.now + 5]
        assert [row["alarm_key"] for row in again] == [f"root/2/{'0' * 16}"]
        assert [row["count"] for row in again] == [2]

    tell(story)


def replace_checkpoint(exchange: wire.Exchange, checkpoint: str) -> wire.Exchange:
    """An exchange with another checkpoint."""
    values = {name: getattr(exchange, name) for name in exchange.__struct_fields__}
    return wire.Exchange(**(values | {"checkpoint": checkpoint}))


def test_a_promise_and_a_lost_checkpoint_of_one_size_both_bind(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        node.session(2)
        before = await tables(place)
        await place.take(node)
        proof = node.cosigned
        await put_back(place, before)
        assert (await place.take(node)).answer.problem == Problem.BEHIND
        lie = node.exchange(0, 0, checkpoint=node.checkpoint(root=bytes(32)), proof=proof)
        assert (await place.take(node, lie)).answer.problem is None
        outcome = await place.take(node, node.exchange(2, proof=proof))
        assert outcome.answer.problem == Problem.FORK
        assert ("fork", "promise/4") in await place.alarms()

    tell(story)


async def tables(place: Office) -> list[tuple[str, tuple[object, ...]]]:
    """What a backup of the hub would hold of a node's log."""
    rows = await place.hub.store.database.all(
        "SELECT size, frontier, cosigned FROM node_head WHERE epoch = 0"
    )
    return [("head", (rows[0]["size"], bytes(rows[0]["frontier"]), rows[0]["cosigned"]))]


async def put_back(place: Office, before: list[tuple[str, tuple[object, ...]]]) -> None:
    """Let the hub know no more than it did."""
    ((_, (size, frontier, cosigned)),) = before
    async with place.hub.store.database.transaction() as transaction:
        await transaction.run(
            "UPDATE node_head SET size = ?, frontier = ?, cosigned = ?", (size, frontier, cosigned)
        )
        for table, column in (("record", "seq"), ("checkpoint", "size - 1")):
            await transaction.run(f"DELETE FROM {table} WHERE {column} >= ?", (size,))
        await transaction.run("DELETE FROM session_record WHERE seq >= ?", (size,))


def test_epochs_far_ahead_and_far_behind(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        parent = node.cosigned
        old = replace(node, records=list(node.records))
        node.epoch = 10**17
        node.begin(parent)
        node.acked = 0
        assert (await place.take(node)).status == 200
        old.session(2)
        old.counter = node.counter + 1
        outcome = await place.take(old, old.exchange(3))
        assert (outcome.answer.problem, outcome.answer.size) == (Problem.EPOCH, 3)
        assert await place.alarms() == [("rolled_back", "0/over")]
        assert await place.sides("rolled_back", node) == {"node", "hub"}
        # What is known of the old epoch is absorbed still.
        outcome = await place.take(old, old.exchange(0, 3))
        assert (outcome.answer.problem, outcome.answer.size) == (None, 3)
        assert await is_good(place)

    tell(story)


def test_a_promise_for_a_next_epoch_does_not_end_this_one(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        later = WrittenNode(epoch=1, counter=node.counter)
        promise = later.exchange(0, 0, checkpoint=later.checkpoint())
        assert (await place.take(later, promise)).answer.problem is None
        node.counter = later.counter
        node.session(1)
        assert (await place.take(node)).answer.problem is None
        assert await place.totals(node) == (1, 1100)

    tell(story)


@pytest.mark.parametrize("at", [0, 1, NOON, 4_102_444_800, 253_402_300_799, MOST_NUMBER])
def test_any_time_and_any_number_is_stored(tell: Tell, at: int) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1, at=at, lasted_s=MOST_NUMBER, down=MOST_NUMBER, up=MOST_NUMBER)
        node.session(2, at=at, started_ago_s=MOST_NUMBER, profile=MOST_NUMBER, site=MOST_NUMBER)
        node.session(2, at=at, started_ago_s=0, lasted_s=0)
        node.add(Kind.DAY_TOTAL, DayTotal(*[MOST_NUMBER] * 7), at=at, site=1)
        node.add(Kind.HEALTH, {"hours": [MOST_NUMBER, -MOST_NUMBER]}, at=at)
        outcome = await place.take(node)
        assert (outcome.status, outcome.answer.size) == (200, len(node.records))
        assert await is_good(place)

    tell(story)


@pytest.mark.parametrize(
    "told",
    [
        {"what": "site", "number": 1, "zone": "Mars/Olympus", "code": "DESA", "name": "x"},
        {"what": "site", "number": 1, "zone": "../../etc/passwd", "code": "DESA", "name": "x"},
        {"what": "site", "number": 1, "zone": "a\x00b", "code": "D\x00", "name": "\x00"},
        {"what": "site\x00", "number": 1, "name": "x"},
        {"what": "".join(map(chr, range(100, 4_000))), "number": 1, "name": "x"},
        {"what": "site", "number": MOST_NUMBER, "name": "n" * 9_000, "code": "c" * 5_000},
        {"what": "site", "number": True, "name": 5, "code": None, "zone": ["x"]},
        {"what": 5, "number": "1"},
        {"what": "site", "number": -1},
        {},
    ],
)
def test_names_that_make_no_sense_are_stored_and_do_no_harm(
    tell: Tell, told: dict[str, object]
) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.add(Kind.CONFIG, told)
        node.session(1)
        outcome = await place.take(node)
        assert (outcome.status, outcome.answer.size) == (200, 4)
        assert await place.totals(node) == (1, 1100)
        assert await is_good(place)

    tell(story)


def test_a_record_for_another_nodes_site_counts_for_none_of_its_sums(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        other = WrittenNode(b"\x08" * 32, sites=("LAIN",))
        await place.enrol(other)
        other.session(1)
        await place.take(other)
        thief = {"what": "site", "number": 2, "code": "LAIN", "name": "x", "zone": "Asia/Jakarta"}
        node.add(Kind.CONFIG, thief, site=2)
        node.session(1, down=10**9, site=2)
        await place.take(node)
        assert await place.alarms() == [("site_claimed", "LAIN")]
        assert await place.totals(other) == (1, 1100)
        assert await place.totals(node, 2) == (1, 10**9 + 100)

    tell(story)


@pytest.mark.parametrize(
    ("octet", "value", "words"),
    [(0, 2, "version of a record is 2"), (1, 15, "kind of a record is 15")],
)
def test_a_record_of_a_newer_program_is_refused_in_words_and_nothing_is_lost(
    tell: Tell, octet: int, value: int, words: str
) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        seq = node.add(Kind.HEALTH, {})
        public = bytearray(node.records[seq][0])
        public[octet] = value
        node.records[seq] = (bytes(public), NO_PERSONAL)
        with pytest.raises(WireError, match=words):
            await place.take(node)
        assert await place.totals(node) == (0, 0)
        # What came before it can be sent.
        assert (await place.take(node, node.exchange(0, 3))).answer.size == 3

    tell(story)


def test_records_without_an_epoch_before_them_are_refused(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        record = Record(Kind.EPOCH, 2, 1, NOON, ClockQuality.SYNCHRONISED, 0, {})
        node.records.append((ledger.encode(record), NO_PERSONAL))
        with pytest.raises(WireError, match="EPOCH"):
            await place.take(node)
        good = WrittenNode(counter=node.counter)
        numbered = replace_records(good, good.records[1:])
        with pytest.raises(WireError, match="a record has number 1; expected 0"):
            await place.take(good, numbered)

    tell(story)


def replace_records(node: WrittenNode, records: list[tuple[bytes, bytes]]) -> wire.Exchange:
    """An exchange from 0 with these records."""
    return node.exchange(0, records=pack_records(records))


def test_an_idle_exchange_that_comes_late_on_a_stick_is_no_older_disk(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        promise = node.exchange(0, 0, checkpoint=node.checkpoint())
        whole = node.exchange(0)
        node.session(2)
        later = node.exchange(0)
        for sent in (promise, whole, later):
            outcome = await place.hub.ingest.take(node.node_id, None, sent, place.now)
            assert outcome.answer.problem is None
        # The stick is put in a second time, after the link was back.
        for sent in (promise, whole):
            outcome = await place.hub.ingest.take(node.node_id, None, sent, place.now)
            assert (outcome.answer.problem, outcome.answer.size) == (None, 4)
        assert await place.alarms() == []

    tell(story)
