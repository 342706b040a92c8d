"""Gateways at the desk: which there are, adding, changing and removing them, their configurations.

For admins only, because the configurations hold secrets; that somebody looked at one is recorded. A
change form sends what stood in it when it was opened (`was_…`), so that what somebody else changed
meanwhile is not overwritten.
"""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from portal import data_counting, gateway_config
from portal.admin import Admin, Gateway
from portal.errors import DeskError
from portal.overview import ANSWERS, HEARD, WAITING, DayView, GatewayLook
from portal.sessions import Sessions
from portal.settings import Settings
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House

HOME = "/operator/gateways"
ONE = HOME + "/{gateway}"
CONFIG, REMOVE = ONE + "/config", ONE + "/remove"
ELSEWHERE = ((ONE + "/doctor", "gateways.doctor"), (ONE + "/actions", "gateways.actions"))
"""Pages of other modules about one gateway, linked where they are."""
NEW = ("name", "family", "address", "nas_id", "guest_net")
CHANGES = ("family", "address", "nas_id", "guest_net", "mac_auth", "swap_octets")
CHOICES = {"mac_auth": ("yes", "no"), "swap_octets": ("auto", "yes", "no")}
TYPED = ("guest_if", "wan_if", "portal_url", "portal_address", "radius_host")
"""Options of a configuration that are typed; `version` and `encrypted_dns` are chosen."""
LONGEST = 120
REASON_LONGEST = 200
SERVICES_LONGEST = 400
MOST_SHOWN = 15_000
"""Characters of a file that a page shows; a longer one is sent only, so that a page stays light."""
_FIELD_OF = {
    "gateways.name": "name",
    "gateways.name_taken": "name",
    "gateways.family": "family",
    "gateways.address": "address",
    "gateways.other_secret": "address",
    "gateways.nas_id": "nas_id",
    "gateways.needs_nas_id": "nas_id",
    "gateways.same_nas_id": "nas_id",
    "gateways.guest_net": "guest_net",
    "gateways.guest_net_taken": "guest_net",
    "gateways.guest_net_none": "guest_net",
    "gateways.service": "open_services",
    "gateways.service_probe": "open_services",
    "gateways.services_many": "open_services",
    "gateways.reason": "reason",
    "gateways.reason_long": "reason",
    "gateways.confirm": "confirm",
    "gateways.portal_url": "portal_url",
    "gateways.portal_address": "portal_address",
    "gateways.radius_host": "radius_host",
    "gateways.no_address": "radius_host",
    "gateways.version": "version",
}
"""The field of a form an error is about."""


class GatewayPages:
    """The pages of gateways."""

    def __init__(
        self, desk: Desk, admin: Admin, settings: Settings, day_view: DayView, sessions: Sessions
    ) -> None:
        self._desk = desk
        self._admin = admin
        self._settings = settings
        self._day_view = day_view
        self._sessions = sessions

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.list, Need.ADMIN),
            Page(HOME, self.add, Need.ADMIN, ("POST",)),
            Page(HOME + "/services", self.save_services, Need.ADMIN, ("POST",)),
            Page(ONE, self.show, Need.ADMIN),
            Page(ONE, self.save, Need.ADMIN, ("POST",)),
            Page(CONFIG, self.config, Need.ADMIN),
            Page(CONFIG, self.files, Need.ADMIN, ("POST",)),
            Page(REMOVE, self.ask_remove, Need.ADMIN),
            Page(REMOVE, self.remove, Need.ADMIN, ("POST",)),
        ]

    # -- all of a site ---------------------------------------------------------------------

    async def list(self, visit: Visit) -> Response:
        """The site's gateways with how they stand, and the forms for more."""
        return self._list(visit, {})

    def _list(
        self, visit: Visit, typed: dict[str, str], error: DeskError | None = None
    ) -> Response:
        looks = {look.name: look for look in self._day_view.gateways(visit.site.id)}
        site = self._admin.sites_by_id[visit.site.id]
        return self._desk.page(
            visit,
            "gateways",
            {
                "gateways": [
                    {**self._line(visit, gateway), **_state(visit, looks[gateway.name])}
                    for gateway in self._admin.gateways_by_id.values()
                    if gateway.site_id == visit.site.id
                ],
                "families": self._families(),
                "draft": {**dict.fromkeys(NEW, ""), **typed},
                "services": typed.get("open_services", site.open_services),
                "services_longest": SERVICES_LONGEST,
                "reason": typed.get("reason", ""),
                "reason_longest": REASON_LONGEST,
                "longest": LONGEST,
                "wrong": _wrong(error),
            },
            status=200 if error is None else 400,
            error=error,
        )

    def _line(self, visit: Visit, gateway: Gateway) -> dict[str, Any]:
        return {
            "name": gateway.name,
            "family": self._admin.families[gateway.family].LABEL,
            "address": gateway.address,
        }

    def _families(self) -> Sequence[tuple[str, str]]:
        return [(name, family.LABEL) for name, family in self._admin.families.items()]

    async def add(self, visit: Visit) -> Response:
        """POST: a new gateway of this site, with new secrets."""
        typed = _typed(visit, NEW)
        try:
            gateway = await self._admin.add_gateway(
                typed["name"],
                family=typed["family"],
                address=typed["address"],
                site=visit.site.code,
                nas_id=typed["nas_id"] or None,
                guest_net=typed["guest_net"] or None,
                by=visit.operator.name,
            )
        except DeskError as error:
            return self._list(visit, typed, error)
        return self._desk.go(f"{HOME}/{gateway.name}", notice="gateways.added", name=gateway.name)

    async def save_services(self, visit: Visit) -> Response:
        """POST: what phones of this site may use without a card."""
        typed = _typed(visit, ("reason",))
        typed["open_services"] = visit.fields.get("open_services", "")[: 2 * SERVICES_LONGEST]
        try:
            reason = _reason(typed["reason"])
            await self._admin.set_site(
                visit.site.code,
                {"open_services": typed["open_services"]},
                by=visit.operator.name,
                reason=reason,
            )
        except DeskError as error:
            return self._list(visit, typed, error)
        return self._desk.go(HOME, notice="gateways.services_saved")

    # -- one -------------------------------------------------------------------------------

    def _found(self, visit: Visit) -> Gateway:
        name = visit.request.path_params["gateway"]
        for gateway in self._admin.gateways_by_id.values():
            if gateway.name == name:
                visit.require_site(gateway.site_id)
                return gateway
        raise NotHere

    async def show(self, visit: Visit) -> Response:
        """How a gateway stands, what is set, and the form to change it."""
        return self._show(visit, self._found(visit), {})

    def _show(
        self,
        visit: Visit,
        gateway: Gateway,
        typed: dict[str, str],
        error: DeskError | None = None,
    ) -> Response:
        t, now = visit.t, self._values(gateway)
        looks = {look.name: look for look in self._day_view.gateways(gateway.site_id)}
        return self._desk.page(
            visit,
            "gateway",
            {
                "gateway": {**self._line(visit, gateway), **_state(visit, looks[gateway.name])},
                "shown": [
                    (t("gateways.family"), self._admin.families[gateway.family].LABEL),
                    (t("gateways.address"), gateway.address),
                    (t("gateways.nas_id"), gateway.nas_id or t("gateways.any")),
                    (t("gateways.guest_net"), now["guest_net"]),
                    (t("gateways.mac_auth"), t(f"gateways.{now['mac_auth']}")),
                    (t("gateways.swap_octets"), t(f"gateways.{now['swap_octets']}")),
                ],
                "links_of_one": [
                    (pattern.replace("{gateway}", gateway.name), t(key))
                    for pattern, key in ELSEWHERE
                    if self._desk.may_open(visit, pattern)
                ],
                "is_without_data": bool(data_counting.gateway_advice(self._admin, gateway)),
                "is_weak": any(
                    secret is not None and len(secret) < gateway_config.SECRET_STRONG
                    for secret in (gateway.secret, gateway.uam_secret)
                ),
                "families": self._families(),
                "choices": {
                    name: [(one, t(f"gateways.{one}")) for one in ones]
                    for name, ones in CHOICES.items()
                },
                "now": now,
                "draft": {**now, **typed},
                "reason": typed.get("reason", ""),
                "reason_longest": REASON_LONGEST,
                "longest": LONGEST,
                "wrong": _wrong(error),
                "is_open": error is not None,
            },
            status=200 if error is None else 400,
            error=error,
        )

    def _values(self, gateway: Gateway) -> dict[str, str]:
        """What may be changed, as it stands in the form."""
        return {
            "family": gateway.family,
            "address": gateway.address,
            "nas_id": gateway.nas_id or "",
            "guest_net": self._admin.guest_net(gateway),
            "mac_auth": "yes" if gateway.mac_auth else "no",
            "swap_octets": gateway.swap_octets,
        }

    async def save(self, visit: Visit) -> Response:
        """POST: change what differs from the form as it was; new secrets where that is ticked."""
        gateway = self._found(visit)
        typed = _typed(visit, (*CHANGES, "reason"))
        is_renewed = visit.fields.get("new_secrets") == "yes"
        try:
            changes: dict[str, Any] = {}
            now = self._values(gateway)
            for name in CHANGES:
                was = visit.fields.get(f"was_{name}", "")
                if typed[name] in (was, now[name]):
                    continue
                if was != now[name]:
                    raise DeskError("gateways.changed")
                changes[name] = typed[name]
            if "mac_auth" in changes:
                changes["mac_auth"] = changes["mac_auth"] == "yes"
            if changes.get("nas_id") == "":
                changes["nas_id"] = "none"
            if is_renewed:
                changes |= {"secret": None, "uam_secret": None}
            if not changes:
                raise DeskError("gateways.nothing")
            reason = _reason(typed["reason"])
            await self._admin.set_gateway(
                gateway.name, changes, by=visit.operator.name, reason=reason
            )
        except DeskError as error:
            return self._show(visit, gateway, typed, error)
        if is_renewed:
            return self._desk.go(
                f"{HOME}/{gateway.name}", notice="gateways.renewed", name=gateway.name
            )
        return self._desk.go(f"{HOME}/{gateway.name}", notice="gateways.saved", name=gateway.name)

    # -- its configuration -----------------------------------------------------------------

    async def config(self, visit: Visit) -> Response:
        """What can be chosen for a configuration, and its files; no secret yet."""
        return self._config(visit, self._found(visit), {})

    def _config(
        self,
        visit: Visit,
        gateway: Gateway,
        typed: dict[str, str],
        error: DeskError | None = None,
        opened: dict[str, str] | None = None,
    ) -> Response:
        versions = gateway_config.versions(gateway.family)
        version = typed.get("version", "")
        files = gateway_config.files(gateway.family, version if version in versions else None)
        return self._desk.page(
            visit,
            "gateway_config",
            {
                "name": gateway.name,
                "versions": versions if len(versions) > 1 else (),
                "choices": gateway_config.ENCRYPTED_DNS,
                "files": files,
                "opened": opened,
                "draft": {
                    **dict.fromkeys(TYPED, ""),
                    "version": versions[0] if versions else "",
                    "encrypted_dns": gateway_config.ENCRYPTED_DNS[0],
                    **typed,
                },
                "has_addresses": any(typed.get(name) for name in TYPED[2:]),
                "wrong": _wrong(error),
                "longest": LONGEST,
                "doctor": next(
                    (
                        pattern.replace("{gateway}", gateway.name)
                        for pattern, _ in ELSEWHERE[:1]
                        if self._desk.may_open(visit, pattern)
                    ),
                    None,
                ),
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def files(self, visit: Visit) -> Response:
        """POST: show a file (`show`) or send it (`save`), secrets included, and record it."""
        gateway = self._found(visit)
        typed = _typed(visit, (*TYPED, "version", "encrypted_dns"))
        wanted = visit.fields.get("save") or visit.fields.get("show") or ""
        options = {name: value for name, value in typed.items() if value}
        if len(gateway_config.versions(gateway.family)) < 2:
            options.pop("version", None)
        try:
            found = gateway_config.render(
                self._admin, gateway, self._settings, options, now=visit.now
            )
        except DeskError as error:
            return self._config(visit, gateway, typed, error)
        file = next((one for one in found if one["name"] == wanted), None)
        if file is None:
            return self._config(visit, gateway, typed)
        if not visit.fields.get("save") and len(file["text"]) > MOST_SHOWN:
            return self._config(
                visit, gateway, typed, DeskError("gateways.too_long", file=file["name"])
            )
        await self._admin.show_config(gateway.name, file["name"], by=visit.operator.name)
        if visit.fields.get("save"):
            return Response(
                file["text"],
                media_type="text/plain; charset=utf-8",
                headers={"content-disposition": f'attachment; filename="{file["name"]}"'},
            )
        return self._config(visit, gateway, typed, opened=file)

    # -- removing it -----------------------------------------------------------------------

    async def ask_remove(self, visit: Visit) -> Response:
        """What removing means, and the form that does it."""
        return self._ask_remove(visit, self._found(visit))

    def _ask_remove(
        self, visit: Visit, gateway: Gateway, error: DeskError | None = None
    ) -> Response:
        online = sum(
            1 for one in self._sessions.open_sessions() if one.session.gateway_id == gateway.id
        )
        return self._desk.page(
            visit,
            "gateway_remove",
            {
                "name": gateway.name,
                "online": online,
                "reason": visit.fields.get("reason", "")[:REASON_LONGEST],
                "reason_longest": REASON_LONGEST,
                "longest": LONGEST,
                "wrong": _wrong(error),
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def remove(self, visit: Visit) -> Response:
        """POST: forget it, once its name is typed."""
        gateway = self._found(visit)
        typed = _typed(visit, ("confirm", "reason"))
        try:
            if typed["confirm"].casefold() != gateway.name.casefold():
                raise DeskError("gateways.confirm", name=gateway.name)
            reason = _reason(typed["reason"])
            await self._admin.remove_gateway(gateway.name, by=visit.operator.name, reason=reason)
        except DeskError as error:
            return self._ask_remove(visit, gateway, error)
        return self._desk.go(HOME, notice="gateways.removed", name=gateway.name)


def _typed(visit: Visit, names: Sequence[str]) -> dict[str, str]:
    return {name: " ".join(visit.fields.get(name, "").split())[:253] for name in names}


def _reason(text: str) -> str:
    if not text:
        raise DeskError("gateways.reason")
    if len(text) > REASON_LONGEST:
        raise DeskError("gateways.reason_long", most=REASON_LONGEST)
    return text


def _wrong(error: DeskError | None) -> str | None:
    """The field an error is about."""
    if error is None:
        return None
    if error.key == "gateways.interface":
        return str(error.values["option"]).removeprefix("--").replace("-", "_")
    return _FIELD_OF.get(error.key)


def _state(visit: Visit, look: GatewayLook) -> dict[str, str]:
    """How a gateway stands: sign and words."""
    t = visit.t
    if look.state == HEARD:
        at = t.moment(look.heard_at or visit.now, visit.now, visit.zone)
        return {"sign": "ok", "state": t("gateways.state_heard", at=at)}
    if look.state == ANSWERS:
        return {"sign": "ok", "state": t("gateways.state_answers")}
    if look.state == WAITING:
        return {"sign": "low", "state": t("gateways.state_waiting")}
    if look.heard_at is None:
        return {"sign": "bad", "state": t("gateways.state_never")}
    at = t.moment(look.heard_at, visit.now, visit.zone)
    return {"sign": "bad", "state": t("gateways.state_silent", at=at)}


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of gateways."""
    return GatewayPages(desk, house.admin, house.settings, house.day_view, house.sessions).pages()
