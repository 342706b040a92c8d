"""Batch: everything one group commit writes, and the statements that write it.

Rows are made here from the domain's objects and read back the same way.
"""

from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

from portal.domain.session import Session, Told
from portal.store.db import Row
from portal.store.ledger import Entry

SESSION = (
    "id, voucher_id, gateway_id, site_id, acct_session_id, mac, framed_ip, has_class, started_at,"
    " granted_octets, granted_s, last_seen_at, ended_at, end_cause, is_stopped, is_superseded,"
    " input_octets, output_octets, session_time_s, base_input_octets, base_output_octets,"
    " counted_s, pending_day, pending_octets, pending_s, told_records, told_input_octets,"
    " told_output_octets, told_s, told_counted_s"
)
_CHANGING = (
    "framed_ip, granted_octets, granted_s, last_seen_at, ended_at, end_cause, is_stopped,"
    " is_superseded, input_octets, output_octets, session_time_s, base_input_octets,"
    " base_output_octets, counted_s, pending_day, pending_octets, pending_s, told_records,"
    " told_input_octets, told_output_octets, told_s, told_counted_s"
)


@lru_cache(maxsize=64)
def _day(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def session_row(session: Session) -> tuple[Any, ...]:
    """A session as the row to write."""
    s = session
    return (
        s.id,
        s.voucher_id,
        s.gateway_id,
        s.site_id,
        s.acct_session_id,
        s.mac,
        s.framed_ip,
        s.has_class,
        s.started_at,
        s.granted_octets,
        s.granted_s,
        s.last_seen_at,
        s.ended_at,
        s.end_cause,
        s.is_stopped,
        s.is_superseded,
        s.input_octets,
        s.output_octets,
        s.session_time_s,
        s.input_octets - s.raw_input_octets,
        s.output_octets - s.raw_output_octets,
        s.counted_s,
        _day(s.pending_day) if s.pending_day else None,
        s.pending_octets,
        s.pending_s,
        *s.told,
    )


def counters_row(session: Session) -> tuple[int, ...]:
    """What every report changes, as the parameters of the short update."""
    s = session
    return (
        s.last_seen_at,
        s.input_octets,
        s.output_octets,
        s.session_time_s,
        s.counted_s,
        s.pending_octets,
        s.pending_s,
        s.id,
    )


def beside_counters(session: Session) -> tuple[Any, ...]:
    """What may change but seldom does: while it stands as written, the short update is enough."""
    s = session
    return (
        s.framed_ip,
        s.granted_octets,
        s.granted_s,
        s.ended_at,
        s.end_cause,
        s.is_stopped,
        s.is_superseded,
        s.input_octets - s.raw_input_octets,
        s.output_octets - s.raw_output_octets,
        s.pending_day,
        s.told,
    )


def read_session(row: Row) -> Session:
    """A stored row as the domain's session."""
    pending_day = row["pending_day"]
    return Session(
        id=row["id"],
        voucher_id=row["voucher_id"],
        gateway_id=row["gateway_id"],
        site_id=row["site_id"],
        acct_session_id=row["acct_session_id"],
        mac=row["mac"],
        framed_ip=row["framed_ip"],
        has_class=bool(row["has_class"]),
        started_at=row["started_at"],
        granted_octets=row["granted_octets"],
        granted_s=row["granted_s"],
        last_seen_at=row["last_seen_at"],
        ended_at=row["ended_at"],
        end_cause=row["end_cause"],
        is_stopped=bool(row["is_stopped"]),
        is_superseded=bool(row["is_superseded"]),
        input_octets=row["input_octets"],
        output_octets=row["output_octets"],
        session_time_s=row["session_time_s"],
        raw_input_octets=row["input_octets"] - row["base_input_octets"],
        raw_output_octets=row["output_octets"] - row["base_output_octets"],
        counted_s=row["counted_s"],
        pending_day=date.fromisoformat(pending_day).toordinal() if pending_day else 0,
        pending_octets=row["pending_octets"],
        pending_s=row["pending_s"],
        told=Told(
            row["told_records"],
            row["told_input_octets"],
            row["told_output_octets"],
            row["told_s"],
            row["told_counted_s"],
        ),
    )


@dataclass(slots=True)
class Batch:
    """Everything that one commit writes. Rows are final: they are taken when the commit begins."""

    sessions: list[tuple[Any, ...]] = field(default_factory=list)
    """Whole rows, new or changed."""
    counters: list[tuple[int, ...]] = field(default_factory=list)
    """Rows of which only the counters changed."""
    usage: list[tuple[int, str, int, int]] = field(default_factory=list)
    """(account, day, octets, seconds) to add."""
    site_usage: list[tuple[int, str, int, int]] = field(default_factory=list)
    """(site, day, octets, seconds) to add: the same, by site."""
    accounts: list[tuple[Any, ...]] = field(default_factory=list)
    """(first_used_at, total_octets, total_s, move_day, move_count, last_session_id, id)."""
    devices: list[tuple[Any, ...]] = field(default_factory=list)
    used_vouchers: list[tuple[int]] = field(default_factory=list)
    """Accounts whose card was used for the first time: the sealed copy of its code goes."""
    gigaword_gateways: list[tuple[int]] = field(default_factory=list)
    login_bases: list[tuple[str, int]] = field(default_factory=list)
    learned: list[tuple[str]] = field(default_factory=list)
    outages: list[tuple[int, int | None]] = field(default_factory=list)
    actions: list[tuple[Any, ...]] = field(default_factory=list)
    """What gateways were asked to do, new or answered since; in the order of `ACTION`."""
    box: list[tuple[str, str]] = field(default_factory=list)
    pseudonyms: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(account, month, octets), new ones."""
    entries: list[Entry] = field(default_factory=list)
    """Records for the ledger. Their numbers are given while nobody else writes, so they are rows
    only then."""


def _marks(columns: str) -> str:
    return ", ".join("?" for _ in columns.split(","))


def _replaced(columns: str) -> str:
    """Assignments that take the new row's values."""
    names = [name.strip() for name in columns.split(",")]
    return ", ".join(f"{name} = excluded.{name}" for name in names)


DEVICE = (
    "account_id, mac, is_remembered, gateway_id, session_id, granted_octets, granted_s, granted_at"
)
ACTION = (
    "id, at, gateway_id, site_id, session_id, kind, why, asked_by, sent, answer, answered_at,"
    " error_cause, round_trip_ms"
)
# One statement for all rows of a kind (executemany). One taking a JSON array of rows would spare
# hand-overs of Python's lock, but costs three times the CPU (measured: 32 against 10 us a row).
BATCH_SQL: tuple[tuple[str, str], ...] = (
    (
        "sessions",
        f"INSERT INTO session ({SESSION}) VALUES ({_marks(SESSION)})"
        f" ON CONFLICT (id) DO UPDATE SET {_replaced(_CHANGING)}",
    ),
    (
        "counters",
        "UPDATE session SET last_seen_at = ?, input_octets = ?, output_octets = ?,"
        " session_time_s = ?, counted_s = ?, pending_octets = ?, pending_s = ? WHERE id = ?",
    ),
    (
        "usage",
        "INSERT INTO usage_day (account_id, day, octets, seconds) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (account_id, day) DO UPDATE"
        " SET octets = octets + excluded.octets, seconds = seconds + excluded.seconds",
    ),
    (
        "site_usage",
        "INSERT INTO site_day (site_id, day, octets, seconds) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (site_id, day) DO UPDATE"
        " SET octets = octets + excluded.octets, seconds = seconds + excluded.seconds",
    ),
    (
        "accounts",
        "UPDATE account SET first_used_at = ?, total_octets = ?, total_s = ?, move_day = ?,"
        " move_count = ?, last_session_id = ? WHERE id = ?",
    ),
    (
        "devices",
        f"INSERT INTO device ({DEVICE}) VALUES ({_marks(DEVICE)})"
        f" ON CONFLICT (account_id, mac) DO UPDATE SET {_replaced(DEVICE)}",
    ),
    (
        "used_vouchers",
        "UPDATE voucher SET sealed_code = NULL WHERE account_id = ? AND sealed_code IS NOT NULL",
    ),
    ("gigaword_gateways", "UPDATE gateway SET sends_gigawords = 1 WHERE id = ?"),
    ("login_bases", "UPDATE gateway SET login_base = ? WHERE id = ?"),
    ("learned", "INSERT INTO learned_address (address) VALUES (?) ON CONFLICT DO NOTHING"),
    (
        "outages",
        "INSERT INTO outage (started_at, ended_at) VALUES (?, ?)"
        " ON CONFLICT (started_at) DO UPDATE SET ended_at = excluded.ended_at",
    ),
    (
        "actions",
        f"INSERT INTO gateway_action ({ACTION}) VALUES ({_marks(ACTION)})"
        " ON CONFLICT (id) DO UPDATE SET"
        f" {_replaced('sent, answer, answered_at, error_cause, round_trip_ms')}",
    ),
    ("pseudonyms", "INSERT INTO pseudonym (account_id, month, octets) VALUES (?, ?, ?)"),
    (
        "box",
        "INSERT INTO box (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    ),
)
