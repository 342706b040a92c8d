"""Usage at the hub: verified records taken apart and rolled up, in one transaction."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from portal.domain.ledger import DayTotal, Flag, Kind, LedgerError, Record, Usage, decode
from portal.hub.alarms import Alarm, Alarms
from portal.hub.forgetting import FORGOTTEN, forget_persons, zone_of
from portal.hub.rollups import NOBODY_OPEN, Sums, Told, day_and_month, minutes_after, sums_of
from portal.store.db.either import HubTransaction
from portal.store.hub import HubStore
from portal.store.hub_alarms import Evidence
from portal.store.hub_ledger import HubHead, HubLedgerStore
from portal.store.hub_usage import HubUsageStore

MOST_OCTETS = 10**13
MOST_S = 10**7
"""More in one record is nonsense; sums of many must fit a BIGINT."""
_LONGEST_DAYS = 3
"""A session has its records within so many days: Session-Timeout is at most one."""


class UsageKeeper:
    """Keeps what records say."""

    def __init__(
        self, store: HubUsageStore, ledger: HubLedgerStore, nodes: HubStore, alarms: Alarms
    ):
        self._store = store
        self._ledger = ledger
        self._nodes = nodes
        self._alarms = alarms

    async def take(
        self, transaction: HubTransaction, head: HubHead, records: Sequence[Record], now: int
    ) -> None:
        """Take new records of a node, in the transaction that stores them."""
        node_id, epoch = head.node_id, head.epoch
        names = {
            (row["what"], row["number"]): (row["name"], row["code"], row["zone"])
            for row in await self._store.names(transaction, node_id)
        }
        zones: dict[int, ZoneInfo] = {}

        def zone(site: int) -> ZoneInfo:
            if site not in zones:
                zones[site] = zone_of(names.get(("site", site), ("", "", ""))[2])
            return zones[site]

        told: list[Told] = []
        events: list[tuple[Any, ...]] = []
        day_totals: list[tuple[Any, ...]] = []
        erased: set[tuple[int, int]] = set()
        for record in records:
            payload = record.payload
            if isinstance(payload, Usage):
                told.append(await self._told(transaction, head, record, payload, zone, told))
            elif isinstance(payload, DayTotal):
                day_totals.append(
                    (
                        *(node_id, record.site, payload.day, epoch, record.seq, payload.sessions),
                        *(payload.users, payload.input_octets, payload.output_octets),
                        *(payload.seconds, payload.peak),
                    )
                )
            else:
                events.append(
                    (
                        *(node_id, int(record.kind), record.at, epoch, record.seq, record.site),
                        event_text(payload),
                    )
                )
                if record.kind == Kind.CONFIG:
                    changed = await self._name(transaction, head, payload, names, now)
                    zones.pop(changed, None)
                elif record.kind == Kind.ERASURE:
                    erased |= erased_places(payload)
        await self._store.add_sessions(transaction, [_row(node_id, each) for each in told])
        await self._store.add_day_totals(transaction, day_totals)
        await self._store.add_events(transaction, events)
        if told:
            await self._add(transaction, node_id, sums_of(told, zone))
        if erased:
            # Last, for what is erased may have come with this very batch.
            await self._erase(transaction, head, erased, zone)

    async def _told(
        self,
        transaction: HubTransaction,
        head: HubHead,
        record: Record,
        usage: Usage,
        zone: Callable[[int], ZoneInfo],
        batch: Sequence[Told],
    ) -> Told:
        day, month = day_and_month(record.at, zone(record.site))
        figures, is_session = _figures(usage), bool(usage.flags & Flag.FIRST)
        if usage.flags & Flag.REPLAYED and head.parent_epoch is not None:
            figures, is_session = await self._beyond(transaction, head, record, usage, day, batch)
        return Told(head.epoch, record, usage, day, month, is_session, *figures)

    async def _beyond(
        self,
        transaction: HubTransaction,
        head: HubHead,
        record: Record,
        usage: Usage,
        day: int,
        batch: Sequence[Told],
    ) -> tuple[tuple[int, int, int], bool]:
        """What a record that may tell something again tells beyond what the hub had heard.

        The box forgot what it had told from `_known` on. Of what began at a gateway in one second
        the hub counts the larger of the two stories. A pseudonym tells no session apart here: it
        is another after the month's end, and after a disk that had forgotten it. So several
        sessions of one second are one story, and never count for more than they were.
        """
        started_at = record.at - usage.started_ago_s
        rows = await self._store.of_session(
            transaction,
            head.node_id,
            (day - _LONGEST_DAYS, day + _LONGEST_DAYS),
            usage.gateway,
            started_at,
        )
        since = await self._known(transaction, head)
        heard = [0, 0, 0, 0]
        for row in rows:
            if since <= (row["epoch"], row["seq"]) < (head.epoch, 0):
                _add_to(heard, row["input_octets"], row["output_octets"], row["counted_s"])
                heard[3] += bool(row["flags"] & Flag.FIRST)
        again = [0, 0, 0, 0]
        for earlier in await self._again(transaction, head, rows, usage, started_at, batch):
            _add_to(again, *_figures(earlier))
            again[3] += bool(earlier.flags & Flag.FIRST)
        told = (*_figures(usage), int(bool(usage.flags & Flag.FIRST)))
        new = [
            max(0, before + more - known) - max(0, before - known)
            for before, more, known in zip(again, told, heard, strict=True)
        ]
        return (new[0], new[1], new[2]), bool(new[3])

    async def _known(self, transaction: HubTransaction, head: HubHead) -> tuple[int, int]:
        """(epoch, record) from which on the box has forgotten what it told before this epoch."""
        parent = (head.parent_epoch or 0, head.parent_size or 0)
        for row in await self._ledger.records(transaction, head.node_id, head.epoch, 0, 1):
            opening = decode(bytes(row["public"])).payload
            known = opening.get("known") if isinstance(opening, Mapping) else None
            if isinstance(known, list) and [type(each) for each in known] == [int, int]:
                return min(parent, (known[0], known[1]))
        return parent

    async def _again(
        self,
        transaction: HubTransaction,
        head: HubHead,
        rows: Sequence[Any],
        usage: Usage,
        started_at: int,
        batch: Sequence[Told],
    ) -> list[Usage]:
        """What this epoch has told again of that gateway and second so far, as told."""
        places = [
            (row["epoch"], row["seq"])
            for row in rows
            if row["epoch"] == head.epoch and row["flags"] & Flag.REPLAYED
        ]
        found = [
            decode(bytes(row["public"])).payload
            for row in await self._ledger.records_at(transaction, head.node_id, places)
        ]
        found += [
            each.usage
            for each in batch
            if each.usage.flags & Flag.REPLAYED
            and each.usage.gateway == usage.gateway
            and each.record.at - each.usage.started_ago_s == started_at
        ]
        return [each for each in found if isinstance(each, Usage)]

    async def _add(self, transaction: HubTransaction, node_id: str, sums: Sums) -> None:
        """Add what a batch adds."""
        new_days = await self._store.new_user_days(transaction, node_id, sums.user_days)
        for day, _, site, profile in new_days:
            sums.days[site, day, profile].users += 1
        await self._store.add_days(
            transaction,
            [
                (
                    *(node_id, *key, each.sessions, each.users),
                    *(each.input_octets, each.output_octets, each.counted_s),
                )
                for key, each in sorted(sums.days.items())
            ],
        )
        new_months = await self._store.add_user_months(
            transaction,
            node_id,
            [
                (*key, each.sessions, each.octets, each.counted_s)
                for key, each in sorted(sums.user_months.items())
            ],
        )
        for month, _, site in new_months:
            sums.months[month, site].users += 1
        await self._store.add_site_months(
            transaction,
            [
                (
                    *(node_id, *key, each.sessions, each.users),
                    *(each.input_octets, each.output_octets, each.counted_s),
                )
                for key, each in sorted(sums.months.items())
            ],
        )
        await self._add_hours(transaction, node_id, sums)

    async def _add_hours(self, transaction: HubTransaction, node_id: str, sums: Sums) -> None:
        by_site: dict[int, list[int]] = {}
        for site, hour in sums.hours:
            by_site.setdefault(site, []).append(hour)
        rows = []
        for site, hours in sorted(by_site.items()):
            # A late record may lie far from the others: what lies between is not read.
            for first, last in _spans(sorted(hours)):
                known = {
                    row["hour"]: bytes(row["open_minutes"])
                    for row in await self._store.hours(transaction, node_id, site, first, last)
                }
                for hour in range(first, last + 1):
                    each = sums.hours.get((site, hour))
                    if each is not None:
                        stored = known.get(hour, NOBODY_OPEN)
                        minutes, peak = minutes_after(stored, each.changes)
                        rows.append(
                            (node_id, site, hour, each.sessions, each.octets, peak, minutes)
                        )
        await self._store.set_hours(transaction, rows)

    async def _name(
        self,
        transaction: HubTransaction,
        head: HubHead,
        payload: Mapping[str, Any],
        names: dict[tuple[str, int], tuple[str, str, str]],
        now: int,
    ) -> int:
        """Keep what a number stands for; the number of a site that has changed, else -1."""
        told = told_name(payload, names)
        if told is None:
            return -1
        before, (what, number) = names.get(told[0], ("", "", "")), told[0]
        name, code, zone = names[told[0]] = told[1]
        await self._store.set_name(transaction, head.node_id, what, number, name, code, zone)
        if what != "site":
            return -1
        if code and code != before[1]:
            await self._claim(transaction, head, code, now)
        return number

    async def _claim(self, transaction: HubTransaction, head: HubHead, code: str, now: int) -> None:
        """A node says that it reports for a site: fitting, when the office gave it that site."""
        site = await self._nodes.site(transaction, code)
        if site is not None and site["node_id"] == head.node_id:
            return
        holder = "nobody's" if site is None or site["node_id"] is None else "another node's"
        await self._alarms.raise_alarm(
            transaction,
            head.node_id,
            Alarm.SITE_CLAIMED,
            code,
            f"The node reports for the site {code}, which is {holder} at this hub.",
            [Evidence("node", "claim", f"epoch {head.epoch}".encode())],
            now,
        )

    async def _erase(
        self,
        transaction: HubTransaction,
        head: HubHead,
        places: set[tuple[int, int]],
        zone: Callable[[int], ZoneInfo],
    ) -> None:
        """Forget usage records that the node names as erased, `"records": [[epoch, seq], ...]`;
        their leaves stay, and the sums. A pseudonym goes with its last record."""
        rows = await self._ledger.records_at(transaction, head.node_id, sorted(places))
        usage = [row for row in rows if _is_usage(bytes(row["public"]))]
        zones = {site: zone(site) for site in {_site(bytes(row["public"])) for row in usage}}
        await forget_persons(transaction, self._ledger, self._store, head.node_id, usage, zones)
        await self._nodes.set_facts(transaction, [(FORGOTTEN, "1")])


def _figures(usage: Usage) -> tuple[int, int, int]:
    """Octets in and out and seconds of a record, nonsense cut off."""
    return (
        min(usage.input_octets, MOST_OCTETS),
        min(usage.output_octets, MOST_OCTETS),
        min(usage.counted_s, MOST_S),
    )


def _add_to(sums: list[int], *figures: int) -> None:
    for place, figure in enumerate(figures):
        sums[place] += figure


def event_text(payload: Mapping[str, Any]) -> str:
    """The payload of a record as it is stored."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    # PostgreSQL's text takes no NUL.
    return text.replace("\\u0000", "\ufffd")


def told_name(
    payload: Mapping[str, Any], names: Mapping[tuple[str, int], tuple[str, str, str]]
) -> tuple[tuple[str, int], tuple[str, str, str]] | None:
    """What a CONFIG record says a number stands for: (what, number) and (name, code, zone); what it
    leaves out is as before in `names`."""
    what, number = payload.get("what"), payload.get("number")
    if not isinstance(what, str) or not isinstance(number, int) or number < 0:
        return None
    what = _text(what)
    before = names.get((what, number), ("", "", ""))
    name, code, zone = (
        _text(payload.get(key, old))
        for key, old in zip(("name", "code", "zone"), before, strict=True)
    )
    return (what, number), (name, code, zone)


def erased_places(payload: Mapping[str, Any]) -> set[tuple[int, int]]:
    """The (epoch, seq) of records that an ERASURE record names."""
    named = payload.get("records")
    return {
        (each[0], each[1])
        for each in (named if isinstance(named, list) else ())
        if isinstance(each, list) and len(each) == 2 and all(isinstance(n, int) for n in each)
    }


def _is_usage(public: bytes) -> bool:
    try:
        return decode(public).kind in (Kind.SESSION, Kind.SLICE)
    except LedgerError:
        return False


def _site(public: bytes) -> int:
    return decode(public).site


def _text(value: object) -> str:
    return value.replace("\x00", "\ufffd")[:200] if isinstance(value, str) else ""


def _spans(hours: Sequence[int]) -> list[tuple[int, int]]:
    """Hours in order as (first, last) of spans whose gaps are short."""
    spans: list[tuple[int, int]] = []
    for hour in hours:
        if spans and hour - spans[-1][1] <= 48:
            spans[-1] = (spans[-1][0], hour)
        else:
            spans.append((hour, hour))
    return spans


def _row(node_id: str, each: Told) -> tuple[Any, ...]:
    """A row of `session_record`."""
    record, usage = each.record, each.usage
    flags = usage.flags & ~Flag.FIRST | (Flag.FIRST if each.is_session else 0)
    return (
        *(node_id, each.day, each.epoch, record.seq, record.site, usage.pseudonym),
        *(usage.gateway, usage.profile, record.at - usage.started_ago_s, record.at),
        *(usage.duration_s, each.counted_s, each.input_octets, each.output_octets),
        *(usage.cause, int(flags), int(record.clock_quality)),
    )
