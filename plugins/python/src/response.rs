//! What may be sent as a body: chunks, and `wsgi.file_wrapper`.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

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
