"""Servers under test: each started in a folder of its own, with the same Python, app file and width (2 workers)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sidebyside import ROOT

APPS = ROOT / "benches/apps"
FILES = APPS / "files"
DJANGO = ROOT / "tests/fixtures/django"
WORKERS = 2
BACKLOG = 1024
START_SECONDS = 20


@dataclass(frozen=True)
class Places:
    """Where programs are."""

    release: Path
    venv: Path


@dataclass(frozen=True)
class Running:
    address: str
    pid: int


@dataclass(frozen=True)
class Server:
    """`app`: a file of benches/apps, or `django`. `threads`: request threads a worker."""

    app: str
    threads: int = 1
    lines: tuple[str, ...] = ()
    nginx: bool = False
    workers: int = WORKERS
    """Of servers that read an ini; the others have `WORKERS`."""

    name = ""

    def command(self, places: Places, folder: Path, port: int) -> list[str]:
        raise NotImplementedError

    def listens_on(self, folder: Path, port: int) -> str:
        return f"127.0.0.1:{port}"

    @contextlib.contextmanager
    def running(self, places: Places) -> Iterator[Running]:
        with tempfile.TemporaryDirectory(prefix="sidebyside-") as name, contextlib.ExitStack() as stack:
            folder, port = Path(name), free_port()
            if self.app == "django":
                shutil.copytree(DJANGO, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif not isinstance(self, Floor):
                shutil.copy(APPS / self.app, folder / f"app{Path(self.app).suffix}")
            address = self.listens_on(folder, port)
            pid = stack.enter_context(process(self.command(places, folder, port), folder, self.name, address))
            if self.nginx:
                front = f"127.0.0.1:{free_port()}"
                (folder / "nginx.conf").write_text(nginx_configuration(folder, front, address))
                command = [nginx_binary(), "-p", name, "-c", f"{name}/nginx.conf", "-g", "daemon off;"]
                stack.enter_context(process(command, folder, "nginx", front))
                address = front
            yield Running(address, pid)


@dataclass(frozen=True)
class Ini(Server):
    """uWSGI, and what takes its configuration."""

    def program(self, places: Places) -> Path:
        raise NotImplementedError

    def listens_on(self, folder: Path, port: int) -> str:
        return f"{folder}/s.sock" if any("s.sock" in line for line in self.lines) else super().listens_on(folder, port)

    def command(self, places: Places, folder: Path, port: int) -> list[str]:
        app = "module = site1.wsgi" if self.app == "django" else "lua = {dir}/app.lua" if self.app.endswith(".lua") else "wsgi-file = {dir}/app.py"
        threads = [f"threads = {self.threads}"] if self.threads > 1 else []
        lines = ["[uwsgi]", "master = true", f"home = {places.venv}", "chdir = {dir}", app, f"processes = {self.workers}", *threads, f"listen = {BACKLOG}", *self.lines]
        text = "\n".join(lines).replace("{dir}", str(folder)).replace("{port}", str(port))
        (folder / "app.ini").write_text(text + "\n")
        return [str(self.program(places)), "--ini", f"{folder}/app.ini"]


@dataclass(frozen=True)
class Imperator(Ini):
    name = "Imperator"

    def program(self, places: Places) -> Path:
        return places.release / "imperator"


@dataclass(frozen=True)
class Uwsgi(Ini):
    name = "uWSGI"

    def program(self, places: Places) -> Path:
        return places.venv / "bin/uwsgi"


@dataclass(frozen=True)
class UwsgiLua(Uwsgi):
    """Debian's, with its plugin for Lua 5.1: pip's has no Lua, and Debian's plugin for LuaJIT does not load (an undefined symbol)."""

    def program(self, places: Places) -> Path:
        return Path("/usr/bin/uwsgi")


@dataclass(frozen=True)
class Granian(Server):
    """HTTP/1 only and no WebSockets, as the others; one blocking thread a worker is its own choice for WSGI."""

    name = "Granian"

    def command(self, places: Places, folder: Path, port: int) -> list[str]:
        options = f"--interface wsgi --http 1 --no-ws --workers {WORKERS} --blocking-threads {self.threads} --backlog {BACKLOG} --log-level warning"
        return [str(places.venv / "bin/granian"), *options.split(), "--host", "127.0.0.1", "--port", str(port), "app:application"]


@dataclass(frozen=True)
class Gunicorn(Server):
    name = "Gunicorn"

    def command(self, places: Places, folder: Path, port: int) -> list[str]:
        options = f"--worker-class gthread --workers {WORKERS} --threads {self.threads} --backlog {BACKLOG} --keep-alive 75 --log-level warning --no-control-socket"
        return [str(places.venv / "bin/gunicorn"), *options.split(), "--bind", f"127.0.0.1:{port}", "app:application"]


@dataclass(frozen=True)
class Nginx(Server):
    """Serves the files itself, set up as Debian does; the app is nobody's."""

    name = "nginx"

    def command(self, places: Places, folder: Path, port: int) -> list[str]:
        (folder / "nginx.conf").write_text(nginx_outside(folder, f"127.0.0.1:{port}", WORKERS, f"sendfile on; tcp_nopush on; location /s/ {{ alias {FILES}/; }}"))
        return [nginx_binary(), "-p", str(folder), "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]


@dataclass(frozen=True)
class Floor(Server):
    """The system calls of a request and nothing else (benches/load/src/bin/imperator-floor.rs): `app` is whether it closes or keeps its connections."""

    name = "the floor"
    length: int = 11

    def listens_on(self, folder: Path, port: int) -> str:
        return f"{folder}/s.sock" if any("s.sock" in line for line in self.lines) else super().listens_on(folder, port)

    def command(self, places: Places, folder: Path, port: int) -> list[str]:
        log = [f"{folder}/floor.lines"] if any("logto" in line for line in self.lines) else []
        return [str(places.release / "imperator-floor"), self.app, str(self.length), self.listens_on(folder, port), *log]


@contextlib.contextmanager
def process(command: list[str], folder: Path, name: str, address: str) -> Iterator[int]:
    """A server from when it listens until it is ended, with all that it started."""
    log = folder / f"{name}.log"
    environment = {**os.environ, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    with open(log, "wb") as output:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(address, started, log)
        yield started.pid
    finally:
        started.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def wait_for(address: str, server: subprocess.Popen, log: Path):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"{server.args[0]} ended:\n{log.read_text(errors='replace')}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX if "/" in address else socket.AF_INET) as s:
            s.connect(address if "/" in address else ("127.0.0.1", int(address.rpartition(":")[2])))
            return
        time.sleep(0.05)
    raise RuntimeError(f"{server.args[0]} does not listen on {address}:\n{log.read_text(errors='replace')}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def nginx_binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise RuntimeError("nginx is not installed (scripts/setup.sh bench)")
    return found


def nginx_configuration(folder: Path, front: str, backend: str) -> str:
    names = "QUERY_STRING REQUEST_METHOD CONTENT_TYPE CONTENT_LENGTH REQUEST_URI DOCUMENT_ROOT SERVER_PROTOCOL REMOTE_ADDR REMOTE_PORT SERVER_PORT SERVER_NAME"
    params = "".join(f"uwsgi_param {name} ${name.lower()}; " for name in names.split())
    return nginx_outside(folder, front, 1, f"location / {{ {params} uwsgi_param PATH_INFO $document_uri; uwsgi_param REQUEST_SCHEME $scheme; uwsgi_pass unix:{backend}; }}")


def nginx_outside(folder: Path, front: str, workers: int, locations: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    mime = "include /etc/nginx/mime.types;" if Path("/etc/nginx/mime.types").exists() else ""
    return f"""{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
    {mime}
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen {front};
        {locations}
    }}
}}
"""
