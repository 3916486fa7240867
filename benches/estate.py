#!/usr/bin/env python3
"""An estate of vassals under Imperator's emperor and under uWSGI's, one after the other: Lua apps (uWSGI is Debian's, with its plugin for Lua 5.1), or
Python apps (uWSGI as pip builds it).

For each: seconds until all vassals answer, milliseconds until an added one answers, milliseconds from a change of one file to the emperor's order to
reload, CPU ticks of the idle estate, PSS of all its processes, seconds until all have stopped, and processes that were left then.
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
BOUND_SECONDS = 300
PYTHON = "def application(env, sr):\n    sr('200 OK', [])\n    return [b'hello ' + env['PATH_INFO'].encode()]\n"
LUA = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vassals", type=int, default=100)
    parser.add_argument("--idle", type=float, default=10, help="seconds")
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve())
    parser.add_argument("--language", choices=("lua", "python"), default="lua")
    parser.add_argument("--uwsgi", help="/usr/bin/uwsgi for Lua, .venv/bin/uwsgi for Python")
    parser.add_argument("--only", choices=("Imperator", "uWSGI"))
    given = parser.parse_args()
    is_lua = given.language == "lua"
    peer = given.uwsgi or ("/usr/bin/uwsgi" if is_lua else str(ROOT / ".venv/bin/uwsgi"))
    app = "lua = {folder}/app.lua\n" if is_lua else f"wsgi-file = {{folder}}/app.py\nhome = {ROOT / '.venv'}\n"
    programs = {"Imperator": ([str(given.target / "release/imperator")], app), "uWSGI": ([peer], ("plugins = lua51\n" if is_lua else "") + app)}
    for name, (command, more) in programs.items():
        if given.only in (None, name):
            row = estate(command, more, given.vassals, given.idle, LUA if is_lua else 0)
            print(json.dumps({"server": name, "language": given.language, "vassals": given.vassals, **row}), flush=True)


def estate(command: list[str], more: str, vassals: int, idle: float, modifier: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="estate-") as name:
        folder = Path(name)
        (folder / "v").mkdir()
        (folder / "app.lua").write_text(APP)
        (folder / "app.py").write_text(PYTHON)
        for number in range(vassals):
            add(folder, number, more)
        began = time.monotonic()
        with (folder / "log").open("wb") as log:
            emperor = subprocess.Popen([*command, "--emperor", f"{folder}/v"], stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            for number in range(vassals):
                wait_for_answer(folder, number, modifier)
            up = time.monotonic() - began
            time.sleep(2)
            ticks = cpu_ticks(emperor.pid)
            time.sleep(idle)
            ticks, processes, pss = cpu_ticks(emperor.pid) - ticks, len(tree(emperor.pid)), memory(emperor.pid)
            began = time.monotonic()
            add(folder, vassals, more)
            wait_for_answer(folder, vassals, modifier)
            added = time.monotonic() - began
            changed = change(folder, vassals // 2, more)
            wait_for_answer(folder, vassals // 2, modifier)
            stopped, left = stop(emperor)
            return {
                "all_up_s": round(up, 2),
                "added_answers_ms": round(added * 1000, 1),
                "changed_acted_on_ms": round(changed * 1000, 1),
                "idle_ticks": ticks,
                "processes": processes,
                "pss_kib": pss,
                "pss_kib_per_vassal": round(pss / vassals),
                "stopped_s": round(stopped, 2),
                "left": left,
            }
        finally:
            if emperor.poll() is None:
                end(emperor)


def add(folder: Path, number: int, more: str) -> None:
    """Written elsewhere and renamed: an emperor never sees half a file."""
    more = more.replace("{folder}", str(folder))
    text = f"[uwsgi]\nsocket = {folder}/{number}.sock\n{more}master = true\nprocesses = 1\ndisable-logging = true\n"
    (folder / "new").write_text(text)
    (folder / "new").rename(folder / f"v/v{number}.ini")


def change(folder: Path, number: int, more: str) -> float:
    """Seconds until the emperor's log says that this vassal reloads."""
    log = folder / "log"
    said = log.stat().st_size
    began = time.monotonic()
    add(folder, number, more + "env = CHANGED=1\n")
    while time.monotonic() < began + 30:
        with log.open("rb") as lines:
            lines.seek(said)
            if any(f"v{number}.ini".encode() in line and b"reload" in line for line in lines):
                return time.monotonic() - began
        time.sleep(0.001)
    raise SystemExit("the change was not seen")


def stop(emperor: subprocess.Popen[bytes]) -> tuple[float, int]:
    processes = tree(emperor.pid)
    began = time.monotonic()
    emperor.send_signal(signal.SIGINT)
    emperor.wait(BOUND_SECONDS)
    took = time.monotonic() - began
    return took, sum(1 for process in processes if Path(f"/proc/{process}").exists())


def wait_for_answer(folder: Path, number: int, modifier: int) -> None:
    until = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < until:
        try:
            answer = ask(folder / f"{number}.sock", modifier)
        except OSError:
            answer = b""
        if answer.endswith(b"hello /x"):
            return
        time.sleep(0.002)
    raise SystemExit(f"vassal {number} did not answer within {BOUND_SECONDS} s:\n{(folder / 'log').read_text(errors='replace')[-2000:]}")


def ask(path: Path, modifier: int) -> bytes:
    variables = b"".join(struct.pack("<H", len(text)) + text for text in (b"REQUEST_METHOD", b"GET", b"PATH_INFO", b"/x", b"QUERY_STRING", b""))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(struct.pack("<BHB", modifier, len(variables), 0) + variables)
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
