"""Usage log: the records of sessions, by site and period; as a file; and one voucher with a reason.

The list and the file hold no pseudonym. Who wants to know which records are of one voucher says
why, and that is written down before the answer is shown.
"""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response, StreamingResponse

from portal.domain.hours import day_of
from portal.errors import DeskError
from portal.hub.review import Asked, Cursor, Line, SiteView, cursor
from portal.reports import TERMINATE_CAUSES
from portal.store.audit import Deed
from portal.web.diskominfo.console import USAGE, Console, attachment, read_day, until
from portal.web.operator.desk import Need, NotHere, Page, Visit

PAGE = 50
AT_ONCE = 1_000
USUAL_DAYS = 7
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = (
    "site",
    "site_name",
    "started",
    "ended",
    "duration_s",
    "counted_s",
    "input_octets",
    "output_octets",
    "gateway",
    "profile",
    "terminate_cause",
    "flags",
    "clock_quality",
    "node",
    "epoch",
    "seq",
)
"""Of the file; `node`, `epoch` and `seq` name the record in the ledger, for an auditor."""


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
        asked = _asked(visit, visit.query if visit.request.method == "GET" else visit.fields, sites)
        below = cursor(visit.query.get("below", ""))
        lines: list[Line] = []
        if error is None:
            try:
                lines = await self._office.review.lines(asked, below, PAGE + 1)
            except DeskError as refused:
                error = refused
            if below is None and error is None:
                await self._note(visit, "usage.read", asked)
        kept = _kept(asked)
        older = None
        if len(lines) > PAGE:
            older = f"{USAGE}?{urlencode([*kept, ('below', lines[PAGE - 1].key)])}"
        zones = {site.code: site.zone for site in sites}
        names = {site.code: site.name for site in sites}
        return self._desk.page(
            visit,
            "usage",
            {
                "rows": [self._row(visit, line, zones, names) for line in lines[:PAGE]],
                "choices": sites,
                "asked": asked,
                "until": self._until(visit, asked, sites),
                "older": older,
                "newest": f"{USAGE}?{urlencode(kept)}" if below is not None else None,
            },
            error=error,
        )

    def _until(self, visit: Visit, asked: Asked, sites: Sequence[SiteView]) -> str:
        chosen = [site for site in sites if asked.site in (None, site.code)]
        newest = [site.data_until_at for site in chosen if site.data_until_at is not None]
        return until(visit.t, min(newest, default=None), visit.now, visit.zone)

    def _row(
        self,
        visit: Visit,
        line: Line,
        zones: dict[str, ZoneInfo],
        names: dict[str, str],
    ) -> dict[str, object]:
        t, zone = visit.t, zones.get(line.site, visit.zone)
        return {
            "key": line.key,
            "site": names.get(line.site, t("review.site_unnamed")),
            "ended": f"{t.short_date(line.ended_at, zone)} {t.time(line.ended_at, zone)}",
            "duration": t.duration(line.duration_s),
            "data": t.octets(line.input_octets + line.output_octets),
            "profile": line.profile,
            "gateway": line.gateway,
            "cause": TERMINATE_CAUSES.get(line.cause, t("review.goes_on"))
            if line.cause in TERMINATE_CAUSES or line.cause == 0
            else str(line.cause),
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
        try:
            # A period that is refused is refused before the file begins.
            await self._office.review.lines(asked, None, 1)
        except DeskError as error:
            return await self._list(visit, error)
        await self._note(visit, "usage.export", asked)
        name = f"pesisir-{asked.site or 'semua'}-{asked.first}-{asked.last}.csv"
        response = StreamingResponse(
            self._file(visit, asked, sites), media_type="text/csv; charset=utf-8; header=present"
        )
        return attachment(response, name)

    async def _file(
        self, visit: Visit, asked: Asked, sites: Sequence[SiteView]
    ) -> AsyncIterator[bytes]:
        zones = {site.code: site.zone for site in sites}
        names = {site.code: site.name for site in sites}
        t = visit.t
        made = datetime.fromtimestamp(visit.now, UTC).isoformat()
        heading = (
            (t("review.csv.period"), f"{asked.first} - {asked.last}"),
            (t("review.csv.until"), self._until(visit, asked, sites)),
            (t("review.csv.made"), made, visit.operator.name),
        )
        # Every line has the same number of fields.
        yield written((*line, *[""] * (len(COLUMNS) - len(line))) for line in heading)
        yield written([COLUMNS])
        waiting: list[Sequence[object]] = []
        async for line in self._office.review.all_lines(asked, None, AT_ONCE):
            waiting.append(_fields(line, zones.get(line.site, visit.zone), names))
            if len(waiting) == AT_ONCE:
                yield written(waiting)
                waiting = []
        yield written(waiting)

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
        zones = {site.code: site.zone for site in sites}
        names = {site.code: site.name for site in sites}
        today = day_of(visit.now, visit.zone)
        return self._desk.page(
            visit,
            "voucher",
            {
                "pseudonym": pseudonym,
                "reason": " ".join(reason.split()),
                "rows": [self._row(visit, line, zones, names) for line in lines],
                "octets": visit.t.octets(
                    sum(line.input_octets + line.output_octets for line in lines)
                ),
                "until": self._until(visit, Asked(None, today, today), sites),
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


def _fields(line: Line, zone: ZoneInfo, names: dict[str, str]) -> Sequence[object]:
    return (
        line.site,
        names.get(line.site, ""),
        datetime.fromtimestamp(line.started_at, zone).isoformat(),
        datetime.fromtimestamp(line.ended_at, zone).isoformat(),
        line.duration_s,
        line.counted_s,
        line.input_octets,
        line.output_octets,
        line.gateway,
        line.profile,
        TERMINATE_CAUSES.get(line.cause, "" if line.cause == 0 else str(line.cause)),
        line.flags,
        line.clock_quality,
        line.node_id,
        line.epoch,
        line.seq,
    )


def written(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as RFC 4180 has them. A text that a spreadsheet would take for a formula gets an
    apostrophe before it, which spreadsheets do not show."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_safe(value) for value in row])
    return text.getvalue().encode()


def _safe(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" \n\u00a0").startswith(_DANGEROUS):
        return f"'{value}"
    return value
