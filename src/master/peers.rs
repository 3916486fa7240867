//! What zygotes and workers say to the master.

use std::io::ErrorKind;

use imperator_worker::control::{FromWorker, FromZygote};
use imperator_worker::log::diag::say;
use imperator_worker::scoreboard::WorkerCell;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::decide::{Event, How, Life};
use super::order::Order;
use super::running::{Master, send_signal};
use super::{setup, vassal};

/// Messages that are read from one peer before others get their turn.
const MESSAGES_AT_ONCE: usize = 32;

impl Master {
    pub(super) fn on_zygote(&mut self, generation: u64) {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(runtime) = self.runtimes.get_mut(&generation) else { return };
            let Some(zygote) = &runtime.zygote else { return };
            match zygote.recv::<FromZygote>() {
                Ok(Some(received)) => self.hear_zygote(generation, received.message),
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

    fn hear_zygote(&mut self, generation: u64, message: FromZygote) {
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
            FromZygote::Alarm { name, message } => self.raise(&name, &message),
        }
    }

    pub(super) fn on_worker(&mut self, generation: u64, worker: u32) {
        for _ in 0..MESSAGES_AT_ONCE {
            let Some(control) = self.runtimes.get(&generation).and_then(|r| r.workers.get(&worker)) else { return };
            match control.recv::<FromWorker>() {
                Ok(Some(received)) => self.hear_worker(generation, worker, received.message, received.pid),
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

    pub(super) fn is_forking(&self, generation: u64, worker: u32) -> bool {
        let of = self.instance.generations.iter().find(|g| g.number == generation);
        of.is_some_and(|g| g.workers.iter().any(|s| s.id == worker && s.life == Life::Forking))
    }

    fn hear_worker(&mut self, generation: u64, worker: u32, message: FromWorker, pid: Option<i32>) {
        if matches!(message, FromWorker::Started | FromWorker::Accepting { .. } | FromWorker::Loyal) {
            self.stir();
        }
        match message {
            FromWorker::Started => {
                if let Some(pid) = pid.filter(|_| self.is_forking(generation, worker)) {
                    self.pin(generation, worker, pid);
                    if let Some(runtime) = self.runtimes.get_mut(&generation) {
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
                self.wake_timers();
            }
            // Its exit code says the same, and cannot be said by anybody else.
            FromWorker::Failed { message, .. } => say(&format!("worker {worker}: the app could not be loaded: {message}")),
            FromWorker::Loyal => {
                self.tell_emperor(vassal::LOYAL);
            }
            FromWorker::Deadline => self.wake_timers(),
            FromWorker::ItemsExpire => self.items_expire(),
            FromWorker::Reload => self.obey(&Order::Reload),
            FromWorker::Stop => self.obey(&Order::Stop),
            FromWorker::Alarm { name, message } => self.raise(&name, &message),
        }
    }

    /// `cpu-affinity`: so many CPUs a worker, round robin from worker 1.
    fn pin(&self, generation: u64, worker: u32, pid: i32) {
        let cpus = self.runtimes.get(&generation).map_or(0, |r| r.settings.process.cpu_affinity) as usize;
        if cpus == 0 {
            return;
        }
        let there = std::thread::available_parallelism().map_or(1, usize::from);
        let mut set = CpuSet::new();
        for n in 0..cpus.min(there) {
            let _ = set.set(((worker as usize - 1) * cpus + n) % there);
        }
        if let Err(error) = sched_setaffinity(Pid::from_raw(pid), &set) {
            say(&format!("cpu-affinity: worker {worker}: {error}"));
        }
    }
}
