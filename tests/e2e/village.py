"""What end-to-end tests share: a node as its own process, the command line beside it, a browser
that keeps no cookies and runs no script, and a practice gateway."""

import asyncio
import html
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone

START_WITHIN_S = 120
PESISIR = [sys.executable, "-c", "from portal.cli import main; main()"]


def environment(**settings: str) -> dict[str, str]:
    """Our environment without anything that could be a setting."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PESISIR_")}
    return bare | {"PYTHONUNBUFFERED": "1"} | settings


class Process:
    """`pesisir` running until told to stop; `ready` holds what its ready line says."""

    def __init__(self, *words: str | Path, **settings: str) -> None:
        self._errors: list[str] = []
        self.lines: list[str] = []
        self.ready: dict[str, str] = {}
        self.process = subprocess.Popen(
            [*PESISIR, *map(str, words)],
            env=environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready"):
                self.ready = dict(part.split("=", 1) for part in line.split()[1:])
                break
        else:
            _, errors = self.process.communicate(timeout=START_WITHIN_S)
            raise AssertionError(f"{words} never was ready: {errors}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float, str]:
        """Signal it; exit status, seconds it took, and what it wrote to stderr."""
        begun_at = time.monotonic()
        self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, time.monotonic() - begun_at, errors


def pesisir(directory: Path, *words: str) -> Any:
    """Run one command to its end and read its JSON."""
    done = subprocess.run(
        [*PESISIR, "--dir", str(directory), *words, "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return json.loads(done.stdout)


def address(text: str) -> tuple[str, int]:
    """ "127.0.0.1:1812" as a pair."""
    host, _, port = text.rpartition(":")
    return host, int(port)


@dataclass
class Form:
    """A form of a page: where it goes and its fields as they stand."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._is_inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        seen = dict(attrs)
        if tag == "form":
            self.forms.append(Form(urljoin(self.url, seen.get("action") or "")))
            self._is_inside = True
        elif tag == "input" and self._is_inside and seen.get("name"):
            self.forms[-1].fields[seen["name"] or ""] = seen.get("value") or ""
        elif tag == "a" and seen.get("href"):
            self.links.append(urljoin(self.url, seen["href"] or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False


@dataclass
class Page:
    """An answer: `hops` are the addresses it was redirected from."""

    url: str
    status: int
    headers: dict[str, str]
    text: str
    hops: list[str]

    @property
    def words(self) -> str:
        """The text with entities resolved and no-break spaces made plain."""
        return html.unescape(self.text).replace("\u00a0", " ")

    @property
    def forms(self) -> list[Form]:
        """The forms of the page."""
        return self._read().forms

    @property
    def links(self) -> list[str]:
        """Where its links lead."""
        return self._read().links

    def _read(self) -> _Reader:
        reader = _Reader(self.url)
        reader.feed(self.text)
        return reader


async def get(url: str, *, follow: bool = True) -> Page:
    """Open an address."""
    return await asyncio.to_thread(_request, url, None, follow)


async def send(form: Form, *, follow: bool = True, **values: str) -> Page:
    """Fill in a form and press its button."""
    return await asyncio.to_thread(_request, form.action, form.fields | values, follow)


def _request(url: str, fields: dict[str, str] | None, follow: bool) -> Page:
    hops: list[str] = []
    while True:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=60)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept": "text/html", "Accept-Language": "id"}
        if fields is None:
            connection.request("GET", target, headers=headers)
        else:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Origin": f"{parts.scheme}://{parts.netloc}",
            }
            connection.request("POST", target, urlencode(fields), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        seen = {name.lower(): value for name, value in answer.getheaders()}
        if follow and answer.status in (302, 303) and len(hops) < 10:
            hops.append(url)
            url, fields = urljoin(url, seen["location"]), None
            continue
        return Page(url, answer.status, seen, text, hops)


@dataclass
class Running:
    """A running node and the secrets of its gateway."""

    directory: Path
    process: Process
    entry: dict[str, Any]


@dataclass
class Village:
    """A node and a practice gateway in front of it."""

    node: Running
    gateway: PracticeGateway

    @property
    def portal_url(self) -> str:
        """Where the portal is."""
        return self.node.process.ready["url"]

    @property
    def phone(self) -> Phone:
        """The first phone."""
        return self.gateway.phones[0]

    async def pesisir(self, *words: str) -> Any:
        """The command line, beside the running node."""
        return await asyncio.to_thread(pesisir, self.node.directory, *words)

    async def card(self, profile: str) -> tuple[str, str]:
        """Issue one card: code and serial."""
        issued = await self.pesisir("voucher", "issue", "--profile", profile)
        return issued["vouchers"][0]["code"], issued["vouchers"][0]["serial"]

    async def open_internet(self, phone: Phone) -> Page:
        """The phone opens something; offline it ends on the portal's page."""
        return await get(f"http://127.0.0.1:{phone.port}/internet")

    async def log_in(self, phone: Phone, code: str) -> Page:
        """The whole way of a resident, from the captured request to the page after the login."""
        page = await self.open_internet(phone)
        assert page.status == 200 and page.forms, page.text
        return await send(page.forms[0], kode=code)

    async def usage(self, serial: str, is_true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """`voucher show` once every packet of the gateway is answered; it must fit by then."""
        await self.gateway.settled()
        shown: dict[str, Any] = await self.pesisir("voucher", "show", serial)
        assert is_true(shown), shown
        return shown


@contextmanager
def running(directory: Path) -> Iterator[Running]:
    """Run the node of a directory made by `make_directory`; it must end well and without a trace
    of an exception in its log."""
    node = Process(
        "--dir",
        directory,
        "node",
        PESISIR_HTTP_LISTEN="127.0.0.1:0",
        PESISIR_RADIUS_AUTH="127.0.0.1:0",
        PESISIR_RADIUS_ACCT="127.0.0.1:0",
    )
    try:
        entry = pesisir(directory, "gateway", "show", "latihan", "--secret")
        yield Running(directory, node, entry)
    finally:
        if node.process.poll() is None:
            status, _, errors = node.stop()
            assert status == 0, errors
            assert "Traceback" not in errors, errors


@asynccontextmanager
async def village(node: Running, **options: Any) -> AsyncIterator[Village]:
    """A practice gateway in front of a running node, with three phones nobody has seen yet."""
    settings: dict[str, Any] = {
        "radius_auth": address(node.process.ready["auth"]),
        "radius_acct": address(node.process.ready["acct"]),
        "secret": node.entry["secret"],
        "uam_secret": node.entry["uam_secret"],
        "portal_url": node.process.ready["url"] + "/",
        "nas_id": node.entry["nas_id"],
        "clock": time.time,
        "listen": ("127.0.0.1", 0),
        # A phone that was here in an earlier test would come back by itself.
        "phones": [(f"HP {n}", f"02{secrets.token_hex(5)}") for n in range(3)],
        "retry_s": (1.0, 1.0, 1.0),
    }
    gateway = PracticeGateway(**(settings | options))
    await gateway.start()
    try:
        yield Village(node, gateway)
    finally:
        await gateway.stop()


def make_directory(directory: Path) -> Path:
    """A node's directory with one gateway and three profiles."""
    pesisir(directory, "init", "--site", "TJL", "--name", "Tanjung Laut", "--zone", "WITA")
    pesisir(
        directory,
        *("gateway", "add", "latihan", "--family", "coova", "--address", "127.0.0.1"),
        *("--nas-id", "latihan"),
    )
    for name, limits in (
        ("kecil", ("--data-total", "20MB")),
        ("harian", ("--data-day", "500MB", "--time-day", "2h", "--idle", "15m")),
        ("singkat", ("--time-total", "30m")),
    ):
        pesisir(directory, "profile", "set", name, *limits)
    return directory


def run(test: Callable[[], Coroutine[Any, Any, None]], within_s: float = 180) -> None:
    """Run one test, at most so long."""
    asyncio.run(asyncio.wait_for(test(), within_s))
