"""The hub: records a second into both databases, and a month's report from roll-ups.

Ingest is measured as nodes do it, signatures, trees, roll-ups and cosignatures included, without
HTTP: batches of 500 records of many nodes, one exchange after the other, in this process. The
report is compared over sessions that are put into the tables by SQL, with the roll-ups made of them
by SQL too; a test of its own shows that ingest makes the same ones.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from portal import settings
from portal.hub.rollups import NOBODY
from portal.hub_process import directories as hub_directories
from portal.serve_hub import Hub
from portal.store.db.either import HubDatabase
from portal.wire import MOST_RECORDS, Exchange
from tests import postgres_server
from tests.bench.report import ratio, table
from tests.unit.hub.office import Office
from tests.unit.hub.written_node import DAY_S, NOON, WrittenNode

NODES, BATCHES = 8, 5
SITES, DAYS = 1_600, 30
FIRST_DAY = 739_860  # 1 September 2026
MONTH = 2026 * 12 + 8
SESSIONS = 10_000_000
QUICK_SESSIONS = 1_000_000
ROUNDS = 3


@contextmanager
def _databases() -> Iterator[list[tuple[str, str]]]:
    """(name, `[database] url`) of what can be measured here."""
    with ExitStack() as stack:
        found = [("SQLite", "sqlite")]
        absent = postgres_server.missing()
        if absent is None:
            found.append(("PostgreSQL", stack.enter_context(postgres_server.running(on_disk=True))))
        else:
            print(absent, flush=True)
        yield found


def measure_hub(directory: Path, is_quick: bool) -> str:
    """Both measurements on every database there is; the text of docs/performance.md."""
    ingest: list[list[str]] = []
    reports: list[list[str]] = []
    sessions = QUICK_SESSIONS if is_quick else SESSIONS
    first_rate = 0.0
    with _databases() as databases:
        for name, url in databases:
            place = directory / name.lower()
            hub_directories.make(
                place,
                name="Bench",
                zone="Asia/Jakarta",
                admin="admin",
                url="https://127.0.0.1:8443",
                database_url=url,
            )
            rate, raw_s, report_s = asyncio.run(_measure(place, sessions))
            first_rate = first_rate or rate
            print(
                f"{name:12} {rate:8.0f} records/s   month of {sessions:,} sessions:"
                f" raw {raw_s:.3f} s, roll-ups {report_s:.4f} s",
                flush=True,
            )
            ingest.append([name, ratio(rate, first_rate), f"{_rounded(rate):,}"])
            reports.append([name, f"{sessions:,}", ratio(report_s, raw_s)])
    return "\n\n".join(
        (
            table(["ingest into", "ratio to the first row", "records/s, rounded"], ingest),
            table(["month's report of all sites", "sessions", "roll-ups to raw query"], reports),
        )
    )


def _rounded(rate: float) -> int:
    return int(round(rate, -2 if rate < 10_000 else -3))


async def _measure(place: Path, sessions: int) -> tuple[float, float, float]:
    """(records/s, seconds of the raw query, seconds of the report)"""
    found = await Hub.open(place, settings.load_for_hub(place, {}), lambda: NOON)
    try:
        rate = await _ingest(Office(found, NOON))
        database = found.store.database
        await _fill(database, sessions)
        days = (FIRST_DAY, FIRST_DAY + DAYS - 1)
        raw: list[float] = []
        report: list[float] = []
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            expected = await found.usage.month_of_all_sites_raw(days, NOBODY)
            raw.append(time.perf_counter() - began_s)
            began_s = time.perf_counter()
            rows = await found.usage.month_of_all_sites(MONTH)
            report.append(time.perf_counter() - began_s)
            for name in ("sessions", "users", "output_octets"):
                assert [row[name] for row in rows] == [row[name] for row in expected], name
        return rate, sorted(raw)[ROUNDS // 2], sorted(report)[ROUNDS // 2]
    finally:
        await found.close()


async def _ingest(office: Office) -> float:
    """Records a second, the median over rounds of several nodes' batches."""
    exchanges: list[list[tuple[WrittenNode, Exchange]]] = [[] for _ in range(BATCHES)]
    for number in range(NODES):
        node = WrittenNode(seed=bytes([number + 1]) * 32, sites=(f"DESA{number}",))
        await office.enrol(node)
        for batch in range(BATCHES):
            while len(node.records) < (batch + 1) * MOST_RECORDS:
                place = len(node.records)
                node.session(
                    1 + place % 150,
                    at=NOON + place * DAY_S // 200,
                    lasted_s=300 + place * 7 % 3000,
                    down=place * 7919,
                    up=place * 311,
                )
            exchanges[batch].append(
                (node, node.exchange(first=batch * MOST_RECORDS, acked_size=batch * MOST_RECORDS))
            )
    rates = []
    for round_exchanges in exchanges:
        began_s = time.perf_counter()
        for node, exchange in round_exchanges:
            outcome = await office.hub.ingest.take(
                node.node_id, node.next_counter(), exchange, NOON
            )
            assert outcome.status == 200, outcome
        rates.append(NODES * MOST_RECORDS / (time.perf_counter() - began_s))
    return sorted(rates)[len(rates) // 2]


_FILLED = (
    # Counting by joins of small tables: both databases have it.
    "CREATE TABLE bench_digit (n BIGINT PRIMARY KEY)",
    "CREATE TABLE bench_site (n BIGINT PRIMARY KEY, node_id TEXT NOT NULL)",
)
_SESSIONS = (
    "INSERT INTO session_record (node_id, day, epoch, seq, site, pseudonym, gateway, profile,"
    " started_at, at, duration_s, counted_s, input_octets, output_octets, cause, flags,"
    " clock_quality) SELECT s.node_id, CAST(? AS BIGINT), 0,"
    " CAST(? AS BIGINT) + d.n, 1, p.octets, 1, 1 + d.n % 2, 0, 1789000000, 600, 600,"
    " d.n * 1000, d.n * 10000, 1, 3, 1"
    " FROM bench_site AS s CROSS JOIN bench_digit AS d JOIN bench_user AS p ON p.n = d.n % 150"
)
_MONTHS = (
    "INSERT INTO site_month (node_id, month, site, sessions, users, input_octets, output_octets,"
    " counted_s) SELECT node_id, CAST(? AS BIGINT), site, COUNT(*), COUNT(DISTINCT pseudonym),"
    " CAST(SUM(input_octets) AS BIGINT), CAST(SUM(output_octets) AS BIGINT),"
    " CAST(SUM(counted_s) AS BIGINT) FROM session_record"
    " WHERE day BETWEEN ? AND ? GROUP BY node_id, site"
)


async def _fill(database: HubDatabase, sessions: int) -> None:
    """A month of many sites, straight into the tables."""
    a_day = sessions // (SITES * DAYS)
    async with database.transaction() as transaction:
        for name in ("session_record", "site_month"):
            await transaction.run(f"DELETE FROM {name}")
        for statement in (*_FILLED, "CREATE TABLE bench_user (n BIGINT, octets BYTEA NOT NULL)"):
            await transaction.run(statement)
        numbers: Sequence[tuple[int]] = [(number,) for number in range(a_day)]
        await transaction.run_many("INSERT INTO bench_digit (n) VALUES (?)", numbers)
        await transaction.run_many(
            "INSERT INTO bench_site (n, node_id) VALUES (?, ?)",
            [(number, f"{number:016x}") for number in range(SITES)],
        )
        await transaction.run_many(
            "INSERT INTO bench_user (n, octets) VALUES (?, ?)",
            [(number, (number + 1).to_bytes(10, "big")) for number in range(150)],
        )
    for day in range(DAYS):
        async with database.transaction() as transaction:
            await transaction.run(_SESSIONS, (FIRST_DAY + day, day * a_day))
    async with database.transaction() as transaction:
        await transaction.run(_MONTHS, (MONTH, FIRST_DAY, FIRST_DAY + DAYS - 1))
        await transaction.run("ANALYZE")
