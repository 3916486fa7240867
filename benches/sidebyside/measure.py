"""One measured run of one server: load, CPU time, memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from sidebyside.runs import Run
from sidebyside.servers import Places, Server

TICK = os.sysconf("SC_CLK_TCK")
# Longer than any server here needs to come to rest.
REST_SECONDS = 1.5


class VoidRun(Exception):
    """A run that says nothing, because an answer was wrong or missing."""


@dataclass(frozen=True)
class Sample:
    """`cpu` in microseconds a request, `throughput` in requests a second, `p99` (the mean of the clients' own) in
    microseconds, `memory` in KiB."""

    cpu: float
    throughput: float
    p99: float
    memory: float
    anonymous: float


@dataclass(frozen=True)
class Idle:
    """KiB."""

    memory: float


@dataclass(frozen=True)
class Stalled:
    """Requests a second without and with the stalled clients."""

    free: float
    stalled: float

    @property
    def share(self) -> float:
        return self.stalled / self.free


def measure(run: Run, server: Server, places: Places, seconds: float) -> Sample:
    with server.running(places) as running:
        load(run, places, running.address, seconds / 5)
        before = cpu_seconds(running.pid)
        result = load(run, places, running.address, seconds)
        cpu = settled_cpu(running.pid) - before
        memory, anonymous = memory_kib(running.pid)
    return Sample(cpu * 1e6 / result["ok"], result["rps"], result["client_p99_us"], memory, anonymous)


def measure_idle(run: Run, server: Server, places: Places, _seconds: float) -> Idle:
    with server.running(places) as running:
        load(run, places, running.address, 1, options=("--clients", "1", "--requests", "1"))
        time.sleep(REST_SECONDS)
        return Idle(memory_kib(running.pid)[0])


def measure_stall(run: Run, server: Server, places: Places, seconds: float) -> Stalled:
    with server.running(places) as running:
        load(run, places, running.address, seconds / 5)
        free = load(run, places, running.address, seconds)["rps"]
        stalled = load(run, places, running.address, seconds, stall=run.stall)["rps"]
    return Stalled(free, stalled)


def load(run: Run, places: Places, address: str, seconds: float, stall: int = 0, options: tuple[str, ...] = ()) -> dict:
    """Runs the load generator. Requests that stalled clients keep from being answered are what is measured; any other
    wrong or missing answer voids the run."""
    command = [str(places.release / "imperator-load"), "--protocol", run.load.protocol, "--clients", str(run.load.clients), "--seconds", f"{seconds:.2f}"]
    stalling = ["--stall", str(stall)] if stall else []
    done = subprocess.run([*command, *run.load.options, *stalling, *options, address], capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise VoidRun(done.stderr.strip())
    result = json.loads(done.stdout)
    if (result["failed"] or not result["ok"]) and not stall:
        raise VoidRun(f"{result['failed']} of {result['failed'] + result['ok']} requests failed: {result['error']}")
    return result


def settled_cpu(pid: int) -> float:
    """CPU time once what the last requests left to do is done."""
    time.sleep(0.05)
    return cpu_seconds(pid)


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{found[-1]}/task").iterdir():
                with contextlib.suppress(OSError):
                    todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """User+system time of all the server's processes, and of those that ended and were waited for.

    utime and stime in /proc/PID/stat come in ticks of 10 ms. Their sum is the scheduler's run time, which the kernel
    only splits into the two; schedstat has it in nanoseconds, but only for threads that live. So: the larger of the
    two a process."""
    total = 0.0
    for process in family(pid):
        with contextlib.suppress(OSError):
            fields = [int(x) for x in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]]
            total += max(sum(fields[:2]) / TICK, threads_seconds(process)) + sum(fields[2:]) / TICK
    return total


def threads_seconds(pid: int) -> float:
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def memory_kib(pid: int) -> tuple[int, int]:
    """Proportional set size of all the server's processes, and the part of it that no file backs (so that nobody else
    who runs the same Python makes it smaller)."""
    total = anonymous = 0
    for process in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                total += int(value.split()[0]) if name == "Pss" else 0
                anonymous += int(value.split()[0]) if name == "Pss_Anon" else 0
    return total, anonymous
