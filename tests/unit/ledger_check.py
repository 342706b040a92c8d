"""Whether a node's ledger, its tree and its tables agree, looked at from outside: with a connection
of its own and plain sums."""

import json
import sqlite3
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from portal.domain import merkle
from portal.domain.ledger import (
    NO_PERSONAL,
    DayTotal,
    Flag,
    Kind,
    Record,
    Usage,
    commitment,
    decode,
    leaf,
)

FIELDS = ("input_octets", "output_octets", "session_time_s", "counted_s")


def read(path: Path, sql: str) -> list[sqlite3.Row]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def records_of(path: Path) -> list[tuple[Record, dict[str, Any]]]:
    """Every record that has its body, with its personal part where that is still there."""
    return [
        (decode(row["public"]), json.loads(row["personal"] or b"{}"))
        for row in read(path, "SELECT public, personal FROM ledger ORDER BY epoch, seq")
        if row["public"] is not None
    ]


def check_tree(path: Path) -> None:
    """Each epoch's numbers are dense, and its stored frontier is that of its records."""
    epochs = read(path, "SELECT * FROM ledger_epoch ORDER BY epoch")
    assert epochs
    for epoch in epochs:
        rows = read(path, f"SELECT * FROM ledger WHERE epoch = {epoch['epoch']:d} ORDER BY seq")
        assert [row["seq"] for row in rows] == list(range(epoch["size"]))
        leaves = []
        for row in rows:
            if row["public"] is None:
                leaves.append(row["leaf"])
                continue
            record = decode(row["public"])
            assert (record.seq, record.kind, record.at, record.site) == (
                *(row["seq"], row["kind"], row["at"], row["site"]),
            )
            assert (record.kind == Kind.EPOCH) == (record.seq == 0)
            if row["personal"] is not None:
                assert commitment(row["salt"], row["personal"]) == row["c_loc"]
            else:
                assert row["salt"] is None
                is_usage = record.kind in (Kind.SESSION, Kind.SLICE, Kind.ACTION)
                assert is_usage or row["c_loc"] == NO_PERSONAL
            assert leaf(row["public"], row["c_loc"]) == row["leaf"]
            leaves.append(row["leaf"])
        frontier = merkle.Frontier.from_octets(epoch["frontier"])
        assert frontier.size == epoch["size"]
        assert frontier.root() == merkle.root(leaves)


def check_sessions(path: Path) -> int:
    """The records of each session add up to what its row says; returns how many there are. The
    journal must be settled."""
    assert read(path, "SELECT * FROM journal") == []
    void = {row["epoch"]: row["void_from"] for row in read(path, "SELECT * FROM ledger_epoch")}
    sums: dict[int, Counter[str]] = {}
    for row in read(path, "SELECT * FROM ledger WHERE kind IN (1, 2) AND personal IS NOT NULL"):
        if void[row["epoch"]] is not None and row["seq"] >= void[row["epoch"]]:
            continue
        usage = decode(row["public"]).payload
        assert isinstance(usage, Usage)
        of_session = sums.setdefault(json.loads(row["personal"])["session"], Counter())
        of_session["input_octets"] += usage.input_octets
        of_session["output_octets"] += usage.output_octets
        of_session["session_time_s"] += usage.duration_s
        of_session["counted_s"] += usage.counted_s
        of_session["records"] += 1
        of_session["firsts"] += bool(usage.flags & Flag.FIRST)
        of_session["last"] = bool(usage.flags & Flag.LAST)
    for session in read(path, "SELECT * FROM session"):
        of_session = sums.pop(session["id"], Counter())
        assert of_session["records"] == session["told_records"]
        told = ("told_input_octets", "told_output_octets", "told_s", "told_counted_s")
        for name, column in zip(FIELDS, told, strict=True):
            assert of_session[name] == session[column], (session["id"], name)
            if session["ended_at"] is not None:
                assert of_session[name] == session[name], (session["id"], name)
            else:
                assert of_session[name] <= session[name], (session["id"], name)
        if session["ended_at"] is not None:
            assert of_session["firsts"] == 1 and of_session["last"]
        else:
            assert of_session["firsts"] == bool(of_session["records"])
    assert sums == {}, "records of sessions that are not there"
    return len(read(path, "SELECT id FROM session"))


def day_totals(path: Path) -> dict[tuple[int, int], DayTotal]:
    """(site, day) -> its total as it was told last."""
    totals = {}
    for record, _ in records_of(path):
        if isinstance(record.payload, DayTotal):
            totals[record.site, record.payload.day] = record.payload
    return totals


def check_days(path: Path) -> None:
    """The total of a day that was told is the sum of the day's records, with no body pruned."""
    zones = {row["id"]: ZoneInfo(row["zone"]) for row in read(path, "SELECT * FROM site")}
    void = {row["epoch"]: row["void_from"] for row in read(path, "SELECT * FROM ledger_epoch")}
    sums: dict[tuple[int, int], Counter[str]] = {}
    names: dict[tuple[int, int], set[bytes]] = {}
    for row in read(path, "SELECT * FROM ledger WHERE kind IN (1, 2)"):
        if void[row["epoch"]] is not None and row["seq"] >= void[row["epoch"]]:
            continue
        usage = decode(row["public"]).payload
        assert isinstance(usage, Usage)
        day = datetime.fromtimestamp(row["at"], zones[row["site"]]).date().toordinal()
        of_day = sums.setdefault((row["site"], day), Counter())
        of_day["sessions"] += usage.flags & 1
        of_day["input_octets"] += usage.input_octets
        of_day["output_octets"] += usage.output_octets
        of_day["seconds"] += usage.duration_s
        names.setdefault((row["site"], day), set()).add(usage.pseudonym)
    days = read(path, "SELECT site, day, MIN (is_told) AS is_told FROM ledger_day GROUP BY 1, 2")
    assert {(row["site"], row["day"]) for row in days} == sums.keys()
    totals = day_totals(path)
    for row in days:
        if not row["is_told"]:
            continue
        key = (row["site"], row["day"])
        total = totals[key]
        for name, amount in sums[key].items():
            assert getattr(total, name) == amount, (key, name)
        assert total.users == len(names[key] - {bytes(10)})
        assert bool(total.sessions) <= total.peak


def check(path: Path) -> int:
    """All of it."""
    check_tree(path)
    check_days(path)
    return check_sessions(path)
