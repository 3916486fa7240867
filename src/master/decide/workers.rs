//! One worker: started, asked to go, gone, started again.

use imperator_worker::control::exit;
use nix::libc::{SIGHUP, SIGINT, SIGKILL, SIGUSR2};
use serde::{Deserialize, Serialize};

use super::generation::{Stage, pause};
use super::{Action, Instance, Ms, recycle_after};

/// A worker that lived shorter than this without being asked to go counts as having died at once.
const QUICK: Ms = 1000;
/// Deaths at once of a reload's workers after which the reload is given up.
const LOADING_DEATHS: u32 = 5;
/// What a worker that does not accept yet may take to go: it has no request to finish, and perhaps an app that never finishes to load.
const LOADING_MERCY: Ms = 1000;
/// From the request for a stack trace to the kill.
const TRACE_TIME: Ms = 200;
/// Between two requests for stacks.
const TRACE_APART: Ms = 100;

/// A place for a worker, of a fixed number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// From 1.
    pub id: u32,
    pub life: Life,
    /// Deaths at once, one after the other.
    pub quick_deaths: u32,
    /// Processes that there were.
    pub lives: u32,
    /// Requests that took too long.
    pub harakiris: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Life {
    /// No process, none wanted.
    Cheap,
    /// One is wanted, from then on.
    Waiting {
        until: Ms,
    },
    /// The zygote was told to.
    Forking,
    Running(Running),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub pid: i32,
    pub since: Ms,
    pub accepting: bool,
    /// `max-worker-lifetime`.
    pub recycle_at: Option<Ms>,
    pub leaving: Option<Leaving>,
    /// Core and deadline of requests that were over their time.
    #[serde(default)]
    pub struck: Vec<(u32, Ms)>,
    /// When it was last asked for its stacks.
    #[serde(default)]
    pub traced: Option<Ms>,
}

/// It was asked to go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    pub reason: Reason,
    pub signal: i32,
    /// `None`: it was killed already.
    pub kill_at: Option<Ms>,
}

/// Why a worker was asked to go, which says what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Its generation is over.
    Drain,
    /// Another one takes its place.
    Replace,
    /// There are more than needed.
    Cheaper,
    /// Its request took too long.
    Harakiri,
    /// A brutal reload: it comes back only if the new generation fails.
    Hold,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    Exited(i32),
    /// By that signal.
    Killed(i32),
    /// Before it told its pid.
    Vanished,
}

impl Leaving {
    pub(super) fn new(reason: Reason, signal: i32, kill_at: Ms) -> Self {
        Self { reason, signal, kill_at: (signal != SIGKILL).then_some(kill_at) }
    }
}

impl Slot {
    pub(super) fn new(id: u32, life: Life) -> Self {
        Self { id, life, quick_deaths: 0, lives: 0, harakiris: 0 }
    }

    pub fn running(&self) -> Option<&Running> {
        if let Life::Running(running) = &self.life { Some(running) } else { None }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        if let Life::Running(running) = &mut self.life { Some(running) } else { None }
    }

    /// Whether it counts as a worker that there is or will be.
    pub fn wanted(&self) -> bool {
        match &self.life {
            Life::Cheap => false,
            Life::Running(running) => running.leaving.as_ref().is_none_or(|l| matches!(l.reason, Reason::Replace | Reason::Harakiri)),
            Life::Waiting { .. } | Life::Forking => true,
        }
    }
}

impl Running {
    /// Asks it to go. Who was asked already is only asked anew if that is more pressing.
    pub(super) fn leave(&mut self, mut leaving: Leaving, now: Ms, out: &mut Vec<Action>) {
        if !self.accepting {
            leaving.kill_at = leaving.kill_at.map(|at| at.min(now + LOADING_MERCY));
        }
        if let Some(old) = &mut self.leaving {
            let sooner = old.kill_at.is_some_and(|old| leaving.kill_at.is_none_or(|new| new < old));
            if old.signal == leaving.signal || !sooner {
                if old.reason != Reason::Harakiri {
                    old.reason = leaving.reason;
                }
                return;
            }
        }
        out.push(Action::Signal { pid: self.pid, signal: leaving.signal });
        self.leaving = Some(leaving);
    }

    /// If it was asked to go before that was known, it may have a request by now, which gets its full time.
    fn now_accepts(&mut self, now: Ms, mercy: Ms) {
        let before = std::mem::replace(&mut self.accepting, true);
        let leaving = self.leaving.as_mut().filter(|l| !before && l.reason != Reason::Harakiri);
        if let Some(at) = leaving.and_then(|l| l.kill_at.as_mut()) {
            *at = now + mercy;
        }
    }

    pub(super) fn kill_overdue(&mut self, worker: u32, now: Ms, out: &mut Vec<Action>) {
        let pid = self.pid;
        let Some(leaving) = self.leaving.as_mut().filter(|l| l.kill_at.is_some_and(|at| at <= now)) else { return };
        leaving.kill_at = None;
        if leaving.reason != Reason::Harakiri {
            out.push(Action::Log(format!("worker {worker} (pid: {pid}) did not end in time: killing it")));
        }
        out.push(Action::Signal { pid, signal: SIGKILL });
    }
}

impl Instance {
    pub(super) fn started(&mut self, generation: u64, worker: u32, pid: i32, now: Ms, out: &mut Vec<Action>) {
        let (ending, paused) = (self.ending.clone(), self.paused);
        let Some(g) = self.generation(generation) else { return };
        let (policy, stage, held) = (g.policy.clone(), g.stage, g.held);
        let Some(slot) = g.workers.iter_mut().find(|s| s.id == worker) else { return };
        if slot.life != Life::Forking {
            return; // said twice: an app's doing, of no consequence
        }
        slot.lives += 1;
        let recycle_at = recycle_after(&policy, worker, pid).map(|after| now + after);
        let mut running = Running { pid, since: now, accepting: false, recycle_at, leaving: None, struck: vec![], traced: None };
        let cores = policy.cores;
        out.push(Action::Log(match slot.lives {
            1 => format!("spawned uWSGI worker {worker} (pid: {pid}, cores: {cores})"),
            _ => format!("Respawned uWSGI worker {worker} (new pid: {pid})"),
        }));
        // What was decided while it was on its way.
        if let Some(ending) = ending {
            running.leave(Leaving::new(Reason::Drain, ending.signal(), now + ending.mercy(policy.mercy)), now, out);
        } else if stage == Stage::Draining {
            running.leave(Leaving::new(Reason::Drain, SIGHUP, now + policy.mercy), now, out);
        } else if held {
            running.leave(Leaving::new(Reason::Hold, SIGINT, now + policy.mercy), now, out);
        } else if paused {
            out.push(Action::Pause { generation, worker, pause: true });
        }
        slot.life = Life::Running(running);
    }

    pub(super) fn accepting(&mut self, generation: u64, worker: u32, now: Ms, out: &mut Vec<Action>) {
        let ending = self.ending.clone();
        let Some(g) = self.generation(generation) else { return };
        let mercy = ending.map_or(g.policy.mercy, |e| e.mercy(g.policy.mercy));
        if let Some(running) = g.workers.iter_mut().find(|s| s.id == worker).and_then(Slot::running_mut) {
            running.now_accepts(now, mercy);
        }
        if self.ending.is_none() {
            self.take_over(generation, now, out);
        }
    }

    pub(super) fn worker_gone(&mut self, generation: u64, worker: u32, how: How, now: Ms, out: &mut Vec<Action>) {
        let ending = self.ending.is_some();
        let Some(g) = self.generation(generation) else { return };
        let (stage, held, longest) = (g.stage, g.held, g.policy.backoff);
        let Some(slot) = g.workers.iter_mut().find(|s| s.id == worker) else { return };
        let before = std::mem::replace(&mut slot.life, Life::Cheap);
        let (pid, lived, accepted, reason) = match &before {
            Life::Running(r) => (r.pid, now.saturating_sub(r.since), r.accepting, r.leaving.as_ref().map(|l| l.reason)),
            Life::Forking => (0, 0, false, None),
            Life::Cheap | Life::Waiting { .. } => {
                slot.life = before;
                return;
            }
        };
        if let Some(text) = obituary(worker, pid, how, reason) {
            out.push(Action::Log(text));
        }
        if ending || stage == Stage::Draining || reason == Some(Reason::Cheaper) || no_successor(how) {
            return;
        }
        let expected = matches!(reason, Some(Reason::Replace | Reason::Hold)) || how == How::Exited(exit::RELOAD);
        slot.quick_deaths = if expected || (accepted && lived >= QUICK) { 0 } else { slot.quick_deaths + 1 };
        let deaths = slot.quick_deaths;
        slot.life = Life::Waiting { until: if held { 0 } else { now + pause(deaths.saturating_sub(1), longest) } };
        let serving = self.generations.iter().any(|g| g.stage == Stage::Serving);
        if how == How::Exited(exit::INCONSISTENT) && stage == Stage::Serving {
            out.push(Action::Log(format!("!!! inconsistent state reported by worker {worker} (pid: {pid}) !!!")));
            return self.reload(true, now, out);
        }
        if !self.worker_cannot_load(generation, how, now, out) && stage == Stage::Loading && serving && deaths >= LOADING_DEATHS {
            self.load_failed(generation, 1, now, out);
        }
    }

    pub(super) fn harakiri(
        &mut self,
        generation: u64,
        worker: u32,
        stuck: &[(u32, Ms)],
        (graceful, drain): (Option<(i32, Ms)>, bool),
        now: Ms,
        out: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slot(generation, worker) else { return };
        let Life::Running(running) = &mut slot.life else { return };
        let fresh: Vec<_> = stuck.iter().filter(|one| !running.struck.contains(one)).copied().collect();
        if fresh.is_empty() {
            return;
        }
        slot.harakiris += fresh.len() as u64;
        running.struck.retain(|(core, _)| !stuck.iter().any(|(other, _)| other == core));
        running.struck.extend(stuck);
        // The worker's own handler writes the stacks of all threads. Two of them at once would write into each other's lines.
        if running.traced.is_none_or(|before| now >= before + TRACE_APART) {
            running.traced = Some(now);
            out.push(Action::Signal { pid: running.pid, signal: SIGUSR2 });
        }
        if let Some((signal, time)) = graceful.filter(|_| running.leaving.as_ref().is_none_or(|l| l.reason != Reason::Harakiri)) {
            out.push(Action::Signal { pid: running.pid, signal });
            running.leaving = Some(Leaving::new(Reason::Harakiri, signal, now + time));
        } else if drain {
            out.push(Action::Signal { pid: running.pid, signal: SIGHUP });
        }
    }

    /// Its last stack is written, and then it is killed.
    pub(super) fn hopeless(&mut self, generation: u64, worker: u32, now: Ms, out: &mut Vec<Action>) {
        let Some(running) = self.slot(generation, worker).and_then(Slot::running_mut) else { return };
        if running.leaving.as_ref().is_none_or(|l| l.reason != Reason::Harakiri) {
            out.push(Action::Signal { pid: running.pid, signal: SIGUSR2 });
            running.leaving = Some(Leaving::new(Reason::Harakiri, 0, now + TRACE_TIME));
        }
    }

    pub(super) fn too_big(&mut self, generation: u64, worker: u32, now: Ms, out: &mut Vec<Action>) {
        if let Some(running) = self.slot(generation, worker).and_then(Slot::running_mut) {
            running.leave(Leaving::new(Reason::Replace, SIGKILL, now), now, out);
        }
    }

    pub(super) fn pause_or_resume(&mut self, out: &mut Vec<Action>) {
        self.paused = !self.paused;
        let pause = self.paused;
        out.push(Action::Log(if pause { "*** paused ***".into() } else { "*** resumed ***".into() }));
        for generation in self.generations.iter().filter(|g| g.stage != Stage::Draining) {
            let running = generation.workers.iter().filter(|s| s.running().is_some());
            out.extend(running.map(|s| Action::Pause { generation: generation.number, worker: s.id, pause }));
        }
    }
}

/// Codes by which a worker says that nobody shall follow it.
fn no_successor(how: How) -> bool {
    matches!(how, How::Exited(exit::CHEAP | exit::QUIET))
}

/// The log line of a death that nobody asked for.
fn obituary(worker: u32, pid: i32, how: How, reason: Option<Reason>) -> Option<String> {
    let asked = reason.is_some_and(|r| r != Reason::Harakiri);
    match how {
        _ if asked => None,
        How::Killed(signal) => Some(format!("DAMN ! worker {worker} (pid: {pid}) died, killed by signal {signal} :( trying respawn ...")),
        How::Exited(exit::RELOAD | exit::END | exit::CHEAP | exit::QUIET | exit::EXCEPTION) => None,
        How::Exited(exit::FAILED_APP) => Some(format!("worker {worker} (pid: {pid}) could not load the app")),
        How::Exited(code) => Some(format!("DAMN ! worker {worker} (pid: {pid}) died (exit code {code}) :( trying respawn ...")),
        How::Vanished => Some(format!("worker {worker} ended before it was up :( trying respawn ...")),
    }
}
