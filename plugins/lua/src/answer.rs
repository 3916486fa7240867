//! The head of an answer: the status and the headers that an app returns.

use std::borrow::Cow;
use std::ffi::c_int;

use imperator_protocol::reason::reason;
use mlua::ffi;

use crate::turn::{Trouble, Turn, bytes, kind};

/// Where the app's three results are on Lua's stack.
const STATUS: c_int = 1;
const HEADERS: c_int = 2;
pub const BODY: c_int = 3;

/// Takes status and headers. False if the turn is over.
///
/// # Safety
/// The results are the only values on the stack, with room for some more; errors of Lua's may jump over the caller.
pub unsafe fn head(state: *mut ffi::lua_State, turn: &mut Turn<'_>) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        if !status(state, turn) {
            return false;
        }
        if ffi::lua_type(state, HEADERS) != ffi::LUA_TTABLE {
            turn.refuse(format!("the headers are a {}: a table is expected", kind(state, HEADERS)));
            return false;
        }
        headers(state, turn)
    }
}

unsafe fn status(state: *mut ffi::lua_State, turn: &mut Turn<'_>) -> bool {
    // SAFETY: there is something at STATUS; a number is read as one, so that nothing is made.
    unsafe {
        match ffi::lua_type(state, STATUS) {
            ffi::LUA_TNUMBER => numbered(turn, ffi::lua_tonumber(state, STATUS)),
            ffi::LUA_TSTRING => {
                let line = bytes(state, STATUS).unwrap_or_default();
                match std::str::from_utf8(line).ok().and_then(|text| text.trim().parse::<u16>().ok()) {
                    Some(code) => numbered(turn, code.into()),
                    None => turn.tell(|request| Ok(request.set_status(line)?)),
                }
            }
            _ => {
                turn.refuse(format!("the status is a {}: a number or a string is expected", kind(state, STATUS)));
                false
            }
        }
    }
}

fn numbered(turn: &mut Turn<'_>, code: f64) -> bool {
    turn.tell(|request| Ok(request.set_status(line(code)?.as_bytes())?))
}

/// `200 OK`.
fn line(code: f64) -> Result<Cow<'static, str>, Trouble> {
    if code == 200.0 {
        return Ok(Cow::Borrowed("200 OK"));
    }
    if code.fract() != 0.0 || !(100.0..1000.0).contains(&code) {
        return Err(Trouble::Shape(format!("the status is {code}: a number from 100 to 999 is expected")));
    }
    Ok(Cow::Owned(format!("{code} {}", reason(code as u16))))
}

unsafe fn headers(state: *mut ffi::lua_State, turn: &mut Turn<'_>) -> bool {
    // SAFETY: the table is at HEADERS; name and value of each step are taken before the next one.
    unsafe {
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, HEADERS) != 0 {
            if ffi::lua_type(state, -2) != ffi::LUA_TSTRING {
                turn.refuse(format!("the name of a header is a {}: a string is expected", kind(state, -2)));
                return false;
            }
            let name = bytes(state, -2).unwrap_or_default();
            let taken = if ffi::lua_type(state, -1) == ffi::LUA_TTABLE { each(state, turn, name) } else { header(state, turn, name) };
            if !taken {
                return false;
            }
            ffi::lua_pop(state, 1);
        }
    }
    true
}

/// The table on top: a line for each of its values.
unsafe fn each(state: *mut ffi::lua_State, turn: &mut Turn<'_>, name: &[u8]) -> bool {
    // SAFETY: every value is taken from the stack before the next one is put there.
    unsafe {
        for index in 1.. {
            ffi::lua_rawgeti(state, -1, index);
            if ffi::lua_type(state, -1) == ffi::LUA_TNIL {
                ffi::lua_pop(state, 1);
                break;
            }
            if !header(state, turn, name) {
                return false;
            }
            ffi::lua_pop(state, 1);
        }
    }
    true
}

/// The value on top.
unsafe fn header(state: *mut ffi::lua_State, turn: &mut Turn<'_>, name: &[u8]) -> bool {
    // SAFETY: there is a value on top, which is nobody's key: digits may take its place.
    let value = unsafe {
        match ffi::lua_type(state, -1) {
            ffi::LUA_TSTRING | ffi::LUA_TNUMBER => bytes(state, -1).unwrap_or_default(),
            _ => {
                let (name, kind) = (String::from_utf8_lossy(name), kind(state, -1));
                turn.refuse(format!("the header {name} is a {kind}: a string, a number or a table of them is expected"));
                return false;
            }
        }
    };
    turn.tell(|request| Ok(request.add_header(name, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_gets_its_phrase_and_nonsense_is_refused() {
        let text = |code| line(code).map(Cow::into_owned).map_err(|trouble| trouble.to_string());
        assert_eq!(text(200.0), Ok("200 OK".into()));
        assert_eq!(text(404.0), Ok("404 Not Found".into()));
        assert_eq!(text(299.0), Ok("299 Unknown".into()));
        for code in [99.0, 1000.0, 200.5, f64::NAN, -1.0] {
            assert!(text(code).is_err(), "{code}");
        }
    }
}
