//! The `uwsgi` table: what the container is, who this process is, what an app can ask of the master. Names are those of Python's module.

use imperator_worker::host::{self, Host};
use imperator_worker::log::diag::say;
use mlua::{Lua, LuaString, MultiValue, Table, Value};

use crate::failure;

/// The version of uWSGI whose table this one stands in for.
const VERSION: &str = "2.0.30";

/// Makes the global table, complete, before any file is run.
pub fn install(lua: &Lua) -> mlua::Result<()> {
    let uwsgi = lua.create_table()?;
    crate::not_built::add(lua, &uwsgi)?;
    uwsgi.raw_set("version", VERSION)?;
    uwsgi.raw_set("log", lua.create_function(log)?)?;
    if let Some(host) = host::host() {
        facts(lua, &uwsgi, host)?;
        functions(lua, &uwsgi, host)?;
        crate::cache::add(lua, &uwsgi, host)?;
    }
    crate::request_api::add(lua, &uwsgi)?;
    lua.globals().set("uwsgi", uwsgi)
}

fn facts(lua: &Lua, uwsgi: &Table, host: &Host) -> mlua::Result<()> {
    let settings = &host.boot.settings;
    uwsgi.raw_set("hostname", nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned())?;
    uwsgi.raw_set("numproc", settings.process.workers)?;
    uwsgi.raw_set("cores", settings.process.threads)?;
    uwsgi.raw_set("buffer_size", settings.request.buffer_size.unwrap_or(65535))?;
    uwsgi.raw_set("started_on", host.boot.started_at)?;
    uwsgi.raw_set("is_a_reload", host.boot.generation > 1)?;
    uwsgi.raw_set("SPOOL_OK", -2)?;
    uwsgi.raw_set("SPOOL_RETRY", -1)?;
    uwsgi.raw_set("SPOOL_IGNORE", 0)?;
    uwsgi.raw_set("opt", options(lua, &settings.opt)?)
}

/// Names to strings, or to true where an option was given without a value. Of a repeated option the last value, as in Python.
fn options(lua: &Lua, opt: &[(String, Vec<Option<String>>)]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (name, values) in opt {
        match values.last() {
            Some(Some(value)) => table.raw_set(name.as_str(), value.as_str())?,
            _ => table.raw_set(name.as_str(), true)?,
        }
    }
    Ok(table)
}

/// As uWSGI: exactly one argument.
fn log(_: &Lua, arguments: MultiValue) -> mlua::Result<()> {
    match arguments.iter().collect::<Vec<_>>()[..] {
        [text @ (Value::String(_) | Value::Integer(_) | Value::Number(_))] => {
            say(&text.to_string()?);
            Ok(())
        }
        [other] => Err(mlua::Error::runtime(format!("uwsgi.log takes a string, not a {}", failure::kind(other)))),
        _ => Err(mlua::Error::runtime("uwsgi.log takes 1 parameter")),
    }
}

fn functions(lua: &Lua, uwsgi: &Table, host: &'static Host) -> mlua::Result<()> {
    uwsgi.raw_set("worker_id", lua.create_function(|_, ()| Ok(host.worker()))?)?;
    uwsgi.raw_set("mule_id", lua.create_function(|_, ()| Ok(0))?)?;
    uwsgi.raw_set("mypid", lua.create_function(|_, ()| Ok(std::process::id()))?)?;
    uwsgi.raw_set("masterpid", lua.create_function(|_, ()| Ok(host.boot.master_pid))?)?;
    uwsgi.raw_set("ready", lua.create_function(|_, ()| Ok(host.is_accepting().then_some(true)))?)?;
    uwsgi.raw_set(
        "accepting",
        lua.create_function(|_, yes: Option<bool>| {
            host.set_accepting(yes.unwrap_or(true));
            Ok(())
        })?,
    )?;
    uwsgi.raw_set("total_requests", lua.create_function(|_, ()| Ok(host.total_requests()))?)?;
    uwsgi.raw_set("workers", lua.create_function(|lua, ()| workers(lua, host))?)?;
    uwsgi.raw_set("mem", lua.create_function(|_, ()| Ok(host::memory()?))?)?;
    uwsgi.raw_set("logsize", lua.create_function(|_, ()| Ok(0))?)?;
    // A number of Lua's has 53 bits: enough for microseconds until the year 2255.
    uwsgi.raw_set("micros", lua.create_function(|_, ()| Ok(host::micros() as f64))?)?;
    uwsgi.raw_set("listen_queue", lua.create_function(|_, socket| listen_queue(host, socket))?)?;
    uwsgi.raw_set("reload", lua.create_function(|_, ()| asked("reload", host.reload()))?)?;
    uwsgi.raw_set("stop", lua.create_function(|_, ()| asked("stop", host.stop()))?)?;
    uwsgi.raw_set("setprocname", lua.create_function(|_, name: LuaString| Ok(imperator_sys::title::set_title(&name.as_bytes())?))?)
}

fn asked(what: &str, answer: std::io::Result<()>) -> mlua::Result<bool> {
    answer.map(|()| true).map_err(|error| mlua::Error::runtime(format!("uwsgi.{what}(): {error}")))
}

fn workers(lua: &Lua, host: &Host) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    for id in 1..=host.scoreboard.workers() {
        let worker = lua.create_table()?;
        worker.raw_set("id", id)?;
        for (name, number) in host.worker_numbers(id) {
            worker.raw_set(name, number as f64)?;
        }
        worker.raw_set("status", host.worker_status(id))?;
        list.raw_push(worker)?;
    }
    Ok(list)
}

fn listen_queue(host: &Host, socket: Option<usize>) -> mlua::Result<u64> {
    let socket = socket.unwrap_or(0);
    let number = host.boot.listeners.len();
    host.listen_queue(socket)
        .ok_or_else(|| mlua::Error::runtime(format!("uwsgi.listen_queue: there is no socket {socket}; there are {number}")))
}
