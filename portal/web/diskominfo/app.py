"""App: the office's pages, built once from the modules here."""

import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from portal.hub.office import HubOffice
from portal.settings import Http
from portal.store.db.either import StoreUnavailableError
from portal.web.diskominfo import (
    alarms,
    audit,
    boxes,
    documents,
    me,
    people,
    site,
    sites,
    usage,
)
from portal.web.diskominfo.console import SITES, WAYS, Console, Module
from portal.web.operator.desk import Desk, Page
from portal.web.operator.signin import Door
from portal.web.operator.signins import SignIns
from portal.web.pages import Pages, redirect, without_codes
from portal.web.resident import help_number
from portal.web.text import Texts

log = logging.getLogger(__name__)

MODULES: Sequence[Module] = (
    sites.pages,
    site.pages,
    usage.pages,
    alarms.pages,
    boxes.pages,
    documents.pages,
    people.pages,
    audit.pages,
    me.pages,
)


class ReviewApp:
    """The office's pages as routes of the hub."""

    def __init__(
        self,
        office: HubOffice,
        texts: Texts,
        *,
        http: Http,
        secret: bytes,
        elapsed_s: Callable[[], float],
        random_token: Callable[[int], str],
    ) -> None:
        """Compile the templates; raises errors of Pages."""
        self.desk = Desk(
            admin=office.place,
            operators=office.people,
            sign_ins=SignIns(office.people, elapsed_s=elapsed_s, random_token=random_token),
            pages=Pages(face="diskominfo", like="operator"),
            texts=texts,
            http=http,
            now=office.now,
            elapsed_s=elapsed_s,
            random_token=random_token,
            secret=secret,
            ways=WAYS,
        )
        self._door = Door(self.desk, secret=secret, random_token=random_token)
        console = Console(self.desk, office)
        self.pages: list[Page] = self._door.password_pages()
        for module in MODULES:
            self.pages += module(console)

    def routes(self) -> list[BaseRoute]:
        """All routes, each with an answer for what goes wrong in it."""
        found = [*self._door.routes(), *self.desk.routes(self.pages)]
        return [
            Route("/", self._home, methods=["GET"]),
            Route("/review", self._home, methods=["GET"]),
            *(
                Route(route.path, self._guarded(route.endpoint), methods=list(route.methods or ()))
                for route in found
            ),
            Route("/review/{rest:path}", self._not_here, methods=["GET", "POST"]),
        ]

    async def _home(self, request: Request) -> Response:
        return redirect(SITES)

    async def _not_here(self, request: Request) -> Response:
        return self._bare(request, "not_here", 404)

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except StoreUnavailableError as error:
                log.error("review_store path=%s error=%s", request.url.path, error)
                return self._bare(request, "not_written", 503)
            except Exception:
                number = help_number()
                log.error("%s: a page failed\n%s", number, without_codes(traceback.format_exc()))
                return self._bare(request, "fault", 500, number=number)

        return answer

    def _bare(self, request: Request, reason: str, status: int, **values: str) -> Response:
        t = self.desk.texts.translator(request.cookies.get(WAYS.language_cookie))
        return self.desk.bare(
            request,
            t,
            "plain",
            {"title": t(f"plain.{reason}"), "error": t(f"error.{reason}", **values)},
            status,
        )
