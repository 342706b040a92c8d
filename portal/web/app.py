"""App: the node's web application, built once from the parts it needs."""

import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.admin import Admin
from portal.captivity import Captivities
from portal.certificates import API_PATH
from portal.complaints import Complaints
from portal.door import Door
from portal.notices import Notices
from portal.opennds.bridge import Opennds
from portal.resources import data_dir
from portal.settings import Http
from portal.trace import Trace
from portal.web.api import Api
from portal.web.arrivals import code_in_path, query_of
from portal.web.complaints import ComplaintPages
from portal.web.forms import Seals
from portal.web.opennds import OpenndsDoor
from portal.web.pages import SECURITY_HEADERS, installed, redirect, without_codes
from portal.web.resident import Resident, help_number
from portal.web.screens import Screens
from portal.web.text import Texts
from portal.web.visit import BackhaulState, Reception
from radius.nas import Arrival, ArrivalError, family, family_names

log = logging.getLogger(__name__)

ANY_HOST = (API_PATH, "/healthz", "/metrics")
"""Answered whatever the Host: programs use whatever address they were given."""
PROBE_PATHS = frozenset(
    (
        "/generate_204",
        "/gen_204",
        "/hotspot-detect.html",
        "/library/test/success.html",
        "/connecttest.txt",
        "/redirect",
        "/ncsi.txt",
        "/success.txt",
        "/canonical.html",
        "/check_network_status.txt",
        "/nm",
        "/nm-check.txt",
        "/static/hotspot.txt",
        "/kindle-wifi/wifistub.html",
    )
)
"""What operating systems ask for to see whether they are online (radius-conformance B.3)."""


FOR_PROGRAMS = ("/gateway/",)
"""Paths of programs on gateways, answered whatever the Host."""
OTHER_FACES = ("/operator",)
"""Paths on which nothing is an arrival."""


def build(
    *,
    door: Door,
    captivities: Captivities,
    admin: Admin,
    backhaul: Callable[[], BackhaulState],
    http: Http,
    texts: Texts,
    now: Callable[[], int],
    secret: bytes,
    notices: Notices,
    complaints: Complaints,
    trace: Trace | None = None,
    opennds: Opennds | None = None,
    is_healthy: Callable[[], bool],
    registry: CollectorRegistry = REGISTRY,
    retention_days: int | None = None,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application for residents.

    `now` is the node's time in epoch seconds UTC; `secret` signs forms and links, at least 16
    octets that survive a restart; `retention_days` is after how many days personal parts are
    deleted, None says nothing about it; `routes` are those of other faces and come first.

    Serve it without an access log (paths hold codes) and without the server's own handling of
    X-Forwarded-For. Raises ValueError for a short secret, and errors of Pages and Texts.
    """
    seals = Seals(secret)
    reception = Reception(
        admin=admin,
        seals=seals,
        texts=texts,
        http=http,
        now=now,
        announcements=notices.running,
        trace=trace,
    )
    opennds_door = None if opennds is None else OpenndsDoor(opennds, seals)
    if opennds is not None:
        reception.vouches = opennds.vouches
    screens = Screens(
        reception=reception,
        pages=installed("resident"),
        seals=seals,
        backhaul=backhaul,
        retention_days=retention_days,
    )
    resident = Resident(
        door=door, reception=reception, screens=screens, seals=seals, captivities=captivities
    )
    told = ComplaintPages(complaints=complaints, door=door, reception=reception, screens=screens)
    api = Api(
        captivities=captivities, reception=reception, is_healthy=is_healthy, registry=registry
    )
    return Starlette(
        routes=[
            *routes,
            *(opennds_door.routes() if opennds_door is not None else ()),
            Route(API_PATH, api.captive_portal),
            Route("/healthz", api.health),
            Route("/metrics", api.metrics),
            Route("/", resident.home),
            Route("/robots.txt", robots),
            Route("/login", resident.home),
            Route("/login", resident.log_in, methods=["POST"]),
            Route("/connected", resident.connected),
            Route("/status", resident.status),
            Route("/logout", resident.log_out_page),
            Route("/logout", resident.log_out, methods=["POST"]),
            Route("/complaint", told.form),
            Route("/complaint", told.send, methods=["POST"]),
            Route("/complaint/{number}", told.state),
            Route("/terms", resident.terms),
            Route("/privacy", resident.privacy),
            Route("/v/{code}", resident.prefilled),
            Route("/{code}", resident.prefilled),
        ],
        middleware=[
            Middleware(Guard, resident=resident),
            Middleware(
                FrontDoor,
                reception=reception,
                look_up=None if opennds_door is None else opennds_door.look_up,
            ),
        ],
        exception_handlers={HTTPException: resident.refused},
    )


async def robots(request: Request) -> Response:
    """`/robots.txt`: nothing here is for search engines."""
    return FileResponse(data_dir("static") / "robots.txt", headers=dict(SECURITY_HEADERS))


class FrontDoor:
    """Sends strangers to the right page: an arrival on any path is one, and what was meant for
    another host, or for a test of the phone's system, is led to the portal.
    """

    def __init__(
        self,
        app: ASGIApp,
        reception: Reception,
        look_up: Callable[[Arrival, str], Awaitable[None]] | None = None,
    ) -> None:
        """`look_up` is told of each arrival, and where it comes from, before it is answered."""
        self._app = app
        self._reception = reception
        self._look_up = look_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a redirect, or pass the request on."""
        if scope["type"] != "http" or scope["path"] in ANY_HOST:
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith(FOR_PROGRAMS):
            await self._app(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD") and not path.startswith(OTHER_FACES):
            query = query_of(scope["query_string"].decode("latin-1"))
            arrivals = _arrivals(query)
            if arrivals is not None:
                if self._look_up is not None:
                    for arrival in arrivals:
                        await self._look_up(arrival, self._reception.source(Request(scope)))
                # raw_path stays: the gateway's signature is over the address as it wrote it.
                await self._app({**scope, "path": "/"}, receive, send)
                return
        request = Request(scope)
        is_own = self._reception.is_own_host(request)
        if is_own and path not in PROBE_PATHS:
            await self._app(scope, receive, send)
            return
        trace = self._reception.trace
        if trace is not None and trace.is_on:
            host = request.headers.get("host", "")
            trace.probe(self._reception.source(request), host, path)
        code = code_in_path(path)
        url = self._reception.own_url(request) + ("/" if code is None else f"/{code}")
        await redirect(url, status=302, close=True)(scope, receive, send)


def _arrivals(query: dict[str, str]) -> list[Arrival] | None:
    """What the families read in a query; None if it is no gateway's redirect. One that must not be
    followed is an empty list: the page says so.
    """
    found: list[Arrival] | None = None
    for name in family_names():
        try:
            arrival = family(name).read_arrival(query, allow_loopback=True)
        except ArrivalError:
            found = found or []
            continue
        if arrival is not None:
            found = [*(found or []), arrival]
    return found


class Guard:
    """Turns an error of ours into a page with a number that the log has too."""

    def __init__(self, app: ASGIApp, resident: Resident) -> None:
        self._app = app
        self._resident = resident

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; an exception before the first octet becomes a page, and a log line."""
        is_started = False

        async def noting_send(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception:
            number = help_number()
            log.error("%s: a page failed\n%s", number, without_codes(traceback.format_exc()))
            if scope["type"] != "http" or is_started:
                raise
            try:
                response = self._resident.fault(Request(scope), number)
            except Exception:
                log.exception("%s: the page about it failed too", number)
                response = PlainTextResponse(
                    f"Maaf, ada gangguan di alat kami. Nomor bantuan: {number}\n",
                    500,
                    headers=dict(SECURITY_HEADERS),
                )
            await response(scope, receive, send)
