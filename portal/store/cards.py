"""The SQL of cards: making and changing them, and what people look up about them.

Every change writes its audit rows in the same transaction. Nothing is decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portal.store.audit import INSERT, Deed
from portal.store.db import Database, Row, Transaction

KIND_CARDS = "cards"
KIND_DEVICE = "device"
KIND_UNFINISHED = "unfinished"
"""A large batch that is being made in pieces; nobody has been told a code of it, it is listed
nowhere, and what is left of it after a power cut is removed."""
REMOVED_AT_ONCE = 100

_END_VOUCHER = "UPDATE voucher SET {column} = ?, end_reason = ?, sealed_code = NULL WHERE id = ?"
_WAS_USED = (
    "(a.first_used_at >= v.issued_at"
    " OR EXISTS (SELECT 1 FROM session s WHERE s.voucher_id = v.id)) IS TRUE"
)
_ARE_CARDS = "v.batch_id NOT IN (SELECT id FROM batch WHERE kind <> 'cards')"


@dataclass(frozen=True, slots=True)
class NewBatch:
    """Cards made together."""

    number: int
    site_id: int
    profile: str
    note: str
    issued_at: int
    issued_by: str
    kind: str = KIND_CARDS


@dataclass(frozen=True, slots=True)
class NewCard:
    """A card to be made."""

    serial: str
    code_hash: bytes
    last4: str
    sealed_code: bytes | None
    use_before_at: int | None = None
    given_at: int | None = None
    given_by: str | None = None


async def write_all(transaction: Transaction, at: int, deeds: Sequence[Deed]) -> None:
    """Record several deeds of one moment in a single hop to the writer's thread."""
    await transaction.run_many(INSERT, [deed.row(at) for deed in deeds])
    for deed in deeds:
        transaction.append(deed.entry(at))


async def insert_batch(transaction: Transaction, batch: NewBatch, cards: Sequence[NewCard]) -> int:
    """Insert a batch with its cards, each with an account of its own; return the id of the first,
    the others follow it."""
    batch_id = await _insert_empty(transaction, batch)
    first = await transaction.insert("INSERT INTO account (profile) VALUES (?)", (batch.profile,))
    await transaction.run_many(
        "INSERT INTO account (id, profile) VALUES (?, ?)",
        [(first + n, batch.profile) for n in range(1, len(cards))],
    )
    rows = [(first + n, *_voucher_row(batch_id, batch, card)) for n, card in enumerate(cards)]
    sql = _INSERT_VOUCHER.format(account="?")
    first_id = await transaction.insert(sql, rows[0])
    await transaction.run_many(sql, rows[1:])
    return first_id


async def _insert_empty(transaction: Transaction, batch: NewBatch, kind: str | None = None) -> int:
    """Insert a batch without its cards, and note its number as taken; return its id."""
    batch_id = await transaction.insert(
        "INSERT INTO batch (site_id, profile, note, issued_at, kind, issued_by)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(batch.site_id, batch.profile, batch.note, batch.issued_at),
            *(kind or batch.kind, batch.issued_by),
        ),
    )
    await transaction.run(
        "INSERT INTO box (name, value) VALUES ('batch_number', ?1) ON CONFLICT (name)"
        " DO UPDATE SET value = ?1 WHERE CAST (value AS INTEGER) < CAST (?1 AS INTEGER)",
        (str(batch.number),),
    )
    return batch_id


_INSERT_VOUCHER = (
    "INSERT INTO voucher (account_id, batch_id, site_id, serial, code_hash, last4,"
    " sealed_code, issued_at, use_before_at, given_at, given_by)"
    " VALUES ({account}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def _voucher_row(batch_id: int, batch: NewBatch, card: NewCard) -> tuple[Any, ...]:
    return (
        *(batch_id, batch.site_id, card.serial, card.code_hash, card.last4),
        *(card.sealed_code, batch.issued_at, card.use_before_at, card.given_at, card.given_by),
    )


class CardStore:
    """Writes and reads cards."""

    def __init__(self, database: Database):
        self._database = database

    # -- changes by people -----------------------------------------------------------------

    async def issue(self, batch: NewBatch, cards: Sequence[NewCard], deeds: Sequence[Deed]) -> None:
        """Insert a batch of cards."""
        async with self._database.transaction() as transaction:
            await insert_batch(transaction, batch, cards)
            await write_all(transaction, batch.issued_at, deeds)

    async def replace(
        self,
        batch_id: int | None,
        batch: NewBatch,
        cards: Sequence[NewCard],
        old: Sequence[tuple[int, int]],
        deeds: Sequence[Deed],
        reason: str,
    ) -> int:
        """Insert a card in the place of each old one, (card, account), which ends for `reason` and
        whose account the new one takes over: all of these, or none. `batch_id` None begins the
        batch; else it grows, and has the note it has now. Return its id."""
        async with self._database.transaction() as transaction:
            if batch_id is None:
                batch_id = await _insert_empty(transaction, batch)
            else:
                await transaction.run(
                    "UPDATE batch SET note = ? WHERE id = ?", (batch.note, batch_id)
                )
            await transaction.run_many(
                _END_VOUCHER.format(column="replaced_at"),
                [(batch.issued_at, reason, card_id) for card_id, _ in old],
            )
            await transaction.run_many(
                _INSERT_VOUCHER.format(account="?"),
                [
                    (account_id, *_voucher_row(batch_id, batch, card))
                    for (_, account_id), card in zip(old, cards, strict=True)
                ],
            )
            await write_all(transaction, batch.issued_at, deeds)
        return batch_id

    async def begin(self, batch: NewBatch) -> int:
        """Insert a large batch whose cards follow in pieces; return its id."""
        async with self._database.transaction() as transaction:
            return await _insert_empty(transaction, batch, KIND_UNFINISHED)

    async def add(self, batch_id: int, batch: NewBatch, cards: Sequence[NewCard]) -> None:
        """Insert some cards of a batch that was begun, each with an account of its own."""
        account = "(SELECT MAX(id) FROM account) - ?"
        last = len(cards) - 1
        await self._database.write_in_passing(
            [
                ("INSERT INTO account (profile) VALUES (?)", [(batch.profile,)] * len(cards)),
                (
                    _INSERT_VOUCHER.format(account=account),
                    [
                        (last - n, *_voucher_row(batch_id, batch, card))
                        for n, card in enumerate(cards)
                    ],
                ),
            ]
        )

    async def finish(self, batch_id: int, at: int, deeds: Sequence[Deed]) -> None:
        """All cards are there: from now on the batch exists, on the disk too."""
        async with self._database.transaction() as transaction:
            await transaction.run("UPDATE batch SET kind = ? WHERE id = ?", (KIND_CARDS, batch_id))
            await write_all(transaction, at, deeds)

    def unfinished(self) -> list[int]:
        """Batches that were begun and not finished."""
        rows = self._database.all("SELECT id FROM batch WHERE kind = ?", (KIND_UNFINISHED,))
        return [row["id"] for row in rows]

    async def remove_unfinished(self, batch_id: int) -> None:
        """Remove a batch that was begun, in pieces; what is left after a power cut is still
        unfinished."""
        while rows := self._database.all(
            "SELECT id, account_id FROM voucher WHERE batch_id = ? ORDER BY id DESC LIMIT ?",
            (batch_id, REMOVED_AT_ONCE),
        ):
            await self._database.write_in_passing(
                [
                    ("DELETE FROM voucher WHERE id = ?", [(row["id"],) for row in rows]),
                    ("DELETE FROM account WHERE id = ?", [(row["account_id"],) for row in rows]),
                ]
            )
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM batch WHERE id = ?", (batch_id,))

    async def revoke(
        self, card_ids: Sequence[int], at: int, reason: str, deeds: Sequence[Deed]
    ) -> None:
        """Mark cards as revoked for a reason."""
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                _END_VOUCHER.format(column="revoked_at"),
                [(at, reason, card_id) for card_id in card_ids],
            )
            await write_all(transaction, at, deeds)

    async def give(self, card_id: int, at: int, deed: Deed) -> None:
        """Mark a card as given to somebody by the deed's operator."""
        await self._change(
            at,
            deed,
            "UPDATE voucher SET given_at = ?, given_by = ? WHERE id = ? AND given_at IS NULL",
            (at, deed.by, card_id),
        )

    async def top_up(
        self, account_id: int, day: str, octets: int, seconds: int, at: int, deed: Deed
    ) -> None:
        """Add to what an account may have on a day and in every window around it."""
        await self._change(
            at,
            deed,
            "INSERT INTO credit (account_id, day, octets, seconds) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, day) DO UPDATE"
            " SET octets = octets + excluded.octets, seconds = seconds + excluded.seconds",
            (account_id, day, octets, seconds),
        )

    async def extend_validity(self, account_id: int, extra_s: int, at: int, deed: Deed) -> None:
        """Set what an account is good for beyond its profile's validity."""
        await self._change(
            at, deed, "UPDATE account SET extra_valid_s = ? WHERE id = ?", (extra_s, account_id)
        )

    async def extend_use_before(
        self, card_id: int, use_before_at: int, at: int, deed: Deed
    ) -> None:
        """Set until when a card may be used for the first time."""
        await self._change(
            at, deed, "UPDATE voucher SET use_before_at = ? WHERE id = ?", (use_before_at, card_id)
        )

    async def _change(self, at: int, deed: Deed, sql: str, parameters: Sequence[Any]) -> None:
        async with self._database.transaction() as transaction:
            await transaction.run(sql, parameters)
            await write_all(transaction, at, (deed,))

    async def record(self, at: int, deed: Deed) -> None:
        """Record a deed that changes nothing, such as reading codes once more."""
        async with self._database.transaction() as transaction:
            await write_all(transaction, at, (deed,))

    # -- look-ups --------------------------------------------------------------------------

    def about(self, serial: str) -> Row | None:
        """What is known of a card beside its quota."""
        return self._database.one(
            "SELECT v.id, v.account_id, v.batch_id, v.given_at, v.given_by, v.end_reason, v.serial,"
            " COALESCE(v.revoked_at, v.replaced_at) AS ended_at, b.note, b.issued_by, b.kind"
            " FROM voucher v JOIN batch b ON b.id = v.batch_id WHERE v.serial = ?",
            (serial,),
        )

    def of_account(self, account_id: int) -> list[str]:
        """The serials of an account's cards, each the successor of the one before."""
        rows = self._database.all(
            "SELECT serial FROM voucher WHERE account_id = ? ORDER BY id", (account_id,)
        )
        return [row["serial"] for row in rows]

    def credits(self, account_id: int) -> list[Row]:
        """The top-ups of an account, oldest first: `day, octets, seconds`."""
        return self._database.all(
            "SELECT day, octets, seconds FROM credit WHERE account_id = ? ORDER BY day",
            (account_id,),
        )

    def version(self, serials: Sequence[str], *, batches: Sequence[str]) -> int:
        """The number of the newest deed that changed a card of these serials, be it with its whole
        batch; 0 when there is none."""
        row = self._database.one(
            f"SELECT MAX(id) AS id FROM audit WHERE object IN ({_marks(serials)})"
            " AND action NOT IN ('voucher.show_code', 'voucher.print')"
            f" OR object IN ({_marks(batches)}) AND action = 'voucher.revoke'",
            (*serials, *batches),
        )
        return 0 if row is None or row["id"] is None else int(row["id"])

    async def deeds(self, objects: Sequence[str], limit: int) -> list[Row]:
        """What was done to any of these objects, newest first."""
        return await self._database.all_slowly(
            "SELECT id, at, operator, action, site_id, object, reason, details FROM audit"
            f" WHERE object IN ({_marks(objects)}) ORDER BY id DESC LIMIT ?",
            (*objects, limit),
        )

    async def of_batch(self, batch: str) -> list[Row]:
        """The cards whose serials begin with `batch`, in the order they were printed: `id, serial,
        site_id, sealed_code, issued_at, given_at, first_used_at, revoked_at, replaced_at` and
        `was_used`: whether this card was, not only the one whose account it took over."""
        return await self._database.all_slowly(
            "SELECT v.id, v.serial, v.site_id, v.sealed_code, v.issued_at, v.given_at,"
            f" v.revoked_at, v.replaced_at, a.first_used_at, {_WAS_USED} AS was_used"
            " FROM voucher v JOIN account a ON a.id = v.account_id"
            " WHERE v.batch_id = (SELECT n.batch_id FROM voucher n JOIN batch b"
            " ON b.id = n.batch_id WHERE n.serial = ? AND b.kind = 'cards') ORDER BY v.id",
            (f"{batch}-01",),
        )

    async def was_used(self, card_id: int) -> bool:
        """Whether somebody logged in with this card itself."""
        rows = await self._database.all_slowly(
            f"SELECT {_WAS_USED} AS was_used FROM voucher v JOIN account a ON a.id = v.account_id"
            " WHERE v.id = ?",
            (card_id,),
        )
        return any(row["was_used"] for row in rows)

    def with_last4(self, last4: str, site_id: int | None, limit: int) -> list[str]:
        """Serials of the newest cards whose code ends in these four digits."""
        rows = self._database.all(
            f"SELECT v.serial FROM voucher v WHERE v.last4 = ? AND (? IS NULL OR v.site_id = ?)"
            f" AND {_ARE_CARDS} ORDER BY v.id DESC LIMIT ?",
            (last4, site_id, site_id, limit),
        )
        return [row["serial"] for row in rows]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
