//! A generation from its zygote's start to its last worker's end.

use nix::libc::{SIGHUP, SIGINT, SIGKILL};
use serde::{Deserialize, Serialize};

use super::workers::{Leaving, Life, Reason, Slot};
use super::{Action, Haste, How, Instance, Ms, Policy};

/// How long a zygote that was told to end may take.
const ZYGOTE_MERCY: Ms = 1000;
/// From the order to fork a worker to its first word, on a machine that has much else to do.
const FORK_TIME: Ms = 30_000;
/// Zygotes that may die before they have loaded the app, one after the other, until the start is given up.
const LOAD_ATTEMPTS: u32 = 3;
/// The longest pause before a zygote that died is replaced.
const LONGEST_ZYGOTE_PAUSE: Ms = 60_000;

/// How far a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Its app loads, or its first worker does not accept yet.
    Loading,
    Serving,
    /// Its workers finish what they have.
    Draining,
}

/// The process that loads and forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Zygote {
    /// None, and none is wanted.
    Gone,
    /// Asked for; there is no pid yet.
    Spawning,
    Loading {
        pid: i32,
    },
    Ready {
        pid: i32,
    },
    Ending {
        pid: i32,
        kill_at: Ms,
    },
    /// It died; another one is started then.
    Waiting {
        until: Ms,
    },
}

impl Zygote {
    pub fn pid(self) -> Option<i32> {
        match self {
            Self::Loading { pid } | Self::Ready { pid } | Self::Ending { pid, .. } => Some(pid),
            Self::Gone | Self::Spawning | Self::Waiting { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    pub number: u64,
    pub stage: Stage,
    pub policy: Policy,
    pub zygote: Zygote,
    pub workers: Vec<Slot>,
    /// Zygotes that died since one last loaded.
    pub zygote_deaths: u32,
    /// A brutal reload has stopped its workers; they come back if the new generation fails.
    pub held: bool,
    /// Workers that a chain reload still has to replace, and the one it waits for.
    pub chain: Vec<u32>,
    pub chained: Option<u32>,
    /// It ends, and forks that have not come up by then are killed.
    #[serde(default)]
    pub forks_end_at: Option<Ms>,
    /// The fork that was asked for last should have come up by then.
    #[serde(default)]
    pub fork_due: Option<Ms>,
    /// One did not, and killing it did not help.
    #[serde(default)]
    pub fork_hung: bool,
}

impl Generation {
    pub(super) fn new(number: u64, policy: Policy) -> Self {
        let initial = policy.initial;
        let life = |id| if id <= initial { Life::Waiting { until: 0 } } else { Life::Cheap };
        let workers = (1..=policy.workers).map(|id| Slot::new(id, life(id))).collect();
        let zygote = Zygote::Spawning;
        Self {
            number,
            stage: Stage::Loading,
            policy,
            zygote,
            workers,
            zygote_deaths: 0,
            held: false,
            chain: vec![],
            chained: None,
            forks_end_at: None,
            fork_due: None,
            fork_hung: false,
        }
    }

    /// Processes that run or are about to.
    fn busy(&self) -> bool {
        self.zygote.pid().is_some() || self.workers.iter().any(|s| matches!(s.life, Life::Forking | Life::Running(_)))
    }

    pub(super) fn next_deadline(&self, ending: bool) -> Option<Ms> {
        let zygote = match self.zygote {
            Zygote::Ending { kill_at, .. } => Some(kill_at),
            Zygote::Waiting { until } if !ending => Some(until),
            _ => None,
        };
        let forks = !ending && !self.held && matches!(self.zygote, Zygote::Ready { .. });
        let stuck = self.forks_end_at.filter(|_| self.is_forking());
        let workers = self.workers.iter().filter_map(|slot| match &slot.life {
            Life::Waiting { until } => forks.then_some(*until),
            Life::Running(running) => match &running.leaving {
                Some(leaving) => leaving.kill_at,
                None => running.recycle_at.filter(|_| !ending && self.stage == Stage::Serving),
            },
            Life::Cheap | Life::Forking => None,
        });
        let hung = self.fork_due.filter(|_| forks && self.is_forking());
        workers.chain(zygote).chain(stuck).chain(hung).min()
    }

    fn is_forking(&self) -> bool {
        self.workers.iter().any(|s| s.life == Life::Forking)
    }

    pub(super) fn kill_overdue(&mut self, now: Ms, out: &mut Vec<Action>) {
        if self.is_forking() && self.forks_end_at.is_some_and(|at| at <= now) {
            out.push(Action::KillForks { generation: self.number });
            self.forks_end_at = Some(now + ZYGOTE_MERCY);
        }
        self.end_hung_forks(now, out);
        if let Zygote::Ending { pid, kill_at } = &mut self.zygote {
            if *kill_at <= now {
                out.push(Action::Signal { pid: *pid, signal: SIGKILL });
                *kill_at = Ms::MAX;
            }
        }
        for slot in &mut self.workers {
            let id = slot.id;
            if let Some(running) = slot.running_mut() {
                running.kill_overdue(id, now, out);
            }
        }
    }

    /// A fork that says nothing is killed; if that does not help, its zygote is: another one forks the worker.
    fn end_hung_forks(&mut self, now: Ms, out: &mut Vec<Action>) {
        if !self.is_forking() {
            (self.fork_due, self.fork_hung) = (None, false);
        }
        let Zygote::Ready { pid } = self.zygote else { return };
        if self.stage == Stage::Draining || self.fork_due.is_none_or(|at| at > now) {
            return;
        }
        self.fork_due = Some(now + ZYGOTE_MERCY * 2);
        out.push(if std::mem::replace(&mut self.fork_hung, true) {
            Action::Signal { pid, signal: SIGKILL }
        } else {
            Action::KillForks { generation: self.number }
        });
    }

    /// Forks the workers whose time has come, and starts a zygote where one is due.
    pub(super) fn start_due(&mut self, now: Ms, out: &mut Vec<Action>) {
        if self.stage == Stage::Draining || self.held {
            return;
        }
        if matches!(self.zygote, Zygote::Waiting { until } if until <= now) {
            self.zygote = Zygote::Spawning;
            out.push(Action::SpawnZygote { generation: self.number });
        }
        if !matches!(self.zygote, Zygote::Ready { .. }) {
            return;
        }
        for slot in self.workers.iter_mut().filter(|s| matches!(s.life, Life::Waiting { until } if until <= now)) {
            slot.life = Life::Forking;
            self.fork_due = Some(now + FORK_TIME);
            out.push(Action::Fork { generation: self.number, worker: slot.id });
        }
    }

    /// No forks any more; the workers end by `signal` within `mercy`.
    pub(super) fn end(&mut self, signal: i32, mercy: Ms, reason: Reason, now: Ms, out: &mut Vec<Action>) {
        self.stage = Stage::Draining;
        self.chain.clear();
        self.chained = None;
        self.end_zygote(now, out);
        // A little later than the zygote, whose end may be what ends them.
        self.forks_end_at.get_or_insert(now + ZYGOTE_MERCY + ZYGOTE_MERCY / 2);
        for slot in &mut self.workers {
            match &mut slot.life {
                Life::Waiting { .. } => slot.life = Life::Cheap,
                Life::Running(running) => running.leave(Leaving::new(reason, signal, now.saturating_add(mercy)), now, out),
                Life::Cheap | Life::Forking => {}
            }
        }
    }

    fn end_zygote(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.zygote = match self.zygote {
            // It runs the app's import and would not listen.
            Zygote::Loading { pid } => {
                out.push(Action::Signal { pid, signal: SIGKILL });
                Zygote::Ending { pid, kill_at: Ms::MAX }
            }
            Zygote::Ready { pid } => {
                out.push(Action::EndZygote { generation: self.number });
                Zygote::Ending { pid, kill_at: now + ZYGOTE_MERCY }
            }
            Zygote::Ending { .. } => self.zygote,
            Zygote::Gone | Zygote::Spawning | Zygote::Waiting { .. } => Zygote::Gone,
        };
    }
}

impl Instance {
    pub(super) fn begin(&mut self, policy: Policy, brutal: bool, now: Ms, out: &mut Vec<Action>) {
        if brutal {
            for old in self.generations.iter_mut().filter(|g| g.stage == Stage::Serving) {
                old.hold(now, out);
            }
        }
        self.last_generation += 1;
        self.generations.push(Generation::new(self.last_generation, policy));
        match self.generations.last_mut() {
            // A pool of sockets: nobody is forked, ever.
            Some(new) if new.policy.workers == 0 => {
                new.zygote = Zygote::Gone;
                self.take_over(self.last_generation, now, out);
            }
            _ => out.push(Action::SpawnZygote { generation: self.last_generation }),
        }
    }

    pub(super) fn zygote_spawned(&mut self, generation: u64, pid: i32, out: &mut Vec<Action>) {
        match self.generation(generation) {
            Some(g) if g.zygote == Zygote::Spawning => g.zygote = Zygote::Loading { pid },
            // The stop came first.
            _ => out.push(Action::Signal { pid, signal: SIGKILL }),
        }
    }

    pub(super) fn loaded(&mut self, number: u64, now: Ms, out: &mut Vec<Action>) {
        let Some(generation) = self.generation(number) else { return };
        if let Zygote::Loading { pid } = generation.zygote {
            generation.zygote = Zygote::Ready { pid };
            generation.zygote_deaths = 0;
        }
        let nobody_to_wait_for = generation.workers.iter().all(|s| s.life == Life::Cheap);
        if generation.stage == Stage::Loading && nobody_to_wait_for {
            self.take_over(number, now, out);
        }
    }

    /// The new generation can serve: those before it end.
    pub(super) fn take_over(&mut self, number: u64, now: Ms, out: &mut Vec<Action>) {
        if self.stage(number) != Some(Stage::Loading) {
            return;
        }
        for generation in &mut self.generations {
            if generation.number == number {
                generation.stage = Stage::Serving;
                self.impatience = 0;
                out.push(Action::Serving { generation: number });
            } else if generation.stage == Stage::Serving {
                out.push(Action::Log("...gracefully killing workers...".into()));
                let mercy = generation.policy.mercy;
                generation.end(SIGHUP, mercy, Reason::Drain, now, out);
            }
        }
    }

    /// The app does not load. An older generation goes on; without one it is the end.
    pub(super) fn load_failed(&mut self, number: u64, code: i32, now: Ms, out: &mut Vec<Action>) {
        match self.stage(number) {
            Some(Stage::Loading) => self.give_up(number, code, now, out),
            Some(Stage::Serving) => {
                out.push(Action::Log(format!(
                    "generation {number}: the app does not load any more; its workers go on, and another zygote is tried later"
                )));
            }
            _ => {}
        }
    }

    pub(super) fn give_up(&mut self, number: u64, code: i32, now: Ms, out: &mut Vec<Action>) {
        if let Some(generation) = self.generation(number) {
            generation.end(SIGINT, ZYGOTE_MERCY, Reason::Drain, now, out);
        }
        let Some(old) = self.generations.iter_mut().find(|g| g.stage == Stage::Serving) else {
            if self.wanted.is_none() {
                self.stop(Haste::Now, code, now, out);
            }
            return;
        };
        old.held = false;
        let (new, old) = (number, old.number);
        out.push(Action::ServesOn { generation: old });
        out.push(Action::Log(format!(
            "*** reload failed: generation {new} could not load its app (code {code}); generation {old} goes on serving ***"
        )));
    }

    pub(super) fn zygote_gone(&mut self, number: u64, now: Ms, out: &mut Vec<Action>) {
        let (ending, serving) = (self.ending.is_some(), self.generations.iter().any(|g| g.stage == Stage::Serving));
        let Some(generation) = self.generation(number) else { return };
        let was = std::mem::replace(&mut generation.zygote, Zygote::Gone);
        generation.zygote_deaths += 1;
        let deaths = generation.zygote_deaths;
        if ending || generation.stage == Stage::Draining || matches!(was, Zygote::Ending { .. }) {
            return;
        }
        // Forks that it did not get round to come back as vanished workers.
        let loaded = generation.stage == Stage::Serving || matches!(was, Zygote::Ready { .. });
        if !loaded && (serving || deaths >= LOAD_ATTEMPTS) {
            out.push(Action::Log(format!(
                "generation {number}: the interpreter ended before it had loaded the app, {deaths} times; the lines above are its own"
            )));
            return self.give_up(number, 1, now, out);
        }
        let pause = pause(deaths.saturating_sub(1), LONGEST_ZYGOTE_PAUSE);
        generation.zygote = Zygote::Waiting { until: now + pause };
        let what = if loaded { "the zygote died; its workers go on" } else { "the zygote ended before it had loaded the app" };
        out.push(Action::Log(format!("generation {number}: {what}, another one is started in {pause} ms")));
    }

    /// Forgets generations of which nothing runs.
    pub(super) fn drop_empty(&mut self, out: &mut Vec<Action>) {
        self.generations.retain(|g| {
            let over = g.stage == Stage::Draining && !g.busy();
            if over {
                out.push(Action::Dropped { generation: g.number });
            }
            !over
        });
    }

    /// A worker of a generation that never served cannot load its app (`lazy-apps`).
    pub(super) fn worker_cannot_load(&mut self, number: u64, how: How, now: Ms, out: &mut Vec<Action>) -> bool {
        let code = imperator_worker::control::exit::FAILED_APP;
        let fatal = how == How::Exited(code) && self.stage(number) == Some(Stage::Loading);
        if fatal {
            self.give_up(number, code, now, out);
        }
        fatal
    }
}

/// The pause before try `deaths` (from 0): none at first, then doubling.
pub(super) fn pause(deaths: u32, longest: Ms) -> Ms {
    if deaths == 0 { 0 } else { (100u64 << (deaths - 1).min(16)).min(longest) }
}
