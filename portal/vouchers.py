"""Vouchers: issuing, showing, revoking and replacing cards."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Container, Iterable, Sequence
from datetime import date
from typing import Any

from cryptography.fernet import Fernet

from portal.accounts import Accounts, Card
from portal.admin import Admin, Site
from portal.commit import GroupCommit
from portal.domain import hours, voucher
from portal.errors import UserError
from portal.grants import Grants
from portal.store.db import Row
from portal.store.node import NodeStore

BATCH_MAX = 10_000
SEALED_KEPT_S = 72 * 3600
"""A jammed print can be printed again unchanged for so long, at most until first use."""
REASON_LONGEST = 200
SLICE = 50
"""Codes made before others get their turn: 15 ms on the slowest box."""


class Vouchers:
    """The use cases of cards for people at the desk and the command line."""

    def __init__(
        self,
        store: NodeStore,
        admin: Admin,
        accounts: Accounts,
        grants: Grants,
        commit: GroupCommit,
        *,
        seal_key: bytes,
        now: Callable[[], int],
        random_below: Callable[[int], int],
        portal_url: Callable[[], str],
    ):
        self._store = store
        self._admin = admin
        self._accounts = accounts
        self._grants = grants
        self._commit = commit
        self._seal = Fernet(seal_key)
        self._now = now
        self._random_below = random_below
        self._portal_url = portal_url
        # Numbers of batches and states of cards are read, then written: one change at a time.
        self._changing = asyncio.Lock()

    # -- issuing ---------------------------------------------------------------------------

    async def issue(
        self,
        profile: str,
        *,
        count: int = 1,
        site: str | None = None,
        note: str = "",
        use_before: str | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Any]:
        """Make a batch of cards; the only moment their codes are told.

        `report` is called with how many are made and how many it will be.
        """
        self._admin.profile(profile)
        at_site = self._admin.only_site(site)
        if not 1 <= count <= BATCH_MAX:
            raise UserError(f"The number of cards is {count}; expected 1 to {BATCH_MAX}.")
        use_before_at = None if use_before is None else self._use_before_at(use_before, at_site)
        async with self._changing:
            return await self._issue(profile, at_site, count, note, use_before_at, report=report)

    def _use_before_at(self, text: str, site: Site) -> int:
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise UserError(
                f"The last day of use is {text!r}; expected a date such as 2026-12-31."
            ) from error
        end_at = hours.end_of_day(day, self._admin.zone(site.id))
        if end_at <= self._now():
            raise UserError(f"The last day of use is {text}, which is over; expected a later one.")
        return end_at

    async def _issue(
        self,
        profile: str,
        site: Site,
        count: int,
        note: str,
        use_before_at: int | None,
        *,
        replaces: Sequence[Row] | None = None,
        reason: str | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Any]:
        number = int(self._store.box().get("batch_number", "0")) + 1
        codes: dict[str, None] = {}
        cards = []
        while len(codes) < count:
            code = self._new_code(codes)
            codes[code] = None
            cards.append(
                (
                    voucher.serial(number, len(codes)),
                    self._accounts.hash_of(code),
                    code[-4:],
                    self._seal.encrypt(code.encode()),
                )
            )
            if len(codes) % SLICE == 0:
                report(len(codes), count)
                # Thousands of cards must not keep the gateways waiting.
                await asyncio.sleep(0)
        await self._store.issue(
            site_id=site.id,
            profile=profile,
            note=" ".join(note.split())[:REASON_LONGEST],
            issued_at=self._now(),
            use_before_at=use_before_at,
            cards=cards,
            batch_number=number,
            replaces=None
            if replaces is None
            else [(row["id"], row["account_id"]) for row in replaces],
            reason=reason,
        )
        url = self._portal_url()
        return {
            "batch": cards[0][0].split("-")[0],
            "vouchers": [
                {"serial": card[0], "code": code, "url": f"{url}/{code}"}
                for card, code in zip(cards, codes, strict=True)
            ],
        }

    def _new_code(self, taken: Container[str]) -> str:
        """A code nobody has: 11 random digits and a check digit, never the printed example."""
        while True:
            code = voucher.make_code(self._random_below(voucher.CODE_SPACE))
            if code == voucher.RESERVED_CODE or code in taken:
                continue
            if self._store.voucher_by_hash(self._accounts.hash_of(code)) is None:
                return code

    # -- finding ---------------------------------------------------------------------------

    def find(self, key: str) -> Card:
        """A card by serial or code; raises UserError, without the code, when there is none."""
        card = None
        now = self._now()
        text = key.strip().upper()
        if voucher.parse_serial(text) is not None:
            card = self._accounts.card_of_serial(text, now)
            if card is None:
                raise UserError(f"There is no card {text}; check the serial.")
        else:
            code = voucher.normalise(key)
            if code is not None:
                card = self._accounts.card_of_code(code, now)
            if card is None:
                raise UserError(
                    "There is no card with this code; expected a serial such as A017-23 or the 12"
                    " digits of a card."
                )
        return card

    def show(self, key: str) -> dict[str, Any]:
        """A card as the command line shows it."""
        status = self._grants.status(self.find(key))
        return {
            "serial": status.serial,
            "last4": status.last4,
            "site": status.site_code,
            "profile": status.profile,
            "state": status.state.value,
            "first_used_at": status.first_used_at,
            "expires_at": status.expires_at,
            "use_before_at": status.use_before_at,
            "octets_used": status.octets_used,
            "octets_left": status.octets_left,
            "seconds_used": status.seconds_used,
            "seconds_left": status.seconds_left,
            "resets_at": status.resets_at,
            "open_sessions": status.open_sessions,
            "devices_in_use": status.devices_in_use,
            "is_throttled": status.is_throttled,
            "last_end_cause": status.last_end_cause,
            "last_ended_at": status.last_ended_at,
        }

    async def listed(
        self, *, site: str | None = None, batch: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Cards, newest first."""
        site_id = None if site is None else self._admin.site(site).id
        if batch is not None and not re.fullmatch(r"[A-Za-z][0-9]{3}", batch):
            raise UserError(f"The batch is {batch!r}; expected a name such as A017.")
        rows = await self._store.list_vouchers(
            site_id=site_id, batch=None if batch is None else batch.upper(), limit=limit
        )
        shown = []
        for n, row in enumerate(rows):
            if n % SLICE == 0:
                await asyncio.sleep(0)
            shown.append(self.show(row["serial"]))
        return shown

    # -- ending ----------------------------------------------------------------------------

    async def revoke(self, keys: Sequence[str], reason: str) -> list[dict[str, Any]]:
        """End cards for good and cut their sessions; their codes and phones are refused at once."""
        reason = _reason(reason)
        async with self._changing:
            return await self._revoke(keys, reason)

    async def _revoke(self, keys: Sequence[str], reason: str) -> list[dict[str, Any]]:
        found: dict[str, int] = {}
        async for card in self._found(keys):
            if card.revoked_at is not None:
                raise UserError(f"Card {card.serial} is revoked already.")
            if card.replaced_at is not None:
                raise UserError(f"Card {card.serial} was replaced; revoke the new card.")
            found[card.serial] = card.id
        now = self._now()
        await self._store.revoke_vouchers(list(found.values()), now, reason)
        async for card in self._found(found):
            card.revoked_at = now
            self._grants.end_all(card.account, "revoked")
        await self._commit.now()
        return [self.show(card.serial) async for card in self._found(found)]

    async def replace(self, keys: Sequence[str], reason: str) -> dict[str, Any]:
        """Give new codes for old cards: what is left moves to the octet and second, the old codes
        die, open sessions end."""
        reason = _reason(reason)
        async with self._changing:
            return await self._replace(keys, reason)

    async def _replace(self, keys: Sequence[str], reason: str) -> dict[str, Any]:
        rows: dict[str, Row] = {}
        kinds: set[tuple[str, int, int | None]] = set()
        async for card in self._found(keys):
            if card.revoked_at is not None:
                raise UserError(f"Card {card.serial} is revoked; issue a new one instead.")
            if card.replaced_at is not None:
                raise UserError(f"Card {card.serial} was replaced already.")
            kinds.add((card.account.profile, card.site_id, card.use_before_at))
            row = self._store.voucher_by_serial(card.serial)
            if row is not None:
                rows[card.serial] = row
        if len(kinds) > 1:
            raise UserError(
                "These cards differ in profile, site or last day of use; replace them in groups"
                " that agree."
            )
        profile, site_id, use_before_at = kinds.pop()
        now = self._now()
        issued = await self._issue(
            profile,
            self._admin.sites_by_id[site_id],
            len(rows),
            f"replaces {', '.join(rows)}",
            use_before_at,
            replaces=list(rows.values()),
            reason=reason,
        )
        for old, new in zip(rows, issued["vouchers"], strict=True):
            new["replaces"] = old
        async for card in self._found(rows):
            card.replaced_at = now
            self._grants.end_all(card.account, "replaced")
            self._accounts.forget_card(card.account.id)
        await self._commit.now()
        return issued

    async def _found(self, keys: Iterable[str]) -> AsyncIterator[Card]:
        """The cards named, each once and each found anew when its turn comes: between slices
        gateways are answered, and what was found before may have left memory."""
        seen: set[int] = set()
        for n, key in enumerate(keys, start=1):
            card = self.find(key)
            if card.id not in seen:
                seen.add(card.id)
                yield card
            if n % SLICE == 0:
                await asyncio.sleep(0)
        if not seen:
            raise UserError("No card was named; expected serials or codes.")

    # -- keeping ---------------------------------------------------------------------------

    async def forget_sealed(self) -> int:
        """Drop the sealed copies of codes that are over 72 hours old; return how many."""
        return await self._store.forget_sealed_before(self._now() - SEALED_KEPT_S)


def _reason(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise UserError("A reason is needed; expected a few words for the record.")
    if len(text) > REASON_LONGEST:
        raise UserError(
            f"The reason has {len(text)} characters; expected at most {REASON_LONGEST}."
        )
    return text
