"""What is over goes from tables and files, the sums stay, and the log can still be checked."""

import asyncio
from pathlib import Path

import pytest

from portal.domain.ledger import DayTotal, Kind, decode
from portal.hub.retention import first_kept
from portal.hub_process import check as hub_check
from portal.store.db.either import HUB_FILE_NAME
from tests.unit.hub.office import Office, Tell, make_directory, office
from tests.unit.hub.written_node import DAY_S, NOON, WrittenNode, pseudonym

MONTHS_14 = 430 * DAY_S


def test_sessions_go_after_their_months_and_the_sums_stay(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(5):
            node.session(user + 1)
        node.add(Kind.HEALTH, {"free": 1})
        node.add(Kind.POLICY, {"name": "profiles"})
        await place.take(node)
        before = await place.totals(node)
        place.now += MONTHS_14
        node.session(9, at=place.now - 60)
        await place.take(node)
        assert await place.hub.tidy() == 6
        assert await place.hub.tidy() == 0
        database = place.hub.store.database
        rows = await database.all("SELECT kind FROM record ORDER BY seq")
        assert [row["kind"] for row in rows] == [11, 7, 13, 1]
        assert len(await database.all("SELECT seq FROM session_record")) == 1
        assert len(await database.all("SELECT pseudonym FROM user_day")) == 1
        assert len(await database.all("SELECT pseudonym FROM user_month")) == 1
        assert len(await database.all("SELECT kind FROM event WHERE kind = 12")) == 0
        assert await place.totals(node) == (before[0] + 1, before[1] + 1100)
        prunings = await place.hub.usage.prunings()
        assert [(row["class"], row["count"]) for row in prunings] == [("session records", 6)]
        # The log is whole: repeats are known, and it goes on.
        assert await place.hub.proof.faults(node.node_id, place.now) == []
        assert (await place.take(node, node.exchange(first=0))).status == 200
        node.session(10, at=place.now)
        assert (await place.take(node, node.exchange(first=3))).status == 200
        assert await place.hub.proof.faults(node.node_id, place.now) == []

    tell(story)


def test_what_came_lately_stays_whatever_its_clock_said(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1, at=0)
        node.session(2, at=2**40)
        await place.take(node)
        assert await place.hub.tidy() == 0
        place.now += MONTHS_14
        assert await place.hub.tidy() == 2

    tell(story)


def test_records_named_as_erased_are_forgotten(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        first = node.session(1)
        node.session(2)
        await place.take(node)
        node.add(Kind.ERASURE, {"records": [[0, first], [0, 0], [7, 7], "x", [True]]})
        await place.take(node)
        rows = await place.hub.store.database.all("SELECT seq FROM session_record")
        assert [row["seq"] for row in rows] == [first + 1]
        kinds = [
            decode(bytes(row["public"])).kind
            for row in await place.hub.store.database.all("SELECT public FROM record ORDER BY seq")
        ]
        assert kinds == [Kind.EPOCH, Kind.CONFIG, Kind.SESSION, Kind.ERASURE]
        assert await place.totals(node) == (2, 2200)
        node.session(3)
        assert (await place.take(node, node.exchange(first=0))).status == 200

    tell(story)


def test_a_person_whose_records_are_all_erased_has_no_pseudonym_left(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        database = place.hub.store.database

        async def names(table: str) -> list[bytes]:
            rows = await database.all(f"SELECT pseudonym FROM {table} ORDER BY pseudonym")
            return [bytes(row["pseudonym"]) for row in rows]

        async def users() -> list[tuple[int, int]]:
            return [
                (row["sessions"], row["users"])
                for table in ("site_day", "site_month")
                for row in await database.all(f"SELECT sessions, users FROM {table}")
            ]

        theirs = [node.session(1), node.session(1)]
        node.session(2)
        await place.take(node)
        # The third comes with the record that erases it.
        theirs.append(node.session(1))
        node.add(Kind.ERASURE, {"records": [[0, theirs[0]]]})
        await place.take(node)
        # Who has records left goes on being counted, once.
        assert await names("user_day") == await names("user_month") == [pseudonym(1), pseudonym(2)]
        node.session(1)
        theirs.append(len(node.records) - 1)
        await place.take(node)
        assert await users() == [(5, 2), (5, 2)]
        assert await place.hub.proof.faults(node.node_id, place.now) == []
        node.add(Kind.ERASURE, {"records": [[0, seq] for seq in theirs]})
        node.session(3)
        await place.take(node)
        for table in ("user_day", "user_month", "session_record"):
            assert await names(table) == [pseudonym(2), pseudonym(3)]
        assert await users() == [(6, 3), (6, 3)]
        node.session(2)
        await place.take(node)
        assert await users() == [(7, 3), (7, 3)]
        assert await place.totals(node) == (7, 7 * 1100)
        assert await place.hub.proof.faults(node.node_id, place.now) == []

    tell(story)


def test_a_session_without_a_card_can_be_erased_and_is_nobody(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        seq = node.session(0)
        node.session(0)
        node.add(Kind.ERASURE, {"records": [[0, seq]]})
        await place.take(node)
        assert await place.totals(node) == (2, 2200)
        assert await place.hub.proof.faults(node.node_id, place.now) == []

    tell(story)


def test_what_was_forgotten_is_in_no_file_of_the_directory(tmp_path: Path) -> None:
    directory = make_directory(tmp_path, "sqlite")
    name = b"\xa7PERSON\xa7\x01\x02"
    number = int.from_bytes(name, "big")
    assert pseudonym(number) == name

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in directory.glob(f"{HUB_FILE_NAME}*"))

    async def whole() -> None:
        async with office(directory) as place:
            node = WrittenNode()
            await place.enrol(node)
            for user in range(2000):
                node.session(number if user % 3 == 0 else user)
            while node.acked < len(node.records):
                await place.take(node, node.exchange(count=400))
            assert name in files()
            octets = await place.hub.store.database.octets()
            place.now += MONTHS_14
            await place.hub.tidy()
            assert name not in files()
            assert await place.hub.store.database.octets() < octets

    asyncio.run(whole())
    assert name not in files()


def test_an_erased_person_is_in_no_file_of_the_directory(tmp_path: Path) -> None:
    directory = make_directory(tmp_path, "sqlite")
    name = b"\xa7PERSON\xa7\x01\x02"
    number = int.from_bytes(name, "big")

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in directory.glob(f"{HUB_FILE_NAME}*"))

    async def whole() -> None:
        async with office(directory) as place:
            node = WrittenNode()
            await place.enrol(node)
            theirs = [node.session(number if user % 3 == 0 else user) for user in range(900)][::3]
            await place.take(node, node.exchange(count=400))
            assert name in files()
            node.add(Kind.ERASURE, {"records": [[0, seq] for seq in theirs]})
            while node.acked < len(node.records):
                await place.take(node, node.exchange(count=400))
            await place.hub.tidy()
            assert name not in files()
            assert await place.hub.proof.faults(node.node_id, place.now) == []

    asyncio.run(whole())
    assert name not in files()


@pytest.mark.parametrize(
    ("months", "expected"), [(13, "2025-08-01"), (1, "2026-08-01"), (9, "2025-12-01")]
)
def test_whole_months_are_kept(months: int, expected: str) -> None:
    assert first_kept(NOON, months).isoformat() == expected


TAMPERINGS = (
    ("UPDATE record SET at = at + 1 WHERE seq = 3", True),
    ("UPDATE record SET c_loc = ? WHERE seq = 3", True),
    ("DELETE FROM record WHERE seq = 3", True),
    ("UPDATE session_record SET output_octets = 1 WHERE seq = 3", True),
    ("DELETE FROM session_record WHERE seq = 3", True),
    ("UPDATE site_day SET input_octets = input_octets + 1", True),
    ("DELETE FROM site_day", True),
    ("DELETE FROM checkpoint WHERE size = 8", True),
    ("UPDATE checkpoint SET note = replace(note, '8', '7') WHERE size = 8", True),
    ("UPDATE record SET kind = 12 WHERE seq = 3", True),
    ("UPDATE session_record SET cause = 2 WHERE seq = 3", True),
    ("UPDATE session_record SET started_at = started_at - 9 WHERE seq = 3", True),
    ("UPDATE session_record SET seq = 99 WHERE seq = 3", True),
    ("UPDATE site_month SET output_octets = 0", True),
    ("UPDATE site_month SET users = users + 1", True),
    ("UPDATE site_day SET users = users + 1", True),
    ("UPDATE site_hour SET octets = octets + 1", True),
    ("UPDATE site_hour SET peak = 9", True),
    ("DELETE FROM user_day", True),
    ("UPDATE user_month SET octets = 0", True),
    ("UPDATE day_total SET sessions = 1", True),
    ("DELETE FROM event WHERE kind = 12", True),
    ("UPDATE event SET payload = '{}' WHERE kind = 12", True),
    ("UPDATE node_name SET name = 'X'", True),
    ("DELETE FROM node_head", True),
    ("UPDATE checkpoint SET cosigned_at = cosigned_at - 9", True),
    ("UPDATE node_head SET size = size - 1", True),
    ("UPDATE node_head SET size = size", False),
)
_ONE_MORE_ROW = (
    "INSERT INTO session_record SELECT node_id, day, epoch, 99, site, pseudonym, gateway, profile,"
    " started_at, at, duration_s, counted_s, input_octets, output_octets, cause, flags,"
    " clock_quality FROM session_record WHERE seq = 3"
)


@pytest.mark.parametrize(("sql", "is_seen"), TAMPERINGS)
def test_a_change_by_hand_is_found(tell: Tell, sql: str, is_seen: bool) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(4):
            node.session(user)
        node.add(Kind.HEALTH, {"free_octets": 1}, site=1)
        node.add(Kind.DAY_TOTAL, DayTotal(739_000, 4, 4, 400, 4000, 2400, 1), site=1)
        await place.take(node)
        assert await place.hub.proof.faults(node.node_id, place.now) == []
        async with place.hub.store.database.transaction() as transaction:
            await transaction.run(sql, (b"\x01" * 32,) if "?" in sql else ())
        found = await place.hub.proof.faults(node.node_id, place.now)
        assert bool(found) == is_seen, found
        assert all(fault.what.endswith(".") for fault in found)

    tell(story)


TAMPERINGS_AFTER = (
    "UPDATE site_day SET users = users + 1",
    "UPDATE site_day SET output_octets = output_octets + 1",
    "UPDATE site_month SET users = users - 1",
    "UPDATE site_month SET counted_s = counted_s + 1",
    "UPDATE site_hour SET sessions = 0",
    "DELETE FROM user_day WHERE pseudonym = ?",
    "UPDATE user_day SET pseudonym = ?",
    "UPDATE user_month SET octets = octets + 1",
    "UPDATE user_day SET profile = 7",
    "UPDATE forgotten_day SET users = 0",
    "DELETE FROM forgotten_month",
)


@pytest.mark.parametrize("sql", TAMPERINGS_AFTER)
def test_a_change_by_hand_is_found_where_somebody_was_erased(tell: Tell, sql: str) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        first = node.session(1)
        node.session(2)
        node.add(Kind.ERASURE, {"records": [[0, first]]})
        await place.take(node)
        assert await place.hub.proof.faults(node.node_id, place.now) == []
        name = pseudonym(2) if sql.startswith("DELETE") else pseudonym(9)
        async with place.hub.store.database.transaction() as transaction:
            await transaction.run(sql, (name,) if "?" in sql else ())
        assert await place.hub.proof.faults(node.node_id, place.now)

    tell(story)


def test_a_row_that_no_record_says_is_found(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(4):
            node.session(user)
        await place.take(node)
        async with place.hub.store.database.transaction() as transaction:
            await transaction.run(_ONE_MORE_ROW)
        (fault,) = await place.hub.proof.faults(node.node_id, place.now)
        assert fault.what == "There are 5 session rows for 4 records."

    tell(story)


def test_the_proof_stays_good_after_an_erasure_but_not_without_one(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        first = node.session(1)
        node.session(2)
        await place.take(node)
        node.add(Kind.ERASURE, {"records": [[0, first]]})
        await place.take(node)
        assert await place.hub.proof.faults(node.node_id, place.now) == []
        database = place.hub.store.database
        rows = await database.all("SELECT epoch, seq, public, c_loc FROM record WHERE seq = 3")
        async with database.transaction() as transaction:
            await place.hub.ledger.replace_by_leaves(transaction, node.node_id, rows)
            await transaction.run("DELETE FROM session_record")
        (fault,) = await place.hub.proof.faults(node.node_id, place.now)
        assert "Record 3 is gone before its time" in fault.what

    tell(story)


def test_a_box_that_was_taken_out_of_the_list_is_seen(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1)
        await place.take(node)
        checks = [each for each in await hub_check.look(place.hub) if each["name"] != "backup"]
        assert [each["status"] for each in checks] == ["ok", "ok"]
        async with place.hub.store.database.transaction() as transaction:
            await transaction.run("DELETE FROM node")
        failed = [each["message"] for each in await hub_check.look(place.hub)]
        assert "it has reported, and is in no list" in failed

    tell(story)
