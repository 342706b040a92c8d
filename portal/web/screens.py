"""Screens: each page a resident can see, put together from what the handlers found out.

A screen decides nothing: it writes sentences, seals what its buttons carry, and says which origins
its forms may lead to.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from portal.admin import Site
from portal.complaints import CATEGORIES, CONTACT_LONGEST, WORDS_LONGEST, Complaint
from portal.domain.quota import Reason
from portal.domain.voucher import RESERVED_CODE, show
from portal.door import Problem
from portal.grants import VoucherStatus
from portal.web.arrivals import known_family
from portal.web.forms import Ending, Seals
from portal.web.identity import Known
from portal.web.pages import Pages
from portal.web.sentences import (
    Trouble,
    end_of,
    facts,
    first_card_words,
    gauges,
    trouble,
    trouble_of_status,
    warning,
)
from portal.web.visit import BackhaulState, Reception, Visit


@dataclass(frozen=True, slots=True)
class Notice:
    """A line above the form; `kind` is the shape beside it: ok, low or bad."""

    kind: str
    text: str


class Screens:
    """The pages. Every method returns a whole response."""

    def __init__(
        self,
        *,
        reception: Reception,
        pages: Pages,
        seals: Seals,
        backhaul: Callable[[], BackhaulState],
        retention_days: int | None,
    ) -> None:
        self._reception = reception
        self._pages = pages
        self._seals = seals
        self._backhaul = backhaul
        self._retention_days = retention_days

    # --- typing a code -------------------------------------------------------------------------

    def form(
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
        """The field for the code. `code`: what stands in it, as typed; with `is_prefilled` a
        well-formed one that the resident has not typed.
        """
        return self._page(
            "form",
            visit,
            f"/v/{code}" if is_prefilled else "/",
            status=status,
            headers=headers,
            action="/login",
            fields=self._form_fields(visit),
            code=show(code) if is_prefilled else code,
            example=show(RESERVED_CODE),
            error=error,
            notice=notice,
            is_prefilled=is_prefilled,
            no_card=first_card_words(
                visit.t, visit.site, visit.now, self._reception.zone(visit.site)
            ),
        )

    def refused(self, visit: Visit, code: str, problem: Problem) -> Response:
        """The form again, with why the card cannot be used and what to do; 429 after misses."""
        error = self.trouble(visit, problem)
        if problem.reason is not Reason.TOO_MANY_MISSES:
            return self.form(visit, code=code, error=error)
        headers = {"retry-after": str(max(problem.wait_s or 0, 1))}
        return self.form(visit, code=code, error=error, status=429, headers=headers)

    def press_again(self, visit: Visit, key: str, *, code: str = "") -> Response:
        """The form with the code kept, when pressing the button once more is all there is to do."""
        error = Trouble(visit.t(f"error.{key}"), visit.t("error.press_again"))
        return self.form(visit, code=code, error=error)

    def not_in(self, visit: Visit) -> Response:
        """The form for a phone that asked for what only a logged-in one has."""
        return self.form(visit, notice=Notice("low", visit.t("notice.not_in")))

    def move(self, visit: Visit, code: str) -> Response:
        """Ask whether the card shall leave its other phone."""
        return self._page(
            "move",
            visit,
            "/",
            action="/login",
            fields={**self._form_fields(visit), "kode": code, "pindah": "1"},
            cancel=self._reception.href(visit, "/"),
        )

    def _form_fields(self, visit: Visit) -> dict[str, str]:
        return {"f": visit.form_seal, **visit.wishes}

    def trouble(self, visit: Visit, problem: Problem) -> Trouble:
        """What stops this resident, in the words of this page."""
        zone = self._reception.zone(visit.site)
        return trouble(visit.t, problem, now=visit.now, zone=zone, site=visit.site)

    def trouble_of(self, visit: Visit, status: VoucherStatus) -> Trouble | None:
        """Why this card could not log in now, None when it could."""
        zone = self._reception.zone(visit.site)
        return trouble_of_status(visit.t, status, now=visit.now, zone=zone, site=visit.site)

    # --- logged in -----------------------------------------------------------------------------

    def connected(self, visit: Visit, known: Known | None) -> Response:
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
            is_slow=known is not None and known.status.is_throttled,
            status_href=self._reception.href(visit, "/status"),
        )

    def status(self, visit: Visit, known: Known, *, error: Trouble | None = None) -> Response:
        """What is left, when it returns, and the buttons to leave."""
        site = self._site_of(visit, known)
        zone, t, status = self._reception.zone(site), visit.t, known.status
        stopped = self.trouble_of(visit, status)
        is_online = status.open_sessions > 0
        kind, text = "low", t("status.offline")
        next_step = None if is_online or stopped is None else stopped.next
        if not is_online and status.is_throttled:
            next_step = t("status.slow_next")
        if is_online and status.is_throttled:
            text = t("status.slow")
        elif is_online:
            is_down = self._backhaul().state == "down"
            kind, text = "ok", t("status.logged_in" if is_down else "status.online")
        elif stopped is not None:
            kind, text = "bad", stopped.what
        return self._page(
            "status",
            visit,
            "/status",
            site=site,
            state_kind=kind,
            state_text=text,
            next_step=next_step,
            error=error,
            warning=warning(t, status),
            gauges=gauges(t, status, now=visit.now, zone=zone),
            facts=facts(t, status, now=visit.now, zone=zone),
            again=self._reception.href(visit, "/status"),
            action="/logout",
            fields=self._ending_fields(visit, known) if is_online else {},
            login_base=known.login_base,
        )

    def already(self, visit: Visit) -> Response:
        """Online by the gateway's word, but nothing may be told about the card."""
        t = visit.t
        family = None if visit.arrival is None else known_family(visit.arrival.family)
        leave = None
        if family is not None and visit.login_base is not None:
            leave = family.logoff_url(visit.login_base)
        return self.plain(
            visit,
            t("status.already"),
            [t("status.unseen")],
            kind="ok",
            path="/status",
            leave=leave,
        )

    def log_out(self, visit: Visit, known: Known | None) -> Response:
        """The button that ends the session."""
        return self._page(
            "logout",
            visit,
            "/logout",
            is_done=False,
            fields={} if known is None else self._ending_fields(visit, known),
            action="/logout",
            back=self._reception.href(visit, "/status"),
            login_base=None if known is None else known.login_base,
        )

    def logged_out(self, visit: Visit) -> Response:
        """The session has ended, or is asked to end."""
        return self._page("logout", visit, "/logout", is_done=True, fields={})

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

    def _site_of(self, visit: Visit, known: Known | None) -> Site | None:
        if visit.site is not None or known is None:
            return visit.site
        sites = self._reception.admin.sites_by_id.values()
        return next((site for site in sites if site.code == known.status.site_code), None)

    # --- complaints ----------------------------------------------------------------------------

    def complaint_form(
        self,
        visit: Visit,
        *,
        site: Site | None,
        sites: Sequence[Site],
        draft: object,
        serial: str | None,
        error: Trouble | None,
        look_up_error: Trouble | None,
        number: str,
        wait_s: int | None,
    ) -> Response:
        """The form for a complaint and the field to look up an answer. `sites`: to choose from,
        where it is not known; `draft`: what stands in the form; `wait_s`: 429 when there is one.
        """
        fields = self._form_fields(visit)
        if visit.link_text is not None:
            fields["k"] = visit.link_text
        return self._page(
            "complaint",
            visit,
            "/complaint",
            site=site,
            status=200 if wait_s is None else 429,
            headers=None if wait_s is None else {"retry-after": str(wait_s)},
            action="/complaint",
            fields=fields,
            sites=sites,
            categories=CATEGORIES,
            draft=draft,
            serial=serial,
            error=error,
            look_up_error=look_up_error,
            number=number,
            words_longest=WORDS_LONGEST,
            contact_longest=CONTACT_LONGEST,
            retention_days=self._retention_days,
        )

    def complaint(self, visit: Visit, found: Complaint, site: Site, number: str) -> Response:
        """The number of a complaint, and its answer when there is one."""
        t, zone = visit.t, self._reception.zone(site)
        answered = None
        if found.answered_at is not None:
            answered = t("complaint.answered_at", when=t.moment(found.answered_at, visit.now, zone))
        return self._page(
            "complaint_state",
            visit,
            f"/complaint/{number}",
            site=site,
            number=number,
            about=t(f"complaint.about_{found.category}"),
            made=t.moment(found.created_at, visit.now, zone),
            due=t.moment(found.due_at, visit.now, zone),
            is_late=found.is_late(visit.now),
            answer=found.answer,
            answered=answered,
            again=self._reception.href(visit, f"/complaint/{number}"),
        )

    # --- everything else -----------------------------------------------------------------------

    def terms(self, visit: Visit) -> Response:
        """The rules."""
        return self._page("terms", visit, "/terms")

    def privacy(self, visit: Visit) -> Response:
        """What is recorded, why and for how long."""
        return self._page("privacy", visit, "/privacy", retention_days=self._retention_days)

    def outside(self, visit: Visit, code: str) -> Response:
        """A phone of which no gateway is known: how to get into the village's WiFi."""
        again = self._reception.href(visit, f"/v/{code}")
        site = visit.site
        return self._page(
            "outside",
            visit,
            f"/v/{code}",
            code=show(code),
            again=again,
            wifi_name=(site.wifi_name or site.name) if site else visit.t("site.unnamed"),
        )

    def unknown_gateway(self, visit: Visit) -> Response:
        """An arrival through a gateway that nobody registered."""
        t = visit.t
        return self.plain(visit, t("unknown.heading"), [t("unknown.next")])

    def bad_arrival(self, request: Request) -> Response:
        """A redirect that must not be followed."""
        visit = self._reception.visit(request, {})
        t = visit.t
        return self.plain(visit, t("bad_arrival.heading"), [t("bad_arrival.next")], status=400)

    def too_large(self, request: Request) -> Response:
        """A POST that no form of ours makes."""
        visit = self._reception.visit(request, {})
        t = visit.t
        return self.plain(visit, t("too_large.heading"), [t("error.empty_next")], status=413)

    def missing(self, visit: Visit, status: int = 404) -> Response:
        """An address, or a method on one, that we do not have."""
        t = visit.t
        return self.plain(visit, t("missing.heading"), [t("missing.next")], status=status)

    def fault(self, visit: Visit, number: str, *, status: int = 200) -> Response:
        """Something is wrong with us; `number` finds it in the log."""
        t = visit.t
        sentences = [t("fault.next"), t("fault.number", number=number)]
        return self.plain(visit, t("fault.heading"), sentences, status=status)

    def plain(
        self,
        visit: Visit,
        heading: str,
        sentences: list[str],
        *,
        kind: str = "low",
        path: str = "/",
        status: int = 200,
        leave: str | None = None,
    ) -> Response:
        """A heading, some sentences and the way to the main page; `leave`: where a gateway ends
        the session of a phone of which we know no more.
        """
        return self._page(
            "plain",
            visit,
            path,
            status=status,
            kind=kind,
            heading=heading,
            sentences=sentences,
            leave=leave,
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
        frame = self._reception.frame(visit, path, self._backhaul(), site)
        return self._pages.respond(
            name,
            {**frame, **values},
            status=status,
            headers=headers,
            form_action=_form_action(visit, login_base),
        )


def _form_action(visit: Visit, login_base: str | None) -> list[str]:
    """The origins a form of this page may lead to, over all redirects: this phone's gateway, and
    the portal under its configured name, to which the gateway sends it back.
    """
    origins = [visit.own_url, *visit.origins[:1]]
    for base in (login_base, visit.login_base):
        if base is not None:
            parts = urlsplit(base)
            origins.append(f"{parts.scheme}://{parts.netloc}")
    return list(dict.fromkeys(origins))
