//! What an app's processes may still do and see: carried out between the fork and the exec of the interpreter, by the process itself, in this
//! order: [`mounts`] while it may still mount, then users and capabilities ([`crate::privileges`]), then the [`Seal`].

pub mod calls;
pub mod joined;
pub mod landlock;
pub mod mounts;
mod oci;
pub mod profile;
pub mod seccomp;
pub mod users;

use std::io::Error;

use imperator_sys::{caps, spawn};
use serde::{Deserialize, Serialize};

pub use landlock::Files;
pub use mounts::Mounts;

use crate::settings::Seccomp;

/// A step that could not be taken. The process must end then.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    #[error("{step}: {source}")]
    Step { step: String, source: Error },
    #[error("landlock: {0}")]
    Landlock(String),
    #[error("landlock: this kernel takes no rules")]
    NoLandlock,
    #[error("seccomp: {0}")]
    Seccomp(String),
    #[error("seccomp: {0}")]
    Profile(#[from] profile::ProfileError),
}

pub(crate) fn step<T>(step: impl Into<String>, done: Result<T, impl Into<Error>>) -> Result<T, IsolationError> {
    done.map_err(|source| IsolationError::Step { step: step.into(), source: source.into() })
}

/// What is given up last, when nothing has to be mounted, changed or dropped any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Seal {
    /// All of them; the bounding set too.
    pub drop_capabilities: bool,
    pub no_new_privs: bool,
    /// No signal to processes outside, no abstract socket of theirs.
    pub scope: bool,
    /// Each of them holds: what one does not name cannot be opened.
    pub files: Vec<Files>,
    pub seccomp: Vec<Seccomp>,
}

impl Seal {
    /// Whether there is anything to do.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Carries it out, for this thread and all that it starts. There is no way back.
    ///
    /// # Errors
    /// The part that the kernel refused.
    pub fn close(&self) -> Result<(), IsolationError> {
        if self.drop_capabilities {
            if caps::has(caps::SETPCAP) {
                step("dropping capabilities", spawn::limit_bounding_set(&[]))?;
            }
            step("dropping capabilities", caps::keep_only(&[]))?;
        }
        if self.no_new_privs {
            step("no-new-privs", nix::sys::prctl::set_no_new_privs())?;
        }
        landlock::enter(self.scope, &self.files)?;
        for seccomp in &self.seccomp {
            if let Some(profile) = seccomp.profile() {
                seccomp::enter(&profile)?;
            }
        }
        Ok(())
    }
}
