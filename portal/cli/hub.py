"""The commands between a hub and its boxes: tokens, approval, revocation at the hub; `enrol` at the
box.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from portal.cli.terminal import (
    Command,
    Group,
    call,
    complete_from,
    details,
    directory,
    is_hub,
    json_option,
    show,
    table,
    when,
)
from portal.errors import UserError

_SITES = complete_from("sites", "code")
_BOXES = complete_from("boxes", "node_id")


def _check_hub() -> None:
    if not is_hub(directory()):
        raise UserError(f"{directory()} is no hub's directory; expected one made with --role hub")


# --- sites and tokens at a hub


def invitation(found: dict[str, Any], file: Path | None, as_json: bool) -> None:
    """Show a token that was just made and write the enrolment file."""
    path = file or directory() / f"pesisir-{found['code']}.enrol"
    _write(path, found.pop("file"))
    shown = {**found, "file": str(path)}

    def text(made: dict[str, Any]) -> str:
        from portal.printing import qr_lines

        command = f"pesisir enrol {made['url']} {made['token']}"
        return (
            details(
                [
                    ("Site", f"{made['code']} {made['name']}"),
                    ("Token", made["token"]),
                    ("Good until", when(made["expires_at"])),
                    ("File", made["file"]),
                ]
            )
            + "\n\n"
            + "\n".join(qr_lines(command))
            + "\n\nThe token is shown only now, and is good for one box. At the box:\n"
            f"  pesisir enrol {Path(made['file']).name}\nor\n  {command}\n"
            "Then compare six words with who stands there:\n"
            f"  pesisir approve {made['code']}"
        )

    show(shown, as_json, text)


def _write(path: Path, text: str) -> None:
    """A file for its owner only: it holds a token."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"The file {path} cannot be written: {error.strerror}.") from error


def site_text(found: Mapping[str, Any]) -> str:
    """A site as a hub knows it."""
    return details(
        [
            ("Site", found["code"]),
            ("Name", found["name"]),
            ("Zone", found["zone"]),
            ("Group", found["group"] or "-"),
            ("Power", found["power_window"] or "-"),
            ("Without the node", found["without_node"]),
            ("Box", found["node"] or "-"),
            ("State", found["state"]),
            ("Data until", _when(found["data_until_at"])),
        ]
    )


def sites_text(sites: Sequence[Mapping[str, Any]]) -> str:
    """The sites of a hub."""
    return table(
        ["SITE", "NAME", "GROUP", "STATE", "LAST HEARD", "DATA UNTIL"],
        [
            [
                *(one["code"], one["name"], one["group"], one["state"]),
                *(_when(one["last_seen_at"]), _when(one["data_until_at"])),
            ]
            for one in sites
        ],
    )


def _when(at: int | None) -> str:
    return "-" if at is None else when(at)


@click.command("token", cls=Command)
@click.argument("code", metavar="CODE", shell_complete=_SITES)
@click.option("--file", type=click.Path(path_type=Path), help="Where the enrolment file goes.")
@json_option
def token(code: str, file: Path | None, as_json: bool) -> None:
    """Hub: make a further token of a site, for its first box or one in place of a lost one."""
    _check_hub()
    invitation(call("invite", code=code), file, as_json)


# --- a person decides


@click.command("approve", cls=Command)
@click.argument("code", metavar="CODE", required=False)
@click.option("--words", metavar="WORDS", help="The six words that were read out at the box.")
@click.option("--replace", is_flag=True, help="It takes the place of the site's box.")
@json_option
def approve(code: str | None, words: str | None, replace: bool, as_json: bool) -> None:
    """Hub: let the box that waits for the site CODE report; without CODE, list who waits.

    With --words they are compared here. On a terminal the words are shown and it asks.
    """
    _check_hub()
    waiting = call("waiting")
    if code is None:
        show(waiting, as_json, _waiting_text)
        return
    if words is None and not as_json and sys.stdin.isatty():
        for one in waiting:
            if code.upper() == one["site"] or code == one["node_id"]:
                click.echo(f"{one['site']} {one['node_id']}: {' '.join(one['words'])}", err=True)
        if not click.confirm("Does the box show these six words?", err=True):
            raise UserError("Nothing was approved.")
    done = call("approve", code=code, words=words, replace=replace)

    def text(done: dict[str, Any]) -> str:
        replaced = f"; {done['replaced']} may not report any more" if done["replaced"] else ""
        return f"{done['node']} reports for {done['site']} ({' '.join(done['words'])}){replaced}."

    show(done, as_json, text)


def _waiting_text(found: list[dict[str, Any]]) -> str:
    return table(
        ["SITE", "BOX", "SIX WORDS", "SINCE", "TAKES THE PLACE OF"],
        [
            [
                *(one["site"], one["node_id"], " ".join(one["words"])),
                *(when(one["presented_at"]), one["replaces"] or "-"),
            ]
            for one in found
        ],
    )


@click.command("refuse", cls=Command)
@click.argument("code", metavar="CODE")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept.")
@json_option
def refuse(code: str, reason: str, as_json: bool) -> None:
    """Hub: do not let the box in that waits for the site CODE; its token is worth nothing."""
    _check_hub()
    done = call("refuse", code=code, reason=reason)
    show(done, as_json, lambda one: f"{one['node']} for {one['site']} is refused.")


# --- boxes


@click.group("box", cls=Group)
def box() -> None:
    """Hub: the boxes that report."""


@box.command("list")
@json_option
def list_boxes(as_json: bool) -> None:
    """List the boxes, newest first."""
    _check_hub()

    def text(found: list[dict[str, Any]]) -> str:
        return table(
            ["BOX", "SITES", "STATE", "LAST HEARD", "TAKES THE PLACE OF"],
            [
                [
                    *(one["node_id"], ", ".join(one["sites"]) or "-", one["state"]),
                    *(_when(one["last_seen_at"]), one["replaces"] or "-"),
                ]
                for one in found
            ],
        )

    show(call("boxes"), as_json, text)


@box.command("revoke")
@click.argument("node", metavar="BOX", shell_complete=_BOXES)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept.")
@json_option
def revoke(node: str, reason: str, as_json: bool) -> None:
    """Take a box's right to report; what is here from it stays good."""
    _check_hub()
    done = call("revoke", node=node, reason=reason)
    show(done, as_json, lambda one: f"{one['node']} may not report any more.")


# --- at the box


@click.command("enrol", cls=Command)
@click.argument("given", metavar="FILE|URL TOKEN", nargs=-1)
@click.option("--new-key", is_flag=True, help="Change the signing key of this enrolled box.")
@click.option("--proxy", metavar="URL", help="HTTP proxy on the way (else [hub] proxy).")
@click.option(
    "--recovery-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The office's key: a blank box gets the cards of the one it replaces.",
)
@click.option(
    "--wait",
    metavar="MINUTES",
    type=click.IntRange(0, 1440),
    default=30,
    help="With --recovery-key: how long to wait for the office's approval (30).",
)
@json_option
def enrol(
    given: tuple[str, ...],
    new_key: bool,
    proxy: str | None,
    recovery_key: Path | None,
    wait: int,
    as_json: bool,
) -> None:
    """Have this box report to a hub, with the FILE or the URL and TOKEN from the office.

    A blank directory becomes a node with the site of the file. Asked again it says how it stands.
    It prints six words: read them to the office over the telephone.
    """
    if new_key:
        if given:
            raise click.UsageError("--new-key takes no FILE and no URL.")
        done = call("new_key", proxy=proxy)
        show(done, as_json, lambda one: f"{one['node']} signs with a new key: {one['key']}.")
        return
    if len(given) not in (1, 2):
        raise click.UsageError("expected FILE, or URL and TOKEN.")
    if recovery_key is not None:
        show(_replaced(given, proxy, recovery_key, wait), as_json, _replaced_text)
        return
    show(_enrolled(given, proxy), as_json, _enrolled_text)


def _replaced(
    given: tuple[str, ...], proxy: str | None, recovery_key: Path, wait: int
) -> dict[str, Any]:
    """Enrol a blank box as another's successor, and give it the other's cards."""
    import asyncio

    from portal import cold_spare, control, enrolment
    from portal.directories import secret_directory
    from portal.serve import real_clocks
    from portal.signing import SigningKeys

    path = directory()
    if is_hub(path) or (path / "pesisir.db").exists():
        raise UserError(f"{path} has data already; a spare box begins with an empty directory.")
    asked = enrolment.read_file(Path(given[0])) if len(given) == 1 else enrolment.read_words(*given)
    secret_directory(path)
    with control.own(path, "enrol"):
        keys = SigningKeys.read_or_make(path, os.urandom)
        done = enrolment.enrol(asked, keys, program=version("pesisir"), proxy=proxy)
        private = cold_spare.read_recovery_key(recovery_key, done.trust)
        enrolment.keep(path, done)
        clocks = real_clocks()
        recovery = asyncio.run(
            cold_spare.fetch(
                done.trust,
                keys,
                proxy=proxy,
                wait_s=60.0 * wait,
                now=lambda: int(clocks.system_at()),
                elapsed_s=clocks.elapsed_s,
                waiting=lambda: click.echo(
                    f"Read these words to the office: {' '.join(done.words)}\n"
                    "Waiting for its approval (pesisir approve --replace) ...",
                    err=True,
                ),
            )
        )
        found = cold_spare.restore(path, recovery, private)
    return {
        "hub": done.url,
        "site": done.site["code"],
        "node": done.node_id,
        "state": "active",
        "words": list(done.words),
        "cards": found["cards"],
        "balances_at": found["balances_at"],
        "backup_at": found["backup_at"],
    }


def _replaced_text(found: dict[str, Any]) -> str:
    return (
        details(
            [
                ("Hub", found["hub"]),
                ("Site", found["site"]),
                ("Box", found["node"]),
                ("Cards", found["cards"]),
                ("Balances as of", _when(found["balances_at"])),
            ]
        )
        + "\n\nThe old cards work, operators sign in as before. What was used after that moment is"
        "\nunknown here. Give this box the old one's address, and start it with: pesisir node"
    )


def _enrolled(given: tuple[str, ...], proxy: str | None) -> dict[str, Any]:
    from portal import control, enrolment
    from portal.directories import secret_directory
    from portal.signing import SigningKeys

    path = directory()
    if is_hub(path):
        raise UserError(f"{path} is a hub's directory; a box is enrolled in a directory of its own")
    if len(given) == 1:
        asked = enrolment.read_file(Path(given[0]))
    else:
        asked = enrolment.read_words(*given)
    is_blank = not (path / "pesisir.db").exists()
    if not is_blank and asked.site is not None:
        _check_site(asked.site)
    if is_blank:
        secret_directory(path)
    proxy = proxy or _set_proxy(path, is_blank)
    keys = SigningKeys.read_or_make(path, os.urandom)
    done = enrolment.enrol(asked, keys, program=version("pesisir"), proxy=proxy)
    made: dict[str, str] = {}
    if is_blank:
        made = _make(path, done.site)
    elif asked.site is None:
        _check_site(done.site["code"])
    enrolment.keep(path, done)
    control.give_to_owner(path)
    return {
        "hub": done.url,
        "site": done.site["code"],
        "node": done.node_id,
        "state": done.state,
        "words": list(done.words),
        **({"admin": made["admin"], "password": made["password"]} if made else {}),
    }


def _set_proxy(path: Path, is_blank: bool) -> str | None:
    if is_blank:
        return None
    from portal import settings

    return getattr(settings.load_for_node(path).hub, "proxy", None)


def _check_site(code: str) -> None:
    """The node must have the site under the office's code. Raises UserError."""
    codes = [one["code"] for one in call("sites")]
    if code not in codes:
        raise UserError(
            f"The office calls the site {code}, this node has {', '.join(codes)}; make it with:"
            f" pesisir site add {code} NAME --zone ZONE"
        )


def _make(path: Path, site: Mapping[str, str]) -> dict[str, str]:
    """A node in a blank directory, with the office's site. Its keys were made already."""
    from portal import directories

    made = directories.make(
        path, code=site["code"], name=site["name"], zone=site["zone"], admin="admin"
    )
    changes = {name: site[name] for name in ("power_window", "without_node") if site.get(name)}
    if changes:
        call("set_site", code=site["code"], changes=changes)
    return made


def _enrolled_text(found: dict[str, Any]) -> str:
    lines = [
        ("Hub", found["hub"]),
        ("Site", found["site"]),
        ("Box", found["node"]),
        ("Six words", " ".join(found["words"])),
    ]
    if "password" in found:
        lines += [("Sign-in", found["admin"]), ("Password", found["password"])]
    if found["state"] == "active":
        return details(lines) + "\n\nThe office has approved this box."
    return (
        details(lines)
        + "\n\nThe office has to approve this box: read the six words out over the telephone."
        "\nResidents can log in meanwhile; what is used is sent once it is approved."
    )
