"""Dropped packets: every one is counted, few are logged, and the last of each kind is remembered
for those who look for the cause."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger("radius.server")

LOG_EVERY_S = 60.0
MAX_REMEMBERED = 256
SHOWN_OCTETS = 20


@dataclass(slots=True, eq=False)
class Drop:
    """What is remembered of the packets one address lost for one reason."""

    reason: str
    """A key of the server's `stats`."""
    address: str
    detail: str
    """Why the last one was dropped; no attribute value but the NAS-Identifier stands in it."""
    seen: str | None
    """The NAS-Identifier of the last one, where that was the reason."""
    first_s: float
    last_s: float
    count: int = 0


class Dropped:
    """Counts dropped packets by reason and warns once a minute for each reason and address.

    A flood can therefore neither fill the disk nor hide another gateway's trouble. Only the header
    of a packet is shown: attributes hold passwords and voucher codes.
    """

    def __init__(self, stats: dict[str, int]) -> None:
        self._stats = stats
        # (reason, address) -> [time of the last line, dropped since], oldest line first.
        self._logged: dict[tuple[str, str], list[float]] = {}
        self.recent: OrderedDict[tuple[str, str], Drop] = OrderedDict()
        """(reason, address) -> what is remembered, the latest at the end; times are readings of
        the server's clock. At most MAX_REMEMBERED, the oldest give way."""
        self.on_drop: Callable[[Drop], None] | None = None
        """Told of each dropped packet."""

    def __call__(
        self,
        reason: str,
        address: str,
        detail: str,
        datagram: bytes,
        now_s: float,
        *,
        seen: str | None = None,
    ) -> None:
        """Count a packet; log it if none like it was logged in the last minute. `seen` is the
        NAS-Identifier that fits no gateway."""
        self._stats[reason] += 1
        key = (reason, address)
        drop = self.recent.get(key)
        if drop is None:
            drop = self.recent[key] = Drop(reason, address, detail, seen, now_s, now_s)
            if len(self.recent) > MAX_REMEMBERED:
                self.recent.popitem(last=False)
        else:
            drop.detail, drop.seen, drop.last_s = detail, seen, now_s
            self.recent.move_to_end(key)
        drop.count += 1
        if self.on_drop is not None:
            self.on_drop(drop)
        last = self._logged.get(key)
        silent = 0
        if last is not None:
            if now_s - last[0] < LOG_EVERY_S:
                last[1] += 1
                return
            silent = int(last[1])
            del self._logged[key]
        elif len(self._logged) >= MAX_REMEMBERED:
            oldest = next(iter(self._logged))
            if now_s - self._logged[oldest][0] < LOG_EVERY_S:
                return
            del self._logged[oldest]
        self._logged[key] = [now_s, 0]
        logger.warning(
            "dropped a packet from %s: %s (%d octets, begins %s)%s",
            address,
            detail,
            len(datagram),
            datagram[:SHOWN_OCTETS].hex(),
            f"; {silent} more like it since the last line" if silent else "",
        )
