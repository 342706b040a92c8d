"""Card actions: the forms that change a card.

Each asks for a reason; what cannot be taken back asks for the last two digits of the serial as
well. A form that was made before somebody else changed the card is not done: it comes back and says
who did what in the meantime.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from starlette.responses import Response

from portal.domain.voucher import State
from portal.errors import UserError
from portal.grants import VoucherStatus
from portal.web.operator import card_words
from portal.web.operator.card_desk import CardDesk, Slips, digits
from portal.web.operator.card_words import DeedLine
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit

DATA_UNITS = {"MB": 10**6, "GB": 10**9}
TIME_UNITS = {"minutes": 60, "hours": 3_600}
DAY_S = 86_400
DATA_MOST, TIME_MOST_S, DAYS_MOST = 10**12, 366 * DAY_S, 1_000
"""What one form may add: more is a slip of the finger, and could not be taken back."""
_AMOUNT_LONGEST = 9

_FIELDS = {
    "cards.reason_missing": "reason",
    "cards.reason_long": "reason",
    "cards.top_up_amount": "data",
    "cards.top_up_nothing": "data",
    "cards.top_up_no_data_quota": "data",
    "cards.top_up_no_time_quota": "time",
    "cards.extend_amount": "days",
    "cards.extend_endless": "days",
}
"""The field that a refusal of the use case stands beside; the others stand above the form."""


@dataclass(frozen=True, slots=True)
class Action:
    """One form. `do` gets the card, the mistakes so far (with what was typed) and the reason; it
    returns where to go and the notice to show there."""

    name: str
    is_final: bool
    """It cannot be taken back: the last two digits are asked for."""
    do: Callable[[Visit, dict[str, Any], Slips, str], Awaitable[tuple[str, str] | None]]


class CardActions:
    """The forms that change one card."""

    def __init__(self, desk: Desk, cards: CardDesk) -> None:
        self._desk = desk
        self._cards = cards
        self._actions = (
            Action("revoke", True, self._revoke),
            Action("replace", True, self._replace),
            Action("top-up", False, self._top_up),
            Action("extend", False, self._extend),
            Action("block", True, self._block),
        )

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        found = []
        for action in self._actions:
            path = f"/operator/cards/{{serial}}/{action.name}"
            found.append(Page(path, self._showing(action), Need.WORK))
            found.append(Page(path, self._doing(action), Need.WORK, ("POST",)))
        return found

    def _showing(self, action: Action) -> Callable[[Visit], Awaitable[Response]]:
        async def show(visit: Visit) -> Response:
            shown = self._cards.card(visit)
            return await self._form(visit, action, shown, Slips(visit))

        return show

    def _doing(self, action: Action) -> Callable[[Visit], Awaitable[Response]]:
        async def do(visit: Visit) -> Response:
            shown = self._cards.card(visit)
            slips = Slips(visit)
            reason = slips.reason()
            if action.is_final:
                slips.last_two(shown["serial"])
            done = None
            others = None
            try:
                done = await action.do(visit, shown, slips, reason)
            except UserError as error:
                slips.refused(error, _FIELDS)
                if getattr(error, "key", None) == "cards.changed":
                    others = await self._newest_deed(visit, shown)
            if done is None:
                return await self._form(visit, action, self._cards.card(visit), slips, others)
            path, notice = done
            return self._desk.go(path, notice=notice, serial=shown["serial"])

        return do

    async def _newest_deed(self, visit: Visit, shown: Mapping[str, Any]) -> DeedLine | None:
        """What somebody did to the card after this form was made."""
        zone = self._cards.admin.zone(self._cards.site_of(shown).id)
        lines = await self._cards.vouchers.history(shown["serial"])
        said = card_words.deeds(visit.t, lines[:1], now=visit.now, zone=zone)
        return said[0] if said else None

    async def _form(
        self,
        visit: Visit,
        action: Action,
        shown: dict[str, Any],
        slips: Slips,
        others: DeedLine | None = None,
    ) -> Response:
        t, serial = visit.t, shown["serial"]
        of = State(shown["state"])
        status = self._cards.status(serial)
        session_id = slips.typed.get("session") or visit.query.get("session", "")
        zone = self._cards.admin.zone(self._cards.site_of(shown).id)
        return self._desk.page(
            visit,
            "card_act",
            {
                "action": action.name,
                "is_final": action.is_final,
                "shown": shown,
                "state": card_words.state(t, of),
                "sign": card_words.sign(of),
                "dates": card_words.dates(t, shown, now=visit.now, zone=zone),
                "left": self._left(visit, status),
                "has_data": any(window.octets_quota is not None for window in status.windows),
                "has_time": any(window.seconds_quota is not None for window in status.windows),
                "session": session_id,
                "phone": await self._phone(shown, session_id) if action.name == "block" else None,
                "others": others,
                "typed": slips.typed,
                "slips": slips.texts,
            },
        )

    def _left(self, visit: Visit, status: VoucherStatus) -> list[str]:
        left = []
        if status.octets_left is not None:
            left.append(visit.t.octets_left(status.octets_left))
        if status.seconds_left is not None:
            left.append(visit.t.duration(status.seconds_left))
        return left

    # --- what each does ------------------------------------------------------------------------

    async def _revoke(
        self, visit: Visit, shown: dict[str, Any], slips: Slips, reason: str
    ) -> tuple[str, str] | None:
        if slips:
            return None
        serial = shown["serial"]
        await self._cards.vouchers.revoke([serial], reason, **_who(visit))
        return f"/operator/cards/{serial}", "cards.revoked"

    async def _replace(
        self, visit: Visit, shown: dict[str, Any], slips: Slips, reason: str
    ) -> tuple[str, str] | None:
        if slips:
            return None
        serial = shown["serial"]
        issued = await self._cards.vouchers.replace([serial], reason, **_who(visit))
        made = issued["vouchers"][0]
        self._cards.codes.keep(visit, made)
        return f"/operator/give/{made['serial']}", "cards.replaced"

    async def _top_up(
        self, visit: Visit, shown: dict[str, Any], slips: Slips, reason: str
    ) -> tuple[str, str] | None:
        octets = _amount(slips, "data", DATA_UNITS, "cards.slip_data")
        seconds = _amount(slips, "time", TIME_UNITS, "cards.slip_time")
        if octets is None and seconds is None:
            slips.add("data", "cards.slip_nothing")
        if octets is not None and octets > DATA_MOST:
            slips.add("data", "cards.slip_much", most=visit.t.quota(DATA_MOST))
        if seconds is not None and seconds > TIME_MOST_S:
            slips.add("time", "cards.slip_much", most=visit.t.duration(TIME_MOST_S))
        if slips:
            return None
        serial = shown["serial"]
        await self._cards.vouchers.top_up(
            serial, octets=octets, seconds=seconds, reason=reason, **_who(visit)
        )
        return f"/operator/cards/{serial}", "cards.topped_up"

    async def _extend(
        self, visit: Visit, shown: dict[str, Any], slips: Slips, reason: str
    ) -> tuple[str, str] | None:
        days = digits(slips.typed.get("days", ""))
        if not days or len(days) > _AMOUNT_LONGEST or int(days) == 0:
            slips.add("days", "cards.slip_days")
        elif int(days) > DAYS_MOST:
            slips.add("days", "cards.slip_much", most=visit.t.duration(DAYS_MOST * DAY_S))
        if slips:
            return None
        serial = shown["serial"]
        await self._cards.vouchers.extend(
            serial, seconds=int(days) * DAY_S, reason=reason, **_who(visit)
        )
        return f"/operator/cards/{serial}", "cards.extended"

    async def _block(
        self, visit: Visit, shown: dict[str, Any], slips: Slips, reason: str
    ) -> tuple[str, str] | None:
        mac = await self._mac(shown, slips.typed.get("session", ""))
        if slips:
            return None
        serial = shown["serial"]
        site = self._cards.site_of(shown)
        await self._cards.devices.block(mac, site.id, reason, by=visit.operator.name)
        return f"/operator/cards/{serial}", "cards.blocked"

    async def _mac(self, shown: dict[str, Any], session_id: str) -> str:
        """The phone of one of the card's sessions; raises NotHere when there is none."""
        rows = await self._cards.history.listed(serial=shown["serial"])
        for row in rows:
            if str(row["id"]) == session_id and row["calling_station_id"]:
                return str(row["calling_station_id"])
        raise NotHere

    async def _phone(self, shown: dict[str, Any], session_id: str) -> str:
        return card_words.phone(await self._mac(shown, session_id))


def _who(visit: Visit) -> dict[str, Any]:
    """Who does it, having looked at which state of the card."""
    seen = digits(visit.fields.get("seen", ""))
    return {"by": visit.operator.name, "seen": int(seen) if seen else None}


def _amount(slips: Slips, name: str, units: Mapping[str, int], key: str) -> int | None:
    """What was typed in a field and the unit chosen beside it; None for an empty field.

    `1,5` and `1.5` are both one and a half; three digits after a dot are thousands to one and
    thousandths to another, so they are a mistake.
    """
    text = "".join(slips.typed.get(name, "").split()).replace(",", ".")
    if not text:
        return None
    scale = units.get(slips.typed.get(f"{name}_unit", ""))
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    exponent = amount.as_tuple().exponent
    is_plain = (
        amount.is_finite()
        and isinstance(exponent, int)
        and -2 <= exponent <= 0
        and len(text) <= _AMOUNT_LONGEST
    )
    if scale is None or not is_plain or amount <= 0:
        slips.add(name, key)
        return None
    return int(amount * scale)
