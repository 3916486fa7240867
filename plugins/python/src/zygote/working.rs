//! A worker, from the fork to the event loop.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use imperator_sys::signals;
use imperator_worker::Link;
use imperator_worker::control::{FromWorker, Role, exit};
use imperator_worker::hooks::Hooks;
use imperator_worker::procname;
use nix::sys::prctl;
use pyo3::prelude::*;

use super::{Load, Zygote, explain, say_from_python};
use crate::embedded::development;
use crate::say;

impl Zygote<'_> {
    /// Everything from the fork to the worker's end; its exit code.
    pub(super) fn work_as(&mut self, worker: u32, control: Option<OwnedFd>) -> anyhow::Result<i32> {
        drop(self.host.take_control()); // the zygote's
        // The master signals a worker as soon as it knows its pid, and the zygote's handlers do nothing: an order that comes during the load is kept.
        signals::install(if self.host.boot.role == Role::Single { 0 } else { exit::END })?;
        prctl::set_name(&std::ffi::CString::new(format!("worker {worker}"))?)?;
        procname::apply(&self.host.boot.settings.process, &format!("worker {worker}"));
        let link = control.map(Link::new).transpose()?.map(Arc::new);
        if let Some(link) = &link {
            link.tell(&FromWorker::Started);
        }
        self.host.become_worker(worker, link.clone());
        self.embedded.interpreter.bind(self.py).call_method0("reseed")?;
        if let Some(code) = self.phase("post-fork") {
            return Ok(code);
        }
        crate::module::call_hook(self.py, "post_fork_hook");
        let settings = &self.host.boot.settings;
        if settings.process.lazy_apps
            && let Load::Failed { code, message } = self.load_apps().map_err(|error| explain(self.py, error))?
        {
            let _ = self.host.tell_master(&FromWorker::Failed { code, message });
            return Ok(code);
        }
        if let Some(script) = &settings.python.worker_override {
            let _ = self.host.tell_master(&FromWorker::Accepting { apps: vec![] }); // what the script does from now on is its own affair
            return self.run_as_main(script);
        }
        self.helpers(worker).map_err(|error| explain(self.py, error))?;
        if let Some(code) = self.accepting(worker) {
            return Ok(code);
        }
        crate::serve::run(self.py, self.host, link, &self.language)
    }

    /// Threads of a worker that help with development.
    fn helpers(&self, worker: u32) -> PyResult<()> {
        let python = &self.host.boot.settings.python;
        if let Some(prefix) = &python.tracebacker {
            development(self.py)?.bind(self.py).call_method1("tracebacker", (prefix, worker))?;
        }
        if let Some(watched) = self.watched.as_ref().filter(|_| worker == 1) {
            let (watch, reload) = (wrap_pyfunction!(crate::watch::wait_for_change, self.py)?, self.py.import("uwsgi")?.getattr("reload")?);
            let say = wrap_pyfunction!(say_from_python, self.py)?;
            development(self.py)?.bind(self.py).call_method1("autoreload", (watched, watch, python.autoreload, reload, say))?;
        }
        Ok(())
    }

    /// Runs the hooks of a phase; the exit code if they want this process to end.
    pub(super) fn phase(&self, phase: &str) -> Option<i32> {
        match self.py.detach(|| Hooks::parse(&self.host.boot.settings.hooks).and_then(|hooks| hooks.run(phase))) {
            Ok(effects) => effects.exit,
            Err(error) => {
                say(&format!("{error}\n"));
                Some(1)
            }
        }
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
