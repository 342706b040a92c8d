"""Proof of rows: what the hub's tables tell, made anew from the records it has cosigned.

Each record is taken apart again and met with its row, and the sums are added up again. Where
records were forgotten their sums remain: the stored sums then have to be the same or more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from portal.domain.ledger import DayTotal, Flag, Kind, LedgerError, Record, Usage, decode
from portal.hub.forgetting import zone_of
from portal.hub.rollups import NOBODY_OPEN, Sums, Told, add_to, day_and_month, minutes_after
from portal.hub.usage import MOST_OCTETS, MOST_S, erased_places, event_text, told_name
from portal.store.db.either import Row
from portal.store.hub_ledger import HubHead, HubLedgerStore, octets
from portal.store.hub_usage import HubUsageStore

_AT_ONCE = 5_000
_DAY_OF_1970 = 719_163
_USERS = 1
"""Place of the users in the figures of a day or month, behind the sessions."""
Figures = tuple[Any, ...]
Stored = Mapping[tuple[Any, ...], Figures]


class RowFault(Exception):
    """The first row that is not what the records say: one plain sentence."""


@dataclass(slots=True)
class _Made:
    """What follows from the records of a node."""

    sums: Sums = field(default_factory=Sums)
    names: dict[tuple[str, int], tuple[str, str, str]] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    """Sites whose zone has changed: their hours were cut at another midnight."""
    totals: dict[tuple[Any, ...], Figures] = field(default_factory=dict)
    sessions: int = 0
    events: int = 0
    absent: set[tuple[int, int]] = field(default_factory=set)
    """(epoch, seq) of which only the leaf is left though retention was not there yet."""
    erased: set[tuple[int, int]] = field(default_factory=set)


class RowsProof:
    """Meets the rows of a node with its records, which are proven before."""

    def __init__(self, ledger: HubLedgerStore, usage: HubUsageStore):
        self._ledger = ledger
        self._usage = usage
        self._database = usage.database

    async def check(self, node_id: str, heads: Sequence[HubHead], first_day: int) -> None:
        """Raises RowFault. `first_day`: sums from then on have all of their records."""
        made = _Made()
        try:
            for head in heads:
                for first in range(0, head.size, _AT_ONCE):
                    await self._meet(made, head, first, min(head.size, first + _AT_ONCE))
            await self._meet_the_rest(made, node_id)
            is_pruned = any(head.pruned_size for head in heads)
            await self._meet_sums(made, node_id, first_day, is_pruned)
        except (TypeError, ValueError, OverflowError) as error:
            # SQLite keeps text in a column of numbers, where somebody put it there by hand.
            raise RowFault(f"What is stored is not of its kind ({error}).") from error

    # --- rows of records

    async def _meet(self, made: _Made, head: HubHead, first: int, end: int) -> None:
        place = (self._database, head.node_id, head.epoch, first, end)
        sessions = {row["seq"]: row for row in await self._usage.sessions_between(*place)}
        events = {row["seq"]: row for row in await self._usage.events_between(*place)}
        kept = set()
        for row in await self._ledger.whole_records(self._database, head, first, end):
            seq, where = row["seq"], f"Epoch {head.epoch}: Record {row['seq']}"
            kept.add(seq)
            try:
                record = decode(octets(row["public"]))
            except LedgerError as error:
                raise RowFault(f"{where} cannot be read: {error}.") from error
            if (row["kind"], row["at"], row["site"]) != (record.kind, record.at, record.site):
                raise RowFault(f"{where} stands under another kind, time or site.")
            payload = record.payload
            if isinstance(payload, Usage):
                self._meet_usage(made, head.epoch, record, payload, sessions.get(seq), where)
            elif isinstance(payload, DayTotal):
                made.totals[record.site, payload.day] = (
                    *(head.epoch, seq, payload.sessions, payload.users, payload.input_octets),
                    *(payload.output_octets, payload.seconds, payload.peak),
                )
            else:
                _meet_event(made, record, payload, events.get(seq), where)
        made.absent |= {
            (head.epoch, seq) for seq in range(max(first, head.pruned_size), end) if seq not in kept
        }

    def _meet_usage(
        self,
        made: _Made,
        epoch: int,
        record: Record,
        usage: Usage,
        row: Row | None,
        where: str,
    ) -> None:
        if row is None or not _is_told(record, usage, row):
            raise RowFault(f"{where}: its session row is not what it says.")
        zone = zone_of(made.names.get(("site", record.site), ("", "", ""))[2])
        if type(row["day"]) is not int or abs(row["day"] - day_and_month(record.at, zone)[0]) > 1:
            raise RowFault(f"{where}: its session row stands under another day.")
        day = date.fromordinal(row["day"])
        is_session = bool(row["flags"] & Flag.FIRST)
        figures = (row["input_octets"], row["output_octets"], row["counted_s"])
        month = day.year * 12 + day.month - 1
        told = Told(epoch, record, usage, row["day"], month, is_session, *figures)
        add_to(made.sums, told, zone)
        made.sessions += 1

    async def _meet_the_rest(self, made: _Made, node_id: str) -> None:
        """Nothing may stand in the tables that no record says."""
        hidden = made.absent - made.erased
        if hidden:
            epoch, seq = min(hidden)
            raise RowFault(
                f"Epoch {epoch}: Record {seq} is gone before its time, and its box names it in no"
                " ERASURE record."
            )
        counts = await self._usage.counts(node_id)
        for name, count in (("session", made.sessions), ("event", made.events)):
            if counts[name] != count:
                raise RowFault(f"There are {counts[name]} {name} rows for {count} records.")
        stored = {
            (row["what"], row["number"]): (row["name"], row["code"], row["zone"])
            for row in await self._usage.names(self._database, node_id)
        }
        if stored != made.names:
            raise RowFault("The names of sites, gateways or profiles are not those of the records.")
        totals = {
            (row["site"], row["day"]): tuple(row[name] for name in _OF_TOTAL)
            for row in await self._usage.day_totals(node_id)
        }
        if totals != made.totals:
            raise RowFault("The day totals are not those of the records.")

    # --- sums

    async def _meet_sums(self, made: _Made, node_id: str, first_day: int, is_pruned: bool) -> None:
        sums, is_less = made.sums, bool(made.absent)
        rows = await self._usage.sums_of_node(node_id)
        first = date.fromordinal(first_day)
        first_month = first.year * 12 + first.month - 1
        user_days: dict[tuple[Any, ...], int] = {}
        for day, _, site, profile in sums.user_days:
            user_days[site, day, profile] = user_days.get((site, day, profile), 0) + 1
        user_months: dict[tuple[Any, ...], int] = {}
        for month, _, site in sums.user_months:
            user_months[month, site] = user_months.get((month, site), 0) + 1
        for name, from_, place, stored, added, users in (
            ("day", first_day, 1, _figures(rows["site_day"], _DAY), sums.days, user_days),
            (
                "month",
                first_month,
                0,
                _figures(rows["site_month"], _MONTH),
                sums.months,
                user_months,
            ),
        ):
            made_of = {
                key: (
                    *(each.sessions, users.get(key, 0)),
                    *(each.input_octets, each.output_octets, each.counted_s),
                )
                for key, each in added.items()
            }
            since = from_ if is_pruned else 0
            _compare(
                f"sums of a {name}",
                _since(stored, place, since),
                _since(made_of, place, since),
                is_less=is_less,
                not_before=(place, from_),
            )
        _compare(
            "users of days",
            _since(_figures(rows["user_day"], _USER_DAY), 0, first_day),
            {
                (day, user, site, profile): ()
                for day, user, site, profile in sums.user_days
                if day >= first_day
            },
            is_less=is_less,
        )
        _compare(
            "users of months",
            _since(_figures(rows["user_month"], _USER_MONTH), 0, first_month),
            {
                key: (each.sessions, each.octets, each.counted_s)
                for key, each in sums.user_months.items()
                if key[0] >= first_month
            },
            is_less=is_less,
        )
        self._meet_hours(made, rows["site_hour"], (first_day - _DAY_OF_1970 + 1) * 24, is_less)

    def _meet_hours(self, made: _Made, rows: Sequence[Row], first_hour: int, is_less: bool) -> None:
        stored: dict[tuple[Any, ...], Figures] = {}
        for row in rows:
            if row["hour"] >= first_hour and row["site"] not in made.moved:
                minutes = () if is_less else (octets(row["open_minutes"]),)
                figures = (row["sessions"], row["octets"], row["peak"], *minutes)
                stored[row["site"], row["hour"]] = figures
        expected: dict[tuple[Any, ...], Figures] = {}
        for (site, hour), each in made.sums.hours.items():
            if hour >= first_hour and site not in made.moved:
                open_minutes, peak = minutes_after(NOBODY_OPEN, each.changes)
                minutes = () if is_less else (open_minutes,)
                expected[site, hour] = (each.sessions, each.octets, peak, *minutes)
        _compare("sums of an hour", stored, expected, is_less=is_less)


def _meet_event(
    made: _Made, record: Record, payload: Mapping[str, Any], row: Row | None, where: str
) -> None:
    found = None if row is None else (row["kind"], row["at"], row["site"], row["payload"])
    if found != (record.kind, record.at, record.site, event_text(payload)):
        raise RowFault(f"{where}: its row among the events is not what it says.")
    made.events += 1
    if record.kind == Kind.ERASURE:
        made.erased |= erased_places(payload)
    elif record.kind == Kind.CONFIG:
        named = told_name(payload, made.names)
        if named is not None:
            (what, number), told = named
            before = made.names.get((what, number))
            if what == "site" and before is not None and before[2] != told[2]:
                made.moved.add(number)
            made.names[what, number] = told


def _is_told(record: Record, usage: Usage, row: Row) -> bool:
    """Whether a row has the figures of a record; less where it tells something again."""
    same = (
        *(record.site, usage.pseudonym, usage.gateway, usage.profile, usage.duration_s),
        *(record.at - usage.started_ago_s, record.at, usage.cause, int(record.clock_quality)),
        usage.flags & ~Flag.FIRST,
    )
    stored = (
        *(row["site"], octets(row["pseudonym"]), row["gateway"], row["profile"], row["duration_s"]),
        *(row["started_at"], row["at"], row["cause"], row["clock_quality"]),
        row["flags"] & ~Flag.FIRST,
    )
    if same != stored:
        return False
    full = (
        min(usage.input_octets, MOST_OCTETS),
        min(usage.output_octets, MOST_OCTETS),
        min(usage.counted_s, MOST_S),
    )
    figures = (row["input_octets"], row["output_octets"], row["counted_s"])
    if usage.flags & Flag.REPLAYED:
        return all(0 <= less <= most for less, most in zip(figures, full, strict=True))
    return figures == full and row["flags"] == usage.flags


# --- comparing

_OF_TOTAL = (
    "epoch",
    "seq",
    "sessions",
    "users",
    "input_octets",
    "output_octets",
    "counted_s",
    "peak",
)
_SUMS = ("sessions", "users", "input_octets", "output_octets", "counted_s")
_DAY = (("site", "day", "profile"), _SUMS)
_MONTH = (("month", "site"), _SUMS)
_USER_DAY = (("day", "pseudonym", "site", "profile"), ())
_USER_MONTH = (("month", "pseudonym", "site"), ("sessions", "octets", "counted_s"))


def _figures(
    rows: Sequence[Row], columns: tuple[Sequence[str], Sequence[str]]
) -> dict[tuple[Any, ...], Figures]:
    """Rows by their keys; octets as such on either database."""
    keys, values = columns
    return {
        tuple(octets(row[key]) if key == "pseudonym" else row[key] for key in keys): tuple(
            row[value] for value in values
        )
        for row in rows
    }


def _since(
    figures: Mapping[tuple[Any, ...], Figures], place: int, first: int
) -> dict[tuple[Any, ...], Figures]:
    return {key: value for key, value in figures.items() if key[place] >= first}


def _compare(
    what: str,
    stored: Stored,
    made: Stored,
    *,
    is_less: bool,
    not_before: tuple[int, int] | None = None,
) -> None:
    """Raises RowFault for the first figures that differ; with `is_less` the stored may be more.

    `not_before` (place in the key, first): users of before are not compared, their rows are gone.
    """
    for key in sorted({*stored, *made}):
        has, should = stored.get(key), made.get(key)
        if not_before is not None and key[not_before[0]] < not_before[1]:
            has, should = _without_users(has), _without_users(should)
        if has == should or (is_less and should is None):
            continue
        if is_less and has is not None and should is not None:
            if all(more >= least for more, least in zip(has, should, strict=True)):
                continue
        place = ", ".join(each.hex() if isinstance(each, bytes) else str(each) for each in key)
        raise RowFault(f"The {what} ({place}) are not those of its records.")


def _without_users(figures: Figures | None) -> Figures | None:
    return None if figures is None else (*figures[:_USERS], *figures[_USERS + 1 :])
