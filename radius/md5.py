"""MD5, the hash RADIUS is signed with (RFC 2865 3), by the quickest way this Python has.

CPython's own module costs two thirds of hashlib's for a packet, which hands the work to OpenSSL and
pays for its contexts (4,700 to 7,000 instructions for 218 octets, counted on 3.11). A Python built
without it has hashlib's.
"""

import functools
import hashlib
from typing import Protocol


class Hash(Protocol):
    """A state of the hash."""

    def update(self, data: bytes, /) -> None:
        """Take in more."""

    def copy(self) -> "Hash":
        """The same state again."""

    def digest(self) -> bytes:
        """The 16 octets."""


class _Make(Protocol):
    def __call__(self, data: bytes, /) -> Hash: ...


md5: _Make
try:
    from _md5 import md5  # type: ignore[import-not-found,no-redef]
except ImportError:
    md5 = functools.partial(hashlib.md5, usedforsecurity=False)
