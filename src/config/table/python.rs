//! Python apps.

use imperator_worker::settings::Settings;

use super::{Kind, Row, Status, add_text, flag, int, later, list, maybe_text, no_effect, refused, set_flag, set_number, set_text, text};
use crate::config::values;

const GEVENT: &str = "use `threads`; blocking calls of other threads do not wait for each other";
const ASGI: &str = "serve the app by WSGI, or by an ASGI server until it is here";
const PASTE: &str = "make a module that loads the app and name it by `module`";

pub const OPTIONS: &[Row] = &[
    text("module", &["wsgi"], "MODULE[:CALLABLE] to import", set_text!(python.module)).short('w'),
    text("wsgi-file", &["file"], "the file that has the app", set_text!(python.wsgi_file)),
    text("callable", &[], "the app's name in it (application)", set_text!(python.callable)),
    text("eval", &[], "Python code that defines the app", set_text!(python.eval)),
    list("mount", &["worker-mount"], "/PATH=APP: an app below a path; a .lua file is a Lua app", Status::Done(mount)),
    text("home", &["virtualenv", "venv", "pyhome"], "the virtual environment", set_text!(python.home)).short('H'),
    text("python-bin", &[], "the interpreter: a path, or a version such as 3.12", set_text!(python.bin)),
    list(
        "pythonpath",
        &["python-path", "pp", "early-pythonpath", "early-python-path"],
        "a directory for sys.path",
        add_text!(python.pythonpath),
    ),
    list("import", &["pyimport", "py-import", "python-import"], "a module to import in each worker", add_text!(python.import)),
    list(
        "shared-import",
        &["shared-pyimport", "shared-py-import", "shared-python-import"],
        "a module to import before the fork",
        add_text!(python.shared_import),
    ),
    list("early-pyimport", &["early-python-import"], "a module to import before anything else", add_text!(python.shared_import)),
    list(
        "spooler-import",
        &["spooler-pyimport", "spooler-py-import", "spooler-python-import"],
        "a module for spoolers",
        later("there are no spoolers"),
    ),
    text("pyargv", &[], "sys.argv of the app", set_text!(python.pyargv)),
    text("py-executable", &["py-sys-executable"], "sys.executable of the app", set_text!(python.executable)),
    text("py-programname", &["py-program-name"], "the interpreter's name for itself", no_effect("it is the user's own interpreter")),
    int("optimize", &[], "as python -O (1) and -OO (2)", Status::Done(optimize)).short('O'),
    flag("no-site", &[], "as python -S", set_flag!(python.no_site)),
    list("pymodule-alias", &[], "NAME=MODULE: another module under a name", add_text!(python.pymodule_alias)),
    list("post-pymodule-alias", &[], "as pymodule-alias, after the app is loaded", add_text!(python.post_pymodule_alias)),
    text("pyrun", &["py", "python"], "run this script instead of serving", set_text!(python.pyrun)),
    text("python-worker-override", &[], "run this script in the workers instead of serving", set_text!(python.worker_override)),
    text(
        "wsgi-env-behaviour",
        &["wsgi-env-behavior"],
        "cheat or holy: every request has its own environ either way",
        Status::Done(env_behaviour),
    ),
    flag("wsgi-accept-buffer", &["wsgi-accept-buffers"], "bytearray and memoryview may be sent", set_flag!(python.accept_buffer)),
    flag("wsgi-strict", &[], "a bytes object is no body", set_flag!(python.strict)),
    flag("start_response-nodelay", &[], "send headers at start_response", set_flag!(python.start_response_nodelay)),
    flag("wsgi-disable-file-wrapper", &[], "no wsgi.file_wrapper", set_flag!(python.disable_file_wrapper)),
    flag("wsgi-manage-chunked-input", &[], "wsgi.input reads chunked bodies", no_effect("it always does")),
    int(
        "py-auto-reload",
        &["py-autoreload", "python-auto-reload", "python-autoreload"],
        "reload when a module changed; look every so many seconds (development)",
        set_number!(python.autoreload),
    )
    .with_master(),
    list("py-auto-reload-ignore", &[], "a module not to look at", add_text!(python.autoreload_ignore)),
    text("py-tracebacker", &[], "prefix of sockets that tell where the workers are", set_text!(python.tracebacker)),
    flag("reload-os-env", &[], "os.environ sees what was set late", no_effect("os.environ is complete when the interpreter starts")),
    text("test", &[], "import this module and end", later("run `python -c 'import MODULE'` of the same interpreter")).short('J'),
    flag(
        "single-interpreter",
        &[],
        "one interpreter a process, as it always is: the start does not mention that several apps share it",
        set_flag!(python.single_interpreter),
    )
    .short('i'),
    flag("py-call-osafterfork", &[], "run Python's at-fork hooks", no_effect("they always run")),
    flag("py-call-uwsgi-fork-hooks", &[], "run uwsgidecorators' fork hooks", no_effect("they always run")),
    flag("py-master-check-signals", &[], "the master runs Python's signal handlers", no_effect("the master has no Python")),
    flag("early-python", &[], "start Python before privileges are dropped", no_effect("no Python code runs before privileges are dropped")),
    flag("python-version", &[], "print Python's version", later("run `python3 --version`")),
    text("asgi", &[], "MODULE:APP of an ASGI app", refused(ASGI)),
    text("asgi-file", &[], "the file that has the ASGI app", refused(ASGI)),
    text("asgi-lifespan", &[], "auto, on or off", later(ASGI)),
    text("asgi-loop", &[], "auto, asyncio or uvloop", later(ASGI)),
    int("asgi-concurrency", &[], "requests in flight in a loop", later(ASGI)),
    int("asgi-ws-max-size", &[], "bytes of a WebSocket message", later(ASGI)),
    int("asgi-ws-ping", &[], "seconds between pings", later(ASGI)),
    int("gevent", &[], "requests that a worker serves at a time, each in a greenlet", later(GEVENT)),
    flag("gevent-monkey-patch", &[], "patch the standard library after loading", later(GEVENT)),
    flag("gevent-early-monkey-patch", &[], "patch the standard library before loading", later(GEVENT)),
    flag("gevent-wait-for-hub", &[], "wait for greenlets at the end", later(GEVENT)),
    int("asyncio", &[], "greenlets over asyncio", later(GEVENT)),
    int("tornado", &[], "requests over Tornado's loop", later(GEVENT)),
    flag("greenlet", &[], "coroutines by greenlets", later(GEVENT)),
    flag("stackless", &[], "coroutines by Stackless Python", later(GEVENT)),
    text("paste", &[], "load an app by PasteDeploy", refused(PASTE)),
    flag("paste-logger", &[], "set logging up from its file", later(PASTE)),
    text("paste-name", &[], "the app's name in it", later(PASTE)),
    list("ini-paste", &[], "as paste, and read [uwsgi] of the same file", refused(PASTE)),
    list("ini-paste-logged", &[], "as ini-paste, with logging", refused(PASTE)),
    text("pecan", &[], "load a Pecan app", refused(PASTE)),
    text("web3", &[], "load a Web3 app", refused("serve it by WSGI")),
    text("pump", &[], "load a pump app", refused("serve it by WSGI")),
    text("wsgi-lite", &[], "load a WSGI Lite app", refused("serve it by WSGI")),
    text("python-raw", &[], "a function for raw connections", refused("use `socket` or `http-socket`")),
    maybe_text("pyshell", &[], "an interactive interpreter in a worker", later("run the interpreter of `home`")),
    Row::new(Kind::OptionalText, "pyshell-oneshot", &[], "as pyshell, once", later("run the interpreter of `home`")),
    list("py-sharedarea", &[], "a shared area from Python", later("use multiprocessing.shared_memory")),
];

/// An app of either language, told apart by the file's name.
fn mount(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let lua = value.is_some_and(imperator_worker::settings::is_lua_mount);
    let mounts = if lua { &mut settings.lua.mounts } else { &mut settings.python.mounts };
    mounts.extend(values::text(value)?);
    Ok(())
}

fn optimize(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.python.optimize = values::number::<u64>(value)?.min(2) as u8;
    Ok(())
}

/// Each request has an environ of its own whatever it says; what uWSGI refuses is refused.
fn env_behaviour(_: &mut Settings, value: Option<&str>) -> Result<(), String> {
    match value.unwrap_or("") {
        "cheat" | "holy" => Ok(()),
        other => Err(format!("`{other}` is neither cheat nor holy")),
    }
}
