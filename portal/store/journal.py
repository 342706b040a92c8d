"""The journal: what a group commit makes durable at once, and its tables learn a little later.

Under load every packet changes a row or two of `session`, `usage_day`, `account` and `device`.
Writing them one by one costs a third of the CPU and touches a page of the file for each; one packed
row in the table `journal` is as durable and costs a tenth. What it says is kept here as well, the
last state of each row, and goes to the tables in one transaction that empties the journal: every
half minute, when it has grown, before anybody reads the tables, and at a start after a power cut.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from portal.store.batch import BATCH_SQL, SESSION, Batch
from portal.store.db import Database, Statement, Transaction

SETTLE_AT_ROWS = 1000
"""Changed rows that are settled without waiting for the half minute: some milliseconds of work, in
which no commit can begin. A session that begins and ends meanwhile is written once."""
JOURNALED = ("sessions", "counters", "usage", "site_usage", "accounts", "devices")
_SQL = dict(BATCH_SQL)
_INSERT = "INSERT INTO journal (changes) VALUES (?)"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

Rows = Sequence[Sequence[Any]]


class Journal:
    """The changes that are committed and not yet in their tables."""

    def __init__(self, database: Database):
        self._database = database
        self._sessions: dict[int, Sequence[Any]] = {}
        self._counters: dict[int, Sequence[Any]] = {}
        self._usage: dict[tuple[int, str], list[int]] = {}
        self._site_usage: dict[tuple[int, str], list[int]] = {}
        self._accounts: dict[int, Sequence[Any]] = {}
        self._devices: dict[tuple[int, str], Sequence[Any]] = {}

    def __len__(self) -> int:
        """How many rows of tables wait to be written."""
        return (
            len(self._sessions)
            + len(self._counters)
            + len(self._usage)
            + len(self._site_usage)
            + len(self._accounts)
            + len(self._devices)
        )

    def holds_session(self, session_id: int) -> bool:
        """Whether the table `session` does not have the last of this session."""
        return session_id in self._sessions or session_id in self._counters

    def account_ids(self) -> set[int]:
        """The accounts of which the tables do not have the last."""
        ids = set(self._accounts)
        ids.update(account_id for account_id, _ in self._usage)
        ids.update(account_id for account_id, _ in self._devices)
        return ids

    # -- writing ---------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction; when this returns it survives a power cut."""
        statements: list[Statement] = [
            (sql, rows)
            for name, sql in BATCH_SQL
            if name not in JOURNALED and (rows := getattr(batch, name))
        ]
        changes = {name: rows for name in JOURNALED if (rows := getattr(batch, name))}
        if changes:
            statements.append((_INSERT, ((_encode(changes),),)))
        await self._database.write(
            statements, entries=batch.entries, then=lambda: self._take(changes)
        )

    async def settle(self) -> None:
        """Write everything into its tables and empty the journal, in one transaction."""
        await self._database.settle()

    async def settle_in(self, transaction: Transaction) -> None:
        """The same inside a transaction that is alone on the writer: see `Database.settled_by`."""
        if len(self):
            await transaction.write(list(self._statements()))

    def forget(self) -> None:
        """What was kept is in its tables: the transaction of `settle_in` was committed."""
        for kept in (self._sessions, self._counters, self._accounts, self._devices):
            kept.clear()
        self._usage.clear()
        self._site_usage.clear()

    async def replay(self) -> int:
        """Settle what a node left that did not stop by itself; return how many commits it was.

        Before anything else is read from the database.
        """
        self._database.settled_by(self)
        rows = self._database.all("SELECT changes FROM journal ORDER BY id")
        for row in rows:
            changes = _decode(row["changes"])
            if "sessions" in changes:
                changes["sessions"] = [_of_today(row) for row in changes["sessions"]]
            self._take(changes)
        if rows:
            await self.settle()
        return len(rows)

    # -- what is kept ----------------------------------------------------------------------

    def _take(self, changes: Mapping[str, Rows]) -> None:
        for row in changes.get("sessions", ()):
            self._sessions[row[0]] = row
            self._counters.pop(row[0], None)
        for row in changes.get("counters", ()):
            self._counters[row[-1]] = row
        for sums, name in ((self._usage, "usage"), (self._site_usage, "site_usage")):
            for of_whom, day, octets, seconds in changes.get(name, ()):
                of_day = sums.setdefault((of_whom, day), [0, 0])
                of_day[0] += octets
                of_day[1] += seconds
        for row in changes.get("accounts", ()):
            self._accounts[row[-1]] = row
        for row in changes.get("devices", ()):
            self._devices[(row[0], row[1])] = row

    def _statements(self) -> Iterator[Statement]:
        yield _SQL["sessions"], list(self._sessions.values())
        yield _SQL["counters"], list(self._counters.values())
        yield _SQL["usage"], [(*key, *amounts) for key, amounts in self._usage.items()]
        yield _SQL["site_usage"], [(*key, *amounts) for key, amounts in self._site_usage.items()]
        yield _SQL["accounts"], list(self._accounts.values())
        yield _SQL["devices"], list(self._devices.values())
        yield "DELETE FROM journal", ((),)


_ENDED_AT, _INPUT, _OUTPUT, _TIME_S, _COUNTED_S = (
    [name.strip() for name in SESSION.split(",")].index(name)
    for name in ("ended_at", "input_octets", "output_octets", "session_time_s", "counted_s")
)
_BEFORE_LEDGER = len(SESSION.split(",")) - 5


def _of_today(row: Sequence[Any]) -> Sequence[Any]:
    """A session's row as it is written now. A program from before the ledger left it shorter; what
    had ended by then counts as told."""
    if len(row) > _BEFORE_LEDGER:
        return row
    if row[_ENDED_AT] is None:
        return [*row, 0, 0, 0, 0, 0]
    return [*row, 1, row[_INPUT], row[_OUTPUT], row[_TIME_S], row[_COUNTED_S]]
