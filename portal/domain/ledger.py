"""Ledger: what one record says, and the octets that stand for it in the Merkle tree for ever.

Pure. A record has a public part, which goes to the hub, and may have a personal part, which stays
in the village and is bound to the record by a salted hash, so that it can be erased without
breaking the tree. The octets of the public part have one spelling only: they are stored and sent as
they are, and whatever could be written in a second way is refused.

    public = version 1 | kind 1 | seq | boot | at | clock quality 1 | site | payload
    leaf   = SHA-256(0x00 || public || c_loc)       c_loc = SHA-256(0x03 || salt || personal)

Numbers without a size are varints: unsigned LEB128, as short as possible, below 2^63.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from enum import IntEnum, IntFlag
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

from portal.domain.merkle import leaf_hash

VERSION: Final = 1
SALT_OCTETS: Final = 16
PSEUDONYM_OCTETS: Final = 10
NO_PERSONAL: Final = bytes(32)
"""`c_loc` of a record without a personal part."""
MOST_OCTETS: Final = 16_384
"""Longest public part: many fit into one upload, and one upload always takes at least one."""
MOST_NUMBER: Final = 2**63 - 1
"""Largest number in a record; it fits the whole numbers of both databases."""
WHOLE_NODE: Final = 0
"""The site number of a record that is about the whole node."""


class LedgerError(ValueError):
    """Octets that are not a record, or a record that has none: what, the value seen, expected."""


class Kind(IntEnum):
    """What a record is about."""

    SESSION = 1
    SLICE = 2
    DAY_TOTAL = 3
    BOOT = 4
    CLOCK = 5
    GAP = 6
    CONFIG = 7
    ACTION = 8
    ERASURE = 9
    KEY = 10
    EPOCH = 11
    HEALTH = 12
    POLICY = 13
    WAN = 14


class ClockQuality(IntEnum):
    """How far the node's clock could be trusted when a record was made."""

    SYNCHRONISED = 1
    """A time service vouches for it."""
    RUNNING = 2
    """It agrees with everything the node knows, but nobody vouches for it."""
    DOUBTFUL = 3
    """The system clock contradicts what the node knows."""
    UNSET = 4
    """It was behind the past at the start (1970) and has not been put right."""


class Flag(IntFlag):
    """What a usage record is to its session."""

    FIRST = 1
    """The first record of this session: who counts sessions counts these."""
    LAST = 2
    """The session is closed, as far as is known."""
    LATE = 4
    """Usage that became known after the session was closed."""
    CUT = 8
    """Begun or ended by a power cut or by silence: the end is the last evidence."""
    REPLAYED = 16
    """Told again after an older disk was put back; the hub may have it from the epoch before."""


class Usage(NamedTuple):
    """Payload of SESSION and SLICE: what no earlier record of the same session told.

    So the sums over all records of a session are its totals, and the sums over all records of a day
    are the day's. `at` of the record is the end. Pseudonym: random, for each account and month.
    """

    flags: int
    pseudonym: bytes
    gateway: int
    profile: int
    started_ago_s: int
    """From the start of the session to `at`."""
    duration_s: int
    """Seconds it lasted as its gateway counts them (Acct-Session-Time), not told before."""
    counted_s: int
    """Seconds that ran from a quota, not told before (time stands still while the link is down)."""
    input_octets: int
    output_octets: int
    cause: int
    """Acct-Terminate-Cause (RFC 2866 5.10); 0 while the session goes on."""


@dataclass(frozen=True, slots=True)
class DayTotal:
    """Payload of DAY_TOTAL: one day of one site, in the site's zone."""

    day: int
    """Proleptic Gregorian ordinal (1 January of year 1 is day 1)."""
    sessions: int
    users: int
    input_octets: int
    output_octets: int
    seconds: int
    peak: int
    """Most phones online at once."""


Payload = Usage | DayTotal | Mapping[str, Any]
"""All other kinds carry a JSON object; its numbers are whole."""


class Record(NamedTuple):
    """The public part of one record. `seq` is dense in an epoch and counts from 0."""

    kind: Kind
    seq: int
    boot: int
    """How often the node had started, so that times of one boot can be put in order."""
    at: int
    """Epoch seconds by the node's clock."""
    clock_quality: ClockQuality
    site: int
    """Number of the site, told by a CONFIG record; WHOLE_NODE for the node itself."""
    payload: Payload


_Named = TypeVar("_Named", bound=IntEnum)
_USAGE_KINDS: Final = (Kind.SESSION, Kind.SLICE)
_MOST_FLAGS: Final = int(sum(Flag))


# --- names --------------------------------------------------------------------------------------

_ORIGIN = re.compile(r"pesisir/node/([0-9a-f]{16})/(0|[1-9][0-9]{0,17})")


def node_id(public_key: bytes) -> str:
    """Return the name a box keeps for life: 16 hex digits of the hash of its first signing key."""
    return sha256(public_key).hexdigest()[:16]


def node_key_name(node: str) -> str:
    """Return the name with which a node signs notes."""
    return f"pesisir/node/{node}"


def key_statement(node: str, old: bytes, new: bytes) -> bytes:
    """Return what the old key signs when a box changes its signing key, for the hub and for the
    KEY record; the new one signs the same for the hub."""
    return b"pesisir new key 1\n" + node.encode() + b"\n" + old + new


def hub_key_name(hub: str) -> str:
    """Return the name with which a hub signs and cosigns notes."""
    return f"pesisir/hub/{hub}"


def origin(node: str, epoch: int) -> str:
    """Return the first line of the checkpoints of one log: a node's, in one epoch."""
    return f"pesisir/node/{node}/{epoch}"


def parse_origin(text: str) -> tuple[str, int]:
    """Return (node id, epoch) of an origin; raises LedgerError when it is none of ours."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise LedgerError(f"origin is {text[:80]!r}; expected pesisir/node/<16 hex digits>/<epoch>")
    return match[1], int(match[2])


# --- hashes -------------------------------------------------------------------------------------


def leaf(public: bytes, c_loc: bytes) -> bytes:
    """Return the hash with which a record stands in the tree."""
    if len(c_loc) != len(NO_PERSONAL):
        raise LedgerError(f"c_loc of {len(c_loc)} octets; expected {len(NO_PERSONAL)}")
    return leaf_hash(public + c_loc)


def commitment(salt: bytes, personal: bytes) -> bytes:
    """Return `c_loc`. Without the salt nobody can find out by trying whose record it is."""
    if len(salt) != SALT_OCTETS:
        raise LedgerError(f"salt of {len(salt)} octets; expected {SALT_OCTETS}")
    return sha256(b"\x03" + salt + personal).digest()


def personal_octets(personal: Mapping[str, Any]) -> bytes:
    """Return the octets of a personal part, to be committed to and kept in the village."""
    return _json_octets(personal, "personal part")


def person_octets(*, session: int, mac: str | None, ip: str | None, serial: str | None) -> bytes:
    """Return `personal_octets` of who a usage record is about; what is None is left out.

    Every session that ends has one, and `personal_octets` costs several times as much.
    """
    parts = []
    if ip is not None:
        parts.append(f'"ip":{_json(ip)}')
    if mac is not None:
        parts.append(f'"mac":{_json(mac)}')
    if serial is not None:
        parts.append(f'"serial":{_json(serial)}')
    parts.append(f'"session":{session}')
    return f"{{{','.join(parts)}}}".encode()


# --- octets -------------------------------------------------------------------------------------


_LAST_OCTET: Final = [bytes((number,)) for number in range(0x80)]
_OCTET_BEFORE: Final = [bytes((number | 0x80,)) for number in range(0x80)]


def varint(number: int) -> bytes:
    """Return a whole number as unsigned LEB128."""
    octets: list[bytes] = []
    _add_varint(octets, number)
    return b"".join(octets)


def _add_varint(octets: list[bytes], number: int) -> None:
    if not 0 <= number <= MOST_NUMBER:
        raise LedgerError(f"number is {number}; expected 0 to 2^63 - 1")
    while number > 0x7F:
        octets.append(_OCTET_BEFORE[number & 0x7F])
        number >>= 7
    octets.append(_LAST_OCTET[number])


def read_varint(octets: bytes, start: int) -> tuple[int, int]:
    """Return the number that begins at `start` and where the next thing begins.

    Raises LedgerError when the octets end too early, or spell a number longer than needed.
    """
    number = shift = 0
    for at in range(start, len(octets)):
        octet = octets[at]
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            if octet == 0 and shift:
                raise LedgerError(f"number at octet {start} is longer than needed; expected no 0")
            if number > MOST_NUMBER:
                raise LedgerError(f"number at octet {start} is {number}; expected below 2^63")
            return number, at + 1
        shift += 7
        if shift > 63:
            raise LedgerError(f"number at octet {start} goes on and on; expected below 2^63")
    raise LedgerError(f"{len(octets)} octets end within a number at octet {start}; expected more")


def encode(record: Record) -> bytes:
    """Return the public part of a record as it is hashed, stored and sent.

    Raises LedgerError for what a record cannot hold: negative or huge numbers, a payload of another
    kind, fractions, more than MOST_OCTETS.
    """
    kind, seq, boot, at, clock_quality, site, payload = record
    octets = [bytes((VERSION, kind))]
    for number in (seq, boot, at):
        _add_varint(octets, number)
    octets.append(bytes((clock_quality,)))
    _add_varint(octets, site)
    if kind in _USAGE_KINDS and isinstance(payload, Usage):
        flags, pseudonym, *numbers = payload
        _check_usage(flags, pseudonym)
        octets += bytes((flags,)), pseudonym
        for number in numbers:
            _add_varint(octets, number)
    elif kind == Kind.DAY_TOTAL and isinstance(payload, DayTotal):
        for number in astuple(payload):
            _add_varint(octets, number)
    elif kind > Kind.DAY_TOTAL and isinstance(payload, Mapping):
        octets.append(_json_octets(payload, f"payload of {kind.name}"))
    else:
        raise LedgerError(f"payload of {kind.name} is a {type(payload).__name__}; expected another")
    public = b"".join(octets)
    if len(public) > MOST_OCTETS:
        raise LedgerError(f"a {kind.name} record of {len(public)} octets; at most {MOST_OCTETS}")
    return public


def _check_usage(flags: int, pseudonym: bytes) -> None:
    if not 0 <= flags <= _MOST_FLAGS:
        raise LedgerError(f"flags are {flags}; expected 0 to {_MOST_FLAGS}")
    if len(pseudonym) != PSEUDONYM_OCTETS:
        raise LedgerError(f"pseudonym of {len(pseudonym)} octets; expected {PSEUDONYM_OCTETS}")


def decode(public: bytes) -> Record:
    """Return the record whose public part these octets are.

    Raises LedgerError when they are not exactly what `encode` makes of some record.
    """
    if len(public) > MOST_OCTETS:
        raise LedgerError(f"a record of {len(public)} octets; expected at most {MOST_OCTETS}")
    if not public or public[0] != VERSION:
        raise LedgerError(f"version of a record is {_octet(public, 0)}; expected {VERSION}")
    kind = _one_of(Kind, public, 1, "kind")
    seq, at = read_varint(public, 2)
    boot, at = read_varint(public, at)
    time_at, at = read_varint(public, at)
    quality = _one_of(ClockQuality, public, at, "clock quality")
    site, at = read_varint(public, at + 1)
    return Record(kind, seq, boot, time_at, quality, site, _read_payload(kind, public, at))


def _read_payload(kind: Kind, public: bytes, at: int) -> Payload:
    if kind > Kind.DAY_TOTAL:
        return _read_json(public[at:], f"payload of {kind.name}")
    if kind == Kind.DAY_TOTAL:
        numbers, at = _read_numbers(public, at, 7)
        _check_end(public, at)
        return DayTotal(*numbers)
    end = at + 1 + PSEUDONYM_OCTETS
    pseudonym = public[at + 1 : end]
    if len(public) < end:
        raise LedgerError(f"a record of {len(public)} octets; expected a pseudonym up to {end}")
    _check_usage(public[at], pseudonym)
    numbers, at = _read_numbers(public, end, 8)
    _check_end(public, at)
    return Usage(public[end - PSEUDONYM_OCTETS - 1], pseudonym, *numbers)


def _read_numbers(public: bytes, at: int, count: int) -> tuple[list[int], int]:
    numbers = []
    for _ in range(count):
        number, at = read_varint(public, at)
        numbers.append(number)
    return numbers, at


def _check_end(public: bytes, at: int) -> None:
    if at != len(public):
        raise LedgerError(f"a record of {len(public)} octets; expected its end at {at}")


def _one_of(names: type[_Named], public: bytes, at: int, what: str) -> _Named:
    try:
        return names(public[at])
    except (IndexError, ValueError):
        raise LedgerError(
            f"{what} of a record is {_octet(public, at)}; expected {min(names)} to {max(names)}"
        ) from None


def _octet(octets: bytes, at: int) -> str:
    return str(octets[at]) if at < len(octets) else "missing"


# --- JSON in its one spelling -------------------------------------------------------------------


_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


def _json_octets(value: Mapping[str, Any], what: str) -> bytes:
    """Compact, keys in order, UTF-8: what a second program can spell the same way."""
    try:
        _check_json(value, what)
        return _json(dict(value)).encode()
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise LedgerError(f"{what} cannot be written as JSON ({error})") from None


def _check_json(value: object, what: str) -> None:
    """Fractions are spelled differently by every language, so there are none; nor other keys."""
    if type(value) is str or (type(value) is int and -MOST_NUMBER <= value <= MOST_NUMBER):
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise LedgerError(f"{what} has the key {key!r}; expected text")
            _check_json(inner, what)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_json(inner, what)
    elif isinstance(value, int) and abs(value) > MOST_NUMBER:
        raise LedgerError(f"{what} holds {value}; expected whole numbers within 2^63 - 1")
    elif value is not None and not isinstance(value, str | int):
        raise LedgerError(f"{what} holds {value!r}; expected text, whole numbers, lists, objects")


def _read_json(octets: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(octets)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise LedgerError(f"{what} is {octets[:40]!r}; expected a JSON object")
    if _json_octets(value, what) != octets:
        raise LedgerError(f"{what} is {octets[:40]!r}; expected compact JSON with keys in order")
    return value
