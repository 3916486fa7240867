//! Forks workers on the master's word, so that they become the master's own children.

use anyhow::{Context, anyhow, bail};
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::{FromZygote, ToZygote};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use pyo3::prelude::*;

use super::{Zygote, end_with_parent};
use crate::say;

/// Where a fork came back.
enum Side {
    Zygote,
    Worker,
}

impl Zygote<'_> {
    /// Forks workers until the master needs no more, or is gone. In a worker: its exit code.
    pub(super) fn wait_for_orders(&mut self, control: &SeqPacket) -> anyhow::Result<i32> {
        self.warn_of_threads();
        loop {
            let received = match self.py.detach(|| control.recv::<ToZygote>()) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(0),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the master's orders"),
            };
            match received.message {
                ToZygote::Exit => return Ok(0),
                ToZygote::Logs => self.host.reopen_logs(received.fds)?,
                ToZygote::Fork { worker } => {
                    let Some(pair) = received.fds.into_iter().next() else { continue };
                    match self.fork_worker(worker) {
                        Ok(Side::Zygote) => {
                            self.forked.insert(worker);
                        }
                        Ok(Side::Worker) => return self.work_as(worker, Some(pair)),
                        Err(error) => control.send(&FromZygote::ForkFailed { worker, message: error.to_string() }, &[])?,
                    }
                }
            }
        }
    }

    fn warn_of_threads(&self) {
        let names = self.embedded.interpreter.bind(self.py).call_method0("live_threads").and_then(|names| names.extract::<Vec<String>>());
        if let Ok(names) = names
            && !names.is_empty()
        {
            let names = names.join(", ");
            say(&format!(
                "threads that were started while the app was loaded do not live on in the workers: {names}; start them in uwsgi.post_fork_hook, or use lazy-apps\n"
            ));
        }
    }

    /// Forks twice: the grandchild is the worker, and when the child has ended, the master is its parent.
    fn fork_worker(&self, worker: u32) -> anyhow::Result<Side> {
        use nix::unistd::ForkResult;
        // Python's import lock must not be in the hands of a thread that is not there afterwards.
        let imports = self.py.import("_imp")?;
        imports.call_method0("acquire_lock")?;
        // SAFETY: this thread holds Python's lock and the import lock. The child's only deeds are Python's own fork, which deals with all others, and its end.
        let forked = unsafe { imperator_sys::fork::fork() };
        imports.call_method0("release_lock")?;
        match forked? {
            ForkResult::Parent { child } => {
                let code = loop {
                    match nix::sys::wait::waitpid(child, None) {
                        Err(nix::errno::Errno::EINTR) => {}
                        Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => break code,
                        other => bail!("the process between zygote and worker {worker}: {other:?}"),
                    }
                };
                if code == 0 { Ok(Side::Zygote) } else { Err(anyhow!("fork failed, the reason is in the log")) }
            }
            ForkResult::Child => {
                let between = nix::unistd::getpid();
                let ours = crate::forked::ours();
                match self.py.import("os").and_then(|os| os.call_method0("fork")).and_then(|pid| pid.extract::<i32>()) {
                    Ok(0) => {
                        drop(ours);
                        // The worker has no way back from here: whatever fails ends it.
                        let parent = imperator_sys::fork::wait_for_new_parent(between);
                        if let Err(error) = parent.map_err(anyhow::Error::from).and_then(|_| end_with_parent(self.host)) {
                            say(&format!("worker {worker}: {error:#}\n"));
                            imperator_sys::process::exit_now(1);
                        }
                        Ok(Side::Worker)
                    }
                    Ok(_) => imperator_sys::process::exit_now(0),
                    Err(error) => {
                        crate::errors::print(self.py, &error);
                        imperator_sys::process::exit_now(1)
                    }
                }
            }
        }
    }

    /// `master = false`: this process is worker 1, and the others are its children.
    pub(super) fn alone(mut self) -> anyhow::Result<i32> {
        for worker in 2..=self.host.boot.settings.process.workers {
            let ours = crate::forked::ours();
            let pid: i32 = self.py.import("os")?.call_method0("fork")?.extract()?;
            drop(ours);
            if pid == 0 {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                return self.work_as(worker, None);
            }
        }
        self.work_as(1, None)
    }
}
