"""Voucher: its code, its serial and its states.

Pure. The code is a secret and opens the network; the serial only names the card. Random numbers
come in as arguments, and how a code is stored is not known here.
"""

import re
import unicodedata
from enum import StrEnum

CODE_DIGITS = 12
CODE_SPACE = 10**11  # eleven free digits; the twelfth checks them
RESERVED_CODE = "482917305515"  # printed as the example everywhere, so never issued


class State(StrEnum):
    """What a voucher is good for; `used_up` means that a total quota is gone, not a day's."""

    UNUSED = "unused"
    ACTIVE = "active"
    USED_UP = "used_up"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REPLACED = "replaced"


# The quasigroup of H. M. Damm's thesis (2004), of order 10 with a zero diagonal: a number followed
# by its check digit ends in state 0.
_DAMM = (
    (0, 3, 1, 7, 5, 9, 8, 6, 4, 2),
    (7, 0, 9, 2, 1, 5, 4, 8, 6, 3),
    (4, 2, 0, 6, 8, 7, 1, 3, 5, 9),
    (1, 7, 5, 0, 9, 8, 3, 4, 2, 6),
    (6, 1, 2, 3, 0, 4, 5, 9, 7, 8),
    (3, 6, 7, 4, 2, 0, 9, 5, 8, 1),
    (5, 8, 6, 9, 7, 2, 0, 1, 3, 4),
    (8, 9, 4, 5, 3, 6, 2, 0, 1, 7),
    (9, 4, 3, 8, 6, 1, 7, 2, 0, 5),
    (2, 5, 8, 1, 4, 3, 6, 7, 9, 0),
)


def check_digit(digits: str) -> int:
    """Return the Damm check digit of ASCII `digits`; 0 for digits that end in their own."""
    state = 0
    for digit in digits:
        state = _DAMM[state][ord(digit) - 48]
    return state


def make_code(n: int) -> str:
    """Return the code with `n` (0 to CODE_SPACE - 1) in front of its check digit.

    The caller draws `n` and draws again when it gives RESERVED_CODE or a code already in use.
    """
    if not 0 <= n < CODE_SPACE:
        raise ValueError(f"number of a code is out of range; expected 0 to {CODE_SPACE - 1}")
    digits = f"{n:011d}"
    return f"{digits}{check_digit(digits)}"


def is_well_formed(code: str) -> bool:
    """Tell whether `code` is 12 ASCII digits with a right check digit; else it is a slip."""
    return len(code) == CODE_DIGITS and code.isascii() and code.isdigit() and check_digit(code) == 0


# --- what people type --------------------------------------------------------------------------

_MAX_TYPED = 512  # the field takes 64; a pasted link with tracking behind it is longer
_LOOK_ALIKES = str.maketrans("OoIiLl|", "0011111")


def normalise(text: str) -> str | None:
    """Return the 12 digits somebody meant, None when there are not twelve.

    Takes spaces, dashes and other signs between the digits, full-width and other scripts' digits,
    letters that look like digits, words around the code (`Kode: 4829 ...`), and the link of a QR
    code of any host. Whether the digits fit together is for `is_well_formed`.
    """
    digits = _all_digits(text)
    return digits if len(digits) == CODE_DIGITS else None


def digits_in(text: str) -> int:
    """Return how many digits `normalise` sees in what somebody typed."""
    return len(_all_digits(text))


def _all_digits(text: str) -> str:
    if len(text) > _MAX_TYPED:
        return ""
    return "".join(_digits(word) for word in unicodedata.normalize("NFKC", text).split())


def _digits(word: str) -> str:
    """Return the digits of one word, '' when it is a word of letters."""
    if "/" in word:
        path = re.split(r"[?#]", word, maxsplit=1)[0]
        last = path.rstrip("/").rpartition("/")[2]
        digits = _digits(last)
        if len(digits) == CODE_DIGITS:
            return digits
    digits = ""
    for character in word.translate(_LOOK_ALIKES):
        value = unicodedata.decimal(character, None)
        if value is not None:
            digits += str(value)
        elif character.isalnum():
            return ""
    return digits


# --- what people see ---------------------------------------------------------------------------


def show(code: str) -> str:
    """Return a code as it is printed: `4829 1730 5515`."""
    return f"{code[:4]} {code[4:8]} {code[8:]}"


def mask(last4: str) -> str:
    """Return a code as pages show it: `**** **** 5515`."""
    return f"**** **** {last4}"


# I and O are left out: on paper they are read as 1 and 0.
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_BATCHES_PER_LETTER = 999
_SERIAL = re.compile(r"([A-HJ-NP-Z]{1,4})([0-9]{3})[- ]?([0-9]{2,9})")


def serial(batch_number: int, n: int) -> str:
    """Return the serial of card `n` of a batch, both counted from 1: `A017-23`.

    Batches 1 to 999 are A001 to A999, 1000 is B001; after Z999 comes AA001.
    """
    if batch_number < 1 or n < 1:
        raise ValueError(f"batch {batch_number}, card {n}; expected both from 1")
    series, number = divmod(batch_number - 1, _BATCHES_PER_LETTER)
    letters = ""
    series += 1
    while series:
        series, letter = divmod(series - 1, len(_LETTERS))
        letters = _LETTERS[letter] + letters
    return f"{letters}{number + 1:03d}-{n:02d}"


def parse_serial(text: str) -> tuple[int, int] | None:
    """Return (batch number, card number) of a serial as people write it, None when it is none.

    Takes lower case, and a space or nothing in place of the dash.
    """
    match = _SERIAL.fullmatch(text.strip().upper())
    if match is None:
        return None
    letters, number, n = match[1], int(match[2]), int(match[3])
    if number < 1 or n < 1:
        return None
    series = 0
    for letter in letters:
        series = series * len(_LETTERS) + _LETTERS.index(letter) + 1
    return (series - 1) * _BATCHES_PER_LETTER + number, n
