"""A hub's directory: made by `pesisir init --role hub`, opened by everything else.

It holds pesisir.toml, the keys, the server's certificate and, unless `[database] url` names a
PostgreSQL server, the database.
"""

import asyncio
import secrets
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from portal import control, passwords, settings
from portal.directories import secret_directory
from portal.errors import UserError
from portal.hub import keys as hub_keys
from portal.hub.keys import HubKeys
from portal.operators import NAME as REVIEWER_NAME
from portal.place_values import check_zone
from portal.settings import Settings
from portal.store.db import FILE_NAME as NODE_FILE_NAME
from portal.store.db import DatabaseTooNewError
from portal.store.db.either import (
    HUB_FILE_NAME,
    HubDatabase,
    StoreUnavailableError,
    migrate_hub,
    open_hub_database,
)
from portal.store.hub import HubStore, Reviewer

DEFAULT_PORT = 8443
DEFAULT_ZONE = "Asia/Jakarta"


def is_hub(directory: Path) -> bool:
    """Whether a hub lives there."""
    return (directory / hub_keys.FILE_NAME).exists()


def make(
    directory: Path,
    *,
    name: str,
    zone: str | None,
    admin: str,
    url: str | None = None,
    database_url: str | None = None,
    must_change: bool = True,
    values: dict[str, str | list[str]] | None = None,
) -> dict[str, str]:
    """Make a hub's directory: settings, keys, certificate, database, first sign-in, recovery key.

    `url` is where nodes reach it (else this machine's address, port 8443); `values` are further
    settings by section.key for a new pesisir.toml, one that is there already is kept. Returns
    {"dir", "admin", "password", "hub_id", "url", "recovery_key"}. Raises UserError; the directory
    then has no data.
    """
    if not REVIEWER_NAME.fullmatch(admin):
        raise UserError(
            f'The sign-in is "{admin}"; expected up to 32 lower-case letters, digits, dots, dashes '
            "and underscores."
        )
    check_zone(zone or DEFAULT_ZONE)
    url = settings_url(url)
    _refuse_data(directory)
    secret_directory(directory)
    with control.own(directory, "init"):
        _refuse_data(directory)
        now = int(datetime.now(UTC).timestamp())
        made: list[Path] = []
        try:
            found = _fill(
                directory,
                made,
                name,
                zone or DEFAULT_ZONE,
                admin,
                url,
                database_url,
                must_change,
                values or {},
                now,
            )
        except OSError as error:
            _take_away(made)
            raise UserError(f"{directory} cannot be written: {error.strerror}.") from error
        except BaseException:
            _take_away(made)
            raise
    return {"dir": str(directory), "admin": admin, **found}


def _fill(
    directory: Path,
    made: list[Path],
    name: str,
    zone: str,
    admin: str,
    url: str,
    database_url: str | None,
    must_change: bool,
    values: dict[str, str | list[str]],
    now: int,
) -> dict[str, str]:
    keys, recovery = hub_keys.make(secrets.token_bytes, now)
    password = passwords.make(secrets.randbelow)
    # An earlier init that was cut off left these, and nothing uses them.
    for suffix in ("", "-wal", "-shm"):
        (directory / f"{HUB_FILE_NAME}{suffix}").unlink(missing_ok=True)
    file = directory / settings.FILE_NAME
    certificate = directory / hub_keys.CERTIFICATE_NAME
    made += [certificate, directory / hub_keys.CERTIFICATE_KEY_NAME]
    hub_keys.renew_certificate(directory, keys, hub_keys.names_of(urlsplit(url).hostname, ()), now)
    if not file.exists():
        made.append(file)
        chosen: dict[str, str | list[str]] = {
            "http.listen": f"https://0.0.0.0:{urlsplit(url).port or 443}",
            "http.url": url,
            "http.tls_cert": hub_keys.CERTIFICATE_NAME,
            "http.tls_key": hub_keys.CERTIFICATE_KEY_NAME,
        }
        if database_url is not None:
            chosen["database.url"] = database_url
        hub_keys.write_secretly(file, settings.file_text({**chosen, **values}, is_hub=True))
    found = settings.load_for_hub(directory)
    made.append(directory / HUB_FILE_NAME)
    reviewer = Reviewer(admin, "admin", passwords.hashed(password), must_change)
    asyncio.run(_fill_database(directory, found, keys, name, zone, reviewer, now))
    recovery_file = directory / hub_keys.RECOVERY_NAME
    recovery_file.unlink(missing_ok=True)
    made.append(recovery_file)
    hub_keys.write_secretly(recovery_file, hub_keys.recovery_text(keys, recovery))
    # Last: with the keys it is a hub.
    hub_keys.write(directory, keys)
    return {
        "password": password,
        "hub_id": keys.hub_id,
        "url": url,
        "recovery_key": str(recovery_file),
    }


def settings_url(url: str | None) -> str:
    """Where nodes reach the hub, as a setting; this machine's address where nobody says it."""
    from portal.setting_values import BadValue, origin_url

    try:
        found = origin_url(url or f"https://{_own_address()}:{DEFAULT_PORT}")
    except BadValue:
        found = None
    if found is None or not found.startswith("https://"):
        raise UserError(
            f'The address is "{url}"; expected one such as https://hub.example.go.id or'
            " https://10.1.0.5:8443."
        )
    return found


def _own_address() -> str:
    """This machine's address towards others; nothing is sent (RFC 5737 address)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _refuse_data(directory: Path) -> None:
    """Raise UserError when a hub or a node lives there."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; expected a directory.")
    if is_hub(directory):
        raise UserError(f"{directory} has a hub's data already; nothing was changed.")
    if (directory / NODE_FILE_NAME).exists():
        raise UserError(f"{directory} has a node's data already; nothing was changed.")


async def _fill_database(
    directory: Path,
    found: Settings,
    keys: HubKeys,
    name: str,
    zone: str,
    reviewer: Reviewer,
    now: int,
) -> None:
    database = await _opened(directory, found.database.url, now)
    try:
        store = HubStore(database)
        await _refuse_full(store)
        async with database.transaction() as transaction:
            facts = [("hub_id", keys.hub_id), ("name", name), ("zone", zone)]
            await store.set_facts(transaction, facts)
            await store.add_reviewer(transaction, reviewer, now)
    except StoreUnavailableError as error:
        raise UserError(str(error)) from error
    finally:
        await database.close()


async def _refuse_full(store: HubStore) -> None:
    if await store.facts():
        raise UserError(
            "The database of database.url holds a hub's data already; expected an empty one."
        )


async def bring_up_to_date(directory: Path, now: int) -> None:
    """Give the SQLite file of a directory the newest schema. Raises UserError."""
    database = await _opened(directory, "sqlite", now)
    await database.close()


async def fill_server(url: str, file: Path, now: int) -> None:
    """Take all rows of a SQLite file into the empty database of a PostgreSQL server.

    Raises UserError, and then the database is empty still.
    """
    from portal.store.db.postgres import PostgresHubDatabase

    database = await _opened(file.parent, url, now)
    try:
        await _refuse_full(HubStore(database))
        assert isinstance(database, PostgresHubDatabase)
        await database.fill_from(file)
    except StoreUnavailableError as error:
        raise UserError(str(error)) from error
    finally:
        await database.close()


async def _opened(directory: Path, url: str, now: int) -> HubDatabase:
    """A database with the newest schema. Raises UserError."""
    try:
        database = await open_hub_database(directory, url)
        try:
            await migrate_hub(database, now)
        except BaseException:
            await database.close()
            raise
    except (StoreUnavailableError, DatabaseTooNewError) as error:
        raise UserError(str(error)) from error
    return database


def _take_away(made: list[Path]) -> None:
    for path in made:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            with suppress(OSError):
                (path.parent / name).unlink(missing_ok=True)


def existing_hub(directory: Path) -> Path:
    """The directory, which must be a hub's. Raises UserError."""
    if is_hub(directory):
        return directory
    if (directory / NODE_FILE_NAME).exists():
        raise UserError(
            f"{directory} is a node's directory; expected a hub's: pesisir init --role hub"
        )
    if (directory / HUB_FILE_NAME).exists():
        raise UserError(
            f"{directory} has a hub's database and no keys; put them back from a backup"
        )
    state = f"{directory} holds no hub" if directory.exists() else f"there is no {directory}"
    raise UserError(f"{state}; make one with: pesisir init --role hub --dir {directory}")


async def open_store(directory: Path, found: Settings, keys: HubKeys, now: int) -> HubStore:
    """The store of a hub's directory, its schema brought up to date; the caller owns the directory.

    Raises UserError when the database cannot be used or is another hub's.
    """
    database = await _opened(directory, found.database.url, now)
    try:
        store = HubStore(database)
        facts = await store.facts()
        if not facts:
            # Moved to an empty server: what nodes know is sent again by them.
            async with database.transaction() as transaction:
                await store.set_facts(
                    transaction,
                    [("hub_id", keys.hub_id), ("name", "Diskominfo"), ("zone", DEFAULT_ZONE)],
                )
        elif facts.get("hub_id") != keys.hub_id:
            raise UserError(
                f"The database belongs to the hub {facts.get('hub_id')}; expected {keys.hub_id},"
                " whose keys are in this directory."
            )
    except StoreUnavailableError as error:
        await database.close()
        raise UserError(str(error)) from error
    except BaseException:
        await database.close()
        raise
    return store
