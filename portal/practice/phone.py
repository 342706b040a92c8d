"""A simulated phone as the practice gateway knows it: challenge, session, limits, arithmetic.

Pure: no socket, no clock, no randomness; times and random octets are arguments. The session has a
clock of its own, the gateway's clock plus the seconds that were skipped or spent on downloads, so
that hours can be played through in a moment while Acct-Session-Time stays consistent. Knows no
packets and no pages.
"""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from radius.client import Limits

# CoovaChilli: a challenge is replaced after 600 s (challengetimeout) and refused after 1200 s.
CHALLENGE_RENEW_S = 600
CHALLENGE_REFUSE_S = 1200
# Two instants closer than this are one; epoch seconds in a float are good to 0.2 µs only.
_CLOSE_S = 0.001


class Event(StrEnum):
    """What stops the passing of time in a session."""

    INTERIM = "interim"
    QUOTA = "quota"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of a session: how long, how many octets, and what ended it (None: all was done)."""

    passed_s: float
    moved_octets: int
    event: Event | None


@dataclass(slots=True)
class Session:
    """One accounting session of a phone."""

    id: str
    user_name: str
    class_values: tuple[bytes, ...]
    limits: Limits
    started_at: float
    is_mac_return: bool = False
    skipped_s: float = 0.0
    down_octets: int = 0
    up_octets: int = 0
    next_interim_s: float = 0.0

    def __post_init__(self) -> None:
        self.next_interim_s = float(self.limits.interim_s)

    @property
    def octets(self) -> int:
        """Octets in both directions."""
        return self.down_octets + self.up_octets

    def passed_s(self, now: float) -> float:
        """Session time on the session's own clock, never beyond Session-Timeout."""
        passed = max(0.0, now - self.started_at) + self.skipped_s
        timeout = self.limits.session_timeout_s
        return passed if timeout is None else min(passed, float(timeout))

    def time_s(self, now: float) -> int:
        """Acct-Session-Time."""
        return int(self.passed_s(now) + _CLOSE_S)

    def step(self, now: float, seconds: float, octets: int, *, upload: bool = False) -> Step:
        """Let up to `seconds` pass while `octets` move evenly; stop at the first event.

        Data is given exactly up to the limit, to the octet, and time exactly up to
        Session-Timeout: what a real gateway overshoots (CoovaChilli looks every 3 s) is not
        simulated. The caller sends the interim or the Stop and calls again for the rest.
        """
        passed = self.passed_s(now)
        limit = self.limits.octets
        fits = octets if limit is None else min(octets, max(0, limit - self.octets))
        span_s = seconds * fits / octets if octets else seconds
        timeout = self.limits.session_timeout_s
        until_end_s = float("inf") if timeout is None else timeout - passed
        until_interim_s = self.next_interim_s - passed
        step_s = max(0.0, min(span_s, until_end_s, until_interim_s))
        moved = fits if step_s >= span_s - _CLOSE_S else int(fits * step_s / span_s)
        self.skipped_s += step_s
        if upload:
            self.up_octets += moved
        else:
            self.down_octets += moved
        event = None
        if limit is not None and self.octets >= limit:
            event = Event.QUOTA
        elif until_end_s - step_s <= _CLOSE_S:
            event = Event.TIME
        elif until_interim_s - step_s <= _CLOSE_S:
            event = Event.INTERIM
        return Step(step_s, moved, event)

    def interim_sent(self, now: float) -> None:
        """The next interim is due one interval after this one."""
        self.next_interim_s = self.passed_s(now) + self.limits.interim_s


@dataclass(slots=True)
class Phone:
    """One phone at the gateway. `number` counts from 1 and is also NAS-Port."""

    number: int
    name: str
    mac: str  # 12 lower-case hex digits
    ip: str
    port: int = 0  # HTTP port of the gateway that belongs to this phone
    is_joined: bool = False  # on the Wi-Fi and awake
    asks_again: bool = False  # cut at a limit: its MAC is asked for before the next redirect
    challenge: bytes = b""
    challenge_at: float = 0.0
    session_id: str = ""
    session: Session | None = None
    last_user_name: str = ""
    last_end: str = ""  # quota, time, idle, logoff, disconnect, power, carrier, closed
    last_octets: int = 0
    last_time_s: int = 0
    user_url: str = ""  # what the phone asked for when it was caught
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_online(self) -> bool:
        """Whether it has a session."""
        return self.session is not None

    @property
    def calling_station_id(self) -> str:
        """The MAC as CoovaChilli writes it everywhere: upper case with dashes."""
        return "-".join(self.mac[i : i + 2] for i in range(0, 12, 2)).upper()
