//! Hands a worker over to the container's event loop.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::instance::Instance;
use crate::python::PythonLanguage;

pub fn serve(
    py: Python<'_>,
    instance: &'static Instance,
    worker: u32,
    control: Option<OwnedFd>,
    language: Arc<PythonLanguage>,
) -> anyhow::Result<i32> {
    let _ = (py, instance, worker, control, language);
    anyhow::bail!("wip")
}
