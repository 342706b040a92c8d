"""Grants: whether a card's phone may go on, with how much, and what becomes of older grants.

Both doors decide here: the RADIUS server, and the portal before it hands a phone over. The rules
themselves are in `domain.quota`; this module knows which phones of a card hold what.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from portal.accounts import Accept, Account, Accounts, Card, Device
from portal.admin import Admin
from portal.commit import GroupCommit
from portal.disconnects import Disconnects
from portal.domain import hours, quota
from portal.domain.profile import Profile
from portal.domain.quota import NOBODY, Grant, Reason, Refusal, Running, WindowLeft
from portal.domain.session import Session
from portal.domain.voucher import State
from portal.sessions import Live, Sessions

MOVES_A_DAY = 5
"""More moves in a day are a shared code, not a changed phone (portal-ux U13)."""
ADMIN_RESET, NEWER_SESSION = "Admin-Reset", "Superseded"
NO_PHONE: Final = ""
"""Stands for the phone of a gateway that does not say which one it is."""


@dataclass(frozen=True, slots=True)
class VoucherStatus:
    """A card as people see it."""

    serial: str
    last4: str
    site_code: str
    profile: str
    state: State
    first_used_at: int | None
    expires_at: int | None
    use_before_at: int | None
    octets_used: int
    octets_left: int | None
    """In the tightest window now, never below 0; None = unlimited."""
    seconds_used: int
    seconds_left: int | None
    resets_at: int | None
    open_sessions: int
    windows: tuple[WindowLeft, ...]
    devices_allowed: int
    devices_in_use: int
    is_throttled: bool
    last_end_cause: str | None
    last_ended_at: int | None
    open_until_at: int | None
    """When opening hours or validity end next."""
    reason: Reason | None
    """Why it could not log in now."""
    retry_at: int | None


FOR_EVER_AT: Final = 1 << 62


class Grants:
    """Decides for a card and a phone, and keeps the account's phones."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        disconnects: Disconnects,
        commit: GroupCommit,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        first_session_id: int,
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._disconnects = disconnects
        self._commit = commit
        self._now = now
        self._elapsed_s = elapsed_s
        self._first_session_id = self._next_session_id = first_session_id

    def is_of_this_run(self, session_id: int) -> bool:
        """Whether a session id was given since the node started."""
        return self._first_session_id <= session_id < self._next_session_id

    def new_session_id(self) -> int:
        """A session id nobody had before."""
        session_id = self._next_session_id
        self._next_session_id += 1
        return session_id

    # -- deciding --------------------------------------------------------------------------

    def decide(
        self, card: Card, mac: str | None, running: Running | None = None
    ) -> Grant | Refusal:
        """What this phone would get now, or what its `running` session may use from now on; changes
        nothing."""
        now = self._now()
        ended = self._ended(card, now)
        if ended is not None:
            return ended
        account = card.account
        profile = self._admin.profiles_by_name[account.profile]
        key = mac or NO_PHONE
        if len(account.devices) > 1 or (account.devices and key not in account.devices):
            held = account.held_by_others(key, self._elapsed_s(), profile)
        else:
            held = NOBODY
        decision = quota.decide(
            profile,
            account.usage,
            now=now,
            first_used_at=account.first_used_at,
            extra_valid_s=account.extra_valid_s,
            held=held,
            running=running,
        )
        if held is NOBODY:
            return decision
        if held.devices >= profile.devices and isinstance(decision, Grant):
            return Refusal(Reason.IN_USE)
        if isinstance(decision, Refusal) and decision.reason is Reason.RESERVED:
            return Refusal(Reason.IN_USE) if held.devices >= profile.devices else decision
        return decision

    def _ended(self, card: Card, now: int) -> Refusal | None:
        if card.revoked_at is not None:
            return Refusal(Reason.REVOKED)
        if card.replaced_at is not None:
            return Refusal(Reason.REPLACED)
        if card.account.first_used_at is None and card.use_before_at is not None:
            if now >= card.use_before_at:
                return Refusal(Reason.USE_BEFORE_PASSED)
        return None

    def take(
        self, card: Card, mac: str | None, gateway_id: int, grant: Grant, *, remember: bool
    ) -> int:
        """Give the grant to the phone; return the session id. It may be told after the commit.

        Whatever the phone held before, at any gateway, is superseded. The row is written even when
        the one on disk sets aside as much: that one names an older session, whose end would free
        the grant that this one lives on.
        """
        now, elapsed_s = self._now(), self._elapsed_s()
        account = card.account
        key = mac or NO_PHONE
        session_id = self.new_session_id()
        device = account.devices.get(key)
        if device is None:
            device = account.devices[key] = Device(key, remember, gateway_id)
        elif device.session_id is not None:
            self._supersede(device.session_id)
        if account.first_used_at is None:
            self._accounts.first_use(account, now)
        device.is_remembered = remember
        device.gateway_id = gateway_id
        device.session_id = session_id
        device.granted_octets = grant.octets
        device.granted_s = grant.held_s
        device.granted_at = now
        device.heard_s = elapsed_s
        self._accounts.used(account)
        self._accounts.came_with(account, device)
        self._accounts.granted(account, device)
        self._accounts.device_changed(account, device)
        return session_id

    # -- asking again ----------------------------------------------------------------------

    def again(self, card: Card, mac: str | None, gateway_id: int, is_typed: bool) -> Accept | None:
        """The answer a phone was given before, when it asks again before that session began and
        nothing has changed that it was decided on; None when there must be a decision.

        Impatient phones and gateways that heard no answer ask several times. The grant is the one
        it holds already, so nothing is taken and nothing needs the disk.
        """
        account = card.account
        devices = account.devices
        device = devices.get(mac or NO_PHONE)
        if device is None or len(devices) != 1:
            return None
        accept = device.accept
        if (
            accept is None
            or accept.session_id != device.session_id
            or accept.session_id in account.sessions
            or accept.gateway_id != gateway_id
            or accept.card_id != card.id
            or accept.is_typed is not is_typed
            or accept.is_remembered is not device.is_remembered
            or card.revoked_at is not None
            or card.replaced_at is not None
            or self._admin.profiles_by_name[account.profile] is not accept.profile
        ):
            return None
        now = self._now()
        if now > accept.until_at or not account.usage.is_still(accept.left, accept.profile, now):
            return None
        device.granted_at = now
        device.heard_s = self._elapsed_s()
        self._accounts.used(account)
        self._accounts.came_with(account, device)
        return accept

    def accept(
        self, card: Card, device: Device, grant: Grant, attributes: bytes, is_typed: bool
    ) -> Accept | None:
        """What `again` needs to give this answer again; None when it may differ the next time."""
        if grant.is_throttled or device.session_id is None:
            return None
        account = card.account
        profile = self._admin.profiles_by_name[account.profile]
        now = self._now()
        edge = _edge(profile, account, now)
        return Accept(
            attributes,
            device.session_id,
            card.id,
            device.gateway_id,
            is_typed,
            device.is_remembered,
            account.usage.left(profile, now),
            profile,
            FOR_EVER_AT if edge is None else edge - grant.seconds,
        )

    def _supersede(self, session_id: int) -> None:
        live = self._sessions.by_id(session_id)
        if live is not None and not live.session.is_superseded:
            live.session.is_superseded = True
            self._sessions.changed(live)

    # -- moving and logging out ------------------------------------------------------------

    def move(self, card: Card, mac: str | None) -> Refusal | None:
        """Make room for this phone by ending the card's longest silent other ones.

        Refused when the card has moved too often today. What the ended sessions still report is
        counted; their grants hold nothing any more.
        """
        account = card.account
        profile = self._admin.profiles_by_name[account.profile]
        today = quota.day_text(quota.day_ordinal(self._now(), account.usage.zone))
        if account.move_day != today:
            account.move_day, account.move_count = today, 0
        if account.move_count >= MOVES_A_DAY:
            return Refusal(Reason.TOO_MANY_MOVES, account.usage.tally("day", self._now()).end_at)
        holding = [
            device
            for device in account.devices.values()
            if device.session_id is not None and device.mac != (mac or NO_PHONE)
        ]
        holding.sort(key=self._heard_s)
        excess = max(len(holding) - profile.devices + 1, 1)
        for device in holding[:excess]:
            self.displace(account, device, "moved")
        account.move_count += 1
        self._accounts.changed(account)
        self._commit.soon()
        return None

    def _heard_s(self, device: Device) -> float:
        live = self._sessions.by_id(device.session_id or 0)
        return device.heard_s if live is None else live.heard_s

    def displace(self, account: Account, device: Device, reason: str) -> None:
        """Take a phone's grant, make it type its code again, and ask its gateway to cut it."""
        session_id = device.session_id
        self._accounts.forget_phone(account, device.mac)
        device.session_id = None
        device.granted_octets = device.granted_s = None
        self._accounts.device_changed(account, device)
        if session_id is not None:
            device.displaced_id = session_id
            self._supersede(session_id)
            live = self._sessions.by_id(session_id)
            if live is not None:
                self._disconnects.want(live, reason)

    def end_all(self, account: Account, reason: str) -> list[Live]:
        """Displace every phone of an account; returns the sessions asked to end."""
        asked = []
        for device in list(account.devices.values()):
            self.displace(account, device, reason)
        for session_id in list(account.sessions):
            live = self._sessions.by_id(session_id)
            if live is not None:
                self._supersede(session_id)
                self._disconnects.want(live, reason)
                asked.append(live)
        self._commit.soon()
        return asked

    def log_out(self, card: Card, mac: str | None, *, disconnect: bool) -> None:
        """The resident ends it: the phone must type a code again; with `disconnect` it is cut."""
        account = card.account
        if mac is not None:
            self._accounts.forget_phone(account, mac)
        if disconnect:
            for session_id, session in list(account.sessions.items()):
                live = self._sessions.by_id(session_id)
                if live is not None and (mac is None or session.mac == mac):
                    self._disconnects.want(live, "logout")
        self._commit.soon()

    # -- showing ---------------------------------------------------------------------------

    def state(self, card: Card) -> State:
        """The card's state now."""
        now = self._now()
        account = card.account
        if card.revoked_at is not None:
            return State.REVOKED
        if card.replaced_at is not None:
            return State.REPLACED
        profile = self._admin.profiles_by_name[account.profile]
        if account.first_used_at is None:
            is_late = card.use_before_at is not None and now >= card.use_before_at
            return State.EXPIRED if is_late else State.UNUSED
        end_at = quota.expires_at(profile, account.first_used_at, account.extra_valid_s)
        if end_at is not None and now >= end_at:
            return State.EXPIRED
        usage = account.usage
        octets, seconds = quota.total_quota(profile, usage)
        if _is_gone(octets, usage.total_octets) or _is_gone(seconds, usage.total_s):
            return State.USED_UP
        return State.ACTIVE

    def status(self, card: Card) -> VoucherStatus:
        """Everything people may see of a card now."""
        now = self._now()
        account = card.account
        profile = self._admin.profiles_by_name[account.profile]
        usage = account.usage
        windows = tuple(quota.windows_left(profile, usage, now))
        running = [one for one in account.sessions.values() if not one.is_superseded]
        session = quota.session_left(
            profile,
            max((one.octets for one in running), default=0),
            max((one.session_time_s for one in running), default=0),
        )
        if session is not None:
            windows = (session, *windows)
        is_dead = card.revoked_at is not None or card.replaced_at is not None
        octets_left, octets_window = _tightest(windows, is_data=True)
        seconds_left, seconds_window = _tightest(windows, is_data=False)
        tight = octets_window or seconds_window
        if seconds_window is not None and seconds_left == 0 and octets_left != 0:
            tight = seconds_window
        held = account.held_by_others(None, self._elapsed_s(), profile)
        decision = self.decide(card, _phone_of(account))
        refusal = decision if isinstance(decision, Refusal) else None
        last = self._last_session(account)
        return VoucherStatus(
            serial=card.serial,
            last4=card.last4,
            site_code=self._admin.sites_by_id[card.site_id].code,
            profile=profile.name,
            state=self.state(card),
            first_used_at=account.first_used_at,
            expires_at=quota.expires_at(profile, account.first_used_at, account.extra_valid_s),
            use_before_at=card.use_before_at,
            octets_used=usage.total_octets,
            octets_left=0 if is_dead and octets_left is not None else octets_left,
            seconds_used=usage.total_s,
            seconds_left=0 if is_dead and seconds_left is not None else seconds_left,
            resets_at=None if tight is None else tight.resets_at,
            open_sessions=len(account.sessions),
            windows=windows,
            devices_allowed=profile.devices,
            devices_in_use=held.devices,
            is_throttled=isinstance(decision, Grant) and decision.is_throttled,
            last_end_cause=None if last is None else _end_cause(last),
            last_ended_at=None if last is None else last.ended_at,
            open_until_at=_edge(profile, account, now),
            reason=None if refusal is None else refusal.reason,
            retry_at=None if refusal is None else refusal.retry_at,
        )

    def _last_session(self, account: Account) -> Session | None:
        if account.last_session_id is None:
            return None
        live = self._sessions.by_id(account.last_session_id)
        return self._sessions.stored(account.last_session_id) if live is None else live.session


def _end_cause(session: Session) -> str | None:
    """Why a session ended; a gateway that cut a moved phone only knows that it was told to."""
    if session.is_superseded and session.end_cause == ADMIN_RESET:
        return NEWER_SESSION
    return session.end_cause


def _is_gone(limit: int | None, used: int) -> bool:
    return limit is not None and used >= limit


def _phone_of(account: Account) -> str | None:
    """The phone that is on with this card, or was last: its own grant is no reason to refuse it."""
    holding = [device.mac for device in account.devices.values() if device.session_id is not None]
    return holding[0] if holding else None


def _tightest(
    windows: tuple[WindowLeft, ...], *, is_data: bool
) -> tuple[int | None, WindowLeft | None]:
    """The least left of all windows, and which it is; of equals the one that lasts longest."""
    least: int | None = None
    which: WindowLeft | None = None
    for window in windows:
        limit = window.octets_quota if is_data else window.seconds_quota
        if limit is None:
            continue
        left = max(0, limit - (window.octets_used if is_data else window.seconds_used))
        if least is None or left <= least:
            least, which = left, window
    return least, which


def _edge(profile: Profile, account: Account, now: int) -> int | None:
    edges = [
        at
        for at in (
            quota.expires_at(profile, account.first_used_at, account.extra_valid_s),
            hours.closes_at(profile.hours, now, account.usage.zone) if profile.hours else None,
        )
        if at is not None and at > now
    ]
    return min(edges, default=None)
