//! Those functions of the `uwsgi` table that are about the request that is served, or about a descriptor.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;

use imperator_worker::control::FromWorker;
use imperator_worker::host::host;
use imperator_worker::language::NoLock;
use imperator_worker::request::{BodyError, Request};
use imperator_worker::scoreboard::CoreCell;
use mlua::{Lua, LuaString, Table};
use nix::sys::socket::{Shutdown, shutdown};

use crate::current;
use crate::native::Natives;

pub fn add(natives: &mut Natives, uwsgi: &Table) {
    natives.add(uwsgi, "request_id", |_, (): ()| here("request_id", request_id));
    natives.add(uwsgi, "set_logvar", set_logvar);
    natives.add(uwsgi, "get_logvar", get_logvar);
    natives.add(uwsgi, "add_var", add_var);
    natives.add(uwsgi, "set_user_harakiri", set_user_harakiri);
    natives.add(uwsgi, "log_this_request", |_, (): ()| here("log_this_request", |request| request.ask_for_log()));
    natives.add(uwsgi, "connection_fd", |_, (): ()| here("connection_fd", |request| request.fd().as_raw_fd()));
    // There is no asynchronous engine whose descriptor could be ready.
    natives.add(uwsgi, "ready_fd", |_, (): ()| here("ready_fd", |_| -1));
    natives.add(uwsgi, "cl", |_, (): ()| here("cl", content_length));
    natives.add(uwsgi, "disconnect", |_, (): ()| here("disconnect", disconnect));
    natives.add(uwsgi, "is_connected", |_, fd: i32| Ok(imperator_sys::socket::is_connected(fd)));
    natives.add(uwsgi, "close", |_, fd: i32| Ok(nix::unistd::close(fd).is_ok()));
    natives.add(uwsgi, "chunked_read", chunked_read);
    natives.add(uwsgi, "chunked_read_nb", chunked_read_nb);
}

/// Runs `f` with the request that is served.
fn here<R>(name: &str, f: impl FnOnce(&mut Request<'_>) -> R) -> mlua::Result<R> {
    current::with(f).ok_or_else(|| mlua::Error::runtime(format!("uwsgi.{name}: no request is served now")))
}

/// Requests that this core has served before this one.
fn request_id(request: &mut Request<'_>) -> u64 {
    let Some(host) = host() else { return 0 };
    let core = host.scoreboard.worker(host.worker()).and_then(|worker| worker.core(request.core()));
    core.map_or(0, |core| core.cell(CoreCell::Requests).load(Relaxed))
}

fn set_logvar(_: &Lua, (name, value): (LuaString, LuaString)) -> mlua::Result<()> {
    here("set_logvar", |request| request.set_logvar(&name.as_bytes(), &value.as_bytes()))
}

fn get_logvar(lua: &Lua, name: LuaString) -> mlua::Result<Option<LuaString>> {
    let value = here("get_logvar", |request| request.logvar(&name.as_bytes()).map(<[u8]>::to_vec))?;
    value.map(|value| lua.create_string(value)).transpose()
}

/// A variable more that log-format's %(var.NAME) knows.
fn add_var(_: &Lua, (name, value): (LuaString, LuaString)) -> mlua::Result<bool> {
    let fits = here("add_var", |request| request.add_var(&name.as_bytes(), &value.as_bytes()))?;
    if fits { Ok(true) } else { Err(mlua::Error::runtime("uwsgi.add_var: no name, or no room for more variables")) }
}

/// The master kills this worker after so many seconds; 0 takes it back.
fn set_user_harakiri(_: &Lua, seconds: u32) -> mlua::Result<()> {
    here("set_user_harakiri", |request| request.set_harakiri(seconds))?;
    // The master sleeps until the next deadline that it knows. Without one there is nobody to strike.
    let _ = host().map(|host| host.tell_master(&FromWorker::Deadline));
    Ok(())
}

fn content_length(request: &mut Request<'_>) -> u64 {
    let length = request.var(b"CONTENT_LENGTH").and_then(|v| std::str::from_utf8(v).ok());
    length.and_then(|v| v.trim().parse().ok()).unwrap_or_default()
}

/// Ends the connection; the app goes on. A client that has left already is no error.
fn disconnect(request: &mut Request<'_>) {
    let _ = shutdown(request.fd().as_raw_fd(), Shutdown::Both);
}

/// The next chunk of a chunked body; empty at the end.
fn chunked_read(lua: &Lua, timeout: Option<u32>) -> mlua::Result<LuaString> {
    let chunk = here("chunked_read", |request| request.read_chunk(timeout, &NoLock))?;
    lua.create_string(chunk.map_err(|error| mlua::Error::runtime(format!("uwsgi.chunked_read: {error}")))?)
}

/// As `chunked_read`, but nil where nothing is there yet.
fn chunked_read_nb(lua: &Lua, (): ()) -> mlua::Result<Option<LuaString>> {
    match here("chunked_read_nb", |request| request.read_chunk(Some(0), &NoLock))? {
        Ok(chunk) => lua.create_string(chunk).map(Some),
        Err(BodyError::Timeout(_)) => Ok(None),
        Err(error) => Err(mlua::Error::runtime(format!("uwsgi.chunked_read_nb: {error}"))),
    }
}
