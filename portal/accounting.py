"""Accounting: which session a packet is about, what it adds, and when a session is over.

The arithmetic is in `domain.session` and `domain.quota`; this module knows the sessions, the grants
they live on and the gateways that report them. Nothing here answers: `aaa` does, once the commit
that holds a report is on disk.
"""

import logging
from collections.abc import Callable
from typing import Final

from portal import class_attribute, reports
from portal.accounts import SILENT_INTERIMS, Accounts, Card, Device
from portal.admin import Admin, Gateway
from portal.class_attribute import ClassContent
from portal.commit import GroupCommit
from portal.disconnects import Disconnects
from portal.domain import voucher
from portal.domain.profile import interim_of_session_s
from portal.domain.session import (
    INTERIM,
    START,
    STOP,
    Report,
    Session,
    apply,
    close,
    overlap_s,
)
from portal.grants import NEWER_SESSION, NO_PHONE, Grants
from portal.ledger import Ledger
from portal.renewals import Renewals
from portal.sessions import SAME_START_S, Live, Sessions
from radius.nas import canonical_mac
from radius.packet import (
    ACCT_SESSION_ID,
    ACCT_STATUS_TYPE,
    CLASS,
    FRAMED_IP_ADDRESS,
    USER_NAME,
    Packet,
)
from radius.server import Exchange

log = logging.getLogger(__name__)

RESENT_WITHIN_S: Final = 30
"""A gateway that stamps no times may resend a Start this long after the Stop (seen: 14 s)."""
ACCOUNTING_ON: Final = b"\0\0\0\7"
ACCOUNTING_OFF: Final = b"\0\0\0\10"
_KINDS: Final = {b"\0\0\0\1": START, b"\0\0\0\2": STOP, b"\0\0\0\3": INTERIM}
STALE, GONE = "Lost-Carrier", "Lost-Service"
"""How the node closes a session: its gateway fell silent, or said that it has no such session."""


class Accounting:
    """Takes reports into sessions and usage."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        commit: GroupCommit,
        disconnects: Disconnects,
        renewals: Renewals,
        ledger: Ledger,
        *,
        class_key: bytes,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        outages: Callable[[], list[tuple[int, int | None]]],
        learned_gigawords: Callable[[int], None],
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._grants = grants
        self._commit = commit
        self._disconnects = disconnects
        self._renewals = renewals
        self._ledger = ledger
        self._class_key = class_key
        self._now = now
        self._elapsed_s = elapsed_s
        self._outages = outages
        self._learned_gigawords = learned_gigawords

    def account(self, exchange: Exchange, gateway: Gateway, elapsed_s: float) -> bytes:
        """Apply one accounting packet to its session and the card's usage; return what its answer
        carries, encoded."""
        packet = exchange.packet
        first = packet.first
        status = first.get(ACCT_STATUS_TYPE, b"")
        now = self._now()
        happened_at = reports.event_at(packet, now)
        if status in (ACCOUNTING_ON, ACCOUNTING_OFF):
            self._close_gateway(gateway, happened_at)
            return b""
        kind = _KINDS.get(status)
        raw_id = first.get(ACCT_SESSION_ID)
        family = self._admin.families[gateway.family]
        if kind is None or not raw_id or family.is_administrative(packet):
            exchange.note = "ignored"
            log.info(
                "accounting_ignored gateway=%s status=%s has_session_id=%s",
                *(gateway.name, status.hex(), bool(raw_id)),
            )
            return b""
        report = reports.report(
            packet, kind, happened_at, is_swapped=gateway.is_swapped(family, packet)
        )
        if report.has_gigawords and not gateway.sends_gigawords:
            self._learned_gigawords(gateway.id)
        acct_session_id = raw_id.decode("utf-8", "backslashreplace")
        live, content = self._find(packet, gateway, acct_session_id, report)
        if live is None:
            live = self._create(packet, gateway, acct_session_id, report, content)
        elif not live.session.is_open and live.account is not None:
            # Without an open session it may have been dropped meanwhile, and read again since.
            card = self._accounts.card(live.session.voucher_id or 0, now)
            live.account = None if card is None else card.account
        last, live.exchange = live.exchange, exchange
        live.heard_s = elapsed_s
        self._disconnects.heard[gateway.id] = exchange
        if last is None or last.packet.first.get(FRAMED_IP_ADDRESS) != first.get(FRAMED_IP_ADDRESS):
            framed_ip = reports.framed_ip(packet)
            # An ended session without one has lost it for good: it was erased.
            is_known = live.session.is_open or live.session.framed_ip is not None
            if is_known and framed_ip is not None and framed_ip != live.session.framed_ip:
                self._sessions.moved_to_ip(live, framed_ip)
        self._apply(live, gateway, report, now)
        if kind is INTERIM and live.session.ended_at is None:
            self._enforce(live)
            if gateway.family in self._renewals.answering:
                return self._renewals.attributes(live, gateway, now)
        return b""

    def _apply(self, live: Live, gateway: Gateway, report: Report, now: int) -> None:
        """Count a report and follow what it changed."""
        session = live.session
        was_open = session.ended_at is None
        delta = apply(session, report, sends_gigawords=gateway.sends_gigawords)
        account = live.account
        if account is not None and (delta.octets or delta.seconds):
            counted_s = self._counted_s(delta.since_at, delta.until_at, delta.seconds)
            session.counted_s += counted_s
            for day, octets, seconds in account.usage.split(delta, counted_s, now):
                if day != session.pending_day:
                    self._accounts.flush(account, session)
                    session.pending_day = day
                account.usage.add(day, octets, seconds)
                session.pending_octets += octets
                session.pending_s += seconds
        is_open = session.ended_at is None
        if not is_open and account is not None:
            self._accounts.flush(account, session)
            self._accounts.changed(account)
        if was_open != is_open:
            self._opened_or_closed(live)
        if not is_open:
            self._ledger.closed(live, was_open=was_open)
        self._sessions.changed(live)

    def _counted_s(self, since_at: int, until_at: int, seconds: int) -> int:
        """The seconds that count: those while the backhaul was down are given back (rule 6)."""
        outages = self._outages()
        if not outages:
            return seconds
        whole_s = until_at - since_at
        if not seconds or whole_s <= 0:
            return seconds
        down_s = overlap_s(outages, since_at, until_at)
        return seconds - seconds * down_s // whole_s

    def _enforce(self, live: Live) -> None:
        """Ask for the end of a session that goes on beyond what it was given."""
        session = live.session
        if live.wants_disconnect or session.is_superseded:
            self._disconnects.remind(live, "superseded")
            return
        octets, counted_s, renewed = session.granted_octets, session.granted_s, live.renewed
        if renewed is not None:
            octets, counted_s = renewed.octets, renewed.counted_s
        if octets is not None and session.octets > octets:
            self._renewals.exceeded(live, "used_up_data")
        elif counted_s is not None and session.counted_s > counted_s:
            self._renewals.exceeded(live, "used_up_time")
        elif renewed is not None and (renewed.owed or renewed.watched is not None):
            self._renewals.follow_up(live, renewed)

    def _opened_or_closed(self, live: Live) -> None:
        session, account = live.session, live.account
        if account is None:
            return
        device = account.devices.get(session.mac or NO_PHONE)
        if not session.is_open:
            self._accounts.release(account, session.id)
            if session.is_stopped and session.end_cause == reports.USER_REQUEST and session.mac:
                if device is not None and device.session_id is None:
                    self._accounts.forget_phone(account, session.mac)
        elif not session.is_superseded and device is not None and device.session_id is None:
            self._hold(live, device)

    def _hold(self, live: Live, device: Device) -> None:
        """Let an open session's phone hold the session's grant."""
        if live.account is None:
            return
        device.session_id = live.session.id
        device.granted_octets = live.session.granted_octets
        device.granted_s = live.session.granted_s
        self._accounts.device_changed(live.account, device)

    # -- which session ---------------------------------------------------------------------

    def _find(
        self, packet: Packet, gateway: Gateway, acct_session_id: str, report: Report
    ) -> tuple[Live | None, ClassContent | None]:
        """The session a packet is about, in memory or on disk; None for one never heard of. And
        what the packet's Class says, where that had to be read."""
        value = packet.first.get(CLASS)
        known = self._sessions.by_acct(gateway.id, acct_session_id)
        if value and known and known.session.has_class and known.exchange is not None:
            if known.exchange.packet.first.get(CLASS) == value:
                # The Class of its last packet, which was looked at then.
                return known, None
        content = self._class_of(packet, gateway)
        if content is not None:
            live = self._sessions.by_id(content.session_id)
            if live is None and self._is_unstarted(content, packet):
                return None, content
            if live is None:
                stored = self._sessions.stored(content.session_id)
                live = None if stored is None else self._revive(stored, gateway)
            if live is not None and live.session.acct_session_id == acct_session_id:
                return live, content
            if live is None:
                return None, content
        live = self._sessions.by_acct(gateway.id, acct_session_id)
        if live is None:
            stored = self._sessions.stored_without_class(gateway.id, acct_session_id)
            live = None if stored is None else self._revive(stored, gateway)
        if live is None or not _is_same(live.session, packet, report):
            return None, content
        return live, content

    def _is_unstarted(self, content: ClassContent, packet: Packet) -> bool:
        """Whether a Class is of an Accept of this run that a phone still holds: then the disk knows
        no such session, since open ones are in memory and ended ones hold nothing."""
        if not self._grants.is_of_this_run(content.session_id):
            return False
        card = self._accounts.card(content.card_id, self._now())
        if card is None:
            return False
        device = card.account.devices.get(reports.calling_mac(packet) or NO_PHONE)
        return device is not None and device.session_id == content.session_id

    def _class_of(self, packet: Packet, gateway: Gateway) -> ClassContent | None:
        first = packet.first.get(CLASS)
        if first is None:
            return None
        content = class_attribute.unpack(first, gateway.id, self._class_key)
        if content is not None:
            return content
        for value in packet.all(CLASS):
            content = class_attribute.unpack(value, gateway.id, self._class_key)
            if content is not None:
                return content
        return None

    def _revive(self, session: Session, gateway: Gateway) -> Live:
        """Take a session from disk into memory again."""
        card = (
            None
            if session.voucher_id is None
            else self._accounts.card(session.voucher_id, self._now())
        )
        live = self._live(session, card)
        self._sessions.add(live, is_new=False)
        return live

    def _live(self, session: Session, card: Card | None) -> Live:
        interim_s, profile = 300, None
        if card is not None:
            profile = self._admin.profiles_by_name[card.account.profile]
            interim_s = interim_of_session_s(profile, session.id)
        return Live(
            session=session,
            account=None if card is None else card.account,
            serial="" if card is None else card.serial,
            interim_s=interim_s,
            heard_s=self._elapsed_s(),
            profile=profile,
        )

    def resume(self, session: Session) -> None:
        """Take an open session from disk at the start of the node."""
        gateway = self._admin.gateways_by_id.get(session.gateway_id)
        card = (
            None
            if session.voucher_id is None
            else self._accounts.card(session.voucher_id, self._now())
        )
        live = self._live(session, card)
        if gateway is not None and "/" not in gateway.address:
            live.gateway_address = gateway.address
        self._sessions.add(live, is_new=False)
        if card is not None:
            card.account.last_session_id = max(session.id, card.account.last_session_id or 0)
            device = card.account.devices.get(session.mac or NO_PHONE)
            if device is not None and not session.is_superseded:
                # The row may be of an older grant that was large enough for this one too.
                if device.session_id is None or device.session_id < session.id:
                    self._hold(live, device)
        if card is not None and session.pending_day:
            card.account.usage.add(session.pending_day, session.pending_octets, session.pending_s)

    def _create(
        self,
        packet: Packet,
        gateway: Gateway,
        acct_session_id: str,
        report: Report,
        content: ClassContent | None,
    ) -> Live:
        """A session first heard of now, whatever its packet (design, A5 and quota rule 1)."""
        now = self._now()
        has_class = content is not None
        if content is not None and self._sessions.by_id(content.session_id) is not None:
            # One Class for a second session: the gateway kept it over a re-login.
            content = content._replace(session_id=self._grants.new_session_id())
            has_class = False
        mac = reports.calling_mac(packet)
        card = self._card_of(packet, content, mac, now)
        device = None if card is None else card.account.devices.get(mac or NO_PHONE)
        session = Session(
            id=self._session_id(content, device, gateway),
            voucher_id=None if card is None else card.id,
            gateway_id=gateway.id,
            site_id=gateway.site_id,
            acct_session_id=acct_session_id,
            mac=mac,
            framed_ip=reports.framed_ip(packet),
            started_at=report.event_at - min(report.session_time_s or 0, 0x7FFFFFFF),
            last_seen_at=report.event_at - min(report.session_time_s or 0, 0x7FFFFFFF),
            has_class=has_class,
        )
        live = self._live(session, card)
        if card is not None:
            self._give(live, card, device, content, gateway)
        self._sessions.add(live, is_new=True)
        self._close_older(live)
        return live

    def _card_of(
        self, packet: Packet, content: ClassContent | None, mac: str | None, now: int
    ) -> Card | None:
        """Whose session it is: by Class, by serial or code as User-Name, else by its phone."""
        if content is not None:
            card = self._accounts.card(content.card_id, now)
            if card is not None:
                return card
        name = packet.text(USER_NAME) or ""
        if voucher.parse_serial(name) is not None:
            return self._accounts.card_of_serial(name.strip().upper(), now)
        if mac is not None and canonical_mac(name) == mac:
            found = self._accounts.card_of_phone(mac, now)
            return None if found is None else found[0]
        code = voucher.normalise(name)
        return None if code is None else self._accounts.card_of_code(code, now)

    def _session_id(
        self, content: ClassContent | None, device: Device | None, gateway: Gateway
    ) -> int:
        """The id given with the Accept, even where the gateway does not return our Class."""
        if content is not None:
            return content.session_id
        if (
            device is not None
            and device.session_id is not None
            and device.gateway_id == gateway.id
            and self._sessions.by_id(device.session_id) is None
            and self._sessions.stored(device.session_id) is None
        ):
            return device.session_id
        return self._grants.new_session_id()

    def _give(
        self,
        live: Live,
        card: Card,
        device: Device | None,
        content: ClassContent | None,
        gateway: Gateway,
    ) -> None:
        """Tie a new session to the grant of its Accept, unless a newer login has taken it over."""
        session, account = live.session, card.account
        account.last_session_id = session.id
        if account.first_used_at is None:
            self._accounts.first_use(account, self._now())
        if device is not None and device.session_id == session.id:
            session.granted_octets = device.granted_octets
            session.granted_s = device.granted_s
            return
        if content is not None:
            session.granted_octets = content.granted_octets
            session.granted_s = content.granted_s
        if card.replaced_at is not None or card.revoked_at is not None:
            session.is_superseded = True
        elif device is None:
            key = session.mac or NO_PHONE
            device = account.devices[key] = Device(key, False, gateway.id)
            device.granted_at = self._now()
            self._hold(live, device)
            self._accounts.came_with(account, device)
        elif max(device.session_id or 0, device.displaced_id) < session.id:
            self._hold(live, device)
        else:
            session.is_superseded = True

    def _close_older(self, live: Live) -> None:
        """A new session of a phone, or at its address, means the older one is dead (item 44)."""
        session = live.session
        rivals: dict[int, Live] = {}
        if session.mac is not None:
            rivals.update((other.session.id, other) for other in self._sessions.of_mac(session.mac))
        if session.framed_ip is not None:
            rivals.update(
                (other.session.id, other)
                for other in self._sessions.at_ip(session.framed_ip)
                if other.session.gateway_id == session.gateway_id
            )
        rivals.pop(session.id, None)
        for other in rivals.values():
            is_newer = _began_after(session, other.session)
            self.close_without_stop(other if is_newer else live, NEWER_SESSION)

    # -- closing without a Stop ------------------------------------------------------------

    def close_without_stop(self, live: Live, cause: str) -> None:
        """Close a session at its last evidence and let go of what it held (quota rule 5)."""
        if not live.session.is_open:
            return
        close(live.session, cause)
        if live.account is not None:
            self._accounts.flush(live.account, live.session)
            self._accounts.changed(live.account)
        self._opened_or_closed(live)
        self._ledger.closed(live, was_open=True)
        self._sessions.changed(live)

    def _close_gateway(self, gateway: Gateway, event_at: int) -> None:
        """Accounting-On or -Off: the gateway has forgotten its sessions that began before."""
        for live in self._sessions.open_sessions():
            if live.session.gateway_id == gateway.id and live.session.started_at <= event_at:
                self.close_without_stop(live, reports.NAS_REBOOT)

    def close_stale(self) -> None:
        """Close sessions that were silent for three interims while this node listened, and let go
        of grants that led to none."""
        elapsed_s = self._elapsed_s()
        profiles = self._admin.profiles_by_name
        is_any = self._accounts.release_unstarted(lambda name: profiles[name].interim_s) > 0
        for live in self._sessions.open_sessions():
            if elapsed_s - live.heard_s > SILENT_INTERIMS * live.interim_s:
                self.close_without_stop(live, STALE)
                is_any = True
        if is_any:
            self._commit.soon()


def _began_after(session: Session, other: Session) -> bool:
    """Which of two sessions is the newer one. Ids from our Accepts are in order whatever the clock
    did; without Class only the gateway's times tell, since packets come late."""
    if session.has_class and other.has_class:
        return session.id > other.id
    return (session.started_at, session.id) >= (other.started_at, other.id)


def _is_same(session: Session, packet: Packet, report: Report) -> bool:
    """Whether a packet without Class continues this session, or its gateway has used the
    Acct-Session-Id again after a reboot."""
    mac = reports.calling_mac(packet)
    if mac is not None and session.mac is not None and mac != session.mac:
        return False
    time_s = report.session_time_s
    if time_s is None:
        return True
    started_at = report.event_at - time_s
    if session.is_stopped and started_at > (session.ended_at or 0) + RESENT_WITHIN_S:
        return False
    if abs(started_at - session.started_at) <= SAME_START_S:
        return True
    continues = time_s >= session.session_time_s and (
        (report.input_octets or 0) >= session.raw_input_octets
        and (report.output_octets or 0) >= session.raw_output_octets
    )
    return continues and not session.is_stopped
