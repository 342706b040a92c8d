"""Documents: profiles, announcements, blocked phones and settings that the office wants of sites.

Every change is a new signed version, and goes to each site at its next exchange. The page says for
every site what it should have and what it has. Admins write; reviewers read.
"""

from collections.abc import Mapping
from datetime import date, datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response

from portal.domain.document import ALL
from portal.domain.hours import end_of_day
from portal.errors import DeskError
from portal.hub.publishing import (
    Change,
    Published,
    Wish,
    covers,
    remove_entry,
    remove_profile,
    set_entry,
    set_profile,
    set_settings,
)
from portal.hub.review import SiteView
from portal.web.diskominfo.console import DOCUMENTS, Console
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from radius.nas import canonical_mac

ONE = DOCUMENTS + "/{name}"
NAMES = ("profiles", "announcements", "blocked", "settings")
PROFILE_FIELDS = (
    "data_day",
    "data_month",
    "time_day",
    "rate_down",
    "rate_up",
    "valid",
    "devices",
    "hours",
    "when_used_up",
)
SETTING_FIELDS = (
    "helper",
    "counter",
    "opening_hours",
    "power_window",
    "wifi_name",
    "without_node",
)
KINDS = {"held": "ok", "older": "low", "none": "low", "no_box": "low", "refused": "bad"}


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    found = _Documents(console)
    return [
        Page(DOCUMENTS, found.all, Need.SEE),
        Page(DOCUMENTS + "/reset", found.reset, Need.ADMIN, ("POST",)),
        Page(ONE, found.one, Need.SEE),
        Page(ONE, found.set, Need.ADMIN, ("POST",)),
        Page(ONE + "/remove", found.remove, Need.ADMIN, ("POST",)),
    ]


class _Documents:
    def __init__(self, console: Console) -> None:
        self._desk: Desk = console.desk
        self._office = console.office

    async def all(self, visit: Visit) -> Response:
        """GET: what is wanted where, and what each site has."""
        return await self._list(visit)

    async def _list(self, visit: Visit, error: DeskError | None = None) -> Response:
        sites = await self._office.review.sites()
        wishes = await self._office.publishing.wishes(sites)
        return self._desk.page(
            visit,
            "documents",
            {
                "scopes": _scopes(visit, sites),
                "names": [(name, visit.t(f"review.doc.{name}")) for name in NAMES],
                "rows": [self._wish(visit, wish) for wish in wishes],
                "views": sites,
                "typed": {"site": "", "operator": "", **visit.fields},
            },
            error=error,
        )

    def _wish(self, visit: Visit, wish: Wish) -> dict[str, object]:
        t, name = visit.t, wish.document.name
        return {
            "site": wish.site.name,
            "name": t(f"review.doc.{name}"),
            "scope": _scope_text(visit, wish.document.scope),
            "href": None if name == "reset" else _address(name, wish.document.scope),
            "wanted": t("review.version", number=wish.document.version),
            "made": t.moment(wish.document.made_at, visit.now, visit.zone),
            "kind": KINDS[wish.state],
            "state": t(f"review.wish.{wish.state}", number=wish.held_version),
            "why": wish.refused_why or "",
        }

    # --- one document

    async def one(self, visit: Visit) -> Response:
        """GET: a document of one scope, and the form to change it."""
        name, scope = await self._asked(visit, visit.query)
        return await self._one(visit, name, scope)

    async def _asked(self, visit: Visit, values: Mapping[str, str]) -> tuple[str, str]:
        name, scope = str(visit.request.path_params["name"]), values.get("scope", ALL)
        sites = await self._office.review.sites()
        if name not in NAMES or scope not in dict(_scopes(visit, sites)):
            raise NotHere
        return name, scope

    async def _one(
        self, visit: Visit, name: str, scope: str, error: DeskError | None = None
    ) -> Response:
        found = await self._office.publishing.one(name, scope)
        sites = [site for site in await self._office.review.sites() if covers(scope, site)]
        wishes = await self._office.publishing.wishes(sites)
        content: Mapping[str, object] = {} if found is None else found.content
        fields = PROFILE_FIELDS if name == "profiles" else SETTING_FIELDS
        settings = content.get("site")
        kept = settings if isinstance(settings, dict) and name == "settings" else {}
        return self._desk.page(
            visit,
            "document",
            {
                "doc": name,
                "scope": scope,
                "title": visit.t(f"review.doc.{name}"),
                "scope_text": _scope_text(visit, scope),
                "path": f"{DOCUMENTS}/{name}",
                "version": None if found is None else self._version(visit, found),
                "entries": _entries(visit, name, content),
                "fields": fields,
                "typed": {
                    **{field: str(kept.get(field, "")) for field in fields},
                    **{each: "" for each in ("name", "words", "from", "to", "mac", "reason")},
                    **visit.fields,
                },
                "rows": [
                    self._wish(visit, wish)
                    for wish in wishes
                    if (wish.document.name, wish.document.scope) == (name, scope)
                ],
                "count": len(sites),
            },
            error=error,
        )

    def _version(self, visit: Visit, found: Published) -> str:
        at = visit.t.moment(found.made_at, visit.now, visit.zone)
        return visit.t("review.version_by", number=found.version, at=at, by=found.made_by)

    async def set(self, visit: Visit) -> Response:
        """POST: add or change an entry."""
        name, scope = await self._asked(visit, visit.fields)
        try:
            change = _change(visit, name)
            await self._office.publishing.publish(name, scope, change, visit.operator.name)
        except DeskError as error:
            return await self._one(visit, name, scope, error)
        return self._desk.go(_address(name, scope), notice="review.published")

    async def remove(self, visit: Visit) -> Response:
        """POST: take an entry out."""
        name, scope = await self._asked(visit, visit.fields)
        value = visit.fields.get("entry", "")
        removals = {
            "profiles": remove_profile(value),
            "announcements": remove_entry("announcements", "words", value),
            "blocked": remove_entry("blocked", "mac", value),
            "settings": set_settings({}),
        }
        try:
            await self._office.publishing.publish(name, scope, removals[name], visit.operator.name)
        except DeskError as error:
            return await self._one(visit, name, scope, error)
        return self._desk.go(_address(name, scope), notice="review.published")

    async def reset(self, visit: Visit) -> Response:
        """POST: a new password for an operator of a site, shown once."""
        earlier = self._desk.once_answer(visit)
        if earlier is not None:
            return self._desk.go(earlier)
        code, operator = visit.fields.get("site", ""), visit.fields.get("operator", "")
        site = await self._office.review.site(code)
        if site is None:
            raise NotHere
        try:
            password = await self._office.publishing.reset(
                f"site {code}", operator, visit.operator.name
            )
        except DeskError as error:
            return await self._list(visit, error)
        self._desk.done(visit, DOCUMENTS)
        values = {"who": operator, "password": password, "site_name": site.name}
        return self._desk.page(visit, "reset", values)


def _scopes(visit: Visit, sites: list[SiteView]) -> list[tuple[str, str]]:
    """Every scope there is, with its words: all sites, the groups, each site."""
    groups = sorted({site.group for site in sites if site.group})
    codes = [site.code for site in sites]
    scopes = [ALL, *(f"group {group}" for group in groups), *(f"site {code}" for code in codes)]
    return [(scope, _scope_text(visit, scope)) for scope in scopes]


def _scope_text(visit: Visit, scope: str) -> str:
    kind, _, name = scope.partition(" ")
    return visit.t(f"review.scope.{kind}", name=name)


def _address(name: str, scope: str) -> str:
    return f"{DOCUMENTS}/{name}?{urlencode({'scope': scope})}"


def _change(visit: Visit, name: str) -> Change:
    """What the form of a document asks for. Raises DeskError."""
    fields = {key: value.strip() for key, value in visit.fields.items()}
    if name == "profiles":
        texts = {field: fields.get(field, "") for field in PROFILE_FIELDS}
        return set_profile(fields.get("name", ""), texts)
    if name == "announcements":
        return set_entry("announcements", "words", _announcement(fields, visit.zone))
    if name == "blocked":
        mac = canonical_mac(fields.get("mac", ""))
        if mac is None:
            raise DeskError("document_mac")
        return set_entry("blocked", "mac", {"mac": mac, "reason": fields.get("reason", "")})
    return set_settings({field: fields.get(field, "") for field in SETTING_FIELDS})


def _announcement(fields: Mapping[str, str], zone: ZoneInfo) -> dict[str, object]:
    try:
        first = date.fromisoformat(fields["from"]) if fields.get("from") else None
        last = date.fromisoformat(fields["to"]) if fields.get("to") else None
    except ValueError as error:
        raise DeskError("document_dates") from error
    begins = 0
    if first is not None:
        begins = int(datetime(first.year, first.month, first.day, tzinfo=zone).timestamp())
    ends = None if last is None else end_of_day(last, zone)
    return {
        "words": " ".join(fields.get("words", "").split()),
        "starts_at": begins,
        "ends_at": ends,
    }


def _entries(visit: Visit, name: str, content: Mapping[str, object]) -> list[dict[str, str]]:
    """What a document holds, as lines with what each is removed by."""
    t, found = visit.t, content.get(name)
    if name == "profiles" and isinstance(found, dict):
        return [
            {
                "entry": profile,
                "title": profile,
                "text": ", ".join(f"{key.replace('_', '-')} {text}" for key, text in texts.items()),
            }
            for profile, texts in sorted(found.items())
        ]
    if name == "announcements" and isinstance(found, list):
        return [
            {
                "entry": one["words"],
                "title": one["words"],
                "text": t("review.notice_until", date=t.last_date(one["ends_at"], visit.zone))
                if one.get("ends_at")
                else "",
            }
            for one in found
        ]
    if name == "blocked" and isinstance(found, list):
        return [
            {
                "entry": one["mac"],
                "title": ":".join(one["mac"][i : i + 2] for i in range(0, 12, 2)),
                "text": one["reason"],
            }
            for one in found
        ]
    return []
