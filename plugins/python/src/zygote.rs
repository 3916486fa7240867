//! The life of a Python process: what the interpreter needs before the app, the load, and how it forks. The rest is the same for every language:
//! [`imperator_worker::zygote`].

use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use imperator_sys::process::Fork;
use imperator_worker::control::{BOOT_ENV, Boot, Role};
use imperator_worker::host::Host;
use imperator_worker::language::Language;
use imperator_worker::settings::{Settings, is_lua_mount};
use imperator_worker::zygote::{self, Load, Runtime, Together, ZygoteError};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
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

/// The interpreter, and what it knows while it loads and forks.
struct Python3 {
    host: &'static Host,
    embedded: Arc<Embedded>,
    loader: Py<PyAny>,
    language: Arc<PythonLanguage>,
    /// Modules and their times as of the load (`py-autoreload`).
    watched: Option<Py<PyAny>>,
}

/// Runs this process; the value is its exit code.
pub fn run(py: Python<'_>) -> anyhow::Result<i32> {
    let boot = py.import("os")?.getattr("environ")?.call_method1("pop", (BOOT_ENV, py.None()))?;
    let boot: Option<String> = boot.extract()?;
    let boot = Boot::receive(&boot.context("this module is started by imperator, not by hand")?)?;
    if boot.role == Role::Emperor {
        bail!("an emperor is no Python process");
    }
    let host = zygote::begin(Arc::new(boot))?;
    let mut python = Python3::prepare(py, host).map_err(|error| explain(py, error))?;
    if host.boot.role == Role::Script {
        let script = host.boot.settings.python.pyrun.as_deref().context("pyrun")?;
        return Ok(python.run_as_main(py, script)?);
    }
    if !host.boot.settings.lua.is_wanted() {
        return Ok(zygote::run(host, &mut python)?);
    }
    Ok(zygote::run(host, &mut Together::new(host, Box::new(python), vec![imperator_lua::runtime(host)]))?)
}

/// An exception of our own code at the start, with its traceback in the log.
fn explain(py: Python<'_>, error: PyErr) -> ZygoteError {
    crate::errors::print(py, &error);
    ZygoteError::Runtime("the interpreter could not be set up".into())
}

impl Python3 {
    /// Streams, paths, arguments, the `uwsgi` module: all that has to be there before the first line of the app's.
    fn prepare(py: Python<'_>, host: &'static Host) -> PyResult<Self> {
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
            origins.set_item(name, PyList::new(py, ours(settings, name, places))?)?;
        }
        let say = wrap_pyfunction!(say_from_python, py)?;
        let loader = embedded.loader.bind(py).getattr("Loader")?.call1((&python, origins, settings.request.max_apps, say))?;
        let language = Arc::new(PythonLanguage::new(host, embedded.clone(), &loader));
        let _ = LANGUAGE.set(language.clone());
        Ok(Self { host, embedded, loader: loader.unbind(), language, watched: None })
    }

    fn run_as_main(&self, py: Python<'_>, script: &str) -> Result<i32, ZygoteError> {
        let interpreter = self.embedded.interpreter.bind(py);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
            .map_err(|source| ZygoteError::Os { what: "signals", source: source.into() })?;
        let run = || interpreter.call_method0("plain_signals").and_then(|_| interpreter.call_method1("run_as_main", (script,))?.extract());
        run().map_err(|error| explain(py, error))
    }
}

impl Runtime for Python3 {
    fn language(&self) -> Arc<dyn Language> {
        self.language.clone()
    }

    fn begin(&mut self) -> Result<Load, ZygoteError> {
        Python::attach(|py| self.load_first(py).map_err(|error| explain(py, error)))
    }

    fn load(&mut self) -> Result<Load, ZygoteError> {
        Python::attach(|py| self.load_apps(py).map_err(|error| explain(py, error)))
    }

    fn leave_numbers(&mut self, others: u32) {
        self.language.leave_numbers(others);
    }

    fn before_forks(&mut self) {
        Python::attach(|py| self.warn_of_threads(py));
    }

    fn detached(&self, work: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| py.detach(work));
    }

    fn fork(&mut self) -> Result<Fork, ZygoteError> {
        Python::attach(forking::fork)
    }

    fn fork_between(&mut self) -> Result<Fork, ZygoteError> {
        Python::attach(forking::fork_between)
    }

    fn forked(&mut self, _worker: u32) -> Result<(), ZygoteError> {
        Python::attach(|py| self.embedded.interpreter.bind(py).call_method0("reseed").map(drop).map_err(|error| explain(py, error)))
    }

    fn post_fork(&mut self) {
        Python::attach(|py| crate::module::call_hook(py, "post_fork_hook"));
    }

    fn instead(&mut self) -> Result<Option<i32>, ZygoteError> {
        self.override_worker()
    }

    fn ready(&mut self, worker: u32) -> Result<(), ZygoteError> {
        Python::attach(|py| self.helpers(py, worker).map_err(|error| explain(py, error)))
    }
}

/// The places of an option's values, less those of mounts that are Lua's.
fn ours<'s>(settings: &'s Settings, name: &str, places: &'s [String]) -> Vec<&'s String> {
    let values = settings.opt.iter().find(|(option, _)| option == name).map_or(&[][..], |(_, values)| values);
    let lua = |at: usize| name == "mount" && values.get(at).and_then(Option::as_deref).is_some_and(is_lua_mount);
    places.iter().enumerate().filter(|(at, _)| !lua(*at)).map(|(_, place)| place).collect()
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
