"""App: the desk's web application, built once from the pages of every module here."""

import logging
import traceback
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.web.operator import (
    audit_page,
    cards,
    complaints,
    devices,
    gateway_actions,
    gateway_doctor,
    gateways,
    home,
    hub,
    notices,
    online,
    people,
    sheets,
    signin,
    site,
)
from portal.web.operator import help as help_page
from portal.web.operator.desk import HOME, VILLAGE, Desk, Page
from portal.web.operator.house import House
from portal.web.operator.signins import SignIns
from portal.web.pages import installed, redirect, without_codes
from portal.web.resident import help_number
from portal.web.text import Texts

log = logging.getLogger(__name__)

MODULES: Sequence[Callable[[Desk, House], list[Page]]] = (
    home.pages,
    cards.pages,
    sheets.pages,
    online.pages,
    complaints.pages,
    notices.pages,
    devices.pages,
    site.pages,
    gateways.pages,
    gateway_doctor.pages,
    gateway_actions.pages,
    help_page.pages,
    hub.pages,
    people.pages,
    audit_page.pages,
)
"""What each page module exports: `def pages(desk, house) -> list[Page]`."""


class DeskApp:
    """The desk as an ASGI application, and its parts for those who look inside."""

    def __init__(self, house: House, texts: Texts, *, random_token: Callable[[int], str]) -> None:
        """Compile the templates and make the routes; raises errors of Pages and of Desk.routes."""
        self.desk = Desk(
            admin=house.admin,
            operators=house.operators,
            sign_ins=SignIns(house.operators, elapsed_s=house.elapsed_s, random_token=random_token),
            pages=installed("operator"),
            texts=texts,
            http=house.settings.http,
            now=house.now,
            elapsed_s=house.elapsed_s,
            random_token=random_token,
            secret=house.keys.web_key,
        )
        door = signin.Door(self.desk, secret=house.keys.web_key, random_token=random_token)
        self.pages: list[Page] = door.pages()
        for module in MODULES:
            self.pages += module(self.desk, house)
        self.application = Starlette(
            routes=[
                Route("/", self._to_desk),
                Route("/operator", self._to_desk),
                *door.routes(),
                *self.desk.routes(self.pages),
            ],
            middleware=[Middleware(Guard, desk_app=self)],
            exception_handlers={HTTPException: self._refused},
        )
        self.application.router.redirect_slashes = False

    def gate(self, is_open: Callable[[Request], bool]) -> "Gate":
        """The application as a listener serves it that may not be open to everybody."""
        return Gate(self, is_open)

    def closed(self, request: Request) -> Response:
        """Says that the desk is not open here."""
        return self._bare(request, "closed", 404, home="/")

    def fault(self, request: Request, number: str) -> Response:
        """Says that something is wrong on our side, with the number the log has too."""
        return self._bare(request, "fault", 500, number=number)

    async def _to_desk(self, request: Request) -> Response:
        return redirect(HOME)

    async def _refused(self, request: Request, error: Exception) -> Response:
        """No such page, or none that takes this method."""
        assert isinstance(error, HTTPException)
        reason = "not_here" if error.status_code in (404, 405) else "unusable"
        return self._bare(request, reason, error.status_code)

    def _bare(
        self, request: Request, reason: str, status: int, *, home: str = HOME, **values: str
    ) -> Response:
        """A page that needs no sign-in and says only why there is nothing here."""
        t = self.desk.texts.translator(request.cookies.get(VILLAGE.language_cookie))
        return self.desk.bare(
            request,
            t,
            "plain",
            {"title": t(f"plain.{reason}"), "error": t(f"error.{reason}", **values)},
            status,
            home=home,
        )


class Guard:
    """Turns an error of ours into a page with a number that the log has too."""

    def __init__(self, app: ASGIApp, desk_app: DeskApp) -> None:
        self._app = app
        self._desk_app = desk_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; an exception before the first octet becomes a page."""
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
            if is_started:
                raise
            await self._desk_app.fault(Request(scope), number)(scope, receive, send)


class Gate:
    """The desk at listeners: open or closed, by what `is_open` says of each request."""

    def __init__(self, desk_app: DeskApp, is_open: Callable[[Request], bool]) -> None:
        self._desk_app = desk_app
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or say that the desk is not open here."""
        request = Request(scope)
        if self._is_open(request):
            await self._desk_app.application(scope, receive, send)
        else:
            await self._desk_app.closed(request)(scope, receive, send)
