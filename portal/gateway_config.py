"""The configuration for a gateway, rendered from hotspot_config/<family>*.j2.

A family's templates are found by their names, so that a new family needs nothing here. They are
given: site, gateway, portal_url, portal_host, radius_host, auth_port, acct_port, coa_port,
guest_net, guest_if, wan_if (the last three None when not asked for: the template knows what is
usual on its make).
"""

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from portal.errors import UserError
from portal.resources import data_dir
from portal.setting_values import BadValue, Listen, origin_url
from portal.settings import Settings

OPTIONS = ("portal_url", "radius_host", "guest_net", "guest_if", "wan_if")
EXAMPLE_ADDRESS = "192.0.2.1"
"""RFC 5737: an address to route towards when only the default route can tell which is ours."""


def render(
    site: Any,
    gateway: Any,
    coa_port: int,
    settings: Settings,
    options: Mapping[str, str],
) -> list[dict[str, str]]:
    """The files for a gateway, each {"name", "text"}, secrets included.

    Raises UserError when an option does not fit or the family has no template.
    """
    directory = data_dir("hotspot_config")
    templates = _templates(directory, gateway.family)
    if not templates:
        raise UserError(
            f"there is no configuration template for the family {gateway.family}; set the gateway "
            "up by hand with the secrets of: pesisir gateway show NAME --secret"
        )
    radius_host = options.get("radius_host") or _reachable(settings.radius.auth, gateway.address)
    portal_url = options.get("portal_url") or settings.http.url or _portal_url(settings, gateway)
    try:
        portal_url = origin_url(portal_url) or ""
    except BadValue:
        raise UserError(
            f'--portal-url is "{portal_url}"; expected http:// or https:// with a host and an '
            "optional port, no path"
        ) from None
    environment = Environment(
        loader=FileSystemLoader(directory),
        undefined=StrictUndefined,
        # Configuration files, not pages: & in a URL must stay & there.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    context = {
        "site": site,
        "gateway": gateway,
        "portal_url": portal_url,
        "portal_host": urlsplit(portal_url).hostname,
        "radius_host": _host(radius_host),
        "auth_port": settings.radius.auth[0].port,
        "acct_port": settings.radius.acct[0].port,
        "coa_port": coa_port,
        "guest_net": _guest_net(options.get("guest_net")),
        "guest_if": _interface("--guest-if", options.get("guest_if")),
        "wan_if": _interface("--wan-if", options.get("wan_if")),
    }
    return [
        {"name": name.removesuffix(".j2"), "text": environment.get_template(name).render(context)}
        for name in templates
    ]


def _templates(directory: Path, family: str) -> list[str]:
    """coova.conf.j2 and coova-ipup.sh.j2 belong to coova; coova2.conf.j2 would not."""
    names = [
        path.name
        for path in directory.glob(f"{family}*.j2")
        if not path.name.removeprefix(family)[0].isalnum()
    ]
    # The main file first: "coova.conf" before "coova-ipup.sh".
    return sorted(names, key=lambda name: (not name.startswith(f"{family}."), name))


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise UserError(f'--radius-host is "{text}"; expected an IP address') from None


def _guest_net(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError:
        raise UserError(
            f'--guest-net is "{text}"; expected an IPv4 network such as 10.10.0.0/16'
        ) from None
    if network.prefixlen > 29:
        raise UserError(f'--guest-net is "{text}"; expected a network of /29 or larger')
    return str(network)


def _interface(option: str, text: str | None) -> str | None:
    # It goes into commands a router runs.
    if text is not None and not (
        text and len(text) <= 64 and all(c.isalnum() or c in "-_.@/" for c in text)
    ):
        raise UserError(f'{option} is "{text}"; expected the name of an interface such as eth1')
    return text


def _portal_url(settings: Settings, gateway: Any) -> str:
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
    raise UserError(
        "this node's address towards the gateway is not known; give it with --radius-host and "
        "--portal-url"
    )
