"""Identity: which card the phone that asks is using, without a cookie and without believing it.

Four things can tell: the login that is just going on, a signed arrival, the source address of an
open session, and the link minted at login. Where a gateway signs its redirects, one without a right
signature tells nothing.
"""

from dataclasses import dataclass

from portal.door import Door, Phone
from portal.grants import VoucherStatus
from portal.web.visit import Visit

FRESH_LINK_S = 120
"""A link this young was minted by the login that is just going on."""


@dataclass(frozen=True, slots=True)
class Known:
    """The card of the phone that asks, and how to end its session."""

    voucher_id: int
    status: VoucherStatus
    mac: str | None
    gateway_id: int | None
    login_base: str | None


class Identity:
    """Tells phones apart."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def phone(self, visit: Visit) -> Phone:
        """Who asks, for limits on guessing and for what a one-time password is tied to."""
        return Phone(
            mac=None if visit.arrival is None else visit.arrival.mac,
            is_signed=visit.is_signed,
            gateway_id=None if visit.gateway is None else visit.gateway.id,
            source=visit.source,
        )

    def keys(self, visit: Visit, nonce: str | None) -> list[str]:
        """What only this phone can bring back: a number of ours, or a MAC that was signed."""
        keys = [] if nonce is None else [f"nonce:{nonce}"]
        if visit.is_signed and visit.arrival is not None and visit.arrival.mac is not None:
            assert visit.gateway is not None
            keys.append(f"mac:{visit.gateway.id}:{visit.arrival.mac}")
        return keys

    def link_fits(self, visit: Visit) -> bool:
        """Tell whether the visit's link may speak for this phone."""
        if visit.link is None:
            return False
        if visit.is_signed and visit.arrival is not None:
            return visit.link.mac == visit.arrival.mac
        return True

    def is_fresh_link(self, visit: Visit) -> bool:
        """Tell whether the visit's link belongs to a login of the last two minutes."""
        if visit.link is None or not self.link_fits(visit):
            return False
        return visit.now - visit.link.made_at < FRESH_LINK_S

    def who(self, visit: Visit) -> Known | None:
        """Find the card of this phone; None when nothing may be told."""
        gateway, arrival = visit.gateway, visit.arrival
        if gateway is not None and gateway.uam_secret and not visit.is_signed:
            return None
        if self.is_fresh_link(visit):
            known = self._by_link(visit)
            if known is not None:
                return known
        if visit.is_signed and arrival is not None and arrival.mac is not None:
            assert gateway is not None
            found = self._door.status_of_mac(arrival.mac, gateway.id)
            if found is not None:
                return Known(*found, arrival.mac, gateway.id, arrival.login_base)
            return self._by_link(visit)
        return self._by_address(visit) or self._by_link(visit)

    def _by_address(self, visit: Visit) -> Known | None:
        gateway_id = None if visit.gateway is None else visit.gateway.id
        found = self._door.status_of_address(visit.source, gateway_id)
        if found is None:
            return None
        mac = self._door.mac_at_address(visit.source, gateway_id)
        gateway = visit.gateway or self._door.gateway_at_address(visit.source)
        login_base = None if visit.arrival is None else visit.arrival.login_base
        if login_base is None and gateway is not None:
            login_base = gateway.login_base
        return Known(*found, mac, None if gateway is None else gateway.id, login_base)

    def _by_link(self, visit: Visit) -> Known | None:
        link = visit.link
        if link is None or not self.link_fits(visit):
            return None
        status = self._door.status(link.voucher_id)
        if status is None:
            return None
        return Known(link.voucher_id, status, link.mac, link.gateway_id, link.login_base)
