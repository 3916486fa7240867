//! The `uwsgi` module: what the container is, who this process is, what the app can ask of the master.

use std::sync::atomic::Ordering::Relaxed;

use imperator_worker::host::{Host, host};
use imperator_worker::language::Language;
use pyo3::exceptions::{PyAttributeError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

/// The version of uWSGI whose module this one stands in for: libraries compare it.
pub const VERSION: &str = "2.0.30";

/// Makes the module and puts it into `sys.modules`, complete, before anything of the app's is loaded.
pub fn install(py: Python<'_>, host: &'static Host) -> PyResult<()> {
    let module = PyModule::new(py, "uwsgi")?;
    facts(&module, host)?;
    functions(&module)?;
    crate::request_api::add(&module)?;
    crate::cache::add(&module)?;
    crate::embedded::add_django_cache(py)?;
    crate::embedded::add_descriptors(&module)?;
    crate::metrics::add(&module)?;
    crate::not_built::add(&module, host)?;
    py.import("sys")?.getattr("modules")?.set_item("uwsgi", module)
}

/// Runs a hook that user code has left in the module (`post_fork_hook`, `atexit`). Its exceptions are logged.
pub fn call_hook(py: Python<'_>, name: &str) {
    let Ok(module) = py.import("uwsgi") else { return };
    if let Ok(Some(hook)) = module.getattr_opt(name)
        && let Err(error) = hook.call0()
    {
        crate::errors::print(py, &error);
    }
}

fn facts(module: &Bound<'_, PyModule>, host: &Host) -> PyResult<()> {
    let (py, settings) = (module.py(), &host.boot.settings);
    let bytes = |text: &str| PyBytes::new(py, text.as_bytes());
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = PyBytes::new(py, name.as_encoded_bytes());
    module.add("version", bytes(VERSION))?;
    module.add("version_info", (2, 0, 30, 0, bytes("")))?;
    module.add("SPOOL_OK", -2)?;
    module.add("SPOOL_RETRY", -1)?;
    module.add("SPOOL_IGNORE", 0)?;
    module.add("hostname", &name)?;
    module.add("numproc", settings.process.workers)?;
    module.add("cores", settings.process.threads)?;
    module.add("has_threads", 1)?;
    module.add("buffer_size", settings.request.buffer_size.unwrap_or(65535))?;
    module.add("started_on", host.boot.started_at)?;
    module.add("is_a_reload", host.boot.generation > 1)?;
    module.add("loop", py.None())?;
    module.add("unbit", py.None())?;
    module.add("applications", py.None())?;
    module.add("sockets", PyList::new(py, host.boot.listeners.iter().map(|l| l.fd))?)?;
    module.add("opt", options(py, &settings.opt)?)?;
    if let Some(pidfile) = &settings.process.pidfile {
        module.add("pidfile", bytes(pidfile))?;
    }
    let magic = PyDict::new(py);
    magic.set_item(bytes("v"), bytes(VERSION))?;
    magic.set_item(bytes("h"), name)?;
    magic.set_item(bytes("u"), bytes(&nix::unistd::getuid().to_string()))?;
    magic.set_item(bytes("g"), bytes(&nix::unistd::getgid().to_string()))?;
    module.add("magic_table", magic)?;
    for name in ["SymbolsImporter", "SymbolsZipImporter", "ZipImporter"] {
        module.add(name, py.get_type::<pyo3::types::PyType>().call1((name, PyTuple::empty(py), PyDict::new(py)))?)?;
    }
    Ok(())
}

/// `uwsgi.opt`: names to bytes, or to True where an option was given without a value. Of a repeated option the last value, as uWSGI under Python 3.
fn options<'py>(py: Python<'py>, opt: &[(String, Vec<Option<String>>)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, values) in opt {
        match values.last() {
            Some(Some(value)) => dict.set_item(name, PyBytes::new(py, value.as_bytes()))?,
            _ => dict.set_item(name, true)?,
        }
    }
    Ok(dict)
}

fn functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(worker_id, module)?)?;
    module.add_function(wrap_pyfunction!(mule_id, module)?)?;
    module.add_function(wrap_pyfunction!(masterpid, module)?)?;
    module.add_function(wrap_pyfunction!(i_am_the_spooler, module)?)?;
    module.add_function(wrap_pyfunction!(in_farm, module)?)?;
    module.add_function(wrap_pyfunction!(ready, module)?)?;
    module.add_function(wrap_pyfunction!(total_requests, module)?)?;
    module.add_function(wrap_pyfunction!(workers, module)?)?;
    module.add_function(wrap_pyfunction!(mem, module)?)?;
    module.add_function(wrap_pyfunction!(logsize, module)?)?;
    module.add_function(wrap_pyfunction!(micros, module)?)?;
    module.add_function(wrap_pyfunction!(listen_queue, module)?)?;
    module.add_function(wrap_pyfunction!(log, module)?)?;
    module.add_function(wrap_pyfunction!(reload, module)?)?;
    module.add_function(wrap_pyfunction!(stop, module)?)?;
    module.add_function(wrap_pyfunction!(alarm, module)?)?;
    module.add_function(wrap_pyfunction!(setprocname, module)?)?;
    module.add_function(wrap_pyfunction!(accepting, module)?)?;
    module.add_function(wrap_pyfunction!(suspend, module)?)?;
    module.add_function(wrap_pyfunction!(green_schedule, module)?)?;
    module.add_function(wrap_pyfunction!(module_attribute, module)?)?;
    module.add_function(wrap_pyfunction!(start_response, module)?)
}

pub fn here() -> PyResult<&'static Host> {
    host().ok_or_else(|| PyRuntimeError::new_err("the container has not started"))
}

#[pyfunction]
fn worker_id() -> PyResult<u32> {
    Ok(here()?.worker())
}

#[pyfunction]
fn mule_id() -> u32 {
    0
}

#[pyfunction]
fn masterpid() -> PyResult<i32> {
    Ok(here()?.boot.master_pid)
}

#[pyfunction]
fn i_am_the_spooler() {}

#[pyfunction]
#[pyo3(signature = (_name=None))]
fn in_farm(_name: Option<Bound<'_, PyAny>>) {}

/// True in a worker that accepts requests, else None.
#[pyfunction]
fn ready() -> PyResult<Option<bool>> {
    Ok(here()?.is_accepting().then_some(true))
}

#[pyfunction]
fn total_requests() -> PyResult<u64> {
    Ok(here()?.total_requests())
}

#[pyfunction]
fn workers(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let here = here()?;
    let list: Vec<_> = (1..=here.scoreboard.workers()).map(|id| worker(py, here, id)).collect::<PyResult<_>>()?;
    PyTuple::new(py, list)
}

fn worker<'py>(py: Python<'py>, here: &Host, id: u32) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let Some(slot) = here.scoreboard.worker(id) else { return Ok(dict) };
    dict.set_item("id", id)?;
    for (name, number) in here.worker_numbers(id) {
        dict.set_item(name, number)?;
    }
    dict.set_item("status", PyBytes::new(py, here.worker_status(id).as_bytes()))?;
    let mut apps = Vec::new();
    for app in crate::zygote::language().map(|language| language.apps()).unwrap_or_default() {
        let counters = slot.app(app.id);
        let entry = PyDict::new(py);
        entry.set_item("id", app.id)?;
        entry.set_item("modifier1", app.modifier1)?;
        entry.set_item("mountpoint", PyBytes::new(py, app.mountpoint.as_bytes()))?;
        entry.set_item("startup_time", app.startup_time)?;
        entry.set_item("interpreter", 0)?;
        entry.set_item("callable", 0)?;
        entry.set_item("requests", counters.map_or(0, |(requests, _)| requests.load(Relaxed)))?;
        entry.set_item("exceptions", counters.map_or(0, |(_, exceptions)| exceptions.load(Relaxed)))?;
        entry.set_item("chdir", PyBytes::new(py, app.chdir.as_bytes()))?;
        apps.push(entry);
    }
    dict.set_item("apps", PyTuple::new(py, apps)?)?;
    Ok(dict)
}

/// Resident and virtual size of this process, bytes.
#[pyfunction]
fn mem() -> PyResult<(u64, u64)> {
    Ok(imperator_worker::host::memory()?)
}

#[pyfunction]
fn logsize() -> u64 {
    0
}

#[pyfunction]
fn micros() -> u64 {
    imperator_worker::host::micros()
}

/// Connections that wait to be accepted at a socket.
#[pyfunction]
#[pyo3(signature = (socket=0))]
fn listen_queue(socket: usize) -> PyResult<u64> {
    let here = here()?;
    here.listen_queue(socket)
        .ok_or_else(|| PyValueError::new_err(format!("there is no socket {socket}; there are {}", here.boot.listeners.len())))
}

#[pyfunction]
fn log(line: &str) -> bool {
    crate::say(&format!("{line}\n"));
    true
}

fn asked(answer: std::io::Result<()>, what: &str) -> PyResult<bool> {
    answer.map(|()| true).map_err(|error| PyRuntimeError::new_err(format!("uwsgi.{what}(): {error}")))
}

#[pyfunction]
fn reload() -> PyResult<bool> {
    asked(here()?.reload(), "reload")
}

#[pyfunction]
fn stop() -> PyResult<bool> {
    asked(here()?.stop(), "stop")
}

/// Has the master raise an alarm.
#[pyfunction]
fn alarm(name: &Bound<'_, PyAny>, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let text = |value: &Bound<'_, PyAny>| match value.extract::<&[u8]>() {
        Ok(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Err(_) => value.extract::<String>(),
    };
    Ok(here()?.alarm(&text(name)?, &text(message)?)?)
}

#[pyfunction]
fn setprocname(name: &str) -> PyResult<()> {
    Ok(imperator_sys::title::set_title(name.as_bytes())?)
}

/// Says whether this worker counts as one that takes requests; for the cheaper algorithms and the stats.
#[pyfunction]
#[pyo3(signature = (accepting=true))]
fn accepting(accepting: bool) -> PyResult<()> {
    here()?.set_accepting(accepting);
    Ok(())
}

/// Without an asynchronous engine there is nobody to hand over to.
#[pyfunction]
fn suspend() -> bool {
    true
}

#[pyfunction]
fn green_schedule() -> bool {
    true
}

/// `uwsgi.env` is the environ of the request that this thread serves.
#[pyfunction]
#[pyo3(name = "__getattr__")]
fn module_attribute(py: Python<'_>, name: &str) -> PyResult<Py<PyDict>> {
    let environ = (name == "env").then(|| crate::python::current_environ(py)).flatten();
    environ.ok_or_else(|| PyAttributeError::new_err(format!("module 'uwsgi' has no attribute '{name}'")))
}

/// The callable that the app of this thread's request was given.
#[pyfunction]
#[pyo3(signature = (*arguments, **keywords))]
fn start_response<'py>(
    py: Python<'py>,
    arguments: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let callable =
        crate::python::current_start_response(py).ok_or_else(|| PyRuntimeError::new_err("there is no request in this thread now"))?;
    callable.bind(py).call(arguments, keywords)
}
