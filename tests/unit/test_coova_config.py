"""CoovaChilli's configuration: what its files must hold; its name server and watch for real."""

import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal import gateway_config
from tests.ports import free_port
from tests.unit.gateway_place import NAME, Place, lines_of, opened_place
from tests.unit.router_grammar import chilli
from tests.unit.test_hotspot_lint import tool


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    yield from opened_place(tmp_path_factory.mktemp("config"))


def test_coova_has_every_line_it_needs(place: Place) -> None:
    gateway = place.gateway("coova")
    found = chilli(
        place.files("coova", options={"guest_net": "10.10.128.0/17", "guest_if": "br-tamu"})[
            "coova.conf"
        ]
    )
    assert found == {
        "dhcpif": ["br-tamu"],
        "net": ["10.10.128.0/17"],
        "uamlisten": ["10.10.128.1"],
        "uamport": ["3990"],
        "lease": ["3600"],
        "dns1": ["10.10.128.1"],
        "domain": ["lan"],
        "uamanydns": [""],
        "ipup": ["/etc/chilli/up.sh"],
        "ipdown": ["/etc/chilli/down.sh"],
        "radiusserver1": ["10.20.0.2"],
        "radiusserver2": ["10.20.0.2"],
        "radiussecret": [gateway.secret],
        "radiusauthport": ["11812"],
        "radiusacctport": ["11813"],
        "radiusnasid": [gateway.nas_id],
        "radiustimeout": ["3"],
        "coaport": ["3799"],
        "definteriminterval": ["300"],
        "acctupdate": [""],
        "swapoctets": [""],
        "uamserver": ["http://10.20.0.2:8080/"],
        "uamsecret": [gateway.uam_secret],
        "uamallowed": ["10.20.0.2:8080"],
        "macauth": [""],
        "macreauth": [""],
    }


def test_coova_without_a_uam_secret_or_a_nas_identifier(place: Place) -> None:
    found = chilli(place.files("coova", nas_id=None, uam_secret=None)["coova.conf"])
    assert "uamsecret" not in found
    assert found["radiusnasid"] == ["gw-coova"]


def test_coova_lets_phones_reach_the_portal_on_the_node_and_nothing_else(place: Place) -> None:
    lines = lines_of(place.files("coova", level="level 1")["coova-ipup.sh"])
    drop = lines.index('ipt -I FORWARD -i "$IF" -d 10.20.0.2 -j DROP')
    for port in ("443", "80"):
        accept = f'ipt -I FORWARD -i "$IF" -d 10.20.0.2 -p tcp --dport {port} -j ACCEPT'
        assert lines.index(accept) > drop


@pytest.mark.parametrize(
    "told, target",
    [
        ("# ours\nnameserver 127.0.0.53\nnameserver 10.9.0.1\nnameserver 10.9.0.2\n", "10.9.0.1"),
        ("nameserver 127.0.0.1\n", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("has_dnsmasq", [True, False])
def test_phones_behind_coova_have_names_before_dnsmasq_is_set_up(
    place: Place, tmp_path: Path, has_dnsmasq: bool, told: str, target: str
) -> None:
    router = place.admin.guest_net(place.gateway("coova")).rpartition(".")[0] + ".1"
    script = place.files("coova")["coova-ipup.sh"]
    (tmp_path / "resolv.conf").write_text(told)
    if has_dnsmasq:
        (tmp_path / "pesisir.conf").write_text("")
    for old, new in (
        ("/etc/dnsmasq.d/pesisir.conf", "pesisir.conf"),
        ("/tmp/resolv.conf.d/resolv.conf.auto", "none"),
        ("/run/systemd/resolve/resolv.conf", "none"),
        ("/etc/resolv.conf", "resolv.conf"),
        ("/proc/sys/net/ipv4/ip_forward", "forwards"),
        ("command -v ip6tables", "false"),
    ):
        assert old in script
        script = script.replace(old, new)
    done = subprocess.run(
        ["sh", "-c", f'ipt() {{ echo "$@"; }}\n{script}'],
        cwd=tmp_path,
        env={"DEV": "/dev/tun0", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    names = router if has_dnsmasq or not target else target
    rules = done.stdout.splitlines()
    for protocol in ("udp", "tcp"):
        turned = f"-I PREROUTING -t nat -i tun0 -p {protocol} --dport 53 -j DNAT"
        assert f"{turned} --to-destination {names}" in rules
        chain = "INPUT" if names == router else "FORWARD"
        assert f"-I {chain} -i tun0 -d {names} -p {protocol} --dport 53 -j ACCEPT" in rules


def test_an_older_coova_gets_no_word_it_does_not_know(place: Place) -> None:
    assert gateway_config.versions("coova") == ("1.9", "1.6")
    assert "captiveportalapi_uri" in chilli(place.files("coova", level="level 1")["coova.conf"])
    old = place.files("coova", "1.6", "level 1")["coova.conf"]
    assert "captiveportalapi_uri" not in chilli(old) and "from 1.9 on" in old


def ask(port: int, name: str) -> tuple[int, list[str]]:
    """Response code and IPv4 addresses of a DNS question to 127.0.0.1 (RFC 1035 4)."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    packet = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(packet, ("127.0.0.1", port))
        answer = client.recv(512)
    found = re.findall(rb"\xc0.\0\x01\0\x01....\0\x04(....)", answer, re.DOTALL)
    return answer[3] & 15, [".".join(map(str, one)) for one in found]


def test_the_phones_name_server_answers_with_the_link_down(place: Place, tmp_path: Path) -> None:
    """The real dnsmasq with the generated file, and the generated watch with a dead resolver."""
    files = place.files("coova", level="level 1")
    hosts, port = tmp_path / "probes", free_port(socket.SOCK_DGRAM)
    conf = files["coova-dnsmasq.conf"].replace("/run/pesisir-probes", str(hosts))
    guests = place.admin.guest_net(place.gateway("coova")).rpartition(".")[0] + ".1"
    assert f"listen-address={guests}\n" in conf
    (tmp_path / "dnsmasq.conf").write_text(conf.replace(guests, "127.0.0.1"))
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    server = subprocess.Popen(
        [
            *(tool("dnsmasq"), "-k", "-C", tmp_path / "dnsmasq.conf", "--port", str(port)),
            *("-r", tmp_path / "resolv.conf", "--no-hosts", "--user=", "--pid-file="),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                assert ask(port, NAME) == (0, ["10.20.0.2"])
                break
            except (TimeoutError, ConnectionError):
                time.sleep(0.1)
        else:
            pytest.fail("dnsmasq does not answer")
        assert ask(port, "use-application-dns.net") == (3, [])
        assert ask(port, "dns.google") == (3, [])
        run_watch(files["coova-dns-watch.sh"], hosts, tmp_path, is_alive=False, pid=server.pid)
        wait_for(port, "connectivitycheck.gstatic.com", ["192.0.2.1"])
        assert ask(port, "captive.apple.com") == (0, ["192.0.2.1"])
        run_watch(files["coova-dns-watch.sh"], hosts, tmp_path, is_alive=True, pid=server.pid)
        assert hosts.read_text() == ""
    finally:
        server.terminate()
        server.wait(60)


def wait_for(port: int, name: str, addresses: list[str]) -> None:
    for _ in range(300):
        try:
            if ask(port, name) == (0, addresses):
                return
        except TimeoutError:
            pass
        time.sleep(0.1)
    pytest.fail(f"{name} does not lead to {addresses}")


def run_watch(
    script: str, hosts: Path, directory: Path, *, is_alive: bool, pid: int, auto: str = "10.9.9.9"
) -> None:
    """Run the watch once with a stand-in for what asks the provider's resolver."""
    tools = directory / "tools"
    tools.mkdir(exist_ok=True)
    for name, body in (
        ("nslookup", f'[ "$2" = 10.9.9.9 ] && exit {0 if is_alive else 1}; exit 1'),
        ("pidof", f"[ {pid} -gt 0 ] && echo {pid}"),
        ("logger", "exit 0"),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    (directory / "resolv.auto").write_text(f"nameserver {auto}\nnameserver ::1\n" if auto else "")
    text = re.sub("^HOSTS=.*$", f"HOSTS={hosts}", script, flags=re.MULTILINE)
    text = text.replace("/tmp/resolv.conf.d/resolv.conf.auto", str(directory / "resolv.auto"))
    path = directory / "watch.sh"
    path.write_text(text)
    subprocess.run(
        [tool("dash"), path], check=True, env={"PATH": f"{tools}:/usr/bin:/bin"}, timeout=10
    )


def test_the_watch_writes_only_when_something_changed(place: Place, tmp_path: Path) -> None:
    script, hosts = place.files("coova")["coova-dns-watch.sh"], tmp_path / "probes"

    def run(**options: object) -> None:
        try:
            run_watch(script, hosts, tmp_path, pid=0, **options)  # type: ignore[arg-type]
        except subprocess.CalledProcessError:
            pass  # nobody to tell: there is no dnsmasq here

    run(is_alive=True)
    assert not hosts.exists()
    # On OpenWrt a list without resolvers says that there is no link.
    run(is_alive=True, auto="")
    assert hosts.read_text().startswith("192.0.2.1 connectivitycheck.gstatic.com\n")
    hosts.write_text("kept\n")
    run(is_alive=False)
    assert hosts.read_text() == "kept\n"
    run(is_alive=True)
    assert hosts.read_text() == ""
