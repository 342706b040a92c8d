"""Erasing a person: the SQL. Every statement stands next to the function that runs it."""

from collections.abc import Sequence

from portal.domain.ledger import Kind
from portal.store import audit
from portal.store.audit import Deed
from portal.store.db import Database
from portal.store.ledger import Rule

WISH = "a person's wish"
PERSON = "person"
PLACES_IN_A_RECORD = 500
"""(epoch, seq) of at most twenty octets each: well within the longest record."""
_USAGE = f"({int(Kind.SESSION)}, {int(Kind.SLICE)})"


class ErasingStore:
    """Finds and erases what is kept of one card's holder."""

    def __init__(self, database: Database):
        self._database = database

    def cards(self, account_id: int) -> list[tuple[int, str]]:
        """(id, serial) of all cards that this account had, oldest first."""
        rows = self._database.all(
            "SELECT id, serial FROM voucher WHERE account_id = ? ORDER BY id", (account_id,)
        )
        return [(row["id"], row["serial"]) for row in rows]

    def last_record(self) -> tuple[int, int]:
        """(epoch, seq) of the last record in the table, (-1, -1) before the first."""
        row = self._database.one(
            "SELECT epoch, seq FROM ledger ORDER BY epoch DESC, seq DESC LIMIT 1"
        )
        return (-1, -1) if row is None else (row["epoch"], row["seq"])

    async def records(
        self, account_id: int, serials: Sequence[str], *, behind: tuple[int, int] = (-1, -1)
    ) -> list[tuple[int, int]]:
        """(epoch, seq) of the usage records under a name of the account, or with a serial of its
        cards in the personal part; in order. Reads all of the ledger behind a record."""
        names = self._database.all(
            "SELECT octets FROM pseudonym WHERE account_id = ?", (account_id,)
        )
        tests = ["instr (public, ?) > 0"] * len(names)
        tests += ["instr (personal, ?) > 0"] * len(serials)
        rows = await self._database.all_slowly(
            f"SELECT epoch, seq FROM ledger WHERE kind IN {_USAGE} AND public IS NOT NULL"
            f" AND (epoch, seq) > (?, ?) AND ({' OR '.join(tests)}) ORDER BY epoch, seq",
            (
                *behind,
                *(bytes(row["octets"]) for row in names),
                *(f'"serial":"{serial}"'.encode() for serial in serials),
            ),
        )
        return [(row["epoch"], row["seq"]) for row in rows]

    async def erase(
        self,
        account_id: int,
        cards: Sequence[tuple[int, str]],
        records: Sequence[tuple[int, int]],
        at: int,
        deed: Deed,
    ) -> None:
        """Erase phones, addresses, names, days and personal parts in one transaction, with the
        records that name to the hub what to forget."""
        of_account, of_cards = [(account_id,)], [(card_id,) for card_id, _ in cards]
        rule = Rule(WISH, at, at)
        async with self._database.transaction() as transaction:
            for table in ("device", "pseudonym", "usage_day", "credit"):
                await transaction.run_many(f"DELETE FROM {table} WHERE account_id = ?", of_account)
            await transaction.run_many(
                "UPDATE account SET first_used_at = NULL, total_octets = 0, total_s = 0,"
                " move_day = NULL, move_count = 0, last_session_id = NULL WHERE id = ?",
                of_account,
            )
            await transaction.run_many(
                "UPDATE session SET mac = NULL, framed_ip = NULL, voucher_id = NULL"
                " WHERE voucher_id = ?",
                of_cards,
            )
            await transaction.run_many(
                "UPDATE voucher SET sealed_code = NULL WHERE id = ?", of_cards
            )
            await transaction.run_many(
                "UPDATE complaint SET contact = '', serial = NULL WHERE serial = ?",
                [(serial,) for _, serial in cards],
            )
            await transaction.run_many(
                "UPDATE ledger SET salt = NULL, personal = NULL WHERE epoch = ? AND seq = ?",
                records,
            )
            await transaction.run_many(
                "INSERT INTO ledger_erasing (epoch, seq) VALUES (?, ?)"
                " ON CONFLICT (epoch, seq) DO NOTHING",
                records,
            )
            for first in range(0, max(1, len(records)), PLACES_IN_A_RECORD):
                places = records[first : first + PLACES_IN_A_RECORD]
                named = {"records": [list(place) for place in places]} if places else {}
                transaction.append(rule.erased(PERSON, len(places), **named))
            await audit.write(transaction, at, deed)

    async def drop_bodies(self, before_at: int, step: int, *, has_hub: bool) -> int:
        """Drop the bodies of at most `step` erased records made before a moment, of which the hash
        stays; return of how many. With a hub only what is in its own backup, or is told again in a
        later epoch."""
        rows = self._database.all(
            "SELECT x.epoch, x.seq FROM ledger_erasing AS x"
            " JOIN ledger AS r ON r.epoch = x.epoch AND r.seq = x.seq"
            " JOIN ledger_epoch AS e ON e.epoch = x.epoch"
            " WHERE r.at < ? AND (? = 0 OR r.seq < e.backed_up OR r.seq >= e.void_from) LIMIT ?",
            (before_at, int(has_hub), step),
        )
        if not rows:
            return 0
        keys = [(row["epoch"], row["seq"]) for row in rows]
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "UPDATE ledger SET public = NULL, c_loc = NULL, salt = NULL, personal = NULL"
                " WHERE epoch = ? AND seq = ?",
                keys,
            )
            await transaction.run_many(
                "DELETE FROM ledger_erasing WHERE epoch = ? AND seq = ?", keys
            )
        return len(keys)
