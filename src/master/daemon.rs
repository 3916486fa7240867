//! Leaving the terminal, and being process 1 of a namespace of one's own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use imperator_sys::process::{self, Fork};
use imperator_worker::isolation::joined::processes;
use imperator_worker::isolation::users;
use imperator_worker::settings::Settings;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use super::running::send_signal;
use crate::privileges::{Kernel, joined, needs_namespaces, wants_pid_namespace};

/// What a detached process has to tell the one that waits in the terminal.
#[derive(Default)]
pub struct Waiting(Option<File>);

impl Waiting {
    /// The app is loaded: whoever waits may go. (If this process ends before, the other one notices and ends with 1.)
    pub fn tell(&mut self) {
        if let Some(mut pipe) = self.0.take() {
            let _ = pipe.write_all(b"1");
        }
    }
}

/// `daemonize`: the started process ends with 0 at once, its child goes on. `daemonize2`: it ends when the app has loaded.
///
/// # Errors
/// No fork.
pub fn detach(settings: &Settings) -> Result<Waiting> {
    let (early, late) = (settings.process.daemonize.is_some(), settings.process.daemonize2.is_some());
    if !early && !late {
        return Ok(Waiting::default());
    }
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("daemonize")?;
    match process::fork().context("daemonize")? {
        Fork::Child => {
            drop(reader);
            setsid().context("daemonize")?;
            Ok(Waiting((!early).then(|| writer.into())))
        }
        Fork::Parent(_) => {
            drop(writer);
            let mut word = [0];
            let up = early || File::from(reader).read_exact(&mut word).is_ok();
            process::exit_now(i32::from(!up))
        }
    }
}

/// `unshare = pid`: goes on as process 1 of a new namespace; `setns`: as a process of the one that is given. The process that was started stays outside as its shadow: it passes signals on and
/// ends as its child does.
///
/// # Errors
/// The kernel refuses the namespace.
pub fn enter_pid_namespace(settings: &Settings, signals: &SignalFd) -> Result<()> {
    if needs_namespaces(settings) && !Kernel::here().may_mount {
        // Who is not root needs users of their own first. What that is refused for is said with all else that is lacking.
        let _ = users::enter(CloneFlags::empty());
    }
    if let Some(given) = joined(settings)?.map(processes).transpose()?.flatten() {
        setns(given, CloneFlags::CLONE_NEWPID).context("setns: pid")?;
    } else if wants_pid_namespace(settings) {
        unshare(CloneFlags::CLONE_NEWPID).context("unshare = pid")?;
    } else {
        return Ok(());
    }
    match process::fork().context("unshare = pid")? {
        Fork::Child => Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?),
        Fork::Parent(child) => shadow(child, signals),
    }
}

fn shadow(child: Pid, signals: &SignalFd) -> ! {
    let _ = nix::sys::prctl::set_name(c"master");
    // Our copies would keep the other side of a pipe from seeing the end of it.
    process::close_from_3_but(signals.as_fd());
    loop {
        let mut fds = [nix::poll::PollFd::new(signals.as_fd(), nix::poll::PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut fds, nix::poll::PollTimeout::NONE);
        while let Ok(Some(info)) = signals.read_signal() {
            if info.ssi_signo as i32 != nix::libc::SIGCHLD {
                send_signal(child.as_raw(), info.ssi_signo as i32);
            }
        }
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => process::exit_now(code),
            Ok(WaitStatus::Signaled(..)) | Err(_) => process::exit_now(1),
            Ok(_) => {}
        }
    }
}
