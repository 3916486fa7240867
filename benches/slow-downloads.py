#!/usr/bin/env python3
"""What slow downloads do to a worker's other requests: 200 clients that each read a sparse file of 300 MiB at 1 MiB/s from two workers, while one
client asks the app for its page. Prints latencies with and without the downloads, and memory, of Imperator and of uWSGI with offload threads.

    benches/slow-downloads.py [--release DIR] [--venv DIR] [--clients N] [--seconds S]
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sidebyside import ROOT
from sidebyside.measure import memory_kib
from sidebyside.servers import Imperator, Places, Uwsgi

FILE_BYTES = 300 << 20
RATE = 1 << 20
TICKS = 8  # reads a second of each client


def download(address: tuple[str, int], clients: int, seconds: float, ready, total) -> None:
    """Reads at RATE from each of `clients` connections. They are started one after the other and read in turn, so that no tick has all the work."""
    sockets, part = [], bytearray(RATE // TICKS)
    for _ in range(clients):
        connection = socket.create_connection(address)
        connection.sendall(b"GET /s/big.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.setblocking(False)
        sockets.append(connection)
    ready.set()
    began, got, tick = time.monotonic(), 0, 0
    while time.monotonic() - began < seconds:
        for number, connection in enumerate(sockets):
            due = began + (tick + number / clients) / TICKS
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            try:
                got += connection.recv_into(part)
            except BlockingIOError:
                pass
        tick += 1
    total.value = got
    for connection in sockets:
        connection.close()


def latencies(address: tuple[str, int], seconds: float, every: float = 0.004) -> list[float]:
    """Seconds that requests to the app take, one after the other."""
    out, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got = b""
            while piece := connection.recv(65536):
                got += piece
        assert got.startswith(b"HTTP/1.1 200"), got[:100]
        out.append(time.perf_counter() - began)
        time.sleep(every)
    return sorted(out)


def quantile(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] * 1e6


def run(server, places: Places, clients: int, seconds: float) -> None:
    with server.running(places) as running:
        host, port = running.address.rsplit(":", 1)
        address = (host, int(port))
        latencies(address, 1)
        before, idle = latencies(address, seconds), memory_kib(running.pid)[0]
        ready, total = multiprocessing.Event(), multiprocessing.Value("q", 0)
        reader = multiprocessing.Process(target=download, args=(address, clients, seconds + 2, ready, total))
        reader.start()
        ready.wait(20)
        time.sleep(1)
        during, busy = latencies(address, seconds), memory_kib(running.pid)[0]
        reader.join(seconds + 30)
        print(
            f"{server.name:10} p50 {quantile(before, 0.5):6.0f} -> {quantile(during, 0.5):6.0f} us   p99 {quantile(before, 0.99):6.0f} -> {quantile(during, 0.99):6.0f} us"
            f" ({quantile(during, 0.99) / quantile(before, 0.99):.2f})   memory {idle} -> {busy} KiB   {total.value / (seconds + 2) / (1 << 20):.0f} MiB/s to {clients} clients"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, default=ROOT / "target/release")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    places = Places(release=options.release.resolve(), venv=options.venv.absolute())
    with tempfile.TemporaryDirectory(prefix="slow-downloads-") as folder:
        with open(f"{folder}/big.bin", "wb") as file:
            file.truncate(FILE_BYTES)
        lines = ("http-socket = 127.0.0.1:{port}", "disable-logging = true", f"static-map = /s={folder}", "offload-threads = 1")
        for _ in range(2):
            for server in (Imperator("hello.py", lines=lines), Uwsgi("hello.py", lines=lines)):
                run(server, places, options.clients, options.seconds)


if __name__ == "__main__":
    main()
