"""Forgetting single records at the hub, for retention and for a person's erasure."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from portal.domain.ledger import Flag, Kind, decode
from portal.hub.rollups import NOBODY, DaySum, Sums, UserSum, day_and_month, month_of_day
from portal.store.db.either import HubTransaction, Row
from portal.store.hub_ledger import HubLedgerStore
from portal.store.hub_usage import HubUsageStore

DEFAULT_ZONE = ZoneInfo("Asia/Jakarta")
"""Of a site whose zone nobody told yet; half of Indonesia's villages are in it."""

_MONTH_DAYS = 32
"""A pseudonym is for one month; a zone can shift its ends by a day."""
FORGOTTEN = "forgotten"
"""The fact that says whether deleted rows may still stand in the database's files."""


def zone_of(name: str) -> ZoneInfo:
    """A zone by its name; the default for a name that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return DEFAULT_ZONE


async def forget(
    transaction: HubTransaction,
    ledger: HubLedgerStore,
    usage: HubUsageStore,
    node_id: str,
    rows: Sequence[Row],
    zones: Mapping[int, ZoneInfo],
) -> None:
    """Replace records (`epoch, seq, public, c_loc`, in order) by their leaves, and delete what they
    were taken apart into."""
    sessions, events = [], []
    for row in rows:
        record = decode(bytes(row["public"]))
        if record.kind in (Kind.SESSION, Kind.SLICE):
            sessions.append(_place(row, zones))
        else:
            events.append((int(record.kind), record.at, row["epoch"], row["seq"]))
    await ledger.replace_by_leaves(transaction, node_id, rows)
    await usage.delete_sessions(transaction, node_id, sessions)
    await usage.delete_events(transaction, node_id, events)


async def forget_persons(
    transaction: HubTransaction,
    ledger: HubLedgerStore,
    usage: HubUsageStore,
    node_id: str,
    rows: Sequence[Row],
    zones: Mapping[int, ZoneInfo],
) -> None:
    """Forget usage records at a person's wish: the pseudonym goes with the last record that has it.

    The sums stay, and what they have of these records is kept apart (`forgotten_day`), so that sums
    and records can still be met. While a pseudonym has other records it goes on being counted once.
    """
    told = await usage.sessions_at(transaction, node_id, [_place(row, zones) for row in rows])
    await forget(transaction, ledger, usage, node_id, rows, zones)
    sums = Sums()
    users: dict[tuple[int, bytes, int], UserSum] = {}
    names: dict[bytes, tuple[int, int]] = {}
    for each in told:
        month = month_of_day(each["day"])
        for added in (
            sums.days.setdefault((each["site"], each["day"], each["profile"]), DaySum()),
            sums.months.setdefault((month, each["site"]), DaySum()),
        ):
            added.sessions += each["flags"] & Flag.FIRST
            added.input_octets += each["input_octets"]
            added.output_octets += each["output_octets"]
            added.counted_s += each["counted_s"]
        name = bytes(each["pseudonym"])
        theirs = users.setdefault((month, name, each["site"]), UserSum())
        theirs.sessions -= each["flags"] & Flag.FIRST
        theirs.octets -= each["input_octets"] + each["output_octets"]
        theirs.counted_s -= each["counted_s"]
        first, last = names.get(name, (each["day"], each["day"]))
        names[name] = min(first, each["day"]), max(last, each["day"])
    names.pop(NOBODY, None)
    await usage.add_user_months(
        transaction,
        node_id,
        [(*key, *astuple(each)) for key, each in sorted(users.items()) if key[1] != NOBODY],
    )
    for name, (first, last) in names.items():
        days = max(1, first - _MONTH_DAYS), last + _MONTH_DAYS
        if await usage.has_sessions(transaction, node_id, name, days):
            continue
        in_days, in_months = await usage.delete_user(transaction, node_id, name, days)
        for day in in_days:
            sums.days.setdefault(day, DaySum()).users += 1
        for month_and_site in in_months:
            sums.months.setdefault(month_and_site, DaySum()).users += 1
    await usage.add_days(transaction, _rows(node_id, sums.days), table="forgotten_day")
    await usage.add_site_months(transaction, _rows(node_id, sums.months), table="forgotten_month")


def _rows(
    node_id: str, sums: Mapping[tuple[int, int, int], DaySum] | Mapping[tuple[int, int], DaySum]
) -> list[tuple[Any, ...]]:
    return [(node_id, *key, *astuple(each)) for key, each in sorted(sums.items())]


def _place(row: Row, zones: Mapping[int, ZoneInfo]) -> tuple[int, int, int]:
    """(day, epoch, seq) of a usage record's session row."""
    record = decode(bytes(row["public"]))
    day, _ = day_and_month(record.at, zones.get(record.site, DEFAULT_ZONE))
    return day, row["epoch"], row["seq"]
