//! `uwsgi.cache_*`: positional arguments only, keys and values as str or bytes, `True` or `None` for done or not.
//!
//! Every call is one C function with its arguments in a row: what apps do thousands of times a request should not build tuples.

use std::cell::RefCell;

use imperator_worker::host::cache::{Caches, Math};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::slot::Gil;

thread_local! {
    /// Values on their way to a bytes object.
    static VALUE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that once held a value larger than this is not kept.
const KEPT: usize = 1 << 20;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cache_get, module)?)?;
    module.add_function(wrap_pyfunction!(cache_set, module)?)?;
    module.add_function(wrap_pyfunction!(cache_update, module)?)?;
    module.add_function(wrap_pyfunction!(cache_del, module)?)?;
    module.add_function(wrap_pyfunction!(cache_exists, module)?)?;
    module.add_function(wrap_pyfunction!(cache_clear, module)?)?;
    module.add_function(wrap_pyfunction!(cache_inc, module)?)?;
    module.add_function(wrap_pyfunction!(cache_dec, module)?)?;
    module.add_function(wrap_pyfunction!(cache_mul, module)?)?;
    module.add_function(wrap_pyfunction!(cache_div, module)?)?;
    module.add_function(wrap_pyfunction!(cache_num, module)?)?;
    module.add_function(wrap_pyfunction!(cache_keys, module)?)
}

unsafe extern "C" {
    /// Part of the stable ABI since 3.10, and there in every Python 3 before.
    fn PyUnicode_AsUTF8AndSize(text: *mut ffi::PyObject, size: *mut ffi::Py_ssize_t) -> *const std::ffi::c_char;
}

/// The bytes of a str (UTF-8, which Python keeps with the object) or bytes argument.
struct Text<'a>(&'a [u8]);

impl<'a, 'py> FromPyObject<'a, 'py> for Text<'a> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let mut length: ffi::Py_ssize_t = 0;
        let data = if object.is_instance_of::<PyBytes>() {
            // SAFETY: it is a bytes object, and the interpreter's lock is held.
            unsafe {
                length = ffi::PyBytes_Size(object.as_ptr());
                ffi::PyBytes_AsString(object.as_ptr()).cast_const()
            }
        } else if object.is_instance_of::<PyString>() {
            // SAFETY: it is a str, and the interpreter's lock is held. The bytes belong to the object and live as long as it.
            unsafe { PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut length) }
        } else {
            return Err(PyTypeError::new_err("keys, values and names of caches are str or bytes"));
        };
        if data.is_null() {
            return Err(PyErr::fetch(object.py())); // lone surrogates
        }
        // SAFETY: `data` points to `length` bytes of the object, which the caller holds for 'a.
        Ok(Self(unsafe { std::slice::from_raw_parts(data.cast(), usize::try_from(length).unwrap_or(0)) }))
    }
}

fn caches() -> PyResult<&'static Caches> {
    Ok(crate::module::here()?.caches())
}

fn done(yes: bool) -> Option<bool> {
    yes.then_some(true)
}

#[pyfunction]
#[pyo3(signature = (key, cache=Text(b""), /))]
fn cache_get<'py>(py: Python<'py>, key: Text<'_>, cache: Text<'_>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let caches = caches()?;
    VALUE.with(|value| {
        // Remote caches run without the interpreter's lock, and a finaliser may call this in the middle of itself: it gets a buffer of its own.
        let mut other = Vec::new();
        let mut kept = value.try_borrow_mut().ok();
        let value = kept.as_deref_mut().unwrap_or(&mut other);
        let found = caches.get(key.0, cache.0, value, &Gil).map(|_| PyBytes::new(py, value));
        if value.capacity() > KEPT {
            *value = Vec::new();
        }
        Ok(found)
    })
}

#[pyfunction]
#[pyo3(signature = (key, value, expires=0, cache=Text(b""), /))]
fn cache_set(key: Text<'_>, value: Text<'_>, expires: i64, cache: Text<'_>) -> PyResult<Option<bool>> {
    Ok(done(caches()?.set(key.0, value.0, expires, cache.0, &Gil)))
}

#[pyfunction]
#[pyo3(signature = (key, value, expires=0, cache=Text(b""), /))]
fn cache_update(key: Text<'_>, value: Text<'_>, expires: i64, cache: Text<'_>) -> PyResult<Option<bool>> {
    Ok(done(caches()?.update(key.0, value.0, expires, cache.0, &Gil)))
}

#[pyfunction]
#[pyo3(signature = (key, cache=Text(b""), /))]
fn cache_del(key: Text<'_>, cache: Text<'_>) -> PyResult<Option<bool>> {
    Ok(done(caches()?.delete(key.0, cache.0, &Gil)))
}

#[pyfunction]
#[pyo3(signature = (key, cache=Text(b""), /))]
fn cache_exists(key: Text<'_>, cache: Text<'_>) -> PyResult<Option<bool>> {
    Ok(done(caches()?.exists(key.0, cache.0, &Gil)))
}

#[pyfunction]
#[pyo3(signature = (cache=Text(b""), /))]
fn cache_clear(cache: Text<'_>) -> PyResult<Option<bool>> {
    Ok(done(caches()?.clear(cache.0, &Gil)))
}

fn math(math: Math, key: &Text<'_>, operand: i64, expires: i64, cache: &Text<'_>) -> PyResult<Option<bool>> {
    Ok(done(caches()?.math(math, key.0, operand, expires, cache.0, &Gil).is_some()))
}

#[pyfunction]
#[pyo3(signature = (key, n=1, expires=0, cache=Text(b""), /))]
fn cache_inc(key: Text<'_>, n: i64, expires: i64, cache: Text<'_>) -> PyResult<Option<bool>> {
    math(Math::Add, &key, n, expires, &cache)
}

#[pyfunction]
#[pyo3(signature = (key, n=1, expires=0, cache=Text(b""), /))]
fn cache_dec(key: Text<'_>, n: i64, expires: i64, cache: Text<'_>) -> PyResult<Option<bool>> {
    math(Math::Subtract, &key, n, expires, &cache)
}

#[pyfunction]
#[pyo3(signature = (key, n=2, expires=0, cache=Text(b""), /))]
fn cache_mul(key: Text<'_>, n: i64, expires: i64, cache: Text<'_>) -> PyResult<Option<bool>> {
    math(Math::Multiply, &key, n, expires, &cache)
}

#[pyfunction]
#[pyo3(signature = (key, n=2, expires=0, cache=Text(b""), /))]
fn cache_div(key: Text<'_>, n: i64, expires: i64, cache: Text<'_>) -> PyResult<Option<bool>> {
    math(Math::Divide, &key, n, expires, &cache)
}

#[pyfunction]
#[pyo3(signature = (key, cache=Text(b""), /))]
fn cache_num(key: Text<'_>, cache: Text<'_>) -> PyResult<i64> {
    Ok(caches()?.number(key.0, cache.0, &Gil))
}

#[pyfunction]
#[pyo3(signature = (cache=Text(b""), /))]
fn cache_keys<'py>(py: Python<'py>, cache: Text<'_>) -> PyResult<Bound<'py, PyList>> {
    let keys = caches()?.keys(cache.0, &Gil);
    let keys = keys.ok_or_else(|| PyValueError::new_err("no local uWSGI cache available"))?;
    PyList::new(py, keys.iter().map(|key| PyBytes::new(py, key)))
}
