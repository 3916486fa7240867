//! `wsgi.input`.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use imperator_sys::room::Room;
use imperator_worker::request::BodyError;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};

use crate::slot::{Gil, Slot};

/// Bytes that are asked for at once where the app wants lines or everything.
const PART: usize = 64 * 1024;
/// Bytes of a bytes object that is made on a client's word, before its body is there. (Only what arrives takes memory.)
const WHOLE: usize = 64 << 20;

/// The request's body as a binary file that is read once.
#[pyclass(name = "_Input", module = "uwsgi", frozen)]
pub struct Input {
    slot: &'static Slot,
    /// The request it belongs to: whoever kept it gets nothing of another one's body.
    serial: AtomicU64,
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
        Self { slot, serial: AtomicU64::new(serial), rest: Mutex::new(Vec::new()) }
    }

    /// Makes it the body of the request `serial`. Nobody else may have it.
    pub fn renew(&self, serial: u64) {
        self.serial.store(serial, Relaxed);
        self.take_rest();
    }

    fn serial(&self) -> u64 {
        self.serial.load(Relaxed)
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
        let most = most.min(PART);
        out.reserve(most);
        let got = {
            let mut room = Room::new(&mut out.spare_capacity_mut()[..most]);
            let result = self.slot.with(py, Some(self.serial()), |request| request.read_into(&mut room, &Gil))?;
            result.map_err(|error| self.raise(py, &error))?;
            room.filled()
        };
        // SAFETY: the room was the memory behind the vector's end, and so many bytes from its start are initialised.
        unsafe { out.set_len(out.len() + got) };
        Ok(got)
    }

    /// A bytes object of the next `length` bytes: the kernel's copy is the only one.
    fn read_whole<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        // SAFETY: without contents the object is a new one of `length` bytes, not initialised but for the NUL behind them; or null with an exception set.
        let bytes =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), isize::try_from(length)?)) }?;
        // SAFETY: `bytes` is a bytes object.
        let start = unsafe { ffi::PyBytes_AsString(bytes.as_ptr()) };
        // SAFETY: nobody else has the new object (an empty one may be shared, and nothing is written to it), and it has room for `length` bytes as
        // long as `bytes` lives.
        let mut room = Room::new(unsafe { std::slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), length) });
        let result = self.slot.with(py, Some(self.serial()), |request| {
            while room.left() > 0 && request.read_into(&mut room, &Gil)? > 0 {}
            Ok(room.filled())
        })?;
        let filled = result.map_err(|error| self.raise(py, &error))?;
        if filled == length {
            return Ok(bytes.cast_into()?);
        }
        // SAFETY: so many bytes of the object are initialised, and nobody writes to them any more.
        Ok(PyBytes::new(py, unsafe { std::slice::from_raw_parts(start.cast(), filled) }))
    }

    /// How much a read of `size` bytes will give, if the body's length is told and nothing was read ahead.
    fn known(&self, py: Python<'_>, size: Option<usize>) -> PyResult<Option<usize>> {
        if !self.rest.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Ok(None);
        }
        let left = self.slot.with(py, Some(self.serial()), |request| request.remaining())?;
        let length = left.map(|left| usize::try_from(left).unwrap_or(usize::MAX).min(size.unwrap_or(usize::MAX)));
        Ok(length.filter(|length| *length <= WHOLE))
    }

    fn raise(&self, py: Python<'_>, error: &BodyError) -> PyErr {
        let raised = PyOSError::new_err(error.to_string());
        let status = match error {
            BodyError::Timeout(_) => 408,
            BodyError::NotSeekable => return raised,
            _ => 400,
        };
        let entry = (key(self.slot, self.serial()), Raised { exception: raised.value(py).clone().into_any().unbind(), status });
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
        let size = size_of(size);
        match self.known(py, size)? {
            Some(length) => self.read_whole(py, length),
            None => Ok(PyBytes::new(py, &self.take(py, size)?)),
        }
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
                let length = self.slot.with(py, Some(self.serial()), |request| request.stored_length())?;
                offset.saturating_add(i64::try_from(length.map_err(|error| PyOSError::new_err(error.to_string()))?)?)
            }
            _ => return Err(PyOSError::new_err("whence is 0, 1 or 2")),
        };
        let position = u64::try_from(position).map_err(|_| PyOSError::new_err("seek to a negative position"))?;
        self.slot
            .with(py, Some(self.serial()), |request| request.seek(position))?
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        self.take_rest();
        Ok(())
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let ahead = self.rest.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        Ok(self.slot.with(py, Some(self.serial()), |request| request.tell())?.saturating_sub(ahead))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        self.slot.with(py, Some(self.serial()), |request| request.fd().as_raw_fd())
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
