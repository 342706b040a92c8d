"""Hub side: what of a node has to do with its hub, built in one place: policy, sealed state, sync.

The node owns it and starts its task; without enrolment it does nothing.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from portal import enrolment
from portal.admin import Admin
from portal.devices import Devices
from portal.domain.ledger import Kind
from portal.ledger import Ledger
from portal.notices import Notices
from portal.operators import Operators
from portal.policy import Policy
from portal.settings import FILE_NAME as SETTINGS_NAME
from portal.settings import Settings
from portal.signing import verify
from portal.store.db import Database
from portal.store.ledger import Entry
from portal.store.sync import SyncStore
from portal.sync import trust as hub_trust
from portal.sync.exchanges import Sync
from portal.sync.sealed_state import SealedState
from portal.sync.trust import HubTrust


class HubSide:
    """A node's dealings with its hub."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        database: Database,
        ledger: Ledger,
        admin: Admin,
        notices: Notices,
        devices: Devices,
        operators: Operators,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        is_clock_doubtful: Callable[[], bool],
        first_session_id: Callable[[], int],
    ):
        self._directory = directory
        self._settings = settings
        self._trust: HubTrust | None = None
        self._trusted_at_ns = -1
        self._database = database
        self._ledger = ledger
        self.store = SyncStore(database)
        self.policy = Policy(
            self.store,
            admin,
            notices,
            devices,
            operators,
            key=lambda: None if (trust := self.trust()) is None else trust.documents,
            verify=verify,
            record=lambda payload: ledger.append(Kind.POLICY, payload),
            now=now,
        )
        self.sealed = SealedState(
            database, directory, settings_name=SETTINGS_NAME, now=now, random_octets=os.urandom
        )
        self._now = now
        dice = secrets.SystemRandom()
        self.sync = Sync(
            self.store,
            ledger,
            self.policy,
            self.sealed,
            _Clock(admin, now, elapsed_s, is_clock_doubtful),
            trust=self.trust,
            proxy=settings.hub.proxy,
            interval_s=settings.hub.interval_s,
            throw=dice.random,
            first_session_id=first_session_id,
        )

    def trust(self) -> HubTrust | None:
        """The hub of this node, None before it is enrolled; `[hub] url` comes before the address
        of the enrolment. Read again when the file was changed: `pesisir enrol` may run beside."""
        path = self._directory / hub_trust.FILE_NAME
        try:
            changed_at_ns = path.stat().st_mtime_ns
        except OSError:
            return None
        if changed_at_ns != self._trusted_at_ns:
            self._trust, self._trusted_at_ns = hub_trust.read(self._directory), changed_at_ns
        found, url = self._trust, self._settings.hub.url
        if found is None or url is None or url == found.url:
            return found
        return HubTrust(url, found.authority, found.cosigner, found.documents, found.recovery)

    async def tell_key(self) -> None:
        """Have the ledger tell of a new signing key, where it does not yet."""
        payload = enrolment.untold_key(self._directory, self._ledger.keys)
        if payload is None:
            return
        async with self._database.transaction() as transaction:
            transaction.append(Entry(Kind.KEY, self._now(), payload))
        await asyncio.to_thread(enrolment.key_told, self._directory)


class _Clock:
    """The node's time as an exchange needs it."""

    def __init__(
        self,
        admin: Admin,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        is_doubtful: Callable[[], bool],
    ):
        self._admin = admin
        self.now = now
        self.elapsed_s = elapsed_s
        self.is_doubtful = is_doubtful

    def hour(self) -> int:
        """The hour of the day at the first site."""
        sites = self._admin.sites_by_id
        if not sites:
            return 12
        return datetime.fromtimestamp(self.now(), self._admin.zone(min(sites))).hour
