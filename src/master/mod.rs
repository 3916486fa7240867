//! The master of one instance: it owns the sockets, the shared memory and the processes, and runs no line of an app's.
//!
//! [`decide`] says what follows from what happened; [`running`] is the loop that tells it and does what it says;
//! [`spawn`] starts the user's interpreter; [`handover`] carries everything over a reload's exec.

mod alarms;
mod answers;
mod asked;
mod caches;
mod caching;
mod crons;
mod daemon;
mod daemons;
pub mod decide;
mod descriptors;
mod forked;
mod handover;
mod helper;
mod hooking;
mod interpreter;
mod metrics;
mod namespaces;
mod obey;
pub mod order;
mod peers;
mod phases;
mod policy;
mod poll;
mod pushes;
mod reap;
mod reloading;
mod report;
mod running;
mod runtime;
mod services;
mod setup;
mod shim;
mod signals;
mod single;
mod spawn;
mod supervised;
mod tally;
mod timers;
mod vassal;
mod zerg;

use std::path::PathBuf;

use anyhow::Context as _;
pub use asked::Parts;
pub(crate) use daemon::{Waiting, detach};
pub use order::Order;

use imperator_worker::settings::Settings;
pub use setup::Ready;

/// What the process was started with: all that a reload needs to do the same again.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// With the program's name first.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// The working directory before any `chdir`.
    pub directory: PathBuf,
    /// The executable as it was found at the first start: a newer one of that name is what a reload executes.
    pub binary: PathBuf,
}

impl Start {
    /// Of this process. What is no UTF-8 in arguments and environment is left out of the environment and replaced in arguments.
    ///
    /// # Errors
    /// There is no working directory, or the executable cannot be found.
    pub fn of_this_process() -> anyhow::Result<Self> {
        let argv: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let directory = std::env::current_dir().context("the working directory")?;
        let named = argv.first().filter(|a| a.contains('/')).map(|a| directory.join(a));
        let binary = match named.filter(|p| p.is_file()) {
            Some(path) => path,
            None => std::env::current_exe().context("the path of the executable")?,
        };
        Ok(Self { argv, env, directory, binary })
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Environment variable of a reload's exec: the number of the descriptor with the state of the running generations.
pub const STATE_ENV: &str = "IMPERATOR_STATE";
/// How often the instance has been reloaded.
const RELOADS_ENV: &str = "UWSGI_RELOADS";

/// How far a start has come.
#[must_use]
pub enum Prepared {
    /// To the end, with this exit code.
    Ended(i32),
    Ready(Box<Ready>),
}

/// Makes an instance from its configuration, up to its first process, which [`Ready::run`] starts.
/// Must be called before any thread is started.
///
/// # Errors
/// What stops a start: an address, a user, a file (exit code 1).
pub fn prepare(settings: Settings, start: &Start) -> anyhow::Result<Prepared> {
    setup::first(settings, start)
}

/// Goes on after a reload's exec; `None` if this start is none. To be called first of all: it loads the configuration itself, and if that
/// fails the running generation serves on.
pub fn resume(start: &Start) -> Option<anyhow::Result<Box<Ready>>> {
    let number = start.var(STATE_ENV)?;
    Some(setup::again(number, start))
}
