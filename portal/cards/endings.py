"""How cards end: taken back, revoked, replaced by new ones.

The end is on disk, with its line in the audit, before a phone is cut off; from then on neither the
code nor a phone that used it comes in again.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from portal.accounts import Accounts, Card
from portal.audit import COMMAND_LINE
from portal.cards.finding import CardFinding, batch_named, batch_of, reason_of
from portal.cards.making import CardMaking
from portal.cards.taking import CardTaking, Taken
from portal.commit import GroupCommit
from portal.domain import voucher
from portal.errors import DeskError
from portal.grants import Grants
from portal.store.audit import Deed
from portal.store.cards import CardStore

UNDO_WITHIN_S = 300
"""So long a card given by mistake can be taken back."""
UNDO_REASON = "undo"


class CardEndings:
    """Takes back, revokes and replaces cards."""

    def __init__(
        self,
        cards: CardStore,
        accounts: Accounts,
        grants: Grants,
        commit: GroupCommit,
        finding: CardFinding,
        making: CardMaking,
        taking: CardTaking,
        *,
        now: Callable[[], int],
    ):
        self._cards = cards
        self._accounts = accounts
        self._grants = grants
        self._commit = commit
        self._finding = finding
        self._making = making
        self._taking = taking
        self._now = now

    # -- taking back -----------------------------------------------------------------------

    async def undo_give(self, serial: str, *, by: str = COMMAND_LINE) -> dict[str, Any]:
        """Take back a card given less than five minutes ago and not used since: its code dies."""

        def check(card: Card) -> None:
            self._taking.check_alive(card)
            if card.account.first_used_at is not None:
                raise DeskError("cards.undo_used", serial=card.serial)
            about = self._cards.about(card.serial)
            given_at = None if about is None else about["given_at"]
            if given_at is None:
                raise DeskError("cards.undo_not_given", serial=card.serial)
            if self._now() > given_at + UNDO_WITHIN_S:
                raise DeskError("cards.undo_late", serial=card.serial, minutes=UNDO_WITHIN_S // 60)
            if len(self._cards.of_account(card.account.id)) > 1:
                # What the card before has left is on this one.
                raise DeskError("cards.undo_replacement", serial=card.serial)

        async with self._taking.taking([serial], check) as [card]:
            now = self._now()
            # From here on its code is refused: a login meanwhile would be one with a dead card.
            found = self._finding.find(card.serial)
            found.revoked_at = now
            try:
                deed = Deed(by, "voucher.undo", card.site_id, card.serial)
                await self._cards.revoke([card.id], now, UNDO_REASON, [deed])
            except BaseException:
                found.revoked_at = None
                raise
            await self._end([card.serial], "revoked")
        return self._finding.show(card.serial)

    # -- ending ----------------------------------------------------------------------------

    async def revoke(
        self,
        keys: Sequence[str],
        reason: str,
        *,
        by: str = COMMAND_LINE,
        seen: int | None = None,
    ) -> list[dict[str, Any]]:
        """End cards for good and cut their sessions; their codes and phones are refused at once.
        `seen` is for a single card."""
        reason = reason_of(reason)

        def check(card: Card) -> None:
            if card.replaced_at is not None or card.revoked_at is None:
                self._taking.check_alive(card)
            else:
                raise DeskError("cards.revoked_already", serial=card.serial)
            self._finding.check_seen(card, seen)

        async with self._taking.taking(keys, check) as taken:
            deeds = [
                Deed(by, "voucher.revoke", card.site_id, card.serial, reason) for card in taken
            ]
            await self._revoke(taken, reason, deeds)
        return [self._finding.shown(card) async for card in self._named(taken)]

    async def revoke_batch(
        self, batch: str, reason: str, *, by: str = COMMAND_LINE
    ) -> list[dict[str, Any]]:
        """End all cards of a batch that have not ended yet."""
        reason = reason_of(reason)
        name = batch_named(batch)
        rows = await self._finding.of_batch(name)
        living = [
            row["serial"]
            for row in rows
            if row["revoked_at"] is None and row["replaced_at"] is None
        ]
        if not living:
            raise DeskError("cards.batch_over", batch=name)
        async with self._taking.taking(living, self._taking.check_alive) as taken:
            deed = Deed(
                *(by, "voucher.revoke", rows[0]["site_id"], name, reason),
                details=f"{len(taken)} of {len(rows)} cards",
            )
            await self._revoke(taken, reason, [deed])
        return [self._finding.shown(card) async for card in self._named(taken)]

    async def _revoke(self, taken: Sequence[Taken], reason: str, deeds: Sequence[Deed]) -> None:
        await self._cards.revoke([card.id for card in taken], self._now(), reason, deeds)
        await self._end([card.serial for card in taken], "revoked")

    async def _end(self, serials: Sequence[str], why: str) -> None:
        """Follow in memory what is on disk already: nobody goes on with these cards."""
        now = self._now()
        async for card in self._finding.each(serials):
            if why == "replaced":
                card.replaced_at = card.replaced_at or now
                self._accounts.forget_card(card.account.id)
            else:
                card.revoked_at = card.revoked_at or now
            self._grants.end_all(card.account, why)
        await self._commit.now()

    def _named(self, taken: Iterable[Taken]) -> AsyncIterator[Card]:
        return self._finding.each(card.serial for card in taken)

    # -- replacing -------------------------------------------------------------------------

    async def replace(
        self,
        keys: Sequence[str],
        reason: str,
        *,
        by: str = COMMAND_LINE,
        seen: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Any]:
        """Give new codes for old cards: what is left moves to the octet and second, the old codes
        die, open sessions end. `seen` is for a single card.

        `report` is called with how many are replaced and how many it will be. Many are replaced in
        pieces, each card whole or not at all.
        """

        def check(card: Card) -> None:
            self._finding.check_seen(card, seen)

        return await self._replace(keys, reason_of(reason), by, check=check, report=report)

    async def _replace(
        self,
        keys: Sequence[str],
        reason: str,
        by: str,
        *,
        report: Callable[[int, int], None],
        check: Callable[[Card], None] = lambda card: None,
        leave_out: Callable[[Taken], bool] = lambda card: False,
    ) -> dict[str, Any]:
        kinds: set[tuple[str, int]] = set()

        def check_each(card: Card) -> None:
            if card.revoked_at is not None:
                raise DeskError("cards.replace_revoked", serial=card.serial)
            self._taking.check_alive(card)
            check(card)
            kinds.add((card.account.profile, card.site_id))
            if len(kinds) > 1:
                raise DeskError("cards.replace_mixed")

        async def followed(serials: Sequence[str]) -> None:
            await self._end(serials, "replaced")

        async with self._taking.taking(keys, check_each) as taken:
            return await self._making.succeed(
                taken,
                reason=reason,
                by=by,
                leave_out=leave_out,
                followed=followed,
                report=report,
            )

    async def replace_range(
        self,
        first: str,
        last: str,
        reason: str,
        *,
        by: str = COMMAND_LINE,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Any]:
        """Replace the cards from one serial to another of the same batch that are still in the
        drawer: a sheet that cannot be printed again.

        Left out, and told in "left_out", are cards that may be in people's hands, given or used,
        and those that have ended: those are replaced one by one, by who knows why. What was stopped
        on the way goes on when it is done again.
        """
        reason = reason_of(reason)
        begin, end = voucher.parse_serial(first), voucher.parse_serial(last)
        if begin is None or end is None or begin[0] != end[0] or begin > end:
            raise DeskError("cards.range", first=first.strip()[:20], last=last.strip()[:20])
        wanted = []
        left_out = []
        for row in await self._finding.of_batch(batch_of(voucher.serial(*begin))):
            number = voucher.parse_serial(row["serial"])
            if number is None or not begin <= number <= end:
                continue
            why = None
            if row["revoked_at"] is not None or row["replaced_at"] is not None:
                why = "ended"
            elif row["first_used_at"] is not None:
                why = "used"
            elif row["given_at"] is not None:
                why = "given"
            if why is None:
                wanted.append(row["serial"])
            else:
                left_out.append({"serial": row["serial"], "why": why})
        if not wanted:
            raise DeskError("cards.range_empty", first=first, last=last)

        def leave_out(card: Taken) -> bool:
            # Many take a while, and somebody may come with a card of the sheet meanwhile.
            why = self._why_out(card.serial)
            if why is not None:
                left_out.append({"serial": card.serial, "why": why})
            return why is not None

        issued = await self._replace(wanted, reason, by, leave_out=leave_out, report=report)
        if not issued["vouchers"]:
            raise DeskError("cards.range_empty", first=first, last=last)
        left_out.sort(key=lambda one: voucher.parse_serial(one["serial"]) or (0, 0))
        return issued | {"left_out": left_out}

    def _why_out(self, serial: str) -> str | None:
        """Why a card may be in somebody's hands; None: it is in the drawer."""
        if self._finding.find(serial).account.first_used_at is not None:
            return "used"
        about = self._cards.about(serial)
        return "given" if about is not None and about["given_at"] is not None else None
