"""Coverage at the hub: what the records of a site's boxes say about each of its hours.

The rules are in domain.coverage; here is which record is evidence of what.
"""

import json
from collections.abc import Callable

from portal.domain import coverage
from portal.domain.coverage import HOUR_S, Hour, Report, Stretch, Usage
from portal.domain.hours import parse_hours
from portal.domain.ledger import ClockQuality, Kind, LedgerError, decode
from portal.hub.review import SiteView
from portal.store.db.either import Row
from portal.store.hub_review import ReviewStore

_ALIVE = (Kind.BOOT, Kind.CLOCK, Kind.CONFIG, Kind.ACTION, Kind.HEALTH, Kind.EPOCH)
"""A node that wrote one of these was running; a gap's record is written after the gap."""
_TOLD_WITHIN_S = 60
"""The record of an hour's health is written so soon after its end, and is about that hour."""
_DOUBTFUL = (ClockQuality.DOUBTFUL, ClockQuality.UNSET)


class Coverage:
    """The hours of sites."""

    def __init__(self, store: ReviewStore, *, now: Callable[[], int]) -> None:
        self._store = store
        self._now = now

    async def hours(self, site: SiteView, first_at: int, end_at: int) -> list[Hour]:
        """Each hour of a site between two instants that has begun."""
        now = self._now()
        usage: dict[int, Usage] = {}
        reports: list[Report] = []
        downs: list[Stretch] = []
        nodes = dict.fromkeys(place.node_id for place in site.places)
        for place in site.places:
            for row in await self._store.hours(
                place.node_id, place.number, first_at // HOUR_S, end_at // HOUR_S
            ):
                at = int(row["hour"]) * HOUR_S
                old = usage.get(at, Usage())
                usage[at] = Usage(
                    old.sessions + int(row["sessions"]),
                    old.octets + int(row["octets"]),
                    # Of two boxes in one hour one took the other's place.
                    max(old.peak, int(row["peak"])),
                )
        for node_id in nodes:
            # What tells of the last hour was written after it.
            rows = await self._store.events(node_id, _ALIVE, first_at, end_at + HOUR_S)
            reports += [_report(row) for row in rows]
            downs += [down for row in rows for down in down_stretches(row)]
        return coverage.hours(
            first_at,
            end_at,
            now_at=now,
            reports=reports,
            downs=downs,
            usage=usage,
            power_hours=_power_hours(site.power_window),
            zone=site.zone,
        )


def _report(row: Row) -> Report:
    at = int(row["at"])
    if int(row["kind"]) == Kind.HEALTH:
        at -= _TOLD_WITHIN_S
    return Report(at, _is_doubtful(row))


def down_stretches(row: Row) -> list[Stretch]:
    """When there was no backhaul in the hour before a record of health, as its node saw it."""
    if int(row["kind"]) != Kind.HEALTH:
        return []
    payload = json.loads(row["payload"])
    found = payload.get("down") if isinstance(payload, dict) else None
    told = found if isinstance(found, list) else []
    pairs = [pair for pair in told if isinstance(pair, list) and len(pair) == 2]
    # A node may write what it likes; what makes no sense is no evidence.
    return [Stretch(*pair) for pair in pairs if all(isinstance(each, int) for each in pair)]


def _is_doubtful(row: Row) -> bool:
    """Whether the node did not know the time when it wrote the record."""
    if row["public"] is None:
        return False
    try:
        return decode(bytes(row["public"])).clock_quality in _DOUBTFUL
    except LedgerError:
        return False


def _power_hours(text: str) -> str | None:
    try:
        return parse_hours(text) if text else None
    except ValueError:
        return None
