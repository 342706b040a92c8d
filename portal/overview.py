"""Overview: one site's day at a glance, gathered from what the parts know.

Nothing here waits for a network or reads history: results of looks lie in memory, sums lie by day.
What is worth an alarm is decided in `portal.alerts`.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from portal.admin import Admin
from portal.cards.endings import UNDO_REASON
from portal.certificates import Fault
from portal.domain import hours, quota
from portal.health import Disk
from portal.link_watch import HEARD_S, UP, LinkWatch, Look
from portal.misses import Misses
from portal.online import Online
from portal.sessions import Sessions
from portal.store.overview import OverviewStore

HEARD, ANSWERS, WAITING, SILENT = "heard", "answers", "waiting", "silent"


@dataclass(frozen=True, slots=True)
class GatewayLook:
    """What is known of a gateway now."""

    name: str
    state: str
    """`heard` in the last quarter of an hour; `answers` at its address, though it had nothing to
    report; `waiting`, since the box has just started; `silent`."""
    heard_at: int | None
    """Its last RADIUS packet, None for none since the node started."""


@dataclass(frozen=True, slots=True)
class SilentDevice:
    """A known device that is silent longer than was set for it."""

    name: str
    last_heard_at: int | None


@dataclass(frozen=True, slots=True)
class CertificateLook:
    """What is known of the certificate the portal serves."""

    ends_at: int | None
    fault: Fault | None
    """Why phones do not trust it, None when they do."""
    is_kept: bool
    """The files there are now do not fit, so the one of before is served on."""


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """A site in one line."""

    site_id: int
    online: int
    month_octets: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the first page says of a site."""

    now_at: int
    up_since_at: int
    """When the node's program began."""
    is_power_on: bool
    """False outside the site's power window: silence is no fault then."""
    is_settled: bool
    """Power and the node have been on long enough for a gateway to have spoken."""
    is_healthy: bool
    """Whether usage can be stored."""
    is_disk_full: bool
    disk_free_octets: int
    is_clock_doubtful: bool
    gateways: tuple[GatewayLook, ...]
    internet: Look
    dns: Look
    hub: Look
    online: int
    given_today: int
    unused_today: int
    """Of the cards given today, those nobody has used yet."""
    month_octets: int
    misses: int
    """Wrong codes in 24 hours."""
    complaints_open: int
    complaints_late: int
    """Open for more than 24 hours."""
    silent_devices: tuple[SilentDevice, ...]
    backup_at: int | None
    """When the newest nightly backup was made, None for none."""
    certificate: CertificateLook | None = None
    """None where the portal serves none (level 0)."""
    is_refused_by_hub: bool = False
    """The hub answers, and takes nothing from this box until somebody at the office acts."""


class Waiting(Protocol):
    """Complaints without an answer: (open, late) at these sites."""

    def __call__(self, site_ids: Collection[int], /) -> tuple[int, int]: ...


class DayView:
    """Puts overviews together."""

    def __init__(
        self,
        store: OverviewStore,
        admin: Admin,
        sessions: Sessions,
        online: Online,
        link: LinkWatch,
        misses: Misses,
        disk: Disk,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        is_healthy: Callable[[], bool],
        is_clock_doubtful: Callable[[], bool],
        complaints: Waiting,
        silent_devices: Callable[[int], Sequence[SilentDevice]],
        newest_backup_at: Callable[[], int | None],
        certificate: Callable[[], CertificateLook | None] = lambda: None,
        is_refused_by_hub: Callable[[], bool] = lambda: False,
    ):
        self._store = store
        self._admin = admin
        self._sessions = sessions
        self._online = online
        self._link = link
        self._misses = misses
        self._disk = disk
        self._now = now
        self._elapsed_s = elapsed_s
        self._is_healthy = is_healthy
        self._is_clock_doubtful = is_clock_doubtful
        self._complaints = complaints
        self._silent_devices = silent_devices
        self._newest_backup_at = newest_backup_at
        self._certificate = certificate
        self._is_refused_by_hub = is_refused_by_hub
        self._began_s = elapsed_s()

    async def of(self, site_id: int) -> Overview:
        """A site's overview now; asks for a fresh look at the link."""
        self._link.want()
        await self._store.settle()
        now = self._now()
        up_s = self._elapsed_s() - self._began_s
        zone = self._admin.zone(site_id)
        today = hours.window_at("day", now, zone)
        given, unused = self._store.given(site_id, today.start_at, UNDO_REASON)
        free_octets = await asyncio.to_thread(self._disk.free_octets)
        backup_at = await asyncio.to_thread(self._newest_backup_at)
        complaints_open, complaints_late = self._complaints((site_id,))
        figures = self.figures((site_id,))[0]
        is_power_on = self._admin.is_power_on(site_id, now)
        return Overview(
            now_at=now,
            up_since_at=round(now - up_s),
            is_power_on=is_power_on,
            is_settled=up_s > HEARD_S
            and is_power_on
            and self._admin.is_power_on(site_id, now - HEARD_S),
            is_healthy=self._is_healthy(),
            is_disk_full=self._disk.is_full,
            disk_free_octets=free_octets,
            is_clock_doubtful=self._is_clock_doubtful(),
            gateways=tuple(self._gateways(site_id, now, up_s)),
            internet=self._link.internet,
            dns=self._link.dns,
            hub=self._link.hub,
            online=figures.online,
            given_today=given,
            unused_today=unused,
            month_octets=figures.month_octets,
            misses=self._misses.count(site_id, self._elapsed_s()),
            complaints_open=complaints_open,
            complaints_late=complaints_late,
            silent_devices=tuple(self._silent_devices(site_id)),
            backup_at=backup_at,
            certificate=self._certificate(),
            is_refused_by_hub=self._is_refused_by_hub(),
        )

    def figures(self, site_ids: Sequence[int]) -> list[SiteFigures]:
        """Online and this month's data of sites, each by its own calendar, as of the last `of`."""
        now = self._now()
        online = self._online.count(site_ids)
        months = {
            site_id: hours.day_of(
                hours.window_at("month", now, self._admin.zone(site_id)).start_at,
                self._admin.zone(site_id),
            ).toordinal()
            for site_id in site_ids
        }
        pending = dict.fromkeys(site_ids, 0)
        for live in self._sessions.open_sessions():
            session = live.session
            if session.pending_day >= months.get(session.site_id, session.pending_day + 1):
                pending[session.site_id] += session.pending_octets
        return [
            SiteFigures(
                site_id,
                online[site_id],
                pending[site_id] + self._store.octets(site_id, quota.day_text(months[site_id])),
            )
            for site_id in site_ids
        ]

    def gateways(self, site_id: int) -> list[GatewayLook]:
        """How the gateways of a site stand, oldest first."""
        return self._gateways(site_id, self._now(), self._elapsed_s() - self._began_s)

    def _gateways(self, site_id: int, now: int, up_s: float) -> list[GatewayLook]:
        reporting = {one.session.gateway_id for one in self._sessions.open_sessions()}
        found = []
        for gateway in self._admin.gateways_by_id.values():
            if gateway.site_id != site_id:
                continue
            silent_s = self._link.silent_s(gateway.id)
            if silent_s is not None and silent_s <= HEARD_S:
                state = HEARD
            elif self._link.touched(gateway.id).state == UP and gateway.id not in reporting:
                state = ANSWERS
            elif silent_s is None and up_s <= HEARD_S:
                state = WAITING
            else:
                state = SILENT
            heard_at = None if silent_s is None else round(now - silent_s)
            found.append(GatewayLook(gateway.name, state, heard_at))
        return found
