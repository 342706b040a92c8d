"""Retention: which phone and which address a session had, and how to reach who complained, is
forgotten after a while, and so is what was complained of.

Usage stays; who it was goes (UU 27/2022; the periods are the settings of `[privacy]`). Runs by
itself in small steps, so that RADIUS goes on, and says in the log what it did; that complaints were
deleted stands in the audit.
"""

import logging
from collections.abc import Callable

from portal.accounts import Accounts
from portal.attempts import Attempts
from portal.audit import BY_ITSELF
from portal.store.audit import Deed
from portal.store.complaints import ComplaintStore
from portal.store.node import NodeStore

log = logging.getLogger(__name__)

DAY_S = 86_400
STEP = 1_000
"""Sessions looked at in one transaction: a few milliseconds."""


class Retention:
    """Erases the personal parts that are old enough."""

    def __init__(
        self,
        store: NodeStore,
        accounts: Accounts,
        complaints: ComplaintStore,
        attempts: Attempts,
        *,
        days: int,
        complaint_days: int,
        now: Callable[[], int],
    ):
        self._store = store
        self._accounts = accounts
        self._complaints = complaints
        self._attempts = attempts
        self._days = days
        self._complaint_days = complaint_days
        self._now = now

    async def forget(self) -> int:
        """Erase MAC and IP of sessions, and phones, not seen for the period, contact and card of
        complaints made before it, and what gateways were asked; return how many sessions."""
        before_at = self._now() - self._days * DAY_S
        total = 0
        while True:
            erased = await self._store.forget_personal(before_at, STEP)
            total += erased
            if erased < STEP:
                break
        self._accounts.forget_phones_before(before_at)
        phones = await self._store.forget_phones(before_at)
        contacts = await self._complaints.forget_contacts(before_at)
        await self._attempts.forget_before(before_at)
        complaints = await self._complaints.delete_answered(
            self._now() - self._complaint_days * DAY_S,
            self._now(),
            lambda site_id, n: Deed(BY_ITSELF, "complaint.forget", site_id, str(n)),
        )
        if complaints:
            log.info("complaints_deleted complaints=%d", complaints)
        if total or phones or contacts:
            log.info(
                "personal_parts_erased sessions=%d phones=%d contacts=%d", total, phones, contacts
            )
        return total
