"""The node's clock: the readings of two clocks taken together into one time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from portal.domain.clock import Clock
from portal.domain.ledger import ClockQuality

READ_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time is read. `serve` has the real ones; tests move a number."""

    system_at: Callable[[], float]
    """The system clock, epoch seconds UTC."""
    elapsed_s: Callable[[], float]
    """Seconds that nobody can set, sleep included."""
    is_synchronised: Callable[[], bool]
    """Whether a time service vouches for the system clock."""


class NodeClock:
    """One time for the whole node."""

    def __init__(self, clocks: Clocks, known_at: float):
        """`known_at`: the latest time ever recorded."""
        self._clocks = clocks
        self.clock = Clock.start(clocks.system_at(), clocks.elapsed_s(), known_at)
        self._read_s = float("-inf")
        self._now = 0

    def now(self) -> int:
        """The node's time in epoch seconds UTC; never runs backwards."""
        elapsed_s = self._clocks.elapsed_s()
        if not 0 <= elapsed_s - self._read_s < READ_EVERY_S:
            self._read_s = elapsed_s
            self._now = int(
                self.clock.read(
                    self._clocks.system_at(),
                    elapsed_s,
                    is_synchronised=self.clock.is_doubtful and self._clocks.is_synchronised(),
                )
            )
        return self._now

    def quality(self) -> ClockQuality:
        """How far the node's time can be trusted."""
        if self.clock.is_unset:
            return ClockQuality.UNSET
        if self.clock.is_doubtful:
            return ClockQuality.DOUBTFUL
        is_vouched_for = self._clocks.is_synchronised()
        return ClockQuality.SYNCHRONISED if is_vouched_for else ClockQuality.RUNNING
