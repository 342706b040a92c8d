"""The commands about devices by name: phones that are blocked, devices that need no card."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from portal.cli.terminal import (
    Group,
    call,
    complete_from,
    duration,
    json_option,
    mac,
    octets,
    plural,
    show,
    table,
    when,
)

F = TypeVar("F", bound=Callable[..., Any])
_SITES = complete_from("sites", "code")
_PROFILES = complete_from("profiles", "name")
_KINDS = ("attendance", "office", "other")


def _site_option(text: str) -> Callable[[F], F]:
    return click.option("--site", metavar="CODE", shell_complete=_SITES, help=text)


@click.group(cls=Group)
def device() -> None:
    """Blocked phones, and devices that need no card."""


@device.command("block")
@click.argument("address", metavar="MAC")
@_site_option("Site it is kept out of; needed with several.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept in the audit.")
@json_option
def block_device(address: str, as_json: bool, **options: Any) -> None:
    """Keep a phone out of a site and end its sessions there."""
    found = call("block_device", mac=address, **options)
    show(found, as_json, lambda done: f"{mac(done['mac'])} is blocked at {done['site']}.")


@device.command("unblock")
@click.argument("address", metavar="MAC")
@_site_option("Site it may come back to; needed with several.")
@click.option("--reason", metavar="TEXT", default="", help="Why; it is kept in the audit.")
@json_option
def unblock_device(address: str, as_json: bool, **options: Any) -> None:
    """Let a blocked phone in again."""
    found = call("unblock_device", mac=address, **options)
    show(found, as_json, lambda done: f"{mac(done['mac'])} may come in at {done['site']} again.")


@device.command("add")
@click.argument("name")
@click.option("--mac", metavar="MAC", required=True, help="Its MAC.")
@click.option(
    "--profile", metavar="PROFILE", shell_complete=_PROFILES, required=True, help="Its limits."
)
@click.option("--kind", type=click.Choice(_KINDS), default="other", help="What it is (else other).")
@click.option("--alarm-after", metavar="T", help="An alarm when silent for longer: 2h. Else none.")
@_site_option("Its site; needed with several.")
@json_option
def add_device(as_json: bool, **options: Any) -> None:
    """Let a device in by its MAC, without a card.

    At the gateways of its site that have MAC authentication.
    """
    found = call("add_device", **options)
    show(found, as_json, lambda done: f"{done['name']} ({mac(done['mac'])}) needs no card now.")


@device.command("remove")
@click.argument("name", metavar="NAME|MAC")
@_site_option("Its site, if several have one of this name.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept in the audit.")
@json_option
def remove_device(as_json: bool, **options: Any) -> None:
    """Forget a device and end its sessions: from then on it needs a card."""
    found = call("remove_device", **options)
    show(found, as_json, lambda done: f"{done['name']} ({mac(done['mac'])}) is removed.")


@device.command("list")
@click.option("--blocked", is_flag=True, help="The blocked phones instead.")
@_site_option("Only this site.")
@json_option
def list_devices(blocked: bool, as_json: bool, **options: Any) -> None:
    """List the devices that need no card, or the blocked phones."""
    if blocked:
        show(call("blocked_devices", **options), as_json, _blocked_text)
    else:
        show(call("devices", **options), as_json, _known_text)


def _known_text(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            *(one["name"], mac(one["mac"]), one["site"], one["kind"], one["profile"]),
            "online" if one["is_online"] else when(one["last_heard_at"], one["zone"], none="never"),
            octets(one["octets_used"]),
            duration(one["alarm_after_s"], none=""),
            "SILENT" if one["is_silent"] else "",
        ]
        for one in found
    ]
    titles = ["NAME", "MAC", "SITE", "KIND", "PROFILE", "HEARD", "USED", "ALARM AFTER", ""]
    return table(titles, rows, right="USED,ALARM AFTER") + "\n" + plural(len(rows), "device")


def _blocked_text(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            *(mac(one["mac"]), one["site"], when(one["blocked_at"], one["zone"])),
            *(one["blocked_by"], one["reason"]),
        ]
        for one in found
    ]
    return table(["MAC", "SITE", "SINCE", "BY", "REASON"], rows) + "\n" + plural(len(rows), "phone")
