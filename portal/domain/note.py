"""Signed notes, checkpoints and cosignatures, as C2SP writes them down.

https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature.
A note is text with signature lines below it; a checkpoint is a note whose text names a log, its
size and its root; a cosignature says that a second party saw this checkpoint at a time and that it
continued all it had seen before. Pure: signing and verifying with Ed25519 come in as callables.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

from portal.domain.merkle import HASH_OCTETS

ED25519 = 0x01
"""Signature type of an Ed25519 signature over the text of a note."""
COSIGNATURE = 0x04
"""Signature type of a timestamped Ed25519 cosignature of a checkpoint."""
MOST_SIGNATURES = 16
MOST_CHARACTERS = 1_000_000
"""A note is at most this long: policy documents are notes too."""

Sign = Callable[[bytes], bytes]
"""Signs a message with a key the callable knows."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message): tells whether the Ed25519 signature is good."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DASH = "\N{EM DASH} "
_KEY_ID_OCTETS = 4
_TIME_OCTETS = 8
_SIGNATURE_OCTETS = 64
_PUBLIC_OCTETS = 32


class NoteError(ValueError):
    """A note, checkpoint or key that is not in the form C2SP asks for: what, seen, expected."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line. `octets` is the signature without the key id in front of it."""

    name: str
    key_id: bytes
    octets: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart. Nothing about it is true before a signature of a known key is checked."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key by which notes are checked: the C2SP "vkey", with its name and its use."""

    name: str
    algorithm: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.algorithm, self.public)

    def __str__(self) -> str:
        """Return the line in which it is handed out: `name+hex key id+base64 key`."""
        encoded = b64encode(bytes([self.algorithm]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: which log, how many records, and the root over them."""

    origin: str
    size: int
    root: bytes


# --- keys ---------------------------------------------------------------------------------------


def key_id(name: str, algorithm: int, public: bytes) -> bytes:
    """Return the 4 octets by which a signature line names its key."""
    return sha256(f"{name}\n".encode() + bytes([algorithm]) + public).digest()[:_KEY_ID_OCTETS]


def parse_key(line: str) -> Key:
    """Return the key of a line `name+hex key id+base64 key`.

    Raises NoteError for any other text, and when the key id does not belong to the key.
    """
    parts = line.strip().split("+", 2)  # base64 may hold a plus, a name and a key id never
    if len(parts) != 3:
        raise NoteError(f"key {line.strip()[:80]!r}; expected name+key id+base64")
    name, hex_id, encoded = parts
    octets = _base64(encoded, "a key")
    if len(octets) != 1 + _PUBLIC_OCTETS or octets[0] not in (ED25519, COSIGNATURE):
        raise NoteError(f"key of {name!r} is not one of Ed25519; expected type 1 or 4, 32 octets")
    key = Key(_name(name), octets[0], octets[1:])
    if key.key_id.hex() != hex_id:
        raise NoteError(f"key of {name!r} says id {hex_id!r}; expected {key.key_id.hex()}")
    return key


# --- notes --------------------------------------------------------------------------------------


def format_note(text: str, signatures: Iterable[Signature]) -> str:
    """Return a note as it is stored and sent: text, blank line, signature lines.

    Raises NoteError when the text does not end in a newline or holds control characters.
    """
    lines = []
    for signature in signatures:
        encoded = b64encode(signature.key_id + signature.octets).decode()
        lines.append(f"{_DASH}{_name(signature.name)} {encoded}\n")
    return f"{_text(text)}\n{''.join(lines)}"


def parse_note(note: str) -> Note:
    """Return text and signatures of a note; none of them is checked.

    The text ends at the last blank line. Raises NoteError when the form is not kept to the letter:
    every note has one spelling, so that equal notes are equal octets.
    """
    if len(note) > MOST_CHARACTERS:
        raise NoteError(f"a note of {len(note)} characters; expected at most {MOST_CHARACTERS}")
    text, blank, rest = note.rpartition("\n\n")
    if not blank:
        raise NoteError("a note has no blank line; expected text, blank line, signatures")
    text = _text(text + "\n")
    if not rest.endswith("\n"):
        raise NoteError("a note does not end in a newline; expected one after each signature")
    lines = rest[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise NoteError(f"a note has {len(lines)} signatures; expected at most {MOST_SIGNATURES}")
    return Note(text, tuple(_signature(line) for line in lines))


def _signature(line: str) -> Signature:
    if not line.startswith(_DASH):
        raise NoteError(f"signature line {line[:80]!r}; expected an em dash and a space first")
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    octets = _base64(encoded, "a signature")
    if not space or len(octets) <= _KEY_ID_OCTETS:
        raise NoteError(f"signature of {len(octets)} octets; expected a key id and a signature")
    return Signature(_name(name), octets[:_KEY_ID_OCTETS], octets[_KEY_ID_OCTETS:])


def sign_note(text: str, key: Key, sign: Sign) -> Signature:
    """Return the signature of `key` (its private half in `sign`) over the text of a note."""
    return Signature(key.name, key.key_id, sign(_text(text).encode()))


def is_signed(note: Note, key: Key, verify: Verify) -> bool:
    """Tell whether the note has a good signature of `key`, and no bad one of it."""
    found = _by(note, key)
    message = note.text.encode()
    return bool(found) and all(verify(key.public, one.octets, message) for one in found)


def _by(note: Note, key: Key) -> list[Signature]:
    wanted = (key.name, key.key_id)
    return [one for one in note.signatures if (one.name, one.key_id) == wanted]


# --- checkpoints --------------------------------------------------------------------------------


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """Return the text that is signed: origin, size and base64 root, a line each."""
    root = b64encode(checkpoint.root).decode()
    return _text(f"{_name(checkpoint.origin)}\n{checkpoint.size}\n{root}\n")


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint in the text of a note.

    Raises NoteError for extension lines too: what is not in the tree has no business in its head.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteError(f"a checkpoint of {text.count(chr(10))} lines; expected 3")
    origin, size, encoded = lines[:3]
    is_number = size.isascii() and size.isdigit() and len(size) <= 19
    if not is_number or str(int(size)) != size:
        raise NoteError(f"size of a checkpoint is {size[:40]!r}; expected a plain number")
    root = _base64(encoded, "a root")
    if len(root) != HASH_OCTETS:
        raise NoteError(f"a root of {len(root)} octets; expected {HASH_OCTETS}")
    return Checkpoint(_name(origin), int(size), root)


def cosignature_message(text: str, timestamp: int) -> bytes:
    """Return what a cosigner signs: the text of a checkpoint and when it saw it (epoch s UTC)."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def cosign(text: str, timestamp: int, key: Key, sign: Sign) -> Signature:
    """Return the cosignature of `key` over the text of a checkpoint, given at `timestamp`."""
    octets = timestamp.to_bytes(_TIME_OCTETS, "big") + sign(cosignature_message(text, timestamp))
    return Signature(key.name, key.key_id, octets)


def cosigned_at(note: Note, key: Key, verify: Verify) -> int | None:
    """Return when `key` cosigned this checkpoint (epoch s UTC, the latest), None if it did not.

    A bad cosignature of the key among good ones makes all of them worth nothing.
    """
    times = []
    for one in _by(note, key):
        timestamp = int.from_bytes(one.octets[:_TIME_OCTETS], "big")
        is_whole = len(one.octets) == _TIME_OCTETS + _SIGNATURE_OCTETS
        message = cosignature_message(note.text, timestamp)
        if not is_whole or not verify(key.public, one.octets[_TIME_OCTETS:], message):
            return None
        times.append(timestamp)
    return max(times, default=None)


# --- the form -----------------------------------------------------------------------------------


def _text(text: str) -> str:
    if not text.endswith("\n"):
        raise NoteError("text of a note does not end in a newline; expected one")
    control = _CONTROL.search(text)
    if control is not None:
        raise NoteError(f"text of a note holds {control[0]!r}; expected no control characters")
    return text


def _name(name: str) -> str:
    if not name or "+" in name or any(one.isspace() or one < " " for one in name):
        raise NoteError(f"name {name[:80]!r}; expected one without spaces and plus signs")
    return name


def _base64(encoded: str, what: str) -> bytes:
    try:
        octets = b64decode(encoded, validate=True)
    except ValueError:
        octets = b""
    if b64encode(octets).decode() != encoded:
        raise NoteError(f"{what} is {encoded[:100]!r}; expected base64 in its one spelling")
    return octets
