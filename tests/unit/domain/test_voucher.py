import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain.voucher import (
    CODE_SPACE,
    RESERVED_CODE,
    State,
    check_digit,
    is_well_formed,
    make_code,
    mask,
    normalise,
    parse_serial,
    serial,
    show,
)

numbers = st.integers(0, CODE_SPACE - 1)
codes = numbers.map(make_code)


def test_check_digit_of_the_published_example() -> None:
    # H. M. Damm, "Total anti-symmetrische Quasigruppen" (2004): 572 takes 4.
    assert check_digit("572") == 4
    assert check_digit("5724") == 0


@given(numbers)
def test_a_made_code_keeps_its_number_and_is_well_formed(n: int) -> None:
    code = make_code(n)
    assert int(code[:11]) == n
    assert is_well_formed(code)


@given(codes)
def test_every_wrong_digit_is_found(code: str) -> None:
    for place in range(12):
        for digit in "0123456789":
            if digit != code[place]:
                assert not is_well_formed(code[:place] + digit + code[place + 1 :])


@given(codes)
def test_every_swap_of_neighbours_is_found(code: str) -> None:
    for place in range(11):
        left, right = code[place], code[place + 1]
        if left != right:
            assert not is_well_formed(code[:place] + right + left + code[place + 2 :])


def test_every_pair_of_digits_has_its_own_place_in_the_table() -> None:
    # Exhaustive over states and digits: each digit changes the state differently, and a swap of
    # two digits is seen from every state. From this follow the two properties above for all codes.
    prefixes = {check_digit(str(n)): str(n) for n in range(10)}
    assert len(prefixes) == 10
    for prefix in prefixes.values():
        assert len({check_digit(f"{prefix}{digit}") for digit in range(10)}) == 10
        for x in range(10):
            for y in range(x):
                assert check_digit(f"{prefix}{x}{y}") != check_digit(f"{prefix}{y}{x}")


def test_the_printed_example_is_well_formed() -> None:
    assert is_well_formed(RESERVED_CODE)
    assert make_code(int(RESERVED_CODE[:11])) == RESERVED_CODE


@pytest.mark.parametrize("n", [-1, CODE_SPACE])
def test_a_number_outside_the_codes_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 99999999999"):
        make_code(n)


@pytest.mark.parametrize(
    "text", ["", "0", "48291730551", "4829173055155", "4829 1730 5515", "４８２９１７３０５５１５"]
)
def test_only_twelve_plain_digits_are_well_formed(text: str) -> None:
    assert not is_well_formed(text)


@pytest.mark.parametrize(
    "text",
    [
        "482917305515",
        " 4829-1730 5515\n",
        "4829 1730 5515",
        "4829.1730.5515",
        "4829/1730/5515",
        "４８２９１７３０５５１５",
        "４８２９　１７３０　５５１５",
        "٤٨٢٩١٧٣٠٥٥١٥",
        "४८२९ १७३० ५५१५",
        "4829l73O5515",
        "4829I73o55I5",
        "4829|73O5515",
        "\u200e4829\u200b1730\u20115515\u200f",
        "Kode: 4829 1730 5515.",
        "http://x/482917305515",
        "HTTP://WIFI.DESA.ID/482917305515",
        "http://10.1.0.1:8080/482917305515",
        "https://wifi.desa.id/v/482917305515/",
        "http://10.1.0.1/v/482917305515?utm=12345#7",
        "http://10.1.0.1/v/4829-1730-5515",
        "wifi.desa.id/482917305515",
        "/v/482917305515",
        "Ini kartunya http://10.1.0.1/482917305515",
    ],
)
def test_the_same_code_however_it_is_typed(text: str) -> None:
    assert normalise(text) == "482917305515"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "halo",
        "48291730551",
        "4829173055155",
        "4829 1730 5515 4829 1730 5515",
        "4829173O551S",
        "A017-23",
        "http://10.1.0.1:8080/",
        "http://10.1.0.1/v/48291730551",
        "/",
        "//",
        "½½½½½½½½½½½½",
        "4" * 513,
        "http://10.1.0.1/" + "?" * 600 + "482917305515",
    ],
)
def test_what_is_no_code_is_none(text: str) -> None:
    assert normalise(text) is None


@given(st.text(max_size=600))
def test_any_text_gives_twelve_digits_or_none(text: str) -> None:
    code = normalise(text)
    assert code is None or (len(code) == 12 and code.isascii() and code.isdigit())


@given(codes, st.sampled_from(["", " ", "-", ".", "\u00a0", "\u2013", "\u200b"]))
def test_a_shown_code_is_read_back(code: str, sign: str) -> None:
    assert normalise(show(code).replace(" ", sign)) == code


def test_how_a_code_is_shown_and_hidden() -> None:
    assert show("482917305515") == "4829 1730 5515"
    assert mask("5515") == "**** **** 5515"


@pytest.mark.parametrize(
    ("batch", "n", "text"),
    [
        (17, 23, "A017-23"),
        (1, 1, "A001-01"),
        (999, 100, "A999-100"),
        (1_000, 1, "B001-01"),
        (8 * 999 + 1, 1, "J001-01"),
        (24 * 999, 1, "Z999-01"),
        (24 * 999 + 1, 1, "AA001-01"),
    ],
)
def test_serials(batch: int, n: int, text: str) -> None:
    assert serial(batch, n) == text
    assert parse_serial(text) == (batch, n)


@given(st.integers(1, 10**7), st.integers(1, 10**6))
def test_a_serial_is_read_back_and_never_has_letters_like_digits(batch: int, n: int) -> None:
    text = serial(batch, n)
    assert parse_serial(text) == (batch, n)
    assert not set(text) & set("IO")


@given(st.integers(1, 10**5), st.integers(1, 10**5))
def test_a_serial_is_never_taken_for_a_code(batch: int, n: int) -> None:
    assert normalise(serial(batch, n)) is None


@pytest.mark.parametrize("text", ["a017-23", " A017 23 ", "A01723"])
def test_a_serial_as_people_write_it(text: str) -> None:
    assert parse_serial(text) == (17, 23)


@pytest.mark.parametrize(
    "text",
    ["", "A017", "A017-", "A17-23", "A000-01", "A001-00", "I017-23", "482917305515", "A017-２３"],
)
def test_what_is_no_serial_is_none(text: str) -> None:
    assert parse_serial(text) is None


@pytest.mark.parametrize(("batch", "n"), [(0, 1), (1, 0), (-1, 5)])
def test_serials_count_from_one(batch: int, n: int) -> None:
    with pytest.raises(ValueError, match="expected both from 1"):
        serial(batch, n)


def test_states_are_the_words_of_the_contract() -> None:
    assert list(State) == ["unused", "active", "used_up", "expired", "revoked", "replaced"]
