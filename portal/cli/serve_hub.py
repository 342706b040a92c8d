"""The commands that make a hub and run it, and what `backup`, `restore` and `check` do for one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from portal.cli.terminal import (
    Group,
    call,
    details,
    directory,
    existing_directory,
    is_hub,
    json_option,
    show,
    table,
    when,
)
from portal.errors import UserError


def init(
    code: str | None,
    name: str | None,
    zone: str | None,
    admin: str,
    url: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Make a hub's directory: what `pesisir init --role hub` does."""
    if code is not None:
        raise click.UsageError("--site is for a node; a hub's sites come with: pesisir site add")
    from portal.hub_process import directories as hub_directories

    made = hub_directories.make(
        directory(),
        name=name or "Diskominfo",
        zone=zone,
        admin=admin,
        url=url,
        database_url=database,
    )

    def text(made: dict[str, Any]) -> str:
        return (
            details(
                [
                    ("Directory", made["dir"]),
                    ("Hub", made["hub_id"]),
                    ("Address for nodes", made["url"]),
                    ("Sign-in", made["admin"]),
                    ("Password", made["password"]),
                    ("Recovery key", made["recovery_key"]),
                ]
            )
            + "\n\nThe password is shown only now, and must be changed at the first sign-in. Move"
            "\nthe recovery key to two sticks in two places now and delete it here: the hub does"
            "\nnot need it, and without it no lost box can be brought back. Next:\n  pesisir hub"
        )

    show(made, as_json, text)


@click.group("hub", cls=Group, invoke_without_command=True)
@click.pass_context
def hub(context: click.Context) -> None:
    """Run the hub.

    Prints a line beginning with "ready" and the addresses, and runs until SIGTERM or Ctrl-C.
    """
    if context.invoked_subcommand is not None:
        return
    from portal.hub_process.directories import existing_hub

    path = existing_hub(directory())
    import logging

    from portal import logs, serve_hub, settings

    logs.start(logging.INFO)
    serve_hub.run(path, settings.load_for_hub(path))


@hub.command("import")
@click.argument("stick", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def import_stick(stick: Path, as_json: bool) -> None:
    """Take what nodes wrote on a stick with: pesisir ledger export --usb DIR.

    The hub's answers are written beside it; carry them back to the node. A stick that was taken
    before changes nothing.
    """
    if not is_hub(directory()):
        raise UserError(f"{directory()} is no hub's directory; expected one made with --role hub")

    def text(taken: list[dict[str, Any]]) -> str:
        return table(
            ["BOX", "EXCHANGES", "RECORDS HERE", "PROBLEM", "TO CARRY BACK"],
            [
                [
                    *(one["node_id"], str(one["exchanges"])),
                    str(one["size"]) if one["exchanges"] else "-",
                    one["problem"] or ("-" if one["exchanges"] else "the box had nothing new"),
                    Path(one["answers"]).name,
                ]
                for one in taken
            ],
        )

    show(call("take_stick", directory=str(stick.expanduser().absolute())), as_json, text)


def backup_place() -> tuple[Path, Callable[..., Any]]:
    """The directory to back up, and what reaches its node or hub."""
    from portal.hub_process import directories as hub_directories

    path = directory()
    if not hub_directories.is_hub(path):
        return existing_directory(), call

    def ask(command: str, report: object, /, **arguments: Any) -> Any:
        from portal import serve_hub

        return serve_hub.call(path, command, **arguments)

    return path, ask


def backup_counts(done: dict[str, Any]) -> list[str]:
    """What nodes make of a hub's backup; nothing to say of a node's."""
    if not done.get("counts", True):
        return [
            "It lies in the hub's own directory, so nodes keep all they have. Copy it elsewhere."
        ]
    if done.get("is_on_own_disk"):
        return ["It lies on the hub's own disk: carry it to another. Nodes take it for safe."]
    return []


def restored(file: Path, as_json: bool) -> bool:
    """Whether FILE was a hub's backup; it is then put in place."""
    from portal.hub_process import backups as hub_backups

    if not hub_backups.is_hub_backup(file):
        return False
    found = hub_backups.restore(directory(), file)

    def text(done: dict[str, Any]) -> str:
        place = "the PostgreSQL server" if done["database"] == "postgresql" else done["dir"]
        lines = [f"The hub's backup is from {when(done['backup_at'])}; its data are in {place}."]
        if done["database"] is None:
            lines = [f"The backup holds no database; its keys are in {done['dir']}."]
        lines.append("Nodes send again what came since, each at its next exchange.")
        if done["kept"]:
            lines += ["The data of before are kept:", *(f"  {name}" for name in done["kept"])]
        return "\n".join(lines)

    show(found, as_json, text)
    return True


def checked() -> dict[str, Any] | None:
    """What `check` finds in a hub's directory; None in any other."""
    from portal.hub_process import directories as hub_directories

    path = directory()
    if not hub_directories.is_hub(path):
        return None
    from portal import serve_hub, settings

    shown = [
        {"name": each.name, "value": each.value, "origin": each.origin}
        for each in settings.describe(path, is_hub=True)
    ]
    found = serve_hub.call(path, "check")
    return {**found, "settings": shown}
