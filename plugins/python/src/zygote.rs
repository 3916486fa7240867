//! The life of a Python process: read what the master left, load the app, then fork workers on the master's word (or be the one worker itself).

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, anyhow, bail};
use imperator_worker::control::{BOOT_ENV, FromZygote, Role};
use imperator_worker::host::Host;
use imperator_worker::language::Language;
use imperator_worker::procname;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::embedded::{Embedded, to_python};
use crate::python::PythonLanguage;
use crate::say;

mod forking;
mod loading;
mod working;

static LANGUAGE: OnceLock<Arc<PythonLanguage>> = OnceLock::new();

/// The language with its apps, once it is loaded.
pub fn language() -> Option<&'static PythonLanguage> {
    LANGUAGE.get().map(Arc::as_ref)
}

/// Everything that the process knows while it loads and forks.
struct Zygote<'py> {
    py: Python<'py>,
    host: &'static Host,
    embedded: Arc<Embedded>,
    loader: Bound<'py, PyAny>,
    language: Arc<PythonLanguage>,
    /// Modules and their times as of the load (`py-autoreload`).
    watched: Option<Bound<'py, PyAny>>,
    /// Workers that were forked before: what a worker does in its first life only is done.
    forked: BTreeSet<u32>,
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
    let host = Host::receive(&boot.context("this module is started by imperator, not by hand")?)?;
    let role = host.boot.role;
    imperator_worker::log::diag::install(host.boot.settings.log.date.as_deref());
    if role == Role::Zygote {
        stay_calm()?;
        prctl::set_name(c"zygote")?;
        procname::apply(&host.boot.settings.process, "zygote");
        end_with_parent(host)?;
    }
    if role == Role::Emperor {
        bail!("an emperor is no Python process");
    }
    let zygote = Zygote::prepare(py, host).map_err(|error| explain(py, error))?;
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
fn end_with_parent(host: &Host) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let (parent, master) = (nix::unistd::getppid().as_raw(), host.boot.master_pid);
    // In a namespace of its own a process does not see its parent: 0.
    if parent != master && parent != 0 { Err(anyhow!("the master ({master}) is gone: the parent is {parent}")) } else { Ok(()) }
}

impl<'py> Zygote<'py> {
    /// Streams, paths, arguments, the `uwsgi` module: all that has to be there before the first line of the app's.
    fn prepare(py: Python<'py>, host: &'static Host) -> PyResult<Self> {
        let settings = &host.boot.settings;
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
        crate::module::install(py, host)?;
        crate::forked::watch(py)?;
        let origins = PyDict::new(py);
        for (name, places) in &settings.origins {
            origins.set_item(name, PyList::new(py, places)?)?;
        }
        let say = wrap_pyfunction!(say_from_python, py)?;
        let loader = embedded.loader.bind(py).getattr("Loader")?.call1((&python, origins, settings.request.max_apps, say))?;
        let language = Arc::new(PythonLanguage::new(host, embedded.clone(), &loader));
        let _ = LANGUAGE.set(language.clone());
        Ok(Self { py, host, embedded, loader, language, watched: None, forked: BTreeSet::new() })
    }

    /// `pyrun`: a script as `__main__`, then the end.
    fn script(&self) -> anyhow::Result<i32> {
        let script = self.host.boot.settings.python.pyrun.as_deref().context("pyrun")?;
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
        let before = self.host.boot.settings.privileges.drop_after_init;
        if before {
            self.drop_privileges()?;
        }
        let loaded = self.load_first().map_err(|error| explain(self.py, error))?;
        if !before && matches!(loaded, Load::Done) {
            self.drop_privileges()?;
        }
        if self.host.boot.role == Role::Single {
            return match loaded {
                Load::Done => self.alone(),
                Load::Failed { code, .. } => Ok(code),
            };
        }
        let control = self.host.take_control().context("a zygote without a control socket")?;
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
        let Some(plan) = &self.host.boot.drop else { return Ok(()) };
        plan.enter(&imperator_worker::hooks::Hooks::parse(&self.host.boot.settings.hooks)?)?;
        if self.host.boot.role == Role::Zygote {
            end_with_parent(self.host)?; // a change of user forgets it
        }
        Ok(())
    }
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
