"""Devices: phones that may not come in, and devices that need no card.

A blocked phone is refused before anything else is looked at, at the gateways of its site and in the
portal. A known device (an attendance machine, an office PC) logs in by its MAC at the gateways of
its site; its usage is counted on an account of its own, through a card that nobody holds.
"""

import asyncio
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from portal.accounts import Account, Accounts
from portal.admin import Admin
from portal.audit import COMMAND_LINE
from portal.cards.finding import reason_of
from portal.commit import GroupCommit
from portal.disconnects import Disconnects
from portal.domain import voucher
from portal.domain.profile import MAX_DURATION_S
from portal.errors import DeskError
from portal.grants import Grants
from portal.sessions import Sessions
from portal.store.audit import Deed
from portal.store.cards import KIND_DEVICE, NewBatch, NewCard
from portal.store.devices import DeviceStore
from radius.nas import canonical_mac

KINDS = ("attendance", "office", "other")
NAME_LONGEST = 60
ALARM_SHORTEST_S = 300
"""Gateways report every five minutes at most times; less would be a false alarm."""
HASH_OCTETS = 16
NO_CODE = "----"
"""Stands in place of the last four digits of a card without a code."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A phone that may not come in at a site."""

    site_id: int
    mac: str
    reason: str
    blocked_by: str
    blocked_at: int


@dataclass(frozen=True, slots=True)
class Known:
    """A device that needs no card."""

    id: int
    site_id: int
    voucher_id: int
    name: str
    mac: str
    kind: str
    alarm_after_s: int | None
    """Silent for longer than this it is worth an alarm; None: never."""
    added_at: int
    removed_at: int | None
    profile: str


class Devices:
    """The node's blocked phones and known devices, kept in memory."""

    def __init__(
        self,
        store: DeviceStore,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        grants: Grants,
        disconnects: Disconnects,
        commit: GroupCommit,
        *,
        now: Callable[[], int],
        random_below: Callable[[int], int],
        next_batch_number: Callable[[], int],
    ):
        self._store = store
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._grants = grants
        self._disconnects = disconnects
        self._commit = commit
        self._now = now
        self._random_below = random_below
        self._next_batch_number = next_batch_number
        self._listening_since_at = now()
        self._changing = asyncio.Lock()
        self._blocked: dict[tuple[int, str], Blocked] = {}
        self._known: dict[tuple[int, str], Known] = {}
        self._card_by_phone: dict[tuple[int, str], int] = {}
        self._name_by_card: dict[int, str] = {}
        for row in store.blocked():
            self._blocked[(row["site_id"], row["mac"])] = Blocked(**dict(row))
        for row in store.known():
            self._take(Known(**dict(row)))

    def _take(self, known: Known) -> None:
        self._name_by_card[known.voucher_id] = known.name
        if known.removed_at is None:
            self._known[(known.site_id, known.mac)] = known
            self._card_by_phone[(known.site_id, known.mac)] = known.voucher_id

    # -- for the doors ---------------------------------------------------------------------

    @property
    def blocked_phones(self) -> Set[tuple[int, str]]:
        """(site, MAC) of every blocked phone; the same object for ever."""
        return self._blocked.keys()

    @property
    def cards_of_known(self) -> Mapping[tuple[int, str], int]:
        """(site, MAC) -> card of every known device; the same object for ever."""
        return self._card_by_phone

    @property
    def hidden_cards(self) -> Mapping[int, str]:
        """The cards that nobody holds, of removed devices too; the same object for ever."""
        return self._name_by_card

    def is_blocked(self, mac: str, site_id: int) -> bool:
        """Whether this phone (12 hex digits) may not come in at a site."""
        return (site_id, mac) in self._blocked

    def name_of(self, voucher_id: int) -> str | None:
        """The name of the known device whose card this is, None for every card of people."""
        return self._name_by_card.get(voucher_id)

    # -- for the desk ----------------------------------------------------------------------

    def blocked(self, site_id: int | None = None) -> list[dict[str, Any]]:
        """The blocked phones of a site, or of all, newest first."""
        return [
            {
                "mac": one.mac,
                "site": self._admin.sites_by_id[one.site_id].code,
                "reason": one.reason,
                "blocked_by": one.blocked_by,
                "blocked_at": one.blocked_at,
            }
            for one in reversed(self._blocked.values())
            if site_id in (None, one.site_id)
        ]

    def known(self, site_id: int | None = None) -> list[dict[str, Any]]:
        """The known devices of a site, or of all, by name, with what they used and whether they
        have been silent for too long while there is electricity."""
        listed = [one for one in self._known.values() if site_id in (None, one.site_id)]
        return [self._shown(one) for one in sorted(listed, key=lambda one: one.name.casefold())]

    def _shown(self, one: Known) -> dict[str, Any]:
        now = self._now()
        card = self._accounts.card(one.voucher_id, now)
        account = None if card is None else card.account
        heard_at = None if account is None else self._heard_at(account)
        return {
            "id": one.id,
            "name": one.name,
            "mac": one.mac,
            "site": self._admin.sites_by_id[one.site_id].code,
            "profile": one.profile,
            "kind": one.kind,
            "alarm_after_s": one.alarm_after_s,
            "added_at": one.added_at,
            "last_heard_at": heard_at,
            "is_online": account is not None and bool(account.sessions),
            "is_silent": self._is_silent(one, heard_at, now),
            "octets_used": 0 if account is None else account.usage.total_octets,
            "seconds_used": 0 if account is None else account.usage.total_s,
        }

    def _is_silent(self, one: Known, heard_at: int | None, now: int) -> bool:
        """Whether a device is silent for too long; while there was no electricity, or this node did
        not listen, silence is no fault."""
        if one.alarm_after_s is None:
            return False
        since_at = max(heard_at or 0, one.added_at, self._listening_since_at)
        return now - since_at > one.alarm_after_s and all(
            self._admin.is_power_on(one.site_id, at) for at in (now, now - one.alarm_after_s)
        )

    def _heard_at(self, account: Account) -> int | None:
        """When accounting last gave evidence of the device."""
        seen = [session.last_seen_at for session in account.sessions.values()]
        if not seen and account.last_session_id is not None:
            live = self._sessions.by_id(account.last_session_id)
            last = self._sessions.stored(account.last_session_id) if live is None else live.session
            seen = [] if last is None else [last.last_seen_at]
        return max(seen, default=None)

    # -- changing --------------------------------------------------------------------------

    async def block(
        self, mac: str, site_id: int, reason: str, by: str = COMMAND_LINE
    ) -> dict[str, Any]:
        """Keep a phone out of a site's gateways and portal, and end its sessions there."""
        mac = _mac(mac)
        reason = reason_of(reason)
        async with self._changing:
            if self.is_blocked(mac, site_id):
                raise DeskError("devices.blocked_already", mac=shown_mac(mac))
            known = self._known.get((site_id, mac))
            if known is not None:
                raise DeskError("devices.block_known", name=known.name)
            now = self._now()
            await self._store.block(
                *(site_id, mac, now), Deed(by, "device.block", site_id, hidden_mac(mac), reason)
            )
            self._blocked[(site_id, mac)] = Blocked(site_id, mac, reason, by, now)
        self._cut(mac, site_id)
        await self._commit.now()
        return self.blocked(site_id)[0]

    def _cut(self, mac: str, site_id: int) -> None:
        """End what a phone has at a site: its sessions, and a grant no session came of yet."""
        lives = [live for live in self._sessions.of_mac(mac) if live.session.site_id == site_id]
        accounts = [live.account for live in lives if live.account is not None]
        last = self._accounts.card_of_phone(mac, self._now())
        if last is not None and last[0].account not in accounts:
            accounts.append(last[0].account)
        for account in accounts:
            device = account.devices.get(mac)
            if device is None:
                continue
            gateway = self._admin.gateways_by_id.get(device.gateway_id)
            if gateway is not None and gateway.site_id == site_id:
                self._grants.displace(account, device, "blocked")
        for live in lives:
            if not live.wants_disconnect:
                self._disconnects.want(live, "blocked")

    async def unblock(
        self, mac: str, site_id: int, reason: str = "", by: str = COMMAND_LINE
    ) -> dict[str, Any]:
        """Let a phone in again; it types its code once more."""
        mac = _mac(mac)
        async with self._changing:
            if not self.is_blocked(mac, site_id):
                raise DeskError("devices.not_blocked", mac=shown_mac(mac))
            deed = Deed(by, "device.unblock", site_id, hidden_mac(mac), " ".join(reason.split()))
            await self._store.unblock(site_id, mac, self._now(), deed)
            del self._blocked[(site_id, mac)]
        return {"mac": mac, "site": self._admin.sites_by_id[site_id].code, "blocked": False}

    async def add_known(
        self,
        name: str,
        mac: str,
        profile: str,
        kind: str,
        alarm_after_s: int | None,
        site: str | None = None,
        by: str = COMMAND_LINE,
    ) -> dict[str, Any]:
        """Let a device in by its MAC, with the limits of a profile, at the gateways of a site that
        have MAC authentication. `alarm_after_s` None: it may be silent for ever."""
        name = " ".join(name.split())
        if not 1 <= len(name) <= NAME_LONGEST or not name.isprintable():
            raise DeskError("devices.name", longest=NAME_LONGEST)
        mac = _mac(mac)
        if kind not in KINDS:
            raise DeskError("devices.kind")
        if profile not in self._admin.profiles_by_name:
            known = ", ".join(self._admin.profiles_by_name) or "-"
            raise DeskError("cards.unknown_profile", profile=profile, known=known)
        if alarm_after_s is not None and not ALARM_SHORTEST_S <= alarm_after_s <= MAX_DURATION_S:
            raise DeskError("devices.alarm", minutes=ALARM_SHORTEST_S // 60)
        at_site = self._admin.only_site(site)
        async with self._changing:
            self._check_new(name, mac, at_site.id)
            number = self._next_batch_number()
            now = self._now()
            card = NewCard(
                voucher.serial(number, 1),
                # No code has this hash, so nobody can type one.
                self._random_below(1 << 8 * HASH_OCTETS).to_bytes(HASH_OCTETS),
                NO_CODE,
                None,
            )
            device_id, card_id = await self._store.add_known(
                NewBatch(number, at_site.id, profile, name, now, by, KIND_DEVICE),
                card,
                name=name,
                mac=mac,
                kind=kind,
                alarm_after_s=alarm_after_s,
                deed=Deed(
                    *(by, "device.add", at_site.id, name),
                    details=f"{hidden_mac(mac)} ({kind}), {profile}",
                ),
            )
            added = Known(
                *(device_id, at_site.id, card_id, name, mac, kind, alarm_after_s, now),
                removed_at=None,
                profile=profile,
            )
            self._take(added)
        return self._shown(added)

    def _check_new(self, name: str, mac: str, site_id: int) -> None:
        for one in self._known.values():
            if one.mac == mac:
                raise DeskError("devices.known_already", mac=shown_mac(mac), name=one.name)
            if one.site_id == site_id and one.name.casefold() == name.casefold():
                raise DeskError("devices.name_taken", name=one.name)
        if self.is_blocked(mac, site_id):
            raise DeskError("devices.known_blocked", mac=shown_mac(mac))

    def find_known(self, key: str, site_id: int | None = None) -> int:
        """The id of the known device with this name or MAC; raises DeskError when there is none,
        or several sites have one."""
        mac = canonical_mac(key)
        found = [
            one.id
            for one in self._known.values()
            if site_id in (None, one.site_id)
            and (one.mac == mac or one.name.casefold() == key.strip().casefold())
        ]
        if not found:
            raise DeskError("devices.unknown", name=key.strip()[:NAME_LONGEST])
        if len(found) > 1:
            raise DeskError("devices.ambiguous", name=key.strip()[:NAME_LONGEST])
        return found[0]

    async def remove_known(
        self, device_id: int, reason: str, by: str = COMMAND_LINE
    ) -> dict[str, Any]:
        """Forget a known device and end its sessions; from now on it needs a card."""
        reason = reason_of(reason)
        async with self._changing:
            one = next((one for one in self._known.values() if one.id == device_id), None)
            if one is None:
                raise DeskError("devices.removed")
            now = self._now()
            deed = Deed(*(by, "device.remove", one.site_id, one.name, reason, hidden_mac(one.mac)))
            await self._store.remove_known(one.id, one.voucher_id, now, deed)
            del self._known[(one.site_id, one.mac)]
            del self._card_by_phone[(one.site_id, one.mac)]
        card = self._accounts.card(one.voucher_id, self._now())
        if card is not None:
            card.revoked_at = card.revoked_at or now
            self._grants.end_all(card.account, "removed")
        await self._commit.now()
        return {"id": one.id, "name": one.name, "mac": one.mac, "removed": True}


def shown_mac(mac: str) -> str:
    """A MAC as people read it: `02:5a:...`."""
    return ":".join(mac[at : at + 2] for at in range(0, 12, 2))


def hidden_mac(mac: str) -> str:
    """The end of a MAC: enough to tell the phones of a village apart. All that reviewers see of a
    blocked phone, and all that the audit, which is kept for ever, says of any device."""
    return f"**:**:**:**:{shown_mac(mac)[-5:]}"


def _mac(text: str) -> str:
    """A phone's or device's own MAC as 12 hex digits; raises DeskError when it is none."""
    mac = canonical_mac(text.strip())
    # All zero is nobody, and the lowest bit of the first octet marks a group (IEEE 802).
    if mac is None or not int(mac, 16) or int(mac[1], 16) & 1:
        raise DeskError("devices.mac", mac=text.strip()[:20])
    return mac
