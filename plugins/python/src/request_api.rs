//! The functions of the `uwsgi` module that act on the request that is served.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;

use imperator_worker::request::{BodyError, WriteError};
use imperator_worker::scoreboard::CoreCell;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::slot::{Gil, with_current};

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(request_id, module)?)?;
    module.add_function(wrap_pyfunction!(set_logvar, module)?)?;
    module.add_function(wrap_pyfunction!(get_logvar, module)?)?;
    module.add_function(wrap_pyfunction!(set_user_harakiri, module)?)?;
    module.add_function(wrap_pyfunction!(add_var, module)?)?;
    module.add_function(wrap_pyfunction!(log_this_request, module)?)?;
    module.add_function(wrap_pyfunction!(connection_fd, module)?)?;
    module.add_function(wrap_pyfunction!(ready_fd, module)?)?;
    module.add_function(wrap_pyfunction!(cl, module)?)?;
    module.add_function(wrap_pyfunction!(disconnect, module)?)?;
    module.add_function(wrap_pyfunction!(is_connected, module)?)?;
    module.add_function(wrap_pyfunction!(sendfile, module)?)?;
    module.add_function(wrap_pyfunction!(offload, module)?)?;
    module.add_function(wrap_pyfunction!(chunked_read, module)?)?;
    module.add_function(wrap_pyfunction!(chunked_read_nb, module)?)
}

/// A name or value that may be str or bytes.
fn text(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    let text = value.cast::<PyString>().map_err(|_| PyTypeError::new_err("str or bytes are expected"))?;
    Ok(text.to_cow()?.as_bytes().to_vec())
}

/// Requests that this core has served before this one.
#[pyfunction]
fn request_id(py: Python<'_>) -> PyResult<u64> {
    let core = with_current(py, |request| request.core())?;
    let here = crate::module::here()?;
    Ok(here.scoreboard.worker(here.worker()).and_then(|w| w.core(core)).map_or(0, |core| core.cell(CoreCell::Requests).load(Relaxed)))
}

#[pyfunction]
fn set_logvar(py: Python<'_>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let (name, value) = (text(name)?, text(value)?);
    with_current(py, |request| request.set_logvar(&name, &value))
}

#[pyfunction]
fn get_logvar<'py>(py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let name = text(name)?;
    let value = with_current(py, |request| request.logvar(&name).map(<[u8]>::to_vec))?;
    Ok(value.map(|value| PyBytes::new(py, &value)))
}

/// The master kills this worker after so many seconds; 0 takes it back.
#[pyfunction]
fn set_user_harakiri(py: Python<'_>, seconds: u32) -> PyResult<()> {
    with_current(py, |request| request.set_harakiri(seconds))?;
    // The master sleeps until the next deadline that it knows. Without one there is nobody to strike.
    let _ = crate::module::here()?.tell_master(&imperator_worker::control::FromWorker::Deadline);
    Ok(())
}

/// A variable more that log-format's %(var.NAME) knows.
#[pyfunction]
fn add_var(py: Python<'_>, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let (name, value) = (text(name)?, text(value)?);
    let fits = with_current(py, |request| request.add_var(&name, &value))?;
    if fits { Ok(true) } else { Err(PyValueError::new_err("add_var: no name, or no room for more variables")) }
}

/// Writes the request's log line although `disable-logging` holds.
#[pyfunction]
fn log_this_request(py: Python<'_>) -> PyResult<()> {
    with_current(py, |request| request.ask_for_log())
}

#[pyfunction]
fn connection_fd(py: Python<'_>) -> PyResult<i32> {
    with_current(py, |request| request.fd().as_raw_fd())
}

/// There is no asynchronous engine whose descriptor could be ready.
#[pyfunction]
fn ready_fd(py: Python<'_>) -> PyResult<i32> {
    with_current(py, |_| -1)
}

/// The request's content length.
#[pyfunction]
fn cl(py: Python<'_>) -> PyResult<u64> {
    with_current(py, |request| {
        let length = request.var(b"CONTENT_LENGTH").and_then(|v| std::str::from_utf8(v).ok());
        length.and_then(|v| v.trim().parse().ok()).unwrap_or_default()
    })
}

/// Ends the connection; the app goes on.
#[pyfunction]
fn disconnect(py: Python<'_>) -> PyResult<()> {
    with_current(py, |request| {
        // A client that has left already is no error here.
        let _ = nix::sys::socket::shutdown(request.fd().as_raw_fd(), nix::sys::socket::Shutdown::Both);
    })
}

/// Whether a socket has no error pending.
#[pyfunction]
fn is_connected(fd: i32) -> bool {
    imperator_sys::socket::is_connected(fd)
}

/// Sends a file (a path, a descriptor, or an object with one) as part of the response. None for a path that does not open.
#[pyfunction]
#[pyo3(signature = (file, _chunk=0, pos=0, size=0))]
fn sendfile(py: Python<'_>, file: &Bound<'_, PyAny>, _chunk: u64, pos: u64, size: u64) -> PyResult<Option<bool>> {
    let length = (size > 0).then_some(size);
    let send = |fd: BorrowedFd<'_>| {
        with_current(py, |request| request.send_file_and_more(fd, pos, length, &Gil))?
            .map(|()| Some(true))
            .map_err(|WriteError::Gone(error)| PyOSError::new_err(format!("write error: {error}")))
    };
    if file.is_instance_of::<PyString>() || file.is_instance_of::<PyBytes>() {
        let path = String::from_utf8_lossy(&text(file)?).into_owned();
        return File::open(path).map_or(Ok(None), |file| send(file.as_fd()));
    }
    let fd: i32 = match file.extract() {
        Ok(fd) => fd,
        Err(_) => file.call_method0("fileno")?.extract()?,
    };
    if fd < 0 {
        return Err(PyOSError::new_err("sendfile: a negative descriptor"));
    }
    // SAFETY: a number that is not open makes the system call fail; one that is open stays so, as it is the caller's.
    send(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Nothing, as in uWSGI 2.0.
#[pyfunction]
fn offload<'py>(py: Python<'py>, _name: &Bound<'py, PyAny>) -> Bound<'py, PyBytes> {
    PyBytes::new(py, b"")
}

/// The next chunk of a chunked body; empty at the end.
#[pyfunction]
#[pyo3(signature = (timeout=None))]
fn chunked_read(py: Python<'_>, timeout: Option<u32>) -> PyResult<Bound<'_, PyBytes>> {
    match with_current(py, |request| request.read_chunk(timeout, &Gil))? {
        Ok(chunk) => Ok(PyBytes::new(py, &chunk)),
        Err(error) => Err(PyOSError::new_err(error.to_string())),
    }
}

/// As `chunked_read`, but None where nothing is there yet.
#[pyfunction]
fn chunked_read_nb(py: Python<'_>) -> PyResult<Option<Bound<'_, PyBytes>>> {
    match with_current(py, |request| request.read_chunk(Some(0), &Gil))? {
        Ok(chunk) => Ok(Some(PyBytes::new(py, &chunk))),
        Err(BodyError::Timeout(_)) => Ok(None),
        Err(error) => Err(PyOSError::new_err(error.to_string())),
    }
}
