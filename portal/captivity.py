"""Captivity: whether a phone may use the internet now, and how much longer, for the Captive Portal
API (RFC 8908). Phones believe it more than what they find themselves, so it must be true.

A phone is told by the address it comes from: the Framed-IP-Address of an open session. That session
is what its gateway last reported; two things make it older than the truth, and both are looked at.
Time has run since the last report. And a gateway may have put the phone out without a Stop that
reached us: then it sends the phone here, and its redirect is the proof.
"""

import hashlib
import ipaddress
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from portal.accounts import Account, Accounts
from portal.admin import Admin, Gateway
from portal.domain import hours, quota
from portal.domain.profile import Profile
from portal.domain.session import Session, overlap_s
from portal.door import Door
from portal.sessions import Live, Sessions

log = logging.getLogger(__name__)

HIDDEN = (
    "phones behind it ask for the Captive Portal API by the gateway's own address and cannot be"
    " told apart; take DHCP option 114 away there, or let it not hide the phones' addresses"
)
PHONES_KEPT = 2_000
"""Addresses whose redirects are remembered."""
REDIRECTS_KEPT = 8
"""Redirects remembered of each: one seen before is an old page loaded again and proves nothing."""
_OUT = ("notyet", "logoff", "failed")
_IN = ("success", "already")


class Captivity(NamedTuple):
    """What a phone is told."""

    is_captive: bool
    seconds_left: int | None = None
    """Until the phone is captive again; None without a limit."""
    octets_left: int | None = None
    """Both directions together; None without a limit."""


CAPTIVE = Captivity(True)


@dataclass(slots=True)
class _Redirected:
    """What gateways said of the phone at one address."""

    known: deque[bytes] = field(default_factory=lambda: deque(maxlen=REDIRECTS_KEPT))
    out_s: float | None = None
    """Elapsed-time reading of the last redirect that said the phone is not in."""


class Captivities:
    """Tells phones whether they are captive."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        door: Door,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        outages: Callable[[], Sequence[tuple[int, int | None]]],
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._door = door
        self._now = now
        self._elapsed_s = elapsed_s
        self._outages = outages
        self._redirected: OrderedDict[str, _Redirected] = OrderedDict()
        self.hiding: set[str] = set()
        """Names of gateways behind which a phone asked by the gateway's own address: phones there
        cannot be told apart and must not be told of the API."""

    def of(self, source: str, *, is_phone: bool = True) -> Captivity:
        """What the phone at an address is told; one that cannot be told is captive. `is_phone`:
        what asks says that it knows the API, as monitors and people with a browser do not."""
        live = self._door.live_at(source)
        if live is None:
            if is_phone:
                self._note_hiding(source)
            return CAPTIVE
        redirected = self._redirected.get(source)
        if redirected is not None and redirected.out_s is not None:
            if redirected.out_s > live.heard_s:
                return CAPTIVE
        return self._left(live)

    def _note_hiding(self, source: str) -> None:
        for gateway in self._door.gateways_at(source):
            if "/" in gateway.address or ipaddress.ip_address(source).is_loopback:
                continue
            if gateway.name in self.hiding:
                continue
            if any(one.session.gateway_id == gateway.id for one in self._sessions.open_sessions()):
                self.hiding.add(gateway.name)
                log.warning("phones_hidden gateway=%s; %s", gateway.name, HIDDEN)

    # -- what gateways say when they send a phone here -----------------------------------------

    def redirected(self, source: str, gateway: Gateway, state: str, query: bytes) -> None:
        """Note a gateway's redirect of the phone at an address: `state` as the family read it,
        `query` as it came. Only what the gateway signed, where it can, belongs here."""
        if any("/" not in one.address for one in self._door.gateways_at(source)):
            return
        found = self._redirected.setdefault(source, _Redirected())
        self._redirected.move_to_end(source)
        if len(self._redirected) > PHONES_KEPT:
            self._redirected.popitem(last=False)
        mark = hashlib.blake2b(query, digest_size=16).digest()
        if mark in found.known:
            return
        found.known.append(mark)
        if state in _OUT:
            found.out_s = self._elapsed_s()
        elif state in _IN:
            found.out_s = None

    # -- what is left --------------------------------------------------------------------------

    def _left(self, live: Live) -> Captivity:
        session, account, now = live.session, live.account, self._now()
        if account is None or session.voucher_id is None:
            return Captivity(False)
        card = self._accounts.card(session.voucher_id, now)
        is_ending = live.wants_disconnect or session.is_superseded
        if card is None or card.revoked_at is not None or card.replaced_at is not None:
            is_ending = True
        profile = self._admin.profiles_by_name[account.profile]
        seconds = [] if (edge := _edge(profile, account, now)) is None else [edge - now]
        octets: list[int] = []
        if not _is_slowed(session, profile, account, now):
            more_seconds, octets = self._limits(session, profile, account, now)
            seconds += more_seconds
        if min((*seconds, *octets), default=1) <= 0:
            # The gateway has this limit itself. Under `throttle` it takes the phone in again.
            return Captivity(False) if profile.throttle_kbps is not None else CAPTIVE
        if is_ending:
            # Told to end, and on until its gateway has said that it has.
            return Captivity(False, 0, 0 if octets else None)
        return Captivity(False, min(seconds, default=None), min(octets, default=None))

    def _limits(
        self, session: Session, profile: Profile, account: Account, now: int
    ) -> tuple[list[int], list[int]]:
        """(seconds, octets) left by each limit: the quotas' windows, and what this session was
        granted, which its gateway holds it to."""
        session_s = session.session_time_s + max(0, now - session.last_seen_at)
        windows = quota.windows_left(profile, account.usage, now)
        unreported_s = sum(self._unreported_s(one, now) for one in account.sessions.values())
        seconds = [
            window.seconds_quota - window.seconds_used - unreported_s
            for window in windows
            if window.seconds_quota is not None
        ]
        octets = [
            window.octets_quota - window.octets_used
            for window in windows
            if window.octets_quota is not None
        ]
        for limit_s in (session.granted_s, profile.time_session_s):
            if limit_s is not None:
                seconds.append(limit_s - session_s)
        for limit in (session.granted_octets, profile.data_session_octets):
            if limit is not None:
                octets.append(limit - session.octets)
        return seconds, octets

    def _unreported_s(self, session: Session, now: int) -> int:
        """Seconds that ran since a session's last report; none while the link is down (rule 6)."""
        ran_s = max(0, now - session.last_seen_at)
        return ran_s - overlap_s(list(self._outages()), session.last_seen_at, now) if ran_s else 0


def _edge(profile: Profile, account: Account, now: int) -> int | None:
    """When validity or the opening hours end for a phone that is in; not in the future when they
    have."""
    edges = [quota.expires_at(profile, account.first_used_at, account.extra_valid_s)]
    if profile.hours is not None:
        zone = account.usage.zone
        is_open = hours.is_open(profile.hours, now, zone)
        edges.append(hours.closes_at(profile.hours, now, zone) if is_open else now)
    return min((edge for edge in edges if edge is not None), default=None)


def _is_slowed(session: Session, profile: Profile, account: Account, now: int) -> bool:
    """Whether the session was let in at the essential rate, without quotas."""
    if profile.throttle_kbps is None or session.granted_octets is not None:
        return False
    is_bounded = session.granted_s is not None
    return not is_bounded and account.usage.left(profile, now).used_up is not None
