"""What surrounds the app in its interpreter: streams, arguments, import paths, aliases."""

import _signal as signal  # without the enums, which not every app wants
import faulthandler
import gc
import io
import os
import sys


def streams():
    """stdout and stderr are one line-buffered stream on descriptor 2, so that print() is in the log at once."""
    stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)), "utf-8", "backslashreplace", line_buffering=True)
    for old in (sys.stdout, sys.stderr):
        if old is not None:
            old.flush()
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = stream
    faulthandler.enable(2, all_threads=True)
    stacks_on_signal()


def arguments(python, script=None):
    sys.argv[:] = [script or "uwsgi", *(python["pyargv"] or "").split()]
    if python["executable"]:
        sys.executable = python["executable"]


def paths(python):
    """The directory of loading, and before it the `pythonpath`s, the last one first. Absolute, so that a later chdir changes nothing."""
    found = [os.path.abspath(path) for pattern in python["pythonpath"] for path in matching(pattern)]
    sys.path[:0] = [*reversed(found), os.getcwd()]


def matching(pattern):
    """What a pattern names; itself, if it names nothing."""
    if not any(character in pattern for character in "*?["):
        return [pattern]
    import glob
    return sorted(glob.glob(pattern)) or [pattern]


def alias(text, load_file):
    """`name=module` or `name=/a/path.py`: another name in sys.modules."""
    name, found, target = text.partition("=")
    if not found:
        raise ValueError(f"pymodule-alias = {text}: write NAME=MODULE or NAME=/path/file.py")
    if "/" in target:
        load_file(target, name)
    else:
        __import__(target)
        sys.modules[name] = sys.modules[target]


def plain_signals():
    """Signals as in any Python program (worker-override scripts)."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_as_main(path):
    """Runs a script as `__main__`. Returns its exit code."""
    import runpy
    import traceback
    try:
        runpy.run_path(path, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = exit_code(end)
    except BaseException:
        traceback.print_exc()
        code = 1
    run_exit_functions()
    return code


def exit_code(end):
    """The number that Python would end with; a text is printed."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def settle():
    """What was loaded is there to stay: collections leave it out, and do not write to its pages, which the workers share."""
    import threading  # each worker names its threads: better one copy of the module than many
    gc.collect()
    gc.freeze()


def run_exit_functions():
    import atexit
    atexit._run_exitfuncs()
    sys.stdout.flush()


def name_thread(worker, core):
    import threading
    threading.current_thread().name = f"uWSGIWorker{worker}Core{core}"


def live_threads():
    """Names of threads that a fork would lose."""
    threading = sys.modules.get("threading")
    return [t.name for t in threading.enumerate() if t is not threading.current_thread()] if threading else []


def reseed():
    """Workers must not draw the same numbers although they are copies of one process."""
    if "random" in sys.modules:
        sys.modules["random"].seed()


def stacks_on_signal():
    """SIGUSR2 writes the stacks of all threads to the log, from within the C handler: also of a thread that is stuck."""
    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.register(signal.SIGUSR2, 2, all_threads=True, chain=False)
