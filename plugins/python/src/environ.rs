//! Makes the `environ` of a request.
//!
//! Requests of one front end come with the same variables in the same order, and most values stay the same from one to the next. So each core keeps a few
//! templates: a dictionary and the bytes it was made of. A request whose names match one only replaces the values that differ and copies the dictionary.

use std::collections::HashMap;

use imperator_protocol::vars::Vars;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::calls::references;
use crate::input::Input;
use crate::slot::Slot;

/// Shapes of requests that are remembered.
const TEMPLATES: usize = 8;
/// Variable names that are kept as Python strings.
const NAMES: usize = 1024;
/// A variable of this size or more is not kept from one request to the next.
const KEPT_VALUE: usize = 4096;

/// One for each core.
pub struct Environ {
    slot: &'static Slot,
    names: HashMap<Box<[u8]>, Py<PyString>>,
    templates: Vec<Template>,
    /// Ours, the same in every request: `wsgi.version`, `wsgi.errors` ...
    constants: Vec<(Py<PyString>, Py<PyAny>)>,
    scheme: Py<PyString>,
    schemes: [Py<PyString>; 2],
    /// `wsgi.input`, which all templates have. It is that of the next request, too, if the app did not keep it.
    input: Py<Input>,
    input_key: Py<PyString>,
}

struct Template {
    /// The variables that the dictionary has the values of, as they came; empty after large ones were forgotten.
    block: Vec<u8>,
    variables: Vec<Variable>,
    /// A name comes twice. All values are set anew each time then, so that the last one wins.
    repeated: bool,
    dict: Py<PyDict>,
}

struct Variable {
    name: Box<[u8]>,
    key: Py<PyString>,
    kind: Kind,
    /// Where it ends in the block.
    end: usize,
    /// Where it ends in the block that is compared.
    next_end: usize,
    differs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// `UWSGI_SCHEME`, X-Forwarded-Proto: names `wsgi.url_scheme`.
    Scheme,
    /// `HTTPS`, X-Forwarded-Ssl: says whether it is `https` where nothing names it.
    Secure,
    /// A name that is ours (`wsgi.input`): what a peer sends under it is dropped.
    Ours,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        match name {
            b"UWSGI_SCHEME" | b"HTTP_X_FORWARDED_PROTO" => Self::Scheme,
            b"HTTPS" | b"HTTP_X_FORWARDED_SSL" => Self::Secure,
            _ if name.starts_with(b"wsgi.") || name.starts_with(b"uwsgi.") => Self::Ours,
            _ => Self::Plain,
        }
    }
}

impl Environ {
    pub fn new(py: Python<'_>, slot: &'static Slot, constants: Vec<(&str, Py<PyAny>)>) -> PyResult<Self> {
        Ok(Self {
            slot,
            names: HashMap::new(),
            templates: Vec::with_capacity(TEMPLATES),
            constants: constants.into_iter().map(|(k, v)| (PyString::intern(py, k).unbind(), v)).collect(),
            scheme: PyString::intern(py, "wsgi.url_scheme").unbind(),
            schemes: [PyString::intern(py, "http").unbind(), PyString::intern(py, "https").unbind()],
            input: Py::new(py, Input::new(slot, 0))?,
            input_key: PyString::intern(py, "wsgi.input").unbind(),
        })
    }

    /// A new dictionary for the request `serial` with these variables.
    pub fn make<'py>(&mut self, py: Python<'py>, vars: Vars<'_>, serial: u64) -> PyResult<Bound<'py, PyDict>> {
        self.renew_input(py, serial)?;
        let found = self.templates.iter_mut().position(|template| template.matches(vars));
        let index = match found {
            Some(index) => index,
            None => {
                let template = self.template(py, vars)?;
                self.templates.truncate(TEMPLATES - 1);
                self.templates.push(template);
                self.templates.len() - 1
            }
        };
        self.templates.swap(0, index);
        let Some(template) = self.templates.first_mut() else { return Ok(PyDict::new(py)) };
        if found.is_some() && template.update(py, vars)? {
            template.dict.bind(py).set_item(&self.scheme, template.scheme(py, vars, &self.schemes)?)?;
        }
        let copy = template.dict.bind(py).copy()?;
        template.forget_large(py)?;
        Ok(copy)
    }

    /// Makes `wsgi.input` that of the request `serial`: the same object if nobody but us has it.
    fn renew_input(&mut self, py: Python<'_>, serial: u64) -> PyResult<()> {
        if references(&self.input) as usize == 1 + self.templates.len() {
            self.input.get().renew(serial);
            return Ok(());
        }
        self.input = Py::new(py, Input::new(self.slot, serial))?;
        self.templates.iter().try_for_each(|template| template.dict.bind(py).set_item(&self.input_key, &self.input))
    }

    fn template(&mut self, py: Python<'_>, vars: Vars<'_>) -> PyResult<Template> {
        let dict = PyDict::new(py);
        let (mut variables, mut end) = (Vec::new(), 0);
        for (name, value) in vars.iter() {
            let (key, kind) = (self.key(py, name), Kind::of(name));
            if kind != Kind::Ours {
                set(&dict, &key, value)?;
            }
            end += encoded_length(name, value);
            variables.push(Variable { name: name.into(), key, kind, end, next_end: end, differs: false });
        }
        let repeated = dict.len() < variables.iter().filter(|v| v.kind != Kind::Ours).count();
        for (key, value) in &self.constants {
            dict.set_item(key, value)?;
        }
        dict.set_item(&self.input_key, &self.input)?;
        let template = Template { block: vars.payload().to_vec(), variables, repeated, dict: dict.unbind() };
        template.dict.bind(py).set_item(&self.scheme, template.scheme(py, vars, &self.schemes)?)?;
        Ok(template)
    }

    fn key(&mut self, py: Python<'_>, name: &[u8]) -> Py<PyString> {
        if let Some(key) = self.names.get(name) {
            return key.clone_ref(py);
        }
        let text: String = name.iter().map(|b| char::from(*b)).collect();
        let key = PyString::intern(py, &text).unbind();
        if self.names.len() < NAMES {
            self.names.insert(name.into(), key.clone_ref(py));
        }
        key
    }
}

impl Template {
    /// Same names in the same order. (A name that comes twice is fine: values are set in the same order then, and the last wins.)
    /// Notes which variables differ, for [`Self::update`].
    fn matches(&mut self, vars: Vars<'_>) -> bool {
        let block = vars.payload();
        if block == self.block {
            return true;
        }
        let (mut start, mut old_start, mut mine) = (0, 0, self.variables.iter_mut());
        for (name, value) in vars.iter() {
            let Some(variable) = mine.next() else { return false };
            let end = start + encoded_length(name, value);
            variable.differs = block[start..end] != self.block[old_start..variable.end];
            if variable.differs && *variable.name != *name {
                return false;
            }
            variable.next_end = end;
            (start, old_start) = (end, variable.end);
        }
        mine.next().is_none()
    }

    /// Replaces the values that differ; whether the scheme may have changed.
    fn update(&mut self, py: Python<'_>, vars: Vars<'_>) -> PyResult<bool> {
        let block = vars.payload();
        if block == self.block {
            return Ok(false);
        }
        let dict = self.dict.bind(py);
        let mut scheme = false;
        for (variable, (_, value)) in self.variables.iter_mut().zip(vars.iter()) {
            variable.end = variable.next_end;
            if (variable.differs || self.repeated) && variable.kind != Kind::Ours {
                set(dict, &variable.key, value)?;
            }
            scheme |= variable.differs && matches!(variable.kind, Kind::Scheme | Kind::Secure);
        }
        self.block.clear();
        self.block.extend_from_slice(block);
        Ok(scheme)
    }

    fn scheme<'py>(&self, py: Python<'py>, vars: Vars<'_>, schemes: &[Py<PyString>; 2]) -> PyResult<Bound<'py, PyAny>> {
        // Of several of a kind the last one counts, as in uWSGI.
        let last = |kind| self.variables.iter().zip(vars.iter()).filter(|(v, _)| v.kind == kind).last().map(|(_, (_, value))| value);
        if let Some(scheme) = last(Kind::Scheme).filter(|s| !s.is_empty()) {
            return latin1(py, scheme);
        }
        let https = last(Kind::Secure).is_some_and(|v| v.starts_with(b"1") || v.get(..2).is_some_and(|v| v.eq_ignore_ascii_case(b"on")));
        Ok(schemes[usize::from(https)].bind(py).clone().into_any())
    }

    /// Does not hold on to large values until the next request of this shape, which then sets all of its values.
    fn forget_large(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.block.len() < KEPT_VALUE {
            return Ok(());
        }
        let (mut start, mut forgotten) = (0, false);
        for variable in &self.variables {
            if variable.end - start - encoded_length(&variable.name, b"") >= KEPT_VALUE {
                forgotten = true;
                if variable.kind != Kind::Ours {
                    set(self.dict.bind(py), &variable.key, b"")?;
                }
            }
            start = variable.end;
        }
        if forgotten {
            self.block = Vec::new();
            self.variables.iter_mut().for_each(|variable| variable.end = 0);
        }
        Ok(())
    }
}

/// Bytes that a variable takes in a block.
fn encoded_length(name: &[u8], value: &[u8]) -> usize {
    2 + name.len() + 2 + value.len()
}

fn set(dict: &Bound<'_, PyDict>, key: &Py<PyString>, value: &[u8]) -> PyResult<()> {
    dict.set_item(key, latin1(dict.py(), value)?)
}

/// Bytes as the text of the same code points: what WSGI calls a native string.
pub fn latin1<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: pointer and length are those of a slice; the result is a new reference or null with an exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(value.as_ptr().cast(), value.len() as ffi::Py_ssize_t, std::ptr::null());
        Bound::from_owned_ptr_or_err(py, text)
    }
}
