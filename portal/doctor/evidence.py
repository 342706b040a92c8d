"""Doctor's evidence: what is known of a gateway. `doctor` gathers it, `checks` judges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from portal.admin import Gateway
from portal.disconnects import Attempt
from portal.sessions import Live
from radius.dropped import Drop
from radius.nas import Family

DROPS_COUNT_S = 600
"""What was dropped longer ago has been put right, or nobody is there any more."""


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    WAIT = "wait"
    """Not known yet; the sentence says what to do to learn it."""
    SKIP = "skip"
    """Does not apply to this make of gateway."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One point looked at."""

    check: str
    state: State
    said: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """For the sentence and the fix; the ending of a name is its unit (`_s`, `_octets`)."""
    fix: str | None = None


@dataclass(slots=True, eq=False)
class Login:
    """An Accept that was seen."""

    accepted_s: float
    session_id: int | None
    serial: str
    started_s: float | None = None
    """When its session was first reported."""


@dataclass(slots=True, eq=False)
class Seen:
    """What was seen of a gateway while it was watched. Times are elapsed-time readings."""

    began_s: float
    looked_s: float
    """When somebody last asked."""
    base: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Octets in and out of the sessions that ran at the beginning."""
    authentic_s: float | None = None
    """The last packet whose signature proves the secret."""
    signed: int = 0
    unsigned: int = 0
    """Access-Requests with and without Message-Authenticator."""
    nas_id: str | None = None
    is_named: bool | None = None
    """Whether the last packet named its NAS in any way; None before the first."""
    logins: dict[str, Login] = field(default_factory=dict)
    """The last Accept of each phone."""
    refusal: tuple[float, str] | None = None
    """The last refusal of a code or card: when and why."""
    reports: dict[int, list[float]] = field(default_factory=dict)
    """When each session was reported."""
    clock_off_s: int | None = None
    arrivals: int = 0
    signed_arrivals: int = 0
    last_arrival_s: float | None = None
    refused_arrival: str | None = None
    hidden: tuple[str, str] | None = None
    """An arrival that came from another address than its phone's: (phone's, seen)."""
    shown_ip: str | None = None
    """The last phone's address that was seen as what it is."""
    hand_off_s: float | None = None
    """The last one-time password that came back by the gateway."""
    held: dict[str, float] = field(default_factory=dict)
    """Phones that were refused by their MAC and should now see the portal: since when."""
    came: set[str] = field(default_factory=set)
    """Phones that did."""
    probes: int = 0
    probe_host: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a gateway now."""

    gateway: Gateway
    family: Family
    now: int
    elapsed_s: float
    seen: Seen
    heard_s: float | None
    """Elapsed-time reading of its last packet since the node started."""
    noise_s: float | None
    """The same of its last password that looked as if hidden with another secret."""
    agent_heard_s: float
    """The same of the program on a gateway that knows no RADIUS; minus infinity for never."""
    agent_refused_s: float
    """The same of the last words of it that were refused."""
    drops: Sequence[tuple[float, Drop]]
    """Packets from its address that were dropped: seconds ago, and what."""
    strangers: Sequence[tuple[float, Drop]]
    """The same of addresses that no gateway has."""
    lives: Sequence[Live]
    """Its sessions in memory, oldest first."""
    attempts: Sequence[Attempt]
    """Attempts of people to end its sessions, oldest first."""
    ticket_waits_s: float | None
    is_signing: bool
    """Its address has sent a valid Message-Authenticator before."""
    is_alone: bool
    """No other gateway shares its address."""
    is_backhaul_down: bool
    is_clock_doubtful: bool
    """The node's own."""

    @property
    def name(self) -> dict[str, Any]:
        """For sentences with a command in them."""
        return {"name": self.gateway.name}

    @property
    def has_portal(self) -> bool:
        """Whether phones of this family reach the portal at all."""
        return self.family.login_start_url("http://10.0.0.1", None) is not None

    def open_lives(self) -> list[Live]:
        """The sessions that run, oldest first."""
        return [live for live in self.lives if live.session.is_open]

    def dropped(self, *reasons: str) -> tuple[float, Drop] | None:
        """The latest packet of this gateway's address dropped for one of these reasons."""
        found = [
            (ago_s, drop)
            for ago_s, drop in self.drops
            if drop.reason in reasons and ago_s < DROPS_COUNT_S
        ]
        return min(found, key=lambda pair: pair[0], default=None)
