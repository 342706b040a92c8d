"""The hub's commands: what the command line asks of a running hub, or does without one.

`TABLE` has them by name; each takes the hub and keyword arguments and returns a JSON value.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal.errors import UserError
from portal.hub import stick
from portal.hub_process import backups as hub_backups
from portal.hub_process import check as hub_check
from portal.hub_process.office_commands import OFFICE_TABLE
from portal.store.db.either import StoreUnavailableError

if TYPE_CHECKING:
    from portal.serve_hub import Hub

HubCommand = Callable[..., Awaitable[Any]]


async def _take_stick(hub: "Hub", directory: str) -> object:
    taken = await stick.take(Path(directory), hub.store, hub.ingest, hub.now())
    return [asdict(one) for one in taken]


async def _ledger(hub: "Hub") -> object:
    """How far the hub has each box's log, and the keys to check it with."""
    found = []
    for node in await hub.store.nodes():
        node_id = node["node_id"]
        epochs = []
        for head in await hub.ledger.heads(hub.store.database, node_id):
            epochs.append(
                {"epoch": head.epoch, "size": head.size, "root": head.frontier.root().hex()}
            )
        keys = [str(key) for key in await hub.export.keys(node_id)]
        found.append({"node": node_id, "epochs": epochs, "keys": keys})
    return found


async def _export_ledger(
    hub: "Hub", path: str, with_personal: bool, box: str | None = None
) -> object:
    if with_personal:
        raise UserError("The hub has no personal parts; those are only in the village's box.")
    boxes = [node["node_id"] for node in await hub.store.nodes()]
    found = [each for each in boxes if box in (None, each)]
    if len(found) != 1:
        raise UserError(f"Which box? Expected --box with one of: {', '.join(boxes) or 'none yet'}.")
    try:
        return {"node": found[0], "records": await hub.export.write(found[0], Path(path))}
    except ValueError as error:
        raise UserError(f"What the hub has of the box cannot be read: {error}.") from error


TABLE: dict[str, HubCommand] = {
    "backup": hub_backups.write,
    "check": hub_check.command,
    "export_ledger": _export_ledger,
    "ledger": _ledger,
    "note_backup": hub_backups.note,
    "take_stick": _take_stick,
}


async def execute(hub: "Hub", name: str, arguments: Mapping[str, Any]) -> object:
    """Run a command by its name. Raises UserError."""
    try:
        if name in OFFICE_TABLE:
            return await OFFICE_TABLE[name](hub.office, **arguments)
        command = TABLE.get(name)
        if command is None:
            raise UserError("that is a command for a node, and this is a hub's directory")
        return await command(hub, **arguments)
    except StoreUnavailableError as error:
        raise UserError(str(error)) from error
