"""Retention: which phone and which address a session had, whose a record is, and how to reach who
complained, is forgotten after a while, and so is what was complained of.

Usage stays; who it was goes (UU 27/2022; the periods are the settings of `[privacy]`). Runs by
itself in small steps, so that RADIUS goes on. Each step is a record of the ledger that says how
many and by which rule, never whose; days are whole, so that one day is one step. That complaints
were deleted stands in the audit too.
"""

import logging
from collections.abc import Awaitable, Callable

from portal.accounts import Accounts
from portal.attempts import Attempts
from portal.audit import BY_ITSELF
from portal.ledger import Ledger
from portal.pseudonyms import Pseudonyms
from portal.store.audit import Deed
from portal.store.complaints import ComplaintStore
from portal.store.erasing import ErasingStore
from portal.store.ledger import Rule
from portal.store.node import NodeStore

log = logging.getLogger(__name__)

DAY_S = 86_400
ERASED_BODIES_S = 2 * DAY_S
"""So long the total of a day may still need the records of a person who was erased."""
CHECKPOINTS_S = 90 * DAY_S
"""From then on one cosigned checkpoint a day is enough."""
MONTH_DAYS = 31
"""So many months are over in any calendar."""
STEP = 1_000
"""Rows looked at in one transaction: a few milliseconds."""


class Retention:
    """Erases what is old enough."""

    def __init__(
        self,
        store: NodeStore,
        accounts: Accounts,
        complaints: ComplaintStore,
        attempts: Attempts,
        ledger: Ledger,
        pseudonyms: Pseudonyms,
        *,
        personal_days: int,
        complaint_days: int,
        session_months: int,
        has_hub: bool,
        now: Callable[[], int],
    ):
        self._store = store
        self._erasing = ErasingStore(store.database)
        self._accounts = accounts
        self._complaints = complaints
        self._attempts = attempts
        self._ledger = ledger
        self._pseudonyms = pseudonyms
        self._personal_days = personal_days
        self._complaint_days = complaint_days
        self._session_months = session_months
        self._has_hub = has_hub
        self._now = now
        self._pruned_before_at = 0

    async def forget(self) -> int:
        """Erase MAC and IP of sessions, and phones, not seen for the period, contact and card of
        complaints made before it, what gateways were asked, and whose the ledger's records are;
        return how many sessions."""
        rule = self._rule("personal_days", self._personal_days)
        total = await _all_steps(lambda: self._store.forget_personal(rule, STEP))
        self._accounts.forget_phones_before(rule.before_at)
        phones = await self._store.forget_phones(rule)
        contacts = await self._complaints.forget_contacts(rule)
        complaints = await self._complaints.delete_answered(
            self._rule("complaint_days", self._complaint_days),
            lambda site_id, n: Deed(BY_ITSELF, "complaint.forget", site_id, str(n)),
        )
        if complaints:
            log.info("complaints_deleted complaints=%d", complaints)
        actions = await self._attempts.forget_before(rule)
        records = await _all_steps(lambda: self._ledger.store.forget_personal(rule, STEP))
        names = await self._pseudonyms.forget(rule)
        bodies = await self._prune() + await _all_steps(self._drop_erased)
        if total or phones or contacts or complaints or actions or records or names or bodies:
            await self._store.database.empty_log()
            log.info(
                "personal_parts_erased sessions=%d phones=%d contacts=%d records=%d pseudonyms=%d"
                " bodies=%d",
                *(total, phones, contacts, records, names, bodies),
            )
        return total

    async def _prune(self) -> int:
        rule = self._rule("session_months", self._session_months, MONTH_DAYS)
        if rule.before_at <= self._pruned_before_at:
            # Looking for them reads the whole ledger: once a day is enough.
            return 0
        pruned = await _all_steps(
            lambda: self._ledger.store.prune(rule, STEP, has_hub=self._has_hub)
        )
        await self._ledger.store.thin_checkpoints(self._now() - CHECKPOINTS_S)
        self._pruned_before_at = rule.before_at
        return pruned

    async def _drop_erased(self) -> int:
        async with self._ledger.store.pruning:
            return await self._erasing.drop_bodies(
                self._now() - ERASED_BODIES_S, STEP, has_hub=self._has_hub
            )

    def _rule(self, setting: str, number: int, days: int = 1) -> Rule:
        now = self._now()
        before_at = now - number * days * DAY_S
        return Rule(f"{setting}={number}", before_at - before_at % DAY_S, now)


async def _all_steps(step: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while done := await step():
        total += done
        if done < STEP:
            break
    return total
