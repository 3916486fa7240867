//! Forking a process in which Python runs.

use imperator_sys::process::Fork;
use imperator_worker::zygote::ZygoteError;
use nix::unistd::{ForkResult, Pid};
use pyo3::prelude::*;

use super::{Python3, explain};
use crate::say;

impl Python3 {
    pub(super) fn warn_of_threads(&self, py: Python<'_>) {
        let names = self.embedded.interpreter.bind(py).call_method0("live_threads").and_then(|names| names.extract::<Vec<String>>());
        if let Ok(names) = names
            && !names.is_empty()
        {
            let names = names.join(", ");
            say(&format!(
                "threads that were started while the app was loaded do not live on in the workers: {names}; start them in uwsgi.post_fork_hook, or use lazy-apps\n"
            ));
        }
    }
}

/// Python's own fork, with all that it does before and after.
pub(super) fn fork(py: Python<'_>) -> Result<Fork, ZygoteError> {
    let ours = crate::forked::ours();
    let pid = py.import("os").and_then(|os| os.call_method0("fork")).and_then(|pid| pid.extract::<i32>());
    drop(ours);
    match pid {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => Ok(Fork::Parent(Pid::from_raw(pid))),
        Err(error) => {
            crate::errors::print(py, &error);
            Err(ZygoteError::Fork)
        }
    }
}

/// A bare fork, for a child that forks once more as Python does.
pub(super) fn fork_between(py: Python<'_>) -> Result<Fork, ZygoteError> {
    // Python's import lock must not be in the hands of a thread that is not there afterwards.
    let imports = py.import("_imp").map_err(|error| explain(py, error))?;
    imports.call_method0("acquire_lock").map_err(|error| explain(py, error))?;
    // SAFETY: this thread holds Python's lock and the import lock. The child's only deeds are Python's own fork, which deals with all others, and its end.
    let forked = unsafe { imperator_sys::fork::fork() };
    imports.call_method0("release_lock").map_err(|error| explain(py, error))?;
    match forked {
        Ok(ForkResult::Parent { child }) => Ok(Fork::Parent(child)),
        Ok(ForkResult::Child) => Ok(Fork::Child),
        Err(source) => Err(ZygoteError::Os { what: "fork", source }),
    }
}
