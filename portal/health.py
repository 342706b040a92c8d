"""Health: is the backhaul up, and is there room on the disk.

The backhaul is down when every probe has failed three times (design, quota rule 6); while it is,
time does not run. The ballast is a file that is given up when the disk is full, so that sessions
under way can still be accounted while new logins wait.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from portal.store.batch import Batch

log = logging.getLogger(__name__)

FAILURES = 3
EVERY_UP_S = 60.0
"""One TCP connection a minute is about 10 MB a month; later probes are tried only if one fails."""
EVERY_FAILING_S = 5.0
EVERY_DOWN_S = 15.0
PROBE_TIMEOUT_S = 5.0
"""A 600 ms satellite link opens a connection in 1.2 s."""
OUTAGES_KEPT_S = 2 * 86_400
"""Longer than any two reports of one session lie apart."""
BALLAST_NAME = "pesisir.ballast"
BALLAST_OCTETS = 8_000_000
"""About 900 commits: a quarter of an hour of accounting for 300 phones."""


async def probe(target: str) -> bool:
    """Whether `host:port` takes a TCP connection, or an http(s) URL answers anything."""
    is_url = "://" in target
    parts = urlsplit(target if is_url else f"tcp://{target}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    writer = None
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
            if not is_url:
                return True
            path = parts.path or "/"
            request = f"HEAD {path} HTTP/1.1\r\nHost: {parts.hostname}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            return (await reader.read(5)).startswith(b"HTTP/")
    except (OSError, TimeoutError, ValueError):
        # ValueError: a host name that cannot be one (IDNA).
        return False
    finally:
        if writer is not None:
            writer.close()


class Backhaul:
    """Whether the site's link works, as far as probes tell."""

    def __init__(
        self,
        probes: Sequence[str],
        *,
        now: Callable[[], int],
        soon: Callable[[], None],
        outages: Sequence[tuple[int, int | None]] = (),
        probe: Callable[[str], Awaitable[bool]] = probe,
    ):
        self._probes = tuple(probes)
        self._now = now
        self._soon = soon
        self._probe = probe
        self._outages: list[tuple[int, int | None]] = list(outages)
        self._dirty: list[tuple[int, int | None]] = []
        self._failures = 0
        self._failing_since: int | None = None
        self.on_change: Callable[[str, int], None] = lambda state, at: None
        """Called with `down`, `up` or, where nobody watched, `unknown`, and since when it is so."""
        self.looked_at: int | None = None
        """When a probe was last sent, None before the first and without probes."""
        self.is_known = False
        """False until the first probe has answered or three have failed; always without probes."""

    @property
    def state(self) -> str:
        """`up`, `down` or `unknown`."""
        if self.down_since is not None:
            return "down"
        return "up" if self.is_known else "unknown"

    @property
    def down_since(self) -> int | None:
        """When the link broke, None while it does not seem to be down."""
        if self._outages and self._outages[-1][1] is None:
            return self._outages[-1][0]
        return None

    def outages(self) -> list[tuple[int, int | None]]:
        """Outages of the last two days: (start, end or None)."""
        return self._outages

    async def run(self) -> None:
        """Probe for ever."""
        while self._probes:
            await self.look()
            if self.down_since is not None:
                await asyncio.sleep(EVERY_DOWN_S)
            else:
                await asyncio.sleep(EVERY_FAILING_S if self._failures else EVERY_UP_S)

    async def look(self) -> None:
        """Probe once and draw the conclusion."""
        began_at = self.looked_at = self._now()
        for target in self._probes:
            if await self._probe(target):
                self._works()
                return
        self._fails(began_at)

    def _works(self) -> None:
        self._failures = 0
        self._failing_since = None
        self.is_known = True
        down_since = self.down_since
        if down_since is not None:
            self._outages[-1] = (down_since, self._now())
            self._dirty.append(self._outages[-1])
            self.on_change("up", self._now())
            log.warning("backhaul_up after_s=%d", self._now() - down_since)
            self._soon()

    def _fails(self, at: int) -> None:
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = at
        if self._failures < FAILURES or self.down_since is not None:
            return
        self.is_known = True
        self._outages = [
            span for span in self._outages if span[1] is None or span[1] > at - OUTAGES_KEPT_S
        ]
        self._outages.append((self._failing_since, None))
        self._dirty.append(self._outages[-1])
        self.on_change("down", self._failing_since)
        log.warning("backhaul_down since=%d", self._failing_since)
        self._soon()

    def end_unfinished(self, at: int) -> None:
        """Close an outage that was running when the node stopped: nobody watched since."""
        if self.down_since is not None:
            self._outages[-1] = (self._outages[-1][0], max(at, self._outages[-1][0]))
            self._dirty.append(self._outages[-1])
            self.on_change("unknown", self._outages[-1][1] or at)

    def collect(self, batch: Batch) -> Callable[[bool], None]:
        """Put unwritten outages into a batch; call the result with whether it was committed."""
        taken, self._dirty = self._dirty, []
        batch.outages = taken

        def settle(is_committed: bool) -> None:
            if not is_committed:
                self._dirty = taken + self._dirty

        return settle


class Disk:
    """The room on the node's disk, and the ballast that is given up when there is none."""

    def __init__(self, directory: Path, *, ballast_octets: int = BALLAST_OCTETS):
        self._path = directory / BALLAST_NAME
        self._directory = directory
        self._octets = ballast_octets
        self.is_full = False
        """True from a commit that found no room until there is room for the ballast again."""

    def free_octets(self) -> int:
        """Octets an ordinary user may still write."""
        found = os.statvfs(self._directory)
        return found.f_bavail * found.f_frsize

    def take_ballast(self) -> bool:
        """Set the ballast aside if it is not there; False when there is no room for it."""
        try:
            if self._path.exists() and self._path.stat().st_size >= self._octets:
                return True
            if self.free_octets() < 2 * self._octets:
                return False
            with open(self._path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._octets)
        except OSError:
            self._give_up_ballast()
            return False
        return True

    def _give_up_ballast(self) -> bool:
        """Remove the ballast; False when a disk that is read-only or broken does not allow it."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def found_full(self, error: Exception) -> None:
        """A commit failed: if there is no room, give up the ballast so that accounting goes on, and
        let logins wait. A disk that fails with room left is no reason to refuse anybody once it
        works again."""
        free_octets = 0
        with suppress(OSError):
            free_octets = self.free_octets()
        if free_octets >= self._octets:
            return
        is_freed = self._give_up_ballast()
        if not self.is_full:
            log.error(
                "disk_full error=%s free_octets=%d ballast_freed=%s", error, free_octets, is_freed
            )
        self.is_full = True

    def look(self) -> None:
        """Take the ballast back when there is room again."""
        if self.is_full and self.take_ballast():
            self.is_full = False
            log.warning("disk_has_room free_octets=%d", self.free_octets())
