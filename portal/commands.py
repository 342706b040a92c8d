"""Commands: what the command line may ask of a node, by name.

Each takes the node and the arguments as JSON gave them, calls a use case and returns a JSON value.
They run in the node where one is running (portal/control_server.py), else in the command's own
process (`run_in_directory`): the same code both ways.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from portal import backups, data_counting, enrolment, guest_networks, ledger_export, sync_commands
from portal.admin import Gateway, Site
from portal.audit import COMMAND_LINE
from portal.control import Report
from portal.domain import profile as profiles_domain
from portal.domain.profile import Profile
from portal.errors import UserError
from portal.node import Node
from portal.operators import Operator
from portal.store import db
from portal.store.audit import Deed
from portal.store.db import DatabaseError
from portal.sync import trust as hub_trust

Arguments = Mapping[str, Any]
Run = Callable[[Node, Arguments, Report], Awaitable[object]]

_EPOCH_FROM = 10**9
"""A bare number from here on (2001) is an instant, not a slip of the hand for a duration."""


async def execute(node: Node, name: str, arguments: Arguments, report: Report) -> object:
    """Run the command `name` on `node`. Raises UserError for what people can put right."""
    if name not in TABLE:
        raise UserError(
            f"The node knows no command {name}; it runs another version of this program."
        )
    try:
        return await TABLE[name](node, arguments, report)
    except DatabaseError as error:
        trouble = db.trouble(error)
        if trouble is None:
            raise
        raise UserError(
            f"The database in {node.directory} cannot be used now ({trouble}), so nothing was"
            " changed; see: pesisir check"
        ) from error


async def run_in_directory(
    directory: Path, name: str, arguments: Arguments, report: Report
) -> object:
    """Run the command `name` without a running node; the caller owns the directory."""
    if name in ONLY_IN_SERVICE:
        raise UserError(
            f"No node is running in {directory}, so nobody can ask the gateway; start it with: "
            "pesisir node"
        )
    from portal import serve, settings

    node = await serve.open_node(directory, settings.load_for_node(directory))
    try:
        return await execute(node, name, arguments, report)
    finally:
        await node.close()


# --- sites


def _site(node: Node, site: Site) -> dict[str, Any]:
    shown = asdict(site)
    del shown["id"]
    return {**shown, "announcement": node.notices.lasting(site.id)}


async def _sites(node: Node, arguments: Arguments, report: Report) -> object:
    return [_site(node, site) for site in node.admin.sites_by_id.values()]


async def _add_site(node: Node, arguments: Arguments, report: Report) -> object:
    return _site(node, await node.admin.add_site(**arguments))


async def _set_site(node: Node, arguments: Arguments, report: Report) -> object:
    code, changes = arguments["code"], dict(arguments["changes"])
    words = changes.pop("announcement", None)
    if words is not None:
        node.notices.check_words(words)
    site = await node.admin.set_site(code, changes)
    if words is not None:
        await node.notices.set_lasting(code, words)
    return _site(node, site)


# --- the hub


async def _new_key(node: Node, arguments: Arguments, report: Report) -> object:
    """Have the hub take another signing key of this box, and sign with it from now on."""
    trust = hub_trust.read(node.directory)
    if trust is None:
        raise UserError("This box is not enrolled, so no hub knows its key; see: pesisir enrol")
    # One that could not be told when it was made: the next would take its place unheard.
    await node.hub.tell_key()
    old = node.signing
    fresh = await asyncio.to_thread(
        enrolment.change_key, node.directory, old, trust, os.urandom, proxy=arguments["proxy"]
    )
    node.signing = node.ledger.keys = fresh
    await node.hub.tell_key()
    node.hub.sync.soon()
    return {"node": fresh.node_id, "key": str(fresh.key)}


# --- gateways


def _gateway(node: Node, gateway: Gateway, *, with_secrets: bool) -> dict[str, Any]:
    heard_s = node.aaa.heard_s.get(gateway.id)
    return {
        "name": gateway.name,
        "family": gateway.family,
        "address": gateway.address,
        "site": node.admin.sites_by_id[gateway.site_id].code,
        "nas_id": gateway.nas_id,
        "secret": gateway.secret if with_secrets else None,
        "uam_secret": gateway.uam_secret if with_secrets else None,
        "has_uam_secret": gateway.uam_secret is not None,
        "mac_auth": gateway.mac_auth,
        "swap_octets": gateway.swap_octets,
        "guest_net": node.admin.guest_net(gateway),
        "last_heard_at": None
        if heard_s is None
        else round(node.now() - node.elapsed_s() + heard_s),
    }


def _advice(sentences: list[str]) -> dict[str, Any]:
    """What the person who sets something up should know, where there is something."""
    return {"advice": sentences} if sentences else {}


async def _gateways(node: Node, arguments: Arguments, report: Report) -> object:
    return [
        _gateway(node, gateway, with_secrets=False)
        for gateway in node.admin.gateways_by_id.values()
    ]


async def _show_gateway(node: Node, arguments: Arguments, report: Report) -> object:
    gateway = node.admin.gateway(arguments["name"])
    return _gateway(node, gateway, with_secrets=arguments["with_secrets"])


async def _add_gateway(node: Node, arguments: Arguments, report: Report) -> object:
    wanted = {key: value for key, value in arguments.items() if value is not None}
    wanted["mac_auth"] = wanted.get("mac_auth", "yes") == "yes"
    gateway = await node.admin.add_gateway(**wanted)
    advice = data_counting.gateway_advice(node.admin, gateway)
    return _gateway(node, gateway, with_secrets=True) | _advice(advice)


async def _set_gateway(node: Node, arguments: Arguments, report: Report) -> object:
    changes = dict(arguments["changes"])
    if "mac_auth" in changes:
        changes["mac_auth"] = changes["mac_auth"] == "yes"
    gateway = await node.admin.set_gateway(arguments["name"], changes)
    advice = data_counting.gateway_advice(node.admin, gateway)
    return _gateway(node, gateway, with_secrets=False) | _advice(advice)


async def _remove_gateway(node: Node, arguments: Arguments, report: Report) -> object:
    await node.admin.remove_gateway(arguments["name"])
    return {"name": arguments["name"], "removed": True}


async def _gateway_config(node: Node, arguments: Arguments, report: Report) -> object:
    from portal import gateway_config

    gateway = node.admin.gateway(arguments["name"])
    options = dict(arguments["options"])
    files = gateway_config.render(node.admin, gateway, node.settings, options, now=node.now())
    net = options.get("guest_net")
    if net is not None and guest_networks.parse(net) != gateway.guest_net:
        # Remembered, so that no other gateway gets it.
        gateway = await node.admin.set_gateway(gateway.name, {"guest_net": net})
    return {
        "gateway": gateway.name,
        "guest_net": node.admin.guest_net(gateway),
        "files": files,
    }


async def _gateway_doctor(node: Node, arguments: Arguments, report: Report) -> object:
    from portal.followed import doctor_document

    return doctor_document(node, arguments["name"])


# --- profiles


def _profile(profile: Profile) -> dict[str, Any]:
    """A profile in the texts of `profile set`, and the same in numbers."""
    settings = profiles_domain.settings(profile)
    usual = profiles_domain.settings(Profile(profile.name))
    return {
        "name": profile.name,
        "settings": settings,
        "changed": [name for name, text in settings.items() if text != usual[name]],
        "limits": {key: value for key, value in asdict(profile).items() if key != "name"},
    }


async def _profiles(node: Node, arguments: Arguments, report: Report) -> object:
    return [_profile(profile) for _, profile in sorted(node.admin.profiles_by_name.items())]


async def _show_profile(node: Node, arguments: Arguments, report: Report) -> object:
    return _profile(node.admin.profile(arguments["name"]))


async def _set_profile(node: Node, arguments: Arguments, report: Report) -> object:
    profile = await node.admin.set_profile(arguments["name"], arguments["changes"])
    return _profile(profile) | _advice(data_counting.profile_advice(node.admin, profile))


async def _remove_profile(node: Node, arguments: Arguments, report: Report) -> object:
    await node.admin.remove_profile(arguments["name"])
    return {"name": arguments["name"], "removed": True}


# --- vouchers


def _with_zone(node: Node, shown: dict[str, Any]) -> dict[str, Any]:
    """With the zone of its site, in which people read its times."""
    return {**shown, "zone": node.admin.site(shown["site"]).zone}


async def _issue_vouchers(node: Node, arguments: Arguments, report: Report) -> object:
    return await node.vouchers.issue(**arguments, report=report)


async def _sheet_words(node: Node, arguments: Arguments, report: Report) -> object:
    """What a sheet of the batch of this card says."""
    from portal.web.operator import print_words
    from portal.web.text import installed

    shown = node.vouchers.show(arguments["key"])
    site = node.admin.site(shown["site"])
    sheet = print_words.sheet(
        installed().translator(),
        site,
        node.admin.profile(shown["profile"]),
        shown["use_before_at"],
        zone=node.admin.zone(site.id),
        now=node.now(),
        portal_url=node.portal_url(),
        batch=shown["batch"],
        note=shown["note"],
    )
    return asdict(sheet)


async def _show_voucher(node: Node, arguments: Arguments, report: Report) -> object:
    history = await node.vouchers.history(arguments["key"])
    return _with_zone(node, node.vouchers.show(arguments["key"]) | {"history": history})


async def _revoke_vouchers(node: Node, arguments: Arguments, report: Report) -> object:
    revoked = await node.vouchers.revoke(arguments["keys"], arguments["reason"])
    return [_with_zone(node, shown) for shown in revoked]


async def _erase_voucher(node: Node, arguments: Arguments, report: Report) -> object:
    return await node.vouchers.erase(arguments["key"], arguments["reason"])


async def _replace_vouchers(node: Node, arguments: Arguments, report: Report) -> object:
    keys = arguments["keys"]
    if len(keys) == 1 and keys[0].count("..") == 1:
        first, last = keys[0].split("..")
        return await node.vouchers.replace_range(first, last, arguments["reason"], report=report)
    return await node.vouchers.replace(keys, arguments["reason"], report=report)


def _parsed(parse: Callable[[str], int], text: str | None) -> int | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise UserError(f"The {error}.") from None


async def _top_up_voucher(node: Node, arguments: Arguments, report: Report) -> object:
    shown = await node.vouchers.top_up(
        arguments["key"],
        octets=_parsed(profiles_domain.parse_octets, arguments["data"]),
        seconds=_parsed(profiles_domain.parse_duration_s, arguments["time"]),
        reason=arguments["reason"],
    )
    return _with_zone(node, shown)


async def _extend_voucher(node: Node, arguments: Arguments, report: Report) -> object:
    seconds = _parsed(profiles_domain.parse_duration_s, arguments["span"]) or 0
    shown = await node.vouchers.extend(
        arguments["key"], seconds=seconds, reason=arguments["reason"]
    )
    return _with_zone(node, shown)


async def _list_vouchers(node: Node, arguments: Arguments, report: Report) -> object:
    return [_with_zone(node, shown) for shown in await node.vouchers.listed(**arguments)]


# --- devices


async def _devices(node: Node, arguments: Arguments, report: Report) -> object:
    site = arguments["site"]
    listed = node.devices.known(None if site is None else node.admin.site(site).id)
    return [_with_zone(node, shown) for shown in listed]


async def _blocked_devices(node: Node, arguments: Arguments, report: Report) -> object:
    site = arguments["site"]
    listed = node.devices.blocked(None if site is None else node.admin.site(site).id)
    return [_with_zone(node, shown) for shown in listed]


async def _block_device(node: Node, arguments: Arguments, report: Report) -> object:
    site_id = node.admin.only_site(arguments["site"]).id
    return await node.devices.block(arguments["mac"], site_id, arguments["reason"])


async def _unblock_device(node: Node, arguments: Arguments, report: Report) -> object:
    site_id = node.admin.only_site(arguments["site"]).id
    return await node.devices.unblock(arguments["mac"], site_id, arguments["reason"])


async def _add_device(node: Node, arguments: Arguments, report: Report) -> object:
    return await node.devices.add_known(
        arguments["name"],
        arguments["mac"],
        arguments["profile"],
        arguments["kind"],
        _parsed(profiles_domain.parse_duration_s, arguments["alarm_after"]),
        arguments["site"],
    )


async def _remove_device(node: Node, arguments: Arguments, report: Report) -> object:
    site = arguments["site"]
    site_id = None if site is None else node.admin.site(site).id
    device_id = node.devices.find_known(arguments["name"], site_id)
    return await node.devices.remove_known(device_id, arguments["reason"])


# --- sessions


async def _list_sessions(node: Node, arguments: Arguments, report: Report) -> object:
    wanted = dict(arguments)
    since = wanted.pop("since")
    if since is not None:
        wanted |= _since(node, since, wanted["gateway"])
    return [_with_zone(node, shown) for shown in await node.history.listed(**wanted)]


def _since(node: Node, text: str, gateway: str | None) -> dict[str, int]:
    """A point in time as people write it; dates are in the zone of the gateway's site, else of the
    node's first.
    """
    if re.fullmatch("[0-9]+", text) and int(text) >= _EPOCH_FROM:
        return {"since_at": int(text)}
    try:
        return {"since_s": profiles_domain.parse_duration_s(text)}
    except ValueError:
        pass
    if gateway is not None:
        site_id = node.admin.gateway(gateway).site_id
    else:
        site_id = min(node.admin.sites_by_id)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f'--since is "{text}"; expected how long ago (2h, 3d), a date (2026-11-21, '
            '"2026-11-21 08:00") or epoch seconds.'
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=node.admin.zone(site_id))
    return {"since_at": int(moment.timestamp())}


async def _disconnect_session(node: Node, arguments: Arguments, report: Report) -> object:
    return await node.history.disconnect(arguments["session_id"])


# --- operators


def _operator(node: Node, operator: Operator) -> dict[str, Any]:
    sites = node.operators.codes_of(operator)
    return {
        "name": operator.name,
        "role": operator.role,
        "site": sites[0] if sites else None,
        "sites": sites or None,
        "must_change": operator.must_change,
        "created_at": operator.created_at,
    }


async def _operators(node: Node, arguments: Arguments, report: Report) -> object:
    return [_operator(node, operator) for operator in node.operators.all()]


async def _add_operator(node: Node, arguments: Arguments, report: Report) -> object:
    name = arguments["name"]
    password = await node.operators.add(name, arguments["role"], arguments["sites"])
    return {**_operator(node, node.operators.operator(name)), "password": password}


async def _set_operator(node: Node, arguments: Arguments, report: Report) -> object:
    known = node.operators.operator(arguments["name"])
    role, sites = arguments["role"] or known.role, arguments["sites"]
    if not sites and not arguments["all_sites"] and role != "admin":
        sites = node.operators.codes_of(known)
    changed = await node.operators.change(known.name, role, sites, arguments["reason"])
    return _operator(node, changed)


async def _operator_password(node: Node, arguments: Arguments, report: Report) -> object:
    name = arguments["name"]
    password = await node.operators.reset_password(name)
    return {**_operator(node, node.operators.operator(name)), "password": password}


async def _remove_operator(node: Node, arguments: Arguments, report: Report) -> object:
    await node.operators.remove(arguments["name"])
    return {"name": arguments["name"], "removed": True}


# --- the node itself


async def _status(node: Node, arguments: Arguments, report: Report) -> object:
    """What `pesisir check` asks a running node."""
    http, radius = node.settings.http, node.settings.radius
    return {
        "addresses": {
            "http": [entry.address for entry in (*http.listen, *http.operator_listen)],
            "radius": [entry.address for entry in (*radius.auth, *radius.acct)],
        },
        "desk": {"urls": node.desk_urls, "warnings": node.desk_warnings},
        "is_healthy": node.is_healthy(),
        "is_disk_full": node.disk.is_full,
        "free_octets": node.disk.free_octets(),
        "is_clock_doubtful": node.clock.is_doubtful,
        "clock_jumps": node.clock.jumps,
        "now_at": node.now(),
        "backhaul": {"state": node.backhaul.state, "down_since": node.backhaul.down_since},
        "certificate": None
        if node.certificate is None
        else {
            "ends_at": node.certificate.standing.ends_at,
            "refusal": node.certificate.refusal,
        },
        "hiding": sorted(node.captivities.hiding),
        "open_sessions": len(node.sessions),
        "gateways": await _gateways(node, arguments, report),
    }


async def _backup(node: Node, arguments: Arguments, report: Report) -> object:
    return await backups.write(node, Path(arguments["path"]), report)


async def _ledger(node: Node, arguments: Arguments, report: Report) -> object:
    head, acked = node.ledger.store.head(), node.ledger.store.acked()
    cosigned = node.ledger.store.cosigned()
    trust = hub_trust.read(node.directory)
    return {
        "node": node.signing.node_id,
        "epoch": None if head is None else head.epoch,
        "size": 0 if head is None else head.size,
        "root": None if head is None else head.root.hex(),
        "at_hub": acked.size,
        "in_hubs_backup": acked.backed_up,
        "cosigned": None
        if cosigned is None
        else {"epoch": cosigned["epoch"], "size": cosigned["size"], "kept_at": cosigned["kept_at"]},
        "keys": [*map(str, node.signing.known_keys), *([] if trust is None else [trust.cosigner])],
    }


async def _export_ledger(node: Node, arguments: Arguments, report: Report) -> object:
    trust = hub_trust.read(node.directory)
    if arguments["with_personal"]:
        deed = Deed(COMMAND_LINE, "ledger.export", None, node.signing.node_id)
        await node.audit.record(node.now(), deed)
    return await ledger_export.write(
        node.ledger,
        Path(arguments["path"]),
        hub_keys=() if trust is None else (trust.cosigner,),
        with_personal=arguments["with_personal"],
        report=report,
    )


ONLY_IN_SERVICE = frozenset({"gateway_doctor", "disconnect_session", "status"})
"""Commands that make sense in a running node only."""

TABLE: dict[str, Run] = {
    "sites": _sites,
    "new_key": _new_key,
    "add_site": _add_site,
    "set_site": _set_site,
    "gateways": _gateways,
    "gateway": _show_gateway,
    "add_gateway": _add_gateway,
    "set_gateway": _set_gateway,
    "remove_gateway": _remove_gateway,
    "gateway_config": _gateway_config,
    "gateway_doctor": _gateway_doctor,
    "profiles": _profiles,
    "profile": _show_profile,
    "set_profile": _set_profile,
    "remove_profile": _remove_profile,
    "issue_vouchers": _issue_vouchers,
    "sheet_words": _sheet_words,
    "show_voucher": _show_voucher,
    "revoke_vouchers": _revoke_vouchers,
    "erase_voucher": _erase_voucher,
    "replace_vouchers": _replace_vouchers,
    "list_vouchers": _list_vouchers,
    "top_up_voucher": _top_up_voucher,
    "extend_voucher": _extend_voucher,
    "devices": _devices,
    "blocked_devices": _blocked_devices,
    "block_device": _block_device,
    "unblock_device": _unblock_device,
    "add_device": _add_device,
    "remove_device": _remove_device,
    "list_sessions": _list_sessions,
    "disconnect_session": _disconnect_session,
    "operators": _operators,
    "add_operator": _add_operator,
    "set_operator": _set_operator,
    "operator_password": _operator_password,
    "remove_operator": _remove_operator,
    "status": _status,
    "backup": _backup,
    "ledger": _ledger,
    "export_ledger": _export_ledger,
    **sync_commands.TABLE,
}
