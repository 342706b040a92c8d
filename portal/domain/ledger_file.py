"""Ledger file: a log written out for an auditor, and what such a file proves.

Pure. One JSON object a line, so that any program can read it (docs/ledger.md has the format and
docs/verify-ledger.py a second, independent reader): a head, the keys, and for each epoch its
records in order with the signed checkpoints between them, each right behind the last record it
covers. Whoever reads knows nothing but the keys: what does not follow from a signature is not
believed, and the first thing that is wrong is named.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portal.domain import ledger, merkle, note
from portal.domain.ledger import Flag, Kind, LedgerError, Record, Usage
from portal.domain.note import Key, NoteError, Verify

FORMAT = "pesisir-ledger"
VERSION = 1

# What may stand on a line, by the field that names it.
_FIELDS = {
    "format": {"format", "version", "node", "has_personal"},
    "key": {"key"},
    "epoch": {"epoch"},
    "seq": {"seq", "leaf", "public", "c_loc", "salt", "personal"},
    "checkpoint": {"checkpoint"},
    "end": {"end", "dropped"},
}
_NUMBERS = {"version", "epoch", "seq", "end"}
_Place = tuple[int, int]
"""Epoch and seq of a record."""


# --- writing ------------------------------------------------------------------------------------


def head_line(node: str, *, has_personal: bool) -> str:
    """Return the first line. `node` is the id of the box whose log follows."""
    head = {"format": FORMAT, "version": VERSION, "node": node, "has_personal": has_personal}
    return _line(head)


def key_line(key: Key) -> str:
    """Return the line of a key with which the node or a hub signs."""
    return _line({"key": str(key)})


def epoch_line(epoch: int) -> str:
    """Return the line before the records of an epoch."""
    return _line({"epoch": epoch})


def record_line(
    seq: int,
    leaf: bytes,
    public: bytes | None,
    c_loc: bytes | None,
    *,
    salt: bytes | None = None,
    personal: bytes | None = None,
) -> str:
    """Return the line of a record; of one whose body was pruned only the leaf is left.

    `salt` and `personal` open the personal part and are given only where the reader may see it.
    """
    fields: dict[str, Any] = {"seq": seq, "leaf": _text(leaf)}
    if public is not None and c_loc is not None:
        fields |= {"public": _text(public), "c_loc": _text(c_loc)}
        if salt is not None and personal is not None:
            fields |= {"salt": _text(salt), "personal": personal.decode(errors="replace")}
    return _line(fields)


def checkpoint_line(signed: str) -> str:
    """Return the line of a signed note; it comes right behind the last record it covers."""
    return _line({"checkpoint": signed})


def end_line(records: int, dropped: Mapping[int, int] | None = None) -> str:
    """Return the last line: how many records stand above it.

    `dropped`: epoch -> the record before which whoever writes has removed what is old enough, by a
    rule of his own that is no record of this log. A node never has one: its log says what went.
    """
    told = {str(epoch): size for epoch, size in (dropped or {}).items() if size}
    return _line({"end": records} | ({"dropped": told} if told else {}))


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"


def _text(octets: bytes) -> str:
    return b64encode(octets).decode()


# --- reading ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Usages:
    """Sums over the usage records of one site, as far as their bodies are in the file."""

    sessions: int = 0
    seconds: int = 0
    """That ran from quotas."""
    input_octets: int = 0
    output_octets: int = 0


@dataclass(slots=True)
class Epoch:
    """What was found about one epoch."""

    number: int
    records: int = 0
    signed: int = 0
    """So many records are covered by a checkpoint the node has signed."""
    cosigned: int = 0
    """So many are covered by one the hub has cosigned too."""
    cosigned_at: int | None = None
    first_at: int | None = None
    last_at: int | None = None
    """Times of the records, by the node's own clock."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong."""

    what: str
    """A sentence for people, without the place."""
    epoch: int | None = None
    first: int | None = None
    last: int | None = None
    """The record; or one of them from `first` to `last`, where a signature says no more."""
    line: int | None = None

    def __str__(self) -> str:
        if self.first is None:
            place = f"line {self.line}" if self.line else "the file"
        elif self.first == self.last:
            place = f"record {self.first} of epoch {self.epoch}"
        else:
            place = f"one of the records {self.first} to {self.last} of epoch {self.epoch}"
        return f"{place}: {self.what}"


@dataclass(slots=True)
class Finding:
    """What a file proves; with a `problem` nothing from there on."""

    node: str = ""
    epochs: list[Epoch] = field(default_factory=list)
    pruned: int = 0
    """Records of which only the leaf is left, and records of the log say that the rest went."""
    dropped: int = 0
    """The same, on the word of whoever wrote the file: a hub removes what is old enough."""
    opened: int = 0
    """Personal parts that are in the file and are the ones committed to."""
    closed: int = 0
    """Personal parts that were erased, or are not shown in this file."""
    replayed: int = 0
    """Usage records that may tell again what an earlier epoch told; they are in the sums."""
    replayed_octets: int = 0
    usages: dict[int, Usages] = field(default_factory=dict)
    """By the number of the site."""
    sites: dict[int, str] = field(default_factory=dict)
    """Codes of the sites, as the records tell them."""
    are_keys_given: bool = False
    """Whether the keys came from the reader; else the file brought them."""
    hub_names: list[str] = field(default_factory=list)
    """Whose cosignatures were found good."""
    remarks: list[str] = field(default_factory=list)
    """What is not wrong and still worth knowing."""
    problem: Problem | None = None

    @property
    def records(self) -> int:
        """How many records were read and found good."""
        return sum(epoch.records for epoch in self.epochs)


class _Wrong(Exception):
    """Stops the reading."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def check(
    lines: Iterable[bytes], verify: Verify, *, trusted: Sequence[Key] | None = None
) -> Finding:
    """Return what a file proves, up to the first thing that is wrong.

    `trusted`: the keys that the reader has from somebody he trusts. Without them those of the file
    are taken, which proves only that everything was signed by one and the same.
    """
    reader = _Reader(verify, trusted)
    try:
        for number, line in enumerate(lines, 1):
            reader.line = number
            reader.read(line)
        reader.finish()
    except _Wrong as wrong:
        reader.finding.problem = wrong.problem
    return reader.finding


class _Reader:
    def __init__(self, verify: Verify, trusted: Sequence[Key] | None) -> None:
        self.finding = Finding()
        self.line = 0
        self._verify = verify
        self._trusted = trusted
        self._keys: list[Key] = []
        self._believed: list[Key] = []
        self._hubs: list[Key] = []
        self._leaves: dict[int, list[bytes]] = {}
        self._bare: list[_Place] = []
        """Records without a body."""
        self._erased: set[tuple[_Place, _Place, int]] = set()
        """What ERASURE records say of bodies: first, last, how many."""
        self._named: set[_Place] = set()
        """Records that ERASURE records name one by one."""
        self._dropped: dict[int, int] = {}
        self._frontier = merkle.Frontier()
        self._is_ended = False

    # -- lines --------------------------------------------------------------------------------

    def read(self, line: bytes) -> None:
        fields = self._fields(line)
        name = next(iter(fields))
        if self._is_ended:
            raise self._wrong("stands behind the end of the ledger")
        if (name == "format") != (self.line == 1):
            raise self._wrong(f'is out of place; expected a file that begins "{FORMAT}"')
        match name:
            case "format":
                self._read_head(fields)
            case "key":
                self._read_key(fields)
            case "epoch":
                self._read_epoch(fields)
            case "seq":
                self._read_record(fields)
            case "checkpoint":
                self._read_checkpoint(fields)
            case "end":
                self._read_end(fields)

    def _fields(self, line: bytes) -> dict[str, Any]:
        try:
            fields = json.loads(line, object_pairs_hook=_each_once)
        except (ValueError, RecursionError):
            fields = None
        name = next(iter(fields), None) if isinstance(fields, dict) else None
        if name not in _FIELDS or not set(fields) <= _FIELDS[name]:
            raise self._wrong("is not a line of a ledger file; the file is damaged or another")
        for number in _NUMBERS & fields.keys():
            if type(fields[number]) is not int:
                raise self._wrong(f"has {number} {fields[number]!r}; expected a whole number")
        return dict(fields)

    def _read_head(self, fields: dict[str, Any]) -> None:
        if fields.get("format") != FORMAT or fields.get("version") != VERSION:
            raise self._wrong(f"names another format; expected {FORMAT} {VERSION}")
        self.finding.node = str(fields.get("node"))

    def _read_key(self, fields: dict[str, Any]) -> None:
        if self.finding.epochs:
            raise self._wrong("brings a key after the records; expected it before")
        try:
            self._keys.append(note.parse_key(str(fields["key"])))
        except NoteError as error:
            raise self._wrong(str(error)) from None

    def _read_epoch(self, fields: dict[str, Any]) -> None:
        if self.finding.epochs:
            self._finish_epoch()
        else:
            self._choose_keys()
        number, before = fields["epoch"], self.finding.epochs[-1:]
        if number < 0 or (before and number <= before[0].number):
            raise self._wrong(f"begins epoch {number!r}; expected a later one than before")
        self.finding.epochs.append(Epoch(number))
        self._frontier = merkle.Frontier()
        self._leaves[number] = []

    def _read_end(self, fields: dict[str, Any]) -> None:
        said, dropped = fields["end"], fields.get("dropped", {})
        if said != self.finding.records:
            raise self._wrong(f"says {said!r} records; {self.finding.records} stand above it")
        if not isinstance(dropped, dict) or any(type(each) is not int for each in dropped.values()):
            raise self._wrong(f"says {dropped!r} of what was removed; expected epochs and numbers")
        for epoch in self.finding.epochs:
            self._dropped[epoch.number] = dropped.get(str(epoch.number), 0)
        self._is_ended = True

    # -- records ------------------------------------------------------------------------------

    def _read_record(self, fields: dict[str, Any]) -> None:
        epoch = self._epoch()
        seq, said = epoch.records, fields["seq"]
        if said != seq:
            raise self._wrong_record(
                seq, f"is missing or out of order; the file has record {said!r} in its place"
            )
        leaf = self._octets(fields, "leaf", seq)
        if "public" in fields:
            self._read_body(epoch, seq, fields, leaf)
        elif len(fields) > 2:
            raise self._wrong_record(seq, "has parts without a body")
        elif len(leaf) != merkle.HASH_OCTETS:
            raise self._wrong_record(seq, f"has a leaf of {len(leaf)} octets; expected 32")
        else:
            self._bare.append((epoch.number, seq))
        self._frontier.append(leaf)
        self._leaves[epoch.number].append(leaf)
        epoch.records += 1

    def _read_body(self, epoch: Epoch, seq: int, fields: dict[str, Any], leaf: bytes) -> None:
        public, c_loc = self._octets(fields, "public", seq), self._octets(fields, "c_loc", seq)
        try:
            if ledger.leaf(public, c_loc) != leaf:
                raise self._wrong_record(seq, "was changed: it does not fit its place in the tree")
            record = ledger.decode(public)
        except LedgerError as error:
            raise self._wrong_record(seq, str(error)) from None
        if record.seq != seq:
            raise self._wrong_record(seq, f"calls itself record {record.seq}; they were swapped")
        if (record.kind == Kind.EPOCH) != (seq == 0):
            raise self._wrong_record(seq, f"is {record.kind.name}; EPOCH is the first and no other")
        self._read_personal(seq, fields, c_loc)
        self._take(epoch, record)

    def _read_personal(self, seq: int, fields: dict[str, Any], c_loc: bytes) -> None:
        if "salt" in fields or "personal" in fields:
            salt = self._octets(fields, "salt", seq)
            personal = str(fields.get("personal")).encode(errors="replace")
            try:
                is_it = ledger.commitment(salt, personal) == c_loc
            except LedgerError:
                is_it = False
            if not is_it:
                raise self._wrong_record(
                    seq, "has another personal part than the one it was made with"
                )
            self.finding.opened += 1
        elif c_loc != ledger.NO_PERSONAL:
            self.finding.closed += 1

    def _take(self, epoch: Epoch, record: Record) -> None:
        payload = record.payload
        epoch.first_at = record.at if epoch.first_at is None else min(epoch.first_at, record.at)
        epoch.last_at = record.at if epoch.last_at is None else max(epoch.last_at, record.at)
        if isinstance(payload, Usage):
            sums = self.finding.usages.setdefault(record.site, Usages())
            sums.sessions += bool(payload.flags & Flag.FIRST)
            sums.seconds += payload.counted_s
            sums.input_octets += payload.input_octets
            sums.output_octets += payload.output_octets
            if payload.flags & Flag.REPLAYED:
                self.finding.replayed += 1
                self.finding.replayed_octets += payload.input_octets + payload.output_octets
        elif record.kind == Kind.EPOCH and isinstance(payload, Mapping):
            self._check_parent(payload.get("parent"))
        elif record.kind == Kind.CONFIG and isinstance(payload, Mapping):
            number, code = payload.get("number"), payload.get("code")
            if payload.get("what") == "site" and type(number) is int and isinstance(code, str):
                self.finding.sites[number] = code
        elif record.kind == Kind.KEY and isinstance(payload, Mapping):
            self._read_new_key(payload)
        elif record.kind == Kind.ERASURE and isinstance(payload, Mapping):
            self._read_erasure(payload)

    def _read_new_key(self, payload: Mapping[str, Any]) -> None:
        """With the keys of the file, one is believed that one believed has handed over to."""
        if self._trusted is not None:
            return
        try:
            old, new = (note.parse_key(str(payload.get(name))) for name in ("old", "new"))
            signature = bytes.fromhex(str(payload.get("signature")))
        except ValueError:
            return
        statement = ledger.key_statement(self.finding.node, old.public, new.public)
        is_ours = new.name == old.name and new.algorithm == old.algorithm and old in self._believed
        if is_ours and self._verify(old.public, signature, statement):
            self._believed.append(new)
            self._keys.append(new)

    def _read_erasure(self, payload: Mapping[str, Any]) -> None:
        first, last = _place(payload.get("first")), _place(payload.get("last"))
        count, named = payload.get("count"), payload.get("records")
        if payload.get("what") == "bodies" and first and last and type(count) is int:
            self._erased.add((first, last, count))
        for place in map(_place, named if isinstance(named, list) else ()):
            if place is not None:
                self._named.add(place)

    def _account_for_bare(self) -> None:
        """Of each record without a body the log has to say that it went, and never of fewer."""
        left = sum(count for _, _, count in self._erased)
        for place in self._bare:
            if place in self._named:
                self.finding.pruned += 1
            elif left and any(first <= place <= last for first, last, _ in self._erased):
                left -= 1
                self.finding.pruned += 1
            elif place[1] < self._dropped.get(place[0], 0):
                self.finding.dropped += 1
            else:
                raise _Wrong(
                    Problem(
                        "has only its leaf left, and no record says that the rest was removed",
                        *(place[0], place[1], place[1]),
                    )
                )

    def _check_parent(self, parent: object) -> None:
        """An epoch goes on from what the hub saw last; where that is in the file, it has to fit."""
        number = self._epoch().number
        if parent is None:
            return
        try:
            checkpoint = note.parse_checkpoint(note.parse_note(str(parent)).text)
            node, epoch = ledger.parse_origin(checkpoint.origin)
        except (NoteError, LedgerError) as error:
            raise self._wrong_record(0, f"names a parent that is none ({error})") from None
        place = f"epoch {number} goes on from record {checkpoint.size} of epoch {epoch}"
        leaves = self._leaves.get(epoch) if epoch != number else None
        if node != self.finding.node:
            self.finding.remarks.append(
                f"{place} of another box ({node}), which this one replaced."
            )
        elif leaves is None:
            self.finding.remarks.append(f"{place}, which is not in this file; the hub has it.")
        elif checkpoint.size > len(leaves):
            self.finding.remarks.append(
                f"{place}; this file has only {len(leaves)} records of it: an older disk was put"
                " back in the box. The hub has the others."
            )
        elif merkle.root(leaves[: checkpoint.size]) != checkpoint.root:
            raise self._wrong_record(0, f"names a parent of epoch {epoch} that does not fit it")

    # -- signatures ---------------------------------------------------------------------------

    def _choose_keys(self) -> None:
        """The reader's keys; where he has none the file's own, but only a key of which the node has
        its name (a node that has changed its keys is checked with the reader's)."""
        node = self.finding.node
        mine = (ledger.node_key_name(node), note.ED25519)
        keys = self._keys if self._trusted is None else self._trusted
        self.finding.are_keys_given = self._trusted is not None
        self._hubs = [key for key in keys if key.algorithm == note.COSIGNATURE]
        self._believed = [
            key
            for key in keys
            if (key.name, key.algorithm) == mine
            and (self._trusted is not None or ledger.node_id(key.public) == node)
        ]
        if not self._believed:
            whose = "it brings no key" if self._trusted is None else "none of the keys given is one"
            raise _Wrong(Problem(f"{whose} that belongs to node {node}"))

    def _read_checkpoint(self, fields: dict[str, Any]) -> None:
        epoch = self._epoch()
        try:
            signed = note.parse_note(str(fields["checkpoint"]))
            checkpoint = note.parse_checkpoint(signed.text)
        except NoteError as error:
            raise self._wrong(str(error)) from None
        expected = ledger.origin(self.finding.node, epoch.number)
        if checkpoint.origin != expected:
            raise self._wrong(f"is a checkpoint of {checkpoint.origin}; expected {expected}")
        if checkpoint.size != epoch.records:
            raise self._wrong_record(
                min(checkpoint.size, epoch.records),
                f"is missing or too many: a checkpoint over {checkpoint.size} records stands behind"
                f" {epoch.records}",
            )
        self._check_names(signed)
        if not any(note.is_signed(signed, key, self._verify) for key in self._believed):
            raise self._wrong(f"is a checkpoint that node {self.finding.node} has not signed")
        if checkpoint.root != self._frontier.root():
            first, last = epoch.signed, max(epoch.signed, epoch.records - 1)
            raise _Wrong(
                Problem(
                    "was changed after the node signed its checkpoint over them",
                    *(epoch.number, first, last, self.line),
                )
            )
        epoch.signed = checkpoint.size
        self._read_cosignatures(epoch, signed)

    def _check_names(self, signed: note.Note) -> None:
        """Others may sign a note too; but name and id of a key that is known belong together."""
        known = {(key.name, key.key_id) for key in (*self._keys, *(self._trusted or ()))}
        for one in signed.signatures:
            is_half_known = any(one.name == name or one.key_id == key for name, key in known)
            if is_half_known and (one.name, one.key_id) not in known:
                raise self._wrong(
                    f"has a signature of {one.name} with the key id {one.key_id.hex()};"
                    " no such key is known"
                )

    def _read_cosignatures(self, epoch: Epoch, signed: note.Note) -> None:
        for key in self._hubs:
            is_there = any(
                (one.name, one.key_id) == (key.name, key.key_id) for one in signed.signatures
            )
            at = note.cosigned_at(signed, key, self._verify)
            if is_there and at is None:
                raise self._wrong(f"has a bad cosignature of {key.name}")
            if at is not None:
                epoch.cosigned, epoch.cosigned_at = epoch.signed, at
                if key.name not in self.finding.hub_names:
                    self.finding.hub_names.append(key.name)

    # -- ends ---------------------------------------------------------------------------------

    def _finish_epoch(self) -> None:
        epoch = self._epoch()
        if epoch.records == 0 or epoch.signed < epoch.records:
            raise _Wrong(
                Problem(
                    "is under no checkpoint that the node has signed",
                    *(epoch.number, epoch.signed, max(epoch.signed, epoch.records - 1), self.line),
                )
            )

    def finish(self) -> None:
        if not self.finding.epochs:
            raise _Wrong(Problem("there is no record in it"))
        self._finish_epoch()
        if not self._is_ended:
            raise _Wrong(Problem("it is cut short: its last line is missing"))
        self._account_for_bare()

    def _epoch(self) -> Epoch:
        if not self.finding.epochs:
            raise self._wrong("comes before any epoch")
        return self.finding.epochs[-1]

    def _octets(self, fields: dict[str, Any], name: str, seq: int) -> bytes:
        text = str(fields.get(name))
        try:
            octets = b64decode(text, validate=True)
        except ValueError:
            raise self._wrong_record(seq, f"has no readable {name}") from None
        if _text(octets) != text:
            raise self._wrong_record(seq, f"has its {name} not in base64's one spelling")
        return octets

    def _wrong(self, what: str) -> _Wrong:
        return _Wrong(Problem(what, line=self.line))

    def _wrong_record(self, seq: int, what: str) -> _Wrong:
        return _Wrong(Problem(what, self._epoch().number, seq, seq, self.line))


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError where a field stands twice, of which readers take either."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _place(value: object) -> _Place | None:
    """[epoch, seq] of an ERASURE record; None for anything else."""
    match value:
        case [int(epoch), int(seq)]:
            return (epoch, seq)
    return None
