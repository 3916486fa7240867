//! Rust functions in the guise of C functions.
//!
//! To Lua each is a small C closure, where a function of mlua's would be a userdata with a finalizer more: a full collection marks all of them after each
//! request. And what they raise is a string that starts with the caller's file and line, where mlua's would be a userdata.

use std::ffi::c_int;

use mlua::{Error, FromLuaMulti, Function, IntoLuaMulti, Lua, MultiValue, Table, Value, ffi};

use crate::failure;

type Native = Box<dyn Fn(&Lua, MultiValue) -> mlua::Result<MultiValue> + Send>;

/// Functions of one state, until [`Natives::install`] puts them into their tables.
#[derive(Default)]
pub struct Natives {
    /// Each once.
    tables: Vec<Table>,
    /// The number of a table, and the name in it.
    places: Vec<(usize, &'static str)>,
    functions: Vec<Native>,
}

impl Natives {
    /// `table.name = function`. What it raises should name it.
    pub fn add<A, R>(&mut self, table: &Table, name: &'static str, function: impl Fn(&Lua, A) -> mlua::Result<R> + Send + 'static)
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
    {
        let place = self.tables.iter().position(|known| known == table).unwrap_or_else(|| {
            self.tables.push(table.clone());
            self.tables.len() - 1
        });
        self.places.push((place, name));
        self.functions.push(Box::new(move |lua, arguments| {
            let arguments = A::from_lua_args(arguments, 1, Some(name), lua)?;
            function(lua, arguments)?.into_lua_multi(lua)
        }));
    }

    /// Puts all of them where they belong.
    ///
    /// # Errors
    /// Lua's want of memory.
    pub fn install(self, lua: &Lua) -> mlua::Result<()> {
        let (tables, functions) = (self.tables, self.functions);
        let dispatcher = lua.create_function(move |lua, arguments| Ok(dispatch(&functions, lua, arguments)))?;
        for (index, (place, name)) in self.places.into_iter().enumerate() {
            // SAFETY: the two arguments are on the stack, and become the upvalues that `enter` looks for.
            let function: Function = unsafe { lua.exec_raw((&dispatcher, index), |state| ffi::lua_pushcclosure(state, enter, 2)) }?;
            tables[place].raw_set(name, function)?;
        }
        Ok(())
    }
}

/// Calls the function whose index comes first: true and its results, or false and why not.
fn dispatch(functions: &[Native], lua: &Lua, mut arguments: MultiValue) -> MultiValue {
    let index = match arguments.pop_front() {
        Some(Value::Integer(index)) => usize::try_from(index).unwrap_or(usize::MAX),
        Some(Value::Number(index)) => index as usize,
        _ => usize::MAX,
    };
    let called = functions.get(index).map_or(Err(Error::CallbackDestructed), |function| function(lua, arguments));
    match called.and_then(|results| (true, results).into_lua_multi(lua)) {
        Ok(results) => results,
        Err(error) => {
            let why = lua.create_string(reason(&error)).map_or(Value::Nil, Value::String);
            [Value::Boolean(false), why].into_iter().collect()
        }
    }
}

fn reason(error: &Error) -> String {
    match error {
        Error::BadArgument { to: Some(to), pos, cause, .. } => format!("bad argument #{pos} to '{to}' ({})", failure::text(cause)),
        other => failure::text(other),
    }
}

/// What Lua calls: hands its arguments on, and raises what comes back as an error.
///
/// # Safety
/// As every C function of Lua's; the upvalues are the dispatcher and an index.
unsafe extern "C-unwind" fn enter(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: Lua gives room for LUA_MINSTACK values beside the arguments. Nothing here owns what an error, which jumps over it, would leak. `lua_error` takes
    // the string on top, and does not return.
    unsafe {
        let arguments = ffi::lua_gettop(state);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
        ffi::lua_insert(state, 2);
        ffi::lua_call(state, arguments + 1, ffi::LUA_MULTRET);
        if ffi::lua_toboolean(state, 1) != 0 {
            return ffi::lua_gettop(state) - 1;
        }
        ffi::lua_settop(state, 2);
        ffi::luaL_where(state, 1);
        ffi::lua_insert(state, 2);
        ffi::lua_concat(state, 2);
        ffi::lua_error(state)
    }
}
