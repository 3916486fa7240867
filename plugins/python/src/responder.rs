//! `start_response` and the `write` that it returns.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imperator_worker::request::{HeadError, Request, WriteError};
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytesMethods, PyTuple};

use crate::calls::{Method, answer, arguments, references};
use crate::head::{self, Fault};
use crate::response::{Options, bytes_of, type_name};
use crate::slot::{Gil, Slot};

/// The callables of one core. They are those of the next request, too, if the app kept none of them.
pub struct Callables {
    responder: Py<Responder>,
    start_response: Py<PyAny>,
}

/// What the callables are bound to.
#[pyclass(module = "uwsgi", frozen)]
struct Responder {
    slot: &'static Slot,
    options: Options,
    /// The request they belong to: a thread that is left over from an old one cannot reach the next one's response.
    serial: AtomicU64,
    /// The callable `write`. A circle of references, cut when another responder takes this one's place.
    write: Mutex<Option<Py<PyAny>>>,
}

static START_RESPONSE: Method = Method::new(c"start_response", c"start_response(status, headers, exc_info=None)\n--\n\n", start_response);
static WRITE: Method = Method::new(c"write", c"write(data)\n--\n\n", write);

impl Callables {
    pub fn new(py: Python<'_>, slot: &'static Slot, options: Options) -> PyResult<Self> {
        let responder = Bound::new(py, Responder { slot, options, serial: AtomicU64::new(0), write: Mutex::new(None) })?;
        *responder.get().write() = Some(WRITE.bind(&responder)?.unbind());
        Ok(Self { start_response: START_RESPONSE.bind(&responder)?.unbind(), responder: responder.unbind() })
    }

    /// `start_response` for the request `serial`.
    pub fn renew(&mut self, py: Python<'_>, serial: u64) -> PyResult<&Py<PyAny>> {
        if self.kept() {
            let Responder { slot, options, .. } = *self.responder.get();
            let old = std::mem::replace(self, Self::new(py, slot, options)?);
            drop(old.responder.get().write().take());
        }
        self.responder.get().serial.store(serial, Relaxed);
        Ok(&self.start_response)
    }

    pub fn start_response(&self) -> &Py<PyAny> {
        &self.start_response
    }

    /// Whether somebody else holds one of them (or the responder, which is their `__self__`).
    fn kept(&self) -> bool {
        let write = self.responder.get().write().as_ref().is_some_and(|write| references(write) == 1);
        !(write && references(&self.start_response) == 1 && references(&self.responder) == 3)
    }
}

impl Responder {
    fn write(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&mut Request<'_>) -> R) -> PyResult<R> {
        self.slot.with(py, Some(self.serial.load(Relaxed)), f)
    }

    fn start(&self, py: Python<'_>, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>, info: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let started = self.with(py, |request| {
            // First of all: an exception that the app passes on matters more than what is wrong with the head it made for it.
            if request.head_sent() {
                return Err(Fault::Refused(HeadError::Sent));
            }
            head::put(request, status, headers)
        })?;
        match (started, info) {
            (Err(Fault::Refused(HeadError::Sent)), Some(info)) => return Err(carried(&info)?),
            (Err(fault), _) => return Err(fault.into()),
            (Ok(()), _) => {}
        }
        if self.options.nodelay { self.send(py, b"") } else { Ok(()) }
    }

    fn send(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        match self.with(py, |request| request.write(data, &Gil))? {
            Err(WriteError::Gone(error)) if !self.options.silent => Err(PyOSError::new_err(format!("write error: {error}"))),
            _ => Ok(()),
        }
    }
}

unsafe extern "C" fn start_response(
    receiver: *mut ffi::PyObject,
    given: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: Python calls with what METH_FASTCALL promises, and the method was bound to a responder.
        let (bound, arguments) =
            unsafe { (receiver_of(py, receiver), arguments(py, (given, count, keywords), ["status", "headers", "exc_info"], 2)?) };
        let responder = bound.get();
        if let [Some(status), Some(headers), info] = arguments {
            responder.start(py, &status, &headers, info.filter(|info| !info.is_none()))?;
        }
        Ok(responder.write().as_ref().map_or_else(|| py.None(), |write| write.clone_ref(py)))
    })
}

unsafe extern "C" fn write(
    receiver: *mut ffi::PyObject,
    given: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: as in `start_response`.
        let (bound, arguments) = unsafe { (receiver_of(py, receiver), arguments(py, (given, count, keywords), ["data"], 1)?) };
        let responder = bound.get();
        if let [Some(data)] = arguments {
            let bytes = bytes_of(&data, responder.options.accept_buffer)?;
            let bytes = bytes.ok_or_else(|| PyTypeError::new_err(format!("write() takes bytes, not {}", type_name(&data))))?;
            responder.send(py, bytes.as_bytes())?;
        }
        Ok(py.None())
    })
}

/// # Safety
/// `receiver` is what Python calls a method of a responder with.
unsafe fn receiver_of(py: Python<'_>, receiver: *mut ffi::PyObject) -> Bound<'_, Responder> {
    // SAFETY: it is alive, and its type is what the caller says.
    unsafe { Bound::from_borrowed_ptr(py, receiver).cast_into_unchecked() }
}

/// The exception in `exc_info`, to be raised again.
fn carried(info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let info = info.cast::<PyTuple>().map_err(|_| PyTypeError::new_err("exc_info must be what sys.exc_info() gives"))?;
    let error = info.get_item(1)?;
    if let Ok(trace) = info.get_item(2)
        && !trace.is_none()
    {
        error.call_method1("with_traceback", (trace,))?;
    }
    Ok(PyErr::from_value(error))
}
