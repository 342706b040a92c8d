"""The configuration for a gateway, rendered from hotspot_config/<family>*.j2.

A family's templates are found by their names, so that a new family needs nothing here. A template
says in comments at its top where its file goes and which versions of the make it is for:

    {# place: /etc/chilli.conf #}       on the router
    {# versions: 7 6 #}                 in the main template (<family>.<ext>.j2), the usual first
    {# only: 9 #}                       in another: rendered for these versions only

What the templates are given stands in `_context`.
"""

import hashlib
import hmac
import ipaddress
import re
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from portal import certificates, guest_networks, walled_garden
from portal.admin import Admin, Gateway
from portal.errors import DeskError
from portal.guest_networks import Guests
from portal.opennds.talk import agent_key
from portal.resources import data_dir
from portal.setting_values import BadValue, Listen, origin_url
from portal.settings import Settings

OPTIONS = (
    "version",
    "portal_url",
    "portal_address",
    "radius_host",
    "guest_net",
    "guest_if",
    "wan_if",
    "encrypted_dns",
)
ENCRYPTED_DNS = ("block", "allow")
"""Whether phones may ask resolvers of their own over TLS or HTTPS, round the provider's blocking;
the office chooses."""
SECRET_STRONG = 22
"""Random characters a secret should have at least (conformance item 31)."""
EXAMPLE_ADDRESS = "192.0.2.1"
"""RFC 5737: an address to route towards when only the default route can tell which is ours."""
REFUSALS = ("gateways.no_plain_http", "gateways.no_uam_secret", "gateways.no_address")
"""What a template may say when it cannot make a configuration that works."""

_HEADER = re.compile(r"\{#\s*(place|versions|only):\s*(.*?)\s*#\}\n?")


@dataclass(frozen=True, slots=True)
class Template:
    """One file of a family's configuration."""

    name: str
    place: str
    """Where the file goes on the router; empty where the file is for people."""
    versions: tuple[str, ...]
    only: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file's name, without .j2."""
        return self.name.removesuffix(".j2")


def versions(family: str) -> tuple[str, ...]:
    """The versions of a make for which there are configurations, the usual one first; () for a make
    where it does not matter."""
    return next((one.versions for one in _templates(family) if one.versions), ())


def files(family: str, version: str | None = None) -> list[Template]:
    """The files of a family's configuration, the main one first; [] when it has none.

    Raises DeskError `gateways.version`.
    """
    version = _version(family, version)
    return [one for one in _templates(family) if not one.only or version in one.only]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(data_dir("hotspot_config")),
        undefined=StrictUndefined,
        # Configuration files, not pages: & in a URL must stay & there.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"ros": _ros, "uci": _uci, "sh": shlex.quote, "chilli": _chilli}
    return environment


def render(
    admin: Admin,
    gateway: Gateway,
    settings: Settings,
    options: Mapping[str, str],
    *,
    now: int,
) -> list[dict[str, str]]:
    """The files for a gateway, each {"name", "place", "text"}, secrets included.

    Raises DeskError `gateways.*` when an option does not fit or the family has no template.
    """
    unknown = options.keys() - set(OPTIONS)
    if unknown:
        raise DeskError("gateways.option", option=min(unknown))
    templates = files(gateway.family, options.get("version"))
    if not templates:
        raise DeskError("gateways.no_template", family=gateway.family, name=gateway.name)
    context = _context(admin, gateway, settings, options, now)
    return [
        {
            "name": one.file,
            "place": one.place,
            "text": _tidy(_environment().get_template(one.name).render(context)),
        }
        for one in templates
    ]


def _tidy(text: str) -> str:
    """With at most one empty line at a time, and none at either end."""
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _context(
    admin: Admin, gateway: Gateway, settings: Settings, options: Mapping[str, str], now: int
) -> dict[str, Any]:
    """What every template is given; addresses are texts, None where there is none."""
    site = admin.sites_by_id[gateway.site_id]
    radius_host = _host(
        options.get("radius_host") or _reachable(settings.radius.auth, gateway.address)
    )
    portal_url = options.get("portal_url") or settings.http.url or _portal_url(settings, gateway)
    try:
        portal_url = origin_url(portal_url) or ""
    except BadValue:
        raise DeskError("gateways.portal_url", text=portal_url[:120]) from None
    parts = urlsplit(portal_url)
    portal_host = parts.hostname or ""
    portal_port = parts.port or (443 if parts.scheme == "https" else 80)
    plain_port = portal_port if parts.scheme == "http" else _plain_port(settings)
    is_name = _ipv4(portal_host) is None and ":" not in portal_host
    portal_address = _ipv4(options.get("portal_address") or "")
    if options.get("portal_address") and portal_address is None:
        raise DeskError("gateways.portal_address", text=options["portal_address"][:80])
    portal_address = portal_address or _ipv4(portal_host) or _ipv4(radius_host)
    node_addresses = sorted({one for one in (portal_address, _ipv4(radius_host)) if one})
    network = IPv4Network(_guest_net(admin, gateway, options.get("guest_net")))
    reserved = tuple(IPv4Address(one) for one in node_addresses if IPv4Address(one) in network)
    encrypted_dns = options.get("encrypted_dns") or ENCRYPTED_DNS[0]
    if encrypted_dns not in ENCRYPTED_DNS:
        raise DeskError("gateways.encrypted_dns", text=encrypted_dns[:40])
    announced = certificates.announcement(portal_url, settings.http.tls_cert, now)
    return {
        "site": site,
        "gateway": gateway,
        "name": gateway.nas_id or gateway.name,
        "version": _version(gateway.family, options.get("version")),
        "portal_url": portal_url,
        "portal_host": portal_host,
        "portal_name": portal_host if is_name else None,
        "portal_address": portal_address,
        "portal_port": portal_port,
        "portal_ports": list(dict.fromkeys(filter(None, (portal_port, plain_port)))),
        "plain_port": plain_port,
        "radius_host": radius_host,
        "radius_address": _ipv4(radius_host),
        "node_addresses": node_addresses,
        "auth_port": settings.radius.auth[0].port,
        "acct_port": settings.radius.acct[0].port,
        "coa_port": admin.families[gateway.family].DISCONNECT_PORT,
        "guests": Guests(network, reserved),
        "guest_net": str(network),
        "guest_if": _interface("--guest-if", options.get("guest_if")),
        "wan_if": _interface("--wan-if", options.get("wan_if")),
        "wifi_name": site.wifi_name or site.name,
        "services": walled_garden.parsed(site.open_services),
        "probe_names": walled_garden.PROBE_NAMES,
        "resolver_names": walled_garden.RESOLVER_NAMES,
        "canary_names": walled_garden.CANARY_NAMES,
        "nowhere": walled_garden.NOWHERE,
        "blocks_encrypted_dns": encrypted_dns == "block",
        "api_url": announced.uri,
        "api_why": announced.why,
        "weak_secrets": [
            what
            for what, secret in (("RADIUS", gateway.secret), ("UAM", gateway.uam_secret))
            if secret is not None and len(secret) < SECRET_STRONG
        ],
        "is_address": lambda host: _ipv4(host) is not None,
        "derived": lambda label: _derived(gateway, label),
        "agent_key": agent_key(gateway.secret),
        "refuse": _refuse,
    }


def _guest_net(admin: Admin, gateway: Gateway, text: str | None) -> str:
    if text is None:
        return admin.guest_net(gateway)
    network = guest_networks.parse(text)
    guest_networks.check_free(
        network,
        [
            (admin.gateways_by_id[id].name, net)
            for id, net in admin.guest_nets().items()
            if id != gateway.id
        ],
    )
    return network


def _templates(family: str) -> list[Template]:
    """coova.conf.j2 and coova-ipup.sh.j2 belong to coova; coova2.conf.j2 would not."""
    directory = data_dir("hotspot_config")
    names = [
        path.name
        for path in directory.glob(f"{family}*.j2")
        if not path.name.removeprefix(family)[0].isalnum()
    ]
    # The main file first: "coova.conf" before "coova-ipup.sh".
    names.sort(key=lambda name: (not name.startswith(f"{family}."), name))
    return [_template(directory / name) for name in names]


def _template(path: Path) -> Template:
    said: dict[str, str] = {}
    text, at = path.read_text(encoding="utf-8"), 0
    while (found := _HEADER.match(text, at)) is not None:
        said[found[1]] = found[2]
        at = found.end()
    return Template(
        path.name,
        said.get("place", ""),
        tuple(said.get("versions", "").split()),
        tuple(said.get("only", "").split()),
    )


def _version(family: str, wanted: str | None) -> str:
    known = versions(family)
    if not wanted:
        return known[0] if known else ""
    if wanted not in known:
        raise DeskError(
            "gateways.version", version=wanted[:20], family=family, known=", ".join(known) or "-"
        )
    return wanted


def _derived(gateway: Gateway, label: str) -> str:
    """A further secret of this gateway, 64 hex digits, the same each time."""
    message = f"pesisir {label} 1".encode()
    return hmac.new(gateway.secret.encode(), message, hashlib.sha256).hexdigest()


def _refuse(key: str) -> NoReturn:
    """Said by a template, one of REFUSALS."""
    raise DeskError(key)


def _ros(text: object) -> str:
    """A string of RouterOS's scripting language."""
    escaped = str(text)
    for plain, coded in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("?", "\\3F")):
        escaped = escaped.replace(plain, coded)
    return f'"{escaped}"'


def _uci(text: object) -> str:
    """A value of an OpenWrt configuration, quoted as `uci export` does."""
    return "'" + str(text).replace("'", "'\\''") + "'"


def _chilli(text: object) -> str:
    """A value of chilli.conf: either kind of quotes, no escapes."""
    quote = "'" if '"' in str(text) else '"'
    if quote in str(text):
        raise DeskError("gateways.quotes", text=str(text)[:80])
    return f"{quote}{text}{quote}"


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise DeskError("gateways.radius_host", text=text[:80]) from None


def _ipv4(text: str) -> str | None:
    try:
        return str(IPv4Address(text))
    except ValueError:
        return None


def _interface(option: str, text: str | None) -> str | None:
    # It goes into commands a router runs.
    if text is not None and not (
        text and len(text) <= 64 and all(c.isalnum() or c in "-_.@/" for c in text)
    ):
        raise DeskError("gateways.interface", option=option, text=text[:80])
    return text


def _plain_port(settings: Settings) -> int | None:
    """The port of the first listener without TLS."""
    return next((entry.port for entry in settings.http.listen if not entry.is_tls), None)


def _portal_url(settings: Settings, gateway: Gateway) -> str:
    """The portal as phones behind the gateway reach it, from the first address it listens on."""
    listen = next(
        (entry for entry in settings.http.listen if not entry.is_tls), settings.http.listen[0]
    )
    host = _reachable([listen], gateway.address)
    scheme, usual = ("https", 443) if listen.is_tls else ("http", 80)
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" + ("" if listen.port in (usual, 0) else f":{listen.port}")


def _reachable(entries: Sequence[Listen], towards: str) -> str:
    """Our address as seen from `towards`: the one we listen on, or, when we listen on all, the one
    this machine would send from. Nothing is sent.
    """
    for entry in entries:
        if not ipaddress.ip_address(entry.host).is_unspecified:
            return entry.host
    network = ipaddress.ip_network(towards)
    target = network.network_address if network.num_addresses == 1 else network[1]
    for address in (str(target), EXAMPLE_ADDRESS):
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(kind, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    raise DeskError("gateways.no_address")
