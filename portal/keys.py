"""Keys: the node's secrets, in one file beside the database and in every backup.

Without the hash key every card is dead, so it is never made anew for a directory that has data.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from portal.errors import UserError

FILE_NAME = "pesisir.keys"
_OCTETS = 32


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """Secret octets by purpose."""

    hash_key: bytes
    """Codes are stored as a hash under this key."""
    class_key: bytes
    """Authenticates the Class attribute."""
    web_key: bytes
    """Signs form tokens and links of the pages."""
    seal_key: bytes
    """Encrypts the copies of codes kept for a second print (a Fernet key)."""


def make(random_bytes: Callable[[int], bytes]) -> Keys:
    """New keys."""
    return Keys(
        hash_key=random_bytes(_OCTETS),
        class_key=random_bytes(_OCTETS),
        web_key=random_bytes(_OCTETS),
        seal_key=Fernet.generate_key(),
    )


def write(directory: Path, keys: Keys) -> None:
    """Store keys in a new file that only its owner can read, safe against a power cut."""
    text = json.dumps({name: value.hex() for name, value in asdict(keys).items()}, indent=1)
    descriptor = os.open(directory / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(directory: Path) -> Keys:
    """The keys of a directory; raises UserError when the file is missing or damaged."""
    path = directory / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        keys = Keys(**{name: bytes.fromhex(value) for name, value in found.items()})
        Fernet(keys.seal_key)
    except FileNotFoundError as error:
        raise UserError(
            f"The key file {path} is missing; put it back from a backup, without it no card works."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"The key file {path} cannot be read ({type(error).__name__}); put it back from a"
            " backup, without it no card works."
        ) from error
    if min(len(keys.hash_key), len(keys.class_key), len(keys.web_key)) < _OCTETS:
        raise UserError(f"The key file {path} is cut short; put it back from a backup.")
    return keys
