//! Signals of the master: blocked from its first moment, over every exec, and read from a descriptor, so that none is ever lost.

use nix::libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::order::Order;
use super::policy::term_or_quit;

/// Blocks them, and gives the descriptor that they come from.
pub fn open() -> std::io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    let ours = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGTSTP, Signal::SIGUSR1, Signal::SIGUSR2];
    let harmless = [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGURG, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGPIPE, Signal::SIGALRM];
    ours.into_iter().chain(harmless).for_each(|signal| mask.add(signal));
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// What a signal asks for. USR2, which kills uWSGI's master, reports as USR1 does.
pub fn order(signal: i32, die_on_term: Option<bool>) -> Option<Order> {
    match signal {
        SIGHUP => Some(Order::Reload),
        SIGINT => Some(Order::Stop),
        SIGTERM | SIGQUIT => Some(term_or_quit(signal, die_on_term)),
        SIGTSTP => Some(Order::PauseOrResume),
        SIGUSR1 | SIGUSR2 => Some(Order::Report),
        _ => None,
    }
}
