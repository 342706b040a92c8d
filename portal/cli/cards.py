"""The commands about what residents hold and do: voucher, session."""

import re
import sys
from pathlib import Path
from typing import Any

import click

from portal.cli.terminal import (
    Group,
    call,
    complete_from,
    details,
    duration,
    json_option,
    mac,
    octets,
    plural,
    progress,
    show,
    table,
    when,
)
from portal.sheets import file as print_file
from portal.sheets.layouts import LAYOUT_NAMES

_SITES = complete_from("sites", "code")
_GATEWAYS = complete_from("gateways", "name")
_PROFILES = complete_from("profiles", "name")


# --- voucher


@click.group(cls=Group)
def voucher() -> None:
    """Codes on paper cards."""


def _spaced(code: str) -> str:
    return f"{code[:4]} {code[4:8]} {code[8:]}"


@voucher.command("issue")
@click.option(
    "--profile",
    metavar="PROFILE",
    shell_complete=_PROFILES,
    required=True,
    help="Limits of the cards.",
)
@click.option(
    "--count", metavar="N", type=click.IntRange(1, 10_000), default=1, help="How many (else 1)."
)
@click.option(
    "--site", metavar="CODE", shell_complete=_SITES, help="Site of the cards; needed with several."
)
@click.option("--note", metavar="TEXT", default="", help="A note on the batch.")
@click.option(
    "--use-before", metavar="DATE", help="Last day for a first login, such as 2027-01-31."
)
@click.option(
    "--sheet",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Lay the cards out in this new PDF file, readable by its owner only.",
)
@click.option(
    "--layout",
    metavar="NAME",
    type=click.Choice(LAYOUT_NAMES),
    help=f"How: {', '.join(LAYOUT_NAMES)} (else {LAYOUT_NAMES[0]}).",
)
@json_option
def issue_vouchers(as_json: bool, sheet: Path | None, layout: str | None, **options: Any) -> None:
    """Issue a batch of cards and print their codes, which are shown only now.

    With --sheet the codes stand in the file and not on the terminal.
    """
    if layout is not None and sheet is None:
        raise click.UsageError("--layout says how a file is laid out; expected --sheet with it")
    if sheet is not None:
        print_file.check_new(sheet)
    with progress("Issuing cards") as report:
        batch = call("issue_vouchers", report, **options)
    if sheet is None:
        show(batch, as_json, _batch_text)
        return
    words = call("sheet_words", key=batch["vouchers"][0]["serial"])
    with progress("Printing cards") as report:
        print_file.write(sheet, words, batch, layout or LAYOUT_NAMES[0], report)
    show(
        {**batch, "sheet": str(sheet)},
        as_json,
        lambda done: f"Batch {done['batch']}: {plural(len(done['vouchers']), 'card')} in {sheet}",
    )


def _batch_text(batch: dict[str, Any]) -> str:
    cards = [[v["serial"], _spaced(v["code"]), v["url"]] for v in batch["vouchers"]]
    return f"Batch {batch['batch']}\n" + table(["SERIAL", "CODE", "URL"], cards)


def _keys(words: tuple[str, ...]) -> list[str]:
    """Codes and serials among the words: a code may be typed with its spaces, and "-" reads
    lines from the standard input, so that a code need not stand in the shell's history.
    """
    lines: list[str] = []
    for word in words:
        if word == "-":
            if sys.stdin.isatty():
                lines.append(click.prompt("Code or serial", hide_input=True, err=True))
            else:
                lines += [line.strip() for line in sys.stdin if line.strip()]
        else:
            lines.append(word)
    keys: list[str] = []
    parts: list[str] = []
    for line in lines:
        if re.fullmatch("[0-9]{4}", line):
            parts.append(line)
            if len(parts) == 3:
                keys.append("".join(parts))
                parts = []
            continue
        keys += ["".join(parts), line] if parts else [line]
        parts = []
    return keys + (["".join(parts)] if parts else [])


_REASON = click.option(
    "--reason", metavar="TEXT", required=True, help="Why; it is kept with the card."
)
_KEYS = click.argument("words", metavar="CODE|SERIAL...", nargs=-1, required=True)


_ONE_KEY = click.argument("words", metavar="CODE|SERIAL", nargs=-1, required=True)


@voucher.command("show")
@_ONE_KEY
@json_option
def show_voucher(words: tuple[str, ...], as_json: bool) -> None:
    """Show one card: state, used, left.

    A code may be typed with its spaces; "-" reads it from the standard input.
    """
    show(call("show_voucher", key=_one_key(words)), as_json, _voucher_text)


def _one_key(words: tuple[str, ...]) -> str:
    keys = _keys(words)
    if len(keys) != 1:
        raise click.UsageError(f"{len(keys)} cards named; expected one code or serial")
    return keys[0]


def _voucher_text(found: dict[str, Any]) -> str:
    zone = found.get("zone")
    left = [
        octets(found["octets_left"]) if found["octets_left"] is not None else "",
        duration(found["seconds_left"]) if found["seconds_left"] is not None else "",
    ]
    resets = f" (until {when(found['resets_at'], zone)})" if found["resets_at"] else ""
    return details(
        [
            ("Serial", found["serial"]),
            ("Code", f"**** **** {found['last4']}"),
            ("Profile", found["profile"]),
            ("State", found["state"].replace("_", " ")),
            ("First used", when(found["first_used_at"], zone, none="never")),
            ("Expires", when(found["expires_at"], zone)),
            ("Used", f"{octets(found['octets_used'])}, {duration(found['seconds_used'])}"),
            ("Left", (", ".join(part for part in left if part) or "unlimited") + resets),
            ("Open sessions", str(found["open_sessions"])),
            *_told_by_people(found),
        ]
    )


def _told_by_people(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What people did with a card, as far as something is known."""
    zone = found.get("zone")
    lines = [
        ("Issued", f"{when(found['issued_at'], zone)} {found['issued_by']}".rstrip()),
        ("Note", found["note"]),
        ("Given", when(found["given_at"], zone, none="")),
        ("Replaces", found["replaces"] or ""),
        ("Replaced by", found["replaced_by"] or ""),
        ("Reason", found["end_reason"] or ""),
    ]
    for deed in found.get("history", ()):
        words = [when(deed["at"], zone), deed["operator"], deed["action"], deed["details"]]
        lines.append(("Action", "  ".join(word for word in [*words, deed["reason"]] if word)))
    return [line for line in lines if line[1]]


@voucher.command("revoke")
@_KEYS
@_REASON
@json_option
def revoke_vouchers(words: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Revoke cards and cut their phones off."""
    found = call("revoke_vouchers", keys=_keys(words), reason=reason)
    show(
        found,
        as_json,
        lambda revoked: "\n".join(f"{entry['serial']} is revoked." for entry in revoked),
    )


@voucher.command("erase")
@_ONE_KEY
@_REASON
@json_option
def erase_voucher(words: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Erase what is known of a card's holder, who wishes it.

    The card ends, and those it replaced with it. Which phones and addresses they had, when and how
    much goes at once, at the hub with the next exchange; sums of days stay. There is no way back.
    The reason is kept: name nobody in it.
    """
    done = call("erase_voucher", key=_one_key(words), reason=reason)
    show(
        done,
        as_json,
        lambda done: (
            f"{', '.join(done['serials'])}: the holder is erased;"
            f" {plural(done['records'], 'record')} of the ledger belong to nobody now."
        ),
    )


@voucher.command("replace")
@_KEYS
@_REASON
@json_option
def replace_vouchers(words: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Replace lost cards: old codes die, balances move.

    A017-05..A017-23 replaces what is still in the drawer of that range: cards given or used are
    left out. When something stops it, the cards that were not reached are as they were; done again
    it goes on with them.
    """
    with progress("Replacing cards") as report:
        batch = call("replace_vouchers", report, keys=_keys(words), reason=reason)
    show(batch, as_json, _replaced_text)


def _replaced_text(batch: dict[str, Any]) -> str:
    left_out = [f"{entry['serial']} ({entry['why']})" for entry in batch.get("left_out", ())]
    text = _batch_text(batch)
    return f"{text}\nLeft out: {', '.join(left_out)}" if left_out else text


@voucher.command("top-up")
@_ONE_KEY
@click.option("--data", metavar="AMOUNT", help="So much more data: 500MB.")
@click.option("--time", metavar="T", help="So much more time: 2h.")
@_REASON
@json_option
def top_up_voucher(words: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Let a card use more today, this week and month, and in total.

    A card that was used up works again at once; a phone that is online gets it at once where its
    gateway can be told, else with its next login.
    """
    if options["data"] is None and options["time"] is None:
        raise click.UsageError("nothing to add; expected --data, --time or both")
    show(call("top_up_voucher", key=_one_key(words), **options), as_json, _voucher_text)


@voucher.command("extend")
@_ONE_KEY
@click.option("--for", "span", metavar="T", required=True, help="So much longer: 7d.")
@_REASON
@json_option
def extend_voucher(words: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Let a card live longer, from its end or from now if that is over.

    Before first use the last day for it moves, by whole days.
    """
    show(call("extend_voucher", key=_one_key(words), **options), as_json, _voucher_text)


@voucher.command("list")
@click.option("--batch", metavar="BATCH", help="Only this batch, such as A017.")
@click.option("--site", metavar="CODE", shell_complete=_SITES, help="Only this site.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    help="At most so many (else 1000).",
)
@json_option
def list_vouchers(as_json: bool, **filters: Any) -> None:
    """List cards, newest first. Codes are never shown again."""

    def text(found: list[dict[str, Any]]) -> str:
        rows = [
            [
                v["serial"],
                f"...{v['last4']}",
                v["profile"],
                v["state"].replace("_", " "),
                when(v["first_used_at"], v.get("zone"), none=""),
                octets(v["octets_used"]),
                octets(v["octets_left"], none=""),
                duration(v["seconds_left"], none=""),
            ]
            for v in found
        ]
        titles = ["SERIAL", "CODE", "PROFILE", "STATE", "FIRST USED", "USED", "LEFT", "TIME LEFT"]
        return table(titles, rows, right="USED,LEFT,TIME LEFT") + "\n" + plural(len(rows), "card")

    show(call("list_vouchers", **filters), as_json, text)


# --- session


@click.group(cls=Group)
def session() -> None:
    """Who is and was online."""


@session.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those online now.")
@click.option(
    "--since",
    metavar="T",
    help='Only those seen since then: "2h" or "3d" ago, 2026-11-21, "2026-11-21 08:00", or epoch '
    "seconds; in the zone of the site.",
)
@click.option("--serial", metavar="S", help="Only this card.")
@click.option("--gateway", metavar="NAME", shell_complete=_GATEWAYS, help="Only this gateway.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    help="At most so many, newest first (else 1000).",
)
@json_option
def list_sessions(as_json: bool, **filters: Any) -> None:
    """List sessions, newest first."""

    def text(found: list[dict[str, Any]]) -> str:
        rows = [
            [
                str(s["id"]),
                s["gateway"] or "-",
                s["serial"] or "-",
                mac(s["calling_station_id"]),
                s["framed_ip"] or "-",
                when(s["started_at"], s.get("zone")),
                duration(s["session_time_s"]),
                octets(s["input_octets"]),
                octets(s["output_octets"]),
                "online" if s["ended_at"] is None else s["end_cause"] or "ended",
            ]
            for s in found
        ]
        titles = ["ID", "GATEWAY", "SERIAL", "PHONE", "IP", "STARTED", "TIME", "UP", "DOWN", "END"]
        return table(titles, rows, right="ID,TIME,UP,DOWN") + "\n" + plural(len(rows), "session")

    show(call("list_sessions", **filters), as_json, text)


@session.command("disconnect")
@click.argument("session_id", metavar="ID", type=click.IntRange(1))
@json_option
def disconnect_session(session_id: int, as_json: bool) -> None:
    """Ask the gateway to cut a session off; prints ack, nak or timeout, and why it refused.

    The quota is kept by accounting, not by the gateway's word: look at session list.
    """

    def text(found: dict[str, Any]) -> str:
        said = str(found["outcome"])
        if found["error_cause"] is not None:
            said += f"\n{found['meaning'] or 'unknown Error-Cause'} ({found['error_cause']})"
        return said

    show(call("disconnect_session", session_id=session_id), as_json, text)
