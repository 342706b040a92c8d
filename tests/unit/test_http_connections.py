"""Connections that ask for nothing, never end a request or have no end of a header, on real
sockets: they go, and everybody else gets the page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import ClassVar

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from portal import http_connections, http_listeners
from portal.setting_values import Listen

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n"


async def answer(request: Request) -> PlainTextResponse:
    if "slow" in request.query_params:
        await asyncio.sleep(1.0)
    return PlainTextResponse(f"got {len(await request.body())}")


@asynccontextmanager
async def portal() -> AsyncIterator[int]:
    """The port of a portal with one page."""
    application = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
    bound = http_listeners.bind(Listen("127.0.0.1", 0))
    server, task = await http_listeners.serve(application, Listen("127.0.0.1", 0), bound, None)
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        await task


def story(told: Callable[[int], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with portal() as port:
            try:
                await told(port)
            finally:
                for phone in Connection.opened:
                    await phone.close()
                Connection.opened.clear()

    asyncio.run(whole())


class Connection:
    """A phone's connection."""

    opened: ClassVar[list["Connection"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, source: str = "127.0.0.1") -> "Connection":
        found = cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))
        cls.opened.append(found)
        return found

    async def say(self, words: bytes) -> None:
        self._writer.write(words)
        await self._writer.drain()

    async def hear(self) -> bytes:
        """An answer; b"" when we were let go."""
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def is_gone(self, within_s: float) -> bool:
        try:
            return await asyncio.wait_for(self._reader.read(1), within_s) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(http_connections, "HEAD_WITHIN_S", 0.4)
    monkeypatch.setattr(http_connections, "BODY_SILENT_S", 0.4)


def test_who_never_ends_the_head_of_a_request_is_let_go(short: None) -> None:
    async def told(port: int) -> None:
        silent, begun, drops = [await Connection.open(port) for _ in range(3)]
        await begun.say(b"GET / HT")

        async def drip() -> None:
            for octet in b"GET / HTTP/1.1\r\nx-long: " + b"a" * 100:
                await drops.say(bytes((octet,)))
                await asyncio.sleep(0.05)

        dripping = asyncio.ensure_future(drip())
        for one in (silent, begun, drops):
            assert await one.is_gone(5)
        dripping.cancel()
        after = await Connection.open(port)
        await after.say(GET)
        assert (await after.hear()).endswith(b"got 0")
        # The second request of a connection has a limit too, and blank lines are no request.
        await after.say(b"\r\n")
        assert await after.is_gone(5)

    story(told)


def test_a_slow_body_is_waited_for_and_a_silent_one_is_not(short: None) -> None:
    async def told(port: int) -> None:
        slow, silent = await Connection.open(port), await Connection.open(port)
        await silent.say(POST + b"abc")
        await slow.say(POST)
        for octet in b"abcdef":
            await asyncio.sleep(0.15)
            await slow.say(bytes((octet,)))
        assert (await slow.hear()).endswith(b"got 6")
        assert await silent.is_gone(5)

    story(told)


def test_a_slow_answer_and_a_pause_between_two_requests_are_nobodys_fault(short: None) -> None:
    async def told(port: int) -> None:
        phone = await Connection.open(port)
        await phone.say(b"GET /?slow HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await phone.hear()).endswith(b"got 0")
        await asyncio.sleep(0.8)
        await phone.say(POST + b"abcdef" + GET)
        assert (await phone.hear()).endswith(b"got 6")
        assert (await phone.hear()).endswith(b"got 0")

    story(told)


def test_a_head_without_an_end_is_refused() -> None:
    async def told(port: int) -> None:
        for words in (b"x-long: ", b"GET /"):
            phone = await Connection.open(port)
            await phone.say(GET[:-2] if words.startswith(b"x") else b"")
            await phone.say(words + b"a" * (http_connections.MOST_HEAD_OCTETS + 1))
            assert (await phone.hear()).startswith(b"HTTP/1.1 431 ")
            assert await phone.is_gone(5)
        phone = await Connection.open(port)
        await phone.say(GET[:-2] + b"x-long: " + b"a" * 30_000 + b"\r\n\r\n")
        assert (await phone.hear()).endswith(b"got 0")

    story(told)


def test_a_crowd_of_idle_connections_keeps_nobody_from_the_page() -> None:
    async def told(port: int) -> None:
        honest = await Connection.open(port, "127.0.0.2")
        crowd = []
        for n in range(700):
            phone = await Connection.open(port, "127.0.0.3")
            crowd.append(phone)
            await phone.say((b"", b"GET / HT", POST + b"abc")[n % 3])
        # From another address, one that was there before, and even from the same one.
        await honest.say(GET)
        assert (await honest.hear()).endswith(b"got 0")
        for source in ("127.0.0.2", "127.0.0.3"):
            other = await Connection.open(port, source)
            await other.say(GET)
            assert (await other.hear()).endswith(b"got 0")
        gone = sum([await phone.is_gone(0.001) for phone in crowd[:200]])
        assert gone == 200, "the oldest go first"
        assert not await crowd[-1].is_gone(0.05)

    story(told)


def test_who_is_answered_before_the_body_has_come_and_then_asks_nothing_is_let_go(
    short: None,
) -> None:
    async def told(port: int) -> None:
        phone = await Connection.open(port)
        await phone.say(POST.replace(b"POST / ", b"POST /none "))
        assert b" 404 " in await phone.hear()
        await phone.say(b"abcdef")
        assert await phone.is_gone(8)

    story(told)
