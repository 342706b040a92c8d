"""The command `pesisir gateway doctor`: watches a gateway go live, in a terminal or as JSON."""

import os
import select
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from portal import control
from portal.cli.terminal import (
    Command,
    F,
    call,
    complete_from,
    duration,
    existing_directory,
    json_option,
    mac,
    show,
)
from portal.domain.profile import parse_duration_s
from portal.errors import UserError

_MARKS = {"ok": "ok", "warn": "look", "bad": "WRONG", "wait": "...", "skip": "-"}
_COLOURS = {"ok": "green", "warn": "yellow", "bad": "red", "wait": None, "skip": None}
_TITLE_WIDTH = 17
_NARROWEST, _WIDEST = 40, 100
_TURN_S = 0.25
Until = Callable[[dict[str, Any]], bool]


def for_option(text: str) -> Callable[[F], F]:
    """--for: how long to go on, in seconds."""

    def parsed(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
        try:
            return None if value is None else parse_duration_s(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}") from None

    return click.option("--for", "for_s", metavar="TIME", callback=parsed, help=text)


@click.command("doctor", cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete_from("gateways", "name"))
@for_option("Watch for so long, such as 60s, and then leave.")
@json_option
def doctor(name: str, for_s: int | None, as_json: bool) -> None:
    """Watch a gateway go live: what is right and wrong with it, and the fix.

    On a terminal it goes on until everything was seen or you press Ctrl-C. With --json it prints
    one document and leaves, at once or after --for. Exit status 1 when something is wrong.
    """
    is_live = sys.stdout.isatty() and sys.stdin.isatty() and not as_json
    if is_live:
        found = watch(existing_directory(), name, for_s, until=_is_done)
    elif for_s is None:
        found = call("gateway_doctor", name=name)
    else:
        found = wait(existing_directory(), name, for_s, until=_is_done)
    if not is_live:
        show(found, as_json, lambda said: "\n".join(lines(said, _WIDEST)))
    if not found["good"]:
        click.get_current_context().exit(1)


def _is_done(found: dict[str, Any]) -> bool:
    return bool(found["done"])


# --- watching


def wait(directory: Path, name: str, for_s: float, *, until: Until) -> dict[str, Any]:
    """What the doctor says after watching for so long, or as soon as `until` is true of it.

    Raises UserError when no node runs or it stops.
    """
    deadline_s = time.monotonic() + for_s
    found: dict[str, Any] | None = None
    with control.Following(directory, "doctor", {"name": name}) as said:
        while (left_s := deadline_s - time.monotonic()) > 0 or found is None:
            found = _next(said, directory, max(left_s, 5.0 if found is None else 0.0)) or found
            if found is not None and until(found):
                break
    assert found is not None
    return found


def watch(directory: Path, name: str, for_s: float | None, *, until: Until) -> dict[str, Any]:
    """Show the doctor's findings in place until `until` is true of them, the time is over, or the
    person has enough; return the last ones.

    Raises UserError when no node runs or it stops.
    """
    deadline_s = None if for_s is None else time.monotonic() + for_s
    found: dict[str, Any] | None = None
    screen = Screen()
    keys = Keys()
    try:
        with control.Following(directory, "doctor", {"name": name}) as said:
            while found is None or deadline_s is None or time.monotonic() < deadline_s:
                news = _next(said, directory, _TURN_S)
                if news is not None:
                    found = news
                    screen.draw(_frame(found, screen))
                    if until(found):
                        break
                if found is not None and keys.pressed() and not _obey(keys.line, found, screen):
                    break
    except KeyboardInterrupt:
        # The ordinary way to leave.
        click.echo()
    if found is None:
        raise UserError(f"the doctor was stopped before it had looked at {name}")
    return found


def _next(said: control.Following, directory: Path, within_s: float) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] | None = said.next(within_s)
        return found
    except EOFError:
        raise UserError(
            f"the node in {directory} has stopped; start it with: pesisir node"
        ) from None


def _obey(line: str, found: dict[str, Any], screen: "Screen") -> bool:
    """Do what was typed; False to leave."""
    wish = line.strip().lower()[:1]
    screen.leave()
    if wish == "q":
        return False
    test = found["test"]
    if wish == "d" and test is not None:
        who = f"{test['serial'] or 'the phone'} ({mac(test['calling_station_id'])})"
        if click.confirm(f"Cut {who} off now?", default=False):
            click.echo("Asking the gateway ...")
            answer = call("disconnect_session", session_id=test["session"])
            click.echo(f"Its answer: {answer['outcome']}")
    return True


class Keys:
    """What was typed, a line at a time, without waiting for it."""

    def __init__(self) -> None:
        self.line = ""

    def pressed(self) -> bool:
        """Whether a line stands in `line`."""
        descriptor = sys.stdin.fileno()
        if not select.select([descriptor], [], [], 0)[0]:
            return False
        typed = os.read(descriptor, 1024)
        if not typed:
            # The terminal is gone.
            raise KeyboardInterrupt
        self.line = typed.decode(errors="replace")
        return True


class Screen:
    """Lines of a terminal that are drawn again in their place."""

    def __init__(self) -> None:
        self._height = 0

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows to be used."""
        found = shutil.get_terminal_size()
        return min(max(found.columns, _NARROWEST), _WIDEST), found.lines

    def draw(self, drawn: list[str]) -> None:
        """Put these lines in place of the last ones."""
        up = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        sys.stdout.write(up + "\n".join(drawn) + "\n")
        sys.stdout.flush()
        self._height = len(drawn)

    def leave(self) -> None:
        """Leave what is there; the next lines come below."""
        self._height = 0


# --- how it reads


def lines(found: dict[str, Any], width: int, joined: Collection[str] = ()) -> list[str]:
    """A doctor's document as lines of a terminal. Findings of the states in `joined` are only
    named, all of one state together."""
    watched = f", watched for {duration(found['watched_s'])}" if found["watched_s"] else ""
    drawn = [
        click.style(f"{found['gateway']}", bold=True)
        + f": {found['make']} at {found['address']}{watched}",
        "",
    ]
    for state in joined:
        titles = [one["title"] for one in found["findings"] if one["state"] == state]
        if titles:
            drawn += _wrapped(state, "", ", ".join(titles) + ".", width)
    for one in found["findings"]:
        if one["state"] in joined:
            continue
        drawn += _wrapped(one["state"], one["title"], one["found"], width)
        if one["fix"]:
            drawn += _indented(f"-> {one['fix']}", width, 8)
    return [*drawn, "", found["summary"]]


def _wrapped(state: str, title: str, text: str, width: int) -> list[str]:
    mark = click.style(f"{_MARKS[state]:>5}", fg=_COLOURS[state], bold=state == "bad")
    head = f"  {title:<{_TITLE_WIDTH}}" if title else "  "
    indent = 5 + len(head)
    pieces = textwrap.wrap(text, max(20, width - indent)) or [""]
    return [f"{mark}{head}{pieces[0]}", *(" " * indent + piece for piece in pieces[1:])]


def _indented(text: str, width: int, indent: int) -> list[str]:
    # A command must be copied in one piece.
    pieces = textwrap.wrap(
        text, max(20, width - indent), break_long_words=False, break_on_hyphens=False
    )
    return [" " * indent + piece for piece in pieces]


def _frame(found: dict[str, Any], screen: Screen) -> list[str]:
    """The document and what may be typed, not higher than the terminal."""
    width, height = screen.size
    keys = ["q + Enter leaves"]
    if found["test"] is not None:
        keys.insert(0, f"d + Enter: test Disconnect on {found['test']['serial'] or 'the phone'}")
    foot = ["", "; ".join(keys) + "."]
    room = max(5, height - 1 - len(foot))
    for joined in ((), ("ok", "skip"), ("ok", "skip", "wait")):
        drawn = lines(found, width, joined)
        if len(drawn) <= room:
            break
    return drawn[:room] + foot
