//! A WSGI call: what PEP 3333 asks of a server after `application(environ, start_response)` was called.

use std::os::fd::BorrowedFd;

use imperator_worker::request::{Request, WriteError};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::response::{FileWrapper, Options, bytes_of, type_name};
use crate::slot::{Gil, Slot};

/// Why a response did not go out whole.
pub enum Trouble {
    /// The app's exception.
    Raised(PyErr),
    /// What the app returned is no response; why.
    Refused(String),
    /// The client left: no error.
    Gone,
}

impl From<PyErr> for Trouble {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<WriteError> for Trouble {
    fn from(_: WriteError) -> Self {
        Self::Gone
    }
}

/// What a body may be.
#[derive(Clone, Copy)]
pub struct Body {
    pub slot: &'static Slot,
    pub options: Options,
    /// `wsgi-strict`: a bytes object is no body.
    pub strict: bool,
}

impl Body {
    /// Sends everything that the app returned, then calls its `close()`.
    pub fn send(self, py: Python<'_>, body: &Bound<'_, PyAny>) -> Result<(), Trouble> {
        let sent = self.parts(py, body).and_then(|begun| if begun { Ok(()) } else { self.head(py) });
        if let Err(error) = close(body) {
            crate::errors::print(py, &error);
        }
        sent
    }

    /// Whether anything was sent.
    fn parts(self, py: Python<'_>, body: &Bound<'_, PyAny>) -> Result<bool, Trouble> {
        if let Ok(list) = body.cast_exact::<PyList>() {
            return self.sequence(py, list.len(), |at| list.get_item(at).ok());
        }
        if let Ok(tuple) = body.cast_exact::<PyTuple>() {
            return self.sequence(py, tuple.len(), |at| tuple.get_item(at).ok());
        }
        if let Ok(bytes) = body.cast::<PyBytes>()
            && !self.strict
        {
            return self.write_last(py, bytes.as_bytes());
        }
        if let Ok(wrapper) = body.cast_exact::<FileWrapper>()
            && let Some((fd, position)) = wrapper.get().on_disk(py)
        {
            return self.file(py, fd, position);
        }
        // `return uwsgi.sendfile(...)`
        if body.is_exact_instance_of::<pyo3::types::PyBool>() && self.slot.with(py, None, |request| request.head_sent())? {
            return Ok(true);
        }
        if body.is_instance_of::<pyo3::types::PyString>() {
            return Err(Trouble::Refused("it returned a str, and a body is an iterable of bytes".into()));
        }
        let chunks = body.try_iter().map_err(|error| no_iterable(body, error))?;
        chunks.into_iter().try_fold(false, |begun, chunk| Ok(begun | self.chunk(py, &chunk?)?))
    }

    /// A list or tuple of bytes objects goes out in one system call.
    fn sequence<'py>(self, py: Python<'py>, length: usize, item: impl Fn(usize) -> Option<Bound<'py, PyAny>>) -> Result<bool, Trouble> {
        match length {
            0 => Ok(false),
            1 => item(0).map_or(Ok(false), |chunk| match chunk.cast::<PyBytes>() {
                Ok(bytes) => self.write_last(py, bytes.as_bytes()),
                Err(_) => self.chunk(py, &chunk),
            }),
            _ => {
                let chunks: Vec<_> = (0..length).map_while(item).collect();
                let parts: Option<Vec<&[u8]>> =
                    chunks.iter().map(|chunk| chunk.cast::<PyBytes>().ok().map(PyBytesMethods::as_bytes)).collect();
                match parts {
                    Some(parts) => {
                        self.started(py)?;
                        self.slot.with(py, None, |request| request.write_last(&parts, &Gil))??;
                        Ok(true)
                    }
                    None => chunks.iter().try_fold(false, |begun, chunk| Ok(begun | self.chunk(py, chunk)?)),
                }
            }
        }
    }

    /// Whether it was one that is sent.
    fn chunk(self, py: Python<'_>, chunk: &Bound<'_, PyAny>) -> Result<bool, Trouble> {
        if let Ok(bytes) = chunk.cast::<PyBytes>() {
            return self.write(py, bytes.as_bytes());
        }
        match bytes_of(chunk, self.options.accept_buffer)? {
            Some(bytes) => self.write(py, bytes.as_bytes()),
            None if chunk.is_none() => Ok(false),
            None => self.odd(py, chunk).map(|()| false),
        }
    }

    /// A chunk that is no bytes: an error as long as one can be told to the client, else it is left out.
    fn odd(self, py: Python<'_>, chunk: &Bound<'_, PyAny>) -> Result<(), Trouble> {
        let name = type_name(chunk);
        if !self.slot.with(py, None, |request| request.head_sent())? {
            return Err(Trouble::Refused(format!("a chunk of its body is {name}, not bytes")));
        }
        crate::say(&format!("[ERROR] Unhandled object from iterator: a chunk of the app's body is {name}, not bytes; it is left out\n"));
        Ok(())
    }

    fn file(self, py: Python<'_>, fd: i32, position: u64) -> Result<bool, Trouble> {
        self.started(py)?;
        // SAFETY: the app's file object owns the descriptor, and the caller holds a reference to it. (An app that closes it in another thread meanwhile
        // makes sendfile fail, or send another file of this same app: no memory is touched.)
        let file = unsafe { BorrowedFd::borrow_raw(fd) };
        self.slot.with(py, None, |request| request.send_file(file, position, None, &Gil))??;
        Ok(true)
    }

    fn write(self, py: Python<'_>, data: &[u8]) -> Result<bool, Trouble> {
        self.written(py, |request| request.write(data, &Gil))
    }

    /// All that there is.
    fn write_last(self, py: Python<'_>, data: &[u8]) -> Result<bool, Trouble> {
        self.written(py, |request| request.write_last(&[data], &Gil))
    }

    fn written(self, py: Python<'_>, write: impl FnOnce(&mut Request<'_>) -> Result<(), WriteError>) -> Result<bool, Trouble> {
        self.slot
            .with(py, None, |request| if request.status() == 0 && !request.head_sent() { None } else { Some(write(request)) })?
            .ok_or_else(not_started)??;
        Ok(true)
    }

    /// The head of a response without a body.
    fn head(self, py: Python<'_>) -> Result<(), Trouble> {
        if self.slot.with(py, None, |request| request.head_sent())? { Ok(()) } else { self.write(py, b"").map(drop) }
    }

    fn started(self, py: Python<'_>) -> Result<(), Trouble> {
        if self.slot.with(py, None, |request| request.status() == 0 && !request.head_sent())? { Err(not_started()) } else { Ok(()) }
    }
}

fn not_started() -> Trouble {
    Trouble::Refused("it did not call start_response before its first byte".into())
}

/// `__iter__` is not there, or is the app's own and raised.
fn no_iterable(body: &Bound<'_, PyAny>, error: PyErr) -> Trouble {
    if error.is_instance_of::<PyTypeError>(body.py()) && error.traceback(body.py()).is_none() {
        Trouble::Refused(format!("it returned {}, which is not iterable", type_name(body)))
    } else {
        Trouble::Raised(error)
    }
}

fn close(body: &Bound<'_, PyAny>) -> PyResult<()> {
    if body.is_exact_instance_of::<PyList>() || body.is_exact_instance_of::<PyBytes>() || body.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    match body.getattr_opt("close")? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}
