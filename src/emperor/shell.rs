//! The emperor's one loop: waits for signals, bytes, changed files, clients and the time, asks the core, and carries out what it says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use imperator_sys::process::monotonic_ms;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::hooks::Hooks;
use imperator_worker::settings::Settings;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::above::{Above, Order};
use super::aside::Asides;
use super::asked::Asked;
use super::command::{Jobs, Server};
use super::core::{Action, Core, Exit, Key, Now};
use super::dashboard::Dashboard;
use super::demand::Demand;
use super::hearing::Chatter;
use super::inquiry::Inquiry;
use super::inside::GoBy;
use super::poller::{Poller, What};
use super::sources::{Monitor, Rules};
use super::taps::Taps;
use super::upgrade::Cause;
use super::watch::Watch;
use crate::config::{Loaded, Mode};
use crate::logs::Logs;
use crate::privileges::Policy;
use crate::stats::StatsServer;
use crate::systemd::{Phase, Systemd};

/// Between two looks at the sources when every change is announced by the kernel.
pub(super) const CALM_SCAN_MS: u64 = 60_000;
/// Hooks that still run when all vassals have ended may take so long.
const LAST_HOOKS_MS: u64 = 10_000;

/// Everything that the loop owns.
pub struct Shell {
    pub(super) settings: Rc<Settings>,
    pub(super) rules: Rules,
    pub(super) hooks: Rc<Hooks>,
    pub(super) core: Core,
    pub(super) poller: Poller,
    pub(super) signals: SignalFd,
    pub(super) sources: Vec<Box<dyn Monitor>>,
    /// What was said about the trouble of each source.
    pub(super) troubles: Vec<Option<String>>,
    pub(super) watch: Option<Watch>,
    pub(super) pipes: BTreeMap<Key, OwnedFd>,
    pub(super) demands: BTreeMap<Key, Demand>,
    pub(super) answers: BTreeMap<Key, (OwnedFd, Vec<u8>)>,
    pub(super) asides: Asides,
    pub(super) stats: Option<StatsServer>,
    /// What vassals say.
    pub(super) taps: Taps,
    /// What they are asked.
    pub(super) inquiry: Inquiry,
    /// Who asks us.
    pub(super) clients: Server,
    pub(super) jobs: Jobs,
    pub(super) dashboard: Option<Dashboard>,
    /// Over which vassals without a file get their text.
    pub(super) configs: BTreeMap<Key, OwnedFd>,
    /// Descriptors of sources that are in the poller.
    pub(super) source_fds: BTreeMap<usize, i32>,
    /// Not part of an instance with other things to do.
    pub(super) is_first: bool,
    /// How many bytes a vassal has sent of its own accord lately.
    pub(super) chatter: BTreeMap<Key, Chatter>,
    /// Of our start, seconds since 1970.
    pub(super) since: i64,
    /// Limit of open descriptors (soft, hard) that vassals get: ours is higher.
    pub(super) descriptors: Option<(u64, u64)>,
    pub(super) above: Option<Above>,
    pub(super) asked: Option<Asked>,
    /// The master of the instance that this is part of: it sends other settings.
    pub(super) instance: Option<SeqPacket>,
    pub(super) systemd: Option<Systemd>,
    /// The binary that vassals are started with, as it was found at our own start.
    pub(super) program: OsString,
    pub(super) namespaces: CloneFlags,
    pub(super) isolation: Option<Policy>,
    pub(super) capabilities: Option<Vec<u32>>,
    /// When to look at the sources at the latest, in `Now::ms`.
    pub(super) scan_at: u64,
    /// Where relative sources count from.
    pub(super) start_dir: PathBuf,
    /// Where this process was started, before any `chdir`.
    pub(super) first_dir: PathBuf,
    pub(super) end: End,
    /// Of an emperor that is nobody's child; others write to what their parent gave them.
    pub(super) logs: Option<Logs>,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    /// Our own emperor wants us to start anew.
    Again,
}

/// What a start in `directory` with our own arguments would read, or what is wrong with that.
pub(super) fn configuration(directory: &std::path::Path) -> Result<Loaded, String> {
    let here = std::env::current_dir().ok();
    let argv: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let env: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let result = std::env::set_current_dir(directory).map_err(|e| e.to_string());
    let result = result.and_then(|()| crate::config::load(&argv, &env).map_err(|e| e.to_string()));
    if let Some(Err(error)) = here.map(std::env::set_current_dir) {
        tracing::warn!("[emperor] cannot go back to where vassals are: {error}");
    }
    result
}

pub fn now() -> Now {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    Now { ms: monotonic_ms(), wall_ms: wall }
}

impl Shell {
    /// Governs until the end.
    pub fn run(mut self) -> anyhow::Result<End> {
        self.reap(); // of a life before this one
        self.scan();
        loop {
            self.tell_systemd();
            let deadline = self.next_deadline();
            let timeout = deadline.map(|at| at.saturating_sub(monotonic_ms()));
            for what in self.poller.wait(timeout).context("epoll")? {
                self.serve(what);
            }
            self.tick();
            if self.core.is_done() && self.asides.is_empty() {
                tracing::info!("[emperor] all vassals have ended");
                return Ok(self.end);
            }
        }
    }

    fn tell_systemd(&mut self) {
        let Some(systemd) = &mut self.systemd else { return };
        let (phase, status) = match (self.core.is_ending(), self.core.governed()) {
            (true, _) => (Phase::Stopping, "The Emperor ends".to_owned()),
            (false, vassals) => (Phase::Ready, format!("The Emperor is governing {vassals} vassals")),
        };
        systemd.update(phase, &status);
        systemd.on_deadline(monotonic_ms());
    }

    fn next_deadline(&self) -> Option<u64> {
        let scan = (!self.core.is_ending()).then_some(self.scan_at);
        let in_ms = |at: Instant| monotonic_ms() + at.saturating_duration_since(Instant::now()).as_millis() as u64 + 1;
        let stats = self.stats.as_ref().and_then(StatsServer::next_deadline).map(in_ms);
        let logs = self.logs.as_ref().and_then(Logs::next_deadline).map(in_ms);
        let watchdog = self.systemd.as_ref().and_then(Systemd::next_deadline);
        let time = now();
        let listening = [self.taps.next_deadline(time.ms), self.inquiry.next_deadline(), self.clients.next_deadline()];
        let sources = self.sources.iter().filter_map(|s| s.next_deadline()).min().filter(|_| !self.core.is_ending());
        let own = [self.core.next_deadline(time), logs, scan, sources, stats, self.asides.next_deadline(), watchdog];
        let viewers = self.dashboard.as_ref().and_then(Dashboard::next_deadline);
        own.into_iter().chain(listening).chain([viewers]).flatten().min()
    }

    fn serve(&mut self, what: What) {
        match what {
            What::Signals => self.take_signals(),
            What::Sources => self.hear_of_files(),
            What::Above => self.hear_from_above(),
            What::Asked => self.hear_question(),
            What::Instance => self.hear_from_instance(),
            What::Stats => self.answer_clients(),
            What::Logs => self.logs.iter_mut().for_each(Logs::on_ready),
            What::Pipe(key) => self.read_pipe(&key),
            What::Demand(key) => self.wake(&key),
            What::Answer(key) => self.read_answer(&key),
            What::Tap(number) => self.hear_lines(number),
            What::Said(key) => self.hear_answer(&key),
            What::Clients => self.serve_clients(),
            What::Dashboard => self.serve_dashboard(),
            What::Source(number) => self.hear_source(number),
        }
    }

    fn tick(&mut self) {
        let time = now();
        let is_source_due = self.sources.iter().filter_map(|s| s.next_deadline()).any(|at| at <= time.ms);
        if !self.core.is_ending() && (self.scan_at <= time.ms || is_source_due) {
            self.scan();
        }
        let actions = self.core.tick(time);
        self.act(actions);
        self.asides.tick(time.ms);
        self.listening_due(time.ms);
        if let Some(stats) = &mut self.stats {
            stats.on_deadline(Instant::now());
        }
        if let Some(logs) = &mut self.logs {
            let outcome = logs.on_deadline(Instant::now());
            outcome.errors.iter().for_each(|t| tracing::warn!("[emperor] {t}"));
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => self.reap(),
                Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => self.begin_end(End::Exit(0)),
                Ok(Signal::SIGHUP) => {
                    // It is done when all vassals were told: how each of them takes it is in `imperator ps`.
                    self.systemd.iter_mut().for_each(Systemd::reloading);
                    let actions = self.core.reload_all(now());
                    self.act(actions);
                }
                Ok(Signal::SIGUSR1) => self.report(),
                Ok(Signal::SIGURG) => {
                    let actions = self.core.pardon(now());
                    self.act(actions);
                }
                Ok(Signal::SIGWINCH) => self.scan(),
                Ok(Signal::SIGUSR2) => drop(self.become_next(Cause::Upgrade, None)),
                _ => {}
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            if self.asides.ended(pid.as_raw(), exit) {
                continue;
            }
            // What the vassal said last counts: it may have served a request.
            if let Some(key) = self.core.key_of(pid.as_raw()) {
                self.read_pipe(&key);
                self.hear_rest(&key);
            }
            let actions = self.core.exited(now(), pid.as_raw(), exit);
            self.act(actions);
        }
    }

    pub(super) fn begin_end(&mut self, end: End) {
        if self.core.is_ending() {
            return;
        }
        self.end = end;
        tracing::info!("[emperor] the end: stopping all vassals");
        let actions = self.core.end(now());
        self.act(actions);
        self.asides.hurry(monotonic_ms() + self.core.policy.end_mercy_ms + LAST_HOOKS_MS);
    }

    /// SIGUSR1.
    fn report(&self) {
        for (key, v) in &self.core.vassals {
            let face = &v.face;
            let (status, loyal, zerg) = (v.pid().is_some() as u8, face.loyal as u8, (key.zerg > 0) as u8);
            let state = super::stats::state(v).unwrap_or("waiting");
            tracing::info!(
                "[emperor] vassal instance {key} (last modified {}) status {status} loyal {loyal} zerg {zerg} ({state})",
                face.last_mod
            );
        }
    }

    fn wake(&mut self, key: &Key) {
        if let Some(demand) = self.demands.get(key) {
            self.poller.remove(demand.fd.as_fd());
        }
        let actions = self.core.wake(key);
        self.act(actions);
    }

    fn hear_of_files(&mut self) {
        let time = now();
        if self.watch.as_mut().is_some_and(|w| w.read(time.ms)) {
            self.scan_at = self.scan_at.min(time.ms + super::core::QUIET_MS);
        }
    }

    fn hear_from_above(&mut self) {
        let order = self.above.as_mut().map(Above::read);
        match order {
            Some(Order::Stop) => self.begin_end(End::Exit(0)),
            Some(Order::Reload) => self.reload(),
            Some(Order::Gone) => {
                if let Some(above) = &self.above {
                    self.poller.remove(above.fd());
                }
                self.begin_end(End::Exit(1));
            }
            Some(Order::Nothing) | None => {}
        }
    }

    /// Other settings; if they cannot be taken, what runs goes on with those that it has.
    fn hear_from_instance(&mut self) {
        let Some(instance) = &self.instance else { return };
        match instance.recv::<GoBy>() {
            Ok(Some(mut packet)) => drop(packet.fds.pop().map(|boot| self.become_next(Cause::Reload, Some(boot)))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => self.poller.remove(instance.as_fd()), // its death is ours, by the kernel's hand
        }
    }

    /// Our own emperor wants us to read our configuration anew. Vassals run on, unless this is to be no emperor any more.
    fn reload(&mut self) {
        match configuration(&self.first_dir) {
            Ok(loaded) if loaded.mode == Mode::Emperor => drop(self.become_next(Cause::Reload, None)),
            Ok(_) => return self.begin_end(End::Again),
            Err(error) => tracing::error!("[emperor] reload refused, nothing changes: the configuration has errors\n{error}"),
        }
        self.above.iter().for_each(Above::report);
    }

    /// Carries out what the core decided, and what comes of that.
    pub(super) fn act(&mut self, actions: Vec<Action>) {
        let mut queue: std::collections::VecDeque<Action> = actions.into();
        while let Some(action) = queue.pop_front() {
            queue.extend(self.carry_out(action));
        }
    }
}
