"""Hub trust: which hub a node reports to and whose signatures it believes, in one file.

`pesisir enrol` writes it and every exchange reads it. It holds no secret, but whoever can change it
can send the village's records elsewhere, so it is for its owner alone, like the keys.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from portal.errors import UserError

FILE_NAME = "pesisir.hub"


@dataclass(frozen=True, slots=True)
class HubTrust:
    """A hub, as a node knows it since it was enrolled."""

    url: str
    """https://host[:port], without a slash at the end."""
    authority: str
    """The certificates (PEM) of the authorities that may vouch for the hub, and no others."""
    cosigner: str
    """The hub's key for cosignatures, in the form name+id+base64 (C2SP signed-note)."""
    documents: str
    """The hub's key for documents, in the same form."""
    recovery: str
    """The office's public key (X25519, hex) for what only the office may read again."""


def write(directory: Path, trust: HubTrust) -> None:
    """Store the trust, safe against a power cut; what was there is replaced."""
    text = json.dumps(asdict(trust), indent=1) + "\n"
    fresh = directory / f"{FILE_NAME}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, directory / FILE_NAME)
    place = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def read(directory: Path) -> HubTrust | None:
    """The trust of a directory, None before it is enrolled; raises UserError for a damaged file."""
    path = directory / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        values = {one.name: found[one.name] for one in fields(HubTrust)}
        if not all(isinstance(value, str) for value in values.values()):
            raise ValueError("expected texts")
        return HubTrust(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"The file {path} cannot be read ({type(error).__name__}); enrol this box again with: "
            "pesisir enrol"
        ) from error
