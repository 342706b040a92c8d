"""Serve a hub: its store, what nodes and reviewers talk to, from the lock to the last commit.

One of the two places where the clock is read. Order matters: own the directory, open the store,
listen, say "ready"; at the end stop listening, let go.
"""

import asyncio
import logging
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from portal import control, http_listeners
from portal.certificates import https_host
from portal.control_server import ControlServer
from portal.domain.quota import day_text
from portal.errors import UserError
from portal.hub import keys as hub_keys
from portal.hub.alarms import Alarms
from portal.hub.checkpoints import Cosigner
from portal.hub.documents import Documents
from portal.hub.export import LedgerExport
from portal.hub.forgetting import FORGOTTEN
from portal.hub.ingest import Ingest
from portal.hub.keys import HubKeys
from portal.hub.office import HubOffice
from portal.hub.proof import Proof
from portal.hub.retention import TABLES, Retention
from portal.hub.sealed import Sealed
from portal.hub.usage import UsageKeeper
from portal.hub_process import backups as hub_backups
from portal.hub_process import commands as hub_commands
from portal.hub_process.directories import open_store
from portal.hub_process.metrics import HubCollector, HubFigures
from portal.served_certificate import ServedCertificate
from portal.settings import Settings, load_for_hub
from portal.store.db.either import StoreUnavailableError
from portal.store.hub import HubStore
from portal.store.hub_alarms import AlarmStore
from portal.store.hub_documents import DocumentStore
from portal.store.hub_ledger import HubLedgerStore
from portal.store.hub_sealed import SealedStore
from portal.store.hub_usage import HubUsageStore
from portal.web import enrol_api, hub_app
from portal.web.arrivals import client_address
from portal.web.diskominfo.app import ReviewApp
from portal.web.hub_api import HubApi
from portal.web.text import installed

log = logging.getLogger(__name__)

SILENT_AFTER_S = 86_400
TIDIED_EVERY_S = 600.0
BACKUP_LOOKED_AT_EVERY_S = 300.0
HEALTH_KEPT_S = 5.0
CERTIFICATE_LOOKED_AT_EVERY_S = 3600.0


@dataclass(slots=True)
class Hub:
    """A hub's parts, without sockets. The caller owns the directory."""

    directory: Path
    settings: Settings
    keys: HubKeys
    store: HubStore
    office: HubOffice
    now: Callable[[], int]
    ledger: HubLedgerStore
    usage: HubUsageStore
    alarms: Alarms
    documents: Documents
    sealed: Sealed
    ingest: Ingest
    retention: Retention
    proof: Proof
    export: LedgerExport

    @classmethod
    async def open(
        cls, directory: Path, settings: Settings, now: Callable[[], int] | None = None
    ) -> "Hub":
        """Open a hub's directory. Raises UserError when something in it cannot be used."""
        clock = now or (lambda: int(time.time()))
        keys = hub_keys.read(directory)
        store = await open_store(directory, settings, keys, clock())
        try:
            return await cls._built(directory, settings, keys, store, clock)
        except BaseException:
            # Its threads would keep the program from ending.
            await store.database.close()
            raise

    @classmethod
    async def _built(
        cls,
        directory: Path,
        settings: Settings,
        keys: HubKeys,
        store: HubStore,
        now: Callable[[], int],
    ) -> "Hub":
        database = store.database
        ledger, usage = HubLedgerStore(database), HubUsageStore(database)
        alarms = Alarms(AlarmStore(database))
        documents = Documents(
            DocumentStore(database), store, keys.documents_key, keys.sign_document
        )
        sealed = Sealed(SealedStore(database), store, ledger)
        cosigner = Cosigner(keys.cosigner_key, keys.cosign)
        months = settings.privacy.session_months
        ingest = Ingest(
            store,
            ledger,
            UsageKeeper(usage, ledger, store, alarms),
            alarms,
            documents,
            sealed,
            Cosigner(keys.cosigner_key, keys.cosign),
        )
        office = await HubOffice.open(
            store,
            keys,
            documents,
            settings.http.url or "",
            now=now,
            elapsed_s=time.monotonic,
            random_bytes=secrets.token_bytes,
            random_below=secrets.randbelow,
            random_token=secrets.token_urlsafe,
        )
        return cls(
            directory,
            settings,
            keys,
            store,
            office,
            now,
            ledger,
            usage,
            alarms,
            documents,
            sealed,
            ingest,
            Retention(store, ledger, usage, months=months),
            Proof(store, ledger, usage, cosigner, months=months),
            LedgerExport(store, ledger, keys.cosigner_key),
        )

    def introduction(self) -> dict[str, str]:
        """What a node has to know of this hub, in the words of portal/sync/trust.py."""
        return {
            "hub_id": self.keys.hub_id,
            "url": self.settings.http.url or "",
            "authority": self.keys.ca_pem,
            "cosigner": str(self.keys.cosigner_key),
            "documents": str(self.keys.documents_key),
            "recovery": self.keys.recovery_public.hex(),
        }

    async def close(self) -> None:
        """Let the database go."""
        await self.store.database.close()

    async def tidy(self) -> int:
        """Delete what is over and give its room back; how many records went."""
        pruned = await self.retention.prune(self.now())
        facts = await self.store.facts()
        if pruned.records or facts.get(FORGOTTEN) == "1":
            await self.store.database.vacuum(TABLES)
            async with self.store.database.transaction() as transaction:
                await self.store.set_facts(transaction, [(FORGOTTEN, "0")])
            log.info("pruned records=%d before=%s", pruned.records, pruned.before)
        return pruned.records

    async def is_healthy(self) -> bool:
        """Whether something can be stored now."""
        try:
            async with self.store.database.transaction() as transaction:
                await self.store.set_facts(transaction, [("looked_at", str(self.now()))])
        except StoreUnavailableError:
            return False
        return True


class HubService:
    """A hub and everything it listens on."""

    def __init__(self, hub: Hub):
        self.hub = hub
        self.http_addresses: list[tuple[str, int, bool]] = []
        """(host, port, whether TLS) of each listener."""
        self.api = HubApi(
            nodes=hub.store,
            ingest=hub.ingest,
            sealed=hub.sealed,
            introduction=hub.introduction(),
            http=hub.settings.http,
            now=hub.now,
            elapsed_s=time.monotonic,
        )
        self.collector = HubCollector(self.api.counts)
        hub.ingest.on_taken = self.collector.count
        self._web: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
        self._health = (-HEALTH_KEPT_S, False)
        self._looking = asyncio.Lock()
        self._certificate: ServedCertificate | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._control = ControlServer(
            hub.directory, lambda name, arguments, _: hub_commands.execute(hub, name, arguments)
        )

    def routes(self) -> list[BaseRoute]:
        """What the hub serves besides health and metrics: each face adds its own here."""
        hub = self.hub
        review = ReviewApp(
            hub.office,
            installed(),
            http=hub.settings.http,
            secret=hub.keys.web_key,
            elapsed_s=time.monotonic,
            random_token=secrets.token_urlsafe,
        )
        self.review = review
        return [
            *self.api.routes(),
            *enrol_api.routes(
                hub.office.enrolments,
                source=lambda request: client_address(request, hub.settings.http.trusted_proxies),
                elapsed_s=time.monotonic,
            ),
            *review.routes(),
        ]

    async def start(self) -> None:
        """Listen everywhere; raises UserError with one plain sentence when that cannot be."""
        http = self.hub.settings.http
        self._certificate = self._certificate_to_serve()
        registry = CollectorRegistry()
        registry.register(self.collector)
        application = hub_app.build(
            routes=self.routes(),
            http=http,
            is_healthy=self._is_healthy,
            registry=registry,
            before_metrics=self._refresh_metrics,
        )
        bound = [(listen, http_listeners.bind(listen)) for listen in http.listen]
        for listen, listener in bound:
            certificate = self._certificate
            context = certificate.context if listen.is_tls and certificate is not None else None
            self._web.append(await http_listeners.serve(application, listen, listener, context))
            host, port = listener.getsockname()[:2]
            self.http_addresses.append((host, port, listen.is_tls))
            if not listen.is_tls and host not in ("127.0.0.1", "::1"):
                log.warning("listens_without_tls listen=%s", listen)
        await self._control.start()
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._look_after()))
        self._tasks.append(loop.create_task(self._back_up_nightly()))
        if self._certificate is not None:
            self._tasks.append(loop.create_task(self._watch_certificate()))

    async def _is_healthy(self) -> bool:
        """The same for a few seconds: anybody may ask, and each look is a write to the disk."""
        async with self._looking:
            seen_s, is_good = self._health
            if time.monotonic() - seen_s > HEALTH_KEPT_S:
                is_good = await self.hub.is_healthy()
                self._health = (time.monotonic(), is_good)
            return is_good

    async def _refresh_metrics(self) -> None:
        """Read from the store what the collector cannot wait for."""
        nodes = await self.hub.store.nodes()
        alarms = await self.hub.alarms.store.going_on()
        quiet_since = self.hub.now() - SILENT_AFTER_S
        self.collector.figures = HubFigures(
            nodes=dict(Counter(str(node["state"]) for node in nodes)),
            alarms=dict(Counter(str(alarm["kind"]) for alarm in alarms)),
            silent_nodes=sum(
                node["state"] == "active" and (node["last_seen_at"] or 0) < quiet_since
                for node in nodes
            ),
            database_octets=await self.hub.store.database.octets(),
        )

    async def _look_after(self) -> None:
        """Once a day, by the office's midnight, what is over goes and free room is given back."""
        day = -1
        while True:
            today = self.hub.office.today()
            if today != day:
                try:
                    await self.hub.tidy()
                    day = today
                except StoreUnavailableError as error:
                    log.error("not_tidied reason=%s", error)
                except Exception:
                    log.exception("not_tidied")
            await asyncio.sleep(TIDIED_EVERY_S)

    async def _back_up_nightly(self) -> None:
        """One backup a night, at the office's midnight or when the hub is next on."""
        hub = self.hub
        while True:
            await asyncio.sleep(BACKUP_LOOKED_AT_EVERY_S)
            try:
                made = await hub_backups.nightly(hub, day_text(hub.office.today()))
            except (UserError, StoreUnavailableError) as error:
                log.error("not_backed_up reason=%s", error)
            except Exception:
                log.exception("not_backed_up")
            else:
                if made is not None:
                    is_own = hub_backups.is_on_own_disk(hub.directory, made.parent)
                    log.info("backed_up file=%s is_on_own_disk=%s", made, is_own)

    def _certificate_to_serve(self) -> ServedCertificate | None:
        """The certificate of the listeners with TLS: our own, or what the settings name."""
        http = self.hub.settings.http
        if http.tls_cert is None or http.tls_key is None:
            return None
        if not any(listen.is_tls for listen in http.listen):
            return None
        self._renew_own_certificate()
        return ServedCertificate(
            http.tls_cert,
            http.tls_key,
            https_host(http.url),
            now=self.hub.now,
            keeps_sessions=True,
        )

    def _renew_own_certificate(self) -> None:
        """Make our own certificate anew when its names have changed or its end is near."""
        http = self.hub.settings.http
        if http.tls_cert != self.hub.directory / hub_keys.CERTIFICATE_NAME:
            return  # the office has one of its own
        host = urlsplit(http.url).hostname if http.url is not None else None
        names = hub_keys.names_of(host, [listen.host for listen in http.listen])
        if hub_keys.renew_certificate(self.hub.directory, self.hub.keys, names, self.hub.now()):
            log.info("certificate_made names=%s", ",".join(names))

    async def _watch_certificate(self) -> None:
        """Renew our own certificate in time, and take a changed one into use."""
        while self._certificate is not None:
            await asyncio.sleep(CERTIFICATE_LOOKED_AT_EVERY_S)
            try:
                await asyncio.to_thread(self._renew_own_certificate)
                await asyncio.to_thread(self._certificate.look)
            except Exception:
                log.exception("certificate_not_looked_at")

    def ready_line(self) -> str:
        """What is served where, for people and for programs that wait for it."""
        parts = ["ready"]
        for host, port, is_tls in self.http_addresses:
            scheme = "https" if is_tls else "http"
            parts.append(f"{scheme}={http_listeners.url_of(host, port, is_tls)}")
        parts.append(f"hub={self.hub.keys.hub_id}")
        parts.append(f"url={self.hub.settings.http.url or parts[1].partition('=')[2]}")
        return " ".join(parts)

    async def stop(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._control.close()
        for server, _ in self._web:
            server.should_exit = True
        for _, task in self._web:
            with suppress(TimeoutError):
                await asyncio.wait_for(task, 3.0)


async def serve(
    directory: Path,
    settings: Settings,
    *,
    on_ready: Callable[[HubService], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Run a hub until `stopping` is set, or SIGTERM or SIGINT where it is not given."""
    stop = stopping or asyncio.Event()
    if stopping is None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    hub = await Hub.open(directory, settings)
    service = HubService(hub)
    try:
        await service.start()
        if on_ready is not None:
            on_ready(service)
        await stop.wait()
    finally:
        await service.stop()
        await hub.close()


def run(directory: Path, settings: Settings) -> None:
    """Own the directory and serve it until told to stop; the first line on stdout is "ready"."""

    def ready(service: HubService) -> None:
        sys.stdout.write(service.ready_line() + "\n")
        sys.stdout.flush()

    with control.own(directory, "hub", wait_s=control.WAIT_FOR_COMMAND_S):
        asyncio.run(serve(directory, settings, on_ready=ready))


def call(directory: Path, command: str, /, **arguments: Any) -> Any:
    """Run a command of portal/hub_process/commands.py in the running hub of `directory`, or here.

    Raises UserError.
    """

    async def here(name: str, given: Mapping[str, Any], _: control.Report) -> object:
        hub = await Hub.open(directory, load_for_hub(directory))
        try:
            return await hub_commands.execute(hub, name, given)
        finally:
            await hub.close()

    return control.call(directory, command, arguments, here)
