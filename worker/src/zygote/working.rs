//! A worker, from the fork to the event loop.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use imperator_sys::signals;
use nix::sys::prctl;

use super::{Load, Zygote, ZygoteError, os};
use crate::control::{FromWorker, Role, exit};
use crate::scoreboard::Scoreboard;
use crate::{Link, WorkerConfig, procname, serve};

impl Zygote<'_> {
    /// Everything from the fork to the worker's end; its exit code.
    pub(super) fn work_as(&mut self, worker: u32, control: Option<OwnedFd>) -> Result<i32, ZygoteError> {
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
        self.runtime.forked(worker)?;
        if let Some(code) = self.phase("post-fork") {
            return Ok(code);
        }
        self.runtime.post_fork();
        if settings.process.lazy_apps
            && let Load::Failed { code, message } = self.load_apps()?
        {
            let _ = host.tell_master(&FromWorker::Failed { code, message });
            return Ok(code);
        }
        if let Some(code) = self.runtime.instead()? {
            return Ok(code);
        }
        self.runtime.ready(worker)?;
        if let Some(code) = self.accepting(worker) {
            return Ok(code);
        }
        self.serve(link)
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
