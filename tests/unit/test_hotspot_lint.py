"""Every generated gateway file, for every family, version, level and set of options, is accepted by
a parser of its language and has what the gateway's duties need.
"""

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from portal import gateway_config, walled_garden
from radius.nas import family_names
from tests.unit import router_grammar
from tests.unit.gateway_place import NAME, NOW, Place, lines_of, opened_place
from tests.unit.router_grammar import RouterOs, Section

LEVELS = ("level 0", "level 1")
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bare": {"nas_id": None, "mac_auth": False},
    "odd": {"nas_id": "balai d'esa $x? \\ ü", "services": "layanan.desa.id:80"},
    "wide": {
        "options": {"guest_net": "10.96.0.0/16", "guest_if": "eth1", "wan_if": "wwan0"},
        "services": "layanan.desa.id puskesmas.example:8443 10.50.0.3:9000",
    },
    "among": {"options": {"guest_net": "10.20.0.0/24"}},
    "allow": {"options": {"encrypted_dns": "allow"}},
    "ipv6": {"options": {"radius_host": "fd00:20::2", "portal_address": "10.20.0.2"}},
}
CASES = [
    (family, version, level, variant)
    for family in family_names()
    for version, level, variant in itertools.product(
        gateway_config.versions(family) or ("",), LEVELS, VARIANTS
    )
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from opened_place(tmp_path_factory.mktemp("lint"))


@pytest.fixture(params=CASES, ids=lambda case: " ".join(part for part in case if part))
def case(request: pytest.FixtureRequest, place: Place) -> tuple[Any, dict[str, str]]:
    family, version, level, variant = request.param
    if request.param not in place.rendered:
        place.rendered[request.param] = place.files(family, version, level, **VARIANTS[variant])
    return request.param, place.rendered[request.param]


def tool(name: str) -> str:
    """A program; without it the test is left out on a laptop and fails where CI=true."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


# --- syntax


def test_no_file_has_loose_ends(case: Any) -> None:
    for name, text in case[1].items():
        assert text.endswith("\n"), name
        assert "\n\n\n" not in text, name
        assert not re.search(r"\bNone\b|\bUndefined\b|\{\{|\{%|\{#", text), name
        assert not [line for line in text.splitlines() if line != line.rstrip()], name
        assert not [
            line for line in text.splitlines() if line.startswith("#") and len(line) > 110
        ], name


def test_every_shell_script_is_one(case: Any, tmp_path: Path) -> None:
    for name, text in case[1].items():
        if not text.startswith("#!/bin/sh"):
            continue
        script = tmp_path / name
        script.write_text(text)
        subprocess.run([tool("dash"), "-n", script], check=True)
        for command, inner in router_grammar.here_documents(text):
            if inner.startswith("#!/bin/sh"):
                assert "cat >" in command
                script.write_text(inner)
                subprocess.run([tool("dash"), "-n", script], check=True)


def sections(files: dict[str, str]) -> dict[str, list[Section]]:
    """The sections of every OpenWrt configuration the scripts import or write, by its name."""
    found: dict[str, list[Section]] = {}
    for text in files.values():
        for command, inner in router_grammar.here_documents(text):
            config = re.search(r"uci -m import (\w+)|/etc/config/(\w+) <<", command)
            if config is not None:
                found.setdefault(config[1] or config[2], []).extend(router_grammar.uci(inner))
    return found


def test_every_openwrt_configuration_is_one(case: Any) -> None:
    (family, version, _, _), files = case
    found = sections(files)
    if family not in ("uspot", "opennds"):
        assert found == {}
        return
    assert {"network", "dhcp", "firewall"} <= set(found)
    for config, listed in found.items():
        names = [section.name for section in listed]
        assert len(names) == len(set(names)), config
        for section in listed:
            assert config == "opennds" or (section.name or "").startswith("pesisir"), section
    if family == "opennds":
        assert [one.name for one in found["opennds"]] == ["setup" if version == "11" else None]


def test_every_routeros_script_is_one(case: Any) -> None:
    for name, text in case[1].items():
        if name.endswith(".rsc"):
            commands = RouterOs(text).commands
            assert len(commands) > 60


def test_every_chilli_conf_is_one(case: Any) -> None:
    if "coova.conf" in case[1]:
        router_grammar.chilli(case[1]["coova.conf"])


def test_every_dnsmasq_conf_is_one(case: Any, tmp_path: Path) -> None:
    if "coova-dnsmasq.conf" in case[1]:
        path = tmp_path / "dnsmasq.conf"
        path.write_text(case[1]["coova-dnsmasq.conf"])
        subprocess.run(
            [tool("dnsmasq"), "--test", "-C", path], check=True, capture_output=True, text=True
        )


class Page(HTMLParser):
    """Every tag of a page opened and closed in order."""

    VOID = frozenset(("meta", "link", "br", "input", "img"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


def test_every_page_is_one(case: Any) -> None:
    for name, text in case[1].items():
        if name.endswith(".html"):
            assert text.startswith("<!doctype html>\n")
            Page(text)
            assert len(text) < 2_500


# --- what must stand in them


SECRET = re.compile(
    r"""^(?:/radius add .* secret="|radiussecret "|uamsecret "|faskey |Shared secret \(both\) """
    r"""|option (?:auth_secret|acct_secret|das_secret|uam_secret|challenge|faskey) '|KEY='?)"""
    r"""([^"'\s]+)""",
    re.MULTILINE,
)


def test_no_secret_is_shorter_than_22_characters(case: Any, place: Place) -> None:
    (family, _, _, _), files = case
    gateway = place.gateway(family)
    assert len(gateway.secret) >= 22 and len(gateway.uam_secret or "") >= 22
    whole = "\n".join(line for text in files.values() for line in lines_of(text))
    found = SECRET.findall(whole)
    assert found
    assert [value for value in found if len(value) < 22] == []
    spoken = {"coova", "uspot", "mikrotik", "generic"}
    assert (gateway.secret in whole) == (family in spoken) or family == "opennds"


def test_a_short_secret_is_named(place: Place) -> None:
    for family in family_names():
        files = place.files(family, secret="pendek")
        assert "shorter than 22 characters" in next(iter(files.values()))


def opened(files: dict[str, str]) -> set[str]:
    """Every host the files let phones reach before the login."""
    hosts: set[str] = set()
    for name, text in files.items():
        if name == "coova.conf":
            for value in router_grammar.chilli(text)["uamallowed"]:
                hosts.add(value.rpartition(":")[0])
        if name.endswith(".rsc"):
            for command in RouterOs(text).commands:
                if command.menu == "/ip hotspot walled-garden ip" and command.verb == "add":
                    properties = command.properties
                    hosts.add(properties.get("dst-address") or properties["dst-host"])
        if name == "generic.txt":
            hosts |= set(re.findall(r"^  (?:the portal|open service) +(\S+), TCP", text, re.M))
        if name == "opennds-debian.conf":
            block = re.search(r"preauthenticated-users \{(.*?)\}", text, re.DOTALL)
            assert block is not None
            hosts |= set(re.findall(r" to (\S+)", block[1]))
        if name == "opennds-debian-10.conf":
            hosts |= set(re.findall(r"preauthenticated_users '.* to (\S+)'", text))
            hosts |= set(re.findall(r"walledgarden_fqdn_list '(\S+)'", text))
    for config, listed in sections(files).items():
        for section in listed:
            hosts |= {one.split()[-1] for one in section.lists.get("preauthenticated_users", ())}
            hosts |= set(section.lists.get("walledgarden_fqdn_list", ()))
            if config == "dhcp" and section.kind == "ipset":
                hosts |= set(section.lists["domain"])
            if config == "firewall" and section.options.get("target") == "ACCEPT":
                is_rule = section.kind == "rule" and section.options["src"] == "pesisir"
                if is_rule and "dest_ip" in section.options:
                    hosts.add(section.options["dest_ip"])
    return hosts


def test_before_the_login_the_portal_and_the_open_services_are_open_and_no_probe(
    case: Any,
) -> None:
    (_, _, _, variant), files = case
    hosts = opened(files)
    assert "10.20.0.2" in hosts or NAME in hosts
    assert not [host for host in hosts if walled_garden.is_probed(host)]
    services = {host for host, _ in walled_garden.parsed(VARIANTS[variant].get("services", ""))}
    extra = hosts - {"10.20.0.2", NAME}
    # openNDS opens port 80 of no name: it would let probes of the same address through.
    assert extra == services or (extra == set() and variant == "odd" and case[0][0] == "opennds")


def test_names_phones_probe_are_only_answered_never_opened(case: Any) -> None:
    for name, text in case[1].items():
        for line in lines_of(text):
            if any(probe in line for probe in walled_garden.PROBE_NAMES):
                assert (
                    re.match(
                        r"NAMES='|:foreach n in=\{.* address=192\.0\.2\.1 .*disabled=yes", line
                    )
                    or name == "generic.txt"
                ), line


def test_the_link_down_page_can_appear(case: Any) -> None:
    (family, _, _, _), files = case
    whole = "\n".join(files.values())
    assert "192.0.2.1" in whole
    if family == "generic" or list(files) == ["opennds-debian.conf"]:
        return
    for probe in walled_garden.PROBE_NAMES:
        assert probe in whole
    if family != "mikrotik":
        assert "nslookup example.com" in whole and "kill -HUP $pids" in whole


def test_the_portals_name_is_answered_by_the_router(case: Any) -> None:
    (family, _, level, _), files = case
    if level == "level 0":
        assert NAME not in "".join(files.values())
        return
    answers = {
        "coova": f"host-record={NAME},10.20.0.2",
        "mikrotik": f"/ip dns static add name={NAME} address=10.20.0.2 ",
        "generic": f"{NAME} = 10.20.0.2",
    }
    whole = "\n".join(files.values())
    if family in answers:
        assert answers[family] in whole
    else:
        domain = [one for one in sections(files)["dhcp"] if one.kind == "domain"]
        assert [one.options for one in domain] == [{"name": NAME, "ip": "10.20.0.2"}]


def test_option_114_only_with_a_trusted_certificate(case: Any, place: Place) -> None:
    (family, version, level, variant), files = case
    whole = "\n".join(line for text in files.values() for line in lines_of(text))
    api = f"https://{NAME}/captive-portal/api"
    assert (api in whole) == (level == "level 1" and version != "1.6") or (
        family == "opennds" and "conf" in whole
    )
    if level == "level 1":
        late = place.files(family, version, level, now=NOW + 54 * 86_400, **VARIANTS[variant])
        assert api not in "\n".join(late.values())


def test_no_masquerade_between_the_guests_and_the_node(case: Any) -> None:
    (family, _, _, _), files = case
    if family == "coova":
        lines = lines_of(files["coova-ipup.sh"])
        at = [index for index, line in enumerate(lines) if "MASQUERADE" in line]
        accepts = [
            index
            for index, line in enumerate(lines)
            if "POSTROUTING" in line and "-d 10.20.0.2 -j ACCEPT" in line
        ]
        # What is inserted later is looked at first.
        assert len(at) == len(accepts) == 1 and at[0] < accepts[0]
    elif family == "mikrotik":
        rules = [
            one.properties
            for one in RouterOs(files["mikrotik.rsc"]).commands
            if one.menu == "/ip firewall nat" and one.verb == "add"
        ]
        order = [one["action"] for one in rules if one["chain"] == "srcnat"]
        # Each stands twice (with and without place-before); the last comes first.
        assert order == ["masquerade", "masquerade", "accept", "accept"]
        assert {one["dst-address"] for one in rules if one["action"] == "accept"} == {"10.20.0.2"}
    elif family in ("uspot", "opennds"):
        nat = [one.options for one in sections(files)["firewall"] if one.kind == "nat"]
        assert [(one["dest_ip"], one["target"]) for one in nat] == [("10.20.0.2", "ACCEPT")]
    else:
        assert "not towards 10.20.0.2" in files["generic.txt"]


def test_ipv6_does_not_leak_round_the_portal(case: Any) -> None:
    (family, _, _, _), files = case
    if family == "coova":
        assert 'ip6tables -I $chain -i "$GUESTS" -j DROP' in files["coova-ipup.sh"]
    elif family == "mikrotik":
        chains = [
            one.properties["chain"]
            for one in RouterOs(files["mikrotik.rsc"]).commands
            if one.menu == "/ipv6 firewall filter" and one.verb == "add"
        ]
        assert chains == ["forward", "input"]
    elif family in ("uspot", "opennds"):
        found = sections(files)
        interface = next(one for one in found["network"] if one.kind == "interface")
        assert (interface.options["ipv6"], interface.options["delegate"]) == ("0", "0")
        lease = next(one for one in found["dhcp"] if one.kind == "dhcp")
        assert (lease.options["ra"], lease.options["dhcpv6"]) == ("disabled", "disabled")
        first = [one for one in found["firewall"] if one.kind == "rule"][0]
        assert (first.options["family"], first.options["target"]) == ("ipv6", "REJECT")
        for one in found["firewall"]:
            if one.options.get("target") == "ACCEPT" and "dest" in one.options:
                assert one.options["family"] == "ipv4"
    else:
        assert "IPv6                      off" in files["generic.txt"]


def test_leases_are_short_and_the_network_is_the_gateways_own(case: Any, place: Place) -> None:
    (family, _, _, variant), files = case
    main = next(iter(files.values()))
    net = VARIANTS[variant].get("options", {}).get("guest_net") or place.gateway(family).guest_net
    assert net is not None and net.rpartition("/")[0].rpartition(".")[0] in main
    short = {
        "coova": "lease       3600",
        "mikrotik": "lease-time=1h",
        "uspot": "option leasetime '1h'",
        "opennds": "option leasetime '1h'",
        "generic": "Leases                    1 hour",
    }
    assert short[family] in main


def test_no_two_gateways_have_one_network(place: Place) -> None:
    nets = [gateway.guest_net for gateway in place.admin.gateways_by_id.values()]
    assert None not in nets and len(set(nets)) == len(family_names())


def test_gateways_of_an_older_node_get_networks_of_their_own(place: Place) -> None:
    admin, before = place.admin, dict(place.admin.gateways_by_id)
    try:
        for number, gateway in before.items():
            admin.gateways_by_id[number] = replace(gateway, guest_net=None)
        nets = [admin.guest_net(gateway) for gateway in admin.gateways_by_id.values()]
        assert len(set(nets)) == len(before)
    finally:
        admin.gateways_by_id.update(before)


def test_the_providers_resolver_is_kept_and_the_office_chooses_about_encrypted_dns(
    case: Any,
) -> None:
    (family, _, _, variant), files = case
    whole = "\n".join(line for text in files.values() for line in lines_of(text))
    blocks = variant != "allow"
    assert ("853" in whole) == (blocks or family == "generic")
    if family not in ("opennds", "uspot"):
        assert ("use-application-dns.net" in whole) == blocks
    else:
        assert ('add_list "dhcp.@dnsmasq[0].address=/$name/"' in whole) == blocks
    hijack = {
        "coova": "--dport 53 -j DNAT",
        "mikrotik": "protocol=tcp dst-port=53 action=redirect",
        "uspot": "option src_dport '53'",
        "opennds": "option src_dport '53'",
        "generic": "Port 53 of",
    }
    assert hijack[family] in whole
    assert "8.8.8.8" not in whole and "1.1.1.1" not in whole and "use-doh-server" not in whole


def test_phones_come_back_where_the_gateway_says_so(case: Any) -> None:
    (family, _, _, variant), files = case
    main = "\n".join(lines_of(next(iter(files.values()))))
    is_on = variant != "bare"
    said = {
        "coova": ("\nmacauth\nmacreauth", ""),
        "mikrotik": (" login-by=mac,http-pap mac-auth-mode=", " login-by=http-pap "),
        "uspot": ("option mac_auth '1'", "option mac_auth '0'"),
        "generic": ("MAC authentication on", "MAC authentication off"),
    }
    if family in said:
        assert said[family][0 if is_on else 1] in main
        assert is_on or said[family][0] not in main


def test_interim_updates_are_really_on(case: Any) -> None:
    (family, _, _, _), files = case
    main = "\n".join(lines_of(next(iter(files.values()))))
    said = {
        "coova": "definteriminterval 300",
        "mikrotik": "radius-accounting=yes radius-interim-update=received",
        "uspot": "option acct_server '",
        "opennds": "/etc/init.d/pesisir enable",
        "generic": "Accounting on: Start, Interim-Update and Stop",
    }
    assert said[family] in main
    # uspot would prefer its own interval to the node's.
    assert "acct_interval" not in main
