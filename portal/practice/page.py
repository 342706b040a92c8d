"""The practice gateway's HTTP face: UAM paths, captive probes and the page with the phones.

Every phone has a port of its own, as if each had its own cable: one browser can then play several
phones at once, without cookies. `/` is the page for the person who tries; everything else is what a
phone behind a CoovaChilli would meet. A request for a foreign host (the port used as an HTTP proxy)
is the phone's traffic too. Decisions are the gateway's (portal/practice/gateway.py).

One difference from CoovaChilli: an unreadable /logon gets a 400 with the reason, where the real one
closes the connection without a word.
"""

import asyncio
import json
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from portal.practice.phone import Phone
from portal.practice.uam import UamError
from portal.resources import data_dir
from portal.web.text import installed

if TYPE_CHECKING:
    from portal.practice.gateway import PracticeGateway

# What a phone asks first of all, and so what most arrivals carry as userurl.
PROBE_URL = "http://connectivitycheck.gstatic.com/generate_204"
# The answers that tell a phone it is online: status, type, body.
PROBES = {
    "/generate_204": (204, "text/plain", ""),
    "/gen_204": (204, "text/plain", ""),
    "/hotspot-detect.html": (
        200,
        "text/html",
        "<HTML><HEAD><TITLE>Success</TITLE></HEAD><BODY>Success</BODY></HTML>",
    ),
    "/library/test/success.html": (
        200,
        "text/html",
        "<HTML><HEAD><TITLE>Success</TITLE></HEAD><BODY>Success</BODY></HTML>",
    ),
    "/connecttest.txt": (200, "text/plain", "Microsoft Connect Test"),
    "/ncsi.txt": (200, "text/plain", "Microsoft NCSI"),
    "/success.txt": (200, "text/plain", "success\n"),
    "/check_network_status.txt": (200, "text/plain", "NetworkManager is online\n"),
}
_MB = 10**6
DOWNLOADS = {"download-1": _MB, "download-10": 10 * _MB, "download-100": 100 * _MB}
SKIP_S = 600


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the process that the gateway is only a part of.
        yield


class PageServer:
    """Listens for one gateway: the main port for the page and the first phone, one for each other
    phone."""

    def __init__(self, gateway: "PracticeGateway") -> None:
        self._gateway = gateway
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve; sets the gateway's port and its phones'. Raises OSError when the main
        port is taken; a phone whose port is taken gets a free one."""
        gateway = self._gateway
        sockets = [_bind(gateway.host, gateway.port)]
        wanted = gateway.port
        gateway.port = sockets[0].getsockname()[1]
        for phone in gateway.phones:
            phone.port = gateway.port
        for phone in gateway.phones[1:]:
            try:
                taken = _bind(gateway.host, wanted and wanted + phone.number - 1)
            except OSError:
                taken = _bind(gateway.host, 0)
            sockets.append(taken)
            phone.port = taken.getsockname()[1]
        config = uvicorn.Config(
            build_app(gateway),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=sockets))
        await self._server.is_up.wait()

    async def stop(self) -> None:
        """Close the ports; a request under way has 2 s."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def build_app(gateway: "PracticeGateway") -> ASGIApp:
    """The ASGI application: the gateway's own paths, or the phone's traffic to anywhere else."""
    pages = _Pages(gateway)
    own = Starlette(
        routes=[
            Route("/", pages.home),
            Route("/logon", pages.logon),
            Route("/login", pages.logon),
            Route("/logoff", pages.logoff),
            Route("/prelogin", pages.prelogin),
            Route("/status", pages.status),
            Route("/json/status", pages.status_json),
            Route("/phone/{number:int}/{action}", pages.act, methods=["POST"]),
            Route("/gateway/power-cut", pages.power_cut, methods=["POST"]),
            Route("/{path:path}", pages.internet),
        ]
    )
    foreign = Starlette(routes=[Route("/{path:path}", pages.internet)])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        port = scope["server"][1]
        is_own = host in ("", f"{gateway.host}:{port}", f"localhost:{port}")
        await (own if is_own else foreign)(scope, receive, send)

    return app


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_dir("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Pages:
    def __init__(self, gateway: "PracticeGateway") -> None:
        self._gateway = gateway
        self._texts = installed()
        self._templates = _environment()

    def _phone(self, request: Request) -> Phone:
        port = request.scope["server"][1]
        phones = self._gateway.phones
        return next((phone for phone in phones if phone.port == port), phones[0])

    # What a phone meets

    async def internet(self, request: Request) -> Response:
        """The phone opens something on the internet; offline, it is caught."""
        phone = self._phone(request)
        await self._gateway.connect(phone)
        path = request.url.path
        if phone.session is None:
            return _redirect(self._gateway.arrival_url(phone, _user_url(request)))
        if path in PROBES:
            status, media_type, body = PROBES[path]
            return Response(body, status, _HEADERS, media_type)
        return self._render(request, "practice/internet.html", phone=phone)

    async def logon(self, request: Request) -> Response:
        try:
            return _redirect(await self._gateway.logon(self._phone(request), _query(request)))
        except UamError as error:
            return PlainTextResponse(f"{error}\n", 400, _HEADERS)

    async def logoff(self, request: Request) -> Response:
        return _redirect(await self._gateway.logoff(self._phone(request)))

    async def prelogin(self, request: Request) -> Response:
        return _redirect(self._gateway.prelogin(self._phone(request), _query(request)))

    async def status(self, request: Request) -> Response:
        return _redirect(self._gateway.status_url(self._phone(request)))

    async def status_json(self, request: Request) -> Response:
        text = json.dumps(self._gateway.status_json(self._phone(request)))
        callback = request.query_params.get("callback", "")
        if re.fullmatch(r"[A-Za-z_$][\w$.]*", callback):
            text = f"{callback}({text})"
        return Response(text, 200, _HEADERS, "text/javascript")

    # The page of the person who tries

    async def home(self, request: Request) -> Response:
        gateway = self._gateway
        now = gateway.clock()
        return self._render(
            request,
            "practice/gateway.html",
            phones=[_view(gateway, phone, now) for phone in gateway.phones],
            notes=list(reversed(gateway.notes)),
        )

    async def act(self, request: Request) -> Response:
        """A button of one phone."""
        gateway = self._gateway
        number = request.path_params["number"]
        action = request.path_params["action"]
        if _is_foreign(request):
            return PlainTextResponse("expected a form of this page\n", 403, _HEADERS)
        if not 1 <= number <= len(gateway.phones):
            return PlainTextResponse(f"no phone {number}\n", 404, _HEADERS)
        phone = gateway.phones[number - 1]
        match action:
            case "wake":
                await gateway.wake_phone(phone)
            case "sleep":
                await gateway.sleep_phone(phone)
            case "skip":
                await gateway.skip(phone, SKIP_S)
            case "interim":
                await gateway.interim(phone)
            case "upload-1":
                await gateway.upload(phone, _MB)
            case _ if action in DOWNLOADS:
                await gateway.download(phone, DOWNLOADS[action])
            case _:
                return PlainTextResponse(f"no action {action!r}\n", 404, _HEADERS)
        return _back(request, f"hp-{number}")

    async def power_cut(self, request: Request) -> Response:
        """The button that takes the gateway's power away."""
        if _is_foreign(request):
            return PlainTextResponse("expected a form of this page\n", 403, _HEADERS)
        await self._gateway.power_cut()
        return _back(request, "gateway")

    def _render(self, request: Request, name: str, **values: Any) -> Response:
        gateway = self._gateway
        language = "en" if request.query_params.get("lang") == "en" else "id"
        zone = ZoneInfo(gateway.zone)
        nonce = secrets.token_urlsafe(16)
        text = self._templates.get_template(name).render(
            lang=language,
            nonce=nonce,
            gateway=gateway,
            home=f"http://{gateway.host}:{gateway.port}/"
            + ("?lang=en" if language == "en" else ""),
            t=lambda indonesian, english: english if language == "en" else indonesian,
            words=self._texts.translator(language),
            clock=lambda at: datetime.fromtimestamp(at, zone).strftime("%H.%M.%S"),
            **values,
        )
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self';"
            " base-uri 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(text, 200, _HEADERS | {"Content-Security-Policy": policy})


_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",  # as CoovaChilli
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _redirect(url: str) -> Response:
    # A body, though nobody reads it: Android takes an empty answer for a dead network.
    return HTMLResponse("<!doctype html><title>WiFi</title>\n", 302, _HEADERS | {"Location": url})


def _back(request: Request, anchor: str) -> Response:
    language = "?lang=en" if request.query_params.get("lang") == "en" else ""
    return HTMLResponse("", 303, _HEADERS | {"Location": f"/{language}#{anchor}"})


def _is_foreign(request: Request) -> bool:
    """Whether another site's page sent this form."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _query(request: Request) -> str:
    text: bytes = request.scope["query_string"]
    return text.decode("latin-1")


def _user_url(request: Request) -> str:
    if request.url.path == "/internet":
        return PROBE_URL
    query = f"?{request.url.query}" if request.url.query else ""
    return f"http://{request.headers.get('host', '')}{request.url.path}{query}"


def _view(gateway: "PracticeGateway", phone: Phone, now: float) -> dict[str, Any]:
    """What the page shows of one phone."""
    session = phone.session
    state = "online" if session else "offline" if phone.is_joined else "asleep"
    base = f"http://{gateway.host}:{phone.port}"
    return {
        "number": phone.number,
        "name": phone.name,
        "mac": phone.calling_station_id,
        "ip": phone.ip,
        "state": state,
        "session": session,
        "seconds": session.time_s(now) if session else 0,
        "last_end": "" if session else phone.last_end,
        "last_user_name": phone.last_user_name,
        "last_octets": phone.last_octets,
        "last_time_s": phone.last_time_s,
        "internet_url": f"{base}/internet",
        "status_url": f"{base}/status",
        "logoff_url": f"{base}/logoff",
    }
