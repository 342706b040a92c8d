"""Sealing: octets that only the office can read again, with a key that is not on any machine.

X25519 with a fresh key for each seal, HKDF-SHA256, ChaCha20-Poly1305. Who holds the sealed octets,
the hub, learns their length. The purpose is bound in: a balance is never opened as a backup.
"""

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_OCTETS: Final = 32
OVERHEAD_OCTETS: Final = 32 + 16
# The key is used once, so its nonce may be the same for all.
_NONCE: Final = bytes(12)


class SealError(ValueError):
    """Octets that this key and purpose do not open."""


def seal(public: bytes, purpose: str, plain: bytes, random_octets: Callable[[int], bytes]) -> bytes:
    """Octets that the private half of `public` (X25519) opens, for the same purpose."""
    fresh = X25519PrivateKey.from_private_bytes(random_octets(KEY_OCTETS))
    shared = fresh.exchange(X25519PublicKey.from_public_bytes(public))
    beginning = fresh.public_key().public_bytes_raw()
    key = _key(shared, beginning, public, purpose)
    return beginning + ChaCha20Poly1305(key).encrypt(_NONCE, plain, purpose.encode())


def unseal(private: bytes, purpose: str, sealed: bytes) -> bytes:
    """What was sealed; raises SealError for another key, another purpose, or changed octets."""
    own = X25519PrivateKey.from_private_bytes(private)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(sealed[:KEY_OCTETS]))
        key = _key(shared, sealed[:KEY_OCTETS], own.public_key().public_bytes_raw(), purpose)
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed[KEY_OCTETS:], purpose.encode())
    except (InvalidTag, ValueError) as error:
        raise SealError(
            f"the sealed {purpose} does not open; it is damaged or was sealed for another key"
        ) from error


def public_of(private: bytes) -> bytes:
    """The public half of a recovery key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _key(shared: bytes, fresh: bytes, public: bytes, purpose: str) -> bytes:
    return HKDF(
        algorithm=hashes.SHA256(),
        length=KEY_OCTETS,
        salt=fresh + public,
        info=b"pesisir seal 1 " + purpose.encode(),
    ).derive(shared)
