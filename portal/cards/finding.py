"""Finding cards and showing them: by serial, by the last four digits, by batch, by phone.

Known devices have a card too, which nobody holds: it is never found here.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Container, Iterable
from typing import Any

from portal.accounts import Accounts, Card
from portal.admin import Admin
from portal.domain import voucher
from portal.errors import DeskError, UserError
from portal.grants import Grants
from portal.store.cards import CardStore
from portal.store.db import Row
from portal.store.node import NodeStore
from radius.nas import canonical_mac

SLICE = 50
"""Cards handled before others get their turn: 15 ms on the slowest box."""
REASON_LONGEST = 200
FOUND_MOST = 50
"""Cards a search shows."""
HISTORY_MOST = 200
_BATCH = re.compile(r"[A-HJ-NP-Z]{1,4}[0-9]{3}")


def reason_of(text: str) -> str:
    """The reason somebody gave, in one line; raises DeskError when there is none."""
    text = " ".join(text.split())
    if not text:
        raise DeskError("cards.reason_missing")
    if len(text) > REASON_LONGEST:
        raise DeskError("cards.reason_long", length=len(text), longest=REASON_LONGEST)
    return text


def batch_of(serial: str) -> str:
    """The batch a serial names: `A017` of `A017-23`."""
    return serial.split("-")[0]


def batch_named(text: str) -> str:
    """The name of a batch as somebody typed it; raises DeskError when it is none."""
    name = text.strip().upper()
    if not _BATCH.fullmatch(name):
        raise DeskError("cards.batch_name", batch=text.strip()[:20])
    return name


class CardFinding:
    """Looks cards up for people; changes nothing."""

    def __init__(
        self,
        store: NodeStore,
        cards: CardStore,
        admin: Admin,
        accounts: Accounts,
        grants: Grants,
        *,
        hidden: Container[int],
        now: Callable[[], int],
    ):
        self._store = store
        self._cards = cards
        self._admin = admin
        self._accounts = accounts
        self._grants = grants
        self._hidden = hidden
        self._now = now

    def find(self, key: str) -> Card:
        """A card by serial or code; raises DeskError, without the code, when there is none."""
        now = self._now()
        parsed = voucher.parse_serial(key)
        if parsed is not None:
            serial = voucher.serial(*parsed)
            card = self._accounts.card_of_serial(serial, now)
            if card is None or card.id in self._hidden:
                raise DeskError("cards.unknown_serial", serial=serial)
            return card
        code = voucher.normalise(key)
        card = None if code is None else self._accounts.card_of_code(code, now)
        if card is None:
            raise DeskError("cards.unknown_code")
        return card

    async def each(self, keys: Iterable[str]) -> AsyncIterator[Card]:
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
            raise DeskError("cards.none_named")

    async def of_batch(self, text: str) -> list[Row]:
        """The rows of a batch's cards; raises DeskError when there is no such batch."""
        name = batch_named(text)
        rows = await self._cards.of_batch(name)
        if not rows:
            raise DeskError("cards.unknown_batch", batch=name)
        return rows

    # -- showing ---------------------------------------------------------------------------

    def shown(self, card: Card) -> dict[str, Any]:
        """A card as lists show it, and with it what residents see of it."""
        status = self._grants.status(card)
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
            "issued_at": card.issued_at,
            "batch": batch_of(status.serial),
            "windows": [window._asdict() for window in status.windows],
        }

    def show(self, key: str) -> dict[str, Any]:
        """A card with everything there is to know about it but its history."""
        card = self.find(key)
        shown = self.shown(card)
        about = self._cards.about(card.serial)
        if about is None:
            raise DeskError("cards.unknown_serial", serial=card.serial)
        chain = self._cards.of_account(card.account.id)
        at = chain.index(card.serial)
        credits = self._cards.credits(card.account.id)
        return shown | {
            "note": about["note"],
            "issued_by": about["issued_by"],
            "given_at": about["given_at"],
            "given_by": about["given_by"],
            "ended_at": about["ended_at"],
            "end_reason": about["end_reason"],
            "credits": [dict(row) for row in credits],
            "extra_valid_s": card.account.extra_valid_s,
            "replaces": chain[at - 1] if at else None,
            "replaced_by": chain[at + 1] if at + 1 < len(chain) else None,
            "version": self._cards.version(chain, batches=[batch_of(each) for each in chain]),
        }

    def check_seen(self, card: Card, seen: int | None) -> None:
        """Raise DeskError when the card was changed after the page somebody looks at was made;
        `seen` is that page's `version`, None to go on in any case."""
        if seen is None:
            return
        chain = self._cards.of_account(card.account.id)
        if self._cards.version(chain, batches=[batch_of(each) for each in chain]) != seen:
            raise DeskError("cards.changed", serial=card.serial)

    async def history(self, key: str) -> list[dict[str, Any]]:
        """What people did to a card, to those it came from, and to their batches, newest first."""
        chain = self._cards.of_account(self.find(key).account.id)
        objects = list(dict.fromkeys([*chain, *(batch_of(serial) for serial in chain)]))
        return [dict(row) for row in await self._cards.deeds(objects, HISTORY_MOST)]

    async def listed(
        self, *, site: str | None = None, batch: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Cards, newest first."""
        site_id = None if site is None else self._admin.site(site).id
        rows = await self._store.list_vouchers(
            site_id=site_id, batch=None if batch is None else batch_named(batch), limit=limit
        )
        return await self._shown_each([row["serial"] for row in rows])

    async def _shown_each(self, serials: Iterable[str]) -> list[dict[str, Any]]:
        shown = []
        for n, serial in enumerate(serials):
            if n % SLICE == 0:
                await asyncio.sleep(0)
            shown.append(self.shown(self.find(serial)))
        return shown

    # -- searching -------------------------------------------------------------------------

    async def find_cards(self, text: str, site_id: int | None = None) -> list[dict[str, Any]]:
        """Cards that somebody may mean by `text`, at most 50, newest first: a serial, the last four
        digits, a batch, a phone's MAC, or a whole code. Only those of a site when one is given."""
        found = await self._shown_each(await self._serials_for(text.strip(), site_id))
        if site_id is None:
            return found
        code = self._admin.sites_by_id[site_id].code
        return [shown for shown in found if shown["site"] == code]

    async def _serials_for(self, text: str, site_id: int | None) -> list[str]:
        if re.fullmatch("[0-9]{4}", text):
            return self._cards.with_last4(text, site_id, FOUND_MOST)
        if _BATCH.fullmatch(text.upper()):
            rows = await self._store.list_vouchers(
                site_id=site_id, batch=text.upper(), limit=FOUND_MOST
            )
            return [row["serial"] for row in rows]
        try:
            return [self.find(text).serial]
        except UserError:
            mac = canonical_mac(text)
            found = None if mac is None else self._accounts.card_of_phone(mac, self._now())
            if found is None or found[0].id in self._hidden:
                return []
            return [found[0].serial]
