"""CPU, memory and written bytes of a process and everything below it, from /proc."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6): ``pss`` shares common pages out, ``rss`` counts them in every process."""

    pss: float
    rss: float


def tree(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found


def _process_cpu_s(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def _reaped_cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) * _TICK_S


def cpu_s(pid: int) -> float:
    """User and system time of the tree so far, ended threads and reaped children included.

    Living processes are read through their CPU clock (clock_getcpuclockid(3): nanoseconds,
    where utime and stime of /proc/PID/stat count in hundredths of a second).
    """
    return sum(_process_cpu_s(each) + _reaped_cpu_s(each) for each in tree(pid))


def memory(pid: int) -> Memory:
    """Memory of the tree from smaps_rollup."""
    pss = rss = 0
    for each in tree(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1])
            elif line.startswith("Rss:"):
                rss += int(line.split()[1])
    return Memory(pss * 1024 / 1e6, rss * 1024 / 1e6)


def peak_rss_mb(pid: int) -> float:
    """The most resident memory the process alone ever had (VmHWM), in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def written_octets(pid: int) -> int:
    """Bytes the tree has sent towards the disk (write_bytes of /proc/PID/io).

    Counts pages made dirty, so a page written twice between two write-backs counts once.
    """
    total = 0
    for each in tree(pid):
        try:
            text = Path(f"/proc/{each}/io").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("write_bytes:"):
                total += int(line.split()[1])
    return total
