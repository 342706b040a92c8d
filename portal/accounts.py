"""Accounts in memory: whose quota is counted, their cards and phones, and what is not yet on disk.

A login must not add up history, so a card's usage is loaded once and kept while it is in use; what
changes is written with the next group commit. Accounts without an open session are dropped again,
the longest unused first, so that memory stays bounded however many cards were ever issued.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from portal.domain import quota
from portal.domain.profile import Profile
from portal.domain.quota import NOBODY, Held, Left, Usage
from portal.domain.session import Session
from portal.store.batch import Batch
from portal.store.db import Row
from portal.store.node import NodeStore

ACCOUNTS_KEPT = 12_000
"""About 2 kB each; the cards of one big village fit."""
SILENT_INTERIMS = 3
"""Without a word for so many interims a session or grant is stale (design, quota rule 5)."""


class Accept(NamedTuple):
    """What a phone was told when it logged in, and all that this was decided on."""

    attributes: bytes
    session_id: int
    card_id: int
    gateway_id: int
    is_typed: bool
    """It carries the serial, since a person named the card otherwise."""
    is_remembered: bool
    left: Left
    profile: Profile
    until_at: int
    """Until then its Session-Timeout reaches no edge: an end of validity or an hour of closing."""


@dataclass(slots=True, eq=False)
class Device:
    """A phone of an account: whether it may come back without typing, and the grant it holds."""

    mac: str
    is_remembered: bool
    gateway_id: int
    session_id: int | None = None
    """The session that holds a grant; None when this phone holds nothing."""
    granted_octets: int | None = None
    granted_s: int | None = None
    granted_at: int = 0
    heard_s: float = 0.0
    """Elapsed-time reading of the Accept, to tell a fresh one from one that led to nothing."""
    displaced_id: int = 0
    """The newest session whose grant was taken away: should it only be heard of now, it holds
    nothing."""
    accept: Accept | None = None
    """The last answer, to be given again to a phone that asks again before its session began."""


@dataclass(slots=True, eq=False)
class Account:
    """One quota and everything that draws on it."""

    id: int
    profile: str
    usage: Usage
    first_used_at: int | None
    flushed_octets: int
    """Total already in the account's row; the rest is pending in open sessions."""
    flushed_s: int
    card_id: int
    """The newest card: the others of this account were replaced."""
    move_day: str | None = None
    move_count: int = 0
    last_session_id: int | None = None
    extra_valid_s: int = 0
    """What people added to the validity that the profile gives."""
    devices: dict[str, Device] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    """Open sessions by id."""

    def held_by_others(self, mac: str | None, elapsed_s: float, profile: Profile) -> Held:
        """What phones other than `mac` hold now; a grant that led to nothing is let go."""
        devices = 0
        octets: int | None = 0
        seconds: int | None = 0
        for device in self.devices.values():
            if device.mac == mac or device.session_id is None:
                continue
            session = self.sessions.get(device.session_id)
            if session is None and elapsed_s - device.heard_s > SILENT_INTERIMS * profile.interim_s:
                continue
            devices += 1
            used, used_s = (0, 0) if session is None else (session.octets, session.counted_s)
            if octets is not None:
                octets = (
                    None
                    if device.granted_octets is None
                    else octets + max(0, device.granted_octets - used)
                )
            if seconds is not None:
                seconds = (
                    None
                    if device.granted_s is None
                    else seconds + max(0, device.granted_s - used_s)
                )
        return Held(devices, octets, seconds) if devices else NOBODY


@dataclass(slots=True, eq=False)
class Card:
    """One voucher: a code on paper that opens an account."""

    id: int
    account: Account
    site_id: int
    serial: str
    last4: str
    issued_at: int
    use_before_at: int | None
    revoked_at: int | None
    replaced_at: int | None


class Accounts:
    """The accounts in use, found by code, serial, card or phone."""

    def __init__(
        self,
        store: NodeStore,
        hash_key: bytes,
        zone_of_site: Callable[[int], ZoneInfo],
        *,
        elapsed_s: Callable[[], float],
        kept: int = ACCOUNTS_KEPT,
    ):
        self._store = store
        self._elapsed_s = elapsed_s
        self._hash = hashlib.blake2b(key=hash_key, digest_size=16)
        self._zone_of_site = zone_of_site
        self._kept = kept
        self._accounts: OrderedDict[int, Account] = OrderedDict()
        self._cards: dict[int, Card] = {}
        self._card_by_hash: dict[bytes, Card] = {}
        self._card_by_serial: dict[str, Card] = {}
        self._cards_of_account: dict[int, list[tuple[Card, bytes]]] = {}
        self._account_of_mac: OrderedDict[str, tuple[int, bool]] = OrderedDict()
        self._dirty_accounts: set[Account] = set()
        self._dirty_devices: dict[tuple[int, str], Device] = {}
        self._usage: list[tuple[int, str, int, int]] = []
        self._site_usage: dict[tuple[int, str], list[int]] = {}
        self._first_used: list[tuple[int]] = []
        self._in_flight: set[int] = set()
        self._unstarted: dict[tuple[int, str], tuple[Account, Device]] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    # -- finding ---------------------------------------------------------------------------

    def hash_of(self, code: str) -> bytes:
        """The keyed hash under which a code is stored; the code itself never is."""
        state = self._hash.copy()
        state.update(code.encode("ascii"))
        return state.digest()

    def card_of_code(self, code: str, now: int) -> Card | None:
        """The card with this 12-digit code, None when there is none."""
        code_hash = self.hash_of(code)
        card = self._card_by_hash.get(code_hash)
        if card is None:
            row = self._store.voucher_by_hash(code_hash)
            if row is None:
                return None
            card = self._load(row, now)
        return card

    def card_of_serial(self, serial: str, now: int) -> Card | None:
        """The card with this serial, None when there is none."""
        card = self._card_by_serial.get(serial)
        if card is None:
            row = self._store.voucher_by_serial(serial)
            card = None if row is None else self._load(row, now)
        return card

    def card(self, card_id: int, now: int) -> Card | None:
        """The card with this row id, None when there is none."""
        card = self._cards.get(card_id)
        if card is None:
            row = self._store.voucher_by_id(card_id)
            card = None if row is None else self._load(row, now)
        return card

    def in_memory(self, account_id: int) -> Account | None:
        """An account in use; one with an open session is."""
        return self._accounts.get(account_id)

    def current_card(self, account: Account, now: int) -> Card:
        """The newest card of an account."""
        card = self.card(account.card_id, now)
        if card is None:
            raise KeyError(f"account {account.id} has no card {account.card_id}")
        return card

    def card_of_phone(self, mac: str, now: int) -> tuple[Card, bool] | None:
        """The card a phone used last, and whether the phone may come back without typing."""
        known = self._account_of_mac.get(mac)
        if known is None:
            row = self._store.account_of_mac(mac)
            if row is None:
                return None
            known = (row["account_id"], bool(row["is_remembered"]))
            self._remember(mac, *known)
        account_id, is_remembered = known
        account = self._accounts.get(account_id)
        if account is None:
            current = self._store.current_voucher(account_id)
            return None if current is None else (self._load(current, now), is_remembered)
        return self.current_card(account, now), is_remembered

    def preload(self, now: int) -> None:
        """Take the newest cards into memory at the start, so that no login waits for the disk."""
        rows = self._store.newest_vouchers(self._kept)
        used = [row["account_id"] for row in rows if row["first_used_at"] is not None]
        days: dict[int, list[Row]] = {}
        devices: dict[int, list[Row]] = {}
        if used:
            zones = {self._zone_of_site(row["site_id"]) for row in rows}
            since = min(quota.first_day_needed(now, zone) for zone in zones)
            for row in self._store.days_of_accounts(used, quota.day_text(since)):
                days.setdefault(row["account_id"], []).append(row)
            for row in self._store.devices_of_accounts(used):
                devices.setdefault(row["account_id"], []).append(row)
        for row in reversed(rows):
            account_id = row["account_id"]
            self._load(row, now, (days.get(account_id, []), devices.get(account_id, [])))

    def _load(self, row: Row, now: int, known: tuple[list[Row], list[Row]] | None = None) -> Card:
        """Take a stored card, and its account unless that is there already, into memory.

        `known` are the account's days and phones where they have been read already.
        """
        account = self._accounts.get(row["account_id"])
        if account is None:
            account = self._load_account(row, now, known)
        card = self._cards.get(row["id"])
        if card is not None:
            return card
        card = Card(
            id=row["id"],
            account=account,
            site_id=row["site_id"],
            serial=row["serial"],
            last4=row["last4"],
            issued_at=row["issued_at"],
            use_before_at=row["use_before_at"],
            revoked_at=row["revoked_at"],
            replaced_at=row["replaced_at"],
        )
        self._cards[card.id] = card
        self._card_by_serial[card.serial] = card
        self._card_by_hash[row["code_hash"]] = card
        self._cards_of_account[account.id].append((card, row["code_hash"]))
        return card

    def _load_account(
        self, row: Row, now: int, known: tuple[list[Row], list[Row]] | None
    ) -> Account:
        account_id = row["account_id"]
        zone = self._zone_of_site(row["site_id"])
        usage = Usage(zone, total_octets=row["total_octets"], total_s=row["total_s"])
        if known is not None:
            days, devices = known
        elif row["first_used_at"] is None:
            days, devices = [], []
        else:
            since_day = quota.day_text(quota.first_day_needed(now, zone))
            days = self._store.account_days(account_id, since_day)
            devices = self._store.account_devices(account_id)
        for day in days:
            ordinal = date.fromisoformat(day["day"]).toordinal()
            usage.recall(ordinal, day["octets"], day["seconds"], now)
        account = Account(
            id=account_id,
            profile=row["profile"],
            usage=usage,
            first_used_at=row["first_used_at"],
            flushed_octets=row["total_octets"],
            flushed_s=row["total_s"],
            card_id=row["newest_id"],
            move_day=row["move_day"],
            move_count=row["move_count"],
            last_session_id=row["last_session_id"],
            extra_valid_s=row["extra_valid_s"],
        )
        if row["has_credit"]:
            self._load_credits(account, now)
        for found in devices:
            device = account.devices[found["mac"]] = Device(
                mac=found["mac"],
                is_remembered=bool(found["is_remembered"]),
                gateway_id=found["gateway_id"],
                session_id=found["session_id"],
                granted_octets=found["granted_octets"],
                granted_s=found["granted_s"],
                granted_at=found["granted_at"],
                heard_s=self._elapsed_s(),
            )
            if device.session_id is not None:
                self.granted(account, device)
        self._accounts[account_id] = account
        self._cards_of_account[account_id] = []
        self._make_room()
        return account

    def _make_room(self) -> None:
        """When there are more than `kept` accounts, drop an eighth of them, the longest unused
        first."""
        if len(self._accounts) <= self._kept:
            return
        excess = len(self._accounts) - self._kept + self._kept // 8
        newest = next(reversed(self._accounts))
        journaled = self._store.journal.account_ids()
        for account_id, account in list(self._accounts.items()):
            if excess <= 0:
                return
            if account_id == newest or account.sessions or account_id in self._in_flight:
                continue
            if account_id in journaled:
                continue
            if account in self._dirty_accounts:
                continue
            if any((account_id, mac) in self._dirty_devices for mac in account.devices):
                continue
            self._drop(account_id)
            excess -= 1

    def _drop(self, account_id: int) -> None:
        for mac in self._accounts[account_id].devices:
            self._unstarted.pop((account_id, mac), None)
        del self._accounts[account_id]
        for card, code_hash in self._cards_of_account.pop(account_id):
            self._cards.pop(card.id, None)
            self._card_by_serial.pop(card.serial, None)
            self._card_by_hash.pop(code_hash, None)

    def forget_card(self, account_id: int) -> None:
        """Read an account's cards anew at the next use, after people changed them."""
        account = self._accounts.get(account_id)
        if account is None:
            return
        for card, code_hash in self._cards_of_account[account_id]:
            self._cards.pop(card.id, None)
            self._card_by_serial.pop(card.serial, None)
            self._card_by_hash.pop(code_hash, None)
        self._cards_of_account[account_id] = []
        newest = self._store.current_voucher(account_id)
        if newest is not None:
            account.card_id = newest["id"]

    def forget_account(self, account_id: int) -> None:
        """Drop an account that has no open session, and who used it; what of it was not written
        is not written any more."""
        account = self._accounts.get(account_id)
        if account is None:
            return
        for mac in account.devices:
            self._account_of_mac.pop(mac, None)
            self._dirty_devices.pop((account_id, mac), None)
        self._dirty_accounts.discard(account)
        self._drop(account_id)

    def _load_credits(self, account: Account, now: int) -> None:
        account.usage.set_credits(
            (
                (date.fromisoformat(row["day"]).toordinal(), row["octets"], row["seconds"])
                for row in self._store.account_credits(account.id)
            ),
            now,
        )

    def refresh(self, account_id: int, now: int) -> None:
        """Take in what people changed on disk: top-ups, validity, and at the next use the cards.

        Read back rather than added here, for the account may have been dropped and loaded again
        while the change was being written.
        """
        account = self._accounts.get(account_id)
        if account is None:
            return
        self.forget_card(account_id)
        row = self._store.current_voucher(account_id)
        if row is not None:
            account.extra_valid_s = row["extra_valid_s"]
            self._load_credits(account, now)

    def used(self, account: Account) -> None:
        """Note that an account is in use, so that it is not the first to be dropped."""
        self._accounts.move_to_end(account.id)

    # -- changing --------------------------------------------------------------------------

    def changed(self, account: Account) -> None:
        """Write the account's row with the next commit."""
        self._dirty_accounts.add(account)

    def first_use(self, account: Account, now: int) -> None:
        """Start validity, and let the sealed copy of the code go with the same commit."""
        account.first_used_at = now
        self._dirty_accounts.add(account)
        self._first_used.append((account.id,))

    def device_changed(self, account: Account, device: Device) -> None:
        """Write a phone's row with the next commit."""
        self._dirty_devices[(account.id, device.mac)] = device

    def came_with(self, account: Account, device: Device) -> None:
        """A phone uses this account now: it is the one the phone may come back with."""
        self._remember(device.mac, account.id, device.is_remembered)

    def granted(self, account: Account, device: Device) -> None:
        """A phone holds a grant whose session has not been heard of yet."""
        self._unstarted[(account.id, device.mac)] = (account, device)

    def unstarted(self) -> list[tuple[Account, Device]]:
        """Phones whose grant has led to no session yet, with their accounts."""
        return [
            (account, device)
            for account, device in self._unstarted.values()
            if device.session_id is not None and device.session_id not in account.sessions
        ]

    def release_unstarted(self, interim_of: Callable[[str], int]) -> int:
        """Let go of grants that led to no session within three interims; return how many.

        While the node runs: after a power cut they count anew, since nobody listened meanwhile.
        """
        released = 0
        elapsed_s = self._elapsed_s()
        for key, (account, device) in list(self._unstarted.items()):
            if device.session_id is None or device.session_id in account.sessions:
                del self._unstarted[key]
            elif elapsed_s - device.heard_s > SILENT_INTERIMS * interim_of(account.profile):
                del self._unstarted[key]
                self.release(account, device.session_id)
                released += 1
        return released

    def release(self, account: Account, session_id: int) -> None:
        """Let go of the grant that a session held."""
        for device in account.devices.values():
            if device.session_id == session_id:
                device.session_id = None
                device.granted_octets = device.granted_s = None
                self._dirty_devices[(account.id, device.mac)] = device

    def forget_phone(self, account: Account, mac: str) -> None:
        """Make a phone type its code again at the next login."""
        device = account.devices.get(mac)
        if device is not None and device.is_remembered:
            device.is_remembered = False
            self._dirty_devices[(account.id, mac)] = device
            known = self._account_of_mac.get(mac)
            if known is None or known[0] == account.id:
                self._remember(mac, account.id, False)

    def forget_phones_before(self, at: int) -> None:
        """Drop phones that hold nothing and have not logged in since a moment."""
        for account in self._accounts.values():
            for device in list(account.devices.values()):
                if device.granted_at < at and device.session_id is None:
                    del account.devices[device.mac]
                    self._account_of_mac.pop(device.mac, None)

    def _remember(self, mac: str, account_id: int, is_remembered: bool) -> None:
        self._account_of_mac[mac] = (account_id, is_remembered)
        self._account_of_mac.move_to_end(mac)
        if len(self._account_of_mac) > self._kept:
            self._account_of_mac.popitem(last=False)

    def flush(self, account: Account, session: Session) -> None:
        """Move what a session has pending into the day totals, with the next commit."""
        if session.pending_octets or session.pending_s:
            day = date.fromordinal(session.pending_day).isoformat()
            self._usage.append((account.id, day, session.pending_octets, session.pending_s))
            of_site = self._site_usage.setdefault((session.site_id, day), [0, 0])
            of_site[0] += session.pending_octets
            of_site[1] += session.pending_s
            account.flushed_octets += session.pending_octets
            account.flushed_s += session.pending_s
            session.pending_octets = session.pending_s = 0
            self._dirty_accounts.add(account)
        session.pending_day = 0

    # -- the group commit ------------------------------------------------------------------

    def collect(self, batch: Batch) -> Callable[[bool], None]:
        """Put everything unwritten into a batch; call the result with whether it was committed."""
        accounts, devices = self._dirty_accounts, self._dirty_devices
        usage, first_used = self._usage, self._first_used
        site_usage, self._site_usage = self._site_usage, {}
        self._dirty_accounts, self._dirty_devices = set(), {}
        self._usage, self._first_used = [], []
        self._in_flight = {a.id for a in accounts} | {account_id for account_id, _ in devices}
        batch.usage = usage
        batch.site_usage = [
            (site_id, day, amounts[0], amounts[1]) for (site_id, day), amounts in site_usage.items()
        ]
        batch.used_vouchers = first_used
        batch.accounts = [
            (
                *(a.first_used_at, a.flushed_octets, a.flushed_s, a.move_day, a.move_count),
                *(a.last_session_id, a.id),
            )
            for a in accounts
        ]
        batch.devices = [
            (
                *(account_id, d.mac, d.is_remembered, d.gateway_id, d.session_id),
                *(d.granted_octets, d.granted_s, d.granted_at),
            )
            for (account_id, _), d in devices.items()
        ]

        def settle(is_committed: bool) -> None:
            self._in_flight = set()
            if is_committed:
                return
            self._dirty_accounts |= accounts
            self._dirty_devices = {**devices, **self._dirty_devices}
            self._usage = usage + self._usage
            for key, (octets, seconds) in site_usage.items():
                of_site = self._site_usage.setdefault(key, [0, 0])
                of_site[0] += octets
                of_site[1] += seconds
            self._first_used = first_used + self._first_used

        return settle
