"""Backups: the night's own, and what a backup holds."""

import asyncio
import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from portal import backups, directories, keys, settings
from portal.errors import UserError
from portal.serve import open_node


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
    assert names == ["pesisir.db", "pesisir.keys", "pesisir.toml", "backup.json"]
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
