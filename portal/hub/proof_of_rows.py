"""Proof of rows: what the hub's tables tell, made anew from the records it has cosigned.

Each record is taken apart again and met with its row, and the sums are added up again. Where
records were forgotten their sums remain: for a person's erasure what they had is kept apart and is
added, and the sums of time that is over are not looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from operator import add, ge
from typing import Any

from portal.domain.ledger import DayTotal, Flag, Kind, LedgerError, Record, Usage, decode
from portal.hub.forgetting import zone_of
from portal.hub.rollups import (
    NOBODY_OPEN,
    DaySum,
    Sums,
    Told,
    add_to,
    day_and_month,
    minutes_after,
    month_of_day,
)
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
        is_session = bool(row["flags"] & Flag.FIRST)
        figures = (row["input_octets"], row["output_octets"], row["counted_s"])
        month = month_of_day(row["day"])
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
        rows = await self._usage.sums_of_node(node_id)
        first_month = month_of_day(first_day)
        users = _Users(made, rows)
        users.meet(first_day, first_month)
        for name, from_, place, table, added, counted in (
            ("day", first_day, 1, _DAY, made.sums.days, users.of_days),
            ("month", first_month, 0, _MONTH, made.sums.months, users.of_months),
        ):
            made_of = _figures(rows[f"forgotten_{name}"], table)
            for key in {*added, *counted}:
                each, forgotten = added.get(key, DaySum()), made_of.get(key, (0,) * len(_SUMS))
                whole = astuple(replace(each, users=counted.get(key, 0)))
                made_of[key] = tuple(map(add, whole, forgotten))
            since = from_ if is_pruned else 0
            _compare(
                f"sums of a {name}",
                _since(_figures(rows[f"site_{name}"], table), place, since),
                _since(made_of, place, since),
                not_before=(place, from_),
            )
        self._meet_hours(made, rows, (first_day - _DAY_OF_1970 + 1) * 24)

    def _meet_hours(self, made: _Made, rows: Mapping[str, Sequence[Row]], first_hour: int) -> None:
        # Of what was forgotten no hour is known: there the hours of that day may have more.
        less = {
            (row["site"], row["day"] + more) for row in rows["forgotten_day"] for more in (-1, 0, 1)
        }

        def is_less(key: tuple[Any, ...]) -> bool:
            return (key[0], key[1] // 24 + _DAY_OF_1970) in less

        stored: dict[tuple[Any, ...], Figures] = {}
        for row in rows["site_hour"]:
            if row["hour"] >= first_hour and row["site"] not in made.moved:
                key = row["site"], row["hour"]
                minutes = () if is_less(key) else (octets(row["open_minutes"]),)
                stored[key] = (row["sessions"], row["octets"], row["peak"], *minutes)
        expected: dict[tuple[Any, ...], Figures] = {}
        for key, each in made.sums.hours.items():
            if key[1] >= first_hour and key[0] not in made.moved:
                open_minutes, peak = minutes_after(NOBODY_OPEN, each.changes)
                minutes = () if is_less(key) else (open_minutes,)
                expected[key] = (each.sessions, each.octets, peak, *minutes)
        _compare("sums of an hour", stored, expected, is_less=is_less)


class _Users:
    """Who was counted as a user: whoever has records, at every day and month of theirs.

    While a person has a record left, the days and months of those that were erased stay theirs.
    """

    def __init__(self, made: _Made, rows: Mapping[str, Sequence[Row]]):
        self._made = made
        self._days = _figures(rows["user_day"], _USER_DAY)
        self._months = _figures(rows["user_month"], _USER_MONTH)
        self._forgotten = {
            *_figures(rows["forgotten_day"], _DAY),
            *_figures(rows["forgotten_month"], _MONTH),
        }
        self._living = {key[1] for key in made.sums.user_months}
        self.of_days: dict[tuple[Any, ...], int] = {}
        """By (site, day, profile), how many."""
        self.of_months: dict[tuple[Any, ...], int] = {}
        """By (month, site), how many."""

    def _is_kept(self, pseudonym: bytes, place: tuple[Any, ...]) -> bool:
        """Whether somebody may be counted at a place without a record of there."""
        return pseudonym in self._living and place in self._forgotten

    def meet(self, first_day: int, first_month: int) -> None:
        """Raises RowFault. Counts them, too."""
        sums = self._made.sums
        days: dict[tuple[Any, ...], Figures] = {
            key: () for key in self._days if self._is_kept(key[1], (key[2], key[0], key[3]))
        }
        days |= dict.fromkeys(sums.user_days, ())
        months: dict[tuple[Any, ...], Figures] = {
            key: (0, 0, 0) for key in self._months if self._is_kept(key[1], (key[0], key[2]))
        }
        months |= {
            key: (each.sessions, each.octets, each.counted_s)
            for key, each in sums.user_months.items()
        }
        for what, stored, made, since in (
            ("users of days", self._days, days, first_day),
            ("users of months", self._months, months, first_month),
        ):
            _compare(what, _since(stored, 0, since), _since(made, 0, since))
        for day, _, site, profile in {*self._days, *sums.user_days}:
            key: tuple[Any, ...] = site, day, profile
            self.of_days[key] = self.of_days.get(key, 0) + 1
        for month, _, site in {*self._months, *sums.user_months}:
            self.of_months[month, site] = self.of_months.get((month, site), 0) + 1


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
    is_less: Callable[[tuple[Any, ...]], bool] = lambda key: False,
    not_before: tuple[int, int] | None = None,
) -> None:
    """Raises RowFault for the first figures that differ; where `is_less` the stored may be more.

    `not_before` (place in the key, first): users of before are not compared, their rows are gone.
    """
    for key in sorted({*stored, *made}):
        has, should = stored.get(key), made.get(key)
        if not_before is not None and key[not_before[0]] < not_before[1]:
            has, should = _without_users(has), _without_users(should)
        if has == should:
            continue
        if has is not None and is_less(key):
            least = (0,) * len(has) if should is None else should
            if all(map(ge, has, least)):
                continue
        place = ", ".join(each.hex() if isinstance(each, bytes) else str(each) for each in key)
        raise RowFault(f"The {what} ({place}) are not those of its records.")


def _without_users(figures: Figures | None) -> Figures | None:
    return None if figures is None else (*figures[:_USERS], *figures[_USERS + 1 :])
