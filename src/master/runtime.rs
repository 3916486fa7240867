//! What the master holds for one generation: its settings, sockets and shared memory, and the lines to its processes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;

use anyhow::{Context, Result};
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::App;
use imperator_worker::privileges::Plan;
use imperator_worker::scoreboard::{CoreCell, Scoreboard, Status, WorkerCell, sleeper};
use imperator_worker::settings::Settings;

use super::caches::CacheSet;
use super::decide::{Cheaper, Look, Ms, share};
use super::policy;
use crate::privileges::{Place, as_app, plan};
use crate::sockets::Bound;

pub struct Runtime {
    pub settings: Rc<Settings>,
    pub listeners: Vec<Bound>,
    pub plan: Plan,
    pub place: Place,
    pub scoreboard: Scoreboard,
    pub caches: CacheSet,
    pub zygote: Option<SeqPacket>,
    /// Our ends of the workers' control pairs.
    pub workers: BTreeMap<u32, SeqPacket>,
    pub apps: Vec<App>,
    pub language: String,
    pub cheaper: Option<Cheaper>,
    /// What the last look for it showed of each worker.
    pub looks: BTreeMap<u32, Look>,
    /// When each worker's process was started, epoch seconds. (The scoreboard says it too, but apps can write there.)
    pub born: BTreeMap<u32, u64>,
}

impl Runtime {
    /// # Errors
    /// There is no memory for the scoreboard, no such user, or a cache that cannot be had. `before` has those of the generations that run.
    pub fn new(settings: Rc<Settings>, listeners: Vec<Bound>, before: &[&CacheSet]) -> Result<Self> {
        let process = &settings.process;
        let scoreboard = Scoreboard::create(process.workers, process.threads.max(1)).context("shared memory for the scoreboard")?;
        let cheaper = policy::cheaper(&settings);
        let (plan, place) = plan(&settings)?;
        let caches = as_app(&plan, place, || CacheSet::make(&settings, before))??;
        let runtime = Self {
            settings,
            listeners,
            plan,
            place,
            scoreboard,
            caches,
            zygote: None,
            workers: BTreeMap::new(),
            apps: vec![],
            language: String::new(),
            cheaper,
            looks: BTreeMap::new(),
            born: BTreeMap::new(),
        };
        (1..=runtime.scoreboard.workers()).for_each(|id| runtime.set(id, WorkerCell::Status, Status::Cheap as u64));
        Ok(runtime)
    }

    pub fn set(&self, worker: u32, cell: WorkerCell, value: u64) {
        if let Some(slot) = self.scoreboard.worker(worker) {
            slot.cell(cell).store(value, Relaxed);
        }
    }

    /// A new life of a worker, which may have begun to serve by now: what it writes itself ([`Self::note_end`] has cleared it) is left alone.
    pub fn note_start(&mut self, worker: u32, pid: i32, epoch: u64) {
        self.born.insert(worker, epoch);
        let Some(slot) = self.scoreboard.worker(worker) else { return };
        for (cell, value) in [(WorkerCell::LastSpawn, epoch), (WorkerCell::Pid, pid.unsigned_abs().into())] {
            slot.cell(cell).store(value, Relaxed);
        }
        let _ = slot.cell(WorkerCell::Status).compare_exchange(Status::Cheap as u64, Status::Idle as u64, Relaxed, Relaxed);
        slot.cell(WorkerCell::RespawnCount).fetch_add(1, Relaxed);
    }

    /// The worker is gone: nothing of what it left is taken for a running request.
    pub fn note_end(&self, worker: u32) {
        let Some(slot) = self.scoreboard.worker(worker) else { return };
        let cells =
            [WorkerCell::Pid, WorkerCell::Accepting, WorkerCell::Sleepers, WorkerCell::DeltaRequests, WorkerCell::Rss, WorkerCell::Vsz];
        for cell in cells {
            slot.cell(cell).store(0, Relaxed);
        }
        slot.cell(WorkerCell::Status).store(Status::Cheap as u64, Relaxed);
        for core in (0..self.scoreboard.cores()).filter_map(|id| slot.core(id)) {
            for cell in [CoreCell::InRequest, CoreCell::Deadline, CoreCell::VarsLength] {
                core.cell(cell).store(0, Relaxed);
            }
        }
    }

    /// Workers that run a request now.
    pub fn busy(&self) -> u32 {
        let busy = |id: &u32| {
            self.scoreboard.worker(*id).is_some_and(|s| s.get(WorkerCell::Pid) != 0 && s.get(WorkerCell::Status) == Status::Busy as u64)
        };
        (1..=self.scoreboard.workers()).filter(busy).count() as u32
    }

    /// Marks the master as asleep until that worker begins a request.
    pub fn sleep_until_request(&self, worker: u32) {
        if let Some(slot) = self.scoreboard.worker(worker) {
            slot.cell(WorkerCell::Sleepers).fetch_or(sleeper::MASTER, SeqCst);
        }
        fence(SeqCst);
    }

    /// Deadlines of the requests of a worker; 0 for a core without one.
    pub fn deadlines(&self, worker: u32) -> Vec<Ms> {
        let Some(slot) = self.scoreboard.worker(worker) else { return vec![] };
        (0..self.scoreboard.cores()).map(|id| slot.core(id).map_or(0, |c| c.get(CoreCell::Deadline))).collect()
    }

    /// Percent of the `elapsed` milliseconds since the last look that the average of these workers was busy.
    pub fn busyness(&mut self, workers: &[u32], elapsed: u64) -> u32 {
        let mut sum = 0;
        for id in workers {
            let Some(slot) = self.scoreboard.worker(*id) else { continue };
            let busy = slot.get(WorkerCell::Status) == Status::Busy as u64;
            let now = Look { running_micros: slot.get(WorkerCell::RunningTime), requests: slot.get(WorkerCell::Requests), busy };
            sum += share(self.looks.insert(*id, now), now, elapsed);
        }
        sum / (workers.len() as u32).max(1)
    }
}
