"""The commands about what residents hold and do: voucher, session."""

import re
import sys
from typing import Any

import click

from portal.terminal import (
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
@json_option
def issue_vouchers(as_json: bool, **options: Any) -> None:
    """Issue a batch of cards and print their codes, which are shown only now."""
    with progress("Issuing cards") as report:
        batch = call("issue_vouchers", report, **options)

    show(batch, as_json, _batch_text)


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


_KEYS = click.argument("words", metavar="CODE|SERIAL...", nargs=-1, required=True)


@voucher.command("show")
@click.argument("words", metavar="CODE|SERIAL", nargs=-1, required=True)
@json_option
def show_voucher(words: tuple[str, ...], as_json: bool) -> None:
    """Show one card: state, used, left.

    A code may be typed with its spaces; "-" reads it from the standard input.
    """
    keys = _keys(words)
    if len(keys) != 1:
        raise click.UsageError(f"{len(keys)} cards named; expected one code or serial")
    show(call("show_voucher", key=keys[0]), as_json, _voucher_text)


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
        ]
    )


@voucher.command("revoke")
@_KEYS
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept with the card.")
@json_option
def revoke_vouchers(words: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Revoke cards and cut their phones off."""
    found = call("revoke_vouchers", keys=_keys(words), reason=reason)
    show(
        found,
        as_json,
        lambda revoked: "\n".join(f"{entry['serial']} is revoked." for entry in revoked),
    )


@voucher.command("replace")
@_KEYS
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept with the card.")
@json_option
def replace_vouchers(words: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Replace lost cards: old codes die, balances move."""
    show(call("replace_vouchers", keys=_keys(words), reason=reason), as_json, _batch_text)


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
    """Ask the gateway to cut a session off; prints ack, nak or timeout.

    The quota is kept by accounting, not by the gateway's word: look at session list.
    """
    show(
        call("disconnect_session", session_id=session_id),
        as_json,
        lambda found: str(found["outcome"]),
    )
