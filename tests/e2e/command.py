"""The real command for tests: runs `pesisir` as people do, starts nodes, speaks as a gateway."""

import hashlib
import io
import json
import os
import re
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from portal import cli
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    CALLING_STATION_ID,
    CLASS,
    DISCONNECT_ACK,
    DISCONNECT_REQUEST,
    FRAMED_IP_ADDRESS,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    attribute,
    integer_attribute,
    parse,
    sign_request,
)
from radius.password import hide

PROGRAM = [sys.executable, "-m", "portal.cli"]
START, STOP, INTERIM = 1, 2, 3

# Ports the system chooses, on this machine only.
SETTINGS = """
[http]
listen = "127.0.0.1:0"

[radius]
auth = "127.0.0.1:0"
acct = "127.0.0.1:0"
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    def sentence(self, status: int = 1) -> str:
        """The one plain sentence on stderr of a command that was refused."""
        assert self.status == status, (self.status, self.out, self.err)
        assert self.out == ""
        assert self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.rstrip("\n")


def environment(**more: str) -> dict[str, str]:
    """Our own environment without settings of ours."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PESISIR_")}
    return kept | more


def pesisir(*words: str | Path, stdin: str = "", **more: str) -> Outcome:
    """Run the command to its end: the real one, only that Python is running already."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment(**more), clear=True),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main([str(word) for word in words])
        except SystemExit as leaving:
            assert isinstance(leaving.code, int)
            return Outcome(leaving.code, out.getvalue(), err.getvalue())
        raise AssertionError("the command did not leave with a status")


def process(*words: str | Path, stdin: str = "", **more: str) -> Outcome:
    """Run the command to its end in a process of its own."""
    done = subprocess.run(
        [*PROGRAM, *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class RunningNode:
    """`pesisir node` on a directory, from its "ready" line to SIGTERM."""

    def __init__(
        self,
        directory: Path,
        *,
        program: Sequence[str] = PROGRAM,
        cwd: Path | None = None,
        **settings: str,
    ) -> None:
        with open(directory / "node.log", "w") as log:
            self.process = subprocess.Popen(
                [*program, "node", "--dir", str(directory)],
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment(**settings),
            )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], 120)
        self.ready = self.process.stdout.readline() if readable else ""
        assert self.ready.startswith("ready "), (directory / "node.log").read_text()

    def address(self, name: str) -> tuple[str, int]:
        """The real address of http, auth or acct out of the ready line."""
        found = re.search(rf" {name}=(?:https?://)?([0-9.]+):([0-9]+)", self.ready)
        assert found is not None, self.ready
        return found[1], int(found[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


class Gateway:
    """A gateway at 127.0.0.1 that logs one phone in by card code and reports what it used."""

    def __init__(self, node: RunningNode, secret: str, *, mac: str = "02-5A-00-11-22-33") -> None:
        self._auth, self._acct = node.address("auth"), node.address("acct")
        self._secret = secret.encode()
        self._mac = mac
        self._identifier = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(30)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ask(self, code: int, body: bytes, to: tuple[str, int], authenticator: bytes) -> Packet:
        self._identifier += 1
        is_access = code == ACCESS_REQUEST
        datagram = sign_request(
            code,
            self._identifier,
            body,
            self._secret,
            message_authenticator=is_access,
            authenticator=authenticator if is_access else None,
        )
        self._socket.sendto(datagram, to)
        return parse(self._socket.recv(4096))

    def log_in(self, code: str) -> bytes | None:
        """The Class of the Access-Accept, None when the card was rejected."""
        authenticator = secrets.token_bytes(16)
        body = (
            attribute(USER_NAME, code.encode())
            + attribute(USER_PASSWORD, hide(code.encode(), authenticator, self._secret))
            + attribute(CALLING_STATION_ID, self._mac.encode())
        )
        answer = self._ask(ACCESS_REQUEST, body, self._auth, authenticator)
        return answer.first[CLASS] if answer.code == ACCESS_ACCEPT else None

    def report(
        self, status: int, session_id: str, class_value: bytes, *, up: int, down: int, time_s: int
    ) -> None:
        """Send an Accounting-Request and wait for its answer."""
        body = (
            integer_attribute(ACCT_STATUS_TYPE, status)
            + attribute(ACCT_SESSION_ID, session_id.encode())
            + attribute(CALLING_STATION_ID, self._mac.encode())
            + attribute(FRAMED_IP_ADDRESS, socket.inet_aton("10.1.0.7"))
            + attribute(CLASS, class_value)
            + integer_attribute(ACCT_INPUT_OCTETS, up)
            + integer_attribute(ACCT_OUTPUT_OCTETS, down)
            + integer_attribute(ACCT_SESSION_TIME, time_s)
        )
        self._ask(ACCOUNTING_REQUEST, body, self._acct, b"")

    def acknowledge_disconnect(self) -> None:
        """Wait for a Disconnect-Request, which comes to the accounting socket, and agree to it."""
        request, node = self._socket.recvfrom(4096)
        assert request[0] == DISCONNECT_REQUEST
        head = struct.pack("!BBH", DISCONNECT_ACK, request[1], 20)
        digest = hashlib.md5(head + request[4:20] + self._secret).digest()
        self._socket.sendto(head + digest, node)
