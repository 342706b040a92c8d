"""Alarms: what does not fit, both sides of it, and who laid it to rest and why."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from portal.errors import DeskError
from portal.store.audit import Deed
from portal.web.diskominfo.console import ALARMS, Console
from portal.web.operator.desk import Need, NotHere, Page, Visit

SHOWN = 200
_EVIDENCE_SHOWN = 4_000


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    desk, office = console.desk, console.office

    def shown(visit: Visit, row: Any, sites: Mapping[str, str]) -> dict[str, object]:
        t = visit.t
        kind = str(row["kind"])
        query = urlencode({"node": row["node_id"], "kind": kind, "key": row["alarm_key"]})
        return {
            "node": row["node_id"],
            "kind": kind,
            "key": row["alarm_key"],
            "title": _title(visit, kind),
            "what": _what(visit, kind),
            "site": sites.get(row["node_id"], ""),
            "detail": row["detail"],
            "count": t.number(int(row["count"])),
            "first": t.moment(row["first_at"], visit.now, visit.zone),
            "last": t.moment(row["last_at"], visit.now, visit.zone),
            "ended": None
            if row["ended_at"] is None
            else t.moment(row["ended_at"], visit.now, visit.zone),
            "ended_by": row["ended_by"],
            "reason": row["reason"],
            "href": f"{ALARMS}/one?{query}",
        }

    async def names() -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for row in await office.reading.sites():
            if row["node_id"] is not None:
                found.setdefault(row["node_id"], []).append(row["name"])
        return {node: ", ".join(of_node) for node, of_node in found.items()}

    async def list_(visit: Visit) -> Response:
        """GET: what stands, then what was ended."""
        sites = await names()
        standing = await office.office.alarms(is_open=True, limit=SHOWN)
        ended = await office.office.alarms(is_open=False, limit=20)
        values = {
            "open": [shown(visit, row, sites) for row in standing],
            "ended": [shown(visit, row, sites) for row in ended],
        }
        return desk.page(visit, "alarms", values)

    async def found(values: Mapping[str, str]) -> Any:
        wanted = tuple(values.get(name, "") for name in ("node", "kind", "key"))
        for is_open in (True, False):
            for row in await office.office.alarms(is_open=is_open, limit=10_000):
                if (row["node_id"], row["kind"], row["alarm_key"]) == wanted:
                    return row
        raise NotHere

    async def page(visit: Visit, row: Any, error: DeskError | None = None) -> Response:
        evidence = await office.office.evidence(row["node_id"], row["kind"], row["alarm_key"])
        return desk.page(
            visit,
            "alarm",
            {
                "one": shown(visit, row, await names()),
                "evidence": [
                    {
                        "side": visit.t(f"review.side.{each['side']}")
                        if each["side"] in ("node", "hub")
                        else each["side"],
                        "what": each["what"],
                        "text": _text(bytes(each["octets"])),
                    }
                    for each in evidence
                ],
                "reason": visit.fields.get("reason", ""),
            },
            error=error,
        )

    async def one(visit: Visit) -> Response:
        """GET: an alarm with its evidence."""
        return await page(visit, await found(visit.query))

    async def end(visit: Visit) -> Response:
        """POST: somebody has looked at it, and says what it was."""
        row = await found(visit.fields)
        reason = " ".join(visit.fields.get("reason", "").split())
        if not 4 <= len(reason) <= 200:
            return await page(visit, row, DeskError("reason"))
        by, now = visit.operator.name, visit.now
        key = (row["node_id"], row["kind"], row["alarm_key"])
        async with office.store.database.transaction() as transaction:
            if await office.office.end_alarm(transaction, *key, by, reason, now):
                deed = Deed(by, "alarm.end", None, row["node_id"], reason, row["kind"])
                await office.office.write_deed(transaction, now, deed)
        return desk.go(ALARMS, notice="review.alarm_ended")

    return [
        Page(ALARMS, list_, Need.SEE),
        Page(ALARMS + "/one", one, Need.SEE),
        Page(ALARMS + "/one", end, Need.ADMIN, ("POST",)),
    ]


def _title(visit: Visit, kind: str) -> str:
    """What an alarm is called; one of a newer program by its own name."""
    try:
        return visit.t(f"review.alarm.{kind}")
    except KeyError:
        return kind


def _what(visit: Visit, kind: str) -> str:
    """What an alarm means and what to do; nothing for one of a newer program."""
    try:
        return visit.t(f"review.alarm_what.{kind}")
    except KeyError:
        return ""


def _text(octets: bytes) -> str:
    """Evidence as it can be read: a note as it is, other octets in hex."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        text = octets.hex(" ")
    if not all(sign.isprintable() or sign == "\n" for sign in text):
        text = octets.hex(" ")
    return text[:_EVIDENCE_SHOWN]
