"""Hub client: one HTTPS request after the other to the node's hub, and how each of them ended.

TLS 1.3 with the hub's own authority and no other; through an HTTP proxy (CONNECT) where one is
set. Requests of one exchange share a connection, and a new connection resumes the last one's
session, which spares the certificate. The standard library's client does the HTTP; it waits in a
thread, so that a link that hangs never holds up a login.
"""

import asyncio
import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from portal import signed_requests, wire

CONNECT_TIMEOUT_S: Final = 20.0
"""A 600 ms link that loses every fifth packet connects and shakes hands in ten seconds."""
READ_TIMEOUT_S: Final = 60.0
"""Silence after which a request counts as lost."""
_LEAVE_WITHIN_S: Final = 0.5
_PADDING: Final = 0x10
"""SSL_OP_TLSEXT_PADDING: makes a short greeting 512 octets long, for servers of the year 2013."""
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name."""

Why = Literal["name", "refused", "timeout", "tls", "proxy", "cut", "long"]


class Unreachable(Exception):
    """A request that was not answered. Whether the hub acted on it is unknown."""

    def __init__(self, why: Why, sentence: str, *, is_reused: bool = False) -> None:
        super().__init__(sentence)
        self.why = why
        self.is_reused = is_reused
        """The connection had been kept from the request before; a new one may work at once."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the hub answered."""

    status: int
    body: bytes


class HubClient:
    """The way to one hub. `close` when the exchange is over."""

    def __init__(
        self,
        url: str,
        authority: str,
        *,
        node_id: str,
        signer: Callable[[bytes], bytes],
        proxy: str | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ):
        """`url`: https://host[:port]; `authority`: certificates in PEM form; `signer` makes the
        node's Ed25519 signature; `proxy`: http://[user:password@]host:port.

        Raises ValueError for an URL that is not https and for certificates that are none.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"the hub's URL is {url!r}; expected https://host")
        self._host, self._port = parts.hostname, parts.port or 443
        self._authority = signed_requests.authority_of(parts.hostname, parts.port, is_tls=True)
        if ":" in parts.hostname:
            self._authority = parts.netloc.lower()
        self._node_id = node_id
        self._signer = signer
        self._proxy = None if proxy is None else urlsplit(proxy)
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._contexts = {
            is_timeless: _context(authority, is_timeless=is_timeless)
            for is_timeless in (False, True)
        }
        self._connection: _Connection | None = None
        self._sessions: dict[bool, ssl.SSLSession] = {}
        """By whether the time is looked at: OpenSSL resumes within one context only."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def path(self, what: str) -> str:
        """The path of this node's things at the hub: `exchange`, `backup`."""
        return f"/api/v1/nodes/{self._node_id}/{what}"

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        counter: int,
        created_at: int,
        is_clock_doubtful: bool = False,
        most_octets: int = wire.MOST_BODY_OCTETS,
    ) -> Reply:
        """Send a signed request and return the answer. Raises Unreachable.

        With a doubtful clock the time of the hub's certificate is not looked at: a box that starts
        in 1970 learns the time from this very answer.
        """
        headers = signed_requests.sign(
            method,
            self._authority,
            path,
            body,
            keyid=self._node_id,
            created_at=created_at,
            counter=counter,
            signer=self._signer,
        )
        if body:
            headers |= {
                "Content-Type": wire.CONTENT_TYPE,
                "Content-Encoding": wire.CONTENT_ENCODING,
            }
        if self._pool is None:
            # Threads of the loop's own pool are waited for when the program ends; this one is not.
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="hub")
        work = asyncio.get_running_loop().run_in_executor(
            self._pool,
            self._talk,
            *(method, path, headers, body, is_clock_doubtful, most_octets),
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Shutting the socket down ends the thread's waiting at once.
            self.interrupt()
            work.add_done_callback(_look_away)
            raise

    def interrupt(self) -> None:
        """Break off what is going on, from any thread."""
        with self._lock:
            connection = self._connection
        found = None if connection is None else connection.raw
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection; the session is kept for the next one."""
        if self._pool is not None:
            # Behind a request that is going on; one that was broken off ends at once.
            wait([self._pool.submit(self._take_leave)], timeout=_LEAVE_WITHIN_S)
        self.interrupt()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        self._drop()

    # -- in the thread ---------------------------------------------------------------------

    def _talk(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        is_timeless: bool,
        most_octets: int,
    ) -> Reply:
        is_reused = self._connection is not None
        try:
            connection = self._connected(is_timeless)
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self._authority)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or method in ("POST", "PUT"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            connection.flush()
            response = connection.getresponse()
            found = response.read(most_octets + 1)
            if len(found) > most_octets:
                raise Unreachable("long", f"the hub's answer is longer than {most_octets} octets")
            if response.length:
                raise http.client.IncompleteRead(found, response.length)
            if connection.session is not None:
                self._sessions[is_timeless] = connection.session
            if response.will_close:
                self._drop()
            return Reply(response.status, found)
        except Unreachable:
            self._drop()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            was_connected = self._connection is not None and self._connection.is_up
            self._drop()
            raise _unreachable(error, was_connected, is_reused=is_reused) from error

    def _connected(self, is_timeless: bool) -> "_Connection":
        if self._connection is None:
            connection = _Connection(
                (self._host, self._port),
                self._proxy,
                self._contexts[is_timeless],
                self._timeouts,
                self._sessions.get(is_timeless),
            )
            with self._lock:
                self._connection = connection
            connection.connect()
        return self._connection

    def _take_leave(self) -> None:
        """Tell the hub that this is the end: whoever goes without a word resumes nothing there."""
        if self._connection is not None:
            self._connection.take_leave()

    def _drop(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to the hub with TLS on it, through a proxy or not."""

    def __init__(
        self,
        hub: tuple[str, int],
        proxy: SplitResult | None,
        context: ssl.SSLContext,
        timeouts: tuple[float, float],
        session: ssl.SSLSession | None,
    ):
        to = hub if proxy is None else (proxy.hostname or "", proxy.port or 3128)
        super().__init__(*to, timeout=timeouts[0])
        self._proxy = proxy
        self.raw: socket.socket | None = None
        """The TCP socket, as soon as there is one."""
        self.is_up = False
        """Whether the handshake was done."""
        self._hub = hub
        self._unsent = bytearray()
        self._context = context
        self._read_timeout_s = timeouts[1]
        self._wanted_session = session

    def connect(self) -> None:
        """Connect, ask the proxy, shake hands."""
        try:
            super().connect()
        except OSError as error:
            if self._proxy is None:
                raise
            # Whoever reads it must not telephone the office about a proxy.
            why = error.strerror or str(error)
            raise Unreachable(
                "proxy", f"the proxy {self.host}:{self.port} cannot be reached ({why})"
            ) from error
        self.raw = self.sock
        if self._proxy is not None:
            self._ask_proxy(self._proxy)
        self.sock = self._context.wrap_socket(
            self.raw, server_hostname=self._hub[0], session=self._wanted_session
        )
        self.raw = self.sock
        self.sock.settimeout(self._read_timeout_s)
        self.is_up = True

    def send(self, data: Any) -> None:
        """Keep what is to be sent: headers and body go together, which spares a packet."""
        self._unsent += data

    def flush(self) -> None:
        """Send what was kept."""
        unsent, self._unsent = self._unsent, bytearray()
        self.sock.sendall(unsent)

    def take_leave(self) -> None:
        """Send TLS's close_notify, without waiting for the other side's."""
        if self.is_up and isinstance(self.sock, ssl.SSLSocket):
            with suppress(OSError, ValueError):
                self.sock.settimeout(0)
                self.sock.unwrap()

    def _ask_proxy(self, proxy: SplitResult) -> None:
        """Have the proxy connect to the hub (RFC 9110 9.3.6)."""
        host = f"[{self._hub[0]}]" if ":" in self._hub[0] else self._hub[0]
        to = f"{host}:{self._hub[1]}"
        lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}"]
        if proxy.username is not None:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        # The hub does not speak before it is spoken to, so nothing of it is in this buffer.
        with http.client.HTTPResponse(self.sock, method="CONNECT") as response:
            response.begin()
            if response.status != 200:
                raise Unreachable(
                    "proxy",
                    f"the proxy does not connect to the hub ({response.status} {response.reason})",
                )

    @property
    def session(self) -> ssl.SSLSession | None:
        """What the next connection can resume; with TLS 1.3 known after the first answer."""
        found = self.sock.session if isinstance(self.sock, ssl.SSLSocket) else None
        return found if found is not None and found.has_ticket else None


def _context(authority: str, *, is_timeless: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options &= ~_PADDING
    if ssl.OPENSSL_VERSION_INFO >= (3, 5):
        # Offered first there, ML-KEM takes 2,200 octets of each exchange.
        context.set_ecdh_curve("prime256v1")
    try:
        context.load_verify_locations(cadata=authority)
    except ssl.SSLError as error:
        raise ValueError(f"the hub's authority is no certificate: {error}") from None
    if is_timeless:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


def _unreachable(error: Exception, was_connected: bool, *, is_reused: bool) -> Unreachable:
    """What happened, in a word and a sentence."""
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        where = "did not answer in time" if was_connected else "could not be reached in time"
        return Unreachable("timeout", f"the hub {where}", is_reused=is_reused)
    if isinstance(error, socket.gaierror):
        return Unreachable("name", f"the hub's name is not known here ({error.strerror})")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            "tls", f"the hub shows a certificate that is not its own ({error.verify_message})"
        )
    if isinstance(error, ConnectionRefusedError):
        return Unreachable("refused", "nobody listens at the hub's address")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return Unreachable("tls", f"no TLS with the hub ({error.reason})", is_reused=is_reused)
    return Unreachable("cut", f"the connection to the hub broke ({text})", is_reused=is_reused)


def _look_away(work: "asyncio.Future[Reply]") -> None:
    """Take the result of work that nobody waits for any more, so that it is not reported."""
    if not work.cancelled():
        work.exception()
