"""Wire: what a node and its hub say to each other, as octets; both sides use this and nothing else.

A body is a msgpack array in zlib's format (`Content-Encoding: deflate`, RFC 9110 8.4.1.2). Arrays
and not maps, because a satellite link is paid by the octet: a field's place is its name, so fields
are only ever added at the end and with a default. Everything that is read here came over a network:
sizes are checked before anything is unpacked, and what does not fit raises `WireError`.
"""

import zlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

VERSION: Final = 1
CONTENT_TYPE: Final = "application/msgpack"
CONTENT_ENCODING: Final = "deflate"

MOST_RECORDS: Final = 500
MOST_RECORD_OCTETS: Final = 64_000
"""Of `Exchange.records`, before deflating; a single longer record is never written."""
MOST_BODY_OCTETS: Final = 256_000
"""Of a body as it is sent (after deflating), but for backups."""
MOST_INFLATED_OCTETS: Final = 1_000_000
"""Of the same body unpacked; it stops one that grows a thousandfold."""
MOST_BACKUP_OCTETS: Final = 16_000_000
"""Of a sealed backup, either way."""
MOST_DOCUMENT_OCTETS: Final = 64_000
COMMITMENT_OCTETS: Final = 32
_LEVEL: Final = 9

T = TypeVar("T")


class WireError(ValueError):
    """Octets that are not what was expected: what, seen, expected, in one sentence."""


class Problem(StrEnum):
    """`Answer.problem`: why the hub did not simply accept. Its HTTP status stands behind it."""

    GAP = "gap"
    """409: `first` is beyond the hub's size; go on from `size`."""
    FORK = "fork"
    """409: other records, or another root, at a place the hub knows; both sides keep both notes."""
    ROLLED_BACK = "rolled_back"
    """409: the hub knows a longer log of which the node's is a prefix; `head` proves it."""
    EPOCH = "epoch"
    """409: the hub knows a later epoch, or the epoch's parent is not the hub's head; see `head`."""
    BEHIND = "behind"
    """200: the hub has lost records (it was restored); it takes them again from `size`."""
    PENDING = "pending"
    """202: nobody at the office has approved this node yet."""
    UNKNOWN = "unknown"
    """401: no such node or key, or a signature that does not fit."""
    COUNTER = "counter"
    """401: the request counter was used before; `size` of the answer is the highest one seen."""
    REVOKED = "revoked"
    """410: the office took this node's right to report."""
    BODY = "body"
    """413 or 422: a body that is too long or makes no sense."""
    FULL = "full"
    """503: the hub cannot store anything now."""


class Held(msgspec.Struct, array_like=True, frozen=True):
    """A document that the node has applied."""

    name: str
    """`profiles`, `announcements`, `blocked`, `settings`, `reset`."""
    scope: str
    """`all`, `group X` or `site X`, as the document's header has it."""
    version: int


class Refused(msgspec.Struct, array_like=True, frozen=True):
    """A document that the node would not apply; the hub does not send this version again."""

    name: str
    scope: str
    version: int
    why: str
    """One English sentence."""


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """Balances that changed, sealed for the office's recovery key; the hub only keeps it."""

    number: int
    """Grows by one; the hub keeps those above the number of the newest backup."""
    octets: bytes


class Exchange(msgspec.Struct, array_like=True, frozen=True):
    """Node to hub: `POST /api/v1/nodes/{node_id}/exchange`."""

    version: int
    epoch: int
    first: int
    """Sequence number of the first record."""
    records: bytes
    """See `pack_records`. Empty: an idle exchange, or the checkpoint that goes first."""
    checkpoint: str
    """The node's signed note. With records: of the log right after the last of them. Without: of
    the whole log, which may be longer than what the hub has; the hub keeps it as a promise."""
    acked_size: int
    """The size of the newest checkpoint that the hub has cosigned, as the node knows it."""
    held: list[Held]
    refused: list[Refused] = []
    delta: Delta | None = None
    proof: str | None = None
    """The hub's own cosigned note, sent after the hub said `behind`."""
    is_all: bool = False
    """The node has nothing of the epochs that the hub named as `lost`."""


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """Hub to node, with every status of an exchange."""

    size: int
    """How many records of this epoch the hub has."""
    cosignature: str | None = None
    """The hub's signature line for the note that was sent (C2SP cosignature/v1), without newline;
    only where the hub has every record the note covers."""
    documents: list[str] = []
    """Signed notes of what the node should apply and does not hold."""
    now_at: int = 0
    """The hub's time, epoch s; 0 = not told."""
    interval_s: int = 0
    """When the hub would like to hear again; 0 = as the node is set."""
    backed_up_size: int = 0
    """Records that are in a backup off the hub's machine: only these may be pruned at the node."""
    backup_number: int = 0
    """The delta number of the sealed backup that the hub holds; 0 = it holds none."""
    wants_backup: bool = False
    """The hub holds no sealed backup, or an old one."""
    problem: str | None = None
    """One of `Problem`."""
    detail: str = ""
    """One English sentence for the log and the operator."""
    head: str | None = None
    """The hub's newest cosigned note of this node, where `problem` needs it."""
    lost: int | None = None
    """With `behind`: an earlier epoch that the hub had cosigned further than it now goes. It has to
    come before this one, or what is told twice could not be told from what is new."""


class Backup(msgspec.Struct, array_like=True, frozen=True):
    """Node to hub: `PUT /api/v1/nodes/{node_id}/backup`."""

    number: int
    """It contains every delta up to this number."""
    sealed: bytes


class Recovery(msgspec.Struct, array_like=True, frozen=True):
    """Hub to node: `GET /api/v1/nodes/{node_id}/backup`, of the node that this one replaces."""

    backup: Backup | None
    deltas: list[Delta]
    """Those above the backup's number, in order."""
    head: str | None
    """The hub's newest cosigned note of the replaced node: the parent of the new epoch."""
    epoch: int
    """The epoch that the replacing node opens."""


# --- bodies

_encoder = msgspec.msgpack.Encoder()


def pack(message: msgspec.Struct) -> bytes:
    """A message as a body."""
    return zlib.compress(_encoder.encode(message), _LEVEL)


def unpack(
    body: bytes,
    kind: type[T],
    *,
    most_octets: int = MOST_BODY_OCTETS,
    most_inflated: int = MOST_INFLATED_OCTETS,
) -> T:
    """A body as a message of `kind`; raises WireError for anything that is not one."""
    if len(body) > most_octets:
        raise WireError(f"the body has {len(body)} octets; expected at most {most_octets}")
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(body, most_inflated + 1)
    except zlib.error as error:
        raise WireError(f"the body is not deflated: {error}") from None
    if len(inflated) > most_inflated:
        raise WireError(f"the body unpacks to more than {most_inflated} octets")
    if not inflater.eof or inflater.unused_data:
        raise WireError("the body ends early or has octets behind its end")
    try:
        return msgspec.msgpack.decode(inflated, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise WireError(f"the body is no {kind.__name__.lower()}: {error}") from None


def unpack_backup(body: bytes, kind: type[T]) -> T:
    """A `Backup` or `Recovery`, which may be long; raises WireError."""
    return unpack(
        body, kind, most_octets=MOST_BACKUP_OCTETS, most_inflated=MOST_BACKUP_OCTETS + 1_000_000
    )


# --- records


def pack_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Records (public part, commitment to the personal part) one after the other.

    Each is `varint(length of public) | public | commitment`: what a leaf is made of. The leaf
    itself is not sent, so that the hub makes it from what it stores.
    """
    packed = bytearray()
    for public, commitment in records:
        if len(commitment) != COMMITMENT_OCTETS:
            raise WireError(f"a commitment has {len(commitment)} octets; expected 32")
        packed += _varint(len(public))
        packed += public
        packed += commitment
    return bytes(packed)


def unpack_records(packed: bytes) -> list[tuple[bytes, bytes]]:
    """The records of `Exchange.records`; raises WireError."""
    if len(packed) > MOST_RECORD_OCTETS:
        raise WireError(
            f"the records have {len(packed)} octets; expected at most {MOST_RECORD_OCTETS}"
        )
    records: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(packed):
        length, begin = _read_varint(packed, at)
        middle = begin + length
        at = middle + COMMITMENT_OCTETS
        if length == 0 or at > len(packed):
            raise WireError(f"record {len(records)} of the batch is empty or ends early")
        records.append((packed[begin:middle], packed[middle:at]))
        if len(records) > MOST_RECORDS:
            raise WireError(f"the batch has more than {MOST_RECORDS} records")
    return records


def how_many_fit(records: Sequence[tuple[bytes, bytes]], most: int = MOST_RECORDS) -> int:
    """How many of the records one exchange carries: at most `most`, and at most 64 kB."""
    octets = 0
    for number, (public, commitment) in enumerate(records[:most]):
        octets += len(_varint(len(public))) + len(public) + len(commitment)
        if octets > MOST_RECORD_OCTETS:
            return number
    return min(len(records), most)


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def _read_varint(packed: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends; at most three octets, in its shortest form."""
    number = 0
    for place in range(3):
        if at + place >= len(packed):
            break
        octet = packed[at + place]
        number |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:
            if octet == 0 and place:
                break
            return number, at + place + 1
    raise WireError(f"octet {at} of the records is no length of a record")
