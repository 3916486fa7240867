//! The master of one instance: it owns the sockets, the shared memory and the processes, and runs no line of an app's.

pub mod decide;
pub mod order;

use std::path::PathBuf;

pub use order::Order;

use crate::config::Loaded;

/// What the process was started with: all that a reload needs to do the same again.
#[derive(Debug, Clone)]
pub struct Start {
    /// With the program's name first.
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// The working directory before any `chdir`.
    pub directory: PathBuf,
}

/// Environment variable of a reload's exec: the number of the descriptor with the state of the running generations.
pub const STATE_ENV: &str = "IMPERATOR_STATE";

/// Runs an instance from its configuration until it is told to end; the exit code.
/// Must be called before any thread is started.
///
/// # Errors
/// What stops a start: an address, a user, a file (exit code 1).
pub fn run(loaded: &Loaded, start: &Start) -> anyhow::Result<i32> {
    let _ = (loaded, start);
    anyhow::bail!("this build has no master")
}

/// Goes on after a reload's exec; `None` if this start is none. To be called first of all: it loads the configuration itself, and if that
/// fails the running generation serves on.
pub fn resume(start: &Start) -> Option<anyhow::Result<i32>> {
    start.env.iter().any(|(key, _)| key == STATE_ENV).then(|| anyhow::bail!("this build cannot resume"))
}
