"""Dropped packets: every one is counted, few are logged."""

import logging

logger = logging.getLogger("radius.server")

LOG_EVERY_S = 60.0
MAX_REMEMBERED = 256
SHOWN_OCTETS = 20


class Dropped:
    """Counts dropped packets by reason and warns once a minute for each reason and address.

    A flood can therefore neither fill the disk nor hide another gateway's trouble. Only the header
    of a packet is shown: attributes hold passwords and voucher codes.
    """

    def __init__(self, stats: dict[str, int]) -> None:
        self._stats = stats
        # (reason, address) -> [time of the last line, dropped since], oldest line first.
        self._logged: dict[tuple[str, str], list[float]] = {}

    def __call__(
        self, reason: str, address: str, detail: str, datagram: bytes, now_s: float
    ) -> None:
        """Count a packet; log it if none like it was logged in the last minute."""
        self._stats[reason] += 1
        key = (reason, address)
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
