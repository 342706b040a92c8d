"""A village with the real openNDS: phone, gateway, node and internet, each in a network namespace
of its own, with dnsmasq for leases and names and our program beside openNDS.

    phone 10.10.0.x --- lan0 gateway wan0 --- node 10.20.0.2
                                     inet0 -- internet 203.0.113.10

The gateway has a file system of its own where openNDS writes (it changes /etc, and its socket has a
fixed name), and there /bin/sh is BusyBox's, as on OpenWrt. Counters in its kernel say what really
passed. Needs root, and the tools in TOOLS.
"""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.e2e.command import PROGRAM, RunningNode, pesisir

TOOLS = ["opennds", "ndsctl", "dnsmasq", "nft", "iptables", "ip", "busybox", "curl"]
TOOLS += ["nsenter", "unshare", "setpriv", "sysctl"]
# What a test that was killed leaves behind ends by itself.
WITH_US = ("setpriv", "--pdeathsig", "KILL")
PHONE_MAC = "02:aa:bb:cc:dd:01"
PORTAL = "http://10.20.0.2:8080"
INTERNET = "203.0.113.10"
PROBE = "http://connectivitycheck.gstatic.com/generate_204"
APPLETS = ("awk", "logger", "mkdir", "mv", "rm", "sha256sum", "sleep", "tr", "wget")
"""All that the program may use, BusyBox's own: see its head."""

SETTINGS = """
[http]
listen = "10.20.0.2:8080"
operator_listen = "127.0.0.1:0"

[radius]
auth = "127.0.0.1:0"
acct = "127.0.0.1:0"
"""

# nft as openNDS 9 of Debian 12 uses it and iptables of the same do not agree on some kernels (6.x):
# it makes base chains with a priority that iptables-nft then refuses to share.
NFT = """#!/bin/sh
left=$#
while [ $left -gt 0 ]; do
    word=$(printf '%s' "$1" | sed 's/priority -100/priority 0/g')
    shift
    set -- "$@" "$word"
    left=$((left - 1))
done
exec /usr/sbin/nft "$@"
"""

GATEWAY = """
set -e
mount --bind {directory} /mnt
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount --bind /mnt/etc /etc
mount --bind /mnt/leases /var/lib/misc
mount --bind {busybox} {shell}
/usr/sbin/nft -f /mnt/tally.nft
setpriv --pdeathsig KILL dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts \
    --no-resolv --address=/#/{internet} --user=root --interface=lan0 --bind-interfaces \
    --dhcp-range=10.10.0.50,10.10.0.99,1h \
    --dhcp-leasefile=/var/lib/misc/dnsmasq.leases --pid-file=/run/dnsmasq.pid &
echo ready
exec /bin/sleep 3600
"""

TALLY = """
table ip tally {
    counter up {}
    counter down {}
    chain passed {
        type filter hook forward priority 310;
        iifname lan0 oifname inet0 counter name up
        iifname inet0 oifname lan0 counter name down
    }
}
"""

LEASE = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/24" dev eth0
ip route add default via "$router"
"""

SERVER = """
import http.server
import socket
import time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        # Who is cut off is given up: else answers are sent again for minutes.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)

    def do_GET(self):
        if self.path == "/generate_204":
            self.send_response(204)
            self.end_headers()
            return
        pace, _, text = self.path.rpartition("/")
        size = int(text) if text.isdigit() else 5
        self.send_response(200)
        self.send_header("content-length", str(size))
        self.end_headers()
        try:
            while pace == "/paced" and size > 70_000:
                self.wfile.write(b"x" * 70_000)
                size -= 70_000
                time.sleep(0.1)
            self.wfile.write(b"x" * size)
        except OSError:
            pass

    def do_POST(self):
        left = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 65536)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
"""


@functools.cache
def version() -> str:
    """The first number of this machine's openNDS, "" where there is none."""
    if shutil.which("opennds") is None:
        return ""
    said = subprocess.run(["opennds", "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"([0-9]+)\.[0-9]", said.stdout + said.stderr)
    return found[1] if found else ""


def missing() -> list[str]:
    """What this machine lacks for such a village: tools, or the right to make namespaces."""
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return lacking
    name = f"pestry{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return ["the right to make network namespaces"]
    subprocess.run(["ip", "netns", "del", name], check=True)
    return []


def wait_until(is_so: Callable[[], object], within_s: float = 60.0, every_s: float = 0.2) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        time.sleep(every_s)


@dataclass(frozen=True)
class Tally:
    """Octets of IP packets between phone and internet that the gateway let through."""

    up: int
    down: int

    @property
    def octets(self) -> int:
        """Both directions."""
        return self.up + self.down


class OpenndsVillage:
    """Sets everything up but the node and our program, which `start_node` and `start_agent` do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.prefix = f"pes{os.getpid()}"
        self.node_directory = directory / "node"
        self.node: RunningNode | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._gateway_pid = 0
        self._opennds: subprocess.Popen[bytes] | None = None

    # -- the places ------------------------------------------------------------------------

    def name(self, place: str) -> str:
        """The namespace of `phone`, `gw`, `node` or `inet`."""
        return f"{self.prefix}{place}"

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _build(self) -> None:
        _forget_the_dead()
        for place in ("phone", "gw", "node", "inet"):
            self._ip("netns", "add", self.name(place))
            self._ip("-n", self.name(place), "link", "set", "lo", "up")
        for near, far in (("lan0", "phone"), ("wan0", "node"), ("inet0", "inet")):
            ends = ("peer", "name", "eth0", "netns", self.name(far))
            self._ip("link", "add", near, "netns", self.name("gw"), "type", "veth", *ends)
        self._ip("-n", self.name("phone"), "link", "set", "eth0", "address", PHONE_MAC)
        addresses = (
            *(("gw", "lan0", "10.10.0.1"), ("gw", "wan0", "10.20.0.1")),
            *(("gw", "inet0", "203.0.113.1"), ("node", "eth0", "10.20.0.2")),
            *(("inet", "eth0", INTERNET),),
        )
        for place, device, address in addresses:
            self._ip("-n", self.name(place), "address", "add", f"{address}/24", "dev", device)
            self._ip("-n", self.name(place), "link", "set", device, "up")
        self._ip("-n", self.name("phone"), "link", "set", "eth0", "up")
        for place, router in (("node", "10.20.0.1"), ("inet", "203.0.113.1"), ("gw", INTERNET)):
            self._ip("-n", self.name(place), "route", "add", "default", "via", router)
        forwarding = Path(f"/etc/netns/{self.name('phone')}")
        forwarding.mkdir(parents=True)
        (forwarding / "resolv.conf").write_text("nameserver 10.10.0.1\n")
        self.run_in("gw", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._start("inet", sys.executable, "-c", SERVER)
        # Something of the node that is not the portal.
        self._start("node", sys.executable, "-c", SERVER)
        self._make_gateway()
        self._lease()

    def _make_gateway(self) -> None:
        here = self.directory
        shutil.copytree("/etc", here / "etc", symlinks=True)
        for name in ("leases", "bin", "applets"):
            (here / name).mkdir()
        written = [("tally.nft", TALLY), ("lease.sh", LEASE)]
        if version() == "9":
            written.append(("bin/nft", NFT))
        for name, text in written:
            (here / name).write_text(text)
            (here / name).chmod(0o755)
        busybox = shutil.which("busybox")
        assert busybox is not None
        for applet in APPLETS:
            (here / "applets" / applet).symlink_to(busybox)
        script = GATEWAY.format(
            directory=here,
            busybox=busybox,
            shell=Path("/bin/sh").resolve(),
            internet=INTERNET,
        )
        holder = subprocess.Popen(
            [
                *WITH_US,
                *("ip", "netns", "exec", self.name("gw")),
                *("unshare", "--mount", "--propagation", "private", "/bin/bash", "-c", script),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._processes.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n", "the gateway could not be made"
        self._gateway_pid = holder.pid

    def _lease(self) -> None:
        self.run_in(
            "phone",
            *("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "60", "-T", "1"),
            *("-s", str(self.directory / "lease.sh")),
        )
        said = self.run_in("phone", "ip", "-4", "-o", "address", "show", "eth0")
        self.phone_ip = said.split("inet ")[1].split("/")[0]

    def close(self) -> None:
        """Take it all down."""
        if self.node is not None:
            self.node.__exit__()
            self.node = None
        for process in reversed(self._processes):
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for place in ("phone", "gw", "node", "inet"):
            listed = subprocess.run(
                ["ip", "netns", "pids", self.name(place)],
                capture_output=True,
                text=True,
                check=False,
            )
            for number in listed.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)
            subprocess.run(
                ["ip", "netns", "del", self.name(place)], capture_output=True, check=False
            )
        shutil.rmtree(f"/etc/netns/{self.name('phone')}", ignore_errors=True)

    # -- doing things there ----------------------------------------------------------------

    def _start(self, place: str, *words: str, log: str | None = None) -> "subprocess.Popen[bytes]":
        prefix = ["ip", "netns", "exec", self.name(place)] if place != "gateway" else self.enter()
        with open(self.directory / (log or "processes.log"), "ab") as file:
            process = subprocess.Popen(
                [*WITH_US, *prefix, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._processes.append(process)
        return process

    def enter(self, path: str = "/mnt/bin") -> list[str]:
        """How to run something in the gateway, its file system included."""
        return [
            *("nsenter", "--target", str(self._gateway_pid), "--mount", "--net"),
            *("env", "-i", f"PATH={path}:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]

    def run_in(self, place: str, *words: str, is_fine: bool = True) -> str:
        """Run a command to its end in a namespace; what it said."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name(place), *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not is_fine or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def clients(self) -> str:
        """What openNDS knows of its clients; it answers one at a time."""
        said = ""

        def has_told() -> bool:
            nonlocal said
            said = self.on_gateway("ndsctl", "json")
            return "client_list_length" in said

        # openNDS 10 takes a while to start: hundreds of calls of its shell library.
        wait_until(has_told, 180)
        return said

    def on_gateway(self, *words: str) -> str:
        """Run a command to its end on the gateway; what it said."""
        done = subprocess.run(
            [*self.enter(), *words], capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout

    # -- openNDS, our program, the node ----------------------------------------------------

    def start_opennds(self) -> None:
        """Start it, and wait until it redirects."""
        self._opennds = self._start("gateway", "opennds", "-f", "-d", "1", log="opennds.log")
        self.clients()

    def stop_opennds(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        assert self._opennds is not None
        self._opennds.send_signal(number)
        self._opennds.wait(60)

    def start_agent(self) -> None:
        """Start our program with nothing but BusyBox's tools before it in the path."""
        words = [*WITH_US, *self.enter("/mnt/applets"), "/mnt/agent.sh", "run"]
        with open(self.directory / "agent.log", "ab") as log:
            self.agent = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(self.agent)

    def stop_agent(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End our program."""
        assert self.agent is not None
        self.agent.send_signal(number)
        self.agent.wait(60)

    def make_node(self, **profiles: dict[str, str]) -> None:
        """A node's directory with the gateway pos-1, and the configuration it makes, in place."""
        directory = self.node_directory
        directory.mkdir()
        (directory / "pesisir.toml").write_text(SETTINGS)
        self.pesisir("init", "--site", "TJL", "--name", "Tanjung Laut", "--zone", "WITA")
        for name, limits in profiles.items():
            options = [word for key, text in limits.items() for word in (f"--{key}", text)]
            self.pesisir("profile", "set", name, *options)
        self.pesisir(
            *("gateway", "add", "pos-1", "--family", "opennds", "--address", "10.20.0.1"),
            *("--guest-net", "10.10.0.0/24"),
        )
        made = self.pesisir(
            *("gateway", "config", "pos-1", "--version", version(), "--guest-if", "lan0"),
            *("--portal-url", PORTAL),
        )
        files = {file["name"]: file["text"] for file in made["files"]}
        self._configure(files)
        agent = files["opennds-agent.sh"]
        for old, new in (
            ("CHECK_S=5", "CHECK_S=1"),
            ("MOST_INTERIM_S=300", "MOST_INTERIM_S=3"),
            ("RETRY_S=10", "RETRY_S=1"),
            ("SEE_AGAIN_S=60", "SEE_AGAIN_S=5"),
        ):
            agent = _replaced(agent, old, new)
        (self.directory / "agent.sh").write_text(agent)
        (self.directory / "agent.sh").chmod(0o700)

    def _configure(self, files: dict[str, str]) -> None:
        """The files where this openNDS reads them, looking every second and not every five."""
        ours, here = "/usr/lib/pesisir/opennds-agent.sh", self.directory
        if version() == "9":
            conf = _replaced(
                files["opennds-debian.conf"], f"binauth {ours}", "binauth /mnt/agent.sh"
            )
            conf = _replaced(conf, "checkinterval 5", "checkinterval 1")
            (here / "etc" / "opennds" / "opennds.conf").write_text(conf)
            return
        conf = _replaced(files["opennds-debian-10.conf"], "checkinterval '5'", "checkinterval '1'")
        conf = conf.replace(ours, "/mnt/agent.sh")
        (here / "etc" / "config").mkdir(exist_ok=True)
        (here / "etc" / "config" / "opennds").write_text(conf)
        script = here / "custombinauth.sh"
        script.write_text(_replaced(files["opennds-custombinauth.sh"], ours, "/mnt/agent.sh"))
        script.chmod(0o755)
        self.on_gateway("mount", "--bind", f"/mnt/{script.name}", f"/usr/lib/opennds/{script.name}")

    def start_node(self) -> None:
        """Start the node, and wait until it is ready."""
        prefix = [*WITH_US, "ip", "netns", "exec", self.name("node")]
        self.node = RunningNode(self.node_directory, program=[*prefix, *PROGRAM])

    def stop_node(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the node."""
        assert self.node is not None
        self.node.stop(number)
        self.node = None

    def pesisir(self, *words: str) -> Any:
        """The JSON of a command that succeeds."""
        return pesisir("--dir", self.node_directory, *words, "--json").json

    # -- the phone -------------------------------------------------------------------------

    def probe(self) -> tuple[int, str]:
        """Status and target of a redirect of what a phone asks to see whether it is online."""
        shape = "%{http_code} %{redirect_url}"
        said = self.run_in(
            "phone",
            *("curl", "-s", "-o", "/dev/null", "-m", "5", "-w", shape, PROBE),
            is_fine=False,
        )
        status, _, target = said.partition(" ")
        return int(status or 0), target

    def reaches_the_nodes_other_port(self) -> bool:
        """Whether the phone gets anything of the node that is not the portal."""
        said = self.run_in("phone", "curl", "-s", "-m", "3", "http://10.20.0.2/5", is_fine=False)
        return bool(said)

    def download(self, octets: int, *, paced: bool = False) -> int:
        """How many octets of a download came; `paced`: 700 kB a second, as from far away."""
        path = f"paced/{octets}" if paced else str(octets)
        said = self.run_in(
            "phone",
            # Ten seconds without an octet are the end, or without a connection: who is cut off gets
            # no word.
            *("curl", "-s", "-o", "/dev/null", "-Y", "1", "-y", "10", "--connect-timeout", "10"),
            *("-w", "%{size_download}"),
            f"http://{INTERNET}/{path}",
            is_fine=False,
        )
        return int(said or 0)

    def upload(self, octets: int) -> None:
        """Send so many octets."""
        file = self.directory / "upload"
        file.write_bytes(b"y" * octets)
        self.run_in("phone", "curl", "-s", "-m", "30", "-T", str(file), "-X", "POST", INTERNET)

    def tally(self) -> Tally:
        """What the gateway's kernel counted so far."""
        listed = self.on_gateway("/usr/sbin/nft", "-j", "list", "counters", "table", "ip", "tally")
        counters = [one["counter"] for one in json.loads(listed)["nftables"] if "counter" in one]
        return Tally(**{one["name"]: one["bytes"] for one in counters})


def _forget_the_dead() -> None:
    """Remove the names of empty namespaces whose test was killed."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        found = re.match(r"(pes([0-9]+)(?:phone|gw|node|inet))\b", line)
        if found is None or Path(f"/proc/{found[2]}").exists():
            continue
        inside = subprocess.run(["ip", "netns", "pids", found[1]], capture_output=True, check=False)
        if not inside.stdout.strip():
            subprocess.run(["ip", "netns", "del", found[1]], capture_output=True, check=False)
            shutil.rmtree(f"/etc/netns/{found[1]}", ignore_errors=True)


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, (old, text.count(old))
    return text.replace(old, new)
