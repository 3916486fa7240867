//! What is loaded, and whether it is enough to go on.

use imperator_worker::control::exit;
use imperator_worker::language::Language;
use imperator_worker::zygote::Load;
use pyo3::prelude::*;

use super::Python3;
use crate::embedded::development;
use crate::python::Mounted;
use crate::say;

impl Python3 {
    /// What is loaded before the fork.
    pub(super) fn load_first(&mut self, py: Python<'_>) -> PyResult<Load> {
        let settings = &self.host.boot.settings;
        if let Some(message) = self.conflict(py) {
            say(&format!("{message}\n"));
            return Ok(Load::Failed { code: 1, message });
        }
        if let Some(module) = &settings.python.test {
            let found = py.import(module.as_str()).inspect_err(|error| crate::errors::print(py, error)).is_ok();
            return Ok(Load::Failed { code: i32::from(!found), message: format!("test = {module}") });
        }
        if let Some(load) = self.aliases(py, &settings.python.pymodule_alias)? {
            return Ok(load);
        }
        self.loader.bind(py).call_method1("imports", (&settings.python.shared_import,))?;
        self.judge(py, false)
    }

    /// Two options that want different Pythons. (A `plugin = python36` alone was often written for another machine: the Python that is there serves.)
    fn conflict(&self, py: Python<'_>) -> Option<String> {
        let python = &self.host.boot.settings.python;
        let wanted = python.wanted_version.as_deref().filter(|version| version.contains('.'))?;
        let chosen = match (&python.home, &python.bin) {
            (Some(home), _) => format!("home = {home}"),
            (None, Some(bin)) => format!("python-bin = {bin}"),
            (None, None) => return None,
        };
        let found = py.version_info();
        let (major, minor) = (found.major, found.minor);
        (wanted != format!("{major}.{minor}")).then(|| {
            let plugin = wanted.replace('.', "");
            format!("plugin = python{plugin} wants Python {wanted}, and {chosen} is Python {major}.{minor}: take one of the two out, or make them agree")
        })
    }

    pub(super) fn load_apps(&mut self, py: Python<'_>) -> PyResult<Load> {
        let python = &self.host.boot.settings.python;
        self.loader.bind(py).call_method1("imports", (&python.import,))?;
        if let Some(load) = self.aliases(py, &python.post_pymodule_alias)? {
            return Ok(load);
        }
        self.loader.bind(py).call_method0("everything")?;
        let apps: Vec<(String, Py<PyAny>, u64)> = self.loader.bind(py).getattr("apps")?.extract()?;
        for (mountpoint, callable, seconds) in apps {
            self.language.mount(Mounted { mountpoint, callable, seconds });
        }
        if python.autoreload > 0 {
            let watched = development(py)?.bind(py).call_method1("Watched", (&python.autoreload_ignore,))?;
            self.watched = Some(watched.unbind());
        }
        let judged = self.judge(py, true)?;
        self.embedded.interpreter.bind(py).call_method0("settle")?;
        imperator_sys::process::trim_heap();
        Ok(judged)
    }

    /// `None`: all is well.
    fn aliases(&self, py: Python<'_>, aliases: &[String]) -> PyResult<Option<Load>> {
        let load_file = self.embedded.loader.bind(py).getattr("load_file")?;
        for alias in aliases {
            if let Err(error) = self.embedded.interpreter.bind(py).call_method1("alias", (alias, &load_file)) {
                crate::errors::print(py, &error);
                let message = format!("pymodule-alias = {alias}: {error}");
                say(&format!("{message}\n"));
                return Ok(Some(Load::Failed { code: exit::FAILED_APP, message }));
            }
        }
        Ok(None)
    }

    /// Whether what was loaded is enough to go on.
    fn judge(&self, py: Python<'_>, complete: bool) -> PyResult<Load> {
        let settings = &self.host.boot.settings;
        let end = self.loader.bind(py).getattr("exit")?;
        if !end.is_none() {
            let code = self.embedded.interpreter.bind(py).call_method1("exit_code", (end,))?.extract()?;
            return Ok(Load::Failed { code, message: "the app called sys.exit() while it was loaded".into() });
        }
        let failures: Vec<String> = self.loader.bind(py).getattr("failures")?.extract()?;
        let apps = self.language.apps();
        let none = apps.is_empty() && (settings.python.names_app() || !settings.lua.names_app());
        if settings.need_app() && complete && (none || !failures.is_empty()) {
            let message = if failures.is_empty() { "no app is configured, and need-app holds".into() } else { failures.join("; ") };
            return Ok(Load::Failed { code: exit::FAILED_APP, message });
        }
        if complete && none && settings.python.worker_override.is_none() {
            say("*** no app loaded: every request is answered by 500, unless it names an app (dynamic-apps) ***\n");
        } else if let Some(first) =
            apps.first().filter(|app| !matches!(app.mountpoint.as_str(), "" | "/") && !settings.request.no_default_app)
        {
            let point = &first.mountpoint;
            say(&format!(
                "the app at {point} also answers requests that no mount point matches, as it is the first (no-default-app turns that off)\n"
            ));
        }
        if complete && apps.len() > 1 && !settings.python.single_interpreter {
            say(&format!(
                "{} apps share one interpreter and its modules, as with single-interpreter (a vassal of its own keeps an app apart)\n",
                apps.len()
            ));
        }
        Ok(Load::Done)
    }
}
