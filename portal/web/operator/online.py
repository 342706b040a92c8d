"""Online: the list of who is on, and ending one session with its true outcome.

The outcome page says first what accounting knows, then what the gateway answered: an answer is no
proof. Without JavaScript a link refreshes it; with it, the page asks again by itself for a minute.
"""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from portal.accounting import GONE
from portal.attempts import NODE, Attempt
from portal.audit import COMMAND_LINE
from portal.grants import ADMIN_RESET, NEWER_SESSION
from portal.online import Online, OpenSession, Truth
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.text import Translator

LIST = "/operator/online"
OUTCOME = LIST + "/outcome"
_ID_MAX = (1 << 63) - 1

# RFC 5176 3.5: the Error-Causes a person can do something about, others by number.
_CAUSES = {
    401: "attributes",
    402: "attributes",
    403: "nas",
    404: "attributes",
    407: "attributes",
    501: "prohibited",
    503: "unknown_session",
    504: "not_removable",
    506: "busy",
}
_ENDS = {
    ADMIN_RESET: "admin",
    "User-Request": "user",
    "Idle-Timeout": "idle",
    "Session-Timeout": "time",
    "Lost-Carrier": "lost",
    "Lost-Service": "lost",
    "Admin-Reboot": "reboot",
    "NAS-Reboot": "reboot",
    NEWER_SESSION: "newer",
}


def pages(desk: Desk, house: House) -> list[Page]:
    """Every address of these pages."""
    return OnlinePages(desk, house.online).pages()


class OnlinePages:
    """The list, the question, and what came of it."""

    def __init__(self, desk: Desk, online: Online) -> None:
        self._desk = desk
        self._online = online

    def pages(self) -> list[Page]:
        """Every address of these pages."""
        return [
            Page(LIST, self.listed, Need.SEE),
            Page(OUTCOME + "/{number:int}", self.outcome, Need.SEE),
            Page(LIST + "/{session_id:int}", self.confirm, Need.WORK),
            Page(LIST + "/{session_id:int}", self.disconnect, Need.WORK, ("POST",)),
        ]

    # -- the list --------------------------------------------------------------------------

    async def listed(self, visit: Visit) -> Response:
        """Who is on at this site, the newest first or by data."""
        is_by_data = visit.query.get("sort") == "data"
        wanted = visit.query.get("page", "")
        number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 6 else 1
        found = self._online.page(visit.site.id, number, most_data_first=is_by_data)
        return self._desk.page(
            visit,
            "online",
            {
                "total": found.total,
                "octets": found.octets,
                "is_by_data": is_by_data,
                "here": _here(is_by_data, found.number),
                "by_time": _here(False, 1),
                "by_data": _here(True, 1),
                "number": found.number,
                "pages": found.pages,
                "previous": _here(is_by_data, found.number - 1) if found.number > 1 else None,
                "next": _here(is_by_data, found.number + 1) if found.number < found.pages else None,
                "rows": [self._row(visit, session) for session in found.sessions],
            },
        )

    def _row(self, visit: Visit, session: OpenSession) -> dict[str, Any]:
        t = visit.t
        attempt = session.attempt
        return {
            "name": name_of(visit, session),
            "card": card_of(session),
            "since": _clock(visit, session.started_at),
            "data": t.octets(session.octets),
            "left": t("online.no_limit")
            if session.seconds_left is None
            else t.duration(session.seconds_left),
            "gateway": session.gateway,
            "cut": f"{LIST}/{session.id}",
            "asked": None if attempt is None else _clock(visit, attempt.asked_at),
            "outcome": None if attempt is None else f"{OUTCOME}/{attempt.number}",
        }

    # -- ending a session ------------------------------------------------------------------

    async def confirm(self, visit: Visit) -> Response:
        """Ask once."""
        session = self._session(visit)
        return self._desk.page(visit, "online_confirm", {"back": LIST, **self._row(visit, session)})

    def _session(self, visit: Visit) -> OpenSession:
        session_id = visit.request.path_params["session_id"]
        if session_id > _ID_MAX:
            raise NotHere
        site_id = self._online.site_of(session_id)
        if site_id is not None:
            visit.require_site(site_id)
        return self._online.session(session_id)

    async def disconnect(self, visit: Visit) -> Response:
        """Ask the gateway, and lead to what comes of it."""
        session = self._session(visit)
        attempt = await self._online.disconnect(session.id, by=visit.operator.name)
        return self._desk.go(f"{OUTCOME}/{attempt.number}")

    async def outcome(self, visit: Visit) -> Response:
        """What came of an attempt, as far as is known now."""
        number = visit.request.path_params["number"]
        attempt = await self._online.attempt(number) if number <= _ID_MAX else None
        if attempt is None:
            raise NotHere
        visit.require_site(attempt.site_id)
        truth = self._online.truth(attempt)
        # The last report often comes before the answer.
        is_waiting = truth.is_open or attempt.answer is None
        return self._desk.page(
            visit,
            "online_outcome",
            {
                "name": name_of(visit, attempt),
                "card": card_of(attempt),
                "here": f"{OUTCOME}/{number}",
                "back": LIST,
                "again": f"{LIST}/{attempt.session_id}"
                if truth.is_open and attempt.answer is not None
                else None,
                "is_waiting": is_waiting,
                "back_at": None if truth.back_at is None else _moment(visit, truth.back_at),
                "back_id": truth.back_id,
                "facts": _facts(visit, attempt, truth),
                **_verdict(visit, attempt, truth),
            },
            script="outcome" if is_waiting else None,
        )


def _verdict(visit: Visit, attempt: Attempt, truth: Truth) -> dict[str, str]:
    """The truth in one line, with its shape, and what that means."""
    t = visit.t
    if truth.ended_at is not None:
        at = _moment(visit, truth.ended_at)
        if truth.is_stopped:
            return _said("ok", t("online.ended", at=at), t("online.ended_how"))
        how = {NEWER_SESSION: "replaced", GONE: "gone"}.get(truth.end_cause or "", "lapsed")
        return _said("ok", t("online.lapsed", at=at), t(f"online.{how}_how"))
    if not truth.is_open:
        return _said("low", t("online.forgotten"), "")
    kind, name = {
        None: ("wait", "waiting"),
        "ack": ("low", "acked"),
        "nak": ("bad", "nakked"),
        "timeout": ("low", "timeout"),
        "unasked": ("low", "unasked"),
    }[attempt.answer]
    return _said(kind, t(f"online.{name}"), t(f"online.{name}_how"))


def _said(kind: str, what: str, how: str) -> dict[str, str]:
    return {"kind": kind, "what": what, "how": how}


def _facts(visit: Visit, attempt: Attempt, truth: Truth) -> list[tuple[str, str]]:
    """Who said what, and when."""
    t = visit.t
    asked = t("online.fact_asked_by", at=_moment(visit, attempt.asked_at), by=who(t, attempt))
    if truth.is_open and truth.last_seen_at is not None:
        said = t("online.truth_open", at=_moment(visit, truth.last_seen_at))
    elif truth.ended_at is not None:
        said = t("online.truth_ended", at=_moment(visit, truth.ended_at))
    else:
        said = t("online.truth_none")
    facts = [
        (t("online.fact_asked"), asked),
        (t("online.fact_answer"), answer_words(visit, attempt)),
        (t("online.fact_truth"), said),
    ]
    if truth.ended_at is not None:
        facts.append((t("online.fact_cause"), _end(visit, truth)))
    if attempt.gateway:
        facts.append((t("online.gateway"), attempt.gateway))
    return facts


def who(t: Translator, attempt: Attempt) -> str:
    """Who asked, in words."""
    if attempt.by == NODE:
        return t("online.by_node")
    return t("online.by_command") if attempt.by == COMMAND_LINE else attempt.by


def answer_words(visit: Visit, attempt: Attempt) -> str:
    """What the gateway said, how fast, and after how many requests."""
    answer = _answer(visit, attempt)
    if attempt.sent > 1:
        answer += f" \u00b7 {visit.t('online.tries', n=attempt.sent)}"
    return answer


def _answer(visit: Visit, attempt: Attempt) -> str:
    t = visit.t
    if attempt.answer is None:
        return t("online.answer_none")
    if attempt.answer == "ack":
        return t("online.answer_ack", ms=t.number(attempt.round_trip_ms or 0))
    if attempt.answer == "nak":
        number = attempt.error_cause
        if number is None:
            return t("online.answer_nak", cause=t("online.cause_none"))
        cause = t(f"online.cause_{_CAUSES.get(number, 'other')}", number=number)
        return t("online.answer_nak", cause=cause)
    if attempt.answer == "timeout" and attempt.answered_at is not None:
        return t("online.answer_timeout", at=_moment(visit, attempt.answered_at))
    return t("online.answer_unasked")


def _end(visit: Visit, truth: Truth) -> str:
    cause = truth.end_cause or ""
    if not truth.is_stopped and cause == "Lost-Carrier":
        return visit.t("online.end_silent")
    if not truth.is_stopped and cause == GONE:
        return visit.t("online.end_gone")
    return visit.t(f"online.end_{_ENDS.get(cause, 'other')}", cause=cause)


def name_of(visit: Visit, of: OpenSession | Attempt) -> str:
    """How people call it: a known device's name, the card's serial, else the phone."""
    if of.device:
        return of.device
    if of.serial:
        return of.serial
    if of.mac:
        return visit.t("online.phone", name=f"{of.mac[8:10]}-{of.mac[10:]}".upper())
    return visit.t("online.no_card")


def card_of(of: OpenSession | Attempt) -> str | None:
    """The card's page, None where there is no card that people hold."""
    return f"/operator/cards/{of.serial}" if of.serial and not of.device else None


def _clock(visit: Visit, at: int) -> str:
    """A moment as short as a list wants it: of today the clock alone."""
    t = visit.t
    local = datetime.fromtimestamp(at, visit.zone)
    clock = t("time.hour_minute", hour=f"{local.hour:02d}", minute=f"{local.minute:02d}")
    today = datetime.fromtimestamp(visit.now, visit.zone).date()
    if local.date() == today:
        return clock
    return f"{t.short_date(at, visit.zone)} {clock}"


def _moment(visit: Visit, at: int) -> str:
    return visit.t.since(at, visit.now, visit.zone)


def _here(is_by_data: bool, number: int) -> str:
    query = {}
    if is_by_data:
        query["sort"] = "data"
    if number > 1:
        query["page"] = str(number)
    return LIST + (f"?{urlencode(query)}" if query else "")
