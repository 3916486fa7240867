//! Python apps in Imperator, as one abi3 extension module that the user's own interpreter loads.
//!
//! [`main`] is what the interpreter of a zygote runs. Read [`zygote`] first (load, fork, serve), then [`python`] (the way of a request).

#[cfg(debug_assertions)]
mod allocations;
mod cache;
mod calls;
mod dynamic;
mod embedded;
mod environ;
mod errors;
mod forked;
mod harakiri;
mod head;
mod input;
mod metrics;
mod module;
mod not_built;
mod python;
mod request_api;
mod responder;
mod response;
mod slot;
mod watch;
mod wsgi;
mod zygote;

use pyo3::prelude::*;

#[pymodule]
fn imperator_python(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(debug_assertions)]
    module.add_function(wrap_pyfunction!(allocations::allocations, module)?)?;
    module.add_function(wrap_pyfunction!(main, module)?)
}

/// Does everything that this process is for, and ends it.
#[pyfunction]
fn main(py: Python<'_>) -> PyResult<()> {
    let code = zygote::run(py).unwrap_or_else(|error| {
        say(&format!("imperator: {error:#}\n"));
        1
    });
    imperator_sys::process::exit_now(code)
}

/// Writes to the log as the rest of the worker does: in one piece, with the date that `log-date` asks for.
pub(crate) fn say(text: &str) {
    imperator_worker::log::diag::say(text);
}
