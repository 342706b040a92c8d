"""Evening power-on: the generator starts, the box boots, 300 phones log in within a minute.

The disk is a village SD card (tests/bench/slow_fsync.c): every sync takes 20 to 100 ms, and every
fifteen seconds it stalls for two. Asked of the node: no false reject, p99 under a second outside
the stalls, a portal that answers meanwhile, at most 120 MB resident with 300 open sessions.
"""

import asyncio
import random
import shutil
import subprocess
from pathlib import Path

from tests.bench import measure, report
from tests.bench.household import UAM_SECRET, Ledger, Phone, Timed
from tests.bench.load import percentile
from tests.bench.targets import BenchError, Target, make_node, node

PHONES = 300
WITHIN_S = 60.0
SYNC_MS = (20, 100)
STALL_MS = 2_000
STALL_EVERY_MS = 15_000
WHATS = ("page", "login", "access", "accounting", "success", "status")


def slow_disk(directory: Path) -> dict[str, str]:
    """The environment that makes every sync of a process slow; raises BenchError without gcc."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchError("no C compiler found, expected gcc: the slow disk is a preloaded library")
    library = directory / "slow_fsync.so"
    source = Path(__file__).with_name("slow_fsync.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return {
        "LD_PRELOAD": str(library),
        "SLOW_FSYNC_MIN_MS": str(SYNC_MS[0]),
        "SLOW_FSYNC_MAX_MS": str(SYNC_MS[1]),
        "SLOW_FSYNC_STALL_MS": str(STALL_MS),
        "SLOW_FSYNC_STALL_EVERY_MS": str(STALL_EVERY_MS),
    }


def is_in_stall(exchange: Timed) -> bool:
    """Whether the disk stalled while this exchange was under way."""
    end_s = exchange.begun_at_s + (exchange.took_s or 0.0)
    period_s, stall_s = STALL_EVERY_MS / 1000, STALL_MS / 1000
    last_begun_s = end_s // period_s * period_s
    return exchange.begun_at_s < last_begun_s + stall_s


async def power_on(target: Target, codes: list[str], within_s: float) -> Ledger:
    """All phones at random moments of `within_s`; each looks at its status and uses data after."""
    ledger = Ledger()
    phones = [Phone(number, code, target, ledger) for number, code in enumerate(codes, 1)]

    async def evening(phone: Phone, at_s: float) -> None:
        await phone.join()
        await asyncio.sleep(at_s)
        if await phone.log_in():
            await asyncio.sleep(3)
            page = await phone.see("status", phone.arrival("already"))
            if page.status not in (200, 303):
                ledger.bad_pages.append(f"status: {page.status}")
            await phone.account(3, 2_000_000)

    dice = random.Random(2)
    moments = [dice.uniform(0, within_s) for _ in phones]
    await asyncio.gather(*map(evening, phones, moments))
    for phone in phones:
        phone.leave()
    return ledger


def summary(ledger: Ledger) -> str:
    """Latencies by sort of exchange, outside and inside the stalls, in milliseconds."""
    rows = []
    for what in WHATS:
        found = ledger.of(what)
        answered = [each for each in found if each.took_s is not None]
        calm = sorted(each.took_s or 0.0 for each in answered if not is_in_stall(each))
        stalled = sorted(each.took_s or 0.0 for each in answered if is_in_stall(each))
        rows.append(
            [
                what,
                str(len(found)),
                str(len(found) - len(answered)),
                f"{percentile(calm, 0.5) * 1000:.0f} / {percentile(calm, 0.99) * 1000:.0f}",
                f"{percentile(stalled, 0.5) * 1000:.0f} / {stalled[-1] * 1000:.0f}"
                if stalled
                else "-",
            ]
        )
    header = ["", "asked", "unanswered", "p50 / p99 outside stalls, ms", "p50 / worst in one, ms"]
    return report.table(header, rows)


def measure_evening(directory: Path, is_quick: bool) -> str:
    """The evening on a slow disk; returns its table and what it says."""
    place = directory / "node"
    codes = make_node(place, vouchers=PHONES, family="coova", uam_secret=UAM_SECRET)
    with node(place, environment=slow_disk(directory)) as target:
        before = target.memory()
        ledger = asyncio.run(power_on(target, codes, 20.0 if is_quick else WITHIN_S))
        after = target.memory()
        peak_mb = measure.peak_rss_mb(target.processes[0].pid)
    for line in sorted(set(ledger.bad_pages))[:10]:
        print("bad:", line)
    return (
        f"{summary(ledger)}\n\nFalse rejects: {ledger.false_rejects}. Pages that were wrong: "
        f"{len(ledger.bad_pages)}. Resident memory {before.rss:.0f} MB after the start, "
        f"{after.rss:.0f} MB with {PHONES} open sessions, at most {peak_mb:.0f} MB on the way."
    )
