"""What the runs showed: medians of pairwise ratios as a table in the terminal and in docs/performance.md, and as plots."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from sidebyside import ROOT, plot
from sidebyside.measure import Idle, Sample, Stalled
from sidebyside.runs import Run

DOCUMENT = ROOT / "docs/performance.md"
IMAGES = ROOT / "docs/img"


@dataclass(frozen=True)
class Ratio:
    """The median, lowest and highest of the pairs' ratios ours/theirs, beside the goal."""

    name: str
    median: float
    low: float
    high: float
    goal: float | None
    more_is_better: bool = False

    @property
    def met(self) -> bool:
        return self.goal is None or (self.median >= self.goal if self.more_is_better else self.median <= self.goal)

    def __str__(self) -> str:
        bound = "" if self.goal is None else f" ({'≥' if self.more_is_better else '≤'} {self.goal:g}{'' if self.met else ' missed'})"
        return f"{self.median:.2f}{bound}"


def ratio(name: str, values: list[float], goal: float | None, more_is_better: bool = False) -> Ratio:
    return Ratio(name, statistics.median(values), min(values), max(values), goal, more_is_better)


@dataclass(frozen=True)
class Result:
    run: Run
    pairs: list[tuple[Sample, Sample]] | list[tuple[Stalled, Stalled]] | list[tuple[Idle, Idle]]
    void: int

    @property
    def against(self) -> str:
        return self.run.theirs.name

    def cpu(self) -> tuple[float, float]:
        """Median microseconds a request, ours and theirs."""
        return statistics.median(a.cpu for a, _ in self.pairs), statistics.median(b.cpu for _, b in self.pairs)

    def kib(self) -> tuple[float, float]:
        """Median memory, ours and theirs."""
        return statistics.median(a.memory for a, _ in self.pairs), statistics.median(b.memory for _, b in self.pairs)

    def shares(self) -> tuple[float, float]:
        """Median of stalled/free throughput, ours and theirs."""
        return statistics.median(a.share for a, _ in self.pairs), statistics.median(b.share for _, b in self.pairs)

    def ratios(self) -> dict[str, Ratio]:
        goals = self.run.goals
        if self.run.stall:
            return {"throughput": ratio("throughput", [a.share for a, _ in self.pairs], goals.throughput, True)}
        of = lambda field: [getattr(a, field) / getattr(b, field) for a, b in self.pairs]
        if self.run.idle:
            return {"memory": ratio("PSS", of("memory"), goals.memory)}
        return {
            "cpu": ratio("CPU", of("cpu"), goals.cpu),
            "throughput": ratio("throughput", of("throughput"), goals.throughput, True),
            "p99": ratio("p99", of("p99"), goals.p99),
            "memory": ratio("PSS", of("memory"), goals.memory),
        }


def header() -> str:
    return f"{'run':52} {'against':9} {'CPU us/request':>15} {'CPU':>20} {'throughput':>20} {'p99':>18} {'PSS':>18}"


def row(result: Result) -> str:
    run = result.run
    if not result.pairs:
        return f"{run.title:52} {result.against:9} void: no pair in which every request was answered rightly"
    if run.stall:
        ours, theirs = result.shares()
        return f"{run.title:52} {result.against:9} of the unstalled rate: ours {result.ratios()['throughput']}, theirs {theirs:.2f}"
    if run.idle:
        ours, theirs = result.kib()
        return f"{run.title:52} {result.against:9} PSS in KiB: {ours:.0f}, {theirs:.0f}: {result.ratios()['memory']}"
    ours, theirs = result.cpu()
    r = result.ratios()
    void = f"  ({result.void} void)" if result.void else ""
    return f"{run.title:52} {result.against:9} {ours:7.1f} {theirs:7.1f} {r['cpu']!s:>20} {r['throughput']!s:>20} {r['p99']!s:>18} {r['memory']!s:>18}{void}"


def write_document(results: list[Result], pairs: int, seconds: float, busy: float):
    """Replaces what is between the markers of docs/performance.md, and the plots."""
    text = DOCUMENT.read_text()
    for marker, part in (("table", markdown(results)), ("setting", setting(pairs, seconds, busy)), ("misses", misses(results))):
        text, found = re.subn(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", lambda m: m[1] + part + m[2], text, flags=re.S)
        if not found:
            raise RuntimeError(f"{DOCUMENT} has no marker <!-- {marker} -->")
    DOCUMENT.write_text(text)
    IMAGES.mkdir(exist_ok=True)
    measured = [r for r in results if r.pairs and not r.run.stall and not r.run.reference]
    idle = [r for r in measured if r.run.idle]
    for key, title in (("cpu", "CPU per request"), ("throughput", "Throughput"), ("p99", "99th percentile of latency"), ("memory", "Memory (PSS)")):
        bars = [(f"{r.run.title}", r.against, r.ratios()[key]) for r in measured if key == "memory" or r not in idle]
        (IMAGES / f"{key}.svg").write_text(plot.bars(f"{title}, ours / theirs", bars))


def markdown(results: list[Result]) -> str:
    lines = ["| run | against | CPU a request, ours and theirs | CPU | throughput | p99 | PSS |", "|---|---|---|---|---|---|---|"]
    for result in results:
        start = f"| {result.run.title} | {result.against} |"
        if not result.pairs:
            lines.append(f"{start} void | | | | |")
        elif result.run.stall:
            lines.append(f"{start} | | {cell(result.ratios()['throughput'])} of its unstalled rate; {result.against} {result.shares()[1]:.2f} of its own | | |")
        elif result.run.idle:
            ours, theirs = result.kib()
            lines.append(f"{start} | | | | {cell(result.ratios()['memory'])}: {ours:.0f} and {theirs:.0f} KiB |")
        else:
            ours, theirs = result.cpu()
            r = result.ratios()
            lines.append(f"{start} {ours:.1f} µs, {theirs:.1f} µs | {cell(r['cpu'])} | {cell(r['throughput'])} | {cell(r['p99'])} | {cell(r['memory'])} |")
    return "\n".join(lines) + "\n"


def cell(r: Ratio) -> str:
    text = f"{r.median:.2f}" if r.met else f"**{r.median:.2f}**"
    bound = "" if r.goal is None else f"; {'≥' if r.more_is_better else '≤'} {r.goal:g}"
    return f"{text} ({r.low:.2f} to {r.high:.2f}{bound})"


def setting(pairs: int, seconds: float, busy: float) -> str:
    """`busy`: the load average before the first run, which says whether the machine had anything else to do."""
    versions = {f"{r.name} {r.version}" for r in requirements()}
    return (
        f"Measured {datetime.date.today()}: {os.cpu_count()} CPUs, Linux {'.'.join(platform.release().split('.')[:2])}, Python {platform.python_version()}, "
        f"{', '.join(sorted(versions))}; {pairs} pairs of {seconds:g} s each; load average before it {busy:.1f}.\n"
    )


@dataclass(frozen=True)
class Requirement:
    name: str
    version: str


def requirements() -> list[Requirement]:
    text = (ROOT / "benches/requirements.txt").read_text()
    return [Requirement(*line.split("==")) for line in text.splitlines() if "==" in line]


def misses(results: list[Result]) -> str:
    missed = [f"- {r.run.title}, against {r.against}: {ratio.name} {ratio.median:.2f}, goal {ratio.goal:g}" for r in results if r.pairs for ratio in r.ratios().values() if not ratio.met]
    return "\n".join(missed or ["None in this run."]) + "\n"
