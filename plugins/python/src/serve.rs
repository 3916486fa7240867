//! Hands a worker over to the container's event loop.

use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Context;
use imperator_worker::host::Host;
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::{Link, WorkerConfig, serve};

use pyo3::prelude::*;

use crate::python::PythonLanguage;

/// Serves requests until the worker ends; the value is its exit code. Python's lock is free while the loop waits.
pub fn run(py: Python<'_>, host: &'static Host, link: Option<Arc<Link>>, language: &PythonLanguage) -> anyhow::Result<i32> {
    let process = &host.boot.settings.process;
    let scoreboard = host.scoreboard.as_fd().try_clone_to_owned()?;
    let config = WorkerConfig {
        boot: host.boot.clone(),
        worker: host.worker(),
        listeners: host.take_listeners(),
        scoreboard: Scoreboard::open(scoreboard, process.workers.max(1), process.threads.max(1)).context("scoreboard")?,
        link,
        request_log: host.take_request_log(),
    };
    Ok(py.detach(|| serve(config, language)))
}
