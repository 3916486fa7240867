//! Forking without leaving a trace in the process tree.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, getppid};

/// Forks, in whatever state the process is. The child has only the calling thread.
///
/// # Safety
///
/// A lock that another thread holds at this moment (of a language runtime, say) stays locked in the child for ever, so in a process with more threads the
/// child may only do what does not need such a lock. libc's own locks (its allocator's) are taken care of by libc.
pub unsafe fn fork() -> io::Result<ForkResult> {
    // SAFETY: the caller's promise is the same.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// A descriptor that polls readable once process `pid` has ended. The caller knows that `pid` is not another process by now (it is its child, or its parent).
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: plain system call on two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends `signal` to exactly that process.
pub fn pidfd_signal(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    // SAFETY: a descriptor, a number, no information and no flags: nothing is written to.
    match unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as libc::c_int, std::ptr::null::<libc::siginfo_t>(), 0)
    } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits until `parent`, which is about to end, is our parent no more; who is then (the nearest subreaper or init).
pub fn wait_for_new_parent(parent: Pid) -> io::Result<Pid> {
    while getppid() == parent {
        let Ok(fd) = pidfd(parent) else { continue }; // it ended and was reaped between the two calls
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(getppid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    #[test]
    fn an_orphan_learns_its_new_parent() {
        nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
        let me = nix::unistd::getpid();
        // SAFETY: the children only make system calls and end.
        let middle = match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                let middle = nix::unistd::getpid();
                // SAFETY: as above.
                match unsafe { fork() } {
                    Ok(ForkResult::Child) => {
                        let good = wait_for_new_parent(middle).is_ok_and(|new| new == me);
                        // SAFETY: ends the process without running anything of the test harness's.
                        unsafe { libc::_exit(if good { 7 } else { 1 }) }
                    }
                    // SAFETY: as above.
                    _ => unsafe { libc::_exit(0) },
                }
            }
        };
        assert_eq!(waitpid(middle, None).expect("middle"), WaitStatus::Exited(middle, 0));
        let WaitStatus::Exited(_, code) = waitpid(None, None).expect("orphan") else { panic!("killed") };
        assert_eq!(code, 7);
    }
}
