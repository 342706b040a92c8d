"""Coverage at the hub: what the records of a site's boxes say about each of its hours.

The rules are in domain.coverage; here is which record is evidence of what.
"""

import json
from collections.abc import Callable
from typing import Any

from portal.domain import coverage
from portal.domain.coverage import HOUR_S, Hour, Report, Stretch, Usage
from portal.domain.hours import parse_hours
from portal.domain.ledger import ClockQuality, Kind, LedgerError, decode
from portal.hub.review import SiteView
from portal.store.db.either import Row
from portal.store.hub_review import ReviewStore

_ALIVE = (Kind.BOOT, Kind.CLOCK, Kind.CONFIG, Kind.ACTION, Kind.HEALTH, Kind.WAN, Kind.EPOCH)
"""A node that wrote one of these was running; a gap's record is written after the gap."""
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
                    old.sessions + int(row["sessions"]), old.octets + int(row["octets"])
                )
        for node_id in nodes:
            rows = await self._store.events(node_id, _ALIVE, first_at, end_at)
            reports += [Report(int(row["at"]), _is_doubtful(row)) for row in rows]
            before = await self._store.event_before(node_id, Kind.WAN, first_at)
            links = [before] if before is not None else []
            links += [row for row in rows if int(row["kind"]) == Kind.WAN]
            downs += down_stretches(links, end_at)
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


def down_stretches(links: list[Row], end_at: int) -> list[Stretch]:
    """From the changes of a link that its node wrote down, the stretches in which it was down."""
    found: list[Stretch] = []
    since: int | None = None
    for row in links:
        payload = _payload(row)
        if isinstance(payload.get("down_from"), int) and isinstance(payload.get("down_until"), int):
            found.append(Stretch(payload["down_from"], payload["down_until"]))
            continue
        if payload.get("state") == "down":
            since = int(row["at"]) if since is None else since
        elif since is not None:
            found.append(Stretch(since, int(row["at"])))
            since = None
    if since is not None:
        found.append(Stretch(since, end_at))
    return found


def _payload(row: Row) -> dict[str, Any]:
    found = json.loads(row["payload"])
    return found if isinstance(found, dict) else {}


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
