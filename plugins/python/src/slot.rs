//! The way from Python objects (`wsgi.input`, `start_response`, `uwsgi.*`) to the request that is served.
//!
//! An app may keep those objects, or hand them to threads. A [`Slot`] makes that safe: it holds the request only while it is served, and lets one thread at it at a time.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use imperator_worker::language::Yield;
use imperator_worker::request::Request;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::harakiri::Target;

/// One for each core, made once and never freed.
pub struct Slot {
    held: Mutex<Held>,
    pub harakiri: Target,
}

struct Held {
    /// Null between requests.
    request: *mut Request<'static>,
    /// The number of the request, so that an object of an old one does not reach the new one.
    serial: u64,
}

// SAFETY: the pointer is followed only under the mutex, and only while the borrow behind it lives (see `Occupied`).
unsafe impl Send for Held {}

thread_local! {
    static CURRENT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
}

/// The slot of the request that this thread serves now.
pub fn current() -> Option<&'static Slot> {
    CURRENT.get()
}

/// Runs `f` with the request that this thread serves.
pub fn with_current<R>(py: Python<'_>, f: impl FnOnce(&mut Request<'_>) -> R) -> PyResult<R> {
    current().ok_or_else(no_request)?.with(py, None, f)
}

fn no_request() -> PyErr {
    PyRuntimeError::new_err("there is no request in this thread now")
}

impl Slot {
    pub fn leak() -> &'static Self {
        Box::leak(Box::new(Self { held: Mutex::new(Held { request: std::ptr::null_mut(), serial: 0 }), harakiri: Target::default() }))
    }

    /// Makes `request` reachable through this slot, and this slot the current one of the thread, until the value is dropped.
    pub fn occupy<'r>(&'static self, py: Python<'r>, request: &'r mut Request<'_>, serial: u64) -> Occupied<'r> {
        *self.lock(py) = Held { request: std::ptr::from_mut(request).cast(), serial };
        CURRENT.set(Some(self));
        Occupied { slot: self, py, _request: std::marker::PhantomData }
    }

    /// Runs `f` with the request, if it is still the one numbered `serial` (`None`: whichever is served). `f` calls no Python code.
    pub fn with<R>(&self, py: Python<'_>, serial: Option<u64>, f: impl FnOnce(&mut Request<'_>) -> R) -> PyResult<R> {
        let held = self.lock(py);
        if serial.is_some_and(|s| s != held.serial) {
            return Err(PyRuntimeError::new_err("the request that this object belongs to is over"));
        }
        // SAFETY: `Occupied` keeps the unique borrow that this pointer was made of, and takes the pointer away, under this mutex, before the borrow ends.
        let request = unsafe { held.request.as_mut() };
        request.map(f).ok_or_else(no_request)
    }

    /// Whether a request is served that waits for nothing of the container's.
    pub fn is_occupied(&self) -> bool {
        self.held.try_lock().is_ok_and(|held| !held.request.is_null())
    }

    /// Another thread may hold the mutex while it waits for the network, without the interpreter's lock: so this waits without it, too.
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Held> {
        loop {
            match self.held.try_lock() {
                Ok(held) => return held,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => py.detach(|| drop(self.held.lock().unwrap_or_else(PoisonError::into_inner))),
            }
        }
    }
}

/// In a process that the app forked: the request is the parent's. Gives its connection.
pub fn abandon(py: Python<'_>) -> Option<i32> {
    let mut held = current()?.lock(py);
    let request = std::mem::replace(&mut held.request, std::ptr::null_mut());
    // SAFETY: as in `Slot::with`; this is a copy of the thread that holds the borrow.
    unsafe { request.as_mut() }.map(|request| std::os::fd::AsRawFd::as_raw_fd(&request.fd()))
}

/// A request that Python objects can reach.
pub struct Occupied<'r> {
    slot: &'static Slot,
    py: Python<'r>,
    _request: std::marker::PhantomData<&'r mut ()>,
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        CURRENT.set(None);
        self.slot.lock(self.py).request = std::ptr::null_mut();
    }
}

/// Python's lock, as the container sees it.
pub struct Gil;

impl Yield for Gil {
    fn allow(&self, wait: &mut dyn FnMut()) {
        /// Takes the lock again also when `wait` panics: everything further up relies on it.
        struct Retake(*mut pyo3::ffi::PyThreadState);
        impl Drop for Retake {
            fn drop(&mut self) {
                // SAFETY: this is the state that this thread has just given up.
                unsafe { pyo3::ffi::PyEval_RestoreThread(self.0) }
            }
        }
        // SAFETY: whoever calls into a request from here holds the lock (it came from Python code or from `serve`), and `wait` is the container's
        // own code: it touches no Python object.
        let _retake = Retake(unsafe { pyo3::ffi::PyEval_SaveThread() });
        wait();
    }
}
