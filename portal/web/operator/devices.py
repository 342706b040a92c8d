"""Devices at the desk: those that need no card, and phones that may not come in.

Reviewers see of a blocked phone only the end of its number: it is somebody's.
"""

from typing import Any

from starlette.responses import Response

from portal.admin import Admin
from portal.cards.finding import REASON_LONGEST, reason_of
from portal.devices import KINDS, NAME_LONGEST, Devices, hidden_mac, shown_mac
from portal.errors import DeskError
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit, whole_number
from portal.web.operator.house import House
from radius.nas import canonical_mac

HOME = "/operator/devices"
ALARMS_S = (900, 1_800, 3_600, 10_800, 43_200, 86_400, 604_800)
"""How long a device may be silent, to choose from."""
CONFIRM_DIGITS = 2
BLOCKED_ON_PAGE = 30
_NEW = ("name", "mac", "profile", "kind", "alarm")
_BLOCK = ("block_mac", "reason")


class DevicePages:
    """The pages of devices."""

    def __init__(self, desk: Desk, admin: Admin, devices: Devices) -> None:
        self._desk = desk
        self._admin = admin
        self._devices = devices

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        known, blocked = HOME + "/known", HOME + "/blocked"
        return [
            Page(HOME, self.list, Need.SEE),
            Page(known, self.add, Need.WORK, ("POST",)),
            Page(known + "/{id}/remove", self.ask_remove, Need.WORK),
            Page(known + "/{id}/remove", self.remove, Need.WORK, ("POST",)),
            Page(blocked, self.block, Need.WORK, ("POST",)),
            Page(blocked + "/{mac}", self.ask_unblock, Need.WORK),
            Page(blocked + "/{mac}", self.unblock, Need.WORK, ("POST",)),
        ]

    async def list(self, visit: Visit) -> Response:
        """Known devices with when they were heard last, blocked phones, and the forms for more."""
        return self._list(visit, {})

    def _list(
        self, visit: Visit, typed: dict[str, str], error: DeskError | None = None
    ) -> Response:
        draft = {**dict.fromkeys((*_NEW, *_BLOCK), ""), "alarm": str(ALARMS_S[2]), **typed}
        blocked = self._devices.blocked(visit.site.id)
        page = max(
            1, min(whole_number(visit.query.get("page")) or 1, -(-len(blocked) // BLOCKED_ON_PAGE))
        )
        shown = blocked[(page - 1) * BLOCKED_ON_PAGE : page * BLOCKED_ON_PAGE]
        return self._desk.page(
            visit,
            "devices",
            {
                "known": [self._line(visit, one) for one in self._devices.known(visit.site.id)],
                "blocked": [self._blocked_line(visit, one) for one in shown],
                "blocked_count": len(blocked),
                "page": page,
                "has_next": page * BLOCKED_ON_PAGE < len(blocked),
                "profiles": sorted(self._admin.profiles_by_name),
                "kinds": KINDS,
                "alarms": [
                    {"seconds": str(seconds), "words": visit.t.duration(seconds)}
                    for seconds in ALARMS_S
                ],
                "draft": draft,
                "wrong": _wrong_field(error, is_block="block_mac" in typed),
                "name_longest": NAME_LONGEST,
                "reason_longest": REASON_LONGEST,
            },
            status=200 if error is None else 400,
            error=error,
        )

    def _line(self, visit: Visit, one: dict[str, Any]) -> dict[str, Any]:
        t, heard_at = visit.t, one["last_heard_at"]
        heard = None if heard_at is None else t.moment(heard_at, visit.now, visit.zone)
        if one["is_silent"]:
            since = heard_at or one["added_at"]
            silent = t.duration(max(visit.now - since, 60))
            kind, state = "bad", t("devices.silent", silent=silent)
        elif one["is_online"]:
            kind, state = "ok", t("devices.online")
        elif heard is None:
            kind, state = "low", t("devices.never")
        else:
            kind, state = "low", t("devices.offline")
        alarm_s = one["alarm_after_s"]
        return {
            "id": one["id"],
            "name": one["name"],
            "mac": shown_mac(one["mac"]),
            "profile": one["profile"],
            "kind": t(f"devices.kind_{one['kind']}"),
            "heard": heard,
            "alarm": t("devices.no_alarm") if alarm_s is None else t.duration(alarm_s),
            "sign": kind,
            "state": state,
            "used": t.octets(one["octets_used"]),
        }

    def _blocked_line(self, visit: Visit, one: dict[str, Any]) -> dict[str, Any]:
        return {
            "mac": (shown_mac if visit.may(Need.WORK) else hidden_mac)(one["mac"]),
            "bare": one["mac"],
            "reason": one["reason"],
            "by": one["blocked_by"],
            "when": visit.t.moment(one["blocked_at"], visit.now, visit.zone),
        }

    # -- known devices ---------------------------------------------------------------------

    async def add(self, visit: Visit) -> Response:
        """POST: a device that needs no card; what was typed stays when something is wrong."""
        typed = {name: visit.fields.get(name, "").strip()[:100] for name in _NEW}
        alarm = whole_number(typed["alarm"])
        try:
            if not typed["profile"]:
                raise DeskError("devices_page.no_profile")
            added = await self._devices.add_known(
                typed["name"],
                typed["mac"],
                typed["profile"],
                typed["kind"],
                alarm or None,
                visit.site.code,
                by=visit.operator.name,
            )
        except DeskError as error:
            return self._list(visit, typed, error)
        return self._desk.go(HOME, notice="devices.added", name=added["name"])

    def _known(self, visit: Visit) -> dict[str, Any]:
        wanted = whole_number(visit.request.path_params["id"])
        for one in self._devices.known():
            if one["id"] == wanted:
                visit.require_site(self._admin.site(one["site"]).id)
                return one
        raise NotHere

    async def ask_remove(self, visit: Visit) -> Response:
        """What removing means, and the form that does it."""
        return self._ask_remove(visit, self._known(visit))

    def _ask_remove(
        self, visit: Visit, one: dict[str, Any], error: DeskError | None = None
    ) -> Response:
        return self._desk.page(
            visit,
            "device_remove",
            {
                "one": one,
                "mac": shown_mac(one["mac"]),
                "reason": visit.fields.get("reason", "")[:REASON_LONGEST],
                "reason_longest": REASON_LONGEST,
                "is_wrong_digits": error is not None and error.key == "devices_page.digits",
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def remove(self, visit: Visit) -> Response:
        """POST: remove it, once the end of its number is typed."""
        one = self._known(visit)
        try:
            _check_end(visit, one["mac"])
            await self._devices.remove_known(
                one["id"], visit.fields.get("reason", ""), by=visit.operator.name
            )
        except DeskError as error:
            return self._ask_remove(visit, one, error)
        return self._desk.go(HOME, notice="devices.removed", name=one["name"])

    # -- blocked phones --------------------------------------------------------------------

    async def block(self, visit: Visit) -> Response:
        """POST: keep a phone out of this site."""
        typed = {name: visit.fields.get(name, "").strip()[:250] for name in _BLOCK}
        try:
            one = await self._devices.block(
                typed["block_mac"], visit.site.id, typed["reason"], by=visit.operator.name
            )
        except DeskError as error:
            return self._list(visit, typed, error)
        # It stands in an address, which browsers remember.
        return self._desk.go(HOME, notice="devices.blocked", mac=hidden_mac(one["mac"]))

    def _blocked(self, visit: Visit) -> dict[str, Any]:
        mac = canonical_mac(visit.request.path_params["mac"])
        for one in self._devices.blocked(visit.site.id):
            if one["mac"] == mac:
                return one
        raise NotHere

    async def ask_unblock(self, visit: Visit) -> Response:
        """Why it was blocked, and the form that lets it in again."""
        return self._ask_unblock(visit, self._blocked(visit))

    def _ask_unblock(
        self, visit: Visit, one: dict[str, Any], error: DeskError | None = None
    ) -> Response:
        return self._desk.page(
            visit,
            "device_unblock",
            {
                "line": self._blocked_line(visit, one),
                "reason": visit.fields.get("reason", "")[:REASON_LONGEST],
                "reason_longest": REASON_LONGEST,
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def unblock(self, visit: Visit) -> Response:
        """POST: let it in again, for a reason."""
        one = self._blocked(visit)
        try:
            reason = reason_of(visit.fields.get("reason", ""))
            await self._devices.unblock(one["mac"], visit.site.id, reason, by=visit.operator.name)
        except DeskError as error:
            return self._ask_unblock(visit, one, error)
        return self._desk.go(HOME, notice="devices.unblocked", mac=hidden_mac(one["mac"]))


def _check_end(visit: Visit, mac: str) -> None:
    """Raise DeskError unless the last two characters of the device's number were typed."""
    typed = visit.fields.get("digits", "").strip().lower()
    if typed != mac[-CONFIRM_DIGITS:]:
        raise DeskError("devices_page.digits", mac=shown_mac(mac))


_FIELD_OF = {
    "devices.name": "name",
    "devices.name_taken": "name",
    "devices.mac": "mac",
    "devices.known_already": "mac",
    "devices.known_blocked": "mac",
    "devices.kind": "kind",
    "devices.alarm": "alarm",
    "devices_page.no_profile": "profile",
    "cards.unknown_profile": "profile",
    "cards.reason_missing": "reason",
    "cards.reason_long": "reason",
}


def _wrong_field(error: DeskError | None, *, is_block: bool) -> str | None:
    """The field an error is about, of the form it came from."""
    if error is None:
        return None
    field = _FIELD_OF.get(error.key)
    return field if not is_block or field == "reason" else "block_mac"


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of devices."""
    return DevicePages(desk, house.admin, house.devices).pages()
