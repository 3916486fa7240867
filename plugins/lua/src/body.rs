//! The body of an answer: whatever an app returns for one, sent part by part.

use imperator_worker::language::NoLock;
use imperator_worker::request::WriteError;
use mlua::thread::ThreadStatus;
use mlua::{Function, Lua, LuaString, Table, Thread, Value};

use crate::answer::Trouble;
use crate::{current, failure};

/// Tells what a function is, from `debug`'s own functions as they are before an app can change them.
const KIND: &str = "\
local info, upvalue, type = debug.getinfo, debug.getupvalue, type
return function(f)
    if info(f, 'S').what ~= 'C' then return nil end
    local _, first = upvalue(f, 1)
    return type(first) == 'thread' and first or true
end";

/// What ends a body that a function makes.
enum Kind {
    /// Made by `coroutine.wrap`: ends with the coroutine.
    Coroutine(Thread),
    /// Of a library (`io.lines`, `string.gmatch`): ends with the first nil, and must not be called after it.
    Library,
    /// Written in Lua: ends with the second nil in a row. The first may be one that a coroutine inside has yielded.
    Lua,
}

/// Sends bodies of one state's apps.
pub struct Bodies {
    kind: Function,
}

impl Bodies {
    pub fn new(lua: &Lua) -> mlua::Result<Self> {
        Ok(Self { kind: lua.load(KIND).set_name("=imperator").eval()? })
    }

    /// Sends all of a body; the head goes out before its first part.
    pub fn send(&self, body: Value) -> Result<(), Trouble> {
        match body {
            Value::Function(next) => self.call(&next, || next.call(())),
            Value::String(text) => write(&text),
            Value::Thread(coroutine) => resume(&coroutine),
            Value::Table(table) => match callable(&table) {
                Some(next) => self.call(&next, || next.call(&table)),
                None => parts(&table),
            },
            other => Err(Trouble::Shape(format!(
                "the body is a {}: a function, a coroutine, a string or a table of strings is expected",
                failure::kind(&other)
            ))),
        }
    }

    fn call(&self, next: &Function, step: impl Fn() -> mlua::Result<Value>) -> Result<(), Trouble> {
        let (mut kind, mut after_nil) = (None, false);
        loop {
            match step() {
                Ok(Value::String(text)) => {
                    write(&text)?;
                    after_nil = false;
                }
                Ok(Value::Nil) => {
                    if kind.is_none() {
                        kind = Some(self.kind_of(next)?);
                    }
                    let over = match &kind {
                        Some(Kind::Coroutine(coroutine)) => coroutine.status() != ThreadStatus::Resumable,
                        Some(Kind::Lua) => after_nil,
                        Some(Kind::Library) | None => true,
                    };
                    if over {
                        return Ok(());
                    }
                    after_nil = true;
                }
                Ok(_) => after_nil = false,
                Err(error) if failure::is_dead_coroutine(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn kind_of(&self, next: &Function) -> Result<Kind, Trouble> {
        Ok(match self.kind.call::<Value>(next)? {
            Value::Thread(coroutine) => Kind::Coroutine(coroutine),
            Value::Nil => Kind::Lua,
            _ => Kind::Library,
        })
    }
}

/// What makes a table callable.
fn callable(table: &Table) -> Option<Function> {
    table.metatable()?.raw_get::<Option<Function>>("__call").ok().flatten()
}

fn resume(coroutine: &Thread) -> Result<(), Trouble> {
    while coroutine.status() == ThreadStatus::Resumable {
        if let Value::String(text) = coroutine.resume::<Value>(())? {
            write(&text)?;
        }
    }
    Ok(())
}

/// A table of strings goes out as one.
fn parts(table: &Table) -> Result<(), Trouble> {
    let mut texts = vec![];
    for value in table.sequence_values::<Value>() {
        match value? {
            Value::String(text) => texts.push(text.as_bytes().to_vec()),
            number @ (Value::Integer(_) | Value::Number(_)) => texts.push(number.to_string()?.into_bytes()),
            other => return Err(Trouble::Shape(format!("part {} of the body is a {}", texts.len() + 1, failure::kind(&other)))),
        }
    }
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    sent(current::with(|request| request.write_vectored(&texts, &NoLock)))
}

fn write(text: &LuaString) -> Result<(), Trouble> {
    let bytes = text.as_bytes();
    sent(current::with(|request| request.write(&bytes, &NoLock)))
}

fn sent(written: Option<Result<(), WriteError>>) -> Result<(), Trouble> {
    match written {
        Some(Ok(())) => Ok(()),
        Some(Err(WriteError::Gone(_))) | None => Err(Trouble::Gone),
    }
}
