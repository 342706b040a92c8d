"""Review: what the office sees of its sites and their usage.

Everything here says until when its data goes. Figures and records of small groups are hidden from
reviewers (`small_groups`); a voucher's pseudonym is shown only to who gave a reason, and that is
written down.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

from portal.domain.hours import day_of, end_of_day, window_at
from portal.errors import DeskError
from portal.hub.rollups import NOBODY
from portal.hub.small_groups import SEES_ALL, Groups, groups_of, is_small
from portal.store.audit import Deed
from portal.store.db.either import Row
from portal.store.hub_office import OfficeStore
from portal.store.hub_review import ReviewStore

LONGEST_DAYS = 92
"""Of one look into the usage log: a quarter."""
_ONE_PERSON_MOST = 1_000
LATE_AFTER_S = 2 * 3_600
"""A box not heard for so long is late: four exchanges of the usual half hour."""
GONE_AFTER_S = 24 * 3_600
_BEFORE_ALL = 10**14
"""More than any epoch: where Few stands among the records of a day, newest first."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums of a site over a time."""

    users: int = 0
    """Cards that were used; over several days the sum of the days."""
    sessions: int = 0
    octets: int = 0
    seconds: int = 0
    is_small: bool = False
    """They are, or contain, the sums of a group that reviewers must not see."""

    def plus(self, row: Row) -> "Figures":
        """With a row of the sums by day."""
        users, sessions = int(row["users"]), int(row["sessions"])
        octets = int(row["input_octets"]) + int(row["output_octets"])
        return Figures(
            self.users + users,
            self.sessions + sessions,
            self.octets + octets,
            self.seconds + int(row["counted_s"]),
            self.is_small or is_small(users, is_used=sessions > 0 or octets > 0),
        )

    def is_hidden_from(self, role: str) -> bool:
        """Whether somebody of this role must not see them: too few people to hide among."""
        return self.is_small and role != SEES_ALL


@dataclass(frozen=True, slots=True)
class Place:
    """Where records of a site stand."""

    node_id: str
    number: int


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site as the office sees it now."""

    code: str
    name: str
    zone: ZoneInfo
    group: str
    power_window: str
    without_node: str
    node_id: str | None
    state: str
    """"none" (no box), "pending", "new" (never heard), "up", "late", "gone", "revoked"."""
    last_seen_at: int | None
    data_until_at: int | None
    """Of the newest record that has arrived: what the site did later is not known yet."""
    cosigned_size: int
    """Records that the hub has checked and signed for."""
    cosigned_at: int | None
    alarms: int
    today: Figures
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of the usage log."""

    site: str | None
    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Line:
    """A record of the usage log."""

    node_id: str
    day: int
    epoch: int
    seq: int
    site: str
    """The site's code; empty for one that no node has named yet."""
    started_at: int
    ended_at: int
    duration_s: int
    counted_s: int
    input_octets: int
    output_octets: int
    gateway: str
    """Empty for who may not know: few phones are at one gateway."""
    profile: str
    """Empty where it would single out few cards."""
    cause: int
    flags: int
    clock_quality: int

    @property
    def key(self) -> str:
        """What the next page begins below."""
        return f"{self.day}.{self.node_id}.{self.epoch}.{self.seq}"


@dataclass(frozen=True, slots=True)
class Few:
    """In the place of a small group's records: that there are some."""

    node_id: str
    day: int
    number: int
    """The node's number of the site."""
    site: str

    @property
    def key(self) -> str:
        """What the next page begins below: before all records of the day."""
        return f"{self.day}.{self.node_id}.{_BEFORE_ALL}.{self.number}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the usage log."""

    day: int
    node_id: str
    epoch: int
    seq: int


def cursor(text: str) -> Cursor | None:
    """What `Line.key` wrote; None for anything else."""
    parts = text.split(".")
    if len(text) > 80 or len(parts) != 4 or not parts[1].isalnum():
        return None
    numbers = (parts[0], parts[2], parts[3])
    if not all(each.isascii() and each.isdecimal() and len(each) < 16 for each in numbers):
        return None
    return Cursor(int(parts[0]), parts[1], int(parts[2]), int(parts[3]))


class Review:
    """Reads for the office, and the one look that is written down."""

    def __init__(self, store: ReviewStore, office: OfficeStore, *, now: Callable[[], int]) -> None:
        self._store = store
        self._office = office
        self._now = now

    async def sites(self) -> list[SiteView]:
        """All sites, by name."""
        now = self._now()
        rows = await self._store.sites()
        places: dict[str, list[Place]] = {}
        for row in await self._store.places():
            place = Place(row["node_id"], int(row["number"]))
            places.setdefault(row["code"], []).append(place)
        heads = {row["node_id"]: row for row in await self._store.heads()}
        alarms = {row["node_id"]: int(row["count"]) for row in await self._store.open_alarms()}
        today = {row["code"]: day_of(now, ZoneInfo(row["zone"])).toordinal() for row in rows}
        sums = {
            (row["node_id"], int(row["site"]), int(row["day"])): row
            for row in (
                await self._store.days(min(today.values()), max(today.values())) if today else []
            )
        }
        found = []
        for row in rows:
            code, node_id = row["code"], row["node_id"]
            figures = Figures()
            for place in places.get(code, []):
                day = sums.get((place.node_id, place.number, today[code]))
                figures = figures if day is None else figures.plus(day)
            newest = [
                int(heads[node]["newest_at"])
                for node in {place.node_id for place in places.get(code, [])}
                if node in heads and heads[node]["newest_at"] is not None
            ]
            head = heads.get(node_id)
            found.append(
                SiteView(
                    code=code,
                    name=row["name"],
                    zone=ZoneInfo(row["zone"]),
                    group=row["group_name"],
                    power_window=row["power_window"],
                    without_node=row["without_node"],
                    node_id=node_id,
                    state=_state(row, now),
                    last_seen_at=row["last_seen_at"],
                    data_until_at=max(newest) if newest else None,
                    cosigned_size=int((head and head["cosigned_size"]) or 0),
                    cosigned_at=head["cosigned_at"] if head is not None else None,
                    alarms=alarms.get(node_id, 0),
                    today=figures,
                    places=tuple(places.get(code, [])),
                )
            )
        return found

    async def site(self, code: str) -> SiteView | None:
        """One site."""
        return next((one for one in await self.sites() if one.code == code), None)

    async def days(self, site: SiteView, first: date, last: date) -> list[tuple[date, Figures]]:
        """The figures of a site's days, newest first; a day without usage is not there."""
        places = {(place.node_id, place.number) for place in site.places}
        by_day: dict[int, Figures] = {}
        for row in await self._store.days(first.toordinal(), last.toordinal()):
            if (row["node_id"], int(row["site"])) in places:
                day = int(row["day"])
                by_day[day] = by_day.get(day, Figures()).plus(row)
        return [(date.fromordinal(day), by_day[day]) for day in sorted(by_day, reverse=True)]

    # --- the usage log

    async def lines(
        self, asked: Asked, role: str, below: Cursor | None, limit: int
    ) -> list[Line | Few]:
        """The newest records of a part of the log, below a place in it, for this role."""
        found: list[Line | Few] = []
        async for line in self.all_lines(asked, role, below, limit):
            found.append(line)
            if len(found) == limit:
                break
        return found

    async def all_lines(
        self, asked: Asked, role: str, below: Cursor | None = None, at_once: int = 1_000
    ) -> AsyncIterator[Line | Few]:
        """All records of a part of the log for this role, newest day first, `at_once` read at a
        time. What is a small group is decided once for each day.

        Raises DeskError for a period that ends before it begins or is too long.
        """
        days = (asked.last - asked.first).days + 1
        if days < 1:
            raise DeskError("period_order")
        if days > LONGEST_DAYS:
            raise DeskError("period_long", most=LONGEST_DAYS)
        codes: dict[tuple[str, int], str] = {}
        for row in await self._store.places():
            codes[(row["node_id"], int(row["number"]))] = row["code"]
        zones = {row["code"]: ZoneInfo(row["zone"]) for row in await self._store.sites()}
        wanted: dict[str, list[int]] = {}
        for (node_id, number), code in codes.items():
            if code == asked.site:
                wanted.setdefault(node_id, []).append(number)
        named = _Named(codes, await self._named("gateway"), await self._named("profile"))
        first_day, last_day = asked.first.toordinal(), asked.last.toordinal()
        groups, groups_day = Groups(), 0
        for row in await self._store.filled_days(first_day, last_day):
            day, node_id = int(row["day"]), str(row["node_id"])
            if asked.site is not None and node_id not in wanted:
                continue
            place: tuple[int, int] | None = None
            if below is not None:
                if (-day, node_id) < (-below.day, below.node_id):
                    continue
                if (day, node_id) == (below.day, below.node_id):
                    place = (below.epoch, below.seq)
            if role != SEES_ALL and day != groups_day:
                groups, groups_day = groups_of(await self._store.groups(day)), day
            sites = None if asked.site is None else wanted[node_id]
            small = groups.small_sites(node_id, day, sites)
            for number in small:
                if place is None or (_BEFORE_ALL, number) < place:
                    yield Few(node_id, day, number, codes.get((node_id, number), ""))
            while True:
                rows = await self._store.sessions(node_id, day, sites, small, place, at_once)
                for one in rows:
                    line = _line(one, named)
                    yield line if role == SEES_ALL else _without_hints(line, one, groups, zones)
                if len(rows) < at_once:
                    break
                place = (int(rows[-1]["epoch"]), int(rows[-1]["seq"]))

    async def _named(self, what: str) -> dict[tuple[str, int], str]:
        rows = await self._store.names(what)
        return {(row["node_id"], int(row["number"])): row["name"] for row in rows}

    async def open_voucher(self, at: Cursor, by: str, reason: str) -> tuple[str, list[Line]]:
        """The pseudonym behind a record, and all its records of that month.

        Written down with the reason before anything is shown. Raises DeskError for no reason, and
        for a record that is not here.
        """
        reason = " ".join(reason.split())
        if not 10 <= len(reason) <= 300:
            raise DeskError("voucher_reason")
        row = await self._store.session(at.node_id, at.day, at.epoch, at.seq)
        if row is None:
            raise DeskError("record_gone")
        now = self._now()
        pseudonym = bytes(row["pseudonym"])
        if pseudonym == NOBODY:
            raise DeskError("record_of_nobody")
        deed = Deed(by, "voucher.open", None, f"{at.node_id}/{at.epoch}/{at.seq}", reason)
        async with self._office.database.transaction() as transaction:
            await self._office.write_deed(transaction, now, deed)
        day = date.fromordinal(at.day)
        zone = ZoneInfo("UTC")
        month = window_at("month", end_of_day(day, zone) - 1, zone)
        first = day_of(month.start_at, zone).toordinal()
        last = day_of(month.end_at - 1, zone).toordinal()
        rows = await self._store.of_pseudonym(at.node_id, pseudonym, first, last, _ONE_PERSON_MOST)
        codes = {
            (place["node_id"], int(place["number"])): place["code"]
            for place in await self._store.places()
        }
        named = _Named(codes, await self._named("gateway"), await self._named("profile"))
        return pseudonym.hex(), [_line(one, named) for one in rows]


def _state(row: Row, now: int) -> str:
    if row["node_id"] is None:
        return "none"
    if row["state"] != "active":
        return str(row["state"])
    if row["last_seen_at"] is None:
        return "new"
    silent_s = now - int(row["last_seen_at"])
    return "up" if silent_s < LATE_AFTER_S else "late" if silent_s < GONE_AFTER_S else "gone"


@dataclass(frozen=True, slots=True)
class _Named:
    """What nodes' numbers stand for."""

    codes: dict[tuple[str, int], str]
    gateways: dict[tuple[str, int], str]
    profiles: dict[tuple[str, int], str]


def _line(row: Row, named: _Named) -> Line:
    node_id = str(row["node_id"])
    return Line(
        node_id=node_id,
        day=int(row["day"]),
        epoch=int(row["epoch"]),
        seq=int(row["seq"]),
        site=named.codes.get((node_id, int(row["site"])), ""),
        started_at=int(row["started_at"]),
        ended_at=int(row["at"]),
        duration_s=int(row["duration_s"]),
        counted_s=int(row["counted_s"]),
        input_octets=int(row["input_octets"]),
        output_octets=int(row["output_octets"]),
        gateway=named.gateways.get((node_id, int(row["gateway"])), str(row["gateway"])),
        profile=named.profiles.get((node_id, int(row["profile"])), str(row["profile"])),
        cause=int(row["cause"]),
        flags=int(row["flags"]),
        clock_quality=int(row["clock_quality"]),
    )


def _without_hints(line: Line, row: Row, groups: Groups, zones: Mapping[str, ZoneInfo]) -> Line:
    """A record as a reviewer sees it: nothing in it points at a smaller group than its own."""
    day = date.fromordinal(line.day)
    zone = zones.get(line.site)
    begins_at = 0
    if zone is not None:
        begins_at = int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
    group = (line.node_id, line.day, int(row["site"]))
    is_told = groups.tells(group, int(row["profile"]))
    return replace(
        line,
        # What of a session lay on the day before is that day's, which may be hidden.
        started_at=max(line.started_at, begins_at),
        gateway="",
        profile=line.profile if is_told else "",
    )
