"""Audit page: what people of the office did, for admins; nobody can change a line."""

import re
from collections.abc import Mapping
from datetime import date
from urllib.parse import urlencode

from starlette.responses import Response

from portal.audit import COMMAND_LINE
from portal.web.diskominfo.console import AUDIT, Console, scope_text
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
        who = visit.query.get("who", "")[:40]
        rows = await office.office.deeds(before, who=who, limit=PAGE + 1)
        t, names = visit.t, {site.code: site.name for site in await office.review.sites()}
        lines = [
            {
                "at": f"{t.short_date(row['at'], visit.zone)} {t.time(row['at'], visit.zone)}",
                "who": t("audit.command_line") if row["who"] == COMMAND_LINE else row["who"],
                "deed": _deed(visit, str(row["deed"])),
                "object": _object(visit, str(row["deed"]), str(row["object"] or ""), names),
                "reason": row["reason"] or "",
                "details": _details(visit, str(row["deed"]), str(row["details"] or "")),
            }
            for row in rows[:PAGE]
        ]
        older = None
        if len(rows) > PAGE:
            last = rows[PAGE - 1]
            older = _address(who, before=f"{last['at']}.{last['number']}")
        newest = _address(who) if before is not None else None
        values = {"lines": lines, "older": older, "newest": newest, "who": who, "all": AUDIT}
        return desk.page(visit, "audit", values)

    return [Page(AUDIT, audit, Need.ADMIN)]


def _address(who: str, **more: str) -> str:
    values = {"who": who, **more} if who else more
    return f"{AUDIT}?{urlencode(values)}" if values else AUDIT


def _object(visit: Visit, deed: str, what: str, sites: Mapping[str, str]) -> str:
    """What a deed was done to, in words where it has some."""
    if deed == "document.publish":
        name, _, scope = what.partition(" ")
        return f"{visit.t(f'review.doc.{name}')}, {scope_text(visit.t, scope, sites)}"
    if deed.startswith("usage."):
        return visit.t("review.scope.all") if what == "*" else sites.get(what, what)
    return sites.get(what, what)


def _details(visit: Visit, deed: str, details: str) -> str:
    """What is said of a deed besides, in the page's language."""
    t = visit.t
    if deed == "document.publish" and (found := re.fullmatch(r"version ([0-9]+)", details)):
        return t("review.version", number=found[1])
    if deed.startswith("usage."):
        first, _, last = details.partition(" - ")
        try:
            days = [date.fromisoformat(each).strftime("%d/%m/%Y") for each in (first, last)]
        except ValueError:
            return details
        return "\u2013".join(days)
    if deed == "site.set":
        parts = [part.partition(": ") for part in details.split("; ")]
        return "; ".join(_changed(visit, name, value) for name, _, value in parts)
    return details


def _changed(visit: Visit, name: str, value: str) -> str:
    """A field of a site, and what it was changed into."""
    t = visit.t
    if name == "without_node" and value in ("closed", "open"):
        return f"{t('review.without_node')}: {t(f'review.without.{value}')}"
    labels = {"name": "site_name", "group_name": "group", "power_window": "power_window"}
    return f"{t('review.' + labels[name]) if name in labels else name}: {value or '-'}"


def _deed(visit: Visit, deed: str) -> str:
    for key in (f"review.deed.{deed}", f"audit.{deed}"):
        try:
            return visit.t(key)
        except KeyError:
            continue
    return deed
