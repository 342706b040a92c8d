"""Batches: sheets of cards, what became of them, and ending or replacing many at once.

A selection is a form that only reads: its button leads to a page that says how many cards it would
be, and that page's form does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from portal.cards.finding import batch_of
from portal.domain.voucher import State, parse_serial, serial
from portal.errors import UserError
from portal.store.db import Row
from portal.web.operator import card_words
from portal.web.operator.card_desk import CardDesk, Slips, digits, serial_of
from portal.web.operator.desk import Desk, Need, Page, Visit
from portal.web.operator.print_words import gives_in_full

HOME = "/operator/batches"
BATCHES_MOST = 10
CARDS_ON_PAGE = 40
CHOSEN_MOST = 200
_ID_DIGITS_MOST = 18


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a batch's cards."""

    total: int
    given: int
    by_state: dict[State, int]

    @property
    def living(self) -> int:
        """Cards that somebody could still log in with, or that could be made good again."""
        return sum(self.by_state.get(state, 0) for state in card_words.LIVING)


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A batch in a list."""

    name: str
    profile: str
    when: str
    who: str
    note: str
    counts: list[tuple[str, str]]
    """(word, number), those of zero left out."""


class Batches:
    """The pages of batches."""

    def __init__(self, desk: Desk, cards: CardDesk) -> None:
        self._desk = desk
        self._cards = cards

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        one = HOME + "/{batch}"
        return [
            Page(HOME, self.all, Need.SEE),
            Page(one, self.one, Need.SEE),
            Page(one + "/revoke", self.ask_revoke, Need.WORK),
            Page(one + "/revoke", self.revoke, Need.WORK, ("POST",)),
            Page(one + "/replace", self.ask_replace, Need.WORK),
            Page(one + "/replace", self.replace, Need.WORK, ("POST",)),
        ]

    # --- looking -------------------------------------------------------------------------------

    async def all(self, visit: Visit) -> Response:
        """The site's batches, newest first; cards given one by one are not among them."""
        text = digits(visit.query.get("before", ""))[:_ID_DIGITS_MOST]
        rows = await self._cards.batches.sheets(
            visit.site.id,
            self._cards.admin.profiles_by_name.values(),
            now=visit.now,
            before_id=int(text) if text else None,
            most=BATCHES_MOST + 1,
        )
        groups: dict[int, list[Row]] = {}
        for row in rows:
            groups.setdefault(row["id"], []).append(row)
        ids = list(groups)
        return self._desk.page(
            visit,
            "card_batches",
            {
                "batches": [self._line(visit, groups[id]) for id in ids[:BATCHES_MOST]],
                "older": ids[BATCHES_MOST - 1] if len(ids) > BATCHES_MOST else None,
                "is_first": not text,
            },
        )

    def _line(self, visit: Visit, rows: Sequence[Row]) -> BatchLine:
        t, row = visit.t, rows[0]
        zone = self._cards.admin.zone(row["site_id"])
        return BatchLine(
            name=batch_of(row["first_serial"]),
            profile=row["profile"],
            when=t.moment(row["issued_at"], visit.now, zone),
            who=card_words.person(t, row["issued_by"]),
            note=card_words.note(t, row["note"]),
            counts=_said(visit, _count(rows)),
        )

    async def one(self, visit: Visit) -> Response:
        """One batch: its counts and its cards, forty on a page, to choose from."""
        return await self._one(visit)

    async def _one(self, visit: Visit, *, slip: str | None = None) -> Response:
        t, now = visit.t, visit.now
        name, row = self._cards.batch(visit)
        rows = await self._counted(row, visit.now)
        counts = _count(rows)
        pages = max(1, -(-counts.total // CARDS_ON_PAGE))
        number = min(max(1, int(digits(visit.query.get("page", ""))[:6] or 1)), pages)
        serials = await self._cards.batches.serials(
            row["id"], offset=(number - 1) * CARDS_ON_PAGE, most=CARDS_ON_PAGE
        )
        zone = self._cards.admin.zone(row["site_id"])
        cards = []
        for one in serials:
            shown = self._cards.vouchers.show(one)
            line = card_words.listed(t, shown, now=now, zone=zone)
            cards.append((line, State(shown["state"]) in card_words.LIVING, shown["replaces"]))
        return self._desk.page(
            visit,
            "card_batch",
            {
                "batch": self._line(visit, rows),
                "gives": self._gives(visit, row),
                "total": t("cards.count", n=counts.total),
                "cards": cards,
                "number": number,
                "pages": pages,
                "of_pages": t("cards.page", page=t.number(number), pages=t.number(pages)),
                "can_act": visit.may(Need.WORK, row["site_id"]) and counts.living > 0,
                "chosen": visit.request.query_params.getlist("card"),
                "slip": slip,
            },
        )

    def _gives(self, visit: Visit, row: Row) -> str:
        profile = self._cards.admin.profiles_by_name[row["profile"]]
        zone = self._cards.admin.zone(row["site_id"])
        return gives_in_full(visit.t, profile, visit.now, zone)

    async def _counted(self, row: Row, now: int) -> list[Row]:
        profiles = self._cards.admin.profiles_by_name.values()
        return await self._cards.batches.counted(row["id"], profiles, now=now)

    # --- ending --------------------------------------------------------------------------------

    async def ask_revoke(self, visit: Visit) -> Response:
        """What would end: the cards chosen, or the whole batch."""
        name, row = self._cards.batch(visit)
        chosen = _chosen(name, visit.request.query_params.getlist("card"))
        is_all = visit.query.get("scope") == "all"
        if not chosen and not is_all:
            return await self._one(visit, slip=visit.t("cards.slip_choose"))
        return await self._form(visit, "revoke", name, row, [] if is_all else chosen, Slips(visit))

    async def revoke(self, visit: Visit) -> Response:
        """End the cards chosen, or the whole batch."""
        name, row = self._cards.batch(visit)
        is_all = visit.fields.get("scope") == "all"
        chosen = [] if is_all else _chosen(name, visit.lists.get("card", []))
        if not chosen and not is_all:
            return await self._one(visit, slip=visit.t("cards.slip_choose"))
        slips = Slips(visit)
        reason = slips.reason()
        slips.last_two(name)
        if not slips:
            by = visit.operator.name
            try:
                if is_all:
                    done = await self._cards.vouchers.revoke_batch(name, reason, by=by)
                else:
                    done = await self._cards.vouchers.revoke(chosen, reason, by=by)
            except UserError as error:
                slips.refused(error, {})
            else:
                return self._desk.go(f"{HOME}/{name}", notice="cards.many_revoked", n=len(done))
        return await self._form(visit, "revoke", name, row, chosen, slips)

    # --- replacing -----------------------------------------------------------------------------

    async def ask_replace(self, visit: Visit) -> Response:
        """What would be replaced: the cards chosen, or those from one number to another."""
        name, row = self._cards.batch(visit)
        chosen = _chosen(name, visit.request.query_params.getlist("card"))
        if not chosen and visit.query.get("scope") != "range":
            return await self._one(visit, slip=visit.t("cards.slip_choose"))
        return await self._form(visit, "replace", name, row, chosen, Slips(visit))

    async def replace(self, visit: Visit) -> Response:
        """Give new codes for the cards chosen, or for a range of them."""
        name, row = self._cards.batch(visit)
        chosen = _chosen(name, visit.lists.get("card", []))
        slips = Slips(visit)
        reason = slips.reason()
        slips.last_two(name)
        first, last = ("", "") if chosen else (_end(slips, name, one) for one in ("first", "last"))
        if not slips:
            by = visit.operator.name
            try:
                if chosen:
                    issued = await self._cards.vouchers.replace(chosen, reason, by=by)
                else:
                    issued = await self._cards.vouchers.replace_range(first, last, reason, by=by)
            except UserError as error:
                slips.refused(error, {"cards.range": "first", "cards.range_empty": "first"})
            else:
                return self._replaced(visit, issued)
        return await self._form(visit, "replace", name, row, chosen, slips)

    def _replaced(self, visit: Visit, issued: dict[str, Any]) -> Response:
        made, left_out = issued["vouchers"], issued.get("left_out") or []
        if len(made) == 1 and not left_out:
            self._cards.codes.keep(visit, made[0])
            path, notice = f"/operator/give/{made[0]['serial']}", "cards.replaced"
        else:
            path, notice = f"{HOME}/{issued['batch']}", "cards.many_replaced"
        if left_out:
            notice = "cards.some_replaced"
        return self._desk.go(path, notice=notice, n=len(made), left=len(left_out))

    # --- the form of both ----------------------------------------------------------------------

    async def _form(
        self, visit: Visit, action: str, name: str, row: Row, chosen: Sequence[str], slips: Slips
    ) -> Response:
        rows = await self._counted(row, visit.now)
        counts = _count(rows)
        n = len(chosen) if chosen else counts.living
        return self._desk.page(
            visit,
            "card_many",
            {
                "action": action,
                "batch": self._line(visit, rows),
                "chosen": chosen,
                "count": visit.t("cards.count", n=n),
                "first": serial_of(name, 1),
                "last": serial_of(name, counts.total),
                "typed": slips.typed,
                "slips": slips.texts,
            },
        )


def _count(rows: Sequence[Row]) -> Counts:
    by_state: dict[State, int] = {}
    for row in rows:
        state = State(row["state"])
        by_state[state] = by_state.get(state, 0) + int(row["cards"])
    given = sum(int(row["cards"]) for row in rows if row["was_given"])
    return Counts(sum(by_state.values()), given, by_state)


def _said(visit: Visit, counts: Counts) -> list[tuple[str, str]]:
    t = visit.t
    found = [(t("cards.count_total"), t.number(counts.total))]
    if counts.given:
        found.append((t("cards.count_given"), t.number(counts.given)))
    for state in State:
        if counts.by_state.get(state):
            found.append((card_words.state(t, state), t.number(counts.by_state[state])))
    return found


def _chosen(name: str, serials: Sequence[str]) -> list[str]:
    """The serials that are of this batch, each once: others no form of this page sends."""
    found = [text for text in dict.fromkeys(serials) if batch_of(text) == name]
    return [text for text in found if parse_serial(text) is not None][:CHOSEN_MOST]


def _end(slips: Slips, name: str, field: str) -> str:
    """One end of a range: a serial of this batch, or the card's number alone."""
    text = slips.typed.get(field, "").strip().upper()
    number = digits(text)
    if number and int(number[:9]) > 0 and len(number) <= 9:
        return serial_of(name, int(number))
    parsed = parse_serial(text)
    if parsed is None or batch_of(serial(*parsed)) != name:
        slips.add(field, "cards.slip_serial", example=serial_of(name, 5))
        return ""
    return serial(*parsed)
