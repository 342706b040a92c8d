"""What a gateway was asked to do with sessions, by people and by the box itself, and its answers.

For the engineer: whether control works here. An answer is no proof; the page says so.
"""

from typing import Any

from starlette.responses import Response

from portal.attempts import Attempt
from portal.errors import UserError
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House
from portal.web.operator.online import answer_words, card_of, name_of, who

PATH = "/operator/gateways/{gateway}/actions"
SHOWN = 50
WHYS = frozenset(
    (
        "operator",
        "revoked",
        "replaced",
        "moved",
        "blocked",
        "removed",
        "logout",
        "superseded",
        "used_up_data",
        "used_up_time",
        "expired",
        "outside_hours",
        "throttle",
        "throttle_ignored",
        "top_up",
        "extend",
        "profile",
    )
)
"""Why a gateway is asked; each has a text `actions.why_<word>`."""


def pages(desk: Desk, house: House) -> list[Page]:
    """The page of this module."""

    async def actions(visit: Visit) -> Response:
        """The last fifty, newest first."""
        name = str(visit.request.path_params["gateway"])
        try:
            gateway = house.admin.gateway(name)
        except UserError:
            raise NotHere from None
        visit.require_site(gateway.site_id)
        found = await house.disconnects.actions(gateway.id, SHOWN)
        return desk.page(
            visit,
            "gateway_actions",
            {
                "name": gateway.name,
                "here": PATH.format(gateway=gateway.name),
                "back": PATH.format(gateway=gateway.name).removesuffix("/actions"),
                "shown": SHOWN,
                "rows": [_row(visit, attempt) for attempt in found],
            },
        )

    return [Page(PATH, actions, Need.ADMIN)]


def _row(visit: Visit, attempt: Attempt) -> dict[str, Any]:
    t = visit.t
    why = attempt.why if attempt.why in WHYS else "other"
    at = f"{t.short_date(attempt.asked_at, visit.zone)} {t.time(attempt.asked_at, visit.zone)}"
    return {
        "at": at,
        "what": t(f"actions.{attempt.kind}"),
        "why": t(f"actions.why_{why}"),
        "by": who(t, attempt),
        "name": name_of(visit, attempt),
        "card": card_of(attempt),
        "answer": answer_words(visit, attempt),
        "sign": {"ack": "ok", "nak": "bad", None: None}.get(attempt.answer, "low"),
    }
