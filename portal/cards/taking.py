"""Taking a card in hand: one change at a time for each card.

Who comes second while the first is being written gets a sentence, and so does who means to change
a card that has ended.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from portal.accounts import Accounts, Card
from portal.cards.finding import CardFinding
from portal.errors import DeskError


@dataclass(frozen=True, slots=True)
class Taken:
    """A card somebody changes now, as it was found: it may leave memory meanwhile."""

    serial: str
    id: int
    account_id: int
    site_id: int
    profile: str
    use_before_at: int | None


class CardTaking:
    """Knows which cards are being changed just now."""

    def __init__(self, finding: CardFinding, accounts: Accounts, *, now: Callable[[], int]):
        self._finding = finding
        self._accounts = accounts
        self._now = now
        self._busy: set[int] = set()

    @asynccontextmanager
    async def taking(
        self, keys: Iterable[str], check: Callable[[Card], None]
    ) -> AsyncIterator[list[Taken]]:
        """The cards named, which nobody else changes during the block; raises DeskError when
        somebody does just now, or what `check` raises for one of them."""
        taken: set[int] = set()
        found = []
        try:
            async for card in self._finding.each(keys):
                account = card.account
                if account.id in self._busy and account.id not in taken:
                    raise DeskError("cards.busy", serial=card.serial)
                check(card)
                self._busy.add(account.id)
                taken.add(account.id)
                found.append(
                    Taken(
                        card.serial,
                        card.id,
                        account.id,
                        card.site_id,
                        account.profile,
                        card.use_before_at,
                    )
                )
            yield found
        finally:
            self._busy -= taken

    def check_alive(self, card: Card) -> None:
        """Raise DeskError when a card was revoked or replaced."""
        if card.revoked_at is not None:
            raise DeskError("cards.revoked", serial=card.serial)
        if card.replaced_at is not None:
            newest = self._accounts.current_card(card.account, self._now())
            raise DeskError("cards.replaced", serial=card.serial, new=newest.serial)
