//! Processes that the app forks (`os.fork`, multiprocessing): copies of a worker that must not act as one.
//!
//! Such a process lives as long as the app's code in it runs. It serves no request, holds no socket of the container's, and signals do in it what they do in any program.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use imperator_sys::{process, signals};
use imperator_worker::host::host;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use crate::embedded::Embedded;
use crate::say;
use crate::wsgi::Trouble;

/// The container itself is forking.
static OURS: AtomicBool = AtomicBool::new(false);
/// This process was forked by the app.
static FOREIGN: AtomicBool = AtomicBool::new(false);

/// Forks until the value is dropped are the container's own.
pub fn ours() -> Ours {
    OURS.store(true, Relaxed);
    Ours
}

/// See [`ours`].
pub struct Ours;

impl Drop for Ours {
    fn drop(&mut self) {
        OURS.store(false, Relaxed);
    }
}

/// Whether this process is one that the app forked.
pub fn foreign() -> bool {
    FOREIGN.load(Relaxed)
}

/// Has Python say when the app forked. (C extensions that fork on their own exec something right after.)
pub fn watch(py: Python<'_>) -> PyResult<()> {
    let hook: Bound<'_, PyDict> = [("after_in_child", wrap_pyfunction!(in_child, py)?)].into_py_dict(py)?;
    py.import("os")?.getattr("register_at_fork")?.call((), Some(&hook)).map(drop)
}

#[pyfunction]
fn in_child(py: Python<'_>) {
    if OURS.load(Relaxed) {
        return;
    }
    FOREIGN.store(true, Relaxed);
    let _ = signals::forget(); // fails for numbers that are no signals only
    let Some(host) = host().filter(|host| host.worker() > 0) else { return };
    // What does not serve keeps no client waiting for the end of its connection, and no address in use. (A script that does the worker's work uses the sockets.)
    let connection = crate::slot::abandon(py);
    let listeners = host.boot.listeners.iter().map(|l| l.fd).filter(|_| host.boot.settings.python.worker_override.is_none());
    for fd in listeners.chain(connection) {
        // SAFETY: whatever else in this copy owns the number is never used or dropped again: this process runs the app's code and then ends by `_exit`.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The app's code came back to the worker's, in a process that is none: its end.
pub fn end(py: Python<'_>, embedded: &Embedded, result: Result<(), Trouble>) -> ! {
    let interpreter = embedded.interpreter.bind(py);
    let code = match result {
        Err(Trouble::Raised(error)) if error.is_instance_of::<PySystemExit>(py) => {
            interpreter.call_method1("exit_code", (error.value(py),)).and_then(|code| code.extract()).unwrap_or(1)
        }
        Err(Trouble::Raised(error)) => {
            crate::errors::print(py, &error);
            1
        }
        Ok(()) | Err(Trouble::Gone | Trouble::Refused(_)) => {
            let pid = std::process::id();
            say(&format!(
                "process {pid}, which the app forked, came back from the request: it ends, and the answer is its parent's to give\n"
            ));
            0
        }
    };
    if let Err(error) = interpreter.call_method0("run_exit_functions") {
        crate::errors::print(py, &error);
    }
    process::exit_now(code)
}
