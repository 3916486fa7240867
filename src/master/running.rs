//! The loop: tells [`super::decide`] what happens, and does what it says.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result};
use imperator_sys::process::monotonic_ms;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::{FromWorker, FromZygote, Role, ToWorker, ToZygote};
use imperator_worker::log::diag::say;
use imperator_worker::scoreboard::{Scoreboard, Status, WorkerCell};
use imperator_worker::settings::Settings;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::decide::{Action, Event, Haste, How, Instance, Life};
use super::handover::{self, Held, State};
use super::order::Order;
use super::poll::{Poll, Source};
use super::runtime::Runtime;
use super::spawn::Recipe;
use super::{Start, policy, setup, signals};
use crate::sockets::{Bound, Inherited};

/// Messages that are read from one peer before others get their turn.
const MESSAGES_AT_ONCE: usize = 32;

pub struct Master {
    pub(super) start: Start,
    pub(super) instance: Instance,
    pub(super) runtimes: BTreeMap<u64, Runtime>,
    poll: Poll,
    signals: SignalFd,
    /// What happened and has not been told yet.
    events: VecDeque<Event>,
    finished: Option<i32>,
    reloads: u64,
    pub(super) started_at: u64,
}

impl Master {
    pub fn new(start: Start, signals: SignalFd, started_at: u64) -> Result<Self> {
        let poll = Poll::new()?;
        poll.add(&signals, Source::Signals)?;
        let (instance, runtimes, events) = (Instance::default(), BTreeMap::new(), VecDeque::new());
        Ok(Self { start, instance, runtimes, poll, signals, events, finished: None, reloads: 0, started_at })
    }

    /// Takes over what the life before the exec left.
    pub fn resume(start: Start, signals: SignalFd, state: State) -> Result<Self> {
        let mut master = Self::new(start, signals, state.started_at)?;
        master.instance = state.instance;
        master.reloads = state.reloads;
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
        Ok(master)
    }

    /// Starts a generation of these settings.
    ///
    /// # Errors
    /// There is no memory for its scoreboard.
    pub fn begin(&mut self, settings: Rc<Settings>, listeners: Vec<Bound>, brutal: bool) -> Result<()> {
        let policy = policy::policy(&settings);
        let number = self.instance.last_generation + 1;
        self.runtimes.insert(number, Runtime::new(settings, listeners).context("shared memory for the scoreboard")?);
        self.tell(Event::Begin { policy, brutal });
        Ok(())
    }

    /// After an exec whose configuration is refused: the settings of the running generation hold again.
    pub fn keep(&mut self) -> Result<()> {
        if self.runtimes.is_empty() {
            self.finished = Some(1);
        }
        self.back_to_directory();
        Ok(())
    }

    /// Sockets of all generations.
    pub fn listeners(&self) -> Vec<Bound> {
        self.runtimes.values().rev().flat_map(|r| r.listeners.iter().cloned()).collect()
    }

    /// Sockets that came from whoever started the first life: they are asked for again by their key.
    pub fn inherited_again(&self) -> Vec<Inherited> {
        let named = |key: &str| key.strip_prefix("fd://").and_then(|n| n.parse().ok());
        let mut all: Vec<Inherited> = vec![];
        for bound in self.runtimes.last_key_value().iter().flat_map(|(_, r)| &r.listeners) {
            let configured = |s: &imperator_worker::settings::Socket| s.address.trim() == bound.label.key;
            let settings = self.runtimes.last_key_value().map(|(_, r)| r.settings.clone());
            if let Some(fd) = named(&bound.label.key).filter(|_| !settings.is_some_and(|s| s.sockets.iter().any(configured))) {
                all.push(Inherited { fd });
            }
        }
        all
    }

    /// Runs until everything has ended; the exit code.
    pub fn serve(mut self) -> Result<i32> {
        loop {
            if let Some(code) = self.finished {
                return Ok(code);
            }
            let now = monotonic_ms();
            let ready = self.poll.wait(self.instance.next_deadline(), now)?;
            for source in ready {
                self.on_ready(source);
            }
            self.tell(Event::Tick);
        }
    }

    fn on_ready(&mut self, source: Source) {
        match source {
            Source::Signals => self.on_signals(),
            Source::Zygote(generation) => self.on_zygote(generation),
            Source::Worker(generation, worker) => self.on_worker(generation, worker),
            Source::Service(_) | Source::Emperor | Source::Listener => {}
        }
    }

    /// Tells one event and does everything that follows from it.
    fn tell(&mut self, event: Event) {
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
            request_log: None,
            log: None,
            started_at: self.started_at,
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
        if let Some(runtime) = self.runtimes.get(&generation) {
            let apps = runtime.apps.len();
            say(&format!("generation {generation} serves: {} app{}, {}", apps, if apps == 1 { "" } else { "s" }, runtime.language));
        }
    }

    /// Reads the configuration, and if it is good becomes the next life of this master.
    fn reload(&mut self, brutal: bool) {
        match setup::load(&self.start) {
            Err(error) => say(&format!("*** reload refused, nothing changes: the configuration has errors ***\n{error}")),
            Ok(_) => {
                say("binary reloading uWSGI...");
                let state = self.state(brutal);
                let error = handover::exec(&state, &self.start.argv, &self.start.env);
                say(&format!("*** reload failed: {error:#}; the running generation goes on ***"));
            }
        }
        self.back_to_directory();
    }

    fn state(&self, brutal: bool) -> State {
        let raw = |packet: &SeqPacket| packet.as_fd().as_raw_fd();
        let held = |(number, r): (&u64, &Runtime)| Held {
            number: *number,
            settings: (*r.settings).clone(),
            listeners: r.listeners.iter().map(|b| (b.fd.as_raw_fd(), b.label.clone())).collect(),
            scoreboard: r.scoreboard.as_fd().as_raw_fd(),
            zygote: r.zygote.as_ref().map(raw),
            workers: r.workers.iter().map(|(id, w)| (*id, raw(w))).collect(),
            apps: r.apps.clone(),
            language: r.language.clone(),
        };
        State {
            instance: self.instance.clone(),
            generations: self.runtimes.iter().map(held).collect(),
            brutal,
            reloads: self.reloads + 1,
            started_at: self.started_at,
            binary: self.start.binary.clone(),
            emperor: None,
        }
    }

    fn back_to_directory(&self) {
        let settings = self.runtimes.last_key_value().map(|(_, r)| r.settings.clone());
        if let Some(directory) = settings.and_then(|s| s.process.chdir.clone()) {
            let _ = std::env::set_current_dir(directory);
        }
    }

    // -- being told

    fn on_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo as i32;
            if signal == nix::libc::SIGCHLD {
                self.reap();
            } else if let Some(order) = signals::order(signal, self.die_on_term()) {
                self.obey(&order);
            }
        }
    }

    fn die_on_term(&self) -> Option<bool> {
        self.runtimes.last_key_value().and_then(|(_, r)| r.settings.process.die_on_term)
    }

    /// Does what somebody asks for.
    pub(super) fn obey(&mut self, order: &Order) {
        match order {
            Order::Reload => self.tell(Event::Reload { brutal: false }),
            Order::BrutalReload => self.tell(Event::Reload { brutal: true }),
            Order::ReloadWorkers => self.tell(Event::ReloadWorkers { brutal: false }),
            Order::BrutalReloadWorkers => self.tell(Event::ReloadWorkers { brutal: true }),
            Order::ChainReload => self.tell(Event::ChainReload),
            Order::Stop => self.tell(Event::Stop { haste: Haste::Now, code: 0 }),
            Order::GracefulStop => self.tell(Event::Stop { haste: Haste::Graceful, code: 0 }),
            Order::PauseOrResume => self.tell(Event::PauseOrResume),
            Order::Report => self.report(),
            Order::OneWorkerMore | Order::OneWorkerLess | Order::Cheap => {}
            Order::WritePidfiles | Order::Reinforcements | Order::EmperorRescan => {}
        }
    }

    fn report(&self) {
        let Some((runtime, generation)) = self.instance.current().and_then(|g| Some((self.runtimes.get(&g.number)?, g.number))) else {
            return;
        };
        say(&format!(
            "generation {generation}: workers total requests: {}",
            runtime.scoreboard.total_requests().load(std::sync::atomic::Ordering::Relaxed)
        ));
        for worker in 1..=runtime.scoreboard.workers() {
            let Some(slot) = runtime.scoreboard.worker(worker) else { continue };
            for app in &runtime.apps {
                let (requests, exceptions) = slot.app(app.id).map_or((0, 0), |(r, e)| {
                    let load = |c: &std::sync::atomic::AtomicU64| c.load(std::sync::atomic::Ordering::Relaxed);
                    (load(r), load(e))
                });
                say(&format!("worker {worker} app {} [{}] requests: {requests} exceptions: {exceptions}", app.id, app.mountpoint));
            }
        }
    }

    fn on_zygote(&mut self, generation: u64) {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(runtime) = self.runtimes.get_mut(&generation) else { return };
            let Some(zygote) = &runtime.zygote else { return };
            match zygote.recv::<FromZygote>() {
                Ok(Some(received)) => self.from_zygote(generation, received.message),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::InvalidData => {
                    say(&format!("generation {generation}: a message of its zygote is ignored: {e}"))
                }
                Ok(None) | Err(_) => return self.zygote_hung_up(generation),
            }
        }
    }

    /// Its line is of no use any more: one that still runs cannot do its work.
    fn zygote_hung_up(&mut self, generation: u64) {
        let Some(zygote) = self.runtimes.get_mut(&generation).and_then(|r| r.zygote.take()) else { return };
        self.poll.remove(&zygote);
        let pid = self.instance.generations.iter().find(|g| g.number == generation).and_then(|g| g.zygote.pid());
        if let Some(pid) = pid {
            send_signal(pid, nix::libc::SIGKILL);
        }
    }

    fn from_zygote(&mut self, generation: u64, message: FromZygote) {
        match message {
            FromZygote::Loaded { apps, language } => {
                if let Some(runtime) = self.runtimes.get_mut(&generation) {
                    (runtime.apps, runtime.language) = (apps, language);
                }
                self.tell(Event::Loaded { generation });
            }
            FromZygote::Failed { code, message } => {
                say(&format!("generation {generation}: the app could not be loaded: {message}"));
                self.tell(Event::LoadFailed { generation, code });
            }
            FromZygote::ForkFailed { worker, message } => {
                say(&format!("the zygote could not fork worker {worker}: {message}"));
                self.tell(Event::ForkFailed { generation, worker });
            }
        }
    }

    fn on_worker(&mut self, generation: u64, worker: u32) {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(control) = self.runtimes.get(&generation).and_then(|r| r.workers.get(&worker)) else { return };
            match control.recv::<FromWorker>() {
                Ok(Some(received)) => self.from_worker(generation, worker, received.message, received.pid),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::InvalidData => say(&format!("worker {worker}: a message is ignored: {e}")),
                Ok(None) | Err(_) => return self.worker_hung_up(generation, worker),
            }
        }
    }

    /// The end of a worker that never told its pid is seen here; of all others, by their exit.
    fn worker_hung_up(&mut self, generation: u64, worker: u32) {
        let Some(control) = self.runtimes.get_mut(&generation).and_then(|r| r.workers.remove(&worker)) else { return };
        self.poll.remove(&control);
        if self.is_forking(generation, worker) {
            self.tell(Event::WorkerGone { generation, worker, how: How::Vanished });
        }
    }

    fn is_forking(&self, generation: u64, worker: u32) -> bool {
        let of = self.instance.generations.iter().find(|g| g.number == generation);
        of.is_some_and(|g| g.workers.iter().any(|s| s.id == worker && s.life == Life::Forking))
    }

    fn from_worker(&mut self, generation: u64, worker: u32, message: FromWorker, pid: Option<i32>) {
        match message {
            FromWorker::Started => {
                if let Some(pid) = pid.filter(|_| self.is_forking(generation, worker)) {
                    if let Some(runtime) = self.runtimes.get(&generation) {
                        runtime.note_start(worker, pid, setup::epoch());
                    }
                    self.tell(Event::Started { generation, worker, pid });
                }
            }
            FromWorker::Accepting { apps } => {
                if let Some(runtime) = self.runtimes.get_mut(&generation) {
                    runtime.set(worker, WorkerCell::Accepting, 1);
                    runtime.apps = apps;
                }
                self.tell(Event::Accepting { generation, worker });
            }
            // Its exit code says the same, and cannot be said by anybody else.
            FromWorker::Failed { message, .. } => say(&format!("worker {worker}: the app could not be loaded: {message}")),
            FromWorker::Loyal => {}
            FromWorker::Reload => self.obey(&Order::Reload),
            FromWorker::Stop => self.obey(&Order::Stop),
        }
    }

    // -- deaths

    /// Reaps all that ended: zygotes, workers, and orphans that became ours.
    fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), How::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), How::Killed(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.buried(pid, how);
        }
    }

    fn buried(&mut self, pid: i32, how: How) {
        if let Some(generation) = self.instance.zygote_of(pid) {
            self.on_zygote(generation); // its last words
            if let Some(zygote) = self.runtimes.get_mut(&generation).and_then(|r| r.zygote.take()) {
                self.poll.remove(&zygote);
            }
            return self.tell(Event::ZygoteGone { generation });
        }
        if self.instance.worker_of(pid).is_none() {
            // Perhaps one whose first words are still unread.
            let forking: Vec<_> = self.runtimes.iter().flat_map(|(g, r)| r.workers.keys().map(|w| (*g, *w))).collect();
            forking
                .into_iter()
                .filter(|(g, w)| self.is_forking(*g, *w))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|(g, w)| self.on_worker(g, w));
        }
        let Some((generation, worker)) = self.instance.worker_of(pid) else { return };
        self.on_worker(generation, worker);
        if let Some(runtime) = self.runtimes.get_mut(&generation) {
            runtime.note_end(worker);
            if let Some(control) = runtime.workers.remove(&worker) {
                self.poll.remove(&control);
            }
        }
        self.tell(Event::WorkerGone { generation, worker, how });
    }
}

/// A generation of before the exec. Its `sockets` may be those of another one too.
fn take_over(held: Held, sockets: &mut BTreeMap<i32, Rc<OwnedFd>>) -> Result<Runtime> {
    let mut listeners = vec![];
    for (number, label) in held.listeners {
        let fd = match sockets.get(&number) {
            Some(fd) => fd.clone(),
            None => Rc::new(handover::take(number)?),
        };
        sockets.insert(number, fd.clone());
        listeners.push(Bound { fd, label });
    }
    let process = &held.settings.process;
    let scoreboard = Scoreboard::open(handover::take(held.scoreboard)?, process.workers, process.threads.max(1))?;
    let packet = |fd: i32| handover::take(fd).map(SeqPacket::from_fd);
    let workers = held.workers.into_iter().map(|(id, fd)| Ok((id, packet(fd)?))).collect::<Result<_>>()?;
    Ok(Runtime {
        cheaper: policy::cheaper(&held.settings),
        settings: Rc::new(held.settings),
        listeners,
        scoreboard,
        zygote: held.zygote.map(packet).transpose()?,
        workers,
        apps: held.apps,
        language: held.language,
        cheaper_at: 0,
    })
}

/// To a child of ours that has not been reaped, so that the pid is its own.
fn send_signal(pid: i32, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
