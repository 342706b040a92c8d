"""Announcements at the desk: what runs, what is coming, what is over; adding one, ending one."""

from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from portal.errors import DeskError
from portal.notices import KEPT_MOST, WORDS_LONGEST, Announcement, Notices, moment
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit, whole_number
from portal.web.operator.house import House

HOME = "/operator/announcements"
_FIELDS = ("words", "start_day", "start_time", "end_day", "end_time")


class NoticePages:
    """The pages of announcements."""

    def __init__(self, desk: Desk, notices: Notices) -> None:
        self._desk = desk
        self._notices = notices

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.list, Need.SEE),
            Page(HOME, self.add, Need.WORK, ("POST",)),
            Page(HOME + "/{id}/end", self.end, Need.WORK, ("POST",)),
        ]

    async def list(self, visit: Visit) -> Response:
        """What residents read now, what is coming, what was."""
        return await self._list(visit, dict.fromkeys(_FIELDS, ""))

    async def _list(
        self, visit: Visit, draft: dict[str, str], error: DeskError | None = None
    ) -> Response:
        site_id = visit.site.id
        live = self._notices.live(site_id)
        over = await self._notices.over(site_id)
        today = datetime.fromtimestamp(visit.now, visit.zone).date()
        return self._desk.page(
            visit,
            "notices",
            {
                "running": [_line(visit, one) for one in live if one.state(visit.now) == "now"],
                "coming": [_line(visit, one) for one in live if one.state(visit.now) == "coming"],
                "over": [_line(visit, one) for one in over],
                "draft": draft,
                "is_full": len(live) >= KEPT_MOST,
                "longest": WORDS_LONGEST,
                "most": KEPT_MOST,
                "first_day": today.isoformat(),
                "last_day": (today + timedelta(days=365)).isoformat(),
                "wrong": _wrong_fields(error),
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def add(self, visit: Visit) -> Response:
        """POST: announce; what was typed stays in the form when something is wrong."""
        draft = {name: visit.fields.get(name, "").strip() for name in _FIELDS}
        draft["words"] = draft["words"][: 2 * WORDS_LONGEST]
        try:
            added = await self._notices.add(
                visit.site.id,
                draft["words"],
                starts_at=_start_at(visit, draft),
                ends_at=_end_at(visit, draft),
                by=visit.operator.name,
            )
        except DeskError as error:
            return await self._list(visit, draft, error)
        state = added.state(visit.now)
        return self._desk.go(HOME, notice="notices.now" if state == "now" else "notices.coming")

    async def end(self, visit: Visit) -> Response:
        """POST: end one before its time."""
        number = whole_number(visit.request.path_params["id"])
        if number is None:
            raise NotHere
        found = self._notices.find(number)
        if found is None:
            raise DeskError("notices.gone")
        visit.require_site(found.site_id)
        await self._notices.end(found.id, found.site_id, by=visit.operator.name)
        return self._desk.go(HOME, notice="notices.ended")


def _wrong_fields(error: DeskError | None) -> tuple[str, ...]:
    """The fields an error is about."""
    if error is None:
        return ()
    match error.key:
        case "notices.date":
            return ("start_day", "end_day")
        case "notices.time":
            return ("start_time", "end_time")
        case "notices.past_start":
            return ("start_day", "start_time")
        case "notices.past_end" | "notices.order" | "notices.far":
            return ("end_day", "end_time")
        case _:
            return ("words",)


def _start_at(visit: Visit, draft: dict[str, str]) -> int | None:
    """When it begins: a time alone is today's, a day alone begins at midnight, nothing is now."""
    day, time = draft["start_day"], draft["start_time"]
    today = datetime.fromtimestamp(visit.now, visit.zone).date().isoformat()
    if not time and day in ("", today):
        return None
    return moment(day or today, time or "00:00", visit.zone)


def _end_at(visit: Visit, draft: dict[str, str]) -> int | None:
    """When it ends: a day alone ends at its midnight, a time alone is on the day it begins."""
    day, time = draft["end_day"], draft["end_time"]
    if not day and not time:
        return None
    today = datetime.fromtimestamp(visit.now, visit.zone).date().isoformat()
    day = day or draft["start_day"] or today
    if time:
        return moment(day, time, visit.zone)
    return moment(day, "23:59", visit.zone) + 60


def _line(visit: Visit, one: Announcement) -> dict[str, Any]:
    t, now, zone = visit.t, visit.now, visit.zone
    begins = t.moment(one.starts_at, now, zone)
    ends = None if one.over_at is None else t.moment(one.over_at, now, zone)
    return {
        "id": one.id,
        "words": one.words,
        "begins": begins,
        "ends": ends,
        "is_early": one.removed_at is not None,
        "never_began": _never_began(one),
    }


def _never_began(one: Announcement) -> bool:
    return one.removed_at is not None and one.removed_at < one.starts_at


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of announcements."""
    return NoticePages(desk, house.notices).pages()
