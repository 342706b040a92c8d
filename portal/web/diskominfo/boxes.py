"""Boxes: sites and their tokens, boxes that wait to be let in, boxes that report; for admins.

A token is shown once, on the page that answers the form. The six words of a box are not shown to
who approves: that person types what the one at the box reads out.
"""

from base64 import b64encode

from markupsafe import Markup
from starlette.responses import Response

from portal.errors import DeskError, UserError
from portal.hub.enrolment import Invitation, Waiting
from portal.printing import qr_svg
from portal.web.diskominfo.console import BOXES, Console
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit

WAITING = BOXES + "/waiting/{token}"
ONE = BOXES + "/box/{node}"
ZONES = {"Asia/Jakarta": "WIB", "Asia/Makassar": "WITA", "Asia/Jayapura": "WIT"}


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    found = _Boxes(console)
    return [
        Page(BOXES, found.all, Need.ADMIN),
        Page(BOXES, found.add_site, Need.ADMIN, ("POST",)),
        Page(BOXES + "/invite", found.invite, Need.ADMIN, ("POST",)),
        Page(WAITING, found.waiting, Need.ADMIN),
        Page(WAITING, found.approve, Need.ADMIN, ("POST",)),
        Page(WAITING + "/refuse", found.refuse, Need.ADMIN, ("POST",)),
        Page(ONE, found.one, Need.ADMIN),
        Page(ONE, found.revoke, Need.ADMIN, ("POST",)),
    ]


class _Boxes:
    def __init__(self, console: Console) -> None:
        self._desk: Desk = console.desk
        self._office = console.office

    async def all(self, visit: Visit) -> Response:
        """GET: who waits, all boxes, the sites, and the form for one more site."""
        return await self._list(visit)

    async def _list(self, visit: Visit, error: DeskError | None = None) -> Response:
        t, zone = visit.t, visit.zone
        boxes: dict[str, dict[str, object]] = {}
        sites_of: dict[str, list[str]] = {}
        for row in await self._office.reading.boxes():
            node_id = str(row["node_id"])
            if row["site"] is not None and row["until_at"] is None:
                sites_of.setdefault(node_id, []).append(row["site"])
            boxes[node_id] = {
                "node": node_id,
                "state": t(f"review.box.{row['state']}"),
                "kind": {"active": "ok", "pending": "low"}.get(row["state"], "bad"),
                "seen": t("review.never")
                if row["last_seen_at"] is None
                else t.moment(row["last_seen_at"], visit.now, zone),
                "since": t.short_date(row["enrolled_at"], zone),
                "href": f"{BOXES}/box/{node_id}",
            }
        views = await self._office.review.sites()
        typed = {
            "code": "",
            "name": "",
            "zone": visit.site.zone,
            "group": "",
            "power_window": "",
            "without_node": "closed",
            **visit.fields,
        }
        return self._desk.page(
            visit,
            "boxes",
            {
                "waiting": [self._waiting(visit, one) for one in await self._waits()],
                "boxes": [
                    {**box, "sites": ", ".join(sites_of.get(node, []))}
                    for node, box in boxes.items()
                ],
                "views": views,
                "zones": ZONES,
                "typed": typed,
            },
            error=error,
        )

    async def _waits(self) -> list[Waiting]:
        return await self._office.enrolments.waiting()

    def _waiting(self, visit: Visit, one: Waiting) -> dict[str, object]:
        return {
            "site": one.site,
            "node": one.node_id,
            "since": visit.t.moment(one.presented_at, visit.now, visit.zone),
            "replaces": one.replaces,
            "href": f"{BOXES}/waiting/{one.token_id}",
        }

    # --- tokens

    async def add_site(self, visit: Visit) -> Response:
        """POST: a new site, and its first token."""
        earlier = self._desk.once_answer(visit)
        if earlier is not None:
            return self._desk.go(earlier)
        fields = visit.fields
        try:
            made = await self._office.enrolments.add_site(
                fields.get("code", "").strip(),
                fields.get("name", ""),
                fields.get("zone", ""),
                visit.operator.name,
                group=fields.get("group", ""),
                power_window=fields.get("power_window", "").strip(),
                without_node=fields.get("without_node", "closed"),
            )
        except DeskError as error:
            return await self._list(visit, error)
        except UserError:
            return await self._list(visit, DeskError("unusable"))
        return self._token(visit, made)

    async def invite(self, visit: Visit) -> Response:
        """POST: a further token of a site."""
        earlier = self._desk.once_answer(visit)
        if earlier is not None:
            return self._desk.go(earlier)
        made = await self._office.enrolments.invite(
            visit.fields.get("code", ""), visit.operator.name
        )
        return self._token(visit, made)

    def _token(self, visit: Visit, made: Invitation) -> Response:
        self._desk.done(visit, BOXES)
        file = self._office.enrolment_file(made).encode()
        url = self._office.url
        return self._desk.page(
            visit,
            "token",
            {
                "made": made,
                "url": url,
                "command": f"pesisir enrol {url} {made.token}",
                "qr": Markup(qr_svg(f"pesisir enrol {url} {made.token}", "M")),
                "expires": visit.t.date(made.expires_at, visit.zone),
                "file": "data:application/json;base64," + b64encode(file).decode(),
                "file_name": f"pesisir-{made.site}.enrol",
            },
        )

    # --- who waits

    async def _asked(self, visit: Visit) -> Waiting:
        token = visit.request.path_params["token"]
        for one in await self._waits():
            if one.token_id == token:
                return one
        raise NotHere

    async def waiting(self, visit: Visit) -> Response:
        """GET: let it in?"""
        return self._ask(visit, await self._asked(visit))

    def _ask(self, visit: Visit, one: Waiting, error: DeskError | None = None) -> Response:
        values = {"one": self._waiting(visit, one), "typed": visit.fields.get("words", "")}
        return self._desk.page(visit, "box_waiting", values, error=error)

    async def approve(self, visit: Visit) -> Response:
        """POST: yes, if these are the words of the box."""
        one = await self._asked(visit)
        try:
            await self._office.enrolments.approve(
                one.token_id,
                visit.operator.name,
                words=visit.fields.get("words", ""),
                replace=visit.fields.get("replace") == "yes",
            )
        except DeskError as error:
            return self._ask(visit, one, error)
        return self._desk.go(BOXES, notice="review.approved", site=one.site)

    async def refuse(self, visit: Visit) -> Response:
        """POST: no."""
        one = await self._asked(visit)
        try:
            await self._office.enrolments.refuse(
                one.token_id, visit.operator.name, visit.fields.get("reason", "")
            )
        except DeskError as error:
            return self._ask(visit, one, error)
        return self._desk.go(BOXES, notice="review.refused", site=one.site)

    # --- who is in

    async def one(self, visit: Visit) -> Response:
        """GET: a box."""
        return await self._one(visit)

    async def _one(self, visit: Visit, error: DeskError | None = None) -> Response:
        node_id = str(visit.request.path_params["node"])
        rows = [row for row in await self._office.reading.boxes() if row["node_id"] == node_id]
        if not rows:
            raise NotHere
        t, zone, row = visit.t, visit.zone, rows[0]
        heads = await self._office.office.heads(self._office.store.database, node_id)
        return self._desk.page(
            visit,
            "box",
            {
                "node": node_id,
                "state": t(f"review.box.{row['state']}"),
                "is_revoked": row["state"] == "revoked",
                "replaces": row["replaces"],
                "since": t.date(row["enrolled_at"], zone),
                "seen": t("review.never")
                if row["last_seen_at"] is None
                else t.moment(row["last_seen_at"], visit.now, zone),
                "sites": [
                    {
                        "code": each["site"],
                        "since": t.date(each["since_at"], zone),
                        "until": None
                        if each["until_at"] is None
                        else t.date(each["until_at"], zone),
                    }
                    for each in rows
                    if each["site"] is not None
                ],
                "heads": [
                    {"epoch": head["epoch"], "size": t.number(head["size"])} for head in heads
                ],
                "reason": visit.fields.get("reason", ""),
            },
            error=error,
        )

    async def revoke(self, visit: Visit) -> Response:
        """POST: take its right to report."""
        node_id = str(visit.request.path_params["node"])
        if visit.fields.get("node", "").strip().lower() != node_id[-4:]:
            return await self._one(visit, DeskError("box_confirm"))
        try:
            await self._office.enrolments.revoke(
                node_id, visit.operator.name, visit.fields.get("reason", "")
            )
        except DeskError as error:
            return await self._one(visit, error)
        return self._desk.go(BOXES, notice="review.revoked")
