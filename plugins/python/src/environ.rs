//! Makes the `environ` of a request.
//!
//! Requests of one front end come with the same variables in the same order, and most values stay the same from one to the next. So each core keeps a few
//! templates: a dictionary and the bytes it was made of. A request whose names match one only replaces the values that differ and copies the dictionary.

use std::collections::HashMap;

use imperator_protocol::vars::Vars;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Shapes of requests that are remembered.
const TEMPLATES: usize = 8;
/// Variable names that are kept as Python strings.
const NAMES: usize = 1024;
/// A variable of this size or more is not kept from one request to the next.
const KEPT_VALUE: usize = 4096;

/// One for each core.
pub struct Environ {
    names: HashMap<Box<[u8]>, Py<PyString>>,
    templates: Vec<Template>,
    /// Ours, the same in every request: `wsgi.version`, `wsgi.errors` ...
    constants: Vec<(Py<PyString>, Py<PyAny>)>,
    scheme: Py<PyString>,
    schemes: [Py<PyString>; 2],
}

struct Template {
    variables: Vec<Variable>,
    dict: Py<PyDict>,
}

struct Variable {
    name: Box<[u8]>,
    key: Py<PyString>,
    value: Vec<u8>,
    kind: Kind,
    /// A name comes twice in this template. All values are set anew each time then, so that the last one wins.
    repeated: bool,
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
    pub fn new(py: Python<'_>, constants: Vec<(&str, Py<PyAny>)>) -> Self {
        Self {
            names: HashMap::new(),
            templates: Vec::with_capacity(TEMPLATES),
            constants: constants.into_iter().map(|(k, v)| (PyString::intern(py, k).unbind(), v)).collect(),
            scheme: PyString::intern(py, "wsgi.url_scheme").unbind(),
            schemes: [PyString::intern(py, "http").unbind(), PyString::intern(py, "https").unbind()],
        }
    }

    /// A new dictionary for a request with these variables.
    pub fn make<'py>(&mut self, py: Python<'py>, vars: Vars<'_>) -> PyResult<Bound<'py, PyDict>> {
        let found = self.templates.iter().position(|t| t.matches(vars));
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

    fn template(&mut self, py: Python<'_>, vars: Vars<'_>) -> PyResult<Template> {
        let dict = PyDict::new(py);
        let mut variables = Vec::new();
        for (name, value) in vars.iter() {
            let (key, kind) = (self.key(py, name), Kind::of(name));
            if kind != Kind::Ours {
                set(&dict, &key, value)?;
            }
            variables.push(Variable { name: name.into(), key, value: value.to_vec(), kind, repeated: false });
        }
        let repeated = dict.len() < variables.iter().filter(|v| v.kind != Kind::Ours).count();
        variables.iter_mut().for_each(|v| v.repeated = repeated);
        for (key, value) in &self.constants {
            dict.set_item(key, value)?;
        }
        let template = Template { variables, dict: dict.unbind() };
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
    fn matches(&self, vars: Vars<'_>) -> bool {
        let mut mine = self.variables.iter();
        vars.iter().all(|(name, _)| mine.next().is_some_and(|v| *v.name == *name)) && mine.next().is_none()
    }

    /// Replaces the values that differ; whether the scheme may have changed.
    fn update(&mut self, py: Python<'_>, vars: Vars<'_>) -> PyResult<bool> {
        let dict = self.dict.bind(py);
        let mut scheme = false;
        for (variable, (_, value)) in self.variables.iter_mut().zip(vars.iter()) {
            if variable.value == value && !variable.repeated {
                continue;
            }
            if variable.kind != Kind::Ours {
                set(dict, &variable.key, value)?;
            }
            scheme |= matches!(variable.kind, Kind::Scheme | Kind::Secure);
            variable.value.clear();
            variable.value.extend_from_slice(value);
        }
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

    /// Does not hold on to large values until the next request of this shape.
    fn forget_large(&mut self, py: Python<'_>) -> PyResult<()> {
        for variable in self.variables.iter_mut().filter(|v| v.value.len() >= KEPT_VALUE) {
            variable.value = Vec::new();
            set(self.dict.bind(py), &variable.key, b"")?;
        }
        Ok(())
    }
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
