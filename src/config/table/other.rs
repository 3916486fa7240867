//! What fits nowhere else.

use super::{Row, flag, later, list, no_effect};

pub const OPTIONS: &[Row] = &[
    list("file-write", &[], "FILE=TEXT: write a file at the start", later("use `hook-asap = write:FILE TEXT`")),
    list("binsh", &[], "the shell for commands", no_effect("commands run by /bin/sh")),
    flag("pcre-jit", &[], "compile expressions", no_effect("expressions are always compiled, in linear time")),
    flag("shutdown-sockets", &[], "shut connections down at the end", no_effect("connections are always ended in order")),
];
