"""The hub's commands: what the command line asks of a running hub, or does without one.

`TABLE` has them by name; each takes the hub and keyword arguments and returns a JSON value.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal import hub_backups, hub_check
from portal.errors import UserError
from portal.hub import stick
from portal.hub_office_commands import OFFICE_TABLE
from portal.store.db.either import StoreUnavailableError

if TYPE_CHECKING:
    from portal.serve_hub import Hub

HubCommand = Callable[..., Awaitable[Any]]


async def _take_stick(hub: "Hub", directory: str) -> object:
    taken = await stick.take(Path(directory), hub.store, hub.ingest, hub.now())
    return [asdict(one) for one in taken]


TABLE: dict[str, HubCommand] = {
    "backup": hub_backups.write,
    "check": hub_check.command,
    "take_stick": _take_stick,
}


async def execute(hub: "Hub", name: str, arguments: Mapping[str, Any]) -> object:
    """Run a command by its name. Raises UserError."""
    try:
        if name in OFFICE_TABLE:
            return await OFFICE_TABLE[name](hub.office, **arguments)
        command = TABLE.get(name)
        if command is None:
            raise UserError(f"the hub has no command {name}")
        return await command(hub, **arguments)
    except StoreUnavailableError as error:
        raise UserError(str(error)) from error
