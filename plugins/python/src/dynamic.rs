//! Apps that a request names (`dynamic-apps = true`, uwsgi protocol only).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use imperator_worker::request::Request;
use pyo3::prelude::*;

pub struct Dynamic {
    loader: Py<PyAny>,
    /// UWSGI_TOUCH_RELOAD files with their times.
    touched: Mutex<HashMap<String, Option<SystemTime>>>,
}

/// What the variables say.
pub struct Named {
    script: Option<String>,
    module: Option<String>,
    file: Option<String>,
    callable: Option<String>,
    chdir: Option<String>,
    set_env: Option<String>,
    touch: Option<String>,
}

impl Named {
    /// `None`: the request names no code, or came over a protocol where a client could make it do so.
    pub fn of(request: &Request<'_>) -> Option<Self> {
        let var = |name: &[u8]| request.var(name).filter(|v| !v.is_empty()).map(|v| String::from_utf8_lossy(v).into_owned());
        let named = Self {
            script: var(b"UWSGI_SCRIPT"),
            module: var(b"UWSGI_MODULE"),
            file: var(b"UWSGI_FILE"),
            callable: var(b"UWSGI_CALLABLE"),
            chdir: var(b"UWSGI_CHDIR"),
            set_env: var(b"UWSGI_SETENV"),
            touch: var(b"UWSGI_TOUCH_RELOAD"),
        };
        (request.from_uwsgi() && (named.script.is_some() || named.module.is_some() || named.file.is_some())).then_some(named)
    }
}

impl Dynamic {
    pub fn new(loader: &Bound<'_, PyAny>) -> Self {
        Self { loader: loader.clone().unbind(), touched: Mutex::default() }
    }

    pub fn load(&self, py: Python<'_>, named: &Named) -> PyResult<Py<PyAny>> {
        let os = py.import("os")?;
        if let Some(directory) = &named.chdir {
            os.call_method1("chdir", (directory,))?;
        }
        if let Some((name, value)) = named.set_env.as_deref().and_then(|e| e.split_once('=')) {
            os.getattr("environ")?.set_item(name, value)?;
        }
        Ok(self.loader.bind(py).call_method1("dynamic", (&named.script, &named.module, &named.file, &named.callable))?.unbind())
    }

    /// Whether the file that the request wants to be watched is other than at the first such request.
    pub fn changed(&self, named: &Named) -> bool {
        let Some(file) = &named.touch else { return false };
        let time = std::fs::metadata(file).and_then(|m| m.modified()).ok();
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        *touched.entry(file.clone()).or_insert(time) != time
    }
}
