"""Backups: everything a node is, in one file, and the way back.

A tar file (archives.py) of pesisir.db, the keys, pesisir.toml and backup.json. It holds the keys,
so it is as secret as the node's directory.
"""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from portal import archives, signing
from portal import keys as node_keys
from portal.archives import Report
from portal.errors import UserError
from portal.node import Node
from portal.settings import FILE_NAME as SETTINGS_NAME
from portal.store import db, restored

FORM = archives.Form(
    "node",
    "backup.json",
    (db.FILE_NAME, node_keys.FILE_NAME, signing.FILE_NAME, SETTINGS_NAME),
    (signing.FILE_NAME, SETTINGS_NAME),
)


# --- writing


async def write(node: Node, target: Path, report: Report) -> dict[str, Any]:
    """Write a backup of `node` to `target`, which must not exist, while it goes on working.

    Returns {"file", "made_at", "octets"}. Raises UserError when it cannot be written.
    """
    if not await node.commit.now():
        raise UserError(f"The database in {node.directory} cannot be written; see the log.")
    made_at = node.now()
    try:
        archives.forget_unfinished(node.directory)
        with archives.scratch_in(node.directory) as scratch:
            copy = scratch / db.FILE_NAME
            database_octets = max(1, (node.directory / db.FILE_NAME).stat().st_size)
            copying = asyncio.ensure_future(node.store.database.backup_to(copy))
            while not copying.done():
                await asyncio.wait([copying], timeout=0.3)
                with suppress(OSError):
                    report(min(copy.stat().st_size, database_octets), 2 * database_octets)
            await copying
            sources = {name: node.directory / name for name in FORM.members}
            packed = await asyncio.to_thread(
                archives.write,
                FORM,
                sources | {db.FILE_NAME: copy},
                target,
                made_at,
                _second_half(report),
            )
    except db.DatabaseError as error:
        raise UserError(f"The database cannot be copied to {target.parent}: {error}.") from error
    except OSError as error:
        raise UserError(f"The backup cannot be written to {target}: {error.strerror}.") from error
    return {"file": str(target), "made_at": made_at, "octets": packed}


def _second_half(report: Report) -> Report:
    return lambda done, total: report(total + done, 2 * total)


async def nightly(node: Node, day: str) -> Path | None:
    """The night's own backup, named by `day`, in its place; the newest three are kept.

    None when this night's is there already or a disk has no room for it.
    """
    place = node.settings.backup.place(node.directory)
    target = place / archives.NODE_NIGHTLY.format(day=day)
    if place.parent == node.directory:
        place.mkdir(mode=0o700, exist_ok=True)
    size = (node.directory / db.FILE_NAME).stat().st_size
    # The copy and the file made of it may lie beside each other for a moment.
    free = min(node.disk.free_octets(), shutil.disk_usage(place).free)
    if target.exists() or free < 3 * size + (64 << 20):
        return None
    await write(node, target, archives.quiet)
    archives.keep_newest(place, archives.NODE_NIGHTLY)
    return target


# --- the way back


def restore(directory: Path, file: Path, report: Report) -> dict[str, Any]:
    """Put the backup `file` in place of the data of `directory`; the caller owns the directory.

    The database and keys of before are kept beside, with the time in their names. Returns
    {"backup_at", "lost", "kept", "settings_restored"}; "lost" is None when it cannot be known.
    Raises UserError, and then nothing has changed.
    """
    try:
        with archives.scratch_in(directory) as scratch:
            about = archives.read(FORM, file, scratch, report)
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
            archives.sync(fresh)
            is_same_box = _is_same_box(directory, scratch)
            secrets = (node_keys.FILE_NAME, *(() if is_same_box else (signing.FILE_NAME,)))
            kept = archives.put_aside(directory, (db.FILE_NAME,), secrets)
            # The keys first: a database without keys is refused, keys without one are harmless.
            os.replace(scratch / node_keys.FILE_NAME, directory / node_keys.FILE_NAME)
            if not is_same_box and (scratch / signing.FILE_NAME).exists():
                os.replace(scratch / signing.FILE_NAME, directory / signing.FILE_NAME)
            has_settings = (scratch / SETTINGS_NAME).exists()
            is_setting = has_settings and not (directory / SETTINGS_NAME).exists()
            if is_setting:
                os.replace(scratch / SETTINGS_NAME, directory / SETTINGS_NAME)
            os.replace(fresh, current)
            archives.sync(directory)
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
