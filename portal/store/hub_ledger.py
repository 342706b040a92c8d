"""The hub's copy of nodes' logs: heads, records, leaves, cosigned checkpoints.

Methods with a `transaction` are part of the caller's. Nothing is decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from portal.domain.ledger import LedgerError, leaf
from portal.domain.merkle import HASH_OCTETS, Frontier
from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row

StoredRecord = tuple[int, int, int, int, bytes, bytes]
"""seq, kind, at, site, public part, commitment to the personal part."""


@dataclass(slots=True)
class HubHead:
    """How far the hub has a node's log in one epoch."""

    node_id: str
    epoch: int
    frontier: Frontier
    cosigned: str | None = None
    """The newest note of the node with this hub's cosignature."""
    promised: str | None = None
    """A note of the node about more records than have come."""
    proven: str | None = None
    """A note cosigned by this hub about more records than it has: it lost them."""
    parent_node: str | None = None
    parent_epoch: int | None = None
    parent_size: int | None = None
    """The checkpoint that the epoch goes on from."""
    backed_up_size: int = 0
    pruned_size: int = 0
    newest_at: int | None = None
    """Time of the newest record, by the node's clock."""

    @property
    def size(self) -> int:
        """How many records the hub has."""
        return self.frontier.size


def _head(row: Row) -> HubHead:
    return HubHead(
        row["node_id"],
        row["epoch"],
        Frontier.from_octets(octets(row["frontier"])),
        row["cosigned"],
        row["promised"],
        row["proven"],
        row["parent_node"],
        row["parent_epoch"],
        row["parent_size"],
        row["backed_up_size"],
        row["pruned_size"],
        row["newest_at"],
    )


def octets(stored: object) -> bytes:
    """What is stored as octets. SQLite also keeps text or a number there, where somebody put that
    in by hand; as octets it fits no record, and is shown as changed."""
    if isinstance(stored, bytes | bytearray | memoryview):
        return bytes(stored)
    return str(stored).encode(errors="surrogateescape")


def leaf_of(row: Row) -> bytes:
    """The leaf of a stored record; 32 zero octets, which no tree has, where its commitment was made
    one of another length."""
    try:
        return leaf(octets(row["public"]), octets(row["c_loc"]))
    except LedgerError:
        return bytes(HASH_OCTETS)


class HubLedgerStore:
    """Nodes' logs."""

    def __init__(self, database: HubDatabase):
        self.database = database

    async def head(self, reading: Reading, node_id: str, epoch: int) -> HubHead | None:
        """How far the hub has this epoch; None when it has nothing of it."""
        row = await reading.one(
            "SELECT * FROM node_head WHERE node_id = ? AND epoch = ?", (node_id, epoch)
        )
        return None if row is None else _head(row)

    async def newest(self, reading: Reading, node_id: str) -> HubHead | None:
        """The head of the newest epoch of which the hub has records."""
        row = await reading.one(
            "SELECT * FROM node_head WHERE node_id = ? AND size > 0 ORDER BY epoch DESC LIMIT 1",
            (node_id,),
        )
        return None if row is None else _head(row)

    async def heads(self, reading: Reading, node_id: str) -> list[HubHead]:
        """All epochs of a node, oldest first."""
        rows = await reading.all(
            "SELECT * FROM node_head WHERE node_id = ? ORDER BY epoch", (node_id,)
        )
        return [_head(row) for row in rows]

    async def save_head(self, transaction: HubTransaction, head: HubHead, now: int) -> None:
        """Store a head, new or changed."""
        await transaction.run(
            "INSERT INTO node_head (node_id, epoch, size, frontier, cosigned, promised, proven,"
            " parent_node, parent_epoch, parent_size, backed_up_size, newest_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (node_id, epoch) DO UPDATE SET size = excluded.size,"
            " frontier = excluded.frontier, cosigned = excluded.cosigned,"
            " promised = excluded.promised, proven = excluded.proven,"
            " newest_at = excluded.newest_at, updated_at = excluded.updated_at",
            (
                *(head.node_id, head.epoch, head.size, head.frontier.to_octets()),
                *(head.cosigned, head.promised, head.proven),
                *(head.parent_node, head.parent_epoch, head.parent_size),
                *(head.backed_up_size, head.newest_at, now),
            ),
        )

    async def add_records(
        self, transaction: HubTransaction, node_id: str, epoch: int, rows: Sequence[StoredRecord]
    ) -> None:
        """Store records; each (node, epoch, seq) only ever once."""
        await transaction.run_many(
            "INSERT INTO record (node_id, epoch, seq, kind, at, site, public, c_loc)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(node_id, epoch, *row) for row in rows],
        )

    async def records(
        self, reading: Reading, node_id: str, epoch: int, first: int, end: int
    ) -> list[Row]:
        """`seq, public, c_loc` of what is still kept from `first` up to `end`, without `end`."""
        return await reading.all(
            "SELECT seq, public, c_loc FROM record"
            " WHERE node_id = ? AND epoch = ? AND seq >= ? AND seq < ? ORDER BY seq",
            (node_id, epoch, first, end),
        )

    async def leaves(
        self, reading: Reading, node_id: str, epoch: int, first: int, end: int
    ) -> list[bytes]:
        """The leaves from `first` up to `end`, without `end`: of records, and of those whose time
        is over. Fewer than asked for when the table lacks some."""
        found = {
            row["seq"]: leaf_of(row)
            for row in await self.records(reading, node_id, epoch, first, end)
        }
        if len(found) < end - first:
            found |= await self.pruned_leaves(reading, node_id, epoch, first, end)
        return [found[seq] for seq in range(first, end) if seq in found]

    async def pruned_leaves(
        self, reading: Reading, node_id: str, epoch: int, first: int, end: int
    ) -> dict[int, bytes]:
        """The leaves that stand in place of records, by seq, from `first` up to `end`."""
        runs = await reading.all(
            "SELECT first, leaves FROM leaf_run WHERE node_id = ? AND epoch = ?"
            " AND first < ? AND first + count > ?",
            (node_id, epoch, end, first),
        )
        found = {}
        for run in runs:
            leaves = octets(run["leaves"])
            for place in range(len(leaves) // HASH_OCTETS):
                seq = run["first"] + place
                if first <= seq < end:
                    found[seq] = leaves[place * HASH_OCTETS : (place + 1) * HASH_OCTETS]
        return found

    async def add_checkpoint(
        self, transaction: HubTransaction, head: HubHead, size: int, note: str, now: int
    ) -> None:
        """Keep a note with both signatures."""
        await transaction.run(
            "INSERT INTO checkpoint (node_id, epoch, size, note, cosigned_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (node_id, epoch, size) DO NOTHING",
            (head.node_id, head.epoch, size, note, now),
        )

    async def checkpoint(self, reading: Reading, node_id: str, epoch: int, size: int) -> str | None:
        """The note that was cosigned for this size."""
        row = await reading.one(
            "SELECT note FROM checkpoint WHERE node_id = ? AND epoch = ? AND size = ?",
            (node_id, epoch, size),
        )
        return None if row is None else str(row["note"])

    async def checkpoints(self, reading: Reading, node_id: str) -> list[Row]:
        """`epoch, size, note, cosigned_at` of all that was cosigned, oldest first."""
        return await reading.all(
            "SELECT epoch, size, note, cosigned_at FROM checkpoint WHERE node_id = ?"
            " ORDER BY epoch, size",
            (node_id,),
        )

    async def note_backup(
        self, transaction: HubTransaction, sizes: Sequence[tuple[str, int, int]]
    ) -> None:
        """Note that a backup that counts has these (node, epoch, size)."""
        await transaction.run_many(
            "UPDATE node_head SET backed_up_size = ? WHERE node_id = ? AND epoch = ?"
            " AND backed_up_size < ?",
            [(size, node_id, epoch, size) for node_id, epoch, size in sizes],
        )

    async def sizes(self, reading: Reading) -> list[tuple[str, int, int]]:
        """(node, epoch, size) of every head."""
        rows = await reading.all("SELECT node_id, epoch, size FROM node_head")
        return [(row["node_id"], row["epoch"], row["size"]) for row in rows]

    async def count_records(self, node_id: str) -> int:
        """How many records of a node are whole."""
        row = await self.database.one(
            "SELECT COUNT(*) AS count FROM record WHERE node_id = ?", (node_id,)
        )
        return 0 if row is None else int(row["count"])

    async def nodes_of_rows(self) -> list[str]:
        """All nodes of which anything is stored, whether they are known or not."""
        tables = ("node_head", "checkpoint", "record", "session_record", "site_day", "site_month")
        parts = " UNION ".join(f"SELECT node_id FROM {table}" for table in tables)
        rows = await self.database.all(f"{parts} ORDER BY node_id")
        return [row["node_id"] for row in rows]

    # --- retention

    async def received_before(self, reading: Reading, head: HubHead, at: int) -> int:
        """How many records of an epoch had come before a time."""
        row = await reading.one(
            "SELECT COALESCE(MAX(size), 0) AS size FROM checkpoint"
            " WHERE node_id = ? AND epoch = ? AND cosigned_at < ?",
            (head.node_id, head.epoch, at),
        )
        return 0 if row is None else int(row["size"])

    async def whole_records(
        self, reading: Reading, head: HubHead, first: int, end: int
    ) -> list[Row]:
        """`epoch, seq, kind, at, site, public, c_loc` of records from `first` up to `end`."""
        return await reading.all(
            "SELECT epoch, seq, kind, at, site, public, c_loc FROM record"
            " WHERE node_id = ? AND epoch = ? AND seq >= ? AND seq < ? ORDER BY seq",
            (head.node_id, head.epoch, first, end),
        )

    async def set_pruned(self, transaction: HubTransaction, head: HubHead, size: int) -> None:
        """Note that retention has been through the records below `size`."""
        await transaction.run(
            "UPDATE node_head SET pruned_size = ? WHERE node_id = ? AND epoch = ?",
            (size, head.node_id, head.epoch),
        )

    async def records_at(
        self, reading: Reading, node_id: str, places: Sequence[tuple[int, int]]
    ) -> list[Row]:
        """`epoch, seq, public, c_loc` of the records at these (epoch, seq), as far as kept."""
        found: list[Row] = []
        for epoch, seq in places:
            found += await reading.all(
                "SELECT epoch, seq, public, c_loc FROM record"
                " WHERE node_id = ? AND epoch = ? AND seq = ?",
                (node_id, epoch, seq),
            )
        return found

    async def replace_by_leaves(
        self, transaction: HubTransaction, node_id: str, rows: Sequence[Row]
    ) -> None:
        """Delete records and keep their leaves; `rows` in order of epoch and seq."""
        runs: list[tuple[int, int, list[bytes]]] = []
        for row in rows:
            its_leaf = leaf(bytes(row["public"]), bytes(row["c_loc"]))
            if (
                runs
                and runs[-1][0] == row["epoch"]
                and runs[-1][1] + len(runs[-1][2]) == row["seq"]
            ):
                runs[-1][2].append(its_leaf)
            else:
                runs.append((row["epoch"], row["seq"], [its_leaf]))
        await transaction.run_many(
            "INSERT INTO leaf_run (node_id, epoch, first, count, leaves) VALUES (?, ?, ?, ?, ?)",
            [(node_id, epoch, first, len(run), b"".join(run)) for epoch, first, run in runs],
        )
        await transaction.run_many(
            "DELETE FROM record WHERE node_id = ? AND epoch = ? AND seq = ?",
            [(node_id, row["epoch"], row["seq"]) for row in rows],
        )
