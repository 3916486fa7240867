"""Helpers for development: stacks over a socket, reload on a changed module, the page with the traceback."""

import linecache
import os
import socket
import sys
import threading
import traceback


def start_thread(name, run, *arguments):
    threading.Thread(target=run, args=arguments, name=name, daemon=True).start()


# -- py-tracebacker

def tracebacker(prefix, worker):
    path = f"{prefix}{worker}"
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    start_thread("uWSGITraceBacker", serve_stacks, listener)


def serve_stacks(listener):
    while True:
        peer, _ = listener.accept()
        try:
            with peer:
                peer.sendall(b"*** uWSGI Python tracebacker output ***\n\n" + stacks().encode("utf-8", "replace"))
        except OSError:
            pass  # the one who asked has left


def stacks():
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    mine = threading.get_ident()
    return "".join("".join(lines(names.get(ident, str(ident)), frame)) + "\n" for ident, frame in sys._current_frames().items() if ident != mine)


def lines(name, frame):
    for found, number in traceback.walk_stack(frame):
        code = found.f_code
        text = linecache.getline(code.co_filename, number, found.f_globals).strip()
        yield f"thread_id = {name} filename = {code.co_filename} lineno = {number} function = {code.co_name} line = {text}\n"


# -- py-autoreload

class Watched:
    """Files of modules with the times they had when they were first seen."""

    def __init__(self, ignored):
        self.ignored, self.times = set(ignored), {}
        self.changed()

    def changed(self):
        """Modules whose files are other than at the last look."""
        found = []
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if name in self.ignored or not isinstance(path, str):
                continue
            try:
                time = os.stat(path).st_mtime_ns
            except OSError:
                continue
            if self.times.setdefault(path, time) != time:
                self.times[path] = time
                found.append(name)
        return found

    def directories(self):
        return {os.path.dirname(path) or "." for path in self.times}


def autoreload(watched, watch, seconds, reload, say):
    """`watch` waits for a change in directories, at most `seconds`, so that modules that are imported later are seen, too."""
    def run():
        while True:
            watch(sorted(watched.directories()), seconds)
            names = watched.changed()
            if names:
                say(f"[uwsgi-python-reloader] module/file {', '.join(names)} has been modified\n")
                reload()
    start_thread("uWSGIAutoReloader", run)


# -- catch-exceptions

def page(environ, error):
    kind = type(error)
    out = [f'uWSGI exceptions catcher for "{environ.get("REQUEST_METHOD", "")} {environ.get("REQUEST_URI", "")}" (request plugin: "python", modifier1: 0)',
           "", f"Exception: {kind.__module__}.{kind.__name__}: {error}", "", f"Exception class: {kind.__name__}", "", f"Exception message: {error}", "", "Backtrace:"]
    for frame in traceback.extract_tb(error.__traceback__):
        out.append(f'  filename: "{frame.filename}" line: {frame.lineno} function: "{frame.name}" text/code: "{frame.line}"')
    out += ["", "Environ:"] + [f"  {key} = {value if isinstance(value, str) else repr(value)}" for key, value in environ.items()]
    return "\n".join(out + [""]).encode("utf-8", "backslashreplace")
