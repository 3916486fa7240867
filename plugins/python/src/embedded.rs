//! Those parts of ours that are Python: what is done once, at the start, where Python says it best.

use std::ffi::CString;

use pyo3::prelude::*;
use serde_json::Value;

/// Our own modules, compiled into the interpreter.
pub struct Embedded {
    pub interpreter: Py<PyModule>,
    pub loader: Py<PyModule>,
}

impl Embedded {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        Ok(Self {
            interpreter: module(py, "interpreter", include_str!("embedded/interpreter.py"))?,
            loader: module(py, "loader", include_str!("embedded/loader.py"))?,
        })
    }
}

/// The helpers of `py-tracebacker`, `py-autoreload` and `catch-exceptions`: loaded when one of them is asked for, for what they import.
pub fn development(py: Python<'_>) -> PyResult<Py<PyModule>> {
    static MODULE: pyo3::sync::PyOnceLock<Py<PyModule>> = pyo3::sync::PyOnceLock::new();
    Ok(MODULE.get_or_try_init(py, || module(py, "development", include_str!("embedded/development.py")))?.clone_ref(py))
}

/// Puts the functions for plain descriptors and files into the `uwsgi` module.
pub fn add_descriptors(uwsgi: &Bound<'_, PyModule>) -> PyResult<()> {
    let descriptors = module(uwsgi.py(), "descriptors", include_str!("embedded/descriptors.py"))?;
    ["async_connect", "close", "connect", "extract", "parsefile", "recv", "send"]
        .into_iter()
        .try_for_each(|name| uwsgi.add(name, descriptors.getattr(uwsgi.py(), name)?))
}

/// Makes Django's cache backend importable. It imports nothing before it is used.
pub fn add_django_cache(py: Python<'_>) -> PyResult<()> {
    let backend = module(py, "django_cache", include_str!("embedded/django_cache.py"))?;
    py.import("sys")?.getattr("modules")?.set_item("imperator_django_cache", backend)
}

fn module(py: Python<'_>, name: &str, text: &str) -> PyResult<Py<PyModule>> {
    let (file, name) = (CString::new(format!("<imperator {name}>"))?, CString::new(format!("imperator_python.{name}"))?);
    Ok(PyModule::from_code(py, &CString::new(text)?, &file, &name)?.unbind())
}

/// JSON as Python objects, without the json module (an app may bring one of that name).
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into_pyobject(py)?.into_any(),
            None => number.as_f64().unwrap_or_default().into_pyobject(py)?.into_any(),
        },
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Array(items) => {
            let list = pyo3::types::PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(items) => {
            let dict = pyo3::types::PyDict::new(py);
            for (key, item) in items {
                dict.set_item(key, to_python(py, item)?)?;
            }
            dict.into_any()
        }
    })
}
