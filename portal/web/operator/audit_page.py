"""Audit page: what was done, by whom, to what and why; for reading only."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from starlette.responses import Response

from portal.audit import ACTIONS, BY_ITSELF, COMMAND_LINE, PAGE, Line
from portal.devices import KINDS
from portal.operators import ROLES
from portal.web.operator import card_words
from portal.web.operator.desk import Desk, Need, Page, Visit
from portal.web.operator.house import House
from portal.web.operator.site import named
from portal.web.text import Translator

PATH = "/operator/audit"
_BY = {COMMAND_LINE: "audit.command_line", BY_ITSELF: "audit.by_itself"}
_LONGEST = 80
_KIND = re.compile(r"\(([a-z]+)\)")
_ANSWERS = re.compile(r"(?<=[:>] )(yes|no|changed)(?=;| ->|$)")


@dataclass(frozen=True, slots=True)
class Shown:
    """A line in words."""

    at: str
    operator: str
    action: str
    object: str
    of_object: str
    """Address of everything done to this object."""
    site: str
    reason: str
    details: str


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of this module."""

    def shown(visit: Visit, line: Line) -> Shown:
        t = visit.t
        site = None if line.site_id is None else house.admin.sites_by_id.get(line.site_id)
        return Shown(
            at=f"{t.short_date(line.at, visit.zone)} {t.time(line.at, visit.zone)}",
            operator=t(_BY[line.operator]) if line.operator in _BY else line.operator,
            action=t(f"audit.{line.action}") if line.action in ACTIONS else line.action,
            object=line.object,
            of_object=f"{PATH}?object={quote(line.object)}",
            site="" if site is None else site.name,
            reason=line.reason,
            details=in_words(t, line.action, line.details),
        )

    async def audit(visit: Visit) -> Response:
        """GET: newest first, fifty at a time. Operators read their site's, who sees every site
        all of it, or one site's with ?site=.
        """
        object_ = visit.query.get("object", "").strip()[:_LONGEST]
        operator = visit.query.get("operator", "").strip()[:_LONGEST]
        before = visit.query.get("before", "")
        before_id = int(before) if before.isdecimal() and len(before) < 16 else None
        is_all = visit.operator.site_ids is None and "site" not in visit.query
        lines = await house.audit.lines(
            None if is_all else visit.site.id,
            before_id=before_id,
            object=object_,
            operator=operator,
            limit=PAGE + 1,
        )
        kept = [
            (name, value) for name, value in (("object", object_), ("operator", operator)) if value
        ]
        if not is_all and visit.operator.site_ids is None:
            kept.append(("site", visit.site.code))
        older = None
        if len(lines) > PAGE:
            older = f"{PATH}?{urlencode([*kept, ('before', str(lines[PAGE - 1].id))])}"
        return desk.page(
            visit,
            "audit",
            {
                "lines": [shown(visit, line) for line in lines[:PAGE]],
                "object": object_,
                "by": operator,
                "older": older,
                "newest": f"{PATH}?{urlencode(kept)}" if before_id is not None else None,
                "where": visit.t("me.all_sites") if is_all else visit.site.name,
                "is_filtered": bool(object_ or operator),
                "only_site": None if is_all or visit.operator.site_ids else visit.site.code,
            },
        )

    return [Page(PATH, audit, Need.SEE)]


def in_words(t: Translator, action: str, details: str) -> str:
    """The details of a deed as people read them; what is no known text is shown as it is."""
    said = details
    match action.partition(".")[0]:
        case "site" | "profile":
            said = named(t, details)
        case "voucher" | "session":
            return card_words.details(t, action, details)
        case "operator" if details.partition(":")[0] in ROLES:
            said = " -> ".join(_duty(t, half) for half in details.split(" -> "))
        case "operator" if details == "-":
            said = t("audit.pin_removed")
        case "device":
            said = _KIND.sub(lambda found: f"({_kind(t, found[1])})", details)
        case "gateway":
            said = _ANSWERS.sub(lambda found: t(f"audit.is_{found[1]}"), details)
    return said.replace(" -> ", " \u2192 ")


def _duty(t: Translator, details: str) -> str:
    role, _, sites = details.partition(": ")
    where = t("me.all_sites") if sites == "*" else sites
    named_role = t(f"role.{role}") if role in ROLES else role
    return f"{named_role}: {where}" if sites else named_role


def _kind(t: Translator, kind: str) -> str:
    return t(f"devices.kind_{kind}") if kind in KINDS else kind
