//! The last words of a process that crashes.

use std::io::Result;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Seconds that the last words may take: who crashed in the allocator would wait for itself.
const PATIENCE: libc::c_uint = 2;
#[cfg(target_env = "gnu")]
const FRAMES: usize = 64;

/// From now on a segmentation fault writes where it happened, in C's view, to descriptor 2, and then ends the process as ever. What a language
/// installs later comes first.
///
/// # Errors
/// The kernel's.
pub fn tell() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_crash), SaFlags::SA_NODEFER | SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: the handler calls nothing that keeps a lock of ours, and a time limit ends it where it waits for one of C's.
    unsafe { sigaction(Signal::SIGSEGV, &action) }?;
    Ok(())
}

extern "C" fn on_crash(signal: libc::c_int) {
    // SAFETY: these may be called in a handler. A second fault in here ends the process at once.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigaddset(&raw mut mask, libc::SIGALRM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, std::ptr::null_mut());
        libc::alarm(PATIENCE);
    }
    let mut digits = [0; 12];
    // SAFETY: as above.
    let pid = number(unsafe { libc::getpid() }.unsigned_abs(), &mut digits);
    write(&[b"!!! uWSGI process ", pid, b" got Segmentation Fault !!!\n*** backtrace of ", pid, b" ***\n"]);
    backtrace();
    write(&[b"*** end of backtrace ***\n"]);
    // SAFETY: the default action ends the process.
    unsafe {
        libc::raise(signal);
    }
}

#[cfg(target_env = "gnu")]
fn backtrace() {
    let mut frames = [std::ptr::null_mut(); FRAMES];
    // SAFETY: there is room for as many frames as are asked for, and as many are printed as there are.
    unsafe {
        let count = libc::backtrace(frames.as_mut_ptr(), FRAMES as libc::c_int);
        libc::backtrace_symbols_fd(frames.as_ptr(), count, 2);
    }
}

#[cfg(not(target_env = "gnu"))]
fn backtrace() {}

/// In digits, without allocating.
fn number(mut value: u32, digits: &mut [u8; 12]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

fn write(parts: &[&[u8]]) {
    for part in parts {
        // SAFETY: the buffer is as long as is said. Nobody could be told of an error.
        unsafe {
            libc::write(2, part.as_ptr().cast(), part.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_digits() {
        let text = |value| String::from_utf8_lossy(number(value, &mut [0; 12])).into_owned();
        assert_eq!([text(0), text(7), text(1200), text(u32::MAX)], ["0", "7", "1200", "4294967295"]);
    }
}
