#!/usr/bin/env python3
"""Vassals that misbehave beside one that serves: what the others and the emperor pay for it.

A good vassal is asked all the time. First alone; then while one neighbour crash-loops, floods its log, fills its disk quota, ignores SIGTERM, or hangs
at import (one that ignores SIGTERM is a program of its own, started by `wrapper`, and told to stop meanwhile). For each: the good one's p99 against its own p99 alone (measured before and after, so that a busy machine shows), the
emperor's CPU, and what `imperator why` says. Quota: a tmpfs of 1 MiB, for root only.
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
GOOD = "def application(env, sr):\n    sr('200 OK', [('Content-Type', 'text/plain')])\n    return [b'hello']\n"
TAIL = "\ndef application(env, sr):\n    sr('200 OK', [])\n    return [b'x']\n"
BAD = {
    "crash loop": "import os\nos._exit(3)\n",
    "crash loop of workers": "import os\nos._exit(3)\n",
    "log flood": "import sys, threading\ndef flood():\n    while True: sys.stderr.write('x' * 99 + '\\n')\nthreading.Thread(target=flood, daemon=True).start()\n" + TAIL,
    "full disk": "open('{quota}/fill', 'wb').write(b'x' * (8 << 20))\n" + TAIL,
    "ignores TERM": "#!/bin/sh\ntrap '' TERM INT\nwhile :; do sleep 1; done\n",
    "hangs at import": "import time\ntime.sleep(1e6)\n",
}
BOUND_SECONDS = 60
SHOWN = ("state", "trouble", "because", "last end", "next try", "what to do")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve())
    given = parser.parse_args()
    program = str(given.target / "release/imperator")
    with tempfile.TemporaryDirectory(prefix="misbehaving-") as name:
        estate(program, Path(name), given.seconds)


def estate(program: str, folder: Path, seconds: float) -> None:
    (folder / "v").mkdir()
    quota = folder / "quota"
    quota.mkdir()
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(quota)], check=True)
    (folder / "good.py").write_text(GOOD)
    write(folder, "good", "good.py")
    log = (folder / "log").open("w")
    # One that does not end is still there, and SIGTERM has been sent, when a measurement ends.
    tolerance = str(round(1.5 * seconds))
    options = ["--emperor", str(folder / "v"), "--emperor-command-socket", str(folder / "command"), "--emperor-curse-tolerance", tolerance]
    emperor = subprocess.Popen([program, *options], stdout=log, stderr=log, start_new_session=True)
    try:
        wait(lambda: ask(folder / "good.sock"))
        for name, code in BAD.items():
            if name == "full disk" and os.geteuid() != 0:
                continue
            print(json.dumps(measure(program, folder, emperor.pid, seconds, name, code.replace("{quota}", str(quota)))), flush=True)
    finally:
        emperor.send_signal(signal.SIGTERM)
        try:
            emperor.wait(BOUND_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(emperor.pid, signal.SIGKILL)
        if os.geteuid() == 0:
            subprocess.run(["umount", str(quota)], check=False)


def write(folder: Path, name: str, app: str, more: str = "") -> None:
    partial = folder / f"{name}.partial"
    partial.write_text(f"[uwsgi]\nsocket = {folder}/{name}.sock\nwsgi-file = {folder}/{app}\nenable-threads = true\nneed-app = true\n{more}")
    partial.rename(folder / "v" / f"{name}.ini")


def measure(program: str, folder: Path, emperor: int, seconds: float, name: str, code: str) -> dict[str, object]:
    before = load(folder, seconds)
    (folder / "bad.py").write_text(code)
    (folder / "bad.py").chmod(0o755)
    more = {"ignores TERM": f"[emperor]\nwrapper = {folder}/bad.py\n", "crash loop of workers": "lazy-apps = true\n"}
    write(folder, "bad", "bad.py", more.get(name, ""))
    time.sleep(2)
    if name == "ignores TERM":
        subprocess.Popen([program, "stop", "bad", "--at", str(folder / "command")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ticks = cpu(emperor)
    beside = load(folder, seconds)
    used = (cpu(emperor) - ticks) / os.sysconf("SC_CLK_TCK") / seconds
    why = subprocess.run([program, "why", "bad", "--at", str(folder / "command")], capture_output=True, text=True, check=False).stdout
    (folder / "v" / "bad.ini").unlink()
    wait(lambda: "bad.ini" not in subprocess.run([program, "ps", "--at", str(folder / "command")], capture_output=True, text=True, check=False).stdout)
    after = load(folder, seconds)
    alone = (before["p99_us"] + after["p99_us"]) / 2
    told = [line for line in why.splitlines() if line.startswith(SHOWN)]
    return {
        "vassal": name,
        "p99_us": beside["p99_us"],
        "p99_alone_us": [before["p99_us"], after["p99_us"]],
        "p99_ratio": round(beside["p99_us"] / alone, 2),
        "emperor_cpu_percent": round(100 * used, 2),
        "why": told,
    }


def load(folder: Path, seconds: float) -> dict[str, float]:
    """A client that asks, pauses as long, and asks again: half of the one worker's time."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        if not ask(folder / "good.sock"):
            raise SystemExit("the good vassal did not answer")
        times.append(time.monotonic() - start)
        time.sleep(0.001)
    times.sort()
    return {"p99_us": round(1e6 * times[int(len(times) * 0.99)]), "requests": len(times)}


def ask(path: Path) -> bool:
    pairs = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REQUEST_URI": "/", "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "x", "SERVER_PORT": "80"}
    block = b"".join(struct.pack("<H", len(k)) + k.encode() + struct.pack("<H", len(v)) + v.encode() for k, v in pairs.items())
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(5)
            stream.connect(str(path))
            stream.sendall(struct.pack("<BHB", 0, len(block), 0) + block)
            return stream.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def cpu(pid: int) -> int:
    """Of this one process, in clock ticks."""
    return sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])


def wait(probe: object) -> None:
    end = time.monotonic() + BOUND_SECONDS
    while not probe():
        if time.monotonic() > end:
            raise SystemExit("not in time")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
