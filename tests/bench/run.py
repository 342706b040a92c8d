"""All benchmarks: `python -m tests.bench.run`, or `make bench`.

Parts: ``radius`` (throughput, latency, CPU and memory beside FreeRADIUS), ``growth`` (millions of
stored sessions), ``evening`` (300 phones after a power cut, on a slow disk), ``writes`` (megabytes
written a day), ``cards`` (10,000 cards issued and printed while RADIUS goes on), ``hub`` (records
taken a second, reports over millions of sessions), ``sync`` (octets on the way to the hub).
Absolute figures go to the terminal; docs/performance.md gets the ratios, because only those mean
something on another machine.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import cards, evening, freeradius, growth, hub, report, sync, writes
from tests.bench.report import Case, Median
from tests.bench.targets import (
    Run,
    Target,
    drive,
    freeradius_postgres,
    freeradius_sqlite,
    make_node,
    node,
)

CASES = (
    Case("auth"),
    Case("acct"),
    Case("mix"),
    Case("auth", rate=100),
    Case("acct", rate=100),
    Case("mix", rate=100),
    Case("auth", rate=1000),
    Case("acct", rate=1000),
    Case("mix", rate=1000),
)


def _prepared(case: Case, target: Target, seconds: float, seen: dict[tuple[Case, str], int]) -> int:
    """How many requests to build ahead: a little more than the target answered the last time."""
    return int(seen.get((case, target.name), 15_000 * seconds) * 1.15)


def compare(directory: Path, *, rounds: int, seconds: float) -> str:
    """Every case on every target that can run here, interleaved; returns the table of ratios."""
    with ExitStack() as stack:
        codes = make_node(directory / "node")
        ours = stack.enter_context(node(directory / "node"))
        codes_file = directory / "codes.txt"
        codes_file.write_text("\n".join(codes))
        targets = []
        notes = []
        for dialect, begin in (
            ("postgresql", freeradius_postgres),
            ("sqlite", freeradius_sqlite),
        ):
            absent = freeradius.missing(dialect)
            if absent:
                notes.append(f"FreeRADIUS + {dialect} skipped: {absent}.")
                continue
            place = directory / dialect
            place.mkdir()
            targets.append(stack.enter_context(begin(place, codes)))
        targets.append(ours)
        for note in notes:
            print(note, flush=True)
        runs: dict[tuple[Case, str], list[Run]] = {}
        answered: dict[tuple[Case, str], int] = {}
        for target in targets:
            first = drive(target, "auth", codes_file, once=True, prepare=len(codes))
            print(
                f"first login of every card  {target.name:24} {first.result.requests_s:9.0f}/s"
                f"  CPU {first.cpu_us:7.1f} us  lost {first.result.lost}  bad {first.result.bad}",
                flush=True,
            )
        for case in CASES:
            for round_number in range(rounds):
                for target in targets:
                    run = drive(
                        target,
                        case.kind,
                        codes_file,
                        rate=case.rate,
                        seconds=max(seconds, 5.0) if case.rate == 100 else seconds,
                        prepare=_prepared(case, target, seconds, answered),
                        offset=round_number * len(codes) // rounds,
                    )
                    answered[case, target.name] = run.result.answered
                    runs.setdefault((case, target.name), []).append(run)
            names = [target.name for target in targets]
            done = {key: report.median_of(found) for key, found in runs.items()}
            print(report.absolute(done, [case], names), flush=True)
    medians: dict[tuple[Case, str], Median] = done
    text = [report.comparison(medians, CASES, names)]
    if len(names) > 2:
        text.append(report.comparison(medians, CASES[:3], names[1:]))
    return "\n\n".join(text + notes)


def _radius(directory: Path, is_quick: bool) -> str:
    return compare(directory, rounds=1 if is_quick else 3, seconds=2.0 if is_quick else 3.0)


PARTS: dict[str, Callable[[Path, bool], str]] = {
    "radius": _radius,
    "growth": growth.measure_growth,
    "evening": evening.measure_evening,
    "writes": writes.measure_writes,
    "cards": cards.measure_cards,
    "hub": hub.measure_hub,
    "sync": sync.measure_sync,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen parts and write their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round, smaller fillings")
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="may be repeated")
    parser.add_argument("--dry", action="store_true", help="do not write docs/performance.md")
    chosen = parser.parse_args(arguments)
    for name in chosen.only or PARTS:
        directory = Path(tempfile.mkdtemp(prefix=f"pesisir-bench-{name}-"))
        # PostgreSQL runs as another user when we are root, and must get through here.
        directory.chmod(0o711)
        try:
            print(f"== {name}", flush=True)
            text = PARTS[name](directory, chosen.quick)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        print(text, flush=True)
        if not chosen.dry:
            report.write_part(name, text)


if __name__ == "__main__":
    main()
