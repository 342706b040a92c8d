"""Batches as the desk lists them: how many cards of each are given, unused, in use and over.

Reads only. What a card's state is follows the same rules as `portal.grants`, written in SQL so that
a batch of ten thousand cards is counted without loading one of them.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from portal.domain.profile import Profile
from portal.store.db import Row
from portal.store.node import NodeStore

# Totals per card: what its account has used, and what top-ups have added to a total quota. What an
# open session has counted is not in the account's row until the session's day ends.
_USED = (
    "a.total_{what} + COALESCE((SELECT SUM(s.pending_{what}) FROM voucher o"
    " JOIN session s ON s.voucher_id = o.id WHERE o.account_id = a.id), 0)"
)
_CREDIT = "COALESCE((SELECT SUM(c.{column}) FROM credit c WHERE c.account_id = a.id), 0)"
_IS_USED_UP = (
    "(p.octets IS NOT NULL AND "
    + _USED.format(what="octets")
    + " >= p.octets + "
    + _CREDIT.format(column="octets")
    + ") OR (p.seconds IS NOT NULL AND "
    + _USED.format(what="s")
    + " >= p.seconds + "
    + _CREDIT.format(column="seconds")
    + ")"
)
_STATE = (
    "CASE WHEN v.revoked_at IS NOT NULL THEN 'revoked'"
    " WHEN v.replaced_at IS NOT NULL THEN 'replaced'"
    " WHEN a.first_used_at IS NULL AND v.use_before_at <= ?2 THEN 'expired'"
    " WHEN a.first_used_at IS NULL THEN 'unused'"
    " WHEN a.first_used_at + p.valid_s + a.extra_valid_s <= ?2 THEN 'expired'"
    f" WHEN {_IS_USED_UP} THEN 'used_up' ELSE 'active' END"
)
_LIMITS = (
    "limits (name, octets, seconds, valid_s) AS (SELECT"
    " value ->> 'name', value ->> 'octets', value ->> 'seconds', value ->> 'valid_s'"
    " FROM json_each(?1))"
)
_BATCH = "b.id, b.site_id, b.profile, b.note, b.issued_at, b.issued_by"
_NAME = "(SELECT n.serial FROM voucher n WHERE n.batch_id = b.id ORDER BY n.id LIMIT 1)"
_SHEETS = (
    f"SELECT {_BATCH} FROM batch b WHERE b.kind = 'cards'"
    " AND b.site_id = ?3 AND (?4 IS NULL OR b.id < ?4)"
    " AND (SELECT COUNT(*) FROM (SELECT 1 FROM voucher o WHERE o.batch_id = b.id LIMIT 2)) = 2"
    " ORDER BY b.id DESC LIMIT ?5"
)
_COUNTED = (
    f"SELECT b.*, {_NAME} AS first_serial, counted.state, counted.was_given,"
    " counted.cards FROM wanted b JOIN (SELECT v.batch_id,"
    f" {_STATE} AS state, v.given_at IS NOT NULL AS was_given, COUNT(*) AS cards"
    " FROM wanted w JOIN voucher v ON v.batch_id = w.id JOIN account a ON a.id = v.account_id"
    " LEFT JOIN limits p ON p.name = a.profile GROUP BY v.batch_id, state, was_given) counted"
    " ON counted.batch_id = b.id ORDER BY b.id DESC"
)


LOOKED_BACK = 300
"""Cards given last at a site: who gave none of them does not wait while years are read."""


class BatchStore:
    """Reads batches, their cards, and who gave what last."""

    def __init__(self, store: NodeStore) -> None:
        self._database = store.database

    async def sheets(
        self,
        site_id: int,
        profiles: Iterable[Profile],
        *,
        now: int,
        before_id: int | None,
        most: int,
    ) -> list[Row]:
        """Batches of more than one card, newest first, one row for each batch, state and whether
        the cards were given: `id, site_id, profile, note, issued_at, issued_by, first_serial,
        state, was_given, cards`. At most `most` batches, older than batch `before_id`.
        """
        return await self._counted(_SHEETS, profiles, now, (site_id, before_id, most))

    async def counted(self, batch_id: int, profiles: Iterable[Profile], *, now: int) -> list[Row]:
        """The rows of `sheets` for one batch, whatever its size."""
        wanted = f"SELECT {_BATCH} FROM batch b WHERE b.kind = 'cards' AND b.id = ?3"
        return await self._counted(wanted, profiles, now, (batch_id,))

    async def _counted(
        self, wanted: str, profiles: Iterable[Profile], now: int, parameters: tuple[Any, ...]
    ) -> list[Row]:
        limits = [
            {
                "name": profile.name,
                "octets": profile.data_total_octets,
                "seconds": profile.time_total_s,
                "valid_s": profile.valid_s,
            }
            for profile in profiles
        ]
        return await self._database.all_slowly(
            f"WITH wanted AS ({wanted}), {_LIMITS} {_COUNTED}",
            (json.dumps(limits), now, *parameters),
        )

    def batch_of(self, name: str) -> Row | None:
        """The batch whose cards are named `name-NN`, None when there is none."""
        return self._database.one(
            "SELECT b.id, b.site_id, b.profile, b.note, b.issued_at, b.issued_by FROM voucher v"
            " JOIN batch b ON b.id = v.batch_id WHERE v.serial = ? AND b.kind = 'cards'",
            (f"{name}-01",),
        )

    async def serials(self, batch_id: int, *, offset: int, most: int) -> list[str]:
        """Serials of a batch in the order they were printed."""
        rows = await self._database.all_slowly(
            "SELECT serial FROM voucher WHERE batch_id = ? ORDER BY id LIMIT ? OFFSET ?",
            (batch_id, most, offset),
        )
        return [row["serial"] for row in rows]

    def last_given(self, site_id: int, operator: str) -> str | None:
        """The profile of the card this operator gave last at a site, of the newest given there."""
        row = self._database.one(
            "SELECT b.profile FROM (SELECT id, batch_id, given_at, given_by FROM voucher"
            " WHERE site_id = ? AND given_at IS NOT NULL ORDER BY given_at DESC, id DESC LIMIT ?) v"
            " JOIN batch b ON b.id = v.batch_id WHERE v.given_by = ?"
            " ORDER BY v.given_at DESC, v.id DESC LIMIT 1",
            (site_id, LOOKED_BACK, operator),
        )
        return None if row is None else str(row["profile"])

    def given(self, site_id: int, most: int, taken_back: str) -> Sequence[Row]:
        """The cards given last at a site: `serial, last4, given_at, given_by`.

        Not those that ended for the reason `taken_back`: nobody has them.
        """
        return self._database.all(
            "SELECT serial, last4, given_at, given_by FROM voucher"
            " WHERE site_id = ? AND given_at IS NOT NULL"
            " AND (end_reason IS NULL OR end_reason <> ?) ORDER BY given_at DESC, id DESC LIMIT ?",
            (site_id, taken_back, most),
        )
