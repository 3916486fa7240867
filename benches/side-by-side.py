#!/usr/bin/env python3
"""Imperator beside other servers: the same app, Python, width and load, in turn A B A B in one go, as medians of pairwise ratios.

`make bench` installs what this needs and runs all of it; docs/performance.md says how it measures and what came out."""

import argparse
import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from sidebyside import ROOT, report
from sidebyside.measure import VoidRun, measure, measure_idle, measure_stall
from sidebyside.runs import Run, runs
from sidebyside.servers import Places


def main():
    options = arguments()
    busy = os.getloadavg()[0]
    places = Places(options.target / "release", options.venv)
    pairs, seconds = (1, 0.5) if options.quick else (options.pairs, options.seconds)
    chosen = [run for run in runs() if not options.only or run.key in options.only.split(",")]
    print(report.header(), flush=True)
    results = []
    for run in chosen:
        results.append(in_turn(run, places, pairs, seconds))
        print(report.row(results[-1]), flush=True)
    if options.document:
        report.write_document(results, pairs, seconds, busy)
    if not chosen or any(not result.pairs for result in results):
        sys.exit("some runs have no result")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of load in one run of one server")
    parser.add_argument("--quick", action="store_true", help="one pair of half a second each: whether everything works, no figures")
    parser.add_argument("--only", default="", help=f"some of {','.join(run.key for run in runs())}")
    parser.add_argument("--document", action="store_true", help="write the table into docs/performance.md, and its plots")
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve())
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="where benches/requirements.txt is installed")
    return parser.parse_args()


def in_turn(run: Run, places: Places, pairs: int, seconds: float) -> report.Result:
    """Ours, theirs, ours, theirs. A void run takes its pair with it; it is counted and said."""
    one = measure_stall if run.stall else measure_idle if run.idle else measure
    done, void = [], 0
    for _ in range(pairs):
        try:
            done.append((one(run, run.ours, places, seconds), one(run, run.theirs, places, seconds)))
        except VoidRun as why:
            void += 1
            print(f"{run.key}: void: {why}", file=sys.stderr, flush=True)
    return report.Result(run, done, void)


if __name__ == "__main__":
    main()
