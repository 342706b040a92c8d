"""Sealed state: balances with every exchange, all essentials once a night, for the office's key.

The hub keeps what it cannot read. With the recovery key, which is on no machine, a blank box gets
the cards, accounts, profiles, gateways and keys of the one it takes the place of, with the balances
of its last exchange. Who has that key can read who is online; it belongs into a safe.
"""

import asyncio
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from portal import keys as node_keys
from portal import sealing, wire
from portal.domain.quota import day_text
from portal.errors import UserError
from portal.store import db, essentials, restored
from portal.store.db import Database
from portal.store.essentials import Table

BACKUP, DELTA = "backup", "delta"
"""Purposes of the seals."""
FORMAT: Final = 1
MOST_DELTA_OCTETS: Final = 60_000
"""What is longer (a new sheet of a thousand cards) waits for the backup."""
SLACK_S: Final = 10
"""A delta looks back a little before the last one, for what was not on disk then; rows that were
told already are left out."""
_MOST_OCTETS: Final = 200_000_000


class _Content(msgspec.Struct, array_like=True):
    format: int
    schema: int
    made_at: int
    tables: dict[str, Table]
    keys: str = ""
    settings: str = ""


Told = frozenset[int]
"""Hashes of rows of the last moments that the hub knows once it has what they came with."""


class TooMuch(Exception):
    """More changed than an exchange carries; a backup has it."""


class SealedState:
    """What a node seals for the office."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        *,
        settings_name: str,
        now: Callable[[], int],
        random_octets: Callable[[int], bytes],
    ):
        self._database = database
        self._directory = directory
        self._settings_name = settings_name
        self._now = now
        self._random_octets = random_octets
        self._told: Told = frozenset()

    async def delta(self, since_at: int, recovery: str) -> tuple[bytes | None, Told]:
        """What changed since a moment and was not told yet, sealed; None when nothing did. Once the
        hub has it: `keep`. Raises TooMuch."""
        tables = await self._changed(since_at)
        if tables is None:
            raise TooMuch
        told = _hashes(tables)
        new: dict[str, Table] = {}
        for name, (columns, rows) in tables.items():
            untold = [row for row in rows if _hash(name, row) not in self._told]
            if untold:
                new[name] = (columns, untold)
        if not new:
            return None, told
        new |= await essentials.counters(self._database)
        sealed = await self._sealed(DELTA, new, recovery)
        if len(sealed) > MOST_DELTA_OCTETS:
            raise TooMuch
        return sealed, told

    async def backup(self, recovery: str) -> tuple[bytes, Told]:
        """All essentials with the keys and settings, sealed. Once the hub has it: `keep`."""
        # Looked at first: what changes from here on is told after the backup, if not by it.
        told = _hashes(await self._changed(self._now()) or {})
        tables = await essentials.everything(self._database, self._oldest_day(), self._now())
        return await self._sealed(BACKUP, tables, recovery, is_whole=True), told

    def keep(self, told: Told) -> None:
        """The hub has these rows: they are not told again while they stay as they are."""
        self._told = told

    async def _changed(self, since_at: int) -> dict[str, Table] | None:
        since = essentials.Since(max(0, since_at - SLACK_S), since_at, self._oldest_day())
        return await essentials.changed(self._database, since)

    async def _sealed(
        self, purpose: str, tables: Mapping[str, Table], recovery: str, *, is_whole: bool = False
    ) -> bytes:
        content = _Content(
            FORMAT, db.schema_version(self._database.path), self._now(), dict(tables)
        )
        if is_whole:
            content.keys = (self._directory / node_keys.FILE_NAME).read_text("ascii")
            settings = self._directory / self._settings_name
            content.settings = settings.read_text("utf-8") if settings.exists() else ""

        def seal() -> bytes:
            packed = zlib.compress(msgspec.msgpack.encode(content), 9)
            return sealing.seal(bytes.fromhex(recovery), purpose, packed, self._random_octets)

        return await asyncio.to_thread(seal)

    def _oldest_day(self) -> str:
        # Ordinal 719163 is 1970-01-01; a day more or less does not matter here.
        return day_text(719_163 + self._now() // 86_400 - essentials.USAGE_DAYS)


def _hashes(tables: Mapping[str, Table]) -> Told:
    return frozenset(_hash(name, row) for name, (_, rows) in tables.items() for row in rows)


def _hash(table: str, row: Sequence[Any]) -> int:
    return hash((table, *row))


def restore(
    directory: Path, recovery: wire.Recovery, private: bytes, *, settings_name: str
) -> dict[str, Any]:
    """Make the data of a directory without any out of what the hub held; the caller owns it.

    Returns {"cards", "balances_at", "backup_at", "parent"}. Raises UserError when there is no
    backup, the key does not open it, or the directory has data; then nothing was changed.
    """
    if recovery.backup is None:
        raise UserError("The hub holds no backup of the box this one replaces.")
    if (directory / db.FILE_NAME).exists():
        raise UserError(f"{directory} has a node's data already; nothing was changed.")
    whole = _opened(BACKUP, private, recovery.backup.sealed)
    deltas = [_opened(DELTA, private, delta.octets) for delta in recovery.deltas]
    fresh = directory / f"{db.FILE_NAME}.new"
    fresh.unlink(missing_ok=True)
    newest = db.migrations()[-1][0]
    if whole.schema > newest:
        raise UserError(
            f"The backup at the hub has schema version {whole.schema}, newer than this program's "
            f"{newest}; install the newer program."
        )
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        db.migrate(fresh, [step for step in db.migrations() if step[0] <= whole.schema])
        asyncio.run(_fill(fresh, whole))
        db.migrate(fresh)
        cards = asyncio.run(_go_on(fresh, deltas, recovery))
        _write(directory / node_keys.FILE_NAME, whole.keys)
        node_keys.read(directory)
        if whole.settings and not (directory / settings_name).exists():
            _write(directory / settings_name, whole.settings)
        os.replace(fresh, directory / db.FILE_NAME)
    except OSError as error:
        raise UserError(f"{directory} cannot be written: {error.strerror}.") from error
    finally:
        for name in (fresh.name, f"{fresh.name}-wal", f"{fresh.name}-shm"):
            (directory / name).unlink(missing_ok=True)
    return {
        "cards": cards,
        "backup_at": whole.made_at,
        "balances_at": max(content.made_at for content in (whole, *deltas)),
        "parent": recovery.head,
    }


def _opened(purpose: str, private: bytes, sealed: bytes) -> _Content:
    try:
        packed = sealing.unseal(private, purpose, sealed)
        inflater = zlib.decompressobj()
        plain = inflater.decompress(packed, _MOST_OCTETS)
        content = msgspec.msgpack.decode(plain, type=_Content)
    except (sealing.SealError, zlib.error, msgspec.DecodeError) as error:
        raise UserError(
            f"The recovery key does not open the {purpose} that the hub holds ({error})."
        ) from error
    if content.format != FORMAT:
        raise UserError(f"The {purpose} at the hub has format {content.format}; expected {FORMAT}.")
    return content


async def _fill(path: Path, whole: _Content) -> None:
    database = await Database.open(path)
    try:
        await essentials.put(database, whole.tables)
    finally:
        await database.close()


async def _go_on(path: Path, deltas: list[_Content], recovery: wire.Recovery) -> int:
    """Bring in the balances, and count on from far enough; return the number of cards."""
    database = await Database.open(path)
    try:
        for content in deltas:
            await essentials.put(database, content.tables)
        if recovery.head is not None:
            await essentials.set_box(database, {"epoch_parent": recovery.head})
        cards = essentials.count_cards(database)
    finally:
        await database.close()
    # What was issued after the last exchange is on paper and unknown here: serials skip it.
    await restored.number_ahead(path, None)
    return cards


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
