"""Desk: what every page of the operator's desk has in common.

A page is a `Page`: a path, an endpoint and who may use it. Before the endpoint is called the desk
has found the sign-in, checked the role, the form's CSRF token and whether the same form came
before; afterwards every answer carries the headers of portal/web/pages.py. Sites limit what people
see: what belongs to another site does not exist for them (`NotHere`).
"""

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

from itsdangerous import BadData, URLSafeSerializer
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.admin import Site
from portal.errors import DeskError, UserError
from portal.operators import Operator, Operators
from portal.settings import Http
from portal.store.db import DatabaseError, trouble
from portal.web.arrivals import client_address
from portal.web.operator.signins import Once, SignIn, SignIns
from portal.web.operator.ways import Ways
from portal.web.pages import SECURITY_HEADERS, Pages, redirect
from portal.web.text import Texts, Translator

log = logging.getLogger(__name__)

HOME = "/operator/"
LANGUAGE_KEPT_S = 400 * 86_400
SITE_FIELD = "of_site"
"""Names, in the forms of who sees several sites, the one the form is about."""
MAX_BODY_OCTETS = 131_072
"""Two thousand ticked cards."""
MAX_FIELDS = 3_000
NOTICE_S = 120
"""So long after the deed its notice may be shown."""

NAV = (
    (HOME, "nav.home"),
    ("/operator/give", "nav.give"),
    ("/operator/cards", "nav.cards"),
    ("/operator/sheets", "nav.sheets"),
    ("/operator/online", "nav.online"),
    ("/operator/complaints", "nav.complaints"),
    ("/operator/announcements", "nav.notices"),
    ("/operator/devices", "nav.devices"),
    ("/operator/site", "nav.site"),
    ("/operator/gateways", "nav.gateways"),
    ("/operator/people", "nav.people"),
    ("/operator/audit", "nav.audit"),
    ("/operator/me", "nav.me"),
    ("/operator/help", "nav.help"),
)
"""The menu, in its order: pages that are there and that the person may open."""

VILLAGE = Ways(root="/operator", cookie="pesisir_desk", nav=NAV)


class Need(Enum):
    """Who may use a page."""

    SEE = ("admin", "operator", "reviewer")
    WORK = ("admin", "operator")
    ADMIN = ("admin",)


class NotHere(Exception):
    """What is asked for does not exist, or belongs to a site this person does not see: 404."""


class BodyTooLarge(Exception):
    """A POST with more than MAX_BODY_OCTETS or MAX_FIELDS."""


@dataclass(slots=True)
class Visit:
    """One request of a signed-in person."""

    request: Request
    operator: Operator
    t: Translator
    now: int
    fields: dict[str, str]
    """The first value of each posted field; {} for a GET."""
    lists: dict[str, list[str]]
    """All values of each posted field: ticked boxes."""
    query: dict[str, str]
    site: Site
    """The site worked on."""
    zone: ZoneInfo
    sites: list[Site]
    """All sites this person sees."""
    sign_in: SignIn

    def may(self, need: Need, site_id: int | None = None) -> bool:
        """Whether this person's role, and their site where one is named, allow it."""
        is_role = self.operator.role in need.value
        return is_role and (site_id is None or self.operator.sees(site_id))

    def require_site(self, site_id: int) -> None:
        """Raise NotHere when what belongs to this site does not exist for this person."""
        if not self.operator.sees(site_id):
            raise NotHere


Endpoint = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Page:
    """One route of the desk. `needs` holds for every method: give what a reviewer reads and what
    an operator posts two pages of one path.
    """

    path: str
    endpoint: Endpoint
    needs: Need
    methods: tuple[str, ...] = ("GET",)
    is_before_change: bool = False
    """Open to those who must first change the password they were given."""


class Places(Protocol):
    """The sites there are: a node's, or an office as the one place of a hub."""

    @property
    def sites_by_id(self) -> Mapping[int, Site]:
        """Oldest first."""

    def zone(self, site_id: int) -> ZoneInfo:
        """The zone of a site."""


class Desk:
    """Makes routes of pages, and answers of templates."""

    def __init__(
        self,
        *,
        admin: Places,
        operators: Operators,
        sign_ins: SignIns,
        pages: Pages,
        texts: Texts,
        http: Http,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        random_token: Callable[[int], str],
        secret: bytes,
        ways: Ways = VILLAGE,
    ) -> None:
        self.ways = ways
        self.admin = admin
        self.operators = operators
        self.sign_ins = sign_ins
        self.texts = texts
        self.now = now
        self._pages = pages
        self._http = http
        self._elapsed_s = elapsed_s
        self._random_token = random_token
        self._seals = URLSafeSerializer(
            secret,
            salt="pesisir desk notice 1",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
        self._menu: dict[str, Need] = {}
        self._shown: set[str] = set()

    # -- routes ----------------------------------------------------------------------------

    def routes(self, pages: Sequence[Page]) -> list[Route]:
        """The routes of all pages; raises ValueError when two have one path and method."""
        seen: set[tuple[str, str]] = set()
        for page in pages:
            for method in page.methods:
                if (page.path, method) in seen:
                    raise ValueError(f"two pages answer {method} {page.path}; expected one")
                seen.add((page.path, method))
            if "GET" in page.methods:
                self._menu[page.path] = page.needs
                self._shown.add(page.path)
        return [
            Route(page.path, self._answering(page), methods=list(page.methods)) for page in pages
        ]

    def _answering(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            response = await self._answer(page, request)
            for name, value in SECURITY_HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.setdefault(
                "content-security-policy", "default-src 'none'; frame-ancestors 'none'"
            )
            return response

        return answer

    async def _answer(self, page: Page, request: Request) -> Response:
        is_fetch = request.headers.get("sec-fetch-dest") == "empty"
        sign_in = self.sign_ins.find(request.cookies.get(self.ways.cookie), is_person=not is_fetch)
        if sign_in is None:
            return self._to_sign_in(request)
        operator = self.operators.operator(sign_in.operator)
        if operator.must_change and not page.is_before_change:
            return redirect(self.ways.password)
        fields: dict[str, list[str]] = {}
        if request.method not in ("GET", "HEAD"):
            try:
                fields = await read_lists(request)
            except BodyTooLarge:
                return self.plain(self._visit(request, operator, sign_in, {}), "too_large", 413)
        visit = self._visit(request, operator, sign_in, fields)
        if request.method not in ("GET", "HEAD"):
            token = visit.fields.get("csrf", "")
            if not is_same_origin(request) or not hmac.compare_digest(
                token.encode(), sign_in.csrf.encode()
            ):
                return self.plain(visit, "csrf", 403)
        if not visit.may(page.needs):
            return self.plain(visit, "role", 403)
        try:
            if request.query_params.get("lang") is not None and request.method == "GET":
                return self._remember_language(visit, await page.endpoint(visit))
            return await self._once(page, visit)
        except NotHere:
            return self.plain(visit, "not_here", 404)
        except DeskError as error:
            return self.page(visit, "plain", {"title": visit.t("plain.refused")}, 400, error=error)
        except UserError as error:
            log.warning("desk_refused path=%s reason=%s", page.path, error)
            return self.plain(visit, "unusable", 400)
        except DatabaseError as error:
            if trouble(error) is None:
                raise
            log.error("desk_not_written path=%s error=%s", page.path, error)
            return self.plain(visit, "not_written", 503)

    async def _once(self, page: Page, visit: Visit) -> Response:
        """Call the endpoint; a form that was sent before gets the answer of its first time."""
        token = visit.fields.get("once")
        if not token or len(token) > 64:
            return await page.endpoint(visit)
        known = visit.sign_in.once_of(_form_of(visit, token), self._elapsed_s())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(known.lock)
            if known.path is not None:
                return redirect(known.path)
            response = await page.endpoint(visit)
            if response.status_code == 303 and known.path is None:
                known.path = response.headers["location"]
            return response

    def _to_sign_in(self, request: Request) -> Response:
        back = request.url.path
        if request.method in ("GET", "HEAD") and request.url.query:
            back += "?" + request.url.query
        if request.url.path not in self._shown and request.method not in ("GET", "HEAD"):
            back = self.ways.home
        if back == self.ways.home or self.ways.good_way_back(back) is None:
            return redirect(self.ways.sign_in)
        return redirect(f"{self.ways.sign_in}?to={quote(back, safe='/')}")

    def _visit(
        self,
        request: Request,
        operator: Operator,
        sign_in: SignIn,
        lists: dict[str, list[str]],
    ) -> Visit:
        query: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            query.setdefault(name, _without_nul(value))
        sites = self.sites_of(operator)
        wanted = query.get("site", "").upper()
        for site in sites:
            if site.code == wanted:
                sign_in.site_id = site.id
        # A form is of the site its page was made for, whatever was chosen in another tab since.
        sent = lists.get(SITE_FIELD, [""])[0]
        site = next((one for one in sites if one.code == sent), None) or next(
            (one for one in sites if one.id == sign_in.site_id), sites[0]
        )
        language = query.get("lang")
        if language in self.texts.languages():
            sign_in.language = language
        return Visit(
            request=request,
            operator=operator,
            t=self.texts.translator(
                sign_in.language or request.cookies.get(self.ways.language_cookie)
            ),
            now=self.now(),
            fields={name: values[0] for name, values in lists.items()},
            lists=lists,
            query=query,
            site=site,
            zone=self.admin.zone(site.id),
            sites=sites,
            sign_in=sign_in,
        )

    def sites_of(self, operator: Operator) -> list[Site]:
        """The sites this operator sees, oldest first; never none."""
        return [site for site in self.admin.sites_by_id.values() if operator.sees(site.id)]

    def _remember_language(self, visit: Visit, response: Response) -> Response:
        name = self.ways.language_cookie
        self.set_cookie(visit.request, response, name, visit.t.language, LANGUAGE_KEPT_S)
        return response

    def source(self, request: Request) -> str:
        """The address a request comes from, past trusted proxies."""
        return client_address(request, self._http.trusted_proxies)

    def set_cookie(
        self, request: Request, response: Response, name: str, value: str, seconds: int | None
    ) -> None:
        """Set a cookie of the desk, for so many seconds or until the browser closes."""
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self.ways.root,
            secure=self._is_tls(request),
            httponly=True,
            samesite="strict",
        )

    def _is_tls(self, request: Request) -> bool:
        if request.url.scheme == "https":
            return True
        is_proxied = client_address(request, ()) != self.source(request)
        return is_proxied and request.headers.get("x-forwarded-proto", "").lower() == "https"

    # -- answers ---------------------------------------------------------------------------

    def page(
        self,
        visit: Visit,
        template: str,
        values: Mapping[str, Any] | None = None,
        status: int = 200,
        *,
        error: DeskError | str | None = None,
        script: str | None = None,
    ) -> Response:
        """Fill in `templates/operator/<template>.html` for this visit.

        Beside `values` the template has t, visit, operator, site, sites, zone, csrf (with the site)
        and once (hidden inputs), nav, notice, error, now, may, links. `script`: the stem of a `.js`
        file beside it.
        """
        t = visit.t
        if isinstance(error, DeskError):
            error = refusal(t, error)
        path = visit.request.url.path
        return self._pages.respond(
            template,
            {
                "t": t,
                "visit": visit,
                "operator": visit.operator,
                "site": visit.site,
                "sites": visit.sites,
                "zone": visit.zone,
                "csrf": hidden("csrf", visit.sign_in.csrf)
                + (hidden(SITE_FIELD, visit.site.code) if len(visit.sites) > 1 else ""),
                "once": hidden("once", self.once(visit)),
                "nav": self._nav(visit),
                "notice": self._notice(visit),
                "error": error,
                "now": visit.now,
                "may": {need.name.lower(): visit.may(need) for need in Need},
                "links": {
                    "name": self.ways.name,
                    "home": self.ways.home,
                    "me": self.ways.me,
                    "sign_out": self.ways.sign_out,
                    "site": path if path in dict(self.ways.nav) else self.ways.home,
                    "languages": self.languages(visit.request, t, path in self._shown),
                },
                **(values or {}),
            },
            status=status,
            script=script,
        )

    def plain(self, visit: Visit, reason: str, status: int) -> Response:
        """A page that only says why nothing was done: texts plain.<reason> and error.<reason>."""
        return self.page(
            visit, "plain", {"title": visit.t(f"plain.{reason}")}, status, error=DeskError(reason)
        )

    def bare(
        self,
        request: Request,
        t: Translator,
        template: str,
        values: Mapping[str, Any],
        status: int = 200,
        *,
        home: str | None = None,
    ) -> Response:
        """A page for somebody who is not signed in; its way out leads to `home` (else the desk)."""
        return self._pages.respond(
            template,
            {
                "t": t,
                "operator": None,
                "nav": [],
                "notice": None,
                "error": None,
                "links": {
                    "name": self.ways.name,
                    "home": home or self.ways.home,
                    "sign_in": self.ways.sign_in,
                    "languages": self.languages(request, t, True),
                },
                **values,
            },
            status=status,
        )

    def go(self, path: str, *, notice: str | None = None, **values: object) -> Response:
        """Send the browser on (303); the next page shows the text `notice.<notice>` once.

        `path` is built by the caller and never comes from the outside.
        """
        if notice is None:
            return redirect(path)
        sealed = self._seals.dumps([self._random_token(6), self.now(), notice, values])
        return redirect(f"{path}{'&' if '?' in path else '?'}n={sealed}")

    def _notice(self, visit: Visit) -> str | None:
        text = visit.query.get("n", "")
        if not 0 < len(text) <= 2_000:
            return None
        try:
            mark, at, notice, values = self._seals.loads(text)
        except (BadData, ValueError):
            return None
        if not 0 <= visit.now - at <= NOTICE_S or not visit.sign_in.see_notice(mark):
            return None
        return visit.t(f"notice.{notice}", **values)

    def may_open(self, visit: Visit, href: str) -> bool:
        """Whether there is such a page, query and anchor aside, and this person may see it."""
        needs = self._menu.get(urlsplit(href).path)
        return needs is not None and visit.may(needs)

    def _nav(self, visit: Visit) -> list[dict[str, Any]]:
        path = visit.request.url.path
        return [
            {
                "href": href,
                "text": visit.t(key),
                "is_here": path == href or (href != self.ways.home and path.startswith(href + "/")),
            }
            for href, key in self.ways.nav
            if href in self._menu and visit.may(self._menu[href])
        ]

    def languages(self, request: Request, t: Translator, is_shown: bool) -> list[dict[str, str]]:
        """The other languages, and where this page stands in them."""
        path = request.url.path if is_shown or request.method == "GET" else self.ways.home
        kept = [
            (name, value)
            for name, value in request.query_params.multi_items()
            if name not in ("lang", "n")
        ]
        return [
            {
                "code": language,
                "name": self.texts.translator(language)("language.name"),
                "href": f"{path}?{urlencode([*kept, ('lang', language)])}",
            }
            for language in self.texts.languages()
            if language != t.language
        ]

    # -- forms that do their thing once ----------------------------------------------------

    def once(self, visit: Visit) -> str:
        """A token for the hidden field `once`. A form that comes a second time with it is answered
        with where the first led to, without calling the endpoint; one that comes while the first is
        being worked on waits for it. Only answers that lead on (303) are remembered.
        """
        return self._random_token(12)

    def first_time(self, visit: Visit) -> bool:
        """Whether this form has not led anywhere yet."""
        return self.once_answer(visit) is None

    def once_answer(self, visit: Visit) -> str | None:
        """Where the first submit of this form led to."""
        known = self._known(visit)
        return None if known is None else known.path

    def done(self, visit: Visit, path: str) -> None:
        """Remember where this form leads to, when the answer itself does not lead there."""
        known = self._known(visit)
        if known is not None:
            known.path = path

    def _known(self, visit: Visit) -> Once | None:
        token = visit.fields.get("once")
        return visit.sign_in.once.get(_form_of(visit, token)) if token else None


def _form_of(visit: Visit, token: str) -> str:
    """What a form is known by: the forms of one page share a token, each has its own address."""
    return f"{visit.request.url.path} {token}"


def hidden(name: str, value: str) -> Markup:
    """A hidden input."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(name, value)


def whole_number(text: str | None) -> int | None:
    """A number as it stands in an address or a hidden field; None for anything else."""
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 15:
        return None
    return int(text)


def refusal(t: Translator, error: DeskError) -> str:
    """Why a use case refused, with its numbers as people here write them."""
    values = {
        name: t.number(value) if isinstance(value, int) else value
        for name, value in error.values.items()
    }
    if "n" in error.values:
        values["n"] = error.values["n"]
    return t(f"error.{error.key}", **values)


def is_same_origin(request: Request) -> bool:
    """Whether the browser says that a page of ours sent this; True when it says nothing."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin", "null")
    if origin == "null":
        # What browsers send from pages that forbid the Referer, as ours do.
        return True
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


async def read_lists(request: Request) -> dict[str, list[str]]:
    """All values of each posted field; a body that is no form gives none. Raises BodyTooLarge."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_OCTETS:
            raise BodyTooLarge(f"body over {MAX_BODY_OCTETS} octets")
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise BodyTooLarge(f"over {MAX_FIELDS} fields") from error
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(_without_nul(value))
    return lists


def _without_nul(text: str) -> str:
    """A text that PostgreSQL takes too, which has no NUL."""
    return text.replace("\x00", "\ufffd")
