//! The emperor: one process a host that starts, reloads and stops vassals (whole instances) as their files come, change and go.

pub mod core;
pub mod sources;

use imperator_worker::settings::Settings;

/// Where in the process tree this emperor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The process that the user, an init system or another emperor started.
    First,
    /// A child of an instance that has sockets or an app of its own; `parent` is that master's pid.
    Below { parent: i32 },
}

/// Governs until told to end; the exit code (0 after TERM, INT or QUIT, 1 if its own emperor is gone).
///
/// Must be called before any thread is started: vassals are forked from here.
///
/// # Errors
/// A source that must exist and does not, an address that cannot be bound, an unknown namespace or capability.
pub fn run(settings: &Settings, place: Place) -> anyhow::Result<i32> {
    let _ = (settings, place);
    anyhow::bail!("this build has no emperor")
}
