"""What a box tells again after an older disk: the larger story counts, and never more than that."""

import os
import random
from dataclasses import dataclass

from tests.unit.hub.office import Office, Tell
from tests.unit.hub.written_node import NOON, WrittenNode

FIRST, REPLAYED = 1, 16
MOST_S = 3


@dataclass
class Story:
    """One session, as it was told before the older disk was put back and after it."""

    start: int
    """Second in which it began."""
    before: list[int]
    """Octets of its records that the box has forgotten."""
    after: list[int]
    """Octets of those that it told after that."""


def told(stories: list[Story], start: int) -> tuple[int, int]:
    """(sessions, octets) that must be counted of what began in a second: the larger story."""
    of_it = [story for story in stories if story.start == start]
    sessions = max(
        sum(bool(story.before) for story in of_it), sum(bool(story.after) for story in of_it)
    )
    octets = max(sum(sum(story.before) for story in of_it), sum(sum(s.after) for s in of_it))
    return sessions, octets


def some_stories(chance: random.Random) -> list[Story]:
    def pieces() -> list[int]:
        return [chance.randrange(1000) for _ in range(chance.randrange(4))]

    return [Story(chance.randrange(MOST_S), pieces(), pieces()) for _ in range(chance.randrange(6))]


def tell_them(node: WrittenNode, stories: list[Story], *, is_again: bool, first_user: int) -> None:
    for user, story in enumerate(stories, first_user):
        for place, octets in enumerate(story.after if is_again else story.before):
            node.session(
                user,
                at=NOON + 60 * place,
                started_ago_s=60 * place + MOST_S - story.start,
                lasted_s=1,
                down=octets,
                up=0,
                flags=(REPLAYED if is_again else 0) | (0 if place else FIRST),
            )


def test_the_larger_story_of_each_second_counts(tell: Tell) -> None:
    """Some pseudonyms were forgotten and are others now, and records come in batches of any size:
    the sums are the same, and never above what the residents used."""
    seed = 7 if os.environ.get("CI") == "true" else random.randrange(10**6)

    async def story(place: Office, _: WrittenNode) -> None:
        chance = random.Random(seed)
        for turn in range(40):
            node = WrittenNode(seed=bytes([turn, 9]) * 16, sites=(f"D{turn}",))
            await place.enrol(node)
            stories = some_stories(chance)
            await place.take(node)
            known = len(node.records)
            tell_them(node, stories, is_again=False, first_user=1)
            await place.take(node)
            node.next_epoch(node.cosigned, known=(0, known))
            is_forgotten = chance.random() < 0.5
            tell_them(node, stories, is_again=True, first_user=100 if is_forgotten else 1)
            while node.acked < len(node.records):
                await place.take(node, node.exchange(count=chance.randint(1, 6)))
            found = await place.totals(node)
            expected = [told(stories, start) for start in range(MOST_S)]
            assert found == tuple(map(sum, zip(*expected, strict=True))), (seed, turn, stories)
            used = sum(max(sum(each.before), sum(each.after)) for each in stories)
            assert found[1] <= used, (seed, turn, stories)

    tell(story)


def test_a_disk_put_back_twice_tells_a_third_story_of_the_same(tell: Tell) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        known = len(node.records)
        for octets, flags in ((1000, FIRST), (700, FIRST | REPLAYED), (1200, FIRST | REPLAYED)):
            node.session(1, down=octets, up=0, flags=flags)
            await place.take(node)
            node.next_epoch(node.cosigned, known=(0, known))
        assert await place.totals(node) == (1, 1200)

    tell(story)


def test_what_the_box_has_not_forgotten_is_no_part_of_the_story(tell: Tell) -> None:
    """A day's slice was told before the disk was copied: what comes after it is new."""

    async def story(place: Office, node: WrittenNode) -> None:
        node.session(1, down=5000, up=0, flags=FIRST)
        await place.take(node)
        known = len(node.records)
        node.session(1, down=300, up=0, flags=2)
        await place.take(node)
        node.next_epoch(node.cosigned, known=(0, known))
        node.session(1, down=400, up=0, flags=2 | REPLAYED)
        await place.take(node)
        assert await place.totals(node) == (1, 5400)

    tell(story)
