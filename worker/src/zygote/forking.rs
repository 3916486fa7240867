//! Forks workers on the master's word, so that they become the master's own children.

use imperator_sys::process::{Fork, exit_now};
use imperator_sys::seqpacket::SeqPacket;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Zygote, ZygoteError, end_with_parent, os};
use crate::control::{FromZygote, ToZygote};
use crate::log::diag;

/// Milliseconds without an order after which what the last one needed is given back: the first workers are ordered as soon as the app is loaded.
const SETTLE_MS: u16 = 100;

/// Where a fork came back.
enum Side {
    Zygote,
    Worker,
}

impl Zygote<'_> {
    /// Forks workers until the master needs no more, or is gone. In a worker: its exit code.
    pub(super) fn wait_for_orders(&mut self, control: &SeqPacket) -> Result<i32, ZygoteError> {
        self.runtime.before_forks();
        let mut settled = false;
        loop {
            let mut order = None;
            self.runtime.detached(&mut || {
                if !settled && matches!(control.is_readable_within(SETTLE_MS), Ok(false)) {
                    let _ = imperator_sys::memory::settle(); // without /proc nothing can be done
                    settled = true;
                }
                order = Some(control.recv::<ToZygote>());
            });
            let received = match order {
                Some(Ok(Some(received))) => received,
                Some(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Some(Err(source)) => return Err(ZygoteError::Os { what: "the master's orders", source }),
                Some(Ok(None)) | None => return Ok(0),
            };
            match received.message {
                ToZygote::Exit => return Ok(0),
                ToZygote::Logs => os("the log", self.host.reopen_logs(received.fds))?,
                ToZygote::Fork { worker } => {
                    let Some(pair) = received.fds.into_iter().next() else { continue };
                    settled = false;
                    match self.fork_worker(worker) {
                        Ok(Side::Zygote) => {
                            self.forked.insert(worker);
                        }
                        Ok(Side::Worker) => return self.work_as(worker, Some(pair)),
                        Err(error) => {
                            let failed = FromZygote::ForkFailed { worker, message: error.to_string() };
                            os("the control socket", control.send(&failed, &[]))?;
                        }
                    }
                }
            }
        }
    }

    /// Forks twice: the grandchild is the worker, and when the child has ended, the master is its parent.
    fn fork_worker(&mut self, worker: u32) -> Result<Side, ZygoteError> {
        match self.runtime.fork_between()? {
            Fork::Parent(child) if ended_well(child, worker)? => Ok(Side::Zygote),
            Fork::Parent(_) => Err(ZygoteError::Fork),
            Fork::Child => {
                let between = nix::unistd::getpid();
                match self.runtime.fork() {
                    Ok(Fork::Child) => {
                        // The worker has no way back from here: whatever fails ends it.
                        let parent = os("the new parent", imperator_sys::fork::wait_for_new_parent(between));
                        if let Err(error) = parent.and_then(|_| end_with_parent(self.host)) {
                            diag::say(&format!("worker {worker}: {error}"));
                            exit_now(1);
                        }
                        Ok(Side::Worker)
                    }
                    Ok(Fork::Parent(_)) => exit_now(0),
                    Err(error) => {
                        diag::say(&format!("worker {worker}: {error}"));
                        exit_now(1)
                    }
                }
            }
        }
    }

    /// `master = false`: this process is worker 1, and the others are its children.
    pub(super) fn alone(mut self) -> Result<i32, ZygoteError> {
        for worker in 2..=self.host.boot.settings.process.workers {
            if self.runtime.fork()? == Fork::Child {
                os("PR_SET_PDEATHSIG", prctl::set_pdeathsig(Signal::SIGKILL))?;
                return self.work_as(worker, None);
            }
        }
        self.work_as(1, None)
    }
}

/// Waits for the process between zygote and worker; whether its own fork worked.
fn ended_well(child: Pid, worker: u32) -> Result<bool, ZygoteError> {
    loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, code)) => return Ok(code == 0),
            other => return Err(ZygoteError::Runtime(format!("the process between zygote and worker {worker}: {other:?}"))),
        }
    }
}
