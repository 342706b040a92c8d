"""The ledger's SQL: records are appended inside the transaction of what they are about.

A record's number and its place in the tree depend on all before it, so both are given while the
transaction is alone on the writer (`Database.recorded_by`), and taken back when it is not
committed. Every statement stands next to the function that runs it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from portal.domain.ledger import (
    NO_PERSONAL,
    SALT_OCTETS,
    WHOLE_NODE,
    ClockQuality,
    Kind,
    LedgerError,
    Payload,
    Record,
    commitment,
    encode,
    leaf,
    personal_octets,
)
from portal.domain.merkle import Frontier
from portal.store.db import Database, Row, Statement, Transaction

log = logging.getLogger(__name__)

PRUNED = (int(Kind.SESSION), int(Kind.SLICE), int(Kind.HEALTH))
"""Records whose body goes one day; what explains the others stays, and the totals of days."""
# Octets that somebody made text by hand are no UTF-8; as octets they reach whoever verifies.
_PUBLIC = "CAST(public AS BLOB) AS public, CAST(c_loc AS BLOB) AS c_loc"
_PERSONAL = "CAST(salt AS BLOB) AS salt, CAST(personal AS BLOB) AS personal"
_LEAF = "CAST(leaf AS BLOB) AS leaf"
BODY = f"seq, kind, at, site, {_PUBLIC}, {_PERSONAL}, {_LEAF}"


class Stamp(NamedTuple):
    """What every record says of the moment it was made."""

    boot: int
    clock_quality: ClockQuality


class Kept(NamedTuple):
    """What a record that is told again keeps from the first time."""

    stamp: Stamp
    c_loc: bytes
    salt: bytes | None
    personal: bytes | None


@dataclass(slots=True)
class Entry:
    """A record to be appended; its number, salt and stamp are given when it is."""

    kind: Kind
    at: int
    """Epoch seconds by the node's clock."""
    payload: Payload
    site: int = WHOLE_NODE
    personal: Mapping[str, Any] | bytes | None = None
    """What stays in the village and can be erased; octets are what `personal_octets` would make."""
    day: int = 0
    """Of a usage record: the day (ordinal, in the site's zone) whose total it is part of."""
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """A new epoch: the records after it are counted from 0 again."""

    epoch: int
    node: str
    at: int
    replayed_below: int
    void_from: int | None = None
    """From this record on, what the epoch before has is told again."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far the log has got."""

    epoch: int
    node: str
    """Id of the box whose log this is."""
    frontier: Frontier
    opened_at: int
    replayed_below: int
    """Sessions with a smaller id began before an older disk was put back."""

    @property
    def size(self) -> int:
        """How many records the epoch has."""
        return self.frontier.size

    @property
    def root(self) -> bytes:
        """The root over all of them."""
        return self.frontier.root()


class Rule(NamedTuple):
    """Why something is erased."""

    name: str
    """The setting and its value."""
    before_at: int
    """What is older than this."""
    at: int

    def erased(self, what: str, count: int, **span: Any) -> Entry:
        """The record of it: what and how many, never whose."""
        payload = {"what": what, "rule": self.name, "before": self.before_at, "count": count}
        return Entry(Kind.ERASURE, self.at, {**payload, **span})


class Acked(NamedTuple):
    """How many records of the newest epoch the hub has, and has in its own backup."""

    size: int
    backed_up: int


class LedgerStore:
    """Appends to the ledger and reads it."""

    def __init__(
        self,
        database: Database,
        *,
        stamp: Callable[[], Stamp],
        random_octets: Callable[[int], bytes],
    ):
        self._database = database
        self.pruning = asyncio.Lock()
        """Held while bodies are dropped, and by whoever must see all or none of that."""
        self._stamp = stamp
        self._random_octets = random_octets
        self._next: Head | None = None
        self.is_damaged = False
        """Whether the tree of the newest epoch was unreadable at the start."""
        self._head = self._stored_head()
        self._is_head_sure = True
        self._profile_numbers: dict[str, int] = {}
        database.recorded_by(self)

    # -- appending -------------------------------------------------------------------------

    def statements(self, entries: Sequence[Entry | Opening]) -> list[Statement]:
        """What appends these records; called while nobody else writes. See `Database`."""
        if not self._is_head_sure:
            self._head = self._stored_head()
            self._is_head_sure = True
        head = self._head
        frontier = Frontier() if head is None else head.frontier.copy()
        stamp = self._stamp()
        openings: list[Statement] = []
        rows: list[tuple[Any, ...]] = []
        days: dict[tuple[int, int, int], list[int]] = {}
        for entry in entries:
            if isinstance(entry, Opening):
                frontier = Frontier()
                if head is not None and entry.void_from is not None:
                    openings.append((_VOID, ((entry.void_from, head.epoch),)))
                head = Head(entry.epoch, entry.node, frontier, entry.at, entry.replayed_below)
                openings.append((_OPEN, ((*_opened(head),),)))
            elif head is not None:
                seq = frontier.size
                row, its_leaf = self._row(head.epoch, seq, entry, stamp)
                rows.append((*row, its_leaf))
                frontier.append(its_leaf)
                if entry.day:
                    days.setdefault((entry.site, entry.day, head.epoch), [seq, seq])[1] = seq
        if head is None:
            # The ledger begins with the first start of the node.
            return []
        self._next = Head(head.epoch, head.node, frontier, head.opened_at, head.replayed_below)
        return [
            *openings,
            (_APPEND, rows),
            (_HEAD, ((frontier.size, frontier.to_octets(), head.epoch),)),
            (_DAY, [(*key, *span) for key, span in days.items()]),
        ]

    def ended(self, is_committed: bool) -> None:
        """The transaction with the last `statements` is over."""
        if is_committed:
            self._head = self._next or self._head
        else:
            self._is_head_sure = False
        self._next = None

    def _row(
        self, epoch: int, seq: int, entry: Entry, stamp: Stamp
    ) -> tuple[tuple[Any, ...], bytes]:
        salt: bytes | None
        personal: bytes | None
        if entry.kept is not None:
            stamp, c_loc, salt, personal = entry.kept
        elif entry.personal is None:
            c_loc, salt, personal = NO_PERSONAL, None, None
        else:
            salt, told = self._random_octets(SALT_OCTETS), entry.personal
            personal = told if isinstance(told, bytes) else personal_octets(told)
            c_loc = commitment(salt, personal)
        public = encode(
            Record(
                entry.kind,
                seq,
                stamp.boot,
                entry.at,
                stamp.clock_quality,
                entry.site,
                entry.payload,
            )
        )
        row = (epoch, seq, int(entry.kind), entry.at, entry.site, public, c_loc, salt, personal)
        return row, leaf(public, c_loc)

    # -- the head --------------------------------------------------------------------------

    def head(self) -> Head | None:
        """How far the log has got, as committed; None before the node's first start."""
        return self._head

    def _stored_head(self) -> Head | None:
        row = self._database.one(
            "SELECT epoch, node, frontier, opened_at, replayed_below FROM ledger_epoch"
            " ORDER BY epoch DESC LIMIT 1"
        )
        if row is None:
            return None
        try:
            frontier = Frontier.from_octets(row["frontier"])
        except (TypeError, ValueError):
            # Somebody's hand; nothing may be added to a tree that is not known any more.
            self.is_damaged, frontier = True, Frontier()
        return Head(row["epoch"], row["node"], frontier, row["opened_at"], row["replayed_below"])

    def highest_epoch(self) -> int:
        """The highest epoch that anything is stored of, -1 for none."""
        row = self._database.one(
            "SELECT MAX (epoch) AS epoch FROM (SELECT epoch FROM ledger_epoch UNION ALL"
            " SELECT MAX (epoch) FROM ledger UNION ALL SELECT MAX (epoch) FROM checkpoint)"
        )
        return -1 if row is None or row["epoch"] is None else int(row["epoch"])

    def epochs(self) -> list[Row]:
        """All epochs, oldest first: `epoch, node, size, frontier, opened_at, replayed_below,
        void_from, acked, backed_up`."""
        return self._database.all(
            "SELECT epoch, node, size, frontier, opened_at, replayed_below, void_from, acked,"
            " backed_up FROM ledger_epoch ORDER BY epoch"
        )

    # -- reading ---------------------------------------------------------------------------

    def records(self, epoch: int, first: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """(seq, public, c_loc) of at most `limit` records from `first` on, as the hub gets them.
        What was pruned the hub has: it is left out."""
        rows = self._database.all(
            f"SELECT seq, {_PUBLIC} FROM ledger WHERE epoch = ? AND seq >= ?"
            " AND public IS NOT NULL ORDER BY seq LIMIT ?",
            (epoch, first, limit),
        )
        return [(row["seq"], row["public"], row["c_loc"]) for row in rows]

    async def bodies(self, epoch: int, first: int, limit: int) -> list[Row]:
        """All that is kept of at most `limit` records from `first` on: `seq, kind, at, site,
        public, c_loc, salt, personal, leaf`."""
        return await self._database.all_slowly(
            f"SELECT {BODY} FROM ledger WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT ?",
            (epoch, first, limit),
        )

    async def leaves(self, epoch: int) -> list[bytes]:
        """The leaf hashes of an epoch, in order: the tree over them has the head's root."""
        rows = await self._database.all_slowly(
            f"SELECT {_LEAF} FROM ledger WHERE epoch = ? ORDER BY seq", (epoch,)
        )
        return [row["leaf"] for row in rows]

    # -- what the hub has seen -------------------------------------------------------------

    def acked(self) -> Acked:
        """How many records of the newest epoch the hub has."""
        row = self._database.one(
            "SELECT acked, backed_up FROM ledger_epoch ORDER BY epoch DESC LIMIT 1"
        )
        return Acked(0, 0) if row is None else Acked(row["acked"], row["backed_up"])

    async def keep_cosigned(
        self, epoch: int, size: int, note: str, *, at: int, backed_up: int = 0
    ) -> None:
        """Keep a checkpoint the hub has cosigned, and how much of the epoch is in its backup."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO checkpoint (epoch, size, note, kept_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (epoch, size) DO NOTHING",
                (epoch, size, note, at),
            )
            await transaction.run(
                "UPDATE ledger_epoch SET acked = MAX (acked, ?), backed_up = MAX (backed_up, ?)"
                " WHERE epoch = ?",
                (size, min(size, backed_up), epoch),
            )

    def cosigned(self) -> Row | None:
        """The newest checkpoint the hub has cosigned: `epoch, size, note, kept_at`."""
        return self._database.one(
            "SELECT epoch, size, note, kept_at FROM checkpoint ORDER BY epoch DESC, size DESC"
            " LIMIT 1"
        )

    def cosigned_checkpoints(self) -> list[Row]:
        """All of them, oldest first."""
        return self._database.all(
            "SELECT epoch, size, note, kept_at FROM checkpoint ORDER BY epoch, size"
        )

    # -- epochs ----------------------------------------------------------------------------

    async def open(
        self,
        opening: Opening,
        entries: Sequence[Entry],
        again: Callable[[Sequence[Row]], Sequence[Entry]],
    ) -> None:
        """Begin an epoch with these records and, where `opening` says so, with what `again` makes
        of the last ones of the present epoch (`public, c_loc, salt, personal, leaf`)."""
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM box WHERE name = 'must_open_epoch'")
            transaction.append(opening)
            for entry in entries:
                transaction.append(entry)
            head = self._head
            if head is not None and opening.void_from is not None:
                # Read now, so that none is appended behind the last one that is told again.
                rows = self._database.all(
                    f"SELECT {_PUBLIC}, {_PERSONAL}, {_LEAF} FROM ledger"
                    " WHERE epoch = ? AND seq >= ? AND public IS NOT NULL ORDER BY seq",
                    (head.epoch, opening.void_from),
                )
                for entry in again(rows):
                    transaction.append(entry)

    # -- numbers ---------------------------------------------------------------------------

    def profile_number(self, name: str) -> int:
        """The number that stands for a profile in records; 0 when there never was such a one."""
        number = self._profile_numbers.get(name)
        if number is None:
            row = self._database.one("SELECT number FROM profile_number WHERE name = ?", (name,))
            if row is None:
                return 0
            number = self._profile_numbers[name] = row["number"]
        return number

    # -- days ------------------------------------------------------------------------------

    def untold_days(self, before_day: int) -> list[tuple[int, int]]:
        """(site, day) before a day whose total does not tell all its records, oldest first."""
        rows = self._database.all(
            "SELECT DISTINCT site, day FROM ledger_day WHERE is_told = 0 AND day < ?"
            " ORDER BY day, site LIMIT 500",
            (before_day,),
        )
        return [(row["site"], row["day"]) for row in rows]

    def of_day(self, site: int, day: int) -> list[bytes]:
        """The public parts of the usage records around a site's day: all of that day, and others
        appended in between. What was told again in a later epoch is left out.

        Raises LedgerError for a record that somebody changed behind the program's back.
        """
        rows = self._database.all(
            f"SELECT r.epoch, r.seq, {_PUBLIC}, {_LEAF} FROM ledger_day AS d"
            " JOIN ledger_epoch AS e ON e.epoch = d.epoch"
            " JOIN ledger AS r ON r.epoch = d.epoch AND r.seq BETWEEN d.first_seq AND d.last_seq"
            " WHERE d.site = ? AND d.day = ? AND r.site = d.site AND r.kind IN (1, 2)"
            " AND r.public IS NOT NULL AND (e.void_from IS NULL OR r.seq < e.void_from)",
            (site, day),
        )
        for row in rows:
            if not is_whole(row):
                raise LedgerError(f"record {row['seq']} of epoch {row['epoch']} was changed")
        return [row["public"] for row in rows]

    def is_forgotten(self, site: int, day: int) -> bool:
        """Whether the body of a usage record around a site's day is gone already: the total that
        was told of it cannot be made again."""
        row = self._database.one(
            "SELECT 1 FROM ledger_day AS d JOIN ledger AS r"
            " ON r.epoch = d.epoch AND r.seq BETWEEN d.first_seq AND d.last_seq"
            " WHERE d.site = ? AND d.day = ? AND r.site = d.site AND r.kind IN (1, 2)"
            " AND r.public IS NULL LIMIT 1",
            (site, day),
        )
        return row is not None

    async def tell_day(self, site: int, day: int, total: Callable[[list[bytes]], Entry]) -> None:
        """Append the total of a day, made of its records while none can be added; of a day with
        forgotten records the total of before stays. Raises LedgerError as `of_day` does."""
        async with self._database.transaction() as transaction:
            if not self.is_forgotten(site, day):
                transaction.append(total(self.of_day(site, day)))
            await transaction.run(
                "UPDATE ledger_day SET is_told = 1 WHERE site = ? AND day = ?", (site, day)
            )

    # -- what is forgotten -----------------------------------------------------------------

    async def forget_personal(self, rule: Rule, step: int) -> int:
        """Erase salt and personal part of at most `step` records; return of how many. Their place
        in the tree stays, and nobody can try out whose they were."""
        rows = self._database.all(
            "SELECT epoch, seq FROM ledger WHERE personal IS NOT NULL AND at < ?"
            " ORDER BY at LIMIT ?",
            (rule.before_at, step),
        )
        if not rows:
            return 0
        keys = sorted((row["epoch"], row["seq"]) for row in rows)
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "UPDATE ledger SET salt = NULL, personal = NULL WHERE epoch = ? AND seq = ?", keys
            )
            transaction.append(rule.erased("personal parts", len(keys), **_span(keys)))
        return len(keys)

    async def thin_checkpoints(self, before_at: int) -> int:
        """Keep of the older cosigned checkpoints the last of each day (UTC); return how many went.
        A later one proves all that an earlier one did."""
        async with self._database.transaction() as transaction:
            return await transaction.run(
                "DELETE FROM checkpoint WHERE kept_at < ? AND EXISTS (SELECT 1 FROM checkpoint AS c"
                " WHERE c.epoch = checkpoint.epoch AND c.size > checkpoint.size"
                " AND c.kept_at / 86400 = checkpoint.kept_at / 86400)",
                (before_at,),
            )

    async def prune(self, rule: Rule, step: int, *, has_hub: bool) -> int:
        """Drop the bodies of at most `step` usage and health records, of which the hash stays;
        return of how many. With a hub only what is in its own backup."""
        async with self.pruning:
            return await self._prune(rule, step, has_hub)

    async def _prune(self, rule: Rule, step: int, has_hub: bool) -> int:
        marks = ", ".join("?" * len(PRUNED))
        rows = await self._database.all_slowly(
            "SELECT r.epoch, r.seq FROM ledger AS r"
            " JOIN ledger_epoch AS e ON e.epoch = r.epoch"
            f" WHERE r.at < ? AND r.kind IN ({marks}) AND r.public IS NOT NULL"
            " AND (? = 0 OR r.seq < e.backed_up) LIMIT ?",
            (rule.before_at, *PRUNED, int(has_hub), step),
        )
        if not rows:
            return 0
        keys = [(row["epoch"], row["seq"]) for row in rows]
        async with self._database.transaction() as transaction:
            await transaction.run_many(
                "UPDATE ledger SET public = NULL, c_loc = NULL, salt = NULL, personal = NULL"
                " WHERE epoch = ? AND seq = ?",
                keys,
            )
            transaction.append(rule.erased("bodies", len(keys), **_span(keys)))
        return len(keys)


def is_whole(row: Row) -> bool:
    """Whether a record (`public, c_loc, leaf`) is the one that was appended: its leaf is in the
    tree, so nobody can change both unseen."""
    try:
        return leaf(row["public"], row["c_loc"]) == bytes(row["leaf"])
    except (LedgerError, TypeError):
        return False


def _span(keys: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """(epoch, seq) of the first and the last of them."""
    return {"first": list(min(keys)), "last": list(max(keys))}


def site_config(number: int, at: int, columns: Mapping[str, Any]) -> Entry:
    """What is known of a site, or what of it is different now, in a CONFIG record. Such a record
    amends the ones before it; who helps there and how to reach them is not told."""
    told = ("code", "name", "zone", "power_window")
    fields = {name: columns[name] for name in told if name in columns}
    return Entry(Kind.CONFIG, at, {"what": "site", "number": number, **fields}, number)


def gateway_config(number: int, site_id: int, at: int, columns: Mapping[str, Any]) -> Entry:
    """The same of a gateway; no address and no secret."""
    fields = {name: columns[name] for name in ("name", "family", "removed") if name in columns}
    return Entry(Kind.CONFIG, at, {"what": "gateway", "number": number, **fields}, site_id)


def profile_config(
    number: int, name: str, at: int, limits: Mapping[str, Any], *, removed: int = 0
) -> Entry:
    """The same of a profile: always all limits that differ from the defaults."""
    payload: dict[str, Any] = {"what": "profile", "number": number, "name": name}
    return Entry(Kind.CONFIG, at, payload | ({"removed": 1} if removed else {"limits": limits}))


async def number_profile(transaction: Transaction, database: Database, name: str) -> int:
    """The number of a profile that is being written, given at the first time."""
    row = database.one("SELECT number FROM profile_number WHERE name = ?", (name,))
    if row is not None:
        return int(row["number"])
    return await transaction.insert("INSERT INTO profile_number (name) VALUES (?)", (name,))


def _opened(head: Head) -> tuple[Any, ...]:
    return (
        head.epoch,
        head.node,
        0,
        head.frontier.to_octets(),
        head.opened_at,
        head.replayed_below,
    )


_OPEN = (
    "INSERT INTO ledger_epoch (epoch, node, size, frontier, opened_at, replayed_below)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_VOID = "UPDATE ledger_epoch SET void_from = ? WHERE epoch = ?"
_APPEND = (
    "INSERT INTO ledger (epoch, seq, kind, at, site, public, c_loc, salt, personal, leaf)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_HEAD = "UPDATE ledger_epoch SET size = ?, frontier = ? WHERE epoch = ?"
_DAY = (
    "INSERT INTO ledger_day (site, day, epoch, first_seq, last_seq, is_told)"
    " VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (site, day, epoch) DO UPDATE"
    " SET last_seq = excluded.last_seq, is_told = 0"
)
