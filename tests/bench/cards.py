"""Ten thousand cards issued and printed at the desk, and what RADIUS notices of it.

An operator sends the desk's form over HTTP; the node issues, a child process of its own draws. The
same load of logins and accounting runs against an idle node and against the busy one: what counts
is the ratio of their p99. The time of the whole job is measured twice, with and without that load.
"""

import http.client
import socket
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin, urlsplit

from portal import passwords
from tests.bench import freeradius, measure, report
from tests.bench.targets import BenchError, Run, Target, drive, make_node, node
from tests.unit.web.desk import Person

ROUNDS = ((1_000, "a4-40", 5), (10_000, "a4-40", 3), (10_000, "58mm", 1))
"""Cards, layout, rounds: with 1,000, issuing is a larger part of the work."""
QUICK = ((1_000, "a4-40", 3),)
RATE = 100.0
NAME, PASSWORD = "bench", "ombak-biru-di-tanjung"
GIVE_UP_S = 3_600.0
LOOKED_AT_EVERY_S = 0.5
LOAD_BEGINS_S = 1.5
"""The load generator builds its requests first."""


@dataclass(slots=True)
class Printed:
    """One batch through the desk."""

    layout: str
    seconds: float = 0.0
    """Until the file was ready."""
    octets: int = 0
    child_mb: float = 0.0
    """Highest PSS of the child."""


def _add_operator(directory: Path) -> None:
    database = sqlite3.connect(directory / "pesisir.db")
    with database:
        database.execute(
            "INSERT INTO operator (name, role, password_hash, must_change, created_at)"
            " VALUES (?, 'admin', ?, 0, 0)",
            (NAME, passwords.hashed(PASSWORD)),
        )
    database.close()


def _signed_in(origin: str) -> Person:
    desk: Any = SimpleNamespace(desk_url=origin)
    person = Person(desk, NAME)
    person.submit(person.get("/operator/sign-in"), name=NAME, password=PASSWORD)
    if "pesisir_desk" not in person.cookies:
        raise BenchError(f"{NAME} could not sign in at {origin}")
    return person


def _print(person: Person, layout: str, count: int, pid: int) -> Printed:
    """Send the form and look at the job's page until the file is there."""
    done = Printed(layout)
    begun_s = time.perf_counter()
    page = person.submit(
        person.get("/operator/sheets"), profile="harian", count=str(count), layout=layout
    )
    if "/operator/sheets/job/" not in page.url:
        raise BenchError(f"the desk refused the form: {page.alert or page.text[:500]}")
    while "Perbarui" in page.links:
        if time.perf_counter() - begun_s > GIVE_UP_S:
            raise BenchError(f"{count} cards are not printed after {GIVE_UP_S:.0f} s")
        for child in measure.tree(pid)[1:]:
            done.child_mb = max(done.child_mb, measure.memory(child).pss)
        time.sleep(LOOKED_AT_EVERY_S)
        page = person.get(urlsplit(page.url).path)
    done.seconds = time.perf_counter() - begun_s
    if "Unduh PDF" not in page.links:
        raise BenchError(f"the sheet failed: {page.text[:500]}")
    address = urlsplit(urljoin(page.url, page.links["Unduh PDF"]))
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    cookie = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    connection.request("GET", address.path, headers={"cookie": cookie})
    done.octets = len(connection.getresponse().read())
    connection.close()
    return done


def _print_soon(person: Person, layout: str, count: int, pid: int) -> Printed:
    time.sleep(LOAD_BEGINS_S)
    return _print(person, layout, count, pid)


def _loaded(target: Target, codes_file: Path, seconds: float) -> Run:
    return drive(
        target,
        "mix",
        codes_file,
        rate=RATE,
        seconds=seconds,
        prepare=int(RATE * seconds * 1.3) + 1_000,
    )


def measure_cards(directory: Path, is_quick: bool) -> str:
    """Print with and without RADIUS load, in turn; returns a table of medians of ratios."""
    place = directory / "node"
    codes = make_node(place, vouchers=2_000)
    _add_operator(place)
    codes_file = directory / "codes.txt"
    codes_file.write_text("\n".join(codes))
    desk_port = freeradius.free_port(socket.SOCK_STREAM)
    environment = {"PESISIR_HTTP_OPERATOR_LISTEN": f"127.0.0.1:{desk_port}"}
    rows: list[list[str]] = []
    with node(place, environment=environment) as target:
        person = _signed_in(f"http://127.0.0.1:{desk_port}")
        pid = target.processes[0].pid
        drive(target, "auth", codes_file, once=True, prepare=len(codes))
        for count, layout, rounds in QUICK if is_quick else ROUNDS:
            alone = _print(person, layout, count, pid)
            seconds = max(6.0, alone.seconds)
            pairs: list[tuple[Run, Run, Printed]] = []
            for _ in range(rounds):
                idle = _loaded(target, codes_file, seconds)
                # The cards are asked for when the load runs, and last longer than it.
                with ThreadPoolExecutor(1) as pool:
                    printing = pool.submit(_print_soon, person, layout, count, pid)
                    busy = _loaded(target, codes_file, seconds)
                    under = printing.result()
                print(_absolute(count, alone, under, idle, busy), flush=True)
                pairs.append((idle, busy, under))
            rows.append(_row(count, alone, pairs))
    header = ["cards, layout", "RADIUS p50 / p99, printing to idle", "lost / wrong"]
    header += ["job under load to alone", "kB a card", "MB of the child"]
    return (
        report.table(header, rows)
        + f"\n\nAt {RATE:.0f} RADIUS requests a second; the node issues, its child draws."
        " Medians of rounds in which idle and printing took turns."
    )


def _row(count: int, alone: Printed, pairs: Sequence[tuple[Run, Run, Printed]]) -> list[str]:
    p50 = median(busy.result.p50_ms / idle.result.p50_ms for idle, busy, _ in pairs)
    p99 = median(busy.result.p99_ms / idle.result.p99_ms for idle, busy, _ in pairs)
    lost = sum(run.result.lost for idle, busy, _ in pairs for run in (idle, busy))
    bad = sum(run.result.bad for idle, busy, _ in pairs for run in (idle, busy))
    seconds = median(under.seconds for *_, under in pairs)
    return [
        f"{count:,}, {alone.layout}",
        f"{report.ratio(p50, 1.0)} / {report.ratio(p99, 1.0)}",
        f"{lost} / {bad}",
        report.ratio(seconds, alone.seconds),
        f"{alone.octets / count / 1000:.1f}",
        f"{max(under.child_mb for *_, under in pairs):.0f}",
    ]


def _absolute(count: int, alone: Printed, under: Printed, idle: Run, busy: Run) -> str:
    """With units, for the person at the terminal only."""
    lines = [f"{count} cards, {alone.layout}"]
    for name, done in (("alone", alone), ("under load", under)):
        lines.append(
            f"  {name:10} {done.seconds:6.1f} s, {done.octets / 1e6:5.1f} MB of file,"
            f" child {done.child_mb:5.1f} MB of memory"
        )
    for name, run in (("idle", idle), ("printing", busy)):
        lines.append(
            f"  RADIUS {name:8} p50 {run.result.p50_ms:6.2f} ms  p99 {run.result.p99_ms:7.2f} ms"
            f"  lost {run.result.lost}  bad {run.result.bad}"
        )
    return "\n".join(lines)
