"""Serve: a node with its sockets, from the lock to the last commit.

The one place where the clocks are read. Order matters: own the directory, open the data, listen,
say "ready"; at the end stop listening, write what is left, let go.
"""

import asyncio
import gc
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.routing import Route

from portal import backups, control, followed, http_listeners
from portal.certificates import https_host
from portal.commands import execute
from portal.control_server import ControlServer
from portal.desk_listeners import LOOPBACK, DeskListeners
from portal.domain.quota import day_ordinal, day_text
from portal.errors import UserError
from portal.metrics import NodeCollector
from portal.node import Node
from portal.node_clock import Clocks
from portal.opennds.bridge import Opennds
from portal.served_address import own_url
from portal.served_certificate import ServedCertificate
from portal.setting_values import Listen
from portal.settings import Settings
from portal.web import app as web_app
from portal.web.arrivals import client_address
from portal.web.operator.app import DeskApp
from portal.web.text import installed
from radius.nas.opennds import FAMILY as OPENNDS
from radius.server import Server

log = logging.getLogger(__name__)

STOP_WITHIN_S = 8.0
BACKUP_LOOKED_AT_EVERY_S = 600.0
CERTIFICATE_LOOKED_AT_EVERY_S = 60.0
_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")


def real_clocks() -> Clocks:
    """The system's clocks. CLOCK_BOOTTIME goes on while a laptop sleeps, and nobody can set it."""
    return Clocks(
        system_at=time.time,
        elapsed_s=partial(time.clock_gettime, time.CLOCK_BOOTTIME),
        is_synchronised=_SYNCHRONISED.exists,
    )


async def open_node(directory: Path, settings: Settings) -> Node:
    """A node on the real clocks, without sockets; the caller owns the directory."""
    return await Node.open(directory, settings, real_clocks())


class Service:
    """A node and everything it listens on."""

    def __init__(self, node: Node):
        self.node = node
        self.radius = Server(
            node.clients,
            node.aaa,
            learned=node.store.learned_addresses(),
            on_learned=node.learned_address,
        )
        node.trace.attach(self.radius)
        self.opennds = Opennds(
            node.admin,
            self.radius.receive,
            elapsed_s=node.elapsed_s,
            random_octets=secrets.token_bytes,
        )
        node.disconnects.ways[OPENNDS] = self.opennds.disconnect
        node.doctor.agents = self.opennds.told
        # Answers of gateways behind a NAT come to the socket that hears their accounting.
        self.radius.hear_answers(node.disconnects.hear)
        self.http_addresses: list[tuple[str, int, bool]] = []
        """(host, port, whether TLS) of each listener."""
        self.desk_addresses: list[tuple[str, int, bool]] = []
        """The same of the listeners that serve the operator's desk alone."""
        self.desk: DeskApp
        self._desk_listeners = DeskListeners(
            node.settings.http, node.admin, node.sessions, node.portal_url
        )
        self._web: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
        self._control = ControlServer(
            node.directory,
            lambda name, arguments, report: execute(node, name, arguments, report),
            {name: partial(follow, node) for name, follow in followed.TABLE.items()},
        )
        self._certificate: asyncio.Task[None] | None = None
        self._backups: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen everywhere; raises UserError with one plain sentence when that cannot be."""
        node, settings = self.node, self.node.settings
        await node.begin_service()
        try:
            await self.radius.start(
                [listen.address for listen in settings.radius.auth],
                [listen.address for listen in settings.radius.acct],
            )
        except OSError as error:
            raise UserError(str(error)) from error
        node.certificate = self._certificate_to_serve()
        sockets = [(listen, http_listeners.bind(listen)) for listen in settings.http.listen]
        desk_sockets = self._desk_sockets()
        texts = installed()
        self.desk = DeskApp(node, texts, random_token=secrets.token_urlsafe)
        registry = CollectorRegistry()
        registry.register(NodeCollector(node, self.radius.stats))
        application = web_app.build(
            door=node.door,
            captivities=node.captivities,
            admin=node.admin,
            backhaul=lambda: node.backhaul,
            http=settings.http,
            texts=texts,
            now=node.now,
            secret=node.keys.web_key,
            notices=node.notices,
            complaints=node.complaints,
            trace=node.trace,
            opennds=self.opennds,
            is_healthy=node.is_healthy,
            registry=registry,
            retention_days=node.settings.privacy.personal_days,
            # Residents' listeners serve the desk too where they are encrypted, and only there.
            routes=[
                Route(path, self.desk.gate(lambda request: request.url.scheme == "https"))
                for path in ("/operator", "/operator/{path:path}")
            ],
        )
        for listen, bound in sockets:
            self.http_addresses.append(await self._serve(application, listen, bound))
        host, port, is_tls = self.http_addresses[0]
        node.real_url = own_url(host, port, is_tls=is_tls)
        desk = self.desk.gate(self._is_desk_open)
        for listen, bound in desk_sockets:
            self.desk_addresses.append(await self._serve(desk, listen, bound))
        self._say_where_the_desk_is()
        await self._control.start()
        self._backups = asyncio.get_running_loop().create_task(self._back_up_nightly())
        if node.certificate is not None:
            self._certificate = asyncio.get_running_loop().create_task(self._watch_certificate())

    def _desk_sockets(self) -> list[tuple[Listen, socket.socket]]:
        """The desk's sockets. Where nobody set them, a port that is taken stops nothing."""
        is_set = bool(self.node.settings.http.operator_listen)
        sockets = []
        for listen in self._desk_listeners.wanted():
            try:
                sockets.append((listen, http_listeners.bind(listen)))
            except UserError as error:
                if is_set:
                    raise UserError(
                        str(error).replace("[http] listen", "[http] operator_listen")
                    ) from error
                if listen.host != LOOPBACK.host:
                    log.warning("desk_not_opened listen=%s reason=%s", listen, error)
                    continue
                free = replace(listen, port=0)
                sockets.append((free, http_listeners.bind(free)))
        return sockets

    def _is_desk_open(self, request: Request) -> bool:
        local = request.scope.get("server") or ("", None)
        peer = request.client.host if request.client else ""
        return self._desk_listeners.is_open(
            local[0],
            peer,
            client_address(request, self.node.settings.http.trusted_proxies),
            is_tls=request.url.scheme == "https",
        )

    def _say_where_the_desk_is(self) -> None:
        self.node.desk_urls = self.desk_urls()
        self.node.desk_warnings = self._desk_listeners.warnings()
        for url in self.node.desk_urls:
            log.info("desk_open url=%s", url)
        for warning in self.node.desk_warnings:
            log.warning("desk_exposed %s", warning)

    def desk_urls(self) -> list[str]:
        """Where operators find the desk."""
        own = [
            (own_url(host, port, is_tls=is_tls) if host in ("0.0.0.0", "::") else None)
            or http_listeners.url_of(host, port, is_tls)
            for host, port, is_tls in self.desk_addresses
        ]
        tls = [
            http_listeners.url_of(host, port, True)
            for host, port, is_tls in self.http_addresses
            if is_tls
        ]
        return [f"{origin}/operator/" for origin in (*own, *tls)]

    async def _serve(
        self, application: object, listen: Listen, bound: socket.socket
    ) -> tuple[str, int, bool]:
        """Serve an application on a socket; return the address and whether it speaks TLS."""
        certificate = self.node.certificate
        context = certificate.context if listen.is_tls and certificate is not None else None
        server, task = await http_listeners.serve(application, listen, bound, context)
        self._web.append((server, task))
        host, port = bound.getsockname()[:2]
        return (host, port, listen.is_tls)

    def _certificate_to_serve(self) -> ServedCertificate | None:
        """The certificate of the listeners with TLS; raises UserError for one that is unusable."""
        http = self.node.settings.http
        is_wanted = any(listen.is_tls for listen in (*http.listen, *http.operator_listen))
        if not is_wanted or http.tls_cert is None or http.tls_key is None:
            return None
        return ServedCertificate(
            http.tls_cert, http.tls_key, https_host(http.url), now=self.node.now
        )

    async def _watch_certificate(self) -> None:
        """Take a renewed certificate into use without a restart."""
        while self.node.certificate is not None:
            await asyncio.sleep(CERTIFICATE_LOOKED_AT_EVERY_S)
            try:
                await asyncio.to_thread(self.node.certificate.look)
            except Exception:
                log.exception("certificate_not_looked_at")

    async def _back_up_nightly(self) -> None:
        """One backup a night, at the first site's midnight or when the box is next on."""
        node = self.node
        while True:
            await asyncio.sleep(BACKUP_LOOKED_AT_EVERY_S)
            zone = node.admin.zone(min(node.admin.sites_by_id))
            try:
                made = await backups.nightly(node, day_text(day_ordinal(node.now(), zone)))
            except (UserError, OSError):
                log.exception("nightly_backup_failed")
                continue
            if made is not None:
                log.info("nightly_backup file=%s", made)

    def ready_line(self) -> str:
        """What is served where, for people and for programs that wait for it."""
        parts = ["ready"]
        for host, port, is_tls in self.http_addresses:
            parts.append(
                f"{'https' if is_tls else 'http'}={http_listeners.url_of(host, port, is_tls)}"
            )
        for name, addresses in (
            ("auth", self.radius.auth_addresses),
            ("acct", self.radius.acct_addresses),
        ):
            parts.extend(
                f"{name}={http_listeners.address_of(*address[:2])}" for address in addresses
            )
        parts.extend(f"desk={url}" for url in self.desk_urls())
        parts.append(f"url={self.node.portal_url()}")
        return " ".join(parts)

    async def stop(self) -> None:
        """Stop listening, write the last of it."""
        for task in (self._certificate, self._backups):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await self._control.close()
        await self.opennds.close()
        for server, _ in self._web:
            server.should_exit = True
        for _, task in self._web:
            with suppress(TimeoutError):
                await asyncio.wait_for(task, 3.0)
        self.radius.close()


async def serve(
    directory: Path,
    settings: Settings,
    *,
    on_ready: Callable[[Service], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Run a node until `stopping` is set, or SIGTERM or SIGINT where it is not given."""
    stop = stopping or asyncio.Event()
    if stopping is None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    node = await open_node(directory, settings)
    service = Service(node)
    try:
        await service.start()
        if on_ready is not None:
            on_ready(service)
        await stop.wait()
    finally:
        await service.stop()
        await node.close()


def run(directory: Path, settings: Settings) -> None:
    """Own the directory and serve it until told to stop; the first line on stdout is "ready"."""

    def ready(service: Service) -> None:
        gc.collect()
        gc.freeze()  # the program and the cards: no collection needs to look at them again
        sys.stdout.write(service.ready_line() + "\n")
        sys.stdout.flush()

    # What lives long here (cards, sessions) is not garbage; looking for it in every 700 new objects
    # costs a tenth of the CPU under load.
    gc.set_threshold(50_000, 20, 50)
    with control.own(directory, "node", wait_s=control.WAIT_FOR_COMMAND_S):
        asyncio.run(serve(directory, settings, on_ready=ready))
