"""Instructions that our own code takes for one whole request, from accept to close, as a worker under callgrind executes them: for Python that of the
extension, for Lua that of the executable, LuaJIT included, which is part of it. What Python and the C library take is theirs, and differs between their
versions."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60
FEW, MANY, BATCH = 80, 400, 40

PYTHON = """
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '5')])
    return [b'hello']
"""

LUA = """
return function(env)
    return 200, { ["Content-Type"] = "text/plain", ["Content-Length"] = 5 }, coroutine.wrap(function() coroutine.yield("hello") end)
end
"""

# What nginx sends with its uwsgi_params, and a browser's headers.
VARIABLES = {
    "QUERY_STRING": "page=2&sort=date", "REQUEST_METHOD": "GET", "CONTENT_TYPE": "", "CONTENT_LENGTH": "", "REQUEST_URI": "/articles/?page=2&sort=date",
    "PATH_INFO": "/articles/", "DOCUMENT_ROOT": "/usr/share/nginx/html", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_SCHEME": "http", "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000", "SERVER_PORT": "80", "SERVER_NAME": "www.example.com", "HTTP_HOST": "www.example.com", "HTTP_ACCEPT_ENCODING": "gzip, deflate, br",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "HTTP_COOKIE": "sessionid=0123456789abcdef0123456789abcdef",
}  # fmt: skip


def same(number: int) -> dict[str, str]:
    return VARIABLES


def other(number: int) -> dict[str, str]:
    """As requests of many clients differ: in five values."""
    return VARIABLES | {
        "QUERY_STRING": f"page={number:04}", "REQUEST_URI": f"/articles/{number:04}/?page={number:04}", "PATH_INFO": f"/articles/{number:04}/",
        "REMOTE_PORT": str(50000 + number), "HTTP_COOKIE": f"sessionid={number:032x}",
    }  # fmt: skip


@dataclass(frozen=True)
class Request:
    variables: Callable[[int], dict[str, str]]
    app: str
    """Text of the app, and the line that names it."""
    option: str
    suffix: str
    modifier1: int
    ours: str
    """The end of the name of the file that has our code."""


def python(variables) -> Request:
    return Request(variables, PYTHON, "wsgi-file", ".py", 0, "libimperator_python.so")


def lua(variables) -> Request:
    return Request(variables, LUA, "lua", ".lua", 6, "/imperator")


REQUESTS = {"python-same-request": python(same), "python-other-request": python(other), "lua-same-request": lua(same), "lua-other-request": lua(other)}


def count(name: str, release: Path) -> float:
    """A request's instructions, as the difference of two runs: starting and loading are in both."""
    few, many = (run(REQUESTS[name], times, release) for times in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def run(request: Request, times: int, release: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        place = Path(folder)
        name = f"app{request.suffix}"
        (place / name).write_text(request.app)
        home = f"home = {ROOT / '.venv'}\n" if (ROOT / ".venv").exists() else ""
        (place / "app.ini").write_text(f"[uwsgi]\nmaster = false\n{home}chdir = {place}\n{request.option} = {name}\nsocket = {place}/s\ndisable-logging = true\n")
        command = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={place}/callgrind.%p", str(release / "imperator"), "--ini", str(place / "app.ini")]
        with open(place / "log", "wb") as log:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(place / "s", server)
            for start in range(0, times, BATCH):
                ask(place / "s", server, request.modifier1, [request.variables(number) for number in range(start, start + BATCH)])
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(START_SECONDS)
        if server.returncode:
            raise RuntimeError((place / "log").read_text(errors="replace"))
        return sum(own(file.read_text(), request.ours) for file in place.glob("callgrind.*"))


def wait_for(path: Path, server: subprocess.Popen):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            return probe.connect(str(path))
        time.sleep(0.1)
    raise RuntimeError(f"the worker does not listen: {(path.parent / 'log').read_text(errors='replace')}")


def ask(path: Path, server: subprocess.Popen, modifier1: int, requests: list[dict[str, str]]):
    """All at once, while the worker stands still: so it never waits for one, and does the same in each run."""
    server.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as clients:
        asked = []
        for variables in requests:
            block = b"".join(struct.pack("<H", len(text)) + text.encode() for pair in variables.items() for text in pair)
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(START_SECONDS)
            client.connect(str(path))
            client.sendall(struct.pack("<BHB", modifier1, len(block), 0) + block)
            asked.append(client)
        server.send_signal(signal.SIGCONT)
        for client in asked:
            answer = b"".join(iter(lambda: client.recv(4096), b""))
            if not answer.endswith(b"\r\n\r\nhello"):
                raise RuntimeError(f"answered with {answer!r}")


def own(profile: str, ours: str) -> int:
    """The self cost of our functions in a file of callgrind's."""
    names, inside, called, total = {}, False, False, 0
    for line in profile.splitlines():
        if found := re.match(r"ob=\((\d+)\)(?: (.*))?", line):
            names.setdefault(found[1], found[2])
            inside = (names[found[1]] or "").endswith(ours)
        elif found := re.match(r"cob=\((\d+)\)(?: (.*))?", line):
            names.setdefault(found[1], found[2])
        elif line.startswith("calls="):
            # The next line is what the callee took.
            called = True
        elif cost := re.match(r"[+*\d-]\S* (\d+)$", line):
            total += int(cost[1]) if inside and not called else 0
            called = False
    return total
