//! Exceptions of apps: what the log says, what the client gets, whether the worker goes on.

use imperator_worker::language::After;
use imperator_worker::settings::Reload;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::input::take_raised;
use crate::slot::{Gil, Slot};

/// Prints the traceback as Python does, `sys.excepthook` included. (For `SystemExit` that hook would end the process.)
pub fn print(py: Python<'_>, error: &PyErr) {
    if error.is_instance_of::<PySystemExit>(py) { error.display(py) } else { error.print(py) }
}

/// How exceptions are dealt with.
pub struct Policy {
    pub catch: bool,
    pub reload: Reload,
}

impl Policy {
    /// Logs an exception that an app let out, counts it, and answers what can still be answered.
    pub fn deal_with(
        &self,
        py: Python<'_>,
        slot: &'static Slot,
        serial: u64,
        environ: &Bound<'_, PyDict>,
        app: &str,
        error: &PyErr,
    ) -> After {
        if let Some(status) = body_error(py, slot, serial, error) {
            crate::say(&format!("{app}: the request body could not be read: {}\n", error.value(py)));
            let _ = slot.with(py, None, |request| request.fail(status, &Gil));
            return After::Continue;
        }
        print(py, error);
        let sent = slot.with(py, None, |request| {
            request.count_exception();
            request.head_sent()
        });
        if !(self.catch && matches!(sent, Ok(false)) && show(py, slot, environ, error).is_ok()) {
            let _ = slot.with(py, None, |request| request.fail(500, &Gil));
        }
        if self.recycles(py, error) { After::Exit(imperator_worker::control::exit::EXCEPTION) } else { After::Continue }
    }

    /// `reload-on-exception` and its kin.
    fn recycles(&self, py: Python<'_>, error: &PyErr) -> bool {
        let reload = &self.reload;
        if reload.on_exception {
            return true;
        }
        if reload.on_exception_type.is_empty() && reload.on_exception_value.is_empty() && reload.on_exception_repr.is_empty() {
            return false;
        }
        let kind = error.get_type(py);
        let name = kind.name().map_or_else(|_| String::new(), |n| n.to_string());
        let module = kind.module().map_or_else(|_| String::new(), |n| n.to_string());
        let text = |text: PyResult<Bound<'_, pyo3::types::PyString>>| text.map_or_else(|_| String::new(), |t| t.to_string());
        let (value, repr) = (text(error.value(py).str()), text(error.value(py).repr()));
        reload.on_exception_type.iter().any(|t| *t == name || *t == format!("{module}.{name}"))
            || reload.on_exception_value.contains(&value)
            || reload.on_exception_repr.contains(&repr)
    }
}

/// The status for the client, if this is an error of its body that the app let out.
fn body_error(py: Python<'_>, slot: &'static Slot, serial: u64, error: &PyErr) -> Option<u16> {
    let raised = take_raised(slot, serial)?;
    raised.exception.bind(py).is(error.value(py)).then_some(raised.status)
}

/// `catch-exceptions`: the traceback as the response.
fn show(py: Python<'_>, slot: &'static Slot, environ: &Bound<'_, PyDict>, error: &PyErr) -> PyResult<()> {
    let page = crate::embedded::development(py)?.bind(py).call_method1("page", (environ, error.value(py)))?;
    let page: Vec<u8> = page.extract()?;
    slot.with(py, None, |request| {
        let head = request.set_status(b"500 Internal Server Error").and_then(|()| request.add_header(b"Content-Type", b"text/plain"));
        head.is_ok().then(|| request.write(&page, &Gil))
    })?;
    Ok(())
}
