"""Sign-ins: who is at the desk, in memory only. A restart ends them all.

A sign-in ends after 15 minutes without a request of a person, after twelve hours whatever happens,
and at once when the operator is removed or the password is set anew.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from portal.operators import Operator, Operators

IDLE_S = 900.0
LONGEST_S = 12 * 3_600.0
ONCE_KEPT_S = 600.0
ONCE_KEPT = 100
"""Forms of one sign-in whose answers are remembered."""
NOTICES_KEPT = 50
KEPT = 1_000
"""Sign-ins at a time; the one longest unused goes first."""


@dataclass(slots=True)
class Once:
    """A form that does its thing once."""

    at_s: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    path: str | None = None
    """Where the first submit led to; None until it is done."""


@dataclass(slots=True)
class SignIn:
    """One operator in one browser."""

    operator: str
    password_hash: str
    csrf: str
    began_s: float
    last_s: float
    site_id: int | None = None
    """The site worked on, None before one was chosen."""
    language: str | None = None
    once: OrderedDict[str, Once] = field(default_factory=OrderedDict)
    notices: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Marks of the notices that were shown."""

    def once_of(self, token: str, elapsed_s: float) -> Once:
        """What is known of the form with this token."""
        while self.once:
            oldest = next(iter(self.once.values()))
            is_old = elapsed_s - oldest.at_s > ONCE_KEPT_S or len(self.once) > ONCE_KEPT
            if not is_old or oldest.lock.locked():
                break
            self.once.popitem(last=False)
        return self.once.setdefault(token, Once(elapsed_s))

    def see_notice(self, mark: str) -> bool:
        """Note that a notice is shown; False when it was before."""
        if mark in self.notices:
            return False
        self.notices[mark] = None
        if len(self.notices) > NOTICES_KEPT:
            self.notices.popitem(last=False)
        return True


class SignIns:
    """The sign-ins there are, by the hash of the cookie."""

    def __init__(
        self,
        operators: Operators,
        *,
        elapsed_s: Callable[[], float],
        random_token: Callable[[int], str],
    ) -> None:
        self._operators = operators
        self._elapsed_s = elapsed_s
        self._random_token = random_token
        self._by_hash: OrderedDict[bytes, SignIn] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_hash)

    def begin(self, operator: Operator) -> tuple[str, SignIn]:
        """A new sign-in and what its cookie holds."""
        now_s = self._elapsed_s()
        for key in [key for key, one in self._by_hash.items() if not self._is_good(one)]:
            del self._by_hash[key]
        token = self._random_token(32)
        made = SignIn(operator.name, operator.password_hash, self._random_token(24), now_s, now_s)
        self._by_hash[_hash(token)] = made
        if len(self._by_hash) > KEPT:
            self._by_hash.popitem(last=False)
        return token, made

    def find(self, token: str | None, *, is_person: bool = True) -> SignIn | None:
        """The sign-in of a cookie; None when it ended. `is_person`: the request keeps it awake."""
        if not token:
            return None
        key = _hash(token)
        found = self._by_hash.get(key)
        if found is None:
            return None
        if not self._is_good(found):
            del self._by_hash[key]
            return None
        if is_person:
            found.last_s = self._elapsed_s()
            self._by_hash.move_to_end(key)
        return found

    def end(self, token: str | None) -> None:
        """End the sign-in of a cookie."""
        self._by_hash.pop(_hash(token or ""), None)

    def _is_good(self, sign_in: SignIn) -> bool:
        now_s = self._elapsed_s()
        if now_s - sign_in.last_s > IDLE_S or now_s - sign_in.began_s > LONGEST_S:
            return False
        operator = self._operators.find(sign_in.operator)
        return operator is not None and hmac.compare_digest(
            operator.password_hash, sign_in.password_hash
        )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
