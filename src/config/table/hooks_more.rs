//! Hooks of processes that are not there yet, and calls of C symbols.

use super::{Row, later, list, refused};

const SYMBOL: &str = "there is no C to call into: use hook-PHASE = exec:COMMAND, or the app";

const CALL: &str = "call a C symbol at that point";

const AS_VASSAL: &str = "use `hook-as-vassal`";

pub const OPTIONS: &[Row] = &[
    list("hook-as-mule", &[], "ACTION:ARGS in each mule", later("there are no mules")),
    list("hook-as-gateway", &[], "ACTION:ARGS in each router", later("there are no routers")),
    list("hook-as-on-demand-vassal", &[], "ACTION:ARGS in an on-demand vassal before it is executed", refused(AS_VASSAL)),
    list("hook-as-on-config-vassal", &[], "ACTION:ARGS in a vassal that gets its configuration by a pipe", refused(AS_VASSAL)),
    list(
        "hook-as-vassal-before-drop",
        &[],
        "ACTION:ARGS in the vassal before it drops privileges",
        refused("use `hook-as-root` in the vassal"),
    ),
    list("hook-as-emperor-before-vassal", &[], "ACTION:ARGS in the emperor before a vassal is started", refused("use `hook-as-emperor`")),
    list(
        "hook-as-emperor-setns",
        &[],
        "ACTION:ARGS in the emperor, in the vassal's namespaces",
        refused("use `hook-as-emperor` with nsenter"),
    ),
    list(
        "after-request-hook",
        &["after-request-call"],
        "call a function after each request",
        later("use middleware, or close() of the body"),
    ),
    list("call-asap", &[], CALL, later(SYMBOL)),
    list("call-pre-jail", &[], CALL, later(SYMBOL)),
    list("call-post-jail", &[], CALL, later(SYMBOL)),
    list("call-in-jail", &[], CALL, later(SYMBOL)),
    list("call-as-root", &[], CALL, later(SYMBOL)),
    list("call-as-user", &[], CALL, later(SYMBOL)),
    list("call-as-user-atexit", &[], CALL, later(SYMBOL)),
    list("call-pre-app", &[], CALL, later(SYMBOL)),
    list("call-post-app", &[], CALL, later(SYMBOL)),
    list("call-as-vassal", &[], CALL, later(SYMBOL)),
    list("call-as-vassal1", &[], CALL, later(SYMBOL)),
    list("call-as-vassal3", &[], CALL, later(SYMBOL)),
    list("call-as-emperor", &[], CALL, later(SYMBOL)),
    list("call-as-emperor1", &[], CALL, later(SYMBOL)),
    list("call-as-emperor2", &[], CALL, later(SYMBOL)),
    list("call-as-emperor4", &[], CALL, later(SYMBOL)),
];
