//! Having one thread of this process run something at once, in the middle of what it does: a signal to that thread.

use std::io::{Error, Result};
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// A signal that means nothing to most programs, is ignored by default, and that nobody sends by accident.
const SIGNAL: Signal = Signal::SIGURG;

/// What a thread runs when it is interrupted.
static WORK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// A thread of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread(libc::pid_t);

/// From now on, `work` is what an interrupted thread of this process runs. System calls that it waits in go on afterwards.
///
/// # Safety
/// `work` only does what is allowed in a signal handler: no allocation, no locks, nothing that is in the middle of a change in the interrupted code.
///
/// # Errors
/// The system's.
pub unsafe fn install(work: fn()) -> Result<()> {
    WORK.store(work as *mut (), SeqCst);
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler keeps errno, and for the rest does what the caller vouches for.
    unsafe { sigaction(SIGNAL, &action) }?;
    Ok(())
}

extern "C" fn on_signal(_: libc::c_int) {
    let errno = nix::errno::Errno::last_raw();
    let work = WORK.load(SeqCst);
    if !work.is_null() {
        // SAFETY: nothing but a `fn()` is ever stored there.
        let work: fn() = unsafe { std::mem::transmute(work) };
        work();
    }
    nix::errno::Errno::set_raw(errno);
}

impl Thread {
    /// The calling one.
    pub fn current() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { libc::gettid() })
    }

    /// Has it run what was installed. A thread that has ended is no error of anybody's.
    ///
    /// # Errors
    /// The system's, if there is no such thread.
    pub fn interrupt(self) -> Result<()> {
        let process = std::process::id() as libc::pid_t;
        // SAFETY: three integers. The signal is handled or ignored, and reaches threads of this process only.
        match unsafe { libc::syscall(libc::SYS_tgkill, process, self.0, SIGNAL as libc::c_int) } {
            -1 => Err(Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static DONE_BY: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn the_thread_that_is_meant_runs_it_and_goes_on() {
        let own = || Thread::current().0 as usize;
        // SAFETY: the work is a system call and a store.
        unsafe { install(|| DONE_BY.store(Thread::current().0 as usize, SeqCst)) }.expect("a handler");
        let (tell, told) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            tell.send(Thread::current()).expect("told");
            while DONE_BY.load(SeqCst) == 0 {
                std::hint::spin_loop();
            }
            own()
        });
        told.recv().expect("a thread").interrupt().expect("interrupted");
        assert_eq!(other.join().expect("it goes on"), DONE_BY.load(SeqCst));
        assert_ne!(DONE_BY.load(SeqCst), own());
    }
}
