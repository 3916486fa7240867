#!/usr/bin/env python3
"""An estate of Lua vassals under Imperator's emperor and under uWSGI's (Debian's, with its plugin for Lua 5.1), one after the other.

For each: seconds until all vassals answer, milliseconds until an added one answers, CPU ticks of the idle estate, PSS of all its processes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = 'return function(env) return 200, {}, coroutine.wrap(function() coroutine.yield("hello " .. env.PATH_INFO) end) end\n'
BOUND_SECONDS = 120
LUA = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vassals", type=int, default=100)
    parser.add_argument("--idle", type=float, default=10, help="seconds")
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve())
    parser.add_argument("--uwsgi", default="/usr/bin/uwsgi")
    given = parser.parse_args()
    programs = {"Imperator": ([str(given.target / "release/imperator")], ""), "uWSGI": ([given.uwsgi], "plugins = lua51\n")}
    for name, (command, more) in programs.items():
        print(json.dumps({"server": name, "vassals": given.vassals, **estate(command, more, given.vassals, given.idle)}), flush=True)


def estate(command: list[str], more: str, vassals: int, idle: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="estate-") as name:
        folder = Path(name)
        (folder / "v").mkdir()
        (folder / "app.lua").write_text(APP)
        for number in range(vassals):
            add(folder, number, more)
        began = time.monotonic()
        with (folder / "log").open("wb") as log:
            emperor = subprocess.Popen([*command, "--emperor", f"{folder}/v"], stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            for number in range(vassals):
                wait_for_answer(folder, number)
            up = time.monotonic() - began
            time.sleep(2)
            ticks = cpu_ticks(emperor.pid)
            time.sleep(idle)
            ticks, processes, pss = cpu_ticks(emperor.pid) - ticks, len(tree(emperor.pid)), memory(emperor.pid)
            began = time.monotonic()
            add(folder, vassals, more)
            wait_for_answer(folder, vassals)
            added = time.monotonic() - began
            return {
                "all_up_s": round(up, 2),
                "added_answers_ms": round(added * 1000, 1),
                "idle_ticks": ticks,
                "processes": processes,
                "pss_kib": pss,
                "pss_kib_per_vassal": round(pss / vassals),
            }
        finally:
            end(emperor)


def add(folder: Path, number: int, more: str) -> None:
    """Written elsewhere and renamed: an emperor never sees half a file."""
    text = f"[uwsgi]\n{more}socket = {folder}/{number}.sock\nlua = {folder}/app.lua\nmaster = true\nprocesses = 1\ndisable-logging = true\n"
    (folder / "new").write_text(text)
    (folder / "new").rename(folder / f"v/v{number}.ini")


def wait_for_answer(folder: Path, number: int) -> None:
    until = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < until:
        try:
            answer = ask(folder / f"{number}.sock")
        except OSError:
            answer = b""
        if answer.endswith(b"hello /x"):
            return
        time.sleep(0.002)
    raise SystemExit(f"vassal {number} did not answer within {BOUND_SECONDS} s:\n{(folder / 'log').read_text(errors='replace')[-2000:]}")


def ask(path: Path) -> bytes:
    variables = b"".join(struct.pack("<H", len(text)) + text for text in (b"REQUEST_METHOD", b"GET", b"PATH_INFO", b"/x"))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(struct.pack("<BHB", LUA, len(variables), 0) + variables)
        answer = b""
        while part := client.recv(4096):
            answer += part
        return answer


def tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
        except OSError:
            pass
    return found


def cpu_ticks(pid: int) -> int:
    """Of living processes only: an idle estate starts and ends none."""
    return sum(sum(int(n) for n in Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[11:13]) for p in tree(pid))


def memory(pid: int) -> int:
    total = 0
    for process in tree(pid):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def end(emperor: subprocess.Popen[bytes]) -> None:
    """Asks it to stop; what is left of its tree after that is killed by number."""
    processes = tree(emperor.pid)
    emperor.send_signal(signal.SIGINT)
    try:
        emperor.wait(20)
    except subprocess.TimeoutExpired:
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        emperor.wait()


if __name__ == "__main__":
    main()
