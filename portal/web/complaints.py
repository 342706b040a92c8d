"""Complaints of residents: the form, the number they are given, and the answer. Nobody signs in.

The form is sealed like the login's: bound to the phone's address and 30 minutes old at most. Who
has the number with its key sees the answer, and never the words or the contact: phones are shared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from portal.admin import Site
from portal.complaints import (
    CATEGORIES,
    CONTACT_LONGEST,
    WORDS_LONGEST,
    BoxFullError,
    Complaints,
    TooOftenError,
    tidy,
)
from portal.door import Door
from portal.web.forms import BodyTooLarge, read_fields
from portal.web.identity import Identity, Known
from portal.web.pages import redirect
from portal.web.screens import Screens
from portal.web.sentences import Trouble
from portal.web.visit import Reception, Visit

MAX_BODY_OCTETS = 16_384
"""500 letters of three octets each, percent-encoded, and the seal."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What stands in the form."""

    site: str = ""
    category: str = ""
    words: str = ""
    contact: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Draft":
        """What was typed; longer than anybody types by hand is cut off."""
        return cls(
            site=fields.get("desa", "")[:16],
            category=fields.get("masalah", "")[:20],
            words=tidy(fields.get("pesan", ""))[: 2 * WORDS_LONGEST],
            contact=" ".join(fields.get("kontak", "").split())[: 2 * CONTACT_LONGEST],
        )


class ComplaintPages:
    """The handlers of `/complaint`."""

    def __init__(
        self, *, complaints: Complaints, door: Door, reception: Reception, screens: Screens
    ) -> None:
        self._complaints = complaints
        self._door = door
        self._reception = reception
        self._screens = screens
        self._identity = Identity(door)

    async def form(self, request: Request) -> Response:
        """GET `/complaint`: the form, or with `nomor` the answer."""
        visit = self._reception.visit(request)
        asked = request.query_params.get("nomor")
        if asked is None:
            return self._form(visit, Draft())
        return self._look_up(visit, asked[:40])

    async def state(self, request: Request) -> Response:
        """GET `/complaint/{number}`: the address a resident was given."""
        visit = self._reception.visit(request)
        return self._look_up(visit, request.path_params["number"][:40])

    def _look_up(self, visit: Visit, number: str) -> Response:
        t = visit.t
        try:
            found = self._complaints.look_up(number, self._client(visit))
        except TooOftenError as error:
            return self._too_often(visit, Draft(), error, number=number)
        if found is None:
            trouble = Trouble(t("complaint.unknown"), t("complaint.unknown_next"))
            return self._form(visit, Draft(), look_up_error=trouble, number=number)
        site = self._reception.admin.sites_by_id[found.site_id]
        return self._screens.complaint(visit, found, site, self._complaints.full_number(found.id))

    async def send(self, request: Request) -> Response:
        """POST `/complaint`: take it and give its number."""
        try:
            fields = await read_fields(request, most_octets=MAX_BODY_OCTETS)
        except BodyTooLarge:
            return self._screens.too_large(request)
        visit = self._reception.visit(request, fields)
        t = visit.t
        draft = Draft.of(fields)
        if not visit.has_good_form:
            return self._form(
                visit, draft, Trouble(t("error.old_page"), t("complaint.press_again"))
            )
        site = self._site(visit, draft)
        slip = self._slip(visit, draft, site)
        if slip is not None or site is None:
            return self._form(visit, draft, slip)
        known = self._identity.who(visit)
        try:
            made = await self._complaints.add(
                site.id,
                category=draft.category,
                words=draft.words,
                contact=draft.contact,
                serial=self._serial(known),
                client=self._client(visit),
                source=visit.source,
            )
        except TooOftenError as error:
            return self._too_often(visit, draft, error)
        except BoxFullError:
            return self._form(
                visit, draft, Trouble(t("complaint.box_full"), t("complaint.box_full_next"))
            )
        number = self._complaints.full_number(made.id)
        return redirect(self._reception.href(visit, f"/complaint/{number}"))

    def _slip(self, visit: Visit, draft: Draft, site: Site | None) -> Trouble | None:
        t = visit.t
        if site is None:
            return Trouble(t("complaint.no_site"))
        if draft.category not in CATEGORIES:
            return Trouble(t("complaint.no_category"))
        if not draft.words:
            return Trouble(t("complaint.no_words"))
        if len(draft.words) > WORDS_LONGEST:
            most = t.number(WORDS_LONGEST)
            return Trouble(
                t("complaint.too_long", n=len(draft.words)), t("complaint.most", most=most)
            )
        if len(draft.contact) > CONTACT_LONGEST:
            most = t.number(CONTACT_LONGEST)
            return Trouble(t("complaint.contact_too_long"), t("complaint.most", most=most))
        return None

    def _site(self, visit: Visit, draft: Draft) -> Site | None:
        """The site it is about: of the phone's gateway or card, else the one chosen."""
        known = self._known_site(visit)
        if known is not None:
            return known
        sites = self._reception.admin.sites_by_id.values()
        return next((site for site in sites if site.code == draft.site), None)

    def _known_site(self, visit: Visit) -> Site | None:
        if visit.site is not None:
            return visit.site
        known = self._identity.who(visit)
        return None if known is None else self._door.site(known.status.site_code)

    def _serial(self, known: Known | None) -> str | None:
        if known is None:
            return None
        return self._complaints.serial_to_note(known.voucher_id, known.status.serial)

    def _client(self, visit: Visit) -> str | None:
        return self._door.client(self._identity.phone(visit))

    def _too_often(
        self, visit: Visit, draft: Draft, error: TooOftenError, *, number: str = ""
    ) -> Response:
        t = visit.t
        wait = t.wait(error.wait_s)
        trouble = Trouble(t("complaint.too_often"), t("error.too_many_misses_next", wait=wait))
        return self._form(
            visit,
            draft,
            None if number else trouble,
            look_up_error=trouble if number else None,
            number=number,
            wait_s=error.wait_s,
        )

    def _form(
        self,
        visit: Visit,
        draft: Draft,
        error: Trouble | None = None,
        *,
        look_up_error: Trouble | None = None,
        number: str = "",
        wait_s: int | None = None,
    ) -> Response:
        known = self._identity.who(visit)
        site = self._known_site(visit)
        sites = [] if site is not None else list(self._reception.admin.sites_by_id.values())
        return self._screens.complaint_form(
            visit,
            site=site,
            sites=sites,
            draft=draft,
            serial=self._serial(known),
            error=error,
            look_up_error=look_up_error,
            number=number,
            wait_s=wait_s,
        )
