#!/usr/bin/env python3
"""The cache of uWSGI and of Imperator under the same Python loops, in turn on the same machine (A B A B ...): medians of ratios.

    benches/cache-side-by-side.py [--quick] [--write] [--uwsgi PATH] [--imperator PATH]

The loops run inside the servers' own workers. A figure is what Imperator does a second (of CPU, with one caller), divided by what uWSGI does in the run beside it. --write puts the table
into docs/performance.md.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARKS = ("<!-- cache: begin -->", "<!-- cache: end -->")

APP = """
import time, uwsgi
def loop(op, key, seconds, clock):
    # One caller is measured in CPU time, which what else the machine does hardly changes; several at once are a matter of the clock on the wall.
    clock = time.process_time if clock == 'cpu' else time.perf_counter
    value, get, update, inc = b'v' * 100, uwsgi.cache_get, uwsgi.cache_update, uwsgi.cache_inc
    update(key, value) if op != 'inc' else None
    calls, batch, ends = 0, range(1000), clock() + seconds
    begin = clock()
    while clock() < ends:
        if op == 'get':
            for _ in batch: get(key)
        elif op == 'set':
            for _ in batch: update(key, value)
        else:
            for _ in batch: inc(key)
        calls += 1000
    return calls / (clock() - begin)
def application(env, sr):
    sr('200 OK', [])
    what = env['QUERY_STRING'].split(',')
    if what[0] == 'exact':
        for _ in range(int(what[1])): uwsgi.cache_inc('exact')
        return [b'0']
    if what[0] == 'num':
        return [str(uwsgi.cache_num('exact')).encode()]
    return [str(loop(what[0], what[1], float(what[2]), what[3])).encode()]
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Instance:
    def __init__(self, argv, directory):
        self.port = free_port()
        ini = pathlib.Path(directory, f"{self.port}.ini")
        ini.write_text(f"[uwsgi]\nsocket = 127.0.0.1:{self.port}\nwsgi-file = {directory}/app.py\nmaster = true\nprocesses = 4\ndie-on-term = true\n"
                       "disable-logging = true\ncache2 = name=c,items=1000,blocksize=128\n")
        self.process = subprocess.Popen([*argv, "--ini", str(ini)], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 20
        while True:
            try:
                self.ask("num")
                return
            except OSError:
                if time.time() > deadline or self.process.poll() is not None:
                    sys.exit(f"{argv[0]} does not start with {ini}")
                time.sleep(0.05)

    def ask(self, query):
        pairs = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "PATH_INFO": "/", "QUERY_STRING": query, "SERVER_NAME": "x", "SERVER_PORT": "1",
                 "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_LENGTH": ""}
        block = b"".join(struct.pack("<H", len(part)) + part for pair in pairs.items() for part in map(str.encode, pair))
        with socket.create_connection(("127.0.0.1", self.port), 60) as s:
            s.sendall(struct.pack("<BHB", 0, len(block), 0) + block)
            answer = b""
            while chunk := s.recv(65536):
                answer += chunk
        return float(answer.partition(b"\r\n\r\n")[2] or "nan")

    def together(self, queries):
        """Calls a second of all of them at once, each in a worker of its own."""
        with concurrent.futures.ThreadPoolExecutor(len(queries)) as pool:
            return sum(pool.map(self.ask, queries))

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cases(seconds):
    return {
        "get, one caller": lambda i: i.ask(f"get,k,{seconds},cpu"),
        "set (update), one caller": lambda i: i.ask(f"set,k,{seconds},cpu"),
        "inc, one caller": lambda i: i.ask(f"inc,n,{seconds},cpu"),
        "a reader and a writer at once, together": lambda i: i.together([f"get,r,{seconds},wall", f"set,w,{seconds},wall"]),
        "4 processes, disjoint keys (get)": lambda i: i.together([f"get,d{n},{seconds},wall" for n in range(4)]),
        "4 processes, disjoint keys (set)": lambda i: i.together([f"set,d{n},{seconds},wall" for n in range(4)]),
    }


def exact(instance, times):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(instance.ask, [f"exact,{times}"] * 4))
    return int(instance.ask("num"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only whether it works")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--uwsgi", default=shutil.which("uwsgi", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}"))
    target = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
    parser.add_argument("--imperator", default=f"{target}/release/imperator")
    options = parser.parse_args()
    if not options.uwsgi:
        sys.exit("no uwsgi: pip install -r benches/requirements.txt, or --uwsgi PATH")
    seconds, rounds, times = (0.2, 1, 1000) if options.quick else (1, 5, 100_000)
    with tempfile.TemporaryDirectory() as directory:
        pathlib.Path(directory, "app.py").write_text(APP)
        servers = {"imperator": Instance([options.imperator], directory), "uwsgi": Instance([options.uwsgi], directory)}
        try:
            table = []
            for name, run in cases(seconds).items():
                pairs = [(run(servers["uwsgi"]), run(servers["imperator"])) for _ in range(rounds)]
                ratios = [ours / theirs for theirs, ours in pairs]
                table.append((name, statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs), statistics.median(ratios), min(ratios), max(ratios)))
                print("%-42s uwsgi %6.2f M/s  imperator %6.2f M/s  ratio %.2f (%.2f to %.2f)" % (name, table[-1][1] / 1e6, table[-1][2] / 1e6, *table[-1][3:]))
            counted = {name: exact(server, times) for name, server in servers.items()}
            print(f"inc from 4 workers x {times}: {counted}")
        finally:
            for server in servers.values():
                server.stop()
    if counted["imperator"] != 4 * times:
        sys.exit("increments were lost")
    if options.write:
        write(table, counted, times)


def write(table, counted, times):
    lines = [MARKS[0], "| | uWSGI, M calls/s | Imperator, M calls/s | ratio (median of pairs) | least to most |", "|---|---|---|---|---|"]
    lines += ["| %s | %.2f | %.2f | **%.2f** | %.2f to %.2f |" % (n, u / 1e6, o / 1e6, *r) for n, u, o, *r in table]
    lines += ["", f"`cache_inc` from 4 workers x {times:,}: {counted['imperator']:,} in Imperator, {counted['uwsgi']:,} in uWSGI.", MARKS[1]]
    page = ROOT / "docs/performance.md"
    text = page.read_text()
    head, found, rest = text.partition(MARKS[0])
    if not found:
        sys.exit(f"{page} has no {MARKS[0]}")
    page.write_text(head + "\n".join(lines) + rest.partition(MARKS[1])[2])


if __name__ == "__main__":
    main()
