"""The hub's commands: what the command line asks of a running hub, or does without one.

`TABLE` has them by name; each takes the hub and keyword arguments and returns a JSON value.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from portal import hub_backups, hub_check
from portal.errors import UserError
from portal.hub_office_commands import OFFICE_TABLE
from portal.store.db.either import StoreUnavailableError

if TYPE_CHECKING:
    from portal.serve_hub import Hub

HubCommand = Callable[..., Awaitable[Any]]
TABLE: dict[str, HubCommand] = {"backup": hub_backups.write, "check": hub_check.command}


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
