"""Passwords of operators and reviewers: made, hashed, checked.

argon2id at OWASP's second choice for servers with little memory: 19 MiB, two passes, one lane. On a
1 GB box that is about a third of a second and must not run on the event loop, nor twice at once.
"""

from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Without 0 o 1 l i: people copy it from a terminal or a slip of paper.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS = 4
_IN_A_GROUP = 4


def make(random_below: Callable[[int], int]) -> str:
    """A new password such as "k7wq-m3xp-9rtd-hf2y": 79 bits."""
    return "-".join(
        "".join(_LETTERS[random_below(len(_LETTERS))] for _ in range(_IN_A_GROUP))
        for _ in range(_GROUPS)
    )


def hashed(password: str) -> str:
    """The text to store. Takes long: run it in a thread."""
    return _HASHER.hash(password)


def fits(password: str, stored: str) -> bool:
    """Whether `password` is the one that was stored. Takes long: run it in a thread."""
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
