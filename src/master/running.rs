//! The loop: tells [`super::decide`] what happens, and does what it says.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result};
use imperator_sys::process::monotonic_ms;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::{Role, ToWorker, ToZygote};
use imperator_worker::log::diag::say;
use imperator_worker::privileges::Plan;
use imperator_worker::scoreboard::{Status, WorkerCell};
use imperator_worker::settings::Settings;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::alarms::Alarms;
use super::answers;
use super::asked::Asked;
use super::caching::{CacheTimers, KeptPeers, Peer};
use super::crons::Crons;
use super::daemon::Waiting;
use super::daemons::Daemons;
use super::decide::{Action, Event, Instance};
use super::descriptors::Descriptors;
use super::handover::{self, State};
use super::hooking::Hooking;
use super::metrics::Meter;
use super::poll::{MOST_WORKERS, Poll, Source};
use super::pushes::Pushes;
use super::reloading::take_over;
use super::runtime::Runtime;
use super::services::{LOGS, Services};
use super::spawn::Recipe;
use super::tally::Tally;
use super::timers::Timers;
use super::zerg::{self, ZergServer};
use super::{Start, policy, vassal};
use crate::emperor::inside::Inside;
use crate::hooks::Reaction;
use crate::identity::Vacuum;
use crate::logs::Logs;
use crate::sockets::{self, Bound, Inherited};
use crate::systemd::{Phase, Systemd};

/// Milliseconds in which one thing follows from another: a worker starts, accepts, serves its first request.
const SETTLE_MS: u64 = 100;

pub struct Master {
    pub(super) start: Start,
    pub(super) instance: Instance,
    pub(super) runtimes: BTreeMap<u64, Runtime>,
    pub(super) poll: Poll,
    pub(super) signals: SignalFd,
    pub(super) services: Services,
    pub(super) timers: Timers,
    pub(super) meter: Meter,
    pub(super) pushes: Pushes,
    pub(super) logs: Logs,
    /// The pipe of a vassal.
    pub(super) emperor: Option<File>,
    pub(super) systemd: Option<Systemd>,
    /// Over which its emperor asks for figures.
    pub(super) asked: Option<Asked>,
    /// Over which its emperor sends its configuration.
    pub(super) emperor_config: Option<File>,
    /// The emperor that is part of this instance.
    pub(super) inside: Inside,
    /// What hooks made of signals (`unix_signal`).
    pub(super) reactions: Vec<(i32, Reaction)>,
    /// What happened and has not been told yet.
    pub(super) events: VecDeque<Event>,
    pub(super) finished: Option<i32>,
    /// When to give back what the events of the last moment needed.
    settle_at: Option<u64>,
    /// Who waits for the app to be loaded (`daemonize2`).
    pub waiting: Waiting,
    pub(super) reloads: u64,
    pub(super) started_at: u64,
    /// A generation of this life has served.
    pub(super) up: bool,
    /// Of the newest generation.
    pub(super) last_settings: Option<Rc<Settings>>,
    /// What its app's processes give up.
    pub(super) last_plan: Option<Plan>,
    /// Files to remove at the end.
    pub(super) vacuum: Vacuum,
    /// Listeners of the life before.
    pub(super) kept_answers: answers::Kept,
    /// Who hands out our sockets, and what its life before left.
    pub(super) zerg: Option<ZergServer>,
    pub(super) kept_zerg: zerg::Taken,
    pub(super) daemons: Daemons,
    pub(super) crons: Crons,
    pub(super) alarms: Alarms,
    pub(super) hooking: Hooking,
    pub(super) descriptors: Descriptors,
    pub(super) cache_timers: CacheTimers,
    /// Who is listened to for changes of caches, and what the life before left of that.
    pub(super) peers: Vec<Peer>,
    pub(super) kept_peers: KeptPeers,
    pub(super) tally: Tally,
}

impl Master {
    pub fn new(start: Start, signals: SignalFd, logs: Logs, started_at: u64) -> Result<Self> {
        let poll = Poll::new()?;
        let systemd = Systemd::new(|name| start.var(name), Phase::Starting);
        poll.add(&signals, Source::Signals)?;
        poll.add(&logs, Source::Service(LOGS))?;
        Ok(Self {
            start,
            instance: Instance::default(),
            runtimes: BTreeMap::new(),
            poll,
            signals,
            services: Services::default(),
            timers: Timers::default(),
            meter: Meter::default(),
            pushes: Pushes::default(),
            logs,
            emperor: None,
            systemd,
            asked: None,
            emperor_config: None,
            inside: Inside::default(),
            reactions: vec![],
            events: VecDeque::new(),
            finished: None,
            settle_at: None,
            waiting: Waiting::default(),
            reloads: 0,
            started_at,
            up: false,
            last_settings: None,
            last_plan: None,
            vacuum: Vacuum::default(),
            kept_answers: vec![],
            zerg: None,
            kept_zerg: zerg::Taken::default(),
            daemons: Daemons::default(),
            crons: Crons::default(),
            alarms: Alarms::default(),
            hooking: Hooking::default(),
            descriptors: Descriptors::default(),
            cache_timers: CacheTimers::default(),
            peers: vec![],
            kept_peers: vec![],
            tally: Tally::default(),
        })
    }

    /// Takes the emperor's pipe, if this is a vassal.
    ///
    /// # Errors
    /// It was named and is not there.
    pub fn join_emperor(&mut self) -> Result<()> {
        self.emperor = vassal::pipe(&self.start)?;
        self.be_asked(Asked::of_start(&self.start))?;
        self.emperor_config = vassal::config_channel(&self.start);
        Ok(self.watch_emperor()?)
    }

    /// Takes over what the life before the exec left.
    pub fn resume(start: Start, signals: SignalFd, logs: Logs, state: State) -> Result<Self> {
        let mut master = Self::new(start, signals, logs, state.started_at)?;
        master.systemd = Systemd::new(|name| master.start.var(name), Phase::Reloading);
        master.instance = state.instance;
        master.reloads = state.reloads;
        master.tally = state.tally;
        master.vacuum = state.vacuum;
        master.emperor = state.emperor.map(handover::take).transpose()?.map(File::from);
        master.watch_emperor()?;
        master.be_asked(Asked::resume(state.asked, state.reloads_heard)?)?;
        master.emperor_config = state.emperor_config.map(handover::take).transpose()?.map(File::from);
        master.inside = Inside::resume(state.inside)?;
        master.kept_answers = answers::take(state.answers)?;
        master.kept_peers = state.cache_peers;
        master.descriptors = Descriptors::resume(state.descriptors)?;
        master.meter = Meter::resume(state.metrics.map(handover::metrics).transpose()?);
        master.kept_zerg = zerg::Taken::from(state.zerg)?;
        let mut sockets = BTreeMap::new();
        for held in state.generations {
            let number = held.number;
            let runtime = take_over(held, &mut sockets)?;
            if let Some(zygote) = &runtime.zygote {
                master.poll.add(zygote, Source::Zygote(number))?;
            }
            for (id, control) in &runtime.workers {
                master.poll.add(control, Source::Worker(number, *id))?;
            }
            master.runtimes.insert(number, runtime);
        }
        if let Some(newest) = master.runtimes.keys().last().copied() {
            master.go_by(newest);
        }
        master.resume_daemons(state.daemons);
        master.resume_crons(state.crons);
        Ok(master)
    }

    /// Starts a generation of these settings.
    ///
    /// # Errors
    /// A service that cannot be had, or no memory for the scoreboard.
    pub fn begin(&mut self, settings: Rc<Settings>, listeners: Vec<Bound>, brutal: bool) -> Result<()> {
        let begin = self.make_generation(settings, listeners, brutal)?;
        self.tell(begin);
        Ok(())
    }

    /// All that a generation needs before its first process.
    #[inline(never)] // nothing of its stack is to be below that process
    fn make_generation(&mut self, settings: Rc<Settings>, listeners: Vec<Bound>, brutal: bool) -> Result<Event> {
        let policy = policy::policy(&settings);
        anyhow::ensure!(policy.workers <= MOST_WORKERS, "workers = {}: {MOST_WORKERS} are the most", policy.workers);
        let number = self.instance.last_generation + 1;
        let before: Vec<_> = self.runtimes.values().rev().map(|r| &r.caches).collect();
        let runtime = Runtime::new(settings.clone(), listeners, &before)?;
        self.services = Services::open(&settings, std::mem::take(&mut self.kept_answers), &self.poll)?;
        self.open_peers(&settings)?;
        self.meter.define(&settings, monotonic_ms())?;
        self.pushes = Pushes::new(&settings, monotonic_ms())?;
        self.open_zerg(&settings)?;
        self.watch_descriptors(&settings)?;
        self.serve_meanwhile()?;
        self.remember_files(&runtime);
        self.inside.want(&settings, &self.start.binary, &self.start.argv)?;
        self.runtimes.insert(number, runtime);
        self.go_by(number);
        self.tell_emperor(vassal::SPAWNED);
        Ok(Event::Begin { policy, brutal })
    }

    /// The settings of that generation hold for what the master itself does.
    pub(super) fn go_by(&mut self, generation: u64) {
        if let Some(runtime) = self.runtimes.get(&generation) {
            self.last_settings = Some(runtime.settings.clone());
            self.last_plan = Some(runtime.plan.clone());
        }
    }

    /// Sockets of all generations.
    pub fn listeners(&self) -> Vec<Bound> {
        self.runtimes.values().rev().flat_map(|r| r.listeners.iter().cloned()).collect()
    }

    /// Sockets that came from whoever started the first life: they are asked for again by their key.
    pub fn inherited_again(&self) -> Vec<Inherited> {
        let newest = self.runtimes.last_key_value();
        newest.map(|(_, r)| sockets::given(r.listeners.iter().map(|b| &b.label), &r.settings)).unwrap_or_default()
    }

    /// Runs until everything has ended; the exit code.
    pub fn serve(&mut self) -> Result<i32> {
        loop {
            self.timers_due();
            self.services_due();
            self.daemons_due();
            self.crons_due();
            self.queues_due();
            self.hooks_due();
            self.kept_reload();
            self.caches_due();
            self.tell(Event::Tick);
            let now = monotonic_ms();
            self.tell_systemd(now); // the end too, however soon after its order it has come
            if let Some(code) = self.finished.filter(|_| self.daemons_ended() && self.hooks_ended()) {
                self.end_crons();
                self.last_things();
                self.end_inside();
                return Ok(code);
            }
            let deadlines = [
                self.instance.next_deadline(),
                self.timers.next(),
                self.services.next_deadline(now),
                self.logs_due(now),
                self.daemons.next_deadline(),
                self.crons.next_deadline(),
                self.alarms.next_deadline(),
                self.hooking.next_deadline(),
                self.cache_timers.next(),
                self.peers_rest(),
                self.meter.due,
                self.pushes.next(),
                self.systemd.as_ref().and_then(Systemd::next_deadline),
                self.settled(now),
            ];
            for source in self.poll.wait(deadlines.into_iter().flatten().min(), now)? {
                self.on_ready(source);
            }
        }
    }

    /// Last of all: the emperor that is part of this instance ends with it.
    fn end_inside(&mut self) {
        let mercy = self.runtimes.last_key_value().map_or(30, |(_, r)| r.settings.reload.mercy);
        self.inside.end(u64::from(mercy) * 1000 + 2000);
    }

    fn on_ready(&mut self, source: Source) {
        match source {
            Source::Signals => self.on_signals(),
            Source::Zygote(generation) => self.on_zygote(generation),
            Source::Worker(generation, worker) => self.on_worker(generation, worker),
            Source::Service(service) => self.on_service(service),
            Source::Emperor => self.on_emperor(),
            Source::Listener => self.on_connection(),
            Source::Daemon(index) => self.on_daemon(index),
            Source::Clock => self.on_clock(),
            Source::Descriptor(index) => self.on_descriptor(index),
            Source::Asked => self.on_asked(),
        }
    }

    /// Tells one event and does everything that follows from it.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            for action in self.instance.on(event, monotonic_ms()) {
                self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::SpawnZygote { generation } => self.spawn_zygote(generation),
            Action::EndZygote { generation } => self.to_zygote(generation, &ToZygote::Exit),
            Action::Fork { generation, worker } => self.fork_worker(generation, worker),
            Action::Signal { pid, signal } => send_signal(pid, signal),
            Action::Pause { generation, worker, pause } => self.pause(generation, worker, pause),
            Action::Reload { brutal } => self.reload(brutal),
            Action::Serving { generation } => self.serving(generation),
            Action::ServesOn { generation } => self.serves_on(generation),
            Action::KillForks { generation } => self.kill_forks(generation),
            Action::Dropped { generation } => {
                self.runtimes.remove(&generation);
            }
            Action::Log(text) => say(&text),
            Action::Finish { code } => self.finished = Some(code),
        }
    }

    // -- doing

    fn spawn_zygote(&mut self, generation: u64) {
        let Some(runtime) = self.runtimes.get_mut(&generation) else { return };
        let recipe = Recipe {
            role: Role::Zygote,
            settings: &runtime.settings,
            start: &self.start,
            generation,
            listeners: &runtime.listeners,
            scoreboard: &runtime.scoreboard,
            caches: &runtime.caches,
            metrics: self.meter.segment(),
            request_log: self.logs.request_log(),
            log: Some(self.logs.stderr()),
            started_at: self.started_at,
            plan: &runtime.plan,
            place: runtime.place,
        };
        let spawned = recipe.zygote().and_then(|(pid, control)| {
            self.poll.add(&control, Source::Zygote(generation))?;
            runtime.zygote = Some(control);
            Ok(pid)
        });
        self.events.push_back(match spawned {
            Ok(pid) => Event::ZygoteSpawned { generation, pid: pid.as_raw() },
            Err(error) => {
                say(&format!("cannot start the app's process: {error:#}"));
                Event::LoadFailed { generation, code: 1 }
            }
        });
    }

    fn to_zygote(&self, generation: u64, message: &ToZygote) {
        let zygote = self.runtimes.get(&generation).and_then(|r| r.zygote.as_ref());
        // One that cannot be told is on its way out already.
        let _ = zygote.map(|z| z.send(message, &[]));
    }

    fn fork_worker(&mut self, generation: u64, worker: u32) {
        let asked = self.ask_for_worker(generation, worker);
        if let Err(error) = asked {
            say(&format!("cannot fork worker {worker}: {error:#}"));
            self.events.push_back(Event::ForkFailed { generation, worker });
        }
    }

    fn ask_for_worker(&mut self, generation: u64, worker: u32) -> Result<()> {
        let runtime = self.runtimes.get_mut(&generation).context("no such generation")?;
        let zygote = runtime.zygote.as_ref().context("no zygote")?;
        let (ours, theirs) = SeqPacket::pair()?;
        ours.want_credentials()?;
        ours.set_nonblocking(true)?;
        zygote.send(&ToZygote::Fork { worker }, &[theirs.as_fd()])?;
        self.poll.add(&ours, Source::Worker(generation, worker))?;
        if let Some(old) = runtime.workers.insert(worker, ours) {
            self.poll.remove(&old);
        }
        Ok(())
    }

    fn pause(&mut self, generation: u64, worker: u32, pause: bool) {
        let Some(runtime) = self.runtimes.get(&generation) else { return };
        let status = if pause { Status::Pause } else { Status::Idle };
        runtime.set(worker, WorkerCell::Status, status as u64);
        let _ = runtime.workers.get(&worker).map(|w| w.send(&ToWorker::Pause(pause), &[]));
    }

    fn serving(&mut self, generation: u64) {
        let Some(runtime) = self.runtimes.get(&generation) else { return };
        let (settings, apps) = (runtime.settings.clone(), runtime.apps.len());
        let language = if runtime.language.is_empty() { "no language" } else { &runtime.language };
        if generation > 1 {
            self.tally.reloaded();
        }
        say(&format!("generation {generation} serves: {apps} app{}, {language}", if apps == 1 { "" } else { "s" }));
        self.timers.set(&settings, monotonic_ms());
        self.set_cache_timers(&settings);
        self.tell_emperor(vassal::ACCEPTING);
        if !settings.emperor.sources.is_empty() {
            // Requests are its vassals' business.
            self.tell_emperor(vassal::LOYAL);
        }
        self.asked.iter().for_each(Asked::settle);
        self.stir();
        self.first_time_up(&settings);
        if self.population().is_some_and(|(_, workers)| workers == 0) {
            self.watch_listeners(true);
        }
    }

    /// Something has happened that does not happen often: when it is over, memory that only this needed is given back.
    pub(super) fn stir(&mut self) {
        self.settle_at.get_or_insert(monotonic_ms() + SETTLE_MS);
    }

    /// Does it if it is due, last of all before waiting; when it will be due.
    fn settled(&mut self, now: u64) -> Option<u64> {
        if self.settle_at.take_if(|at| *at <= now).is_some() {
            let _ = imperator_sys::memory::settle(); // without /proc there is nothing to be done
        }
        self.settle_at
    }
}

/// To a child of ours that has not been reaped, so that the pid is its own.
pub(super) fn send_signal(pid: i32, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// To a child of ours and all that are in its process group. One that has not made itself the first of it yet gets it alone.
pub(super) fn send_signal_to_group(pid: i32, signal: i32) {
    let Ok(known) = Signal::try_from(signal) else { return };
    if kill(Pid::from_raw(-pid), known).is_err() {
        send_signal(pid, signal);
    }
}
