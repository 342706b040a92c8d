"""Signing in and out, one's own password and PIN.

Who is not signed in has no CSRF token of a sign-in; their form carries one that is sealed together
with a cookie of its own, so that no other page can sign a browser in.
"""

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import quote

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.errors import DeskError
from portal.operators import BROWSER_KEPT_S, SHORTEST_PASSWORD, Operator, SignInRefused
from portal.store.audit import Deed
from portal.store.db import DatabaseError, trouble
from portal.web.operator.desk import (
    LANGUAGE_KEPT_S,
    BodyTooLarge,
    Desk,
    Need,
    Page,
    Visit,
    hidden,
    is_same_origin,
    read_lists,
)
from portal.web.pages import redirect

FORM_LIFE_S = 3_600


class Door:
    """The pages before and behind the sign-in."""

    def __init__(self, desk: Desk, *, secret: bytes, random_token: Callable[[int], str]) -> None:
        self._desk = desk
        self._ways = desk.ways
        self._random_token = random_token
        self._seals = URLSafeSerializer(
            secret,
            salt="pesisir desk form 1",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def routes(self) -> list[Route]:
        """The routes that need no sign-in."""
        return [
            Route(self._ways.sign_in, self.form, methods=["GET"]),
            Route(self._ways.sign_in, self.sign_in, methods=["POST"]),
        ]

    def pages(self) -> list[Page]:
        """The pages behind it."""
        pin = self._ways.pin
        return [
            *self.password_pages(),
            Page(self._ways.me, self.me, Need.SEE),
            Page(pin, self.pin, Need.SEE),
            Page(pin, self.set_pin, Need.SEE, ("POST",)),
            Page(pin + "/forget", self.forget_pin, Need.SEE, ("POST",)),
        ]

    def password_pages(self) -> list[Page]:
        """Those that every desk has, also one where a PIN is never enough."""
        own, out = self._ways.password, self._ways.sign_out
        return [
            Page(out, self.sign_out, Need.SEE, ("POST",), is_before_change=True),
            Page(own, self.password, Need.SEE, is_before_change=True),
            Page(own, self.set_password, Need.SEE, ("POST",), is_before_change=True),
        ]

    # -- before the sign-in ----------------------------------------------------------------

    async def form(self, request: Request) -> Response:
        """GET /operator/sign-in: the form, or home for who is signed in."""
        if self._desk.sign_ins.find(request.cookies.get(self._ways.cookie)) is not None:
            return redirect(self._ways.home)
        return self._form(request, request.query_params.get("to", ""))

    def _form(
        self,
        request: Request,
        back: str,
        *,
        name: str = "",
        error: DeskError | None = None,
        status: int = 200,
    ) -> Response:
        desk = self._desk
        wanted = request.query_params.get("lang")
        is_wanted = wanted in desk.texts.languages()
        t = desk.texts.translator(
            wanted if is_wanted else request.cookies.get(self._ways.language_cookie)
        )
        browser = request.cookies.get(self._ways.browser_cookie)
        known = desk.operators.browser_of(browser)
        said: str | None = None
        if isinstance(error, SignInRefused) and error.wait_s:
            said = t(f"error.{error.key}", wait=t.wait(error.wait_s))
        elif error is not None:
            said = t(f"error.{error.key}", **error.values)
        cookie = request.cookies.get(self._ways.form_cookie, "")
        if not 16 <= len(cookie) <= 64:
            cookie = self._random_token(24)
        way_back = self._ways.good_way_back(back) or ""
        with_password = request.query_params.get("with") == "password" or bool(name)
        response = desk.bare(
            request,
            t,
            "signin",
            {
                "known": None if with_password else known,
                "is_other": known is not None and with_password,
                "name": name or known or "",
                "error": said,
                # A cookie that is known no more: idle too long, or the node was started again.
                "has_ended": error is None and self._ways.cookie in request.cookies,
                "csrf": hidden("csrf", self._seals.dumps([cookie, desk.now()])),
                "to": way_back,
                "other": f"{self._ways.sign_in}?with=password&to={quote(way_back, safe='/')}",
            },
            status,
        )
        # Only while the browser is open, and only for this page.
        desk.set_cookie(request, response, self._ways.form_cookie, cookie, None)
        if is_wanted:
            desk.set_cookie(
                request, response, self._ways.language_cookie, t.language, LANGUAGE_KEPT_S
            )
        return response

    def _is_good(self, request: Request, token: str) -> bool:
        try:
            cookie, made_at = self._seals.loads(token[:500])
        except (BadData, ValueError, TypeError):
            return False
        if not 0 <= self._desk.now() - made_at <= FORM_LIFE_S:
            return False
        kept = request.cookies.get(self._ways.form_cookie, "")
        return is_same_origin(request) and hmac.compare_digest(kept.encode(), str(cookie).encode())

    async def sign_in(self, request: Request) -> Response:
        """POST /operator/sign-in: a name and a password, or a PIN in a known browser."""
        desk = self._desk
        try:
            lists = await read_lists(request)
        except BodyTooLarge:
            return self._form(request, "", error=DeskError("too_large"), status=413)
        fields = {name: values[0] for name, values in lists.items()}
        back = fields.get("to", "")
        if not self._is_good(request, fields.get("csrf", "")):
            return self._form(request, back, error=DeskError("csrf"), status=403)
        browser = request.cookies.get(self._ways.browser_cookie)
        is_pin = "pin" in fields and browser is not None
        name = fields.get("name", "").strip()[:40]
        try:
            if is_pin:
                operator = await desk.operators.sign_in_with_pin(fields["pin"], browser or "")
            else:
                operator = await desk.operators.sign_in(
                    name, fields.get("password", ""), desk.source(request), browser
                )
        except SignInRefused as error:
            status = 429 if error.wait_s else 200
            return self._form(
                request, back, name="" if is_pin else name, error=error, status=status
            )
        except DatabaseError as error:
            # A PIN cannot be counted: the password still opens the desk.
            if trouble(error) is None:
                raise
            name = name or desk.operators.browser_of(browser) or ""
            return self._form(request, back, name=name, error=DeskError("not_written"), status=503)
        desk.sign_ins.end(request.cookies.get(self._ways.cookie))
        return self._begin(request, operator, self._ways.good_way_back(back) or self._ways.home)

    def _begin(self, request: Request, operator: Operator, back: str) -> Response:
        token, _ = self._desk.sign_ins.begin(operator)
        response = redirect(self._ways.password if operator.must_change else back)
        self._desk.set_cookie(request, response, self._ways.cookie, token, None)
        return response

    # -- behind it -------------------------------------------------------------------------

    async def sign_out(self, visit: Visit) -> Response:
        """POST /operator/sign-out."""
        self._desk.sign_ins.end(visit.request.cookies.get(self._ways.cookie))
        operator = visit.operator
        await self._desk.operators.record(
            Deed(operator.name, "sign_out", operator.site_id, operator.name)
        )
        response = redirect(self._ways.sign_in)
        response.delete_cookie(self._ways.cookie, path=self._ways.root)
        return response

    async def me(self, visit: Visit) -> Response:
        """GET /operator/me: who I am, my password and PIN."""
        browser = visit.request.cookies.get(self._ways.browser_cookie)
        has_pin = self._desk.operators.browser_of(browser) == visit.operator.name
        return self._desk.page(visit, "me", {"has_pin": has_pin})

    async def password(self, visit: Visit) -> Response:
        """GET /operator/me/password: the form."""
        return self._password(visit)

    def _password(self, visit: Visit, error: DeskError | str | None = None) -> Response:
        status = 200
        if isinstance(error, SignInRefused) and error.wait_s:
            error = visit.t(f"error.{error.key}", wait=visit.t.wait(error.wait_s))
            status = 429
        return self._desk.page(
            visit,
            "password",
            {"must_change": visit.operator.must_change, "least": SHORTEST_PASSWORD},
            status,
            error=error,
        )

    async def set_password(self, visit: Visit) -> Response:
        """POST /operator/me/password."""
        fields, desk = visit.fields, self._desk
        try:
            changed = await desk.operators.change_password(
                visit.operator.name,
                fields.get("old", ""),
                fields.get("new", ""),
                fields.get("again", ""),
                visit.request.cookies.get(self._ways.browser_cookie),
            )
        except DeskError as error:
            return self._password(visit, error)
        # A new sign-in: the old password's end with it.
        desk.sign_ins.end(visit.request.cookies.get(self._ways.cookie))
        token, made = desk.sign_ins.begin(changed)
        made.site_id, made.language = visit.sign_in.site_id, visit.sign_in.language
        response = desk.go(
            self._ways.home if visit.operator.must_change else self._ways.me, notice="password"
        )
        desk.set_cookie(visit.request, response, self._ways.cookie, token, None)
        return response

    async def pin(self, visit: Visit) -> Response:
        """GET /operator/me/pin: the form."""
        return self._desk.page(visit, "pin")

    async def set_pin(self, visit: Visit) -> Response:
        """POST /operator/me/pin: from now on a PIN is enough in this browser."""
        desk = self._desk
        try:
            browser = await desk.operators.set_pin(
                visit.operator.name,
                visit.fields.get("pin", ""),
                visit.fields.get("again", ""),
                visit.request.cookies.get(self._ways.browser_cookie),
            )
        except DeskError as error:
            return desk.page(visit, "pin", error=error)
        response = desk.go(self._ways.me, notice="pin")
        desk.set_cookie(visit.request, response, self._ways.browser_cookie, browser, BROWSER_KEPT_S)
        return response

    async def forget_pin(self, visit: Visit) -> Response:
        """POST /operator/me/pin/forget: here the password is needed again."""
        browser = visit.request.cookies.get(self._ways.browser_cookie)
        if browser:
            await self._desk.operators.forget_browser(browser)
        response = self._desk.go(self._ways.me, notice="pin_forgotten")
        response.delete_cookie(self._ways.browser_cookie, path=self._ways.root)
        return response
