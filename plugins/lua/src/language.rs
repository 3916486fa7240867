//! Lua as a language of the container: which app answers, in which state, and what follows.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imperator_worker::control::App;
use imperator_worker::host::host;
use imperator_worker::language::{After, Language, NoLock};
use imperator_worker::languages::ask;
use imperator_worker::log::diag::say;
use imperator_worker::mounts;
use imperator_worker::request::Request;
use imperator_worker::settings::RequestSettings;

use crate::autoreload::Watched;
use crate::state::{Plan, State};
use crate::turn::{self, Trouble};
use crate::{failure, harakiri};

/// modifier1 of Lua's requests.
pub const MODIFIER: u8 = 6;

thread_local! {
    /// The state of the core that this thread is.
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

pub struct LuaLanguage {
    plan: Plan,
    points: Vec<Vec<u8>>,
    request: RequestSettings,
    /// One app that answers everything: nothing to choose.
    only: bool,
    /// States that wait for their cores to take them, by core.
    fresh: Mutex<Vec<Option<State>>>,
    /// With `lua-autoreload`.
    watched: Option<Mutex<Watched>>,
    first: AtomicU32,
    /// Seconds that loading took.
    seconds: AtomicU64,
    chdir: String,
}

/// `GET /path`, for messages.
pub fn title(request: &Request<'_>) -> String {
    let var = |name: &[u8]| String::from_utf8_lossy(request.var(name).unwrap_or_default()).into_owned();
    let uri = if request.var(b"REQUEST_URI").is_some() { var(b"REQUEST_URI") } else { var(b"PATH_INFO") };
    format!("{} {uri}", var(b"REQUEST_METHOD"))
}

/// Which app, and how the path is cut.
struct Chosen {
    app: usize,
    moved: Option<(Vec<u8>, Vec<u8>)>,
}

impl LuaLanguage {
    pub fn new(plan: Plan) -> Self {
        let settings = host().map(|host| &host.boot.settings);
        let request = settings.map(|s| s.request.clone()).unwrap_or_default();
        let whole = matches!(&plan.apps[..], [(point, _)] if point.is_empty());
        Self {
            points: plan.apps.iter().map(|(point, _)| point.as_bytes().to_vec()).collect(),
            only: whole && !request.manage_script_name && !request.no_default_app,
            watched: settings.filter(|s| s.lua.autoreload > 0).map(|_| Mutex::default()),
            request,
            plan,
            fresh: Mutex::default(),
            first: AtomicU32::new(0),
            seconds: AtomicU64::new(0),
            chdir: std::env::current_dir().map_or_else(|_| String::new(), |d| d.to_string_lossy().into_owned()),
        }
    }

    /// Makes a state for each core.
    ///
    /// # Errors
    /// For the log. What was there before stays.
    pub fn load(&self, cores: u32) -> Result<(), String> {
        let states = self.states(cores)?;
        if let Some(watched) = &self.watched {
            lock(watched).follow(sources(&states));
        }
        *lock(&self.fresh) = states;
        Ok(())
    }

    fn states(&self, cores: u32) -> Result<Vec<Option<State>>, String> {
        (0..cores).map(|_| State::load(&self.plan).map(Some)).collect()
    }

    pub fn took(&self, seconds: u64) {
        self.seconds.store(seconds, Relaxed);
    }

    pub fn number_from(&self, first: u32) {
        self.first.store(first, Relaxed);
    }

    /// `lua-shell`: Lua's own one, on the standard streams, in the state of core 0.
    pub fn shell(&self) {
        if let Some(Some(state)) = lock(&self.fresh).first()
            && let Err(error) = state.lua.load("debug.debug()").exec()
        {
            say(&failure::text(&error));
        }
    }

    /// Directories of the files that are watched.
    pub fn directories(&self) -> Vec<String> {
        self.watched.as_ref().map(|watched| lock(watched).directories()).unwrap_or_default()
    }

    /// Loads new states if a file has changed (`lua-autoreload`). A file that does not load is reported once, and the old states go on.
    pub fn look(&self) {
        let Some(watched) = &self.watched else { return };
        // Held until the new states are there: a request that comes meanwhile waits for them.
        let mut watched = lock(watched);
        let Some(file) = watched.changed() else { return };
        let cores = host().map_or(1, |host| host.boot.settings.process.threads.max(1));
        match self.states(cores) {
            Ok(states) => {
                watched.follow(sources(&states));
                *lock(&self.fresh) = states;
                say(&format!("lua-autoreload: {file} has changed: its new code serves from the next request on"));
            }
            Err(failure) => say(&format!("lua-autoreload: {file} has changed, and the old code stays in service: {failure}")),
        }
    }

    /// The state that waits for this core, in the place of the old one.
    fn renew(&self, core: u32, state: &mut Option<State>) {
        let fresh = lock(&self.fresh).get_mut(core as usize).and_then(Option::take);
        if fresh.is_some() {
            *state = fresh;
        }
    }

    fn choose(&self, request: &Request<'_>) -> Option<Chosen> {
        if self.only {
            return Some(Chosen { app: 0, moved: None });
        }
        let answer = mounts::choose(&self.points, &self.request, &ask(request));
        let default = || self.points.iter().position(Vec::is_empty).or((!self.points.is_empty()).then_some(0));
        let app = answer.app.or_else(|| default().filter(|_| !self.request.no_default_app))?;
        Some(Chosen { app, moved: answer.moved.map(|(script, path)| (script.to_vec(), path.to_vec())) })
    }

    fn file(&self, app: usize) -> &str {
        self.plan.apps.get(app).map_or("", |(_, file)| file)
    }

    fn answer(&self, state: &mut State, request: &mut Request<'_>) {
        let Some(chosen) = self.choose(request) else {
            say(&format!("--- no Lua app found for {}: none is configured for it (lua, mount) ---", title(request)));
            return request.fail(500, &NoLock);
        };
        request.set_app(self.first.load(Relaxed).saturating_add(chosen.app as u32));
        let called = call(state, &chosen, request);
        match called {
            Ok(()) | Err(Trouble::Gone) => {}
            Err(Trouble::Overdue(place)) => {
                let (file, title) = (self.file(chosen.app), title(request));
                say(&format!("HARAKIRI: {file}: {title} was over its time, and is answered with 504; it was here:\n{place}"));
                request.fail(504, &NoLock);
            }
            Err(trouble) => {
                let text = match &trouble {
                    Trouble::Lua(message) => message.clone(),
                    other => format!("{}: {other}", self.file(chosen.app)),
                };
                say(&format!("{text}\n(Lua app {}, {})", chosen.app, title(request)));
                request.count_exception();
                request.fail(500, &NoLock);
            }
        }
    }
}

/// What one of the states, which are all alike, was loaded from.
fn sources(states: &[Option<State>]) -> Vec<String> {
    states.iter().flatten().next().map(State::sources).unwrap_or_default()
}

/// Calls the app, and sends what it returns.
fn call(state: &State, chosen: &Chosen, request: &mut Request<'_>) -> Result<(), Trouble> {
    let app = state.apps.get(chosen.app).ok_or_else(|| Trouble::Shape("the app is not in this state".into()))?;
    let moved = chosen.moved.as_ref().map(|(script, path)| (&script[..], &path[..]));
    turn::take(&state.fixtures, *app, moved, request)
}

impl Language for LuaLanguage {
    fn name(&self) -> String {
        if cfg!(feature = "luajit") {
            "lua (LuaJIT 2.1)".into()
        } else if cfg!(feature = "lua54") {
            "lua 5.4".into()
        } else {
            "lua 5.1".into()
        }
    }

    fn modifiers(&self) -> &[u8] {
        &[MODIFIER]
    }

    fn apps(&self) -> Vec<App> {
        let (first, seconds) = (self.first.load(Relaxed), self.seconds.load(Relaxed));
        let app = |((point, _), id): (&(String, String), u32)| App {
            id: first + id,
            modifier1: MODIFIER,
            mountpoint: point.clone(),
            startup_time: seconds,
            chdir: self.chdir.clone(),
        };
        self.plan.apps.iter().zip(0..).map(app).collect()
    }

    fn enter_thread(&self, core: u32) {
        harakiri::enter(core);
        STATE.with_borrow_mut(|state| self.renew(core, state));
    }

    fn leave_thread(&self, _core: u32) {
        let state = STATE.take();
        if let Some(state) = &state {
            let _ = state.lua.load("io.stdout:flush()").exec(); // the end of a line that was not ended
        }
    }

    fn serve(&self, request: &mut Request<'_>) -> After {
        STATE.with_borrow_mut(|slot| {
            if self.watched.is_some() {
                self.look();
                self.renew(request.core(), slot);
            }
            match slot {
                Some(state) => {
                    self.answer(state, request);
                    state.garbage.after_request(&state.lua);
                }
                None => request.fail(500, &NoLock),
            }
        });
        After::Continue
    }

    fn interrupt(&self, core: u32) -> bool {
        harakiri::interrupt(core)
    }

    fn teardown(&self) {}
}

/// A lock that a panic elsewhere does not make useless: what it protects is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
