//! Shared memory made of 64-bit cells, mapped from a memfd.
//!
//! A process that reads a segment never trusts what another one wrote there: there is no reference,
//! length or index of ours in it that is followed without a check, and every access is atomic.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping, seen as a slice of atomic cells.
pub struct SharedCells {
    base: NonNull<AtomicU64>,
    cells: usize,
    memfd: OwnedFd,
}

// SAFETY: the mapping is plain memory of atomics that outlives the value, and it is unmapped only in `drop`.
unsafe impl Send for SharedCells {}
// SAFETY: as above; all access through `&self` is atomic.
unsafe impl Sync for SharedCells {}

impl SharedCells {
    /// Makes a zeroed segment of `cells` cells. The descriptor is close-on-exec.
    pub fn create(name: &str, cells: usize) -> std::io::Result<Self> {
        let memfd = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
        File::from(memfd.try_clone()?).set_len((cells.max(1) * 8) as u64)?;
        Self::map(memfd, cells)
    }

    /// Maps the segment behind `memfd`, whose size says how many cells it has.
    pub fn open(memfd: OwnedFd) -> std::io::Result<Self> {
        let bytes = File::from(memfd.try_clone()?).metadata()?.len();
        Self::map(memfd, (bytes / 8) as usize)
    }

    fn map(memfd: OwnedFd, cells: usize) -> std::io::Result<Self> {
        let length = std::num::NonZeroUsize::new(cells.max(1) * 8).ok_or(std::io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe { mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &memfd, 0)? };
        Ok(Self { base: base.cast(), cells, memfd })
    }

    /// The cells. A page that was cut off by another process raises SIGBUS, so the segment is sealed by whoever
    /// hands it to a process of less trust (see `seal`).
    pub fn cells(&self) -> &[AtomicU64] {
        // SAFETY: `base` is page aligned and points at `cells * 8` mapped bytes for as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.cells) }
    }
}

impl AsFd for SharedCells {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

impl Drop for SharedCells {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.cells.max(1) * 8) };
    }
}
