"""AAA: what the node answers to gateways. Authorise a login, account for a session.

An Access-Request is decided from memory; its Accept leaves at once when a grant at least as large
is on disk for this phone already, else after the next group commit. An Accounting-Request is
answered only after the commit that holds it (RFC 2866 4.1); all packets waiting share one.
"""

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping, Set
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from portal import class_attribute
from portal.accounting import Accounting
from portal.accounts import Accept, Accounts, Card, Device
from portal.admin import Admin, Gateway
from portal.commit import GroupCommit
from portal.data_counting import is_uncounted
from portal.domain import voucher
from portal.domain.profile import Profile, interim_of_session_s
from portal.domain.quota import Grant, Reason, Refusal
from portal.domain.voucher import CODE_DIGITS
from portal.grants import NO_PHONE, Grants
from portal.misses import Misses
from portal.reports import calling_mac, mac_of
from portal.tickets import Tickets
from radius.nas import Limits, family
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCOUNTING_RESPONSE,
    ACCT_SESSION_ID,
    CHAP_CHALLENGE,
    CHAP_PASSWORD,
    CLASS,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    NAS_IPV6_ADDRESS,
    REPLY_MESSAGE,
    SERVICE_TYPE,
    STATE,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    attribute,
    decrypt_password,
    text_attribute,
    verify_chap,
)
from radius.password import is_noise
from radius.server import Exchange

log = logging.getLogger(__name__)

REJECT_AFTER_S = 0.5
"""Slows guessing; under MikroTik's 1.1 s timeout (conformance item 17)."""
DECISION_KEPT_S: Final = 30.0
"""A retransmission with a new Identifier gets the decision already made (item 12)."""
REJECT_KEPT_S = 5.0
"""A reason to refuse can go away (a move, a phone that left), so it is kept for retransmissions
only."""
DECISIONS_KEPT: Final = 5_000
REFUSED_PHONE_KEPT_S = 300.0
"""So long the desk sees why a phone was refused (portal/phones.py)."""
REFUSAL_KEPT_S = 60.0
_SERVICES_FOR_ADMINS: Final = (b"\0\0\0\6", b"\0\0\0\7")
"""Administrative and NAS-Prompt (RFC 2865 5.6): nothing a card may open."""

_CLASS_HEADER: Final = bytes((CLASS, class_attribute.LENGTH + 2))

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
    Reason.BLOCKED: "HP ini diblokir petugas. Hubungi petugas.",
    Reason.UNKNOWN_PHONE: "Ketik kode di kartu Anda.",
    Reason.DATA_NOT_COUNTED: "Di sini kartu kuota data tidak bisa dipakai, hanya kartu waktu.",
}
_WRONG: Final = "Kode salah. Cocokkan lagi dengan kartu."
"""One text for an unknown code and a wrong password: it must not tell which it was."""


class _Known(NamedTuple):
    """A decision already made."""

    until_s: float
    code: int
    attributes: bytes
    device: Device | None = None
    session_id: int | None = None
    """Whom the Accept gave a grant, and for which session: once that is taken away, it is void."""

    def is_valid(self) -> bool:
        """Whether the decision still stands."""
        return self.device is None or self.device.session_id == self.session_id


class _Login(NamedTuple):
    """An Accept that waits for its commit."""

    waiting: list[Exchange]
    """The request and its retransmissions."""
    key: tuple[object, ...] | None
    attributes: bytes
    device: Device
    session_id: int
    accept: Accept | None


class Aaa:
    """The RADIUS server's handler."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        grants: Grants,
        accounting: Accounting,
        commit: GroupCommit,
        tickets: Tickets,
        misses: Misses,
        *,
        class_key: bytes,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        is_disk_full: Callable[[], bool],
        blocked: Set[tuple[int, str]] = frozenset(),
        known_devices: Mapping[tuple[int, str], int] = MappingProxyType({}),
        device_cards: Container[int] = frozenset(),
    ):
        self._admin = admin
        self._accounts = accounts
        self._grants = grants
        self._accounting = accounting
        self._commit = commit
        self._tickets = tickets
        self._misses = misses
        self._class_key = class_key
        self._now = now
        self._elapsed_s = elapsed_s
        self._is_disk_full = is_disk_full
        # Both by (site, MAC): phones that may not come in, and the cards of known devices.
        self._blocked = blocked
        self._known_devices = known_devices
        self._device_cards = device_cards
        self._decisions: dict[tuple[object, ...], _Known | list[Exchange]] = {}
        self._refusals: OrderedDict[tuple[int, str], tuple[float, Reason, int | None]] = (
            OrderedDict()
        )
        self.refused_phones: OrderedDict[tuple[int, str], tuple[float, Reason, str]] = OrderedDict()
        """(gateway, MAC) -> when it was refused last, by elapsed time, why, and with which card;
        the latest at the end."""
        self._nameless: set[int] = set()
        self.reject_after_s = REJECT_AFTER_S
        self.heard_s: dict[int, float] = {}
        """Elapsed-time reading of each gateway's last packet."""
        self.noise_s: dict[int, float] = {}
        """The same of its last unsigned password that was noise: its secret may be wrong."""

    def is_healthy(self) -> bool:
        """Whether accounting can be stored: else Status-Server stays silent (RFC 5997 4.2)."""
        return self._commit.is_healthy and not self._is_disk_full()

    def accounting(self, exchange: Exchange) -> None:
        """Take in an Accounting-Request; answer it once it is durable."""
        gateway = self._admin.gateways_by_id.get(exchange.client.id)
        if gateway is None:
            exchange.drop()
            return
        elapsed_s = self._elapsed_s()
        self.heard_s[gateway.id] = elapsed_s
        attributes = self._accounting.account(exchange, gateway, elapsed_s)
        if attributes:
            self._commit.then(_answer_with_limits, (exchange, attributes))
        else:
            self._commit.then(_answer_accounting, exchange)

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
        if NAS_IDENTIFIER not in first and NAS_IP_ADDRESS not in first:
            self._note_nameless(gateway, packet)
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
            if known is not None and known.until_s > elapsed_s and known.is_valid():
                exchange.answer(known.code, known.attributes)
                return
        self.authorize(exchange, gateway, user_name, password, key)

    def _note_nameless(self, gateway: Gateway, packet: Packet) -> None:
        """RFC 2865 4.1 wants the NAS named; some do not, and are answered anyway (item 16)."""
        if NAS_IPV6_ADDRESS not in packet.first and gateway.id not in self._nameless:
            self._nameless.add(gateway.id)
            log.warning("nas_not_named gateway=%s; answered all the same", gateway.name)

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
        mac = calling_mac(packet)
        if self._blocked and mac is not None and (gateway.site_id, mac) in self._blocked:
            self._reject(exchange, gateway, mac, "", Reason.BLOCKED, None, key)
            return
        if not self.is_healthy():
            self._reject(exchange, gateway, mac, "", Reason.DISK_FULL, None, key)
            return
        if (
            not user_name
            or (password is None and USER_PASSWORD in packet.first)
            or (USER_PASSWORD in packet.first and CHAP_PASSWORD in packet.first)
            or packet.first.get(SERVICE_TYPE) in _SERVICES_FOR_ADMINS
            # We never sent one (RFC 2865 5.24, conformance item 19).
            or STATE in packet.first
        ):
            self._reject(exchange, gateway, mac, "", Reason.BAD_REQUEST, None, key)
            return
        found, is_typed = self._identify(packet, gateway, user_name, password, mac)
        if isinstance(found, Reason):
            if password and MESSAGE_AUTHENTICATOR not in packet.first and is_noise(password):
                self.noise_s[gateway.id] = self._elapsed_s()
                log.warning(
                    "possible_wrong_secret gateway=%s; expected the secret that"
                    " `pesisir gateway show --secret` prints",
                    gateway.name,
                )
            name = user_name.decode("utf-8", "replace")
            self._reject(exchange, gateway, mac, name, found, None, key)
            return
        card = found
        profile = self._admin.profiles_by_name[card.account.profile]
        if is_uncounted(self._admin, gateway, profile):
            reason = Reason.DATA_NOT_COUNTED
            self._reject(exchange, gateway, mac, card.serial, reason, None, key)
            return
        accept = self._grants.again(card, mac, gateway.id, is_typed)
        if accept is not None:
            if key is not None:
                until_s = self._elapsed_s() + DECISION_KEPT_S
                device = card.account.devices[mac or NO_PHONE]
                known = _Known(until_s, ACCESS_ACCEPT, accept.attributes, device, accept.session_id)
                self._keep(key, known)
            exchange.answer(ACCESS_ACCEPT, accept.attributes)
            return
        decision = self._grants.decide(card, mac)
        if isinstance(decision, Refusal):
            self._reject(
                exchange, gateway, mac, card.serial, decision.reason, decision.retry_at, key
            )
            return
        session_id = self._grants.take(
            card, mac, gateway.id, decision, remember=profile.remember_phone and mac is not None
        )
        device = card.account.devices[mac or NO_PHONE]
        attributes = self._accept(gateway, profile, decision, session_id, card, is_typed)
        accept = self._grants.accept(card, device, decision, attributes, is_typed)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "access_accept gateway=%s serial=%s calling_station_id=%s session=%d",
                *(gateway.name, card.serial, mac, session_id),
            )
        waiting = [exchange]
        if key is not None:
            self._keep(key, waiting)
        login = _Login(waiting, key, attributes, device, session_id, accept)
        self._commit.then(self._answer_waiting, login)

    def _answer_waiting(self, is_committed: bool, login: _Login) -> None:
        """Tell the grant, now that it is set aside on disk."""
        code, attributes, key = ACCESS_ACCEPT, login.attributes, login.key
        if not is_committed:
            code = ACCESS_REJECT
            attributes = text_attribute(REPLY_MESSAGE, REPLY_MESSAGES[Reason.DISK_FULL])
        elif login.device.session_id == login.session_id:
            login.device.accept = login.accept
        if key is not None:
            self._decisions.pop(key, None)
            if is_committed:
                until_s = self._elapsed_s() + DECISION_KEPT_S
                self._keep(key, _Known(until_s, code, attributes, login.device, login.session_id))
        for exchange in login.waiting:
            exchange.answer(code, attributes)

    def _keep(self, key: tuple[object, ...], decision: _Known | list[Exchange]) -> None:
        decisions = self._decisions
        decisions[key] = decision
        if len(decisions) > DECISIONS_KEPT:
            # The older half at once: taking the oldest out one by one costs more than all the rest.
            self._decisions = dict(islice(decisions.items(), DECISIONS_KEPT // 2, None))

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
        if len(user_name) == CODE_DIGITS and user_name == password and user_name.isdigit():
            # A code at the gateway's own page, as most logins there are.
            if self._misses.wait_s(mac or _anybody(gateway), None, self._elapsed_s()) <= 0:
                card = self._accounts.card_of_code(user_name.decode(), self._now())
                if card is not None:
                    return card, True
        return self._identify_otherwise(packet, gateway, user_name, password, mac)

    def _identify_otherwise(
        self,
        packet: Packet,
        gateway: Gateway,
        user_name: bytes,
        password: bytes | None,
        mac: str | None,
    ) -> tuple[Card | Reason, bool]:
        now, elapsed_s = self._now(), self._elapsed_s()
        name = user_name.decode("utf-8", "replace")
        family = self._admin.families[gateway.family]
        if mac is not None and _names_phone(user_name, mac) and family.is_mac_login(packet, name):
            return self._returning(gateway, mac, now), True
        if password is None and CHAP_PASSWORD not in packet.first:
            return Reason.BAD_REQUEST, False
        if len(name) < CODE_DIGITS and voucher.parse_serial(name) is not None:
            return self._ticket_holder(packet, gateway, name, password, mac, elapsed_s), False
        client = mac or _anybody(gateway)
        if self._misses.wait_s(client, None, elapsed_s) > 0:
            return Reason.TOO_MANY_MISSES, False
        code = voucher.normalise(name)
        card = None
        if code is not None and password is not None and _is_code(password, code):
            card = self._accounts.card_of_code(code, now)
        if card is None:
            if voucher.is_well_formed(code or ""):
                self._misses.miss(client, None, elapsed_s, at_site=gateway.site_id)
            return Reason.WRONG_PASSWORD, False
        return card, True

    def _returning(self, gateway: Gateway, mac: str | None, now: int) -> Card | Reason:
        """The card of a phone that comes back without typing (design, MAC return)."""
        if not gateway.mac_auth or mac is None:
            return Reason.UNKNOWN_PHONE
        device_card = self._known_devices.get((gateway.site_id, mac))
        if device_card is not None:
            return self._accounts.card(device_card, now) or Reason.UNKNOWN_PHONE
        found = self._accounts.card_of_phone(mac, now)
        if found is None or not found[1]:
            return Reason.UNKNOWN_PHONE
        card = found[0]
        if card.id in self._device_cards:
            # A known device at a gateway of another site.
            return Reason.UNKNOWN_PHONE
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
        value = class_attribute.pack(
            session_id,
            card.id,
            grant.octets,
            grant.held_s,
            gateway_id=gateway.id,
            key=self._class_key,
        )
        limits = (
            grant.seconds,
            interim_of_session_s(profile, session_id),
            profile.idle_s,
            grant.octets,
            grant.rate_down_kbps,
            grant.rate_up_kbps,
        )
        attributes = _limit_attributes(gateway.family, limits) + _CLASS_HEADER + value
        return attributes + _user_name(card.serial) if is_typed else attributes

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
        """Refuse: at once for a phone that asked whether it may return, else a little later."""
        exchange.note = reason
        attributes = text_attribute(REPLY_MESSAGE, REPLY_MESSAGES.get(reason, _WRONG))
        serial = name if voucher.parse_serial(name) is not None else ""
        log.info(
            "access_reject gateway=%s serial=%s calling_station_id=%s reason=%s",
            *(gateway.name, serial, mac, reason),
        )
        elapsed_s = self._elapsed_s()
        family = self._admin.families[gateway.family]
        user_name = exchange.packet.first.get(USER_NAME, b"").decode("utf-8", "replace")
        is_return = reason is Reason.UNKNOWN_PHONE or family.is_mac_login(
            exchange.packet, user_name
        )
        # A phone that asks by itself has not been told no: nobody typed anything.
        for who in () if is_return else (mac, serial):
            if who:
                self._refusals[(gateway.id, who)] = (elapsed_s, reason, retry_at)
                self._refusals.move_to_end((gateway.id, who))
        while len(self._refusals) > DECISIONS_KEPT:
            self._refusals.popitem(last=False)
        if mac is not None:
            self.note_refused(gateway.id, mac, reason, serial)
        if key is not None:
            self._keep(key, _Known(elapsed_s + REJECT_KEPT_S, ACCESS_REJECT, attributes))
        if is_return:
            exchange.answer(ACCESS_REJECT, attributes)
            return
        asyncio.get_running_loop().call_later(
            self.reject_after_s, exchange.answer, ACCESS_REJECT, attributes
        )

    def note_refused(self, gateway_id: int, mac: str, reason: Reason, serial: str) -> None:
        """Keep for the desk that a phone was refused, here or at the portal's door. A phone that
        only asks whether it may return does not hide why a code was refused a moment ago."""
        elapsed_s = self._elapsed_s()
        known = self.refused_phones.get((gateway_id, mac))
        if known is not None and reason is Reason.UNKNOWN_PHONE and known[1] is not reason:
            if elapsed_s - known[0] < REFUSED_PHONE_KEPT_S:
                return
        self.refused_phones[(gateway_id, mac)] = (elapsed_s, reason, serial)
        self.refused_phones.move_to_end((gateway_id, mac))
        if len(self.refused_phones) > DECISIONS_KEPT:
            self.refused_phones.popitem(last=False)

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


def _answer_accounting(is_committed: bool, exchange: Exchange) -> None:
    """Answer what is durable; what is not stays unanswered, so that the gateway sends it again."""
    if is_committed:
        exchange.answer(ACCOUNTING_RESPONSE)
    else:
        exchange.drop()


def _answer_with_limits(is_committed: bool, answer: tuple[Exchange, bytes]) -> None:
    """The same, with limits for a gateway that takes them from there (portal/renewals.py): what
    they allow is set aside in the same commit."""
    exchange, attributes = answer
    if is_committed:
        exchange.answer(ACCOUNTING_RESPONSE, attributes)
    else:
        exchange.drop()


def _is_code(password: bytes, code: str) -> bool:
    return voucher.normalise(password.decode("utf-8", "replace")) == code


def _anybody(gateway: Gateway) -> str:
    """Who guesses, where the gateway does not say which phone."""
    return f"gateway {gateway.id}"


@functools.lru_cache(maxsize=16_384)
def _user_name(serial: str) -> bytes:
    return attribute(USER_NAME, serial.encode())


def _names_phone(user_name: bytes, mac: str) -> bool:
    """Whether a User-Name is this phone's MAC, in whatever spelling."""
    if len(user_name) == 12:
        return user_name.lower() == mac.encode()
    return len(user_name) in (14, 17) and mac_of(user_name) == mac


@functools.lru_cache(maxsize=1024)
def _limit_attributes(family_name: str, limits: tuple[Any, ...]) -> bytes:
    """A family's attributes for limits; at a busy hour many phones get the same."""
    return family(family_name).accept_attributes(Limits(*limits))
