//! `start_response`, `write` and `wsgi.file_wrapper`.

use std::sync::OnceLock;

use imperator_worker::request::{HeadError, WriteError};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::slot::{Gil, Slot};

/// The callables of one core; the same ones for all of its requests.
#[pyclass(module = "uwsgi", frozen)]
pub struct Responder {
    slot: &'static Slot,
    options: Options,
    /// The bound method `write`, handed out by each `start_response`.
    write: pyo3::sync::PyOnceLock<Py<PyAny>>,
}

/// What the configuration says about responses.
#[derive(Clone, Copy)]
pub struct Options {
    /// `wsgi-accept-buffer`: bytearray and memoryview are bytes, too.
    pub accept_buffer: bool,
    /// `start_response-nodelay`: the head is sent at once.
    pub nodelay: bool,
    /// `disable-write-exception`: a client that left is not told to the app.
    pub silent: bool,
}

impl Responder {
    /// The callable that apps get.
    pub fn callable(py: Python<'_>, slot: &'static Slot, options: Options) -> PyResult<Py<PyAny>> {
        let responder = Bound::new(py, Self { slot, options, write: pyo3::sync::PyOnceLock::new() })?;
        let write = responder.getattr("write")?.unbind();
        responder.get().write.get_or_init(py, || write);
        Ok(responder.getattr("start_response")?.unbind())
    }
}

#[pymethods]
impl Responder {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn start_response(
        &self,
        py: Python<'_>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        if self.slot.with(py, None, |request| request.head_sent())? {
            return Err(match exc_info {
                Some(info) => carried(info)?,
                None => PyOSError::new_err("headers already sent"),
            });
        }
        let status = native(status, "status")?;
        let headers = pairs(headers)?;
        self.slot
            .with(py, None, |request| {
                request.set_status(status.as_bytes())?;
                headers.iter().try_for_each(|(name, value)| request.add_header(name.as_bytes(), value.as_bytes()))
            })?
            .map_err(refused)?;
        if self.options.nodelay {
            self.send(py, b"")?;
        }
        Ok(self.write.get(py).map_or_else(|| py.None(), |write| write.clone_ref(py)))
    }

    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        match bytes_of(data, self.options.accept_buffer)? {
            Some(data) => self.send(py, data.as_bytes()),
            None => Err(PyTypeError::new_err(format!("write() takes bytes, not {}", data.get_type().name()?))),
        }
    }
}

impl Responder {
    fn send(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        match self.slot.with(py, None, |request| request.write(data, &Gil))? {
            Err(WriteError::Gone(error)) if !self.options.silent => Err(PyOSError::new_err(format!("write error: {error}"))),
            _ => Ok(()),
        }
    }
}

/// The exception in `exc_info`, to be raised again.
fn carried(info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let info = info.cast::<PyTuple>().map_err(|_| PyTypeError::new_err("exc_info must be what sys.exc_info() gives"))?;
    let error = info.get_item(1)?;
    if let Ok(trace) = info.get_item(2)
        && !trace.is_none()
    {
        error.call_method1("with_traceback", (trace,))?;
    }
    Ok(PyErr::from_value(error))
}

fn refused(error: HeadError) -> PyErr {
    match error {
        HeadError::Sent => PyOSError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// A str whose characters are all bytes, as these bytes.
struct Native<'py> {
    /// What the bytes belong to.
    _owner: Bound<'py, PyAny>,
    bytes: *const u8,
    length: usize,
}

impl Native<'_> {
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: they are those of an immutable str or bytes object that `_owner` keeps alive.
        unsafe { std::slice::from_raw_parts(self.bytes, self.length) }
    }
}

fn native<'py>(text: &Bound<'py, PyAny>, what: &str) -> PyResult<Native<'py>> {
    let wrong = |why: &str| PyTypeError::new_err(format!("the {what} {why}"));
    let text = text.cast::<PyString>().map_err(|_| wrong(&format!("must be a str, not {}", type_name(text))))?;
    if let Some(ascii) = ascii(text) {
        return Ok(ascii);
    }
    // SAFETY: `text` is a str; the result is a new bytes object, or null with an exception set.
    let bytes = unsafe { Bound::from_owned_ptr_or_opt(text.py(), ffi::PyUnicode_AsLatin1String(text.as_ptr())) };
    let bytes = bytes.and_then(|bytes| bytes.cast_into::<PyBytes>().ok()).ok_or_else(|| {
        drop(PyErr::take(text.py()));
        wrong("has characters that are not in latin-1")
    })?;
    let (start, length) = (bytes.as_bytes().as_ptr(), bytes.as_bytes().len());
    Ok(Native { _owner: bytes.into_any(), bytes: start, length })
}

type AsUtf8 = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::Py_ssize_t) -> *const libc::c_char;

/// The bytes inside an ASCII str: as good as all of status lines and headers are that, and nothing has to be made for them.
fn ascii<'py>(text: &Bound<'py, PyString>) -> Option<Native<'py>> {
    // There in every Python, but in the stable ABI only since 3.10: so it is looked up by name.
    static AS_UTF8: OnceLock<Option<AsUtf8>> = OnceLock::new();
    let as_utf8 = (*AS_UTF8.get_or_init(|| {
        // SAFETY: a look-up by name.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"PyUnicode_AsUTF8AndSize".as_ptr()) };
        // SAFETY: that function has had this type since Python 3.3 (`const char *` since 3.7); null is `None`.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<AsUtf8>>(symbol) }
    }))?;
    let mut length = 0;
    // SAFETY: `text` is a str; the result is null with an exception set (lone surrogates), or belongs to the str and stays as long as it.
    let (start, characters) = unsafe { (as_utf8(text.as_ptr(), &raw mut length), ffi::PyUnicode_GetLength(text.as_ptr())) };
    if start.is_null() {
        drop(PyErr::take(text.py()));
        return None;
    }
    // As many bytes as characters: each is one below 128.
    let length = usize::try_from(length).ok().filter(|_| length == characters)?;
    Some(Native { _owner: text.clone().into_any(), bytes: start.cast(), length })
}

type Pair<'py> = (Native<'py>, Native<'py>);

fn pairs<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Vec<Pair<'py>>> {
    let headers =
        headers.cast::<PyList>().map_err(|_| PyTypeError::new_err(format!("headers must be a list, not {}", type_name(headers))))?;
    let mut out = Vec::with_capacity(headers.len());
    for header in headers.iter() {
        let pair = header.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2);
        let pair = pair.ok_or_else(|| PyTypeError::new_err("a header must be a tuple of name and value"))?;
        out.push((native(&pair.get_item(0)?, "header name")?, native(&pair.get_item(1)?, "header value")?));
    }
    Ok(out)
}

pub fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())
}

/// The bytes of a chunk; `None` if it is not one.
pub fn bytes_of<'py>(chunk: &Bound<'py, PyAny>, accept_buffer: bool) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if let Ok(bytes) = chunk.cast::<PyBytes>() {
        return Ok(Some(bytes.clone()));
    }
    let buffer =
        accept_buffer && (chunk.is_instance_of::<pyo3::types::PyByteArray>() || chunk.is_instance_of::<pyo3::types::PyMemoryView>());
    if !buffer {
        return Ok(None);
    }
    // SAFETY: `chunk` is a live object; the result is a new bytes object, or null with an exception set.
    let bytes = unsafe { Bound::from_owned_ptr_or_err(chunk.py(), pyo3::ffi::PyBytes_FromObject(chunk.as_ptr())) }?;
    Ok(Some(bytes.cast_into()?))
}

/// `wsgi.file_wrapper(file, size)`: sent by sendfile where the file is one on disk, else an iterator over blocks.
#[pyclass(module = "uwsgi", frozen)]
pub struct FileWrapper {
    pub file: Py<PyAny>,
    size: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (file, size=8192))]
    fn new(file: Py<PyAny>, size: Option<i64>) -> Self {
        Self { file, size: size.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(8192) }
    }

    #[getter]
    fn filelike(&self, py: Python<'_>) -> Py<PyAny> {
        self.file.clone_ref(py)
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.file.bind(py).call_method1("read", (self.size,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.file.bind(py).getattr_opt("close")? {
            close.call0()?;
        }
        Ok(())
    }
}

impl FileWrapper {
    /// Descriptor and position, if the file is a plain one on disk. (A GzipFile has a descriptor, too, but what it reads is not what is on disk; and files
    /// of /proc have no size, so they have to be read.)
    pub fn on_disk(&self, py: Python<'_>) -> Option<(i32, u64)> {
        let file = self.file.bind(py);
        let inner = file.getattr_opt("file").ok().flatten(); // tempfile's wrapper
        let file = inner.as_ref().unwrap_or(file);
        let io = py.import("io").ok()?;
        let binary = if file.is_instance(&io.getattr("TextIOWrapper").ok()?).ok()? { file.getattr_opt("buffer").ok()? } else { None };
        let raw = binary.as_ref().unwrap_or(file).getattr_opt("raw").ok().flatten();
        let raw = raw.as_ref().unwrap_or(file);
        if !raw.is_instance(&io.getattr("FileIO").ok()?).ok()? {
            return None;
        }
        let position = file.call_method0("tell").ok()?.extract().ok()?;
        let fd = raw.call_method0("fileno").ok()?.extract().ok()?;
        // SAFETY: the file object owns the descriptor, and this thread holds a reference to it and Python's lock.
        let file = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        nix::sys::stat::fstat(file).is_ok_and(|stat| stat.st_size > 0).then_some((fd, position))
    }
}
