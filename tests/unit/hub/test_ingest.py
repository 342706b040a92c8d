"""The hub takes each record once, and refuses with proof what does not fit what it has signed."""

import pytest

from portal.domain import note
from portal.domain.ledger import Kind
from portal.hub.checkpoints import CheckpointError, verify
from portal.wire import Problem, WireError
from tests.unit.hub.office import Office, Tell
from tests.unit.hub.written_node import NOON, WrittenNode


def test_records_are_stored_and_their_checkpoint_is_cosigned(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        node.session(2)
        outcome = await place.take(node)
        assert (outcome.status, outcome.answer.size) == (200, 4)
        assert node.cosigned is not None
        signed = note.parse_note(node.cosigned)
        assert note.cosigned_at(signed, place.hub.keys.cosigner_key, verify) == place.now
        assert await place.totals(node) == (2, 2200)
        kept = await place.hub.ledger.checkpoints(place.hub.store.database, node.node_id)
        assert [(row["size"], row["note"]) for row in kept] == [(4, node.cosigned)]
        assert await place.alarms() == []

    tell(story)


def test_what_is_sent_again_is_absorbed(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        first = node.exchange()
        once = await place.take(node, first)
        again = await place.take(node, first)
        assert again.status == 200
        assert again.answer.cosignature == once.answer.cosignature
        node.session(2)
        node.session(3)
        # The answer was lost: the node sends from where it knows.
        await place.take(node, node.exchange(first=1))
        await place.take(node, node.exchange(first=0))
        await place.take(node, node.exchange(first=2, count=1))
        assert await place.totals(node) == (3, 3300)
        assert await place.alarms() == []

    tell(story)


def test_a_request_counter_counts_once(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        node.session(1)
        repeated = await place.hub.ingest.take(node.node_id, 1, node.exchange(), place.now)
        assert repeated.status == 401
        assert repeated.answer.problem == Problem.COUNTER
        assert repeated.answer.size == 1
        assert await place.totals(node) == (0, 0)

    tell(story)


def test_a_gap_is_an_alarm_that_ends_when_it_is_filled(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        node.session(1)
        node.session(2)
        outcome = await place.take(node, node.exchange(first=3))
        assert (outcome.status, outcome.answer.problem) == (409, Problem.GAP)
        assert outcome.answer.size == 2
        assert await place.alarms() == [("gap", "0/2")]
        assert await place.sides("gap", node) == {"node", "hub"}
        await place.take(node, node.exchange(first=2))
        assert await place.alarms() == []
        assert await place.totals(node) == (2, 2200)

    tell(story)


def test_another_record_at_a_known_place_is_a_fork_with_both_sides_kept(
    tell: Tell,
) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        honest = node.cosigned
        node.records.pop()
        node.session(1, down=5)
        node.session(2)
        for _ in range(2):
            outcome = await place.take(node, node.exchange(first=1))
            assert (outcome.status, outcome.answer.problem) == (409, Problem.FORK)
            assert outcome.answer.size == 2
            assert outcome.answer.head == honest
        assert await place.alarms() == [("fork", "0/2")]
        assert await place.sides("fork", node) == {"node", "hub"}
        assert await place.totals(node) == (1, 1100)

    tell(story)


def test_a_root_that_the_records_do_not_have_is_refused(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        lie = node.exchange(checkpoint=node.checkpoint(root=bytes(32)))
        outcome = await place.take(node, lie)
        assert outcome.answer.problem == Problem.FORK
        assert outcome.answer.size == 0
        assert await place.totals(node) == (0, 0)
        assert (await place.take(node)).status == 200
        assert await place.totals(node) == (1, 1100)

    tell(story)


def test_a_promised_checkpoint_binds_the_records_to_come(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        node.session(2)
        outcome = await place.take(
            node, node.exchange(first=0, count=0, checkpoint=node.checkpoint())
        )
        assert (outcome.status, outcome.answer.size) == (200, 0)
        assert outcome.answer.cosignature is None
        kept = node.records.pop()
        node.session(2, down=1)
        outcome = await place.take(node)
        assert outcome.answer.problem == Problem.FORK
        assert await place.alarms() == [("fork", "promise/4")]
        node.records[-1] = kept
        assert (await place.take(node)).status == 200
        assert await place.totals(node) == (2, 2200)

    tell(story)


def test_an_older_disk_is_told_what_it_had_sent(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        node.session(2)
        await place.take(node)
        newest = node.cosigned
        node.restored_from(3)
        outcome = await place.take(node, node.exchange(first=3, count=0))
        assert (outcome.status, outcome.answer.problem) == (409, Problem.ROLLED_BACK)
        assert outcome.answer.head == newest
        assert await place.sides("rolled_back", node) == {"node", "hub"}
        node.next_epoch(newest)
        node.session(3)
        assert (await place.take(node)).status == 200
        # All it had forgotten stands in the parent: one alarm, of the disk itself.
        assert await place.alarms() == [("rolled_back", "0/3")]
        assert await place.totals(node) == (3, 3300)

    tell(story)


def test_an_epoch_that_forgets_records_is_an_alarm(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        older = node.cosigned
        node.session(2)
        await place.take(node)
        node.next_epoch(older)
        assert (await place.take(node)).status == 200
        assert await place.alarms() == [("rolled_back", "epoch 1")]
        # The old epoch is over.
        node.epoch = 0
        node.begin(None)
        node.session(9)
        node.session(9)
        node.session(9)
        outcome = await place.take(node, node.exchange(first=0))
        assert outcome.status == 409

    tell(story)


def test_what_is_told_again_after_an_older_disk_counts_once(
    tell: Tell,
) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        parent = node.cosigned
        node.session(1, down=1000, up=0)
        await place.take(node)
        node.next_epoch(parent)
        node.session(1, down=400, up=0, flags=1 | 16)
        node.session(1, down=900, up=0, flags=2 | 16)
        node.session(2, down=50, up=0, at=NOON + 5)
        await place.take(node)
        # 1,000 were known of the first; 400 + 900 are 300 more. The other is new.
        assert await place.totals(node) == (2, 1350)

    tell(story)


def test_an_epoch_without_a_parent_of_ours_is_an_alarm(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        node.next_epoch("no note at all")
        assert (await place.take(node)).status == 200
        assert await place.alarms() == [("unknown_parent", "1")]

    tell(story)


def test_two_boxes_that_claim_one_site_are_an_alarm(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        other = WrittenNode(seed=b"\x09" * 32, sites=("LAIN",))
        await place.enrol(other)
        other.add(Kind.CONFIG, {"what": "site", "number": 2, "code": "DESA"}, site=2)
        assert (await place.take(other)).status == 200
        assert await place.alarms() == [("site_claimed", "DESA")]
        assert (await place.take(node)).status == 200
        assert len(await place.alarms()) == 1

    tell(story)


@pytest.mark.parametrize("state", ["pending", "revoked"])
def test_who_may_not_report_changes_nothing(tell: Tell, state: str) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        store = place.hub.store
        async with store.database.transaction() as transaction:
            await transaction.run("UPDATE node SET state = ?", (state,))
        node.session(1)
        outcome = await place.take(node)
        expected = {"pending": (202, Problem.PENDING), "revoked": (410, Problem.REVOKED)}[state]
        assert (outcome.status, outcome.answer.problem) == expected
        assert await place.totals(node) == (0, 0)

    tell(story)


def test_a_body_that_makes_no_sense_is_refused_in_words(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        stranger = WrittenNode(seed=b"\x08" * 32)
        node.session(1)
        with pytest.raises(CheckpointError, match="fits none of the node's keys"):
            forged = node.checkpoint().rpartition("\n\n")[0] + "\n\n"
            forged += (
                stranger.checkpoint().rpartition("\n\n")[2].replace(stranger.node_id, node.node_id)
            )
            await place.take(node, node.exchange(checkpoint=forged))
        with pytest.raises(CheckpointError, match="expected node"):
            await place.take(node, node.exchange(checkpoint=stranger.checkpoint()))
        with pytest.raises(WireError, match="expected 5"):
            await place.take(node, node.exchange(first=5, records=node.exchange(first=2).records))
        with pytest.raises(WireError, match="cannot be read"):
            await place.take(node, node.exchange(records=b"\x03abc" + bytes(32)))
        outcome = await place.take(node, node.exchange(checkpoint=node.checkpoint(2)))
        assert outcome.status == 422
        assert await place.totals(node) == (0, 0)

    tell(story)


def test_a_hub_that_lost_records_is_told_and_takes_them_again(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(6):
            node.session(user)
        await place.take(node, node.exchange(first=0, count=4))
        await back_up(place)
        await place.take(node)
        assert node.acked == 8
        await put_back(place)
        node.session(7)
        outcome = await place.take(node)
        assert (outcome.status, outcome.answer.problem) == (200, Problem.BEHIND)
        assert "send your proof" in outcome.answer.detail
        assert outcome.answer.size == 4
        outcome = await place.take(node, node.exchange(first=4, proof=node.cosigned))
        assert (outcome.answer.problem, outcome.answer.detail) == (None, "")
        assert await place.alarms() == [("hub_lost_data", "0/4")]
        assert await place.totals(node) == (7, 7700)

    tell(story)


def test_a_node_cannot_change_what_a_hub_has_lost(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(6):
            node.session(user)
        await place.take(node, node.exchange(first=0, count=4))
        await back_up(place)
        await place.take(node)
        await put_back(place)
        proof = node.cosigned
        node.records.pop()
        node.session(5, down=1)
        node.session(7)
        outcome = await place.take(node, node.exchange(first=4, proof=proof))
        assert outcome.answer.problem == Problem.FORK
        assert ("fork", "lost checkpoint/8") in await place.alarms()
        assert await place.totals(node) == (2, 2200)

    tell(story)


def test_a_proof_that_is_not_ours_is_refused(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        lie = node.exchange(acked_size=9, proof=node.checkpoint())
        outcome = await place.take(node, lie)
        assert (outcome.status, outcome.answer.problem) == (422, Problem.BODY)
        assert await place.alarms() == []

    tell(story)


SAVED: dict[str, list[dict[str, object]]] = {}
TABLES: tuple[str, ...] = ("node_head", "checkpoint", "record", "session_record", "event")
TABLES += ("site_day", "site_hour", "user_day", "user_month", "site_month", "node_name")


async def back_up(place: Office) -> None:
    """Keep a backup of the hub's tables."""
    for table in TABLES:
        rows = await place.hub.store.database.all(f"SELECT * FROM {table}")
        SAVED[table] = [dict(row) for row in rows]  # type: ignore[call-overload]


async def put_back(place: Office) -> None:
    """Put the backup back."""
    async with place.hub.store.database.transaction() as transaction:
        for table in TABLES:
            await transaction.run(f"DELETE FROM {table}")
            for row in SAVED[table]:
                marks = ", ".join("?" * len(row))
                await transaction.run(
                    f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})",
                    list(row.values()),
                )
