//! Harakiri's Lua half: an error in the request that is over its time.
//!
//! A signal has the thread ask LuaJIT for a hook before its next instruction, as LuaJIT's own shell does for Ctrl-C, and the hook raises the error. It goes on
//! to do so until the request has ended, so that no `pcall` keeps it. Code that runs in C (a driver that waits, `os.execute`) meets no hook until it returns:
//! such a request cannot be interrupted, and ends with its worker. So does one in compiled code, if LuaJIT was built without checks for hooks in it
//! (`.cargo/config.toml` asks for them).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use imperator_sys::interrupt::{self, Thread};
use imperator_worker::host::host;
use mlua::ffi;

use crate::turn::bytes;

/// A core, as seen by the thread that interrupts.
#[derive(Default)]
struct Target {
    core: AtomicU32,
    /// The state in which its request runs now; null between requests.
    state: AtomicPtr<ffi::lua_State>,
}

/// One for each core that has ever been entered: they live as long as the process.
static TARGETS: Mutex<BTreeMap<u32, (&'static Target, Thread)>> = Mutex::new(BTreeMap::new());

thread_local! {
    static HERE: Cell<Option<&'static Target>> = const { Cell::new(None) };
    /// The calls that the request was in when the error was first raised.
    static STRUCK: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The calling thread serves that core's requests from now on.
pub fn enter(core: u32) {
    if !cfg!(feature = "luajit") {
        return; // other Luas have hooks for each coroutine only
    }
    // SAFETY: `strike` reads what is the thread's own, and calls what LuaJIT documents as safe in a signal handler.
    if unsafe { interrupt::install(strike) }.is_err() {
        return;
    }
    let mut targets = TARGETS.lock().unwrap_or_else(PoisonError::into_inner);
    let target = targets.get(&core).map_or_else(|| &*Box::leak(Box::<Target>::default()), |(target, _)| *target);
    target.core.store(core, Relaxed);
    targets.insert(core, (target, Thread::current()));
    HERE.set(Some(target));
}

/// Interrupts the request of that core, if it is Lua's; whether it is.
pub fn interrupt(core: u32) -> bool {
    let found = TARGETS.lock().unwrap_or_else(PoisonError::into_inner).get(&core).copied();
    found.is_some_and(|(target, thread)| !target.state.load(Relaxed).is_null() && thread.interrupt().is_ok())
}

/// A request is in Lua's hands until the value is dropped.
pub struct Exposed(Option<&'static Target>);

impl Exposed {
    pub fn new(state: *mut ffi::lua_State) -> Self {
        let here = HERE.get();
        if let Some(target) = here {
            target.state.store(state, Relaxed);
        }
        Self(here)
    }

    /// The request has ended; where it was when it was struck, if it was.
    pub fn end(self) -> Option<String> {
        let target = self.0?;
        let state = target.state.swap(ptr::null_mut(), Relaxed);
        // SAFETY: the state is this thread's, and rests; no signal reaches it any more. A hook of the app's own is left alone.
        unsafe {
            if ffi::lua_gethook(state).is_some_and(|found| ptr::fn_addr_eq(found, hook as ffi::lua_Hook)) {
                ffi::lua_sethook(state, None, 0, 0);
            }
        }
        STRUCK.take()
    }
}

/// In the thread that is interrupted, wherever it is.
fn strike() {
    let state = HERE.get().map_or(ptr::null_mut(), |target| target.state.load(Relaxed));
    if !state.is_null() {
        // SAFETY: the state is this thread's, and LuaJIT lets this function be called asynchronously, in a signal handler.
        unsafe { ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, 1) };
    }
}

/// # Safety
/// Lua calls it before an instruction.
unsafe extern "C-unwind" fn hook(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    if !is_over_time() {
        // SAFETY: the request before this one was meant. A hook may take itself away.
        unsafe { ffi::lua_sethook(state, None, 0, 0) };
        return;
    }
    // SAFETY: room is asked for. What is owned here is gone before the error, which does not come back, is raised.
    unsafe {
        if ffi::lua_checkstack(state, 20) != 0 {
            if STRUCK.with_borrow(Option::is_none) {
                ffi::luaL_traceback(state, state, ptr::null(), 0);
                let text = bytes(state, -1).map(|text| String::from_utf8_lossy(text).into_owned());
                STRUCK.set(text);
            }
            ffi::luaL_where(state, 0);
            ffi::lua_pushliteral(state, c"this request is over its time (harakiri)");
            ffi::lua_concat(state, 2);
            ffi::lua_error(state);
        }
    }
}

/// Whether the request of this thread is.
fn is_over_time() -> bool {
    HERE.get().zip(host()).is_some_and(|(target, host)| host.is_over_time(target.core.load(Relaxed)))
}
