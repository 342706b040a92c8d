"""A node without a node: a ledger in memory that signs and sends as one does."""

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portal.domain import ledger, note
from portal.domain.ledger import NO_PERSONAL, ClockQuality, Kind, Payload, Record, Usage
from portal.domain.merkle import Frontier
from portal.wire import Delta, Exchange, Held, Refused, pack_records

NOON = 1_790_000_000
"""Some noon of September 2026 in Jakarta."""
DAY_S = 86_400


def pseudonym(number: int) -> bytes:
    """A resident's pseudonym."""
    return number.to_bytes(10, "big")


@dataclass
class WrittenNode:
    """A node's log in its newest epoch."""

    seed: bytes = b"\x07" * 32
    epoch: int = 0
    sites: tuple[str, ...] = ("DESA",)
    records: list[tuple[bytes, bytes]] = field(default_factory=list)
    acked: int = 0
    cosigned: str | None = None
    counter: int = 0

    def __post_init__(self) -> None:
        if not self.records:
            self.begin(None)

    @property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def node_id(self) -> str:
        return ledger.node_id(self.public)

    def begin(
        self, parent: str | None, at: int = NOON, known: tuple[int, int] | None = None
    ) -> None:
        """Begin an epoch: EPOCH, then what the numbers stand for."""
        self.records = []
        payload: dict[str, Any] = {"why": "first start", "parent": parent, "from": at}
        if known is not None:
            payload["known"] = list(known)
        self.add(Kind.EPOCH, payload, at=at)
        for number, code in enumerate(self.sites, 1):
            self.add(
                Kind.CONFIG,
                {"what": "site", "number": number, "code": code, "name": f"Desa {code}"}
                | {"zone": "Asia/Jakarta"},
                at=at,
                site=number,
            )

    def next_epoch(self, parent: str | None, known: tuple[int, int] | None = None) -> None:
        """Go on in a new epoch; from `known` on the box has forgotten what it told."""
        self.epoch += 1
        self.acked = 0
        self.begin(parent, known=known)

    def add(self, kind: Kind, payload: Payload, *, at: int = NOON, site: int = 0) -> int:
        """Append a record; its number."""
        seq = len(self.records)
        record = Record(kind, seq, 1, at, ClockQuality.SYNCHRONISED, site, payload)
        self.records.append((ledger.encode(record), NO_PERSONAL))
        return seq

    def session(
        self,
        user: int = 1,
        *,
        at: int = NOON,
        lasted_s: int = 600,
        down: int = 1000,
        up: int = 100,
        flags: int = 3,
        site: int = 1,
        profile: int = 1,
        kind: Kind = Kind.SESSION,
        started_ago_s: int | None = None,
    ) -> int:
        """Append a usage record."""
        usage = Usage(
            flags=flags,
            pseudonym=pseudonym(user),
            gateway=1,
            profile=profile,
            started_ago_s=lasted_s if started_ago_s is None else started_ago_s,
            duration_s=lasted_s,
            counted_s=lasted_s,
            input_octets=up,
            output_octets=down,
            cause=1,
        )
        return self.add(kind, usage, at=at, site=site)

    def frontier(self, size: int) -> Frontier:
        """The tree over the first records."""
        frontier = Frontier()
        frontier.extend(ledger.leaf(*record) for record in self.records[:size])
        return frontier

    def checkpoint(self, size: int | None = None, root: bytes | None = None) -> str:
        """A signed note about the first `size` records."""
        size = len(self.records) if size is None else size
        root = self.frontier(size).root() if root is None else root
        text = note.checkpoint_text(
            note.Checkpoint(ledger.origin(self.node_id, self.epoch), size, root)
        )
        key = note.Key(ledger.node_key_name(self.node_id), note.ED25519, self.public)
        return note.format_note(text, [note.sign_note(text, key, self.key.sign)])

    def exchange(
        self,
        first: int | None = None,
        count: int | None = None,
        *,
        held: list[Held] | None = None,
        refused: list[Refused] | None = None,
        delta: Delta | None = None,
        proof: str | None = None,
        **changes: Any,
    ) -> Exchange:
        """An exchange with `count` records from `first` on (all that are not acknowledged)."""
        first = self.acked if first is None else first
        end = len(self.records) if count is None else min(len(self.records), first + count)
        values: dict[str, Any] = {
            "version": 1,
            "epoch": self.epoch,
            "first": first,
            "records": pack_records(self.records[first:end]),
            "checkpoint": self.checkpoint(end),
            "acked_size": self.acked,
            "held": held or [],
            "refused": refused or [],
            "delta": delta,
            "proof": proof,
        }
        return Exchange(**(values | changes))

    def next_counter(self) -> int:
        """A request counter that was not used yet."""
        self.counter += 1
        return self.counter

    def keep(self, cosigned: str, checkpoint: str) -> None:
        """Keep the hub's cosignature line of a checkpoint of ours."""
        self.cosigned = f"{checkpoint}{cosigned}\n"
        text = note.parse_note(checkpoint).text
        self.acked = max(self.acked, note.parse_checkpoint(text).size)

    def restored_from(self, size: int) -> None:
        """An older disk is put back: only the first `size` records are known."""
        del self.records[size:]
        self.acked = min(self.acked, size)
