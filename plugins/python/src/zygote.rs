//! The life of a Python process: read what the master left, load the app, then fork workers on the master's word (or be the one worker itself).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow, bail};
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::Link;
use imperator_worker::control::{BOOT_ENV, FromWorker, FromZygote, Role, ToZygote, exit};
use imperator_worker::hooks::Hooks;
use imperator_worker::language::Language;
use imperator_worker::procname;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::embedded::{Embedded, development, to_python};
use crate::instance::Instance;
use crate::python::{Mounted, PythonLanguage};
use crate::say;

static LANGUAGE: OnceLock<Arc<PythonLanguage>> = OnceLock::new();

/// The language with its apps, once it is loaded.
pub fn language() -> Option<&'static PythonLanguage> {
    LANGUAGE.get().map(Arc::as_ref)
}

/// Everything that the process knows while it loads and forks.
struct Zygote<'py> {
    py: Python<'py>,
    instance: &'static Instance,
    embedded: Arc<Embedded>,
    loader: Bound<'py, PyAny>,
    language: Arc<PythonLanguage>,
    /// Modules and their times as of the load (`py-autoreload`).
    watched: Option<Bound<'py, PyAny>>,
    /// Workers that were forked before: what a worker does in its first life only is done.
    forked: RefCell<BTreeSet<u32>>,
}

/// How loading ended.
enum Load {
    Done,
    Failed { code: i32, message: String },
}

/// Runs this process; the value is its exit code.
pub fn run(py: Python<'_>) -> anyhow::Result<i32> {
    let boot = py.import("os")?.getattr("environ")?.call_method1("pop", (BOOT_ENV, py.None()))?;
    let boot: Option<String> = boot.extract()?;
    let instance = Instance::receive(&boot.context("this module is started by imperator, not by hand")?)?;
    let role = instance.boot.role;
    if role == Role::Zygote {
        stay_calm()?;
        prctl::set_name(c"zygote")?;
        procname::apply(&instance.boot.settings.process, "zygote");
        end_with_parent(instance)?;
    }
    if role == Role::Emperor {
        bail!("an emperor is no Python process");
    }
    let zygote = Zygote::prepare(py, instance).map_err(|error| explain(py, error))?;
    if role == Role::Script {
        return zygote.script();
    }
    zygote.load_and_go()
}

/// An exception of our own code at the start, with its traceback in the log.
fn explain(py: Python<'_>, error: PyErr) -> anyhow::Error {
    crate::errors::print(py, &error);
    anyhow!("the interpreter could not be set up")
}

/// A zygote that waits ends when its master says so or is gone; a signal to the process group is the master's to act on. (A handler and not "ignore",
/// so that what an app starts while it is loaded has the default.)
fn stay_calm() -> nix::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGUSR1, Signal::SIGWINCH] {
        // SAFETY: the handler does nothing at all.
        unsafe { sigaction(signal, &action) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Ties the life of this process to its parent, which has to be the master.
fn end_with_parent(instance: &Instance) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let (parent, master) = (nix::unistd::getppid().as_raw(), instance.boot.master_pid);
    // In a namespace of its own a process does not see its parent: 0.
    if parent != master && parent != 0 { Err(anyhow!("the master ({master}) is gone: the parent is {parent}")) } else { Ok(()) }
}

impl<'py> Zygote<'py> {
    /// Streams, paths, arguments, the `uwsgi` module: all that has to be there before the first line of the app's.
    fn prepare(py: Python<'py>, instance: &'static Instance) -> PyResult<Self> {
        let settings = &instance.boot.settings;
        let embedded = Arc::new(Embedded::new(py)?);
        let interpreter = embedded.interpreter.bind(py);
        interpreter.call_method0("streams")?;
        // The master went there already. Once more for a root directory that was changed meanwhile; a relative one would lead astray now.
        if let Some(directory) = settings.process.chdir.as_ref().filter(|d| d.starts_with('/')) {
            enter(directory, "chdir")?;
        }
        let json = serde_json::to_value(&settings.python).map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        let python = to_python(py, &json)?;
        interpreter.call_method1("arguments", (&python, &settings.python.pyrun))?;
        interpreter.call_method1("paths", (&python,))?;
        crate::module::install(py, instance)?;
        let origins = PyDict::new(py);
        for (name, places) in &settings.origins {
            origins.set_item(name, PyList::new(py, places)?)?;
        }
        let say = wrap_pyfunction!(say_from_python, py)?;
        let loader = embedded.loader.bind(py).getattr("Loader")?.call1((&python, origins, settings.request.max_apps, say))?;
        let language = Arc::new(PythonLanguage::new(instance, embedded.clone(), &loader));
        let _ = LANGUAGE.set(language.clone());
        Ok(Self { py, instance, embedded, loader, language, watched: None, forked: RefCell::default() })
    }

    /// `pyrun`: a script as `__main__`, then the end.
    fn script(&self) -> anyhow::Result<i32> {
        let script = self.instance.boot.settings.python.pyrun.as_deref().context("pyrun")?;
        self.run_as_main(script)
    }

    fn run_as_main(&self, script: &str) -> anyhow::Result<i32> {
        let interpreter = self.embedded.interpreter.bind(self.py);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        interpreter.call_method0("plain_signals").map_err(|e| explain(self.py, e))?;
        let code = interpreter.call_method1("run_as_main", (script,)).and_then(|code| code.extract());
        code.map_err(|error| explain(self.py, error))
    }

    fn load_and_go(mut self) -> anyhow::Result<i32> {
        // `drop-after-init`: the interpreter is up, and no line of the app's has run.
        let before = self.instance.boot.settings.privileges.drop_after_init;
        if before {
            self.drop_privileges()?;
        }
        let loaded = self.load_first().map_err(|error| explain(self.py, error))?;
        if !before && matches!(loaded, Load::Done) {
            self.drop_privileges()?;
        }
        if self.instance.boot.role == Role::Single {
            return match loaded {
                Load::Done => self.alone(),
                Load::Failed { code, .. } => Ok(code),
            };
        }
        let control = self.instance.take_control().context("a zygote without a control socket")?;
        match loaded {
            Load::Done => {
                control.send(&FromZygote::Loaded { apps: self.language.apps(), language: self.language.name() }, &[])?;
                self.wait_for_orders(&control)
            }
            Load::Failed { code, message } => {
                control.send(&FromZygote::Failed { code, message }, &[])?;
                Ok(code)
            }
        }
    }

    /// What the configuration wants given up only now.
    fn drop_privileges(&self) -> anyhow::Result<()> {
        let Some(plan) = &self.instance.boot.drop else { return Ok(()) };
        plan.enter(&imperator_worker::hooks::Hooks::parse(&self.instance.boot.settings.hooks)?)?;
        if self.instance.boot.role == Role::Zygote {
            end_with_parent(self.instance)?; // a change of user forgets it
        }
        Ok(())
    }

    // -- loading

    /// What is loaded before the fork.
    fn load_first(&mut self) -> PyResult<Load> {
        let settings = &self.instance.boot.settings;
        if let Some(module) = &settings.python.test {
            let found = self.py.import(module.as_str()).inspect_err(|error| crate::errors::print(self.py, error)).is_ok();
            return Ok(Load::Failed { code: i32::from(!found), message: format!("test = {module}") });
        }
        if let Some(load) = self.aliases(&settings.python.pymodule_alias)? {
            return Ok(load);
        }
        self.loader.call_method1("imports", (&settings.python.shared_import,))?;
        let loaded = if settings.process.lazy_apps { self.judge(false)? } else { self.load_apps()? };
        if let Some(directory) = &settings.process.chdir2 {
            enter(directory, "chdir2")?;
        }
        Ok(loaded)
    }

    fn load_apps(&mut self) -> PyResult<Load> {
        let python = &self.instance.boot.settings.python;
        if let Some(code) = self.phase("pre-app") {
            return Ok(Load::Failed { code, message: "a pre-app hook ends it".into() });
        }
        if self.loader.getattr("exit")?.is_none() {
            self.loader.call_method1("imports", (&python.import,))?;
            if let Some(load) = self.aliases(&python.post_pymodule_alias)? {
                return Ok(load);
            }
            self.loader.call_method0("everything")?;
        }
        let apps: Vec<(String, Py<PyAny>, u64)> = self.loader.getattr("apps")?.extract()?;
        for (mountpoint, callable, seconds) in apps {
            self.language.mount(Mounted { mountpoint, callable, seconds });
        }
        if python.autoreload > 0 {
            let watched = development(self.py)?.bind(self.py).call_method1("Watched", (&python.autoreload_ignore,))?;
            self.watched = Some(watched);
        }
        let judged = self.judge(true)?;
        match self.phase("post-app") {
            Some(code) if matches!(judged, Load::Done) => Ok(Load::Failed { code, message: "a post-app hook ends it".into() }),
            _ => Ok(judged),
        }
    }

    /// Runs the hooks of a phase; the exit code if they want this process to end.
    fn phase(&self, phase: &str) -> Option<i32> {
        match self.py.detach(|| Hooks::parse(&self.instance.boot.settings.hooks).and_then(|hooks| hooks.run(phase))) {
            Ok(effects) => effects.exit,
            Err(error) => {
                say(&format!("{error}\n"));
                Some(1)
            }
        }
    }

    /// The phases of a worker that is about to accept requests.
    fn accepting(&self, worker: u32) -> Option<i32> {
        let first_life = self.forked.borrow_mut().insert(worker);
        let phases = [
            ("accepting", true, true),
            ("accepting-once", true, false),
            ("accepting1", worker == 1, true),
            ("accepting1-once", worker == 1, false),
        ];
        phases.into_iter().filter(|(_, mine, always)| *mine && (*always || first_life)).find_map(|(phase, ..)| self.phase(phase))
    }

    /// `None`: all is well.
    fn aliases(&self, aliases: &[String]) -> PyResult<Option<Load>> {
        let load_file = self.embedded.loader.bind(self.py).getattr("load_file")?;
        for alias in aliases {
            if let Err(error) = self.embedded.interpreter.bind(self.py).call_method1("alias", (alias, &load_file)) {
                crate::errors::print(self.py, &error);
                let message = format!("pymodule-alias = {alias}: {error}");
                say(&format!("{message}\n"));
                return Ok(Some(Load::Failed { code: exit::FAILED_APP, message }));
            }
        }
        Ok(None)
    }

    /// Whether what was loaded is enough to go on.
    fn judge(&self, complete: bool) -> PyResult<Load> {
        let settings = &self.instance.boot.settings;
        let end = self.loader.getattr("exit")?;
        if !end.is_none() {
            let code = self.embedded.interpreter.bind(self.py).call_method1("exit_code", (end,))?.extract()?;
            return Ok(Load::Failed { code, message: "the app called sys.exit() while it was loaded".into() });
        }
        let failures: Vec<String> = self.loader.getattr("failures")?.extract()?;
        let apps = self.language.apps();
        if settings.need_app() && complete && (apps.is_empty() || !failures.is_empty()) {
            let message = if failures.is_empty() { "no app is configured, and need-app holds".into() } else { failures.join("; ") };
            return Ok(Load::Failed { code: exit::FAILED_APP, message });
        }
        if complete && apps.is_empty() && settings.python.worker_override.is_none() {
            say("*** no app loaded: every request is answered by 500, unless it names an app (dynamic-apps) ***\n");
        } else if let Some(first) =
            apps.first().filter(|app| !matches!(app.mountpoint.as_str(), "" | "/") && !settings.request.no_default_app)
        {
            let point = &first.mountpoint;
            say(&format!(
                "the app at {point} also answers requests that no mount point matches, as it is the first (no-default-app turns that off)\n"
            ));
        }
        Ok(Load::Done)
    }

    // -- forking

    fn wait_for_orders(&self, control: &SeqPacket) -> anyhow::Result<i32> {
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
                ToZygote::Logs => self.instance.reopen_logs(received.fds)?,
                ToZygote::Fork { worker } => {
                    let Some(pair) = received.fds.into_iter().next() else { continue };
                    match self.fork_worker(worker) {
                        Ok(Side::Zygote) => {
                            self.forked.borrow_mut().insert(worker);
                        }
                        Ok(Side::Worker) => return self.work(worker, Some(pair)),
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
                match self.py.import("os").and_then(|os| os.call_method0("fork")).and_then(|pid| pid.extract::<i32>()) {
                    Ok(0) => {
                        // The worker has no way back from here: whatever fails ends it.
                        let parent = imperator_sys::fork::wait_for_new_parent(between);
                        if let Err(error) = parent.map_err(anyhow::Error::from).and_then(|_| end_with_parent(self.instance)) {
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

    // -- being a worker

    /// `master = false`: this process is worker 1, and the others are its children.
    fn alone(mut self) -> anyhow::Result<i32> {
        for worker in 2..=self.instance.boot.settings.process.workers {
            let pid: i32 = self.py.import("os")?.call_method0("fork")?.extract()?;
            if pid == 0 {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                return self.work(worker, None);
            }
        }
        self.work_as(1, None)
    }

    fn work(&self, worker: u32, control: Option<OwnedFd>) -> anyhow::Result<i32> {
        let mut zygote = Self {
            py: self.py,
            instance: self.instance,
            embedded: self.embedded.clone(),
            loader: self.loader.clone(),
            language: self.language.clone(),
            watched: self.watched.clone(),
            forked: self.forked.clone(),
        };
        zygote.work_as(worker, control)
    }

    fn work_as(&mut self, worker: u32, control: Option<OwnedFd>) -> anyhow::Result<i32> {
        drop(self.instance.take_control()); // the zygote's
        prctl::set_name(&std::ffi::CString::new(format!("worker {worker}"))?)?;
        procname::apply(&self.instance.boot.settings.process, &format!("worker {worker}"));
        let link = control.map(Link::new).transpose()?.map(Arc::new);
        if let Some(link) = &link {
            link.tell(&FromWorker::Started);
        }
        self.instance.become_worker(worker, link.clone());
        self.embedded.interpreter.bind(self.py).call_method0("reseed")?;
        if let Some(code) = self.phase("post-fork") {
            return Ok(code);
        }
        crate::module::call_hook(self.py, "post_fork_hook");
        let settings = &self.instance.boot.settings;
        if settings.process.lazy_apps
            && let Load::Failed { code, message } = self.load_apps().map_err(|error| explain(self.py, error))?
        {
            let _ = self.instance.tell_master(&FromWorker::Failed { code, message });
            return Ok(code);
        }
        if let Some(script) = &settings.python.worker_override {
            return self.run_as_main(script);
        }
        self.helpers(worker).map_err(|error| explain(self.py, error))?;
        if let Some(code) = self.accepting(worker) {
            return Ok(code);
        }
        crate::serve::run(self.py, self.instance, link, &self.language)
    }

    /// Threads of a worker that help with development.
    fn helpers(&self, worker: u32) -> PyResult<()> {
        let python = &self.instance.boot.settings.python;
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
}

enum Side {
    Zygote,
    Worker,
}

fn enter(directory: &str, option: &str) -> PyResult<()> {
    std::env::set_current_dir(directory).map_err(|error| {
        say(&format!("{option} = {directory}: {error}\n"));
        error.into()
    })
}

#[pyfunction]
fn say_from_python(text: &str) {
    say(text);
}
