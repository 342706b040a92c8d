"""Help: the ten commonest situations, each with steps and a way to where they are done.

All of it stands in this program: the page opens when everything else is down.
"""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from portal.web.operator.desk import Desk, Need, Page, Visit
from portal.web.operator.house import House

HELP = "/operator/help"

# Each situation: its anchor, how many steps it has, and where they are done.
_SITUATIONS: tuple[tuple[str, int, tuple[tuple[str, str], ...]], ...] = (
    ("card", 5, (("/operator/cards", "help.to_cards"),)),
    (
        "internet",
        5,
        (("/operator/", "help.to_home"), ("/operator/announcements", "help.to_announcements")),
    ),
    ("phone", 5, (("/operator/cards", "help.to_cards"),)),
    ("lost", 4, (("/operator/cards", "help.to_cards"),)),
    ("page", 4, (("/operator/", "help.to_home"),)),
    (
        "printer",
        5,
        (("/operator/batches", "help.to_batches"), ("/operator/give", "help.to_give")),
    ),
    ("slow", 5, (("/operator/online?sort=data", "help.to_online"),)),
    ("power", 5, (("/operator/", "help.to_home"), ("/operator/site", "help.to_site"))),
    ("used_up", 4, (("/operator/cards", "help.to_cards"), ("/operator/give", "help.to_give"))),
    (
        "blocked",
        4,
        (("/operator/devices", "help.to_devices"), ("/operator/give", "help.to_give")),
    ),
)


def pages(desk: Desk, house: House) -> list[Page]:
    """Every address of these pages."""
    has_probes = bool(house.settings.backhaul.probes)
    return HelpPages(desk, house.portal_url, counts_outages=has_probes).pages()


class HelpPages:
    """The help page."""

    def __init__(self, desk: Desk, portal_url: Callable[[], str], *, counts_outages: bool) -> None:
        """`counts_outages`: whether the box can tell that the link is down, so that time stops."""
        self._desk = desk
        self._portal_url = portal_url
        self._counts_outages = counts_outages

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [Page(HELP, self.help, Need.SEE)]

    async def help(self, visit: Visit) -> Response:
        """All situations, with a list of them first."""
        return self._desk.page(
            visit,
            "help",
            {
                "situations": [
                    self._situation(visit, name, steps, ways) for name, steps, ways in _SITUATIONS
                ]
            },
        )

    def _situation(
        self, visit: Visit, name: str, steps: int, ways: tuple[tuple[str, str], ...]
    ) -> dict[str, Any]:
        t = visit.t
        if name == "internet" and self._counts_outages:
            # A promise only where it is kept: without probes the box cannot tell, and time runs.
            steps += 1
        return {
            "anchor": name,
            "title": t(f"help.{name}"),
            "steps": [t(f"help.{name}_{n}", url=self._portal_url()) for n in range(1, steps + 1)],
            "ways": [
                {"href": href, "text": t(text)}
                for href, text in ways
                if self._desk.may_open(visit, href)
            ],
        }
