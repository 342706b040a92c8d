"""Signing keys: what a node signs its checkpoints and requests with, in a file of its own.

Not part of pesisir.keys, since a box that takes the place of another has its cards' keys but never
its signature: two boxes that sign for one log would look like a forgery.
"""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portal.domain import ledger, note
from portal.errors import UserError

FILE_NAME = "pesisir.signing"
_OCTETS = 32
_NODE_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, repr=False)
class SigningKeys:
    """The private keys of one box."""

    seed: bytes
    """Ed25519 (RFC 8032): signs."""
    exchange: bytes
    """X25519 (RFC 7748): opens what was sealed for this box."""
    node_id: str
    """What the box is called for ever, from its first signing key, also after a change of keys."""
    former: tuple[bytes, ...] = ()
    """Public keys it signed with before, oldest first: what it signed then is still its own."""

    @classmethod
    def make(
        cls, random_bytes: Callable[[int], bytes], node_id: str | None = None
    ) -> "SigningKeys":
        """New keys; `node_id` stays where a box changes its keys."""
        seed = random_bytes(_OCTETS)
        name = node_id or ledger.node_id(_public(seed))
        return cls(seed, random_bytes(_OCTETS), name)

    @classmethod
    def read(cls, directory: Path) -> "SigningKeys":
        """The keys of a directory; raises UserError when the file is damaged, FileNotFoundError
        when there is none."""
        path = directory / FILE_NAME
        try:
            found = json.loads(path.read_text(encoding="ascii"))
            keys = cls(
                bytes.fromhex(found["seed"]),
                bytes.fromhex(found["exchange"]),
                found["node_id"],
                tuple(bytes.fromhex(key) for key in found.get("former", [])),
            )
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"The file {path} cannot be read ({type(error).__name__}); put it back from a"
                " backup, or remove it: the node then makes new keys and has to be enrolled again."
            ) from error
        if not _NODE_ID.fullmatch(keys.node_id):
            raise UserError(
                f"The file {path} has the node id {keys.node_id!r}; expected 16 hex digits."
            )
        if len(keys.seed) != _OCTETS or len(keys.exchange) != _OCTETS:
            raise UserError(f"The file {path} is cut short; put it back from a backup.")
        return keys

    def write(self, directory: Path) -> None:
        """Store the keys in a file that only its owner can read, safe against a power cut."""
        content = {
            "node_id": self.node_id,
            "seed": self.seed.hex(),
            "exchange": self.exchange.hex(),
            "former": [key.hex() for key in self.former],
        }
        unfinished = directory / f"{FILE_NAME}.unfinished"
        with suppress(FileNotFoundError):
            unfinished.unlink()
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, directory / FILE_NAME)
        # The hub ends the old key as soon as the new one is used: it must not come back.
        place = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)

    @classmethod
    def read_or_make(cls, directory: Path, random_bytes: Callable[[int], bytes]) -> "SigningKeys":
        """The keys of a directory, made when it has none."""
        try:
            return cls.read(directory)
        except FileNotFoundError:
            keys = cls.make(random_bytes)
            keys.write(directory)
            return keys

    @property
    def public(self) -> bytes:
        """The Ed25519 public key."""
        return _public(self.seed)

    @property
    def exchange_public(self) -> bytes:
        """The X25519 public key."""
        return X25519PrivateKey.from_private_bytes(self.exchange).public_key().public_bytes_raw()

    @property
    def key(self) -> note.Key:
        """By which the hub checks this node's notes."""
        return note.Key(ledger.node_key_name(self.node_id), note.ED25519, self.public)

    @property
    def known_keys(self) -> list[note.Key]:
        """By which any note of this box can be checked, whenever it was signed; newest first."""
        name = ledger.node_key_name(self.node_id)
        publics = [self.public, *reversed(self.former)]
        return [note.Key(name, note.ED25519, public) for public in publics]

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)


def _public(seed: bytes) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature is good."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
