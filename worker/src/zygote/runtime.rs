//! What a zygote needs of a language.

use std::sync::Arc;

use imperator_sys::process::{self, Fork};

use super::{ZygoteError, os};
use crate::language::Language;

/// How loading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    Done,
    /// The process ends with `code`; the reason is in the log already.
    Failed {
        code: i32,
        message: String,
    },
}

/// A language at the time of loading and forking; [`Language`] is what it is while it serves. All methods run in the main thread of the process.
///
/// The order of calls: [`begin`](Self::begin), [`load`](Self::load), then in each worker [`forked`](Self::forked), [`load`](Self::load) (if `lazy-apps`
/// has put it off), [`ready`](Self::ready), and the language serves.
pub trait Runtime {
    /// The language as it is to serve. Asked for after the load, and again in each worker.
    fn language(&self) -> Arc<dyn Language>;

    /// What is done once, before the fork, even if the apps are loaded later.
    ///
    /// # Errors
    /// What is wrong with the runtime itself: the process ends.
    fn begin(&mut self) -> Result<Load, ZygoteError> {
        Ok(Load::Done)
    }

    /// Loads the apps: in the zygote, or with `lazy-apps` in each worker.
    ///
    /// # Errors
    /// As [`Self::begin`]. What is wrong with an app is logged and is a [`Load::Failed`].
    fn load(&mut self) -> Result<Load, ZygoteError>;

    /// The number of this language's first app, for counters and log lines, where others were loaded before it.
    fn number_from(&mut self, _first: u32) {}

    /// So many numbers after those of this language's loaded apps are other languages': an app that is loaded later has one behind them.
    fn leave_numbers(&mut self, _others: u32) {}

    /// The load is over, and forks come next.
    fn before_forks(&mut self) {}

    /// Runs `work`, which may block, with the language's lock released.
    fn detached(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }

    /// Forks this process with all that the language is.
    ///
    /// # Errors
    /// The system's, or the language's.
    fn fork(&mut self) -> Result<Fork, ZygoteError> {
        os("fork", process::fork())
    }

    /// Forks the process that forks the worker and ends: it only calls [`Self::fork`].
    ///
    /// # Errors
    /// The system's, or the language's.
    fn fork_between(&mut self) -> Result<Fork, ZygoteError> {
        os("fork", process::fork())
    }

    /// This process is a worker from now on. `worker` is its number, from 1.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn forked(&mut self, _worker: u32) -> Result<(), ZygoteError> {
        Ok(())
    }

    /// After the hooks of the phase `post-fork`: the app's own ones.
    fn post_fork(&mut self) {}

    /// Takes the place of serving (`worker-override`): the exit code.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn instead(&mut self) -> Result<Option<i32>, ZygoteError> {
        Ok(None)
    }

    /// Everything is loaded and requests come next: helpers for development.
    ///
    /// # Errors
    /// As [`Self::begin`].
    fn ready(&mut self, _worker: u32) -> Result<(), ZygoteError> {
        Ok(())
    }
}
