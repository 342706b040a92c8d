"""Growth: does a node with millions of stored sessions answer as cheaply as a young one?

Two nodes with the same cards run side by side, one with 10 thousand stored sessions, one with
millions, filled straight into the database file as a year of use would have left them. Loads are
interleaved; compared are CPU per request, and the time from the start of the process to "ready".
"""

import sqlite3
import statistics
import time
from pathlib import Path

from tests.bench import report
from tests.bench.report import Case
from tests.bench.targets import VOUCHERS, Run, drive, make_node, node

FEW = 10_000
MANY = 5_000_000
YEAR_S = 365 * 86_400
OPEN = 300
CASES = (Case("auth"), Case("acct"), Case("mix"))

# Column -> SQL over n (1..:count), :first (id before the first), :now. Columns that the schema has
# and this table does not name get NULL, '' or 0.
_SESSION = {
    "id": ":first + n",
    "voucher_id": "n % :vouchers + 1",
    "gateway_id": "1",
    "site_id": "1",
    "acct_session_id": "printf('%016x', (:first + n) * 2654435761)",
    "mac": "printf('0200%08x', n % :vouchers)",
    "framed_ip": "printf('10.1.%d.%d', n % :vouchers / 250, n % 250 + 1)",
    "has_class": "n % 2",
    "started_at": ":now - 7200 - (:count - n) * :span / :count",
    "last_seen_at": "CASE WHEN n > :count - :open THEN :now - 60"
    " ELSE :now - 5400 - (:count - n) * :span / :count END",
    "ended_at": "CASE WHEN n > :count - :open THEN NULL"
    " ELSE :now - 5400 - (:count - n) * :span / :count END",
    "end_cause": "CASE WHEN n > :count - :open THEN NULL ELSE 'User-Request' END",
    "is_stopped": "n <= :count - :open",
    "is_superseded": "0",
    "input_octets": "100000",
    "output_octets": "900000",
    "session_time_s": "1800",
    "raw_input_octets": "100000",
    "raw_output_octets": "900000",
    "counted_s": "1800",
}
_COUNT = "WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < :count)"


def fill(path: Path, sessions: int, vouchers: int, now: int, span_s: int = YEAR_S) -> None:
    """Put so many sessions of `vouchers` cards into a node's database, the last 300 still open.

    Day totals and card totals are kept as the node would keep them. The node must not run.
    """
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -200000")
    known = {
        row[1]: (row[2], row[3], row[4]) for row in database.execute("PRAGMA table_info(session)")
    }
    values = dict(_SESSION)
    for column, (kind, is_required, default) in known.items():
        if column not in values and is_required and default is None:
            values[column] = "''" if kind == "TEXT" else "0"
    values = {column: value for column, value in values.items() if column in known}
    settings = {
        "first": database.execute("SELECT COALESCE(MAX(id), 0) FROM session").fetchone()[0],
        "count": sessions,
        "vouchers": vouchers,
        "now": now,
        "span": span_s,
        "open": OPEN,
    }
    indexes = database.execute(
        "SELECT name, sql FROM sqlite_master"
        " WHERE type = 'index' AND tbl_name = 'session' AND sql IS NOT NULL"
    ).fetchall()
    database.execute("BEGIN")
    for name, _ in indexes:
        database.execute(f"DROP INDEX {name}")
    database.execute(
        f"{_COUNT} INSERT INTO session ({', '.join(values)})"
        f" SELECT {', '.join(values.values())} FROM count",
        settings,
    )
    database.execute(
        "INSERT INTO usage_day (account_id, day, octets, seconds)"
        " SELECT v.account_id, date(s.started_at, 'unixepoch', '+7 hours') AS day,"
        " SUM(s.input_octets + s.output_octets), SUM(s.session_time_s)"
        " FROM session s JOIN voucher v ON v.id = s.voucher_id WHERE s.id > :first"
        " GROUP BY v.account_id, day",
        settings,
    )
    database.execute(
        "UPDATE account SET first_used_at = :now - :span - 7200,"
        " total_octets = (SELECT SUM(octets) FROM usage_day WHERE account_id = id),"
        " total_s = (SELECT SUM(seconds) FROM usage_day WHERE account_id = id)"
        " WHERE id IN (SELECT account_id FROM usage_day)",
        settings,
    )
    for _, sql in indexes:
        database.execute(sql)
    database.execute("COMMIT")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def measure_growth(directory: Path, is_quick: bool) -> str:
    """CPU per request and start-up time beside those of a young node; returns the table."""
    many = 500_000 if is_quick else MANY
    rounds = 1 if is_quick else 3
    places = {}
    starts: dict[int, list[float]] = {}
    for sessions in (FEW, many):
        place = directory / f"node-{sessions}"
        codes = make_node(place)
        (directory / f"codes-{sessions}").write_text("\n".join(codes))
        fill(place / "pesisir.db", sessions, VOUCHERS, int(time.time()))
        places[sessions] = place
        starts[sessions] = []
    for _ in range(rounds):
        for sessions, place in places.items():
            with node(place) as target:
                starts[sessions].append(target.started_in_s)
    runs: dict[tuple[Case, str], list[Run]] = {}
    names = {FEW: f"{FEW:,} sessions", many: f"{many:,} sessions"}
    with (
        node(places[FEW], name=names[FEW]) as young,
        node(places[many], name=names[many]) as old,
    ):
        pairs = ((young, directory / f"codes-{FEW}"), (old, directory / f"codes-{many}"))
        for target, file in pairs:
            drive(target, "auth", file, once=True, prepare=VOUCHERS)
        for case in CASES:
            for _ in range(rounds):
                for target, file in pairs:
                    run = drive(target, case.kind, file, seconds=2.0, prepare=40_000)
                    runs.setdefault((case, target.name), []).append(run)
        targets = [young.name, old.name]
    medians = {key: report.median_of(found) for key, found in runs.items()}
    print(report.absolute(medians, CASES, targets))
    size_mb = (places[many] / "pesisir.db").stat().st_size / 1e6
    first, last = (statistics.median(starts[sessions]) for sessions in (FEW, many))
    print(f"start-up: {first:.2f} s and {last:.2f} s")
    return (
        f"{report.comparison(medians, CASES, targets)}\n\n"
        f"Start-up, process to ready: {last:.1f} s with {many:,} sessions, {ratio(last, first)}"
        f" times that with {FEW:,}. Database file: {size_mb:,.0f} MB,"
        f" {size_mb * 1e6 / many:.0f} bytes a session."
    )


def ratio(value: float, anchor: float) -> str:
    """As in the tables."""
    return report.ratio(value, anchor)
