"""Enrol token: the one-time secret with which a new box proves that the office sent it.

Pure. On paper and in QR it is 48 letters and digits in groups of four: 130 bits of secret, 100 bits
of the hash of the hub's CA, 10 bits of check. So the box that is given an address and a token
trusts no certificate but the office's. The secret itself never travels: the hub stores what is
derived from it, the box sends an HMAC.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from portal.domain import six_words

LIFE_S = 7 * 86_400
SECRET_BITS = 130
CA_BITS = 100
_CHECK_BITS = 10
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u."""
_LENGTH = (SECRET_BITS + CA_BITS + _CHECK_BITS) // 5
_LOOK_ALIKES = str.maketrans("ilo", "110")


class TokenError(ValueError):
    """What was typed is no token; `str()` says what was seen and what was expected."""


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A token as the box has it."""

    secret: int
    """130 bits."""
    ca_bits: int
    """The first 100 bits of the SHA-256 of the hub's CA (DER)."""

    def text(self) -> str:
        """As it is printed: twelve groups of four."""
        body = _write(self.secret, SECRET_BITS) + _write(self.ca_bits, CA_BITS)
        whole = body + _check(body)
        return "-".join(whole[i : i + 4] for i in range(0, _LENGTH, 4))

    @property
    def id(self) -> str:
        """What the hub knows the token by: 16 hex digits that give nothing of it away."""
        return self._derived(b"id")[:8].hex()

    @property
    def key(self) -> bytes:
        """What the hub keeps to check a proof with; the secret cannot be had from it."""
        return self._derived(b"key")

    def fits_ca(self, ca_der: bytes) -> bool:
        """Whether this is the CA of the hub that made the token."""
        return ca_bits(ca_der) == self.ca_bits

    def _derived(self, purpose: bytes) -> bytes:
        secret = self.secret.to_bytes((SECRET_BITS + 7) // 8, "big")
        return hashlib.sha256(b"pesisir token 1 " + purpose + b"\0" + secret).digest()


def make(random_bytes: Callable[[int], bytes], ca_der: bytes) -> Token:
    """A new token of the hub with this CA."""
    octets = (SECRET_BITS + 7) // 8
    secret = int.from_bytes(random_bytes(octets), "big") >> (octets * 8 - SECRET_BITS)
    return Token(secret, ca_bits(ca_der))


def ca_bits(ca_der: bytes) -> int:
    """The bits of a CA that stand in a token."""
    return int.from_bytes(hashlib.sha256(ca_der).digest(), "big") >> (256 - CA_BITS)


def read(text: str) -> Token:
    """The token a person typed or pasted: case, spaces and dashes do not matter.

    Raises TokenError for one with a wrong length, sign or check.
    """
    typed = re.sub(r"[\s-]", "", text).lower().translate(_LOOK_ALIKES)
    wrong = [sign for sign in typed if sign not in _LETTERS]
    if wrong:
        raise TokenError(f"the token has the sign {wrong[0]!r}; expected letters and digits")
    if len(typed) != _LENGTH:
        raise TokenError(f"the token has {len(typed)} signs; expected {_LENGTH}")
    body, check = typed[:-2], typed[-2:]
    if check != _check(body):
        raise TokenError("the token is mistyped; compare it with the paper, group by group")
    parted = SECRET_BITS // 5
    return Token(_read(body[:parted]), _read(body[parted:]))


def proof(key: bytes, node_id: str, signing: bytes, sealing: bytes, ca_der: bytes) -> bytes:
    """What shows that the box with these public keys, which sees this CA, has the token with this
    `key`."""
    parts = (node_id.encode(), signing, sealing, hashlib.sha256(ca_der).digest())
    message = b"pesisir enrol 1\n" + b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    return hmac.digest(key, message, "sha256")


def words(signing: bytes, sealing: bytes, ca_der: bytes) -> tuple[str, ...]:
    """The six words by which a person knows that the box and the hub see the same public keys and
    the same CA."""
    return six_words.fingerprint(signing, sealing, hashlib.sha256(ca_der).digest())


def _write(value: int, bits: int) -> str:
    return "".join(_LETTERS[value >> shift & 31] for shift in range(bits - 5, -1, -5))


def _read(text: str) -> int:
    value = 0
    for sign in text:
        value = value << 5 | _LETTERS.index(sign)
    return value


def _check(body: str) -> str:
    bits = int.from_bytes(hashlib.sha256(b"pesisir token\0" + body.encode()).digest()[:2], "big")
    return _write(bits >> 6, _CHECK_BITS)
