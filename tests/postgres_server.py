"""A real PostgreSQL server for tests: Debian's programs, a cluster and a port of its own.

Nothing of the machine's own clusters is used or changed. Root hands it to the user that the package
made, because the server refuses to run as root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

PROGRAMS = Path("/usr/lib/postgresql")
_USER = "postgres"
_START_WITHIN_S = 120.0
_MEMORY = Path("/dev/shm")
_ENOUGH_OCTETS = 2_000_000_000


def programs() -> Path | None:
    """The directory with initdb and postgres of the newest server installed."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    if programs() is None:
        return "PostgreSQL is not installed; as root run: apt install postgresql"
    return None


@contextmanager
def running(*, on_disk: bool = False) -> Iterator[str]:
    """A server, empty, for the time of the block; the URL of its database `postgres`.

    It lies in memory where there is enough, and forgets when the machine does; `on_disk` it is as
    lasting as an office's.
    """
    bin_directory = programs()
    assert bin_directory is not None, missing()
    place = None if on_disk or not _has_room(_MEMORY) else _MEMORY
    directory = Path(tempfile.mkdtemp(prefix="pesisir-pg-", dir=place))
    user: str | None = None
    if os.geteuid() == 0:
        user = _USER
        owner = pwd.getpwnam(user)
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    cluster, log = directory / "data", directory / "log"
    try:
        subprocess.run(
            [str(bin_directory / "initdb"), "-D", str(cluster), "-A", "trust", "-U", "hub"]
            + ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd=directory,
        )
        port = free_port()
        with log.open("wb") as output:
            server = subprocess.Popen(
                [str(bin_directory / "postgres"), "-D", str(cluster), "-p", str(port)]
                + ["-k", str(directory), "-c", "listen_addresses=127.0.0.1"]
                + ["-c", "logging_collector=off", "-c", f"fsync={'on' if on_disk else 'off'}"],
                stdout=output,
                stderr=output,
                user=user,
                cwd=directory,
            )
        try:
            _wait(bin_directory, port, server, log)
            yield f"postgresql://hub@127.0.0.1:{port}/postgres"
        finally:
            # SIGQUIT: it leaves at once, without writing down what nobody will read.
            server.send_signal(signal.SIGQUIT)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait(bin_directory: Path, port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_WITHIN_S
    ready = [str(bin_directory / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, check=False).returncode:
        assert server.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.05)


def _has_room(place: Path) -> bool:
    """Whether a cluster with some databases fits; containers often have only 64 MB there."""
    return place.is_dir() and shutil.disk_usage(place).free > _ENOUGH_OCTETS
