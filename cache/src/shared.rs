//! What the crate needs of the machine: shared cells and locks. With the feature `loom` a model of them, for the exhaustive test of the protocol (`tests/loom.rs`).

#[cfg(not(feature = "loom"))]
pub(crate) use imperator_sys::{
    robust::{self, Busy, Held, LockCells},
    segment::{Segment, lock_file},
};
#[cfg(not(feature = "loom"))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, fence},
};

#[cfg(feature = "loom")]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, fence},
};
#[cfg(feature = "loom")]
pub(crate) use robust::{Busy, Held, LockCells, Segment, lock_file};

#[cfg(feature = "loom")]
pub(crate) mod robust {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use std::time::Duration;

    use loom::sync::atomic::{AtomicU32, AtomicU64};

    /// A segment's cells, once in each width: no part is seen in both.
    pub struct Segment {
        u64s: Vec<AtomicU64>,
        u32s: Vec<AtomicU32>,
    }

    impl Segment {
        pub fn memfd(_: &str, bytes: usize) -> io::Result<Self> {
            Ok(Self {
                u64s: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
                u32s: (0..bytes / 4).map(|_| AtomicU32::new(0)).collect(),
            })
        }

        pub fn map(_: OwnedFd, _: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub fn u64s(&self, offset: usize, count: usize) -> &[AtomicU64] {
            self.u64s.get(offset / 8..offset / 8 + count).unwrap_or(&[])
        }

        pub fn u32s(&self, offset: usize, count: usize) -> &[AtomicU32] {
            self.u32s.get(offset / 4..offset / 4 + count).unwrap_or(&[])
        }
    }

    pub type LockCells = [AtomicU32; 16];

    #[derive(Debug, thiserror::Error)]
    #[error("busy")]
    pub struct Busy;

    pub struct Held<'l>(&'l LockCells, bool);

    /// The word is 0, taken (1), or left by a dead owner (2).
    pub fn lock(cells: &LockCells, _: Duration) -> Result<Held<'_>, Busy> {
        loop {
            match cells[0].load(Relaxed) {
                1 => loom::thread::yield_now(),
                seen => {
                    if cells[0].compare_exchange(seen, 1, Acquire, Relaxed).is_ok() {
                        return Ok(Held(cells, seen == 2));
                    }
                }
            }
        }
    }

    impl Held<'_> {
        pub fn owner_died(&self) -> bool {
            self.1
        }
    }

    impl Drop for Held<'_> {
        fn drop(&mut self) {
            self.0[0].store(if std::thread::panicking() { 2 } else { 0 }, Release);
        }
    }

    pub fn owner_died(cells: &LockCells) -> bool {
        cells[0].load(Relaxed) == 2
    }

    pub fn thread_id() -> u32 {
        0
    }

    pub fn lock_file(_: &std::fs::File) -> io::Result<bool> {
        Ok(true)
    }
}
