"""Documents: profiles, announcements, blocked phones and settings that the office wants of sites.

Every change is a new signed version, and goes to each site at its next exchange. The page says for
every site what it should have and what it has. Admins write; reviewers read.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import groupby
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.responses import Response

from portal.domain.document import ALL
from portal.domain.hours import end_of_day
from portal.domain.profile import Profile
from portal.domain.profile import change as with_limits
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
from portal.notices import WORDS_LONGEST
from portal.place_values import HOURS_FIELDS, site_value
from portal.web.diskominfo.console import DOCUMENTS, Console, scope_text
from portal.web.limit_words import checked_limit, labelled, limit_text, limits_said, with_dots
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.text import Translator
from radius.nas import canonical_mac

ONE = DOCUMENTS + "/{name}"
NAMES = ("profiles", "announcements", "blocked", "settings")
PROFILE_FIELDS = (
    "data_day",
    "data_week",
    "data_month",
    "data_total",
    "time_day",
    "time_total",
    "valid",
    "rate_down",
    "rate_up",
    "when_used_up",
    "devices",
    "hours",
)
SETTING_FIELDS = (
    "helper",
    "counter",
    "opening_hours",
    "power_window",
    "wifi_name",
    "without_node",
)
KINDS = {
    "damaged": "bad",
    "refused": "bad",
    "older": "low",
    "none": "low",
    "no_box": "none",
    "held": "ok",
}
"""A document's state at a site -> the sign beside its words; the worst first."""
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_REASON_LONGEST = 120


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
        """GET: what is wanted where, and at how many sites it is so; or to one of them."""
        if "open" in visit.query:
            name, scope = visit.query["open"], visit.query.get("scope", ALL)
            if name not in NAMES:
                raise NotHere
            return self._desk.go(_address(name, scope))
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
                "rows": [
                    self._sum(visit, published, list(of_one), sites)
                    for published, of_one in groupby(wishes, key=lambda wish: wish.document)
                ],
                "views": sites,
                "typed": {"site": "", "operator": "", **visit.fields},
            },
            error=error,
        )

    def _sum(
        self, visit: Visit, published: Published, wishes: list[Wish], sites: Sequence[SiteView]
    ) -> dict[str, object]:
        """A document as a line: its newest version, and at how many sites it is in which state."""
        t, counts = visit.t, Counter(wish.state for wish in wishes)
        is_reset = published.name == "reset"
        return {
            "name": t(f"review.doc.{published.name}"),
            "scope": _scope_text(visit, published.scope, sites),
            "href": None if is_reset else _address(published.name, published.scope),
            "wanted": t("review.version", number=published.version),
            "made": t.moment(published.made_at, visit.now, visit.zone),
            "states": [
                {"kind": kind, "said": t(f"review.wish_count.{state}", n=counts[state])}
                for state, kind in KINDS.items()
                if counts[state]
            ],
        }

    def _wish(self, visit: Visit, wish: Wish) -> dict[str, object]:
        t = visit.t
        return {
            "site": wish.site.name,
            "wanted": t("review.version", number=wish.document.version),
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
        wishes = [
            wish
            for wish in await self._office.publishing.wishes(sites)
            if (wish.document.name, wish.document.scope) == (name, scope)
        ]
        content: Mapping[str, object] = {} if found is None else found.content
        fields = PROFILE_FIELDS if name == "profiles" else SETTING_FIELDS
        _, error = labelled(visit.t, error)
        return self._desk.page(
            visit,
            "document",
            {
                "doc": name,
                "scope": scope,
                "title": visit.t(f"review.doc.{name}"),
                "scope_text": _scope_text(visit, scope, sites),
                "path": f"{DOCUMENTS}/{name}",
                "version": None if found is None else self._version(visit, found),
                "entries": _entries(visit, name, scope, content),
                "fields": fields,
                "longest": WORDS_LONGEST,
                "typed": {
                    **{each: "" for each in ("name", "words", "from", "to", "mac", "reason")},
                    **_stands(visit, name, content, fields),
                    **visit.fields,
                },
                "rows": [
                    self._wish(visit, wish)
                    for wish in sorted(wishes, key=lambda wish: list(KINDS).index(wish.state))
                    if wish.state != "held"
                ],
                "held": sum(wish.state == "held" for wish in wishes),
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
    return [(scope, _scope_text(visit, scope, sites)) for scope in scopes]


def _scope_text(visit: Visit, scope: str, sites: Sequence[SiteView]) -> str:
    return scope_text(visit.t, scope, {site.code: site.name for site in sites})


def _address(name: str, scope: str) -> str:
    return f"{DOCUMENTS}/{name}?{urlencode({'scope': scope})}"


def _change(visit: Visit, name: str) -> Change:
    """What the form of a document asks for. Raises DeskError."""
    fields = {key: " ".join(value.split()) for key, value in visit.fields.items()}
    if name == "profiles":
        profile = fields.get("name", "")
        if not _PROFILE_NAME.fullmatch(profile):
            raise DeskError("document_profile_name")
        texts = {
            field: checked_limit(Profile(profile), field, fields[field])
            for field in PROFILE_FIELDS
            if fields.get(field)
        }
        return set_profile(profile, texts)
    if name == "announcements":
        return set_entry("announcements", "words", _announcement(fields, visit.zone))
    if name == "blocked":
        mac, reason = canonical_mac(fields.get("mac", "")), fields.get("reason", "")
        if mac is None:
            raise DeskError("document_mac")
        if not 1 <= len(reason) <= _REASON_LONGEST:
            raise DeskError("document_reason", most=_REASON_LONGEST)
        return set_entry("blocked", "mac", {"mac": mac, "reason": reason})
    if fields.get("without_node", "") not in ("", "closed", "open"):
        raise DeskError("site_without_node")
    given = {field: fields[field] for field in SETTING_FIELDS if fields.get(field)}
    return set_settings({field: site_value(field, text) for field, text in given.items()})


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
    words = fields.get("words", "")
    if not 1 <= len(words) <= WORDS_LONGEST:
        raise DeskError("document_words", most=WORDS_LONGEST)
    if first is not None and last is not None and last < first:
        raise DeskError("period_order")
    return {
        "words": words,
        "starts_at": begins,
        "ends_at": ends,
    }


def _stands(
    visit: Visit, name: str, content: Mapping[str, object], fields: Sequence[str]
) -> dict[str, str]:
    """What stands in the fields of a form that was just opened."""
    if name == "settings":
        kept = content.get("site")
        texts = kept if isinstance(kept, dict) else {}
        found = {field: str(texts.get(field, "")) for field in fields}
        return {
            field: with_dots(text) if field in HOURS_FIELDS else text
            for field, text in found.items()
        }
    chosen, profiles = visit.query.get("entry", ""), content.get("profiles")
    profile = None
    if name == "profiles" and isinstance(profiles, dict) and chosen in profiles:
        profile = _profile(chosen, profiles[chosen])
    if profile is not None and isinstance(profiles, dict):
        shown = {
            field: limit_text(visit.t, profile, field) if field in profiles[chosen] else ""
            for field in fields
        }
        return {"name": chosen, **shown}
    return dict.fromkeys(fields, "")


def _profile(name: str, texts: Mapping[str, str]) -> Profile | None:
    """A profile as a document has it; None for one that this program cannot read."""
    try:
        return with_limits(Profile(name), **texts)
    except (ValueError, TypeError):
        return None


def _limits(t: Translator, name: str, texts: Mapping[str, str]) -> str:
    profile = _profile(name, texts)
    if profile is None:
        return ", ".join(f"{field} {text}" for field, text in texts.items())
    return limits_said(t, profile)


def _entries(
    visit: Visit, name: str, scope: str, content: Mapping[str, object]
) -> list[dict[str, str | None]]:
    """What a document holds, as lines with what each is removed by."""
    t, found = visit.t, content.get(name)
    if name == "profiles" and isinstance(found, dict):
        return [
            {
                "entry": profile,
                "title": profile,
                "text": _limits(t, profile, texts),
                "href": f"{DOCUMENTS}/profiles?{urlencode({'scope': scope, 'entry': profile})}",
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
                "href": None,
            }
            for one in found
        ]
    if name == "blocked" and isinstance(found, list):
        return [
            {
                "entry": one["mac"],
                "title": ":".join(one["mac"][i : i + 2] for i in range(0, 12, 2)),
                "text": one["reason"],
                "href": None,
            }
            for one in found
        ]
    return []
