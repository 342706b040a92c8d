"""Enrol token: what is printed, typed and proved."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain import enrol_token
from portal.domain.enrol_token import Token, TokenError, ca_bits, make, proof, read

CA = b"a certificate"
secrets = st.integers(0, 2**130 - 1)
hashes = st.integers(0, 2**100 - 1)


def test_a_token_is_twelve_groups_of_four() -> None:
    groups = make(lambda n: b"\xff" * n, CA).text().split("-")
    assert [len(group) for group in groups] == [4] * 12


def test_the_secret_has_130_bits() -> None:
    assert make(lambda n: b"\xff" * n, CA).secret == 2**130 - 1


@given(secrets, hashes)
def test_what_is_printed_is_read(secret: int, ca: int) -> None:
    token = Token(secret, ca)
    assert read(token.text()) == token


@given(secrets, st.sampled_from(["{}", " {} ", "{}\n"]))
def test_case_spaces_and_look_alikes_do_not_matter(secret: int, shape: str) -> None:
    token = Token(secret, ca_bits(CA))
    typed = token.text().upper().replace("1", "I").replace("0", "O").replace("-", " ")
    assert read(shape.format(typed)) == token


@given(secrets, st.integers(0, 47), st.integers(1, 31))
def test_one_wrong_sign_is_nearly_always_found(secret: int, place: int, by: int) -> None:
    letters = "0123456789abcdefghjkmnpqrstvwxyz"
    token = Token(secret, ca_bits(CA))
    text = token.text().replace("-", "")
    wrong = letters[(letters.index(text[place]) + by) % 32]
    typed = text[:place] + wrong + text[place + 1 :]
    try:
        found = read(typed)
    except TokenError as error:
        assert "mistyped" in str(error)
    else:
        # Ten bits of check let one in a thousand pass; it is another token all the same.
        assert found != token


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "0 signs; expected 48"),
        ("abcd-efgh", "8 signs; expected 48"),
        ("u" * 48, "the sign 'u'"),
        ("é" * 48, "the sign 'é'"),
    ],
)
def test_what_is_no_token_is_refused_in_words(typed: str, said: str) -> None:
    with pytest.raises(TokenError, match=said):
        read(typed)


def test_only_the_hubs_own_ca_fits() -> None:
    token = make(lambda n: b"\5" * n, CA)
    assert token.fits_ca(CA)
    assert not token.fits_ca(CA + b"x")


def test_what_the_hub_keeps_does_not_hold_the_secret() -> None:
    token = make(lambda n: bytes(range(n)), CA)
    octets = token.secret.to_bytes(17, "big")
    assert octets not in token.key and octets.hex()[:8] not in token.id
    assert token.key != token.id.encode()


@given(secrets, st.binary(max_size=40), st.binary(max_size=40))
def test_a_proof_holds_for_what_it_was_made_for_alone(secret: int, one: bytes, two: bytes) -> None:
    key = Token(secret, 0).key
    made = proof(key, "ab", one, two, CA)
    assert len(made) == hashlib.sha256().digest_size
    assert made == proof(key, "ab", one, two, CA)
    others = [
        proof(key, "ab", one + b"x", two, CA),
        proof(key, "ac", one, two, CA),
        proof(key, "ab", one, two, CA + b"x"),
        proof(Token(secret ^ 1, 0).key, "ab", one, two, CA),
    ]
    if two:
        others.append(proof(key, "ab", one + two[:1], two[1:], CA))
    assert made not in others


def test_the_words_hold_for_the_keys_and_the_ca() -> None:
    right = enrol_token.words(b"s" * 32, b"x" * 32, CA)
    assert right == enrol_token.words(b"s" * 32, b"x" * 32, CA)
    assert right != enrol_token.words(b"s" * 32, b"x" * 32, CA + b"x")
    assert right != enrol_token.words(b"s" * 32, b"y" * 32, CA)


def test_a_token_lives_for_a_week() -> None:
    assert enrol_token.LIFE_S == 7 * 24 * 3600
