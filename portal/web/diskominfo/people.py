"""People of the office: admins add and remove who may sign in here, and give new passwords.

A password that is given is shown once, on the page that answers the form, and must be changed at
the first sign-in. It is never in an address, a log or the audit.
"""

from starlette.responses import Response

from portal.errors import DeskError
from portal.hub.reviewers import ROLES
from portal.operators import Operator
from portal.web.diskominfo.console import PEOPLE, Console
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit

ONE = PEOPLE + "/{name}"


def pages(console: Console) -> list[Page]:
    """The pages of this module."""
    found = _People(console)
    return [
        Page(PEOPLE, found.all, Need.ADMIN),
        Page(PEOPLE, found.add, Need.ADMIN, ("POST",)),
        Page(ONE, found.one, Need.ADMIN),
        Page(ONE + "/role", found.change, Need.ADMIN, ("POST",)),
        Page(ONE + "/password", found.reset, Need.ADMIN, ("POST",)),
        Page(ONE + "/remove", found.remove, Need.ADMIN, ("POST",)),
    ]


class _People:
    def __init__(self, console: Console) -> None:
        self._desk: Desk = console.desk
        self._people = console.office.people

    async def all(self, visit: Visit) -> Response:
        """GET: everybody, and the form for one more."""
        return self._list(visit)

    def _list(self, visit: Visit, error: DeskError | None = None) -> Response:
        values = {
            "people": [self._shown(visit, one) for one in self._people.all()],
            "roles": ROLES,
            "typed": {"name": "", "role": "reviewer", **visit.fields},
        }
        return self._desk.page(visit, "people", values, error=error)

    def _shown(self, visit: Visit, one: Operator) -> dict[str, object]:
        return {
            "name": one.name,
            "role": visit.t(f"role.{one.role}"),
            "must_change": one.must_change,
            "since": visit.t.date(one.created_at, visit.zone),
            "href": f"{PEOPLE}/{one.name}",
        }

    async def add(self, visit: Visit) -> Response:
        """POST: one more."""
        earlier = self._desk.once_answer(visit)
        if earlier is not None:
            return self._desk.go(earlier)
        name = visit.fields.get("name", "").strip().lower()
        try:
            role = visit.fields.get("role", "")
            password = await self._people.add(name, role, (), visit.operator.name)
        except DeskError as error:
            return self._list(visit, error)
        return self._given(visit, name, password)

    async def one(self, visit: Visit) -> Response:
        """GET: somebody, and what can be done."""
        return self._one(visit, self._asked(visit))

    def _asked(self, visit: Visit) -> Operator:
        found = self._people.find(visit.request.path_params["name"])
        if found is None:
            raise NotHere
        return found

    def _one(self, visit: Visit, one: Operator, error: DeskError | None = None) -> Response:
        values = {
            "one": self._shown(visit, one),
            "is_self": one.name == visit.operator.name,
            "roles": ROLES,
            "typed": {"role": one.role, "reason": "", **visit.fields},
        }
        return self._desk.page(visit, "person", values, error=error)

    async def change(self, visit: Visit) -> Response:
        """POST: another role."""
        one, fields = self._asked(visit), visit.fields
        try:
            await self._people.change(
                one.name, fields.get("role", ""), (), fields.get("reason", ""), visit.operator.name
            )
        except DeskError as error:
            return self._one(visit, one, error)
        return self._desk.go(f"{PEOPLE}/{one.name}", notice="review.person_changed", name=one.name)

    async def reset(self, visit: Visit) -> Response:
        """POST: a new password for somebody who forgot theirs."""
        one = self._asked(visit)
        if one.name == visit.operator.name:
            return self._one(visit, one, DeskError("operator_own_password"))
        earlier = self._desk.once_answer(visit)
        if earlier is not None:
            return self._desk.go(earlier)
        password = await self._people.reset_password(one.name, visit.operator.name)
        return self._given(visit, one.name, password)

    def _given(self, visit: Visit, name: str, password: str) -> Response:
        self._desk.done(visit, f"{PEOPLE}/{name}")
        return self._desk.page(visit, "person_password", {"name": name, "password": password})

    async def remove(self, visit: Visit) -> Response:
        """POST: they may not sign in any more; what they did stays in the audit."""
        one = self._asked(visit)
        if visit.fields.get("name", "").strip().lower() != one.name:
            return self._one(visit, one, DeskError("operator_confirm", name=one.name))
        try:
            await self._people.remove(one.name, visit.operator.name)
        except DeskError as error:
            return self._one(visit, one, error)
        return self._desk.go(PEOPLE, notice="review.person_removed", name=one.name)
