"""Checkpoints at the hub: reading a node's, cosigning it, knowing one's own again.

The only place of the hub's use cases that knows the cryptography library.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from portal.domain import note
from portal.domain.ledger import LedgerError, node_key_name, parse_origin
from portal.domain.note import Checkpoint, NoteError


class CheckpointError(ValueError):
    """A note that is no checkpoint of this node: one plain sentence."""


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature is good (`note.Verify`)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Seen:
    """A node's checkpoint whose signature is good."""

    checkpoint: Checkpoint
    epoch: int
    text: str
    signed: str
    signatures: tuple[note.Signature, ...]


@dataclass(frozen=True, slots=True)
class Cosigner:
    """The hub's cosigning key."""

    key: note.Key
    sign: Callable[[bytes], bytes]

    def line_of(self, cosigned: str) -> str | None:
        """This hub's signature line in a note, without its newline."""
        for line in cosigned.rpartition("\n\n")[2].splitlines():
            if line.startswith(f"\N{EM DASH} {self.key.name} "):
                return line
        return None

    def cosign(self, seen: Seen, now: int) -> str:
        """The node's note with the node's signatures and ours."""
        own = [each for each in seen.signatures if each.name != self.key.name]
        return note.format_note(seen.text, [*own, note.cosign(seen.text, now, self.key, self.sign)])

    def is_own(self, text: str) -> bool:
        """Whether this hub has cosigned a note. Raises NoteError for what is none."""
        return self.signed_at(text) is not None

    def signed_at(self, text: str) -> int | None:
        """When this hub has cosigned a note; None where it has not. Raises NoteError for what is
        none."""
        return note.cosigned_at(note.parse_note(text), self.key, verify)


def read_cosigned(text: str) -> tuple[str, int, Checkpoint]:
    """(node, epoch, checkpoint) of a note. Raises CheckpointError for what is none of ours."""
    try:
        checkpoint = note.parse_checkpoint(note.parse_note(text).text)
        node_id, epoch = parse_origin(checkpoint.origin)
    except (NoteError, LedgerError) as error:
        raise CheckpointError(f"The checkpoint cannot be read: {error}.") from error
    return node_id, epoch, checkpoint


def read(text: str, node_id: str, epoch: int, keys: Sequence[bytes]) -> Seen:
    """A node's signed checkpoint of this epoch.

    Raises CheckpointError when it is another's, or none of the node's keys has signed it.
    """
    found, its_epoch, checkpoint = read_cosigned(text)
    if (found, its_epoch) != (node_id, epoch):
        raise CheckpointError(
            f"The checkpoint is of {checkpoint.origin}; expected node {node_id}, epoch {epoch}."
        )
    parsed = note.parse_note(text)
    name = node_key_name(node_id)
    for public in keys:
        if note.is_signed(parsed, note.Key(name, note.ED25519, public), verify):
            return Seen(checkpoint, epoch, parsed.text, text, parsed.signatures)
    raise CheckpointError("The checkpoint's signature fits none of the node's keys.")
