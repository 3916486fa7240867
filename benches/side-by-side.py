#!/usr/bin/env python3
"""CPU per request of Imperator beside uWSGI: the same app and load, in turn A B A B in one run, as ratios.

CPU is user+system time of all the server's processes (from /proc), so it does not depend on what else the machine does as
much as throughput does. `benches/side-by-side.py [--pairs 5] [--requests 20000] [--only NAME]`."""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
TICK = os.sysconf("SC_CLK_TCK")
HELLO = """
BODY = b'hello world'
def application(env, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(BODY)))])
    return [BODY]
"""
RUNS = {
    "hello, uwsgi on a unix socket, 2 workers": ("socket = {dir}/s.sock\nprocesses = 2\ndisable-logging = true\n", "uwsgi"),
    "the same, 2 workers x 4 threads": ("socket = {dir}/s.sock\nprocesses = 2\nthreads = 4\ndisable-logging = true\n", "uwsgi"),
    "hello, uwsgi on TCP, 2 workers, request log to a file": ("socket = 127.0.0.1:{port}\nprocesses = 2\nlogto = {dir}/log\n", "uwsgi"),
    "hello, HTTP/1.1 keep-alive, 2 workers": ("http11-socket = 127.0.0.1:{port}\nprocesses = 2\ndisable-logging = true\n", "http"),
}


def cpu_seconds(pid: int) -> float:
    """User+system time of the process and all that are below it now, and of those they have waited for."""
    ticks, todo = 0, [pid]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(x) for x in fields[11:15])
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(c) for c in (task / "children").read_text().split()]
    return ticks / TICK


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def server(command: list[str], ini: str):
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        port = free_port()
        fill = lambda text: text.replace("{dir}", directory).replace("{port}", str(port))
        Path(directory, "app.py").write_text(HELLO)
        Path(directory, "app.ini").write_text(fill(f"[uwsgi]\nmaster = true\nwsgi-file = {{dir}}/app.py\nlisten = 1024\n{ini}"))
        with open(Path(directory, "server.log"), "wb") as log:
            process = subprocess.Popen([*command, "--ini", f"{directory}/app.ini"], cwd=directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        address = f"{directory}/s.sock" if "s.sock" in ini else f"127.0.0.1:{port}"
        try:
            wait_for(address, process, Path(directory, "server.log"))
            yield address, process.pid
        finally:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(address: str, process: subprocess.Popen, log: Path):
    for _ in range(200):
        if process.poll() is not None:
            sys.exit(f"the server ended:\n{log.read_text()}")
        with contextlib.suppress(OSError):
            s = socket.socket(socket.AF_UNIX) if "/" in address else socket.socket()
            with s:
                s.connect(address if "/" in address else ("127.0.0.1", int(address.rpartition(":")[2])))
                time.sleep(0.5)
                return
        time.sleep(0.05)
    sys.exit("the server does not listen")


def load(address: str, requests: int, kind: str) -> dict:
    out = subprocess.run([TARGET / "imperator-load", address, str(requests), "8", *(["http"] if kind == "http" else [])], capture_output=True, text=True, timeout=300, check=True)
    result = json.loads(out.stdout)
    if result["failed"]:
        sys.exit(f"a run with failed requests is no run: {result}")
    return result


def measure(command: list[str], ini: str, kind: str, requests: int) -> dict:
    with server(command, ini) as (address, pid):
        load(address, requests // 10, kind)
        before = cpu_seconds(pid)
        result = load(address, requests, kind)
        result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / result["ok"]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20000)
    parser.add_argument("--only", default="")
    parser.add_argument("--uwsgi", default=str(ROOT / ".venv/bin/uwsgi"))
    options = parser.parse_args()
    ours, theirs = [str(TARGET / "imperator")], [options.uwsgi]
    print(f"{'run':56} {'CPU/request us':>22} {'ratios: CPU':>14} {'throughput':>11} {'p99':>6}")
    for name, (ini, kind) in RUNS.items():
        if options.only not in name:
            continue
        pairs = [(measure(ours, ini, kind, options.requests), measure(theirs, ini, kind, options.requests)) for _ in range(options.pairs)]
        ratio = lambda key: statistics.median(a[key] / b[key] for a, b in pairs)
        median = lambda side: statistics.median(pair[side]["cpu_us"] for pair in pairs)
        print(f"{name:56} {median(0):8.1f} uWSGI {median(1):6.1f} {ratio('cpu_us'):14.2f} {ratio('rps'):11.2f} {ratio('p99_us'):6.2f}", flush=True)


if __name__ == "__main__":
    main()
