"""Cards: finding one, and everything there is to know about it.

A card is found by its serial, its last four, its batch, the code itself, or the phone that tried it
a moment ago. A reviewer sees the same page without the phones and without the buttons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from portal.cards.endings import UNDO_REASON, UNDO_WITHIN_S
from portal.cards.finding import batch_of
from portal.domain.quota import Reason
from portal.domain.voucher import State, normalise, parse_serial
from portal.errors import DeskError, UserError
from portal.store.batches import BatchStore
from portal.web.operator import card_words
from portal.web.operator.batches import Batches
from portal.web.operator.card_actions import CardActions
from portal.web.operator.card_desk import CardDesk
from portal.web.operator.desk import Desk, Need, Page, Visit, refusal
from portal.web.operator.give import Giving
from portal.web.operator.house import House
from portal.web.operator.print_words import gives_in_full
from portal.web.sentences import gauges, trouble_of_status
from radius.nas import canonical_mac

HOME = "/operator/cards"
QUERY_LONGEST = 64
CODE_DIGITS_TOLD = 7
"""So many digits of a code are more than the four that everybody may see."""
FOUND_MOST = 40
GIVEN_MOST = 5
PHONES_MOST = 20
SESSIONS_MOST = 20
DEEDS_MOST = 30


@dataclass(frozen=True, slots=True)
class PhoneLine:
    """A phone that was heard of in the last minutes."""

    when: str
    phone: str
    serial: str | None
    device: str | None
    """The name of a known device."""
    gateway: str
    what: str
    is_refused: bool


class Cards:
    """The pages of finding a card and of the card itself."""

    def __init__(self, desk: Desk, cards: CardDesk) -> None:
        self._desk = desk
        self._cards = cards

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.find, Need.SEE),
            Page(HOME + "/search", self.search, Need.SEE, ("POST",)),
            Page(HOME + "/{serial}", self.card, Need.SEE),
        ]

    # --- finding -------------------------------------------------------------------------------

    async def search(self, visit: Visit) -> Response:
        """What was typed, posted: a code, or most of one, must not stand in an address, nor a
        phone's number."""
        text = visit.fields.get("q", "").strip()[:QUERY_LONGEST]
        if _is_private(text):
            return await self._look_up(visit, text)
        return self._desk.go(f"{HOME}?{urlencode({'q': text})}" if text else HOME)

    def _of_code(self, visit: Visit, text: str) -> str | None:
        """The serial of the card with this code, when this person may see it."""
        if normalise(text) is None or parse_serial(text) is not None:
            return None
        try:
            shown = self._cards.vouchers.show(text)
        except UserError:
            return None
        if self._cards.site_of(shown).id not in {site.id for site in visit.sites}:
            return None
        return str(shown["serial"])

    async def find(self, visit: Visit) -> Response:
        """The search, the phones heard in the last minutes, and the cards given last."""
        return await self._look_up(visit, visit.query.get("q", "").strip()[:QUERY_LONGEST])

    async def _look_up(self, visit: Visit, text: str) -> Response:
        serial = self._of_code(visit, text)
        if serial is not None:
            return self._desk.go(f"{HOME}/{serial}")
        if normalise(text) is not None:
            return self._find(visit, "", [], slip=visit.t("cards.no_such_code"))
        if not text:
            return self._find(visit, "", [])
        batch = self._cards.batches.batch_of(text.upper())
        if batch is not None and batch["site_id"] in {site.id for site in visit.sites}:
            return self._desk.go(f"/operator/batches/{text.upper()}")
        if canonical_mac(text) is not None and not visit.may(Need.WORK):
            # Whose phone has which card is not for reviewers.
            return self._find(visit, text, [], slip=visit.t("cards.not_found", text=text))
        try:
            sites: list[int | None] = [*sorted(visit.operator.site_ids or ())]
            found = [
                card
                for site_id in sites or [None]
                for card in await self._cards.vouchers.find_cards(text, site_id)
            ]
        except UserError as error:
            return self._find(visit, text, [], slip=self._said(visit, error))
        if len(found) == 1:
            return self._desk.go(f"{HOME}/{found[0]['serial']}")
        slip = None if found else visit.t("cards.not_found", text=text)
        return self._find(visit, text, found[:FOUND_MOST], slip=slip)

    def _said(self, visit: Visit, error: UserError) -> str:
        if isinstance(error, DeskError):
            return refusal(visit.t, error)
        return visit.t("cards.slip_other")

    def _find(
        self,
        visit: Visit,
        text: str,
        found: list[dict[str, Any]],
        *,
        slip: str | None = None,
    ) -> Response:
        t, now, zone = visit.t, visit.now, visit.zone
        given = [
            (row["serial"], card_words.masked(row["last4"]), t.moment(row["given_at"], now, zone))
            for row in self._cards.batches.given(visit.site.id, GIVEN_MOST, UNDO_REASON)
        ]
        with_phones = visit.may(Need.WORK, visit.site.id)
        return self._desk.page(
            visit,
            "find",
            {
                "typed": text,
                "slip": slip,
                "found": [card_words.listed(t, shown, now=now, zone=zone) for shown in found],
                "phones": self._phones(visit) if with_phones else None,
                "given": given,
            },
        )

    def _phones(self, visit: Visit) -> list[PhoneLine]:
        recent = self._cards.vouchers.recent_phones(visit.site.id)
        return [self._phone(visit, one) for one in recent[:PHONES_MOST]]

    def _phone(self, visit: Visit, one: Mapping[str, Any]) -> PhoneLine:
        t, what, reason = visit.t, one["what"], one["reason"]
        if what == "refused" and reason in _REASONS:
            what = reason
        return PhoneLine(
            when=t.since(one["at"], visit.now, visit.zone),
            phone=card_words.phone(one["mac"]),
            serial=one["serial"],
            device=one["device"],
            gateway=one["gateway"],
            what=t(f"cards.phone_{what}"),
            is_refused=one["what"] == "refused",
        )

    # --- one card ------------------------------------------------------------------------------

    async def card(self, visit: Visit) -> Response:
        """The card: its state and quotas, its sessions, who gave it, and what was done to it."""
        shown = self._cards.card(visit)
        t, now, serial = visit.t, visit.now, shown["serial"]
        site = self._cards.site_of(shown)
        zone = self._cards.admin.zone(site.id)
        status = self._cards.status(serial)
        of = State(shown["state"])
        may_work = visit.may(Need.WORK, site.id)
        rows = await self._cards.history.listed(serial=serial, limit=SESSIONS_MOST)
        batch = batch_of(serial)
        deeds = await self._cards.vouchers.history(serial)
        profile = self._cards.admin.profiles_by_name[shown["profile"]]
        given_at = shown["given_at"]
        trouble = trouble_of_status(t, status, now=now, zone=zone, site=site)
        return self._desk.page(
            visit,
            "card",
            {
                "shown": shown,
                "end_reason": card_words.end_reason(t, shown["end_reason"]),
                "batch": batch,
                "masked": card_words.masked(shown["last4"]),
                "state": card_words.state(t, of),
                "sign": card_words.sign(of),
                "trouble": None if trouble is None or of is State.REPLACED else trouble.what,
                "gives": gives_in_full(t, profile, now, zone),
                "gauges": gauges(t, status, now=now, zone=zone),
                "dates": card_words.dates(t, shown, now=now, zone=zone),
                "origin": card_words.origin(t, shown, now=now, zone=zone),
                "sessions": card_words.sessions(
                    t,
                    rows,
                    now=now,
                    zone=zone,
                    with_phones=may_work,
                    is_blocked=lambda mac: self._cards.devices.is_blocked(mac, site.id),
                ),
                "has_more_sessions": len(rows) == SESSIONS_MOST,
                "deeds": card_words.deeds(t, deeds[:DEEDS_MOST], now=now, zone=zone),
                "can_act": may_work and of in card_words.LIVING,
                "can_extend": profile.valid_s is not None
                or (shown["first_used_at"] is None and shown["use_before_at"] is not None),
                "can_top_up": bool(status.windows),
                "can_block": may_work,
                "can_undo": may_work
                and given_at is not None
                and of is State.UNUSED
                and now < given_at + UNDO_WITHIN_S
                and shown["replaces"] is None,
            },
        )


def _is_private(text: str) -> bool:
    """Whether this is a code, so much of one that the rest can be guessed, or a phone's number."""
    if parse_serial(text) is not None:
        return False
    is_code = sum(character.isdecimal() for character in text) >= CODE_DIGITS_TOLD
    return is_code or normalise(text) is not None or canonical_mac(text) is not None


_REASONS = frozenset(reason.value for reason in Reason)


def pages(desk: Desk, house: House) -> list[Page]:
    """All pages of cards: giving, finding, changing, batches."""
    cards = CardDesk(
        vouchers=house.vouchers,
        grants=house.grants,
        admin=house.admin,
        history=house.history,
        devices=house.devices,
        batches=BatchStore(house.store),
    )
    return [
        *Giving(desk, cards).pages(),
        *Cards(desk, cards).pages(),
        *CardActions(desk, cards).pages(),
        *Batches(desk, cards).pages(),
    ]
