"""Listening for HTTP: sockets, and uvicorn without its ways with signals and logs.

What node and hub share; what is served is theirs.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from portal.errors import UserError
from portal.http_connections import GuardedConnection
from portal.setting_values import Listen


class QuietServer(uvicorn.Server):
    """Leaves the process's signals to us, and says when it listens."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by who runs the program."""
        yield


async def serve(
    application: object, listen: Listen, bound: socket.socket, context: ssl.SSLContext | None
) -> tuple[QuietServer, asyncio.Task[None]]:
    """Serve an application on a socket, with TLS where there is a context; returns when it listens.

    Raises UserError when it cannot.
    """
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]  # Starlette is an ASGI application
        http=GuardedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=10,
        limit_concurrency=500,
        timeout_graceful_shutdown=2,
    )
    config.load()
    if context is not None:
        config.ssl = context
    server = QuietServer(config)
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[bound]))
    listens = asyncio.get_running_loop().create_task(server.listens.wait())
    await asyncio.wait((task, listens), return_when=asyncio.FIRST_COMPLETED)
    listens.cancel()
    if task.done():
        await task
        raise UserError(f"The pages cannot be served on {listen}.")
    return server, task


def bind(listen: Listen) -> socket.socket:
    """A socket to listen on; raises UserError saying what to do."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((listen.host, listen.port))
        # Two programs that start at once can both bind; only one of them can listen.
        bound.listen()
    except OSError as error:
        bound.close()
        raise UserError(f"The pages cannot be served on {listen}: {_advice(error)}.") from error
    bound.setblocking(False)
    return bound


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is already in use, stop what uses it or set [http] listen"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address, set [http] listen to one it has or to 0.0.0.0"
        case errno.EACCES:
            return "not permitted, set [http] listen to a port above 1023 or run it as a service"
        case _:
            return (error.strerror or str(error)).lower()


def address_of(host: str, port: int) -> str:
    """Host and port in one text; an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, port: int, is_tls: bool) -> str:
    """Where a listener is found."""
    return f"{'https' if is_tls else 'http'}://{address_of(host, port)}"
