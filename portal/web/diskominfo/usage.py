"""Usage log: the records of sessions, by site and period; as a file; and one voucher with a reason.

The list and the file hold no pseudonym. Who wants to know which records are of one voucher says
why, and that is written down before the answer is shown.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response, StreamingResponse

from portal.domain.hours import day_of, end_of_day
from portal.errors import DeskError
from portal.hub.review import Asked, Cursor, Few, Line, SiteView, cursor
from portal.store.audit import Deed
from portal.web.diskominfo.console import (
    USAGE,
    Console,
    attachment,
    earliest,
    is_day,
    read_day,
    until,
)
from portal.web.diskominfo.usage_file import AT_ONCE, SHAPES, cause_words, name_of, parts
from portal.web.operator.desk import Need, NotHere, Page, Visit

PAGE = 50
USUAL_DAYS = 7


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    found = _Usage(console)
    return [
        Page(USAGE, found.all, Need.SEE),
        Page(USAGE + "/export", found.export, Need.SEE, ("POST",)),
        Page(USAGE + "/voucher", found.ask, Need.SEE),
        Page(USAGE + "/voucher", found.open, Need.SEE, ("POST",)),
    ]


class _Usage:
    def __init__(self, console: Console) -> None:
        self._desk = console.desk
        self._office = console.office

    async def all(self, visit: Visit) -> Response:
        """GET: newest day first, fifty records at a time."""
        return await self._list(visit)

    async def _list(self, visit: Visit, error: DeskError | None = None) -> Response:
        sites = await self._office.review.sites()
        values = visit.query if visit.request.method == "GET" else visit.fields
        asked = _asked(visit, values, sites)
        if error is None and not all(is_day(values.get(name, "")) for name in ("from", "to")):
            error = DeskError("document_dates")
        below = cursor(visit.query.get("below", ""))
        lines: list[Line | Few] = []
        if error is None:
            try:
                role = visit.operator.role
                lines = await self._office.review.lines(asked, role, below, PAGE + 1)
                await self._note(visit, "usage.read", asked)
            except DeskError as refused:
                error = refused
        kept = _kept(asked)
        older = None
        if len(lines) > PAGE:
            older = f"{USAGE}?{urlencode([*kept, ('below', lines[PAGE - 1].key)])}"
        by_code = {site.code: site for site in sites}
        return self._desk.page(
            visit,
            "usage",
            {
                "rows": [self._row(visit, line, by_code) for line in lines[:PAGE]],
                "choices": sites,
                "asked": asked,
                "first": _date(visit, asked.first),
                "last": _date(visit, asked.last),
                "until": until(visit.t, self._until(asked, sites), visit.now, visit.zone),
                "older": older,
                "newest": f"{USAGE}?{urlencode(kept)}" if below is not None else None,
            },
            error=error,
        )

    def _until(self, asked: Asked, sites: Sequence[SiteView]) -> int | None:
        """Until when the data of all sites that are asked for go."""
        return earliest(site for site in sites if asked.site in (None, site.code))

    def _row(
        self, visit: Visit, line: Line | Few, sites: Mapping[str, SiteView]
    ) -> dict[str, object]:
        t, site = visit.t, sites.get(line.site)
        name = t("review.site_unnamed") if site is None else site.name
        zone = visit.zone if site is None else site.zone
        if isinstance(line, Few):
            return {"is_few": True, "day": _short_date(visit, line.day, zone), "site": name}
        return {
            "is_few": False,
            "key": line.key,
            "site": name,
            "ended": f"{t.short_date(line.ended_at, zone)} {t.time(line.ended_at, zone)}",
            "duration": t.duration(line.duration_s),
            "data": t.octets(line.input_octets + line.output_octets),
            "profile": line.profile or "\u2013",
            "gateway": line.gateway,
            "cause": cause_words(t, line.cause),
        }

    async def _note(self, visit: Visit, action: str, asked: Asked) -> None:
        period = f"{asked.first} - {asked.last}"
        deed = Deed(visit.operator.name, action, None, asked.site or "*", details=period)
        await self._desk.operators.record(deed)

    # --- the file

    async def export(self, visit: Visit) -> Response:
        """POST: the whole period as CSV (RFC 4180), sent while it is read."""
        sites = await self._office.review.sites()
        asked = _asked(visit, visit.fields, sites)
        role, shape = visit.operator.role, SHAPES.get(visit.fields.get("as", "csv"))
        if shape is None:
            raise NotHere
        try:
            # A period that is refused is refused before the file begins.
            await self._office.review.lines(asked, role, None, 1)
        except DeskError as error:
            return await self._list(visit, error)
        await self._note(visit, "usage.export", asked)
        lines = self._office.review.all_lines(asked, role, at_once=AT_ONCE)
        response = StreamingResponse(
            parts(lines, sites, visit.t, shape),
            media_type="text/csv; charset=utf-8; header=present",
        )
        return attachment(response, name_of(asked, self._until(asked, sites), visit.zone))

    # --- one voucher

    def _at(self, text: str) -> Cursor:
        found = cursor(text)
        if found is None:
            raise NotHere
        return found

    async def ask(self, visit: Visit) -> Response:
        """GET: why?"""
        key = visit.query.get("at", "")
        self._at(key)
        return self._desk.page(visit, "voucher_ask", {"key": key, "reason": ""})

    async def open(self, visit: Visit) -> Response:
        """POST: all records of this voucher's month, and the pseudonym they have."""
        key, reason = visit.fields.get("at", ""), visit.fields.get("reason", "")
        at = self._at(key)
        try:
            pseudonym, lines = await self._office.review.open_voucher(
                at, visit.operator.name, reason
            )
        except DeskError as error:
            values = {"key": key, "reason": reason}
            return self._desk.page(visit, "voucher_ask", values, error=error)
        sites = await self._office.review.sites()
        by_code = {site.code: site for site in sites}
        return self._desk.page(
            visit,
            "voucher",
            {
                "pseudonym": pseudonym,
                "reason": " ".join(reason.split()),
                "rows": [self._row(visit, line, by_code) for line in lines],
                "octets": visit.t.octets(
                    sum(line.input_octets + line.output_octets for line in lines)
                ),
                "until": until(visit.t, earliest(sites), visit.now, visit.zone),
            },
        )


def _asked(visit: Visit, values: dict[str, str], sites: Sequence[SiteView]) -> Asked:
    """What a form or an address asks for; the last week of all sites when it does not say."""
    code = values.get("at", "")
    if code and code not in {site.code for site in sites}:
        raise NotHere
    today = day_of(visit.now, visit.zone)
    last = read_day(values.get("to", ""), today)
    first = read_day(values.get("from", ""), last - timedelta(days=USUAL_DAYS - 1))
    return Asked(code or None, first, last)


def _kept(asked: Asked) -> list[tuple[str, str]]:
    return [("at", asked.site or ""), ("from", str(asked.first)), ("to", str(asked.last))]


def _date(visit: Visit, day: date) -> str:
    return visit.t.date(end_of_day(day, visit.zone) - 1, visit.zone)


def _short_date(visit: Visit, day: int, zone: ZoneInfo) -> str:
    return visit.t.short_date(end_of_day(date.fromordinal(day), zone) - 1, zone)
