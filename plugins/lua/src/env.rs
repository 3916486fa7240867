//! The table that an app is called with.

use std::ffi::c_int;

use imperator_protocol::vars::Vars;
use imperator_worker::language::NoLock;
use imperator_worker::log::diag::say;
use imperator_worker::request::BodyError;
use mlua::{Lua, LuaString, Table, Value, ffi};

use crate::current;
use crate::native::Natives;

/// What every request's table has in common: made once a state.
pub struct Environment {
    input: Table,
    error: Table,
}

impl Environment {
    pub fn new(lua: &Lua, natives: &mut Natives) -> mlua::Result<Self> {
        let (input, error) = (lua.create_table()?, lua.create_table()?);
        natives.add(&input, "read", read);
        natives.add(&error, "write", write);
        Ok(Self { input, error })
    }

    /// The variables as strings, the last one of a name; `CONTENT_TYPE` always.
    pub fn table(&self, lua: &Lua, vars: Vars<'_>) -> mlua::Result<Table> {
        let room = c_int::try_from(vars.count()).unwrap_or(0).saturating_add(3);
        // SAFETY: the two arguments are on the stack at 1 and 2 and are taken from it. Every push is balanced by a rawset, so that the table is all that is left.
        // The closure owns nothing that an error of Lua's, which jumps over it, would leak.
        unsafe {
            lua.exec_raw((&self.input, &self.error), |state| {
                ffi::lua_createtable(state, 0, room);
                ffi::lua_insert(state, 1);
                push(state, b"error");
                ffi::lua_insert(state, -2);
                ffi::lua_rawset(state, 1);
                push(state, b"input");
                ffi::lua_insert(state, -2);
                ffi::lua_rawset(state, 1);
                push(state, b"CONTENT_TYPE");
                push(state, b"");
                ffi::lua_rawset(state, 1);
                for (name, value) in vars.iter() {
                    push(state, name);
                    push(state, value);
                    ffi::lua_rawset(state, 1);
                }
            })
        }
    }
}

/// # Safety
/// `state` has room for one more value, and errors of Lua's may jump over the caller.
unsafe fn push(state: *mut ffi::lua_State, bytes: &[u8]) {
    // SAFETY: pointer and length are the slice's; Lua copies them.
    unsafe { ffi::lua_pushlstring(state, bytes.as_ptr().cast(), bytes.len()) };
}

/// `env.input:read([n])`: n bytes, less at the end; all the rest without n. Nothing if the client is gone.
fn read(lua: &Lua, (_input, length): (Value, Option<f64>)) -> mlua::Result<Option<LuaString>> {
    let wanted = length.filter(|n| *n >= 1.0).map_or(usize::MAX, |n| n as usize);
    let read = current::with(|request| {
        let left = request.remaining().and_then(|n| usize::try_from(n).ok());
        let target = left.unwrap_or(usize::MAX).min(wanted);
        let (mut body, mut filled) = (vec![0; target.min(left.unwrap_or(CHUNK))], 0);
        while filled < target {
            if filled == body.len() {
                body.resize(filled.saturating_add(CHUNK).min(target), 0);
            }
            match request.read(&mut body[filled..], &NoLock)? {
                0 => break,
                n => filled += n,
            }
        }
        body.truncate(filled);
        Ok(body)
    });
    match read {
        Some(Ok(body)) => lua.create_string(body).map(Some),
        Some(Err(BodyError::Short { .. })) => Ok(None),
        Some(Err(error)) => Err(mlua::Error::runtime(format!("env.input:read: {error}"))),
        None => Err(mlua::Error::runtime("env.input:read: no request is served now")),
    }
}

/// How much more room is made at a time for a body of unknown length.
const CHUNK: usize = 64 * 1024;

/// `env.error:write(text)`: to the log.
fn write(_: &Lua, (_error, text): (Value, LuaString)) -> mlua::Result<()> {
    say(&text.to_string_lossy());
    Ok(())
}
