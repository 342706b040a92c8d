"""The commands about the ledger: how far it has got, writing it out, verifying what was written."""

from pathlib import Path
from typing import Any

import click

from portal.cli.terminal import (
    Group,
    call,
    details,
    directory,
    duration,
    existing_directory,
    is_hub,
    json_option,
    octets,
    plural,
    progress,
    show,
    when,
)
from portal.errors import UserError


@click.group(cls=Group)
def ledger() -> None:
    """The record of usage that nobody can change unseen."""


@ledger.command("status")
@json_option
def status(as_json: bool) -> None:
    """Show how far the ledger has got and how much of it the hub has.

    At a hub: how far it has the ledger of each box, and the keys to check it with.
    """

    def text(found: dict[str, Any]) -> str:
        cosigned = found["cosigned"]
        return details(
            [
                ("Node", found["node"]),
                ("Epoch", "none yet" if found["epoch"] is None else found["epoch"]),
                ("Records", found["size"]),
                ("Root", found["root"] or "-"),
                ("At the hub", plural(found["at_hub"], "record")),
                (
                    "Cosigned",
                    "nothing yet"
                    if cosigned is None
                    else f"{plural(cosigned['size'], 'record')} of epoch {cosigned['epoch']}, "
                    f"kept since {when(cosigned['kept_at'])}",
                ),
                *(("Key", key) for key in found["keys"]),
            ]
        )

    show(call("ledger"), as_json, _hub_text if is_hub(directory()) else text)


def _hub_text(found: list[dict[str, Any]]) -> str:
    if not found:
        return "No box reports yet."
    return "\n\n".join(
        details(
            [
                ("Box", each["node"]),
                *(
                    (
                        f"Epoch {one['epoch']}",
                        f"{plural(one['size'], 'record')}, root {one['root']}",
                    )
                    for one in each["epochs"]
                ),
                *(("Key", key) for key in each["keys"]),
            ]
        )
        for each in found
    )


@ledger.command("export")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path), required=False)
@click.option("--personal", is_flag=True, help="With MACs, IPs, serials, names; it is audited.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--box", metavar="ID", help="At a hub: whose ledger, where several boxes report.")
@click.option(
    "--usb",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Instead: what the hub does not have, on a stick for pesisir hub import.",
)
@json_option
def export(
    file: Path | None,
    personal: bool,
    force: bool,
    box: str | None,
    usb: Path | None,
    as_json: bool,
) -> None:
    """Write the whole ledger into FILE, for an auditor.

    Also while the node runs. What is personal stays out unless it is asked for. At a hub: its copy
    of a box's ledger, which is verified in the same way.
    """
    from portal import directories

    if (file is None) == (usb is None):
        raise click.UsageError("Expected FILE, or --usb DIR.")
    if usb is not None:
        if is_hub(directory()):
            raise click.UsageError("--usb is for a node; at the hub FILE is what proves.")
        done = call("export_usb", directory=str(usb.expanduser().absolute()))
        show(
            done,
            as_json,
            lambda done: (
                f"{plural(done['records'], 'record')} are in {done['file']}; carry it to the"
                " office, where it is read with: pesisir hub import DIR"
            ),
        )
        return
    assert file is not None
    path = directory() if is_hub(directory()) else existing_directory()
    if box is not None and not is_hub(path):
        raise click.UsageError("--box is for a hub; a node has its own ledger only.")
    target = file.expanduser().absolute()
    with progress("Exporting") as report:
        done = directories.export_ledger(
            path, target, force, call, report, with_personal=personal, box=box
        )
    show(
        done,
        as_json,
        lambda done: (
            f"{plural(done['records'], 'record')} of node {done['node']} are in "
            f"{done['file']}; verify it with: pesisir ledger verify {done['file']}"
        ),
    )


@ledger.command("verify")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The keys to believe, one a line; else those in FILE.",
)
@json_option
def verify(file: Path, keys: Path | None, as_json: bool) -> None:
    """Say what a ledger file proves; exit status 1 when something in it is wrong.

    Needs no directory and no node. The first record that is wrong is named.
    """
    from portal import signing
    from portal.domain import ledger_file

    trusted = None if keys is None else _keys(keys)
    try:
        with file.open("rb") as lines:
            found = ledger_file.check(lines, signing.verify, trusted=trusted)
    except OSError as error:
        raise UserError(f"The file {file} cannot be read: {error.strerror}.") from None
    show(_shown(found), as_json, _text)
    if found.problem is not None:
        if as_json:
            click.get_current_context().exit(1)
        raise UserError(f"WRONG: {found.problem}.")


def _keys(file: Path) -> list[Any]:
    from portal.domain import note

    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The keys in {file} cannot be read ({error}).") from None
    try:
        found = [note.parse_key(line) for line in lines if line.strip() and line[0] != "#"]
    except note.NoteError as error:
        raise UserError(f"{file}: {error}.") from None
    if not found:
        raise UserError(f"{file} has no key; expected lines such as: pesisir/node/...+...+...")
    return found


def _shown(found: Any) -> dict[str, Any]:
    """What was found, as JSON."""
    from dataclasses import asdict

    problem = found.problem
    return {
        "node": found.node,
        "is_good": problem is None,
        "records": found.records,
        "epochs": [asdict(epoch) for epoch in found.epochs],
        "keys": "given" if found.are_keys_given else "from the file",
        "cosigned_by": found.hub_names,
        "pruned": found.pruned,
        "replayed": found.replayed,
        "replayed_octets": found.replayed_octets,
        "dropped": found.dropped,
        "personal": {"opened": found.opened, "closed": found.closed},
        "sites": [
            {"number": number, "code": found.sites.get(number), **asdict(sums)}
            for number, sums in sorted(found.usages.items())
        ],
        "remarks": found.remarks,
        "problem": None if problem is None else {**asdict(problem), "sentence": str(problem)},
    }


def _text(found: dict[str, Any]) -> str:
    lines = [f"Ledger of node {found['node']}", ""]
    lines += [_epoch_text(epoch, found["cosigned_by"]) for epoch in found["epochs"]]
    personal = found["personal"]
    lines.append(
        f"Personal parts: {personal['opened']} shown and as they were committed to,"
        f" {personal['closed']} erased or not shown."
    )
    if found["pruned"]:
        lines.append(
            f"Only the leaf is left of {plural(found['pruned'], 'record')}, as records of this log"
            " say; the places are proven, what they said is not in this file."
        )
    if found["dropped"]:
        lines.append(
            f"Only the leaf is left of {plural(found['dropped'], 'old record')} that whoever wrote"
            " this file has removed; the places are proven, what they said is not in this file."
        )
    for site in found["sites"]:
        lines.append(
            f"Site {site['code'] or site['number']}: {plural(site['sessions'], 'session')},"
            f" {octets(site['input_octets'])} up, {octets(site['output_octets'])} down,"
            f" {duration(site['seconds'])} from quotas."
        )
    if found["replayed"]:
        lines.append(
            f"Of these {octets(found['replayed_octets'])} stand in"
            f" {plural(found['replayed'], 'record')} that may tell again what an earlier epoch told"
            " (an older disk was put back). The hub counts of two stories the larger, so its sums"
            " can be lower than these."
        )
    lines += found["remarks"]
    if found["keys"] == "given":
        lines.append("Checked with the keys given.")
    else:
        lines.append(
            "Checked with the keys in the file itself. The node's id is the hash of its key:"
            " compare it with what the hub shows, or give the keys with --key."
        )
    if found["is_good"]:
        lines += ["", "GOOD: nothing was changed, left out or put in since it was signed."]
    return "\n".join(lines)


def _epoch_text(epoch: dict[str, Any], hubs: list[str]) -> str:
    name = f"Epoch {epoch['number']}"
    if not epoch["records"]:
        return f"{name}: no record was found good."
    text = f"{name}: records 0 to {epoch['records'] - 1}"
    if epoch["first_at"] is not None:
        text += f", {when(epoch['first_at'])} to {when(epoch['last_at'])} by the node's clock"
    text += f"; {epoch['signed']} signed by the node"
    if epoch["cosigned_at"] is not None:
        text += (
            f"; the first {epoch['cosigned']} cosigned by {', '.join(hubs)}, last at"
            f" {when(epoch['cosigned_at'])}"
        )
    else:
        text += "; none cosigned by a hub"
    return f"{text}."
