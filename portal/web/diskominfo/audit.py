"""Audit page: what people of the office did, for admins; nobody can change a line."""

from starlette.responses import Response

from portal.audit import COMMAND_LINE
from portal.web.diskominfo.console import AUDIT, Console
from portal.web.operator.desk import Need, Page, Visit, whole_number

PAGE = 50


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    desk, office = console.desk, console.office

    async def audit(visit: Visit) -> Response:
        """GET: newest first, fifty at a time."""
        at, _, number = visit.query.get("before", "").partition(".")
        place = (whole_number(at), whole_number(number))
        before = (place[0], place[1]) if place[0] is not None and place[1] is not None else None
        rows = await office.office.deeds(before, limit=PAGE + 1)
        t = visit.t
        lines = [
            {
                "at": f"{t.short_date(row['at'], visit.zone)} {t.time(row['at'], visit.zone)}",
                "who": t("audit.command_line") if row["who"] == COMMAND_LINE else row["who"],
                "deed": _deed(visit, str(row["deed"])),
                "object": row["object"],
                "reason": row["reason"],
                "details": row["details"],
            }
            for row in rows[:PAGE]
        ]
        older = None
        if len(rows) > PAGE:
            older = f"{AUDIT}?before={rows[PAGE - 1]['at']}.{rows[PAGE - 1]['number']}"
        newest = AUDIT if before is not None else None
        return desk.page(visit, "audit", {"lines": lines, "older": older, "newest": newest})

    return [Page(AUDIT, audit, Need.ADMIN)]


def _deed(visit: Visit, deed: str) -> str:
    for key in (f"review.deed.{deed}", f"audit.{deed}"):
        try:
            return visit.t(key)
        except KeyError:
            continue
    return deed
