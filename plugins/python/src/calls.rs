//! Calls between Python and Rust without tuples and look-ups in between.
//!
//! Our stable ABI is that of Python 3.9. What came to it later, or is only exported, is looked up by name, and there is another way where it is
//! missing. `IMPERATOR_WITHOUT=NAME,...` in the environment hides names: for tests of the other way, and to rule these calls out as a cause.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

const WITHOUT: &str = "IMPERATOR_WITHOUT";

type AsUtf8 = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::Py_ssize_t) -> *const libc::c_char;
type Vectorcall = unsafe extern "C" fn(*mut ffi::PyObject, *const *mut ffi::PyObject, usize, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// What this Python has beyond the stable ABI of 3.9.
struct Extras {
    /// `PyUnicode_AsUTF8AndSize`: in every Python, in the stable ABI since 3.10.
    as_utf8: Option<AsUtf8>,
    /// `PyObject_Vectorcall`: exported since 3.11.
    vectorcall: Option<Vectorcall>,
}

fn extras() -> &'static Extras {
    static EXTRAS: OnceLock<Extras> = OnceLock::new();
    EXTRAS.get_or_init(|| {
        let without = std::env::var(WITHOUT).unwrap_or_default();
        let symbol = |name: &CStr| {
            let hidden = without.split(',').any(|hidden| hidden.as_bytes() == name.to_bytes());
            // SAFETY: a look-up by name.
            if hidden { std::ptr::null_mut() } else { unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } }
        };
        // SAFETY: functions of these names have had these types wherever they are exported (`const char *` since 3.7); null is `None`.
        unsafe {
            Extras {
                as_utf8: std::mem::transmute::<*mut c_void, Option<AsUtf8>>(symbol(c"PyUnicode_AsUTF8AndSize")),
                vectorcall: std::mem::transmute::<*mut c_void, Option<Vectorcall>>(symbol(c"PyObject_Vectorcall")),
            }
        }
    })
}

/// `callable(first, second)`.
pub fn call<'py>(callable: &Bound<'py, PyAny>, first: &Bound<'py, PyAny>, second: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    /// The callee may use the place before the first argument, for `self`.
    const SPARE: usize = 1 << (usize::BITS - 1);
    let Some(vectorcall) = extras().vectorcall else { return callable.call1((first, second)) };
    let arguments = [std::ptr::null_mut(), first.as_ptr(), second.as_ptr()];
    // SAFETY: two live objects follow the spare place; the result is a new reference, or null with an exception set.
    unsafe {
        let returned = vectorcall(callable.as_ptr(), arguments.as_ptr().add(1), 2 | SPARE, std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(callable.py(), returned)
    }
}

/// The bytes inside an ASCII str, which has them as long as it lives; `None` for any other.
pub fn ascii(text: &Bound<'_, PyString>) -> Option<*const [u8]> {
    let as_utf8 = extras().as_utf8?;
    let mut length = 0;
    // SAFETY: `text` is a str; the result is null with an exception set (lone surrogates), or belongs to the str.
    let (start, characters) = unsafe { (as_utf8(text.as_ptr(), &raw mut length), ffi::PyUnicode_GetLength(text.as_ptr())) };
    if start.is_null() {
        drop(PyErr::take(text.py()));
        return None;
    }
    // As many bytes as characters: each is one below 128.
    let length = usize::try_from(length).ok().filter(|_| length == characters)?;
    Some(std::ptr::slice_from_raw_parts(start.cast(), length))
}

/// How many hold an object, this caller included: one of ours, made by this thread or one that held the interpreter's lock, and never immortal.
pub fn references<T>(object: &Py<T>) -> u32 {
    // SAFETY: the object lives. Since 3.14 there are flags in the upper half; below that no count fills the lower one.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) as u32 }
}

/// A function in METH_FASTCALL | METH_KEYWORDS (in every Python since 3.7, in the stable ABI since 3.10).
pub type Fast =
    unsafe extern "C" fn(*mut ffi::PyObject, *const *mut ffi::PyObject, ffi::Py_ssize_t, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// The description of a builtin method, which Python keeps a pointer to.
pub struct Method(UnsafeCell<ffi::PyMethodDef>);

// SAFETY: nobody writes to it.
unsafe impl Sync for Method {}

impl Method {
    pub const fn new(name: &'static CStr, doc: &'static CStr, function: Fast) -> Self {
        const FASTCALL: c_int = 0x80;
        // SAFETY: Python calls it as the flags say, whatever type the field has here.
        let function = unsafe { std::mem::transmute::<Fast, ffi::PyCFunctionWithKeywords>(function) };
        Self(UnsafeCell::new(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionWithKeywords: function },
            ml_flags: FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: doc.as_ptr(),
        }))
    }

    /// The method of `receiver`, which its function gets first.
    pub fn bind<'py, T>(&'static self, receiver: &Bound<'py, T>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the description is static and complete; the result is a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(receiver.py(), ffi::PyCFunction_New(self.0.get(), receiver.as_ptr())) }
    }
}

/// The arguments of a [`Fast`] call, by the names of its parameters; those that were not given are `None`.
///
/// # Safety
/// Pointers and count are those that Python called with, and the objects are used during the call only.
pub unsafe fn arguments<'py, const N: usize>(
    py: Python<'py>,
    (given, count, keywords): (*const *mut ffi::PyObject, ffi::Py_ssize_t, *mut ffi::PyObject),
    names: [&str; N],
    required: usize,
) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
    let mut found = [const { None }; N];
    let count = usize::try_from(count).unwrap_or(0);
    if count > N {
        return Err(PyTypeError::new_err(format!("at most {N} arguments are taken, and {count} were given")));
    }
    // SAFETY: as many objects as `count` says, all of them alive (the caller's word).
    let argument = |at: usize| unsafe { Bound::from_borrowed_ptr(py, *given.add(at)) };
    for (at, place) in found.iter_mut().take(count).enumerate() {
        *place = Some(argument(at));
    }
    if !keywords.is_null() {
        // SAFETY: it is the tuple of their names; their values follow the others.
        let keywords = unsafe { Bound::from_borrowed_ptr(py, keywords) }.cast_into::<PyTuple>()?;
        for (at, keyword) in keywords.iter().enumerate() {
            let keyword = keyword.cast_into::<PyString>()?;
            let keyword = keyword.to_cow()?;
            let place = names.iter().position(|name| *name == keyword);
            let place = place.ok_or_else(|| PyTypeError::new_err(format!("there is no argument {keyword:?}")))?;
            if found[place].replace(argument(count + at)).is_some() {
                return Err(PyTypeError::new_err(format!("argument {keyword:?} was given twice")));
            }
        }
    }
    match found[..required].iter().position(Option::is_none) {
        Some(missing) => Err(PyTypeError::new_err(format!("argument {:?} is missing", names[missing]))),
        None => Ok(found),
    }
}

/// Runs what Python called, in the form that Python wants: a new reference, or null with an exception set. A panic ends here.
pub fn answer(run: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) -> *mut ffi::PyObject {
    Python::attach(|py| {
        let result = catch_unwind(AssertUnwindSafe(|| run(py)));
        match result.unwrap_or_else(|_| Err(PyRuntimeError::new_err("a bug in Imperator: panic in a call from Python"))) {
            Ok(value) => value.into_ptr(),
            Err(error) => {
                error.restore(py);
                std::ptr::null_mut()
            }
        }
    })
}
