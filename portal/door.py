"""The portal's door: what the resident's pages may ask and do.

A code typed or scanned here buys a one-time password; nothing is redeemed until the gateway comes
with it. Synchronous and from memory: a page never waits for the disk.
"""

import logging
from collections.abc import Callable, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import urlsplit

from portal.aaa import Aaa
from portal.accounts import Accounts, Card
from portal.admin import Admin, Gateway, Site
from portal.data_counting import is_uncounted
from portal.domain import voucher
from portal.domain.quota import Reason, Refusal
from portal.grants import Grants, VoucherStatus
from portal.misses import Misses
from portal.sessions import Live, Sessions
from portal.tickets import Ticket, Tickets

log = logging.getLogger(__name__)

PASSWORD_OCTETS = 8
"""64 random bits live 60 s; written as 16 hex digits they fill one block of a PAP password."""


@dataclass(frozen=True, slots=True)
class Phone:
    """Who asks: for limits on guessing, and for what the one-time password is tied to."""

    mac: str | None
    """As the arrival says; only a signed one is proof."""
    is_signed: bool
    gateway_id: int | None
    source: str
    """Address of the TCP peer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no ticket, and what comes next."""

    reason: Reason
    retry_at: int | None = None
    wait_s: int | None = None
    can_move: bool = False
    """The card is in use on another phone; with `move` it can be taken over."""
    status: VoucherStatus | None = None
    """The card, when the code was right."""


class Door:
    """The resident's side of the node."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        aaa: Aaa,
        tickets: Tickets,
        misses: Misses,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        random_token: Callable[[int], str],
        learned_login_base: Callable[[int, str], None],
        blocked: Set[tuple[int, str]] = frozenset(),
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._grants = grants
        self._aaa = aaa
        self._tickets = tickets
        self._misses = misses
        self._now = now
        self._elapsed_s = elapsed_s
        self._random_token = random_token
        self._learned_login_base = learned_login_base
        self._blocked = blocked

    # -- codes -----------------------------------------------------------------------------

    def check_code(self, text: str, phone: Phone, *, move: bool = False) -> Ticket | Problem:
        """Try what a resident typed, scanned or pasted.

        A wrong code counts as a miss, a mistyped one (the check digit says so) does not. With
        `move` the card is taken over from the phone that uses it now.
        """
        return self._noted(self._checked(text, phone, move=move), phone)

    def _checked(self, text: str, phone: Phone, *, move: bool) -> Ticket | Problem:
        code = voucher.normalise(text)
        if code is None or not voucher.is_well_formed(code):
            return Problem(Reason.MISTYPED)
        client = self.client(phone)
        site_id = self._site_id(phone)
        if (site_id, phone.mac) in self._blocked:
            return Problem(Reason.BLOCKED)
        elapsed_s = self._elapsed_s()
        wait_s = self._misses.wait_s(client, site_id, elapsed_s)
        if wait_s > 0:
            return Problem(Reason.TOO_MANY_MISSES, wait_s=max(1, round(wait_s + 0.5)))
        card = self._accounts.card_of_code(code, self._now())
        if card is None:
            self._misses.miss(client, site_id, elapsed_s)
            log.info("code_unknown client=%s gateway=%s", client, phone.gateway_id)
            return Problem(Reason.UNKNOWN_CODE)
        return self._ticket(card, phone, move=move)

    def ticket_for(self, voucher_id: int, phone: Phone) -> Ticket | Problem:
        """A fresh ticket for a card whose code was right a moment ago."""
        card = self._accounts.card(voucher_id, self._now())
        if card is None:
            return Problem(Reason.UNKNOWN_CODE)
        return self._noted(self._ticket(card, phone, move=False), phone)

    def _noted(self, answer: Ticket | Problem, phone: Phone) -> Ticket | Problem:
        """The same answer; a refusal is kept for the desk, where its owner may come to ask. Who
        could have made the phone up is left out."""
        gateway = self._admin.gateways_by_id.get(phone.gateway_id or 0)
        if isinstance(answer, Problem) and phone.mac is not None and gateway is not None:
            if phone.is_signed or gateway.uam_secret is None:
                serial = "" if answer.status is None else answer.status.serial
                self._aaa.note_refused(gateway.id, phone.mac, answer.reason, serial)
        return answer

    def _ticket(self, card: Card, phone: Phone, *, move: bool) -> Ticket | Problem:
        if (self._site_id(phone), phone.mac) in self._blocked:
            return Problem(Reason.BLOCKED)
        if not self._aaa.is_healthy():
            return Problem(Reason.DISK_FULL, status=self._grants.status(card))
        gateway = self._admin.gateways_by_id.get(phone.gateway_id or 0)
        profile = self._admin.profiles_by_name[card.account.profile]
        if gateway is not None and is_uncounted(self._admin, gateway, profile):
            return Problem(Reason.DATA_NOT_COUNTED, status=self._grants.status(card))
        decision = self._grants.decide(card, phone.mac)
        if move and isinstance(decision, Refusal) and _can_move(decision.reason):
            refusal = self._grants.move(card, phone.mac)
            decision = refusal or self._grants.decide(card, phone.mac)
        if isinstance(decision, Refusal):
            return Problem(
                decision.reason,
                retry_at=decision.retry_at,
                can_move=_can_move(decision.reason),
                status=self._grants.status(card),
            )
        ticket = Ticket(card.serial, card.id, self._random_token(PASSWORD_OCTETS))
        self._tickets.add(
            ticket,
            gateway_id=phone.gateway_id,
            mac=phone.mac if phone.is_signed else None,
            elapsed_s=self._elapsed_s(),
        )
        return ticket

    def client(self, phone: Phone) -> str | None:
        """Who guesses: the phone a gateway vouches for, else the address, unless a gateway's own
        stands for everybody behind it."""
        if phone.is_signed and phone.mac is not None:
            return phone.mac
        is_shared = any("/" not in gateway.address for gateway in self.gateways_at(phone.source))
        return None if is_shared else phone.source

    def _site_id(self, phone: Phone) -> int:
        gateway = self._admin.gateways_by_id.get(phone.gateway_id or 0)
        if gateway is not None:
            return gateway.site_id
        return min(self._admin.sites_by_id, default=0)

    # -- status ----------------------------------------------------------------------------

    def status(self, voucher_id: int) -> VoucherStatus | None:
        """A card by its row id."""
        card = self._accounts.card(voucher_id, self._now())
        return None if card is None else self._grants.status(card)

    def status_of_serial(self, serial: str) -> VoucherStatus | None:
        """A card by its serial."""
        card = self._accounts.card_of_serial(serial, self._now())
        return None if card is None else self._grants.status(card)

    def status_of_address(
        self, source: str, gateway_id: int | None
    ) -> tuple[int, VoucherStatus] | None:
        """The card of the newest open session with this Framed-IP-Address, if only one gateway has
        such."""
        found = self._live_at(source, gateway_id)
        return None if found is None else self._status_of(found)

    def status_of_mac(self, mac: str, gateway_id: int | None) -> tuple[int, VoucherStatus] | None:
        """The card of this phone's open session; the phone must be proven (a signed arrival)."""
        for live in reversed(self._sessions.of_mac(mac)):
            if gateway_id in (None, live.session.gateway_id):
                return self._status_of(live)
        return None

    def last_card(self, mac: str) -> VoucherStatus | None:
        """The card with which this phone may come back; the phone must be proven (a signed
        arrival)."""
        found = self._accounts.card_of_phone(mac, self._now())
        return self._grants.status(found[0]) if found is not None and found[1] else None

    def mac_at_address(self, source: str, gateway_id: int | None) -> str | None:
        """The phone of the open session with this Framed-IP-Address."""
        live = self._live_at(source, gateway_id)
        return None if live is None else live.session.mac

    def gateway_at_address(self, source: str) -> Gateway | None:
        """The gateway of the open session with this Framed-IP-Address."""
        live = self._live_at(source, None)
        return None if live is None else self.gateway(live.session.gateway_id)

    def live_at(self, source: str) -> Live | None:
        """The open session with this Framed-IP-Address, None where an address does not tell."""
        return self._live_at(source, None)

    def _live_at(self, source: str, gateway_id: int | None) -> Live | None:
        found = [
            live
            for live in self._sessions.at_ip(source)
            if gateway_id in (None, live.session.gateway_id)
        ]
        if len({live.session.gateway_id for live in found}) != 1:
            return None
        # An address has one phone; an older session there is one whose Stop was lost.
        live = max(found, key=lambda one: (one.session.started_at, one.session.id))
        if gateway_id is None and self._has_neighbour(live.session.gateway_id, source):
            return None
        return live

    def _has_neighbour(self, gateway_id: int, source: str) -> bool:
        """Whether another gateway has phones, or its own address, in the same guest network: then
        an address alone does not say which village's phone it is."""
        network = self._guests_around(gateway_id, source)
        for gateway in self._admin.gateways_by_id.values():
            if gateway.id != gateway_id and gateway.login_base is not None:
                if _is_in(network, urlsplit(gateway.login_base).hostname):
                    return True
        return any(
            live.session.gateway_id != gateway_id and _is_in(network, live.session.framed_ip)
            for live in self._sessions.open_sessions()
        )

    def _guests_around(self, gateway_id: int, source: str) -> IPv4Network | None:
        """The guest network an address is of: the gateway's own where that is so set up, else the
        first half of the address, since guest networks are no larger and villages copy them."""
        try:
            address = IPv4Address(source)
        except ValueError:
            return None
        gateway = self._admin.gateways_by_id.get(gateway_id)
        if gateway is not None and gateway.guest_net is not None:
            network = IPv4Network(gateway.guest_net)
            if address in network:
                return network
        return IPv4Network((source, 16), strict=False)

    def _status_of(self, live: Live) -> tuple[int, VoucherStatus] | None:
        if live.session.voucher_id is None:
            return None
        status = self.status(live.session.voucher_id)
        return None if status is None else (live.session.voucher_id, status)

    def last_refusal(
        self, gateway_id: int | None, serial: str | None, mac: str | None
    ) -> Problem | None:
        """What the RADIUS server refused this card or phone in the last minute."""
        refusal = self._aaa.last_refusal(gateway_id, serial, mac)
        if refusal is None:
            return None
        status = None if serial is None else self.status_of_serial(serial)
        return Problem(
            refusal[0], retry_at=refusal[1], can_move=_can_move(refusal[0]), status=status
        )

    def log_out(self, voucher_id: int, mac: str | None, *, disconnect: bool) -> None:
        """End it for this phone until a code is typed again; `disconnect` also cuts the session."""
        card = self._accounts.card(voucher_id, self._now())
        if card is not None:
            self._grants.log_out(card, mac, disconnect=disconnect)

    # -- places ----------------------------------------------------------------------------

    def site(self, code: str) -> Site | None:
        """A site by its code."""
        for site in self._admin.sites_by_id.values():
            if site.code == code:
                return site
        return None

    def site_of(self, gateway: Gateway | None) -> Site:
        """The site of a gateway; without one, the node's first."""
        sites = self._admin.sites_by_id
        return sites[min(sites)] if gateway is None else sites[gateway.site_id]

    def gateway(self, gateway_id: int) -> Gateway | None:
        """A gateway by its row id."""
        return self._admin.gateways_by_id.get(gateway_id)

    def gateways(self) -> list[Gateway]:
        """All gateways."""
        return list(self._admin.gateways_by_id.values())

    def gateways_at(self, source: str) -> list[Gateway]:
        """The gateways whose address or network holds `source`."""
        return self._admin.gateways_at(source)

    def gateway_of(self, nas_id: str | None, source: str) -> Gateway | None:
        """The gateway an unsigned arrival names, else the only one at this source address."""
        return self._admin.gateway_of(nas_id, source)

    def remember_login_base(self, gateway_id: int, login_base: str) -> None:
        """Note where phones start a login at this gateway, for those that come without arrival."""
        self._learned_login_base(gateway_id, login_base)


def _can_move(reason: Reason) -> bool:
    return reason in (Reason.IN_USE, Reason.RESERVED)


def _is_in(network: IPv4Network | None, address: str | None) -> bool:
    try:
        return network is not None and address is not None and IPv4Address(address) in network
    except ValueError:
        return False
