"""Demo: a node with sample data, its hub and the practice gateway, in one process (`make run`).

The first start fills the directory: two sites in two zones, three profiles, the practice gateway.
Every start issues a few fresh cards and prints them with all addresses and passwords: nothing here
is secret, which is why everything listens on loopback. A marker file says that a directory belongs
to the demo; without it none is touched.
"""

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from portal import control, demo_hub, directories, passwords, settings
from portal.desk_listeners import LOOPBACK
from portal.domain import profile as profiles
from portal.domain import voucher
from portal.errors import UserError
from portal.node import Node
from portal.practice.gateway import PracticeGateway
from portal.serve import Service, open_node, real_clocks
from portal.setting_values import Listen
from portal.settings import Settings
from portal.store import db

MARKER: Final = "pesisir.demo"
GATEWAY: Final = "latihan"
HOST: Final = "127.0.0.1"
PAGE_PORT: Final = 3990
DISCONNECT_PORT: Final = 3799
CARDS: Final = 3  # of each profile, at each start
SITES: Final = (
    ("TJL", "Tanjung Laut Indah (Malahing)", "Asia/Makassar"),
    ("WAI", "Waisai (contoh)", "Asia/Jayapura"),
)
# Name, limits, and what it is good for when trying.
PROFILES: Final = (
    (
        "coba",
        {"data_total": "20MB", "time_total": "10m", "rate_down": "8M"},
        "to see the cut-off: two presses on “Unduh 10 MB”",
    ),
    (
        "warga",
        {
            "data_day": "500MB",
            "time_day": "2h",
            "valid": "30d",
            "rate_down": "4M",
            "rate_up": "1M",
        },
        "a resident's card: comes back the next day",
    ),
    (
        "tamu",
        {
            "data_total": "200MB",
            "time_total": "3h",
            "valid": "1d",
            "rate_down": "2M",
            "rate_up": "512k",
            "when_used_up": "throttle:128k",
        },
        "a guest's card: slow instead of cut when used up",
    ),
)


def run(directory: Path, *, fresh: bool = False) -> None:
    """Run the demo in `directory` until SIGINT or SIGTERM; `fresh` throws its old data away.

    Raises UserError when the directory holds a real node, or something in it cannot be used.
    """
    if fresh:
        _throw_away(directory)
    _make(directory)
    demo_hub.make(directory)
    with control.own(directory, "node"), control.own(demo_hub.place(directory), "hub"):
        ports = Ports()
        asyncio.run(_run(directory, ports.settings(settings.load(directory)), ports))


# The directory


def _make(directory: Path) -> None:
    """Make the demo's directory where there is none yet."""
    has_data = (directory / db.FILE_NAME).exists()
    if _is_demo(directory) and has_data:
        return
    if has_data:
        raise UserError(
            f"{directory} holds the data of a real node; the demo needs a directory of its own, "
            "such as: pesisir demo --dir .demo"
        )
    directories.secret_directory(directory)
    _mark(directory, {})
    code, name, zone = SITES[0]
    made = directories.make(
        directory,
        code=code,
        name=name,
        zone=zone,
        admin="admin",
        values={
            "http.listen": f"{HOST}:8080",
            "http.operator_listen": f"{HOST}:8090",
            "radius.auth": f"{HOST}:1812",
            "radius.acct": f"{HOST}:1813",
        },
        # It is printed at every start; whoever wants another one changes it at the desk.
        must_change=False,
    )
    _mark(directory, {"admin": made["admin"], "password": made["password"]})


def _mark(directory: Path, sign_in: dict[str, str]) -> None:
    path = directory / MARKER
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(sign_in, file)


def _is_demo(directory: Path) -> bool:
    return (directory / MARKER).is_file()


def _throw_away(directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        return
    if not _is_demo(directory):
        raise UserError(f"{directory} is not a demo's directory; nothing in it was removed.")
    with control.own(directory, "demo"):
        for path in directory.iterdir():
            # The marker goes last: a half-emptied directory is still known as ours.
            if path.name in (control.LOCK_NAME, MARKER):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


class Ports:
    """Finds free ports, and remembers which wanted ones were taken."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def settings(self, wanted: Settings) -> Settings:
        """The settings with every taken port replaced by a free one."""
        auth = tuple(self.free(listen, socket.SOCK_DGRAM) for listen in wanted.radius.auth)
        acct = tuple(self.free(listen, socket.SOCK_DGRAM) for listen in wanted.radius.acct)
        http = tuple(self.free(listen, socket.SOCK_STREAM) for listen in wanted.http.listen)
        # A directory of before the desk has no address for it.
        desk = tuple(
            self.free(listen, socket.SOCK_STREAM)
            for listen in wanted.http.operator_listen or (LOOPBACK,)
        )
        return replace(
            wanted,
            http=replace(wanted.http, listen=http, operator_listen=desk),
            radius=replace(wanted.radius, auth=auth, acct=acct),
        )

    def free(self, listen: Listen, kind: socket.SocketKind) -> Listen:
        """`listen`, with another port when its own is taken."""
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        for port in (listen.port, 0):
            with socket.socket(family, kind) as probe:
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((listen.host, port))
                    if kind == socket.SOCK_STREAM:
                        probe.listen()
                except OSError:
                    continue
                found = replace(listen, port=probe.getsockname()[1])
            if found.port != listen.port:
                self.taken.append(f"Port {listen.port} is taken; using {found.port} instead.")
            return found
        # The address itself cannot be used; who listens there says so in one sentence.
        return listen


# Running


async def _run(directory: Path, chosen: Settings, ports: Ports) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    hub = await demo_hub.start(demo_hub.place(directory), ports.free)
    node = await open_node(directory, demo_hub.reporting(chosen, hub))
    service = Service(node)
    gateway: PracticeGateway | None = None
    try:
        await _fill(node)
        await demo_hub.enrol(hub, node)
        await service.start()
        gateway = await _start_gateway(node, service, ports)
        cards = {
            name: await node.vouchers.issue(name, count=CARDS, site=SITES[0][0], note="demo")
            for name, _, _ in PROFILES
            if name in node.admin.profiles_by_name
        }
        hub_lines = demo_hub.lines(directory, hub)
        sys.stdout.write(_report(directory, node, service, gateway, cards, hub_lines, ports.taken))
        sys.stdout.write(
            f"{service.ready_line()} practice={_page_url(gateway)} hub={demo_hub.url(hub)}\n"
        )
        sys.stdout.flush()
        await stop.wait()
    finally:
        if gateway is not None:
            await gateway.stop()
        await service.stop()
        await node.close()
        await demo_hub.stop(hub)


async def _fill(node: Node) -> None:
    """Add what is missing of the sample data; what somebody changed stays as it is."""
    admin = node.admin
    codes = {site.code for site in admin.sites_by_id.values()}
    for code, name, zone in SITES:
        if code not in codes:
            await admin.add_site(code, name, zone)
    if not admin.profiles_by_name:
        for name, limits, _ in PROFILES:
            await admin.set_profile(name, limits)
    if all(gateway.name != GATEWAY for gateway in admin.gateways_by_id.values()):
        await admin.add_gateway(
            GATEWAY, family="coova", address=HOST, site=SITES[0][0], nas_id=GATEWAY
        )


async def _start_gateway(node: Node, service: Service, ports: Ports) -> PracticeGateway:
    entry = node.admin.gateway(GATEWAY)
    gateway = PracticeGateway(
        radius_auth=(HOST, service.radius.auth_addresses[0][1]),
        radius_acct=(HOST, service.radius.acct_addresses[0][1]),
        secret=entry.secret,
        uam_secret=entry.uam_secret,
        portal_url=node.portal_url() + "/",
        nas_id=entry.nas_id or GATEWAY,
        clock=real_clocks().system_at,
        listen=(HOST, ports.free(Listen(HOST, PAGE_PORT), socket.SOCK_STREAM).port),
        coa_port=ports.free(Listen(HOST, DISCONNECT_PORT), socket.SOCK_DGRAM).port,
        zone=node.admin.zone(entry.site_id).key,
    )
    await gateway.start()
    return gateway


# What it prints


def _page_url(gateway: PracticeGateway) -> str:
    return f"http://{gateway.host}:{gateway.port}/"


def _report(
    directory: Path,
    node: Node,
    service: Service,
    gateway: PracticeGateway,
    cards: dict[str, dict[str, Any]],
    hub_lines: list[str],
    remarks: list[str],
) -> str:
    entry = node.admin.gateway(GATEWAY)
    beside = f"{_program()} --dir {shlex.quote(str(directory))}"
    lines = [
        "",
        "Pesisir demo: a village hotspot on this computer",
        "",
        f"  1. Open {_page_url(gateway)}  (phones behind a practice gateway)",
        "  2. Press “Buka internet” on a phone and type one of these codes:",
        "",
    ]
    for name, _, use in PROFILES:
        if name not in cards:
            continue
        limits = _limits(node.admin.profiles_by_name[name])
        lines.append(f"     {name}: {limits}")
        lines.append(f"       {use}")
        for card in cards[name]["vouchers"]:
            lines.append(f"         {voucher.show(card['code'])}    {card['serial']}")
        lines.append("")
    lines += [
        "  3. Download until the card is used up; try “Tidur” and “Bangun”, the same card on a",
        "     second phone, “Cabut listrik gateway”, or cut a phone off from another terminal:",
        f"       {beside} session list --open",
        f"       {beside} session disconnect ID",
        "  4. See the session that just ended at the hub, some ten seconds later (the usage log).",
        "",
        f"  Portal       {node.portal_url()}/",
        f"  RADIUS       {_addresses(service)}  secret {entry.secret}",
        f"  Desk         {service.desk_urls()[0]}  (give cards, print, see who is online)",
        f"  Sign-in      {_sign_in(directory, node)}",
        *hub_lines,
        f"  Data         {directory}  (begin again: make run FRESH=1)",
        *(f"  {remark}" for remark in remarks),
        "",
        "  For practice only: the sample secrets are printed here, so all of it listens on this",
        "  computer alone. Ctrl-C stops it.",
        "",
        "",
    ]
    return "\n".join(lines)


def _sign_in(directory: Path, node: Node) -> str:
    """Who signs in at the desk, as far as the demo still knows the password."""
    made = json.loads((directory / MARKER).read_text(encoding="utf-8"))
    name, password = made.get("admin", "admin"), made.get("password", "")
    operator = node.operators.find(name)
    if operator is None:
        return "with a name you have added"
    if not passwords.fits(password, operator.password_hash):
        return f"{name}  with the password you have set"
    return f"{name}  password {password}"


def _program() -> str:
    """What to type for this program: its name, or its path where the shell would not find it."""
    if shutil.which("pesisir") is not None:
        return "pesisir"
    return shlex.quote(str(Path(sys.executable).with_name("pesisir")))


def _addresses(service: Service) -> str:
    found = (*service.radius.auth_addresses, *service.radius.acct_addresses)
    return ", ".join(f"{address[0]}:{address[1]}" for address in found)


def _limits(profile: profiles.Profile) -> str:
    """What a profile limits beyond the defaults, in the words of the command line."""
    usual = profiles.settings(profiles.Profile(profile.name))
    said = profiles.settings(profile)
    return ", ".join(
        f"{name.replace('_', ' ')} {text}" for name, text in said.items() if text != usual[name]
    )
