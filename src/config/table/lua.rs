//! Lua apps.

use super::{Spec, flag, int, later, list, refused, text};

const LUA: &str = "Lua comes in a later release: keep such vassals on uWSGI until then";

pub static OPTIONS: &[Spec] = &[
    text("lua", &[], "the WSAPI app", refused(LUA)),
    list("lua-load", &[], "a file to run before the app", refused(LUA)),
    list("lua-postload", &[], "a file to run after the app", later(LUA)),
    list("lua-postfork-worker", &[], "a file to run in each worker", later(LUA)),
    list("lua-postfork-mule", &[], "a file to run in each mule", later(LUA)),
    list("lua-postfork-spooler", &[], "a file to run in each spooler", later(LUA)),
    flag("lua-shell", &["luashell"], "an interactive interpreter", later(LUA)),
    flag("lua-shell-oneshot", &["luashell-oneshot"], "as lua-shell, once", later(LUA)),
    int("lua-gc-freq", &[], "requests between collections", later(LUA)),
    flag("lua-gc-full", &[], "collect everything at a time", later(LUA)),
];
