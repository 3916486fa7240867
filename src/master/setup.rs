//! From a configuration to a running master, the first time and after a reload's exec.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use imperator_worker::log::diag::say;
use imperator_worker::procname;
use imperator_worker::settings::Settings;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};

use super::daemon::{self, Waiting};
use super::handover::State;
use super::running::Master;
use super::{Prepared, Start, handover, shim, signals, single};
use crate::config::reader::from_emperor;
use crate::config::{self, Loaded};
use crate::hooks::{Effects, Hooks};
use crate::identity::{Moment, write_pidfiles};
use crate::logs::Logs;
use crate::privileges::{join_cgroups, report, take_at_once, wants_pid_namespace};
use crate::sockets::{self, Bound, Inherited, backlog, bind_all};

/// uWSGI's version that we are compatible with: tools read it from the first line.
pub const UWSGI_VERSION: &str = "2.0.30";

/// A master that has all it needs for its next generation.
///
/// Starting is two steps, so that what was on the stack in the first, much of it settings in one form or another, is not below the loop, the
/// zygote and its workers for the rest of their lives.
pub struct Ready {
    master: Master,
    /// Why not: after an exec only, and the generation of before serves on.
    next: Result<Next>,
    is_resumed: bool,
}

/// What a generation starts with.
struct Next {
    settings: Rc<Settings>,
    listeners: Vec<Bound>,
    brutal: bool,
    effects: Effects,
}

impl Ready {
    /// Starts the generation, and runs until everything has ended; the exit code.
    ///
    /// # Errors
    /// At a first start, what stops it; else the kernel's.
    pub fn run(mut self: Box<Self>) -> Result<i32> {
        let begun = std::mem::replace(&mut self.next, Err(anyhow::anyhow!("begun already"))).and_then(|next| {
            self.master.begin(next.settings, next.listeners, next.brutal)?;
            self.master.effects(&next.effects);
            Ok(())
        });
        match begun {
            Err(error) if self.is_resumed => self.master.stay(&error),
            begun => begun?,
        }
        self.master.serve()
    }
}

/// A first start.
#[inline(never)]
pub fn first(settings: Settings, start: &Start) -> Result<Prepared> {
    let signals = signals::open()?;
    take_at_once(&settings.privileges)?;
    imperator_sys::process::cloexec_from_3()?;
    let inherited = inherited(&settings, start);
    let vassal = start.var(super::vassal::FD_ENV).is_some();
    let waiting = if vassal { Waiting::default() } else { daemon::detach(&settings)? };
    let python = if wants_pid_namespace(&settings) && settings.wants_python() { shim::behind(&settings, start) } else { None };
    daemon::enter_pid_namespace(&settings, &signals)?;
    let role = single::role(&settings, vassal);
    let mut settings = if role.is_some() { single::without_log_master(&settings) } else { settings };
    settings.python.bin = python.map(|p| p.display().to_string()).or(settings.python.bin);
    std::env::set_current_dir(&start.directory)?;
    imperator_worker::log::diag::install(settings.log.date.as_deref());
    mask(&settings); // log files are made with it, too
    let logs = Logs::open(&settings, vec![])?;
    banner();
    let hooks = Hooks::parse(&settings.hooks)?;
    let effects = hooks.run("asap")?;
    if let Some(code) = effects.exit {
        return Ok(Prepared::Ended(code));
    }
    let groups = surroundings(&settings, start)?;
    let start = &still_ours(start, &inherited);
    let listeners = listen(&settings, &[], &inherited)?;
    free_standard_input(&settings)?;
    write_pidfiles(&settings.process, Moment::Early, std::process::id() as i32)?;
    let effects = effects.go_on(|| hooks.run("pre-jail"))?;
    if let Some(code) = effects.exit {
        return Ok(Prepared::Ended(code));
    }
    if let Some(role) = role {
        return single::become_interpreter(role, &settings, start, &listeners, &logs, epoch()).map(Prepared::Ended);
    }
    write_pidfiles(&settings.process, Moment::Later, std::process::id() as i32)?;
    prctl::set_name(c"master")?;
    prctl::set_child_subreaper(true)?;
    procname::apply(&settings.process, "master");
    let mut master = Master::new(start.clone(), signals, logs, epoch())?;
    master.waiting = waiting;
    master.vacuum.groups(groups);
    master.join_emperor()?;
    imperator_sys::process::trim_heap(); // reading the configuration needed more than the zygote is to inherit
    let next = Next { settings: Rc::new(settings), listeners, brutal: false, effects };
    Ok(Prepared::Ready(Box::new(Ready { master, next: Ok(next), is_resumed: false })))
}

/// The same process after its exec: the generations of before run on, and a new one is started beside them if the configuration allows.
#[inline(never)]
pub fn again(number: &str, start: &Start) -> Result<Box<Ready>> {
    let signals = signals::open()?;
    let mut state = handover::receive(number)?;
    let brutal = state.brutal;
    let start = Start { env: without_state(start, state.reloads), binary: state.binary.clone(), ..start.clone() };
    prctl::set_name(c"master")?;
    from_emperor::remember(state.emperor_text.take());
    let given = state.generations.last().map(|held| sockets::given(held.listeners.iter().map(|(_, label)| label), &held.settings));
    let loaded =
        load(&start, given.is_some_and(|given| !given.is_empty())).map_err(|e| anyhow::anyhow!("the configuration has errors:\n{e}"));
    let newest = state.generations.last().map(|held| held.settings.clone()).unwrap_or_default();
    imperator_worker::log::diag::install(loaded.as_ref().map_or(&newest, |l| &l.settings).log.date.as_deref());
    say(&format!("gracefully (RE)spawned uWSGI master process (pid: {})", std::process::id()));
    let logs = logs_again(&mut state, loaded.as_ref().map_or(&newest, |l| &l.settings), &newest)?;
    let mut master = Master::resume(start.clone(), signals, logs, state)?;
    if loaded.as_ref().map_or(&newest, |l| &l.settings).log.reopen {
        master.reopen_logs(false);
    }
    let next = loaded.and_then(|loaded| next_generation(&mut master, &start, loaded, brutal));
    Ok(Box::new(Ready { master, next, is_resumed: true }))
}

/// The logs of the new settings, or if they cannot be had, those of before.
fn logs_again(state: &mut State, settings: &Settings, old: &Settings) -> Result<Logs> {
    let handed = std::mem::take(&mut state.logs).into_iter().map(|(name, fd)| Ok((name, handover::take(fd)?)));
    let handed: Vec<(String, OwnedFd)> = handed.collect::<Result<_>>()?;
    let copies = handed.iter().map(|(name, fd)| Ok((name.clone(), fd.try_clone()?))).collect::<std::io::Result<_>>()?;
    match Logs::open(settings, handed) {
        Ok(logs) => Ok(logs),
        Err(error) => {
            say(&format!("logs stay as they are: {error}"));
            Ok(Logs::open(old, copies)?)
        }
    }
}

fn next_generation(master: &mut Master, start: &Start, loaded: Loaded, brutal: bool) -> Result<Next> {
    loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let effects = Hooks::parse(&loaded.settings.hooks)?.run("asap")?;
    master.vacuum.groups(surroundings(&loaded.settings, start)?);
    let listeners = listen(&loaded.settings, &master.listeners(), &master.inherited_again())?;
    Ok(Next { settings: Rc::new(loaded.settings), listeners, brutal, effects })
}

/// The configuration as a start in the original directory would read it. `listens`: on sockets that it does not name.
pub fn load(start: &Start, listens: bool) -> Result<Loaded, String> {
    std::env::set_current_dir(&start.directory).map_err(|e| format!("cannot go back to {}: {e}", start.directory.display()))?;
    config::load_beside(&start.argv, &start.env, listens).map_err(|e| e.to_string())
}

fn without_state(start: &Start, reloads: u64) -> Vec<(String, String)> {
    let mut env = start.env.clone();
    env.retain(|(key, _)| key != super::STATE_ENV && key != super::RELOADS_ENV);
    env.push((super::RELOADS_ENV.into(), reloads.to_string()));
    env
}

fn banner() {
    let mut date = vec![];
    imperator_sys::localtime::strftime(c"%a %b %e %H:%M:%S %Y", epoch() as i64, &mut date);
    let date = String::from_utf8_lossy(&date);
    say(&format!("*** Starting uWSGI {UWSGI_VERSION} (64bit) on [{date}] ***"));
    say(&format!("this is Imperator {}", env!("CARGO_PKG_VERSION")));
}

/// What of the process the settings change for everything that follows; the control groups that were made for it.
fn surroundings(settings: &Settings, start: &Start) -> Result<Vec<PathBuf>> {
    mask(settings);
    std::env::set_current_dir(&start.directory)?;
    if let Some(directory) = &settings.process.chdir {
        std::env::set_current_dir(directory).with_context(|| format!("chdir = {directory}"))?;
    }
    if let Some(nice) = settings.process.nice {
        imperator_sys::process::renice(nice).with_context(|| format!("prio = {nice}"))?;
    }
    report(settings)?;
    join_cgroups(&settings.privileges)
}

fn mask(settings: &Settings) {
    if let Some(mask) = settings.socket_options.umask {
        umask(Mode::from_bits_truncate(mask));
    }
}

/// This process may be another one than systemd has started (`daemonize`, a namespace of pids): the sockets are its own all the same, also to its
/// reloads.
fn still_ours(start: &Start, inherited: &[Inherited]) -> Start {
    let mut start = start.clone();
    if inherited.iter().any(|socket| socket.fd != 0) {
        let pid = std::process::id().to_string();
        start.env.iter_mut().filter(|(key, _)| key == "LISTEN_PID").for_each(|(_, value)| value.clone_from(&pid));
    }
    start
}

fn inherited(settings: &Settings, start: &Start) -> Vec<Inherited> {
    let mut found = Inherited::from_systemd(&start.env, std::process::id());
    if !settings.process.honour_stdin && !settings.socket_options.skip_zero {
        found.extend(Inherited::from_standard_input());
    }
    found
}

fn listen(settings: &Settings, kept: &[Bound], inherited: &[Inherited]) -> Result<Vec<Bound>> {
    let listeners = bind_all(settings, kept, inherited)?;
    for (number, bound) in listeners.iter().enumerate().filter(|(_, b)| !kept.iter().any(|k| k.label.key == b.label.key)) {
        say(&format!("uwsgi socket {number} {}", bound.label));
    }
    if kept.is_empty() && !listeners.is_empty() {
        say(&format!("your server socket listen backlog is limited to {} connections", backlog(settings.socket_options.backlog)?));
    }
    Ok(listeners)
}

/// Apps read nothing from a terminal or a socket that is ours.
fn free_standard_input(settings: &Settings) -> Result<()> {
    if !settings.process.honour_stdin {
        let null = std::fs::File::open(Path::new("/dev/null"))?;
        imperator_sys::process::redirect(std::os::fd::AsFd::as_fd(&null), 0)?;
    }
    Ok(())
}

/// Seconds since 1970.
pub fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
