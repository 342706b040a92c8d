"""LinkWatch: every step from the box to the world, each looked at by itself.

`health.Backhaul` decides whether the link is down, for the quota rules. Here is what tells people
where to look: does the gateway answer, does the box find names, is the hub there. Everything runs
in the background and is remembered with its time; a page only reads. Gateways stand on the LAN and
are asked every minute. Names and the hub cost data, so while they answer they are asked every ten
minutes, and every minute while they do not or while somebody looks at the page.
"""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from portal.admin import Admin, Gateway
from portal.health import Backhaul, probe

log = logging.getLogger(__name__)

EVERY_S = 60.0
EVERY_WELL_S = 600.0
"""One TCP connection every ten minutes is about 1 MB a month."""
TIMEOUT_S = 5.0
HEARD_S = 900
"""Three interims of five minutes: a gateway with phones behind it is heard more often."""
TOUCHED_PORTS = (80, 53, 22, 3990)
"""A closed port answers too: what counts is that something is there."""

UP, DOWN, UNKNOWN, UNSET = "up", "down", "unknown", "unset"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found the last time."""

    state: str = UNKNOWN
    """`up`, `down`, `unknown` before the first look, `unset` where there is nothing to look at."""
    looked_at: int | None = None
    since_at: int | None = None
    """Since when it has been so, as far as looks tell."""


async def touch(address: str) -> bool:
    """Whether anything at an IP address answers a TCP connection, be it with a refusal."""

    async def knock(port: int) -> bool:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError as error:
            return error.errno == errno.ECONNREFUSED
        writer.close()
        return True

    knocking = [asyncio.ensure_future(knock(port)) for port in TOUCHED_PORTS]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for answer in asyncio.as_completed(knocking):
                if await answer:
                    return True
    except TimeoutError:
        pass
    finally:
        for one in knocking:
            one.cancel()
        await asyncio.gather(*knocking, return_exceptions=True)
    return False


async def resolve(name: str) -> bool:
    """Whether the system's resolver knows a name. A resolver that hangs is not waited for."""
    loop = asyncio.get_running_loop()
    try:
        await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return True


def host_of(target: str) -> tuple[str, int]:
    """Host and port of a `host:port` or an http(s) URL."""
    parts = urlsplit(target if "://" in target else f"tcp://{target}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def names_in(targets: Iterable[str]) -> list[str]:
    """The hosts of these targets that are names and not addresses, each once."""
    found: dict[str, None] = {}
    for target in targets:
        host, _ = host_of(target)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if host:
                found[host] = None
    return list(found)


class LinkWatch:
    """The steps from the box to the world, as they were found last."""

    def __init__(
        self,
        admin: Admin,
        backhaul: Backhaul,
        heard_s: Mapping[int, float],
        *,
        probes: Iterable[str] = (),
        hub_url: str | None = None,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        touch: Callable[[str], Awaitable[bool]] = touch,
        resolve: Callable[[str], Awaitable[bool]] = resolve,
        probe: Callable[[str], Awaitable[bool]] = probe,
    ):
        self._admin = admin
        self._backhaul = backhaul
        self._heard_s = heard_s
        self._now = now
        self._elapsed_s = elapsed_s
        self._touch = touch
        self._resolve = resolve
        self._probe = probe
        targets = list(probes)
        self._hub = None
        if hub_url:
            host, port = host_of(hub_url)
            self._hub = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            targets.append(hub_url)
        self._names = names_in(targets)
        self._has_probes = len(targets) > (self._hub is not None)
        self.dns = Look(UNKNOWN if self._names else UNSET)
        self.hub = Look(UNKNOWN if self._hub else UNSET)
        self._touched: dict[int, Look] = {}
        self._wanted = asyncio.Event()
        self._far_s = float("-inf")
        self._resolving: asyncio.Future[bool] | None = None

    # -- reading ---------------------------------------------------------------------------

    def want(self) -> None:
        """Somebody looks at the page: look again soon, if the last time is over a minute ago."""
        self._wanted.set()

    @property
    def internet(self) -> Look:
        """What the backhaul's own probes say."""
        if not self._has_probes:
            return Look(UNSET)
        backhaul = self._backhaul
        return Look(backhaul.state, backhaul.looked_at, backhaul.down_since)

    def touched(self, gateway_id: int) -> Look:
        """Whether a silent gateway answers at its address at all."""
        return self._touched.get(gateway_id, Look())

    def silent_s(self, gateway_id: int) -> float | None:
        """Seconds since a gateway's last RADIUS packet, None when there was none yet."""
        heard_s = self._heard_s.get(gateway_id)
        return None if heard_s is None else max(0.0, self._elapsed_s() - heard_s)

    # -- looking ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("link_watch_failed")
            began_s = self._elapsed_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._wanted.wait()
                    # Once a minute is often enough, however many people look.
                    await asyncio.sleep(max(0.0, EVERY_S / 2 - (self._elapsed_s() - began_s)))

    async def look(self) -> None:
        """Look at every gateway that is silent, and when it is time at names and the hub."""
        is_wanted = self._wanted.is_set()
        self._wanted.clear()
        looking: list[Awaitable[None]] = [
            self._look_at(gateway)
            for gateway in list(self._admin.gateways_by_id.values())
            if "/" not in gateway.address and self._is_silent(gateway.id)
        ]
        is_well = self.dns.state != DOWN and self.hub.state != DOWN
        if not is_well or is_wanted or self._elapsed_s() - self._far_s >= EVERY_WELL_S:
            self._far_s = self._elapsed_s()
            looking += [self._look_up_names(), self._look_at_hub()]
        await asyncio.gather(*looking)

    def _is_silent(self, gateway_id: int) -> bool:
        silent_s = self.silent_s(gateway_id)
        return silent_s is None or silent_s > HEARD_S

    async def _look_at(self, gateway: Gateway) -> None:
        is_up = await self._touch(gateway.address)
        self._touched[gateway.id] = self._next(self.touched(gateway.id), is_up)

    async def _look_up_names(self) -> None:
        if not self._names:
            return
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.ensure_future(self._is_any_known())
        done, _ = await asyncio.wait([self._resolving], timeout=TIMEOUT_S)
        self.dns = self._next(self.dns, bool(done) and self._resolving.result())

    async def _is_any_known(self) -> bool:
        for name in self._names:
            if await self._resolve(name):
                return True
        return False

    async def _look_at_hub(self) -> None:
        if self._hub is not None:
            self.hub = self._next(self.hub, await self._probe(self._hub))

    def hub_answered(self, is_up: bool) -> None:
        """An exchange with the hub tells the same as a look at it, and costs nothing."""
        self.hub = self._next(self.hub, is_up)

    def _next(self, last: Look, is_up: bool) -> Look:
        state, now = UP if is_up else DOWN, self._now()
        is_same = last.state == state and last.since_at is not None
        return Look(state, now, last.since_at if is_same else now)
