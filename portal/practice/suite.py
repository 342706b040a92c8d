"""The dialect suite: every family's habits played against a real node over real UDP and HTTP.

`pesisir gateway suite` makes a node of its own in a directory of its own, with one gateway of each
family at a loopback address, and lets each play the cases of portal/practice/cases.py. A case says
what the node must know in the end, to the octet and the second; the table says which families hold.
The node's clock can be moved on, so that hours take no time. Touches nobody's data.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from portal import directories, settings
from portal.errors import UserError
from portal.node import Node
from portal.node_clock import Clocks
from portal.practice.dialects import DIALECTS, Dialect, Door, Station
from portal.practice.played import PlayedGateway, without_gigawords
from portal.serve import Service, real_clocks

LOOK_EVERY_S = 0.02
WAIT_S = 5.0
UAM_SECRET = "kunci-uam-suite-0123456789"

PROFILES: Mapping[str, Mapping[str, str]] = {
    "luas": {
        "data_total": "100GB",
        "time_total": "1000h",
        "rate_down": "2M",
        "rate_up": "512k",
        "idle": "15m",
        "interim": "5m",
    },
    "pendek": {"time_total": "2h", "idle": "15m", "interim": "5m"},
    "waktu": {
        "time_total": "1000h",
        "rate_down": "2M",
        "rate_up": "512k",
        "idle": "15m",
        "interim": "5m",
    },
}
"""The cards of the suite: with data and time, with little time, and with time alone."""


class Missed(AssertionError):
    """The node does not know what it must; the text says what it knows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case at one family."""

    case: str
    family: str
    outcome: str
    """`pass`, `fail`, or `none`: this family has no such habit."""
    detail: str = ""
    """What failed, or why the family is left out."""


@dataclass(slots=True)
class Page:
    """A page as a phone's browser got it."""

    status: int
    url: str
    text: str
    location: str | None


class _Form(HTMLParser):
    """The hidden fields of the form that has the code."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.action = ""
        self._in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "form" and (known.get("method") or "").lower() == "post":
            self.action = known.get("action") or ""
            self._in_form = True
        elif tag == "input" and self._in_form and known.get("name"):
            self.fields[str(known["name"])] = known.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False


@dataclass(slots=True)
class World:
    """A node with all gateways, and its time."""

    node: Node
    service: Service
    portal_url: str
    gateways: dict[str, PlayedGateway]
    """By family."""
    old: dict[str, PlayedGateway]
    """The same makes without Gigawords."""
    started_at: float
    phones: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    shift_s: float = 0.0

    def now(self) -> int:
        """The node's time, epoch seconds UTC."""
        return int(self.started_at + self.shift_s)

    async def sleep(self, seconds: float) -> None:
        """Let time pass at the node and the gateways."""
        self.shift_s += seconds

    def station(self) -> Station:
        """A new phone."""
        number = next(self.phones)
        return Station(f"02c0ffee{number:04x}", f"10.77.{number // 250}.{number % 250 + 2}", number)

    async def card(self, profile: str) -> tuple[str, str]:
        """A new card: its code and serial."""
        made = await self.node.vouchers.issue(profile)
        card = made["vouchers"][0]
        return card["code"], card["serial"]

    def door(self, family: str) -> Door:
        """The family's gateway as it meets the portal."""
        gateway = self.gateways[family]
        return Door(
            gateway.dialect,
            gateway.place.nas_ip,
            gateway.place.nas_id,
            UAM_SECRET,
            self.portal_url + "/",
        )

    # -- what the node knows ---------------------------------------------------------------

    async def expect(self, serial: str, **wanted: int) -> None:
        """See that the card has used exactly this; raises `Missed` after a while."""
        await self._wait(lambda: self._figures(serial), wanted)

    async def _figures(self, serial: str) -> dict[str, Any]:
        return self.node.vouchers.show(serial)

    async def expect_session(self, serial: str, **wanted: object) -> None:
        """See that the card's newest session is exactly so."""
        await self._wait(lambda: self._session(serial), wanted)

    async def _session(self, serial: str) -> dict[str, Any]:
        listed = await self.node.history.listed(serial=serial)
        return listed[0] if listed else {}

    async def sessions(self, serial: str) -> list[dict[str, Any]]:
        """The card's sessions, newest first."""
        return await self.node.history.listed(serial=serial)

    async def expect_told(self, look: Callable[[], dict[str, Any]], **wanted: object) -> None:
        """See that a gateway has been told exactly this; raises `Missed` after a while."""

        async def looked() -> dict[str, Any]:
            return look()

        await self._wait(looked, wanted)

    async def _wait(
        self, look: Callable[[], Awaitable[dict[str, Any]]], wanted: Mapping[str, object]
    ) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            found = await look()
            seen = {name: found.get(name) for name in wanted}
            if seen == wanted:
                return
            if time.monotonic() > deadline:
                raise Missed(f"expected {_shown(wanted)}, seen {_shown(seen)}")
            await asyncio.sleep(LOOK_EVERY_S)

    # -- a phone's browser -----------------------------------------------------------------

    async def get(self, url: str) -> Page:
        """GET an address of the portal, following redirects within it."""
        for _ in range(5):
            page = await asyncio.to_thread(_request, "GET", url, None)
            target = page.location
            if target is None or not target.startswith(self.portal_url):
                return page
            url = target
        raise Missed(f"the portal redirects in circles: {url}")

    async def type_code(self, page: Page, code: str) -> Page:
        """Fill in the form of a page and press its button."""
        form = _Form()
        form.feed(page.text)
        if "kode" not in form.fields:
            raise Missed(f"no form on the page (status {page.status})")
        form.fields["kode"] = code
        url = urljoin(page.url, form.action)
        return await asyncio.to_thread(_request, "POST", url, urlencode(form.fields))


def _request(method: str, url: str, body: str | None) -> Page:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=WAIT_S)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        location = answer.getheader("location")
        return Page(answer.status, url, text, None if location is None else urljoin(url, location))
    finally:
        connection.close()


def _shown(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


# -- running -------------------------------------------------------------------------------


async def run(families: Sequence[str] = (), cases: Sequence[str] = ()) -> list[Outcome]:
    """Play the cases, all of them at all families unless named; the outcomes in table order.

    Raises UserError when this machine lets no gateway stand at its loopback address, and for a
    name there is not.
    """
    from portal.practice.cases import CASES

    for name in families:
        if name not in DIALECTS:
            raise UserError(f"The family is {name!r}; expected one of {', '.join(DIALECTS)}.")
    chosen = [case for case in CASES if not cases or case.key in cases]
    wanted = [family for family in DIALECTS if not families or family in families]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="pesisir-suite-") as place:
        directory = Path(place) / "node"
        await asyncio.to_thread(_make, directory)
        world = await _open(directory)
        try:
            for case in chosen:
                outcomes += await case.play(world, wanted)
        finally:
            await _close(world)
    return outcomes


def _make(directory: Path) -> None:
    directories.make(
        directory,
        code="SUITE",
        name="Suite",
        zone="Asia/Makassar",
        admin="admin",
        values={
            "http.listen": "127.0.0.1:0",
            "http.operator_listen": "127.0.0.1:0",
            "radius.auth": "127.0.0.1:0",
            "radius.acct": "127.0.0.1:0",
        },
    )


async def _open(directory: Path) -> World:
    real = real_clocks()
    started_at, elapsed_s = float(int(real.system_at())), real.elapsed_s()
    worlds: list[World] = []

    def shifted(reading: float) -> Callable[[], float]:
        return lambda: reading + sum(world.shift_s for world in worlds)

    # The clocks stand still unless a case moves them, so that seconds can be told exactly.
    clocks = Clocks(shifted(started_at), shifted(elapsed_s), lambda: True)
    node = await Node.open(directory, settings.load(directory), clocks)
    service = Service(node)
    try:
        for name, limits in PROFILES.items():
            await node.admin.set_profile(name, limits)
        await service.start()
        host, port, _ = service.http_addresses[0]
        world = World(node, service, f"http://{host}:{port}", {}, {}, started_at)
        worlds.append(world)
        for number, dialect in enumerate(DIALECTS.values(), start=1):
            await _add(world, dialect, f"127.0.77.{number}", "", world.gateways)
            plain = without_gigawords(dialect)
            await _add(world, plain, f"127.0.78.{number}", "-old", world.old)
    except BaseException:
        await service.stop()
        await node.close()
        raise
    return world


async def _add(
    world: World,
    dialect: Dialect,
    address: str,
    suffix: str,
    gateways: dict[str, PlayedGateway],
) -> None:
    name = dialect.family + suffix
    entry = await world.node.admin.add_gateway(
        name,
        family=dialect.family,
        address=address,
        nas_id=f"suite-{name}",
        uam_secret=UAM_SECRET,
    )
    gateway = PlayedGateway(
        dialect,
        address=address,
        nas_id=f"suite-{name}",
        secret=entry.secret,
        auth=_pair(world.service.radius.auth_addresses[0]),
        acct=_pair(world.service.radius.acct_addresses[0]),
        now=world.now,
    )
    try:
        await gateway.start()
    except OSError as error:
        raise UserError(
            f"No gateway can stand at {address} on this machine ({error.strerror}); expected a"
            " Linux with the whole of 127.0.0.0/8 on its loopback and UDP port 3799 free there."
        ) from error
    gateways[dialect.family] = gateway


def _pair(address: tuple[Any, ...]) -> tuple[str, int]:
    return str(address[0]), int(address[1])


async def _close(world: World) -> None:
    for gateway in (*world.gateways.values(), *world.old.values()):
        await gateway.stop()
    await world.service.stop()
    await world.node.close()


# -- the table -----------------------------------------------------------------------------

_MARKS = {"pass": "pass", "fail": "FAIL", "none": "-"}


def table_of(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one row a case, one column a family."""
    families = list(dict.fromkeys(outcome.family for outcome in outcomes))
    by_case: dict[str, dict[str, str]] = {}
    for outcome in outcomes:
        by_case.setdefault(outcome.case, {})[outcome.family] = _MARKS[outcome.outcome]
    rows = [
        [case, *(marks.get(family, "") for family in families)] for case, marks in by_case.items()
    ]
    return ["HABIT", *(family.upper() for family in families)], rows
