"""One site: its week hour by hour, what is known of each hour, and its settings at the office."""

from datetime import date, datetime, timedelta
from itertools import groupby

from starlette.responses import Response

from portal.domain.coverage import (
    BACKHAUL_DOWN,
    CLOCK_DOUBTFUL,
    IDLE,
    NO_POWER,
    NO_REPORT,
    STATES,
    USED,
    Hour,
    counts,
)
from portal.domain.hours import day_of, end_of_day
from portal.errors import DeskError, UserError
from portal.hub.review import Figures, SiteView
from portal.web.diskominfo.console import Console, moment, read_day, site_of, until
from portal.web.diskominfo.sites import KINDS, NOT_KNOWN, figures, verified
from portal.web.operator.desk import Desk, Need, Page, Visit
from portal.web.text import Translator

PATH = "/review/site/{code}"
DAYS = 7
HEARD = (USED, IDLE, BACKHAUL_DOWN, CLOCK_DOUBTFUL)
SIGNS = {
    USED: "\u25cf",
    IDLE: "\u25cb",
    NO_POWER: "\u2013",
    BACKHAUL_DOWN: "\u25bc",
    NO_REPORT: "?",
    CLOCK_DOUBTFUL: "\u2248",
}
"""A state of an hour -> the sign in the row of a day; its words stand below."""


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    found = _Site(console)
    return [
        Page(PATH, found.show, Need.SEE),
        Page(PATH + "/settings", found.settings, Need.ADMIN),
        Page(PATH + "/settings", found.save, Need.ADMIN, ("POST",)),
    ]


class _Site:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._desk: Desk = console.desk
        self._office = console.office

    async def show(self, visit: Visit) -> Response:
        """GET: seven days, newest first; with ?day= the hours of one of them."""
        site = await site_of(self._console, visit)
        today = day_of(visit.now, site.zone)
        last = min(read_day(visit.query.get("until", ""), today), today)
        first = last - timedelta(days=DAYS - 1)
        start_at = int(datetime(first.year, first.month, first.day, tzinfo=site.zone).timestamp())
        hours = await self._office.coverage.hours(site, start_at, end_of_day(last, site.zone))
        sums = dict(await self._office.review.days(site, first, last))
        by_day = {
            day: list(of_day)
            for day, of_day in groupby(hours, lambda hour: day_of(hour.start_at, site.zone))
        }
        chosen = read_day(visit.query.get("day", ""), last)
        path = f"/review/site/{site.code}"
        return self._desk.page(
            visit,
            "site",
            {
                "site_view": site,
                "kind": KINDS[site.state],
                "state": visit.t(f"review.state.{site.state}"),
                "until": until(visit.t, site.data_until_at, visit.now, site.zone),
                "data_at": moment(visit.t, site.data_until_at, visit.now, site.zone),
                "verified": verified(visit, site),
                "seen": moment(visit.t, site.last_seen_at, visit.now, visit.zone),
                "days": [
                    self._day(visit, site, day, by_day.get(day, []), sums.get(day, Figures()), last)
                    for day in (last - timedelta(days=n) for n in range(DAYS))
                ],
                "signs": [(SIGNS[state], visit.t(f"review.hour.{state}")) for state in STATES],
                "day": visit.t.short_date(end_of_day(chosen, site.zone) - 1, site.zone),
                "hours": [
                    self._hour(visit, site, hour, sums.get(chosen, Figures()))
                    for hour in by_day.get(chosen, [])
                ],
                "path": path,
                "older": f"{path}?until={first - timedelta(days=1)}",
                "newer": None
                if last >= today
                else f"{path}?until={min(last + timedelta(days=DAYS), today)}",
            },
        )

    def _day(
        self,
        visit: Visit,
        site: SiteView,
        day: date,
        hours: list[Hour],
        sums: Figures,
        last: date,
    ) -> dict[str, object]:
        counted = counts(hours)
        t: Translator = visit.t
        return {
            "name": t.short_date(end_of_day(day, site.zone) - 1, site.zone),
            "href": f"/review/site/{site.code}?until={last}&day={day}#jam",
            "strip": "".join(SIGNS[hour.state] for hour in hours),
            "said": ", ".join(
                t("review.hours_of", n=counted[state], state=t(f"review.hour.{state}"))
                for state in STATES
                if counted[state]
            ),
            # A day of which nothing was heard is a hole, and no quiet day.
            **figures(visit, sums, is_known=any(hour.state in HEARD for hour in hours)),
        }

    def _hour(self, visit: Visit, site: SiteView, hour: Hour, sums: Figures) -> dict[str, object]:
        clock = datetime.fromtimestamp(hour.start_at, site.zone)
        is_heard = hour.state in HEARD or bool(hour.usage)
        is_hidden = sums.is_hidden_from(visit.operator.role) and bool(hour.usage)
        return {
            "time": f"{clock.hour:02d}.00",
            "sign": SIGNS[hour.state],
            "state": visit.t(f"review.hour.{hour.state}"),
            "is_few": is_hidden,
            "peak": visit.t.number(hour.usage.peak) if is_heard else NOT_KNOWN,
            "sessions": visit.t.number(hour.usage.sessions) if is_heard else NOT_KNOWN,
            "data": visit.t.octets(hour.usage.octets) if is_heard else NOT_KNOWN,
        }

    async def settings(self, visit: Visit) -> Response:
        """GET: the form."""
        return await self._settings(visit)

    async def _settings(self, visit: Visit, error: DeskError | None = None) -> Response:
        site = await site_of(self._console, visit)
        values = {
            "name": site.name,
            "group_name": site.group,
            "power_window": site.power_window,
            "without_node": site.without_node,
        }
        typed = {name: visit.fields.get(name, value) for name, value in values.items()}
        return self._desk.page(
            visit,
            "site_settings",
            {"site_view": site, "typed": typed, "path": f"/review/site/{site.code}"},
            error=error,
        )

    async def save(self, visit: Visit) -> Response:
        """POST: change the site."""
        site = await site_of(self._console, visit)
        names = ("name", "group_name", "power_window", "without_node")
        changes = {name: visit.fields[name].strip() for name in names if name in visit.fields}
        if not changes.get("name", "x"):
            return await self._settings(visit, DeskError("site_name"))
        try:
            await self._office.enrolments.set_site(site.code, changes, visit.operator.name)
        except DeskError as error:
            return await self._settings(visit, error)
        except UserError:
            return await self._settings(visit, DeskError("unusable"))
        return self._desk.go(f"/review/site/{site.code}", notice="review.site_saved")
