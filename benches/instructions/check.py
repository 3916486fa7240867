#!/usr/bin/env python3
"""Instructions that each hot function takes, counted under callgrind, against benches/instructions/budget.txt.

A count does not depend on the machine's mood, only on the code, the compiler and the C library, so a few percent is a
regression. The difference of two runs of different length leaves starting and preparing out. `--update` writes what it
counted into the budget: do so when a change is worth its price, and say why in the commit."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import real_worker

HERE = Path(__file__).resolve().parent
BUDGET = HERE / "budget.txt"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
BINARY = TARGET / "release/imperator-instructions"
TOLERANCE = 0.05
FEW, MANY = 200, 1200


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    names = subprocess.run([BINARY], capture_output=True, text=True, check=True).stdout.split()
    counts = {name: (counted(name, MANY) - counted(name, FEW)) / (MANY - FEW) for name in names}
    counts |= {name: real_worker.count(name, BINARY.parent) for name in real_worker.REQUESTS}
    if options.update:
        update(counts)
    budget = read_budget()
    verdicts = [verdict(name, count, budget.get(name)) for name, count in counts.items()]
    print("\n".join(line for _, line in verdicts))
    unknown = sorted(set(budget) - set(counts))
    if unknown:
        sys.exit(f"{BUDGET} has functions that are not counted: {', '.join(unknown)}")
    if not all(fine for fine, _ in verdicts):
        sys.exit(f"over budget by more than {TOLERANCE:.0%}: make it cheaper, or {Path(__file__).name} --update and say why in the commit")


def counted(name: str, times: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(BINARY), name, str(times)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{name}: {done.stderr}")
    return int(found[1])


def verdict(name: str, count: float, budget: int | None) -> tuple[bool, str]:
    if budget is None:
        return False, f"{name:28} {count:8.0f}  no budget"
    change = count / budget - 1
    word = "over budget" if change > TOLERANCE else "cheaper: lower the budget" if change < -TOLERANCE else "ok"
    return change <= TOLERANCE, f"{name:28} {count:8.0f}  budget {budget:6} {change:+7.1%}  {word}"


def read_budget() -> dict[str, int]:
    lines = [line.split() for line in BUDGET.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {name: int(count) for name, count in lines}


def update(counts: dict[str, float]):
    head = "# Instructions a call on x86-64, release build; check.py counts them, --update writes this file.\n"
    BUDGET.write_text(head + "".join(f"{name:28} {count:.0f}\n" for name, count in counts.items()))


if __name__ == "__main__":
    main()
