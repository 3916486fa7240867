//! Lua apps in Imperator: WSAPI through mlua, the `uwsgi` table, and Lua files as configuration.
//!
//! [`run`] is a zygote without any other language; beside Python, [`runtime`] is put [`imperator_worker::zygote::Together`] with it. Read
//! [`language`] first (the way of a request), then [`state`] (what is loaded) and [`table`] (what apps can ask).

mod answer;
mod autoreload;
mod body;
mod cache;
pub mod config;
mod current;
mod env;
mod exit;
mod failure;
mod garbage;
mod harakiri;
mod language;
mod native;
mod not_built;
mod request_api;
mod runtime;
mod state;
mod table;
mod turn;

use std::sync::Arc;

use imperator_worker::control::Boot;
use imperator_worker::host::Host;
use imperator_worker::zygote::{self, Runtime, ZygoteError};

/// Does everything that this process is for; the value is its exit code.
///
/// # Errors
/// As [`zygote::begin`] and [`zygote::run`].
pub fn run(boot: Arc<Boot>) -> Result<i32, ZygoteError> {
    let host = zygote::begin(boot)?;
    zygote::run(host, &mut *runtime(host))
}

/// Lua at the time of loading and forking.
pub fn runtime(host: &'static Host) -> Box<dyn Runtime> {
    Box::new(runtime::LuaRuntime::new(host))
}
