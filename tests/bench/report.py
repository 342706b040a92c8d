"""Tables of ratios, and the parts of docs/performance.md that the benchmarks write."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.targets import Run

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Case:
    """One load: a kind of work, closed loop with so many outstanding or open loop at a rate."""

    kind: str
    outstanding: int | None = 64
    rate: float | None = None

    @property
    def label(self) -> str:
        """As it stands in the first column."""
        work = self.kind.upper()
        if self.rate:
            return f"{work}, {self.rate:g}/s"
        return f"{work}, saturation"


@dataclass(frozen=True, slots=True)
class Median:
    """Medians over the rounds of one case on one target, and the sums of what went wrong."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    pss_mb: float
    lost: int
    bad: int


def median_of(runs: Sequence[Run]) -> Median:
    """Medians of several rounds; lost and bad are added up."""

    def middle(values: Iterable[float]) -> float:
        return statistics.median(list(values))

    return Median(
        requests_s=middle(run.result.requests_s for run in runs),
        p50_ms=middle(run.result.p50_ms for run in runs),
        p99_ms=middle(run.result.p99_ms for run in runs),
        cpu_us=middle(run.cpu_us for run in runs),
        pss_mb=max(run.pss_mb for run in runs),
        lost=sum(run.result.lost for run in runs),
        bad=sum(run.result.bad for run in runs),
    )


def ratio(value: float, anchor: float) -> str:
    """A ratio with two significant digits, or a dash when there is nothing to divide by."""
    if not anchor:
        return "-"
    share = value / anchor
    if share >= 10:
        return f"{share:.0f}"
    if share >= 1:
        return f"{share:.1f}"
    if share >= 0.1:
        return f"{share:.2f}"
    return f"{share:.3f}" if share >= 0.01 else f"{share:.1g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def comparison(
    medians: dict[tuple[Case, str], Median], cases: Sequence[Case], targets: Sequence[str]
) -> str:
    """All cases as ratios to the first target."""
    anchor = targets[0]
    rows: list[list[str]] = []
    for case in cases:
        base = medians[case, anchor]
        found = [medians[case, target] for target in targets]
        if not case.rate:
            rows.append(
                [f"{case.label}: requests/s"]
                + [ratio(each.requests_s, base.requests_s) for each in found]
            )
        rows.append(
            [f"{case.label}: p50 / p99"]
            + [
                f"{ratio(each.p50_ms, base.p50_ms)} / {ratio(each.p99_ms, base.p99_ms)}"
                for each in found
            ]
        )
        rows.append(
            [f"{case.label}: CPU per request"] + [ratio(each.cpu_us, base.cpu_us) for each in found]
        )
    highest = {target: max(medians[case, target].pss_mb for case in cases) for target in targets}
    rows.append(["memory (PSS, all processes)"])
    rows[-1] += [ratio(highest[target], highest[anchor]) for target in targets]
    rows.append(["requests lost / answered wrongly, all runs"])
    for target in targets:
        lost = sum(medians[case, target].lost for case in cases)
        bad = sum(medians[case, target].bad for case in cases)
        rows[-1].append(f"{lost} / {bad}")
    return table(["ratio to the first column", *targets], rows)


def absolute(
    medians: dict[tuple[Case, str], Median], cases: Sequence[Case], targets: Sequence[str]
) -> str:
    """The same as plain text with units, for the person at the terminal only."""
    lines = []
    for case in cases:
        for target in targets:
            each = medians[case, target]
            lines.append(
                f"{case.label:18} {target:24} {each.requests_s:9.0f}/s"
                f"  p50 {each.p50_ms:7.2f} ms  p99 {each.p99_ms:7.2f} ms"
                f"  CPU {each.cpu_us:7.1f} us  PSS {each.pss_mb:6.1f} MB"
                f"  lost {each.lost}  bad {each.bad}"
            )
    return "\n".join(lines)


def write_part(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of one part; raises ValueError without markers."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    content = page.read_text(encoding="utf-8")
    head, found, rest = content.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no place for {name!r}, expected {begin} ... {end}")
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
