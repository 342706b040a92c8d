"""Phones heard in the last minutes at a site, and what came of it: online, let in, refused, gone.

For the desk, where somebody stands with a phone in the hand. Everything is in memory.
"""

from collections.abc import Callable
from typing import Any

from portal.aaa import Aaa
from portal.accounts import Accounts
from portal.admin import Admin
from portal.sessions import Live, Sessions

RECENT_S = 300.0
"""So long a phone is among those just heard of."""


class RecentPhones:
    """Tells which phones a site's gateways asked about or reported lately."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        aaa: Aaa,
        *,
        name_of: Callable[[int], str | None],
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._aaa = aaa
        self._name_of = name_of
        self._now = now
        self._elapsed_s = elapsed_s

    def seen(self, site_id: int) -> list[dict[str, Any]]:
        """The phones heard of in the last five minutes, newest first, each once: `mac`, `serial`
        (None for a known device and for an unknown phone), `device` (a known device's name),
        `gateway`, `at`, `what` (online, accepted, refused, ended) and `reason`: why it was refused,
        or what ended its session."""
        found: dict[str, tuple[float, dict[str, Any]]] = {}

        def note(
            mac: str,
            heard_s: float,
            what: str,
            gateway_id: int,
            *,
            card_id: int | None = None,
            serial: str = "",
            reason: str | None = None,
        ) -> None:
            known = found.get(mac)
            if known is not None and known[0] > heard_s:
                return
            device = None if card_id is None else self._name_of(card_id)
            found[mac] = (
                heard_s,
                {
                    "mac": mac,
                    "serial": None if device is not None else serial or None,
                    "device": device,
                    "gateway": self._admin.gateway_name(gateway_id),
                    "at": round(self._now() - elapsed_s + heard_s),
                    "what": what,
                    "reason": reason,
                },
            )

        elapsed_s = self._elapsed_s()
        since_s = elapsed_s - RECENT_S
        for (gateway_id, mac), (heard_s, reason, serial) in self._aaa.refused_phones.items():
            if heard_s >= since_s and self._is_here(gateway_id, site_id):
                note(mac, heard_s, "refused", gateway_id, serial=serial, reason=str(reason))
        for account, device in self._accounts.unstarted():
            if device.heard_s >= since_s and self._is_here(device.gateway_id, site_id):
                card = self._accounts.current_card(account, self._now())
                note(
                    *(device.mac, device.heard_s, "accepted", device.gateway_id),
                    card_id=card.id,
                    serial=card.serial,
                )
        for live in self._sessions.in_memory():
            session = live.session
            if live.exchange is None or live.heard_s < since_s or session.mac is None:
                continue
            if session.site_id == site_id:
                note(
                    *(session.mac, live.heard_s, _what(live), session.gateway_id),
                    card_id=session.voucher_id,
                    serial=live.serial,
                    reason=session.end_cause,
                )
        listed = sorted(found.values(), key=lambda entry: entry[0], reverse=True)
        return [shown for _, shown in listed]

    def _is_here(self, gateway_id: int, site_id: int) -> bool:
        gateway = self._admin.gateways_by_id.get(gateway_id)
        return gateway is not None and gateway.site_id == site_id


def _what(live: Live) -> str:
    return "online" if live.session.is_open else "ended"
