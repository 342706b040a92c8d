"""Renewals: new limits for sessions that run already.

A session lives on what its Access-Accept gave it. When a card gets more or less, when a day begins,
when another phone of the card has used something, what the session may use is another amount. Where
its gateway honours it, it is told so: in the Accounting-Response of its next report, or by a
CoA-Request when people changed something. Both may be lost, and neither is believed:

* what a gateway may have been told to allow is set aside on disk before it is told (quota rule 2),
  and never taken back while the session runs;
* what goes on beyond its newest limit is asked to end, and gets the right limits at its next login.

Limits are counted from the session's beginning, as those of an Access-Accept are.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any

from portal.accounts import Account, Accounts
from portal.admin import Admin, Gateway
from portal.commit import GroupCommit
from portal.disconnects import Disconnects
from portal.domain import hours
from portal.domain.profile import Profile, interim_of_session_s
from portal.domain.quota import (
    SESSION_TIMEOUT_MAX_S,
    Grant,
    Reason,
    Refusal,
    Running,
    expires_at,
)
from portal.grants import NO_PHONE, Grants
from portal.sessions import Live, Renewed, Sessions
from radius.dynauth import Outcome
from radius.nas import Limits, family

log = logging.getLogger(__name__)

TIME, DATA, RATE = "time", "data", "rate"
EVERYTHING = frozenset((TIME, DATA, RATE))
CHANGE_TRIES = 3
"""A CoA-Request without answer is sent again at the session's next reports, in all so often."""
CHANGED = 0
"""`Renewed.until_at` of a session for which people changed something."""
SAME_S = 30
OVERDUE_S = 60
"""A gateway that keeps Session-Timeout has ended a session and said so by then."""
THROTTLE_SEEN_S = 60
"""So long a slower rate is watched before its gateway is said to ignore it."""
THROTTLE_SLACK = 1.5
THROTTLE_BURST_KBIT = 8_000
"""Leaky buckets let a first burst through (CoovaChilli: seen up to 10 % over the rate)."""
_OVER = frozenset(
    (
        Reason.USED_UP_DATA,
        Reason.USED_UP_TIME,
        Reason.EXPIRED,
        Reason.OUTSIDE_HOURS,
        Reason.REVOKED,
        Reason.REPLACED,
    )
)
"""Refusals that end a running session; the others only concern a new one."""
_FIELDS = {
    TIME: ("valid_s", "hours", "idle_s", "interim_s", "devices")
    + tuple(f"time_{window}_s" for window in ("session", "day", "week", "month", "total")),
    DATA: ("devices", "throttle_kbps")
    + tuple(f"data_{window}_octets" for window in ("session", "day", "week", "month", "total")),
    RATE: ("rate_down_kbps", "rate_up_kbps", "throttle_kbps"),
}
"""Which settings of a profile change which limits."""


class Renewals:
    """Decides what running sessions may use now, and has their gateways told."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        disconnects: Disconnects,
        commit: GroupCommit,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._grants = grants
        self._disconnects = disconnects
        self._commit = commit
        self._now = now
        self._elapsed_s = elapsed_s
        probe = Limits(60, 60, None, None, None, None)
        self.answering = frozenset(
            name
            for name, one in admin.families.items()
            if one.accounting_response_attributes(probe)
        )
        """Families that take limits from an Accounting-Response."""
        self._tasks: set[asyncio.Task[None]] = set()

    # -- with every report -----------------------------------------------------------------

    def attributes(self, live: Live, gateway: Gateway, now: int) -> bytes:
        """What the Accounting-Response of this session's report carries: its limits once they are
        not those of its Accept, every time, for any one answer may be lost. For families in
        `answering`."""
        account = live.account
        if account is None or live.wants_disconnect or live.session.is_superseded:
            return b""
        renewed = live.renewed
        if (
            renewed is not None
            and now < renewed.until_at
            and renewed.rest == account.usage.total_octets - live.session.octets
            and renewed.profile is self._admin.profiles_by_name[account.profile]
        ):
            return renewed.told
        found = self._renew(live, gateway, account, now, EVERYTHING)
        if isinstance(found, Refusal):
            self._disconnects.want(live, found.reason.value)
            return b""
        return b"" if live.renewed is None else live.renewed.told

    def exceeded(self, live: Live, why: str) -> None:
        """A session has used more than it was given: give it what is left, if there is something
        and its gateway can be told, else have it end."""
        gateway = self._admin.gateways_by_id.get(live.session.gateway_id)
        account = live.account
        if gateway is None or account is None:
            self._disconnects.remind(live, why)
            return
        one = self._admin.families[gateway.family]
        can = one.COA_CHANGES
        if gateway.family in self.answering:
            can = EVERYTHING
        if not one.LIMITS_DATA:
            # It keeps none, so there is nothing to tell: only we count.
            can |= {DATA}
        found = self._decide(live, account)
        if not isinstance(found, Grant) or not self._needed(live, found) <= can:
            self._disconnects.remind(live, why)
            return
        told = self._needed(live, found) - (frozenset() if one.LIMITS_DATA else {DATA})
        if isinstance(self._renew(live, gateway, account, self._now(), can), Limits):
            self._commit.soon()
            if told:
                self._tell_soon(live, "throttle" if found.is_throttled else why)

    def _needed(self, live: Live, grant: Grant) -> frozenset[str]:
        """What a session's gateway must hear, so that the session can live on a grant."""
        session = live.session
        needed = set()
        if grant.is_throttled:
            needed.add(RATE)
        if session.granted_octets is not None:
            if grant.octets is None or session.octets >= session.granted_octets:
                needed.add(DATA)
        if session.granted_s is not None and session.counted_s >= session.granted_s:
            needed.add(TIME)
        return frozenset(needed)

    def follow_up(self, live: Live, renewed: Renewed) -> None:
        """At a report of a session whose gateway owes an answer, or obedience."""
        if renewed.owed:
            self._tell_soon(live, renewed.owed)
        session = live.session
        if renewed.watched is None:
            return
        octets, time_s, kbps = renewed.watched
        seconds = session.session_time_s - time_s
        if seconds < THROTTLE_SEEN_S:
            return
        kbit = (session.octets - octets) * 8 // 1000
        if kbit > seconds * kbps * THROTTLE_SLACK + THROTTLE_BURST_KBIT:
            # The new login gets the rate with its Access-Accept.
            self._disconnects.want(live, "throttle_ignored")
        renewed.watched = (session.octets, session.session_time_s, kbps)

    # -- when something was changed --------------------------------------------------------

    def account_changed(self, account_id: int, changes: frozenset[str], why: str) -> None:
        """People gave a card more: its sessions that run now get it, where they can be told."""
        account = self._accounts.in_memory(account_id)
        if account is None:
            return
        for session_id in list(account.sessions):
            live = self._sessions.by_id(session_id)
            if live is not None:
                self._changed(live, changes, why)

    def profile_changed(self, old: Profile | None, new: Profile) -> None:
        """People changed a profile: the sessions of its cards follow, where they can be told."""
        if old is None:
            return
        changes = frozenset(
            name
            for name, fields in _FIELDS.items()
            if any(getattr(old, field) != getattr(new, field) for field in fields)
        )
        for live in self._sessions.open_sessions():
            if live.account is not None and live.account.profile == new.name:
                self._changed(live, changes, "profile")

    def _changed(self, live: Live, changes: frozenset[str], why: str) -> None:
        # From now on its limits are news, even if the next decision is the same to the octet.
        if live.renewed is not None:
            live.renewed.until_at = CHANGED
        live.profile = None
        gateway = self._admin.gateways_by_id.get(live.session.gateway_id)
        if gateway is None or live.session.is_superseded:
            return
        one = self._admin.families[gateway.family]
        if live.renewed is not None and live.renewed.is_throttled or self._is_throttled(live):
            # More to use ends the slow rate as well.
            changes |= {RATE, DATA}
            if not changes <= one.COA_CHANGES and gateway.family not in self.answering:
                return
        if one.COA != "none" and changes & one.COA_CHANGES:
            self._tell_soon(live, why)

    def _is_throttled(self, live: Live) -> bool:
        """Whether its Accept can only have been one at the essential rate."""
        account = live.account
        if account is None or live.session.granted_octets is not None:
            return False
        profile = self._admin.profiles_by_name[account.profile]
        return profile.throttle_kbps is not None

    def sweep(self) -> None:
        """Have sessions end whose hours or validity are over and whose gateway goes on."""
        now = self._now()
        is_closed: dict[tuple[str, str], bool] = {}
        for live in self._sessions.open_sessions():
            account = live.account
            if account is None or live.wants_disconnect or live.session.is_superseded:
                continue
            profile = self._admin.profiles_by_name[account.profile]
            end_at = expires_at(profile, account.first_used_at, account.extra_valid_s)
            if end_at is not None and now > end_at + OVERDUE_S:
                self._disconnects.want(live, Reason.EXPIRED.value)
            elif profile.hours is not None:
                zone = account.usage.zone
                key = (profile.hours, zone.key)
                if key not in is_closed:
                    is_closed[key] = not any(
                        hours.is_open(profile.hours, at, zone) for at in (now, now - OVERDUE_S)
                    )
                if is_closed[key]:
                    self._disconnects.want(live, Reason.OUTSIDE_HOURS.value)

    # -- deciding --------------------------------------------------------------------------

    def _decide(self, live: Live, account: Account) -> Grant | Refusal | None:
        """What the session may use from now on; None where it lives on nothing of its own."""
        session = live.session
        card = self._accounts.card(session.voucher_id or 0, self._now())
        device = account.devices.get(session.mac or NO_PHONE)
        if card is None or device is None or device.session_id != session.id:
            return None
        running = Running(session.octets, session.counted_s)
        found = self._grants.decide(card, session.mac, running)
        if isinstance(found, Refusal) and found.reason not in _OVER:
            return None
        return found

    def _renew(
        self, live: Live, gateway: Gateway, account: Account, now: int, can: frozenset[str]
    ) -> Limits | Refusal | None:
        """Decide anew; set aside what the gateway may be told to allow, of what it `can` be told.

        None: what it was told stands.
        """
        session = live.session
        grant = self._decide(live, account)
        if not isinstance(grant, Grant):
            return grant
        profile = self._admin.profiles_by_name[account.profile]
        counter = session.raw_input_octets + session.raw_output_octets
        if grant.octets is not None:
            if session.octets != counter and not gateway.sends_gigawords:
                # A counter of 32 bits that went round, or one that began anew: no limit fits both.
                return None
            if session.granted_octets is None and profile.devices > 1:
                # Nothing can be taken back from what was unlimited, and as long as it runs the
                # card's other phones get nothing: it ends with its window.
                return None
        octets = None if grant.octets is None else session.octets + grant.octets
        counted_s = None
        if grant.held_s is not None:
            rest_s = SESSION_TIMEOUT_MAX_S - session.session_time_s
            counted_s = session.counted_s + max(0, min(grant.held_s, rest_s))
        if DATA not in can:
            octets = session.granted_octets
        if TIME not in can:
            counted_s = session.granted_s
        old = live.renewed
        is_news = (
            (old is not None and old.is_news)
            or profile is not live.profile
            or octets != session.granted_octets
            or _is_other_s(counted_s, session.granted_s)
        )
        self._set_aside(live, account, octets, counted_s)
        interim_s = interim_of_session_s(profile, live.session.id)
        live.interim_s = max(live.interim_s, interim_s)
        ran_s = session.session_time_s
        if grant.held_s is None:
            # What ran since the last report counts against an hour of closing, but a time quota has
            # not counted it yet.
            ran_s += max(0, int(self._elapsed_s() - live.heard_s))
        limits = (
            max(1, min(ran_s + grant.seconds, SESSION_TIMEOUT_MAX_S)),
            interim_s,
            profile.idle_s,
            None if grant.octets is None else counter + grant.octets,
            grant.rate_down_kbps,
            grant.rate_up_kbps,
        )
        is_shared = profile.devices > 1 and (octets is not None or counted_s is not None)
        is_told = is_news and gateway.family in self.answering
        live.renewed = Renewed(
            profile=profile,
            until_at=now if is_shared else account.usage.tally("day", now).end_at,
            rest=account.usage.total_octets - session.octets,
            octets=octets,
            counted_s=counted_s,
            is_throttled=grant.is_throttled,
            is_news=is_news,
            told=_told(gateway.family, limits) if is_told else b"",
        )
        if old is not None:
            live.renewed.owed, live.renewed.tries = old.owed, old.tries
            live.renewed.watched = old.watched if grant.is_throttled else None
        return Limits(*limits)

    def _set_aside(
        self, live: Live, account: Account, octets: int | None, counted_s: int | None
    ) -> None:
        session = live.session
        more_octets = _more(session.granted_octets, octets)
        more_s = _more(session.granted_s, counted_s)
        if (more_octets, more_s) == (session.granted_octets, session.granted_s):
            return
        session.granted_octets, session.granted_s = more_octets, more_s
        self._sessions.changed(live)
        device = account.devices[session.mac or NO_PHONE]
        device.granted_octets, device.granted_s = more_octets, more_s
        self._accounts.device_changed(account, device)

    # -- telling ---------------------------------------------------------------------------

    def _tell_soon(self, live: Live, why: str) -> None:
        work: Coroutine[Any, Any, None] = self._tell(live, why)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("telling_failed", exc_info=task.exception())

    async def _tell(self, live: Live, why: str) -> None:
        """Send a session's limits of now, once they are set aside on disk."""
        gateway = self._admin.gateways_by_id.get(live.session.gateway_id)
        account = live.account
        if gateway is None or account is None or not live.session.is_open:
            return
        one = self._admin.families[gateway.family]
        can = one.COA_CHANGES
        if gateway.family in self.answering:
            can = EVERYTHING
        limits = self._renew(live, gateway, account, self._now(), can)
        if isinstance(limits, Refusal):
            self._disconnects.want(live, limits.reason.value)
            return
        renewed = live.renewed
        if limits is None or renewed is None or one.COA == "none":
            return
        renewed.owed = why
        if not await self._commit.now():
            return
        outcome = await self._disconnects.change(live, limits, why)
        if live.renewed is not None:
            self._take(live, live.renewed, outcome, why)

    def _take(self, live: Live, renewed: Renewed, outcome: Outcome | None, why: str) -> None:
        """Follow what a gateway said to new limits."""
        if outcome is None:
            return
        renewed.tries += 1
        if outcome.kind == "timeout" and renewed.tries < CHANGE_TRIES and why != "throttle":
            return
        renewed.owed, renewed.tries = "", 0
        if not renewed.is_throttled:
            return
        if outcome.kind == "ack":
            session, profile = live.session, renewed.profile
            kbps = profile.throttle_kbps or 0
            down = min(profile.rate_down_kbps or kbps, kbps)
            up = min(profile.rate_up_kbps or kbps, kbps)
            renewed.watched = (session.octets, session.session_time_s, down + up)
        elif why == "throttle":
            self._disconnects.want(live, "throttle")

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _is_other_s(wanted: int | None, granted: int | None) -> bool:
    """Whether two time limits differ by more than clocks and rounding make."""
    if wanted is None or granted is None:
        return wanted is not granted
    return abs(wanted - granted) > SAME_S


def _more(granted: int | None, wanted: int | None) -> int | None:
    """The larger of two amounts; None is without limit."""
    return None if granted is None or wanted is None else max(granted, wanted)


@lru_cache(maxsize=4096)
def _told(family_name: str, limits: tuple[Any, ...]) -> bytes:
    return family(family_name).accounting_response_attributes(Limits(*limits))
