"""Six words: the list people can tell apart by ear, and the fingerprint."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.domain.six_words import COUNT, WORDS, fingerprint, read


def distance(one: str, other: str) -> int:
    """How many letters must change to make one word of the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, against in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != against))
    return row[-1]


def test_there_is_a_word_for_each_octet_and_none_twice() -> None:
    assert len(set(WORDS)) == len(WORDS) == 256


def test_words_are_short_and_plain() -> None:
    assert [w for w in WORDS if not (4 <= len(w) <= 6 and w.isascii() and w.islower())] == []


def test_no_two_words_can_be_taken_for_each_other() -> None:
    alike = [pair for pair in combinations(WORDS, 2) if distance(*pair) < 2]
    begin_alike = [(one, other) for one, other in combinations(WORDS, 2) if one[:4] == other[:4]]
    assert (alike, begin_alike) == ([], [])


def test_a_fingerprint_is_the_same_everywhere() -> None:
    assert fingerprint(b"\1" * 32, b"\2" * 32) == (
        "sumur",
        "garuda",
        "catur",
        "catur",
        "ekor",
        "candi",
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.data())
def test_one_bit_more_or_less_gives_other_words(parts: list[bytes], data: st.DataObject) -> None:
    words = fingerprint(*parts)
    assert len(words) == COUNT and set(words) <= set(WORDS)
    other = [*parts, b""] if data.draw(st.booleans()) else [b"x" + parts[0], *parts[1:]]
    assert fingerprint(*other) != words


def test_what_stands_in_one_part_does_not_pass_for_another() -> None:
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")


@pytest.mark.parametrize("between", [" ", ", ", "-", "\n", " 1. "])
def test_typed_words_may_be_parted_by_anything(between: str) -> None:
    assert read(between.join(WORDS[:6]).upper()) == WORDS[:6]


def test_too_few_words_are_refused() -> None:
    with pytest.raises(ValueError, match="5 words; expected 6"):
        read(" ".join(WORDS[:5]))


def test_a_word_that_is_not_in_the_list_is_named() -> None:
    with pytest.raises(ValueError, match="'kapla' is none of the words"):
        read("kapla " + " ".join(WORDS[:5]))
