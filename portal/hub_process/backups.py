"""A hub's backup: its database, keys and settings in one file, and the way back.

A tar file of pesisir.hub.db, pesisir.hub.keys, pesisir.toml and, last, hub-backup.json with the
time and the SHA-256 of each. Where the database is a PostgreSQL server, the file has no database:
that is saved with the server's own means (docs/hub.md). Nodes believe whoever has its keys.
"""

import asyncio
import hashlib
import io
import json
import os
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal import control
from portal.directories import secret_directory
from portal.errors import UserError
from portal.hub import keys as hub_keys
from portal.settings import FILE_NAME as SETTINGS_NAME
from portal.store import db
from portal.store.db.either import HUB_FILE_NAME
from portal.store.db.sqlite_hub import SqliteHubDatabase

if TYPE_CHECKING:
    from portal.serve_hub import Hub

ABOUT_NAME = "hub-backup.json"
FORMAT = 1
_MEMBERS = (HUB_FILE_NAME, hub_keys.FILE_NAME, SETTINGS_NAME)


def is_hub_backup(file: Path) -> bool:
    """Whether a file is a hub's backup, and not a node's."""
    try:
        with tarfile.open(file, mode="r:") as tar:
            return hub_keys.FILE_NAME in tar.getnames()
    except (OSError, tarfile.TarError):
        return False


async def write(hub: "Hub", path: str) -> dict[str, Any]:
    """Write a backup to a new file while the hub goes on, and tell nodes at their next exchange
    what of theirs is in it. Returns {"octets", "made_at", "has_database"}. Raises UserError."""
    target, made_at = Path(path), hub.now()
    database = hub.store.database
    # What comes while the copy is made may be in it or not.
    sizes = await hub.ledger.sizes(database)
    try:
        with tempfile.TemporaryDirectory(prefix="pesisir.scratch-", dir=hub.directory) as scratch:
            copy = Path(scratch) / HUB_FILE_NAME
            has_database = isinstance(database, SqliteHubDatabase)
            if isinstance(database, SqliteHubDatabase):
                await database.backup_to(copy)
            octets = await asyncio.to_thread(
                _pack, hub.directory, copy if has_database else None, target, made_at
            )
    except OSError as error:
        raise UserError(f"The backup cannot be written to {target}: {error.strerror}.") from error
    if has_database:
        async with database.transaction() as transaction:
            await hub.ledger.note_backup(transaction, sizes)
    return {"octets": octets, "made_at": made_at, "has_database": has_database}


def _pack(directory: Path, copy: Path | None, target: Path, made_at: int) -> int:
    """Write the tar file; its size."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    about: dict[str, Any] = {"format": FORMAT, "made_at": made_at, "sha256": {}}
    with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name in _MEMBERS:
            source = copy if name == HUB_FILE_NAME else directory / name
            if source is None or not source.exists():
                continue
            with source.open("rb") as content:
                about["sha256"][name] = hashlib.file_digest(content, "sha256").hexdigest()
                content.seek(0)
                tar.addfile(_member(name, source.stat().st_size, made_at), content)
        text = json.dumps(about, indent=1).encode()
        tar.addfile(_member(ABOUT_NAME, len(text), made_at), io.BytesIO(text))
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    return target.stat().st_size


def _member(name: str, size: int, made_at: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, made_at, 0o600
    return member


def restore(directory: Path, file: Path) -> dict[str, Any]:
    """Put a hub's backup into a directory, which may be new; what was there is kept aside.

    Nodes send again what came after it. Returns {"dir", "file", "backup_at", "kept"}. Raises
    UserError, and then nothing has changed.
    """
    secret_directory(directory)
    now = int(datetime.now(UTC).timestamp())
    try:
        with (
            control.own(directory, "restore"),
            tempfile.TemporaryDirectory(prefix="pesisir.scratch-", dir=directory) as place,
        ):
            scratch = Path(place)
            about = _unpack(file, scratch)
            kept = _put_aside(directory, scratch, now)
            for name in (SETTINGS_NAME, HUB_FILE_NAME, hub_keys.FILE_NAME):
                fresh = scratch / name
                if fresh.exists() and not (directory / name).exists():
                    os.replace(fresh, directory / name)
            # The keys of before have signed the certificate that is there; the next start gives
            # the new one its names.
            names = hub_keys.names_of(None, ())
            hub_keys.renew_certificate(directory, hub_keys.read(directory), names, now)
    except control.Held as held:
        if held.is_node:
            raise UserError(f"{held}; stop it before you restore") from None
        raise
    except OSError as error:
        raise UserError(f"The backup cannot be put into {directory}: {error.strerror}.") from error
    return {
        "dir": str(directory),
        "file": str(file),
        "backup_at": about["made_at"],
        "kept": kept,
    }


def _unpack(file: Path, scratch: Path) -> dict[str, Any]:
    """Write the members into `scratch`, their checksums compared. Raises UserError."""
    about: Any = None
    sums: dict[str, str] = {}
    try:
        with tarfile.open(file, mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or member.name not in (*_MEMBERS, ABOUT_NAME):
                    raise UserError(f"{file} holds {member.name[:80]!r}; nothing was touched.")
                if member.name == ABOUT_NAME:
                    about = json.loads(content.read(1 << 16))
                    continue
                sha256 = hashlib.sha256()
                descriptor = os.open(scratch / member.name, os.O_WRONLY | os.O_CREAT, 0o600)
                with open(descriptor, "wb") as target:
                    while octets := content.read(1 << 20):
                        sha256.update(octets)
                        target.write(octets)
                    target.flush()
                    os.fsync(target.fileno())
                sums[member.name] = sha256.hexdigest()
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise UserError(f"{file} is no backup of a hub, or is damaged.") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or about["sha256"] != sums:
        raise UserError(
            f"The backup {file} is cut short or was changed since it was made; nothing was touched."
        )
    hub_keys.read(scratch)
    if HUB_FILE_NAME in sums:
        fault = db.check_file(scratch / HUB_FILE_NAME)
        if fault is not None:
            raise UserError(f"The database in {file} is damaged: {fault}.")
    return about


def _put_aside(directory: Path, scratch: Path, now: int) -> list[str]:
    """Rename what the backup takes the place of; the new names. Settings that are there stay."""
    suffix = "before-" + datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = [hub_keys.FILE_NAME]
    if (scratch / HUB_FILE_NAME).exists():
        names += [HUB_FILE_NAME, f"{HUB_FILE_NAME}-wal", f"{HUB_FILE_NAME}-shm"]
    kept = []
    for name in names:
        if (directory / name).exists():
            aside = directory / name.replace(HUB_FILE_NAME, f"{HUB_FILE_NAME}.{suffix}")
            if name == hub_keys.FILE_NAME:
                aside = directory / f"{name}.{suffix}"
            os.rename(directory / name, aside)
            kept.append(str(aside))
    return kept
