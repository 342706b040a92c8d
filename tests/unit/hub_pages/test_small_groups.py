"""Small groups: nothing that is told of a day lets few cards be told apart."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from portal.hub.small_groups import LEAST_GROUP, told_profiles

USERS = st.dictionaries(st.integers(0, 9), st.integers(0, 12), max_size=7)


@given(USERS)
def test_every_profile_that_is_told_has_enough_cards(users: dict[int, int]) -> None:
    assert all(users[profile] >= LEAST_GROUP for profile in told_profiles(users))


@given(USERS)
def test_what_is_left_without_a_profile_is_nobody_or_enough(users: dict[int, int]) -> None:
    told = told_profiles(users)
    left = sum(count for profile, count in users.items() if profile not in told)
    if told:
        assert left == 0 or left >= LEAST_GROUP


@given(USERS)
def test_no_more_is_hidden_than_must_be(users: dict[int, int]) -> None:
    """No larger set of profiles would do."""

    def would_do(told: tuple[int, ...]) -> bool:
        left = sum(count for profile, count in users.items() if profile not in told)
        return all(users[one] >= LEAST_GROUP for one in told) and (left == 0 or left >= LEAST_GROUP)

    found = len(told_profiles(users))
    for size in range(found + 1, len(users) + 1):
        assert not any(would_do(told) for told in combinations(users, size))


def test_a_single_guest_takes_the_smaller_profile_along() -> None:
    assert told_profiles({1: 40, 2: 6, 3: 1}) == {1}
    assert told_profiles({1: 40, 2: 1}) == frozenset()
    assert told_profiles({1: 40, 2: 5}) == {1, 2}
