"""Megabytes written a day with 300 phones online and an interim every 5 minutes.

That is one interim a second, all day. Here they come twenty times as fast, each still a commit of
its own because the answer is awaited before the next is sent, and the bytes of one exchange are
counted and multiplied. What the node writes when nobody is there is counted apart.
"""

import asyncio
import time
from pathlib import Path

from tests.bench import measure, report
from tests.bench.household import UAM_SECRET, Ledger, Phone
from tests.bench.targets import Target, make_node, node

PHONES = 300
INTERIM_S = 300
LOGINS_A_DAY = 4
PER_SECOND = 20
DAY_S = 86_400


async def _spread(target: Target, codes: list[str], seconds: float) -> tuple[int, int, int, int]:
    """Bytes of all logins, of the interims, their number, and of the Stops."""
    pid = target.processes[0].pid
    ledger = Ledger()
    phones = [Phone(number, code, target, ledger) for number, code in enumerate(codes, 1)]
    marks = [measure.written_octets(pid)]
    for phone in phones:
        await phone.join()
        if not await phone.log_in():
            raise RuntimeError(f"phone {phone.number} could not log in: {ledger.bad_pages[-1:]}")
    marks.append(measure.written_octets(pid))
    sent = 0
    begun_at_s = time.monotonic()
    while time.monotonic() < begun_at_s + seconds or sent % PHONES:
        phone = phones[sent % PHONES]
        phone.began_at_s -= INTERIM_S
        if not await phone.account(3, 1_000_000):
            raise RuntimeError(f"interim {sent} was not answered")
        sent += 1
        await asyncio.sleep(max(0.0, begun_at_s + sent / PER_SECOND - time.monotonic()))
    marks.append(measure.written_octets(pid))
    for phone in phones:
        await phone.account(2)
        phone.leave()
    marks.append(measure.written_octets(pid))
    logins, interims, stops = (
        after - before for before, after in zip(marks, marks[1:], strict=False)
    )
    return logins, interims, sent, stops


def measure_writes(directory: Path, is_quick: bool) -> str:
    """Count and extrapolate; returns a table in megabytes a day."""
    place = directory / "node"
    codes = make_node(place, vouchers=PHONES, family="coova", uam_secret=UAM_SECRET)
    with node(place) as target:
        pid = target.processes[0].pid
        idle_s = 15.0 if is_quick else 60.0
        before = measure.written_octets(pid)
        time.sleep(idle_s)
        idle = measure.written_octets(pid) - before
        seconds = 15.0 if is_quick else 75.0
        logins, interims, sent, stops = asyncio.run(_spread(target, codes, seconds))
        wal_mb = (place / "pesisir.db-wal").stat().st_size / 1e6
    idle_mb = idle / idle_s * DAY_S / 1e6
    interim_mb = interims / sent * PHONES * DAY_S / INTERIM_S / 1e6
    session_mb = (logins + stops) / PHONES * PHONES * LOGINS_A_DAY / 1e6
    rows = [
        ["nobody there", f"{idle_mb:.0f}"],
        [f"{PHONES * DAY_S // INTERIM_S:,} interims", f"{interim_mb:.0f}"],
        [f"{PHONES * LOGINS_A_DAY:,} logins, Starts and Stops", f"{session_mb:.0f}"],
        ["together", f"{idle_mb + interim_mb + session_mb:.0f}"],
    ]
    return (
        report.table(["300 phones for 24 hours", "MB written"], rows)
        + f"\n\n{interims / sent / 1000:.1f} kB an interim over {sent:,} of them, checkpoints"
        f" included; the write-ahead log grew to {wal_mb:.1f} MB."
    )
