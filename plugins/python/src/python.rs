//! Python as a language of the container: apps, threads, and the way of one request.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use imperator_worker::control::App;
use imperator_worker::host::Host;
use imperator_worker::language::{After, Language};
use imperator_worker::languages::ask;
use imperator_worker::request::Request;
use imperator_worker::settings::RequestSettings;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::calls::call;
use crate::dynamic::{self, Dynamic};
use crate::embedded::Embedded;
use crate::environ::{Environ, latin1};
use crate::errors::Policy;
use crate::responder::Callables;
use crate::response::{FileWrapper, Options};
use crate::slot::Slot;
use crate::wsgi::{Body, Trouble};
use imperator_worker::mounts::choose;

/// An app that is loaded.
pub struct Mounted {
    pub mountpoint: String,
    pub callable: Py<PyAny>,
    pub seconds: u64,
}

/// What one request thread keeps from request to request.
struct Core {
    slot: &'static Slot,
    /// The number of the request in hand, from 1.
    serial: u64,
    environ: Environ,
    callables: Callables,
    /// `uwsgi.env`, while a request is served.
    current: Option<Py<PyDict>>,
    thread: Option<Thread>,
}

/// The interpreter's state of a thread that Python did not start.
struct Thread {
    state: *mut ffi::PyThreadState,
    ensured: ffi::PyGILState_STATE,
}

thread_local! {
    static CORE: RefCell<Option<Core>> = const { RefCell::new(None) };
}

/// Environ and `start_response` of the request of this thread, for the uwsgi module. (`None` also for a finaliser that runs while they are made.)
pub fn current_environ(py: Python<'_>) -> Option<Py<PyDict>> {
    CORE.with(|core| core.try_borrow().ok()?.as_ref()?.current.as_ref().map(|environ| environ.clone_ref(py)))
}

pub fn current_start_response(py: Python<'_>) -> Option<Py<PyAny>> {
    CORE.with(|core| core.try_borrow().ok()?.as_ref().map(|core| core.callables.start_response().clone_ref(py)))
}

pub struct PythonLanguage {
    host: &'static Host,
    pub embedded: Arc<Embedded>,
    apps: RwLock<Apps>,
    /// How many apps were there when other languages' apps got the numbers after theirs, and how many these are.
    own: AtomicU32,
    others: AtomicU32,
    dynamic: Option<Dynamic>,
    policy: Policy,
    options: Options,
    version: String,
    chdir: String,
}

#[derive(Default, Clone)]
struct Apps {
    apps: Vec<Arc<Mounted>>,
    points: Vec<Vec<u8>>,
}

impl Apps {
    fn add(&mut self, app: Mounted) {
        self.points.push(app.mountpoint.as_bytes().to_vec());
        self.apps.push(Arc::new(app));
    }
}

impl PythonLanguage {
    pub fn new(host: &'static Host, embedded: Arc<Embedded>, loader: &Bound<'_, PyAny>) -> Self {
        let settings = &host.boot.settings;
        Self {
            host,
            embedded,
            apps: RwLock::default(),
            own: AtomicU32::new(0),
            others: AtomicU32::new(0),
            dynamic: settings.request.dynamic_apps.then(|| Dynamic::new(loader)),
            policy: Policy { catch: settings.python.catch_exceptions, reload: settings.reload.clone() },
            options: Options {
                accept_buffer: settings.python.accept_buffer,
                nodelay: settings.python.start_response_nodelay,
                silent: settings.request.disable_write_exception,
            },
            version: Python::version_str().split_whitespace().next().unwrap_or_default().to_owned(),
            chdir: std::env::current_dir().map_or_else(|_| String::new(), |d| d.to_string_lossy().into_owned()),
        }
    }

    pub fn mount(&self, app: Mounted) {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).add(app);
    }

    /// The numbers after those of the apps that are loaded now are others'.
    pub fn leave_numbers(&self, others: u32) {
        let own = self.apps.read().unwrap_or_else(PoisonError::into_inner).apps.len();
        self.own.store(own as u32, Relaxed);
        self.others.store(others, Relaxed);
    }

    /// The number of the app at that place of the list.
    fn number(&self, place: usize) -> u32 {
        let place = place as u32;
        if place < self.own.load(Relaxed) { place } else { place + self.others.load(Relaxed) }
    }

    fn request_settings(&self) -> &RequestSettings {
        &self.host.boot.settings.request
    }

    /// The number and callable of the app that answers, and how the path is cut; or why there is none.
    fn choose(&self, py: Python<'_>, request: &Request<'_>) -> Result<Chosen, PyErr> {
        let settings = self.request_settings();
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        if let [only] = &apps.apps[..]
            && !settings.no_default_app
            && !settings.manage_script_name
            && request.modifier1() != 30
            && self.dynamic.is_none()
        {
            return Ok(Chosen { app: Some((0, only.clone())), moved: None, recycle: false });
        }
        let answer = choose(&apps.points, settings, &ask(request));
        let exact = answer.app.and_then(|id| Some((id, apps.apps.get(id)?.clone())));
        let fallback = apps.apps.first().filter(|_| !settings.no_default_app).map(|app| (0, app.clone()));
        let full = apps.apps.len() >= settings.max_apps as usize;
        drop(apps);
        let named = self.dynamic.as_ref().and_then(|d| Some((d, dynamic::Named::of(request)?)));
        let recycle = named.as_ref().is_some_and(|(dynamic, named)| dynamic.changed(named));
        let app = match (exact, named) {
            (Some(app), _) => Some(app),
            (None, Some((dynamic, named))) if !full => {
                let app = Mounted {
                    callable: dynamic.load(py, &named)?,
                    mountpoint: String::from_utf8_lossy(&answer.key).into_owned(),
                    seconds: 0,
                };
                let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
                apps.add(app);
                apps.apps.last().map(|app| (apps.apps.len() - 1, app.clone()))
            }
            (None, _) => fallback,
        };
        Ok(Chosen { app, moved: answer.moved.map(|(script, path)| (script.to_vec(), path.to_vec())), recycle })
    }

    fn constants(&self, py: Python<'_>, core: u32) -> PyResult<Vec<(&'static str, Py<PyAny>)>> {
        let process = &self.host.boot.settings.process;
        let flag = |value: bool| -> PyResult<Py<PyAny>> { Ok(value.into_pyobject(py)?.to_owned().into_any().unbind()) };
        let host = nix::unistd::gethostname().unwrap_or_default();
        let bytes = |value: &[u8]| pyo3::types::PyBytes::new(py, value).into_any().unbind();
        let mut constants = vec![
            ("wsgi.version", (1, 0).into_pyobject(py)?.into_any().unbind()),
            ("wsgi.input_terminated", flag(true)?),
            ("wsgi.errors", py.import("sys")?.getattr("stderr")?.unbind()),
            ("wsgi.multithread", flag(process.threads > 1)?),
            ("wsgi.multiprocess", flag(process.workers > 1)?),
            ("wsgi.run_once", flag(false)?),
            ("uwsgi.version", bytes(crate::module::VERSION.as_bytes())),
            ("uwsgi.node", bytes(host.as_encoded_bytes())),
        ];
        if !self.host.boot.settings.python.disable_file_wrapper {
            constants.push(("wsgi.file_wrapper", py.get_type::<FileWrapper>().into_any().unbind()));
        }
        if process.threads > 1 {
            constants.push(("uwsgi.core", core.into_pyobject(py)?.into_any().unbind()));
        }
        Ok(constants)
    }

    fn new_core(&self, py: Python<'_>, core: u32, thread: Option<Thread>) -> PyResult<Core> {
        let slot = Slot::leak();
        let worker = self.host.worker();
        let interpreter = self.embedded.interpreter.bind(py);
        interpreter.call_method1("name_thread", (worker, core))?;
        crate::harakiri::enter(py, core, slot)?;
        if core == 0 {
            interpreter.call_method0("stacks_on_signal")?; // the loop has put its own handlers into place just before
        }
        Ok(Core {
            slot,
            serial: 0,
            environ: Environ::new(py, slot, self.constants(py, core)?)?,
            callables: Callables::new(py, slot, self.options)?,
            current: None,
            thread,
        })
    }

    fn call(&self, py: Python<'_>, request: &mut Request<'_>) -> After {
        match self.answer(py, request) {
            Ok(Some(after)) => after,
            Ok(None) => {
                crate::say("--- no python application found, check your startup logs for errors ---\n");
                request.fail(500, &crate::slot::Gil);
                After::Continue
            }
            Err(error) => {
                crate::errors::print(py, &error);
                request.fail(500, &crate::slot::Gil);
                After::Continue
            }
        }
    }

    /// `None`: no app is there for it. An error is one that came before the app was called.
    fn answer(&self, py: Python<'_>, request: &mut Request<'_>) -> PyResult<Option<After>> {
        let chosen = self.choose(py, request)?;
        let Some((id, app)) = chosen.app else { return Ok(None) };
        let prepared = CORE.with_borrow_mut(|core| match core {
            Some(core) => core.prepare(py, request, chosen.moved),
            None => Err(pyo3::exceptions::PyRuntimeError::new_err("a request came to a thread that did not say it serves any")),
        })?;
        request.set_app(self.number(id));
        let after = self.invoke(py, request, id, &app, prepared);
        // Not within the borrow: what the environ held may run code when it goes.
        let done = CORE.with_borrow_mut(|core| core.as_mut().and_then(|core| core.current.take()));
        drop(done);
        Ok(Some(if chosen.recycle && after == After::Continue { After::Exit(imperator_worker::control::exit::RELOAD) } else { after }))
    }

    /// Calls the app and sends what it returns.
    fn invoke(&self, py: Python<'_>, request: &mut Request<'_>, id: usize, app: &Mounted, prepared: Prepared<'_>) -> After {
        let Prepared { slot, serial, environ, start_response } = prepared;
        let _occupied = slot.occupy(py, request, serial);
        let body = Body { slot, options: self.options, strict: self.host.boot.settings.python.strict };
        let result = call(app.callable.bind(py), &environ, &start_response)
            .map_err(Trouble::Raised)
            .and_then(|returned| if crate::forked::foreign() { Ok(()) } else { body.send(py, &returned) });
        if crate::forked::foreign() {
            crate::forked::end(py, &self.embedded, result);
        }
        let struck = slot.harakiri.settle();
        let name = || format!("app {id} (mountpoint='{}')", app.mountpoint);
        let after = match result {
            Ok(()) | Err(Trouble::Gone) => After::Continue,
            Err(Trouble::Raised(error)) if struck && error.is_instance_of::<crate::harakiri::Harakiri>(py) => {
                crate::harakiri::answer(py, slot, &name(), &error);
                After::Continue
            }
            Err(Trouble::Raised(error)) => self.policy.deal_with(py, slot, serial, &environ, &name(), &error),
            Err(Trouble::Refused(why)) => {
                let error = pyo3::exceptions::PyTypeError::new_err(format!("{}: {why}", name()));
                self.policy.deal_with(py, slot, serial, &environ, &name(), &error)
            }
        };
        drop(crate::input::take_raised(slot, serial));
        after
    }
}

struct Chosen {
    app: Option<(usize, Arc<Mounted>)>,
    moved: Option<(Vec<u8>, Vec<u8>)>,
    /// A file that the request names has changed: the worker ends after it.
    recycle: bool,
}

/// What an app is called with.
struct Prepared<'py> {
    slot: &'static Slot,
    serial: u64,
    environ: Bound<'py, PyDict>,
    start_response: Bound<'py, PyAny>,
}

impl Core {
    fn prepare<'py>(&mut self, py: Python<'py>, request: &Request<'_>, moved: Option<(Vec<u8>, Vec<u8>)>) -> PyResult<Prepared<'py>> {
        self.serial += 1;
        let environ = self.environ.make(py, request.vars(), self.serial)?;
        if let Some((script, path)) = moved {
            environ.set_item("SCRIPT_NAME", latin1(py, &script)?)?;
            environ.set_item("PATH_INFO", latin1(py, &path)?)?;
        }
        self.current = Some(environ.clone().unbind());
        let start_response = self.callables.renew(py, self.serial)?.bind(py).clone();
        Ok(Prepared { slot: self.slot, serial: self.serial, environ, start_response })
    }
}

impl Language for PythonLanguage {
    fn name(&self) -> String {
        format!("python {}", self.version)
    }

    fn modifiers(&self) -> &[u8] {
        &[0, 30]
    }

    fn apps(&self) -> Vec<App> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.apps
            .iter()
            .enumerate()
            .map(|(place, app)| App {
                id: self.number(place),
                modifier1: 0,
                mountpoint: app.mountpoint.clone(),
                startup_time: app.seconds,
                chdir: self.chdir.clone(),
            })
            .collect()
    }

    fn enter_thread(&self, core: u32) {
        let ensured = (core > 0).then(|| {
            // SAFETY: the interpreter is running; the matching release is in `leave_thread`.
            unsafe { ffi::PyGILState_Ensure() }
        });
        Python::attach(|py| {
            let thread = ensured.map(|ensured| Thread { state: std::ptr::null_mut(), ensured });
            match self.new_core(py, core, thread) {
                Ok(core) => CORE.set(Some(core)),
                Err(error) => crate::errors::print(py, &error),
            }
        });
        if ensured.is_some() {
            // SAFETY: this thread holds the lock since `PyGILState_Ensure` above; its state stays, so that each request only has to take the lock.
            let state = unsafe { ffi::PyEval_SaveThread() };
            CORE.with_borrow_mut(|core| {
                if let Some(thread) = core.as_mut().and_then(|core| core.thread.as_mut()) {
                    thread.state = state;
                }
            });
        }
    }

    fn leave_thread(&self, _core: u32) {
        let Some(mut core) = CORE.take() else { return };
        let thread = core.thread.take();
        Python::attach(|_| drop(core));
        if let Some(thread) = thread.filter(|t| !t.state.is_null()) {
            // SAFETY: the state is this thread's own, saved in `enter_thread`, and the lock was ensured there.
            unsafe {
                ffi::PyEval_RestoreThread(thread.state);
                ffi::PyGILState_Release(thread.ensured);
            }
        }
    }

    fn serve(&self, request: &mut Request<'_>) -> After {
        #[cfg(debug_assertions)]
        let _serving = crate::allocations::serving();
        Python::attach(|py| self.call(py, request))
    }

    fn interrupt(&self, core: u32) -> bool {
        crate::harakiri::interrupt(core)
    }

    fn teardown(&self) {
        if self.host.boot.settings.process.skip_atexit {
            return;
        }
        Python::attach(|py| {
            crate::module::call_hook(py, "atexit");
            if let Err(error) = self.embedded.interpreter.bind(py).call_method0("run_exit_functions") {
                crate::errors::print(py, &error);
            }
        });
    }
}
