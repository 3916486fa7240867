//! One Lua state: libraries, the `uwsgi` table, the files, and the apps that they return.

use std::ffi::c_int;
use std::fs;
use std::path::Path;

use imperator_worker::settings::Settings;
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

use crate::garbage::Garbage;
use crate::native::Natives;
use crate::turn::{Fixtures, keep};
use crate::{env, exit, failure, table};

/// Where Debian and its kin keep Lua modules; LuaJIT as it comes looks below /usr/local only.
const PATHS: &str = "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua";
const C_PATHS: &str = concat!(
    "/usr/lib/x86_64-linux-gnu/lua/5.1/?.so;/usr/lib/aarch64-linux-gnu/lua/5.1/?.so;",
    "/usr/lib64/lua/5.1/?.so;/usr/lib/lua/5.1/?.so"
);

/// All that an interpreter opens. (`ffi` waits in `package.preload` there, too: it is not small.)
fn libraries() -> StdLib {
    #[cfg(feature = "luajit")]
    return StdLib::ALL ^ StdLib::FFI;
    #[cfg(not(feature = "luajit"))]
    StdLib::ALL
}

/// What every state is made of.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// `lua-load`.
    pub before: Vec<String>,
    /// Mount point (empty: the default app) and file, in the order of their numbers.
    pub apps: Vec<(String, String)>,
    /// Bytes; 0: no limit.
    pub memory_limit: usize,
    /// `lua-gc-freq`.
    pub gc_freq: u64,
    /// Where the options were written, by option and value, for messages.
    pub origins: Vec<(String, String, String)>,
}

impl Plan {
    pub fn of(settings: &Settings) -> Self {
        let lua = &settings.lua;
        let mounts = lua.mounts.iter().filter_map(|line| line.split_once('='));
        let apps = lua.app.iter().map(|file| (String::new(), file.clone()));
        Self {
            before: lua.load.clone(),
            apps: apps.chain(mounts.map(|(point, file)| (point.to_owned(), file.to_owned()))).collect(),
            memory_limit: usize::try_from(lua.memory_limit_mib << 20).unwrap_or(usize::MAX),
            gc_freq: lua.gc_freq,
            origins: origins(settings),
        }
    }

    /// `lua = app.lua (/srv/app.ini:3)`.
    fn place(&self, option: &str, value: &str) -> String {
        let found = self.origins.iter().find(|(name, given, _)| name == option && given == value);
        let place = found.map(|(_, _, place)| format!(" ({place})")).unwrap_or_default();
        format!("{option} = {value}{place}")
    }
}

fn origins(settings: &Settings) -> Vec<(String, String, String)> {
    let mut all = vec![];
    for name in ["lua", "lua-load", "mount"] {
        let values = settings.opt.iter().find(|(option, _)| option == name).map_or(&[][..], |(_, values)| values);
        let places = settings.origins.iter().find(|(option, _)| option == name).map_or(&[][..], |(_, places)| places);
        for (value, place) in values.iter().zip(places) {
            all.push((name.to_owned(), value.clone().unwrap_or_default(), place.clone()));
        }
    }
    all
}

/// A state that is ready to serve.
pub struct State {
    pub lua: Lua,
    /// In the order of [`Plan::apps`], by their numbers in the registry.
    pub apps: Vec<c_int>,
    pub fixtures: Fixtures,
    pub garbage: Garbage,
    /// Files that were loaded, as they were named.
    pub files: Vec<String>,
}

impl State {
    /// Makes a state and runs its files.
    ///
    /// # Errors
    /// For the log: which option, which file and line, and why.
    pub fn load(plan: &Plan) -> Result<Self, String> {
        // SAFETY: what makes it unsafe is that Lua code may load C modules and use `debug` and `ffi`: the user's own code in the user's own process, which
        // could do the same in any Lua (docs/decisions/0008-lua-is-not-sandboxed.md).
        let lua = unsafe { Lua::unsafe_new_with(libraries(), LuaOptions::new().catch_rust_panics(false)) };
        let prepare = || -> mlua::Result<_> {
            prepare(&lua)?;
            let mut natives = Natives::default();
            table::install(&lua, &mut natives)?;
            exit::install(&lua, &mut natives)?;
            let (input, error) = env::shared(&lua, &mut natives)?;
            let fixtures = Fixtures::new(&lua, input, error)?;
            let mut garbage = Garbage::new(&lua, &mut natives, fixtures.main, plan)?;
            natives.install(&lua)?;
            garbage.begin(&lua)?;
            Ok((fixtures, garbage))
        };
        let (fixtures, garbage) = prepare().map_err(|error| failure::text(&error))?;
        if plan.memory_limit > 0 {
            lua.set_memory_limit(plan.memory_limit).map_err(|error| format!("lua-memory-limit: {}", failure::text(&error)))?;
        }
        let mut state = Self { lua, apps: vec![], fixtures, garbage, files: vec![] };
        for file in &plan.before {
            state.run(file).map_err(|why| unable(&plan.place("lua-load", file), &why))?;
        }
        for (point, file) in &plan.apps {
            let place = match point.as_str() {
                "" => plan.place("lua", file),
                point => plan.place("mount", &format!("{point}={file}")),
            };
            let app = state.run(file).and_then(|value| app_of(file, value)).map_err(|why| unable(&place, &why))?;
            state.apps.push(keep(&state.lua, Value::Function(app)).map_err(|error| failure::text(&error))?);
        }
        state.garbage.collect(&state.lua).map_err(|error| failure::text(&error))?;
        Ok(state)
    }

    /// Runs a file; what it returns. The reason of a failure starts with file and line.
    fn run(&mut self, file: &str) -> Result<Value, String> {
        let text = read(file)?;
        self.files.push(file.to_owned());
        let chunk = self.lua.load(text).set_name(format!("@{file}"));
        chunk.into_function().and_then(|file| file.call(())).map_err(|error| failure::text(&error))
    }

    /// Everything whose change makes the state an old one: the files, and the modules that they have loaded by `require`.
    pub fn sources(&self) -> Vec<String> {
        let mut sources = self.files.clone();
        sources.extend(modules(&self.lua).unwrap_or_default());
        sources
    }
}

/// What is done to a state before anything of the user's.
fn prepare(lua: &Lua) -> mlua::Result<()> {
    // A line that is printed is in the log at once, and a fork does not write it twice.
    lua.load("io.stdout:setvbuf('line')").exec()?;
    let package: Table = lua.globals().get("package")?;
    #[cfg(feature = "luajit")]
    {
        // SAFETY: LuaJIT's own function to open that library, called by Lua as such functions are.
        let open = unsafe { lua.create_c_function(mlua::ffi::luaopen_ffi) }?;
        package.get::<Table>("preload")?.set("ffi", open)?;
    }
    if cfg!(any(feature = "luajit", feature = "lua51")) {
        extend(&package, "path", "LUA_PATH", PATHS)?;
        extend(&package, "cpath", "LUA_CPATH", C_PATHS)?;
    }
    if !is_visible() {
        lua.load(EXPLAIN).set_name("=imperator").exec()?;
    }
    Ok(())
}

/// Says what the matter is when a C module finds no Lua to work with.
const EXPLAIN: &str = r#"
local loaders, pcall, error, tostring = package.loaders or package.searchers, pcall, error, tostring
for number = 3, 4 do
    local search = loaders[number]
    loaders[number] = function(name)
        local ok, found, file = pcall(search, name)
        if ok then return found, file end
        error(tostring(found) .. "\n\t(beside Python C modules of Lua cannot be loaded: give the app an instance without Python)", 0)
    end
end
"#;

/// Whether libraries that this process loads can use our Lua: as an executable it shows them its functions, as Python's extension it does not.
fn is_visible() -> bool {
    // SAFETY: a look at the names that are visible to all.
    !unsafe { nix::libc::dlsym(nix::libc::RTLD_DEFAULT, c"lua_gettop".as_ptr()) }.is_null()
}

/// Adds to a search path that the environment has not set.
fn extend(package: &Table, field: &str, variable: &str, more: &str) -> mlua::Result<()> {
    if std::env::var_os(variable).is_some() {
        return Ok(());
    }
    let path: String = package.get(field)?;
    package.set(field, format!("{path};{more}"))
}

/// A file's text, without a first line that starts with `#`.
fn read(file: &str) -> Result<Vec<u8>, String> {
    let mut text = fs::read(file).map_err(|error| {
        let directory = std::env::current_dir().map_or_else(|_| String::new(), |d| d.display().to_string());
        format!("cannot open {file}: {error} (the working directory is {directory})")
    })?;
    if text.first() == Some(&b'#') {
        let end = text.iter().position(|b| *b == b'\n').unwrap_or(text.len());
        text.drain(..end);
    }
    Ok(text)
}

fn app_of(file: &str, value: Value) -> Result<Function, String> {
    let kind = failure::kind(&value);
    let found = match value {
        Value::Function(function) => Some(function),
        Value::Table(table) => table.get::<Option<Function>>("run").ok().flatten(),
        _ => None,
    };
    found.ok_or_else(|| format!("{file}: a WSAPI file returns a function, or a table with a function `run`; this one returned a {kind}"))
}

fn unable(place: &str, why: &str) -> String {
    let (first, rest) = why.split_once('\n').map_or((why, ""), |(first, rest)| (first, rest));
    let rest = if rest.is_empty() { String::new() } else { format!("\n{rest}") };
    format!("unable to load the Lua app\n  option: {place}\n  cause:  {first}{rest}")
}

/// The files of the modules in `package.loaded`.
fn modules(lua: &Lua) -> mlua::Result<Vec<String>> {
    let package: Table = lua.globals().get("package")?;
    let (path, loaded): (String, Table) = (package.get("path")?, package.get("loaded")?);
    let mut found = vec![];
    for pair in loaded.pairs::<Value, Value>() {
        let Ok((Value::String(name), _)) = pair else { continue };
        let name = name.to_string_lossy().replace('.', "/");
        found.extend(path.split(';').map(|template| template.replace('?', &name)).find(|file| Path::new(file).is_file()));
    }
    Ok(found)
}
