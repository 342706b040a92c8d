"""The residents' pages: type a code, see what is left, log out. The texts are in the catalogues.

A code goes this way: form -> check_code -> redirect to the phone's gateway with a one-time password
-> the gateway asks RADIUS -> it sends the phone back with `res=success`, or with `res=failed` and a
reason that RADIUS noted. A phone without a usable arrival is led through its gateway first, and its
code waits in `Memory`. No GET ever spends a card: where an arrival completes a login, the resident
pressed the button within the last five minutes.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from portal.admin import Site
from portal.domain.quota import Reason
from portal.domain.voucher import (
    CODE_DIGITS,
    RESERVED_CODE,
    is_well_formed,
    normalise,
    show,
)
from portal.door import Door, Phone, Problem
from portal.grants import VoucherStatus
from portal.tickets import Ticket
from portal.web.arrivals import known_family
from portal.web.forms import BodyTooLarge, Ending, Link, Seals, read_fields
from portal.web.memory import Memory, Waiting
from portal.web.pages import Pages, redirect
from portal.web.sentences import (
    Trouble,
    end_of,
    facts,
    gauges,
    trouble,
    trouble_of_status,
    warning,
)
from portal.web.visit import Reception, Visit
from radius.nas import ArrivalError

log = logging.getLogger(__name__)

CHALLENGE_LIFE_S = 480
"""CoovaChilli changes a challenge after 600 s; an older form gets a fresh one first."""
FRESH_LINK_S = 120
"""A link this young was minted by the login that is just going on."""
MAX_ROUNDS = 3
"""How often one code may send a phone to its gateway, so that nothing turns in circles."""
UNKNOWN_NAMED = 100
"""How many unknown gateways are named in the log, once each: their names are the phones' word."""


@dataclass(frozen=True, slots=True)
class Known:
    """The card of the phone that asks, and how to end its session."""

    voucher_id: int
    status: VoucherStatus
    mac: str | None
    gateway_id: int | None
    login_base: str | None


@dataclass(frozen=True, slots=True)
class Notice:
    """A line above the form; `kind` is the shape beside it: ok, low or bad."""

    kind: str
    text: str


class Resident:
    """The handlers. Each parses a request, calls one use case and renders."""

    def __init__(
        self,
        *,
        door: Door,
        reception: Reception,
        pages: Pages,
        seals: Seals,
        retention_days: int | None,
    ) -> None:
        self._door = door
        self._reception = reception
        self._pages = pages
        self._seals = seals
        self._retention_days = retention_days
        self._memory = Memory()
        self._unknown: set[tuple[str | None, str]] = set()

    # --- GET: arrivals and pages ---------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        """`/`, and every address with a gateway's redirect in its query."""
        try:
            visit = self._reception.visit(request)
        except ArrivalError as error:
            log.warning("redirect refused: %s", error)
            return self._bad_arrival(request)
        if visit.landing is not None:
            return self._arrive(visit)
        known = self._who(visit)
        nonce = request.query_params.get("n")
        if nonce:
            # A gateway that knew the phone already has sent it on to its return address.
            waiting = self._memory.take([f"nonce:{nonce}"], visit.now)
            if known is None:
                if waiting is None:
                    return self._form(visit)
                return self._form(visit, code=waiting.code, is_prefilled=True)
        return self._form(visit) if known is None else self._status(visit, known)

    def _arrive(self, visit: Visit) -> Response:
        """Answer a gateway's redirect."""
        assert visit.arrival is not None
        if visit.gateway is None:
            return self._unknown_gateway(visit)
        if visit.is_fresh and visit.is_signed:
            self._door.remember_login_base(visit.gateway.id, visit.arrival.login_base)
        state = visit.arrival.state
        if visit.is_fresh and state in ("notyet", "logoff", "already"):
            waiting = self._memory.take(self._keys(visit, visit.returned.nonce), visit.now)
            if waiting is not None:
                return self._complete(visit, waiting)
        if state == "success":
            return self._succeeded(visit)
        if state == "already":
            known = self._who(visit)
            return self._already(visit) if known is None else self._status(visit, known)
        if state == "failed":
            return self._failed(visit)
        code = visit.returned.code
        if code is not None:
            return self._form(visit, code=code, is_prefilled=True)
        return self._form(visit, notice=self._last_card(visit, state))

    def _last_card(self, visit: Visit, state: str) -> Notice | None:
        """What to say above an empty form about the card this phone used last."""
        if state == "logoff":
            return Notice("ok", visit.t("notice.logged_out"))
        known = self._who(visit)
        if known is None or not visit.is_signed:
            return None
        stopped = self._trouble_of(visit, known.status)
        if stopped is None:
            return None
        last = visit.t("notice.last_card", serial=known.status.serial)
        return Notice("low", f"{last} {stopped}")

    def _not_in(self, visit: Visit) -> Notice:
        return Notice("low", visit.t("notice.not_in"))

    def _succeeded(self, visit: Visit) -> Response:
        """The gateway says that the phone is online."""
        known = self._who(visit)
        is_new = self._is_fresh_link(visit)
        if visit.is_fresh and is_new and visit.gateway is not None and visit.link is not None:
            self._memory.take([f"link:{visit.link.nonce}"], visit.now)
            # Without a signature a login that worked is the best proof of where the gateway is.
            self._door.remember_login_base(visit.gateway.id, visit.link.login_base)
        if known is not None and not known.status.open_sessions and not is_new:
            return self._status(visit, known)
        return self._connected(visit, known)

    def _failed(self, visit: Visit) -> Response:
        """The gateway did not let the phone in: try once more if the card is not to blame."""
        assert visit.arrival is not None and visit.gateway is not None
        link = visit.link if self._link_fits(visit) else None
        waiting = None
        serial = None
        if link is not None:
            waiting = self._memory.take([f"link:{link.nonce}"], visit.now)
            status = self._door.status(link.voucher_id)
            serial = None if status is None else status.serial
        code = "" if waiting is None else show(waiting.code)
        if visit.arrival.reason == "timeout":
            again = Trouble(visit.t("error.no_answer"), visit.t("error.press_again"))
            return self._form(visit, code=code, error=again)
        mac = visit.arrival.mac if visit.is_signed else None
        refusal = None
        if serial is not None or mac is not None:
            refusal = self._door.last_refusal(visit.gateway.id, serial, mac)
        is_stale = refusal is None or refusal.reason is Reason.CHALLENGE_STALE
        if is_stale and link is not None and waiting is not None and self._is_fresh_link(visit):
            if link.attempt == 1:
                result = self._door.ticket_for(link.voucher_id, self._phone(visit))
                return self._proceed(visit, waiting, result, attempt=2)
            number = help_number()
            log.error(
                "%s: gateway %s refused two hand-offs in a row with fresh challenges (%s);"
                " expected the same uam secret there and here",
                number,
                visit.gateway.name,
                "no refusal of ours" if refusal is None else refusal.reason,
            )
            return self._fault(visit, number)
        if refusal is None:
            again = Trouble(visit.t("error.not_yet"), visit.t("error.press_again"))
            return self._form(visit, code=code, error=again)
        return self._refuse(visit, code, refusal)

    async def prefilled(self, request: Request) -> Response:
        """`/v/{code}` and `/{12 digits}`: the form with the code of a QR filled in."""
        visit = self._reception.visit(request)
        code = normalise(request.path_params["code"])
        if code is None:
            return self._missing(visit)
        if not is_well_formed(code):
            error = Trouble(visit.t("error.mistyped"), visit.t("error.mistyped_next"))
            return self._form(visit, code=show(code), error=error)
        return self._form(visit, code=code, is_prefilled=True)

    async def connected(self, request: Request) -> Response:
        """`/connected`: where a gateway sends a phone on after its login."""
        visit = self._reception.visit(request)
        known = self._who(visit)
        if known is None:
            return self._form(visit, notice=self._not_in(visit))
        if not known.status.open_sessions and not self._is_fresh_link(visit):
            return self._status(visit, known)
        if visit.link is not None and visit.nearest is not None and self._is_fresh_link(visit):
            self._door.remember_login_base(visit.nearest.id, visit.link.login_base)
        return self._connected(visit, known)

    async def status(self, request: Request) -> Response:
        """`/status`: what is left on the card of this phone."""
        visit = self._reception.visit(request)
        known = self._who(visit)
        if known is None:
            return self._form(visit, notice=self._not_in(visit))
        return self._status(visit, known)

    async def terms(self, request: Request) -> Response:
        """`/terms`: the rules."""
        return self._page("terms", self._reception.visit(request), "/terms")

    async def privacy(self, request: Request) -> Response:
        """`/privacy`: what is recorded and for how long."""
        visit = self._reception.visit(request)
        return self._page("privacy", visit, "/privacy", retention_days=self._retention_days)

    async def log_out_page(self, request: Request) -> Response:
        """GET `/logout`: a button, so that no link or preview ends a session."""
        visit = self._reception.visit(request)
        if "done" in request.query_params:
            return self._page("logout", visit, "/logout", is_done=True, fields={})
        known = self._who(visit)
        fields = {} if known is None else self._ending_fields(visit, known)
        return self._page(
            "logout",
            visit,
            "/logout",
            is_done=False,
            fields=fields,
            action="/logout",
            back=self._reception.href(visit, "/status"),
            login_base=None if known is None else known.login_base,
        )

    async def refused(self, request: Request, error: Exception) -> Response:
        """Any address, or method on an address, that we do not have."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        return self._missing(self._reception.visit(request, {}), status)

    # --- POST ----------------------------------------------------------------------------------

    async def log_in(self, request: Request) -> Response:
        """POST `/login`: check the code and hand the phone over to its gateway."""
        try:
            fields = await read_fields(request)
        except BodyTooLarge:
            return self._too_large(request)
        visit = self._reception.visit(request, fields)
        typed = fields.get("kode", "").strip()
        if not visit.has_good_form:
            error = Trouble(visit.t("error.old_page"), visit.t("error.press_again"))
            return self._form(visit, code=typed[:64], error=error)
        slip = self._slip(visit, typed)
        if slip is not None:
            return self._form(visit, code=typed[:64], error=slip)
        code = normalise(typed)
        assert code is not None
        waiting = Waiting(code, visit.now, move=fields.get("pindah") == "1")
        return self._try(visit, waiting)

    def _try(self, visit: Visit, waiting: Waiting) -> Response:
        """Check a well-formed code and go on."""
        if visit.landing is not None and visit.gateway is None:
            return self._unknown_gateway(visit)
        result = self._door.check_code(waiting.code, self._phone(visit), move=waiting.move)
        is_elsewhere = isinstance(result, Problem) and result.reason in (
            Reason.IN_USE,
            Reason.RESERVED,
        )
        if visit.landing is None and (isinstance(result, Ticket) or is_elsewhere):
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
            fields = {**self._form_fields(visit), "kode": waiting.code, "pindah": "1"}
            return self._page(
                "move",
                visit,
                "/",
                action="/login",
                fields=fields,
                cancel=self._reception.href(visit, "/"),
            )
        return self._refuse(visit, show(waiting.code), result)

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
        return_url = f"{visit.own_url}/connected?{urlencode({'k': link, **visit.wishes})}"
        family = known_family(visit.arrival.family)
        assert family is not None
        try:
            url = family.hand_off_url(
                visit.arrival,
                ticket.serial,
                ticket.password,
                visit.gateway.uam_secret,
                return_url,
            )
        except ArrivalError:
            # The arrival has no challenge: an old page, or one of a phone that was online.
            return self._via_gateway(visit, waiting)
        self._memory.put([f"link:{nonce}"], replace(waiting, at=visit.now))
        return redirect(url)

    def _via_gateway(self, visit: Visit, waiting: Waiting) -> Response:
        """Send the phone to its gateway for a fresh arrival; the code waits here."""
        gateway = visit.gateway or visit.nearest
        family = None if gateway is None else known_family(gateway.family)
        if waiting.rounds > MAX_ROUNDS:
            again = Trouble(visit.t("error.not_yet"), visit.t("error.press_again"))
            return self._form(visit, code=show(waiting.code), error=again)
        nonce = secrets.token_urlsafe(9)
        start = None
        if family is not None and visit.login_base is not None:
            back = f"{visit.own_url}/?{urlencode({'n': nonce, **visit.wishes})}"
            start = family.login_start_url(visit.login_base, back)
        if start is None:
            return self._outside(visit, waiting.code)
        waiting = replace(waiting, at=visit.now, rounds=waiting.rounds + 1)
        self._memory.put(self._keys(visit, nonce), waiting)
        return redirect(start)

    def _complete(self, visit: Visit, waiting: Waiting) -> Response:
        """Go on with a code that waited while the phone was at its gateway."""
        assert visit.arrival is not None
        if visit.arrival.state != "already":
            return self._try(visit, waiting)
        # The phone is online with a card: the new one takes its place.
        current = self._who(visit)
        result = self._door.check_code(waiting.code, self._phone(visit), move=waiting.move)
        if not isinstance(result, Ticket):
            return self._proceed(visit, waiting, result)
        if current is not None and current.voucher_id == result.voucher_id:
            return self._status(visit, current)
        family = known_family(visit.arrival.family)
        logoff = None if family is None else family.logoff_url(visit.arrival.login_base)
        if logoff is None or waiting.rounds > MAX_ROUNDS:
            return self._already(visit) if current is None else self._status(visit, current)
        if current is not None:
            self._door.log_out(current.voucher_id, current.mac, disconnect=False)
        waiting = replace(waiting, at=visit.now, rounds=waiting.rounds + 1)
        self._memory.put(self._keys(visit, visit.returned.nonce), waiting)
        return redirect(logoff)

    async def log_out(self, request: Request) -> Response:
        """POST `/logout`: end the session, at the gateway where that can be."""
        try:
            fields = await read_fields(request)
        except BodyTooLarge:
            return self._too_large(request)
        visit = self._reception.visit(request, fields)
        ending = self._seals.open_ending(fields.get("e", ""))
        if ending is None or not ending.is_good(visit.source, visit.now):
            known = self._who(visit)
            if known is None:
                return self._form(visit, notice=self._not_in(visit))
            t = visit.t
            error = Trouble(t("error.old_page"), t("error.log_out_again"))
            return self._status(visit, known, error=error)
        logoff = None
        gateway = None
        if ending.gateway_id is not None:
            gateway = self._reception.admin.gateways_by_id.get(ending.gateway_id)
        if gateway is not None and ending.login_base is not None:
            family = known_family(gateway.family)
            logoff = None if family is None else family.logoff_url(ending.login_base)
        self._door.log_out(ending.voucher_id, ending.mac, disconnect=logoff is None)
        if logoff is not None:
            return redirect(logoff)
        return redirect(f"/logout?{urlencode({'done': '1', **visit.wishes})}")

    # --- who asks ------------------------------------------------------------------------------

    def _phone(self, visit: Visit) -> Phone:
        arrival, gateway = visit.arrival, visit.gateway
        return Phone(
            mac=None if arrival is None else arrival.mac,
            is_signed=visit.is_signed,
            gateway_id=None if gateway is None else gateway.id,
            source=visit.source,
        )

    def _keys(self, visit: Visit, nonce: str | None) -> list[str]:
        """What only this phone can bring back: a number of ours, or a MAC that was signed."""
        keys = [] if nonce is None else [f"nonce:{nonce}"]
        if visit.is_signed and visit.arrival is not None and visit.arrival.mac is not None:
            assert visit.gateway is not None
            keys.append(f"mac:{visit.gateway.id}:{visit.arrival.mac}")
        return keys

    def _link_fits(self, visit: Visit) -> bool:
        """Tell whether a link may speak for this phone."""
        if visit.link is None:
            return False
        if visit.is_signed and visit.arrival is not None:
            return visit.link.mac == visit.arrival.mac
        return True

    def _is_fresh_link(self, visit: Visit) -> bool:
        return (
            visit.link is not None
            and self._link_fits(visit)
            and visit.now - visit.link.made_at < FRESH_LINK_S
        )

    def _who(self, visit: Visit) -> Known | None:
        """Find the card of this phone: a login that is just going on, the signed arrival, the
        source address, a link.

        Where the gateway signs and this arrival is not signed, nothing is told (design, Pages).
        """
        gateway = visit.gateway
        if gateway is not None and gateway.uam_secret and not visit.is_signed:
            return None
        if self._is_fresh_link(visit):
            known = self._who_by_link(visit)
            if known is not None:
                return known
        if visit.is_signed and visit.arrival is not None and visit.arrival.mac is not None:
            found = self._door.status_of_mac(
                visit.arrival.mac, None if gateway is None else gateway.id
            )
            if found is None:
                return None
            gateway_id = None if gateway is None else gateway.id
            return Known(*found, visit.arrival.mac, gateway_id, visit.login_base)
        return self._who_by_address(visit) or self._who_by_link(visit)

    def _who_by_address(self, visit: Visit) -> Known | None:
        gateway_id = None if visit.gateway is None else visit.gateway.id
        found = self._door.status_of_address(visit.source, gateway_id)
        if found is None:
            return None
        mac = self._door.mac_at_address(visit.source, gateway_id)
        gateway = visit.gateway or self._door.gateway_at_address(visit.source)
        login_base = None if visit.landing is None else visit.login_base
        if login_base is None and gateway is not None:
            login_base = gateway.login_base
        return Known(*found, mac, None if gateway is None else gateway.id, login_base)

    def _who_by_link(self, visit: Visit) -> Known | None:
        link = visit.link
        if link is None or not self._link_fits(visit):
            return None
        status = self._door.status(link.voucher_id)
        if status is None:
            return None
        return Known(link.voucher_id, status, link.mac, link.gateway_id, link.login_base)

    def _site_of(self, visit: Visit, known: Known | None) -> Site | None:
        if visit.site is not None or known is None:
            return visit.site
        sites = self._reception.admin.sites_by_id.values()
        return next((site for site in sites if site.code == known.status.site_code), None)

    # --- what to say ---------------------------------------------------------------------------

    def _slip(self, visit: Visit, typed: str) -> Trouble | None:
        """What is wrong with a typed code before anybody has to be asked."""
        t = visit.t
        code = normalise(typed)
        if code == RESERVED_CODE:
            return Trouble(t("error.example"), t("error.example_next"))
        if code is not None:
            if is_well_formed(code):
                return None
            return Trouble(t("error.mistyped"), t("error.mistyped_next"))
        digits = sum(character.isdecimal() for character in typed)
        if digits == 0:
            return Trouble(t("error.empty"), t("error.empty_next"))
        if digits == CODE_DIGITS:
            return Trouble(t("error.mistyped"), t("error.mistyped_next"))
        return Trouble(t("error.length", n=digits), t("error.length_next"))

    def _refuse(self, visit: Visit, code: str, problem: Problem) -> Response:
        """The form again, with why and what to do."""
        t, site = visit.t, visit.site
        error = trouble(
            t,
            problem,
            now=visit.now,
            zone=self._reception.zone(site),
            site_name=site.name if site else t("site.unnamed"),
        )
        if problem.reason is not Reason.TOO_MANY_MISSES:
            return self._form(visit, code=code, error=error)
        wait_s = max(problem.wait_s or 0, 1)
        headers = {"retry-after": str(wait_s)}
        return self._form(visit, code=code, error=error, status=429, headers=headers)

    def _trouble_of(self, visit: Visit, status: VoucherStatus) -> Trouble | None:
        t, site = visit.t, visit.site
        return trouble_of_status(
            t,
            status,
            now=visit.now,
            zone=self._reception.zone(site),
            site_name=site.name if site else t("site.unnamed"),
        )

    # --- the pages -----------------------------------------------------------------------------

    def _form_fields(self, visit: Visit) -> dict[str, str]:
        return {"f": self._reception.form_seal(visit), **visit.wishes}

    def _ending_fields(self, visit: Visit, known: Known) -> dict[str, str]:
        ending = self._seals.seal_ending(
            Ending(
                voucher_id=known.voucher_id,
                mac=known.mac,
                gateway_id=known.gateway_id,
                login_base=known.login_base,
                made_at=visit.now,
                source=visit.source,
            )
        )
        fields = {"e": ending, **visit.wishes}
        if visit.link_text is not None:
            fields["k"] = visit.link_text
        return fields

    def _form(
        self,
        visit: Visit,
        *,
        code: str = "",
        error: Trouble | None = None,
        notice: Notice | None = None,
        is_prefilled: bool = False,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The page with the field for the code."""
        return self._page(
            "form",
            visit,
            "/" if not is_prefilled else f"/v/{code}",
            status=status,
            headers=headers,
            action="/login",
            fields=self._form_fields(visit),
            code=show(code) if is_prefilled else code,
            example=show(RESERVED_CODE),
            error=error,
            notice=notice,
            is_prefilled=is_prefilled,
        )

    def _connected(self, visit: Visit, known: Known | None) -> Response:
        """ "Berhasil": what is left and how long, and one link."""
        site = self._site_of(visit, known)
        zone, t = self._reception.zone(site), visit.t
        lines = [] if known is None else gauges(t, known.status, now=visit.now, zone=zone)
        end = None if known is None else end_of(t, known.status, now=visit.now, zone=zone)
        return self._page(
            "connected",
            visit,
            "/connected",
            site=site,
            gauges=lines,
            end=end,
            warning=None if known is None else warning(t, known.status),
            status_href=self._reception.href(visit, "/status"),
        )

    def _status(self, visit: Visit, known: Known, *, error: Trouble | None = None) -> Response:
        """What is left, when it returns, and the buttons to leave."""
        site = self._site_of(visit, known)
        zone, t, status = self._reception.zone(site), visit.t, known.status
        stopped = self._trouble_of(visit, status)
        is_down = self._reception.backhaul().state == "down"
        is_online = status.open_sessions > 0
        if is_online and status.is_throttled:
            state = ("low", t("status.slow"))
        elif is_online:
            state = ("ok", t("status.logged_in" if is_down else "status.online"))
        elif stopped is not None:
            state = ("bad", stopped.what)
        else:
            state = ("low", t("status.offline"))
        return self._page(
            "status",
            visit,
            "/status",
            site=site,
            state_kind=state[0],
            state_text=state[1],
            next_step=stopped.next if stopped is not None and not is_online else None,
            error=error,
            warning=warning(t, status),
            gauges=gauges(t, status, now=visit.now, zone=zone),
            facts=facts(t, status, now=visit.now, zone=zone),
            again=self._reception.href(visit, "/status"),
            action="/logout",
            fields=self._ending_fields(visit, known) if is_online else {},
            login_base=known.login_base,
        )

    def _already(self, visit: Visit) -> Response:
        """Online by the gateway's word, but nothing may be told about the card."""
        t = visit.t
        return self._plain(
            visit, t("status.already"), [t("status.unseen")], kind="ok", path="/status"
        )

    def _outside(self, visit: Visit, code: str | None) -> Response:
        """A phone of which no gateway is known: how to get into the village's WiFi."""
        return self._page(
            "outside",
            visit,
            "/",
            code=None if code is None else show(code),
            again=self._reception.href(visit, "/"),
        )

    def _unknown_gateway(self, visit: Visit) -> Response:
        """An arrival through a gateway that nobody registered."""
        assert visit.arrival is not None
        named = (visit.arrival.nas_id, visit.source)
        if named not in self._unknown and len(self._unknown) < UNKNOWN_NAMED:
            self._unknown.add(named)
            log.warning(
                "a phone came from %s through an unknown gateway that calls itself %r;"
                " expected one of `pesisir gateway list`",
                visit.source,
                visit.arrival.nas_id,
            )
        t = visit.t
        return self._plain(visit, t("unknown.heading"), [t("unknown.next")])

    def _bad_arrival(self, request: Request) -> Response:
        visit = self._reception.visit(request, {})
        t = visit.t
        return self._plain(visit, t("bad_arrival.heading"), [t("bad_arrival.next")], status=400)

    def _missing(self, visit: Visit, status: int = 404) -> Response:
        t = visit.t
        return self._plain(visit, t("missing.heading"), [t("missing.next")], status=status)

    def _too_large(self, request: Request) -> Response:
        visit = self._reception.visit(request, {})
        t = visit.t
        return self._plain(visit, t("too_large.heading"), [t("error.empty_next")], status=413)

    def _fault(self, visit: Visit, number: str, *, status: int = 200) -> Response:
        t = visit.t
        return self._plain(
            visit,
            t("fault.heading"),
            [t("fault.next"), t("fault.number", number=number)],
            status=status,
        )

    def fault(self, request: Request, number: str) -> Response:
        """The page after an error of ours; `number` finds it in the log."""
        visit = self._reception.visit(request, {})
        return self._fault(visit, number, status=500)

    def _plain(
        self,
        visit: Visit,
        heading: str,
        sentences: list[str],
        *,
        kind: str = "low",
        path: str = "/",
        status: int = 200,
    ) -> Response:
        return self._page(
            "plain", visit, path, status=status, kind=kind, heading=heading, sentences=sentences
        )

    def _page(
        self,
        name: str,
        visit: Visit,
        path: str,
        *,
        site: Site | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        login_base: str | None = None,
        **values: object,
    ) -> Response:
        """Render a page in its frame. `login_base`: a gateway that its form leads to."""
        frame = self._reception.frame(visit, path, site)
        return self._pages.respond(
            name,
            {**frame, **values},
            status=status,
            headers=headers,
            form_action=self._form_action(visit, login_base),
        )

    def _form_action(self, visit: Visit, login_base: str | None) -> list[str]:
        """The origins a form of this page may lead to, over all redirects: this phone's gateway,
        and the portal under its configured name, to which the gateway sends it back.
        """
        origins = [visit.own_url, *visit.origins[:1]]
        for base in (login_base, visit.login_base):
            if base is not None:
                parts = urlsplit(base)
                origins.append(f"{parts.scheme}://{parts.netloc}")
        return list(dict.fromkeys(origins))


def help_number() -> str:
    """A short number that a resident can read to the helper, and that the log has too."""
    return f"K-{secrets.token_hex(2).upper()}"
