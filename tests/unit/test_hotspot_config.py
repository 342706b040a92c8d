"""The gateway configurations say what the gateways' duties need: what cannot be said of all
families alike (for that: test_hotspot_lint.py), and what the programs make of them.
"""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from portal import gateway_config
from portal.errors import DeskError
from radius.nas import mikrotik
from tests.unit.gateway_place import NAME, Place, lines_of, opened_place
from tests.unit.router_grammar import Command, RouterOs, uci
from tests.unit.test_hotspot_lint import sections, tool


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from opened_place(tmp_path_factory.mktemp("config"))


def commands(text: str, menu: str, verb: str = "add") -> list[Command]:
    return [one for one in RouterOs(text).commands if (one.menu, one.verb) == (menu, verb)]


# --- options


@pytest.mark.parametrize(
    ("options", "key", "part"),
    [
        ({"version": "5"}, "gateways.version", "6"),
        ({"guest_net": "10.7.0.5/24"}, "gateways.guest_net", "10.7.0.5/24"),
        ({"guest_net": "8.8.8.0/24"}, "gateways.guest_net", "8.8.8.0/24"),
        ({"guest_net": "10.0.0.0/8"}, "gateways.guest_net", "10.0.0.0/8"),
        ({"guest_net": "10.64.0.0/20"}, "gateways.guest_net_taken", "gw-"),
        ({"radius_host": "node.example"}, "gateways.radius_host", "node.example"),
        ({"portal_url": "10.7.0.3"}, "gateways.portal_url", "10.7.0.3"),
        ({"portal_url": 'http://10.7.0.3/"; reboot'}, "gateways.portal_url", "reboot"),
        ({"portal_address": NAME}, "gateways.portal_address", NAME),
        ({"guest_if": "eth0; reboot"}, "gateways.interface", "--guest-if"),
        ({"wan_if": ""}, None, ""),
        ({"encrypted_dns": "maybe"}, "gateways.encrypted_dns", "maybe"),
        ({"colour": "red"}, "gateways.option", "colour"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    place: Place, options: dict[str, str], key: str | None, part: str
) -> None:
    given = {name: value for name, value in options.items() if value}
    if key is None:
        place.files("mikrotik", options=given)
        return
    with pytest.raises(DeskError) as refused:
        place.files("mikrotik", options=given)
    assert refused.value.key == key
    assert part in str(refused.value)


def test_a_network_of_its_own_is_not_taken_by_itself(place: Place) -> None:
    net = place.gateway("coova").guest_net
    assert net is not None
    assert f'net         "{net}"' in place.files("coova", options={"guest_net": net})["coova.conf"]


def test_files_and_places_are_known_before_anything_is_rendered() -> None:
    assert gateway_config.versions("mikrotik") == ("7", "6")
    assert gateway_config.versions("opennds") == ("10", "9", "11")
    names = {one.file: one.place for one in gateway_config.files("opennds", "9")}
    assert names["opennds-debian.conf"] == "/etc/opennds/opennds.conf"
    assert not {"opennds-custombinauth.sh", "opennds-debian-10.conf"} & names.keys()
    for version in ("10", "11"):
        later = {one.file: one.place for one in gateway_config.files("opennds", version)}
        assert "opennds-custombinauth.sh" in later and "opennds-debian.conf" not in later
        assert later["opennds-debian-10.conf"] == "/etc/config/opennds"


@pytest.mark.parametrize("version", ["10", "11"])
def test_opennds_10_shuts_out_the_node_and_not_the_internet(place: Place, version: str) -> None:
    """It compiles `block to ADDRESS` to a rule for every address (seen on 10.2.0 and 10.3.1)."""
    files = place.files("opennds", version)
    for name in ("opennds.sh", "opennds-debian-10.conf"):
        blocked = [line for line in lines_of(files[name]) if "authenticated_users 'block" in line]
        assert [line.split("'")[1] for line in blocked] == ["block all to 10.20.0.2"], name
    assert "option use_outdated_mhd '1'" in files["opennds-debian-10.conf"]
    old = place.files("opennds", "9")
    assert "authenticated_users 'block to 10.20.0.2'" in old["opennds.sh"]
    assert "FirewallRule block to 10.20.0.2" in old["opennds-debian.conf"]


def test_phones_behind_opennds_do_not_reach_the_routers_own_pages(
    place: Place, tmp_path: Path
) -> None:
    for version in gateway_config.versions("opennds"):
        script = place.files("opennds", version, options={"guest_if": "br-tamu"})["opennds.sh"]
        found = re.search(r"nftables.d/pesisir.nft <<'EOF'\n(.*?)\nEOF\n", script, re.DOTALL)
        assert found is not None
        assert 'iifname "br-tamu" tcp dport { 22, 443 } reject' in found[1]
        (tmp_path / "in.nft").write_text(f"table inet fw4 {{\n{found[1]}\n}}\n")
        done = subprocess.run(
            [tool("nft"), "--check", "--file", tmp_path / "in.nft"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or "Operation not permitted" in done.stderr, done.stderr


def test_a_chilli_conf_holds_no_value_with_both_kinds_of_quotes(place: Place) -> None:
    assert "radiussecret    'a\"b'" in place.files("coova", secret='a"b')["coova.conf"]
    with pytest.raises(DeskError, match="quotation marks"):
        place.files("coova", secret="a\"b'c")


def test_the_agent_and_uspots_challenge_have_secrets_of_their_own(place: Place) -> None:
    first = place.files("uspot")["uspot.sh"]
    assert first == place.files("uspot")["uspot.sh"]
    assert "option challenge '" in first
    other = place.files("uspot", secret="a-secret-of-another-gateway")["uspot.sh"]
    challenge = re.compile(r"option challenge '([0-9a-f]{64})'")
    assert challenge.findall(first) != challenge.findall(other)


# --- MikroTik


@pytest.mark.parametrize("version", ["6", "7"])
def test_mikrotik_has_every_line_it_needs(place: Place, version: str) -> None:
    text = place.files("mikrotik", version)["mikrotik.rsc"]
    gateway = place.gateway("mikrotik")
    (radius,) = commands(text, "/radius")
    assert radius.properties == {
        "service": "hotspot",
        "address": "10.20.0.2",
        "secret": gateway.secret,
        "authentication-port": "11812",
        "accounting-port": "11813",
        "timeout": "3s",
        "comment": "pesisir",
    }
    asked = [one.properties for one in commands(text, "/radius", "set")]
    wanted = {"require-message-auth": "yes-for-request-resp"}
    assert asked == ([wanted] if version == "7" else [])
    (incoming,) = commands(text, "/radius incoming", "set")
    assert incoming.properties == {"accept": "yes", "port": "3799"}
    (identity,) = commands(text, "/system identity", "set")
    assert identity.properties == {"name": gateway.nas_id}
    (profile,) = commands(text, "/ip hotspot profile")
    for name, value in (
        ("login-by", "mac,http-pap"),
        ("mac-auth-mode", "mac-as-username-and-password"),
        ("use-radius", "yes"),
        ("radius-accounting", "yes"),
        ("radius-interim-update", "received"),
        ("dns-name", ""),
    ):
        assert profile.properties[name] == value
    (users,) = commands(text, "/ip hotspot user profile", "set")
    assert users.properties["shared-users"] == "unlimited"
    assert users.properties["keepalive-timeout"] == "10m"
    assert users.properties["add-mac-cookie"] == "no"


def test_mikrotik_asks_names_itself_and_answers_only_inside(place: Place) -> None:
    text = place.files("mikrotik")["mikrotik.rsc"]
    redirects = [
        one.properties
        for one in commands(text, "/ip firewall nat")
        if one.properties["action"] == "redirect"
    ]
    assert {one["protocol"] for one in redirects} == {"udp", "tcp"}
    drops = [
        one.properties
        for one in commands(text, "/ip firewall filter")
        if one.properties["chain"] == "input" and one.properties["action"] == "drop"
    ]
    assert {(one["in-interface"], one["dst-port"]) for one in drops} == {("ether1", "53")}
    (watch,) = commands(text, "/system script")
    assert "/ip dns static enable" in watch.properties["source"]
    assert ":resolve example.com server=$s" in watch.properties["source"]
    (schedule,) = commands(text, "/system scheduler")
    assert schedule.properties["interval"] == "1m"


def test_mikrotik_opens_without_the_node_only_where_the_site_says_so(place: Place) -> None:
    assert '/system script add name="pesisir-node"' not in place.files("mikrotik")["mikrotik.rsc"]
    site = place.admin.site("KAMAL")
    place.admin.sites_by_id[site.id] = replace(site, without_node="open")
    try:
        text = place.files("mikrotik")["mikrotik.rsc"]
    finally:
        place.admin.sites_by_id[site.id] = site
    watch = commands(text, "/system script")[-1].properties
    assert watch["name"] == "pesisir-node"
    assert "/tool fetch url=" in watch["source"] and "/terms" in watch["source"]
    assert "/ip hotspot disable" in watch["source"] and "/ip hotspot enable" in watch["source"]


def test_mikrotik_leaves_a_node_among_the_guests_alone(place: Place) -> None:
    def pool_and_bound(net: str, node: str) -> tuple[str, list[str], str]:
        text = place.files(
            "mikrotik",
            options={"guest_net": net, "radius_host": node, "portal_url": f"http://{node}"},
        )["mikrotik.rsc"]
        (pool,) = commands(text, "/ip pool")
        (address,) = commands(text, "/ip address")
        bound = [one.properties["address"] for one in commands(text, "/ip hotspot ip-binding")]
        return pool.properties["ranges"], bound, address.properties["address"]

    assert pool_and_bound("10.20.0.0/24", "10.20.0.2") == (
        "10.20.0.3-10.20.0.254",
        ["10.20.0.2"],
        "10.20.0.1/24",
    )
    assert pool_and_bound("10.20.0.0/22", "10.20.1.9")[0] == (
        "10.20.0.2-10.20.1.8,10.20.1.10-10.20.3.254"
    )
    assert pool_and_bound("10.20.0.0/24", "10.20.0.254")[0] == "10.20.0.2-10.20.0.253"
    # The node has the first address: the router takes the next.
    assert pool_and_bound("10.20.0.0/24", "10.20.0.1") == (
        "10.20.0.3-10.20.0.254",
        ["10.20.0.1"],
        "10.20.0.2/24",
    )


def test_mikrotik_takes_any_printable_secret(place: Place) -> None:
    text = place.files("mikrotik", secret=r'a"b$c\d?e')["mikrotik.rsc"]
    assert r' secret="a\"b\$c\\d\3Fe" ' in text
    (radius,) = commands(text, "/radius")
    assert radius.properties["secret"] == r'a"b$c\d?e'


class Links(HTMLParser):
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
    place: Place, nas_id: str | None, seen: str
) -> None:
    text = place.files("mikrotik", nas_id=nas_id)["mikrotik-login.html"]
    assert "<title>Wi-Fi Balai Desa &lt;Kamal&gt; &amp; Co</title>" in text
    page = Links(re.sub(r"\$\(([a-z-]+)\)", lambda variable: ROUTER[variable[1]], text))
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


# --- OpenWrt


def test_uspot_catches_the_plain_http_of_phones_that_are_not_logged_in(place: Place) -> None:
    found = sections(place.files("uspot"))
    by_name = {one.name: one for one in found["firewall"]}
    catch = by_name["pesisir_catch"].options
    assert (catch["src_dport"], catch["ipset"], catch["target"]) == ("80", "!pesisir", "DNAT")
    (uspot,) = found["uspot"]
    assert by_name["pesisir_set"].options["name"] == uspot.options["setname"]
    assert uspot.options["uam_server"] == "http://10.20.0.2:8080/"
    assert uspot.options["final_redirect_url"] == "uam"
    assert uspot.options["nasid"] == place.gateway("uspot").nas_id
    das = by_name["pesisir_das"].options
    assert (das["src_ip"], das["dest_port"]) == ("10.20.0.2", uspot.options["das_port"])
    zone = by_name["pesisir"].options
    assert (zone["input"], zone["forward"]) == ("REJECT", "REJECT")
    ports = [one.lists["listen_http"][0] for one in found["uhttpd"]]
    assert [port.rpartition(":")[2] for port in ports] == ["80", uspot.options["uam_port"]]


def test_uspot_lets_the_node_stand_among_the_guests(place: Place) -> None:
    found = sections(place.files("uspot", options={"guest_net": "10.20.0.0/24"}))
    by_name = {one.name: one for one in found["firewall"]}
    assert by_name["pesisir_catch"].options["src_ip"] == "!10.20.0.2"
    assert by_name["pesisir_node_out_1"].options["src_ip"] == "10.20.0.2"
    lease = next(one for one in found["dhcp"] if one.kind == "dhcp").options
    assert (lease["start"], lease["limit"]) == ("3", "252")


def test_opennds_has_a_key_of_its_own_and_announces_nothing(place: Place) -> None:
    for version in ("9", "10", "11"):
        (setup,) = sections(place.files("opennds", version))["opennds"]
        assert setup.options["faskey"] == place.gateway("opennds").uam_secret
        assert setup.options["fas_secure_enabled"] == "1"
        assert (setup.options["fasremoteip"], setup.options["fasport"]) == ("10.20.0.2", "8080")
        assert setup.options.get("dhcp_default_url_enable") == (None if version == "9" else "0")
        agent = "/usr/lib/pesisir/opennds-agent.sh"
        assert (setup.options["binauth"] == agent) == (version != "11")
        assert ("custombinauth" in setup.options) == (version == "11")
        assert "80" not in setup.lists.get("walledgarden_port_list", ())


def test_opennds_goes_to_the_plain_port_of_a_portal_with_a_certificate(place: Place) -> None:
    (setup,) = sections(place.files("opennds", level="level 1"))["opennds"]
    assert setup.options["fasport"] == "80"
    opened = setup.lists["preauthenticated_users"]
    assert opened == ["allow tcp port 443 to 10.20.0.2", "allow tcp port 80 to 10.20.0.2"]


def test_opennds_without_a_uam_secret_is_refused(place: Place) -> None:
    with pytest.raises(DeskError, match="UAM secret"):
        place.files("opennds", uam_secret=None)


def test_openndss_custombinauth_passes_on_what_the_agent_says(place: Place, tmp_path: Path) -> None:
    agent = tmp_path / "agent.sh"
    agent.write_text('#!/bin/sh\n[ "$*" = "binauth ndsctl_auth aa:bb" ] && echo 60 1 2 3 4\n')
    agent.chmod(0o755)
    text = place.files("opennds", "11")["opennds-custombinauth.sh"]
    part = tmp_path / "custombinauth.sh"
    part.write_text(text.replace("/usr/lib/pesisir/opennds-agent.sh", str(agent)))
    outer = tmp_path / "binauth_log.sh"
    outer.write_text(
        "upload_quota=9\n"
        f". {part}\n"
        'echo "$sessiontimeout $upload_rate $download_rate $upload_quota $download_quota $1"\n'
        "exit $exitlevel\n"
    )

    def run(*arguments: str) -> str:
        return subprocess.run(
            [tool("dash"), outer, *arguments], check=True, capture_output=True, text=True
        ).stdout

    assert run("ndsctl_auth", "aa:bb") == "60 1 2 3 4 ndsctl_auth\n"
    assert run("ndsctl_deauth", "aa:bb") == "   9  ndsctl_deauth\n"


def test_uci_takes_any_printable_value(place: Place) -> None:
    text = place.files("uspot", nas_id='a\'b "c" $d `e`')["uspot.sh"]
    (uspot,) = sections({"uspot.sh": text})["uspot"]
    assert uspot.options["nasid"] == 'a\'b "c" $d `e`'
    assert uci("config x\n\toption y 'a'\\''b'\n")[0].options == {"y": "a'b"}


def test_a_wifi_name_cannot_run_anything(place: Place) -> None:
    site, name = place.admin.site("KAMAL"), "WiFi d'esa $(reboot) `reboot`"
    place.admin.sites_by_id[site.id] = replace(site, wifi_name=name)
    try:
        text = place.files("uspot")["uspot.sh"]
    finally:
        place.admin.sites_by_id[site.id] = site
    (line,) = [line for line in text.splitlines() if "ssid=" in line]
    assert shlex.split(line) == ["uci", "set", f"wireless.pesisir_$radio.ssid={name}"]


# --- other gateways


def test_generic_names_all_that_must_be_entered(place: Place) -> None:
    text = place.files("generic")["generic.txt"]
    gateway = place.gateway("generic")
    for part in ("10.20.0.2, UDP port 11812", "UDP port 11813", gateway.secret, "PAP"):
        assert part in text
    wide = place.files("generic", options={"radius_host": "fd00:20::2"})["generic.txt"]
    assert "[fd00:20::2], UDP port 11812" in wide
