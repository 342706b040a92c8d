"""Clock: one time for the whole node that never runs backwards and distrusts jumps.

A village box often has no battery-backed clock: it wakes up in 1970, or a day off, and is put right
later. Quotas live on days and months, so a jump must never open a new window by mistake. The node
therefore runs on elapsed time and follows the system clock only where that is safe. Pure: callers
pass both readings.
"""

from dataclasses import dataclass

JUMP_S = 120
"""A difference between system clock and elapsed time above this is a jump, below it is drift."""


@dataclass(slots=True)
class Clock:
    """The node's time. Feed it both readings with `read`; keep the object for the life of a run."""

    now_at: float
    """The node's time in epoch seconds UTC."""
    elapsed_s: float
    """The reading of the elapsed-time clock that belongs to `now_at`."""
    is_doubtful: bool
    """True while the system clock contradicts what the node knows."""
    is_unset: bool = False
    """True from a start with a clock behind the past until it is put right."""
    jumps: int = 0
    """Jumps seen since the start, for the log and `pesisir check`."""
    jumped_s: float = 0.0
    """The sum of those that were followed."""

    @classmethod
    def start(cls, system_at: float, elapsed_s: float, floor_at: float) -> "Clock":
        """Begin at the system clock, but never before `floor_at`, the latest time ever recorded.

        A system clock behind the floor (1970 at boot) is doubtful: time goes on from the floor.
        A system clock ahead of it is believed: a box may have been off for weeks.
        """
        if system_at < floor_at:
            is_unset = system_at < floor_at - JUMP_S
            return cls(floor_at, elapsed_s, is_unset, is_unset)
        return cls(system_at, elapsed_s, False)

    def read(self, system_at: float, elapsed_s: float, *, is_synchronised: bool = False) -> float:
        """Return the time now, in epoch seconds UTC, never before an earlier answer.

        `elapsed_s` counts seconds and is not touched when somebody sets the clock. Small
        differences are followed; time stands still rather than run back. A jump forward is
        followed when the clock was wrong since the start (it is being put right) or a time service
        vouches for it (`is_synchronised`); any other jump is not, and the clock is doubtful until
        both agree.
        """
        expected_at = self.now_at + max(0.0, elapsed_s - self.elapsed_s)
        difference_s = system_at - expected_at
        if -JUMP_S <= difference_s <= JUMP_S:
            now_at = max(self.now_at, system_at)
            self.is_doubtful = self.is_unset = False
        elif difference_s > 0 and (self.is_unset or is_synchronised):
            now_at = system_at
            self.is_doubtful = self.is_unset = False
            self.jumps += 1
            self.jumped_s += difference_s
        else:
            now_at = expected_at
            if not self.is_doubtful:
                self.jumps += 1
            self.is_doubtful = True
        self.now_at = now_at
        self.elapsed_s = elapsed_s
        return now_at
