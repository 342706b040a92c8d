"""People: admins add and remove operators and give them new passwords.

A password that is given is shown once, on the page that answers the form, and must be changed at
the first sign-in. It is never in an address, a log or the audit.
"""

from starlette.responses import Response

from portal.errors import DeskError
from portal.operators import ROLES, Operator
from portal.web.operator.desk import Desk, Need, NotHere, Page, Visit
from portal.web.operator.house import House

PATH = "/operator/people"
_EVERY = "*"
"""What the box for every site, now and later, sends."""


def pages(desk: Desk, house: House) -> list[Page]:
    """The pages of this module."""
    people = _People(desk, house)
    return [
        Page(PATH, people.list, Need.ADMIN),
        Page(PATH, people.add, Need.ADMIN, ("POST",)),
        Page(PATH + "/{name}", people.show, Need.ADMIN),
        Page(PATH + "/{name}/role", people.change, Need.ADMIN, ("POST",)),
        Page(PATH + "/{name}/password", people.reset, Need.ADMIN, ("POST",)),
        Page(PATH + "/{name}/remove", people.remove, Need.ADMIN, ("POST",)),
    ]


class _People:
    def __init__(self, desk: Desk, house: House) -> None:
        self._desk = desk
        self._operators = house.operators
        self._admin = house.admin

    async def list(self, visit: Visit) -> Response:
        """GET: everybody, and the form for one more."""
        return self._list(visit)

    def _list(self, visit: Visit, error: DeskError | None = None) -> Response:
        return self._desk.page(
            visit,
            "people",
            {
                "people": [self._shown(visit, one) for one in self._operators.all()],
                "roles": [role for role in reversed(ROLES)],
                "typed": {"name": "", "role": "operator", **visit.fields},
                "at": visit.lists.get("at", []) if visit.fields else [visit.site.code],
            },
            error=error,
        )

    def _shown(self, visit: Visit, one: Operator) -> dict[str, object]:
        names = [self._admin.sites_by_id[site_id].name for site_id in sorted(one.site_ids or ())]
        return {
            "name": one.name,
            "role": visit.t(f"role.{one.role}"),
            "site": ", ".join(names) or visit.t("me.all_sites"),
            "must_change": one.must_change,
            "since": visit.t.date(one.created_at, visit.zone),
        }

    async def add(self, visit: Visit) -> Response:
        """POST: one more operator."""
        name = visit.fields.get("name", "").strip().lower()
        earlier = self._given_before(visit)
        if earlier is not None:
            return earlier
        try:
            role, sites = _duty(visit)
            password = await self._operators.add(name, role, sites, visit.operator.name)
        except DeskError as error:
            return self._list(visit, error)
        return self._given(visit, name, password)

    async def show(self, visit: Visit) -> Response:
        """GET: one operator, and what can be done."""
        return self._show(visit, self._asked(visit))

    def _asked(self, visit: Visit) -> Operator:
        found = self._operators.find(visit.request.path_params["name"])
        if found is None:
            raise NotHere
        return found

    def _show(self, visit: Visit, one: Operator, error: DeskError | None = None) -> Response:
        typed = visit.fields if "role" in visit.fields else {}
        codes = self._operators.codes_of(one) or [_EVERY]
        values = {
            "one": self._shown(visit, one),
            "is_self": one.name == visit.operator.name,
            "roles": [role for role in reversed(ROLES)],
            "typed": {"role": one.role, "reason": "", **typed},
            "at": visit.lists.get("at", []) if typed else codes,
        }
        return self._desk.page(visit, "person", values, error=error)

    async def change(self, visit: Visit) -> Response:
        """POST: another role, other sites."""
        one = self._asked(visit)
        try:
            role, sites = _duty(visit)
            await self._operators.change(
                one.name, role, sites, visit.fields.get("reason", ""), visit.operator.name
            )
        except DeskError as error:
            return self._show(visit, one, error)
        return self._desk.go(f"{PATH}/{one.name}", notice="operator_changed", name=one.name)

    async def reset(self, visit: Visit) -> Response:
        """POST: a new password for somebody who forgot theirs."""
        one = self._asked(visit)
        if one.name == visit.operator.name:
            raise DeskError("operator_own_password")
        earlier = self._given_before(visit)
        if earlier is not None:
            return earlier
        password = await self._operators.reset_password(one.name, visit.operator.name)
        return self._given(visit, one.name, password)

    def _given(self, visit: Visit, name: str, password: str) -> Response:
        self._desk.done(visit, f"{PATH}/{name}")
        return self._desk.page(visit, "person_password", {"name": name, "password": password})

    def _given_before(self, visit: Visit) -> Response | None:
        path = self._desk.once_answer(visit)
        return None if path is None else self._desk.go(path)

    async def remove(self, visit: Visit) -> Response:
        """POST: they may not sign in any more; what they did stays in the audit."""
        one = self._asked(visit)
        if visit.fields.get("name", "").strip().lower() != one.name:
            return self._show(visit, one, DeskError("operator_confirm", name=one.name))
        try:
            await self._operators.remove(one.name, visit.operator.name)
        except DeskError as error:
            return self._show(visit, one, error)
        return self._desk.go(PATH, notice="operator_removed", name=one.name)


def _duty(visit: Visit) -> tuple[str, list[str]]:
    """Role and sites as the form names them. That no site was ticked must not mean every one: who
    works at all of them is told so in a box of its own."""
    role, at = visit.fields.get("role", ""), visit.lists.get("at", [])
    if role == "admin" or _EVERY in at:
        return role, []
    if not at:
        raise DeskError("operator_no_site")
    if not set(at) <= {one.code for one in visit.sites}:
        raise NotHere
    return role, at
