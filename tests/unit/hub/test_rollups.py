"""Roll-ups are the sums of the records, whatever the order and the batches; so are the hours."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.domain.ledger import DayTotal, Kind
from portal.domain.quota import day_ordinal
from portal.hub.forgetting import DEFAULT_ZONE
from portal.hub.rollups import NOBODY, NOBODY_OPEN, minutes_after
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
