"""Erasing: whoever held a card wishes that nothing is known of them (UU 27/2022).

Nobody is known here by name, so a person is the holder of a card: whoever brings the paper, or its
serial, may ask. The card ends; which phone and address it had, when and how much, goes at once.
Sums of villages and days stay, and the ledger stays whole. What the hub has of the single records
goes with the next exchange: the ledger names them to it.
"""

from collections.abc import Awaitable, Callable, Container
from typing import Any

from portal.accounts import Accounts
from portal.audit import COMMAND_LINE
from portal.cards.endings import CardEndings
from portal.cards.finding import CardFinding, reason_of
from portal.commit import GroupCommit
from portal.errors import UserError
from portal.pseudonyms import Pseudonyms
from portal.sessions import Live, Sessions
from portal.store.audit import Deed
from portal.store.erasing import ErasingStore


class CardErasing:
    """Erases the holders of cards."""

    def __init__(
        self,
        store: ErasingStore,
        accounts: Accounts,
        sessions: Sessions,
        pseudonyms: Pseudonyms,
        commit: GroupCommit,
        finding: CardFinding,
        endings: CardEndings,
        *,
        now: Callable[[], int],
        empty_log: Callable[[], Awaitable[None]],
    ):
        self._store = store
        self._accounts = accounts
        self._sessions = sessions
        self._pseudonyms = pseudonyms
        self._commit = commit
        self._finding = finding
        self._endings = endings
        self._now = now
        self._empty_log = empty_log

    async def erase(self, key: str, reason: str, *, by: str = COMMAND_LINE) -> dict[str, Any]:
        """End a card, and erase what is known of its holder through it and the cards it replaced.

        Returns {"serials", "records"}: the cards, and how many records of the ledger were theirs.
        Raises DeskError when there is no such card, UserError while a phone is online with it: that
        was asked to be cut off, and nothing is erased yet.
        """
        reason = reason_of(reason)
        card = self._finding.find(key)
        account_id = card.account.id
        newest = self._accounts.current_card(card.account, self._now())
        if newest.revoked_at is None:
            await self._endings.revoke([newest.serial], reason, by=by)
        cards = self._store.cards(account_id)
        card_ids, serials = {card_id for card_id, _ in cards}, [serial for _, serial in cards]
        await self._commit.now()
        mark = self._store.last_record()
        records = await self._store.records(account_id, serials)
        if any(live.session.is_open for live in self._held_by(card_ids)):
            raise UserError(
                f"A phone is still online with {newest.serial}. The card has ended and its gateway"
                " was asked to cut it off; nothing is erased yet. Do it again once pesisir session"
                " list --open does not show it, after a quarter of an hour at most."
            )
        self._let_go(account_id, card_ids)
        # Searching takes a while, and a packet that came meanwhile made a record behind the mark.
        await self._commit.now()
        late = await self._store.records(account_id, serials, behind=mark)
        records = sorted({*records, *late})
        self._let_go(account_id, card_ids)
        deed = Deed(by, "voucher.erase", newest.site_id, newest.serial, reason)
        await self._store.erase(account_id, cards, records, self._now(), deed)
        await self._commit.now()
        await self._empty_log()
        return {"serials": serials, "records": len(records)}

    def _held_by(self, card_ids: Container[int | None]) -> list[Live]:
        return [live for live in self._sessions.in_memory() if live.session.voucher_id in card_ids]

    def _let_go(self, account_id: int, card_ids: Container[int | None]) -> None:
        """Forget in memory: what is told of these sessions from here on is nobody's."""
        for live in self._held_by(card_ids):
            live.session.voucher_id = live.session.mac = live.session.framed_ip = None
            live.account, live.serial, live.exchange = None, "", None
            self._sessions.changed(live)
        self._accounts.forget_account(account_id)
        self._pseudonyms.forget_account(account_id)
