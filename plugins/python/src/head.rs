//! Status and headers as the app gives them, checked as a whole before any of it is taken.

use std::mem::MaybeUninit;

use imperator_worker::request::{HeadError, Request};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::calls::ascii;
use crate::response::type_name;

/// Headers that need no memory of their own while they are checked.
const FEW: usize = 16;

/// The bytes of a str; they belong to it, or to what [`Head`] keeps.
type Text = *const [u8];

const EMPTY: Text = std::ptr::slice_from_raw_parts(std::ptr::null(), 0);

/// Makes `status` and `headers` the head of the response, instead of the one before. Calls no Python code.
pub fn put<'py>(request: &mut Request<'_>, status: &Bound<'py, PyAny>, headers: &Bound<'py, PyAny>) -> Result<(), Fault<'py>> {
    // Filled in its place, and only as far as there are headers: it is half a kilobyte that would be set and moved with each request.
    let mut head = Head { status: EMPTY, few: [MaybeUninit::uninit(); FEW], count: 0, more: vec![], encoded: vec![] };
    head.read(status, headers)?;
    head.put(request).map_err(Fault::Refused)
}

/// A status line and headers.
///
/// Its texts are pointers into what the app has made. They are good as long as nobody else runs: [`put`] makes and uses it without giving the
/// interpreter's lock away.
struct Head<'py> {
    status: Text,
    /// The first `count` are there.
    few: [MaybeUninit<(Text, Text)>; FEW],
    count: usize,
    more: Vec<(Text, Text)>,
    /// Texts that are not ASCII, encoded.
    encoded: Vec<Bound<'py, PyBytes>>,
}

/// Why a head is none.
pub enum Fault<'py> {
    NoList(Bound<'py, PyAny>),
    NoPair,
    NoStr(&'static str, Bound<'py, PyAny>),
    NotLatin1(&'static str),
    Refused(HeadError),
}

impl From<Fault<'_>> for PyErr {
    fn from(fault: Fault<'_>) -> Self {
        match fault {
            Fault::NoList(headers) => PyTypeError::new_err(format!("headers must be a list, not {}", type_name(&headers))),
            Fault::NoPair => PyTypeError::new_err("a header must be a tuple of name and value"),
            Fault::NoStr(what, text) => PyTypeError::new_err(format!("the {what} must be a str, not {}", type_name(&text))),
            Fault::NotLatin1(what) => PyTypeError::new_err(format!("the {what} has characters that are not in latin-1")),
            Fault::Refused(HeadError::Sent) => PyOSError::new_err(HeadError::Sent.to_string()),
            Fault::Refused(error) => PyValueError::new_err(error.to_string()),
        }
    }
}

impl<'py> Head<'py> {
    fn read(&mut self, status: &Bound<'py, PyAny>, headers: &Bound<'py, PyAny>) -> Result<(), Fault<'py>> {
        self.status = self.text(status, "status")?;
        let list = headers.cast::<PyList>().map_err(|_| Fault::NoList(headers.clone()))?;
        (0..list.len()).try_for_each(|at| self.header(list, at))
    }

    fn header(&mut self, list: &Bound<'py, PyList>, at: usize) -> Result<(), Fault<'py>> {
        // SAFETY: the list holds its items, and nobody changes it meanwhile (see the type); an index past its end gives null, with an exception set.
        let pair = unsafe { Borrowed::from_ptr_or_err(list.py(), ffi::PyList_GetItem(list.as_ptr(), at as ffi::Py_ssize_t)) };
        let pair = pair.as_ref().ok().and_then(|pair| pair.cast::<PyTuple>().ok()).filter(|pair| pair.len() == 2).ok_or(Fault::NoPair)?;
        let [name, value] = [0, 1].map(|at| pair.get_borrowed_item(at));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Fault::NoPair) };
        let field = (self.text(&name, "header name")?, self.text(&value, "header value")?);
        match self.few.get_mut(self.count) {
            Some(place) => {
                place.write(field);
                self.count += 1;
            }
            None => self.more.push(field),
        }
        Ok(())
    }

    fn text(&mut self, text: &Bound<'py, PyAny>, what: &'static str) -> Result<Text, Fault<'py>> {
        let text = text.cast::<PyString>().map_err(|_| Fault::NoStr(what, text.clone()))?;
        if let Some(ascii) = ascii(text) {
            return Ok(ascii);
        }
        // SAFETY: `text` is a str; the result is a new bytes object, or null with an exception set.
        let bytes = unsafe { Bound::from_owned_ptr_or_opt(text.py(), ffi::PyUnicode_AsLatin1String(text.as_ptr())) };
        let bytes = bytes.and_then(|bytes| bytes.cast_into::<PyBytes>().ok()).ok_or_else(|| {
            drop(PyErr::take(text.py()));
            Fault::NotLatin1(what)
        })?;
        let start = std::ptr::from_ref(bytes.as_bytes());
        self.encoded.push(bytes);
        Ok(start)
    }

    fn put(&self, request: &mut Request<'_>) -> Result<(), HeadError> {
        // SAFETY: what the texts belong to lives (see the type).
        let bytes = |text: Text| unsafe { &*text };
        request.set_status(bytes(self.status))?;
        // SAFETY: so many were written.
        let few = self.few[..self.count].iter().map(|field| unsafe { field.assume_init_ref() });
        few.chain(&self.more).try_for_each(|(name, value)| request.add_header(bytes(*name), bytes(*value)))
    }
}
