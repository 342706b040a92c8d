"""A hub's backup, from and into either database; and the nights' own."""

import asyncio
import os
import sqlite3
import tarfile
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from portal import archives, settings
from portal.errors import UserError
from portal.hub_process import backups as hub_backups
from portal.hub_process import check as hub_check
from portal.settings import Backup
from portal.store.db.either import HUB_FILE_NAME
from tests.unit.hub.office import Office, make_directory, office
from tests.unit.hub.written_node import NOON, WrittenNode


def on(directory: Path, work: Callable[[Office], Awaitable[None]]) -> None:
    """Do `work` at the hub of a directory."""

    async def whole() -> None:
        async with office(directory) as place:
            await work(place)

    asyncio.run(whole())


async def everything(place: Office) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables of a hub."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for table in (
        *("alarm", "checkpoint", "day_total", "enrolment", "event", "evidence", "fact", "node"),
        *("node_key", "node_name", "record", "reviewer", "sealed", "session_record", "site"),
        *("site_day", "site_hour", "site_month", "user_day", "user_month"),
    ):
        rows = await place.hub.store.database.all(f"SELECT * FROM {table}")
        found[table] = sorted((tuple(cast(Iterable[object], row)) for row in rows), key=repr)
    return found


async def is_good(place: Office) -> bool:
    """Whether `pesisir check` finds nothing wrong, and a node."""
    checks = await hub_check.look(place.hub)
    assert any(check["name"].startswith("node ") for check in checks)
    return all(check["status"] != "fail" for check in checks)


def used_node() -> WrittenNode:
    """A node with records of several kinds."""
    node = WrittenNode()
    for number in range(40):
        node.session(number % 7, at=NOON + number * 400, down=10**6 + number)
    return node


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_a_backup_comes_back_into_either_database(
    hub_directory: Path, tmp_path: Path, to: str, request: pytest.FixtureRequest
) -> None:
    node, file = used_node(), tmp_path / "away" / "hub.backup"
    file.parent.mkdir()
    before: dict[str, list[tuple[object, ...]]] = {}

    async def fill(place: Office) -> None:
        await place.enrol(node)
        assert (await place.take(node)).answer.backed_up_size == 0
        before.update(await everything(place))
        made = await hub_backups.write(place.hub, str(file))
        assert (await place.take(node)).answer.backed_up_size == 0
        told = await hub_backups.note(place.hub, str(file), made["sizes"])
        assert told == {"counts": True, "is_on_own_disk": True}
        # Nodes learn which of their records they need not keep any more.
        assert (await place.take(node)).answer.backed_up_size == len(node.records) == 42
        node.session(1, at=NOON + 20_000)
        assert (await place.take(node)).answer.backed_up_size == 42

    on(hub_directory, fill)
    url = to if to == "sqlite" else request.getfixturevalue("server_url")
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / settings.FILE_NAME).write_text(f'[database]\nurl = "{url}"\n')
    done = hub_backups.restore(other, file)
    assert (done["database"], done["kept"]) == (to, [])
    assert (other / HUB_FILE_NAME).exists() == (to == "sqlite")

    async def look(place: Office) -> None:
        assert await everything(place) == before
        assert await is_good(place)
        outcome = await place.take(node)
        assert (outcome.answer.problem, outcome.answer.size) == ("behind", 42)
        sent = node.exchange(42, proof=node.cosigned)
        outcome = await place.take(node, sent)
        assert (outcome.answer.problem, outcome.answer.size) == (None, 43)
        assert await is_good(place)

    on(other, look)


def test_a_server_that_has_a_hubs_data_is_not_filled(
    hub_directory: Path, tmp_path: Path, server_url: str
) -> None:
    taken = make_directory(tmp_path / "taken", server_url)
    file = tmp_path / "hub.backup"

    async def save(place: Office) -> None:
        await hub_backups.write(place.hub, str(file))

    on(hub_directory, save)
    keys = (taken / "pesisir.hub.keys").read_bytes()
    with pytest.raises(UserError, match="holds a hub's data already; expected an empty one"):
        hub_backups.restore(taken, file)
    assert (taken / "pesisir.hub.keys").read_bytes() == keys
    assert not list(taken.glob("*before*"))

    async def look(place: Office) -> None:
        assert await place.hub.store.nodes() == []

    on(taken, look)


def test_a_backup_that_cannot_be_served_changes_nothing(tmp_path: Path) -> None:
    directory = make_directory(tmp_path, "sqlite")
    file = tmp_path / "hub.backup"

    async def save(place: Office) -> None:
        await hub_backups.write(place.hub, str(file))
        with pytest.raises(UserError, match="File exists"):
            await hub_backups.write(place.hub, str(file))

    on(directory, save)
    with tarfile.open(file) as tar:
        assert tar.getnames() == [*hub_backups.FORM.members, "hub-backup.json"]
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    archives.read(hub_backups.FORM, file, unpacked)
    database = sqlite3.connect(unpacked / HUB_FILE_NAME)
    database.execute("UPDATE schema_version SET number = 900 WHERE number = 1")
    database.commit()
    database.close()
    newer = tmp_path / "newer.backup"
    sources = {name: unpacked / name for name in hub_backups.FORM.members}
    archives.write(hub_backups.FORM, sources, newer, NOON)
    with pytest.raises(UserError, match="schema version 900, newer than this program's"):
        hub_backups.restore(directory, newer)
    (unpacked / HUB_FILE_NAME).write_bytes(b"no database")
    broken = tmp_path / "broken.backup"
    archives.write(hub_backups.FORM, sources, broken, NOON)
    with pytest.raises(UserError, match=r"database in .* is damaged"):
        hub_backups.restore(directory, broken)
    cut = tmp_path / "cut.backup"
    cut.write_bytes(file.read_bytes()[:-12_000])
    with pytest.raises(UserError, match="cut short or was changed|is damaged"):
        hub_backups.restore(directory, cut)
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert {name for name in after if name != "pesisir.lock"} >= set(before) - {"pesisir.lock"}
    assert after["pesisir.hub.keys"] == before["pesisir.hub.keys"]
    assert after[HUB_FILE_NAME] == before[HUB_FILE_NAME]


def test_a_backup_in_the_hubs_own_directory_does_not_count(hub_directory: Path) -> None:
    node = used_node()

    async def work(place: Office) -> None:
        await place.enrol(node)
        await place.take(node)
        for file in (hub_directory / "hub.backup", hub_directory / "backups" / ".." / "hub.backup"):
            sizes = [(node.node_id, 0, 42)]
            told = await hub_backups.note(place.hub, str(file), sizes)
            assert told == {"counts": False, "is_on_own_disk": True}
        assert (await place.take(node)).answer.backed_up_size == 0

    on(hub_directory, work)


def another_disk() -> Path:
    """A directory on another file system than the tests' own."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no /dev/shm to stand for another disk")
    return memory


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_backup_is_made_each_night_and_counts_on_another_disk(
    hub_directory: Path, is_elsewhere: bool
) -> None:
    node = used_node()
    place_of = another_disk() / f"pesisir-{os.getpid()}" if is_elsewhere else None

    async def work(place: Office) -> None:
        hub = place.hub
        await place.enrol(node)
        await place.take(node)
        assert (await backup_line(place))["status"] == "warning"
        if place_of is not None:
            hub.settings = replace(hub.settings, backup=Backup(place_of))
            # Nobody has mounted it.
            with pytest.raises(UserError, match="No such file"):
                await hub_backups.nightly(hub, "2026-11-19")
            place_of.mkdir()
        for day in ("2026-11-19", "2026-11-20", "2026-11-21", "2026-11-22"):
            made = await hub_backups.nightly(hub, day)
            assert made is not None and made.parent == hub.settings.backup.place(hub.directory)
            assert await hub_backups.nightly(hub, day) is None
        kept = sorted(path.name for path in hub.settings.backup.place(hub.directory).iterdir())
        assert kept == [f"pesisir-hub-2026-11-{day}.backup" for day in (20, 21, 22)]
        counted = len(node.records) if is_elsewhere else 0
        assert (await place.take(node)).answer.backed_up_size == counted
        newest = hub_backups.newest_at(hub)
        assert newest is not None
        place.now = newest + 60
        said = await backup_line(place)
        assert said["status"] == ("ok" if is_elsewhere else "warning")
        assert ("own disk" in said["message"]) == (not is_elsewhere)
        place.now = newest + 4 * 86_400
        assert (await backup_line(place))["status"] == "warning"

    try:
        on(hub_directory, work)
    finally:
        if place_of is not None:
            for path in place_of.glob("*"):
                path.unlink()
            place_of.rmdir()


async def backup_line(place: Office) -> dict[str, str]:
    """What `pesisir check` says of backups."""
    (line,) = [each for each in await hub_check.look(place.hub) if each["name"] == "backup"]
    return line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE site SET zone = 'Asia/Mak`ssar'", "The zone is 'Asia/Mak`ssar'"),
        (
            "UPDATE node_head SET cosigned = REPLACE(cosigned, 'pesisir/hub', 'pesisir/hup')",
            "newest checkpoint is none",
        ),
    ],
)
def test_check_finds_a_zone_and_a_newest_checkpoint_that_were_altered(
    hub_directory: Path, change: str, words: str
) -> None:
    async def work(place: Office) -> None:
        node = used_node()
        await place.enrol(node)
        await place.take(node)
        assert await is_good(place)
        async with place.hub.store.database.transaction() as transaction:
            await transaction.run(change)
        failed = [c["message"] for c in await hub_check.look(place.hub) if c["status"] == "fail"]
        assert len(failed) == 1 and words in failed[0]

    on(hub_directory, work)


def test_a_hub_whose_zone_is_none_says_so_and_ends(hub_directory: Path) -> None:
    async def work(place: Office) -> None:
        async with place.hub.store.database.transaction() as transaction:
            await place.hub.store.set_facts(transaction, [("zone", "Asia.Jakarta")])

    async def nothing(place: Office) -> None:
        raise AssertionError("it was opened")

    on(hub_directory, work)
    # Other tests of this process may have threads of their own.
    before = set(threading.enumerate())
    with pytest.raises(UserError, match=r"The zone is 'Asia\.Jakarta'"):
        on(hub_directory, nothing)
    for left in set(threading.enumerate()) - before:
        left.join(10)
        assert not left.is_alive(), left
