"""Reviewers: who may sign in at the hub, by the same rules as operators at a node's desk.

Two roles. An admin approves boxes, writes documents and sees everything; a reviewer reads
aggregates and the usage log, and opens a voucher only with a reason. Neither belongs to a site.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from portal.admin import Site
from portal.operators import Operators
from portal.store.audit import Deed
from portal.store.hub_office import OfficeStore

ROLES = ("admin", "reviewer")
OFFICE_ID = 0


class Office:
    """The office as the one place of a hub: its name, and the zone of its pages."""

    def __init__(self, name: str, zone: str) -> None:
        self.sites_by_id: Mapping[int, Site] = {OFFICE_ID: Site(OFFICE_ID, "-", name, zone)}
        self._zone = ZoneInfo(zone)

    def zone(self, site_id: int) -> ZoneInfo:
        """The office's zone."""
        return self._zone


class ReviewerStore:
    """Reviewers in the hub's database, in the form that Operators asks for."""

    def __init__(self, office: OfficeStore, rows: Sequence[Mapping[str, Any]]) -> None:
        self._office = office
        self._rows = rows

    @classmethod
    async def load(cls, office: OfficeStore) -> "ReviewerStore":
        """Read who there is; Operators keeps them in memory."""
        names = ("name", "role", "password_hash", "must_change", "created_at")
        rows = [{name: row[name] for name in names} for row in await office.people()]
        return cls(office, [{**row, "site_ids": None} for row in rows])

    def operators(self) -> Sequence[Mapping[str, Any]]:
        """All that were there when this was loaded."""
        return self._rows

    async def add(
        self,
        name: str,
        role: str,
        site_ids: Collection[int] | None,
        password_hash: str,
        must_change: bool,
        at: int,
        deed: Deed,
    ) -> None:
        """Add somebody whose name is free."""
        async with self._office.database.transaction() as transaction:
            await self._office.add_person(transaction, name, role, password_hash, must_change, at)
            await self._office.write_deed(transaction, at, deed)

    async def change(
        self, name: str, role: str, site_ids: Collection[int] | None, at: int, deed: Deed
    ) -> None:
        """Set what somebody may do."""
        async with self._office.database.transaction() as transaction:
            await self._office.set_role(transaction, name, role, at)
            await self._office.write_deed(transaction, at, deed)

    async def set_password(
        self,
        name: str,
        password_hash: str,
        must_change: bool,
        kept_browser: bytes | None,
        at: int,
        deed: Deed,
    ) -> None:
        """Set a password; no browser here opens with a PIN."""
        async with self._office.database.transaction() as transaction:
            await self._office.set_password(transaction, name, password_hash, must_change, at)
            await self._office.write_deed(transaction, at, deed)

    async def remove(self, name: str, at: int, deed: Deed) -> None:
        """Remove somebody; what they did stays."""
        async with self._office.database.transaction() as transaction:
            await self._office.remove_person(transaction, name)
            await self._office.write_deed(transaction, at, deed)

    async def record(self, at: int, deed: Deed) -> None:
        """Write a deed that changes nothing else."""
        async with self._office.database.transaction() as transaction:
            await self._office.write_deed(transaction, at, deed)


async def reviewers(
    office: OfficeStore,
    *,
    now: Callable[[], int],
    elapsed_s: Callable[[], float],
    random_below: Callable[[int], int],
    random_token: Callable[[int], str],
) -> Operators:
    """The hub's people, ready to sign in."""
    return Operators(
        await ReviewerStore.load(office),
        None,
        roles=ROLES,
        now=now,
        elapsed_s=elapsed_s,
        random_below=random_below,
        random_token=random_token,
    )
