//! `wsgi.input`.

use std::sync::{Mutex, PoisonError};

use imperator_worker::request::BodyError;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};

use crate::slot::{Gil, Slot};

/// Bytes that are asked for at once where the app wants lines or everything.
const PART: usize = 64 * 1024;

/// The request's body as a binary file that is read once.
#[pyclass(name = "_Input", module = "uwsgi", frozen)]
pub struct Input {
    slot: &'static Slot,
    serial: u64,
    /// What was read from the body and not yet given to the app: the rest behind a line.
    rest: Mutex<Vec<u8>>,
}

/// An error of the body that was raised into the app, to be recognised if the app lets it out.
pub struct Raised {
    pub exception: Py<PyAny>,
    /// What the client is told.
    pub status: u16,
}

static RAISED: Mutex<Vec<(u64, Raised)>> = Mutex::new(Vec::new());

/// The body error of request `serial`, if one was raised.
pub fn take_raised(slot: &'static Slot, serial: u64) -> Option<Raised> {
    let key = key(slot, serial);
    let mut raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    if raised.is_empty() {
        return None;
    }
    let at = raised.iter().position(|(k, _)| *k == key)?;
    Some(raised.swap_remove(at).1)
}

fn key(slot: &'static Slot, serial: u64) -> u64 {
    (std::ptr::from_ref(slot) as u64).rotate_left(32) ^ serial
}

impl Input {
    pub fn new(slot: &'static Slot, serial: u64) -> Self {
        Self { slot, serial, rest: Mutex::new(Vec::new()) }
    }

    fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut *self.rest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, rest: Vec<u8>) {
        if !rest.is_empty() {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
    }

    /// Reads at most `most` more bytes onto `out`; how many came, 0 at the end.
    fn read_more(&self, py: Python<'_>, out: &mut Vec<u8>, most: usize) -> PyResult<usize> {
        let old = out.len();
        out.resize(old + most.min(PART), 0);
        let result = self.slot.with(py, Some(self.serial), |request| request.read(&mut out[old..], &Gil));
        match result {
            Ok(Ok(length)) => {
                out.truncate(old + length);
                Ok(length)
            }
            Ok(Err(error)) => {
                out.truncate(old);
                Err(self.raise(py, &error))
            }
            Err(error) => {
                out.truncate(old);
                Err(error)
            }
        }
    }

    fn raise(&self, py: Python<'_>, error: &BodyError) -> PyErr {
        let raised = PyOSError::new_err(error.to_string());
        let status = match error {
            BodyError::Timeout(_) => 408,
            BodyError::NotSeekable => return raised,
            _ => 400,
        };
        let entry = (key(self.slot, self.serial), Raised { exception: raised.value(py).clone().into_any().unbind(), status });
        RAISED.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        raised
    }

    /// `size` bytes, or fewer at the end of the body; `None`: all.
    fn take(&self, py: Python<'_>, size: Option<usize>) -> PyResult<Vec<u8>> {
        let mut out = self.take_rest();
        let wanted = size.unwrap_or(usize::MAX);
        while out.len() < wanted {
            let missing = wanted - out.len();
            if self.read_more(py, &mut out, missing)? == 0 {
                break;
            }
        }
        if out.len() > wanted {
            self.put_back(out.split_off(wanted));
        }
        Ok(out)
    }

    /// A line with its end, at most `limit` bytes of it.
    fn line(&self, py: Python<'_>, limit: Option<usize>) -> PyResult<Vec<u8>> {
        let mut out = self.take_rest();
        let limit = limit.unwrap_or(usize::MAX);
        let mut searched = 0;
        let end = loop {
            if let Some(at) = out[searched..].iter().position(|b| *b == b'\n') {
                break searched + at + 1;
            }
            searched = out.len();
            if searched >= limit || self.read_more(py, &mut out, PART)? == 0 {
                break out.len();
            }
        };
        self.put_back(out.split_off(end.min(limit)));
        Ok(out)
    }
}

/// Python's size arguments: None and negative numbers mean everything.
fn size_of(size: Option<i64>) -> Option<usize> {
    size.and_then(|n| usize::try_from(n).ok())
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.take(py, size_of(size))?))
    }

    #[pyo3(signature = (size=None))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.line(py, size_of(size))?))
    }

    /// All lines; with a hint, no more once that many bytes have been read.
    #[pyo3(signature = (hint=None))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let (hint, mut total) = (size_of(hint).filter(|n| *n > 0).unwrap_or(usize::MAX), 0);
        while total < hint {
            let line = self.line(py, None)?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
        let data = self.take(py, Some(view.len()?))?;
        view.set_item(PySlice::new(py, 0, isize::try_from(data.len())?, 1), PyBytes::new(py, &data))?;
        Ok(data.len())
    }

    /// Only with `post-buffering`.
    #[pyo3(signature = (offset, whence=0))]
    fn seek(&self, py: Python<'_>, offset: i64, whence: i64) -> PyResult<()> {
        let position = match whence {
            0 => offset,
            1 => offset.saturating_add(i64::try_from(self.tell(py)?)?),
            2 => {
                let length = self.slot.with(py, Some(self.serial), |request| request.stored_length())?;
                offset.saturating_add(i64::try_from(length.map_err(|error| PyOSError::new_err(error.to_string()))?)?)
            }
            _ => return Err(PyOSError::new_err("whence is 0, 1 or 2")),
        };
        let position = u64::try_from(position).map_err(|_| PyOSError::new_err("seek to a negative position"))?;
        self.slot.with(py, Some(self.serial), |request| request.seek(position))?.map_err(|error| PyOSError::new_err(error.to_string()))?;
        self.take_rest();
        Ok(())
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let ahead = self.rest.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Ok(self.slot.with(py, Some(self.serial), |request| request.tell())?.saturating_sub(ahead))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        self.slot.with(py, Some(self.serial), |request| request.fd().as_raw_fd())
    }

    fn readable(&self) -> bool {
        true
    }

    /// Does nothing: the connection is the container's.
    fn close(&self) {}

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(py, None)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a request's body cannot be pickled"))
    }
}
