//! What a Python worker does before, or instead of, serving.

use imperator_worker::control::FromWorker;
use imperator_worker::zygote::ZygoteError;
use pyo3::prelude::*;

use super::{Python3, say_from_python};
use crate::embedded::development;

impl Python3 {
    /// `worker-override`: a script that does the worker's work.
    pub(super) fn override_worker(&self) -> Result<Option<i32>, ZygoteError> {
        let Some(script) = &self.host.boot.settings.python.worker_override else { return Ok(None) };
        let _ = self.host.tell_master(&FromWorker::Accepting { apps: vec![] }); // what the script does from now on is its own affair
        Python::attach(|py| self.run_as_main(py, script)).map(Some)
    }

    /// Threads of a worker that help with development.
    pub(super) fn helpers(&self, py: Python<'_>, worker: u32) -> PyResult<()> {
        let python = &self.host.boot.settings.python;
        if let Some(prefix) = &python.tracebacker {
            development(py)?.bind(py).call_method1("tracebacker", (prefix, worker))?;
        }
        if let Some(watched) = self.watched.as_ref().filter(|_| worker == 1) {
            let (watch, reload) = (wrap_pyfunction!(crate::watch::wait_for_change, py)?, py.import("uwsgi")?.getattr("reload")?);
            let say = wrap_pyfunction!(say_from_python, py)?;
            development(py)?.bind(py).call_method1("autoreload", (watched.bind(py), watch, python.autoreload, reload, say))?;
        }
        Ok(())
    }
}
