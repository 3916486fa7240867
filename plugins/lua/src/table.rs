//! The `uwsgi` table: what the container is, who this process is, what an app can ask of the master. Names are those of Python's module.

use imperator_worker::host::{self, Host};
use imperator_worker::log::diag::say;
use mlua::{Lua, LuaString, MultiValue, Table, Value};

use crate::failure;
use crate::native::Natives;

/// The version of uWSGI whose table this one stands in for.
const VERSION: &str = "2.0.30";

/// Makes the global table, complete, before any file is run.
pub fn install(lua: &Lua, natives: &mut Natives) -> mlua::Result<()> {
    let uwsgi = lua.create_table()?;
    crate::not_built::add(natives, &uwsgi);
    uwsgi.raw_set("version", VERSION)?;
    natives.add(&uwsgi, "log", log);
    if let Some(host) = host::host() {
        facts(lua, &uwsgi, host)?;
        functions(natives, &uwsgi, host);
        crate::cache::add(natives, &uwsgi, host);
    }
    crate::request_api::add(natives, &uwsgi);
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

fn functions(natives: &mut Natives, uwsgi: &Table, host: &'static Host) {
    natives.add(uwsgi, "worker_id", |_, (): ()| Ok(host.worker()));
    natives.add(uwsgi, "mule_id", |_, (): ()| Ok(0));
    natives.add(uwsgi, "mypid", |_, (): ()| Ok(std::process::id()));
    natives.add(uwsgi, "masterpid", |_, (): ()| Ok(host.boot.master_pid));
    natives.add(uwsgi, "ready", |_, (): ()| Ok(host.is_accepting().then_some(true)));
    natives.add(uwsgi, "accepting", |_, yes: Option<bool>| {
        host.set_accepting(yes.unwrap_or(true));
        Ok(())
    });
    natives.add(uwsgi, "total_requests", |_, (): ()| Ok(host.total_requests()));
    natives.add(uwsgi, "workers", |lua, (): ()| workers(lua, host));
    natives.add(uwsgi, "mem", |_, (): ()| Ok(host::memory()?));
    natives.add(uwsgi, "logsize", |_, (): ()| Ok(0));
    // A number of Lua's has 53 bits: enough for microseconds until the year 2255.
    natives.add(uwsgi, "micros", |_, (): ()| Ok(host::micros() as f64));
    natives.add(uwsgi, "listen_queue", |_, socket: Option<usize>| listen_queue(host, socket));
    natives.add(uwsgi, "reload", |_, (): ()| asked("reload", host.reload()));
    natives.add(uwsgi, "stop", |_, (): ()| asked("stop", host.stop()));
    natives.add(uwsgi, "setprocname", |_, name: LuaString| Ok(imperator_sys::title::set_title(&name.as_bytes())?));
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
