//! The body of an answer: whatever an app returns for one, sent part by part.

use std::ffi::c_int;

use imperator_worker::language::NoLock;
use imperator_worker::log::diag::say;
use imperator_worker::request::WriteError;
use mlua::ffi;

use crate::answer::BODY;
use crate::turn::{Trouble, Turn, bytes, kind, push};

/// What tells functions apart and runs coroutines, from the libraries as they are before an app can change them.
///
/// The first function: nil for one that is written in Lua, the coroutine for one that `coroutine.wrap` has made, true for another one of a library.
/// The second: runs a coroutine to its next part; false when it is over, else true and the part.
pub const HELPERS: &str = "\
local info, upvalue, type = debug.getinfo, debug.getupvalue, type
local status, resume, traceback, error = coroutine.status, coroutine.resume, debug.traceback, error
return function(f)
    if info(f, 'S').what ~= 'C' then return nil end
    local _, first = upvalue(f, 1)
    return type(first) == 'thread' and first or true
end, function(co)
    if status(co) ~= 'suspended' then return false end
    local ok, part = resume(co)
    if not ok then error(type(part) == 'string' and traceback(co, part) or part, 0) end
    return true, part
end";

/// What is called for the next part, and a coroutine that must not be collected meanwhile.
const NEXT: c_int = BODY + 1;
const COROUTINE: c_int = BODY + 2;

/// What ends a body that a function makes.
#[derive(Clone, Copy)]
enum Kind {
    /// Made by `coroutine.wrap`: ends with the coroutine.
    Coroutine,
    /// Of a library (`io.lines`, `string.gmatch`): ends with the first nil, and must not be called after it.
    Library,
    /// Written in Lua: ends with the second nil in a row. The first may be one that a coroutine inside has yielded.
    Lua,
}

/// Sends all of the body; the head goes out before its first part.
///
/// # Safety
/// The app's results are the only values on the stack, with room for some more; errors of Lua's may jump over the caller.
pub unsafe fn send(state: *mut ffi::lua_State, turn: &mut Turn<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match ffi::lua_type(state, BODY) {
            ffi::LUA_TFUNCTION => {
                ffi::lua_pushvalue(state, BODY);
                call(state, turn, false);
            }
            ffi::LUA_TSTRING => {
                write(state, turn);
            }
            ffi::LUA_TTHREAD => resume(state, turn),
            ffi::LUA_TTABLE if push_callable(state) => call(state, turn, true),
            ffi::LUA_TTABLE => parts(state, turn),
            // So does many a redirect. uWSGI sends it without a body.
            ffi::LUA_TNIL => say("the app returned no body: an empty one is sent (return \"\" to say so)"),
            _ => turn.refuse(format!(
                "the body is a {}: a function, a coroutine, a string or a table of strings is expected",
                kind(state, BODY)
            )),
        }
    }
}

/// Pushes what makes the table callable, if it is.
unsafe fn push_callable(state: *mut ffi::lua_State) -> bool {
    // SAFETY: the stack is left with the function more, or as it was.
    unsafe {
        if ffi::lua_getmetatable(state, BODY) == 0 {
            return false;
        }
        push(state, b"__call");
        ffi::lua_rawget(state, -2);
        ffi::lua_remove(state, -2);
        if ffi::lua_type(state, -1) == ffi::LUA_TFUNCTION {
            return true;
        }
        ffi::lua_pop(state, 1);
        false
    }
}

/// Calls what is at NEXT, on top, until its end; `with_self`: with the body as its argument.
unsafe fn call(state: *mut ffi::lua_State, turn: &mut Turn<'_>, with_self: bool) {
    let (mut ends, mut after_nil) = (None, false);
    // SAFETY: each step leaves NEXT and COROUTINE on top.
    unsafe {
        ffi::lua_pushnil(state);
        loop {
            ffi::lua_settop(state, COROUTINE);
            ffi::lua_pushvalue(state, NEXT);
            if with_self {
                ffi::lua_pushvalue(state, BODY);
            }
            ffi::lua_call(state, c_int::from(with_self), 1);
            match ffi::lua_type(state, -1) {
                ffi::LUA_TSTRING => {
                    if !write(state, turn) {
                        return;
                    }
                    after_nil = false;
                }
                ffi::LUA_TNIL => {
                    let kind = match ends {
                        Some(kind) => kind,
                        None => *ends.insert(kind_of_next(state, turn)),
                    };
                    let over = match kind {
                        Kind::Coroutine => !is_resumable(ffi::lua_tothread(state, COROUTINE)),
                        Kind::Lua => after_nil,
                        Kind::Library => true,
                    };
                    if over {
                        return;
                    }
                    after_nil = true;
                }
                _ => after_nil = false,
            }
        }
    }
}

/// What NEXT is; a coroutine of its own goes to its place.
unsafe fn kind_of_next(state: *mut ffi::lua_State, turn: &Turn<'_>) -> Kind {
    // SAFETY: the result is taken from the stack again.
    unsafe {
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, turn.fixtures.kind.into());
        ffi::lua_pushvalue(state, NEXT);
        ffi::lua_call(state, 1, 1);
        match ffi::lua_type(state, -1) {
            ffi::LUA_TTHREAD => {
                ffi::lua_replace(state, COROUTINE);
                Kind::Coroutine
            }
            ffi::LUA_TNIL => Kind::Lua,
            _ => Kind::Library,
        }
    }
}

/// Whether a coroutine has not ended. (One that has not begun has its function on its stack.)
unsafe fn is_resumable(coroutine: *mut ffi::lua_State) -> bool {
    // SAFETY: the coroutine is on the stack, at COROUTINE, and does not run.
    unsafe {
        match ffi::lua_status(coroutine) {
            ffi::LUA_YIELD => true,
            ffi::LUA_OK => ffi::lua_gettop(coroutine) > 0,
            _ => false,
        }
    }
}

/// The body is a coroutine.
unsafe fn resume(state: *mut ffi::lua_State, turn: &mut Turn<'_>) {
    // SAFETY: the two results of each step are taken from the stack before the next one.
    unsafe {
        loop {
            ffi::lua_settop(state, BODY);
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, turn.fixtures.steps.into());
            ffi::lua_pushvalue(state, BODY);
            ffi::lua_call(state, 1, 2);
            if ffi::lua_toboolean(state, -2) == 0 {
                return;
            }
            if ffi::lua_type(state, -1) == ffi::LUA_TSTRING && !write(state, turn) {
                return;
            }
        }
    }
}

/// A table of strings goes out as one.
unsafe fn parts(state: *mut ffi::lua_State, turn: &mut Turn<'_>) {
    let mut number = 0;
    // SAFETY: each part is taken from the stack before the next one; what is joined is left on top.
    unsafe {
        loop {
            ffi::lua_rawgeti(state, BODY, number + 1);
            let found = ffi::lua_type(state, -1);
            if found != ffi::LUA_TNIL && found != ffi::LUA_TSTRING && found != ffi::LUA_TNUMBER {
                return turn.refuse(format!("part {} of the body is a {}", number + 1, kind(state, -1)));
            }
            ffi::lua_pop(state, 1);
            if found == ffi::LUA_TNIL {
                break;
            }
            number += 1;
        }
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, turn.fixtures.concat.into());
        ffi::lua_pushvalue(state, BODY);
        push(state, b"");
        ffi::lua_pushnumber(state, 1.0);
        ffi::lua_pushnumber(state, number as f64);
        ffi::lua_call(state, 4, 1);
        write(state, turn);
    }
}

/// Sends the string on top. False if the turn is over.
unsafe fn write(state: *mut ffi::lua_State, turn: &mut Turn<'_>) -> bool {
    // SAFETY: a string is on top, and stays there meanwhile.
    let part = unsafe { bytes(state, -1) }.unwrap_or_default();
    turn.tell(|request| request.write(part, &NoLock).map_err(|WriteError::Gone(_)| Trouble::Gone))
}
