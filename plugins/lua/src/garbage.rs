//! Garbage collection between requests (`lua-gc-freq`), put off where nobody can tell.
//!
//! By default uWSGI collects in full after every request, and apps can see it: weak tables are empty then, finalizers have run, files are closed. In most apps
//! there is nothing to see it by, and the collection is most of what a short request costs. So one that is due waits (until the heap has grown by [`ROOM`] or
//! by half) as long as
//!
//! - no metatable that the app has set makes a table weak: [`WATCH`] remembers them, and they are looked at after each request, as `__mode` may come later;
//! - the app has used nothing that has finalizers or gives a way around this: files, `newproxy`, `ffi`, C modules, `debug.setmetatable` and its like. After the
//!   first of these every collection that is due takes place, for the rest of the state's life;
//! - nobody asks how much memory is in use: `collectgarbage("count")` makes up for what was put off before it answers.
//!
//! With `lua-memory-limit` nothing waits: what is garbage counts there.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use imperator_worker::log::diag::say;
use mlua::{Function, Lua, Table, Value, ffi};

use crate::failure;
use crate::native::Natives;
use crate::state::Plan;
use crate::turn::{Main, keep};

/// Bytes that may be garbage before a collection that was put off takes place: as much as the heap of a small app.
const ROOM: usize = 64 * 1024;
/// Metatables that are looked at after a request. Of more than these the dead ones are collected first.
const MOST_LOOKED_AT: usize = 64;

/// Puts functions that look in front of those that an app could see collections by. Each hands on to the real one by a tail call, which leaves no trace in errors.
#[cfg(feature = "luajit")]
const WATCH: &str = r#"
local see, settle = ...
local type, set = type, setmetatable
local known = set({}, { __mode = 'k' })
function setmetatable(...)
    local _, meta = ...
    if type(meta) == 'table' and not known[meta] then known[meta] = true end
    return set(...)
end
local function watched(f)
    return f and function(...) see() return f(...) end
end
newproxy = watched(newproxy)
for library, names in pairs {
    [io] = { 'open', 'popen', 'tmpfile', 'lines', 'input', 'output' },
    [debug] = { 'setmetatable', 'getregistry', 'getupvalue', 'setupvalue', 'upvaluejoin' },
    [package] = { 'loadlib' },
    [package.loaders] = { 3, 4 },
    [package.preload] = { 'ffi', 'string.buffer' },
} do
    for _, name in ipairs(names) do library[name] = watched(library[name]) end
end
for _, name in ipairs { 'collectgarbage', 'gcinfo' } do
    local f = _G[name]
    _G[name] = f and function(...)
        local what = ...
        if name == 'gcinfo' or what == 'count' or what == 'step' then settle() end
        return f(...)
    end
end
return known
"#;

/// What a state knows of its garbage.
pub struct Garbage {
    main: Main,
    /// `lua-gc-freq`.
    every: u64,
    /// Requests served.
    requests: u64,
    /// What may keep collections waiting; `None`: nothing does.
    watch: Option<Watch>,
    /// Bytes of the heap after the last collection.
    left: usize,
}

/// What the app has done that it could see collections by.
struct Watch {
    used: Arc<AtomicBool>,
    owed: Arc<AtomicBool>,
    /// By number in the registry: the table whose keys are the metatables, and the name `__mode`.
    known: c_int,
    mode: c_int,
}

impl Garbage {
    /// To be called before any file is run.
    ///
    /// # Errors
    /// Lua's want of memory.
    pub fn new(lua: &Lua, natives: &mut Natives, main: Main, plan: &Plan) -> mlua::Result<Self> {
        let may_wait = plan.gc_freq == 0 && plan.memory_limit == 0;
        let watch = if may_wait { Watch::prepare(lua, natives)? } else { None };
        Ok(Self { main, every: plan.gc_freq, requests: 0, watch, left: 0 })
    }

    /// Starts to watch; to be called when `natives` are installed.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn begin(&mut self, lua: &Lua) -> mlua::Result<()> {
        self.watch.as_mut().map_or(Ok(()), |watch| watch.begin(lua))
    }

    /// Everything is loaded: collects what loading has left.
    ///
    /// # Errors
    /// A finalizer's.
    pub fn collect(&mut self, lua: &Lua) -> mlua::Result<()> {
        let done = lua.gc_collect();
        self.left = self.heap();
        if let Some(watch) = &self.watch {
            watch.owed.store(false, Relaxed);
        }
        done
    }

    /// After a request.
    pub fn after_request(&mut self, lua: &Lua) {
        let due = self.every == 0 || self.requests % self.every == 0;
        self.requests += 1;
        if !due || self.waits() {
            return;
        }
        if let Err(error) = self.collect(lua) {
            say(&format!("garbage collection: {}", failure::text(&error)));
        }
    }

    /// Whether the collection that is due now waits.
    fn waits(&self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let waits = !watch.used.load(Relaxed) && self.heap() < self.left + ROOM.max(self.left / 2) && !watch.is_weak(self.main);
        if waits {
            watch.owed.store(true, Relaxed);
        }
        waits
    }

    /// Bytes in use, garbage included.
    fn heap(&self) -> usize {
        let state = self.main.0;
        // SAFETY: the state is this thread's, and rests; these two only read a counter.
        let (kib, bytes) = unsafe { (ffi::lua_gc(state, ffi::LUA_GCCOUNT, 0), ffi::lua_gc(state, ffi::LUA_GCCOUNTB, 0)) };
        (usize::try_from(kib).unwrap_or(0) << 10) + usize::try_from(bytes).unwrap_or(0)
    }
}

impl Watch {
    /// Other Luas than LuaJIT have more by which collections show (finalizers of tables).
    #[cfg(not(feature = "luajit"))]
    fn prepare(_: &Lua, _: &mut Natives) -> mlua::Result<Option<Self>> {
        Ok(None)
    }

    #[cfg(feature = "luajit")]
    fn prepare(lua: &Lua, natives: &mut Natives) -> mlua::Result<Option<Self>> {
        let (used, owed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let functions = lua.create_table()?;
        let (seen, settled) = (used.clone(), owed.clone());
        natives.add(&functions, "see", move |_, (): ()| {
            seen.store(true, Relaxed);
            Ok(())
        });
        natives.add(&functions, "settle", move |lua, (): ()| if settled.swap(false, Relaxed) { lua.gc_collect() } else { Ok(()) });
        Ok(Some(Self {
            used,
            owed,
            known: keep(lua, Value::Table(functions))?,
            mode: keep(lua, Value::String(lua.create_string("__mode")?))?,
        }))
    }

    /// Puts the functions that look into their places.
    fn begin(&mut self, lua: &Lua) -> mlua::Result<()> {
        #[cfg(feature = "luajit")]
        {
            // SAFETY: one value is put on the stack, as the result.
            let functions: Table = unsafe {
                lua.exec_raw((), |state| {
                    ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, self.known.into());
                    ffi::luaL_unref(state, ffi::LUA_REGISTRYINDEX, self.known);
                })
            }?;
            let (see, settle): (Function, Function) = (functions.get("see")?, functions.get("settle")?);
            let known: Table = lua.load(WATCH).set_name("=imperator").call((see, settle))?;
            self.known = keep(lua, Value::Table(known))?;
        }
        Ok(())
    }

    /// Whether a metatable makes tables weak, or there are too many to look at.
    fn is_weak(&self, main: Main) -> bool {
        let (state, mut looked_at) = (main.0, 0);
        // SAFETY: the state is this thread's, and rests: there is room on its stack for these five values, which are taken from it at the end. Nothing of this
        // makes anything, so nothing raises.
        unsafe {
            let top = ffi::lua_gettop(state);
            ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, self.known.into());
            ffi::lua_pushnil(state);
            let mut weak = false;
            while !weak && ffi::lua_next(state, top + 1) != 0 {
                ffi::lua_pop(state, 1);
                ffi::lua_rawgeti(state, ffi::LUA_REGISTRYINDEX, self.mode.into());
                ffi::lua_rawget(state, -2);
                looked_at += 1;
                weak = ffi::lua_type(state, -1) != ffi::LUA_TNIL || looked_at > MOST_LOOKED_AT;
                ffi::lua_pop(state, 1);
            }
            ffi::lua_settop(state, top);
            weak
        }
    }
}

#[cfg(all(test, feature = "luajit"))]
mod tests {
    use super::*;
    use crate::state::State;

    fn state(plan: Plan) -> State {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, b"return function() end").expect("written");
        State::load(&Plan { apps: vec![(String::new(), file.path().display().to_string())], ..plan }).expect("a state")
    }

    /// Whether the collection after a request that runs this waits.
    fn waits_after(code: &str) -> bool {
        let state = state(Plan::default());
        state.lua.load(code).exec().expect(code);
        state.garbage.waits()
    }

    #[test]
    fn what_nobody_can_see_waits() {
        for code in [
            "",
            "local t = {} for i = 1, 100 do t[i] = { 'x' .. i } end",
            "local class = {} class.__index = class setmetatable({}, class)",
            "local c = coroutine.wrap(function() coroutine.yield(1) end) c()",
            "setmetatable({}, nil) pcall(setmetatable) pcall(setmetatable, 1, 2)",
            "collectgarbage() collectgarbage('count') collectgarbage('setpause', 150) gcinfo()",
            "io.write('') io.stdout:write('') print()",
            "local m = setmetatable({}, {}) getmetatable(m).__call = function() end",
            "require 'table.new'",
        ] {
            assert!(waits_after(code), "{code}");
        }
    }

    #[test]
    fn what_shows_a_collection_has_it_take_place() {
        for code in [
            "cache = setmetatable({}, { __mode = 'k' })",
            "cache = setmetatable({}, { ['__' .. 'mode'] = 'v' })",
            "local set = setmetatable local m = {} cache = set({}, m) m.__mode = 'v'",
            "local m = {} cache = setmetatable({}, m) rawset(m, string.char(95, 95) .. 'mode', 'kv')",
            "local class = setmetatable({}, { __index = {} }) class.sub = setmetatable({}, class) class.__mode = 'k'",
            "coroutine.wrap(function() cache = setmetatable({}, { __mode = 'k' }) end)()",
            "load('cache = setmetatable({}, { __mode = [[k]] })')()",
            "cache = debug.setmetatable({}, { __mode = 'k' })",
            "newproxy(true)",
            "io.open('/dev/null')",
            "io.popen('true')",
            "io.tmpfile()",
            "for _ in io.lines('/dev/null') do end",
            "io.output('/dev/null')",
            "io.input('/dev/null')",
            "require 'ffi'",
            "package.preload.ffi()",
            "debug.getregistry()",
            "debug.getupvalue(setmetatable, 1)",
            "package.loadlib('/nowhere.so', '*')",
            "pcall(require, 'no.such.module')",
            "for i = 1, 100 do setmetatable({}, {}) end",
            "kept = string.rep('x', 70000)",
        ] {
            assert!(!waits_after(code), "{code}");
        }
    }

    #[test]
    fn a_number_of_requests_or_a_limit_of_memory_is_taken_at_its_word() {
        assert!(!state(Plan { gc_freq: 1, ..Plan::default() }).garbage.waits());
        assert!(!state(Plan { memory_limit: 64 << 20, ..Plan::default() }).garbage.waits());
    }

    #[test]
    fn who_asks_how_much_memory_is_used_finds_it_collected() {
        let mut state = state(Plan::default());
        let count = |state: &State| state.lua.load("return collectgarbage('count')").eval::<f64>().expect("a number");
        let first = count(&state);
        for _ in 0..20 {
            state.lua.load("local t = {} for i = 1, 50 do t[i] = { i } end").exec().expect("garbage");
            state.garbage.after_request(&state.lua);
        }
        assert!(state.garbage.heap() as f64 / 1024.0 > first + 20.0, "it was put off");
        assert!(count(&state) < first + 8.0);
        state.lua.load("local t = {} for i = 1, 50 do t[i] = { i } end").exec().expect("garbage");
        assert!(count(&state) > first + 1.0, "and what this request leaves is not collected in the middle of it");
    }

    #[test]
    fn errors_of_watched_functions_are_as_ever() {
        let plain = mlua::Lua::new();
        let state = state(Plan::default());
        for code in [
            "setmetatable()",
            "setmetatable(1, {})",
            "setmetatable({})",
            "setmetatable({}, 1)",
            "io.open()",
            "collectgarbage('x')",
            "newproxy(7)",
        ] {
            let code = format!("return select(2, pcall(function() {code} end))");
            let error = |lua: &Lua| lua.load(&code).set_name("=app").eval::<String>().expect(&code);
            assert_eq!(error(&state.lua), error(&plain), "{code}");
        }
        let error: String =
            state.lua.load("return select(2, pcall(setmetatable, setmetatable({}, { __metatable = 1 }), {}))").eval().expect("text");
        assert_eq!(error, "cannot change a protected metatable");
    }

    #[test]
    fn a_heap_stays_as_small_over_many_requests() {
        let mut state = state(Plan::default());
        let mut most = 0;
        for _ in 0..5000 {
            state.lua.load("local t = {} for i = 1, 5 do t[i] = { 'x' .. i } end").exec().expect("garbage");
            state.garbage.after_request(&state.lua);
            most = most.max(state.garbage.heap());
        }
        assert!(most < state.garbage.left + 2 * ROOM, "{most}");
    }
}
