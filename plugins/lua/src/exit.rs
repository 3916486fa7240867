//! `os.exit` in an app: it ends the process that serves, so the log says who asked for it.

use imperator_worker::log::diag::say;
use mlua::{Lua, Table, Value};

use crate::current;
use crate::language::title;
use crate::native::Natives;

/// Puts ours in the place of Lua's.
pub fn install(lua: &Lua, natives: &mut Natives) -> mlua::Result<()> {
    natives.add(&lua.globals().get::<Table>("os")?, "exit", exit);
    Ok(())
}

/// Always ends with 1: the codes that mean something between worker and master are not an app's to choose.
fn exit(lua: &Lua, code: Value) -> mlua::Result<()> {
    let place = lua.inspect_stack(2, |caller| {
        let line = caller.current_line().map(|line| format!(":{line}")).unwrap_or_default();
        caller.source().short_src.map(|file| format!("{file}{line}: ")).unwrap_or_default()
    });
    let code = code.to_string().unwrap_or_default();
    let when = current::with(|request| title(request)).map_or_else(|| "while it was loaded".to_owned(), |title| format!("in {title}"));
    say(&format!("{}the app called os.exit({code}) {when}: this process ends", place.unwrap_or_default()));
    let _ = lua.load("io.stdout:flush()").exec(); // what is not out yet was the app's
    imperator_sys::process::exit_now(1)
}
