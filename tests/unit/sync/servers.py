"""Servers for tests of the way to the hub: one with TLS that says what it is told, and a proxy."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.unit import certificates

NOW = int(time.time())
"""OpenSSL looks at the system's clock."""
Answer = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]
"""(method, path, headers, body) -> (status, body)."""


class TlsServer:
    """A server that answers as it is told, and counts connections and resumed sessions."""

    def __init__(self, directory: Path, answer: Answer, *, name: str = "localhost", days: int = 30):
        self._issuer = certificates.Authority()
        from_at, until_at = NOW - certificates.DAY_S, NOW + days * certificates.DAY_S
        issued = self._issuer.issue(name, until_at=until_at, from_at=from_at)
        certificates.put(directory, issued)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
        self.connections = 0
        self.resumed = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1
                if isinstance(self.connection, ssl.SSLSocket):
                    outer.resumed += bool(self.connection.session_reused)

            def _any(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, body = answer(self.command, self.path, headers, self.rfile.read(length))
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response_only(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT = do_GET = _any

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
                found, address = super().get_request()
                try:
                    return outer.context.wrap_socket(found, server_side=True), address
                except OSError:
                    found.close()
                    raise

            def handle_error(self, request: object, client_address: object) -> None:
                """Broken connections are what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def authority(self) -> str:
        return self._issuer.pem.decode("ascii")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(directory: Path, answer: Answer, **others: object) -> Iterator[TlsServer]:
    server = TlsServer(directory, answer, **others)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()


class Relay:
    """Passes octets on and counts them; as an HTTP proxy (CONNECT) where no target is given."""

    def __init__(self, target: tuple[str, int] | None = None, *, refuses: bool = False):
        self.up = 0
        self.down = 0
        self.requests: list[bytes] = []
        self._target = target
        self._refuses = refuses
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            self._start(lambda near=near: self._serve(near))  # type: ignore[misc]

    def _serve(self, near: socket.socket) -> None:
        target = self._target
        if target is None:
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096)
            self.requests.append(head)
            if self._refuses:
                near.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                near.close()
                return
            host, _, port = head.split()[1].decode().rpartition(":")
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            target = (host, int(port))
        far = socket.create_connection(target)
        other = threading.Thread(target=self._pass, args=(far, near, False))
        other.start()
        self._pass(near, far, True)
        other.join()
        near.close()
        far.close()

    def _pass(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        with suppress(OSError):
            while octets := source.recv(65536):
                if is_up:
                    self.up += len(octets)
                else:
                    self.down += len(octets)
                sink.sendall(octets)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()
