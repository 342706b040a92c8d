"""AAA: what the node answers to gateways. Authorise a login, account for a session.

An Access-Request is decided from memory; its Accept leaves at once when a grant at least as large is
already on disk for this phone, else after the next group commit. An Accounting-Request is answered
only after the commit that holds it (RFC 2866 4.1); all packets waiting share one.
"""

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from portal import class_attribute
from portal.accounts import SILENT_INTERIMS, Accounts, Card, Device
from portal.admin import Admin, Gateway
from portal.class_attribute import ClassContent
from portal.commit import GroupCommit
from portal.disconnects import Disconnects
from portal.domain import voucher
from portal.domain.profile import Profile
from portal.domain.quota import Grant, Reason, Refusal
from portal.domain.session import Kind, Report, Session, apply, close, overlap_s
from portal.grants import NO_PHONE, Grants
from portal.misses import Misses
from portal.sessions import SAME_START_S, Live, Sessions
from portal.tickets import Tickets
from radius.nas import Limits, canonical_mac
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCOUNTING_RESPONSE,
    ACCT_DELAY_TIME,
    ACCT_INPUT_GIGAWORDS,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_GIGAWORDS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLING_STATION_ID,
    CHAP_CHALLENGE,
    CHAP_PASSWORD,
    CLASS,
    EVENT_TIMESTAMP,
    FRAMED_IP_ADDRESS,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    REPLY_MESSAGE,
    SERVICE_TYPE,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    attribute,
    decrypt_password,
    text_attribute,
    verify_chap,
)
from radius.server import Exchange

log = logging.getLogger(__name__)

REJECT_AFTER_S = 0.5
"""Slows guessing; under MikroTik's 1.1 s timeout (conformance item 17)."""
DECISION_KEPT_S = 30.0
"""A retransmission with a new Identifier gets the decision already made (item 12)."""
DECISIONS_KEPT = 5_000
REFUSAL_KEPT_S = 60.0
EVENT_TIMESTAMP_TRUST_S = 600
"""A gateway's own time of an event is believed this near to ours (item 38)."""
RESENT_WITHIN_S = 30
"""A gateway that stamps no times may resend a Start this long after the Stop (seen: 14 s)."""
COUNTER_MAX_OCTETS = 1 << 50
"""A petabyte in one session is a broken counter."""
ACCOUNTING_ON, ACCOUNTING_OFF = 7, 8
USER_REQUEST = "User-Request"
STALE, NAS_REBOOT, NEWER_SESSION = "Lost-Carrier", "NAS-Reboot", "Superseded"
_SERVICES_FOR_ADMINS = (6, 7)
"""Administrative and NAS-Prompt (RFC 2865 5.6): nothing a card may open."""

TERMINATE_CAUSES = {
    1: USER_REQUEST,
    2: "Lost-Carrier",
    3: "Lost-Service",
    4: "Idle-Timeout",
    5: "Session-Timeout",
    6: "Admin-Reset",
    7: "Admin-Reboot",
    8: "Port-Error",
    9: "NAS-Error",
    10: "NAS-Request",
    11: NAS_REBOOT,
    12: "Port-Unneeded",
    13: "Port-Preempted",
    14: "Port-Suspended",
    15: "Service-Unavailable",
    16: "Callback",
    17: "User-Error",
    18: "Host-Request",
}
"""RFC 2866 5.10."""

REPLY_MESSAGES = {
    Reason.USED_UP_DATA: "Data di kartu ini sudah habis.",
    Reason.USED_UP_TIME: "Waktu di kartu ini sudah habis.",
    Reason.EXPIRED: "Masa berlaku kartu ini sudah lewat.",
    Reason.USE_BEFORE_PASSED: "Kartu ini sudah lewat tanggal.",
    Reason.OUTSIDE_HOURS: "Di luar jam layanan.",
    Reason.RESERVED: "Sisa kuota sedang dipakai HP lain.",
    Reason.REVOKED: "Kartu ini sudah dibatalkan.",
    Reason.REPLACED: "Kartu ini sudah diganti.",
    Reason.IN_USE: "Kode ini sedang dipakai di HP lain.",
    Reason.TOO_MANY_MISSES: "Terlalu sering salah. Tunggu sebentar.",
    Reason.DISK_FULL: "Maaf, penyimpanan alat kami penuh. Hubungi petugas.",
    Reason.UNKNOWN_PHONE: "Ketik kode di kartu Anda.",
}
_WRONG = "Kode salah. Cocokkan lagi dengan kartu."
"""One text for an unknown code and a wrong password: it must not tell which it was."""


class _Known(NamedTuple):
    """A decision already made."""

    until_s: float
    code: int
    attributes: bytes


@functools.lru_cache(maxsize=4096)
def _mac(value: bytes) -> str | None:
    return canonical_mac(value.decode("ascii", "replace"))


class Aaa:
    """The RADIUS server's handler."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        commit: GroupCommit,
        disconnects: Disconnects,
        tickets: Tickets,
        misses: Misses,
        *,
        class_key: bytes,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        outages: Callable[[], list[tuple[int, int | None]]],
        is_disk_full: Callable[[], bool],
        learned_gigawords: Callable[[int], None],
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._grants = grants
        self._commit = commit
        self._disconnects = disconnects
        self._tickets = tickets
        self._misses = misses
        self._class_key = class_key
        self._now = now
        self._elapsed_s = elapsed_s
        self._outages = outages
        self._is_disk_full = is_disk_full
        self._learned_gigawords = learned_gigawords
        self._decisions: OrderedDict[tuple[object, ...], _Known | list[Exchange]] = OrderedDict()
        self._refusals: OrderedDict[tuple[int, str], tuple[float, Reason, int | None]] = (
            OrderedDict()
        )
        self.reject_after_s = REJECT_AFTER_S
        self.heard_s: dict[int, float] = {}
        """Elapsed-time reading of each gateway's last packet."""

    def is_healthy(self) -> bool:
        """Whether accounting can be stored: else Status-Server stays silent (RFC 5997 4.2)."""
        return self._commit.is_healthy and not self._is_disk_full()

    # -- authorise -------------------------------------------------------------------------

    def access(self, exchange: Exchange) -> None:
        """Answer an Access-Request."""
        gateway = self._admin.gateways_by_id.get(exchange.client.id)
        if gateway is None:
            exchange.drop()
            return
        packet = exchange.packet
        elapsed_s = self._elapsed_s()
        self.heard_s[gateway.id] = elapsed_s
        first = packet.first
        user_name = first.get(USER_NAME)
        hidden = first.get(USER_PASSWORD)
        password = None if hidden is None else decrypt_password(packet, exchange.client.secret)
        acct_session_id = first.get(ACCT_SESSION_ID)
        key = None
        if acct_session_id:
            credential = (
                password
                if hidden is not None
                else (first.get(CHAP_PASSWORD), first.get(CHAP_CHALLENGE))
            )
            key = (gateway.id, user_name, acct_session_id, credential)
            known = self._decisions.get(key)
            if isinstance(known, list):
                known.append(exchange)
                return
            if known is not None and known.until_s > elapsed_s:
                exchange.answer(known.code, known.attributes)
                return
        self.authorize(exchange, gateway, user_name, password, key)

    def authorize(
        self,
        exchange: Exchange,
        gateway: Gateway,
        user_name: bytes | None,
        password: bytes | None,
        key: tuple[object, ...] | None,
    ) -> None:
        """Decide a login that was not decided before, and answer it."""
        packet = exchange.packet
        calling = packet.first.get(CALLING_STATION_ID)
        mac = None if calling is None else _mac(calling)
        if not self.is_healthy():
            self._reject(exchange, gateway, mac, "", Reason.DISK_FULL, None, key)
            return
        if (
            not user_name
            or (password is None and USER_PASSWORD in packet.first)
            or (USER_PASSWORD in packet.first and CHAP_PASSWORD in packet.first)
            or packet.integer(SERVICE_TYPE) in _SERVICES_FOR_ADMINS
        ):
            self._reject(exchange, gateway, mac, "", Reason.BAD_REQUEST, None, key)
            return
        found, is_typed = self._identify(packet, gateway, user_name, password, mac)
        if isinstance(found, Reason):
            name = user_name.decode("utf-8", "replace")
            self._reject(exchange, gateway, mac, name, found, None, key)
            return
        card = found
        decision = self._grants.decide(card, mac)
        if isinstance(decision, Refusal):
            self._reject(
                exchange, gateway, mac, card.serial, decision.reason, decision.retry_at, key
            )
            return
        profile = self._admin.profiles_by_name[card.account.profile]
        session_id, must_wait = self._grants.take(
            card, mac, gateway.id, decision, remember=profile.remember_phone and mac is not None
        )
        attributes = self._accept(gateway, profile, decision, session_id, card, is_typed)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "access_accept gateway=%s serial=%s calling_station_id=%s session=%d",
                *(gateway.name, card.serial, mac, session_id),
            )
        if not must_wait:
            if key is not None:
                self._keep(
                    key, _Known(self._elapsed_s() + DECISION_KEPT_S, ACCESS_ACCEPT, attributes)
                )
            exchange.answer(ACCESS_ACCEPT, attributes)
            return
        waiting = [exchange]
        if key is not None:
            self._keep(key, waiting)
        self._commit.then(
            lambda is_committed: self._answer_waiting(is_committed, waiting, key, attributes)
        )

    def _answer_waiting(
        self,
        is_committed: bool,
        waiting: list[Exchange],
        key: tuple[object, ...] | None,
        attributes: bytes,
    ) -> None:
        code = ACCESS_ACCEPT
        if not is_committed:
            code = ACCESS_REJECT
            attributes = text_attribute(REPLY_MESSAGE, REPLY_MESSAGES[Reason.DISK_FULL])
        if key is not None:
            self._decisions.pop(key, None)
            if is_committed:
                self._keep(key, _Known(self._elapsed_s() + DECISION_KEPT_S, code, attributes))
        for exchange in waiting:
            exchange.answer(code, attributes)

    def _keep(self, key: tuple[object, ...], decision: _Known | list[Exchange]) -> None:
        decisions = self._decisions
        decisions[key] = decision
        if len(decisions) > DECISIONS_KEPT:
            decisions.popitem(last=False)

    def _identify(
        self,
        packet: Packet,
        gateway: Gateway,
        user_name: bytes,
        password: bytes | None,
        mac: str | None,
    ) -> tuple[Card | Reason, bool]:
        """The card this request is for, or why there is none; and whether a person named it other
        than by its serial, so that the Accept should tell the gateway the serial."""
        now, elapsed_s = self._now(), self._elapsed_s()
        name = user_name.decode("utf-8", "replace")
        family = self._admin.families[gateway.family]
        if family.is_mac_login(packet, name):
            return self._returning(gateway, mac, now), True
        has_chap = CHAP_PASSWORD in packet.first
        if password is None and not has_chap:
            return Reason.BAD_REQUEST, False
        if len(name) < 12 and voucher.parse_serial(name) is not None:
            return self._ticket_holder(packet, gateway, name, password, mac, elapsed_s), False
        client = mac or f"gateway {gateway.id}"
        if self._misses.wait_s(client, None, elapsed_s) > 0:
            return Reason.TOO_MANY_MISSES, False
        card = None
        if password is not None:
            code = name if len(name) == 12 and name.isascii() and name.isdigit() else ""
            code = code or voucher.normalise(name) or ""
            if code and (password == user_name or _is_code(password, code)):
                card = self._accounts.card_of_code(code, now)
        if card is None:
            if voucher.is_well_formed(voucher.normalise(name) or ""):
                self._misses.miss(client, None, elapsed_s)
            return Reason.WRONG_PASSWORD, False
        return card, True

    def _returning(self, gateway: Gateway, mac: str | None, now: int) -> Card | Reason:
        """The card of a phone that comes back without typing (design, MAC return)."""
        if not gateway.mac_auth or mac is None:
            return Reason.UNKNOWN_PHONE
        found = self._accounts.card_of_phone(mac, now)
        if found is None or not found[1]:
            return Reason.UNKNOWN_PHONE
        card = found[0]
        if not self._admin.profiles_by_name[card.account.profile].remember_phone:
            return Reason.UNKNOWN_PHONE
        return card

    def _ticket_holder(
        self,
        packet: Packet,
        gateway: Gateway,
        serial: str,
        password: bytes | None,
        mac: str | None,
        elapsed_s: float,
    ) -> Card | Reason:
        """The card whose one-time password this is; a password that fits none was hidden with a
        challenge that has changed meanwhile, or has expired: the portal then asks anew."""
        for ticket in self._tickets.open_for(
            serial, gateway_id=gateway.id, mac=mac, elapsed_s=elapsed_s
        ):
            expected = ticket.password.encode()
            if password == expected if password is not None else verify_chap(packet, expected):
                self._tickets.use(ticket)
                card = self._accounts.card(ticket.voucher_id, self._now())
                return Reason.WRONG_PASSWORD if card is None else card
        return Reason.CHALLENGE_STALE

    def _accept(
        self,
        gateway: Gateway,
        profile: Profile,
        grant: Grant,
        session_id: int,
        card: Card,
        is_typed: bool,
    ) -> bytes:
        """The attributes of an Access-Accept."""
        limits = Limits(
            session_timeout_s=grant.seconds,
            interim_s=profile.interim_s,
            idle_timeout_s=profile.idle_s,
            octets=grant.octets,
            rate_down_kbps=grant.rate_down_kbps,
            rate_up_kbps=grant.rate_up_kbps,
        )
        content = ClassContent(session_id, card.id, grant.octets, grant.held_s)
        value = class_attribute.pack(content, gateway.id, self._class_key)
        attributes = self._admin.families[gateway.family].accept_attributes(limits)
        attributes += attribute(CLASS, value)
        if is_typed:
            attributes += attribute(USER_NAME, card.serial.encode())
        return attributes

    def _reject(
        self,
        exchange: Exchange,
        gateway: Gateway,
        mac: str | None,
        name: str,
        reason: Reason,
        retry_at: int | None,
        key: tuple[object, ...] | None,
    ) -> None:
        """Refuse: at once for a phone that only asked whether it may return, else a little later."""
        attributes = text_attribute(REPLY_MESSAGE, REPLY_MESSAGES.get(reason, _WRONG))
        serial = name if voucher.parse_serial(name) is not None else ""
        log.info(
            "access_reject gateway=%s serial=%s calling_station_id=%s reason=%s",
            *(gateway.name, serial, mac, reason),
        )
        elapsed_s = self._elapsed_s()
        for who in (mac, serial):
            if who and reason is not Reason.UNKNOWN_PHONE:
                self._refusals[(gateway.id, who)] = (elapsed_s, reason, retry_at)
                self._refusals.move_to_end((gateway.id, who))
        while len(self._refusals) > DECISIONS_KEPT:
            self._refusals.popitem(last=False)
        if key is not None:
            self._keep(key, _Known(elapsed_s + DECISION_KEPT_S, ACCESS_REJECT, attributes))
        family = self._admin.families[gateway.family]
        if family.is_mac_login(exchange.packet, name) or reason is Reason.UNKNOWN_PHONE:
            exchange.answer(ACCESS_REJECT, attributes)
            return
        asyncio.get_running_loop().call_later(
            self.reject_after_s, exchange.answer, ACCESS_REJECT, attributes
        )

    def last_refusal(
        self, gateway_id: int | None, serial: str | None, mac: str | None
    ) -> tuple[Reason, int | None] | None:
        """What this server refused a card or phone in the last minute: (reason, when again)."""
        newest: tuple[float, Reason, int | None] | None = None
        for who in (serial, mac):
            if not who:
                continue
            gateways = self._admin.gateways_by_id if gateway_id is None else (gateway_id,)
            for known_id in gateways:
                refusal = self._refusals.get((known_id, who))
                if refusal is not None and (newest is None or refusal[0] > newest[0]):
                    newest = refusal
        if newest is None or self._elapsed_s() - newest[0] > REFUSAL_KEPT_S:
            return None
        return newest[1], newest[2]

    # -- account ---------------------------------------------------------------------------

    def accounting(self, exchange: Exchange) -> None:
        """Take in an Accounting-Request; answer it once it is durable."""
        gateway = self._admin.gateways_by_id.get(exchange.client.id)
        if gateway is None:
            exchange.drop()
            return
        self.heard_s[gateway.id] = self._elapsed_s()
        self.account(exchange, gateway)
        self._commit.then(
            lambda is_committed: (
                exchange.answer(ACCOUNTING_RESPONSE) if is_committed else exchange.drop()
            )
        )

    def account(self, exchange: Exchange, gateway: Gateway) -> None:
        """Apply one accounting packet to its session and the card's usage."""
        packet = exchange.packet
        first = packet.first
        status = packet.integer(ACCT_STATUS_TYPE)
        now = self._now()
        event_at = _event_at(packet, now)
        if status in (ACCOUNTING_ON, ACCOUNTING_OFF):
            self._close_gateway(gateway, event_at)
            return
        raw_id = first.get(ACCT_SESSION_ID)
        family = self._admin.families[gateway.family]
        if status not in (1, 2, 3) or not raw_id or family.is_administrative(packet):
            log.info(
                "accounting_ignored gateway=%s status=%s has_session_id=%s",
                *(gateway.name, status, bool(raw_id)),
            )
            return
        report = _report(packet, Kind(status), event_at, is_swapped=family.is_swapped(packet))
        if report.has_gigawords and not gateway.sends_gigawords:
            self._learned_gigawords(gateway.id)
        acct_session_id = raw_id.decode("utf-8", "backslashreplace")
        live = self._find(packet, gateway, acct_session_id, report)
        if live is None:
            live = self._create(packet, gateway, acct_session_id, report)
        self._note_source(live, exchange, packet)
        self._apply(live, gateway, report, now)

    def _apply(self, live: Live, gateway: Gateway, report: Report, now: int) -> None:
        """Count a report and follow what it changed."""
        session = live.session
        was_open = session.is_open
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
        if not session.is_open and account is not None:
            self._accounts.flush(account, session)
        if was_open != session.is_open:
            self._opened_or_closed(live)
        self._sessions.changed(live)
        if session.is_open and report.kind is Kind.INTERIM:
            self._enforce(live)

    def _counted_s(self, since_at: int, until_at: int, seconds: int) -> int:
        """The seconds that count: those while the backhaul was down are given back (rule 6)."""
        outages = self._outages()
        whole_s = until_at - since_at
        if not outages or not seconds or whole_s <= 0:
            return seconds
        down_s = overlap_s(outages, since_at, until_at)
        return seconds - seconds * down_s // whole_s

    def _enforce(self, live: Live) -> None:
        """Ask for the end of a session that goes on beyond what it was given."""
        session = live.session
        if live.wants_disconnect or session.is_superseded:
            self._disconnects.remind(live, "superseded")
        elif session.granted_octets is not None and session.octets > session.granted_octets:
            self._disconnects.remind(live, "data quota")
        elif session.granted_s is not None and session.counted_s > session.granted_s:
            self._disconnects.remind(live, "time quota")

    def _opened_or_closed(self, live: Live) -> None:
        session, account = live.session, live.account
        if account is None:
            return
        device = account.devices.get(session.mac or NO_PHONE)
        if not session.is_open:
            self._accounts.release(account, session.id)
            if session.is_stopped and session.end_cause == USER_REQUEST and session.mac:
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
    ) -> Live | None:
        """The session a packet is about, in memory or on disk; None for one never heard of."""
        content = self._class_of(packet, gateway)
        if content is not None:
            live = self._sessions.by_id(content.session_id)
            if live is None:
                stored = self._sessions.stored(content.session_id)
                live = None if stored is None else self._revive(stored, gateway)
            if live is not None and live.session.acct_session_id == acct_session_id:
                return live
            if live is None:
                return None
        live = self._sessions.by_acct(gateway.id, acct_session_id)
        if live is None:
            stored = self._sessions.stored_without_class(gateway.id, acct_session_id)
            live = None if stored is None else self._revive(stored, gateway)
        if live is None or not _is_same(live.session, packet, report):
            return None
        return live

    def _class_of(self, packet: Packet, gateway: Gateway) -> ClassContent | None:
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
        interim_s = 300
        if card is not None:
            interim_s = self._admin.profiles_by_name[card.account.profile].interim_s
        return Live(
            session=session,
            account=None if card is None else card.account,
            serial="" if card is None else card.serial,
            interim_s=interim_s,
            heard_s=self._elapsed_s(),
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
            live.source = (gateway.address, self._admin.families[gateway.family].DISCONNECT_PORT)
        self._sessions.add(live, is_new=False)
        if card is not None and session.pending_day:
            card.account.usage.add(session.pending_day, session.pending_octets, session.pending_s)

    def _create(
        self, packet: Packet, gateway: Gateway, acct_session_id: str, report: Report
    ) -> Live:
        """A session first heard of now, whatever its packet (design, A5 and quota rule 1)."""
        now = self._now()
        content = self._class_of(packet, gateway)
        has_class = content is not None
        if content is not None and self._sessions.by_id(content.session_id) is not None:
            # One Class for a second session: the gateway kept it over a re-login.
            content = content._replace(session_id=self._grants.new_session_id())
            has_class = False
        calling = packet.first.get(CALLING_STATION_ID)
        mac = None if calling is None else _mac(calling)
        card = self._card_of(packet, content, mac, now)
        device = None if card is None else card.account.devices.get(mac or NO_PHONE)
        session = Session(
            id=self._session_id(content, device, gateway),
            voucher_id=None if card is None else card.id,
            gateway_id=gateway.id,
            site_id=gateway.site_id,
            acct_session_id=acct_session_id,
            mac=mac,
            framed_ip=_framed_ip(packet),
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
        """Tie a new session to the grant of its Accept, unless a newer login has taken that over."""
        session, account = live.session, card.account
        account.last_session_id = session.id
        if account.first_used_at is None:
            self._accounts.first_use(account, self._now())
        self._accounts.changed(account)
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
        elif device.session_id is None or device.session_id < session.id:
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
            if (other.session.started_at, other.session.id) <= (session.started_at, session.id):
                self.close_without_stop(other, NEWER_SESSION)
            else:
                self.close_without_stop(live, NEWER_SESSION)

    # -- closing without a Stop ------------------------------------------------------------

    def close_without_stop(self, live: Live, cause: str) -> None:
        """Close a session at its last evidence and let go of what it held (quota rule 5)."""
        if not live.session.is_open:
            return
        close(live.session, cause)
        if live.account is not None:
            self._accounts.flush(live.account, live.session)
        self._opened_or_closed(live)
        self._sessions.changed(live)

    def _close_gateway(self, gateway: Gateway, event_at: int) -> None:
        """Accounting-On or -Off: the gateway has forgotten its sessions that began before."""
        for live in self._sessions.open_sessions():
            if live.session.gateway_id == gateway.id and live.session.started_at <= event_at:
                self.close_without_stop(live, NAS_REBOOT)

    def close_stale(self) -> None:
        """Close sessions that were silent for three interims while this node listened."""
        elapsed_s = self._elapsed_s()
        is_any = False
        for live in self._sessions.open_sessions():
            if elapsed_s - live.heard_s > SILENT_INTERIMS * live.interim_s:
                self.close_without_stop(live, STALE)
                is_any = True
        if is_any:
            self._commit.soon()

    def _note_source(self, live: Live, exchange: Exchange, packet: Packet) -> None:
        live.heard_s = self._elapsed_s()
        live.source = exchange.source
        live.local_address = exchange.local_address
        live.user_name = packet.first.get(USER_NAME, b"")
        live.nas_id = packet.text(NAS_IDENTIFIER)
        live.nas_ip = packet.address(NAS_IP_ADDRESS)
        framed_ip = _framed_ip(packet)
        if framed_ip is not None and framed_ip != live.session.framed_ip:
            self._sessions.moved_to_ip(live, framed_ip)


def _is_code(password: bytes, code: str) -> bool:
    return voucher.normalise(password.decode("utf-8", "replace")) == code


def _framed_ip(packet: Packet) -> str | None:
    address = packet.address(FRAMED_IP_ADDRESS)
    return None if address == "0.0.0.0" else address  # noqa: S104


def _event_at(packet: Packet, now: int) -> int:
    """When it happened: receipt less Acct-Delay-Time, or the gateway's own time if that is near."""
    delay_s = packet.integer(ACCT_DELAY_TIME) or 0
    event_at = now - min(delay_s, 86_400)
    stamped_at = packet.integer(EVENT_TIMESTAMP)
    if stamped_at is not None and abs(stamped_at - event_at) <= EVENT_TIMESTAMP_TRUST_S:
        return min(stamped_at, now)
    return event_at


def _counter(packet: Packet, low: int, high: int) -> int | None:
    value = packet.integer(low)
    if value is None:
        return None
    octets = value + ((packet.integer(high) or 0) << 32)
    return octets if octets <= COUNTER_MAX_OCTETS else None


def _report(packet: Packet, kind: Kind, event_at: int, *, is_swapped: bool) -> Report:
    received = _counter(packet, ACCT_INPUT_OCTETS, ACCT_INPUT_GIGAWORDS)
    sent = _counter(packet, ACCT_OUTPUT_OCTETS, ACCT_OUTPUT_GIGAWORDS)
    if is_swapped:
        received, sent = sent, received
    end_cause = None
    if kind is Kind.STOP:
        number = packet.integer(ACCT_TERMINATE_CAUSE)
        end_cause = "Unknown" if number is None else TERMINATE_CAUSES.get(number, str(number))
    return Report(
        kind=kind,
        event_at=event_at,
        session_time_s=packet.integer(ACCT_SESSION_TIME) if kind is not Kind.START else 0,
        input_octets=received,
        output_octets=sent,
        has_gigawords=ACCT_INPUT_GIGAWORDS in packet.first or ACCT_OUTPUT_GIGAWORDS in packet.first,
        end_cause=end_cause,
    )


def _is_same(session: Session, packet: Packet, report: Report) -> bool:
    """Whether a packet without Class continues this session, or its gateway has used the
    Acct-Session-Id again after a reboot."""
    calling = packet.first.get(CALLING_STATION_ID)
    if calling is not None and session.mac is not None and _mac(calling) != session.mac:
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
