"""Proof of a node's own ledger, in the file as it stands: is every record still the one that was
appended, and does the tree over them have the roots that were kept and cosigned.

Reads only, also beside a running node. Nothing is believed that can be computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portal.domain import ledger, note
from portal.domain.ledger import Kind, LedgerError
from portal.domain.merkle import Frontier
from portal.domain.note import NoteError
from portal.store.db import DatabaseError, Row, reading

Gone = set[tuple[int, int]]
Rows = Callable[[str, Sequence[Any]], Iterator[Row]]
Signer = tuple[Sequence[note.Key], note.Verify]


class LedgerFault(Exception):
    """The first thing that is wrong: where and what, in words that follow a colon."""


def check(path: Path, keys: Sequence[note.Key], verify: note.Verify) -> int:
    """Return how many records are as they were appended; raises LedgerFault.

    `keys`: the node's. Checkpoints that name one of them have to be signed by it; of those of
    another box, which this one replaced, only the contents are looked at.
    """
    try:
        with reading(path) as rows:
            return _check(rows, (keys, verify))
    except DatabaseError as error:
        raise LedgerFault(f"it cannot be read ({error})") from error


def _check(rows: Rows, signer: Signer) -> int:
    epochs = list(rows("SELECT * FROM ledger_epoch ORDER BY epoch", ()))
    for stray in rows(
        "SELECT epoch, seq FROM ledger WHERE epoch NOT IN (SELECT epoch FROM ledger_epoch)"
        " ORDER BY epoch, seq LIMIT 1",
        (),
    ):
        raise LedgerFault(f"record {stray['seq']} of epoch {stray['epoch']} is in no known epoch")
    missing: Gone = set()
    told: Gone = set()
    spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for epoch in epochs:
        _check_epoch(rows, epoch, signer, missing, told, spans)
    for place in sorted(missing - told):
        if not any(first <= place <= last for first, last in spans):
            raise LedgerFault(
                f"record {place[1]} of epoch {place[0]} has no body, and no ERASURE record says so"
            )
    return sum(int(epoch["size"]) for epoch in epochs)


def _check_epoch(
    rows: Rows,
    epoch: Row,
    signer: Signer,
    missing: Gone,
    told: Gone,
    spans: list[tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    number = epoch["epoch"]
    notes = {
        row["size"]: row["note"]
        for row in rows("SELECT size, note FROM checkpoint WHERE epoch = ?", (number,))
    }
    frontier = Frontier()
    for row in rows("SELECT * FROM ledger WHERE epoch = ? ORDER BY seq", (number,)):
        seq, where = frontier.size, f"record {frontier.size} of epoch {number}"
        if row["seq"] != seq:
            raise LedgerFault(f"{where} is missing")
        if row["public"] is None:
            missing.add((number, seq))
        else:
            _check_record(row, where, number, told, spans)
        if type(row["leaf"]) is not bytes or len(row["leaf"]) != 32:
            raise LedgerFault(f"{where} has no leaf")
        frontier.append(row["leaf"])
        if seq + 1 in notes:
            origin = ledger.origin(epoch["node"], number)
            expected = note.Checkpoint(origin, seq + 1, frontier.root())
            _check_note(notes.pop(seq + 1), expected, signer)
    if notes:
        raise LedgerFault(
            f"record {frontier.size} of epoch {number} is missing: the hub has cosigned"
            f" {max(notes)}"
        )
    try:
        kept = Frontier.from_octets(epoch["frontier"])
    except (ValueError, TypeError):
        kept = None
    if frontier.size != epoch["size"] or kept is None or kept.root() != frontier.root():
        raise LedgerFault(
            f"epoch {number} was kept as {epoch['size']} records and another tree than the"
            f" {frontier.size} that are there"
        )


def _check_record(
    row: Row,
    where: str,
    epoch: int,
    told: Gone,
    spans: list[tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    try:
        is_it = ledger.leaf(row["public"], row["c_loc"]) == row["leaf"]
        record = ledger.decode(row["public"])
        if row["personal"] is not None:
            is_it &= ledger.commitment(row["salt"], row["personal"]) == row["c_loc"]
    except (LedgerError, TypeError):
        is_it = False
    if not is_it:
        raise LedgerFault(f"{where} was changed")
    if (row["seq"], row["kind"], row["at"], row["site"]) != (
        *(record.seq, record.kind, record.at, record.site),
    ):
        raise LedgerFault(f"{where} stands under another number, kind, time or site")
    if (record.kind == Kind.EPOCH) != (record.seq == 0):
        raise LedgerFault(f"{where} is {record.kind.name}; EPOCH is the first and no other")
    if record.kind == Kind.ERASURE and isinstance(record.payload, Mapping):
        try:
            _take_erasure(record.payload, told, spans)
        except (LookupError, TypeError):
            raise LedgerFault(f"{where} is an ERASURE that does not say of what") from None


def _take_erasure(
    payload: Mapping[str, Any],
    told: Gone,
    spans: list[tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    for place in payload.get("records", ()):
        told.add((place[0], place[1]))
    if payload.get("what") == "bodies":
        first, last = payload["first"], payload["last"]
        spans.append(((first[0], first[1]), (last[0], last[1])))


def _check_note(text: object, expected: note.Checkpoint, signer: Signer) -> None:
    """A kept checkpoint is over exactly the records that are there."""
    keys, verify = signer
    where = f"the checkpoint kept over {expected.size} records ({expected.origin})"
    try:
        signed = note.parse_note(str(text))
        found = note.parse_checkpoint(signed.text)
    except NoteError as error:
        raise LedgerFault(f"{where} cannot be read: {error}") from None
    names = {(one.name, one.key_id) for one in signed.signatures}
    mine = [key for key in keys if (key.name, key.key_id) in names]
    if not all(note.is_signed(signed, key, verify) for key in mine):
        raise LedgerFault(f"{where} has a bad signature")
    if found != expected:
        raise LedgerFault(
            f"{where} is of other records: one of 0 to {expected.size - 1} was changed"
        )
