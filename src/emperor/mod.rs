//! The emperor: one process a host that starts, reloads and stops vassals (whole instances) as their files come, change and go.
//!
//! [`core`] decides, [`shell`] and [`acts`] carry out, [`sources`] say which files there are, [`child`] is the way from a fork to a vassal.

mod above;
mod acts;
mod aside;
mod child;
pub mod command;
pub mod core;
mod demand;
mod hearing;
mod inquiry;
pub mod inside;
mod launch;
mod outlet;
mod poller;
mod ring;
mod setup;
mod shell;
pub mod sources;
mod stats;
mod taps;
mod watch;

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
    setup::govern(settings, place)
}
