//! What the master counts of its workers' ends and its reloads, over all generations.

use std::collections::BTreeMap;
use std::fmt;

use imperator_sys::process::monotonic_ms;
use imperator_worker::control::exit;
use imperator_worker::scoreboard::{Scoreboard, WorkerCell};
use imperator_worker::settings::Limits;
use nix::libc::SIGKILL;
use serde::{Deserialize, Serialize};

use super::decide::{How, Life, Ms, Reason, Running};
use super::running::Master;
use super::setup::epoch;
use crate::stats::Extra;

/// Bytes that are kept of an error text.
const TEXT: usize = 500;

/// Why a worker's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// By a signal that was not ours.
    Signal(i32),
    /// With a code that means nothing.
    Exit(i32),
    /// Before it was up.
    Vanished,
    LoadFailed,
    /// `reload-on-exception`.
    Exception,
    Harakiri,
    MaxRequests,
    /// `reload-on-as`, `reload-on-rss`.
    Memory,
    /// `evil-reload-on-as`, `evil-reload-on-rss`.
    EvilMemory,
    /// `max-worker-lifetime`.
    Lifetime,
    Cheaper,
    /// A newer generation took over.
    Reload,
    /// The workers alone were reloaded: FIFO `w`, chain reload.
    WorkersReload,
    /// Somebody signalled the worker itself, or its app did.
    Asked,
    /// The instance ends.
    Stop,
}

/// Those that are always shown, so that the first one is a change from 0.
const SHOWN: [Cause; 11] = [
    Cause::Vanished,
    Cause::LoadFailed,
    Cause::Exception,
    Cause::Harakiri,
    Cause::MaxRequests,
    Cause::Memory,
    Cause::EvilMemory,
    Cause::Lifetime,
    Cause::Cheaper,
    Cause::Reload,
    Cause::WorkersReload,
];

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal(number) => return write!(f, "signal {number}"),
            Self::Exit(code) => return write!(f, "exit {code}"),
            Self::Vanished => "vanished",
            Self::LoadFailed => "load_failed",
            Self::Exception => "exception",
            Self::Harakiri => "harakiri",
            Self::MaxRequests => "max_requests",
            Self::Memory => "memory",
            Self::EvilMemory => "evil_memory",
            Self::Lifetime => "lifetime",
            Self::Cheaper => "cheaper",
            Self::Reload => "reload",
            Self::WorkersReload => "workers_reload",
            Self::Asked => "asked",
            Self::Stop => "stop",
        })
    }
}

/// What a worker had reached when it ended, by its own account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    pub max_requests: bool,
    pub memory: bool,
}

impl Reached {
    /// To be read before the worker's cells are cleared.
    pub fn of(board: &Scoreboard, worker: u32, limits: &Limits) -> Self {
        let Some(slot) = board.worker(worker) else { return Self::default() };
        let over = |cell, mib: u64| mib > 0 && slot.get(cell) >= mib << 20;
        Self {
            max_requests: limits.max_requests > 0 && slot.get(WorkerCell::DeltaRequests) >= limits.max_requests,
            memory: over(WorkerCell::Vsz, limits.reload_on_as_mib) || over(WorkerCell::Rss, limits.reload_on_rss_mib),
        }
    }
}

/// The cause of an end. `running` is what was known of the process; `None`: it was never up.
pub fn cause(running: Option<&Running>, how: How, ending: bool, reached: Reached, now: Ms) -> Cause {
    let leaving = running.and_then(|r| r.leaving.as_ref());
    let old = running.is_some_and(|r| r.recycle_at.is_some_and(|at| at <= now));
    match (leaving.map(|l| l.reason), how) {
        _ if ending => Cause::Stop,
        (Some(Reason::Harakiri), _) => Cause::Harakiri,
        (Some(Reason::Cheaper), _) | (None, How::Exited(exit::CHEAP)) => Cause::Cheaper,
        (Some(Reason::Drain | Reason::Hold), _) => Cause::Reload,
        (Some(Reason::Replace), _) if leaving.is_some_and(|l| l.signal == SIGKILL) => Cause::EvilMemory,
        (Some(Reason::Replace), _) if old => Cause::Lifetime,
        (Some(Reason::Replace), _) => Cause::WorkersReload,
        (None, How::Killed(signal)) => Cause::Signal(signal),
        (None, How::Exited(exit::RELOAD)) if reached.max_requests => Cause::MaxRequests,
        (None, How::Exited(exit::RELOAD)) if reached.memory => Cause::Memory,
        (None, How::Exited(exit::RELOAD | exit::END | exit::QUIET)) => Cause::Asked,
        (None, How::Exited(exit::EXCEPTION)) => Cause::Exception,
        (None, How::Exited(exit::FAILED_APP)) => Cause::LoadFailed,
        (None, How::Exited(code)) => Cause::Exit(code),
        (None, How::Vanished) => Cause::Vanished,
    }
}

/// The counts; handed over by a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    respawns: BTreeMap<String, u64>,
    reloads: u64,
    failed_reloads: u64,
    last_reload_error: String,
    last_death: String,
    last_death_at: u64,
}

impl Tally {
    fn ended(&mut self, worker: u32, pid: i32, cause: Cause) {
        *self.respawns.entry(cause.to_string()).or_default() += 1;
        if matches!(cause, Cause::Signal(_) | Cause::Exit(_) | Cause::Vanished | Cause::LoadFailed | Cause::Harakiri | Cause::EvilMemory) {
            self.last_death = format!("worker {worker} (pid {pid}): {cause}");
            self.last_death_at = epoch();
        }
    }

    /// A newer generation took over.
    pub fn reloaded(&mut self) {
        self.reloads += 1;
        self.last_reload_error.clear();
    }

    /// The generation of before goes on.
    pub fn reload_failed(&mut self, why: &str) {
        self.failed_reloads += 1;
        let end = why.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= TEXT).last().unwrap_or(0);
        why[..end].clone_into(&mut self.last_reload_error);
    }

    /// As statistics say it.
    pub fn extra(&self, generation: u64, started_at: u64) -> Extra {
        let mut respawns: BTreeMap<String, u64> = SHOWN.iter().map(|cause| (cause.to_string(), 0)).collect();
        respawns.extend(self.respawns.clone());
        Extra {
            version: env!("CARGO_PKG_VERSION").into(),
            generation,
            started_at,
            reloads: self.reloads,
            failed_reloads: self.failed_reloads,
            last_reload_error: self.last_reload_error.clone(),
            respawns,
            last_death: self.last_death.clone(),
            last_death_at: self.last_death_at,
        }
    }
}

impl Master {
    /// Counts the end of a worker, while everything about it is still known.
    pub(super) fn tally_end(&mut self, generation: u64, worker: u32, how: How) {
        let Some(runtime) = self.runtimes.get(&generation) else { return };
        let reached = Reached::of(&runtime.scoreboard, worker, &runtime.settings.limits);
        let known = self.instance.generations.iter().find(|g| g.number == generation);
        let Some(slot) = known.and_then(|g| g.workers.iter().find(|slot| slot.id == worker)) else { return };
        if !matches!(slot.life, Life::Running(_) | Life::Forking) {
            return;
        }
        let cause = cause(slot.running(), how, self.instance.ending.is_some(), reached, monotonic_ms());
        let pid = slot.running().map_or(0, |running| running.pid);
        self.tally.ended(worker, pid, cause);
    }
}

#[cfg(test)]
mod tests {
    use super::super::decide::Leaving;
    use super::*;
    use nix::libc::SIGHUP;

    fn running(leaving: Option<(Reason, i32)>, recycle_at: Option<Ms>) -> Running {
        let leaving = leaving.map(|(reason, signal)| Leaving { reason, signal, kill_at: None });
        Running { pid: 9, since: 0, accepting: true, recycle_at, leaving, struck: vec![], traced: None }
    }

    #[test]
    fn every_end_has_its_cause() {
        let none = Reached::default();
        let of = |leaving, recycle_at, how, reached| cause(Some(&running(leaving, recycle_at)), how, false, reached, 100);
        assert_eq!(of(None, None, How::Killed(9), none), Cause::Signal(9));
        assert_eq!(of(None, None, How::Exited(1), none), Cause::Exit(1));
        assert_eq!(of(None, None, How::Exited(exit::RELOAD), none), Cause::Asked);
        assert_eq!(of(None, None, How::Exited(exit::RELOAD), Reached { max_requests: true, memory: true }), Cause::MaxRequests);
        assert_eq!(of(None, None, How::Exited(exit::RELOAD), Reached { memory: true, ..none }), Cause::Memory);
        assert_eq!(of(None, None, How::Exited(exit::EXCEPTION), none), Cause::Exception);
        assert_eq!(of(Some((Reason::Harakiri, 0)), None, How::Killed(9), none), Cause::Harakiri);
        assert_eq!(of(Some((Reason::Replace, SIGKILL)), None, How::Killed(9), none), Cause::EvilMemory);
        assert_eq!(of(Some((Reason::Replace, SIGHUP)), Some(100), How::Exited(17), none), Cause::Lifetime);
        assert_eq!(of(Some((Reason::Replace, SIGHUP)), Some(101), How::Exited(17), none), Cause::WorkersReload);
        assert_eq!(of(Some((Reason::Drain, SIGHUP)), None, How::Exited(17), none), Cause::Reload);
        assert_eq!(of(Some((Reason::Cheaper, SIGHUP)), None, How::Exited(17), none), Cause::Cheaper);
        assert_eq!(cause(None, How::Vanished, false, none, 0), Cause::Vanished);
        assert_eq!(cause(Some(&running(None, None)), How::Killed(9), true, none, 0), Cause::Stop);
    }

    #[test]
    fn counts_live_through_a_hand_over_and_texts_are_bounded() {
        let mut tally = Tally::default();
        tally.ended(1, 77, Cause::Signal(11));
        tally.ended(1, 78, Cause::Cheaper);
        tally.reload_failed(&"é".repeat(TEXT));
        let text = serde_json::to_string(&tally).expect("json");
        let extra = serde_json::from_str::<Tally>(&text).expect("back").extra(3, 10);
        assert_eq!((extra.respawns["signal 11"], extra.respawns["cheaper"], extra.respawns["harakiri"]), (1, 1, 0));
        assert_eq!(
            (extra.last_death.as_str(), extra.failed_reloads, extra.last_reload_error.len()),
            ("worker 1 (pid 77): signal 11", 1, TEXT)
        );
        tally.reloaded();
        assert_eq!((tally.extra(4, 10).last_reload_error, tally.extra(4, 10).reloads), (String::new(), 1));
    }

    #[test]
    fn what_a_worker_reached_is_its_own_word() {
        let board = Scoreboard::create(1, 1).expect("memfd");
        let limits = Limits { max_requests: 5, reload_on_rss_mib: 1, ..Limits::default() };
        assert_eq!(Reached::of(&board, 1, &limits), Reached::default());
        let slot = board.worker(1).expect("worker");
        slot.cell(WorkerCell::DeltaRequests).store(5, std::sync::atomic::Ordering::Relaxed);
        slot.cell(WorkerCell::Rss).store(1 << 20, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(Reached::of(&board, 1, &limits), Reached { max_requests: true, memory: true });
        assert_eq!(Reached::of(&board, 7, &limits), Reached::default());
    }
}
