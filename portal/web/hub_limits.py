"""Limits by source address: whoever knows no key of the hub gets few tries, and no memory of it."""

from collections import OrderedDict
from collections.abc import Callable


class SourceLimit:
    """So many misses a minute for each source, the least recent sources forgotten first."""

    def __init__(self, most: int, *, now: Callable[[], float], window_s: float = 60.0) -> None:
        self._most = most
        self._now = now
        self._window_s = window_s
        self._misses: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self.most_sources = 10_000

    def is_over(self, source: str) -> bool:
        """Whether a source has had its misses for now."""
        began, count = self._misses.get(source, (0.0, 0))
        return count >= self._most and self._now() - began < self._window_s

    def miss(self, source: str) -> None:
        """Count a miss of a source."""
        began, count = self._misses.pop(source, (self._now(), 0))
        if self._now() - began >= self._window_s:
            began, count = self._now(), 0
        self._misses[source] = (began, count + 1)
        while len(self._misses) > self.most_sources:
            self._misses.popitem(last=False)
