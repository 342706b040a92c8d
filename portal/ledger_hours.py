"""What a node records of itself: how it is every hour, what its clock did, each day's total.

Without these nobody could tell a village where nothing was used from one whose records are missing.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from portal.admin import Admin
from portal.domain import hours
from portal.domain.clock import Clock
from portal.domain.ledger import (
    ClockQuality,
    DayTotal,
    Flag,
    Kind,
    LedgerError,
    Usage,
    decode,
)
from portal.health import Backhaul, Disk
from portal.ledger import Ledger
from portal.pseudonyms import NOBODY
from portal.store.db import FILE_NAME
from portal.store.ledger import Entry

log = logging.getLogger(__name__)

HOUR_S = 3_600
TOLD_AFTER_S = 1_800
"""A day's total waits so long after midnight: who fell silent before is closed by then. What comes
later has the total told once more, and the last one counts."""
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")


class Hours:
    """Looks at the node a few times a minute, and records what is due."""

    def __init__(
        self,
        ledger: Ledger,
        admin: Admin,
        backhaul: Backhaul,
        disk: Disk,
        clock: Clock,
        directory: Path,
        *,
        version: str,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        clock_quality: Callable[[], ClockQuality],
        save_clock: Callable[[], None],
        heard_s: Callable[[], dict[int, float]],
        online: Callable[[], int],
    ):
        self._ledger = ledger
        self._admin = admin
        self._backhaul = backhaul
        self._disk = disk
        self._clock = clock
        self._directory = directory
        self._version = version
        self._now = now
        self._elapsed_s = elapsed_s
        self._clock_quality = clock_quality
        self._save_clock = save_clock
        self._heard_s = heard_s
        self._online = online
        self._hour = now() // HOUR_S
        self._clock_state = self._state_of_clock()
        backhaul.on_change = self._backhaul_changed

    def _backhaul_changed(self, state: str, at: int) -> None:
        self._ledger.append(Kind.WAN, {"state": state}, at=at)

    def booted(self, alive_at: int, loss: str | None) -> None:
        """The node has started. `alive_at`: when it was last known to run, 0 for the first time;
        `loss`: why nobody knows what happened since, None where it had stopped by itself."""
        now = self._now()
        self._ledger.append(Kind.BOOT, {"version": self._version, "off_since": alive_at})
        if loss is not None and alive_at:
            gap = {"cause": loss, "from": alive_at, "to": now}
            self._ledger.append(Kind.GAP, gap)

    async def look(self) -> None:
        """Record what is due: a clock that changed, slices at midnight, the hour, ended days."""
        now = self._now()
        self._look_at_clock()
        self._ledger.slice(now)
        if now // HOUR_S != self._hour:
            self._hour = now // HOUR_S
            self._ledger.append(Kind.HEALTH, self._health(now))
            await self.tell_days()

    # -- the clock -------------------------------------------------------------------------

    def _state_of_clock(self) -> tuple[int, bool, bool]:
        return self._clock.jumps, self._clock.is_doubtful, self._clock.is_unset

    def _look_at_clock(self) -> None:
        state = self._state_of_clock()
        if state == self._clock_state:
            return
        self._clock_state = state
        payload = {
            "state": self._clock_quality().name.lower(),
            "jumps": self._clock.jumps,
            "jumped_s": int(self._clock.jumped_s),
        }
        self._ledger.append(Kind.CLOCK, payload)
        # The latest time known, in the same transaction as the record of it.
        self._save_clock()

    # -- the hour --------------------------------------------------------------------------

    def _health(self, now: int) -> dict[str, Any]:
        elapsed_s, since_at = self._elapsed_s(), now - HOUR_S
        head = self._ledger.store.head()
        down = [
            [max(start_at, since_at), now if end_at is None else end_at]
            for start_at, end_at in self._backhaul.outages()
            if end_at is None or end_at > since_at
        ]
        health: dict[str, Any] = {
            "version": self._version,
            "free_octets": self._disk.free_octets(),
            "database_octets": (self._directory / FILE_NAME).stat().st_size,
            "backhaul": self._backhaul.state,
            "backlog": 0 if head is None else head.size - self._ledger.store.acked().size,
            "online": self._online(),
            "heard": {
                str(gateway_id): max(0, int(elapsed_s - heard_s))
                for gateway_id, heard_s in self._heard_s().items()
                if gateway_id in self._admin.gateways_by_id
            },
        }
        if down:
            health["down"] = down
        dark = [
            site_id
            for site_id in self._admin.sites_by_id
            if not self._admin.is_power_on(site_id, now)
        ]
        if dark:
            health["dark"] = dark
        with suppress(OSError, ValueError):
            health["temperature_mc"] = int(TEMPERATURE.read_text())
        return health

    # -- days ------------------------------------------------------------------------------

    async def tell_days(self) -> None:
        """Append the totals of days that are over, and of older ones that have grown since."""
        now = self._now()
        sites = self._admin.sites_by_id
        newest = max(
            (hours.day_of(now, self._admin.zone(site)).toordinal() for site in sites), default=0
        )
        for site, day in self._ledger.store.untold_days(newest):
            if site not in sites:
                continue
            zone = self._admin.zone(site)
            if hours.day_of(now - TOLD_AFTER_S, zone).toordinal() <= day:
                continue

            def total(publics: Sequence[bytes], site: int = site, day: int = day) -> Entry:
                zone = self._admin.zone(site)
                pieces = []
                for public in publics:
                    record = decode(public)
                    if hours.day_of(record.at, zone).toordinal() == day:
                        assert isinstance(record.payload, Usage)
                        pieces.append((record.at, record.payload))
                return Entry(Kind.DAY_TOTAL, now, day_total(day, pieces), site)

            try:
                await self._ledger.store.tell_day(site, day, total)
            except LedgerError as error:
                # No total is better than a signed one of what somebody wrote there by hand.
                log.error("day_not_told site=%d day=%d why=%r", site, day, str(error))


def day_total(day: int, pieces: Sequence[tuple[int, Usage]]) -> DayTotal:
    """The total of a day from its usage records: (at, what it tells)."""
    changes: list[tuple[int, int]] = []
    for at, usage in pieces:
        if usage.duration_s or usage.flags & Flag.FIRST:
            changes += [(at - usage.duration_s, 1), (at + 1, -1)]
    peak = online = 0
    for _, change in sorted(changes):
        online += change
        peak = max(peak, online)
    return DayTotal(
        day=day,
        sessions=sum(1 for _, usage in pieces if usage.flags & Flag.FIRST),
        users=len({usage.pseudonym for _, usage in pieces} - {NOBODY}),
        input_octets=sum(usage.input_octets for _, usage in pieces),
        output_octets=sum(usage.output_octets for _, usage in pieces),
        seconds=sum(usage.duration_s for _, usage in pieces),
        peak=peak,
    )
