"""The command `pesisir setup`: from an empty directory to the first phone online, in questions.

Asks on a terminal only; `--answers FILE` answers instead, for tests and for setting up many boxes.
It does nothing that the single commands could not do, and says what it did.
"""

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from portal.cli import doctor as cli_doctor
from portal.cli import setup_node as cli_setup_node
from portal.cli.places import write_secret, zone_named
from portal.cli.questions import Questions, read
from portal.cli.terminal import (
    DATABASE_NAME,
    Command,
    call,
    directory,
    octets,
    plural,
    progress,
    table,
)
from portal.errors import UserError
from portal.sheets import file as print_file
from radius.nas import family, family_names

FIRST_MANY = 40
LAYOUT = "a4-40"
TEST_PROFILE = "uji"
TEST_LIMITS = {"data_total": "20MB", "time_total": "15m", "interim": "1m"}
"""A card that is soon used up: the doctor sees whether its limit holds."""
ANSWERS = {
    "site": "code of the village",
    "site_name": "its name",
    "zone": "WIB, WITA, WIT or a zone of the zone database",
    "helper": "whom residents ask",
    "stands": "village, hidden or office",
    "url": "the portal as phones reach it",
    "probes": "what tells whether the internet works",
    "gateway": "name of the router",
    "family": "its make",
    "address": "where its RADIUS packets come from",
    "guest_net": "network of the phones",
    "version": "version of the router's system",
    "guest_if": "the router's interface to the phones",
    "wan_if": "the router's interface to the internet",
    "profile": "name of the residents' limits",
    "data_day": "data a day",
    "time_day": "time a day",
    "rate": "speed towards the phone",
    "valid": "life of a card",
    "cards": "how many cards to print",
    "start": "yes: start the node and watch",
    "watch": "how long to wait for the first phone",
}
"""What an answers file may hold; what it leaves out gets the default."""

_STANDS = (
    ("village", "on the village router's own network (the usual place)"),
    ("hidden", "behind a router that hides the phones' addresses from it"),
    ("office", "in an office, with the villages over VPN"),
)


@click.command("setup", cls=Command)
@click.option(
    "--answers",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Take the answers from this TOML file instead of asking.",
)
@click.option(
    "--out",
    metavar="PLACE",
    type=click.Path(path_type=Path),
    help="Where the router's files and the cards go (else DIR/setup).",
)
def setup(answers: Path | None, out: Path | None) -> None:
    """Set a village up in a few questions, up to the first phone online.

    Makes the node's directory if there is none, a site, a gateway with the configuration to put on
    it, limits, a first sheet of cards and a card for your own test; then watches until the first
    phone is online. Each step can be done again, or later, by a command of its own.
    """
    if answers is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "setup asks questions; run it on a terminal, or give their answers with --answers FILE"
        )
    questions = Questions(None if answers is None else read(answers, ANSWERS))
    path = directory()
    place = (out or path / "setup").expanduser().absolute()
    stands = _node(questions, path)
    name = _gateway(questions, place, stands)
    profile = _profile(questions, name)
    test_code = _cards(questions, place, name, profile)
    _watch(questions, path, name, test_code)


def _title(text: str) -> None:
    click.echo()
    click.echo(click.style(text, bold=True))


# --- the node


def _node(questions: Questions, path: Path) -> str:
    """Make the directory if there is none; where the node stands."""
    is_new = not (path / DATABASE_NAME).exists()
    _title("1. The node")
    click.echo(f"Its data: {path}" + ("" if is_new else " (there already; it stays as it is)"))
    place: dict[str, str] = {}
    if is_new:
        place["name"] = questions.ask(
            "site_name", "Name of the village, as residents see it", "Desa", _filled
        )
        place["code"] = questions.ask(
            "site", "A short code for it (letters, digits)", _code_of(place["name"]), _site_code
        )
        place["zone"] = zone_named(
            questions.ask("zone", "Its time zone: WIB, WITA or WIT", "WIB", _zone)
        )
    helper = questions.ask(
        "helper", "Whom residents ask for help (name and where; may be empty)", ""
    )
    stands = questions.choose("stands", "Where does this box stand?", _STANDS)
    if is_new:
        own = _own_address()
        url = questions.ask(
            "url",
            "Address of this box as phones reach it",
            f"http://{own}" if os.geteuid() == 0 else f"http://{own}:8080",
            _url,
        )
        probes = questions.ask(
            "probes",
            "What tells whether the internet works (HOST:PORT or http://...; none)",
            "1.1.1.1:443",
        )
        from portal import directories

        values: dict[str, str | list[str]] = {
            "http.url": url,
            "http.listen": f"0.0.0.0:{urlsplit(url).port or 80}",
        }
        if probes and probes != "none":
            values["backhaul.probes"] = [probes]
        made = directories.make(
            path,
            code=place["code"],
            name=place["name"],
            zone=place["zone"],
            admin="admin",
            values=values,
        )
        click.echo(
            "Made. The first sign-in at the operator's desk (shown only now; write it down):"
        )
        click.echo(f"  name {made['admin']}   password {made['password']}")
        click.echo(f"  Print the recovery sheet too: {made['recovery_sheet']}")
    if helper:
        site = call("sites")[0]["code"]
        call("set_site", code=site, changes={"helper": helper})
    return stands


def _filled(text: str) -> str:
    if not text.strip():
        raise UserError("It is empty; expected a name.")
    return text


def _code_of(name: str) -> str:
    """A site's code out of its name: the last word's letters."""
    words = [word for word in name.upper().split() if word.isascii() and word.isalnum()]
    return words[-1][:12] if words else "DESA"


def _site_code(text: str) -> str:
    code = text.upper()
    if not (0 < len(code) <= 16 and code.isascii() and code.replace("-", "").isalnum()):
        raise UserError(f'The code is "{text}"; expected 1 to 16 letters, digits and dashes.')
    return code


def _zone(text: str) -> str:
    from portal.place_values import check_zone

    check_zone(zone_named(text))
    return text


def _url(text: str) -> str:
    from portal.setting_values import BadValue, origin_url

    try:
        url = origin_url(text if "://" in text else f"http://{text}") or ""
    except BadValue:
        url = ""
    if not url.startswith("http://"):
        raise UserError(
            f'The address is "{text}"; expected one such as http://10.1.0.2. A name with a'
            " certificate comes later: docs/install-node.md, level 1."
        )
    return url


def _own_address() -> str:
    """This box's address towards others; nothing is sent (RFC 5737 address)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


# --- the gateway


def _gateway(questions: Questions, place: Path, stands: str) -> str:
    """Add the router and write what to put on it; its name."""
    _title("2. The router")
    known = {one["name"]: one for one in call("gateways")}
    if known:
        click.echo(f"Known already: {', '.join(known)}. A known name goes on with that one.")
    name = questions.ask("gateway", "A name for it", "pos-1" if not known else next(iter(known)))
    if name not in known:
        _add_gateway(questions, name, stands)
    gateway = call("gateway", name=name, with_secrets=False)
    options = _config_options(questions, name, gateway["family"])
    found = call("gateway_config", name=name, options=options)
    _title("What to put on the router")
    target = place / name
    for one in found["files"]:
        path = write_secret(target, one["name"], one["text"])
        where = f"  -> {one['place']}" if one.get("place") else ""
        click.echo(f"  {path}{where}")
    click.echo(
        "The files hold secrets; each says at its top what to do with it. More about this make:\n"
        f"docs/gateways.md, {family(gateway['family']).LABEL}."
    )
    _route_advice(stands, gateway)
    return name


def _config_options(questions: Questions, name: str, make: str) -> dict[str, str]:
    """What its configuration has to know of this router; the usual is left out."""
    from portal import gateway_config

    options: dict[str, str] = {}

    def option(key: str) -> Callable[[str], str]:
        def check(text: str) -> str:
            if text:
                call("gateway_config", name=name, options={key: text})
                options[key] = text
            return text

        return check

    versions = gateway_config.versions(make)
    if len(versions) > 1:
        known = [(one, "the usual" if one == versions[0] else "") for one in versions]
        options["version"] = questions.choose("version", "Version of its system", known)
    if family(make).login_start_url("http://10.0.0.1", None) is not None:
        for key, side in (("guest_if", "the phones"), ("wan_if", "the internet")):
            question = f"Its interface to {side} (empty: the usual name)"
            questions.ask(key, question, "", option(key))
    return options


def _add_gateway(questions: Questions, name: str, stands: str) -> None:
    makes = [(one, family(one).LABEL) for one in _families()]
    make = questions.choose("family", "Which router is it?", makes)
    default = _default_router() if stands == "village" else ""
    guest_net = ""

    def add(address: str) -> str:
        added = call(
            "add_gateway", name=name, family=make, address=address, guest_net=guest_net or None
        )
        for sentence in added.get("advice", ()):
            click.echo(f"  {sentence}")
        return address

    guest_net = questions.ask(
        "guest_net", "Network of the phones, such as 10.10.0.0/22 (empty: one is chosen)", "", _net
    )
    questions.ask("address", "Address its RADIUS packets come from (the router's)", default, add)


def _families() -> list[str]:
    """What most villages have first."""
    first = [name for name in ("mikrotik", "coova", "uspot", "opennds") if name in family_names()]
    return first + [name for name in family_names() if name not in first]


def _net(text: str) -> str:
    from portal import guest_networks

    return guest_networks.parse(text) if text else ""


def _default_router() -> str:
    """This box's default gateway: in the village, the router itself. Linux says it in
    /proc/net/route, in little-endian hexadecimal."""
    try:
        with open("/proc/net/route", encoding="ascii") as routes:
            for line in routes.readlines()[1:]:
                fields = line.split()
                if fields[1] == "00000000" and int(fields[3], 16) & 2:
                    return str(ipaddress.IPv4Address(struct.pack("<I", int(fields[2], 16))))
    except (OSError, ValueError, IndexError, struct.error):
        pass
    return ""


def _route_advice(stands: str, gateway: dict[str, Any]) -> None:
    if stands == "village" and gateway["guest_net"] and "/" not in gateway["address"]:
        if gateway["address"] != _default_router():
            click.echo(
                "The router is not this box's default gateway: the box needs a route to phones.\n"
                f"  ip route add {gateway['guest_net']} via {gateway['address']}"
            )
    elif stands == "hidden":
        click.echo(
            "Behind a router that hides phones the portal cannot tell two of them by their\n"
            "address: the status page needs the link a phone got at its login."
        )
    elif stands == "office":
        click.echo(
            "Between village and office run a VPN (WireGuard, IPsec), and use the addresses\n"
            "inside it: RADIUS over the open internet tells who is online when."
        )


# --- limits and cards


def _profile(questions: Questions, gateway: str) -> str:
    """What residents may use; the profile's name."""
    _title("3. What residents may use")
    known = {one["name"] for one in call("profiles")}
    name = questions.ask("profile", "A name for these limits", "harian")
    if name in known:
        click.echo(f"{name} is there already and stays as it is.")
        return name
    make = family(call("gateway", name=gateway, with_secrets=False)["family"])
    counts_data = make.SENDS_OCTETS or make.LIMITS_DATA
    if not counts_data:
        click.echo(f"{make.LABEL} reports no data, so cards are limited in time only.")

    changes: dict[str, str] = {}

    def limit(option: str) -> Callable[[str], str]:
        def check(text: str) -> str:
            text = text or "none"
            if text != "none":
                # On a profile of its own, so that a slip changes nothing.
                from portal.domain.profile import Profile, change

                try:
                    change(Profile(name), **{option: text})
                except ValueError as error:
                    raise UserError(f"{error}.") from None
                changes[option] = text
            return text

        return check

    if counts_data:
        questions.ask("data_day", "Data a day (500MB, 1GB; none)", "500MB", limit("data_day"))
    usual = "none" if counts_data else "3h"
    questions.ask("time_day", "Time a day (3h; none)", usual, limit("time_day"))
    questions.ask("rate", "Speed towards the phone (2M, 512k; none)", "2M", limit("rate_down"))
    questions.ask("valid", "Life of a card from its first use (30d; none)", "30d", limit("valid"))
    call("set_profile", name=name, changes=changes)
    return name


def _cards(questions: Questions, place: Path, gateway: str, profile: str) -> str:
    """A first sheet of cards, and one for the test; the latter's code."""
    _title("4. Cards")
    site = call("gateway", name=gateway, with_secrets=False)["site"]

    def number(text: str) -> str:
        if not (text.isdigit() and int(text) <= 10_000):
            raise UserError(f'"{text}" is not a number of cards; expected 0 to 10000.')
        return text

    count = int(
        questions.ask("cards", "How many cards to print first (0: none)", str(FIRST_MANY), number)
    )
    if count:
        _sheet(place, site, profile, count)
    make = family(call("gateway", name=gateway, with_secrets=False)["family"])
    limits = dict(TEST_LIMITS)
    if not (make.SENDS_OCTETS or make.LIMITS_DATA):
        del limits["data_total"]
    call("set_profile", name=TEST_PROFILE, changes=limits)
    made = call("issue_vouchers", profile=TEST_PROFILE, count=1, site=site, note="setup")
    card = made["vouchers"][0]
    code = card["code"]
    shown = f"{code[:4]} {code[4:8]} {code[8:]}"
    click.echo(f"For your own test, good for {' and '.join(_amounts(limits))}:")
    click.echo(f"  {click.style(shown, bold=True)}   (card {card['serial']})")
    return shown


def _amounts(limits: dict[str, str]) -> list[str]:
    return [limits[key] for key in ("data_total", "time_total") if key in limits]


def _sheet(place: Path, site: str, profile: str, count: int) -> None:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The directory {place} cannot be made: {error.strerror}.") from None
    file = next(
        path
        for number in range(1, 10_000)
        if not (path := place / f"cards-{profile}-{number}.pdf").exists()
    )
    print_file.check_new(file)
    with progress("Issuing cards") as report:
        batch = call(
            "issue_vouchers", report, profile=profile, count=count, site=site, note="setup"
        )
    words = call("sheet_words", key=batch["vouchers"][0]["serial"])
    with progress("Printing cards") as report:
        print_file.write(file, words, batch, LAYOUT, report)
    size = octets(file.stat().st_size)
    click.echo(f"Batch {batch['batch']}: {plural(count, 'card')} to print in {file} ({size})")


# --- until the first phone


def _watch(questions: Questions, path: Path, gateway: str, test_code: str) -> None:
    """Start the node if it does not run, and watch until the first phone is online."""
    _title("5. The first phone")
    click.echo(
        "Put the files on the router now. Then join its Wi-Fi with a phone: the sign-in page\n"
        f"opens. Type the test card's code there: {test_code}"
    )
    if not questions.agreed("start", "Start the node if it does not run, and watch?"):
        _farewell(path, gateway)
        return
    wait_s = int(questions.ask("watch", "", "600", _seconds)) if not questions.has_people else None
    with cli_setup_node.running(path):
        if wait_s is None:
            found = cli_doctor.watch(path, gateway, None, until=is_online)
        else:
            found = cli_doctor.wait(path, gateway, wait_s, until=is_online)
            click.echo("\n".join(cli_doctor.lines(found, 100)))
        click.echo()
        if is_online(found):
            click.echo(click.style("The first phone is online.", bold=True, fg="green"))
            click.echo(
                f"What is left to see: pesisir gateway doctor {gateway} (use the card up, download"
                " 10 MB, test Disconnect)"
            )
        else:
            click.echo("No phone is online yet. The doctor goes on when you like:")
            click.echo(f"  pesisir gateway doctor {gateway}")
    _farewell(path, gateway)
    if not is_online(found):
        click.get_current_context().exit(1)


def _seconds(text: str) -> str:
    from portal.domain.profile import parse_duration_s

    try:
        return text if text.isdigit() else str(parse_duration_s(text))
    except ValueError as error:
        raise UserError(f"The {error}.") from None


def is_online(found: dict[str, Any]) -> bool:
    """Whether the doctor sees a phone online whose session was reported."""
    started = any(one["check"] == "start" and one["state"] == "ok" for one in found["findings"])
    return bool(found["online"]) and started


def _farewell(path: Path, gateway: str) -> None:
    rows = [
        ["the node at every boot", cli_setup_node.service_advice(path)],
        ["what happens now", "pesisir watch"],
        ["the router", f"pesisir gateway doctor {gateway}"],
        ["everything", "pesisir check"],
    ]
    _title("Later")
    click.echo(table(["FOR", "TYPE"], rows))
