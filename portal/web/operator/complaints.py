"""Complaints at the desk: what waits, with its clock of 24 hours, and answering it.

Reviewers read what was told and answered, never how to reach the person who told it.
"""

from typing import Any
from zoneinfo import ZoneInfo

from starlette.responses import Response

from portal.complaints import (
    ANSWER_LONGEST,
    ANSWER_WITHIN_S,
    Complaint,
    Complaints,
    number_of,
    read_number,
)
from portal.errors import DeskError
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit, whole_number
from portal.web.operator.house import House
from portal.web.visit import split_telephone

HOME = "/operator/complaints"
ON_PAGE = 15
EXCERPT = 70
"""Letters of a complaint in the list."""
SOON_S = 6 * 3_600
"""With less than this left the clock warns."""


class ComplaintDesk:
    """The pages of complaints."""

    def __init__(self, desk: Desk, complaints: Complaints) -> None:
        self._desk = desk
        self._complaints = complaints

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(HOME, self.list, Need.SEE),
            Page(HOME + "/{number}", self.one, Need.SEE),
            Page(HOME + "/{number}", self.answer, Need.WORK, ("POST",)),
        ]

    async def list(self, visit: Visit) -> Response:
        """What waits, the oldest first, then what was answered."""
        waiting = await self._complaints.unanswered(visit.site.id)
        pages = max(1, -(-len(waiting) // ON_PAGE))
        page = min(whole_number(visit.query.get("page")) or 1, pages)
        before_id = whole_number(visit.query.get("before"))
        answered = await self._complaints.answered(
            visit.site.id, before_id=before_id, limit=ON_PAGE + 1
        )
        shown = waiting[(page - 1) * ON_PAGE : page * ON_PAGE]
        return self._desk.page(
            visit,
            "complaints",
            {
                "waiting": [_line(visit, one, visit.zone) for one in shown],
                "count": len(waiting),
                "late": sum(one.is_late(visit.now) for one in waiting),
                "page": page,
                "pages": pages,
                "answered": [_line(visit, one, visit.zone) for one in answered[:ON_PAGE]],
                "older": answered[ON_PAGE - 1].id if len(answered) > ON_PAGE else None,
            },
        )

    def _found(self, visit: Visit) -> Complaint:
        number = read_number(visit.request.path_params["number"])
        found = None if number is None else self._complaints.one(number)
        if found is None:
            raise NotHere
        visit.require_site(found.site_id)
        return found

    async def one(self, visit: Visit) -> Response:
        """One complaint and the form for its answer."""
        return self._one(visit, self._found(visit), "")

    def _one(
        self, visit: Visit, found: Complaint, draft: str, error: DeskError | None = None
    ) -> Response:
        t, zone = visit.t, self._desk.admin.zone(found.site_id)
        return self._desk.page(
            visit,
            "complaint",
            {
                "found": found,
                "line": _line(visit, found, zone),
                "contact": split_telephone(found.contact) if visit.may(Need.WORK) else [],
                "has_contact": bool(found.contact),
                "due": t.moment(found.due_at, visit.now, zone),
                "answered": None
                if found.answered_at is None
                else t.moment(found.answered_at, visit.now, zone),
                "draft": draft,
                "longest": ANSWER_LONGEST,
            },
            status=200 if error is None else 400,
            error=error,
        )

    async def answer(self, visit: Visit) -> Response:
        """POST: answer, once; what was typed stays in the form when something is wrong."""
        found = self._found(visit)
        words = visit.fields.get("words", "")[: 2 * ANSWER_LONGEST]
        try:
            await self._complaints.answer(found.id, found.site_id, words, by=visit.operator.name)
        except DeskError as error:
            return self._one(visit, self._found(visit), words.strip(), error)
        return self._desk.go(HOME, notice="complaints.answered", number=number_of(found.id))


def _line(visit: Visit, one: Complaint, zone: ZoneInfo) -> dict[str, Any]:
    t, now = visit.t, visit.now
    words = " ".join(one.words.split())
    kind, clock = _clock(visit, one)
    return {
        "number": one.number,
        "about": t(f"complaint.about_{one.category}"),
        "excerpt": words if len(words) <= EXCERPT else words[: EXCERPT - 1].rstrip() + "\u2026",
        "made": t.moment(one.created_at, now, zone),
        "kind": kind,
        "clock": clock,
        "answered_by": one.answered_by,
    }


def _clock(visit: Visit, one: Complaint) -> tuple[str, str]:
    """The shape and the words of a complaint's 24 hours."""
    t, now = visit.t, visit.now
    if one.answered_at is not None:
        after = t.duration(max(one.answered_at - one.created_at, 60))
        if one.is_late(now):
            return "bad", t("complaints.answered_late", after=after)
        return "ok", t("complaints.answered_after", after=after)
    if one.is_late(now):
        return "bad", t("complaints.late", by=t.duration(max(now - one.due_at, 60)))
    left_s = min(max(one.due_at - now, 60), ANSWER_WITHIN_S)
    return "low" if left_s < SOON_S else "ok", t("complaints.left", left=t.duration(left_s))


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of complaints."""
    return ComplaintDesk(desk, house.complaints).pages()
