//! Forking, and descriptors over an exec.

use std::collections::BTreeSet;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Mutex;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

/// The two sides of a [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    Child,
    /// The child's pid.
    Parent(Pid),
}

/// Forks a process that has one thread only, so that the child may do anything; with more threads it is refused
/// (a lock that another thread holds would stay locked in the child for ever).
pub fn fork() -> Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(Error::other(format!("fork in a process of {threads} threads")));
    }
    // SAFETY: there is no other thread, so no lock or allocator state can be caught in the middle of a change.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(Fork::Child),
        ForkResult::Parent { child } => Ok(Fork::Parent(child)),
    }
}

/// Ends this process without running destructors or exit handlers: what a forked child that failed does.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Gives pages of the C heap that hold nothing back to the kernel, with an allocator that can.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's; it takes the allocator's locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Numbers of the descriptors that [`take_inherited`] has given to an owner.
static TAKEN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// What an exec of this very program would do, but for the memory: descriptors that are close-on-exec are closed, the others can be taken (again) with
/// [`take_inherited`], SIGPIPE is ignored as std has it from the start. `work` is all that is done from then on: its value is the exit code.
///
/// # Errors
/// Before anything is changed: other threads, no /proc.
pub fn start_over(work: impl FnOnce() -> i32) -> Result<std::convert::Infallible> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Error::other("starting over beside other threads"));
    }
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    ignore_signals(&[Signal::SIGPIPE])?;
    for fd in open {
        // SAFETY: whoever owns such a descriptor never gets control back, not even to be dropped: this function does not return, and a panic ends the process. There is
        // no other thread. A number that is not open any more (the directory's own) is an error that does nothing.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0 {
                libc::close(fd);
            }
        }
    }
    TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    std::process::exit(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101))
}

/// Owns a descriptor that came over the exec that started this process (its number was in an environment variable or in a message). It is made
/// close-on-exec. An error if it is not open, is one of 0 to 2, or was taken before.
pub fn take_inherited(fd: i32) -> Result<OwnedFd> {
    // SAFETY: fcntl on a number that is no open descriptor fails with EBADF and does nothing.
    if fd < 3 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(Error::new(std::io::ErrorKind::InvalidInput, format!("descriptor {fd} was not handed over")));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !taken.insert(fd) {
        return Err(Error::new(std::io::ErrorKind::InvalidInput, format!("descriptor {fd} was taken twice")));
    }
    // SAFETY: it is open, and the set above makes this the only owner of an inherited descriptor of that number.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    set_cloexec(owned.as_fd(), true)?;
    Ok(owned)
}

/// Descriptor 0, to be looked at. (`std::io::stdin` would make a buffer that the process keeps.)
pub fn standard_input() -> BorrowedFd<'static> {
    // SAFETY: descriptors 0 to 2 are open from the start, std sees to that in every program of its own, and nothing closes them: they are only replaced.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// A copy (close-on-exec, 3 or above) of an open descriptor that is known by its number only: standard streams, `fd://N`.
pub fn duplicate(fd: i32) -> Result<OwnedFd> {
    // SAFETY: fcntl on a number that is no open descriptor fails with EBADF; on success the new descriptor is ours alone.
    unsafe {
        match libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) {
            -1 => Err(Error::last_os_error()),
            copy => Ok(OwnedFd::from_raw_fd(copy)),
        }
    }
}

/// Makes `target` (0, 1 or 2) a copy of `source`.
pub fn redirect(source: BorrowedFd<'_>, target: i32) -> Result<()> {
    // SAFETY: dup2 onto a standard stream closes only that stream, which no `OwnedFd` of ours owns.
    match unsafe { libc::dup2(source.as_raw_fd(), target.clamp(0, 2)) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets a descriptor stand for what `source` stands for, in one step: who writes to it meanwhile writes to the one or the other.
/// An exec closes it.
pub fn replace(target: BorrowedFd<'_>, source: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the number stays open and its owner's; only what is behind it changes.
    match unsafe { libc::dup3(source.as_raw_fd(), target.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether an exec closes it.
pub fn set_cloexec(fd: BorrowedFd<'_>, cloexec: bool) -> Result<()> {
    let flags = if cloexec { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// As [`set_cloexec`], of a descriptor that is known by its number only.
pub fn set_cloexec_of(fd: i32, cloexec: bool) -> Result<()> {
    // SAFETY: fcntl on a number that is no open descriptor fails with EBADF and does nothing.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, if cloexec { libc::FD_CLOEXEC } else { 0 }) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Closes every descriptor from 3 up but one: what a process does that only waits for another one from then on. To be called where
/// nothing else that owns a descriptor is used any more.
pub fn close_from_3_but(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().max(2) as u32;
    // SAFETY: close_range has no memory effects; the caller uses no other descriptor afterwards (and would only get EBADF).
    unsafe {
        if keep > 3 {
            libc::syscall(libc::SYS_close_range, 3u32, keep - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, keep + 1, u32::MAX, 0);
    }
}

/// Marks every descriptor from 3 up close-on-exec: what the parent left open does not leak into apps.
pub fn cloexec_from_3() -> Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC only sets a flag on descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The nice value of this process and of all that it starts.
pub fn renice(nice: i32) -> Result<()> {
    // SAFETY: integer arguments only.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// These signals do nothing to this process, nor to what it executes, until it says otherwise.
pub fn ignore_signals(signals: &[Signal]) -> Result<()> {
    for signal in signals {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: ignoring runs no code of ours.
        unsafe { sigaction(*signal, &ignore) }?;
    }
    Ok(())
}

/// Milliseconds of CLOCK_MONOTONIC: the clock of the scoreboard's deadlines, the same in all processes and over an exec.
pub fn monotonic_ms() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |t| t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000)
}

/// The same in microseconds.
pub fn monotonic_us() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |t| t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000)
}

/// Wall clock: microseconds since the epoch. (std's clocks reckon in structures, for more than what reading the clock costs.)
pub fn epoch_micros() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME).map_or(0, |t| t.tv_sec() as u64 * 1_000_000 + t.tv_nsec() as u64 / 1000)
}

/// The clock of [`monotonic_ms`] as of the last timer tick: a few milliseconds behind at most, for a fifth of the price.
pub fn coarse_ms() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC_COARSE;
    nix::time::clock_gettime(clock).map_or(0, |t| t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_stream_or_a_closed_descriptor_cannot_be_taken_and_none_twice() {
        assert!(take_inherited(1).is_err());
        assert!(take_inherited(999_999).is_err());
        let fd = std::os::fd::IntoRawFd::into_raw_fd(duplicate(0).unwrap());
        let owned = take_inherited(fd).unwrap();
        assert!(take_inherited(fd).is_err());
        drop(owned);
    }

    #[test]
    fn a_descriptor_that_is_replaced_keeps_its_number_and_writes_elsewhere() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        let ((mut log, old), (new, mut reader)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let number = log.as_raw_fd();
        replace(log.as_fd(), new.as_fd()).unwrap();
        drop((new, old));
        log.write_all(b"line").unwrap();
        assert_eq!((log.as_raw_fd(), fcntl(&log, FcntlArg::F_GETFD).unwrap()), (number, FdFlag::FD_CLOEXEC.bits()));
        drop(log);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "line");
    }

    #[test]
    fn who_starts_over_keeps_what_an_exec_would_keep() {
        let (kept, lost) = (duplicate(0).unwrap(), duplicate(0).unwrap());
        let kept = take_inherited(std::os::fd::IntoRawFd::into_raw_fd(kept)).unwrap();
        // SAFETY: the child only makes system calls; nextest runs each test in a process of its own, whose other thread waits for this one.
        match unsafe { nix::unistd::fork() }.unwrap() {
            ForkResult::Child => {
                set_cloexec(kept.as_fd(), false).unwrap();
                let _ = start_over(|| {
                    let again = take_inherited(kept.as_raw_fd());
                    let gone = take_inherited(lost.as_raw_fd());
                    if again.is_ok() && gone.is_err() { 7 } else { 1 }
                });
                exit_now(2)
            }
            ForkResult::Parent { child } => {
                let ended = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 7));
            }
        }
    }

    #[test]
    fn fork_is_refused_beside_other_threads() {
        let other = std::thread::spawn(std::thread::park);
        assert!(fork().is_err());
        other.thread().unpark();
        other.join().unwrap();
    }
}
