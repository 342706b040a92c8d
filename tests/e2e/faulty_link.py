"""A link that fails as it is told: a TCP relay between a node and its hub, octets counted.

It sees only TLS, as a satellite does. `cut` breaks the next connections after so many octets up or
down; `is_down` refuses all; `octets_per_s` and `only_for_s` make a short, slow window.
"""

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 1400


@dataclass
class Cut:
    """Break one connection when so many octets have gone up, or come down; None: never."""

    up: int | None = None
    down: int | None = None


class Link:
    """Listens on a port of its own and relays to where the hub is now; in a thread of its own, so
    that neither side's troubles stop it."""

    def __init__(self) -> None:
        self.target: int | None = None
        """The hub's port; None: nobody there."""
        self.cuts: list[Cut] = []
        """One for each of the next connections."""
        self.is_down = False
        self.octets_per_s: float | None = None
        self.up = self.down = self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._relay, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop relaying."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        self._break_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def break_all(self) -> None:
        """Break every connection there is."""
        self._loop.call_soon_threadsafe(self._break_all)

    def _break_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        cut = self.cuts.pop(0) if self.cuts else Cut()
        ends = [writer]
        self._writers.add(writer)
        try:
            if self.is_down or self.target is None:
                return
            try:
                far = await asyncio.open_connection("127.0.0.1", self.target)
            except OSError:
                return
            ends.append(far[1])
            self._writers.add(far[1])
            await asyncio.wait(
                [
                    self._loop.create_task(self._pass(reader, far[1], cut.up, is_up=True)),
                    self._loop.create_task(self._pass(far[0], writer, cut.down, is_up=False)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for end in ends:
                end.transport.abort()
                self._writers.discard(end)
                with suppress(OSError):
                    await end.wait_closed()
            self._tasks.discard(task)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        most: int | None,
        *,
        is_up: bool,
    ) -> None:
        passed = 0
        with suppress(OSError):
            while octets := await reader.read(CHUNK):
                if most is not None and passed + len(octets) > most:
                    writer.write(octets[: most - passed])
                    await writer.drain()
                    return
                if self.octets_per_s is not None:
                    await asyncio.sleep(len(octets) / self.octets_per_s)
                passed += len(octets)
                if is_up:
                    self.up += len(octets)
                else:
                    self.down += len(octets)
                writer.write(octets)
                await writer.drain()
