//! A worker, from the fork to the event loop.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use imperator_sys::{process, signals, spawn};
use nix::sys::prctl;

use super::{Load, Zygote, ZygoteError, os};
use crate::control::{FromWorker, Role, exit};
use crate::host::Host;
use crate::scoreboard::Scoreboard;
use crate::{Link, WorkerConfig, procname, serve};

/// What a worker does when it is one.
enum Next {
    End(i32),
    Serve(Option<Arc<Link>>),
}

impl Zygote<'_> {
    /// Everything from the fork to the worker's end; its exit code.
    pub(super) fn work_as(&mut self, worker: u32, control: Option<OwnedFd>) -> Result<i32, ZygoteError> {
        match self.become_worker(worker, control)? {
            Next::End(code) => Ok(code),
            Next::Serve(link) => self.serve(link),
        }
    }

    /// Everything before the event loop.
    #[inline(never)] // what it has on the stack would be the worker's for life
    fn become_worker(&mut self, worker: u32, control: Option<OwnedFd>) -> Result<Next, ZygoteError> {
        let (host, settings) = (self.host, &self.host.boot.settings);
        drop(host.take_control()); // the zygote's
        // The master signals a worker as soon as it knows its pid, and the zygote's handlers do nothing: an order that comes during the load is kept.
        os("signals", signals::install(if host.boot.role == Role::Single { 0 } else { exit::END }))?;
        let name = CString::new(format!("worker {worker}")).unwrap_or_default();
        os("the process's name", prctl::set_name(&name))?;
        procname::apply(&settings.process, &format!("worker {worker}"));
        let link = os("the worker's control socket", control.map(Link::new).transpose())?.map(Arc::new);
        if let Some(link) = &link {
            link.tell(&FromWorker::Started);
        }
        host.become_worker(worker, link.clone());
        if let Some(command) = &settings.process.worker_exec {
            return become_program(host, command).map(Next::End);
        }
        self.runtime.forked(worker)?;
        if let Some(code) = self.phase("post-fork") {
            return Ok(Next::End(code));
        }
        if let Some(command) = &settings.process.worker_exec2 {
            return become_program(host, command).map(Next::End);
        }
        self.runtime.post_fork();
        if settings.process.lazy_apps
            && let Load::Failed { code, message } = self.load_apps()?
        {
            let _ = host.tell_master(&FromWorker::Failed { code, message });
            return Ok(Next::End(code));
        }
        if let Some(code) = self.runtime.instead()? {
            return Ok(Next::End(code));
        }
        self.runtime.ready(worker)?;
        if let Some(code) = self.accepting(worker) {
            return Ok(Next::End(code));
        }
        Ok(Next::Serve(link))
    }

    /// Hands over to the event loop.
    fn serve(&self, link: Option<Arc<Link>>) -> Result<i32, ZygoteError> {
        let (host, process) = (self.host, &self.host.boot.settings.process);
        let scoreboard = os("scoreboard", host.scoreboard.as_fd().try_clone_to_owned())?;
        let mut config = Some(WorkerConfig {
            boot: host.boot.clone(),
            worker: host.worker(),
            listeners: host.take_listeners(),
            scoreboard: os("scoreboard", Scoreboard::open(scoreboard, process.workers.max(1), process.threads.max(1)))?,
            link,
            request_log: host.take_request_log(),
        });
        let language = self.runtime.language();
        let mut code = exit::RELOAD;
        self.runtime.detached(&mut || {
            if let Some(config) = config.take() {
                code = serve(config, &*language);
            }
        });
        Ok(code)
    }

    /// The phases of a worker that is about to accept requests.
    fn accepting(&mut self, worker: u32) -> Option<i32> {
        let first_life = self.forked.insert(worker);
        let phases = [
            ("accepting", true, true),
            ("accepting-once", true, false),
            ("accepting1", worker == 1, true),
            ("accepting1-once", worker == 1, false),
        ];
        phases.into_iter().filter(|(_, mine, always)| *mine && (*always || first_life)).find_map(|(phase, ..)| self.phase(phase))
    }
}

/// `worker-exec`: another program takes the worker's place, with the first socket as its descriptor 0. Returns only if that fails.
fn become_program(host: &Host, command: &str) -> Result<i32, ZygoteError> {
    let Some(listener) = host.take_listeners().into_iter().next() else {
        return Err(ZygoteError::Runtime("worker-exec: there is no socket for the program".into()));
    };
    // Programs that get their socket so wait in accept().
    os("worker-exec", process::set_nonblocking(listener.as_fd(), false))?;
    os("worker-exec", process::redirect(listener.as_fd(), 0))?;
    let _ = host.tell_master(&FromWorker::Accepting { apps: vec![] });
    os("worker-exec", spawn::default_signals())?;
    // Where it is one command it is to be this very process, which the master signals.
    let simple = !command.contains([';', '&', '|', '\n']);
    let line = if simple { format!("exec {command}") } else { command.to_owned() };
    let line = CString::new(line).map_err(|e| ZygoteError::Runtime(format!("worker-exec: {e}")))?;
    match nix::unistd::execv(c"/bin/sh", &[c"/bin/sh", c"-c", &line]) {
        Ok(never) => match never {},
        Err(error) => os("worker-exec: /bin/sh", Err(error)),
    }
}
