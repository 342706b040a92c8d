"""The program on an openNDS gateway, in the shells it may meet, with BusyBox's tools alone in its
path; openNDS, the kernel's counters and the node are played.

What it does with the real openNDS is in tests/e2e/test_opennds.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from portal.opennds.talk import OK, STALE, Challenges, agent_key, read, write
from tests.unit.gateway_place import Place

SHELLS = {"busybox ash": ["busybox", "ash"], "dash": ["dash"]}
"""OpenWrt's and Debian's."""
LACKING = [tool for tool in ("busybox", "dash") if shutil.which(tool) is None]
APPLETS = ("awk", "logger", "mkdir", "mv", "rm", "sha256sum", "sleep", "timeout", "tr", "wget")
"""`timeout` stands for the -T that OpenWrt's wget has and Debian's BusyBox has not."""
MAC, IP, TOKEN = "02:aa:bb:cc:dd:01", "10.65.0.7", "1a2b3c4d"
HID = sha256(TOKEN.encode()).hexdigest()
CLASS = "01" * 45
SERIAL = "A017-23"
LIMITS = "86400 0 0 0 0 60"

pytestmark = pytest.mark.skipif(
    bool(LACKING) and os.environ.get("CI") != "true",
    reason=f"not installed: {', '.join(LACKING)}",
)

NDSCTL = """#!{python} -S
import json, pathlib, subprocess, sys
lab = pathlib.Path({lab!r})
order, *words = sys.argv[1:]
clients = json.loads((lab / "clients.json").read_text())
with open(lab / "ndsctl.log", "a") as log:
    if order != "json":
        log.write(" ".join(sys.argv[1:]) + "\\n")
if (lab / "busy").exists():
    (lab / "busy").unlink()
    sys.exit(4)
def keep(clients):
    (lab / "clients.kept").write_text(json.dumps(clients))
    (lab / "clients.kept").rename(lab / "clients.json")
def tell(method, client):
    subprocess.run([str(lab / "agent.sh"), method, client["mac"], "0", "0", "0", "0",
                    client["token"], "x"], check=True)
if order == "json":
    said = {{"client_list_length": str(len(clients)), "clients": {{c["mac"]: c for c in clients}}}}
    print(json.dumps(said, indent=2))
    sys.exit(0)
for client in clients:
    if words[0] in (client["mac"], client["token"]):
        break
else:
    sys.exit(1)
if order == "auth":
    if client["state"] != "Preauthenticated":
        sys.exit(1)
    client["state"] = "Authenticated"
    keep(clients)
    tell("ndsctl_auth", client)
elif order == "deauth":
    clients.remove(client)
    keep(clients)
    tell("ndsctl_deauth", client)
"""

NFT = """#!{python} -S
import pathlib, sys
lab = pathlib.Path({lab!r})
if sys.argv[1:] == ["-f", "-"]:
    (lab / "table").write_text(sys.stdin.read())
elif sys.argv[1:5] == ["list", "set", "ip", "pesisir"] and (lab / "table").exists():
    way = sys.argv[5]
    octets = (lab / way).read_text()
    print("table ip pesisir {{\\n\\tset " + way + " {{\\n\\t\\ttype ipv4_addr\\n\\t\\tsize 65535\\n"
          "\\t\\tflags dynamic\\n\\t\\telements = {{ 10.65.9.9 counter packets 1 bytes 77,\\n"
          "\\t\\t\\t     {ip} counter packets 9 bytes " + octets + " }}\\n\\t}}\\n}}")
else:
    sys.exit(1)
"""


class PlayedNode:
    """The node's side of the talk, over real HTTP: what it heard, and commands to tell."""

    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key
        self.heard: list[list[str]] = []
        self.commands: list[str] = []
        self.challenges = Challenges()
        self.is_away = False
        self.forged = 0
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                answer = node.answer(body, self.is_there)
                if node.is_away or answer is None:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer.encode())

            def is_there(self) -> bool:
                try:
                    return len(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)) > 0
                except BlockingIOError:
                    return True
                except OSError:
                    return False

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, body: bytes, is_there: Callable[[], bool]) -> str | None:
        letter = read(body, self.name, self.key)
        if letter is None or self.is_away:
            return None
        is_good = self.challenges.take(letter)
        challenge = self.challenges.newest(os.urandom(16).hex(), 0)
        if not is_good:
            return write(STALE, letter.nonce, challenge, [], self.name, self.key)
        self.heard += letter.lines
        lines = [f"ok {w[0]} {w[1]}" for w in letter.lines if w[0] in ("start", "use", "stop")]
        lines += ["ok on -"] if ["on"] in letter.lines else []
        if ["listen"] in letter.lines:
            deadline = time.monotonic() + 1
            while not self.commands and time.monotonic() < deadline:
                time.sleep(0.02)
            # Who was killed while it listened takes no command with it.
            if is_there():
                lines += self.commands
                self.commands = []
        nonce = letter.nonce
        if self.forged:
            # Somebody on the way: another nonce, an old answer; then another key.
            self.forged -= 1
            nonce = "0" * 32 if self.forged % 2 else nonce
        key = self.key if not self.forged or self.forged % 2 else "f" * 64
        return write(OK, nonce, challenge, lines, self.name, key)

    def said(self, word: str) -> list[list[str]]:
        """The lines that began with this word."""
        return [line for line in list(self.heard) if line[0] == word]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Lab:
    """A played gateway with our program on it."""

    def __init__(self, directory: Path, shell: list[str], text: str, node: PlayedNode) -> None:
        self.directory, self.node, self.shell = directory, node, shell
        self.state = directory / "state"
        for name in ("bin",):
            (directory / name).mkdir()
        for applet in APPLETS:
            (directory / "bin" / applet).symlink_to(str(shutil.which("busybox")))
        fill = {"python": sys.executable, "lab": str(directory), "ip": IP}
        for name, program in (("ndsctl", NDSCTL), ("nft", NFT)):
            (directory / "bin" / name).write_text(program.format(**fill))
            (directory / "bin" / name).chmod(0o755)
        for old, new in (
            ("CHECK_S=5", "CHECK_S=0.2"),
            ("MOST_INTERIM_S=300", "MOST_INTERIM_S=1"),
            ("RETRY_S=10", "RETRY_S=0.3"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        head, _, rest = text.partition("\n")
        assert head == "#!/bin/sh"
        found = str(shutil.which(shell[0]))
        (directory / "agent.sh").write_text("\n".join((" ".join(["#!" + found, *shell[1:]]), rest)))
        (directory / "agent.sh").chmod(0o755)
        self.set_clients("Preauthenticated")
        self.count(0, 0)
        self.process: subprocess.Popen[bytes] | None = None

    def set_clients(self, state: str | None, token: str = TOKEN) -> None:
        client = {"mac": MAC, "ip": IP, "token": token, "state": state}
        client |= {"download_this_session": "0", "upload_this_session": "0"}
        text = json.dumps([] if state is None else [client])
        (self.directory / "clients.new").write_text(text)
        (self.directory / "clients.new").rename(self.directory / "clients.json")

    def count(self, up: int, down: int) -> None:
        for way, octets in (("up", up), ("down", down)):
            (self.directory / f"{way}.new").write_text(str(octets))
            (self.directory / f"{way}.new").rename(self.directory / way)

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.directory}/bin", "PESISIR_STATE": str(self.state)}

    def start(self) -> None:
        with open(self.directory / "agent.log", "ab") as log:
            self.process = subprocess.Popen(
                [str(self.directory / "agent.sh"), "run"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)
        self.process = None

    def binauth(self, *words: str) -> str:
        done = subprocess.run(
            [str(self.directory / "agent.sh"), *words],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def orders(self) -> list[str]:
        """What ndsctl was told."""
        path = self.directory / "ndsctl.log"
        return path.read_text().splitlines() if path.exists() else []

    def let_in(self, number: str, session: str, limits: str = LIMITS, hid: str = HID) -> None:
        self.node.commands.append(f"auth {number} {session} {MAC} {hid} {limits} {CLASS} {SERIAL}")

    def close(self) -> None:
        if self.process is not None:
            self.stop()
        (self.state / "pid").unlink(missing_ok=True)


def wait_until(is_so: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


in_both_shells = pytest.mark.parametrize("lab", SHELLS, indirect=True)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The program as it is generated, and its key."""
    place = Place(tmp_path_factory.mktemp("place"))
    gateway = place.gateway("opennds")
    yield place.files("opennds", "10")["opennds-agent.sh"], agent_key(gateway.secret)


@pytest.fixture(params=["busybox ash"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, texts: tuple[str, str]) -> Iterator[Lab]:
    shell = SHELLS[request.param]
    text, key = texts
    node = PlayedNode("gw-opennds", key)
    lines = text.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith("NODE="))
    lines[at] = f"NODE='http://127.0.0.1:{node.port}'\n"
    found = Lab(tmp_path, shell, "".join(lines), node)
    try:
        found.start()
        yield found
    finally:
        found.close()
        node.close()
    log = (tmp_path / "agent.log").read_text()
    assert not [line for line in log.splitlines() if "is not signed" not in line], log


@in_both_shells
def test_a_session_from_the_first_word_to_the_last(lab: Lab) -> None:
    node = lab.node
    wait_until(lambda: ["on"] in node.heard)
    wait_until(lambda: ["see", MAC, IP, HID] in node.heard)
    lab.count(5_000, 70_000)  # of the session before, at this address
    lab.let_in("1.a", "0123456789abcdef", "3600 5000000000 512 2048 900 60")
    wait_until(lambda: ["done", "1.a", "ok", IP] in node.heard)
    # 5 GB are 4,882,813 of openNDS's kB, and beyond what a small router's shell calculates.
    assert lab.orders() == [
        f"auth {MAC} 60 512 2048 4882813 4882813 0123456789abcdef",
    ]
    who = ["0123456789abcdef", MAC, IP, CLASS, SERIAL]
    wait_until(lambda: [line[:6] for line in node.said("start")][:1] == [["start", *who]])

    lab.count(25_000, 3_000_070_000)
    wait_until(lambda: any(line[7:9] == ["20000", "3000000000"] for line in node.said("use")))

    lab.count(1_000_025_000, 4_000_070_001)
    wait_until(lambda: node.said("stop"))
    stop = node.said("stop")[-1]
    assert stop[1:6] == who
    assert stop[7:10] == ["1000020000", "4000000001", "quota"]
    assert lab.orders()[-1] == f"deauth {TOKEN}"
    wait_until(lambda: not list(lab.state.glob("s.*")))


@in_both_shells
def test_a_node_that_is_away_is_told_the_same_totals_later(lab: Lab) -> None:
    node = lab.node
    lab.let_in("1.a", "0123456789abcdef", "3600 9000 0 0 0 60")
    wait_until(lambda: ["done", "1.a", "ok", IP] in node.heard)
    node.is_away = True
    lab.count(1_000, 2_000)
    time.sleep(0.6)
    lab.count(4_000, 6_000)  # over the limit: cut without asking anybody
    wait_until(lambda: f"deauth {TOKEN}" in lab.orders())
    wait_until(lambda: list(lab.state.glob("z.*")))
    lab.set_clients("Preauthenticated", "5e6f7081")
    node.challenges = Challenges()  # it has started anew, too
    node.is_away = False
    wait_until(lambda: node.said("stop"))
    assert node.said("stop")[-1][7:10] == ["4000", "6000", "quota"]
    wait_until(lambda: not list(lab.state.glob("s.*")))
    again = sha256(b"5e6f7081").hexdigest()
    wait_until(lambda: ["see", MAC, IP, again] in node.heard)


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_own_restart_changes_no_total(lab: Lab, number: signal.Signals) -> None:
    node = lab.node
    lab.let_in("1.a", "0123456789abcdef")
    wait_until(lambda: ["done", "1.a", "ok", IP] in node.heard)
    lab.count(1_000, 2_000)
    wait_until(lambda: any(line[7:9] == ["1000", "2000"] for line in node.said("use")))
    lab.stop(number)
    lab.count(3_000, 5_000)
    lab.start()
    wait_until(lambda: any(line[7:9] == ["3000", "5000"] for line in node.said("use")))
    assert len({line[1] for line in node.said("use")}) == 1
    assert node.said("stop") == [] and len(node.said("on")) == 1
    # Nobody is left of the first one, else commands would be done twice. One that was done is done.
    lab.let_in("2.a", "0123456789abcdef")
    wait_until(lambda: ["done", "2.a", "ok", IP] in node.heard)
    assert len(lab.orders()) == 1
    # Another login for a phone that is in: it has to begin anew.
    lab.let_in("3.a", "fedcba9876543210")
    wait_until(lambda: ["done", "3.a", "none"] in node.heard)
    assert lab.orders()[1:] == [f"deauth {TOKEN}"]


def test_the_end_of_a_session_comes_with_its_reason(lab: Lab) -> None:
    node = lab.node

    def heard(line: list[str]) -> bool:
        return line in node.heard

    def has_stopped(session: str) -> bool:
        return session in [line[1] for line in node.said("stop")]

    for number, (method, cause) in enumerate(
        (
            ("client_deauth", "user"),
            ("timeout_deauth", "time"),
            ("download_quota_deauth", "quota"),
            ("shutdown_deauth", "reboot"),
        )
    ):
        token, session = f"0000000{number}", f"{number}" * 16
        lab.set_clients("Preauthenticated", token)
        lab.let_in(f"{number}.a", session, hid=sha256(token.encode()).hexdigest())
        wait_until(partial(heard, ["done", f"{number}.a", "ok", IP]))
        # Told before it is gone: three looks without it are an end of their own.
        lab.binauth(method, MAC, "1", "2", "3", "4", token, "x")
        lab.set_clients(None)
        wait_until(partial(has_stopped, session))
        assert node.said("stop")[-1][9] == cause

    # Gone without a word: over after three looks.
    lab.set_clients("Preauthenticated", "0000000a")
    lab.let_in("9.a", "a" * 16, hid=sha256(b"0000000a").hexdigest())
    wait_until(lambda: ["done", "9.a", "ok", IP] in node.heard)
    lab.set_clients(None)
    wait_until(lambda: "a" * 16 in [line[1] for line in node.said("stop")])
    assert node.said("stop")[-1][9] == "lost"


def test_time_and_idleness_end_a_session(lab: Lab) -> None:
    node = lab.node
    lab.let_in("1.a", "1" * 16, "2 0 0 0 0 60")
    wait_until(lambda: node.said("stop"))
    assert node.said("stop")[-1][9] == "time"
    lab.set_clients("Preauthenticated", "00000002")
    lab.let_in("2.a", "2" * 16, "3600 0 0 0 2 60", sha256(b"00000002").hexdigest())
    wait_until(lambda: len(node.said("stop")) == 2)
    assert node.said("stop")[-1][9] == "idle"


def test_commands_for_strangers_do_nothing_and_say_so(lab: Lab) -> None:
    node = lab.node
    lab.let_in("1.a", "1" * 16, hid="0" * 64)
    wait_until(lambda: ["done", "1.a", "none"] in node.heard)
    node.commands.append(f"end 2.a {'2' * 16} {MAC}")
    wait_until(lambda: ["done", "2.a", "none"] in node.heard)
    node.commands.append(f"who 3.a {MAC} {HID}")
    wait_until(lambda: ["done", "3.a", "ok", IP] in node.heard)
    node.commands.append(f"who 4.a {MAC} {'0' * 64}")
    wait_until(lambda: ["done", "4.a", "none"] in node.heard)
    node.commands.append("dance 5.a")
    wait_until(lambda: ["done", "5.a", "none"] in node.heard)
    assert lab.orders() == []


@in_both_shells
def test_the_desks_command_ends_a_session_once(lab: Lab) -> None:
    node = lab.node
    lab.let_in("1.a", "1" * 16)
    wait_until(lambda: ["done", "1.a", "ok", IP] in node.heard)
    lab.count(100, 200)
    node.commands.append(f"end 2.a {'1' * 16} {MAC}")
    wait_until(lambda: ["done", "2.a", "ok"] in node.heard)
    wait_until(lambda: node.said("stop"))
    assert node.said("stop")[-1][7:10] == ["100", "200", "admin"]
    assert lab.orders().count(f"deauth {TOKEN}") == 1


def test_who_got_past_the_portal_is_put_out(lab: Lab) -> None:
    lab.set_clients("Authenticated")
    wait_until(lambda: f"deauth {TOKEN}" in lab.orders())
    assert lab.node.said("start") == []


def test_answers_that_are_old_or_forged_are_not_obeyed(lab: Lab) -> None:
    node = lab.node
    wait_until(lambda: ["on"] in node.heard)
    node.forged = 5
    lab.let_in("1.a", "1" * 16)
    wait_until(lambda: not node.commands)
    wait_until(lambda: node.forged == 0)
    assert lab.orders() == [] and node.said("done") == []
    lab.let_in("2.a", "2" * 16)
    wait_until(lambda: ["done", "2.a", "ok", IP] in node.heard)


def test_counters_that_begin_again_lose_nothing(lab: Lab) -> None:
    node = lab.node
    lab.let_in("1.a", "1" * 16)
    wait_until(lambda: ["done", "1.a", "ok", IP] in node.heard)
    lab.count(1_000, 2_000)
    wait_until(lambda: any(line[7:9] == ["1000", "2000"] for line in node.said("use")))
    (lab.directory / "table").unlink()  # somebody has flushed the firewall
    lab.count(10, 20)
    wait_until(lambda: any(line[7:9] == ["1010", "2020"] for line in node.said("use")))


@in_both_shells
def test_opennds_hears_no_from_the_login_past_the_portal_and_limits_for_ours(lab: Lab) -> None:
    node = lab.node
    lab.let_in("1.a", "1" * 16, "3600 1000 512 2048 0 60")
    wait_until(lambda: ["done", "1.a", "ok", IP] in node.heard)
    assert lab.binauth("auth_client", MAC, "x", "x", IP, TOKEN, "x") == ""
    for words in (("ndsctl_auth",), ("binauth", "ndsctl_auth")):
        said = lab.binauth(*words, MAC, "0", "0", "0", "0", TOKEN, "x")
        assert said == "3600 512 2048 1 1\n"
    assert lab.binauth("ndsctl_auth", MAC, "0", "0", "0", "0", "ffffffff", "x") == ""


def test_a_busy_opennds_is_asked_again(lab: Lab) -> None:
    for _ in range(3):
        (lab.directory / "busy").touch()
        wait_until(lambda: not (lab.directory / "busy").exists())
    lab.let_in("1.a", "1" * 16)
    wait_until(lambda: ["done", "1.a", "ok", IP] in lab.node.heard)
