"""Backups: everything a node is, in one file, and the way back.

A backup is a tar file of pesisir.db, the keys, pesisir.toml and, last, backup.json with the
time and the SHA-256 of each: a file that was cut short or changed is found out before anything is
touched. It holds the keys, so it is as secret as the node's directory.
"""

import asyncio
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from portal import keys as node_keys
from portal import signing
from portal.control import Report
from portal.errors import UserError
from portal.health import NIGHTLY_DIRECTORY
from portal.node import Node
from portal.settings import FILE_NAME as SETTINGS_NAME
from portal.store import db, restored

ABOUT_NAME = "backup.json"
FORMAT = 1
NIGHTLY_KEPT = 3
_CHUNK_OCTETS = 1 << 20
_UNFINISHED_S = 86_400
_MEMBERS = (db.FILE_NAME, node_keys.FILE_NAME, signing.FILE_NAME, SETTINGS_NAME)
_MAY_MISS = (signing.FILE_NAME, SETTINGS_NAME)


# --- writing


async def write(node: Node, target: Path, report: Report) -> dict[str, Any]:
    """Write a backup of `node` to `target`, which must not exist, while it goes on working.

    Returns {"file", "made_at", "octets"}. Raises UserError when it cannot be written.
    """
    if not await node.commit.now():
        raise UserError(f"The database in {node.directory} cannot be written; see the log.")
    made_at = node.now()
    try:
        _forget_unfinished(node.directory)
        with _scratch(node.directory) as scratch:
            copy = scratch / db.FILE_NAME
            database_octets = max(1, (node.directory / db.FILE_NAME).stat().st_size)
            copying = asyncio.ensure_future(node.store.database.backup_to(copy))
            while not copying.done():
                await asyncio.wait([copying], timeout=0.3)
                with suppress(OSError):
                    report(min(copy.stat().st_size, database_octets), 2 * database_octets)
            await copying
            packed = await asyncio.to_thread(
                _pack, node.directory, copy, target, made_at, _second_half(report)
            )
    except db.DatabaseError as error:
        raise UserError(f"The database cannot be copied to {target.parent}: {error}.") from error
    except OSError as error:
        raise UserError(f"The backup cannot be written to {target}: {error.strerror}.") from error
    return {"file": str(target), "made_at": made_at, "octets": packed}


def _second_half(report: Report) -> Report:
    return lambda done, total: report(total + done, 2 * total)


def _pack(directory: Path, copy: Path, target: Path, made_at: int, report: Report) -> int:
    """Write the tar file; return its size."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            about: dict[str, Any] = {"format": FORMAT, "made_at": made_at, "sha256": {}}
            for name in _MEMBERS:
                source = copy if name == db.FILE_NAME else directory / name
                if name in _MAY_MISS and not source.exists():
                    continue
                about["sha256"][name] = _add(
                    tar, name, source, made_at, report if name == db.FILE_NAME else None
                )
            text = json.dumps(about, indent=1).encode()
            tar.addfile(_member(ABOUT_NAME, len(text), made_at), io.BytesIO(text))
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        return target.stat().st_size
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _member(name: str, size: int, made_at: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = made_at
    member.mode = 0o600
    return member


def _add(tar: tarfile.TarFile, name: str, source: Path, made_at: int, report: Report | None) -> str:
    """Add a file; return its SHA-256."""
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        reader = _Summing(file, size, report)
        tar.addfile(_member(name, size, made_at), reader)
    return reader.sha256.hexdigest()


class _Summing:
    """A file being read, its checksum so far, and a word about how far it is."""

    def __init__(self, file: BinaryIO, size: int, report: Report | None) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file
        self._size = size
        self._report = report
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        """The next octets."""
        octets = self._file.read(size)
        self.sha256.update(octets)
        before = self._done
        self._done += len(octets)
        if self._report is not None and before // _CHUNK_OCTETS != self._done // _CHUNK_OCTETS:
            self._report(self._done, self._size)
        return octets


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory inside `directory` for unfinished files, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pesisir.scratch-", dir=directory) as scratch:
        yield Path(scratch)


def _forget_unfinished(directory: Path) -> None:
    """Remove what a power cut left of earlier backups; a day is longer than any takes."""
    for path in [*directory.glob("pesisir.scratch-*"), *directory.glob("pesisir.backup-*")]:
        with suppress(OSError):
            if datetime.now(UTC).timestamp() - path.stat().st_mtime > _UNFINISHED_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


async def nightly(node: Node, day: str) -> Path | None:
    """The night's own backup, named by `day`, in DIR/backups; the newest three are kept.

    None when this night's is there already or the disk has no room for it.
    """
    place = node.directory / NIGHTLY_DIRECTORY
    target = place / f"pesisir-{day}.backup"
    size = (node.directory / db.FILE_NAME).stat().st_size
    # The copy and the file made of it lie beside each other for a moment.
    if target.exists() or node.disk.free_octets() < 3 * size + (64 << 20):
        return None
    place.mkdir(mode=0o700, exist_ok=True)
    await write(node, target, lambda done, total: None)
    for old in sorted(place.glob("pesisir-*.backup"))[:-NIGHTLY_KEPT]:
        old.unlink(missing_ok=True)
    return target


# --- the way back


def restore(
    directory: Path, file: Path, kept_suffix: Callable[[], str], report: Report
) -> dict[str, Any]:
    """Put the backup `file` in place of the data of `directory`; the caller owns the directory.

    The database and keys of before are kept with `kept_suffix` at the end of their names. Returns
    {"backup_at", "lost", "kept", "settings_restored"}; "lost" is None when it cannot be known.
    Raises UserError, and then nothing has changed.
    """
    try:
        with _scratch(directory) as scratch:
            about = _unpack(file, scratch, report)
            _check_contents(file, scratch)
            current = directory / db.FILE_NAME
            is_known = current.exists()
            fresh = scratch / db.FILE_NAME
            lost = (
                asyncio.run(restored.lost_since(current, fresh, about["made_at"]))
                if is_known
                else None
            )
            try:
                asyncio.run(restored.number_ahead(fresh, current if is_known else None))
            except (db.DatabaseError, ValueError) as error:
                raise UserError(f"The database in {file} cannot be used: {error}.") from error
            _sync(fresh)
            is_same_box = _is_same_box(directory, scratch)
            kept = _put_aside(directory, kept_suffix(), with_signing=not is_same_box)
            # The keys first: a database without keys is refused, keys without one are harmless.
            os.replace(scratch / node_keys.FILE_NAME, directory / node_keys.FILE_NAME)
            if not is_same_box and (scratch / signing.FILE_NAME).exists():
                os.replace(scratch / signing.FILE_NAME, directory / signing.FILE_NAME)
            has_settings = (scratch / SETTINGS_NAME).exists()
            is_setting = has_settings and not (directory / SETTINGS_NAME).exists()
            if is_setting:
                os.replace(scratch / SETTINGS_NAME, directory / SETTINGS_NAME)
            os.replace(fresh, current)
            _sync(directory)
    except OSError as error:
        raise UserError(f"The backup cannot be put into {directory}: {error.strerror}.") from error
    return {
        "backup_at": about["made_at"],
        "lost": None
        if lost is None
        else {
            "vouchers": lost.vouchers,
            "batches": list(lost.batches),
            "working_again": list(lost.ended),
            "sessions": lost.sessions,
            "octets": lost.octets,
        },
        "kept": kept,
        "settings_restored": is_setting,
    }


def _unpack(file: Path, scratch: Path, report: Report) -> dict[str, Any]:
    """Write the members of a backup into `scratch` and compare their checksums."""
    try:
        size = max(1, file.stat().st_size)
        with open(file, "rb") as source, tarfile.open(fileobj=source, mode="r:") as tar:
            sums: dict[str, str] = {}
            about: Any = None
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or member.name not in (*_MEMBERS, ABOUT_NAME):
                    raise UserError(
                        f"{file} holds {member.name[:80]!r}; expected a backup made with: pesisir "
                        "backup"
                    )
                if member.name == ABOUT_NAME:
                    about = json.loads(content.read(1 << 16))
                    continue
                sums[member.name] = _copy(content, scratch / member.name)
                report(min(source.tell(), size), size)
    except OSError as error:
        raise UserError(f"The backup {file} cannot be read: {error.strerror}.") from error
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(
            f"{file} is no backup of a node, or is damaged; expected a file made with: pesisir "
            "backup"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or about["sha256"] != sums:
        raise UserError(
            f"The backup {file} is cut short or was changed since it was made; nothing was touched."
        )
    return about


def _copy(content: Any, path: Path) -> str:
    sha256 = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as target:
        while octets := content.read(_CHUNK_OCTETS):
            sha256.update(octets)
            target.write(octets)
        target.flush()
        os.fsync(target.fileno())
    return sha256.hexdigest()


def _check_contents(file: Path, scratch: Path) -> None:
    """Raise UserError when what was unpacked could not be served."""
    node_keys.read(scratch)
    with suppress(FileNotFoundError):
        signing.SigningKeys.read(scratch)
    fresh = scratch / db.FILE_NAME
    fault = db.check_file(fresh)
    if fault is not None:
        raise UserError(f"The database in {file} is damaged: {fault}.")
    newest = db.migrations()[-1][0]
    version = db.schema_version(fresh)
    if version > newest:
        raise UserError(
            f"The backup {file} has schema version {version}, newer than this program's {newest}; "
            "install the newer program to restore it."
        )


def _is_same_box(directory: Path, scratch: Path) -> bool:
    """Whether the box has its own signing keys already, perhaps newer than those of the backup; a
    backup without any leaves the box what it has."""
    try:
        own = signing.SigningKeys.read(directory)
    except (FileNotFoundError, UserError):
        return False
    try:
        return signing.SigningKeys.read(scratch).node_id == own.node_id
    except FileNotFoundError:
        return True


def _put_aside(directory: Path, suffix: str, *, with_signing: bool) -> list[str]:
    """Rename the data of before; return the new names."""
    kept = []
    for name in (db.FILE_NAME, f"{db.FILE_NAME}-wal", f"{db.FILE_NAME}-shm"):
        path = directory / name
        if path.exists():
            # SQLite finds a log by the name of its database.
            aside = directory / name.replace(db.FILE_NAME, f"{db.FILE_NAME}.{suffix}")
            os.rename(path, aside)
            kept.append(str(aside))
    for name in (node_keys.FILE_NAME, *((signing.FILE_NAME,) if with_signing else ())):
        keys = directory / name
        if keys.exists():
            aside = directory / f"{name}.{suffix}"
            os.rename(keys, aside)
            kept.append(str(aside))
    return kept


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
