"""Site settings at the desk: hours of electricity, helper, counter, Wi-Fi name, and profiles.

A form sends what stood in it when it was opened (`was_…`) beside what was typed: only what the
person changed is changed, and what somebody else changed meanwhile is not overwritten.
"""

import re
from typing import Any

from starlette.responses import Response

from portal.admin import Admin, Site
from portal.cards.finding import REASON_LONGEST
from portal.domain import profile as profiles
from portal.domain.profile import Profile
from portal.errors import DeskError
from portal.notices import Notices
from portal.place_values import SITE_LONGEST
from portal.web.limit_words import (
    CHOICES,
    LIMITS,
    NO_LIMIT,
    VALUE_LONGEST,
    checked_limit,
    labelled,
    limit_text,
    limits_said,
    value_text,
    with_dots,
)
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.text import Translator

HOME = "/operator/site"
FIELDS = ("power_window", "helper", "counter", "opening_hours", "wifi_name")


class SitePages:
    """The pages of a site's settings."""

    def __init__(self, desk: Desk, admin: Admin, notices: Notices) -> None:
        self._desk = desk
        self._admin = admin
        self._notices = notices

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        one = HOME + "/profile/{name}"
        return [
            Page(HOME, self.show, Need.SEE),
            Page(HOME, self.save, Need.WORK, ("POST",)),
            Page(one, self.profile, Need.SEE),
            Page(one, self.save_profile, Need.WORK, ("POST",)),
        ]

    # -- the site --------------------------------------------------------------------------

    async def show(self, visit: Visit) -> Response:
        """What is set, and the form to change it."""
        return self._show(visit, {})

    def _show(
        self, visit: Visit, typed: dict[str, str], error: DeskError | None = None
    ) -> Response:
        t, site = visit.t, self._admin.sites_by_id[visit.site.id]
        wrong, error = labelled(t, error)
        return self._desk.page(
            visit,
            "site",
            {
                "fields": [
                    {
                        "name": name,
                        "label": t(f"settings.{name}"),
                        "hint": t(f"settings.{name}_hint"),
                        "value": typed.get(name, _written(site, name)),
                        "was": _written(site, name),
                        "longest": SITE_LONGEST[name],
                        "is_wrong": name == wrong,
                    }
                    for name in FIELDS
                ],
                "shown": [
                    (t(f"settings.{name}"), self._said(visit, site, name)) for name in FIELDS
                ],
                "reason": typed.get("reason", ""),
                "reason_longest": REASON_LONGEST,
                "announcements": self._notices.running(site.id),
                "profiles": [
                    {
                        "name": one.name,
                        "hours": self._hours_said(visit, one),
                        "limits": limits_said(t, one),
                    }
                    for _, one in sorted(self._admin.profiles_by_name.items())
                ],
            },
            status=200 if error is None else 400,
            error=error,
        )

    def _said(self, visit: Visit, site: Site, name: str) -> str:
        """A setting as residents read it."""
        t, value = visit.t, str(getattr(site, name))
        if name == "power_window" and value:
            hours = site.power_hours
            return value if hours is None else t.hours(hours, visit.now, visit.zone)
        if name == "opening_hours" and value:
            return t.hours(value, visit.now, visit.zone)
        if name == "wifi_name":
            return value or site.name
        return value or t(f"settings.{name}_none")

    def _hours_said(self, visit: Visit, one: Profile) -> str:
        if one.hours is None:
            return visit.t("settings.hours_none")
        return visit.t.hours(one.hours, visit.now, visit.zone)

    async def save(self, visit: Visit) -> Response:
        """POST: change what differs from the form as it was; a mistake keeps what was typed."""
        typed = {
            name: " ".join(visit.fields.get(name, "").split())[:500] for name in (*FIELDS, "reason")
        }
        site = self._admin.sites_by_id[visit.site.id]
        try:
            changes = _changes(visit, FIELDS, {name: _written(site, name) for name in FIELDS})
            if not changes:
                raise DeskError("settings.nothing")
            reason = _reason(visit)
            await self._admin.set_site(site.code, changes, by=visit.operator.name, reason=reason)
        except DeskError as error:
            return self._show(visit, typed, error)
        return self._desk.go(HOME, notice="settings.saved")

    # -- profiles --------------------------------------------------------------------------

    def _found(self, visit: Visit) -> Profile:
        found = self._admin.profiles_by_name.get(visit.request.path_params["name"])
        if found is None:
            raise NotHere
        return found

    def _may_change(self, visit: Visit, profile: Profile) -> bool:
        """A profile that another site's cards follow too is not for the operators of one site."""
        return all(
            visit.operator.sees(site_id) for site_id in self._admin.sites_of_profile(profile.name)
        )

    async def profile(self, visit: Visit) -> Response:
        """One profile: its hours for operators, all its limits for admins."""
        return self._profile(visit, self._found(visit), {})

    def _profile(
        self,
        visit: Visit,
        found: Profile,
        typed: dict[str, str],
        error: DeskError | None = None,
    ) -> Response:
        t = visit.t
        wrong, error = labelled(t, error)
        names = ("hours", *LIMITS) if visit.may(Need.ADMIN) else ("hours",)
        return self._desk.page(
            visit,
            "site_profile",
            {
                "profile": found,
                "fields": [
                    {
                        "name": name,
                        "label": t(f"settings.{name}"),
                        "hint": t("settings.hours_hint") if name == "hours" else None,
                        "value": typed.get(name, limit_text(t, found, name)),
                        "was": limit_text(t, found, name),
                        "choices": [(one, t(f"settings.{one}")) for one in CHOICES.get(name, ())],
                        "is_wrong": name == wrong,
                    }
                    for name in names
                ],
                "hours": self._hours_said(visit, found),
                "limits": limits_said(t, found),
                "may_change": visit.may(Need.WORK) and self._may_change(visit, found),
                "is_shared": len(self._admin.sites_by_id) > 1,
                "reason": typed.get("reason", ""),
                "reason_longest": REASON_LONGEST,
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def save_profile(self, visit: Visit) -> Response:
        """POST: change the hours, for admins any limit."""
        found = self._found(visit)
        names = ("hours", *LIMITS)
        typed = {
            name: " ".join(visit.fields[name].split())[:VALUE_LONGEST]
            for name in (*names, "reason")
            if name in visit.fields
        }
        try:
            before = {name: limit_text(visit.t, found, name) for name in names}
            wanted = _changes(visit, [name for name in names if name in visit.fields], before)
            if wanted.keys() - {"hours"} and not visit.may(Need.ADMIN):
                raise DeskError("settings.admin_only")
            if not self._may_change(visit, found):
                raise DeskError("settings.shared_profile")
            changes = {name: checked_limit(found, name, value) for name, value in wanted.items()}
            if not changes:
                raise DeskError("settings.nothing")
            reason = _reason(visit)
            sites = self._admin.sites_of_profile(found.name) | {visit.site.id}
            await self._admin.set_profile(
                found.name,
                changes,
                by=visit.operator.name,
                reason=reason,
                site_id=visit.site.id if len(sites) == 1 else None,
            )
        except DeskError as error:
            return self._profile(visit, found, typed, error)
        return self._desk.go(HOME, notice="settings.profile_saved", name=found.name)


def _written(site: Site, name: str) -> str:
    """A field as it stands in the form: hours with dots, as people here write them."""
    value = str(getattr(site, name))
    if name == "opening_hours" or (name == "power_window" and site.power_hours is not None):
        return with_dots(value)
    return value


def _changes(visit: Visit, names: Any, now: dict[str, str]) -> dict[str, str]:
    """What the person changed in the form; raises DeskError when somebody else was quicker."""
    changes = {}
    for name in names:
        typed = " ".join(visit.fields.get(name, "").split())
        was = " ".join(visit.fields.get(f"was_{name}", "").split())
        if typed == was or typed == now[name]:
            continue
        if was != now[name]:
            raise DeskError("settings.changed", field=name.replace("_", " "))
        changes[name] = typed
    return changes


def _reason(visit: Visit) -> str:
    reason = " ".join(visit.fields.get("reason", "").split())
    if not reason:
        raise DeskError("settings.reason")
    if len(reason) > REASON_LONGEST:
        raise DeskError("settings.reason_long", most=REASON_LONGEST)
    return reason


def named(t: Translator, details: str) -> str:
    """The details of a recorded change with the labels and values people see: `time_day: none ->
    2h` is `Waktu per hari: - -> 2 jam`."""

    def label(found: re.Match[str]) -> str:
        name = found[2]
        is_known = name in FIELDS or name in LIMITS or name == "hours"
        return f"{found[1]}{t(f'settings.{name}') if is_known else name}:"

    def values(found: re.Match[str]) -> str:
        start, name, before, after = found.groups()
        return f"{start}{name}: {_recorded(t, name, before)} -> {_recorded(t, name, after)}"

    said = re.sub(r"(^|; )([a-z_]+): ([^;\s]+) -> ([^;\s]+)(?=; |$)", values, details)
    said = re.sub(r"(^|; )([a-z_]+):(?= )", label, said)
    return re.sub(r"(?<=[:>] )none(?= ->|;|$)", "-", said)


def _recorded(t: Translator, name: str, value: str) -> str:
    """A value as the audit holds it, in words; what is no such value is shown as it is."""
    if name in ("power_window", "opening_hours"):
        return with_dots(value) if re.fullmatch(r"[0-9:,-]+", value) else value
    if name in CHOICES:
        return t(f"settings.{value}") if value in CHOICES[name] else value
    if name.startswith("data_") and value not in (NO_LIMIT, "-"):
        return t.quota(profiles.parse_octets(value))
    return (value_text(t, name, value) or "-") if name in LIMITS or name == "hours" else value


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of a site's settings."""
    return SitePages(desk, house.admin, house.notices).pages()
