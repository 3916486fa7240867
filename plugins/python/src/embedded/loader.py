"""Finds and loads apps, and says in one block why one could not be loaded."""

import os
import sys
import time
import types

COROUTINE = 0x80  # inspect.CO_COROUTINE
IMPORTABLE = (types.FunctionType, types.BuiltinFunctionType)


class Failure(Exception):
    """An app cannot be loaded for a reason that needs no traceback."""

    def __init__(self, *lines):
        super().__init__(lines[0])
        self.lines = lines


class Refused(Failure):
    """What was found is no WSGI app."""


class Loader:
    """Loads what the configuration names; `apps` are (mount point, callable, seconds) in the order of their numbers."""

    def __init__(self, python, origins, limit, say):
        self.python, self.origins, self.limit, self.say = python, origins, limit, say
        self.apps, self.failures, self.exit = [], [], None
        self.callable = python["callable"] or "application"

    # -- the start

    def imports(self, options):
        """`shared-import`, `import`: a broken one is reported, and the start goes on."""
        for text in options:
            try:
                self.import_one(text)
            except SystemExit as end:
                self.exit = end
                return
            except BaseException:
                self.say(formatted() + f"unable to import {text!r}\n")

    def import_one(self, text):
        if text.endswith(".py") or os.path.isdir(text) or "/" in text:
            load_file(text, module_name(text))
        else:
            __import__(text)

    def everything(self):
        """All that is configured, in the order of uWSGI: module, wsgi-file, eval, mounts."""
        python = self.python
        if python["module"]:
            self.attempt("module", python["module"], "", lambda: self.from_module(python["module"], True))
        if python["wsgi_file"]:
            self.attempt("wsgi-file", python["wsgi_file"], "", lambda: self.from_file(python["wsgi_file"]))
        if python["eval"]:
            self.attempt("eval", python["eval"], "", lambda: self.from_text(python["eval"]))
        for number, mount in enumerate(python["mounts"]):
            point, found, what = mount.partition("=")
            load = (lambda what=what: self.from_mount(what)) if found else (lambda: fail("write /path=file.py or /path=module:name"))
            self.attempt("mount", mount, point if found else "", load, number)
        self.from_uwsgi_module()

    def attempt(self, option, value, mountpoint, load, number=0):
        """Loads one app; what goes wrong is logged and remembered."""
        if self.exit is not None:
            return
        started = time.monotonic()
        try:
            for point, app in load().items():
                self.add(point or mountpoint, app, time.monotonic() - started)
        except SystemExit as end:
            self.exit = end
            self.say(f"the app called sys.exit({end.code!r}) while it was loaded ({self.where(option, value, number)})\n")
        except BaseException as error:
            self.report(option, value, mountpoint, number, error)

    def add(self, mountpoint, app, seconds):
        if any(point == mountpoint for point, _, _ in self.apps):
            self.say(f"mount point {mountpoint!r} is given twice: the first app keeps it\n")
        elif len(self.apps) >= self.limit:
            self.say(f"max-apps = {self.limit}: no app is loaded for mount point {mountpoint!r}\n")
        else:
            self.say(f"WSGI app {len(self.apps)} (mountpoint='{mountpoint}') ready in {int(seconds)} seconds on interpreter 0x{id(sys):x} "
                     f"pid: {os.getpid()}{'' if self.apps else ' (default app)'}\n")
            self.apps.append((mountpoint, app, int(seconds)))

    # -- the sources; each gives {mount point or "": callable}

    def from_module(self, text, tables=False):
        name, colon, attribute = text.partition(":")
        module = import_named(name)
        if tables and not colon and isinstance(getattr(module, "applications", None), dict):
            return self.from_table(module.applications, module)
        return {"": take(module, attribute or self.callable, "module")}

    def from_file(self, path):
        module = load_file(path, "uwsgi_file_" + module_name(path))
        if isinstance(getattr(module, "applications", None), dict):
            return self.from_table(module.applications, module)
        return {"": take(module, self.callable, "file")}

    def from_text(self, text):
        module = types.ModuleType("uwsgi_eval")
        sys.modules["uwsgi_eval"] = module
        exec(compile(text, "<eval>", "exec"), module.__dict__)
        return {"": take(module, self.callable, "code")}

    def from_mount(self, what):
        if what.endswith(".ini") or what.startswith(("config:", "asgi:")):
            fail(f"{what}: apps of this kind are not built into this version yet; name a file or module:callable")
        if what.endswith((".py", ".wsgi")) or "/" in what or os.path.isfile(what):
            return self.from_file(what)
        return self.from_module(what)

    def from_uwsgi_module(self):
        """`uwsgi.applications`, which any of the modules may have set."""
        table = getattr(sys.modules["uwsgi"], "applications", None)
        if isinstance(table, dict):
            self.attempt("uwsgi.applications", "", "", lambda: self.from_table(table, None))

    def from_table(self, table, module):
        apps = {}
        for point, app in table.items():
            point = point.decode() if isinstance(point, bytes) else point
            app = app.decode() if isinstance(app, bytes) else app
            apps[point] = take(module, app, "module") if isinstance(app, str) else accept(app, f"applications[{point!r}]")
        return apps

    def dynamic(self, script, module, file, attribute):
        """An app that the request names. Raises what goes wrong."""
        if script:
            return self.from_module(script)[""]
        if module:
            return self.from_module(module if ":" in module else f"{module}:{attribute or self.callable}")[""]
        return take(load_file(file, "uwsgi_file_" + module_name(file)), attribute or self.callable, "file")

    # -- what went wrong

    def where(self, option, value, number=0):
        places = self.origins.get(option, ())
        place = f" ({places[number]})" if number < len(places) else ""
        return f"{option} = {value}{place}" if value else option

    def report(self, option, value, mountpoint, number, error):
        lines = error.lines if isinstance(error, Failure) else [f"{type(error).__name__}: {error}"]
        block = "" if isinstance(error, Failure) else formatted()
        block += f"unable to load app {len(self.apps)} (mountpoint='{mountpoint}') (callable not found or import error)\n"
        block += f"  option: {self.where(option, value, number)}\n" + f"  cause:  {lines[0]}\n" + "".join(f"          {line}\n" for line in lines[1:])
        self.say(block)
        self.failures.append(f"{self.where(option, value, number)}: {lines[0]}")


def fail(*lines):
    raise Failure(*lines)


def formatted():
    """The current exception as Python prints it, without the frames of this file and of importlib."""
    kind, error, trace = sys.exc_info()
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, "<frozen importlib._bootstrap>"):
        trace = trace.tb_next
    try:
        import traceback
        return "".join(traceback.format_exception(kind, error, trace))
    except Exception:  # the app has a file of that name
        return f"{kind.__name__}: {error}\n"


def module_name(path):
    """The name that a file is known under: `dir/second.py` is dir_second."""
    if path.endswith(".py"):
        path = path[:-3]
    return path.replace("/", "_").replace(".", "_")


def import_named(name):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise Failure(f"ModuleNotFoundError: No module named {error.name!r}", "searched in sys.path:", *sys.path) from None
        raise
    return sys.modules[name]


def load_file(path, name):
    """Compiles and runs a file under a module name; a directory is a package."""
    package = os.path.isdir(path)
    file = os.path.join(path, "__init__.py") if package else path
    try:
        with open(file, "rb") as source:
            text = source.read()
    except FileNotFoundError:
        raise Failure(f"file not found: {file} (the working directory is {os.getcwd()})") from None
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
    module = types.ModuleType(name)
    module.__file__ = file
    if package:
        module.__path__, module.__package__ = [path], name
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def take(module, text, kind):
    """The attribute `text` of `module`; written as a call, what it returns."""
    name = text[:-2] if text.endswith("()") else text
    value = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise Failure(f"the {kind} has no attribute {name!r}", f"callables that are there: {', '.join(callables(module)) or 'none'}")
        value = getattr(value, part)
    if text.endswith("()"):
        value = value()
    return accept(value, text)


def callables(module):
    """Candidates to show: what is callable and public, without classes and functions that only were imported."""
    own = (None, module.__name__)
    return sorted(name for name, value in vars(module).items() if callable(value) and not name.startswith("_") and not isinstance(value, type)
                  and (not isinstance(value, IMPORTABLE) or getattr(value, "__module__", None) in own))


def accept(value, name):
    if not callable(value):
        raise Refused(f"{name!r} is not callable: it is a {type(value).__name__}")
    if is_asgi(value):
        raise Refused(f"{name!r} is an ASGI app, and this option takes a WSGI one: use asgi = MODULE:NAME (not built into this version yet)")
    return value


def is_asgi(value):
    while hasattr(value, "func") and hasattr(value, "keywords"):  # functools.partial
        value = value.func
    for candidate in (value, getattr(type(value), "__call__", None)):
        code = getattr(getattr(candidate, "__func__", candidate), "__code__", None)
        if code is not None and code.co_flags & COROUTINE:
            return True
    return False
