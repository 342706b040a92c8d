"""USB stick: the same exchanges as over the link, in a file that somebody carries.

A node writes `pesisir-NODE.batches`; the hub takes it and writes `pesisir-NODE.answers` beside it,
which the node reads when the stick is back: the hub's cosignatures, and documents. Both are signed
by nothing but what is in them, checkpoints and notes, except that the node signs its file as a
whole, so that no stranger fills the hub's evidence.
"""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from portal import wire
from portal.errors import UserError

FORM: Final = "pesisir-stick-1"
MOST_OCTETS: Final = 200_000_000
T = TypeVar("T", "Batches", "Answers")
_encode = msgspec.msgpack.Encoder().encode


class Batches(msgspec.Struct, array_like=True, frozen=True):
    """What a node's file holds."""

    form: str
    node_id: str
    made_at: int
    exchanges: list[bytes]
    """Bodies of exchanges, as over the link."""
    signature: bytes
    """Ed25519 of the node over everything before it."""

    def message(self) -> bytes:
        """What the signature is over."""
        told = _encode([self.form, self.node_id, self.made_at, self.exchanges])
        return b"pesisir stick\n" + sha256(told).digest()


class Answers(msgspec.Struct, array_like=True, frozen=True):
    """What the hub's file holds: an answer for each exchange, as over the link."""

    form: str
    node_id: str
    made_at: int
    answers: list[bytes]


def batches_path(directory: Path, node_id: str) -> Path:
    """The node's file on a stick."""
    return directory / f"pesisir-{node_id}.batches"


def answers_path(directory: Path, node_id: str) -> Path:
    """The hub's file on a stick."""
    return directory / f"pesisir-{node_id}.answers"


def write_batches(
    path: Path,
    node_id: str,
    made_at: int,
    exchanges: Sequence[bytes],
    sign: Callable[[bytes], bytes],
) -> int:
    """Write a node's file; return its size. Raises UserError."""
    unsigned = Batches(FORM, node_id, made_at, list(exchanges), b"")
    signature = sign(unsigned.message())
    return _write(path, Batches(FORM, node_id, made_at, list(exchanges), signature))


def read_batches(path: Path) -> Batches:
    """A node's file, its signature not yet checked; raises UserError."""
    return _read(path, Batches)


def write_answers(path: Path, node_id: str, made_at: int, answers: Sequence[wire.Answer]) -> int:
    """Write a hub's file; return its size. Raises UserError."""
    bodies = [wire.pack(answer) for answer in answers]
    return _write(path, Answers(FORM, node_id, made_at, bodies))


def read_answers(directory: Path, node_id: str) -> list[bytes]:
    """The answers on a stick for this node, none where it has not been at the hub.

    Raises UserError, also where there is no such directory.
    """
    if not directory.is_dir():
        raise UserError(f"There is no directory {directory}; expected where the stick is mounted.")
    path = answers_path(directory, node_id)
    if not path.exists():
        return []
    found = _read(path, Answers)
    if found.node_id != node_id:
        raise UserError(f"{path} is for the node {found.node_id[:40]}; expected {node_id}.")
    return found.answers


def _write(path: Path, content: msgspec.Struct) -> int:
    octets = _encode(content)
    fresh = path.with_name(path.name + ".part")
    try:
        with open(fresh, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written: {error.strerror}.") from error
    return len(octets)


def _read(path: Path, kind: type[T]) -> T:
    try:
        if path.stat().st_size > MOST_OCTETS:
            raise UserError(f"{path} is longer than {MOST_OCTETS} octets; expected a stick's file.")
        found = msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{path} is no file of a Pesisir stick, or is damaged.") from error
    if found.form != FORM:
        raise UserError(f"{path} has the form {found.form[:40]!r}; expected {FORM}.")
    return found
