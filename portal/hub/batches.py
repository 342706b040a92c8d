"""Batches: what an exchange of a node brings, read and found well-formed, or refused."""

from dataclasses import dataclass

from portal.domain.ledger import Kind, LedgerError, Record, decode, leaf
from portal.hub import checkpoints
from portal.hub.checkpoints import Seen
from portal.wire import Exchange, Problem, WireError, unpack_records


@dataclass(frozen=True, slots=True)
class Batch:
    """What an exchange brings, read and found well-formed."""

    exchange: Exchange
    seen: Seen
    records: list[Record]
    pieces: list[tuple[bytes, bytes]]
    leaves: list[bytes]
    is_repeatable: bool
    """Nothing keeps it from coming a second time: it is on a stick."""

    @property
    def first(self) -> int:
        """Sequence number of the first record."""
        return self.exchange.first

    @property
    def end(self) -> int:
        """Sequence number after the last record."""
        return self.exchange.first + len(self.records)


class RefusedError(Exception):
    """The exchange changes nothing in the log; the alarms raised meanwhile are kept."""

    def __init__(
        self, problem: Problem, detail: str, size: int | None = None, lost: int | None = None
    ) -> None:
        super().__init__(detail)
        self.lost = lost
        """An earlier epoch that has to come first."""
        self.problem = problem
        self.size = size
        """Up to where both sides have the same, where that is less than the hub has."""


def read(exchange: Exchange, node_id: str, keys: list[bytes], *, is_repeatable: bool) -> Batch:
    """What an exchange brings. Raises WireError or CheckpointError for what makes no sense."""
    if exchange.version != 1:
        raise WireError(f"the exchange has version {exchange.version}; expected 1")
    if exchange.epoch < 0 or exchange.first < 0 or exchange.acked_size < 0:
        raise WireError("the exchange has a negative number; expected none")
    seen = checkpoints.read(exchange.checkpoint, node_id, exchange.epoch, keys)
    pieces = unpack_records(exchange.records)
    records = []
    for place, (public, _) in enumerate(pieces):
        seq = exchange.first + place
        try:
            record = decode(public)
        except LedgerError as error:
            raise WireError(f"record {seq} cannot be read: {error}") from error
        if record.seq != seq:
            raise WireError(f"a record has number {record.seq}; expected {seq}")
        if (record.kind == Kind.EPOCH) != (seq == 0):
            raise WireError(f"record {seq} is {record.kind.name}; expected EPOCH first and only")
        records.append(record)
    leaves = [leaf(public, c_loc) for public, c_loc in pieces]
    return Batch(exchange, seen, records, pieces, leaves, is_repeatable)
