"""`pesisir watch` and `pesisir gateway doctor` beside a running node: real processes, real UDP."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import (
    INTERIM,
    PROGRAM,
    START,
    STOP,
    Gateway,
    RunningNode,
    environment,
    pesisir,
)
from tests.e2e.node_process import SECRET, issue, make, wait_until
from tests.e2e.pseudo_terminal import Terminal


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make(tmp_path / "node", harian={"data-day": "500MB"}, coba={"data-total": "20MB"})


class Watch:
    """`pesisir watch` in a process of its own; `lines` grows."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "--dir", str(directory), "watch", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, words: str, within_s: float = 60.0) -> str:
        """The first line with these words, as soon as it is there."""
        deadline = time.monotonic() + within_s
        while True:
            for line in self.lines:
                if words in line:
                    return line
            assert time.monotonic() < deadline, f"no {words!r} in {self.lines}"
            time.sleep(0.02)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(2)
        status = self.process.wait(60)
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return status


@pytest.fixture
def node(directory: Path) -> Iterator[RunningNode]:
    with RunningNode(directory) as running:
        yield running


def wait_for_watchers(directory: Path, count: int = 1) -> None:
    """Wait until so many listen to the node."""
    log = directory / "node.log"
    wait_until(lambda: log.read_text().count("control_following name=watch") >= count, 20)


def test_watch_tells_packet_gateway_verdict_and_reason(directory: Path, node: RunningNode) -> None:
    ((serial, code),) = issue(directory, "coba")
    gateway = Gateway(node, SECRET)
    stranger = Gateway(node, "salah-sekali")
    watch = Watch(directory)
    only_json = Watch(directory, "--json", "--gateway", "pos-1", "--serial", serial)
    try:
        wait_for_watchers(directory, 2)
        class_value = gateway.log_in(code)
        assert class_value is not None
        gateway.report(START, "5e55", class_value, up=0, down=0, time_s=0)
        gateway.report(STOP, "5e55", class_value, up=1_000, down=10_000_000, time_s=60)
        assert gateway.log_in("123456789012") is None
        with pytest.raises(TimeoutError):
            stranger._socket.settimeout(0.3)
            stranger.log_in(code)
        accept = watch.wait("-> Accept")
        assert "pos-1" in accept and f"= {serial}" in accept and "20.0 MB" in accept
        assert "at 02:5a:00:11:22:33" in accept
        assert watch.wait(f"Start of {serial}").endswith("ms)")
        assert "1.00 kB up, 10.0 MB down" in watch.wait(f"Stop of {serial}")
        assert "no card has this code or password" in watch.wait("-> Reject")
        assert "signed with another secret" in watch.wait("dropped")
        only_json.wait('"stop"')
    finally:
        for one in (gateway, stranger):
            one.close()
        assert watch.stop() == 130
        only_json.stop()
    shown = "\n".join(watch.lines)
    assert code not in shown and SECRET not in shown and "123456789012" not in shown
    events = [json.loads(line) for line in only_json.lines]
    assert [event["kind"] for event in events] == ["access", "accounting", "accounting"]
    assert {event["serial"] for event in events} == {serial}


def test_watch_begins_with_what_was_dropped_and_leaves_in_time(
    directory: Path, node: RunningNode
) -> None:
    stranger = Gateway(node, "salah-sekali")
    stranger._socket.settimeout(0.3)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            stranger.log_in("123456789012")
    stranger.close()
    done = pesisir("--dir", directory, "watch", "--for", "1s")
    assert done.status == 0
    assert "3 packets from 127.0.0.1 dropped: signed with another secret" in done.out


def test_watch_and_doctor_need_a_running_node_and_known_names(
    directory: Path, tmp_path: Path
) -> None:
    said = pesisir("--dir", directory, "watch").sentence()
    assert "No node is running in" in said and said.endswith("start it with: pesisir node.")
    assert "No node is running" in pesisir("--dir", directory, "gateway", "doctor", "x").sentence()
    with RunningNode(directory):
        for words in (["watch", "--gateway", "x"], ["gateway", "doctor", "x"]):
            said = pesisir("--dir", directory, *words, "--for", "1s").sentence()
            assert said == "There is no gateway 'x'; the gateways here are pos-1."
    said = pesisir("--dir", directory, "watch", "--for", "soon").sentence(2)
    assert "soon" in said


def doctor(directory: Path, *words: str) -> tuple[dict[str, Any], int]:
    done = pesisir("--dir", directory, "gateway", "doctor", "pos-1", "--json", *words)
    return json.loads(done.out), done.status


def test_doctor_gives_one_document_with_words_and_an_exit_status(
    directory: Path, node: RunningNode
) -> None:
    ((serial, code),) = issue(directory, "coba")
    found, status = doctor(directory)
    assert (found["gateway"], found["make"], found["online"]) == ("pos-1", "CoovaChilli", 0)
    assert status == 0 and found["good"] and not found["done"]
    assert len(found["findings"]) == 15
    gateway = Gateway(node, SECRET)
    class_value = gateway.log_in(code)
    assert class_value is not None
    gateway.report(START, "5e55", class_value, up=0, down=0, time_s=0)
    gateway.report(INTERIM, "5e55", class_value, up=12_000_000, down=100_000, time_s=70)
    found, status = doctor(directory, "--for", "1s")
    states = {one["check"]: one["state"] for one in found["findings"]}
    assert states["heard"] == states["secret"] == states["login"] == states["start"] == "ok"
    assert states["direction"] == "bad" and status == 1
    (swapped,) = [one for one in found["findings"] if one["check"] == "direction"]
    assert swapped["found"] == "The wrong way round: down 100 kB, up 12 MB."
    assert "pesisir gateway set pos-1 --swap-octets" in swapped["fix"]
    assert found["test"]["serial"] == serial
    gateway.close()


def test_doctor_live_in_a_terminal_asks_before_it_cuts_a_session(
    directory: Path, node: RunningNode
) -> None:
    ((serial, code),) = issue(directory, "harian")
    with Terminal("--dir", directory, "gateway", "doctor", "pos-1") as terminal:
        terminal.expect("Waits for the first login.")
        gateway = Gateway(node, SECRET)
        class_value = gateway.log_in(code)
        assert class_value is not None
        gateway.report(START, "5e55", class_value, up=0, down=0, time_s=0)
        terminal.expect(f"Card {serial} was let in")
        terminal.expect(f"d + Enter: test Disconnect on {serial}")
        terminal.type("d")
        terminal.answer(f"Cut {serial} (02:5a:00:11:22:33) off now? [y/N]", "n")
        terminal.expect("q + Enter leaves.")
        terminal.type("d")
        answering = threading.Thread(target=gateway.acknowledge_disconnect)
        answering.start()
        terminal.answer("off now? [y/N]", "y")
        terminal.expect("Its answer: ack")
        answering.join(60)
        gateway.report(STOP, "5e55", class_value, up=0, down=10, time_s=2)
        terminal.expect(f"and {serial} ended.")
        terminal.type("q")
        assert terminal.end() == 0
        gateway.close()


def test_doctor_live_is_left_by_ctrl_c_and_says_when_the_node_stops(directory: Path) -> None:
    with RunningNode(directory) as node:
        with Terminal("--dir", directory, "gateway", "doctor", "pos-1", rows=20) as terminal:
            terminal.expect("q + Enter leaves.")
            terminal.interrupt()
            assert terminal.end() == 0
        with Terminal("--dir", directory, "gateway", "doctor", "pos-1") as terminal:
            terminal.expect("q + Enter leaves.")
            node.stop()
            terminal.expect("has stopped; start it with: pesisir node.")
            assert terminal.end() == 1


def test_a_node_stops_in_time_though_somebody_watches(directory: Path) -> None:
    with RunningNode(directory) as node:
        watch = Watch(directory)
        wait_for_watchers(directory)
        begun = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - begun < 10
        assert watch.stop() == 1
