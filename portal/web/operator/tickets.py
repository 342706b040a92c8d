"""Tickets: one card on a thermal printer, and the wall poster."""

from collections.abc import Awaitable
from typing import Any

from starlette.responses import Response

from portal.domain.voucher import parse_serial
from portal.errors import DeskError, UserError
from portal.printing import LAYOUTS
from portal.sheets.job import PrintError
from portal.sheets.layouts import PAPERS, PosterWords
from portal.web.operator import print_words
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.operator.sheets import work_of

POSTER = "/operator/poster"
TICKET = "/operator/cards/{serial}/ticket"
ROLLS = [layout.name for layout in LAYOUTS.values() if layout.dots is not None]


class Tickets:
    """The pages of printing one card, and the poster."""

    def __init__(self, desk: Desk, house: House) -> None:
        self._desk = desk
        self._house = house

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(TICKET, self.choose, Need.WORK),
            Page(TICKET + "/{kind}", self.ticket, Need.WORK),
            Page(POSTER, self.poster, Need.SEE),
            Page(POSTER + "/{paper}", self.poster_file, Need.SEE),
        ]

    # --- one card ------------------------------------------------------------------------------

    def _card(self, visit: Visit) -> dict[str, Any]:
        """The card that the address names, when this person may see it."""
        serial = visit.request.path_params["serial"]
        if parse_serial(serial) is None:
            raise NotHere
        try:
            shown = self._house.vouchers.show(serial)
        except UserError as error:
            raise NotHere from error
        visit.require_site(self._house.admin.site(shown["site"]).id)
        return shown

    async def choose(self, visit: Visit) -> Response:
        """On what to print the card."""
        shown = self._card(visit)
        return self._desk.page(
            visit,
            "sheet_ticket",
            {
                "serial": shown["serial"],
                "rolls": [(roll, visit.t(f"print.layout_{roll}")) for roll in ROLLS],
            },
        )

    async def ticket(self, visit: Visit) -> Response:
        """The ticket: 58mm.pdf, 80mm.pdf or 58mm.png. Each time is written down."""
        shown = self._card(visit)
        serial = shown["serial"]
        roll, _, kind = str(visit.request.path_params["kind"]).partition(".")
        if roll not in ROLLS or kind not in ("pdf", "png") or (kind == "png" and roll != "58mm"):
            raise NotHere
        card = await self._house.vouchers.code_of(serial, by=visit.operator.name)
        work = work_of(self._house, self._desk, "", [card], shown)
        prints = self._house.prints
        if kind == "png":
            return await _file(prints.picture(work), "image/png", f"kartu-{serial}.png")
        return await _file(prints.ticket(work, roll), "application/pdf", f"kartu-{serial}.pdf")

    # --- the poster ----------------------------------------------------------------------------

    def _words(self, visit: Visit) -> PosterWords:
        return print_words.poster(
            self._desk.texts.translator(),
            visit.site,
            zone=visit.zone,
            now=visit.now,
            portal_url=self._house.portal_url(),
        )

    async def poster(self, visit: Visit) -> Response:
        """What the poster says, what it lacks, and its papers."""
        t, site = visit.t, visit.site
        words = self._words(visit)
        missing = [
            t(f"print.missing_{name}")
            for name, value in (
                ("counter", site.counter),
                ("opening", site.opening_hours),
                ("power", site.power_window),
                ("helper", site.helper),
            )
            if not value
        ]
        return self._desk.page(
            visit,
            "poster",
            {
                "papers": [(paper, t(f"print.poster_{paper}")) for paper in PAPERS],
                "words": words,
                "missing": t("print.poster_missing", what=", ".join(missing)) if missing else None,
            },
        )

    async def poster_file(self, visit: Visit) -> Response:
        """The poster as PDF: a4.pdf or a3.pdf."""
        paper, _, kind = str(visit.request.path_params["paper"]).partition(".")
        if paper not in PAPERS or kind != "pdf":
            raise NotHere
        drawing = self._house.prints.poster(self._words(visit), paper)
        return await _file(drawing, "application/pdf", f"poster-{visit.site.code}-{paper}.pdf")


async def _file(drawing: Awaitable[bytes], media_type: str, name: str) -> Response:
    """A drawing to download. Raises DeskError when it failed."""
    try:
        content = await drawing
    except PrintError as error:
        raise DeskError("print.failed") from error
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)
