"""The commands that make a hub and run it: `pesisir init --role hub` and `pesisir hub`."""

from typing import Any

import click

from portal.terminal import Command, details, directory, show


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
    from portal import hub_directories

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


@click.command("hub", cls=Command)
def hub() -> None:
    """Run the hub.

    Prints a line beginning with "ready" and the addresses, and runs until SIGTERM or Ctrl-C.
    """
    from portal.hub_directories import existing_hub

    path = existing_hub(directory())
    import logging

    from portal import logs, serve_hub, settings

    logs.start(logging.INFO)
    serve_hub.run(path, settings.load_for_hub(path))
