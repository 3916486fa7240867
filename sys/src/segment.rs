//! A memory segment that processes share, in slices of atomic cells.
//!
//! Whoever maps one reads through atomics only, and trusts nothing in it: other processes write there, and not all of them mean well.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};

/// A shared mapping of a memfd or of a file.
pub struct Segment {
    base: NonNull<u8>,
    bytes: usize,
    fd: OwnedFd,
}

// SAFETY: the mapping is plain memory that outlives the value, unmapped only in `drop`.
unsafe impl Send for Segment {}
// SAFETY: as above; all access through `&self` is atomic.
unsafe impl Sync for Segment {}

impl Segment {
    /// A zeroed memfd of `bytes` bytes that no process can shrink or grow any more, mapped. Memory is used when it is touched.
    pub fn memfd(name: &str, bytes: usize) -> io::Result<Self> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        File::from(fd.try_clone()?).set_len(bytes as u64)?;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
        Self::map(fd, bytes)
    }

    /// Maps the first `bytes` bytes of `fd`, which must have them.
    ///
    /// A regular file that somebody truncates while it is mapped raises SIGBUS at the next access: only memfds can be sealed against that.
    pub fn map(fd: OwnedFd, bytes: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        if File::from(fd.try_clone()?).metadata()?.len() < bytes as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the segment is smaller than its definition says"));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe {
            mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE, &fd, 0)?
        };
        Ok(Self { base: base.cast(), bytes, fd })
    }

    /// Its size in bytes, as mapped.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `count` cells from byte `offset` on; an empty slice if they are not all inside the segment, or not aligned.
    #[inline]
    pub fn u64s(&self, offset: usize, count: usize) -> &[AtomicU64] {
        if !self.holds(offset, count, 8) {
            return &[];
        }
        // SAFETY: `holds` checked that the cells are inside the mapping and aligned; the mapping lives as long as `self`, and atomics may be shared.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<AtomicU64>(), count) }
    }

    /// The same in 32-bit cells. A part of a segment is seen in one width only, by all who use it.
    #[inline]
    pub fn u32s(&self, offset: usize, count: usize) -> &[AtomicU32] {
        if !self.holds(offset, count, 4) {
            return &[];
        }
        // SAFETY: as in `u64s`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<AtomicU32>(), count) }
    }

    #[inline]
    fn holds(&self, offset: usize, count: usize, width: usize) -> bool {
        offset % width == 0 && count.checked_mul(width).and_then(|bytes| bytes.checked_add(offset)).is_some_and(|end| end <= self.bytes)
    }

    /// Writes a file's changed pages to disk, and waits for it.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is exactly our mapping; msync changes no memory.
        unsafe { msync(self.base.cast(), self.bytes, MsFlags::MS_SYNC)? };
        Ok(())
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.base.cast(), self.bytes) };
    }
}

/// Takes the exclusive lock of an open file; false if another one has it. It belongs to the open file, so it lasts until the last descriptor of
/// this opening, in whatever process, is closed.
pub fn lock_file(file: &impl AsFd) -> io::Result<bool> {
    // SAFETY: plain system call on integers.
    if unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn two_mappings_share_their_cells() {
        let one = Segment::memfd("test", 4096).expect("memfd");
        let two = Segment::map(one.as_fd().try_clone_to_owned().expect("dup"), 4096).expect("map");
        one.u64s(64, 2)[1].store(7, Relaxed);
        assert_eq!(two.u64s(72, 1)[0].load(Relaxed), 7);
    }

    #[test]
    fn cells_outside_are_none() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        assert!(segment.u64s(4096, 1).is_empty());
        assert!(segment.u64s(4, 1).is_empty());
        assert!(segment.u32s(usize::MAX - 3, 2).is_empty());
        assert!(segment.u64s(0, usize::MAX / 4).is_empty());
        assert_eq!(segment.u32s(4092, 1).len(), 1);
    }

    #[test]
    fn a_memfd_cannot_be_truncated() {
        let segment = Segment::memfd("test", 8192).expect("memfd");
        let file = File::from(segment.as_fd().try_clone_to_owned().expect("dup"));
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(1 << 20).is_err());
    }

    #[test]
    fn too_small_a_file_is_not_mapped() {
        let segment = Segment::memfd("test", 4096).expect("memfd");
        assert!(Segment::map(segment.as_fd().try_clone_to_owned().expect("dup"), 8192).is_err());
    }

    #[test]
    fn a_file_is_locked_by_one_opening() {
        let path = std::env::temp_dir().join(format!("imperator-lock-{}", std::process::id()));
        let one = File::create(&path).expect("file");
        let two = File::open(&path).expect("file");
        assert!(lock_file(&one).expect("flock"));
        assert!(!lock_file(&two).expect("flock"));
        drop(one);
        assert!(lock_file(&two).expect("flock"));
        let _ = std::fs::remove_file(path);
    }
}
