"""For tests of accidents: a node's directory with cards, gateways that ask a running node by hand,
and a program that is loaded once and starts a node in a tenth of the time, to be killed.

`RunningNode` of command.py is the ordinary way to run a node; `Warm` is for tests that start one
many times.
"""

import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPConnection
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLING_STATION_ID,
    CLASS,
    FRAMED_IP_ADDRESS,
    NAS_IDENTIFIER,
    REPLY_MESSAGE,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    PacketError,
    attribute,
    integer_attribute,
    sign_request,
    verify_response,
)
from radius.password import hide
from tests.e2e.command import SETTINGS, STOP, environment, pesisir

SECRET = "rahasia-pos-0123456789"
LOST_CARRIER = 2
START_WITHIN_S = 120
ROOT = Path(__file__).resolve().parents[2]

Address = tuple[str, int]


# --- a directory


def make(directory: Path, **profiles: Mapping[str, str]) -> Path:
    """A node's directory at ports of the system's choice, with `profiles` (name -> options of
    `profile set`) and the gateway pos-1 at 127.0.0.1."""
    directory.mkdir(exist_ok=True)
    (directory / "pesisir.toml").write_text(SETTINGS)
    run(directory, "init", "--site", "TJL", "--name", "Tanjung Laut", "--zone", "WITA")
    for name, limits in profiles.items():
        options = [word for key, text in limits.items() for word in (f"--{key}", text)]
        run(directory, "profile", "set", name, *options)
    add_gateway(directory, "pos-1", "127.0.0.1")
    return directory


def run(directory: Path, *words: str) -> Any:
    """The JSON of a command that succeeds."""
    return pesisir("--dir", directory, *words, "--json").json


def add_gateway(directory: Path, name: str, address: str, *more: str) -> None:
    """Add a gateway with the secret that all have here."""
    options = ("--family", "coova", "--address", address, "--secret", SECRET, *more)
    run(directory, "gateway", "add", name, *options)


def issue(directory: Path, profile: str, count: int = 1) -> list[tuple[str, str]]:
    """New cards: serial and code of each."""
    made = run(directory, "voucher", "issue", "--profile", profile, "--count", str(count))
    return [(card["serial"], card["code"]) for card in made["vouchers"]]


def used(directory: Path, serial: str) -> tuple[int, int]:
    """Octets and seconds a card has used, as `voucher show` says."""
    shown = run(directory, "voucher", "show", serial)
    return shown["octets_used"], shown["seconds_used"]


def sessions(directory: Path, *more: str) -> dict[str, dict[str, Any]]:
    """Every session of `session list` by its Acct-Session-Id; two rows for one are a failure."""
    listed = run(directory, "session", "list", "--limit", "100000", *more)
    found = {row["acct_session_id"]: row for row in listed}
    assert len(found) == len(listed), "a session was made twice"
    return found


# --- a running node, asked by hand


def wait_until(is_so: Callable[[], bool], within_s: float = 60.0) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def addresses(ready: str, name: str) -> list[Address]:
    """The addresses of http, auth or acct in a ready line."""
    found = re.findall(rf" {name}=(?:https?://)?\[?([0-9a-f.:]+)\]?:([0-9]+)(?= |$)", ready.strip())
    return [(host, int(port)) for host, port in found]


def http_status(address: Address, path: str) -> int:
    """The status of a GET."""
    connection = HTTPConnection(*address, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def login_body(code: str, mac: str, authenticator: bytes, secret: bytes) -> bytes:
    """Attributes of an Access-Request of a card typed at the gateway's own page."""
    return (
        attribute(USER_NAME, code.encode())
        + attribute(USER_PASSWORD, hide(code.encode(), authenticator, secret))
        + attribute(CALLING_STATION_ID, mac.encode())
    )


def report_body(
    status: int,
    acct_session_id: str,
    *,
    mac: str,
    ip: str,
    octets: tuple[int, int] = (0, 0),
    seconds: int = 0,
    class_value: bytes | None = None,
    user: str = "",
) -> bytes:
    """Attributes of an Accounting-Request; `octets` are those from and to the phone."""
    body = (
        integer_attribute(ACCT_STATUS_TYPE, status)
        + attribute(ACCT_SESSION_ID, acct_session_id.encode())
        + attribute(CALLING_STATION_ID, mac.encode())
        + attribute(FRAMED_IP_ADDRESS, ip_address(ip).packed)
        + integer_attribute(ACCT_INPUT_OCTETS, octets[0] & 0xFFFFFFFF)
        + integer_attribute(ACCT_INPUT_GIGAWORDS, octets[0] >> 32)
        + integer_attribute(ACCT_OUTPUT_OCTETS, octets[1] & 0xFFFFFFFF)
        + integer_attribute(ACCT_OUTPUT_GIGAWORDS, octets[1] >> 32)
        + integer_attribute(ACCT_SESSION_TIME, seconds)
    )
    if user:
        body += attribute(USER_NAME, user.encode())
    if class_value is not None:
        body += attribute(CLASS, class_value)
    if status == STOP:
        body += integer_attribute(ACCT_TERMINATE_CAUSE, LOST_CARRIER)
    return body


class Nas:
    """A gateway with one phone behind it, that asks one question at a time."""

    def __init__(
        self,
        ready: str,
        *,
        secret: str = SECRET,
        source: str = "127.0.0.1",
        nas_id: str | None = None,
        mac: str = "02-5A-00-00-00-01",
        ip: str = "10.1.0.7",
    ) -> None:
        self.auth, self.acct = addresses(ready, "auth")[0], addresses(ready, "acct")[0]
        self.secret = secret.encode()
        self._nas_id = nas_id
        self.mac, self.ip = mac, ip
        self.class_value: bytes | None = None
        self._identifier = secrets.randbelow(256)
        self._socket = socket.socket(
            socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM
        )
        self._socket.bind((source, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, code: int, body: bytes, to: Address, within_s: float = 30.0) -> Packet | None:
        """Send a request once; its answer, None when none that is signed rightly comes."""
        self._identifier = (self._identifier + 1) % 256
        is_accounting = code == ACCOUNTING_REQUEST
        if self._nas_id is not None:
            body += attribute(NAS_IDENTIFIER, self._nas_id.encode())
        datagram = sign_request(
            code,
            self._identifier,
            body,
            self.secret,
            message_authenticator=not is_accounting,
            authenticator=None if is_accounting else self._authenticator,
        )
        self._socket.sendto(datagram, to)
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            reply = self._socket.recv(4096)
            if reply[1] == self._identifier:
                with suppress(PacketError):
                    return verify_response(datagram[4:20], reply, self.secret)
        return None

    def log_in(self, code: str, within_s: float = 30.0) -> Packet | None:
        """Type a card's code at the gateway's own page."""
        self._authenticator = secrets.token_bytes(16)
        body = login_body(code, self.mac, self._authenticator, self.secret)
        answer = self.ask(ACCESS_REQUEST, body, self.auth, within_s)
        if answer is not None and answer.code == ACCESS_ACCEPT:
            self.class_value = answer.first[CLASS]
        return answer

    def message(self, code: str) -> str:
        """What a refused card is told."""
        answer = self.log_in(code)
        assert answer is not None and answer.code != ACCESS_ACCEPT, answer
        return answer.first[REPLY_MESSAGE].decode()

    def report(
        self,
        status: int,
        acct_session_id: str,
        octets: tuple[int, int] = (0, 0),
        seconds: int = 0,
        within_s: float = 30.0,
    ) -> bool:
        """Report the phone's session; whether that was answered."""
        body = report_body(
            *(status, acct_session_id),
            mac=self.mac,
            ip=self.ip,
            octets=octets,
            seconds=seconds,
            class_value=self.class_value,
        )
        return self.ask(ACCOUNTING_REQUEST, body, self.acct, within_s) is not None

    def is_alive(self, to: Address, within_s: float = 30.0) -> bool:
        """Whether Status-Server is answered there."""
        self._authenticator = secrets.token_bytes(16)
        return self.ask(STATUS_SERVER, b"", to, within_s) is not None


# --- a node to be killed


class WarmNode:
    """A node that was forked from a loaded program: its own process, sockets and locks."""

    def __init__(self, process_id: int, stdout: int) -> None:
        self.process_id = process_id
        self._process = os.pidfd_open(process_id)
        self._stdout = os.fdopen(stdout, "rb")
        self.ready = ""
        self.has_ended = False

    def wait_ready(self) -> None:
        """Wait for the ready line."""
        readable, _, _ = select.select([self._stdout], [], [], START_WITHIN_S)
        self.ready = self._stdout.readline().decode() if readable else ""
        assert self.ready.startswith("ready "), "the node never was ready; see its log"

    def end(self, number: int = signal.SIGKILL) -> float:
        """Signal it and wait until it is gone; the seconds that took."""
        begun_at = time.monotonic()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, number)
        assert select.select([self._process], [], [], 60)[0], "still there"
        self.has_ended = True
        os.close(self._process)
        self._stdout.close()
        return time.monotonic() - begun_at


class Warm:
    """The program, loaded once: `start` forks a node from it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._nodes: list[WarmNode] = []
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c"),
                    "import sys; from tests.e2e.node_process import fork_on_demand;"
                    " fork_on_demand(int(sys.argv[1]))",
                    str(theirs.fileno()),
                ],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(self, directory: Path) -> WarmNode:
        """`pesisir node` on a directory; returns at once."""
        reading, writing = os.pipe()
        errors = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            words = ["--dir", str(directory), "node"]
            socket.send_fds(self._ours, [json.dumps(words).encode()], [writing, errors])
        finally:
            os.close(writing)
            os.close(errors)
        node = WarmNode(int(self._ours.recv(100)), reading)
        self._nodes.append(node)
        return node

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            if not node.has_ended:
                node.end()
        self._ours.close()
        self._process.wait(60)


def fork_on_demand(descriptor: int) -> None:
    """Load the program, then fork a command for each message until the other end closes."""
    import portal.cli
    import portal.serve  # what `pesisir node` imports when it runs

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as wishes:
        while True:
            message, descriptors, _, _ = socket.recv_fds(wishes, 65536, 2)
            if not message:
                return
            process_id = os.fork()
            if process_id == 0:
                wishes.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, passed in enumerate(descriptors, 1):
                    os.dup2(passed, number)
                    os.close(passed)
                sys.stdout = open(1, "w", closefd=False)
                portal.cli.main(json.loads(message))
            for passed in descriptors:
                os.close(passed)
            wishes.send(str(process_id).encode())
