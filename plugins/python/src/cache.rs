//! `uwsgi.cache_*`: positional arguments only, keys and values as str or bytes, `True` or `None` for done or not.
//!
//! Apps call these thousands of times a request, so they are C functions that take their arguments in a row ([`FASTCALL`]): pyo3's own functions, built for the
//! stable ABI of 3.9, would make a tuple for each call.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use imperator_worker::host::cache::{Caches, Math, Target};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::slot::Gil;

/// `METH_FASTCALL`: in every Python since 3.7, in the headers of the stable ABI since 3.10.
const FASTCALL: i32 = 0x80;

unsafe extern "C" {
    /// Part of the stable ABI since 3.10, and there in every Python 3 before.
    fn PyUnicode_AsUTF8AndSize(text: *mut PyObject, size: *mut ffi::Py_ssize_t) -> *const std::ffi::c_char;
}

type Fast = unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, ffi::Py_ssize_t) -> *mut PyObject;

/// Makes C functions of Rust ones, and the list of them: name, the least and the most arguments.
macro_rules! functions {
    ($($name:ident($least:literal..=$most:literal)),* $(,)?) => {
        mod entry {
            use super::*;
            $(
                pub unsafe extern "C" fn $name(_: *mut PyObject, arguments: *const *mut PyObject, count: ffi::Py_ssize_t) -> *mut PyObject {
                    // SAFETY: Python calls this with its lock held and `count` arguments at `arguments`, which live as long as the call.
                    unsafe { enter(stringify!($name), $least..=$most, arguments, count, super::$name) }
                }
            )*
        }
        const FUNCTIONS: &[(&CStr, Fast)] = &[$(
            // SAFETY: the name of a function has no NUL in it, and one is put behind it.
            (unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) }, entry::$name),
        )*];
    };
}

functions! {
    cache_get(1..=2), cache_set(2..=4), cache_update(2..=4), cache_del(1..=2), cache_exists(1..=2), cache_clear(0..=1),
    cache_inc(1..=4), cache_dec(1..=4), cache_mul(1..=4), cache_div(1..=4), cache_num(1..=2), cache_keys(0..=1),
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for (name, function) in FUNCTIONS {
        // SAFETY: a function of three arguments that is flagged as such is called as such.
        let method = unsafe { std::mem::transmute::<Fast, ffi::PyCFunction>(*function) };
        // Python keeps the definition as long as the function, which is as long as the process.
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: method },
            ml_flags: FASTCALL,
            ml_doc: std::ptr::null(),
        }));
        // SAFETY: the definition lives for ever; the result is a new reference, or null with an exception set.
        let function = unsafe {
            Bound::from_owned_ptr_or_err(module.py(), ffi::PyCFunction_NewEx(definition, std::ptr::null_mut(), std::ptr::null_mut()))
        };
        module.add(&*name.to_string_lossy(), function?)?;
    }
    Ok(())
}

/// The arguments of a call.
struct Arguments<'a>(&'a [*mut PyObject]);

impl<'a> Arguments<'a> {
    /// The bytes of a str (its UTF-8, which Python keeps with the object) or bytes argument.
    #[inline]
    fn bytes(&self, py: Python<'_>, index: usize) -> PyResult<&'a [u8]> {
        let Some(object) = self.0.get(index).copied() else { return Ok(b"") };
        let mut length: ffi::Py_ssize_t = 0;
        // SAFETY: `object` is a live object and the lock is held (see `enter`); each function is given the type that it is for. The bytes belong to the object.
        let data = unsafe {
            if ffi::PyUnicode_Check(object) != 0 {
                PyUnicode_AsUTF8AndSize(object, &raw mut length)
            } else if ffi::PyBytes_Check(object) != 0 {
                length = ffi::PyBytes_Size(object);
                ffi::PyBytes_AsString(object).cast_const()
            } else {
                return Err(PyTypeError::new_err("keys, values and names of caches are str or bytes"));
            }
        };
        if data.is_null() {
            return Err(PyErr::fetch(py)); // lone surrogates
        }
        // SAFETY: `data` points to `length` bytes of the object, which the caller holds for as long as the call.
        Ok(unsafe { std::slice::from_raw_parts(data.cast(), usize::try_from(length).unwrap_or(0)) })
    }

    #[inline]
    fn number(&self, py: Python<'_>, index: usize, default: i64) -> PyResult<i64> {
        let Some(object) = self.0.get(index).copied() else { return Ok(default) };
        // SAFETY: a live object, as above.
        unsafe { Bound::from_borrowed_ptr(py, object) }.extract()
    }
}

/// A bytes object that nobody else has seen yet, with room for a value.
struct Value<'py> {
    py: Python<'py>,
    /// An own reference, or null.
    object: *mut PyObject,
    /// There was no memory: Python has the exception.
    failed: bool,
}

impl Value<'_> {
    /// The object, or null if room was never asked for.
    fn take(&mut self) -> *mut PyObject {
        std::mem::replace(&mut self.object, std::ptr::null_mut())
    }
}

impl Target for Value<'_> {
    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let size = ffi::Py_ssize_t::try_from(length).ok()?;
        // SAFETY: `object` is null or a bytes object that only this has a reference to, and the lock is held (`py`). The bytes of a new one are set before they become a slice.
        unsafe {
            if self.object.is_null() || ffi::PyBytes_Size(self.object) != size {
                ffi::Py_XDECREF(self.take());
                self.object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
                if self.object.is_null() {
                    self.failed = true;
                    return None;
                }
                ffi::PyBytes_AsString(self.object).write_bytes(0, length);
            }
            Some(std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(self.object).cast(), length))
        }
    }
}

impl Drop for Value<'_> {
    fn drop(&mut self) {
        // SAFETY: an own reference or null; the lock is held.
        unsafe { ffi::Py_XDECREF(self.take()) }
    }
}

type Body = fn(Python<'_>, &Caches, &Arguments<'_>) -> PyResult<*mut PyObject>;

/// Checks how many arguments there are, and makes of the result what Python expects.
///
/// # Safety
/// The lock is held, and there are `count` live objects at `arguments`.
#[inline]
unsafe fn enter(
    name: &str,
    allowed: std::ops::RangeInclusive<usize>,
    arguments: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    body: Body,
) -> *mut PyObject {
    // SAFETY: the caller's promise.
    let py = unsafe { Python::assume_attached() };
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's promise; without arguments the pointer may be null.
    let arguments = Arguments(if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(arguments, count) } });
    let done = catch_unwind(AssertUnwindSafe(|| {
        if !allowed.contains(&count) {
            let (least, most) = (allowed.start(), allowed.end());
            return Err(PyTypeError::new_err(format!("{name}() takes {least} to {most} arguments, {count} were given")));
        }
        body(py, crate::module::here()?.caches(), &arguments)
    }));
    match done.unwrap_or_else(|_| Err(PyRuntimeError::new_err(format!("a bug in Imperator: {name}() panicked")))) {
        Ok(object) => object,
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

/// `True` or `None`.
#[inline]
fn done(yes: bool) -> *mut PyObject {
    // SAFETY: both live as long as the interpreter; the caller gets a reference of its own.
    unsafe {
        let object = if yes { ffi::Py_True() } else { ffi::Py_None() };
        ffi::Py_IncRef(object);
        object
    }
}

fn cache_get(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    let (key, name) = (a.bytes(py, 0)?, a.bytes(py, 1)?);
    let mut value = Value { py, object: std::ptr::null_mut(), failed: false };
    let found = caches.fetch(key, name, &mut value, &Gil);
    match (value.failed, found) {
        (true, _) => Err(PyErr::fetch(value.py)),
        (false, true) => Ok(value.take()),
        (false, false) => Ok(done(false)),
    }
}

fn cache_set(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    Ok(done(caches.set(a.bytes(py, 0)?, a.bytes(py, 1)?, a.number(py, 2, 0)?, a.bytes(py, 3)?, &Gil)))
}

fn cache_update(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    Ok(done(caches.update(a.bytes(py, 0)?, a.bytes(py, 1)?, a.number(py, 2, 0)?, a.bytes(py, 3)?, &Gil)))
}

fn cache_del(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    Ok(done(caches.delete(a.bytes(py, 0)?, a.bytes(py, 1)?, &Gil)))
}

fn cache_exists(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    Ok(done(caches.exists(a.bytes(py, 0)?, a.bytes(py, 1)?, &Gil)))
}

fn cache_clear(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    Ok(done(caches.clear(a.bytes(py, 0)?, &Gil)))
}

#[inline]
fn math(py: Python<'_>, caches: &Caches, a: &Arguments<'_>, math: Math, default: i64) -> PyResult<*mut PyObject> {
    let (operand, expires) = (a.number(py, 1, default)?, a.number(py, 2, 0)?);
    Ok(done(caches.math(math, a.bytes(py, 0)?, operand, expires, a.bytes(py, 3)?, &Gil).is_some()))
}

fn cache_inc(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    math(py, caches, a, Math::Add, 1)
}

fn cache_dec(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    math(py, caches, a, Math::Subtract, 1)
}

fn cache_mul(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    math(py, caches, a, Math::Multiply, 2)
}

fn cache_div(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    math(py, caches, a, Math::Divide, 2)
}

fn cache_num(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    let number = caches.number(a.bytes(py, 0)?, a.bytes(py, 1)?, &Gil);
    Ok(number.into_pyobject(py)?.into_any().into_ptr())
}

fn cache_keys(py: Python<'_>, caches: &Caches, a: &Arguments<'_>) -> PyResult<*mut PyObject> {
    let keys = caches.keys(a.bytes(py, 0)?, &Gil);
    let keys = keys.ok_or_else(|| PyValueError::new_err("no local uWSGI cache available"))?;
    Ok(PyList::new(py, keys.iter().map(|key| PyBytes::new(py, key)))?.into_any().into_ptr())
}
