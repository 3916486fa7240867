//! One request as one protected call: the table for the app, the app, the head and the body that it returns.
//!
//! All of it speaks to Lua's C API. Each call through mlua would be a protected call of its own, with its values kept in mlua's own store meanwhile: ten of
//! them cost more than such a request has to.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use imperator_worker::request::{HeadError, Request};
use mlua::{Function, Lua, Table, Value, ffi};

use crate::current::{self, Served};
use crate::harakiri::Exposed;
use crate::{answer, body, env, failure};

/// Why an answer could not be given as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The client left: nothing to say.
    #[error("the client is gone")]
    Gone,
    /// The app's code failed: message and traceback.
    #[error("{0}")]
    Lua(String),
    /// What it returned is none of what WSAPI knows.
    #[error("{0}")]
    Shape(String),
    /// It was over its time (`harakiri`): where it was.
    #[error("{0}")]
    Overdue(String),
}

impl From<HeadError> for Trouble {
    fn from(error: HeadError) -> Self {
        Self::Shape(error.to_string())
    }
}

thread_local! {
    /// The turn that the protected call of this thread is for; null beside one.
    static TURN: Cell<*mut Turn<'static>> = const { Cell::new(ptr::null_mut()) };
}

/// What a state keeps for its turns, by its numbers in Lua's registry.
pub struct Fixtures {
    /// The state itself, outside of any coroutine.
    pub main: Main,
    turn: c_int,
    handler: c_int,
    pub input: c_int,
    pub error: c_int,
    /// `table.concat` as it is before an app can change it.
    pub concat: c_int,
    /// See [`body::HELPERS`].
    pub kind: c_int,
    pub steps: c_int,
}

/// A state's main thread of Lua.
#[derive(Clone, Copy)]
pub struct Main(pub *mut ffi::lua_State);

// SAFETY: the pointer lives as long as the `Lua` beside it in its state, which moves between threads as a whole and is used by one at a time.
unsafe impl Send for Main {}

impl Fixtures {
    /// Of a state with nothing of the user's in it. `input` and `error` are what every request's table has in common.
    ///
    /// # Errors
    /// Lua's want of memory.
    pub fn new(lua: &Lua, input: Table, error: Table) -> mlua::Result<Self> {
        let (kind, steps): (Function, Function) = lua.load(body::HELPERS).set_name("=imperator").eval()?;
        let concat: Function = lua.globals().get::<Table>("table")?.get("concat")?;
        let mut main = ptr::null_mut();
        // SAFETY: nothing is taken from Lua's stack and nothing left there.
        unsafe { lua.exec_raw::<()>((), |state| main = state) }?;
        // SAFETY: both are C functions as Lua calls them, and need no more than they are given.
        let (turn, handler) = unsafe { (lua.create_c_function(run)?, lua.create_c_function(traceback)?) };
        Ok(Self {
            main: Main(main),
            turn: keep(lua, Value::Function(turn))?,
            handler: keep(lua, Value::Function(handler))?,
            input: keep(lua, Value::Table(input))?,
            error: keep(lua, Value::Table(error))?,
            concat: keep(lua, Value::Function(concat))?,
            kind: keep(lua, Value::Function(kind))?,
            steps: keep(lua, Value::Function(steps))?,
        })
    }
}

/// Keeps a value for as long as the state lives; its number in the registry.
///
/// # Errors
/// Lua's want of memory.
pub fn keep(lua: &Lua, value: Value) -> mlua::Result<c_int> {
    let mut number = 0;
    // SAFETY: the one value on the stack is taken from it.
    unsafe { lua.exec_raw::<()>(value, |state| number = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX)) }?;
    Ok(number)
}

/// What one request needs, and what is left of it. Errors of Lua's jump over the functions that use it, so that it has to own what is not Lua's.
pub struct Turn<'t> {
    pub fixtures: &'t Fixtures,
    app: c_int,
    /// SCRIPT_NAME and PATH_INFO, if they are others than in the packet.
    pub moved: Option<(&'t [u8], &'t [u8])>,
    in_body: bool,
    trouble: Option<Trouble>,
    panic: Option<Box<dyn Any + Send>>,
}

impl Turn<'_> {
    /// Does something with the request. False if the turn is over with it.
    pub fn tell(&mut self, act: impl FnOnce(&mut Request<'_>) -> Result<(), Trouble>) -> bool {
        // A panic must not meet Lua's frames.
        match catch_unwind(AssertUnwindSafe(|| current::with(act))) {
            Ok(Some(Ok(()))) => return true,
            Ok(Some(Err(trouble))) => self.trouble = Some(trouble),
            Ok(None) => self.trouble = Some(Trouble::Gone),
            Err(panic) => self.panic = Some(panic),
        }
        false
    }

    /// Ends the turn: the app has returned what no app may.
    pub fn refuse(&mut self, why: String) {
        self.trouble = Some(Trouble::Shape(why));
    }
}

/// Calls the app of that number in the registry, and sends what it returns.
///
/// # Errors
/// What kept the answer from being given as a whole.
pub fn take(fixtures: &Fixtures, app: c_int, moved: Option<(&[u8], &[u8])>, request: &mut Request<'_>) -> Result<(), Trouble> {
    let mut turn = Turn { fixtures, app, moved, in_body: false, trouble: None, panic: None };
    let (failed, struck) = {
        let _served = Served::new(request);
        TURN.set(ptr::from_mut(&mut turn).cast());
        let exposed = Exposed::new(fixtures.main.0);
        let failed = protected(fixtures);
        TURN.set(ptr::null_mut());
        (failed, exposed.end())
    };
    if let Some(panic) = turn.panic {
        resume_unwind(panic);
    }
    match failed {
        Some(_) if struck.is_some() => Err(Trouble::Overdue(struck.unwrap_or_default())),
        Some(message) if !(turn.in_body && failure::is_dead_coroutine(&message)) => Err(Trouble::Lua(message)),
        _ => turn.trouble.map_or(Ok(()), Err),
    }
}

/// The message of an error that nothing in Lua has caught.
fn protected(fixtures: &Fixtures) -> Option<String> {
    let state = fixtures.main.0;
    // SAFETY: the state is this thread's, and rests: so its stack has the room that every C function is given. What comes before and after the protected call
    // makes nothing and so raises nothing.
    unsafe {
        let top = ffi::lua_gettop(state);
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, fixtures.handler.into());
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, fixtures.turn.into());
        let ended = ffi::lua_pcall(state, 0, 0, top + 1);
        let failed = (ended != ffi::LUA_OK).then(|| match bytes(state, -1) {
            Some(message) => String::from_utf8_lossy(message).into_owned(),
            None => "an error without a message".to_owned(),
        });
        ffi::lua_settop(state, top);
        failed
    }
}

/// # Safety
/// Lua calls it as a C function, in [`protected`].
unsafe extern "C-unwind" fn run(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: `take` has put a turn there that outlives this call, and nobody else uses it meanwhile: what the app calls only knows the request. Lua gives room for
    // 20 values beside the arguments, and every step of this leaves fewer than ten. Nothing here owns what an error, which jumps over it, would leak.
    unsafe {
        let Some(turn) = TURN.get().as_mut() else { return 0 };
        ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, turn.app.into());
        if !env::push(state, turn) {
            return 0;
        }
        ffi::lua_call(state, 1, 3);
        if answer::head(state, turn) {
            turn.in_body = true;
            body::send(state, turn);
        }
    }
    0
}

/// What becomes of an error: its text, with the calls that led to it.
///
/// # Safety
/// Lua calls it as a message handler.
unsafe extern "C-unwind" fn traceback(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: the error is the one argument; room is asked for. Nothing here owns anything.
    unsafe {
        if ffi::lua_checkstack(state, 20) != 0 {
            let text = ffi::luaL_tolstring(state, 1, ptr::null_mut());
            ffi::luaL_traceback(state, state, text, 1);
        }
    }
    1
}

/// The bytes of the string at `index`; of a number its digits, which take its place.
///
/// # Safety
/// There is something at `index`. The bytes live as long as the string is on the stack; making digits may raise an error.
pub unsafe fn bytes<'s>(state: *mut ffi::lua_State, index: c_int) -> Option<&'s [u8]> {
    let mut length = 0;
    // SAFETY: Lua says where the string is and how long; the caller keeps it.
    unsafe {
        let start = ffi::lua_tolstring(state, index, &mut length);
        (!start.is_null()).then(|| std::slice::from_raw_parts(start.cast(), length))
    }
}

/// # Safety
/// There is room for one value more, and errors of Lua's may jump over the caller.
pub unsafe fn push(state: *mut ffi::lua_State, bytes: &[u8]) {
    // SAFETY: pointer and length are the slice's; Lua copies them.
    unsafe { ffi::lua_pushlstring(state, bytes.as_ptr().cast(), bytes.len()) };
}

/// The type of the value at `index` as Lua's own `type` says it.
///
/// # Safety
/// There is something at `index`.
pub unsafe fn kind(state: *mut ffi::lua_State, index: c_int) -> &'static str {
    // SAFETY: the name of a type is a constant of Lua's.
    let name = unsafe { std::ffi::CStr::from_ptr(ffi::lua_typename(state, ffi::lua_type(state, index))) };
    name.to_str().unwrap_or("value")
}
