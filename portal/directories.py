"""A node's directory as a whole: made, backed up, restored. What `pesisir init`, `backup` and
`restore` do before and after the data themselves are touched.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from portal import backups, control, passwords, recovery_sheet, settings, signing
from portal import keys as node_keys
from portal.admin import Admin
from portal.audit import COMMAND_LINE
from portal.control import Report
from portal.errors import UserError
from portal.operators import NAME as OPERATOR_NAME
from portal.signing import SigningKeys
from portal.store import db
from portal.store.audit import Deed
from portal.store.db import Database, DatabaseError, DatabaseUnusableError
from portal.store.node import NodeStore
from portal.store.operators import OperatorStore

DEFAULT_ZONE = "Asia/Jakarta"
_UNFINISHED = db.FILE_NAME + ".new"


# --- making


def make(
    directory: Path,
    *,
    code: str,
    name: str,
    zone: str | None,
    admin: str,
    values: dict[str, str | list[str]] | None = None,
    must_change: bool = True,
) -> dict[str, str]:
    """Make a node's directory: settings, keys, database, first site, first sign-in.

    `values` are settings by section.key for a new pesisir.toml; one that is there already is kept.
    The password must be changed at the first sign-in, unless `must_change` is False (the demo
    prints it at every start). Returns {"dir", "admin", "password", "recovery_sheet"}. Raises
    UserError; the directory then has no data.
    """
    if not OPERATOR_NAME.fullmatch(admin):
        raise UserError(
            f'The sign-in is "{admin}"; expected up to 32 lower-case letters, digits, dots, dashes '
            "and underscores."
        )
    _refuse_data(directory)
    secret_directory(directory)
    with control.own(directory, "init"):
        _refuse_data(directory)
        password = passwords.make(secrets.randbelow)
        unfinished = directory / _UNFINISHED
        made: list[Path] = []
        try:
            # An earlier init that was cut off by a power cut left these, and nothing uses them.
            sheet = directory / recovery_sheet.FILE_NAME
            for old in (unfinished, directory / node_keys.FILE_NAME, sheet):
                old.unlink(missing_ok=True)
            made += [unfinished, directory / node_keys.FILE_NAME, sheet]
            now = int(datetime.now(UTC).timestamp())
            place = (code, name, zone or DEFAULT_ZONE)
            asyncio.run(_fill(unfinished, *place, admin, password, must_change, now))
            node_keys.write(directory, node_keys.make(secrets.token_bytes))
            # A box that is enrolled while it is still blank has its signing keys already.
            if not (directory / signing.FILE_NAME).exists():
                made.append(directory / signing.FILE_NAME)
                SigningKeys.make(secrets.token_bytes).write(directory)
            file = directory / settings.FILE_NAME
            if not file.exists():
                made.append(file)
                _write_secretly(file, settings.file_text(values))
            settings.load_for_node(directory)
            _write_secretly(
                sheet,
                recovery_sheet.html(
                    directory=directory.absolute(), site=name, admin=admin, at=now, zone=place[2]
                ),
            )
            os.replace(unfinished, directory / db.FILE_NAME)
        except OSError as error:
            _take_away(made)
            raise UserError(f"{directory} cannot be written: {error.strerror}.") from error
        except BaseException:
            _take_away(made)
            raise
    return {
        "dir": str(directory),
        "admin": admin,
        "password": password,
        "recovery_sheet": str(directory / recovery_sheet.FILE_NAME),
    }


def _refuse_data(directory: Path) -> None:
    """Raise UserError when a node, or what is left of one, lives there."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; expected a directory.")
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        names = set(os.listdir(directory))
        if db.FILE_NAME in names:
            raise UserError(f"{directory} has a node's data already; nothing was changed.")
        # Keys beside an unfinished database are those of an init that was cut off.
        if node_keys.FILE_NAME in names and _UNFINISHED not in names:
            raise UserError(
                f"{directory} has keys without a database; put the data back with: pesisir restore "
                "FILE, or choose another directory."
            )


async def _fill(
    path: Path,
    code: str,
    name: str,
    zone: str,
    admin: str,
    password: str,
    must_change: bool,
    now: int,
) -> None:
    """A new database with the first site and the first sign-in."""
    try:
        # SQLite makes its files with the mode of the first, which nobody else may read.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        db.migrate(path)
        database = await Database.open(path)
        try:
            store = NodeStore(database)
            places = Admin(store, random_token=secrets.token_urlsafe, now=lambda: now)
            await places.add_site(code, name, zone)
            await OperatorStore(database).add(
                admin,
                "admin",
                None,
                passwords.hashed(password),
                must_change,
                now,
                Deed(COMMAND_LINE, "operator.add", None, admin, details="admin"),
            )
        finally:
            await database.close()
    except (DatabaseUnusableError, DatabaseError) as error:
        raise UserError(f"The database cannot be made in {path.parent}: {error}.") from error


def _write_secretly(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _take_away(made: list[Path]) -> None:
    for path in made:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            with suppress(OSError):
                (path.parent / name).unlink(missing_ok=True)


# --- backup and restore


def back_up(
    directory: Path, file: Path, force: bool, call: Callable[..., Any], report: Report
) -> dict[str, Any]:
    """Write a backup of `directory` to `file`; `call` reaches the node, or stands in for it.

    Returns {"file", "dir", "made_at", "octets"}; of a hub also {"counts", "is_on_own_disk"}.
    """
    done = _made_by_node(directory, file, force, "backup", call, report)
    sizes = done.pop("sizes", None)
    if sizes is not None:
        # Only now the file lies where it stays.
        done |= call("note_backup", report, file=str(file), sizes=sizes)
    return {**done, "file": str(file), "dir": str(directory)}


def export_ledger(
    directory: Path,
    file: Path,
    force: bool,
    call: Callable[..., Any],
    report: Report,
    *,
    with_personal: bool,
    box: str | None = None,
) -> dict[str, Any]:
    """Write the ledger out to `file`; at a hub that of a `box`. Returns {"file", "node",
    "records"}."""
    more: dict[str, Any] = {"with_personal": with_personal}
    if box is not None:
        more["box"] = box
    done = _made_by_node(directory, file, force, "export_ledger", call, report, **more)
    return {**done, "file": str(file)}


def _made_by_node(
    directory: Path,
    file: Path,
    force: bool,
    command: str,
    call: Callable[..., Any],
    report: Report,
    **arguments: Any,
) -> dict[str, Any]:
    """Have the node write a file into its own directory, where it may, and move that with the
    rights of who asked."""
    if file.is_dir():
        raise UserError(f"{file} is a directory; expected the name of a file.")
    if file.exists() and not force:
        raise UserError(f"{file} exists already; expected a new name, or --force.")
    _check_writable(file.parent)
    made = directory / f"pesisir.backup-{secrets.token_hex(4)}"
    try:
        done: dict[str, Any] = call(command, report, path=str(made), **arguments)
        _move(made, file)
    except OSError as error:
        raise UserError(f"The file {file} cannot be written: {error.strerror}.") from error
    finally:
        made.unlink(missing_ok=True)
    return done


def _check_writable(place: Path) -> None:
    if not place.is_dir():
        raise UserError(f"There is no directory {place}; expected one to put the file in.")
    if not os.access(place, os.W_OK):
        raise UserError(f"The directory {place} cannot be written by this user.")


def _move(source: Path, target: Path) -> None:
    """Move a file so that `target` is whole or not there, on whatever disk it lies."""
    beside = target.with_name(f".{target.name}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(source, "rb") as reading, open(descriptor, "wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def restore(directory: Path, file: Path, report: Report) -> dict[str, Any]:
    """Put the backup `file` into `directory`, which may be new; see `backups.restore`."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; expected a directory.")
    if not file.is_file():
        raise UserError(f"There is no file {file}; expected one made with: pesisir backup")
    secret_directory(directory)
    try:
        with control.own(directory, "restore"):
            done = backups.restore(directory, file, report)
    except control.Held as held:
        if held.is_node:
            raise UserError(f"{held}; stop it before you restore") from None
        raise
    return {"dir": str(directory), "file": str(file), **done}


def secret_directory(directory: Path) -> None:
    """Make a directory that only its owner can enter; raises UserError when that cannot be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        os.chmod(directory, 0o700)
    except OSError as error:
        raise UserError(
            f"The directory {directory} cannot be made or used: {error.strerror}."
        ) from error
