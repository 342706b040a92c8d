"""Archives: backups as files, a node's and a hub's alike.

A backup is a tar file whose last member tells, as JSON, when it was made and the SHA-256 of every
other member: a file that was cut short or changed is found out before anything is touched. What is
in it, and where it goes, is known to portal/backups.py and portal/hub_process/backups.py.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from portal.errors import UserError

FORMAT = 1
NODE_NIGHTLY = "pesisir-{day}.backup"
HUB_NIGHTLY = "pesisir-hub-{day}.backup"
NIGHTLY_KEPT = 3
_CHUNK_OCTETS = 1 << 20
_UNFINISHED_S = 86_400
_PART = ".part"

Report = Callable[[int, int], None]
"""Says how far it is: octets done, octets in all."""


def quiet(done: int, total: int) -> None:
    """A report that nobody reads."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a kind of backup looks like."""

    whose: str
    """"node" or "hub"."""
    about_name: str
    members: tuple[str, ...]
    """Names that may be in it, in the order they are written."""
    may_miss: tuple[str, ...]
    """Those of them that not every directory has."""


# --- writing


def write(
    form: Form, sources: Mapping[str, Path], target: Path, made_at: int, report: Report = quiet
) -> int:
    """Write the backup `target` of `sources`, files by the names of members; return its size.

    `target` must not exist; it is whole, and on the disk, or not there. Raises OSError.
    """
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    part = target.with_name(f".{target.name}{_PART}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        about: dict[str, Any] = {"format": FORMAT, "made_at": made_at, "sha256": {}}
        largest = max(sources, key=lambda name: _size(sources[name]))
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for name in form.members:
                if sources[name].exists() or name not in form.may_miss:
                    about["sha256"][name] = _add(
                        tar, name, sources[name], made_at, report if name == largest else quiet
                    )
            text = json.dumps(about, indent=1).encode()
            tar.addfile(_member(form.about_name, len(text), made_at), io.BytesIO(text))
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        sync(target.parent)
        return target.stat().st_size
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _member(name: str, size: int, made_at: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = made_at
    member.mode = 0o600
    return member


def _add(tar: tarfile.TarFile, name: str, source: Path, made_at: int, report: Report) -> str:
    """Add a file; return its SHA-256."""
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        reader = _Summing(file, size, report)
        tar.addfile(_member(name, size, made_at), reader)
    return reader.sha256.hexdigest()


class _Summing:
    """A file being read, its checksum so far, and a word about how far it is."""

    def __init__(self, file: BinaryIO, size: int, report: Report) -> None:
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
        if before // _CHUNK_OCTETS != self._done // _CHUNK_OCTETS:
            self._report(self._done, self._size)
        return octets


@contextmanager
def scratch_in(directory: Path) -> Iterator[Path]:
    """A directory inside `directory` for unfinished files, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pesisir.scratch-", dir=directory) as scratch:
        yield Path(scratch)


def forget_unfinished(directory: Path) -> None:
    """Remove what a power cut left of earlier backups; a day is longer than any takes."""
    for path in [*directory.glob("pesisir.scratch-*"), *directory.glob("pesisir.backup-*")]:
        with suppress(OSError):
            if datetime.now(UTC).timestamp() - path.stat().st_mtime > _UNFINISHED_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def keep_newest(place: Path, name: str) -> None:
    """Delete all but the newest few nightly backups of such a name, and what a power cut left of
    one."""
    for old in _nightly(place, name)[:-NIGHTLY_KEPT]:
        old.unlink(missing_ok=True)
    for part in _nightly(place, f".{name}{_PART}"):
        part.unlink(missing_ok=True)


def _nightly(place: Path, name: str) -> list[Path]:
    return sorted(place.glob(name.format(day="[0-9]*")))


def newest_at(place: Path, name: str) -> int | None:
    """When the newest nightly backup in its place was written, None for none."""
    found = []
    with suppress(OSError):
        found += [int(path.stat().st_mtime) for path in _nightly(place, name)]
    return max(found, default=None)


# --- the way back


def names(file: Path) -> list[str]:
    """The names of all members of a tar file, none of any other file."""
    try:
        with tarfile.open(file, mode="r:") as tar:
            return tar.getnames()
    except (OSError, tarfile.TarError):
        return []


def read(form: Form, file: Path, scratch: Path, report: Report = quiet) -> dict[str, Any]:
    """Write the members of a backup into `scratch` and compare their checksums; what its last
    member tells. Raises UserError."""
    sums: dict[str, str] = {}
    about: Any = None
    try:
        size = max(1, file.stat().st_size)
        with open(file, "rb") as source, tarfile.open(fileobj=source, mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or member.name not in (*form.members, form.about_name):
                    raise UserError(
                        f"{file} holds {member.name[:80]!r}; expected a backup made with: pesisir "
                        "backup"
                    )
                if member.name == form.about_name:
                    about = json.loads(content.read(1 << 16))
                    continue
                sums[member.name] = _copy(content, scratch / member.name)
                report(min(source.tell(), size), size)
    except OSError as error:
        raise UserError(f"The backup {file} cannot be read: {error.strerror}.") from error
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(
            f"{file} is no backup of a {form.whose}, or is damaged; expected a file made with: "
            "pesisir backup"
        ) from error
    if (
        not isinstance(about, dict)
        or about.get("format") != FORMAT
        or about.get("sha256") != sums
        or not isinstance(about.get("made_at"), int)
    ):
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


def put_aside(directory: Path, databases: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    """Rename the data of before, databases with their logs; return the new names."""
    suffix = "before-" + datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    # SQLite finds a log by the name of its database.
    names = {
        f"{name}{log}": f"{name}.{suffix}{log}"
        for name in databases
        for log in ("", "-wal", "-shm")
    }
    names |= {name: f"{name}.{suffix}" for name in others}
    kept = []
    for name, aside in names.items():
        if (directory / name).exists():
            os.rename(directory / name, directory / aside)
            kept.append(str(directory / aside))
    return kept


def sync(path: Path) -> None:
    """Have a file, or a directory's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
