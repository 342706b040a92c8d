"""Roll-ups are the sums of the records, whatever the order and the batches; so are the hours."""

import random
import struct
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.domain.ledger import ClockQuality, DayTotal, Flag, Kind, Record, Usage
from portal.domain.quota import day_ordinal
from portal.hub.forgetting import DEFAULT_ZONE
from portal.hub.rollups import NOBODY, NOBODY_OPEN, Told, day_and_month, minutes_after, sums_of
from tests.unit.hub.office import Office, Tell
from tests.unit.hub.written_node import DAY_S, NOON, WrittenNode

HOUR = NOON // 3600 * 3600
TODAY = day_ordinal(NOON, DEFAULT_ZONE)


async def hours(place: Office, node: WrittenNode) -> dict[int, tuple[int, int, int]]:
    """Hour -> (sessions begun, octets, peak)."""
    rows = await place.hub.usage.hours(place.hub.store.database, node.node_id, 1, 0, 10_000_000)
    return {
        row["hour"] - HOUR // 3600: (row["sessions"], row["octets"], row["peak"]) for row in rows
    }


def test_a_day_has_its_sessions_users_octets_and_time(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1, down=10, up=1)
        node.session(1, down=20, up=2)
        await place.take(node)
        node.session(2, down=40, up=4)
        node.session(2, down=80, up=8, profile=2)
        node.session(0, down=160, up=16)  # no card: it counts for nobody
        await place.take(node)
        rows = await place.hub.usage.days_of_site(
            place.hub.store.database, node.node_id, 1, TODAY, TODAY
        )
        found = [
            (row["profile"], row["sessions"], row["users"], row["input_octets"])
            + (row["output_octets"], row["counted_s"])
            for row in rows
        ]
        assert found == [(1, 4, 2, 23, 230, 2400), (2, 1, 1, 8, 80, 600)]

    tell(story)


def test_a_slice_before_midnight_counts_in_its_day_and_no_second_session(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        midnight = NOON - NOON % DAY_S + 17 * 3600  # in Jakarta
        node.session(1, at=midnight - 1, lasted_s=1800, flags=1, kind=Kind.SLICE, down=100, up=0)
        node.session(1, at=midnight + 600, lasted_s=600, flags=2, down=50, up=0, started_ago_s=2400)
        await place.take(node)
        day = day_ordinal(midnight - 1, DEFAULT_ZONE)
        rows = await place.hub.usage.days_of_site(
            place.hub.store.database, node.node_id, 1, 0, 4_000_000
        )
        assert [(row["day"] - day, row["sessions"], row["output_octets"]) for row in rows] == [
            (0, 1, 100),
            (1, 0, 50),
        ]
        found = await hours(place, node)
        assert sorted(octets for _, octets, _ in found.values()) == [50, 100]
        assert [peak for _, _, peak in found.values()] == [1, 1]

    tell(story)


def test_an_hour_has_its_peak_and_octets_in_proportion(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1, at=HOUR + 1800, lasted_s=3600, down=1000, up=0)
        await place.take(node)
        node.session(2, at=HOUR + 1800, lasted_s=1200, down=600, up=0)
        node.session(3, at=HOUR + 660, lasted_s=60, down=6, up=0)
        await place.take(node)
        assert await hours(place, node) == {-1: (1, 500, 1), 0: (2, 1106, 3)}

    tell(story)


def test_late_octets_open_no_second_session(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1, at=HOUR + 1800, lasted_s=600, down=100, up=0)
        node.session(1, at=HOUR + 1800, lasted_s=600, down=7, up=0, flags=2 | 4)
        await place.take(node)
        assert await hours(place, node) == {0: (1, 107, 1)}

    tell(story)


def test_a_session_that_was_given_up_and_went_on_is_one_phone(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        # Online from :00 to :20, silent until it was given up, and still there until :50.
        node.session(1, at=HOUR + 1200, lasted_s=1200, flags=11)
        node.session(1, at=HOUR + 3000, lasted_s=1800, started_ago_s=3000, flags=2)
        await place.take(node)
        assert (await hours(place, node))[0] == (1, 2200, 1)
        assert await place.hub.proof.faults(node.node_id, place.now) == []

    tell(story)


def test_a_day_total_is_kept_as_the_node_says_it(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        node.add(Kind.DAY_TOTAL, DayTotal(TODAY, 3, 2, 10, 20, 30, 2), site=1)
        node.add(Kind.DAY_TOTAL, DayTotal(TODAY, 4, 2, 11, 21, 31, 2), site=1)
        await place.take(node)
        rows = await place.hub.store.database.all("SELECT * FROM day_total")
        assert [(row["day"], row["sessions"], row["output_octets"]) for row in rows] == [
            (TODAY, 4, 21)
        ]

    tell(story)


@pytest.mark.parametrize("seed", range(3))
def test_the_month_from_roll_ups_is_the_month_from_records(tell: Tell, seed: int) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        dice = random.Random(seed)
        for _ in range(300):
            lasted_s = dice.choice((1, 59, 60, 3599, 86_400, dice.randrange(1, 90_000)))
            node.session(
                dice.randrange(0, 12),
                at=NOON + dice.randrange(-5 * DAY_S, 5 * DAY_S),
                lasted_s=lasted_s,
                down=dice.randrange(10**9),
                up=dice.randrange(10**6),
                profile=dice.randrange(1, 3),
                flags=dice.choice((1, 2, 3, 4 | 2)),
            )
        while node.acked < len(node.records):
            count = min(dice.randrange(1, 90), len(node.records) - node.acked)
            await place.take(node, node.exchange(count=count))
        days = (TODAY - 20, TODAY + 20)
        usage = place.hub.usage
        from_sums = await usage.month_of_all_sites(2026 * 12 + 8)
        raw = await usage.month_of_all_sites_raw(days, NOBODY)
        names = ("sessions", "users", "input_octets", "output_octets", "counted_s")
        assert [[row[name] for name in names] for row in from_sums] == [
            [row[name] for name in names] for row in raw
        ]
        found = await hours(place, node)
        assert sum(octets for _, octets, _ in found.values()) == (await place.totals(node))[1]
        assert sum(begun for begun, _, _ in found.values()) == (await place.totals(node))[0]
        assert await place.hub.proof.faults(node.node_id, place.now) == []

    tell(story)


@settings(max_examples=200)
@given(
    spans=st.lists(
        st.tuples(st.integers(0, 59), st.integers(1, 60)).map(
            lambda pair: (pair[0], min(60, pair[0] + pair[1]))
        ),
        max_size=20,
    ),
    parts=st.integers(1, 4),
)
def test_minutes_are_the_same_in_one_batch_or_many(
    spans: list[tuple[int, int]], parts: int
) -> None:
    stored = NOBODY_OPEN
    peak = 0
    for part in range(parts):
        changes = [0] * 61
        for begin, end in spans[part::parts]:
            changes[begin] += 1
            changes[end] -= 1
        stored, peak = minutes_after(stored, changes)
    expected = [sum(begin <= minute < end for begin, end in spans) for minute in range(60)]
    assert stored == b"".join(count.to_bytes(2, "big") for count in expected)
    assert peak == max(expected)


def test_sums_of_absurd_figures_stay_within_what_a_database_holds(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for _ in range(3):
            node.session(1, at=2**62, lasted_s=2**62, down=2**63 - 1, up=2**63 - 1)
        node.session(1, at=0, lasted_s=2**40)
        assert (await place.take(node)).status == 200
        assert await place.totals(node) == (4, 6 * 10**13 + 1100)

    tell(story)


ZONES = {1: DEFAULT_ZONE, 2: ZoneInfo("Asia/Makassar"), 3: ZoneInfo("Asia/Jayapura")}


@dataclass(frozen=True)
class Stay:
    """Somebody online at a site, in the village's own words."""

    site: int
    user: int
    profile: int
    began_at: int
    lasted_s: int
    octets: int
    late_octets: int

    @property
    def ended_at(self) -> int:
        return self.began_at + self.lasted_s

    def told(self) -> list[Told]:
        """Its records, as a node writes them: a slice each midnight, late octets at the end."""
        zone = ZONES[self.site]
        found: list[Told] = []
        last, octets_left = self.began_at, self.octets
        while True:
            day = datetime.fromtimestamp(last, zone).date() + timedelta(days=1)
            midnight = int(datetime.combine(day, time(), zone).timestamp())
            is_last = self.ended_at < midnight
            end_at = self.ended_at if is_last else midnight - 1
            octets = octets_left if is_last else octets_left // 2
            octets_left -= octets
            flags = (Flag.LAST if is_last else 0) | (0 if found else Flag.FIRST)
            kind = Kind.SESSION if is_last else Kind.SLICE
            found.append(self._record(kind, end_at, end_at - last, octets, flags))
            last = midnight
            if is_last:
                break
        if self.late_octets:
            late = self._record(Kind.SESSION, self.ended_at, 0, self.late_octets, Flag.LATE)
            found.append(late)
        return found

    def _record(self, kind: Kind, at: int, lasted_s: int, octets: int, flags: int) -> Told:
        usage = Usage(
            *(flags, self.user.to_bytes(10, "big"), 1, self.profile),
            *(at - self.began_at, lasted_s, lasted_s, 0, octets, 1),
        )
        record = Record(kind, 5, 1, at, ClockQuality.SYNCHRONISED, self.site, usage)
        day, month = day_and_month(at, ZONES[self.site])
        is_first = bool(flags & Flag.FIRST)
        return Told(0, record, usage, day, month, is_first, 0, octets, lasted_s)

    def is_open_in(self, minute: int) -> bool:
        """Whether it was online in a minute since 1970, if only for a moment."""
        begins, ends = minute * 60, (minute + 1) * 60
        if self.lasted_s == 0:
            return begins <= self.began_at < ends
        return self.began_at < ends and self.ended_at > begins


stays = st.builds(
    Stay,
    site=st.integers(1, 3),
    user=st.integers(0, 4),
    profile=st.integers(1, 2),
    began_at=st.integers(NOON, NOON + 3 * DAY_S),
    lasted_s=st.one_of(st.just(0), st.integers(1, 7_200), st.integers(1, 80_000)),
    octets=st.integers(0, 10**9),
    late_octets=st.sampled_from((0, 0, 77)),
)


@settings(max_examples=150, deadline=None)
@given(village=st.lists(stays, max_size=12), order=st.randoms(use_true_random=False))
def test_sums_and_peaks_are_those_of_a_village_counted_minute_by_minute(
    village: list[Stay], order: random.Random
) -> None:
    records = [told for stay in village for told in stay.told()]
    order.shuffle(records)
    sums = sums_of(records, lambda site: ZONES[site])
    assert sum(each.sessions for each in sums.days.values()) == len(village)
    assert sum(each.sessions for each in sums.months.values()) == len(village)
    octets = sum(stay.octets + stay.late_octets for stay in village)
    for days in (sums.days, sums.months):
        assert sum(each.output_octets for each in days.values()) == octets
    assert sum(each.octets for each in sums.hours.values()) == octets
    assert sum(each.sessions for each in sums.hours.values()) == len(village)
    assert {(site, user) for _, user, site, _ in sums.user_days} == {
        (stay.site, stay.user.to_bytes(10, "big")) for stay in village if stay.user
    }
    for (site, hour), found in sums.hours.items():
        minutes, peak = minutes_after(NOBODY_OPEN, found.changes)
        there = [
            sum(stay.site == site and stay.is_open_in(hour * 60 + minute) for stay in village)
            for minute in range(60)
        ]
        assert list(struct.unpack(">60H", minutes)) == there
        assert peak == max(there)
    hours_told = set(sums.hours)
    for stay in village:
        for minute in range(stay.began_at // 60, stay.ended_at // 60 + 1):
            if stay.is_open_in(minute):
                assert (stay.site, minute // 60) in hours_told
