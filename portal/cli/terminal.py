"""Terminal: what all commands share at the command line — the directory, --json, tables, progress.

It knows click and how people like to read numbers; it does not know what any command does.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from portal import control
from portal.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

_DIRECTORY = "portal.directory"
DATABASE_NAME = "pesisir.db"
SETTINGS_NAME = "pesisir.toml"
HUB_KEYS_NAME = "pesisir.hub.keys"


# --- the directory: --dir may stand anywhere between the words of a command


def _remember_directory(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        # The inner words are read later, so the --dir nearest to the end counts.
        context.meta[_DIRECTORY] = value


def _directory_option(envvar: str | None) -> click.Option:
    return click.Option(
        ["--dir", "_directory"],
        type=click.Path(path_type=Path),
        metavar="DIR",
        envvar=envvar,
        expose_value=False,
        is_eager=True,
        callback=_remember_directory,
        help="Directory with pesisir.toml, the keys and the database. "
        "Else PESISIR_DIR, else the current one.",
    )


class Command(click.Command):
    """A command with --dir."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_directory_option(None))


class Group(click.Group):
    """A group whose words all take --dir; commands are listed as they were added."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, is_root: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_directory_option("PESISIR_DIR" if is_root else None))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@dataclass
class Place:
    """What outlives the command: where it worked, for the traceback of a fault of ours."""

    found: Path | None = None


def directory() -> Path:
    """The directory this command is about, absolute; it need not exist."""
    chosen = click.get_current_context().meta.get(_DIRECTORY) or Path()
    return Path(chosen).expanduser().absolute()


def existing_directory() -> Path:
    """The directory, which must be one that `pesisir init` has made. Raises UserError."""
    path = directory()
    try:
        if (path / DATABASE_NAME).exists():
            place = click.get_current_context().find_object(Place)
            if place is not None:
                place.found = path
            return path
        if (path / SETTINGS_NAME).exists():
            raise UserError(
                f"the database {path / DATABASE_NAME} is missing; put it back with: "
                f"pesisir restore FILE --dir {path}"
            )
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; expected a directory made with: pesisir init")
        state = f"{path} holds no Pesisir data" if path.exists() else f"there is no {path}"
        raise UserError(f"{state}; make it with: pesisir init --dir {path}")
    except OSError as error:
        raise control.unusable(path, error) from None


def is_hub(path: Path) -> bool:
    """Whether a hub lives there."""
    return (path / HUB_KEYS_NAME).exists()


def call(command: str, report: control.Report | None = None, /, **arguments: Any) -> Any:
    """Run a command of portal/commands.py on the data of the directory, or of a hub's commands in a
    hub's directory. Raises UserError."""
    if is_hub(directory()):
        from portal import serve_hub

        return serve_hub.call(directory(), command, **arguments)
    path = existing_directory()

    async def here(name: str, arguments: Mapping[str, Any], report: control.Report) -> object:
        import logging

        from portal import commands, logs

        logs.start(logging.WARNING)
        return await commands.run_in_directory(path, name, arguments, report)

    return control.call(path, command, arguments, here, report)


def complete_from(command: str, key: str) -> Callable[..., list[str]]:
    """Shell completion out of the `key` of what the command `command` lists; nothing when the
    directory cannot be read.
    """

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        try:
            with context.scope(cleanup=False):
                names = [str(entry[key]) for entry in call(command)]
        except (UserError, RuntimeError, OSError):
            return []
        return [name for name in names if name.startswith(incomplete)]

    return complete


# --- output


def json_option(command: F) -> F:
    """Adds --json, which arrives as `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
    )(command)


def show(value: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print `value`: as one JSON document, or as the text made of it."""
    if as_json:
        click.echo(json.dumps(value, indent=2))
        return
    lines = text(value)
    if lines:
        click.echo(lines)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Rows under titles, columns aligned; the titles named in `right` (comma-separated) have
    their columns at the right edge, as numbers should.
    """
    to_right = [title in right.split(",") for title in titles]
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, to_right, strict=True)
        ).rstrip()

    return "\n".join([click.style(line(titles), bold=True), *(line(row) for row in rows)])


def details(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values below each other, values aligned."""
    width = max(len(name) for name, _ in pairs) + 2
    return "\n".join(f"{name + ':':<{width}}{value}".rstrip() for name, value in pairs)


def octets(count: int | None, none: str = "unlimited") -> str:
    """An amount of data with three digits that count: "1.50 GB"; units are powers of 1000."""
    if count is None:
        return none
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        # 999.5 would be written as 1000 of the unit.
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    if unit == "B":
        return f"{count} B"
    return f"{amount:.{0 if amount >= 99.95 else 1 if amount >= 9.995 else 2}f} {unit}"


def duration(seconds: int | None, none: str = "unlimited") -> str:
    """A duration in its two largest units: "2h 05m"."""
    if seconds is None:
        return none
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest_s:02}s" if minutes else f"{rest_s}s"


def when(at: int | None, zone: str | None = None, none: str = "-") -> str:
    """An instant as local time of `zone` (without one, of this machine): "2026-11-21 19:30"."""
    if at is None:
        return none
    local: tzinfo | None = None
    if zone:
        try:
            local = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            local = None
    return datetime.fromtimestamp(at, UTC).astimezone(local).strftime("%Y-%m-%d %H:%M")


def mac(address: str | None) -> str:
    """A MAC as people read it: "02:5a:..."; other text as it is."""
    if address is None:
        return "-"
    if len(address) == 12 and ":" not in address:
        return ":".join(address[i : i + 2] for i in range(0, 12, 2))
    return address


def plural(count: int, one: str, many: str | None = None) -> str:
    """ "1 card", "2 cards"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}".replace(",", " ")


@contextmanager
def progress(label: str) -> Iterator[control.Report]:
    """A bar on stderr while long work goes on, if people watch and it takes over half a second."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    started = time.monotonic()
    bar: Any = None

    def report(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            if time.monotonic() - started < 0.5 or done >= total:
                return
            bar = click.progressbar(length=total, label=label, file=sys.stderr)
            bar.__enter__()
        bar.update(max(0, done - bar.pos))

    try:
        yield report
        if bar is not None:
            bar.update(max(0, bar.length - bar.pos))
    finally:
        # Of what was stopped it shows how far it came.
        if bar is not None:
            bar.__exit__(None, None, None)
