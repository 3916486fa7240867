//! Harakiri's Python half: an exception in the thread whose request is over its time.
//!
//! Python raises it at the next bytecode of that thread. Code that runs in C (a driver that waits, `time.sleep`) has none until it returns: such a request
//! cannot be interrupted, and ends with its worker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyBaseException;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::slot::{Gil, Slot};

pyo3::create_exception!(uwsgi, Harakiri, PyBaseException, "Raised in a request that is over its time (the option harakiri).");

static SLOTS: Mutex<BTreeMap<u32, &'static Slot>> = Mutex::new(BTreeMap::new());

/// What a slot has for it.
#[derive(Default)]
pub struct Target {
    /// Python's number of the thread.
    thread: AtomicU64,
    /// The exception is on its way to the call that runs now.
    struck: AtomicBool,
}

/// The calling thread serves that core's requests from now on.
pub fn enter(py: Python<'_>, core: u32, slot: &'static Slot) -> PyResult<()> {
    let thread: u64 = py.import("_thread")?.call_method0("get_ident")?.extract()?;
    slot.harakiri.thread.store(thread, Relaxed);
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner).insert(core, slot);
    Ok(())
}

/// Raises it in the request of that core, if that is over its time still; whether it was.
pub fn interrupt(core: u32) -> bool {
    let Some(slot) = SLOTS.lock().unwrap_or_else(PoisonError::into_inner).get(&core).copied() else { return false };
    Python::attach(|py| {
        // With Python's lock in our hands the thread cannot get from one request to the next.
        if !is_overdue(core) || !slot.is_occupied() {
            return false;
        }
        slot.harakiri.struck.store(true, Relaxed);
        raise(slot.harakiri.thread.load(Relaxed), py.get_type::<Harakiri>().as_ptr())
    })
}

fn is_overdue(core: u32) -> bool {
    imperator_worker::host::host().is_some_and(|host| host.is_over_time(core))
}

/// A null `exception` takes back what has not been raised yet.
fn raise(thread: u64, exception: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller holds Python's lock. The exception is a class that lives as long as the interpreter, or null; a thread that is not there is no error.
    unsafe { ffi::PyThreadState_SetAsyncExc(thread as std::ffi::c_long as _, exception) == 1 }
}

impl Target {
    /// After a call, before any other line of Python's: what did not reach the call reaches nothing. Whether it was struck.
    pub fn settle(&self) -> bool {
        if !self.struck.load(Relaxed) {
            return false;
        }
        self.struck.store(false, Relaxed);
        raise(self.thread.load(Relaxed), std::ptr::null_mut());
        true
    }
}

/// The end of a request that it was raised in.
pub fn answer(py: Python<'_>, slot: &'static Slot, app: &str, error: &PyErr) {
    crate::say(&format!("HARAKIRI: {app}: the request was over its time, and is answered with 504; it was here:\n"));
    crate::errors::print(py, error);
    let _ = slot.with(py, None, |request| request.fail(504, &Gil));
}
