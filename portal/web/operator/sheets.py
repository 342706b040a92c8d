"""Sheets: many cards at once, made and printed while the desk goes on.

The form starts a job (portal/sheets/job.py); its page says how far it is and gives the file. A
sheet can be printed again unchanged while the sealed copies of its codes live.
"""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, timedelta
from typing import Any

from markupsafe import Markup
from starlette.responses import FileResponse, Response

from portal.domain.hours import day_of
from portal.errors import DeskError, UserError
from portal.printing import LAYOUTS
from portal.sheets.job import Job, PrintError, Report, State, Work
from portal.store.batches import BatchStore
from portal.store.db import Row
from portal.vouchers import BATCH_MAX, SEALED_KEPT_S
from portal.web.operator import print_words
from portal.web.operator.card_desk import Slips, digits, serial_of
from portal.web.operator.card_words import gives
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.pages import installed

HOME = "/operator/sheets"
USUAL_COUNT = 40
USUAL_LAYOUT = "a4-40"
SOON_S = 4.0
"""Most sheets are ready within this: then the first page already has the file."""
BROWSER_MOST = 210
"""Cards on one page for the browser to print."""
PICTURES_MOST = 80
JOBS_SHOWN = 10
_FIELDS = {
    "cards.unknown_profile": "profile",
    "cards.count": "count",
    "cards.note_long": "note",
    "cards.use_before_form": "use_before",
    "cards.use_before_over": "use_before",
    "print.layout": "layout",
    "print.count_form": "count",
}
_DATE = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+")


class Sheets:
    """The pages of making, fetching and printing again many cards."""

    def __init__(self, desk: Desk, house: House) -> None:
        self._desk = desk
        self._house = house
        self._batches = BatchStore(house.store)
        self._pages = installed("print")

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.form, Need.WORK),
            Page(HOME, self.make, Need.WORK, ("POST",)),
            Page(HOME + "/job/{job}", self.job, Need.WORK),
            Page(HOME + "/job/{job}/file", self.file, Need.WORK),
            Page(HOME + "/{batch}", self.again, Need.WORK),
            Page(HOME + "/{batch}", self.make_again, Need.WORK, ("POST",)),
            Page(HOME + "/{batch}/page", self.page, Need.WORK),
        ]

    # --- a new sheet ---------------------------------------------------------------------------

    async def form(self, visit: Visit) -> Response:
        """How many, of what, until when, on what paper."""
        last = self._batches.last_given(visit.site.id, visit.operator.name)
        slips = Slips(visit)
        slips.typed.update(count=str(USUAL_COUNT), layout=USUAL_LAYOUT, profile=last or "")
        return self._form(visit, slips)

    def _form(self, visit: Visit, slips: Slips) -> Response:
        t = visit.t
        profiles = sorted(self._house.admin.profiles_by_name.values(), key=lambda one: one.name)
        today = day_of(visit.now, visit.zone)
        return self._desk.page(
            visit,
            "sheets",
            {
                "profiles": [(profile.name, gives(t, profile)) for profile in profiles],
                "layouts": [(name, t(f"print.layout_{name}")) for name in LAYOUTS],
                "most": t.number(BATCH_MAX),
                "today": today.isoformat(),
                "example": (today + timedelta(days=30)).strftime("%d/%m/%Y"),
                "jobs": [
                    (job.id, self._line(visit, job), t(f"print.state_{job.state}"))
                    for job in self._house.prints.jobs(visit.site.id)[:JOBS_SHOWN]
                ],
                "slips": slips.texts,
                "typed": slips.typed,
            },
        )

    async def make(self, visit: Visit) -> Response:
        """Issue the cards and have them printed; pressing twice makes them once."""
        slips = Slips(visit)
        by, at_site = visit.operator.name, visit.site
        profile, note = visit.fields.get("profile", ""), visit.fields.get("note", "")
        try:
            count, layout = _count(visit.fields.get("count", "")), _layout(visit)
            use_before = _date(visit.fields.get("use_before", ""))

            async def work(report: Report) -> Work:
                issued = await self._house.vouchers.issue(
                    profile,
                    count=count,
                    site=at_site.code,
                    note=note,
                    use_before=use_before,
                    by=by,
                    report=report,
                )
                return work_of(self._house, self._desk, issued["batch"], issued["vouchers"])

            job = await self._start(visit, at_site.id, layout, count, work)
        except UserError as error:
            slips.refused(error, _FIELDS)
            return self._form(visit, slips)
        return self._desk.go(f"{HOME}/job/{job.id}")

    async def _start(
        self,
        visit: Visit,
        site_id: int,
        layout: str,
        count: int,
        work: Callable[[Report], Awaitable[Work]],
    ) -> Job:
        """Begin a job with cards of a site; raises what they were refused for when that is known
        at once."""
        prints = self._house.prints
        job = prints.start(
            site_id=site_id, by=visit.operator.name, layout=layout, count=count, make=work
        )
        await prints.settled(job, SOON_S)
        if job.trouble is not None:
            prints.forget(job)
            raise job.trouble
        return job

    # --- how far it is -------------------------------------------------------------------------

    def _job(self, visit: Visit) -> Job:
        job = self._house.prints.job(visit.request.path_params["job"])
        if job is None:
            raise NotHere
        visit.require_site(job.site_id)
        return job

    def _line(self, visit: Visit, job: Job) -> str:
        t = visit.t
        cards, layout = t("print.cards", n=job.count), t(f"print.layout_{job.layout}")
        if not job.batch:
            return t("print.line_unnamed", cards=cards, layout=layout)
        return t("print.line", batch=job.batch, cards=cards, layout=layout)

    async def job(self, visit: Visit) -> Response:
        """How far a job is; when it is ready, the file."""
        t, job = visit.t, self._job(visit)
        zone = self._house.admin.zone(job.site_id)
        kept = t.moment(self._house.prints.kept_until(job), visit.now, zone)
        is_roll = LAYOUTS[job.layout].dots is not None
        error = None
        if job.trouble is not None:
            slips = Slips(visit)
            slips.refused(job.trouble, {})
            error = slips.texts[""]
        pictures = []
        if job.state is State.READY and is_roll and job.count <= PICTURES_MOST:
            pictures = [serial_of(job.batch, n) for n in range(1, job.count + 1)]
        return self._desk.page(
            visit,
            "sheet_job",
            {
                "title": t("print.job_title", batch=job.batch)
                if job.batch
                else t("print.job_unnamed"),
                "job": job,
                "line": self._line(visit, job),
                "state": t(f"print.state_{job.state}"),
                "progress": t("print.progress", done=t.number(job.done), total=t.number(job.count)),
                "percent": 100 * job.done // max(1, job.count),
                "kept": t("print.kept", when=kept),
                "in_browser": not is_roll and job.count <= BROWSER_MOST,
                "pictures": pictures,
            },
            error=error,
        )

    async def file(self, visit: Visit) -> Response:
        """The PDF. It is deleted an hour after it was fetched first."""
        job = self._job(visit)
        path = self._house.prints.fetch(job)
        if path is None:
            raise NotHere
        return FileResponse(
            path, media_type="application/pdf", filename=f"kartu-{job.batch}-{job.layout}.pdf"
        )

    # --- once more -----------------------------------------------------------------------------

    def _batch(self, visit: Visit) -> tuple[str, Row]:
        name = str(visit.request.path_params["batch"]).upper()
        row = self._batches.batch_of(name)
        if row is None:
            raise NotHere
        visit.require_site(row["site_id"])
        return name, row

    async def again(self, visit: Visit) -> Response:
        """What printing a batch again means, and on what paper."""
        slips = Slips(visit)
        slips.typed["layout"] = USUAL_LAYOUT
        return self._again(visit, slips)

    def _again(self, visit: Visit, slips: Slips) -> Response:
        t = visit.t
        name, row = self._batch(visit)
        until_at = row["issued_at"] + SEALED_KEPT_S
        zone = self._house.admin.zone(row["site_id"])
        return self._desk.page(
            visit,
            "sheet_again",
            {
                "batch": name,
                "is_over": visit.now >= until_at,
                "until": t("print.again_until", when=t.moment(until_at, visit.now, zone)),
                "layouts": [(layout, t(f"print.layout_{layout}")) for layout in LAYOUTS],
                "slips": slips.texts,
                "typed": slips.typed,
            },
        )

    async def make_again(self, visit: Visit) -> Response:
        """Open the sealed copies and print them."""
        name, row = self._batch(visit)
        slips = Slips(visit)
        by = visit.operator.name
        try:
            layout = _layout(visit)

            async def work(report: Report) -> Work:
                cards = await self._house.vouchers.codes_of(name, by=by)
                return work_of(self._house, self._desk, name, cards)

            job = await self._start(visit, row["site_id"], layout, 0, work)
        except UserError as error:
            slips.refused(error, _FIELDS)
            return self._again(visit, slips)
        return self._desk.go(f"{HOME}/job/{job.id}")

    async def page(self, visit: Visit) -> Response:
        """The same cards as a page that the browser prints."""
        name, _ = self._batch(visit)
        layout = visit.query.get("layout", USUAL_LAYOUT)
        if layout not in LAYOUTS or LAYOUTS[layout].dots is not None:
            raise NotHere
        cards = await self._house.vouchers.codes_of(name, by=visit.operator.name)
        if len(cards) > BROWSER_MOST:
            raise DeskError("print.too_many", n=len(cards))
        work = work_of(self._house, self._desk, name, cards)
        try:
            drawn = (await self._house.prints.pages(work, layout)).decode()
        except PrintError as error:
            raise DeskError("print.failed") from error
        response = self._pages.respond(
            "page",
            {
                "t": visit.t,
                "batch": name,
                "back": f"/operator/batches/{name}",
                # Drawn by ourselves, every word in it escaped.
                "sheets": Markup(drawn),
            },
        )
        return await _packed(visit, response)


async def _packed(visit: Visit, response: Response) -> Response:
    """The response compressed where the browser takes that: forty QR codes are 150 KB of path."""
    if "gzip" in visit.request.headers.get("accept-encoding", ""):
        response.body = await asyncio.to_thread(gzip.compress, bytes(response.body), 6)
        response.headers["content-length"] = str(len(response.body))
        response.headers["content-encoding"] = "gzip"
        response.headers["vary"] = "accept-encoding"
    return response


def work_of(
    house: House, desk: Desk, batch: str, cards: list[dict[str, Any]], shown: Any = None
) -> Work:
    """The words and codes of cards of one batch. Residents read them: in Indonesian."""
    t = desk.texts.translator()
    first: Mapping[str, Any] = shown or house.vouchers.show(cards[0]["serial"])
    site = house.admin.site(first["site"])
    sheet = print_words.sheet(
        t,
        site,
        house.admin.profiles_by_name[first["profile"]],
        first["use_before_at"],
        zone=house.admin.zone(site.id),
        now=house.now(),
        portal_url=house.portal_url(),
        batch=batch,
        note=first["note"],
    )
    return Work(batch, sheet, cards)


def _count(text: str) -> int:
    """How many cards; raises DeskError. "1.000" is a thousand."""
    text = text.strip()
    if _THOUSANDS.fullmatch(text):
        text = text.replace(".", "")
    number = digits(text)
    if not number or len(number) > 9:
        raise DeskError("print.count_form")
    return int(number)


def _layout(visit: Visit) -> str:
    layout = visit.fields.get("layout", "")
    if layout not in LAYOUTS:
        raise DeskError("print.layout")
    return layout


def _date(text: str) -> str | None:
    """A date as the use case reads it: browsers send 2026-12-31, people type 31/12/2026."""
    text = text.strip()
    match = _DATE.fullmatch(text)
    if match is None:
        return text or None
    try:
        return date(int(match[3]), int(match[2]), int(match[1])).isoformat()
    except ValueError:
        return text


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of printing."""
    from portal.web.operator.tickets import Tickets

    return [*Sheets(desk, house).pages(), *Tickets(desk, house).pages()]
