"""The control socket of a running node: the other side of portal/control.py, where the exchange is
described. Whoever starts it owns the directory.
"""

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import Any

from portal.control import GREETING_S, SOCKET_NAME, Execute, socket_address, unusable
from portal.errors import UserError

REQUEST_LIMIT = 4 * 1024 * 1024
"""Octets of one request: serials of a hundred thousand cards."""

Follow = Callable[[Mapping[str, Any]], AsyncGenerator[object, None]]
"""Begins to tell something for as long as it is read; UserError for people's mistakes."""

log = logging.getLogger(__name__)


class ControlServer:
    """The socket of a running node. Whoever starts it owns the directory (`own`)."""

    def __init__(
        self, directory: Path, execute: Execute, followed: Mapping[str, Follow] | None = None
    ) -> None:
        """`followed`: by name, what callers may listen to (`control.Following`)."""
        self._directory = directory
        self._execute = execute
        self._followed = followed or {}
        self._following: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._is_closing = False
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[bytes]] = set()
        self._address = ExitStack()

    async def start(self) -> None:
        """Listen. Raises UserError when the socket cannot be made."""
        path = self._directory / SOCKET_NAME
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            # Linux gives the new file the mode of the unbound socket: it is never open to others.
            os.fchmod(listener.fileno(), 0o600)
            path.unlink(missing_ok=True)
            # Kept until `close`: asyncio looks at the bound path again.
            listener.bind(self._address.enter_context(socket_address(self._directory)))
            path.chmod(0o600)
            listener.listen(64)
        except OSError as error:
            listener.close()
            self._address.close()
            raise unusable(self._directory, error) from None
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listener, limit=REQUEST_LIMIT
        )

    async def close(self, patience_s: float = 5.0) -> None:
        """Stop: commands under way may finish within `patience_s`, others are sent elsewhere."""
        self._is_closing = True
        if self._server is None:
            return
        self._server.close()
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)
        for waiting in self._waiting:
            waiting.cancel()
        for following in self._following:
            following.cancel()
        if self._connections:
            _, unfinished = await asyncio.wait(self._connections, timeout=patience_s)
            for connection in unfinished:
                connection.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        self._address.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, TimeoutError):
            log.info("control_connection_lost")
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(**answer: object) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(answer).encode() + b"\n")

        say(pid=os.getpid())
        request = await self._request(reader)
        if request is None:
            say(retry=True)
            return
        if not request:
            return
        loop = asyncio.get_running_loop()

        def report(done: int, total: int) -> None:
            loop.call_soon_threadsafe(lambda: say(progress=[done, total]))

        try:
            asked = json.loads(request)
            name, arguments = str(asked["name"]), dict(asked["arguments"])
        except (ValueError, TypeError, KeyError):
            say(error="the node did not understand the request; use the same program version")
            return
        if name in self._followed:
            await self._follow(name, arguments, reader, writer)
            say(end=True)
            return
        started = time.monotonic()
        is_done = False
        try:
            value = await self._execute(name, arguments, report)
            say(value=value)
            is_done = True
        except UserError as error:
            say(error=str(error))
        except Exception:
            log.exception("control_command_failed name=%s", name)
            say(
                error=f"the node could not do this by a fault of its own ({name}); its log has "
                "the details"
            )
        elapsed_ms = (time.monotonic() - started) * 1000
        log.info("control_command name=%s ok=%s ms=%.0f", name, is_done, elapsed_ms)
        await writer.drain()

    async def _follow(
        self,
        name: str,
        arguments: Mapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Tell line after line until the caller goes away or the node stops."""

        async def tell() -> None:
            try:
                async with aclosing(self._followed[name](arguments)) as lines:
                    async for line in lines:
                        writer.write(json.dumps({"line": line}).encode() + b"\n")
                        # Who reads slowly is waited for here; what is told must be able to wait.
                        await writer.drain()
            except UserError as error:
                writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
            except ConnectionError:
                pass
            except Exception:
                log.exception("control_following_failed name=%s", name)

        log.info("control_following name=%s", name)
        telling = asyncio.ensure_future(tell())
        # A caller says nothing more: whatever comes is its end.
        leaving = asyncio.ensure_future(reader.read(1))
        self._following.add(telling)
        try:
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._following.discard(telling)
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)

    async def _request(self, reader: asyncio.StreamReader) -> bytes | None:
        """The request line; b"" when the caller left, None when the node stops before it came."""
        if self._is_closing:
            return None
        waiting = asyncio.ensure_future(reader.readline())
        self._waiting.add(waiting)
        try:
            await asyncio.wait([waiting], timeout=GREETING_S)
            if waiting.cancelled():
                return None
            return waiting.result() if waiting.done() else b""
        except ValueError:
            log.info("control_request_too_long")
            return b""
        finally:
            self._waiting.discard(waiting)
            waiting.cancel()
