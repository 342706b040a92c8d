"""What people add to a card that exists: that it was given, more quota, a longer life.

A change is on disk, with its line in the audit, before anything is done about it in memory.
"""

from collections.abc import Callable
from typing import Any

from portal.accounts import Accounts, Card
from portal.admin import Admin
from portal.audit import COMMAND_LINE
from portal.cards.finding import CardFinding, reason_of
from portal.cards.taking import CardTaking, Taken
from portal.domain import hours, quota
from portal.domain.profile import MAX_DURATION_S, MAX_OCTETS, format_duration, format_octets
from portal.domain.voucher import State
from portal.errors import DeskError
from portal.grants import Grants
from portal.renewals import DATA, TIME
from portal.store.audit import Deed
from portal.store.cards import CardStore


class CardActions:
    """Gives, tops up and extends cards."""

    def __init__(
        self,
        cards: CardStore,
        admin: Admin,
        accounts: Accounts,
        grants: Grants,
        finding: CardFinding,
        taking: CardTaking,
        *,
        now: Callable[[], int],
        changed: Callable[[int, frozenset[str], str], None],
    ):
        """`changed`: called with the account, what it has more of and why, for the phones that are
        online with it."""
        self._cards = cards
        self._admin = admin
        self._accounts = accounts
        self._grants = grants
        self._finding = finding
        self._taking = taking
        self._now = now
        self._changed = changed

    # -- giving ----------------------------------------------------------------------------

    async def confirm_given(self, serial: str, *, by: str = COMMAND_LINE) -> dict[str, Any]:
        """Note that a card was handed over; once is enough, a second time changes nothing."""
        async with self._taking.taking([serial], self._taking.check_alive) as [card]:
            about = self._cards.about(card.serial)
            if about is not None and about["given_at"] is None:
                deed = Deed(by, "voucher.give", card.site_id, card.serial)
                await self._cards.give(card.id, self._now(), deed)
        return self._finding.show(card.serial)

    # -- more ------------------------------------------------------------------------------

    async def top_up(
        self,
        serial: str,
        *,
        octets: int | None = None,
        seconds: int | None = None,
        reason: str,
        by: str = COMMAND_LINE,
        seen: int | None = None,
    ) -> dict[str, Any]:
        """Let a card use more: today, and so this week, this month and in total, wherever its
        profile has a quota. A card that was used up works again at once; a phone that is online
        gets it at once where its gateway can be told, else with its next login."""
        reason = reason_of(reason)
        octets, seconds = octets or 0, seconds or 0
        if not (0 <= octets <= MAX_OCTETS and 0 <= seconds <= MAX_DURATION_S):
            raise DeskError("cards.top_up_amount")
        if not octets and not seconds:
            raise DeskError("cards.top_up_nothing")

        def check(card: Card) -> None:
            self._taking.check_alive(card)
            self._finding.check_seen(card, seen)
            if self._grants.state(card) is State.EXPIRED:
                raise DeskError("cards.top_up_expired", serial=card.serial)
            usage = card.account.usage
            if (
                usage.credit_octets + octets > MAX_OCTETS
                or usage.credit_s + seconds > MAX_DURATION_S
            ):
                raise DeskError("cards.top_up_amount")
            profile = self._admin.profiles_by_name[card.account.profile]
            windows = quota.windows_left(profile, usage, self._now())
            if octets and not any(window.octets_quota is not None for window in windows):
                raise DeskError("cards.top_up_no_data_quota", serial=card.serial)
            if seconds and not any(window.seconds_quota is not None for window in windows):
                raise DeskError("cards.top_up_no_time_quota", serial=card.serial)

        async with self._taking.taking([serial], check) as [card]:
            now = self._now()
            day = quota.day_text(quota.day_ordinal(now, self._admin.zone(card.site_id)))
            amounts = [format_octets(octets)] if octets else []
            amounts += [format_duration(seconds)] if seconds else []
            deed = Deed(
                *(by, "voucher.top_up", card.site_id, card.serial, reason),
                details=f"+{', +'.join(amounts)}",
            )
            await self._cards.top_up(card.account_id, day, octets, seconds, now, deed)
            self._accounts.refresh(card.account_id, self._now())
            changes = ({DATA} if octets else set()) | ({TIME} if seconds else set())
            self._changed(card.account_id, frozenset(changes), "top_up")
        return self._finding.show(card.serial)

    async def extend(
        self,
        serial: str,
        *,
        seconds: int,
        reason: str,
        by: str = COMMAND_LINE,
        seen: int | None = None,
    ) -> dict[str, Any]:
        """Let a card live longer, counted from its end, or from now when that is over.

        Before first use the last day for it moves, by whole days; a card without one gets a longer
        validity from first use, as does one in use.
        """
        reason = reason_of(reason)
        if not 0 < seconds <= MAX_DURATION_S:
            raise DeskError("cards.extend_amount")

        def check(card: Card) -> None:
            self._taking.check_alive(card)
            self._finding.check_seen(card, seen)
            profile = self._admin.profiles_by_name[card.account.profile]
            is_unused = card.account.first_used_at is None
            if profile.valid_s is None and not (is_unused and card.use_before_at is not None):
                raise DeskError("cards.extend_endless", serial=card.serial)
            late_at = (card.use_before_at or 0) + seconds
            if (
                card.account.extra_valid_s + seconds > MAX_DURATION_S
                or late_at > self._now() + MAX_DURATION_S
            ):
                raise DeskError("cards.extend_amount")

        async with self._taking.taking([serial], check) as [card]:
            await self._extend(card, seconds, reason, by)
            self._accounts.refresh(card.account_id, self._now())
            self._changed(card.account_id, frozenset((TIME,)), "extend")
        return self._finding.show(card.serial)

    async def _extend(self, card: Taken, seconds: int, reason: str, by: str) -> None:
        now = self._now()
        account = self._finding.find(card.serial).account
        zone = self._admin.zone(card.site_id)
        if account.first_used_at is None and card.use_before_at is not None:
            # The end of a day is the first instant after it.
            wanted_at = max(card.use_before_at, hours.next_midnight(now, zone)) + seconds
            end_at = hours.end_of_day(hours.day_of(wanted_at - 1, zone), zone)
            before, after = (
                hours.day_of(at - 1, zone).isoformat() for at in (card.use_before_at, end_at)
            )
            deed = Deed(
                *(by, "voucher.extend", card.site_id, card.serial, reason),
                details=f"use before {before} -> {after}",
            )
            await self._cards.extend_use_before(card.id, end_at, now, deed)
            return
        extra_s = account.extra_valid_s + seconds
        profile = self._admin.profiles_by_name[card.profile]
        ended_at = quota.expires_at(profile, account.first_used_at, account.extra_valid_s)
        if ended_at is not None and ended_at < now:
            extra_s += now - ended_at
        deed = Deed(
            *(by, "voucher.extend", card.site_id, card.serial, reason),
            details=f"+{format_duration(seconds)}",
        )
        await self._cards.extend_validity(card.account_id, extra_s, now, deed)
