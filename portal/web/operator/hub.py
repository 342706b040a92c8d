"""The office's computer at the desk: how the node stands with its hub, "send now", watching."""

from typing import Any

from starlette.responses import Response

from portal.sync.exchanges import Sync
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.text import Translator

HOME = "/operator/hub"
_KINDS = {
    "well": "ok",
    "new": "none",
    "none": "none",
    "pending": "low",
    "late": "low",
    "refused": "low",
}
_DOCUMENTS = ("profiles", "announcements", "blocked", "settings", "reset")


class HubPages:
    """The page about the hub."""

    def __init__(self, desk: Desk, sync: Sync) -> None:
        self._desk = desk
        self._sync = sync

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.show, Need.SEE),
            Page(HOME, self.act, Need.WORK, ("POST",)),
        ]

    async def show(self, visit: Visit) -> Response:
        """How the node stands with the hub."""
        t, found = visit.t, self._sync.status()
        told, watched = found["exchanged_at"], found["watch_until_at"]
        return self._desk.page(
            visit,
            "hub",
            {
                "kind": _KINDS.get(found["standing"], "bad"),
                "state": t(f"hub.{found['standing']}"),
                "do": t(f"hub.{found['standing']}_do"),
                "is_enrolled": found["standing"] != "none",
                "is_running": found["running"],
                "told": None if told is None else t.moment(told, visit.now, visit.zone),
                "waiting": found["waiting"],
                "watched": None if watched is None else t.moment(watched, visit.now, visit.zone),
                "documents": [_line(visit, one) for one in found["documents"]],
            },
        )

    async def act(self, visit: Visit) -> Response:
        """POST: exchange now; begin or end watching."""
        match visit.fields.get("what"):
            case "now":
                self._sync.soon()
                return self._desk.go(HOME, notice="hub.asked")
            case "watch":
                await self._sync.watch(True)
                return self._desk.go(HOME, notice="hub.watching")
            case "rest":
                await self._sync.watch(False)
                return self._desk.go(HOME, notice="hub.resting")
            case _:
                raise NotHere


def _line(visit: Visit, one: dict[str, Any]) -> dict[str, str]:
    t = visit.t
    kind = {"applied": "ok", "waiting": "low"}.get(one["state"], "bad")
    return {
        "kind": kind,
        "name": t(f"hub.document_{one['name']}"),
        "scope": _scope(t, one["scope"]),
        "state": t(f"hub.document_{one['state']}", at=t.moment(one["at"], visit.now, visit.zone)),
    }


def _scope(t: Translator, scope: str) -> str:
    """Whom a document is for; of each kind there may be one for all and narrower ones."""
    kind, _, name = scope.partition(" ")
    return t(f"hub.scope_{kind}", name=name)


def pages(desk: Desk, house: House) -> list[Page]:
    """The page about the hub."""
    return HubPages(desk, house.hub.sync).pages()
