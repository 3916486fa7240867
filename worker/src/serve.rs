//! The entrance: a worker's life from its first request to its exit code.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use imperator_sys::signals;

use crate::control::{Boot, FromWorker, Role, exit};
use crate::language::Language;
use crate::link::Link;
use crate::log::diag;
use crate::scoreboard::{Scoreboard, Status, WorkerCell};
use crate::shared::Shared;
use crate::thread;
use crate::watchdog;

/// Bytes. It calls no language, and formats one line.
const WATCHDOG_STACK: usize = 128 * 1024;

/// What a worker is started with.
pub struct WorkerConfig {
    pub boot: Arc<Boot>,
    /// Its number, from 1.
    pub worker: u32,
    /// The listening sockets of `boot.listeners`, in that order.
    pub listeners: Vec<OwnedFd>,
    pub scoreboard: Scoreboard,
    /// `None` with `master = false`.
    pub link: Option<Arc<Link>>,
    /// Takes the request lines; `None`: descriptor 2. When the log is reopened, what is behind it changes.
    pub request_log: Option<OwnedFd>,
}

impl WorkerConfig {
    /// The exit code of a stop at once: the master knows 30, a user who has no master expects 0.
    pub(crate) fn stop_code(&self) -> i32 {
        if self.boot.role == Role::Single { 0 } else { exit::END }
    }
}

/// Serves until a signal, the master, a limit or the app ends it; the value is the exit code of the process. The app is
/// loaded before (with `lazy-apps` too); the calling thread becomes request thread 0, `threads` - 1 others are started.
///
/// [`FromWorker::Started`] is the caller's to send, before the load; `Accepting` and `Loyal` are sent here.
pub fn serve(config: WorkerConfig, language: &dyn Language) -> i32 {
    match run(&config, language) {
        Ok(code) => code,
        Err(error) => {
            diag::say(&format!("worker {} cannot serve: {error}", config.worker));
            exit::RELOAD
        }
    }
}

fn run(config: &WorkerConfig, language: &dyn Language) -> io::Result<i32> {
    diag::install(config.boot.settings.log.date.as_deref());
    let stop_code = config.stop_code();
    let wake = signals::install(stop_code)?;
    let shared = Shared::new(config, language, wake, stop_code)?;
    shared.slot.cell(WorkerCell::DeltaRequests).store(0, Relaxed);
    shared.slot.cell(WorkerCell::Connections).store(0, Relaxed);
    shared.slot.cell(WorkerCell::Status).store(Status::Idle as u64, Relaxed);
    language.enter_thread(0);
    let _ = imperator_sys::memory::settle(); // what the start needed; without /proc nothing can be done
    std::thread::scope(|scope| -> io::Result<()> {
        for core in 1..config.boot.settings.process.threads.max(1) {
            if let Err(error) = spawn(scope, &shared, core) {
                shared.finish(exit::RELOAD);
                return Err(error);
            }
        }
        if watchdog::wanted(shared.settings) {
            watchdog::begin();
            let watch = || watchdog::watch(scope, &shared);
            let spawned = std::thread::Builder::new().name("watchdog".into()).stack_size(WATCHDOG_STACK).spawn_scoped(scope, watch);
            if let Err(error) = spawned {
                diag::say(&format!("harakiri has no thread here, and ends whole workers: {error}"));
            }
        }
        shared.open();
        if let Some(link) = &config.link {
            link.tell(&FromWorker::Accepting { apps: language.apps() });
        }
        thread::run(&shared, 0);
        watchdog::end();
        Ok(())
    })?;
    shared.slot.cell(WorkerCell::Accepting).store(0, Relaxed);
    language.leave_thread(0);
    if !config.boot.settings.process.skip_atexit {
        language.teardown();
    }
    Ok(shared.exit_code())
}

fn spawn<'scope>(scope: &'scope std::thread::Scope<'scope, '_>, shared: &'scope Shared<'_>, core: u32) -> io::Result<()> {
    let mut builder = std::thread::Builder::new().name(format!("core {core}"));
    let stack = shared.config.boot.settings.process.threads_stacksize_kib as usize;
    if stack > 0 {
        builder = builder.stack_size(stack * 1024);
    }
    builder.spawn_scoped(scope, move || {
        shared.language.enter_thread(core);
        thread::run(shared, core);
        shared.language.leave_thread(core);
    })?;
    Ok(())
}
