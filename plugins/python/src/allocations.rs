//! Counts what we allocate while a request is in the extension's hands, in debug builds: a test holds us to nothing. (What Python allocates does not
//! come by here.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::prelude::*;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static SERVING: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if SERVING.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

/// Counts what this thread allocates until the value is dropped.
pub fn serving() -> Serving {
    SERVING.set(true);
    Serving
}

/// See [`serving`].
pub struct Serving;

impl Drop for Serving {
    fn drop(&mut self) {
        SERVING.set(false);
    }
}

// SAFETY: all is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's word, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's word, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's word, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often memory of ours was allocated or grown for requests.
#[pyfunction]
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}
