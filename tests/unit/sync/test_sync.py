"""Sync: a whole node and a hub over TLS; what happens when either of them, or the link, fails."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from portal import wire
from portal.cli.sync import standing_text
from portal.domain import document as documents
from portal.domain import note
from portal.domain.document import NO_PREVIOUS, Document
from portal.domain.ledger import Kind
from portal.sync import trust as hub_trust
from portal.sync.exchanges import REPORT_S, Outcome, Sync
from radius.packet import CLASS
from tests.unit.aaa.rig import START, STOP, NodeRig
from tests.unit.sync.paper_hub import DOCUMENTS, DOCUMENTS_KEY, PaperHub, trust
from tests.unit.sync.servers import serving

MAC = "02-00-00-00-00-01"
GATEWAY = "10.20.0.1"


@dataclass
class Village:
    """A node that is enrolled at a hub."""

    rig: NodeRig
    hub: PaperHub

    @property
    def sync(self) -> Sync:
        return self.rig.node.hub.sync

    async def exchange(self) -> Outcome:
        await self.rig.node.commit.now()
        return await self.sync.now()

    async def happen(self, count: int) -> None:
        """Let `count` records be appended."""
        for number in range(count):
            self.rig.node.ledger.append(Kind.HEALTH, {"number": number})
        await self.rig.node.commit.now()

    @property
    def size(self) -> int:
        head = self.rig.node.ledger.store.head()
        assert head is not None
        return head.size

    def assert_same(self) -> None:
        """The hub has the node's records, each once, and the node has its signature for it."""
        head = self.rig.node.ledger.store.head()
        assert head is not None
        ours = self.rig.node.ledger.store.records(head.epoch, 0, 100_000)
        theirs = self.hub.epochs[head.epoch]
        assert [(public, c_loc) for _, public, c_loc in ours] == theirs
        assert self.rig.node.ledger.store.acked().size == len(theirs)
        cosigned = self.rig.node.ledger.store.cosigned()
        assert cosigned is not None and cosigned["size"] == len(theirs)


def run(tmp_path: Path, scenario: Callable[[Village], Awaitable[None]]) -> None:
    hub = PaperHub()

    async def play(url: str, authority: str) -> None:
        rig = await NodeRig(tmp_path).open()
        try:
            hub_trust.write(rig.directory, trust(url, authority))
            await scenario(Village(rig, hub))
        finally:
            await rig.close()

    with serving(tmp_path, hub.answer_http) as server:
        asyncio.run(play(server.url, server.authority))


def test_what_happened_is_at_the_hub_and_signed_for(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(20)
        outcome = await village.exchange()
        assert (outcome.exchanges, outcome.sentence) == (1, "")
        village.assert_same()
        status = village.sync.status()
        assert (status["standing"], status["waiting"]) == ("well", 0)

    run(tmp_path, scenario)


def test_of_a_long_backlog_the_checkpoint_comes_first(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(1200)
        size = village.size
        outcome = await village.exchange()
        village.assert_same()
        assert outcome.records == size
        assert len(village.hub.promises) == 1
        assert [bool(one.records) for one in village.hub.requests] == [False, True, True, True]

    run(tmp_path, scenario)


def test_a_lost_answer_is_made_good_by_asking_again(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(5)
        village.hub.before_answer = lambda: False
        outcome = await village.exchange()
        assert outcome.sentence and village.rig.node.ledger.store.acked().size == 0
        assert village.sync.status()["standing"] == "late"
        village.hub.before_answer = lambda: True
        await village.happen(5)
        await village.exchange()
        village.assert_same()

    run(tmp_path, scenario)


def test_a_power_cut_between_the_answer_and_the_note_of_it(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(5)
        village.hub.before_answer = lambda: False
        await village.exchange()
        village.hub.before_answer = lambda: True
        await village.rig.restart()
        await village.exchange()
        village.assert_same()

    run(tmp_path, scenario)


def test_a_hub_from_an_older_backup_gets_its_records_again(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(700)
        await village.exchange()
        village.hub.epochs[0] = village.hub.epochs[0][:100]
        await village.exchange()
        village.assert_same()
        assert any(one.proof for one in village.hub.requests)

    run(tmp_path, scenario)


def test_a_node_from_an_older_disk_goes_on_in_a_new_epoch(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(10)
        await village.exchange()
        rig = village.rig
        await rig.node.close()
        image = rig.directory.with_name("image")
        shutil.copytree(rig.directory, image)
        await rig.open()
        await village.happen(10)
        await village.exchange()
        parent = village.hub.cosigned[0]
        await rig.node.close()
        shutil.rmtree(rig.directory)
        shutil.copytree(image, rig.directory)
        rig.sleep(100)
        await rig.open()
        await village.happen(3)
        await village.exchange()
        village.assert_same()
        opening = village.hub.records(1)[0].payload
        assert isinstance(opening, dict)
        assert (opening["why"], opening["parent"]) == ("rolled back", parent)
        replayed = [one for one in village.hub.records(1) if one.kind == Kind.HEALTH]
        assert len(replayed) == 3
        assert village.sync.status()["standing"] == "well"
        assert village.sync.status()["evidence"] == 1

    run(tmp_path, scenario)


def test_a_hub_that_signs_something_else_is_caught(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        hub = village.hub
        await village.happen(3)
        other = "pesisir/node/0000000000000000/0\n9\n" + "A" * 43 + "=\n"
        hub.spoil = lambda answer: msgspec.structs.replace(answer, cosignature=hub.line(other))
        await village.exchange()
        assert village.rig.node.ledger.store.acked().size == 0
        assert village.sync.status()["evidence"] == 1
        (kept,) = village.rig.node.hub.store.evidence()
        assert kept["what"] == "hub_lies"
        hub.spoil = lambda answer: answer
        await village.exchange()
        village.assert_same()

    run(tmp_path, scenario)


def test_an_older_disk_on_which_nothing_else_happened(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(10)
        await village.exchange()
        rig = village.rig
        await rig.node.close()
        image = rig.directory.with_name("image")
        shutil.copytree(rig.directory, image)
        await rig.open()
        await village.happen(10)
        await village.exchange()
        await rig.node.close()
        shutil.rmtree(rig.directory)
        shutil.copytree(image, rig.directory)
        await rig.open()
        await village.happen(3)
        await village.exchange()
        village.assert_same()
        assert not [one for one in village.hub.records(1) if one.kind == Kind.HEALTH]

    run(tmp_path, scenario)


@pytest.mark.parametrize("problem", ["fork", "rolled_back", "epoch"])
def test_a_hub_that_claims_a_fork_it_cannot_show_changes_nothing(
    tmp_path: Path, problem: str
) -> None:
    async def scenario(village: Village) -> None:
        await village.happen(3)
        await village.exchange()
        cosigned = village.hub.cosigned[0]
        village.hub.instead = (409, wire.Answer(1, problem=problem, head=cosigned))
        await village.happen(1)
        epoch = village.rig.node.ledger.store.epochs()
        outcome = await village.exchange()
        assert outcome.then is not None and outcome.then.state.standing == "hub_lies"
        assert len(village.rig.node.ledger.store.epochs()) == len(epoch)

    run(tmp_path, scenario)


def test_a_counter_that_was_used_is_overtaken(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        village.hub.counter = 5000
        outcome = await village.exchange()
        assert (outcome.exchanges, outcome.sentence) == (2, "")
        village.assert_same()

    run(tmp_path, scenario)


def test_nobody_approved_it_yet(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        village.hub.state = "pending"
        outcome = await village.exchange()
        assert outcome.sentence == "not approved"
        assert village.sync.status()["standing"] == "pending"
        village.hub.state = "active"
        await village.exchange()
        village.assert_same()

    run(tmp_path, scenario)


def test_a_revoked_box_asks_four_times_a_day_even_when_watched(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.exchange()
        village.assert_same()
        village.hub.state = "revoked"
        await village.sync.watch(True)
        await village.happen(3)
        await village.exchange()
        asked = village.hub.counter
        assert village.sync.standing == "revoked" and village.sync.is_refused
        assert village.sync._due_s - village.rig.elapsed_s == 6 * 3600
        # It keeps what happens, and tells it when the office changes its mind.
        await village.happen(3)
        village.hub.state = "active"
        await village.exchange()
        assert village.hub.counter - asked == 2
        village.assert_same()
        assert not village.sync.is_refused

    run(tmp_path, scenario)


def test_balances_go_with_an_exchange_and_everything_once_a_night(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.rig.cards("warga", 3)
        await village.exchange()
        assert village.hub.backup is not None
        before = len(village.hub.deltas)
        village.rig.sleep(1800)
        await village.exchange()
        assert len(village.hub.deltas) == before
        await village.rig.cards("warga", 1)
        await village.exchange()
        assert len(village.hub.deltas) == before + 1
        assert village.hub.deltas[-1].number > village.hub.backup.number

    run(tmp_path, scenario)


def test_a_clock_that_is_not_the_hubs_is_told(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        assert village.sync.status()["clock_off_s"] is None
        village.hub.spoil = lambda answer: msgspec.structs.replace(
            answer, now_at=village.rig.node.now() - 5 * 3600
        )
        await village.exchange()
        status = village.sync.status()
        assert abs(status["clock_off_s"] + 5 * 3600) <= 1
        assert "the hub's is 5h 00m behind this box's" in standing_text(status)

    run(tmp_path, scenario)


async def use(village: Village, cards: list[tuple[str, str]], octets: int) -> None:
    """One session of each card, from login to logout."""
    for number, (_, code) in enumerate(cards):
        mac = f"02-00-00-00-{number // 256:02x}-{number % 256:02x}"
        session = f"{octets}-{number}"
        accepted = await village.rig.access(GATEWAY, code, code, mac, acct_session_id=session)
        assert accepted is not None and CLASS in accepted.first
        for status, seconds, used in ((START, 0, 0), (STOP, 60 + number, octets + number)):
            await village.rig.account(
                GATEWAY,
                status,
                session,
                mac=mac,
                class_value=accepted.first[CLASS],
                time_s=seconds,
                output_octets=used,
            )


def test_balances_are_no_part_of_a_batch_of_records(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.rig.gateway("pos", GATEWAY)
        cards = await village.rig.cards("warga", 200)
        await village.exchange()
        village.rig.sleep(1800)
        await village.exchange()
        village.hub.requests.clear()
        village.hub.bodies.clear()
        await use(village, cards, 5_000_000)
        outcome = await village.exchange()
        assert (outcome.exchanges, outcome.sentence) == (2, "")
        batch, balances = village.hub.requests
        assert len(wire.unpack_records(batch.records)) >= 200 and batch.delta is None
        assert balances.records == b"" and balances.delta is not None
        assert village.hub.bodies[0] <= 80 * 200

    run(tmp_path, scenario)


def test_balances_are_told_once(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.rig.gateway("pos", GATEWAY)
        cards = await village.rig.cards("warga", 60)
        await village.exchange()
        assert village.hub.backup is not None and village.hub.deltas == []
        await use(village, cards, 5_000_000)
        await village.exchange()
        [first] = village.hub.deltas
        village.hub.bodies.clear()
        await village.exchange()
        await village.exchange()
        assert village.hub.deltas == [first] and max(village.hub.bodies) < 400
        # One more card, in the same second: its rows go, the others do not again.
        await use(village, cards[:1], 70_000)
        await village.exchange()
        assert len(village.hub.deltas[1].octets) < len(first.octets) / 3

    run(tmp_path, scenario)


def test_balances_that_did_not_arrive_are_told_again(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        await village.rig.gateway("pos", GATEWAY)
        cards = await village.rig.cards("warga", 3)
        await village.exchange()
        village.hub.before_answer = lambda: False
        await use(village, cards, 5_000_000)
        await village.exchange()
        village.hub.before_answer = lambda: True
        village.hub.deltas.clear()
        await village.exchange()
        assert len(village.hub.deltas) == 1

    run(tmp_path, scenario)


def test_watching_exchanges_every_five_minutes_for_two_hours(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        assert village.sync.interval_s() == 1800
        await village.sync.watch(True)
        assert village.sync.interval_s() == 300
        village.rig.sleep(2 * 3600 + 1)
        assert village.sync.interval_s() == 1800

    run(tmp_path, scenario)


def test_what_became_of_a_document_is_told_within_seconds_and_once(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        content = {"profiles": {"warga": {"data_day": "500MB"}}}
        text = documents.text_of(Document("profiles", "all", 1, 0, NO_PREVIOUS, content))
        signed = note.format_note(text, [note.sign_note(text, DOCUMENTS_KEY, DOCUMENTS.sign)])
        # The second is no document of this hub: it comes again and again, and hurries nobody.
        village.hub.documents = [signed, signed.replace("500MB", "900MB")]
        now_s = village.rig.node.elapsed_s
        await village.exchange()
        assert village.hub.held == []
        assert village.sync._due_s - now_s() <= REPORT_S
        await village.exchange()
        assert [(one.name, one.version) for one in village.hub.held] == [("profiles", 1)]
        assert village.sync._due_s - now_s() > 1_000

    run(tmp_path, scenario)


def test_without_a_hub_nothing_is_sent(tmp_path: Path) -> None:
    async def scenario(village: Village) -> None:
        (village.rig.directory / hub_trust.FILE_NAME).unlink()
        outcome = await village.exchange()
        assert outcome.exchanges == 0 and "enrol" in outcome.sentence
        assert village.hub.requests == []

    run(tmp_path, scenario)


def test_a_node_without_a_hub_looks_once_a_minute_and_not_all_the_time(tmp_path: Path) -> None:
    async def story() -> None:
        rig = await NodeRig(tmp_path).open()
        sync, looks = rig.node.hub.sync, 0

        def look() -> None:
            nonlocal looks
            looks += 1

        sync._trust = look
        running = asyncio.create_task(sync.run())
        await asyncio.sleep(0)
        sync.soon()
        await asyncio.sleep(0.2)
        assert looks == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await rig.close()

    asyncio.run(story())
