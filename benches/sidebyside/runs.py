"""What is run: the table of goals. Each run is the same app file, Python, width and load for both servers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sidebyside.servers import FILES, Floor, Granian, Gunicorn, Imperator, Nginx, Server, Uwsgi, UwsgiLua

QUIET = ["disable-logging = true"]
UNIX = ["socket = {dir}/s.sock"]


@dataclass(frozen=True)
class Load:
    """Options of the load generator. Every answer is checked against them."""

    protocol: str
    options: tuple[str, ...] = ()
    clients: int = 8


@dataclass(frozen=True)
class Goals:
    """Bounds of the medians of ratios ours/theirs; None: none."""

    cpu: float | None = None
    throughput: float | None = None
    p99: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Run:
    key: str
    title: str
    ours: Server
    theirs: Server
    load: Load
    goals: Goals
    stall: int = 0
    idle: bool = False
    """No load: memory alone, after one request and a while of rest."""
    reference: bool = False
    """Not a server of ours: what the same system calls take without any server."""


HELLO = Load("uwsgi", ("--length", "11"))
HELLO_HTTP = Load("http", ("--length", "11"))
FILE = ("--path", "/s/four_kib.css", "--length", str(4 << 10))
BIG = Load("uwsgi", ("--path", "/s/big", "--length", str(4 << 20)))
STATIC = f"static-map = /s={FILES}"
LUA = Load("uwsgi", ("--length", "11", "--modifier1", "6"))
TEN_KIB = Load("http", ("--length", str(10 << 10)))
NARROW = Goals(cpu=0.80, throughput=1.15, p99=1.0)


def both(app: str, *lines: str, **more) -> tuple[Server, Server]:
    """Imperator and uWSGI with the same ini."""
    return Imperator(app, lines=tuple(lines), **more), Uwsgi(app, lines=tuple(lines), **more)


def big_file() -> Path:
    """A folder with `big`, 4 MiB of zeros: too much for the repository."""
    folder = Path(tempfile.gettempdir()) / "imperator-benches"
    folder.mkdir(exist_ok=True)
    (folder / "big").write_bytes(bytes(4 << 20))
    return folder


def runs() -> list[Run]:
    http11 = ("http11-socket = 127.0.0.1:{port}", *QUIET)
    ours_http = Imperator("ten_kib.py", lines=http11)
    threads = Imperator("hello.py", threads=4, lines=http11)
    logged = ("socket = 127.0.0.1:{port}", "logto = {dir}/log")
    floor = "the floor (no Python, no server): "
    return [
        Run("hello", "hello, uwsgi protocol on a unix socket, 2 workers", *both("hello.py", *UNIX, *QUIET), HELLO, Goals(cpu=0.80, throughput=1.15, p99=1.0, memory=1.0)),
        Run("threads", "hello, uwsgi protocol, 2 workers x 4 threads", *both("hello.py", *UNIX, *QUIET, threads=4), HELLO, NARROW),
        Run("log", "uwsgi protocol on TCP, request log to a file", *both("hello.py", *logged), HELLO, NARROW),
        Run("nginx", "behind nginx uwsgi_pass", *both("hello.py", *UNIX, *QUIET, nginx=True), HELLO_HTTP, Goals(cpu=0.85, throughput=1.05, p99=1.0)),
        Run("http", "HTTP/1.1 keep-alive, 10 KiB, straight", ours_http, Uwsgi("ten_kib.py", lines=http11), TEN_KIB, Goals(cpu=0.75, throughput=1.2, p99=1.0)),
        Run("http2", "HTTP/1.1 keep-alive, 10 KiB, as many clients as workers", ours_http, Uwsgi("ten_kib.py", lines=http11), Load("http", TEN_KIB.options, clients=2), Goals(cpu=0.75, throughput=1.2, p99=1.0)),
        Run("granian", "HTTP/1.1 keep-alive, 10 KiB, straight", ours_http, Granian("ten_kib.py"), TEN_KIB, Goals(cpu=0.55, throughput=1.15, p99=1.0)),
        Run("gunicorn", "hello, HTTP keep-alive, 2 workers x 4 threads", threads, Gunicorn("hello.py", threads=4), HELLO_HTTP, Goals(cpu=0.10, throughput=4.0, p99=0.2)),
        Run("upload", "1 MiB upload echoed, uwsgi protocol", *both("echo.py", *UNIX, *QUIET), Load("uwsgi", ("--body", str(1 << 20)), clients=4), Goals(cpu=0.75, throughput=1.2, p99=1.0)),
        Run("django", "a Django page with a template", *both("django", *UNIX, *QUIET), Load("uwsgi", ("--path", "/page", "--text", "10 items in /page"), clients=4), Goals(cpu=0.97, throughput=1.02, p99=1.0)),
        Run("static", "a file of 4 KiB, uwsgi protocol", *both("hello.py", *UNIX, *QUIET, STATIC), Load("uwsgi", FILE), Goals(cpu=0.60, throughput=1.5)),
        Run("static-nginx", "a file of 4 KiB, HTTP/1.1 keep-alive", Imperator("hello.py", lines=(*http11, STATIC)), Nginx("hello.py"), Load("http", FILE), Goals(cpu=1.3)),
        Run("offload", "a file of 4 MiB, uwsgi protocol on TCP, one offload thread", *both("hello.py", "socket = 127.0.0.1:{port}", *QUIET, f"static-map = /s={big_file()}", "offload-threads = 1"), BIG, Goals(cpu=0.90)),
        Run("lua", "hello in Lua, uwsgi protocol on a unix socket", Imperator("hello.lua", lines=(*UNIX, *QUIET)), UwsgiLua("hello.lua", lines=("plugins = lua51", *UNIX, *QUIET)), LUA, Goals(cpu=0.60, throughput=1.3, memory=0.5)),
        Run("lua-idle", "idle: hello in Lua, master and one worker, after one request", Imperator("hello.lua", lines=(*UNIX, *QUIET), workers=1), UwsgiLua("hello.lua", lines=("plugins = lua51", *UNIX, *QUIET), workers=1), LUA, Goals(memory=0.5), idle=True),
        Run("stall", "200 clients stalled in mid-head on http-socket", *both("hello.py", "http-socket = 127.0.0.1:{port}", *QUIET), Load("http-close", ("--length", "11", "--timeout", "3")), Goals(throughput=0.9), stall=200),
        Run("floor", floor + "hello, uwsgi protocol on a unix socket", Floor("close", lines=tuple(UNIX)), Uwsgi("hello.py", lines=(*UNIX, *QUIET)), HELLO, Goals(), reference=True),
        Run("floor-log", floor + "uwsgi protocol on TCP, a line to a file", Floor("close", lines=logged), Uwsgi("hello.py", lines=logged), HELLO, Goals(), reference=True),
        Run("floor-http", floor + "HTTP/1.1 keep-alive, 10 KiB", Floor("keep", length=10 << 10), Uwsgi("ten_kib.py", lines=http11), TEN_KIB, Goals(), reference=True),
        Run("floor-http2", floor + "the same, as many clients as workers", Floor("keep", length=10 << 10), Uwsgi("ten_kib.py", lines=http11), Load("http", TEN_KIB.options, clients=2), Goals(), reference=True),
    ]
