"""The command that exchanges with the hub now."""

from typing import Any

import click

from portal.cli.terminal import Command, call, details, duration, json_option, plural, show, when

CLOCK_OFF_S = 120
"""Less is the time an answer takes over a satellite, and what crystals lose."""
STANDINGS = {
    "none": "no hub; this box gets one with: pesisir enrol FILE",
    "new": "not yet asked since the start",
    "well": "well",
    "late": "no answer; tried again by itself",
    "pending": "the office has not approved this box yet",
    "unknown": "the hub does not know this box",
    "revoked": "the office has taken this box's right to report",
    "fork": "the hub has another log of this box; the office must look",
    "hub_lies": "the hub contradicts what it signed; the proof is kept",
    "refused": "an answer that made no sense here",
}


def standing_text(found: dict[str, Any]) -> str:
    """How a node stands with its hub, for people."""
    told = found["exchanged_at"]
    rows = [
        ("Hub", found["hub"] or "-"),
        ("State", STANDINGS.get(found["standing"], found["standing"])),
        ("Last exchange", "never" if told is None else when(told)),
        ("At the hub", f"{found['acked']} of {plural(found['size'], 'record')}"),
    ]
    if found["problem"]:
        rows.append(("Problem", found["problem"]))
    if found["watch_until_at"] is not None:
        rows.append(("Watched", f"every 5 minutes until {when(found['watch_until_at'])}"))
    for one in found["documents"]:
        text = f"version {one['version']} {one['state']}"
        rows.append(
            (f"{one['name']} ({one['scope']})", f"{text}: {one['why']}" if one["why"] else text)
        )
    off_s = found["clock_off_s"]
    if off_s is not None and abs(off_s) >= CLOCK_OFF_S:
        side = "ahead of" if off_s > 0 else "behind"
        rows.append(("Clock", f"the hub's is {duration(abs(off_s))} {side} this box's"))
    if found["evidence"]:
        rows.append(("Evidence", f"{plural(found['evidence'], 'contradiction')} kept"))
    return details(rows)


@click.command("sync", cls=Command)
@click.option("--status", "is_status", is_flag=True, help="Only say how the node stands.")
@click.option(
    "--watch/--no-watch",
    "is_watched",
    default=None,
    help="Exchange every 5 minutes for two hours, or no longer.",
)
@json_option
def sync(is_status: bool, is_watched: bool | None, as_json: bool) -> None:
    """Exchange with the hub now: what waits goes up, what the office wants comes down."""
    if is_watched is not None:
        show(call("watch_hub", is_on=is_watched), as_json, standing_text)
    else:
        show(call("hub_status" if is_status else "sync"), as_json, standing_text)
