//! Those parts of ours that are Python: what is done once, at the start, where Python says it best.

use std::ffi::{CStr, CString};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyString, PyTuple};
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
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(MODULE.get_or_try_init(py, || module(py, "development", include_str!("embedded/development.py")))?.clone_ref(py))
}

/// Puts the functions for plain descriptors and files into the `uwsgi` module. Few apps call one: they are compiled when the first is called.
pub fn add_descriptors(uwsgi: &Bound<'_, PyModule>) -> PyResult<()> {
    [c"async_connect", c"close", c"connect", c"extract", c"parsefile", c"recv", c"send"].into_iter().try_for_each(|name| {
        let function = PyCFunction::new_closure(uwsgi.py(), Some(name), None, move |given, named| descriptors(given, named, name))?;
        uwsgi.add(function.getattr("__name__")?.cast::<PyString>()?.clone(), function)
    })
}

fn descriptors(given: &Bound<'_, PyTuple>, named: Option<&Bound<'_, PyDict>>, name: &CStr) -> PyResult<Py<PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let py = given.py();
    let functions = MODULE.get_or_try_init(py, || module(py, "descriptors", include_str!("embedded/descriptors.py")))?;
    Ok(functions.bind(py).getattr(PyString::from_bytes(py, name.to_bytes())?)?.call(given, named)?.unbind())
}

/// Makes Django's cache backend importable. It is compiled, and imports what it needs, when it is used.
pub fn add_django_cache(py: Python<'_>) -> PyResult<()> {
    const NAME: &str = "imperator_django_cache";
    let stand_in = PyModule::new(py, NAME)?;
    let attribute = |given: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<Py<PyAny>> {
        static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
        let py = given.py();
        let backend = MODULE.get_or_try_init(py, || module(py, "django_cache", include_str!("embedded/django_cache.py")))?;
        Ok(backend.bind(py).getattr(given.get_item(0)?.cast::<PyString>()?)?.unbind())
    };
    stand_in.add("__getattr__", PyCFunction::new_closure(py, Some(c"__getattr__"), None, attribute)?)?;
    py.import("sys")?.getattr("modules")?.set_item(NAME, stand_in)
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
            let dict = PyDict::new(py);
            for (key, item) in items {
                dict.set_item(key, to_python(py, item)?)?;
            }
            dict.into_any()
        }
    })
}
