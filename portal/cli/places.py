"""The commands about places: site, gateway, profile."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from portal.cli import hub as cli_hub
from portal.cli.terminal import (
    F,
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

# People in the three zones of Indonesia know these names, not those of the zone database.
ZONE_NAMES = {"WIB": "Asia/Jakarta", "WITA": "Asia/Makassar", "WIT": "Asia/Jayapura"}


def zone_named(text: str) -> str:
    """The zone people mean by `text`, as the zone database has it."""
    return ZONE_NAMES.get(text.strip().upper(), text.strip())


def zone_option(is_required: bool = False) -> Callable[[F], F]:
    """--zone: a name of the zone database, or WIB, WITA, WIT."""
    return click.option(
        "--zone",
        metavar="ZONE",
        callback=lambda _, __, value: value and zone_named(value),
        help="Time zone: WIB, WITA, WIT, or a name such as Asia/Makassar.",
        required=is_required,
    )


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


_SITES = complete_from("sites", "code")
_GATEWAYS = complete_from("gateways", "name")
_PROFILES = complete_from("profiles", "name")


# --- site


@click.group(cls=Group)
def site() -> None:
    """Village hotspots."""


def _site_options(command: Any) -> Any:
    for option in (
        click.option(
            "--announcement",
            metavar="TEXT",
            help='A line shown on every page until it is changed; "": no more.',
        ),
        click.option(
            "--wifi-name", metavar="NAME", help="The network's name on phones (else the site's)."
        ),
        click.option(
            "--opening-hours", metavar="HOURS", help='When cards are given: "08:00-15:00".'
        ),
        click.option("--counter", metavar="TEXT", help="Where cards are given."),
        click.option(
            "--power-window",
            metavar="HOURS",
            help='When there is power: "18:00-06:00"; "": always. No alarm outside it.',
        ),
        click.option(
            "--open-services",
            metavar="HOSTS",
            help='Open before the login: "layanan.example, 10.9.0.5:8443"; "": none.',
        ),
        click.option(
            "--without-node",
            type=click.Choice(["closed", "open"]),
            help="While this box is away: nobody new gets in, or everybody where a gateway can.",
        ),
        click.option("--helper", metavar="TEXT", help="Whom residents ask: name and where."),
    ):
        command = option(command)
    return command


def _site_text(found: dict[str, Any]) -> str:
    return details(
        [
            ("Site", found["code"]),
            ("Name", found["name"]),
            ("Zone", found["zone"]),
            ("Helper", found["helper"] or "-"),
            ("Power", found["power_window"] or "-"),
            ("Counter", found["counter"] or "-"),
            ("Opening hours", found["opening_hours"] or "-"),
            ("Wi-Fi name", found["wifi_name"] or "-"),
            ("Open services", found["open_services"] or "-"),
            ("Without the node", found["without_node"]),
            ("Announcement", found["announcement"] or "-"),
        ]
    )


@site.command("add")
@click.argument("code", metavar="CODE")
@click.argument("name", metavar="NAME")
@zone_option(is_required=True)
@click.option("--group", metavar="NAME", help="Hub: a group of sites, such as a district.")
@click.option("--power-window", metavar="HOURS", help='Hub: when there is power: "18:00-06:00".')
@click.option(
    "--without-node",
    type=click.Choice(["closed", "open"]),
    help="Hub: what phones get while the box is away.",
)
@click.option("--file", type=click.Path(path_type=Path), help="Hub: where the enrolment file goes.")
@json_option
def add_site(
    code: str, name: str, zone: str, file: Path | None, as_json: bool, **options: str | None
) -> None:
    """Add a site: a short CODE and the NAME residents see.

    In a hub's directory it also prints the token with which the site's box is enrolled.
    """
    if is_hub(directory()):
        made = call("add_site", code=code, name=name, zone=zone, **_given(**options))
        cli_hub.invitation(made, file, as_json)
        return
    if file is not None or _given(**options):
        raise click.UsageError("these options are for a hub; at a node use: pesisir site set")
    show(call("add_site", code=code, name=name, zone=zone), as_json, _site_text)


@site.command("set")
@click.argument("code", metavar="CODE", shell_complete=_SITES)
@click.option("--name", metavar="NAME", help="The name residents see.")
@zone_option()
@_site_options
@click.option("--group", metavar="NAME", help="Hub: a group of sites, such as a district.")
@json_option
def set_site(code: str, as_json: bool, group: str | None, **options: str | None) -> None:
    """Change what is named; the rest of the site stays."""
    changes = _given(**options)
    if is_hub(directory()):
        changes |= _given(group_name=group)
        show(call("set_site", code=code, changes=changes), as_json, cli_hub.site_text)
        return
    if group is not None:
        raise click.UsageError("--group is for a hub.")
    show(call("set_site", code=code, changes=changes), as_json, _site_text)


@site.command("list")
@json_option
def list_sites(as_json: bool) -> None:
    """List the sites of this node, or of this hub with what is known of their boxes."""

    def text(sites: list[dict[str, Any]]) -> str:
        if is_hub(directory()):
            return cli_hub.sites_text(sites)
        return table(
            ["SITE", "NAME", "ZONE", "HELPER", "POWER"],
            [[s["code"], s["name"], s["zone"], s["helper"], s["power_window"]] for s in sites],
        )

    show(call("sites"), as_json, text)


# --- gateway


@click.group(cls=Group)
def gateway() -> None:
    """Routers that send us phones and RADIUS."""


def _yes_no(name: str, text: str) -> Any:
    return click.option(name, type=click.Choice(["yes", "no"]), help=text)


def _gateway_options(command: Any) -> Any:
    for option in (
        click.option(
            "--swap-octets",
            type=click.Choice(["auto", "yes", "no"]),
            help="Whether it calls upload output and download input (else auto: as it says).",
        ),
        click.option(
            "--guest-net",
            metavar="CIDR",
            help="Network of its phones (else one that no other gateway has).",
        ),
        _yes_no("--mac-auth", "Whether phones may come back without typing (else yes)."),
        click.option(
            "--uam-secret",
            metavar="SECRET|none",
            help="Secret that signs redirects; made when not given.",
        ),
        click.option("--secret", metavar="SECRET", help="RADIUS secret; made when not given."),
        click.option(
            "--nas-id",
            metavar="ID",
            help="Its NAS-Identifier; needed where several gateways share an address. none: any.",
        ),
        click.option(
            "--site",
            metavar="CODE",
            shell_complete=_SITES,
            help="Site it belongs to; needed with several.",
        ),
    ):
        command = option(command)
    return command


def _gateway_text(found: dict[str, Any]) -> str:
    return details(
        [
            ("Gateway", found["name"]),
            ("Family", found["family"]),
            ("Address", found["address"]),
            ("Site", found["site"]),
            ("NAS-Identifier", found["nas_id"] or "any"),
            ("RADIUS secret", found["secret"] or "(shown with --secret)"),
            ("UAM secret", _uam_secret(found)),
            ("MAC return", "yes" if found.get("mac_auth") else "no"),
            ("Swap octets", found["swap_octets"]),
            ("Guest network", found["guest_net"]),
        ]
    ) + _advice(found)


def _advice(found: dict[str, Any]) -> str:
    return "".join(f"\n\n{sentence}" for sentence in found.get("advice", ()))


def _uam_secret(found: dict[str, Any]) -> str:
    if found["uam_secret"]:
        return str(found["uam_secret"])
    return "none" if found["secret"] or not found.get("has_uam_secret") else "(shown with --secret)"


@gateway.command("add")
@click.argument("name", metavar="NAME")
@click.option(
    "--family",
    metavar="FAMILY",
    required=True,
    help="Make of gateway: coova, generic, mikrotik, opennds, uspot.",
)
@click.option(
    "--address",
    metavar="IP|CIDR",
    required=True,
    help="Where its RADIUS packets come from: an address or a network.",
)
@_gateway_options
@json_option
def add_gateway(as_json: bool, **options: str | None) -> None:
    """Add a gateway and print its secrets."""
    show(call("add_gateway", **options), as_json, _gateway_text)


@gateway.command("set")
@click.argument("name", metavar="NAME", shell_complete=_GATEWAYS)
@click.option("--family", metavar="FAMILY", help="Make of gateway.")
@click.option("--address", metavar="IP|CIDR", help="Where its RADIUS packets come from.")
@_gateway_options
@json_option
def set_gateway(name: str, as_json: bool, **options: str | None) -> None:
    """Change what is named; a running node follows with the next packet."""
    show(call("set_gateway", name=name, changes=_given(**options)), as_json, _gateway_text)


@gateway.command("list")
@json_option
def list_gateways(as_json: bool) -> None:
    """List the gateways."""

    def text(gateways: list[dict[str, Any]]) -> str:
        if not gateways:
            return "No gateway yet. Add one with: pesisir gateway add NAME --family F --address IP"
        return table(
            ["GATEWAY", "FAMILY", "ADDRESS", "SITE", "NAS-IDENTIFIER", "LAST HEARD"],
            [
                [
                    g["name"],
                    g["family"],
                    g["address"],
                    g["site"],
                    g["nas_id"] or "any",
                    when(g["last_heard_at"]),
                ]
                for g in gateways
            ],
        )

    show(call("gateways"), as_json, text)


@gateway.command("show")
@click.argument("name", metavar="NAME", shell_complete=_GATEWAYS)
@click.option("--secret", "with_secret", is_flag=True, help="Show the secrets too.")
@json_option
def show_gateway(name: str, with_secret: bool, as_json: bool) -> None:
    """Show one gateway."""
    show(call("gateway", name=name, with_secrets=with_secret), as_json, _gateway_text)


@gateway.command("remove")
@click.argument("name", metavar="NAME", shell_complete=_GATEWAYS)
@json_option
def remove_gateway(name: str, as_json: bool) -> None:
    """Remove a gateway: its packets are no longer answered."""
    show(
        call("remove_gateway", name=name),
        as_json,
        lambda _: f"Gateway {name} is removed.",
    )


@gateway.command("config")
@click.argument("name", metavar="NAME", shell_complete=_GATEWAYS)
@click.option(
    "--version",
    metavar="V",
    help="Version of its system: RouterOS 7 or 6; openNDS 10, 9 or 11; CoovaChilli 1.9 or 1.6.",
)
@click.option("--portal-url", metavar="URL", help="Portal as phones reach it (else [http] url).")
@click.option(
    "--portal-address", metavar="IP", help="What the portal's name leads to (else this node)."
)
@click.option("--radius-host", metavar="IP", help="This node as the gateway reaches it.")
@click.option("--guest-net", metavar="CIDR", help="Network of the phones, remembered from now on.")
@click.option("--guest-if", metavar="NAME", help="The gateway's interface to the phones.")
@click.option("--wan-if", metavar="NAME", help="The gateway's interface to the internet.")
@click.option(
    "--encrypted-dns",
    type=click.Choice(["block", "allow"]),
    help="Whether phones may ask resolvers of their own over TLS or HTTPS (else block).",
)
@click.option(
    "--out",
    metavar="PLACE",
    type=click.Path(path_type=Path),
    help="Write the files into this directory instead.",
)
@click.option("--file", "only", metavar="FILE", help="Print this one of its files as it is.")
@json_option
def config_gateway(
    name: str, out: Path | None, only: str | None, as_json: bool, **options: str | None
) -> None:
    """Print the configuration to put on the gateway, secrets included.

    What is printed is the gateway's main file; others that belong to it follow in comments, each
    line behind "#| ". --file prints one of them, --out writes them all.
    """
    found = call("gateway_config", name=name, options=_given(**options))
    if only is not None:
        known = {f["name"]: f for f in found["files"]}
        if only not in known:
            raise UserError(
                f"The configuration of {name} has no file {only}, only {', '.join(known)}."
            )
        found["files"] = [known[only]]
    if out is not None:
        found["written"] = [str(write_secret(out, f["name"], f["text"])) for f in found["files"]]

    def text(found: dict[str, Any]) -> str:
        if out is not None:
            return "\n".join(f"Written: {path}" for path in found["written"])
        main, *others = found["files"]
        return str(main["text"]).rstrip("\n") + "".join(map(_in_comments, others))

    show(found, as_json, text)


def _in_comments(file: dict[str, Any]) -> str:
    """A further file behind the main one, so that the whole can be loaded as the main one."""
    to = f" ({file['place']})" if file["place"] else ""
    lines = [f"{file['name']}{to}, or use --file or --out:", *file["text"].splitlines()]
    return "\n\n" + "\n".join(f"#| {line}".rstrip() for line in lines)


def write_secret(place: Path, name: str, text: str) -> Path:
    """Write a file that holds secrets; only its owner can read it."""
    path = place / name
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except OSError as error:
        raise UserError(f"The file {path} cannot be written: {error.strerror}") from None
    return path


# --- profile


@click.group(cls=Group)
def profile() -> None:
    """Named limits of vouchers."""


_WINDOWS = ("session", "day", "week", "month", "total")


def _profile_options(command: Any) -> Any:
    options = [
        *((f"--data-{w}", "SIZE", f"Data per {w}, up and down together." if w != "total" else
           "Data in all, up and down together.") for w in _WINDOWS),
        *((f"--time-{w}", "TIME", f"Time online per {w}." if w != "total" else
           "Time online in all.") for w in _WINDOWS),
        ("--rate-down", "RATE", "Speed towards the phone, such as 2M."),
        ("--rate-up", "RATE", "Speed from the phone, such as 512k."),
        ("--valid", "TIME", "How long a card lives from its first use, such as 30d."),
        ("--devices", "N", "Phones at once (else 1)."),
        ("--idle", "TIME", "Silence after which a phone is logged out (else 15m)."),
        ("--interim", "TIME", "How often gateways report usage (else 5m)."),
        ("--hours", "HOURS", 'Hours of the day, in the zone of the site: "06:00-22:00".'),
        ("--when-used-up", "cut|throttle:RATE", "What happens when a quota is used up (else cut)."),
        ("--remember-phone", "yes|no", "Whether phones come back without typing (else yes)."),
    ]  # fmt: skip
    for name, metavar, text in reversed(options):
        command = click.option(name, metavar=metavar, help=text)(command)
    return command


def _profile_text(found: dict[str, Any]) -> str:
    pairs = [("Profile", found["name"])]
    pairs += [(name.replace("_", "-"), text) for name, text in found["settings"].items()]
    return details(pairs) + _advice(found)


@profile.command("set")
@click.argument("name", metavar="NAME", shell_complete=_PROFILES)
@_profile_options
@json_option
def set_profile(name: str, as_json: bool, **options: str | None) -> None:
    """Make a profile, or change what is named; "none" clears.

    SIZE is 500MB or 2GB, TIME 90m, 2h or 30d, RATE 512k or 2M. Cards follow at the next login.
    """
    show(call("set_profile", name=name, changes=_given(**options)), as_json, _profile_text)


@profile.command("list")
@json_option
def list_profiles(as_json: bool) -> None:
    """List the profiles."""

    def text(profiles: list[dict[str, Any]]) -> str:
        if not profiles:
            return "No profile yet. Make one with: pesisir profile set NAME --data-day 500MB"
        return table(["PROFILE", "LIMITS"], [[p["name"], _in_words(p)] for p in profiles])

    show(call("profiles"), as_json, text)


def _in_words(found: dict[str, Any]) -> str:
    """What a profile limits, on one line."""
    parts = [
        f"{name.replace('_', '-')} {value}"
        for name, value in found["settings"].items()
        if name in found["changed"]
    ]
    return ", ".join(parts) or "unlimited"


@profile.command("show")
@click.argument("name", metavar="NAME", shell_complete=_PROFILES)
@json_option
def show_profile(name: str, as_json: bool) -> None:
    """Show one profile."""
    show(call("profile", name=name), as_json, _profile_text)


@profile.command("remove")
@click.argument("name", metavar="NAME", shell_complete=_PROFILES)
@json_option
def remove_profile(name: str, as_json: bool) -> None:
    """Remove a profile that no card uses."""
    show(call("remove_profile", name=name), as_json, lambda _: f"Profile {name} is removed.")
