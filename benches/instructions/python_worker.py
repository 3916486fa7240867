"""Instructions that the Python extension takes for one whole request, from accept to close: those of its own code alone, as a worker under callgrind
executes them. What Python and the C library take is theirs, and differs between their versions."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXTENSION = "libimperator_python.so"
START_SECONDS = 60
FEW, MANY, BATCH = 80, 400, 40

APP = """
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '5')])
    return [b'hello']
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


REQUESTS = {"python-same-request": same, "python-other-request": other}


def count(name: str, release: Path) -> float:
    """A request's instructions, as the difference of two runs: starting and loading are in both."""
    few, many = (run(REQUESTS[name], times, release) for times in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def run(variables, times: int, release: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        place = Path(folder)
        (place / "app.py").write_text(APP)
        home = f"home = {ROOT / '.venv'}\n" if (ROOT / ".venv").exists() else ""
        (place / "app.ini").write_text(f"[uwsgi]\nmaster = false\n{home}chdir = {place}\nwsgi-file = app.py\nsocket = {place}/s\ndisable-logging = true\n")
        command = ["valgrind", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={place}/callgrind.%p", str(release / "imperator"), "--ini", str(place / "app.ini")]
        with open(place / "log", "wb") as log:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(place / "s", server)
            for start in range(0, times, BATCH):
                ask(place / "s", server, [variables(number) for number in range(start, start + BATCH)])
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(START_SECONDS)
        if server.returncode:
            raise RuntimeError((place / "log").read_text(errors="replace"))
        return sum(own(file.read_text()) for file in place.glob("callgrind.*"))


def wait_for(path: Path, server: subprocess.Popen):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            return probe.connect(str(path))
        time.sleep(0.1)
    raise RuntimeError(f"the worker does not listen: {(path.parent / 'log').read_text(errors='replace')}")


def ask(path: Path, server: subprocess.Popen, requests: list[dict[str, str]]):
    """All at once, while the worker stands still: so it never waits for one, and does the same in each run."""
    server.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as clients:
        asked = []
        for variables in requests:
            block = b"".join(struct.pack("<H", len(text)) + text.encode() for pair in variables.items() for text in pair)
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(START_SECONDS)
            client.connect(str(path))
            client.sendall(struct.pack("<BHB", 0, len(block), 0) + block)
            asked.append(client)
        server.send_signal(signal.SIGCONT)
        for client in asked:
            answer = b"".join(iter(lambda: client.recv(4096), b""))
            if not answer.endswith(b"\r\n\r\nhello"):
                raise RuntimeError(f"answered with {answer!r}")


def own(profile: str) -> int:
    """The self cost of the extension's functions in a file of callgrind's."""
    names, inside, called, total = {}, False, False, 0
    for line in profile.splitlines():
        if found := re.match(r"ob=\((\d+)\)(?: (.*))?", line):
            names.setdefault(found[1], found[2])
            inside = (names[found[1]] or "").endswith(EXTENSION)
        elif found := re.match(r"cob=\((\d+)\)(?: (.*))?", line):
            names.setdefault(found[1], found[2])
        elif line.startswith("calls="):
            # The next line is what the callee took.
            called = True
        elif cost := re.match(r"[+*\d-]\S* (\d+)$", line):
            total += int(cost[1]) if inside and not called else 0
            called = False
    return total
