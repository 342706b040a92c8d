"""A gateway with many phones, for the benchmarks that need whole evenings instead of bare packets.

CoovaChilli's part is played: signed redirects to the portal, the hand-off's password decoded and
asked for by RADIUS, accounting sent. Nothing is retransmitted; every answer's time is noted with
its beginning, so that what fell into a stall of the disk can be told apart.
"""

import asyncio
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5
from html.parser import HTMLParser
from typing import cast
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from tests.bench.load import ACCESS_ACCEPT, Codec, attribute, class_of
from tests.bench.targets import SECRET, Target

UAM_SECRET = "bench-uam-secret"
ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Timed:
    """One exchange: what it was, when it began (monotonic), how long it took; None: no answer."""

    what: str
    begun_at_s: float
    took_s: float | None


@dataclass(slots=True)
class Ledger:
    """Everything that happened."""

    exchanges: list[Timed] = field(default_factory=list)
    false_rejects: int = 0
    bad_pages: list[str] = field(default_factory=list)

    def of(self, what: str) -> list[Timed]:
        """The exchanges of one sort."""
        return [each for each in self.exchanges if each.what == what]


class FormReader(HTMLParser):
    """The fields of the first form of a page that has a text field."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.text_field: str | None = None
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what the form would send."""
        seen = dict(attrs)
        if tag == "form" and self.text_field is None:
            self.action, self.fields, self._is_inside = seen.get("action") or "", {}, True
        if tag == "input" and self._is_inside and seen.get("name"):
            name = seen["name"] or ""
            self.fields[name] = seen.get("value") or ""
            if (seen.get("type") or "text") in ("text", "tel"):
                self.text_field = name

    def handle_endtag(self, tag: str) -> None:
        """A form ends; one without a text field is not ours."""
        if tag == "form":
            self._is_inside = False


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP answer."""

    status: int
    location: str | None
    body: str


async def fetch(host: str, target: str, form: Mapping[str, str] | None = None) -> Page:
    """One request on a connection of its own, as a captive mini-browser does."""
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        body = urlencode(form).encode() if form is not None else b""
        head = f"{'GET' if form is None else 'POST'} {target} HTTP/1.1\r\nHost: {host}\r\n"
        head += "Connection: close\r\nAccept: text/html\r\nAccept-Language: id\r\n"
        if form is not None:
            head += f"Origin: http://{host}\r\nContent-Length: {len(body)}\r\n"
            head += "Content-Type: application/x-www-form-urlencoded\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.read()
    finally:
        writer.close()
    top, _, content = answer.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    return Page(int(lines[0].split()[1]), headers.get("location"), content.decode(errors="replace"))


class Wire(asyncio.DatagramProtocol):
    """One RADIUS socket with its outstanding requests."""

    def __init__(self) -> None:
        self.transport: asyncio.DatagramTransport | None = None
        self.waiting: dict[int, asyncio.Future[bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Hand the answer to who waits for it."""
        waiting = self.waiting.pop(data[1], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(data)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: the request stays unanswered."""

    async def ask(self, packet: bytes) -> bytes | None:
        """The answer, or None after ten seconds."""
        if self.transport is None:
            return None
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting[packet[1]] = future
        self.transport.sendto(packet)
        try:
            return await asyncio.wait_for(future, ANSWER_WITHIN_S)
        except TimeoutError:
            self.waiting.pop(packet[1], None)
            return None


class Phone:
    """One phone with its card behind the gateway."""

    def __init__(self, number: int, code: str, target: Target, ledger: Ledger) -> None:
        self.number = number
        self.code = code
        self.target = target
        self.ledger = ledger
        self.codec = Codec(SECRET.encode())
        self.mac = f"02-00-5E-00-{number >> 8:02X}-{number & 255:02X}"
        self.ip = f"10.1.{number >> 8}.{number & 255}"
        self.session = f"{int.from_bytes(os.urandom(4)):08x}{number:08x}"
        self.challenge = os.urandom(16)
        self.user_name = b""
        self.echo = b""
        self.began_at_s = 0.0
        self.octets = 0
        self._auth = Wire()
        self._acct = Wire()
        self._identifier = 0

    async def join(self) -> None:
        """Open the phone's part of the gateway."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self._auth, remote_addr=self.target.auth)
        await loop.create_datagram_endpoint(lambda: self._acct, remote_addr=self.target.acct)

    def leave(self) -> None:
        """Close its sockets."""
        for wire in (self._auth, self._acct):
            if wire.transport is not None:
                wire.transport.close()

    def arrival(self, state: str) -> str:
        """The redirect's path and query, signed as CoovaChilli signs it."""
        query = (
            f"res={state}&uamip=127.0.0.1&uamport=3990&challenge={self.challenge.hex()}"
            f"&called=02-AA-BB-CC-DD-EE&mac={self.mac}&ip={self.ip}&nasid=bench"
            f"&sessionid={self.session}&userurl={quote(_PROBE, safe='')}"
        )
        signed = f"http://{self.target.http}/?{query}{UAM_SECRET}"
        return f"/?{query}&md={md5(signed.encode()).hexdigest().upper()}"

    async def see(self, what: str, path: str, form: Mapping[str, str] | None = None) -> Page:
        """Fetch a page and note the time it took."""
        begun_at_s = time.monotonic()
        try:
            page = await asyncio.wait_for(fetch(self.target.http, path, form), ANSWER_WITHIN_S)
        except (OSError, TimeoutError, ValueError, IndexError) as error:
            self.ledger.exchanges.append(Timed(what, begun_at_s, None))
            self.ledger.bad_pages.append(f"{what}: {error!r}")
            return Page(0, None, "")
        self.ledger.exchanges.append(Timed(what, begun_at_s, time.monotonic() - begun_at_s))
        return page

    async def log_in(self) -> bool:
        """The whole way: portal page, form, hand-off, Access-Request, Start, success page."""
        page = await self.see("page", self.arrival("notyet"))
        form = FormReader()
        form.feed(page.body)
        if page.status != 200 or form.text_field is None or form.action is None:
            self.ledger.bad_pages.append(f"page: {page.status} without a form")
            return False
        fields = {**form.fields, form.text_field: self.code}
        page = await self.see("login", form.action or "/login", fields)
        if page.status != 303 or page.location is None or "/logon?" not in page.location:
            self.ledger.bad_pages.append(f"login: {page.status} to {page.location}")
            return False
        sent = parse_qs(urlsplit(page.location).query)
        key = md5(self.challenge + UAM_SECRET.encode()).digest()
        hidden = bytes.fromhex(sent["password"][0])
        password = bytes(octet ^ key[at % 16] for at, octet in enumerate(hidden)).rstrip(b"\0")
        self.user_name = sent["username"][0].encode()
        if not await self.authenticate(password) or not await self.account(1):
            return False
        page = await self.see("success", self.arrival("success"))
        if page.status == 303 and page.location:
            parts = urlsplit(page.location)
            page = await self.see("success", f"{parts.path}?{parts.query}".rstrip("?"))
        if page.status != 200:
            self.ledger.bad_pages.append(f"success: {page.status}")
        return True

    async def authenticate(self, password: bytes) -> bool:
        """Ask by RADIUS; True for an Accept."""
        self._identifier = (self._identifier + 1) % 256
        packet = self.codec.access_request(
            self._identifier, os.urandom(16), self.user_name, password, self._common() + _LOGIN
        )
        reply = await self._timed("access", self._auth, packet)
        if reply is None:
            return False
        if reply[0] != ACCESS_ACCEPT:
            self.ledger.false_rejects += 1
            return False
        self.echo = class_of(reply)
        self.began_at_s = time.monotonic()
        return True

    async def account(self, status: int, octets: int = 0) -> bool:
        """Send Start (1), Stop (2) or Interim-Update (3); True when it was answered."""
        self._identifier = (self._identifier + 1) % 256
        self.octets += octets
        body = struct.pack("!BBI", 40, 6, status) + attribute(1, self.user_name) + self._common()
        if status != 1:
            body += struct.pack("!BBI", 46, 6, int(time.monotonic() - self.began_at_s))
            body += struct.pack("!BBI", 42, 6, self.octets // 10)
            body += struct.pack("!BBI", 43, 6, self.octets % 2**32)
            body += struct.pack("!BBI", 53, 6, self.octets >> 32)
        packet = self.codec.accounting_request(self._identifier, body + self.echo)
        return await self._timed("accounting", self._acct, packet) is not None

    async def _timed(self, what: str, wire: Wire, packet: bytes) -> bytes | None:
        begun_at_s = time.monotonic()
        reply = await wire.ask(packet)
        took_s = None if reply is None else time.monotonic() - begun_at_s
        self.ledger.exchanges.append(Timed(what, begun_at_s, took_s))
        return reply

    def _common(self) -> bytes:
        return (
            attribute(4, b"\x7f\x00\x00\x01")
            + struct.pack("!BBI", 5, 6, self.number)
            + attribute(8, bytes(int(part) for part in self.ip.split(".")))
            + attribute(30, b"02-AA-BB-CC-DD-EE")
            + attribute(31, self.mac.encode())
            + attribute(32, b"bench")
            + struct.pack("!BBI", 61, 6, 19)
            + attribute(44, self.session.encode())
        )


_PROBE = "http://detectportal.firefox.com/"
_LOGIN = struct.pack("!BBI", 6, 6, 1)
