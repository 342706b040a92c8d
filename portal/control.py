"""Control: how a command reaches the data of a directory, whether or not its node runs.

One process at a time owns a directory: it holds `flock` on DIR/pesisir.lock, where its pid stands.
A running node also listens on DIR/pesisir.sock (mode 0600) and runs commands for others; without a
node a command takes the lock for itself. Nothing here knows what the commands do.

On the socket, JSON lines: the node greets with {"pid"}, the caller asks once with {"name",
"arguments"}, the node may send {"progress": [done, total]} and ends with {"value"}, {"error"} or
{"retry"}. A caller sends nothing before the greeting, and a node that stops says "retry" to
everyone it has not begun to serve; so a command is never run twice, and one whose answer is lost
(the node was killed) is never taken for not done. What is listened to (`Following`) is asked for in
the same way and answered with any number of {"line"}, until the caller goes or the node stops
({"end"}). The node's side is in control_server.py.
"""

import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from portal.errors import UserError

LOCK_NAME = "pesisir.lock"
SOCKET_NAME = "pesisir.sock"

Report = Callable[[int, int], None]
"""Says how far long work is: done, total. May be called from any thread."""

Execute = Callable[[str, Mapping[str, Any], Report], Awaitable[object]]
"""Runs the command of that name and returns its JSON value; UserError for people's mistakes."""

SERVED = ("node", "hub")
"""What runs until it is told to stop, and answers on the socket."""
# A node opens its database and closes it within a few seconds; another command may be issuing
# thousands of cards on a slow card.
WAIT_FOR_NODE_S = 15.0
WAIT_FOR_COMMAND_S = 60.0
GREETING_S = 10.0  # an SD card that stalls for 2 s delays the node's loop no longer than this
ANSWER_S = 600.0
# sun_path is 108 bytes on Linux, with its terminating NUL.
_LONGEST_SOCKET_PATH = 107
_PAUSE_S = 0.05


# --- the lock


class Held(UserError):
    """Somebody else owns the directory."""

    def __init__(self, directory: Path, pid: int | None, role: str) -> None:
        self.is_node = role in SERVED
        """Whether it is one that runs until it is told to stop: a node or a hub."""
        who = f" (pid {pid})" if pid else ""
        if self.is_node:
            sentence = f"a {role} is already running in {directory}{who}"
        else:
            sentence = f"another command{f', {role},' if role else ''} is at work in {directory}"
            sentence += who
        super().__init__(sentence)


@contextmanager
def own(directory: Path, role: str, wait_s: float = 0.0) -> Iterator[None]:
    """Own `directory` for the time of the block; `role` tells others who we are ("node", or the
    command's name). Raises Held when a node owns it, or another command does for `wait_s` more.
    """
    descriptor = _take(directory, role, wait_s)
    try:
        give_to_owner(directory)
        try:
            yield
        finally:
            give_to_owner(directory)
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(directory: Path, role: str, wait_s: float) -> int:
    """The locked descriptor of the lock file."""
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(directory, error) from None
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                held = _who(directory, descriptor)
                if held.is_node or time.monotonic() >= deadline:
                    raise held from None
                time.sleep(_PAUSE_S)
        with suppress(OSError):  # on a full disk the lock holds all the same, without a name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {role}\n".encode(), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _who(directory: Path, descriptor: int) -> Held:
    pid, _, role = os.pread(descriptor, 200, 0).decode(errors="replace").strip().partition(" ")
    return Held(directory, int(pid) if pid.isdigit() else None, role)


def give_to_owner(directory: Path) -> None:
    """Hand what root made in somebody else's directory to that user, so that `sudo pesisir ...`
    never leaves files the service cannot open. Does nothing for others.
    """
    if os.geteuid() != 0:
        return
    owner = directory.stat()
    if owner.st_uid == 0:
        return
    for path in directory.glob("pesisir.*"):
        with suppress(OSError):
            found = path.lstat()
            # A link could lead out of the directory.
            if found.st_uid == 0 and found.st_nlink == 1 and not stat.S_ISLNK(found.st_mode):
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def unusable(directory: Path, error: OSError) -> UserError:
    """The sentence for a directory that cannot be worked in."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no directory {directory}; make one with: pesisir init")
    if isinstance(error, PermissionError):
        return UserError(
            f"{directory} cannot be used by this user ({error.strerror}); run the command as the "
            "user it belongs to, or as root"
        )
    return UserError(f"{directory} cannot be used: {error.strerror}")


# --- the caller


class _NotServed(Exception):
    """No node took the request: it may be made again, here or there."""


def call(
    directory: Path,
    name: str,
    arguments: Mapping[str, Any],
    execute: Execute,
    report: Report | None = None,
) -> Any:
    """Run the command `name` in the node of `directory` if one runs, else here with `execute` under
    the lock, and return its JSON value. A node that is just starting or stopping, and other
    commands, are waited for. Raises UserError.
    """
    report = report or _report_nothing
    started = time.monotonic()
    while True:
        with suppress(_NotServed):
            return _ask(directory, name, arguments, report)
        try:
            with own(directory, name):
                return _run_here(name, arguments, execute, report)
        except Held as held:
            patience_s = WAIT_FOR_NODE_S if held.is_node else WAIT_FOR_COMMAND_S
            if time.monotonic() - started > patience_s:
                if held.is_node:
                    raise UserError(f"{held}, but it does not answer") from None
                raise
        time.sleep(_PAUSE_S)


def is_node_running(directory: Path) -> bool:
    """Whether a node owns the directory now (it may still be starting)."""
    try:
        with own(directory, "check"):
            return False
    except Held as held:
        return held.is_node


def _run_here(name: str, arguments: Mapping[str, Any], execute: Execute, report: Report) -> Any:
    # A caller of a running node does not need it, and it takes longer to load than all the rest.
    import asyncio

    async def run() -> object:
        return await execute(name, arguments, report)

    # Through JSON and back, so that both ways give the same value.
    return json.loads(json.dumps(asyncio.run(run())))


def _report_nothing(done: int, total: int) -> None:
    """For callers who do not watch."""


def _ask(directory: Path, name: str, arguments: Mapping[str, Any], report: Report) -> Any:
    """One exchange with the running node. Raises _NotServed when there is none to serve it."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connection, connection.makefile("rb") as answers:
        connection.settimeout(GREETING_S)
        try:
            with socket_address(directory) as address:
                connection.connect(address)
            if not answers.readline().endswith(b"\n"):
                raise _NotServed
            request = json.dumps({"name": name, "arguments": dict(arguments)}).encode()
            connection.sendall(request + b"\n")
        except PermissionError as error:
            raise unusable(directory, error) from None
        except OSError:
            raise _NotServed from None
        connection.settimeout(ANSWER_S)
        so_far = ""
        with suppress(OSError):
            for line in answers:
                answer = json.loads(line) if line.endswith(b"\n") else {}
                if "progress" in answer:
                    report(*answer["progress"])
                    so_far = " (it had come to {} of {})".format(*answer["progress"])
                elif "retry" in answer:
                    raise _NotServed
                elif "error" in answer:
                    raise UserError(answer["error"])
                elif "value" in answer:
                    return answer["value"]
    raise UserError(
        f"the node in {directory} went away before it answered{so_far}; look whether the command "
        "was done before you repeat it"
    )


class Following:
    """The lines of something that a running node tells for as long as one listens; a context."""

    def __init__(self, directory: Path, name: str, arguments: Mapping[str, Any]) -> None:
        """Ask for it. Raises UserError when no node runs, or one that is just stopping."""
        self._directory = directory
        self._left = b""
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(GREETING_S)
        try:
            with socket_address(directory) as address:
                self._connection.connect(address)
            if self._answer().get("pid") is None:
                raise self._no_node()
            request = json.dumps({"name": name, "arguments": dict(arguments)}).encode()
            self._connection.sendall(request + b"\n")
        except PermissionError as error:
            self.close()
            raise unusable(directory, error) from None
        except OSError:
            self.close()
            raise self._no_node() from None
        except BaseException:
            self.close()
            raise

    def _no_node(self) -> UserError:
        return UserError(
            f"no node is running in {self._directory}, so there is nothing to see; start it with: "
            "pesisir node"
        )

    def next(self, within_s: float) -> Any:
        """The next line's value; None when none came within this time.

        Raises UserError for what the node refuses, EOFError when the node has stopped.
        """
        self._connection.settimeout(max(within_s, 0.001))
        try:
            answer = self._answer()
        except TimeoutError:
            return None
        except OSError:
            raise EOFError from None
        if "error" in answer:
            raise UserError(answer["error"])
        if "line" not in answer:
            raise EOFError
        return answer["line"]

    def _answer(self) -> dict[str, Any]:
        """One whole line; {} at the end. What came of the next one is kept."""
        while b"\n" not in self._left:
            piece = self._connection.recv(65_536)
            if not piece:
                return {}
            self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Listen no more."""
        self._connection.close()

    def __enter__(self) -> "Following":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def socket_address(directory: Path) -> Iterator[str]:
    """A path of the socket that fits into sun_path, however deep the directory lies."""
    path = str(directory / SOCKET_NAME)
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        yield path
        return
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
