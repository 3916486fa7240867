//! What a master decides, without processes and clocks: [`Instance`] takes an [`Event`] and the time, and gives [`Action`]s.
//!
//! It is also what a reload hands over: it holds numbers, pids and times of CLOCK_MONOTONIC, and nothing of the process that it is in.
//!
//! A *generation* is one load of the app. Generation n+1 is loaded beside n; when its first worker accepts, n is drained. At any time there is at most one
//! that is loading and one that serves, and any number that finish their last requests.

mod busyness;
mod cheaper;
mod cron;
mod daemon;
mod generation;
mod harakiri;
mod readiness;
mod recycle;
mod reload;
mod sos;
mod stop;
#[cfg(test)]
pub(super) mod tests;
mod workers;

use serde::{Deserialize, Serialize};

pub use busyness::{Look, share};
pub use cheaper::{Cheaper, Load};
pub use cron::next_due;
pub use daemon::{DaemonAct, DaemonEvent, DaemonLife, Rule, Watched};
pub use generation::{Generation, Stage, Zygote};
pub use harakiri::{Stuck, hopeless, stuck};
pub use recycle::recycle_after;
pub use reload::Wanted;
pub use sos::{Distress, Pressure};
pub use stop::{Ending, Haste};
pub use workers::{How, Leaving, Life, Reason, Running, Slot};

/// Milliseconds of CLOCK_MONOTONIC.
pub type Ms = u64;

/// What the settings say about these decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub workers: u32,
    /// Workers to start with (`cheaper`, `cheaper-initial`, `cheap`).
    pub initial: u32,
    /// Request threads a worker, for the log.
    pub cores: u32,
    /// `worker-reload-mercy`.
    pub mercy: Ms,
    /// `forkbomb-delay`: the longest pause before a worker that dies at once is started again.
    pub backoff: Ms,
    /// `max-worker-lifetime`; 0: off.
    pub lifetime: Ms,
    /// `max-worker-lifetime-delta`; `None`: jitter.
    pub lifetime_delta: Option<Ms>,
    pub exit_on_reload: bool,
    pub need_app: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A configuration is ready to be run: at the start, or after a reload's exec.
    Begin {
        policy: Policy,
        brutal: bool,
    },
    /// The process of a zygote that was asked for.
    ZygoteSpawned {
        generation: u64,
        pid: i32,
    },
    Loaded {
        generation: u64,
    },
    LoadFailed {
        generation: u64,
        code: i32,
    },
    ZygoteGone {
        generation: u64,
    },
    ForkFailed {
        generation: u64,
        worker: u32,
    },
    Started {
        generation: u64,
        worker: u32,
        pid: i32,
    },
    Accepting {
        generation: u64,
        worker: u32,
    },
    WorkerGone {
        generation: u64,
        worker: u32,
        how: How,
    },
    /// Requests are over their time: core and deadline of each. `graceful`: a signal, and the time until the kill. `drain`: the worker has
    /// nobody of its own to finish the other requests before that.
    Harakiri {
        generation: u64,
        worker: u32,
        stuck: Vec<(u32, Ms)>,
        graceful: Option<(i32, Ms)>,
        drain: bool,
    },
    /// The worker did not end such a request, nor itself.
    Hopeless {
        generation: u64,
        worker: u32,
    },
    /// A worker takes too much memory (`evil-reload-on-*`).
    TooBig {
        generation: u64,
        worker: u32,
    },
    /// Number of workers that there should be, from the cheaper algorithm.
    Population {
        generation: u64,
        workers: u32,
    },
    Reload {
        brutal: bool,
    },
    ReloadWorkers {
        brutal: bool,
    },
    ChainReload,
    Stop {
        haste: Haste,
        code: i32,
    },
    PauseOrResume,
    /// A deadline may be due.
    Tick,
}

/// What the shell has to do about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    SpawnZygote {
        generation: u64,
    },
    /// Tell the zygote that no more forks are needed.
    EndZygote {
        generation: u64,
    },
    Fork {
        generation: u64,
        worker: u32,
    },
    Signal {
        pid: i32,
        signal: i32,
    },
    Pause {
        generation: u64,
        worker: u32,
        pause: bool,
    },
    /// Read the configuration; if it is good, exec and begin it.
    Reload {
        brutal: bool,
    },
    /// This generation serves from now on.
    Serving {
        generation: u64,
    },
    /// A newer one could not take over: this one serves on.
    ServesOn {
        generation: u64,
    },
    /// Kill what was forked to be a worker and has not said so: nothing is known of it, not even its pid.
    KillForks {
        generation: u64,
    },
    /// Nothing of it runs any more.
    Dropped {
        generation: u64,
    },
    Log(String),
    /// Everything has ended.
    Finish {
        code: i32,
    },
}

/// The state of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Instance {
    /// Oldest first.
    pub generations: Vec<Generation>,
    pub last_generation: u64,
    pub ending: Option<Ending>,
    /// A reload that was asked for while another was on its way.
    pub wanted: Option<Wanted>,
    /// Loads that were given up for a newer one since one came up.
    #[serde(default)]
    pub impatience: u32,
    pub paused: bool,
}

impl Instance {
    /// Takes in one event.
    pub fn on(&mut self, event: Event, now: Ms) -> Vec<Action> {
        let mut out = vec![];
        match event {
            Event::Begin { policy, brutal } => self.begin(policy, brutal, now, &mut out),
            Event::ZygoteSpawned { generation, pid } => self.zygote_spawned(generation, pid, &mut out),
            Event::Loaded { generation } => self.loaded(generation, now, &mut out),
            Event::LoadFailed { generation, code } => self.load_failed(generation, code, now, &mut out),
            Event::ZygoteGone { generation } => self.zygote_gone(generation, now, &mut out),
            Event::ForkFailed { generation, worker } => self.worker_gone(generation, worker, How::Vanished, now, &mut out),
            Event::Started { generation, worker, pid } => self.started(generation, worker, pid, now, &mut out),
            Event::Accepting { generation, worker } => self.accepting(generation, worker, now, &mut out),
            Event::WorkerGone { generation, worker, how } => self.worker_gone(generation, worker, how, now, &mut out),
            Event::Harakiri { generation, worker, stuck, graceful, drain } => {
                self.harakiri(generation, worker, &stuck, (graceful, drain), now, &mut out);
            }
            Event::Hopeless { generation, worker } => self.hopeless(generation, worker, now, &mut out),
            Event::TooBig { generation, worker } => self.too_big(generation, worker, now, &mut out),
            Event::Population { generation, workers } => self.population(generation, workers, now, &mut out),
            Event::Reload { brutal } => self.reload(brutal, now, &mut out),
            Event::ReloadWorkers { brutal } => self.reload_workers(brutal, now, &mut out),
            Event::ChainReload => self.chain_reload(now, &mut out),
            Event::Stop { haste, code } => self.stop(haste, code, now, &mut out),
            Event::PauseOrResume => self.pause_or_resume(&mut out),
            Event::Tick => {}
        }
        self.tick(now, &mut out);
        out
    }

    /// When the next [`Event::Tick`] is due; `None`: nothing waits for time to pass.
    pub fn next_deadline(&self) -> Option<Ms> {
        let wanted = self.wanted.map(|w| w.give_up_at);
        self.generations.iter().filter_map(|g| g.next_deadline(self.ending.is_some())).chain(wanted).min()
    }

    /// The generation that serves, or the one that is about to.
    pub fn current(&self) -> Option<&Generation> {
        let by = |stage| self.generations.iter().find(move |g| g.stage == stage);
        by(Stage::Serving).or_else(|| by(Stage::Loading))
    }

    /// Which worker has that pid.
    pub fn worker_of(&self, pid: i32) -> Option<(u64, u32)> {
        self.generations.iter().find_map(|g| {
            let slot = g.workers.iter().find(|s| s.running().is_some_and(|r| r.pid == pid))?;
            Some((g.number, slot.id))
        })
    }

    /// Which generation's zygote has that pid.
    pub fn zygote_of(&self, pid: i32) -> Option<u64> {
        self.generations.iter().find(|g| g.zygote.pid() == Some(pid)).map(|g| g.number)
    }

    /// Whether that request of the worker's is known to be over its time.
    pub fn is_struck(&self, generation: u64, worker: u32, core: u32, deadline: Ms) -> bool {
        let of = self.generations.iter().find(|g| g.number == generation).and_then(|g| g.workers.iter().find(|s| s.id == worker));
        of.and_then(Slot::running).is_some_and(|r| r.struck.contains(&(core, deadline)))
    }

    fn generation(&mut self, number: u64) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|g| g.number == number)
    }

    fn slot(&mut self, generation: u64, worker: u32) -> Option<&mut Slot> {
        self.generation(generation)?.workers.iter_mut().find(|s| s.id == worker)
    }

    fn stage(&self, number: u64) -> Option<Stage> {
        self.generations.iter().find(|g| g.number == number).map(|g| g.stage)
    }

    /// Does what is due: kills what had its mercy, starts what may be started, drops what is over.
    fn tick(&mut self, now: Ms, out: &mut Vec<Action>) {
        let ending = self.ending.is_some();
        for generation in &mut self.generations {
            generation.kill_overdue(now, out);
            if !ending {
                generation.recycle(now, out);
                generation.advance_chain(now, out);
                generation.start_due(now, out);
            }
        }
        self.give_up_stuck_load(now, out);
        self.drop_empty(out);
        self.finish(out);
        self.honour_wanted(now, out);
    }
}
