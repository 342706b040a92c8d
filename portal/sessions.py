"""Sessions in memory: the open ones, those that ended lately, and what is not yet on disk.

An accounting packet finds its session by the Class we gave, else by gateway and Acct-Session-Id.
Ended sessions are kept for a while, since packets come late; older ones are read from disk.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from portal.accounts import Account
from portal.domain.profile import Profile
from portal.domain.session import Session
from portal.store.batch import Batch, beside_counters, counters_row, session_row
from portal.store.node import NodeStore
from radius.server import Exchange

ENDED_KEPT: Final = 2_000
"""Ended sessions kept in memory; a late packet for an older one costs a read."""
SAME_START_S: Final = 600
"""Two sessions of one gateway with one Acct-Session-Id and starts further apart are different:
a gateway without a clock gives the same ids again after a reboot (RFC 2866 5.5 allows it)."""


@dataclass(slots=True, eq=False)
class Renewed:
    """Limits that were decided for a running session since its Accept (portal/renewals.py)."""

    profile: Profile
    until_at: int
    """From then on they may be others: the day ends."""
    rest: int
    """Octets that were used of the account beside this session."""
    octets: int | None
    """What the session may use in all, as the node counts it; None = unlimited."""
    counted_s: int | None
    is_throttled: bool
    is_news: bool
    """They are not those of its Accept."""
    told: bytes
    """The same for an Accounting-Response; empty where they are no news, or none is taken there."""
    owed: str = ""
    """Why a CoA-Request has to be sent again; empty: none has."""
    tries: int = 0
    watched: tuple[int, int, int] | None = None
    """Octets and session time at which its gateway said yes to a slower rate, and that in kbit/s
    both ways together."""


@dataclass(slots=True, eq=False)
class Live:
    """A session with what only the running node knows about it."""

    session: Session
    account: Account | None
    serial: str
    """The card's serial, empty for a user the node does not know."""
    interim_s: int
    heard_s: float
    """Elapsed-time reading of the last packet."""
    exchange: Exchange | None = None
    """Its last accounting packet: names the session in a Disconnect, where to and where from. Not
    stored: the User-Name can be a code typed at the gateway's own page."""
    gateway_address: str | None = None
    """Where its gateway is while no packet has been heard since the start."""
    written: tuple[Any, ...] | None = None
    """`beside_counters` of the stored row; None when that may differ."""
    wants_disconnect: bool = False
    asked_s: float = float("-inf")
    """Elapsed-time reading of the last Disconnect-Request."""
    profile: Profile | None = None
    """Of its card, when the session was first heard of; None without a card."""
    renewed: Renewed | None = None
    """Limits decided since its Accept; None while that stands."""

    @property
    def is_reachable(self) -> bool:
        """Whether we know where to send a Disconnect-Request."""
        return self.exchange is not None or self.gateway_address is not None


class Sessions:
    """Open and lately ended sessions, found by id, by Acct-Session-Id, by phone and by address."""

    def __init__(self, store: NodeStore, *, ended_kept: int = ENDED_KEPT):
        self._store = store
        self._ended_kept = ended_kept
        self._by_id: dict[int, Live] = {}
        self._by_acct: dict[tuple[int, str], Live] = {}
        self._open_of_mac: dict[str, dict[int, Live]] = {}
        self._open_at_ip: dict[str, dict[int, Live]] = {}
        self._open: dict[int, Live] = {}
        self._ended: OrderedDict[int, None] = OrderedDict()
        self._dirty: dict[int, Live] = {}
        self._in_flight: dict[int, Live] = {}

    # -- finding ---------------------------------------------------------------------------

    def open_sessions(self) -> Iterator[Live]:
        """The open sessions, oldest first; safe against closing while iterating."""
        return iter(list(self._open.values()))

    def in_memory(self) -> list[Live]:
        """The open sessions and those that ended lately."""
        return list(self._by_id.values())

    def __len__(self) -> int:
        return len(self._open)

    def by_id(self, session_id: int) -> Live | None:
        """A session in memory."""
        return self._by_id.get(session_id)

    def by_acct(self, gateway_id: int, acct_session_id: str) -> Live | None:
        """The newest session in memory of a gateway with this Acct-Session-Id."""
        return self._by_acct.get((gateway_id, acct_session_id))

    def of_mac(self, mac: str) -> list[Live]:
        """Open sessions of a phone, at any gateway."""
        return list(self._open_of_mac.get(mac, {}).values())

    def at_ip(self, framed_ip: str) -> list[Live]:
        """Open sessions with this Framed-IP-Address, at any gateway."""
        return list(self._open_at_ip.get(framed_ip, {}).values())

    def stored(self, session_id: int) -> Session | None:
        """A session that is on disk only."""
        return self._store.session(session_id)

    def stored_without_class(self, gateway_id: int, acct_session_id: str) -> Session | None:
        """The newest session on disk that was found without Class."""
        return self._store.session_without_class(gateway_id, acct_session_id)

    # -- changing --------------------------------------------------------------------------

    def add(self, live: Live, *, is_new: bool) -> None:
        """Take a session into memory; `is_new` inserts it with the next commit."""
        session = live.session
        self._by_id[session.id] = live
        self._by_acct[(session.gateway_id, session.acct_session_id)] = live
        if session.is_open:
            self._index(live)
        else:
            self._keep_ended(session.id)
        if is_new:
            self._dirty[session.id] = live

    def changed(self, live: Live) -> None:
        """Write the session with the next commit, and follow its opening or closing."""
        session = live.session
        session_id = session.id
        self._dirty[session_id] = live
        if session.ended_at is None:
            if session_id not in self._open:
                self._ended.pop(session_id, None)
                self._index(live)
        elif session_id in self._open:
            self._unindex(live)
            self._keep_ended(session_id)

    def moved_to_ip(self, live: Live, framed_ip: str) -> None:
        """Note a new Framed-IP-Address of a session."""
        session = live.session
        if session.id in self._open:
            self._unindex(live)
            session.framed_ip = framed_ip
            self._index(live)
        else:
            session.framed_ip = framed_ip

    def _index(self, live: Live) -> None:
        session = live.session
        self._open[session.id] = live
        if live.account is not None:
            live.account.sessions[session.id] = session
        if session.mac is not None:
            self._open_of_mac.setdefault(session.mac, {})[session.id] = live
        if session.framed_ip is not None:
            self._open_at_ip.setdefault(session.framed_ip, {})[session.id] = live

    def _unindex(self, live: Live) -> None:
        session = live.session
        del self._open[session.id]
        if live.account is not None:
            live.account.sessions.pop(session.id, None)
        for index, key in (
            (self._open_of_mac, session.mac),
            (self._open_at_ip, session.framed_ip),
        ):
            if key is not None and key in index:
                index[key].pop(session.id, None)
                if not index[key]:
                    del index[key]

    def _keep_ended(self, session_id: int) -> None:
        self._ended[session_id] = None
        self._ended.move_to_end(session_id)
        if len(self._ended) <= self._ended_kept:
            return
        for old_id in self._ended:
            if old_id not in self._dirty and old_id not in self._in_flight:
                if not self._store.journal.holds_session(old_id):
                    break
        else:
            return
        del self._ended[old_id]
        old = self._by_id.pop(old_id)
        key = (old.session.gateway_id, old.session.acct_session_id)
        if self._by_acct.get(key) is old:
            del self._by_acct[key]

    # -- the group commit ------------------------------------------------------------------

    def collect(self, batch: Batch) -> Callable[[bool], None]:
        """Put everything unwritten into a batch; call the result with whether it was committed."""
        taken = self._dirty
        self._dirty = {}
        self._in_flight = taken
        for live in taken.values():
            rest = beside_counters(live.session)
            if live.written == rest:
                batch.counters.append(counters_row(live.session))
            else:
                live.written = rest
                batch.sessions.append(session_row(live.session))

        def settle(is_committed: bool) -> None:
            self._in_flight = {}
            if not is_committed:
                for live in taken.values():
                    live.written = None
                self._dirty = {**taken, **self._dirty}

        return settle
