"""A village for tests: a node with its pages and RADIUS server, gateways in software, and phones
whose browser forgets every cookie and runs no script. Real sockets on port 0; the clock is moved by
hand.
"""

import asyncio
import http.client
import itertools
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import uvicorn

from portal import keys, settings
from portal.node import Node
from portal.node_clock import Clocks
from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from portal.serve import Service
from portal.store import db
from tests.unit import new_database

T = TypeVar("T")

ZONE = "Asia/Makassar"
NOON_AT = 1795233600  # Saturday 21 November 2026, 12.00 WITA
SECRET = "rahasia-bersama-0123456789"
UAM_SECRET = "rahasia-uam"
HELPER = "Ibu Sari, Kantor Desa, +62 800-0000-0001"


_numbers = itertools.count(1)


class Clock:
    """The only clock there is; `at` is moved by tests."""

    def __init__(self) -> None:
        self.at = float(NOON_AT)

    def read(self) -> float:
        return self.at


class Village:
    """A node, its gateways and its cards. Runs in a thread of its own; methods may be called from
    the test's."""

    def __init__(self, directory: Path, *, variables: dict[str, str] | None = None) -> None:
        self.clock = Clock()
        self._directory = directory
        self._variables = {
            "PESISIR_HTTP_LISTEN": "127.0.0.1:0",
            "PESISIR_HTTP_OPERATOR_LISTEN": "127.0.0.1:0",
            "PESISIR_RADIUS_AUTH": "127.0.0.1:0",
            "PESISIR_RADIUS_ACCT": "127.0.0.1:0",
            **(variables or {}),
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._gateways: list[PracticeGateway] = []
        self.node: Node
        self.service: Service

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    def call(self, work: Callable[[], T]) -> T:
        """Run something in the node's thread."""

        async def called() -> T:
            return work()

        return self.do(called())

    def start(self) -> None:
        self._thread.start()
        self.do(self._start())

    async def _start(self) -> None:
        new_database.create(self._directory / db.FILE_NAME)
        keys.write(self._directory, keys.make(os.urandom))
        await self._open()
        await self.node.admin.add_site("TANJUNG", "WiFi Desa Tanjung", ZONE)
        await self.node.admin.set_site("TANJUNG", {"helper": HELPER, "power_window": "18.00-23.00"})
        await self.node.admin.set_profile("harian", {"data_day": "500MB", "time_day": "2h"})
        await self._serve()

    async def _open(self) -> None:
        clocks = Clocks(self.clock.read, self.clock.read, lambda: True)
        self.node = await Node.open(
            self._directory, settings.load(self._directory, self._variables), clocks
        )

    async def _serve(self) -> None:
        self.service = Service(self.node)
        await self.service.start()

    def restart(self) -> None:
        """End the node and begin it again, at other ports."""
        self.do(self.service.stop())
        self.do(self.node.close())
        self.do(self._open())
        self.do(self._serve())

    def stop(self) -> None:
        self.do(self._stop_gateways())
        self.do(self.service.stop())
        self.do(self.node.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _stop_gateways(self) -> None:
        await asyncio.gather(*(gateway.stop() for gateway in self._gateways))

    @property
    def url(self) -> str:
        host, port, _ = self.service.http_addresses[0]
        return f"http://{host}:{port}"

    # --- gateways and cards ---------------------------------------------------------------------

    def add_gateway(
        self,
        name: str | None = None,
        *,
        uam_secret: str | None = UAM_SECRET,
        real_uam_secret: str | None = None,
        address: str = "127.0.0.1",
        path: str = "/",
        is_heard: bool = True,
        site: str | None = None,
    ) -> PracticeGateway:
        """A registered gateway that runs, with two phones nobody else has.

        `real_uam_secret`: what it really has, when another than registered. `is_heard`: whether its
        RADIUS packets arrive anywhere.
        """
        number = next(_numbers)
        name = name or f"pos-{number}"
        phones = (
            ("HP Bu Sari", f"02a1b2c3{2 * number:04x}"),
            ("HP Pak Rusli", f"02a1b2c3{2 * number + 1:04x}"),
        )
        self.do(
            self.node.admin.add_gateway(
                name,
                family="coova",
                address=address,
                site=site,
                nas_id=name,
                secret=SECRET,
                uam_secret=uam_secret or "none",
            )
        )
        auth, acct = self.service.radius.auth_addresses[0], self.service.radius.acct_addresses[0]
        gateway = PracticeGateway(
            radius_auth=auth[:2] if is_heard else (auth[0], 9),
            radius_acct=acct[:2],
            secret=SECRET,
            uam_secret=real_uam_secret or uam_secret,
            portal_url=self.url + path,
            nas_id=name,
            clock=self.clock.read,
            listen=(address, 0),
            phones=phones,
            mac_auth=is_heard,
            retry_s=(3.0, 3.0) if is_heard else (0.05,),
        )
        self.do(gateway.start())
        self._gateways.append(gateway)
        return gateway

    def issue(self, profile: str = "harian", **options: Any) -> tuple[str, str]:
        """A new card: (code, serial)."""
        made = self.do(self.node.vouchers.issue(profile, **options))["vouchers"][0]
        return made["code"], made["serial"]

    def set_profile(self, name: str, **limits: str) -> None:
        self.do(self.node.admin.set_profile(name, limits))

    def shown(self, serial: str) -> dict[str, Any]:
        """The card as the command line shows it."""
        return self.call(lambda: self.node.vouchers.show(serial))

    def serve_once(self, application: Any, path: str) -> "Page":
        """Serve another application for one request."""
        return self.do(self._serve_once(application, path))

    async def _serve_once(self, application: Any, path: str) -> "Page":
        config = uvicorn.Config(
            application,
            port=0,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        task = asyncio.get_running_loop().create_task(server._serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        page = await asyncio.to_thread(Browser().request, "GET", url)
        server.should_exit = True
        await task
        return page

    def pass_time(self, seconds: float) -> None:
        self.clock.at += seconds


@contextmanager
def village(directory: Path, **options: Any) -> Iterator[Village]:
    """A village for the length of a test."""
    found = Village(directory, **options)
    found.start()
    try:
        yield found
    finally:
        found.stop()


# --- a phone's browser --------------------------------------------------------------------------


class Page(HTMLParser):
    """A response, and what a person can do with it."""

    def __init__(
        self, status: int, headers: http.client.HTTPMessage, body: bytes, url: str
    ) -> None:
        super().__init__(convert_charrefs=True)
        self.status = status
        self.headers = headers
        self.body = body
        self.url = url
        self.hops: list[str] = []
        """The addresses that redirects led to, the last one is this page's."""
        self.html = body.decode(errors="replace")
        self.fields: dict[str, str] = {}
        self.action: str | None = None
        self.links: dict[str, str] = {}
        self.alert = ""
        self._text: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self.action = found.get("action")
        if tag == "input":
            self.fields[found.get("name") or ""] = found.get("value") or ""
            return
        if tag not in ("meta", "link", "rect", "path"):
            self._open.append((tag, found))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if any(tag in ("style", "title") for tag, _ in self._open):
            return
        self._text.append(data)
        for tag, attributes in self._open:
            if tag == "a":
                href = attributes.get("href") or ""
                self.links[data.strip()] = href
            if attributes.get("role") == "alert":
                self.alert += data

    @property
    def text(self) -> str:
        """What can be read, with single spaces."""
        return " ".join(" ".join(self._text).split())


class Browser:
    """Follows redirects like a phone and keeps nothing. `source`: the address it comes from."""

    def __init__(self, source: str = "127.0.0.1") -> None:
        self._source = source

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        """One request, no redirect followed."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=60, source_address=(self._source, 0)
        )
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return Page(response.status, response.headers, response.read(), url)
        finally:
            connection.close()

    def follow(self, page: Page, most: int = 12) -> Page:
        """Go where redirects lead."""
        hops: list[str] = []
        while page.status in (301, 302, 303, 307):
            assert len(hops) < most, f"redirects turn in circles: {hops}"
            hops.append(urljoin(page.url, page.headers["location"]))
            page = self.request("GET", hops[-1])
        page.hops = hops
        return page

    def get(self, url: str, headers: dict[str, str] | None = None) -> Page:
        return self.follow(self.request("GET", url, headers=headers))

    def post(self, url: str, fields: dict[str, str]) -> Page:
        """Send a form; the redirect is not followed."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self.request("POST", url, urlencode(fields).encode(), headers)

    def submit(self, page: Page, **typed: str) -> Page:
        """Fill in the page's form and press its button."""
        assert page.action is not None, f"no form on {page.url}: {page.text[:300]}"
        fields = {**page.fields, **typed}
        return self.follow(self.post(urljoin(page.url, page.action), fields))

    def click(self, page: Page, text: str) -> Page:
        """Follow a link by its words."""
        assert text in page.links, f"no link {text!r}; there are {sorted(page.links)}"
        return self.get(urljoin(page.url, page.links[text]))


def open_internet(browser: Browser, gateway: PracticeGateway, phone: Phone) -> Page:
    """What happens when a phone without a login opens a page: it is led to the portal."""
    return browser.get(f"http://{gateway.host}:{phone.port}/internet")
