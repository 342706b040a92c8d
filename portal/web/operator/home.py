"""Home: the day at a glance. First the button that is pressed most, then what to act on, then how
everything is, each with a shape and a word."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from portal.alerts import Alert, Level, alerts
from portal.link_watch import Look
from portal.overview import DayView, GatewayLook, Overview
from portal.web.operator.desk import HOME, Desk, Need, Page, Visit
from portal.web.operator.house import House
from portal.web.text import Translator

SITES_SHOWN = 40
"""Sites in the table of an office with many: more would not fit 30 kB."""

# Where an alert's remedy is: an address and the text of its link.
_REMEDIES = {
    "gateway_silent": ("/operator/help#internet", "home.to_help"),
    "gateway_unheard": ("/operator/help#internet", "home.to_help"),
    "internet_down": ("/operator/help#internet", "home.to_help"),
    "dns_down": ("/operator/help#internet", "home.to_help"),
    "power_off": ("/operator/site", "home.to_site"),
    "many_misses": ("/operator/cards", "home.to_phones"),
    "complaints": ("/operator/complaints", "home.to_complaints"),
    "complaints_late": ("/operator/complaints", "home.to_complaints"),
    "device_silent": ("/operator/devices", "home.to_devices"),
    "device_unheard": ("/operator/devices", "home.to_devices"),
}
_KINDS = {"up": "ok", "down": "bad"}


def pages(desk: Desk, house: House) -> list[Page]:
    """Every address of these pages."""
    return HomePages(desk, house.day_view).pages()


class HomePages:
    """The desk's first page."""

    def __init__(self, desk: Desk, day_view: DayView) -> None:
        self._desk = desk
        self._day_view = day_view

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [Page(HOME, self.home, Need.SEE)]

    async def home(self, visit: Visit) -> Response:
        """The site's day."""
        t = visit.t
        found = await self._day_view.of(visit.site.id)
        listed = alerts(found)
        return self._desk.page(
            visit,
            "home",
            {
                "alerts": [_alert(visit, alert) for alert in listed],
                "is_well": all(alert.level is Level.NOTE for alert in listed),
                "steps": _steps(visit, found),
                "looked": _looked(visit, found),
                "today": t.date(visit.now, visit.zone),
                "given": found.given_today,
                "unused": found.unused_today,
                "online": found.online,
                "month_octets": found.month_octets,
                **self._sites(visit),
            },
        )

    def _sites(self, visit: Visit) -> dict[str, Any]:
        """The table of all sites, those with most phones first."""
        if len(visit.sites) < 2:
            return {"site_rows": [], "sites_more": 0}
        figures = self._day_view.figures([site.id for site in visit.sites])
        names = {site.id: site for site in visit.sites}
        figures.sort(key=lambda one: (-one.online, -one.month_octets, one.site_id))
        rows = [
            {
                "name": names[one.site_id].name,
                "href": f"{HOME}?site={names[one.site_id].code}",
                "is_here": one.site_id == visit.site.id,
                "online": one.online,
                "month": visit.t.octets(one.month_octets),
            }
            for one in figures[:SITES_SHOWN]
        ]
        return {"site_rows": rows, "sites_more": max(0, len(figures) - SITES_SHOWN)}


def _alert(visit: Visit, alert: Alert) -> dict[str, Any]:
    href, text = _REMEDIES.get(alert.name, ("", ""))
    return {
        "kind": "info" if alert.level is Level.NOTE else alert.level.value,
        "what": visit.t(f"home.alert_{alert.name}", **_worded(visit, alert.values)),
        "do": visit.t(f"home.alert_{alert.name}_do"),
        "href": href,
        "link": visit.t(text) if text else "",
    }


def _worded(visit: Visit, values: Mapping[str, object]) -> dict[str, object]:
    """An alert's values as words: the end of a name says what it is."""
    worded: dict[str, object] = {}
    for name, value in values.items():
        if name.endswith("_at") and isinstance(value, int):
            worded[name[:-3]] = _moment(visit, value)
        elif name.endswith("_octets") and isinstance(value, int):
            worded[name[:-7]] = visit.t.octets_left(value)
        else:
            worded[name] = value
    return worded


def _steps(visit: Visit, found: Overview) -> list[dict[str, str]]:
    """Each step from this box to the world: a shape, a name, a word."""
    t = visit.t
    steps = [_step("ok", t("home.box"), t("home.box_up", since=_moment(visit, found.up_since_at)))]
    for gateway in found.gateways:
        kind, word = _gateway(visit, gateway, is_power_on=found.is_power_on)
        steps.append(_step(kind, t("home.gateway", name=gateway.name), word))
    for name, look in (("internet", found.internet), ("dns", found.dns), ("hub", found.hub)):
        steps.append(_link(visit, name, look, is_power_on=found.is_power_on))
    return steps


def _step(kind: str, name: str, word: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "word": word}


def _gateway(visit: Visit, gateway: GatewayLook, *, is_power_on: bool) -> tuple[str, str]:
    t = visit.t
    if gateway.state == "heard":
        return "ok", _heard(t, visit, gateway)
    if gateway.state == "answers":
        return "ok", t("home.gateway_answers")
    if gateway.state == "waiting":
        return "none", t("home.gateway_waiting")
    return ("bad", t("home.gateway_silent")) if is_power_on else ("none", t("home.gateway_asleep"))


def _heard(t: Translator, visit: Visit, gateway: GatewayLook) -> str:
    return t("home.gateway_heard", at=_moment(visit, gateway.heard_at or visit.now))


def _link(visit: Visit, name: str, look: Look, *, is_power_on: bool) -> dict[str, str]:
    t = visit.t
    since = "" if look.since_at is None else _moment(visit, look.since_at)
    word = t(f"home.{name}_{look.state}", since=since)
    kind = _KINDS.get(look.state, "none")
    return _step("none" if kind == "bad" and not is_power_on else kind, t(f"home.{name}"), word)


def _looked(visit: Visit, found: Overview) -> str | None:
    """When the link was looked at last."""
    times = [
        look.looked_at
        for look in (found.internet, found.dns, found.hub)
        if look.looked_at is not None
    ]
    return None if not times else _moment(visit, max(times))


def _moment(visit: Visit, at: int) -> str:
    return visit.t.since(at, visit.now, visit.zone)
