"""Backups: the night's own, and what a backup holds."""

import asyncio
import base64
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from portal import archives, backups, directories, keys, settings
from portal.domain.ledger import Kind, origin
from portal.domain.note import parse_checkpoint, parse_note
from portal.errors import UserError
from portal.ledger import Ledger
from portal.serve import open_node
from portal.signing import SigningKeys
from tests.unit import ledger_check


def quiet(done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = directories.make(
        tmp_path / "node", code="TJL", name="Tanjung Laut", zone="Asia/Makassar", admin="siti"
    )
    return Path(made["dir"])


def test_a_backup_is_a_tar_file_with_checksums(directory: Path, tmp_path: Path) -> None:
    async def work() -> None:
        node = await open_node(directory, settings.load(directory, {}))
        try:
            seen: list[tuple[int, int]] = []
            target = tmp_path / "b"
            done = await backups.write(node, target, lambda *progress: seen.append(progress))
            assert done["octets"] == target.stat().st_size
            assert all(0 <= done <= total for done, total in seen)
            with pytest.raises(UserError, match="File exists"):
                await backups.write(node, target, quiet)
        finally:
            await node.close()

    asyncio.run(work())
    with tarfile.open(tmp_path / "b") as tar:
        names = tar.getnames()
        contents = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names == [
        *("pesisir.db", "pesisir.keys", "pesisir.signing", "pesisir.toml", "backup.json"),
    ]
    about = json.loads(contents.pop("backup.json"))
    assert about["sha256"] == {
        name: hashlib.sha256(octets).hexdigest() for name, octets in contents.items()
    }
    assert contents["pesisir.keys"] == (directory / "pesisir.keys").read_bytes()


def test_the_night_keeps_three_backups_and_makes_one_a_day(directory: Path) -> None:
    async def work() -> None:
        node = await open_node(directory, settings.load(directory, {}))
        try:
            for day in ("2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"):
                assert await backups.nightly(node, day) is not None
            assert await backups.nightly(node, "2026-11-23") is None
        finally:
            await node.close()

    asyncio.run(work())
    names = sorted(path.name for path in (directory / "backups").iterdir())
    assert names == [f"pesisir-2026-11-{day}.backup" for day in (21, 22, 23)]


def test_what_a_power_cut_left_is_removed_after_a_day(directory: Path, tmp_path: Path) -> None:
    old = [directory / "pesisir.scratch-old", directory / "pesisir.backup-old"]
    new = directory / "pesisir.scratch-new"
    old[0].mkdir()
    (old[0] / "pesisir.db").write_text("x")
    old[1].write_text("x")
    new.mkdir()
    for path in old:
        os.utime(path, (0, 0))

    async def work() -> None:
        node = await open_node(directory, settings.load(directory, {}))
        try:
            await backups.write(node, tmp_path / "b", quiet)
        finally:
            await node.close()

    asyncio.run(work())
    assert not any(path.exists() for path in old) and new.exists()


@pytest.mark.parametrize(
    "member",
    ["../evil", "/etc/evil", "pesisir.db/../../evil", "extra.txt"],
)
def test_a_strange_member_is_refused(directory: Path, tmp_path: Path, member: str) -> None:
    file = tmp_path / "b"
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo(member))
    with pytest.raises(UserError, match="expected a backup"):
        directories.restore(directory, file, quiet)
    assert not (tmp_path / "evil").exists()


def test_a_link_in_a_backup_is_refused(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "b"
    with tarfile.open(file, "w") as tar:
        link = tarfile.TarInfo("pesisir.db")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(UserError, match="expected a backup"):
        directories.restore(directory, file, quiet)


def test_restored_ids_are_never_given_again(directory: Path, tmp_path: Path) -> None:
    """A session id begins with the boot number and lives on in gateways' Class."""

    async def boot(place: Path, target: Path | None) -> int:
        node = await open_node(place, settings.load(place, {}))
        try:
            await node.begin_service()
            if target is not None:
                await backups.write(node, target, quiet)
            return node.boot
        finally:
            await node.close()

    file = tmp_path / "b"
    first = asyncio.run(boot(directory, file))
    for _ in range(3):
        last = asyncio.run(boot(directory, None))
    assert last == first + 3
    directories.restore(directory, file, quiet)
    assert asyncio.run(boot(directory, None)) > last
    # On another box nobody knows how often the dead one has started since.
    directories.restore(tmp_path / "other", file, quiet)
    assert asyncio.run(boot(tmp_path / "other", None)) > last + 100
    assert keys.read(tmp_path / "other") == keys.read(directory)


def test_a_restored_ledger_goes_on_in_an_epoch_that_names_the_last_checkpoint(
    directory: Path, tmp_path: Path
) -> None:
    def cosigned(note: str) -> str:
        return (
            note + "\N{EM DASH} pesisir/hub/office " + base64.b64encode(bytes(76)).decode() + "\n"
        )

    async def run(place: Path, *, target: Path | None = None, is_seen: bool = False) -> Ledger:
        node = await open_node(place, settings.load(place, {}))
        try:
            await node.begin_service()
            await node.commit.now()
            head = node.ledger.store.head()
            assert head is not None
            if is_seen:
                note = cosigned(node.ledger.checkpoint())
                await node.ledger.store.keep_cosigned(head.epoch, head.size, note, at=node.now())
            if target is not None:
                await backups.write(node, target, quiet)
            return node.ledger
        finally:
            await node.close()

    def epochs(place: Path) -> list[dict[str, Any]]:
        return [
            dict(record.payload)  # type: ignore[arg-type]
            for record, _ in ledger_check.records_of(place / "pesisir.db")
            if record.kind == Kind.EPOCH
        ]

    file = tmp_path / "b"
    asyncio.run(run(directory, target=file, is_seen=True))
    newest = asyncio.run(run(directory, is_seen=True))
    last = newest.store.head()
    assert last is not None
    directories.restore(directory, file, quiet)
    asyncio.run(run(directory))
    ledger_check.check_tree(directory / "pesisir.db")
    [first, second] = epochs(directory)
    assert (first["why"], first["parent"]) == ("first start", None)
    assert second["why"] == "restored"
    # The checkpoint was kept after the backup: the database that was put aside knew it.
    checkpoint = parse_checkpoint(parse_note(second["parent"]).text)
    assert (checkpoint.origin, checkpoint.size) == (origin(last.node, 0), last.size)
    # Once more: an epoch number is never used again.
    directories.restore(directory, file, quiet)
    again = asyncio.run(run(directory)).store.head()
    assert again is not None and (again.epoch, again.node) == (2, last.node)
    # Another box, which knows nothing newer, signs with the key of the backup.
    directories.restore(tmp_path / "other", file, quiet)
    other = asyncio.run(run(tmp_path / "other")).store.head()
    assert other is not None and (other.epoch, other.node) == (1, last.node)


def test_the_keys_of_a_box_are_not_replaced_by_older_ones_of_its_own(
    directory: Path, tmp_path: Path
) -> None:
    async def back_up() -> None:
        node = await open_node(directory, settings.load(directory, {}))
        await backups.write(node, tmp_path / "b", quiet)
        await node.close()

    asyncio.run(back_up())
    old = SigningKeys.read(directory)
    rotated = SigningKeys.make(os.urandom, old.node_id)
    rotated.write(directory)
    directories.restore(directory, tmp_path / "b", quiet)
    assert SigningKeys.read(directory) == rotated
    SigningKeys.make(os.urandom).write(directory)
    kept = directories.restore(directory, tmp_path / "b", quiet)["kept"]
    assert SigningKeys.read(directory) == old
    assert any("pesisir.signing" in name for name in kept)


def test_what_a_power_cut_left_of_a_nightly_backup_is_none(tmp_path: Path) -> None:
    place = tmp_path / "backups"
    place.mkdir()
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10_000)
    form = archives.Form("node", "about.json", ("source",), ())
    for day in ("2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23"):
        archives.write(form, {"source": source}, place / f"pesisir-{day}.backup", 1)
    other = place / "pesisir-hub-2026-11-20.backup"
    other.write_bytes(b"of a hub on the same disk")
    left = place / ".pesisir-2026-11-24.backup.part"
    left.write_bytes(b"half")
    archives.keep_newest(place, archives.NODE_NIGHTLY)
    assert [path.name for path in sorted(place.iterdir())] == [
        "pesisir-2026-11-21.backup",
        "pesisir-2026-11-22.backup",
        "pesisir-2026-11-23.backup",
        other.name,
    ]
    assert (
        archives.read(form, place / "pesisir-2026-11-23.backup", tmp_path / "backups")["made_at"]
        == 1
    )
    with pytest.raises(FileNotFoundError):
        archives.write(form, {"source": tmp_path / "gone"}, place / "other", 1)
    assert not (place / "other").exists() and not list(place.glob("*.part"))
