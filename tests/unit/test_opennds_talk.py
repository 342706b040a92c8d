"""The talk with the program on an openNDS gateway: what is signed, fresh and well-formed, and what
its words become in RADIUS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain.session import Kind
from portal.opennds.talk import (
    MAX_BODY_OCTETS,
    NONCES_A_CHALLENGE,
    OK,
    VERSION,
    Challenges,
    Letter,
    agent_key,
    read,
    sign,
    write,
)
from portal.opennds.words import limit_words, report_attributes
from portal.reports import report
from radius.nas import Limits
from radius.packet import ACCOUNTING_REQUEST, ACCT_DELAY_TIME, CLASS, USER_NAME, parse, sign_request

KEY = agent_key("rahasia-bersama-0123456789")
NONCE = "0123456789abcdef-0123456789"
STOP = (
    "stop 0123456789abcdef 02:aa:bb:cc:dd:01 10.65.0.7 " + "ab" * 45 + " A017-23 3600"
    " 5000000000 7000000000 quota 12"
)


def letter(*lines: str, name: str = "pos-1", key: str = KEY, nonce: str = NONCE) -> bytes:
    text = "\n".join((f"{VERSION} - {nonce}", *lines))
    return f"{text}\nsign {sign('agent', name, text, key)}".encode()


def test_the_key_is_text_for_a_shell_and_not_the_secret() -> None:
    assert len(KEY) == 64 and set(KEY) <= set("0123456789abcdef")
    assert agent_key("another") != KEY


def test_a_request_is_read_as_it_was_signed() -> None:
    found = read(letter("on", "listen") + b"\n", "pos-1", KEY)
    assert found == Letter("-", NONCE, [["on"], ["listen"]])
    assert read(letter(), "pos-1", KEY) == Letter("-", NONCE, [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"on",
        b"\nsign ",
        letter("on", name="pos-2"),
        letter("on", key="0" * 64),
        letter("on", nonce="short"),
        letter("on").replace(b"on", b"of"),
        write(OK, NONCE, "-", ["on"], "pos-1", KEY).encode(),
        letter("on") + b"0",
        letter("caf\x09")[:-1],
        letter("on").replace(b"\n", b"\r\n"),
        letter("x" * MAX_BODY_OCTETS),
        "pesisir-opennds 1 - ä\nsign 0".encode(),
    ],
)
def test_what_the_program_did_not_sign_is_not_read(body: bytes) -> None:
    assert read(body, "pos-1", KEY) is None


@given(st.binary(max_size=200))
def test_noise_is_not_read(body: bytes) -> None:
    assert read(body, "pos-1", KEY) is None


def test_our_answer_cannot_be_sent_back_to_us_as_a_request() -> None:
    answer = write(OK, NONCE, "c" * 32, ["ok on -"], "pos-1", KEY)
    assert read(answer.encode(), "pos-1", KEY) is None


def test_a_request_is_good_once_and_only_under_a_challenge_of_ours() -> None:
    challenges = Challenges()
    assert not challenges.take(Letter("-", "n" * 16, []))
    first = challenges.newest("a" * 32, 0)
    assert not challenges.take(Letter("b" * 32, "n" * 16, []))
    assert challenges.take(Letter(first, "n" * 16, []))
    assert not challenges.take(Letter(first, "n" * 16, []))
    assert challenges.take(Letter(first, "m" * 16, []))
    # The one before is good for a request under way, the one before that is not.
    second, third = challenges.newest("b" * 32, 4000), challenges.newest("c" * 32, 8000)
    assert (second, third) == ("b" * 32, "c" * 32)
    assert challenges.take(Letter(second, "n" * 16, []))
    assert not challenges.take(Letter(first, "o" * 16, []))
    assert not Challenges().take(Letter(third, "p" * 16, []))


def test_a_challenge_is_worn_out_by_use() -> None:
    challenges = Challenges()
    first = challenges.newest("a" * 32, 0)
    for number in range(NONCES_A_CHALLENGE):
        assert challenges.newest("b" * 32, 0) == first
        assert challenges.take(Letter(first, f"{number:016}", []))
    assert challenges.newest("b" * 32, 0) == "b" * 32


# --- words as RADIUS


def test_a_stop_is_an_ordinary_stop_with_gigawords_and_delay() -> None:
    body = report_attributes(STOP.split())
    assert body is not None
    packet = parse(sign_request(ACCOUNTING_REQUEST, 1, body, b"x"))
    told = report(packet, Kind.STOP, 1000, is_swapped=False)
    assert (told.input_octets, told.output_octets) == (5_000_000_000, 7_000_000_000)
    assert (told.session_time_s, told.end_cause) == (3600, "Session-Timeout")
    assert packet.integer(ACCT_DELAY_TIME) == 12
    assert packet.first[USER_NAME] == b"A017-23"
    assert packet.first[CLASS] == b"\xab" * 45


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stop ", "halt "),
        ("0123456789abcdef ", "../../etc "),
        ("0123456789abcdef ", "short "),
        ("02:aa:bb:cc:dd:01", "02:aa:bb:cc:dd"),
        (" 3600 ", " -3600 "),
        (" 3600 ", " 36000000000 "),
        (" 5000000000 ", " 5e9 "),
        (" 5000000000 ", " -1 "),
        (" 7000000000 ", " 99999999999999999999 "),
        ("ab" * 45, "ab" * 300),
        ("ab" * 45, "abc"),
        (" 12", ""),
        (" 12", " 12 13"),
        (" 12", " soon"),
        ("A017-23", "A" * 65),
    ],
)
def test_a_line_that_is_not_right_is_worth_nothing(old: str, new: str) -> None:
    assert STOP.count(old) == 1
    assert report_attributes(STOP.replace(old, new).split()) is None


@given(st.lists(st.text(max_size=20), max_size=12))
def test_no_words_break_it(words: list[str]) -> None:
    report_attributes(["stop", *words])


def test_limits_in_words() -> None:
    assert limit_words(Limits(3600, 300, 900, 5_000_000_000, 2048, 512)) == (
        *("3600", "5000000000", "512", "2048", "900", "300"),
    )
    assert limit_words(Limits(60, 60, None, None, None, None)) == ("60", "0", "0", "0", "0", "60")
