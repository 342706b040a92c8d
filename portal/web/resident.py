"""The residents' pages: type a code, see what is left, log out. What they say is in `screens`.

A code goes this way: form -> check_code -> redirect to the phone's gateway with a one-time password
-> the gateway asks RADIUS -> it sends the phone back with `res=success`, or with `res=failed` and a
reason that RADIUS noted. A phone without a usable arrival is led through its gateway first, and its
code waits in `Memory`. No GET ever spends a card: where an arrival completes a login, the resident
pressed the button within the last five minutes.
"""

import logging
import secrets
from dataclasses import replace
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from portal.captivity import Captivities
from portal.domain.quota import Reason
from portal.domain.voucher import (
    CODE_DIGITS,
    RESERVED_CODE,
    is_well_formed,
    normalise,
    show,
)
from portal.door import Door, Problem
from portal.tickets import Ticket
from portal.web.arrivals import known_family
from portal.web.forms import BodyTooLarge, Link, Seals, read_fields
from portal.web.identity import Identity, Known
from portal.web.memory import Memory, Waiting
from portal.web.pages import redirect
from portal.web.screens import Notice, Screens
from portal.web.sentences import Trouble, is_unsaid
from portal.web.visit import Reception, Visit
from radius.nas import ArrivalError

log = logging.getLogger(__name__)

CHALLENGE_LIFE_S = 480
"""CoovaChilli changes a challenge after 600 s; an older form gets a fresh one first."""
MAX_ROUNDS = 3
"""How often one code may send a phone to its gateway, so that nothing turns in circles."""
TOLD_KEPT = 100
"""How many odd arrivals are told in the log, once each: what they say is the phones' word."""
_SHOWN_LETTERS = 64


class Resident:
    """The handlers. Each parses a request, calls one use case and shows a screen."""

    def __init__(
        self,
        *,
        door: Door,
        reception: Reception,
        screens: Screens,
        seals: Seals,
        captivities: Captivities,
    ) -> None:
        self._door = door
        self._captivities = captivities
        self._reception = reception
        self._screens = screens
        self._seals = seals
        self._identity = Identity(door)
        self._memory = Memory()
        self._told: set[tuple[str, str]] = set()

    # --- GET: arrivals -------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        """`/`, and every address with a gateway's redirect in its query."""
        try:
            visit = self._reception.visit(request)
        except ArrivalError as error:
            self._tell("arrival_refused", str(error))
            return self._screens.bad_arrival(request)
        if visit.landing is not None:
            return self._arrive(visit)
        known = self._identity.who(visit)
        if known is not None:
            return self._screens.status(visit, known)
        nonce = request.query_params.get("n")
        if nonce:
            # A gateway that takes the phone for logged in has sent it on to its return address.
            waiting = self._memory.take([f"nonce:{nonce}"], visit.now)
            if waiting is not None:
                return self._screens.form(visit, code=waiting.code, is_prefilled=True)
        return self._screens.form(visit)

    def _arrive(self, visit: Visit) -> Response:
        """Answer a gateway's redirect."""
        assert visit.arrival is not None
        if visit.gateway is None:
            return self._unknown_gateway(visit)
        if visit.is_fresh and visit.is_signed:
            self._door.remember_login_base(visit.gateway.id, visit.arrival.login_base)
        state = visit.arrival.state
        if visit.is_fresh and (visit.is_signed or visit.gateway.uam_secret is None):
            query: bytes = visit.request.scope["query_string"]
            self._captivities.redirected(visit.source, visit.gateway, state, query)
        if visit.is_fresh and state in ("notyet", "logoff", "already"):
            keys = self._identity.keys(visit, visit.returned.nonce)
            waiting = self._memory.take(keys, visit.now)
            if waiting is not None:
                return self._complete(visit, waiting)
        if state == "success":
            return self._succeeded(visit)
        if state == "already":
            known = self._identity.who(visit)
            if known is None:
                return self._screens.already(visit)
            return self._screens.status(visit, known)
        if state == "failed":
            return self._failed(visit)
        if visit.returned.code is not None:
            return self._screens.form(visit, code=visit.returned.code, is_prefilled=True)
        if state == "logoff":
            return self._screens.form(visit, notice=Notice("ok", visit.t("notice.logged_out")))
        return self._screens.form(visit, notice=self._last_card(visit))

    def _last_card(self, visit: Visit) -> Notice | None:
        """Why this phone, or the card it used last, was not let in by itself."""
        if not visit.is_signed or visit.arrival is None or visit.arrival.mac is None:
            return None
        assert visit.gateway is not None
        refusal = self._door.last_refusal(visit.gateway.id, None, visit.arrival.mac)
        if refusal is not None and not is_unsaid(refusal.reason):
            return Notice("low", str(self._screens.trouble(visit, refusal)))
        status = self._door.last_card(visit.arrival.mac)
        stopped = None if status is None else self._screens.trouble_of(visit, status)
        if status is None or stopped is None:
            return None
        last = visit.t("notice.last_card", serial=status.serial)
        return Notice("low", f"{last} {stopped}")

    def _succeeded(self, visit: Visit) -> Response:
        """The gateway says that the phone is online."""
        known = self._identity.who(visit)
        is_new = self._identity.is_fresh_link(visit)
        if is_new and visit.link is not None:
            self._memory.take([f"link:{visit.link.nonce}"], visit.now)
        self._learn(visit, known)
        if known is not None and not known.status.open_sessions and not is_new:
            return self._screens.status(visit, known)
        return self._screens.connected(visit, known)

    def _learn(self, visit: Visit, known: Known | None) -> None:
        """Without a signature, a session that runs is the best proof of where a gateway is.

        A gateway that signs tells it by itself: there, anybody with a card could log in with an
        arrival that names a machine of theirs, and have the next phones sent to it.
        """
        link = visit.link
        if known is None or link is None or link.gateway_id is None:
            return
        gateway = self._door.gateway(link.gateway_id)
        family = None if gateway is None else known_family(gateway.family)
        if gateway is None or family is None or (gateway.uam_secret and family.SIGNS_ARRIVALS):
            return
        if self._identity.is_fresh_link(visit) and known.status.open_sessions:
            self._door.remember_login_base(link.gateway_id, link.login_base)

    def _failed(self, visit: Visit) -> Response:
        """The gateway did not let the phone in: try once more if the card is not to blame."""
        assert visit.arrival is not None and visit.gateway is not None
        link = visit.link if self._identity.link_fits(visit) else None
        waiting = None
        serial = None
        if link is not None:
            waiting = self._memory.take([f"link:{link.nonce}"], visit.now)
            status = self._door.status(link.voucher_id)
            serial = None if status is None else status.serial
        code = "" if waiting is None else show(waiting.code)
        if visit.arrival.reason == "timeout":
            return self._screens.press_again(visit, "no_answer", code=code)
        if visit.arrival.reason == "limit":
            limited = Trouble(visit.t("error.gateway_limit"), visit.t("error.gateway_limit_next"))
            return self._screens.form(visit, code=code, error=limited)
        mac = visit.arrival.mac if visit.is_signed else None
        refusal = None
        if serial is not None or mac is not None:
            refusal = self._door.last_refusal(visit.gateway.id, serial, mac)
        is_stale = refusal is None or refusal.reason is Reason.CHALLENGE_STALE
        if not is_stale and refusal is not None:
            return self._screens.refused(visit, code, refusal)
        if link is None or waiting is None or not self._identity.is_fresh_link(visit):
            return self._screens.press_again(visit, "not_yet", code=code)
        if link.attempt == 1:
            result = self._door.ticket_for(link.voucher_id, self._identity.phone(visit))
            return self._proceed(visit, waiting, result, attempt=2)
        number = help_number()
        log.error(
            "hand_off_refused_twice help_number=%s gateway=%s reason=%s;"
            " expected the same uam secret here and there",
            number,
            visit.gateway.name,
            "none" if refusal is None else refusal.reason,
        )
        return self._screens.fault(visit, number)

    def _unknown_gateway(self, visit: Visit) -> Response:
        assert visit.arrival is not None
        self._tell(
            "unknown_gateway",
            f"source={visit.source} nas_id={visit.arrival.nas_id!r};"
            " expected one of `pesisir gateway list`",
        )
        return self._screens.unknown_gateway(visit)

    def _tell(self, event: str, detail: str) -> None:
        """Warn once of what a phone can repeat at will."""
        if (event, detail) not in self._told and len(self._told) < TOLD_KEPT:
            self._told.add((event, detail))
            log.warning("%s %s", event, detail)

    # --- GET: pages ----------------------------------------------------------------------------

    async def prefilled(self, request: Request) -> Response:
        """`/v/{code}` and `/{12 digits}`: the form with the code of a QR filled in."""
        visit = self._reception.visit(request)
        code = normalise(request.path_params["code"])
        if code is None:
            return self._screens.missing(visit)
        slip = _slip(visit, code)
        if slip is not None:
            return self._screens.form(visit, code=show(code), error=slip)
        return self._screens.form(visit, code=code, is_prefilled=True)

    async def connected(self, request: Request) -> Response:
        """`/connected`: where a gateway sends a phone on after its login."""
        visit = self._reception.visit(request)
        known = self._identity.who(visit)
        if known is None:
            return self._screens.not_in(visit)
        self._learn(visit, known)
        if not known.status.open_sessions and not self._identity.is_fresh_link(visit):
            return self._screens.status(visit, known)
        return self._screens.connected(visit, known)

    async def status(self, request: Request) -> Response:
        """`/status`: what is left on the card of this phone."""
        visit = self._reception.visit(request)
        known = self._identity.who(visit)
        if known is None:
            return self._screens.not_in(visit)
        return self._screens.status(visit, known)

    async def terms(self, request: Request) -> Response:
        """`/terms`: the rules."""
        return self._screens.terms(self._reception.visit(request))

    async def privacy(self, request: Request) -> Response:
        """`/privacy`: what is recorded and for how long."""
        return self._screens.privacy(self._reception.visit(request))

    async def log_out_page(self, request: Request) -> Response:
        """GET `/logout`: a button, so that no link or preview ends a session."""
        visit = self._reception.visit(request)
        if "done" in request.query_params:
            return self._screens.logged_out(visit)
        return self._screens.log_out(visit, self._identity.who(visit))

    async def refused(self, request: Request, error: Exception) -> Response:
        """Any address, or method on an address, that we do not have."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        return self._screens.missing(self._reception.visit(request, {}), status)

    def fault(self, request: Request, number: str) -> Response:
        """The page after an error of ours; `number` finds it in the log."""
        return self._screens.fault(self._reception.visit(request, {}), number, status=500)

    # --- POST ----------------------------------------------------------------------------------

    async def log_in(self, request: Request) -> Response:
        """POST `/login`: check the code and hand the phone over to its gateway."""
        try:
            fields = await read_fields(request)
        except BodyTooLarge:
            return self._screens.too_large(request)
        visit = self._reception.visit(request, fields)
        typed = fields.get("kode", "").strip()
        if not visit.has_good_form:
            return self._screens.press_again(visit, "old_page", code=typed[:_SHOWN_LETTERS])
        slip = _slip(visit, typed)
        code = normalise(typed)
        if slip is not None or code is None:
            return self._screens.form(visit, code=typed[:_SHOWN_LETTERS], error=slip)
        return self._try(visit, Waiting(code, visit.now, move=fields.get("pindah") == "1"))

    def _try(self, visit: Visit, waiting: Waiting) -> Response:
        """Check a well-formed code and go on."""
        if visit.landing is not None and visit.gateway is None:
            return self._unknown_gateway(visit)
        phone = self._identity.phone(visit)
        result = self._door.check_code(waiting.code, phone, move=waiting.move)
        if visit.landing is None and (isinstance(result, Ticket) or result.can_move):
            # Only its gateway can say which phone this is; perhaps the very one that is in use.
            return self._via_gateway(visit, waiting)
        return self._proceed(visit, waiting, result)

    def _proceed(
        self, visit: Visit, waiting: Waiting, result: Ticket | Problem, *, attempt: int = 1
    ) -> Response:
        """Hand over, ask whether to move, or say what is wrong."""
        if isinstance(result, Ticket):
            return self._hand_off(visit, waiting, result, attempt)
        if result.can_move and not waiting.move:
            return self._screens.move(visit, waiting.code)
        return self._screens.refused(visit, show(waiting.code), result)

    def _hand_off(self, visit: Visit, waiting: Waiting, ticket: Ticket, attempt: int) -> Response:
        """Send the phone to its gateway with the one-time password."""
        assert visit.arrival is not None and visit.gateway is not None
        is_old = visit.now - visit.arrived_at > CHALLENGE_LIFE_S
        if is_old and visit.arrival.challenge is not None:
            return self._via_gateway(visit, waiting)
        nonce = secrets.token_urlsafe(9)
        link = self._seals.seal_link(
            Link(
                voucher_id=ticket.voucher_id,
                mac=visit.arrival.mac,
                gateway_id=visit.gateway.id,
                login_base=visit.arrival.login_base,
                made_at=visit.now,
                attempt=attempt,
                nonce=nonce,
            )
        )
        family = known_family(visit.arrival.family)
        assert family is not None
        try:
            url = family.hand_off_url(
                visit.arrival,
                ticket.serial,
                ticket.password,
                visit.gateway.uam_secret,
                f"{visit.own_url}/connected?{urlencode({'k': link, **visit.wishes})}",
            )
        except ArrivalError:
            # The arrival has no challenge: an old page, or one of a phone that was online.
            return self._via_gateway(visit, waiting)
        self._memory.put([f"link:{nonce}"], replace(waiting, at=visit.now))
        return redirect(url)

    def _via_gateway(self, visit: Visit, waiting: Waiting) -> Response:
        """Send the phone to its gateway for a fresh arrival; the code waits here."""
        if waiting.rounds > MAX_ROUNDS:
            return self._screens.press_again(visit, "not_yet", code=show(waiting.code))
        gateway = visit.gateway or visit.nearest
        family = None if gateway is None else known_family(gateway.family)
        nonce = secrets.token_urlsafe(9)
        start = None
        if family is not None and visit.login_base is not None:
            back = f"{visit.own_url}/?{urlencode({'n': nonce, **visit.wishes})}"
            start = family.login_start_url(visit.login_base, back)
        if start is None:
            return self._screens.outside(visit, waiting.code)
        waiting = replace(waiting, at=visit.now, rounds=waiting.rounds + 1)
        self._memory.put(self._identity.keys(visit, nonce), waiting)
        return redirect(start)

    def _complete(self, visit: Visit, waiting: Waiting) -> Response:
        """Go on with a code that waited while the phone was at its gateway."""
        assert visit.arrival is not None
        if visit.arrival.state != "already":
            return self._try(visit, waiting)
        # The phone is online with a card: the new one takes its place.
        current = self._identity.who(visit)
        phone = self._identity.phone(visit)
        result = self._door.check_code(waiting.code, phone, move=waiting.move)
        if not isinstance(result, Ticket):
            return self._proceed(visit, waiting, result)
        if current is not None and current.voucher_id == result.voucher_id:
            return self._screens.status(visit, current)
        family = known_family(visit.arrival.family)
        logoff = None if family is None else family.logoff_url(visit.arrival.login_base)
        if logoff is None or waiting.rounds > MAX_ROUNDS:
            if current is None:
                return self._screens.already(visit)
            return self._screens.status(visit, current)
        if current is not None:
            self._door.log_out(current.voucher_id, current.mac, disconnect=False)
        waiting = replace(waiting, at=visit.now, rounds=waiting.rounds + 1)
        self._memory.put(self._identity.keys(visit, visit.returned.nonce), waiting)
        return redirect(logoff)

    async def log_out(self, request: Request) -> Response:
        """POST `/logout`: end the session, at the gateway where that can be."""
        try:
            fields = await read_fields(request)
        except BodyTooLarge:
            return self._screens.too_large(request)
        visit = self._reception.visit(request, fields)
        ending = self._seals.open_ending(fields.get("e", ""))
        if ending is None or not ending.is_good(visit.source, visit.now):
            known = self._identity.who(visit)
            if known is None:
                return self._screens.not_in(visit)
            error = Trouble(visit.t("error.old_page"), visit.t("error.log_out_again"))
            return self._screens.status(visit, known, error=error)
        gateway = None if ending.gateway_id is None else self._door.gateway(ending.gateway_id)
        logoff = None
        if gateway is not None and ending.login_base is not None:
            family = known_family(gateway.family)
            logoff = None if family is None else family.logoff_url(ending.login_base)
        self._door.log_out(ending.voucher_id, ending.mac, disconnect=logoff is None)
        if logoff is not None:
            return redirect(logoff)
        return redirect(f"/logout?{urlencode({'done': '1', **visit.wishes})}")


def _slip(visit: Visit, typed: str) -> Trouble | None:
    """What is wrong with a typed code before anybody has to be asked; a slip is no guess."""
    t = visit.t
    code = normalise(typed)
    if code == RESERVED_CODE:
        return Trouble(t("error.example"), t("error.example_next"))
    if code is not None and is_well_formed(code):
        return None
    digits = CODE_DIGITS if code else sum(character.isdecimal() for character in typed)
    if digits == 0:
        return Trouble(t("error.empty"), t("error.empty_next"))
    if digits != CODE_DIGITS:
        return Trouble(t("error.length", n=digits), t("error.length_next"))
    return Trouble(t("error.mistyped"), t("error.mistyped_next"))


def help_number() -> str:
    """A short number that a resident can read to the helper, and that the log has too."""
    return f"K-{secrets.token_hex(2).upper()}"
