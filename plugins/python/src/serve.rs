//! Hands a worker over to the container's event loop.

use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Context;
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::{Link, WorkerConfig, serve};

use pyo3::prelude::*;

use crate::instance::Instance;
use crate::python::PythonLanguage;

/// Serves requests until the worker ends; the value is its exit code. Python's lock is free while the loop waits.
pub fn run(py: Python<'_>, instance: &'static Instance, link: Option<Arc<Link>>, language: &PythonLanguage) -> anyhow::Result<i32> {
    let process = &instance.boot.settings.process;
    let scoreboard = instance.scoreboard.as_fd().try_clone_to_owned()?;
    let config = WorkerConfig {
        boot: instance.boot.clone(),
        worker: instance.worker(),
        listeners: instance.take_listeners(),
        scoreboard: Scoreboard::open(scoreboard, process.workers.max(1), process.threads.max(1)).context("scoreboard")?,
        link,
        request_log: instance.take_request_log(),
    };
    Ok(py.detach(|| serve(config, language)))
}
