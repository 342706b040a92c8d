"""Give: one card for a person who stands at the counter, in three taps.

Choosing the profile makes the card; its code stands on the next page and nowhere else. "Sudah
diberikan" hides it. For five minutes the card can be taken back while nobody has used it.
"""

from markupsafe import Markup
from starlette.responses import Response

from portal.cards.endings import UNDO_WITHIN_S
from portal.domain.profile import Profile
from portal.domain.voucher import State
from portal.errors import UserError
from portal.printing import qr_svg
from portal.web.operator.card_desk import CardDesk, Slips
from portal.web.operator.card_words import masked
from portal.web.operator.desk import Desk, Need, Page, Visit
from portal.web.operator.print_words import gives_in_full

HOME = "/operator/give"


class Giving:
    """The pages of giving one card."""

    def __init__(self, desk: Desk, cards: CardDesk) -> None:
        self._desk = desk
        self._cards = cards

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.choose, Need.WORK),
            Page(HOME, self.give, Need.WORK, ("POST",)),
            Page(HOME + "/{serial}", self.screen, Need.WORK),
            Page(HOME + "/{serial}/given", self.confirm, Need.WORK, ("POST",)),
            Page(HOME + "/{serial}/undo", self.undo, Need.WORK, ("POST",)),
        ]

    async def choose(self, visit: Visit) -> Response:
        """Which profile: the one this operator gave last stands first."""
        return self._choose(visit, Slips(visit))

    def _choose(self, visit: Visit, slips: Slips) -> Response:
        profiles = sorted(self._cards.admin.profiles_by_name.values(), key=lambda p: p.name)
        last = self._cards.batches.last_given(visit.site.id, visit.operator.name)
        profiles.sort(key=lambda profile: profile.name != last)
        return self._desk.page(
            visit,
            "give",
            {
                "choices": [(profile.name, self._gives(visit, profile)) for profile in profiles],
                "last": last,
                "slips": slips.texts,
            },
        )

    def _gives(self, visit: Visit, profile: Profile) -> str:
        return gives_in_full(visit.t, profile, visit.now, visit.zone)

    async def give(self, visit: Visit) -> Response:
        """Make the card. Pressing twice makes one: the second time leads to the same card."""
        try:
            made = await self._cards.vouchers.give(
                visit.fields.get("profile", ""), site=visit.site.code, by=visit.operator.name
            )
        except UserError as error:
            slips = Slips(visit)
            slips.refused(error, {})
            return self._choose(visit, slips)
        self._cards.codes.keep(visit, made)
        return self._desk.go(f"{HOME}/{made['serial']}")

    async def screen(self, visit: Visit) -> Response:
        """The code in large digits and as a QR; afterwards its last four."""
        return self._screen(visit, Slips(visit))

    def _screen(self, visit: Visit, slips: Slips) -> Response:
        t = visit.t
        shown = self._cards.card(visit)
        serial = shown["serial"]
        kept = self._cards.codes.of(visit, serial)
        if kept is None and shown["given_at"] is None:
            return self._desk.go(f"/operator/cards/{serial}")
        undo_s = 0
        if shown["given_at"] is not None and shown["replaces"] is None:
            undo_s = shown["given_at"] + UNDO_WITHIN_S - visit.now
        can_undo = undo_s > 0 and shown["state"] == State.UNUSED
        profile = self._cards.admin.profiles_by_name[shown["profile"]]
        values = {
            "shown": shown,
            "gives": self._gives(visit, profile),
            "masked": masked(shown["last4"]),
            "is_over": shown["state"] in (State.REVOKED, State.REPLACED),
            "undo": t.duration(undo_s) if can_undo else None,
            "use_until": None
            if shown["use_before_at"] is None
            else t.last_date(shown["use_before_at"], visit.zone),
            "moved": self._moved(visit, serial) if shown["replaces"] else None,
            "slips": slips.texts,
            "code": None,
            "qr": None,
        }
        if kept is not None and not values["is_over"]:
            code, url = kept
            values["code"] = (code[:4], code[4:8], code[8:])
            values["qr"] = Markup(qr_svg(url, "M"))
        return self._desk.page(visit, "give_card", values)

    def _moved(self, visit: Visit, serial: str) -> str:
        """What a card took over from the one it replaces, in words."""
        t, status = visit.t, self._cards.status(serial)
        parts = []
        if status.octets_left is not None:
            parts.append(t.octets_left(status.octets_left))
        if status.seconds_left is not None:
            parts.append(t.duration(status.seconds_left))
        if not parts:
            return t("cards.moved_all")
        left = parts[0] if len(parts) == 1 else t("cards.and", first=parts[0], last=parts[1])
        return t("cards.moved", left=left)

    async def confirm(self, visit: Visit) -> Response:
        """ "Sudah diberikan": from now on the desk has only the last four."""
        serial = self._cards.card(visit)["serial"]
        try:
            await self._cards.vouchers.confirm_given(serial, by=visit.operator.name)
        except UserError as error:
            slips = Slips(visit)
            slips.refused(error, {})
            return self._screen(visit, slips)
        self._cards.codes.forget(visit, serial)
        return self._desk.go(f"{HOME}/{serial}")

    async def undo(self, visit: Visit) -> Response:
        """Take back a card that nobody has used yet."""
        shown = self._cards.card(visit)
        serial = shown["serial"]
        try:
            await self._cards.vouchers.undo_give(serial, by=visit.operator.name)
        except UserError as error:
            slips = Slips(visit)
            slips.refused(error, {})
            return self._screen(visit, slips)
        self._cards.codes.forget(visit, serial)
        return self._desk.go(HOME, notice="cards.undone", serial=serial)
