//! Signals of a worker: handlers in C's sense that only set bits and wake a descriptor, so that an app that is stuck in
//! a C extension does not keep them from acting.
//!
//! The state is the process's (there is one set of handlers a process), hence the statics.

use std::io::Result;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

/// SIGHUP: finish what runs, then end.
pub const GRACEFUL: u32 = 1;
/// SIGINT or SIGTERM: end at once. (If a request runs, the handler itself ends the process.)
pub const STOP: u32 = 2;
/// SIGUSR1: print the counters.
pub const REPORT: u32 = 4;
/// SIGUSR2: say what is running.
pub const DUMP: u32 = 8;
/// SIGQUIT.
pub const QUIT: u32 = 16;

const HANDLED: [Signal; 7] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGQUIT, Signal::SIGWINCH];
const IGNORED: [Signal; 4] = [Signal::SIGPIPE, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

static PENDING: AtomicU32 = AtomicU32::new(0);
static BUSY: AtomicU32 = AtomicU32::new(0);
static STOP_CODE: AtomicI32 = AtomicI32::new(30);
static WAKE: OnceLock<EventFd> = OnceLock::new();

/// Installs the handlers (SIGPIPE and SIGTSTP are ignored), unblocks all signals, and returns the descriptor that becomes
/// readable when bits are set. `stop_code` is the exit code of a stop at once.
///
/// Call it once a process, after the fork: the descriptor must not be shared with another process.
pub fn install(stop_code: i32) -> Result<BorrowedFd<'static>> {
    STOP_CODE.store(stop_code, SeqCst);
    let wake = match WAKE.get() {
        Some(wake) => wake,
        None => {
            let fresh = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            WAKE.get_or_init(|| fresh)
        }
    };
    for signal in HANDLED {
        handle(signal, SigHandler::Handler(on_signal))?;
    }
    for signal in IGNORED {
        handle(signal, SigHandler::SigIgn)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(wake.as_fd())
}

/// In a process that waits for its master's orders and ends with it: a signal to the process group is the master's to act on. (A handler and not
/// "ignore", so that what an app starts while it is loaded has the default.)
pub fn calm() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGUSR1, Signal::SIGWINCH] {
        // SAFETY: the handler does nothing at all.
        unsafe { sigaction(signal, &action) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// In a process that the app forked: signals do what they do in any other program, unless the app has a handler of its own in place.
/// (With ours they would wake the worker that this is a copy of, and do nothing here.)
pub fn forget() -> Result<()> {
    for signal in HANDLED.into_iter().chain(IGNORED) {
        // SAFETY: the default disposition runs no code of ours.
        let old = unsafe { sigaction(signal, &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())) }?;
        let ours = match old.handler() {
            SigHandler::Handler(handler) => std::ptr::fn_addr_eq(handler, on_signal as extern "C" fn(libc::c_int)),
            SigHandler::SigIgn => signal != Signal::SIGPIPE, // ignored in every Python program
            _ => false,
        };
        if !ours {
            // SAFETY: what was in place a moment ago.
            unsafe { sigaction(signal, &old) }?;
        }
    }
    Ok(())
}

fn handle(signal: Signal, handler: SigHandler) -> Result<()> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `on_signal` only touches atomics and calls write(2) and _exit(2), all of which are async-signal-safe.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

extern "C" fn on_signal(number: libc::c_int) {
    let bit = match number {
        libc::SIGHUP => GRACEFUL,
        libc::SIGINT | libc::SIGTERM => STOP,
        libc::SIGUSR1 => REPORT,
        libc::SIGUSR2 => DUMP,
        libc::SIGQUIT => QUIT,
        _ => 0,
    };
    PENDING.fetch_or(bit, SeqCst);
    if bit == STOP && BUSY.load(SeqCst) > 0 {
        // SAFETY: `_exit` is async-signal-safe and has no preconditions.
        unsafe { libc::_exit(STOP_CODE.load(SeqCst)) };
    }
    wake();
}

/// As if a signal of that bit had come.
pub fn order(bit: u32) {
    PENDING.fetch_or(bit, SeqCst);
    wake();
}

/// Makes the descriptor readable: for threads that have to look at something.
pub fn wake() {
    if let Some(wake) = WAKE.get() {
        let one = 1u64;
        // The handler may interrupt any code, so errno has to be left as it was.
        let errno = nix::errno::Errno::last_raw();
        // SAFETY: `one` is eight readable bytes; write(2) is async-signal-safe, and a full counter only gives EAGAIN.
        unsafe { libc::write(wake.as_fd().as_raw_fd(), (&raw const one).cast(), 8) };
        nix::errno::Errno::set_raw(errno);
    }
}

/// Makes the descriptor unreadable again.
pub fn quiet() {
    if let Some(wake) = WAKE.get() {
        let _ = wake.read();
    }
}

/// The bits that are set.
pub fn pending() -> u32 {
    PENDING.load(SeqCst)
}

/// Takes `bits` back; which of them were set: the caller is the one that acts on them.
pub fn take(bits: u32) -> u32 {
    PENDING.fetch_and(!bits, SeqCst) & bits
}

/// A request is running: from now until the value is dropped a stop at once ends the process from within the handler.
/// Look at [`pending`] afterwards: a stop that came before is the caller's to act on.
pub fn busy() -> Busy {
    BUSY.fetch_add(1, SeqCst);
    Busy(())
}

/// See [`busy`].
pub struct Busy(());

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    /// One test, because the handlers are the whole process's.
    #[test]
    fn signals_become_bits_and_wake_the_descriptor() {
        let fd = install(30).unwrap();
        let readable = || {
            let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut fds, 0u8).unwrap() == 1
        };
        quiet();
        assert!(!readable());
        raise(Signal::SIGHUP).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        raise(Signal::SIGTSTP).unwrap();
        assert_eq!(pending() & (GRACEFUL | REPORT | STOP), GRACEFUL | REPORT);
        assert!(readable());
        assert_eq!((take(REPORT), take(REPORT)), (REPORT, 0));
        raise(Signal::SIGTERM).unwrap();
        assert_eq!(take(GRACEFUL | STOP), GRACEFUL | STOP, "not busy: the process goes on");
        quiet();
        assert!(!readable());
    }

    #[test]
    fn a_stop_while_busy_ends_the_process_from_the_handler() {
        let status = match unsafe_fork() {
            None => {
                let _ = install(30);
                let _busy = busy();
                let _ = raise(Signal::SIGTERM);
                // SAFETY: no preconditions.
                unsafe { libc::_exit(1) }
            }
            Some(pid) => nix::sys::wait::waitpid(pid, None).unwrap(),
        };
        assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 30)), "{status:?}");
    }

    #[test]
    fn a_forked_copy_that_forgets_ends_by_a_signal() {
        let status = match unsafe_fork() {
            None => {
                let _ = install(30).and_then(|_| forget());
                let _ = raise(Signal::SIGTERM);
                // SAFETY: no preconditions.
                unsafe { libc::_exit(1) }
            }
            Some(pid) => nix::sys::wait::waitpid(pid, None).unwrap(),
        };
        assert!(matches!(status, nix::sys::wait::WaitStatus::Signaled(_, Signal::SIGTERM, _)), "{status:?}");
    }

    fn unsafe_fork() -> Option<nix::unistd::Pid> {
        // SAFETY: the child only uses what is async-signal-safe (sigaction, eventfd, raise, _exit).
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => None,
            nix::unistd::ForkResult::Parent { child } => Some(child),
        }
    }
}
