//! The table that an app is called with.

use std::ffi::c_int;

use imperator_protocol::vars::Vars;
use imperator_worker::language::NoLock;
use imperator_worker::log::diag::say;
use imperator_worker::request::BodyError;
use mlua::{Lua, LuaString, Table, Value, ffi};

use crate::current;
use crate::native::Natives;
use crate::turn::{self, Turn};

/// `env.input` and `env.error`, which every request's table has in common.
pub fn shared(lua: &Lua, natives: &mut Natives) -> mlua::Result<(Table, Table)> {
    let (input, error) = (lua.create_table()?, lua.create_table()?);
    natives.add(&input, "read", read);
    natives.add(&error, "write", write);
    Ok((input, error))
}

/// Pushes the variables as strings, the last one of a name; `CONTENT_TYPE` always. False if the request is gone.
///
/// # Safety
/// There is room for four values more, and errors of Lua's may jump over the caller.
pub unsafe fn push(state: *mut ffi::lua_State, turn: &mut Turn<'_>) -> bool {
    let mut payload: *const [u8] = &[];
    if !turn.tell(|request| {
        payload = request.vars().payload();
        Ok(())
    }) {
        return false;
    }
    // SAFETY: the packet stays where it is until somebody adds a variable to it, which no code does that runs before the end of this function. Every two pushes
    // are taken by a rawset: the table is what is left.
    unsafe {
        let vars = Vars::made(&*payload);
        let room = c_int::try_from(vars.count()).unwrap_or(0).saturating_add(3);
        ffi::lua_createtable(state, 0, room);
        turn::push(state, b"error");
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, turn.fixtures.error.into());
        ffi::lua_rawset(state, -3);
        turn::push(state, b"input");
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, turn.fixtures.input.into());
        ffi::lua_rawset(state, -3);
        set(state, b"CONTENT_TYPE", b"");
        for (name, value) in vars.iter() {
            set(state, name, value);
        }
        if let Some((script, path)) = turn.moved {
            set(state, b"SCRIPT_NAME", script);
            set(state, b"PATH_INFO", path);
        }
    }
    true
}

/// # Safety
/// A table is on top, with room for two values more; errors of Lua's may jump over the caller.
unsafe fn set(state: *mut ffi::lua_State, name: &[u8], value: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        turn::push(state, name);
        turn::push(state, value);
        ffi::lua_rawset(state, -3);
    }
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
