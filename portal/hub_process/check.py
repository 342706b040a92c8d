"""What `pesisir check` looks at in a hub's directory: the store, and whether it is still what was
cosigned. In the form of portal/cli/check.py."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from portal.alerts import BACKUP_OLD_S
from portal.errors import UserError
from portal.hub.proof import Fault
from portal.hub_process import backups as hub_backups
from portal.place_values import check_zone

if TYPE_CHECKING:
    from portal.serve_hub import Hub


async def look(hub: "Hub") -> list[dict[str, str]]:
    """{"name", "status" (ok, warning, fail), "message"} of each thing looked at."""
    found = [
        _line("database", "ok", f"{await hub.store.database.octets():,} octets")
        if await hub.is_healthy()
        else _line("database", "fail", "nothing can be stored now; see the log")
    ]
    known = {node["node_id"] for node in await hub.store.nodes()}
    for node_id in sorted({*known, *await hub.ledger.nodes_of_rows()}):
        if node_id not in known:
            found.append(_line(f"node {node_id}", "fail", "it has reported, and is in no list"))
        faults = await hub.proof.faults(node_id, hub.now()) or await _heads(hub, node_id)
        name = f"node {node_id}"
        for fault in faults:
            where = f"Epoch {fault.epoch}: " if fault.epoch >= 0 else ""
            found.append(_line(name, "fail", f"{where}{fault.what}"))
        if not faults:
            heads = await hub.ledger.heads(hub.store.database, node_id)
            records = sum(head.size for head in heads)
            found.append(_line(name, "ok", f"{records:,} records are as they were cosigned"))
    for site in await hub.store.sites():
        try:
            check_zone(site["zone"])
        except UserError as error:
            found.append(_line(f"site {site['code']}", "fail", str(error)))
    found.append(_backup(hub))
    alarms = await hub.alarms.store.going_on()
    for alarm in alarms:
        found.append(_line(f"alarm {alarm['kind']}", "warning", str(alarm["detail"])))
    return found


async def _heads(hub: "Hub", node_id: str) -> list[Fault]:
    """Whether what nodes are shown as their newest checkpoint is among those that were cosigned."""
    database = hub.store.database
    known = {row["note"] for row in await hub.ledger.checkpoints(database, node_id)}
    return [
        Fault(node_id, head.epoch, "The newest checkpoint is none that was cosigned.")
        for head in await hub.ledger.heads(database, node_id)
        if head.cosigned is not None and head.cosigned not in known
    ]


def _backup(hub: "Hub") -> dict[str, str]:
    """Whether the nights' backups are made, and where a dead disk leaves them."""
    place = hub.settings.backup.place(hub.directory)
    made_at = hub_backups.newest_at(hub)
    if made_at is None:
        return _line("backup", "warning", f"none in {place}; a running hub makes one each night")
    text = (
        f"the newest in {place} is from {datetime.fromtimestamp(made_at, UTC):%Y-%m-%d %H:%M} UTC"
    )
    if hub.now() - made_at > BACKUP_OLD_S:
        return _line("backup", "warning", text)
    if hub_backups.is_on_own_disk(hub.directory, place):
        return _line("backup", "warning", f"{text}, on the hub's own disk; see [backup] directory")
    return _line("backup", "ok", text)


def _line(name: str, status: str, message: str) -> dict[str, str]:
    return {"name": name, "status": status, "message": message}


async def command(hub: "Hub") -> dict[str, Any]:
    """The whole answer of the command, but for the settings."""
    checks = await look(hub)
    return {"ok": all(check["status"] != "fail" for check in checks), "checks": checks}
