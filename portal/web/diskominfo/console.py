"""Console: what the office's pages share.

The desk's machinery (sign-ins, forms, tokens, notices, languages) under /review, with the office as
its one place. Pages say until when their data goes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from zoneinfo import ZoneInfo

from starlette.responses import Response

from portal.domain.hours import day_of
from portal.hub.office import HubOffice
from portal.hub.review import SiteView
from portal.web.operator.desk import Desk, NotHere, Page, Visit
from portal.web.operator.ways import Ways
from portal.web.text import Translator

SITES = "/review/"
USAGE = "/review/usage"
BOXES = "/review/boxes"
DOCUMENTS = "/review/documents"
ALARMS = "/review/alarms"
PEOPLE = "/review/people"
AUDIT = "/review/audit"

WAYS = Ways(
    root="/review",
    cookie="pesisir_review",
    nav=(
        (SITES, "review.nav.sites"),
        (USAGE, "review.nav.usage"),
        (ALARMS, "review.nav.alarms"),
        (BOXES, "review.nav.boxes"),
        (DOCUMENTS, "review.nav.documents"),
        (PEOPLE, "review.nav.people"),
        (AUDIT, "review.nav.audit"),
        ("/review/me", "nav.me"),
    ),
    name="review.name",
)


@dataclass(frozen=True, slots=True)
class Console:
    """What a page module is given."""

    desk: Desk
    office: HubOffice


Module = Callable[[Console], list[Page]]
"""What each page module exports as `pages`."""


async def site_of(console: Console, visit: Visit) -> SiteView:
    """The site in the path; raises NotHere."""
    site = await console.office.review.site(str(visit.request.path_params["code"]))
    if site is None:
        raise NotHere
    return site


def moment(t: Translator, at: int | None, now: int, zone: ZoneInfo) -> str:
    """When something was, where a heading says what."""
    return t("review.never") if at is None else t.moment(at, now, zone)


def brief(t: Translator, at: int | None, now: int, zone: ZoneInfo) -> str:
    """When something was, in a narrow column: the time of today, else the date."""
    if at is None:
        return t("review.never")
    return t.time(at, zone) if day_of(at, zone) == day_of(now, zone) else t.short_date(at, zone)


def until(t: Translator, at: int | None, now: int, zone: ZoneInfo) -> str:
    """Until when data goes, in words: "data sampai ..."."""
    return t("review.until_none") if at is None else t("review.until", at=t.moment(at, now, zone))


def earliest(sites: Iterable[SiteView]) -> int | None:
    """Until when the data of all these sites go: until the earliest of them; None: there are
    none."""
    known = [site.data_until_at for site in sites if site.data_until_at is not None]
    return min(known, default=None)


def scope_text(t: Translator, scope: str, sites: Mapping[str, str]) -> str:
    """Whom a document is for, in words; `sites`: code -> name."""
    kind, _, name = scope.partition(" ")
    return t(f"review.scope.{kind}", name=sites.get(name, name) if kind == "site" else name)


def read_day(text: str, fallback: date) -> date:
    """A date as a form sends it (ISO); `fallback` for anything else."""
    try:
        return date.fromisoformat(text) if text else fallback
    except ValueError:
        return fallback


def is_day(text: str) -> bool:
    """Whether a form sent a date, or none at all."""
    return read_day(text, date.max) != date.max or not text


def attachment(response: Response, name: str) -> Response:
    """Let a browser keep the answer as a file of this name, which has safe signs only."""
    response.headers["content-disposition"] = f'attachment; filename="{name}"'
    return response
