"""What nodes' records say, taken apart, and the roll-ups that reports read.

Reports never read session records: only one site's log does, by its key. Methods with a
`transaction` are part of the caller's.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row

_DAY_OF_1970 = 719_163
_LOOKED_UP_AT_ONCE = (16, 128, 512)
"""So many values in one IN list: a few lengths, so that statements are prepared once."""


def _marks(count: int) -> tuple[int, str]:
    """The length of an IN list for `count` values, and its marks."""
    length = next((size for size in _LOOKED_UP_AT_ONCE if size >= count), count)
    return length, ", ".join("?" * length)


_SUMS = "sessions, users, input_octets, output_octets, counted_s"


def _added(table: str) -> str:
    """Assignments that add a row to the one that is there."""
    return ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _SUMS.split(", "))


class HubUsageStore:
    """Usage as nodes told it."""

    def __init__(self, database: HubDatabase):
        self.database = database

    # --- what records say

    async def add_sessions(
        self, transaction: HubTransaction, rows: Sequence[Sequence[Any]]
    ) -> None:
        """Store session and slice records, columns in the table's order."""
        await transaction.run_many(
            "INSERT INTO session_record (node_id, day, epoch, seq, site, pseudonym, gateway,"
            " profile, started_at, at, duration_s, counted_s, input_octets, output_octets, cause,"
            " flags, clock_quality) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    async def add_day_totals(
        self, transaction: HubTransaction, rows: Sequence[Sequence[Any]]
    ) -> None:
        """Store day totals, columns in the table's order; a later one of the same day counts."""
        await transaction.run_many(
            "INSERT INTO day_total (node_id, site, day, epoch, seq, sessions, users, input_octets,"
            " output_octets, counted_s, peak) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (node_id, site, day) DO UPDATE SET epoch = excluded.epoch,"
            " seq = excluded.seq, sessions = excluded.sessions, users = excluded.users,"
            " input_octets = excluded.input_octets, output_octets = excluded.output_octets,"
            " counted_s = excluded.counted_s, peak = excluded.peak"
            " WHERE excluded.epoch > day_total.epoch"
            " OR (excluded.epoch = day_total.epoch AND excluded.seq > day_total.seq)",
            rows,
        )

    async def add_events(self, transaction: HubTransaction, rows: Sequence[Sequence[Any]]) -> None:
        """Store all other records: node_id, kind, at, epoch, seq, site, payload."""
        await transaction.run_many(
            "INSERT INTO event (node_id, kind, at, epoch, seq, site, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    async def events(
        self, reading: Reading, node_id: str, kind: int, from_at: int, to_at: int
    ) -> list[Row]:
        """`at, epoch, seq, site, payload` of a kind in a time, oldest first."""
        return await reading.all(
            "SELECT at, epoch, seq, site, payload FROM event"
            " WHERE node_id = ? AND kind = ? AND at >= ? AND at < ? ORDER BY at, epoch, seq",
            (node_id, kind, from_at, to_at),
        )

    async def names(self, reading: Reading, node_id: str) -> list[Row]:
        """`what, number, name, code, zone`: what the node's numbers stand for."""
        return await reading.all(
            "SELECT what, number, name, code, zone FROM node_name WHERE node_id = ?", (node_id,)
        )

    async def set_name(
        self,
        transaction: HubTransaction,
        node_id: str,
        what: str,
        number: int,
        name: str,
        code: str,
        zone: str,
    ) -> None:
        """Keep what a number stands for."""
        await transaction.run(
            "INSERT INTO node_name (node_id, what, number, name, code, zone)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (node_id, what, number) DO UPDATE SET"
            " name = excluded.name, code = excluded.code, zone = excluded.zone",
            (node_id, what, number, name, code, zone),
        )

    async def of_session(
        self,
        reading: Reading,
        node_id: str,
        days: tuple[int, int],
        gateway: int,
        started_at: int,
    ) -> list[Row]:
        """Records of sessions that began at this gateway in this second, of a span of days."""
        return await reading.all(
            "SELECT epoch, seq, flags, counted_s, input_octets, output_octets"
            " FROM session_record WHERE node_id = ? AND day BETWEEN ? AND ?"
            " AND started_at = ? AND gateway = ? ORDER BY epoch, seq",
            (node_id, *days, started_at, gateway),
        )

    # --- roll-ups

    async def add_days(
        self,
        transaction: HubTransaction,
        rows: Sequence[Sequence[Any]],
        *,
        table: str = "site_day",
    ) -> None:
        """Add to days: node_id, site, day, profile, sessions, users, octets in and out, time.
        `table` "forgotten_day": to what they have of forgotten records."""
        await transaction.run_many(
            f"INSERT INTO {table} (node_id, site, day, profile, {_SUMS})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            f" ON CONFLICT (node_id, site, day, profile) DO UPDATE SET {_added(table)}",
            rows,
        )

    async def new_user_days(
        self,
        transaction: HubTransaction,
        node_id: str,
        wanted: set[tuple[int, bytes, int, int]],
    ) -> set[tuple[int, bytes, int, int]]:
        """Which of (day, pseudonym, site, profile) are new; they are stored."""
        by_day: dict[int, set[bytes]] = {}
        for day, pseudonym, _, _ in wanted:
            by_day.setdefault(day, set()).add(pseudonym)
        known: set[tuple[int, bytes, int, int]] = set()
        for day, pseudonyms in by_day.items():
            values = sorted(pseudonyms)
            length, marks = _marks(len(values))
            rows = await transaction.all(
                "SELECT pseudonym, site, profile FROM user_day"
                f" WHERE node_id = ? AND day = ? AND pseudonym IN ({marks})",
                (node_id, day, *values, *(values[-1:] * (length - len(values)))),
            )
            known |= {(day, bytes(row["pseudonym"]), row["site"], row["profile"]) for row in rows}
        new = wanted - known
        await transaction.run_many(
            "INSERT INTO user_day (node_id, day, pseudonym, site, profile) VALUES (?, ?, ?, ?, ?)",
            [(node_id, *each) for each in sorted(new)],
        )
        return new

    async def add_user_months(
        self,
        transaction: HubTransaction,
        node_id: str,
        sums: Sequence[tuple[int, bytes, int, int, int, int]],
    ) -> set[tuple[int, bytes, int]]:
        """Add month, pseudonym, site, sessions, octets, time; (month, pseudonym, site) that are
        new."""
        by_month: dict[int, set[bytes]] = {}
        for month, pseudonym, *_ in sums:
            by_month.setdefault(month, set()).add(pseudonym)
        known: set[tuple[int, bytes, int]] = set()
        for month, pseudonyms in by_month.items():
            values = sorted(pseudonyms)
            length, marks = _marks(len(values))
            rows = await transaction.all(
                "SELECT pseudonym, site FROM user_month"
                f" WHERE node_id = ? AND month = ? AND pseudonym IN ({marks})",
                (node_id, month, *values, *(values[-1:] * (length - len(values)))),
            )
            known |= {(month, bytes(row["pseudonym"]), row["site"]) for row in rows}
        await transaction.run_many(
            "INSERT INTO user_month (node_id, month, pseudonym, site, sessions, octets, counted_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (node_id, month, pseudonym, site) DO UPDATE SET"
            " sessions = user_month.sessions + excluded.sessions,"
            " octets = user_month.octets + excluded.octets,"
            " counted_s = user_month.counted_s + excluded.counted_s",
            [(node_id, *each) for each in sums],
        )
        return {(month, pseudonym, site) for month, pseudonym, site, *_ in sums} - known

    async def add_site_months(
        self,
        transaction: HubTransaction,
        rows: Sequence[Sequence[Any]],
        *,
        table: str = "site_month",
    ) -> None:
        """Add to months: node_id, month, site, sessions, users, octets in and out, time.
        `table` "forgotten_month": to what they have of forgotten records."""
        await transaction.run_many(
            f"INSERT INTO {table} (node_id, month, site, {_SUMS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            f" ON CONFLICT (node_id, month, site) DO UPDATE SET {_added(table)}",
            rows,
        )

    async def hours(
        self, reading: Reading, node_id: str, site: int, first: int, last: int
    ) -> list[Row]:
        """`hour, sessions, octets, peak, open_minutes` of a site, hours since 1970."""
        return await reading.all(
            "SELECT hour, sessions, octets, peak, open_minutes FROM site_hour"
            " WHERE node_id = ? AND site = ? AND hour BETWEEN ? AND ? ORDER BY hour",
            (node_id, site, first, last),
        )

    async def set_hours(self, transaction: HubTransaction, rows: Sequence[Sequence[Any]]) -> None:
        """Store hours: node_id, site, hour, sessions and octets to add, peak and minutes as is."""
        await transaction.run_many(
            "INSERT INTO site_hour (node_id, site, hour, sessions, octets, peak, open_minutes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node_id, site, hour) DO UPDATE SET"
            " sessions = site_hour.sessions + excluded.sessions,"
            " octets = site_hour.octets + excluded.octets,"
            " peak = excluded.peak, open_minutes = excluded.open_minutes",
            rows,
        )

    # --- reports

    async def month_of_all_sites(self, month: int) -> list[Row]:
        """A month of all sites from the roll-ups: `node_id, site, sessions, users, input_octets,
        output_octets, counted_s`."""
        return await self.database.all(
            "SELECT node_id, site, sessions, users, input_octets, output_octets, counted_s"
            " FROM site_month WHERE month = ? ORDER BY node_id, site",
            (month,),
        )

    async def month_of_all_sites_raw(self, days: tuple[int, int], nobody: bytes) -> list[Row]:
        """The same added up from session records: what the roll-ups must equal, and their yardstick
        in the benchmark. `nobody` is the pseudonym that counts for none."""
        return await self.database.all(
            "SELECT node_id, site,"
            " CAST(SUM(CASE WHEN flags % 2 = 1 THEN 1 ELSE 0 END) AS BIGINT) AS sessions,"
            " COUNT(DISTINCT CASE WHEN pseudonym <> ? THEN pseudonym END) AS users,"
            " CAST(SUM(input_octets) AS BIGINT) AS input_octets,"
            " CAST(SUM(output_octets) AS BIGINT) AS output_octets,"
            " CAST(SUM(counted_s) AS BIGINT) AS counted_s"
            " FROM session_record WHERE day BETWEEN ? AND ?"
            " GROUP BY node_id, site ORDER BY node_id, site",
            (nobody, *days),
        )

    async def days_of_site(
        self, reading: Reading, node_id: str, site: int, first: int, last: int
    ) -> list[Row]:
        """Rows of `site_day` of a site, by day and profile."""
        return await reading.all(
            "SELECT * FROM site_day WHERE node_id = ? AND site = ? AND day BETWEEN ? AND ?"
            " ORDER BY day, profile",
            (node_id, site, first, last),
        )

    # --- proof

    async def sessions_between(
        self, reading: Reading, node_id: str, epoch: int, first: int, end: int
    ) -> list[Row]:
        """Session rows of records from `first` up to `end`."""
        return await reading.all(
            "SELECT * FROM session_record WHERE node_id = ? AND epoch = ? AND seq >= ? AND seq < ?",
            (node_id, epoch, first, end),
        )

    async def events_between(
        self, reading: Reading, node_id: str, epoch: int, first: int, end: int
    ) -> list[Row]:
        """Event rows of records from `first` up to `end`."""
        return await reading.all(
            "SELECT * FROM event WHERE node_id = ? AND epoch = ? AND seq >= ? AND seq < ?",
            (node_id, epoch, first, end),
        )

    async def counts(self, node_id: str) -> dict[str, int]:
        """How many `session` and `event` rows there are of a node."""
        found = {}
        for name, table in (("session", "session_record"), ("event", "event")):
            row = await self.database.one(
                f"SELECT COUNT(*) AS count FROM {table} WHERE node_id = ?", (node_id,)
            )
            found[name] = 0 if row is None else int(row["count"])
        return found

    async def day_totals(self, node_id: str) -> list[Row]:
        """All day totals of a node."""
        return await self.database.all("SELECT * FROM day_total WHERE node_id = ?", (node_id,))

    async def sums_of_node(self, node_id: str) -> dict[str, list[Row]]:
        """All rows of each roll-up of a node, by table."""
        return {
            table: await self.database.all(f"SELECT * FROM {table} WHERE node_id = ?", (node_id,))
            for table in (
                *("site_day", "site_month", "site_hour", "user_day", "user_month"),
                *("forgotten_day", "forgotten_month"),
            )
        }

    # --- erasure

    async def sessions_at(
        self, reading: Reading, node_id: str, places: Sequence[tuple[int, int, int]]
    ) -> list[Row]:
        """Session rows by their (day, epoch, seq); the day may be one off, since a site's zone can
        have changed."""
        found: list[Row] = []
        for day, epoch, seq in places:
            found += await reading.all(
                "SELECT * FROM session_record WHERE node_id = ? AND day BETWEEN ? AND ?"
                " AND epoch = ? AND seq = ?",
                (node_id, day - 1, day + 1, epoch, seq),
            )
        return found

    async def has_sessions(
        self, reading: Reading, node_id: str, pseudonym: bytes, days: tuple[int, int]
    ) -> bool:
        """Whether a pseudonym has session rows in a span of days."""
        row = await reading.one(
            "SELECT 1 AS found FROM session_record"
            " WHERE node_id = ? AND day BETWEEN ? AND ? AND pseudonym = ? LIMIT 1",
            (node_id, *days, pseudonym),
        )
        return row is not None

    async def delete_user(
        self, transaction: HubTransaction, node_id: str, pseudonym: bytes, days: tuple[int, int]
    ) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
        """Delete a pseudonym; return the (site, day, profile) and the (month, site) where it was
        counted as a user."""
        first, last = (date.fromordinal(day) for day in days)
        months = (first.year * 12 + first.month - 1, last.year * 12 + last.month - 1)
        in_days = await transaction.all(
            "DELETE FROM user_day WHERE node_id = ? AND day BETWEEN ? AND ? AND pseudonym = ?"
            " RETURNING site, day, profile",
            (node_id, *days, pseudonym),
        )
        in_months = await transaction.all(
            "DELETE FROM user_month WHERE node_id = ? AND month BETWEEN ? AND ? AND pseudonym = ?"
            " RETURNING month, site",
            (node_id, *months, pseudonym),
        )
        return (
            [(row["site"], row["day"], row["profile"]) for row in in_days],
            [(row["month"], row["site"]) for row in in_months],
        )

    # --- retention

    async def delete_users_before(
        self, transaction: HubTransaction, node_id: str, day: int, month: int
    ) -> None:
        """Delete what tells users and hours apart before a day, the first of a month."""
        for table, column, value in (
            ("user_day", "day", day),
            ("user_month", "month", month),
            ("site_hour", "hour", (day - _DAY_OF_1970) * 24),
        ):
            await transaction.run(
                f"DELETE FROM {table} WHERE node_id = ? AND {column} < ?", (node_id, value)
            )

    async def delete_sessions(
        self, transaction: HubTransaction, node_id: str, places: Sequence[tuple[int, int, int]]
    ) -> None:
        """Delete session records by their (day, epoch, seq); the day may be one off, since a site's
        zone can have changed."""
        await transaction.run_many(
            "DELETE FROM session_record WHERE node_id = ? AND day BETWEEN ? AND ?"
            " AND epoch = ? AND seq = ?",
            [(node_id, day - 1, day + 1, epoch, seq) for day, epoch, seq in places],
        )

    async def delete_events(
        self, transaction: HubTransaction, node_id: str, places: Sequence[tuple[int, int, int, int]]
    ) -> None:
        """Delete events by their (kind, at, epoch, seq)."""
        await transaction.run_many(
            "DELETE FROM event WHERE node_id = ? AND kind = ? AND at = ? AND epoch = ? AND seq = ?",
            [(node_id, *place) for place in places],
        )

    async def note_pruning(
        self, transaction: HubTransaction, node_id: str, kind: str, at: int, day: int, count: int
    ) -> None:
        """Record what was deleted."""
        await transaction.run(
            "INSERT INTO pruning (node_id, class, at, before_day, count) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (node_id, class, at) DO UPDATE SET"
            " count = pruning.count + excluded.count",
            (node_id, kind, at, day, count),
        )

    async def prunings(self) -> list[Row]:
        """All that was deleted because its time was over, newest first."""
        return await self.database.all(
            "SELECT node_id, class, at, before_day, count FROM pruning ORDER BY at DESC LIMIT 1000"
        )
