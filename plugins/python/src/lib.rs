//! Python apps in Imperator, as one abi3 extension module that the user's own interpreter loads.
//!
//! [`main`] is what the interpreter of a zygote runs. Read [`zygote`] first (load, fork, serve), then [`python`] (the way of a request).

mod apps;
mod dynamic;
mod embedded;
mod environ;
mod errors;
mod forked;
mod input;
mod instance;
mod module;
mod not_built;
mod python;
mod request_api;
mod response;
mod serve;
mod slot;
mod watch;
mod wsgi;
mod zygote;

use pyo3::prelude::*;

#[pymodule]
fn imperator_python(module: &Bound<'_, PyModule>) -> PyResult<()> {
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

/// Writes to the log, in one piece.
pub(crate) fn say(text: &str) {
    let mut text = text.as_bytes();
    while !text.is_empty() {
        // SAFETY: descriptor 2 is the log for as long as the process lives; if an app closes it, the write fails.
        let log = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
        match nix::unistd::write(log, text) {
            Ok(written) => text = &text[written..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
