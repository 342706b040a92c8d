"""What is measured: Pesisir, and FreeRADIUS over SQLite or PostgreSQL doing the same job.

Each target runs in a directory of its own on loopback ports of its own and is stopped at the end.
All of them know the same vouchers (daily time, monthly data, one device at a time) and answer an
accounting packet only when it is durable.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import freeradius, load, measure

SECRET = "bench-secret-of-24-octets"
VOUCHERS = 10_000
READY_WITHIN_S = 60.0
_SCRIPT = "from portal.cli import main; main()"


@dataclass(slots=True)
class Target:
    """A running server: where it listens and which process trees it is made of."""

    name: str
    auth: tuple[str, int]
    acct: tuple[str, int]
    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    http: str = ""
    started_in_s: float = 0.0

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        return sum(measure.cpu_s(process.pid) for process in self.processes)

    def memory(self) -> measure.Memory:
        """Memory of all its processes."""
        parts = [measure.memory(process.pid) for process in self.processes]
        return measure.Memory(sum(part.pss for part in parts), sum(part.rss for part in parts))


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one target: what the generator saw, what the target spent."""

    target: str
    result: load.Result
    cpu_us: float
    pss_mb: float
    rss_mb: float


class BenchError(Exception):
    """A target or the generator did not do its part; `str()` says what was seen."""


# --- Pesisir


def command(directory: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one `pesisir` command and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, "--dir", str(directory), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise BenchError(
            f"pesisir {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
        )
    return done.stdout


def make_node(
    directory: Path, *, vouchers: int = VOUCHERS, family: str = "mikrotik", uam_secret: str = "none"
) -> list[str]:
    """A fresh node with one gateway on loopback and a batch of vouchers; returns their codes."""
    command(directory, "init", "--site", "bench", "--name", "Bench", "--zone", "Asia/Jakarta")
    command(directory, "profile", "set", "harian", "--time-day", "24h", "--data-month", "2GB")
    command(
        directory,
        *("gateway", "add", "bench", "--family", family, "--address", "127.0.0.1"),
        *("--secret", SECRET, "--uam-secret", uam_secret),
    )
    printed = command(
        directory, "voucher", "issue", "--profile", "harian", "--count", str(vouchers), "--json"
    )
    issued: dict[str, Any] = json.loads(printed)
    return [voucher["code"] for voucher in issued["vouchers"]]


@contextmanager
def node(
    directory: Path, *, name: str = "Pesisir", environment: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """`pesisir node` on free ports over a directory made by `make_node`."""
    auth, acct = freeradius.free_port(), freeradius.free_port()
    http = freeradius.free_port(socket.SOCK_STREAM)
    settings = {
        "PESISIR_RADIUS_AUTH": f"127.0.0.1:{auth}",
        "PESISIR_RADIUS_ACCT": f"127.0.0.1:{acct}",
        "PESISIR_HTTP_LISTEN": f"127.0.0.1:{http}",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    log = directory.parent / f"{directory.name}.log"
    started_at = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, "--dir", str(directory), "node"],
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, **settings, **(environment or {})},
        )
    target = Target(
        name, ("127.0.0.1", auth), ("127.0.0.1", acct), directory, [process], f"127.0.0.1:{http}"
    )
    try:
        if process.stdout is None or not process.stdout.readline().startswith(b"ready"):
            raise BenchError(f"pesisir node did not get ready: {log.read_text()[-2000:]}")
        target.started_in_s = time.perf_counter() - started_at
        yield target
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that this bench started."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


# --- FreeRADIUS


@contextmanager
def freeradius_sqlite(directory: Path, codes: Sequence[str]) -> Iterator[Target]:
    """FreeRADIUS with SQLite in WAL mode."""
    path = directory / "radius.db"
    freeradius.fill_sqlite(path, codes)
    connection = f'sqlite {{\n filename = "{path}"\n busy_timeout = 2000\n }}'
    auth, acct = freeradius.free_port(), freeradius.free_port()
    freeradius.write_configuration(directory, "sqlite", SECRET, auth, acct, connection)
    target = Target("FreeRADIUS + SQLite", ("127.0.0.1", auth), ("127.0.0.1", acct), directory)
    target.processes.append(freeradius.start(directory))
    try:
        _wait_until_it_answers(target)
        yield target
    finally:
        stop(target.processes[0])


@contextmanager
def freeradius_postgres(directory: Path, codes: Sequence[str]) -> Iterator[Target]:
    """FreeRADIUS with a PostgreSQL cluster of its own."""
    server, port = freeradius.start_postgres(directory, codes)
    try:
        connection = f'server = "127.0.0.1"\nport = {port}\nlogin = "radius"\npassword = ""'
        auth, acct = freeradius.free_port(), freeradius.free_port()
        freeradius.write_configuration(directory, "postgresql", SECRET, auth, acct, connection)
        target = Target(
            "FreeRADIUS + PostgreSQL", ("127.0.0.1", auth), ("127.0.0.1", acct), directory
        )
        target.processes.extend((freeradius.start(directory), server))
        try:
            _wait_until_it_answers(target)
            yield target
        finally:
            stop(target.processes[0])
    finally:
        stop(server)


def _wait_until_it_answers(target: Target) -> None:
    """Wait for the log line that FreeRADIUS writes when its listeners are open."""
    log = target.directory / "radius.log"
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if target.processes[0].poll() is not None:
            break
        if log.exists() and "Ready to process requests" in log.read_text():
            return
        time.sleep(0.05)
    seen = log.read_text()[-2000:] if log.exists() else "no log"
    raise BenchError(f"{target.name} did not get ready: {seen}")


# --- a load on a target


def drive(
    target: Target,
    kind: str,
    codes_file: Path,
    *,
    outstanding: int = 64,
    rate: float | None = None,
    seconds: float = 3.0,
    prepare: int = 50_000,
    offset: int = 0,
    once: bool = False,
) -> Run:
    """One run of the load generator in its own process, with the target's CPU around it."""
    arguments = [sys.executable, "-m", "tests.bench.load", kind, "--wait", "--secret", SECRET]
    arguments += ["--auth", "{}:{}".format(*target.auth), "--acct", "{}:{}".format(*target.acct)]
    arguments += ["--codes", str(codes_file), "--seconds", str(seconds), "--offset", str(offset)]
    arguments += ["--rate", str(rate)] if rate else ["--outstanding", str(outstanding)]
    arguments += ["--prepare", str(prepare)] + (["--once"] if once else [])
    generator = subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        if generator.stdin is None or generator.stdout is None:
            raise BenchError("the load generator has no pipes")
        _expect(generator.stdout.readline(), "ready")
        before = target.cpu_s()
        generator.stdin.write("go\n")
        generator.stdin.flush()
        _expect(generator.stdout.readline(), "done")
        spent = target.cpu_s() - before
        result = load.Result(**json.loads(generator.stdout.readline()))
        generator.wait()
    finally:
        if generator.poll() is None:
            generator.kill()
            generator.wait()
        for pipe in (generator.stdin, generator.stdout):
            if pipe is not None:
                pipe.close()
    memory = target.memory()
    cpu_us = spent / result.answered * 1e6 if result.answered else float("nan")
    return Run(target.name, result, cpu_us, memory.pss, memory.rss)


def _expect(line: str, word: str) -> None:
    if line.strip() != word:
        raise BenchError(f"the load generator said {line!r}, expected {word!r}")


def as_json(run: Run) -> dict[str, Any]:
    """A run as one flat object."""
    flat = asdict(run)
    result = flat.pop("result")
    return {**flat, **result}
