"""Alarms: what does not fit between a node and its hub, said once, with what both sides signed."""

from collections.abc import Sequence
from enum import StrEnum

from portal.store.db.either import HubTransaction
from portal.store.hub_alarms import AlarmStore, Evidence

MOST_OF_A_KIND = 100
"""Alarms of a kind about one node; further ones are counted on a last one."""
THE_REST = "further"


class Alarm(StrEnum):
    """What an alarm is about."""

    FORK = "fork"
    """A node signed two different histories, or sent other records for a place the hub knows."""
    GAP = "gap"
    """A node sends records beyond what the hub has, and none of those between."""
    ROLLED_BACK = "rolled_back"
    """A node knows less than it had sent: an older disk was put back."""
    UNKNOWN_PARENT = "unknown_parent"
    """An epoch goes on from a checkpoint that this hub never cosigned."""
    HUB_LOST_DATA = "hub_lost_data"
    """A node holds this hub's cosignature of records the hub does not have."""
    SITE_CLAIMED = "site_claimed"
    """A node reports for a site that is another node's, or nobody's."""
    HUB_DAMAGED = "hub_damaged"
    """What the hub has stored is not what it has cosigned."""


ENDS_BY_ITSELF = frozenset((Alarm.GAP,))
"""These end when what was missing has come; all others when a person ends them."""


class Alarms:
    """Raises and ends alarms."""

    def __init__(self, store: AlarmStore):
        self.store = store

    async def raise_alarm(
        self,
        transaction: HubTransaction,
        node_id: str,
        kind: Alarm,
        key: str,
        detail: str,
        evidence: Sequence[Evidence],
        now: int,
    ) -> None:
        """Raise an alarm in the caller's transaction; the same `key` again is the same alarm, which
        stands again if somebody had ended it."""
        others = await self.store.how_many(transaction, node_id, kind, key)
        if others >= MOST_OF_A_KIND:
            key, evidence = THE_REST, ()
        await self.store.raise_alarm(transaction, node_id, kind, key, detail, evidence, now)

    async def end(self, node_id: str, kind: str, key: str, by: str, reason: str, now: int) -> bool:
        """Let a person end an alarm with a reason; whether it was going on."""
        async with self.store.database.transaction() as transaction:
            ended = await self.store.end(transaction, node_id, kind, key, by, reason, now)
        return ended > 0
