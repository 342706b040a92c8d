"""Node: the application built once, without sockets; `serve` listens, the command line calls.

Here every part meets every other: construction in the order of dependence, the tasks that run in
the background, and what the parts tell each other.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

from portal import keys as node_keys
from portal.aaa import Aaa
from portal.accounting import GONE, Accounting
from portal.accounts import Accounts
from portal.admin import Admin
from portal.archives import NODE_NIGHTLY, newest_at
from portal.attempts import Attempts
from portal.audit import Audit
from portal.captivity import Captivities
from portal.commit import GroupCommit
from portal.complaints import Complaints
from portal.devices import Devices
from portal.disconnects import Disconnects
from portal.doctor.doctor import Doctor
from portal.door import Door
from portal.errors import UserError
from portal.grants import Grants
from portal.health import OUTAGES_KEPT_S, Backhaul, Disk
from portal.history import History
from portal.hub_side import HubSide
from portal.ledger import RESTORED, Ledger
from portal.ledger_hours import Hours
from portal.link_watch import LinkWatch
from portal.misses import Misses
from portal.node_clock import Clocks, NodeClock
from portal.notices import Notices
from portal.online import Online
from portal.operators import Operators
from portal.overview import CertificateLook, DayView, SilentDevice
from portal.pseudonyms import Pseudonyms
from portal.renewals import Renewals
from portal.retention import Retention
from portal.served_address import own_url
from portal.served_certificate import ServedCertificate
from portal.sessions import Live, Sessions
from portal.settings import Settings
from portal.sheets.job import PrintJobs
from portal.signing import SigningKeys
from portal.store import db
from portal.store.actions import ActionStore
from portal.store.audit import AuditStore
from portal.store.batch import Batch
from portal.store.complaints import ComplaintStore
from portal.store.db import Database, DatabaseError, DatabaseTooNewError, DatabaseUnusableError
from portal.store.devices import DeviceStore
from portal.store.journal import Journal
from portal.store.ledger import LedgerStore, Stamp
from portal.store.node import NodeStore
from portal.store.notices import NoticeStore
from portal.store.operators import OperatorStore
from portal.store.overview import OverviewStore
from portal.store.pseudonyms import PseudonymStore
from portal.tickets import Tickets
from portal.trace import Trace
from portal.vouchers import Vouchers
from radius.clients import Clients

log = logging.getLogger(__name__)

STALE_EVERY_S = 15.0
SETTLE_EVERY_S = 30.0
CLOCK_SAVED_EVERY_S = 300.0
FORGET_EVERY_S = 3600.0
BOOT_SHIFT = 32
"""A session id is the boot number and a count: unique without asking the disk."""


class Node:
    """A directory's node, ready to decide. `open` builds it, `close` writes the last of it."""

    def __init__(self, directory: Path, settings: Settings, clocks: Clocks, database: Database):
        self.directory = directory
        self.settings = settings
        self.keys = node_keys.read(directory)
        self.real_url: str | None = None
        """Where the pages are really served, once they are."""
        self.desk_urls: list[str] = []
        """Where the operator's desk is really served."""
        self.desk_warnings: list[str] = []
        self.certificate: ServedCertificate | None = None
        """What the listeners with TLS serve, None without one."""
        """Where phones could listen to what is typed at the desk."""
        self.store = NodeStore(database)
        self.elapsed_s = clocks.elapsed_s
        self._database = database
        self._tasks: list[asyncio.Task[None]] = []
        self._box_changes: list[tuple[str, str]] = []
        self._learned: list[tuple[str]] = []
        self._gigawords: list[tuple[int]] = []
        self._login_bases: list[tuple[str, int]] = []

        box = self.store.box()
        self.boot = int(box.get("boot", "0"))
        known_at = max(float(box.get("clock_at", "0")), self.store.newest_evidence_at())
        self.time = NodeClock(clocks, known_at)
        self.clock, self.now = self.time.clock, self.time.now
        self._alive_at = int(known_at)
        """When the node was last known to run."""
        self._is_cut = self.boot > 0 and not box.get("stopped_at")
        self._is_serving = False
        self.disk = Disk(directory)
        self.admin = Admin(self.store, random_token=secrets.token_urlsafe, now=self.now)
        self.audit = Audit(AuditStore(database))
        people = OperatorStore(database)
        self.operators = Operators(
            people,
            self.admin,
            pins=people,
            misses=people,
            now=self.now,
            elapsed_s=self.elapsed_s,
            random_below=secrets.randbelow,
            random_token=secrets.token_urlsafe,
        )
        self.accounts = Accounts(
            self.store, self.keys.hash_key, self.admin.zone, elapsed_s=self.elapsed_s
        )
        self.sessions = Sessions(self.store)
        self.signing = SigningKeys.read_or_make(directory, os.urandom)
        self.pseudonyms = Pseudonyms(PseudonymStore(database), random_octets=os.urandom)
        self.ledger = Ledger(
            LedgerStore(
                database,
                stamp=lambda: Stamp(self.boot, self.time.quality()),
                random_octets=os.urandom,
            ),
            self.signing,
            self.admin,
            self.sessions,
            self.pseudonyms,
            now=self.now,
            soon=lambda: self.commit.soon(),
        )
        self.backhaul = Backhaul(
            settings.backhaul.probes,
            now=self.now,
            soon=lambda: self.commit.soon(),
            outages=self.store.outages(self.now() - OUTAGES_KEPT_S),
        )
        self.attempts = Attempts(
            ActionStore(database),
            self.admin,
            now=self.now,
            soon=lambda: self.commit.soon(),
            device_name=lambda voucher_id: self.devices.name_of(voucher_id),
        )
        self.commit = GroupCommit(
            self.store,
            (
                self.accounts.collect,
                self.sessions.collect,
                self.attempts.collect,
                self.backhaul.collect,
                self.pseudonyms.collect,
                self.ledger.collect,
                self._collect,
            ),
            on_failure=self._commit_failed,
        )
        self.disconnects = Disconnects(
            self.admin, self.attempts, now=self.now, elapsed_s=self.elapsed_s
        )
        self.tickets = Tickets()
        self.misses = Misses()
        self.grants = Grants(
            self.admin,
            self.accounts,
            self.sessions,
            self.disconnects,
            self.commit,
            now=self.now,
            elapsed_s=self.elapsed_s,
            first_session_id=((self.boot + 1) << BOOT_SHIFT) + 1,
        )
        self.renewals = Renewals(
            self.admin,
            self.accounts,
            self.sessions,
            self.grants,
            self.disconnects,
            self.commit,
            now=self.now,
            elapsed_s=self.elapsed_s,
        )
        self.admin.on_profile(self.renewals.profile_changed)
        self.accounting = Accounting(
            self.admin,
            self.accounts,
            self.sessions,
            self.grants,
            self.commit,
            self.disconnects,
            self.renewals,
            self.ledger,
            class_key=self.keys.class_key,
            now=self.now,
            elapsed_s=self.elapsed_s,
            outages=self.backhaul.outages,
            learned_gigawords=self._learn_gigawords,
        )
        self.devices = Devices(
            DeviceStore(database),
            self.admin,
            self.accounts,
            self.sessions,
            self.grants,
            self.disconnects,
            self.commit,
            now=self.now,
            random_below=secrets.randbelow,
            next_batch_number=lambda: self.vouchers.next_batch_number(),
        )
        self.aaa = Aaa(
            self.admin,
            self.accounts,
            self.grants,
            self.accounting,
            self.commit,
            self.tickets,
            self.misses,
            class_key=self.keys.class_key,
            now=self.now,
            elapsed_s=self.elapsed_s,
            is_disk_full=lambda: self.disk.is_full,
            blocked=self.devices.blocked_phones,
            known_devices=self.devices.cards_of_known,
            device_cards=self.devices.hidden_cards,
        )
        self.trace = Trace(
            self.admin,
            self.accounts,
            self.sessions,
            class_key=self.keys.class_key,
            now=self.now,
            elapsed_s=self.elapsed_s,
        )
        self.disconnects.on_outcome = self.trace.asked
        self.doctor = Doctor(
            self.admin,
            self.sessions,
            self.aaa,
            self.disconnects,
            self.tickets,
            self.trace,
            now=self.now,
            elapsed_s=self.elapsed_s,
            is_backhaul_down=lambda: self.backhaul.state == "down",
            is_clock_doubtful=lambda: self.clock.is_doubtful,
        )
        self.door = Door(
            self.admin,
            self.accounts,
            self.sessions,
            self.grants,
            self.aaa,
            self.tickets,
            self.misses,
            now=self.now,
            elapsed_s=self.elapsed_s,
            random_token=secrets.token_hex,
            learned_login_base=self._learn_login_base,
            blocked=self.devices.blocked_phones,
        )
        self.captivities = Captivities(
            self.admin,
            self.accounts,
            self.sessions,
            self.door,
            now=self.now,
            elapsed_s=self.elapsed_s,
            outages=self.backhaul.outages,
        )
        self.vouchers = Vouchers(
            self.store,
            self.admin,
            self.accounts,
            self.sessions,
            self.grants,
            self.commit,
            self.aaa,
            self.pseudonyms,
            seal_key=self.keys.seal_key,
            hidden_cards=self.devices.hidden_cards,
            device_name_of=self.devices.name_of,
            now=self.now,
            elapsed_s=self.elapsed_s,
            random_below=secrets.randbelow,
            portal_url=self.portal_url,
            quota_changed=self.renewals.account_changed,
        )
        self.history = History(
            self.store,
            self.admin,
            self.sessions,
            self.vouchers,
            self.commit,
            self.disconnects,
            record=lambda attempt: self.online.record(attempt),
            now=self.now,
        )
        self.notices = Notices(NoticeStore(database), self.admin, now=self.now)
        complaints = ComplaintStore(database)
        self.complaints = Complaints(
            complaints,
            secret=self.keys.web_key,
            now=self.now,
            elapsed_s=self.elapsed_s,
            hidden_cards=self.devices.hidden_cards,
        )
        overviews = OverviewStore(database)
        self.online = Online(
            overviews,
            self.admin,
            self.accounts,
            self.sessions,
            self.grants,
            self.disconnects,
            now=self.now,
            device_name=self.devices.name_of,
        )
        self.link_watch = LinkWatch(
            self.admin,
            self.backhaul,
            self.aaa.heard_s,
            probes=settings.backhaul.probes,
            hub_url=None,
            now=self.now,
            elapsed_s=self.elapsed_s,
        )
        self.day_view = DayView(
            overviews,
            self.admin,
            self.sessions,
            self.online,
            self.link_watch,
            self.misses,
            self.disk,
            now=self.now,
            elapsed_s=self.elapsed_s,
            is_healthy=self.is_healthy,
            is_clock_doubtful=lambda: self.clock.is_doubtful,
            complaints=self.complaints.waiting,
            silent_devices=self._silent_devices,
            newest_backup_at=lambda: newest_at(settings.backup.place(directory), NODE_NIGHTLY),
            certificate=self._certificate_look,
            is_refused_by_hub=lambda: self.hub.sync.is_refused,
        )
        self.retention = Retention(
            self.store,
            self.accounts,
            complaints,
            self.attempts,
            self.ledger,
            self.pseudonyms,
            personal_days=settings.privacy.personal_days,
            complaint_days=settings.privacy.complaint_days,
            session_months=settings.privacy.session_months,
            has_hub=settings.hub.url is not None,
            now=self.now,
        )
        self.hours = Hours(
            self.ledger,
            self.admin,
            self.backhaul,
            self.disk,
            self.clock,
            directory,
            version=version("pesisir"),
            now=self.now,
            elapsed_s=self.elapsed_s,
            clock_quality=self.time.quality,
            save_clock=self._clock_changed,
            heard_s=lambda: self.aaa.heard_s,
            online=lambda: len(self.sessions),
        )
        self.hub = HubSide(
            directory,
            settings,
            database,
            self.ledger,
            self.admin,
            self.notices,
            self.devices,
            self.operators,
            now=self.now,
            elapsed_s=self.elapsed_s,
            is_clock_doubtful=lambda: self.clock.is_doubtful,
            first_session_id=lambda: (self.boot << BOOT_SHIFT) + 1,
        )
        self.hub.sync.on_round = self.link_watch.hub_answered
        self.prints = PrintJobs(
            directory,
            now=self.now,
            random_token=secrets.token_urlsafe,
            free_octets=self.disk.free_octets,
        )
        self.clients = Clients(self.admin.clients())
        self.admin.on_change(lambda: self.clients.replace(self.admin.clients()))
        for session in self.store.open_sessions():
            self.accounting.resume(session)
        self.disconnects.on_gone = self._session_gone
        self.disconnects.resume(self.sessions.by_id)

    @classmethod
    async def open(cls, directory: Path, settings: Settings, clocks: Clocks) -> "Node":
        """Open the data of a directory, upgrading its schema. The caller owns the directory.

        Raises UserError with a plain sentence when the database or the keys cannot be used.
        """
        path = directory / db.FILE_NAME
        if not path.exists():
            raise UserError(f"There is no node in {directory}; make one with: pesisir init")
        if path.is_file() and path.stat().st_size == 0:
            # SQLite would take it for a new database, and every card for unknown.
            raise UserError(
                f"The database {path} is empty; put a backup in place with: pesisir restore FILE"
            )
        try:
            await asyncio.to_thread(db.migrate, path)
            database = await Database.open(path)
        except (DatabaseTooNewError, DatabaseUnusableError) as error:
            raise UserError(str(error)) from error
        except DatabaseError as error:
            raise UserError(f"The database {path} cannot be used: {error}.") from error
        try:
            await Journal(database).replay()
            node = cls(directory, settings, clocks, database)
            first_id = ((node.boot + 1) << BOOT_SHIFT) + 1
            await node.ledger.begin(node.store.box(), first_session_id=first_id)
            for step in (node.hub.tell_key, node.vouchers.remove_unfinished):
                try:
                    await step()
                except DatabaseError as error:
                    # On a full disk the node starts; a later start does what is left.
                    log.warning("left_at_start step=%s error=%s", step.__name__, error)
        except BaseException as error:
            await database.close()
            trouble = db.trouble(error)
            if trouble is not None:
                raise UserError(
                    f"The database {path} cannot be read: {trouble}; put a backup in place with:"
                    " pesisir restore FILE"
                ) from error
            raise
        node.commit.start()
        return node

    async def close(self) -> None:
        """Write what is left and close the database."""
        await self.prints.close()
        self.hub.sync.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.renewals.stop()
        await self.disconnects.stop()
        if self._is_serving:
            now = str(self.now())
            self._box_changes += [("clock_at", now), ("stopped_at", now)]
        await self.commit.stop()
        await self._database.close()

    async def begin_service(self) -> None:
        """Count a boot and start the tasks in the background; before the first packet."""
        self.boot += 1
        self._box_changes.append(("boot", str(self.boot)))
        self._box_changes.append(("stopped_at", ""))
        loss = "power cut" if self._is_cut else None
        self.hours.booted(self._alive_at, RESTORED if self.ledger.is_restored else loss)
        self.backhaul.end_unfinished(self.now())
        self.accounts.preload(self.now())
        if not await self.commit.now():
            raise UserError(f"The database in {self.directory} cannot be written; see the log.")
        self._is_serving = True
        if not await asyncio.to_thread(self.disk.take_ballast):
            log.warning("ballast_missing free_octets=%d", self.disk.free_octets())
        for name, work in (
            ("stale sessions", self._every(STALE_EVERY_S, self._sweep)),
            ("journal", self._every(SETTLE_EVERY_S, self.commit.settle)),
            ("clock", self._every(CLOCK_SAVED_EVERY_S, self._save_clock)),
            ("forgetting", self._every(FORGET_EVERY_S, self._forget)),
            ("backhaul", self.backhaul.run()),
            ("link watch", self.link_watch.run()),
            ("hub", self.hub.sync.run()),
        ):
            self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    # -- what the parts tell each other ----------------------------------------------------

    def portal_url(self) -> str:
        """Where residents find the portal: `[http] url`, else this box's address."""
        if self.settings.http.url is not None:
            return self.settings.http.url
        if self.real_url is not None:
            return self.real_url
        listen = self.settings.http.listen[0]
        return own_url(listen.host, listen.port, is_tls=listen.is_tls)

    def is_healthy(self) -> bool:
        """Whether usage can be stored."""
        return self.aaa.is_healthy()

    def _certificate_look(self) -> CertificateLook | None:
        found = self.certificate
        if found is None:
            return None
        return CertificateLook(
            found.standing.ends_at, found.standing.fault, is_kept=found.refusal is not None
        )

    def _silent_devices(self, site_id: int) -> list[SilentDevice]:
        return [
            SilentDevice(one["name"], one["last_heard_at"])
            for one in self.devices.known(site_id)
            if one["is_silent"]
        ]

    def learned_address(self, address: str) -> None:
        """This source address has sent a valid Message-Authenticator: from now on it must."""
        self._learned.append((address,))
        self.commit.soon()

    def _session_gone(self, live: Live) -> None:
        self.accounting.close_without_stop(live, GONE)
        self.commit.soon()

    def _learn_gigawords(self, gateway_id: int) -> None:
        if self.admin.learn(gateway_id, sends_gigawords=True):
            self._gigawords.append((gateway_id,))

    def _learn_login_base(self, gateway_id: int, login_base: str) -> None:
        if self.admin.learn(gateway_id, login_base=login_base):
            self._login_bases.append((login_base, gateway_id))
            self.commit.soon()

    def _commit_failed(self, error: Exception) -> None:
        self.ledger.commit_failed()
        self.disk.found_full(error)

    def _collect(self, batch: Batch) -> Callable[[bool], None]:
        taken = (self._box_changes, self._learned, self._gigawords, self._login_bases)
        self._box_changes, self._learned, self._gigawords, self._login_bases = [], [], [], []
        batch.box, batch.learned, batch.gigaword_gateways, batch.login_bases = taken

        def settle(is_committed: bool) -> None:
            if not is_committed:
                self._box_changes = taken[0] + self._box_changes
                self._learned = taken[1] + self._learned
                self._gigawords = taken[2] + self._gigawords
                self._login_bases = taken[3] + self._login_bases

        return settle

    # -- in the background -----------------------------------------------------------------

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                log.exception("background_work_failed work=%s", getattr(work, "__name__", work))

    async def _sweep(self) -> None:
        self.accounting.close_stale()
        self.renewals.sweep()
        self.tickets.forget_old(self.elapsed_s())
        self.doctor.forget_old()
        self.disk.look()
        await self.hours.look()

    async def _sweep_prints(self) -> None:
        self.prints.sweep()

    def _clock_changed(self) -> None:
        self._box_changes.append(("clock_at", str(self.now())))

    async def _save_clock(self) -> None:
        self._box_changes.append(("clock_at", str(self.now())))
        self.commit.soon()

    async def _forget(self) -> None:
        await self.vouchers.forget_sealed()
        await self.retention.forget()
        await self.operators.forget_old_browsers()
