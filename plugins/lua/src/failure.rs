//! Errors of Lua code as the log says them.

use mlua::{Error, Value};

/// `app.lua:3: boom`, and the traceback below it.
pub fn text(error: &Error) -> String {
    match error {
        Error::RuntimeError(message) | Error::MemoryError(message) => message.clone(),
        Error::SyntaxError { message, .. } => message.clone(),
        Error::CallbackError { traceback, cause } => format!("{}\n{traceback}", text(cause)),
        Error::BadArgument { cause, .. } => text(cause),
        other => other.to_string(),
    }
}

/// Whether it is the error of a coroutine that is resumed after its end, and of nothing else.
pub fn is_dead_coroutine(message: &str) -> bool {
    message.lines().next().is_some_and(|line| line.ends_with("cannot resume dead coroutine"))
}

/// The type of a value as Lua's own `type` says it.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        other => other.type_name(),
    }
}
