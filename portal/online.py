"""Online: who is on now, and ending a session with its true outcome.

Everything comes from memory: hundreds of phones are listed without a read of the disk. What a
gateway answers to a Disconnect-Request is shown as what it is, an answer; the truth is accounting.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from portal.accounts import Accounts
from portal.admin import Admin
from portal.attempts import DISCONNECT, Attempt
from portal.audit import COMMAND_LINE
from portal.disconnects import Disconnects
from portal.domain.session import Session
from portal.errors import DeskError
from portal.grants import Grants
from portal.sessions import Live, Sessions
from portal.store.audit import Deed
from portal.store.overview import OverviewStore

PAGE = 30
"""Sessions on a page of the list."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that runs, as far as the node knows."""

    id: int
    site_id: int
    serial: str
    """Empty for a user the node does not know."""
    device: str | None
    """The name of a known device, whose card nobody holds."""
    gateway: str
    mac: str | None
    started_at: int
    last_seen_at: int
    octets: int
    """Both directions, as last reported."""
    octets_left: int | None
    """Of the card, in the tightest window now; None = unlimited or no card."""
    seconds_left: int | None
    """Until time quota, opening hours or validity end it; None = nothing does."""
    attempt: Attempt | None
    """The newest attempt to end it, None when nobody asked."""


@dataclass(frozen=True, slots=True)
class OnlinePage:
    """A part of the list."""

    total: int
    octets: int
    """What all sessions of the list have used together."""
    number: int
    """Which page this is, from 1; the last one when there are fewer than was asked for."""
    pages: int
    sessions: list[OpenSession]


@dataclass(frozen=True, slots=True)
class Truth:
    """What accounting says of a session somebody wanted to end."""

    is_open: bool
    last_seen_at: int | None
    """None: the node has forgotten the session."""
    ended_at: int | None
    end_cause: str | None
    is_stopped: bool
    """The gateway reported the end; False with `ended_at`: the node no longer waits for it."""
    back_at: int | None
    """When the same phone or card came online again since, None when it did not."""
    back_id: int | None


class Online:
    """The open sessions of sites, and how they are ended."""

    def __init__(
        self,
        store: OverviewStore,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        disconnects: Disconnects,
        *,
        now: Callable[[], int],
        device_name: Callable[[int], str | None] = lambda voucher_id: None,
    ):
        """`device_name`: the name of the known device whose card this is."""
        self._store = store
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._grants = grants
        self._disconnects = disconnects
        self._now = now
        self._device_name = device_name

    # -- the list --------------------------------------------------------------------------

    def count(self, site_ids: Collection[int]) -> dict[int, int]:
        """How many sessions are open at each of these sites."""
        found = dict.fromkeys(site_ids, 0)
        for live in self._sessions.open_sessions():
            if live.session.site_id in found:
                found[live.session.site_id] += 1
        return found

    def page(self, site_id: int, number: int = 1, *, most_data_first: bool = False) -> OnlinePage:
        """One page of a site's list: the newest first, or those that used most."""
        found = [one for one in self._sessions.open_sessions() if one.session.site_id == site_id]
        if most_data_first:
            found.sort(key=lambda one: (-one.session.octets, one.session.id))
        else:
            found.sort(key=lambda one: (-one.session.started_at, -one.session.id))
        pages = max(1, -(-len(found) // PAGE))
        number = min(max(number, 1), pages)
        return OnlinePage(
            total=len(found),
            octets=sum(one.session.octets for one in found),
            number=number,
            pages=pages,
            sessions=[self._shown(one) for one in found[(number - 1) * PAGE : number * PAGE]],
        )

    def site_of(self, session_id: int) -> int | None:
        """The site of a session, open or over; None when there never was such a session."""
        live = self._sessions.by_id(session_id)
        session = self._sessions.stored(session_id) if live is None else live.session
        return None if session is None else session.site_id

    def session(self, session_id: int) -> OpenSession:
        """An open session; raises DeskError when there is none (any more)."""
        return self._shown(self._live(session_id))

    def _live(self, session_id: int) -> Live:
        live = self._sessions.by_id(session_id)
        if live is not None and live.session.is_open:
            return live
        if live is None and self._sessions.stored(session_id) is None:
            raise DeskError("online.unknown_session")
        raise DeskError("online.ended_already")

    def _shown(self, live: Live) -> OpenSession:
        session = live.session
        octets_left, seconds_left = self._left(session)
        return OpenSession(
            id=session.id,
            site_id=session.site_id,
            serial=live.serial,
            device=self._device_of(session),
            gateway=self._admin.gateway_name(session.gateway_id) or "",
            mac=session.mac,
            started_at=session.started_at,
            last_seen_at=session.last_seen_at,
            octets=session.octets,
            octets_left=octets_left,
            seconds_left=seconds_left,
            attempt=self._disconnects.attempt_of(session.id),
        )

    def _device_of(self, session: Session) -> str | None:
        return None if session.voucher_id is None else self._device_name(session.voucher_id)

    def _left(self, session: Session) -> tuple[int | None, int | None]:
        now = self._now()
        card = None if session.voucher_id is None else self._accounts.card(session.voucher_id, now)
        if card is None:
            return None, None
        status = self._grants.status(card)
        seconds_left = status.seconds_left
        if status.open_until_at is not None:
            until_s = max(0, status.open_until_at - now)
            seconds_left = until_s if seconds_left is None else min(seconds_left, until_s)
        return status.octets_left, seconds_left

    # -- ending a session ------------------------------------------------------------------

    async def disconnect(self, session_id: int, *, by: str = COMMAND_LINE) -> Attempt:
        """Ask a session's gateway to end it and return at once; the answer comes to the attempt.

        Where nobody has to be asked any more, DeskError says so. A second request while one waits
        for its answer is that one.
        """
        live = self._live(session_id)
        gateway = self._admin.gateways_by_id.get(live.session.gateway_id)
        if gateway is None or not self._admin.families[gateway.family].CAN_DISCONNECT:
            raise DeskError("online.cannot_ask", gateway=gateway.name if gateway else "")
        return await self._disconnects.begin(live, by, self.record)

    async def record(self, attempt: Attempt) -> None:
        """Write an attempt into the audit."""
        deed = Deed(
            by=attempt.by,
            action="session.disconnect",
            site_id=attempt.site_id,
            object=attempt.device or attempt.serial or str(attempt.session_id),
            details=f"session {attempt.session_id} at {attempt.gateway}",
        )
        await self._store.record(attempt.asked_at, deed)

    async def attempt(self, number: int) -> Attempt | None:
        """An attempt by its number, None when it is too old or never was."""
        attempt = await self._disconnects.stored(number)
        return attempt if attempt is not None and attempt.kind == DISCONNECT else None

    def truth(self, attempt: Attempt) -> Truth:
        """What accounting says of the session of an attempt now."""
        live = self._sessions.by_id(attempt.session_id)
        session = self._sessions.stored(attempt.session_id) if live is None else live.session
        if session is None:
            return Truth(False, None, None, None, False, None, None)
        back = None if session.is_open else self._back(session, attempt.mac)
        return Truth(
            is_open=session.is_open,
            last_seen_at=session.last_seen_at,
            ended_at=session.ended_at,
            end_cause=session.end_cause,
            is_stopped=session.is_stopped,
            back_at=None if back is None else back.started_at,
            back_id=None if back is None else back.id,
        )

    def _back(self, session: Session, mac: str | None) -> Session | None:
        """The open session that followed: of the same phone, or of the same card on another one."""
        found = [] if mac is None else [one.session for one in self._sessions.of_mac(mac)]
        if session.voucher_id is not None:
            card = self._accounts.card(session.voucher_id, self._now())
            if card is not None:
                found += card.account.sessions.values()
        later = [one for one in found if one.is_open and one.id > session.id]
        return max(later, key=lambda one: one.id, default=None)
