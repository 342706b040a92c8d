"""The gateway configurations in hotspot_config/ say what the gateways' duties need."""

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from radius.nas import family, family_names, mikrotik

DIRECTORY = Path(__file__).parents[2] / "hotspot_config"
TEMPLATES = sorted(
    path.name
    for path in DIRECTORY.glob("*.j2")
    if any(path.name.startswith(name) for name in family_names())
)
PROBES = (
    "connectivitycheck",
    "gstatic",
    "google",
    "apple",
    "msftconnecttest",
    "msftncsi",
    "detectportal",
    "hicloud",
    "miui",
    "oppomobile",
    "vivo",
)
SECRET = "rahasia-desa-kamal-2026"


def render(template: str, **changes: Any) -> str:
    """As the product renders it: StrictUndefined, no escaping, guest_net etc. None if not given."""
    gateway = {
        "name": "gw-kamal",
        "nas_id": "balai desa",
        "secret": SECRET,
        "uam_secret": "kunci-uam",
        "mac_auth": True,
    }
    context = {
        "site": SimpleNamespace(code="kamal", name="Balai Desa <Kamal> & Co"),
        "portal_url": "http://10.20.0.2:8080",
        "portal_host": "10.20.0.2",
        "radius_host": "10.20.0.2",
        "auth_port": 11812,
        "acct_port": 11813,
        "coa_port": 3799,
        "guest_net": None,
        "guest_if": None,
        "wan_if": None,
    }
    for name, value in changes.items():
        (gateway if name in gateway else context)[name] = value
    environment = Environment(
        loader=FileSystemLoader(DIRECTORY),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(context, gateway=SimpleNamespace(**gateway))


def settings(text: str, comment: str = "#") -> list[str]:
    """The lines that do something, spaces made one."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(comment)]


@pytest.mark.parametrize("name", family_names())
def test_every_family_has_a_configuration(name: str) -> None:
    assert any(template.startswith(name + ".") for template in TEMPLATES)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nas_id": None, "uam_secret": None, "mac_auth": False},
        {"guest_net": "10.10.0.0/16", "guest_if": "eth1", "wan_if": "wwan0"},
        {"guest_net": "10.20.0.0/24"},
        {"portal_url": "https://wifi.desa.example", "portal_host": "wifi.desa.example"},
        {"radius_host": "fd00:20::2"},
        {"radius_host": "fd00:20::2", "portal_host": "wifi.desa.example"},
    ],
    ids=["plain", "bare", "wide", "among the guests", "with a name", "IPv6", "IPv6 with a name"],
)
def test_it_renders_without_probe_hosts_or_loose_ends(
    template: str, changes: dict[str, Any]
) -> None:
    text = render(template, **changes)
    assert text.endswith("\n") and "\n\n\n" not in text
    assert "None" not in text and "{{" not in text and "{%" not in text and "{#" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert not any(probe in text.lower() for probe in PROBES)
    assert text.isascii() or template == "mikrotik-login.html.j2"


@pytest.mark.parametrize("template", TEMPLATES)
def test_only_text_for_people_is_wide(template: str) -> None:
    for line in render(template).splitlines():
        assert len(line) <= 104 or not line.startswith("#")


def test_coova_has_every_line_it_needs() -> None:
    lines = settings(render("coova.conf.j2"))
    for line in (
        'dhcpif "eth1"',
        'net "10.1.0.0/24"',
        'uamlisten "10.1.0.1"',
        "uamport 3990",
        "uamanydns",
        'uamserver "http://10.20.0.2:8080/"',
        'uamsecret "kunci-uam"',
        'uamallowed "10.20.0.2:8080"',
        'radiusserver1 "10.20.0.2"',
        'radiusserver2 "10.20.0.2"',
        f'radiussecret "{SECRET}"',
        "radiusauthport 11812",
        "radiusacctport 11813",
        'radiusnasid "balai desa"',
        "radiustimeout 3",
        "coaport 3799",
        "definteriminterval 300",
        "swapoctets",
        "macauth",
        "macreauth",
        'ipup "/etc/chilli/up.sh"',
    ):
        assert line in lines
    words = [line.split()[0] for line in lines]
    assert len(words) == len(set(words))
    assert not {"coanoipcheck", "macpasswd", "macsuffix", "uamdomain", "adminuser"} & set(words)


def test_coova_without_mac_return_or_uam_secret() -> None:
    words = {
        line.split()[0]
        for line in settings(render("coova.conf.j2", mac_auth=False, uam_secret=None, nas_id=None))
    }
    assert not {"macauth", "macreauth", "uamsecret"} & words
    assert 'radiusnasid "gw-kamal"' in settings(render("coova.conf.j2", nas_id=None))


def test_coova_takes_a_secret_with_a_quotation_mark() -> None:
    assert "radiussecret 'a\"b'" in settings(render("coova.conf.j2", secret='a"b'))


def test_coova_takes_a_wide_network() -> None:
    lines = settings(render("coova.conf.j2", guest_net="10.10.128.0/17", guest_if="br-tamu"))
    assert 'net "10.10.128.0/17"' in lines
    assert 'uamlisten "10.10.128.1"' in lines
    assert 'dhcpif "br-tamu"' in lines


def test_the_port_before_the_login_is_the_portals() -> None:
    for url, host, port in (
        ("http://10.20.0.2", "10.20.0.2", "80"),
        ("https://wifi.desa.example", "wifi.desa.example", "443"),
        ("https://wifi.desa.example:8443", "wifi.desa.example", "8443"),
    ):
        coova = settings(render("coova.conf.j2", portal_url=url, portal_host=host))
        assert f'uamallowed "{host}:{port}"' in coova
        rules = [
            line
            for line in settings(render("mikrotik.rsc.j2", portal_url=url, portal_host=host))
            if "walled-garden ip add" in line
        ]
        kind = "dst-host" if host.startswith("wifi") else "dst-address"
        assert len(rules) == 1
        assert f" {kind}={host} protocol=tcp dst-port={port} " in rules[0]


def test_coovas_firewall_does_not_masquerade_towards_the_node() -> None:
    lines = settings(render("coova-ipup.sh.j2", guest_net="10.1.0.0/24", wan_if="wwan0"))
    masquerade = "ipt -I POSTROUTING -t nat -s 10.1.0.0/24 -o wwan0 -j MASQUERADE"
    accept = "ipt -I POSTROUTING -t nat -s 10.1.0.0/24 -d 10.20.0.2 -j ACCEPT"
    # What is inserted later is looked at first.
    assert lines.index(masquerade) < lines.index(accept)
    drop = 'ipt -I FORWARD -i "$IF" -d 10.20.0.2 -j DROP'
    portal = 'ipt -I FORWARD -i "$IF" -d 10.20.0.2 -p tcp --dport 8080 -j ACCEPT'
    assert lines.index(drop) < lines.index(portal)
    assert render("coova-ipup.sh.j2").startswith("#!/bin/sh\n")


def test_mikrotik_has_every_line_it_needs() -> None:
    text = render("mikrotik.rsc.j2")
    lines = settings(text)

    def line_of(start: str) -> str:
        found = [line for line in lines if line.startswith(start)]
        assert len(found) == 1, found
        return found[0] + " "

    radius = line_of("/radius add ")
    for part in (
        "service=hotspot",
        "address=10.20.0.2",
        f'secret="{SECRET}"',
        "authentication-port=11812",
        "accounting-port=11813",
        "timeout=3s",
    ):
        assert f" {part} " in radius
    assert "require-message-auth" in text
    assert line_of("/radius incoming set ") == "/radius incoming set accept=yes port=3799 "
    assert line_of("/system identity ") == '/system identity set name="balai desa" '
    profile = line_of("/ip hotspot profile add ")
    for part in (
        "login-by=mac,http-pap",
        "mac-auth-mode=mac-as-username-and-password",
        "use-radius=yes",
        "radius-accounting=yes",
        "radius-interim-update=received",
        'dns-name=""',
        "hotspot-address=10.5.50.1",
    ):
        assert f" {part} " in profile
    users = line_of("/ip hotspot user profile set ")
    assert " shared-users=unlimited " in users
    assert " keepalive-timeout=10m " in users
    assert " add-mac-cookie=no " in users
    assert "ranges=10.5.50.2-10.5.50.254" in text
    assert "ip-binding add" not in text
    assert any(line.startswith("/ipv6 firewall filter add chain=forward") for line in lines)


def test_mikrotik_without_mac_return() -> None:
    text = render("mikrotik.rsc.j2", mac_auth=False)
    assert " login-by=http-pap use-radius=yes " in text
    assert "mac-auth-mode" not in text


def test_mikrotik_does_not_masquerade_towards_the_node() -> None:
    lines = settings(render("mikrotik.rsc.j2"))
    rules = [line for line in lines if "/ip firewall nat add" in line]
    # Each goes before all others, so the last is looked at first.
    assert len(rules) == 2
    assert 'out-interface="ether1" action=masquerade' in rules[0]
    assert "src-address=10.5.50.0/24 dst-address=10.20.0.2 action=accept" in rules[1]
    filters = [line for line in lines if "/ip firewall filter add" in line]
    assert "action=drop" in filters[0]
    assert "protocol=tcp dst-port=8080 action=accept" in filters[1]
    assert "chain=input src-address=10.20.0.2 protocol=udp dst-port=3799" in filters[2]


def test_mikrotik_leaves_a_node_among_the_guests_alone() -> None:
    text = render("mikrotik.rsc.j2", guest_net="10.20.0.0/24")
    assert "/ip hotspot ip-binding add address=10.20.0.2 type=bypassed " in text
    assert "ranges=10.20.0.3-10.20.0.254\n" in text
    far = {"radius_host": "10.20.1.9", "portal_host": "10.20.1.9"}
    text = render("mikrotik.rsc.j2", guest_net="10.20.0.0/22", **far)
    assert "ranges=10.20.0.2-10.20.1.8,10.20.1.10-10.20.3.254\n" in text
    last = {"radius_host": "10.20.0.254", "portal_host": "wifi.desa.example"}
    text = render("mikrotik.rsc.j2", guest_net="10.20.0.0/24", **last)
    assert "ranges=10.20.0.2-10.20.0.253\n" in text


def test_mikrotik_has_no_ipv6_address_in_an_ipv4_rule() -> None:
    text = render("mikrotik.rsc.j2", radius_host="fd00:20::2", portal_host="wifi.desa.example")
    assert [line for line in settings(text) if "fd00" in line] == [
        line for line in settings(text) if line.startswith("/radius add ")
    ]


def test_mikrotik_takes_any_printable_secret() -> None:
    assert r' secret="a\"b\$c\\d\3Fe" ' in render("mikrotik.rsc.j2", secret=r'a"b$c\d?e')


def test_mikrotik_braces_and_brackets_are_closed() -> None:
    for line in settings(render("mikrotik.rsc.j2", guest_net="10.20.0.0/24")):
        for left, right in ("{}", "[]", "()"):
            assert line.count(left) == line.count(right)
        assert line.count('"') % 2 == 0


class Page(HTMLParser):
    """The addresses a page leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "a":
            self.addresses.append(found["href"] or "")
        if found.get("http-equiv") == "refresh":
            self.addresses.append((found["content"] or "").removeprefix("0; url="))


ROUTER = {
    "mac-esc": "AA%3ABB%3ACC%3ADD%3AEE%3AFF",
    "ip-esc": "10.5.50.254",
    "identity-esc": "MikroTik",
    "server-name-esc": "pesisir-kamal",
    "link-login-only-esc": "http%3A%2F%2F10.5.50.1%2Flogin",
    "link-orig-esc": "http%3A%2F%2Fexample.com%2F%3Fa%3Db%26c",
    "error-orig-esc": "Kuota%20habis.",
}


@pytest.mark.parametrize(("nas_id", "seen"), [("balai desa/1", "balai desa/1"), (None, "MikroTik")])
def test_mikrotiks_login_page_makes_an_arrival_without_javascript(
    nas_id: str | None, seen: str
) -> None:
    text = render("mikrotik-login.html.j2", nas_id=nas_id)
    page = Page(re.sub(r"\$\(([a-z-]+)\)", lambda variable: ROUTER[variable[1]], text))
    assert "script" not in page.tags
    assert len(page.addresses) == 2 and page.addresses[0] == page.addresses[1]
    url = urlsplit(page.addresses[0])
    assert (url.scheme, url.netloc, url.path) == ("http", "10.20.0.2:8080", "/")
    arrival = mikrotik.read_arrival(dict(parse_qsl(url.query)))
    assert arrival is not None
    assert arrival.mac == "aabbccddeeff"
    assert arrival.ip == "10.5.50.254"
    assert arrival.nas_id == seen
    assert arrival.login_base == "http://10.5.50.1/login"
    assert arrival.return_url == "http://example.com/?a=b&c"
    assert (arrival.state, arrival.reason, arrival.reply) == ("failed", "reject", "Kuota habis.")


def test_mikrotiks_login_page_escapes_the_site() -> None:
    text = render("mikrotik-login.html.j2")
    assert "<title>Wi-Fi Balai Desa &lt;Kamal&gt; &amp; Co</title>" in text
    assert len(text) < 2000


def test_generic_names_all_that_must_be_entered() -> None:
    text = render("generic.txt.j2")
    for part in ("10.20.0.2, UDP port 11812", "UDP port 11813", SECRET, "balai desa", "PAP"):
        assert part in text
    assert "[fd00:20::2], UDP port 11812" in render("generic.txt.j2", radius_host="fd00:20::2")


def test_the_disconnect_port_in_the_templates_is_the_familys() -> None:
    for name in family_names():
        assert family(name).DISCONNECT_PORT == 3799
