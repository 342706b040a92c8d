"""The office's commands at the hub: sites and their tokens, boxes, people.

Each takes the hub's office and keyword arguments as JSON gave them, and returns a JSON value; the
command line prints it. They run in the running hub, else in the command's own process.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from portal.audit import COMMAND_LINE
from portal.errors import UserError
from portal.hub.enrolment import Invitation, Waiting
from portal.hub.office import HubOffice
from portal.hub.review import SiteView

# --- the commands


async def _sites(office: HubOffice) -> object:
    return [_shown(site) for site in await office.review.sites()]


async def _add_site(office: HubOffice, code: str, name: str, zone: str, **more: str) -> object:
    return _invitation(
        office, await office.enrolments.add_site(code, name, zone, COMMAND_LINE, **more)
    )


async def _set_site(office: HubOffice, code: str, changes: Mapping[str, str]) -> object:
    await office.enrolments.set_site(code, dict(changes), COMMAND_LINE)
    site = await office.review.site(code)
    return None if site is None else _shown(site)


async def _invite(office: HubOffice, code: str) -> object:
    return _invitation(office, await office.enrolments.invite(code, COMMAND_LINE))


async def _waiting(office: HubOffice) -> object:
    return [asdict(one) for one in await office.enrolments.waiting()]


async def _approve(office: HubOffice, code: str, words: str | None, replace: bool) -> object:
    one = await _asked(office, code)
    node_id = await office.enrolments.approve(
        one.token_id, COMMAND_LINE, words=words, replace=replace
    )
    return {"site": one.site, "node": node_id, "words": list(one.words), "replaced": one.replaces}


async def _asked(office: HubOffice, code: str) -> Waiting:
    """The box that waits for this site, or has this node id."""
    waiting = await office.enrolments.waiting()
    found = [one for one in waiting if code in (one.node_id, one.site) or code.upper() == one.site]
    if not found:
        names = ", ".join(sorted({one.site for one in waiting})) or "none"
        raise UserError(f"No box waits for {code[:20]!r}; those that wait are for: {names}.")
    if len(found) > 1:
        nodes = ", ".join(one.node_id for one in found)
        raise UserError(f"Several boxes wait for {code}: {nodes}; name one of them.")
    return found[0]


async def _refuse(office: HubOffice, code: str, reason: str) -> object:
    one = await _asked(office, code)
    await office.enrolments.refuse(one.token_id, COMMAND_LINE, reason)
    return {"site": one.site, "node": one.node_id}


async def _boxes(office: HubOffice) -> object:
    found: dict[str, dict[str, Any]] = {}
    for row in await office.reading.boxes():
        names = ("node_id", "state", "replaces", "enrolled_at", "revoked_at", "last_seen_at")
        box = found.setdefault(row["node_id"], {**{n: row[n] for n in names}, "sites": []})
        if row["site"] is not None and row["until_at"] is None:
            box["sites"].append(row["site"])
    return list(found.values())


async def _revoke(office: HubOffice, node: str, reason: str) -> object:
    await office.enrolments.revoke(node, COMMAND_LINE, reason)
    return {"node": node}


_NO_SITES: dict[str, Any] = {"site": None, "sites": None}
"""Nobody at the office belongs to a site."""


async def _people(office: HubOffice) -> object:
    names = ("name", "role", "must_change", "created_at")
    return [{**{n: getattr(one, n) for n in names}, **_NO_SITES} for one in office.people.all()]


async def _add_person(office: HubOffice, name: str, role: str, sites: Sequence[str]) -> object:
    password = await office.people.add(name, role, sites)
    return {"name": name, "role": role, **_NO_SITES, "password": password}


async def _set_person(
    office: HubOffice,
    name: str,
    role: str | None,
    sites: Sequence[str],
    all_sites: bool,
    reason: str,
) -> object:
    known = office.people.operator(name)
    changed = await office.people.change(name, role or known.role, sites, reason)
    return {"name": name, "role": changed.role, **_NO_SITES}


async def _new_password(office: HubOffice, name: str) -> object:
    password = await office.people.reset_password(name)
    return {
        "name": name,
        "role": office.people.operator(name).role,
        **_NO_SITES,
        "password": password,
    }


async def _remove_person(office: HubOffice, name: str) -> object:
    await office.people.remove(name)
    return {"name": name}


OFFICE_TABLE: dict[str, Callable[..., Awaitable[object]]] = {
    "sites": _sites,
    "add_site": _add_site,
    "set_site": _set_site,
    "invite": _invite,
    "waiting": _waiting,
    "approve": _approve,
    "refuse": _refuse,
    "boxes": _boxes,
    "revoke": _revoke,
    "operators": _people,
    "add_operator": _add_person,
    "set_operator": _set_person,
    "operator_password": _new_password,
    "remove_operator": _remove_person,
}
"""By name; those that a node has too are called as there."""


def _shown(site: SiteView) -> dict[str, Any]:
    return {
        "code": site.code,
        "name": site.name,
        "zone": site.zone.key,
        "group": site.group,
        "power_window": site.power_window,
        "without_node": site.without_node,
        "node": site.node_id,
        "state": site.state,
        "last_seen_at": site.last_seen_at,
        "data_until_at": site.data_until_at,
        "verified_records": site.cosigned_size,
    }


def _invitation(office: HubOffice, made: Invitation) -> dict[str, Any]:
    return {
        "code": made.site,
        "name": made.name,
        "zone": made.zone,
        "url": office.url,
        "token": made.token,
        "expires_at": made.expires_at,
        "file": office.enrolment_file(made),
    }
