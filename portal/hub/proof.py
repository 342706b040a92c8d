"""Proof: does the hub still have what it has cosigned, and do its sums follow from it.

For auditors and for the nightly look: everything is made anew from the stored octets, nothing is
believed that can be computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from portal.domain.ledger import Flag, Kind, LedgerError, Usage, decode
from portal.domain.merkle import Frontier
from portal.hub import checkpoints
from portal.hub.checkpoints import CheckpointError, Cosigner
from portal.hub.forgetting import DEFAULT_ZONE, zone_of
from portal.hub.retention import first_kept
from portal.hub.rollups import day_and_month
from portal.hub.usage import MOST_OCTETS, MOST_S
from portal.store.db.either import Row
from portal.store.hub import HubStore
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.store.hub_usage import HubUsageStore

_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something stored that is not what it should be."""

    node_id: str
    epoch: int
    what: str
    """One plain sentence."""


class Proof:
    """Checks what the hub has stored."""

    def __init__(
        self,
        nodes: HubStore,
        ledger: HubLedgerStore,
        usage: HubUsageStore,
        cosigner: Cosigner,
        *,
        months: int,
    ):
        """`months`: the retention of sessions, `[privacy] session_months`."""
        self._nodes = nodes
        self._ledger = ledger
        self._usage = usage
        self._cosigner = cosigner
        self._database = nodes.database
        self._months = months

    def _first_day(self, now: int) -> int:
        # A month more: what came late is deleted by when it came.
        return first_kept(now, self._months - 1).toordinal()

    async def faults(self, node_id: str, now: int) -> list[Fault]:
        """Everything that is wrong with what the hub has of a node, the first of each kind."""
        found: list[Fault] = []
        keys = await self._nodes.all_keys_of(self._database, node_id)
        for head in await self._ledger.heads(self._database, node_id):
            for what in (*await self._of_log(head, keys), *await self._of_rows(head)):
                found.append(Fault(node_id, head.epoch, what))
        for row in await self._usage.days_that_differ(node_id, self._first_day(now)):
            found.append(
                Fault(
                    node_id,
                    -1,
                    f"The sums of site {row['site']}, day {row['day']}, profile {row['profile']}"
                    " are not those of its sessions.",
                )
            )
        return found

    async def _of_log(self, head: HubHead, keys: Sequence[bytes]) -> list[str]:
        """The tree is made anew from records and leaves, and met with every cosigned checkpoint."""
        cosigned = {
            row["size"]: row["note"]
            for row in await self._ledger.checkpoints(self._database, head.node_id)
            if row["epoch"] == head.epoch
        }
        found = []
        frontier = Frontier()
        last = 0
        while frontier.size < head.size:
            first = frontier.size
            end = min(head.size, first + _AT_ONCE)
            leaves = await self._ledger.leaves(self._database, head.node_id, head.epoch, first, end)
            for its_leaf in leaves:
                frontier.append(its_leaf)
                signed = cosigned.get(frontier.size)
                if signed is not None:
                    what = self._of_checkpoint(signed, frontier, head, keys)
                    if what is not None:
                        return [
                            f"{what}; the first wrong record is one of {last} to"
                            f" {frontier.size - 1}."
                        ]
                    last = frontier.size
            if len(leaves) < end - first:
                return [
                    f"Records are missing: of {first} to {end - 1} only {len(leaves)} are there."
                ]
        if frontier.root() != head.frontier.root():
            found.append(f"The stored head has another root than the {head.size} records.")
        if head.size and head.size not in cosigned:
            found.append(f"There is no cosigned checkpoint of all {head.size} records.")
        return found

    def _of_checkpoint(
        self, signed: str, frontier: Frontier, head: HubHead, keys: Sequence[bytes]
    ) -> str | None:
        size = frontier.size
        try:
            seen = checkpoints.read(signed, head.node_id, head.epoch, keys)
            is_own = self._cosigner.is_own(signed)
        except (CheckpointError, ValueError) as error:
            return f"The checkpoint of {size} records is not the node's ({str(error).rstrip('.')})"
        if not is_own:
            return f"The checkpoint of {size} records does not have this hub's cosignature"
        if seen.checkpoint.root != frontier.root() or seen.checkpoint.size != size:
            return f"The first {size} records have another root than the cosigned checkpoint"
        return None

    async def _of_rows(self, head: HubHead) -> list[str]:
        """The first session row that is not what its record says."""
        zones = {
            row["number"]: zone_of(row["zone"])
            for row in await self._usage.names(self._database, head.node_id)
            if row["what"] == "site"
        }
        for first in range(head.pruned_size, head.size, _AT_ONCE):
            end = min(head.size, first + _AT_ONCE)
            stored = {
                row["seq"]: row
                for row in await self._usage.sessions_between(
                    self._database, head.node_id, head.epoch, first, end
                )
            }
            for row in await self._ledger.whole_records(self._database, head, first, end):
                if row["kind"] not in (Kind.SESSION, Kind.SLICE):
                    continue
                try:
                    record = decode(bytes(row["public"]))
                except LedgerError as error:
                    return [f"Record {row['seq']} cannot be read: {error}."]
                told, usage = stored.get(row["seq"]), record.payload
                if told is None or not isinstance(usage, Usage) or not _is_told(usage, told):
                    return [f"Session row {row['seq']} is not what the record says."]
                day = day_and_month(record.at, zones.get(record.site, DEFAULT_ZONE))[0]
                if abs(told["day"] - day) > 1 or told["site"] != record.site:
                    return [f"Session row {row['seq']} stands under another day or site."]
        return []


def _is_told(usage: Usage, row: Row) -> bool:
    """Whether a row has the figures of a record; less where it tells something again."""
    figures = (usage.input_octets, usage.output_octets, usage.counted_s)
    stored = (row["input_octets"], row["output_octets"], row["counted_s"])
    if bytes(row["pseudonym"]) != usage.pseudonym or row["profile"] != usage.profile:
        return False
    if usage.flags & Flag.REPLAYED:
        return all(0 <= less <= full for less, full in zip(stored, figures, strict=True))
    return stored == (
        min(usage.input_octets, MOST_OCTETS),
        min(usage.output_octets, MOST_OCTETS),
        min(usage.counted_s, MOST_S),
    )
