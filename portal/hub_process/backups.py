"""A hub's backup: its database, keys and settings in one file, and the way back.

A tar file (archives.py) of pesisir.hub.db, pesisir.hub.keys, pesisir.toml and hub-backup.json.
The database in it is a SQLite file also where the hub's own is a PostgreSQL server. Nodes believe
whoever has its keys.

Nodes are told which of their records are in a backup, and may then forget them. A backup counts
for that when it lies where a dead disk of the hub does not take it along: the nightly one on
another file system than the hub's directory, one made by hand anywhere but in that directory.
"""

import asyncio
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal import archives, control, settings
from portal.directories import secret_directory
from portal.errors import UserError
from portal.hub import keys as hub_keys
from portal.hub_process.directories import bring_up_to_date, fill_server
from portal.settings import FILE_NAME as SETTINGS_NAME
from portal.store import db
from portal.store.db.either import HUB_FILE_NAME, StoreUnavailableError

if TYPE_CHECKING:
    from portal.serve_hub import Hub

FORM = archives.Form(
    "hub",
    "hub-backup.json",
    (HUB_FILE_NAME, hub_keys.FILE_NAME, SETTINGS_NAME),
    (HUB_FILE_NAME, SETTINGS_NAME),
)
_SPARE_OCTETS = 64 << 20


def is_hub_backup(file: Path) -> bool:
    """Whether a file is a hub's backup, and not a node's."""
    return hub_keys.FILE_NAME in archives.names(file)


# --- writing


async def write(hub: "Hub", path: str) -> dict[str, Any]:
    """Write a backup to a new file while the hub goes on.

    Returns {"octets", "made_at", "has_database", "sizes"}: `sizes` is for `note`, when the file
    lies where it stays. Raises UserError.
    """
    target, made_at = Path(path), hub.now()
    # What comes while the copy is made may be in it or not.
    sizes = await hub.ledger.sizes(hub.store.database)
    try:
        archives.forget_unfinished(hub.directory)
        with archives.scratch_in(hub.directory) as scratch:
            copy = scratch / HUB_FILE_NAME
            await hub.store.database.backup_to(copy)
            sources = {name: hub.directory / name for name in FORM.members}
            octets = await asyncio.to_thread(
                archives.write, FORM, sources | {HUB_FILE_NAME: copy}, target, made_at
            )
    except OSError as error:
        raise UserError(f"The backup cannot be written to {target}: {error.strerror}.") from error
    return {
        "octets": octets,
        "made_at": made_at,
        "has_database": True,
        "sizes": sizes,
    }


async def note(hub: "Hub", file: str, sizes: Sequence[tuple[str, int, int]]) -> dict[str, bool]:
    """Tell nodes at their next exchange what of theirs is in the backup `file`, unless that lies
    in the hub's own directory. Returns {"counts", "is_on_own_disk"}."""
    place = Path(file).parent
    counts = not _is_within(place, hub.directory)
    if counts:
        async with hub.store.database.transaction() as transaction:
            await hub.ledger.note_backup(transaction, sizes)
    return {"counts": counts, "is_on_own_disk": is_on_own_disk(hub.directory, place)}


def _is_within(place: Path, directory: Path) -> bool:
    return place.resolve().is_relative_to(directory.resolve())


def is_on_own_disk(directory: Path, place: Path) -> bool:
    """Whether a place is on the file system of the hub's directory, or cannot be looked at."""
    try:
        return place.stat().st_dev == directory.stat().st_dev
    except OSError:
        return True


async def nightly(hub: "Hub", day: str) -> Path | None:
    """The night's own backup, named by `day`; the newest three are kept.

    None when this night's is there already. Raises UserError when there is no room, or it cannot
    be written.
    """
    place = hub.settings.backup.place(hub.directory)
    target = place / archives.HUB_NIGHTLY.format(day=day)
    try:
        if place.parent == hub.directory:
            place.mkdir(mode=0o700, exist_ok=True)
        if target.exists():
            return None
        size = await hub.store.database.octets()
        for where in {hub.directory, place}:
            free = shutil.disk_usage(where).free
            if free < 2 * size + _SPARE_OCTETS:
                raise UserError(f"{where} has {free} octets free; a backup needs {2 * size}.")
        sizes = (await write(hub, str(target)))["sizes"]
        archives.keep_newest(place, archives.HUB_NIGHTLY)
    except OSError as error:
        raise UserError(f"No backup can be made in {place}: {error.strerror}.") from error
    if is_on_own_disk(hub.directory, place):
        return target
    await note(hub, str(target), sizes)
    return target


def newest_at(hub: "Hub") -> int | None:
    """When the newest nightly backup was written, None for none."""
    return archives.newest_at(hub.settings.backup.place(hub.directory), archives.HUB_NIGHTLY)


# --- the way back


def restore(directory: Path, file: Path) -> dict[str, Any]:
    """Put a hub's backup into a directory, which may be new; what was there is kept aside.

    With `[database] url` the rows go into that server's database, which must be empty. Nodes send
    again what came after the backup. Returns {"dir", "file", "backup_at", "kept", "database"}.
    Raises UserError, and then nothing has changed.
    """
    secret_directory(directory)
    now = int(datetime.now(UTC).timestamp())
    try:
        with control.own(directory, "restore"), archives.scratch_in(directory) as scratch:
            about = archives.read(FORM, file, scratch)
            _check_contents(file, scratch, now)
            own = directory / SETTINGS_NAME
            url = settings.database_url_of(directory if own.exists() else scratch)
            database = "sqlite" if url == "sqlite" else "postgresql"
            if database != "sqlite" and (scratch / HUB_FILE_NAME).exists():
                asyncio.run(fill_server(url, scratch / HUB_FILE_NAME, now))
                (scratch / HUB_FILE_NAME).unlink()
            databases = (HUB_FILE_NAME,) if HUB_FILE_NAME in about["sha256"] else ()
            kept = archives.put_aside(directory, databases, (hub_keys.FILE_NAME,))
            for name in (SETTINGS_NAME, HUB_FILE_NAME, hub_keys.FILE_NAME):
                fresh = scratch / name
                if fresh.exists() and not (directory / name).exists():
                    os.replace(fresh, directory / name)
            archives.sync(directory)
            # The keys of before have signed the certificate that is there; the next start gives
            # the new one its names.
            names = hub_keys.names_of(None, ())
            hub_keys.renew_certificate(directory, hub_keys.read(directory), names, now)
    except control.Held as held:
        if held.is_node:
            raise UserError(f"{held}; stop it before you restore") from None
        raise
    except StoreUnavailableError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"The backup cannot be put into {directory}: {error.strerror}.") from error
    return {
        "dir": str(directory),
        "file": str(file),
        "backup_at": about["made_at"],
        "kept": kept,
        "database": database if databases else None,
    }


def _check_contents(file: Path, scratch: Path, now: int) -> None:
    """Bring what was unpacked up to date; raises UserError when it could not be served."""
    hub_keys.read(scratch)
    fresh = scratch / HUB_FILE_NAME
    if not fresh.exists():
        return  # an earlier version's backup of a hub with PostgreSQL
    fault = db.check_file(fresh)
    if fault is not None:
        raise UserError(f"The database in {file} is damaged: {fault}.")
    asyncio.run(bring_up_to_date(scratch, now))
