//! Lua apps.

use super::{Row, add_text, flag, int, later, list, megabytes, set_flag, set_number, set_text, text};

const NO_FORK_FILES: &str = "put it into the app's file or a lua-load file: uwsgi.worker_id() tells the worker";

pub const OPTIONS: &[Row] = &[
    text("lua", &[], "the WSAPI app: a file that returns a function, or a table with one as `run`", set_text!(lua.app)),
    list("lua-load", &[], "a file to run in each Lua state before the app", add_text!(lua.load)),
    list("lua-postload", &[], "a file to run after the app", later("lua-load runs files before the app")),
    list("lua-postfork-worker", &[], "a file to run in each worker", later(NO_FORK_FILES)),
    list("lua-postfork-mule", &[], "a file to run in each mule", later(NO_FORK_FILES)),
    list("lua-postfork-spooler", &[], "a file to run in each spooler", later(NO_FORK_FILES)),
    flag("lua-shell", &["luashell"], "worker 1 runs debug.debug() on standard input, then serves", set_flag!(lua.shell)),
    flag("lua-shell-oneshot", &["luashell-oneshot"], "as lua-shell, once", later("lua-shell")),
    int("lua-gc-freq", &[], "collect garbage after every Nth request of a core (0: after each)", set_number!(lua.gc_freq)),
    flag("lua-gc-full", &[], "collect everything at a time", later("every collection is a full one: lua-gc-freq")),
    megabytes(
        "lua-memory-limit",
        &[],
        "what a Lua state may hold; a request that wants more is answered by 500",
        set_number!(lua.memory_limit_mib),
    ),
    int(
        "lua-autoreload",
        &[],
        "run changed Lua files from the next request on; seconds between looks at the files",
        set_number!(lua.autoreload),
    ),
];
