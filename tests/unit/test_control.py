"""Control: the lock, the socket, and the moments between the two."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portal import control
from portal.control import Report
from portal.control_server import ControlServer
from portal.errors import UserError


async def here(name: str, arguments: Mapping[str, Any], report: Report) -> object:
    """Stands for the commands, run without a node."""
    return {"ran": "here", "name": name, **arguments}


class Running:
    """A control server in a thread of its own; `gate` holds the command "wait" until it is set."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.count = 0
        self._loop = asyncio.new_event_loop()
        self._server = ControlServer(directory, self._execute)
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def _execute(self, name: str, arguments: Mapping[str, Any], report: Report) -> object:
        self.count += 1
        match name:
            case "fail":
                raise UserError("profile is 'gold'; expected one of daily, weekly")
            case "break":
                raise ZeroDivisionError("a fault of our own")
            case "strange":
                return {1, 2}
            case "wait":
                self.entered.set()
                await asyncio.to_thread(self.gate.wait, 10)
            case "count":
                for done in range(4):
                    report(done, 3)
                    await asyncio.sleep(0)
        return {"ran": "node", "name": name, **arguments}

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def start(self) -> None:
        self._thread.start()
        self._do(self._server.start())

    def stop(self, patience_s: float = 5.0) -> None:
        self._do(self._server.close(patience_s))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextmanager
def node(directory: Path) -> Iterator[Running]:
    with control.own(directory, "node"):
        running = Running(directory)
        running.start()
        try:
            yield running
        finally:
            running.gate.set()
            running.stop()


def test_without_a_node_a_command_runs_here(tmp_path: Path) -> None:
    assert control.call(tmp_path, "show", {"key": 1}, here) == {
        "ran": "here",
        "name": "show",
        "key": 1,
    }


def test_with_a_node_a_command_runs_there(tmp_path: Path) -> None:
    with node(tmp_path):
        answer = control.call(tmp_path, "show", {"key": "é\n"}, here)
    assert answer == {"ran": "node", "name": "show", "key": "é\n"}


def test_both_ways_give_json_values(tmp_path: Path) -> None:
    assert control.call(tmp_path, "show", {"keys": ("a", "b")}, here)["keys"] == ["a", "b"]
    with node(tmp_path):
        assert control.call(tmp_path, "show", {"keys": ("a", "b")}, here)["keys"] == ["a", "b"]


def test_a_mistake_comes_back_as_its_sentence(tmp_path: Path) -> None:
    with node(tmp_path), pytest.raises(UserError, match="profile is 'gold'; expected one of"):
        control.call(tmp_path, "fail", {}, here)


@pytest.mark.parametrize("name", ["break", "strange"])
def test_a_fault_of_the_node_is_a_sentence_and_the_node_lives(tmp_path: Path, name: str) -> None:
    with node(tmp_path):
        with pytest.raises(UserError, match="fault of its own"):
            control.call(tmp_path, name, {}, here)
        assert control.call(tmp_path, "show", {}, here)["ran"] == "node"


def test_progress_reaches_the_caller(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with node(tmp_path):
        control.call(tmp_path, "count", {}, here, lambda done, total: seen.append((done, total)))
    assert seen[:3] == [(0, 3), (1, 3), (2, 3)]


def test_socket_and_lock_are_for_the_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with node(tmp_path):
            for name in ("pesisir.sock", "pesisir.lock"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    finally:
        os.umask(old)
    assert not (tmp_path / "pesisir.sock").exists()


def test_a_second_node_is_refused_with_the_pid(tmp_path: Path) -> None:
    with node(tmp_path), pytest.raises(UserError) as caught:
        with control.own(tmp_path, "node", wait_s=5):
            pass
    assert str(caught.value) == f"a node is already running in {tmp_path} (pid {os.getpid()})"


def test_a_starting_node_waits_for_a_short_command(tmp_path: Path) -> None:
    release = threading.Event()
    taken = threading.Event()

    def command() -> None:
        with control.own(tmp_path, "voucher_issue"):
            taken.set()
            release.wait(60)

    thread = threading.Thread(target=command)
    thread.start()
    taken.wait(60)
    with pytest.raises(UserError, match="another command, voucher_issue, is at work"):
        with control.own(tmp_path, "node"):
            pass
    threading.Timer(0.1, release.set).start()
    with control.own(tmp_path, "node", wait_s=10):
        assert control.is_node_running(tmp_path)
    thread.join()
    assert not control.is_node_running(tmp_path)


def test_commands_take_turns(tmp_path: Path) -> None:
    inside = 0
    most = 0

    async def slow(name: str, arguments: Mapping[str, Any], report: Report) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        return None

    threads = [
        threading.Thread(target=control.call, args=(tmp_path, "x", {}, slow)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_node_that_is_starting_is_waited_for(tmp_path: Path) -> None:
    answers: list[Any] = []
    with control.own(tmp_path, "node"):
        thread = threading.Thread(
            target=lambda: answers.append(control.call(tmp_path, "show", {}, here))
        )
        thread.start()
        running = Running(tmp_path)
        running.start()
        thread.join()
        running.stop()
    assert answers == [{"ran": "node", "name": "show"}]


def test_a_node_that_never_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "WAIT_FOR_NODE_S", 0.2)
    with control.own(tmp_path, "node"), pytest.raises(UserError) as caught:
        control.call(tmp_path, "show", {}, here)
    assert f"(pid {os.getpid()})" in str(caught.value) and "does not answer" in str(caught.value)


def test_a_dead_socket_is_no_node(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "pesisir.sock"))
    assert control.call(tmp_path, "show", {}, here)["ran"] == "here"
    with node(tmp_path):
        assert control.call(tmp_path, "show", {}, here)["ran"] == "node"


def test_a_stopping_node_finishes_what_it_began(tmp_path: Path) -> None:
    answers: list[Any] = []
    with control.own(tmp_path, "node"):
        running = Running(tmp_path)
        running.start()
        thread = threading.Thread(
            target=lambda: answers.append(control.call(tmp_path, "wait", {}, here))
        )
        thread.start()
        assert running.entered.wait(60)
        threading.Timer(0.1, running.gate.set).start()
        running.stop()
        thread.join()
    assert answers == [{"ran": "node", "name": "wait"}]


def test_a_stopping_node_sends_those_it_has_not_begun_to_serve_elsewhere(tmp_path: Path) -> None:
    with control.own(tmp_path, "node"):
        running = Running(tmp_path)
        running.start()
        with socket.socket(socket.AF_UNIX) as idle:
            idle.connect(str(tmp_path / "pesisir.sock"))
            lines = idle.makefile("rb")
            assert json.loads(lines.readline()) == {"pid": os.getpid()}
            running.stop()
            assert json.loads(lines.readline()) == {"retry": True}
            assert lines.readline() == b""
            lines.close()
    assert running.count == 0


def test_a_command_cut_off_by_the_end_of_the_node_is_not_run_again(tmp_path: Path) -> None:
    ran_here = []

    async def note(name: str, arguments: Mapping[str, Any], report: Report) -> object:
        ran_here.append(name)
        return None

    failures: list[Exception] = []

    def command() -> None:
        try:
            control.call(tmp_path, "wait", {}, note)
        except UserError as error:
            failures.append(error)

    with control.own(tmp_path, "node"):
        running = Running(tmp_path)
        running.start()
        thread = threading.Thread(target=command)
        thread.start()
        assert running.entered.wait(60)
        threading.Timer(0.3, running.gate.set).start()
        running.stop(patience_s=0.05)
    thread.join()
    assert ran_here == []
    assert "look whether the command was done" in str(failures[0])


NODE_SCRIPT = """
import asyncio, sys
from pathlib import Path
from portal import control
from portal.control_server import ControlServer

async def execute(name, arguments, report):
    report(150, 1000)
    await asyncio.sleep(0.2)
    print("begun", flush=True)
    await asyncio.sleep(60)

async def run(directory):
    await ControlServer(directory, execute).start()
    print("ready", flush=True)
    await asyncio.sleep(60)

directory = Path(sys.argv[1])
with control.own(directory, "node"):
    asyncio.run(run(directory))
"""


def test_a_killed_node_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", NODE_SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        failures: list[UserError] = []

        def command() -> None:
            try:
                control.call(tmp_path, "wait", {}, here)
            except UserError as error:
                failures.append(error)

        thread = threading.Thread(target=command)
        thread.start()
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGKILL)
        thread.join()
    assert "went away before it answered (it had come to 150 of 1000);" in str(failures[0])
    assert (tmp_path / "pesisir.sock").exists()
    assert control.call(tmp_path, "show", {}, here)["ran"] == "here"


@pytest.mark.parametrize(
    "request_line",
    [b"\n", b"nonsense\n", b"[1]\n", b'{"name": "x"}\n', b'{"name":1,"arguments":3}\n'],
)
def test_a_strange_request_is_answered_and_harms_nothing(
    tmp_path: Path, request_line: bytes
) -> None:
    with node(tmp_path) as running:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(tmp_path / "pesisir.sock"))
            with stranger.makefile("rb") as lines:
                lines.readline()
                stranger.sendall(request_line)
                assert "did not understand" in json.loads(lines.readline())["error"]
        assert running.count == 0
        assert control.call(tmp_path, "show", {}, here)["ran"] == "node"


def test_a_request_without_end_is_cut_off(tmp_path: Path) -> None:
    with node(tmp_path):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(tmp_path / "pesisir.sock"))
            with pytest.raises(OSError):
                for _ in range(1000):
                    stranger.sendall(b"x" * 65536)
        assert control.call(tmp_path, "show", {}, here)["ran"] == "node"


def test_long_requests_and_answers_pass(tmp_path: Path) -> None:
    serials = [f"A{n:03}-{n}" for n in range(20_000)]
    with node(tmp_path):
        assert control.call(tmp_path, "show", {"serials": serials}, here)["serials"] == serials


def test_a_deep_directory_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with node(deep):
        assert control.call(deep, "show", {}, here)["ran"] == "node"
        assert stat.S_IMODE((deep / "pesisir.sock").stat().st_mode) == 0o600


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no directory"):
        control.call(tmp_path / "nowhere", "show", {}, here)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_root_leaves_files_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / "pesisir.link").symlink_to(outside)

    async def write(name: str, arguments: Mapping[str, Any], report: Report) -> object:
        (tmp_path / "pesisir.db").write_text("x")
        return None

    control.call(tmp_path, "x", {}, write)
    for name in ("pesisir.db", "pesisir.lock"):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid) == (12345, 12346)
    assert outside.stat().st_uid == 0
