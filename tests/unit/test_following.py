"""Following: what a running node tells over its socket for as long as somebody listens."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from portal.control import Following, Report
from portal.control_server import ControlServer
from portal.errors import UserError


class Telling:
    """A control server in a thread of its own that counts for whoever listens."""

    def __init__(self, directory: Path) -> None:
        self.listening = 0
        self.ended = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._server = ControlServer(directory, self._execute, {"count": self._count})
        self._thread = threading.Thread(target=self._loop.run_forever)

    async def _execute(self, name: str, arguments: Mapping[str, Any], report: Report) -> object:
        return name

    async def _count(self, arguments: Mapping[str, Any]) -> AsyncGenerator[object, None]:
        if arguments.get("to") == "nothing":
            raise UserError("there is nothing to count to")
        self.listening += 1
        try:
            for number in range(arguments["to"]):
                yield {"number": number}
            await asyncio.Event().wait()
        finally:
            self.listening -= 1
            self.ended.set()

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(5)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.close(), self._loop).result(5)

    def stop(self) -> None:
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@contextmanager
def telling(directory: Path) -> Iterator[Telling]:
    found = Telling(directory)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def test_lines_come_one_by_one_and_none_when_there_is_nothing_new(tmp_path: Path) -> None:
    with telling(tmp_path), Following(tmp_path, "count", {"to": 3}) as said:
        assert [said.next(60)["number"] for _ in range(3)] == [0, 1, 2]
        assert said.next(0.05) is None
        assert said.next(0) is None


def test_many_lines_arrive_whole(tmp_path: Path) -> None:
    with telling(tmp_path), Following(tmp_path, "count", {"to": 20_000}) as said:
        assert [said.next(60)["number"] for _ in range(20_000)] == list(range(20_000))


def test_who_goes_is_told_nothing_more(tmp_path: Path) -> None:
    with telling(tmp_path) as node:
        with Following(tmp_path, "count", {"to": 1}) as said:
            said.next(60)
            assert node.listening == 1
        assert node.ended.wait(60)
        assert node.listening == 0


def test_a_reader_who_does_not_read_is_let_go_too(tmp_path: Path) -> None:
    with telling(tmp_path) as node:
        with Following(tmp_path, "count", {"to": 1_000_000}) as said:
            said.next(60)
        assert node.ended.wait(60)


def test_a_refusal_is_a_plain_sentence(tmp_path: Path) -> None:
    with telling(tmp_path), Following(tmp_path, "count", {"to": "nothing"}) as said:
        with pytest.raises(UserError, match="there is nothing to count to"):
            said.next(60)


def test_a_node_that_stops_ends_the_telling_at_once(tmp_path: Path) -> None:
    with telling(tmp_path) as node, Following(tmp_path, "count", {"to": 1}) as said:
        said.next(60)
        node.close()
        with pytest.raises(EOFError):
            said.next(60)
        with pytest.raises(EOFError):
            said.next(60)


def test_without_a_node_there_is_nothing_to_see(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no node is running in .*start it with: pesisir node"):
        Following(tmp_path, "count", {})


def test_an_unknown_name_is_not_followed(tmp_path: Path) -> None:
    with telling(tmp_path), Following(tmp_path, "sing", {}) as said:
        with pytest.raises(EOFError):
            said.next(60)
