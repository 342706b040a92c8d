"""The command `pesisir`: reads words, calls one use case, prints the outcome.

Errors are one plain sentence on stderr: exit status 1, or 2 for words used wrongly. Modules that
take long to load are imported where they are used, so that a simple command starts fast on a small
box. Commands about places are in cli/places.py, those about cards and sessions in cli/cards.py.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

from portal.cli import hub as cli_hub
from portal.cli import serve_hub as cli_serve_hub
from portal.cli.cards import session, voucher
from portal.cli.devices import device
from portal.cli.doctor import doctor
from portal.cli.gateways import suite
from portal.cli.ledger import ledger
from portal.cli.operators import operator
from portal.cli.places import gateway, profile, site, zone_named, zone_option
from portal.cli.setup import setup
from portal.cli.sync import sync
from portal.cli.terminal import (
    Group,
    Place,
    call,
    details,
    directory,
    existing_directory,
    json_option,
    octets,
    plural,
    progress,
    show,
    table,
    when,
)
from portal.cli.watch import watch
from portal.compiled import refuse_stale
from portal.errors import UserError

CRASH_LOG = "pesisir.crash.log"


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"pesisir {version('pesisir')}")
        context.exit()


@click.group(cls=Group, is_root=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version.",
)
def pesisir() -> None:
    """Free public Wi-Fi for coastal villages: portal, RADIUS server, vouchers, exact quotas.

    Everything of a node lies in one directory. Commands are safe beside a running node, which
    sees a change at the next request.
    """


# --- a directory and its node


@pesisir.command()
@click.option(
    "--role", type=click.Choice(["node", "hub"]), default="node", help="What the directory becomes."
)
@click.option("--site", "code", metavar="CODE", help="Code of the first site (else DESA).")
@click.option("--name", metavar="NAME", help="Name of the first site, as residents see it.")
@zone_option()
@click.option("--admin", metavar="NAME", default="admin", help="First sign-in (else admin).")
@click.option(
    "--url", metavar="URL", help="Hub: where nodes reach it (else this machine's address)."
)
@click.option("--database", metavar="URL", help="Hub: a PostgreSQL server (else a file).")
@json_option
def init(
    role: str,
    code: str | None,
    name: str | None,
    zone: str | None,
    admin: str,
    url: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Make a node's or a hub's directory and first sign-in.

    Writes the settings, the keys, the database with the first site, and a recovery sheet to print.
    A directory that has data is refused. On a terminal it asks for the site when no option names
    it. The password is for the first sign-in at the operator's desk and must be changed there.
    """
    if role == "hub":
        cli_serve_hub.init(code, name, zone, admin, url, database, as_json)
        return
    if url is not None or database is not None:
        raise click.UsageError("--url and --database are for --role hub.")
    if code is None and name is None and zone is None and sys.stdin.isatty() and not as_json:
        code = click.prompt("Code of the site (letters, digits)", default="DESA", err=True)
        name = click.prompt("Name of the site, as residents see it", default=code, err=True)
        zone = zone_named(click.prompt("Time zone: WIB, WITA or WIT", default="WIB", err=True))
    from portal import directories

    made = directories.make(
        directory(), code=code or "DESA", name=name or code or "Desa", zone=zone, admin=admin
    )

    def text(made: dict[str, Any]) -> str:
        return (
            details(
                [
                    ("Directory", made["dir"]),
                    ("Sign-in", made["admin"]),
                    ("Password", made["password"]),
                    ("Recovery sheet", made["recovery_sheet"]),
                ]
            )
            + "\n\nThe password is shown only now, and must be changed at the first sign-in. Print"
            "\nthe recovery sheet: what to do when nobody can sign in, or the box is lost. Next:\n"
            "  pesisir profile set harian --data-day 500MB\n"
            "  pesisir gateway add pos-1 --family mikrotik --address 10.1.0.1\n"
            "  pesisir voucher issue --profile harian --count 10\n"
            "  pesisir node"
        )

    show(made, as_json, text)


pesisir.add_command(setup)


@pesisir.command()
def node() -> None:
    """Run the node.

    Prints a line beginning with "ready" and the addresses, and runs until SIGTERM or Ctrl-C.
    """
    path = existing_directory()
    import logging

    from portal import logs, serve, settings

    logs.start(logging.INFO)
    serve.run(path, settings.load_for_node(path))


pesisir.add_command(cli_serve_hub.hub)
site.add_command(cli_hub.token)
for word in (cli_hub.enrol, cli_hub.approve, cli_hub.refuse, cli_hub.box):
    pesisir.add_command(word)


@pesisir.command()
@click.option("--fresh", is_flag=True, help="Begin again with new sample data.")
def demo(fresh: bool) -> None:
    """Run a node with sample data.

    With a practice gateway, so that everything can be tried in a browser.
    """
    import logging

    from portal import demo as demonstration
    from portal import logs

    logs.start(logging.WARNING)
    demonstration.run(directory(), fresh=fresh)


@pesisir.command()
@json_option
def check(as_json: bool) -> None:
    """Look whether the node or hub can work.

    Exit status 1 when the settings, the database or a port are unusable. The clock, gateways that
    are silent and the backhaul give warnings.
    """
    from portal.cli import check as checks

    found = cli_serve_hub.checked() or checks.look(directory(), call)

    def text(found: dict[str, Any]) -> str:
        marks = {"ok": "ok", "warning": "WARNING", "fail": "FAIL"}
        rows = [[marks[c["status"]], c["name"], c["message"]] for c in found["checks"]]
        settings = [[s["name"], s["value"], s["origin"]] for s in found["settings"]]
        parts = [table(["", "WHAT", "FOUND"], rows)]
        if settings:
            parts.append(table(["SETTING", "VALUE", "FROM"], settings))
        return "\n\n".join(parts)

    show(found, as_json, text)
    if not found["ok"]:
        click.get_current_context().exit(1)


# --- backup


@pesisir.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@json_option
def backup(file: Path, force: bool, as_json: bool) -> None:
    """Write all data into FILE.

    Also while the node or hub runs. FILE holds the keys: keep it where nobody else can read it.
    """
    from portal import directories

    path, caller = cli_serve_hub.backup_place()
    with progress("Backing up") as report:
        found = directories.back_up(path, file.expanduser().absolute(), force, caller, report)

    def text(done: dict[str, Any]) -> str:
        said = f"Backup of {done['dir']} is in {done['file']} ({octets(done['octets'])})."
        return "\n".join([said, *cli_serve_hub.backup_counts(done)])

    show(found, as_json, text)


@pesisir.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@json_option
def restore(file: Path, as_json: bool) -> None:
    """Put a backup in place.

    The node or hub must not run. The data of before are kept aside.
    """
    from portal import directories

    if cli_serve_hub.restored(file.expanduser().absolute(), as_json):
        return

    with progress("Restoring") as report:
        found = directories.restore(directory(), file.expanduser().absolute(), report)

    def text(done: dict[str, Any]) -> str:
        lines = [f"The backup is from {when(done['backup_at'])}; its data are in {done['dir']}."]
        lines += _lost_text(done["lost"])
        if done["kept"]:
            lines.append("The data of before are kept:")
            lines += [f"  {name}" for name in done["kept"]]
        return "\n".join(lines)

    show(found, as_json, text)


def _lost_text(lost: dict[str, Any] | None) -> list[str]:
    """What a restored node does not know any more."""
    if lost is None:
        return [
            "What was issued and used since then is not known: cards made since do not work, usage "
            "since is forgotten, cards revoked since work again."
        ]
    lines = [
        f"Lost since then: {plural(lost['vouchers'], 'card')} issued, "
        f"{plural(lost['sessions'], 'session')} begun, {octets(lost['octets'])} of usage."
    ]
    if lost["batches"]:
        lines.append(f"These batches do not work any more: {', '.join(lost['batches'])}.")
    if lost["working_again"]:
        lines.append(
            "These cards were revoked or replaced since and work again: "
            f"{', '.join(lost['working_again'])}."
        )
    return lines


# --- the rest


gateway.add_command(doctor)
gateway.add_command(suite)
for group in (site, gateway, profile, voucher, device, session, operator, ledger, watch, sync):
    pesisir.add_command(group)


@pesisir.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    SHELL is bash, zsh or fish. For bash, for example:
    pesisir completion bash > /etc/bash_completion.d/pesisir
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(pesisir, {}, "pesisir", "_PESISIR_COMPLETE").source())


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    place = Place()
    try:
        refuse_stale()
        outcome = pesisir.main(arguments, prog_name="pesisir", standalone_mode=False, obj=place)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        words = error.ctx.command_path if error.ctx else "pesisir"
        _say(f"{error.format_message().rstrip('.')}. See: {words} --help")
        return 2
    except click.ClickException as error:
        _say(error.format_message())
        return 1
    except UserError as error:
        _say(str(error))
        return 1
    except (click.Abort, KeyboardInterrupt):
        _say("Stopped.")
        return 130
    except BrokenPipeError:
        # The reader of our output has enough (| head); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        if os.environ.get("PESISIR_DEBUG") == "1":
            raise
        _say(_keep_traceback(place.found))
        return 1


def _say(sentence: str) -> None:
    """One plain sentence on stderr, whatever it was made of."""
    text = " ".join(sentence.split())
    first = text.split(" ", 1)[0]
    if first.isalpha() and first.islower():
        text = text[:1].upper() + text[1:]
    if not text.endswith((".", "?", "!")):
        text += "."
    click.echo(text, err=True)


def _keep_traceback(directory: Path | None) -> str:
    """Write the traceback of a fault of ours into a file; the sentence that says where."""
    import tempfile
    import traceback
    from datetime import UTC, datetime

    entry = f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{traceback.format_exc()}\n"
    places = [Path(tempfile.gettempdir()) / f"pesisir-{os.getuid()}.crash.log"]
    if directory is not None:
        places.insert(0, directory / CRASH_LOG)
    for path in places:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            with open(os.open(path, flags, 0o600), "a", encoding="utf-8") as file:
                file.write(entry)
        except OSError:
            continue
        return f"This is a fault of the program, not yours; the details are in {path}."
    return "This is a fault of the program, not yours; PESISIR_DEBUG=1 shows the details."


if __name__ == "__main__":
    main()
