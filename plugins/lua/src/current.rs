//! The way from Lua functions (`env.input`, `uwsgi.*`) to the request that this thread serves.
//!
//! A state belongs to one thread at a time, and serves one request at a time: so "the current one" says all.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

use imperator_worker::request::Request;

thread_local! {
    /// Null between requests, and while somebody uses it.
    static CURRENT: Cell<*mut Request<'static>> = const { Cell::new(ptr::null_mut()) };
}

/// The request of this thread, within the reach of Lua until the value is dropped.
pub struct Served<'r> {
    _request: PhantomData<&'r mut ()>,
}

impl<'r> Served<'r> {
    pub fn new(request: &'r mut Request<'_>) -> Self {
        CURRENT.set(ptr::from_mut(request).cast());
        Self { _request: PhantomData }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        CURRENT.set(ptr::null_mut());
    }
}

/// Runs `f` with the request that this thread serves; `None` if there is none now.
pub fn with<R>(f: impl FnOnce(&mut Request<'_>) -> R) -> Option<R> {
    /// Puts the pointer back, also after a panic.
    struct PutBack(*mut Request<'static>);
    impl Drop for PutBack {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let taken = PutBack(CURRENT.replace(ptr::null_mut()));
    // SAFETY: `Served` holds the unique borrow that the pointer was made of, and clears it before that borrow ends. While `f` runs the place is empty, so
    // nobody makes a second reference. The pointer never leaves the thread.
    unsafe { taken.0.as_mut() }.map(f)
}
