//! What the master says of itself: the stats server's JSON, and counters in the log.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use imperator_worker::log::diag::say;

use super::decide::{Life, Slot, Stage};
use super::running::Master;
use super::runtime::Runtime;
use crate::stats::{Extra, Histogram, MetricRows, Snapshot, SocketRow, Totals, WorkerState, json, measure};

impl Master {
    /// The generation that serves, or is about to.
    pub(super) fn current(&self) -> Option<(u64, &Runtime)> {
        let number = self.instance.current()?.number;
        Some((number, self.runtimes.get(&number)?))
    }

    /// The text for a client of the stats server.
    pub(super) fn stats(&self) -> String {
        let options = self.current().map(|(_, runtime)| runtime.settings.stats.clone()).unwrap_or_default();
        let mut snapshot = self.snapshot(!options.no_cores);
        let shown = self.current().is_some_and(|(_, runtime)| !runtime.settings.metrics.not_in_stats);
        snapshot.metrics = self.metrics().filter(|_| shown).map(MetricRows);
        json(&snapshot, options.minified)
    }

    /// How the instance is now.
    pub(super) fn snapshot(&self, cores: bool) -> Snapshot {
        let snapshot = self.bare_snapshot();
        let Some((number, runtime)) = self.current() else { return snapshot };
        let offloads = runtime.settings.request.offload_threads != Some(0);
        let rows = runtime.listeners.iter().map(|b| SocketRow::of(b.fd.as_fd(), &b.label.name, b.label.protocol.name(), offloads));
        let slots = self.instance.generations.iter().find(|g| g.number == number).map(|g| g.workers.as_slice()).unwrap_or_default();
        let workers: Vec<WorkerState> = slots.iter().map(|slot| self.worker_state(runtime, slot)).collect();
        let snapshot = Snapshot { caches: self.cache_rows(), ..snapshot };
        snapshot.with_sockets(rows.collect()).with_workers(&runtime.scoreboard, &workers, cores)
    }

    /// What stands in no worker's row. `snapshot` is the one that it goes with.
    pub(super) fn totals(&self, snapshot: &Snapshot) -> Totals {
        let running: Vec<(u32, i32)> = snapshot.workers.iter().filter(|w| w.pid > 0).map(|w| (w.id, w.pid)).collect();
        let board = self.current().map(|(_, runtime)| runtime);
        Totals {
            extra: self.extra(),
            durations: board.map(|r| Histogram::of_requests(&r.scoreboard)).unwrap_or_default(),
            queued: board.filter(|r| r.settings.stats.queue_time.is_some()).map(|r| Histogram::of_queue(&r.scoreboard)),
            memory: measure(&running),
        }
    }

    fn extra(&self) -> Extra {
        self.tally.extra(self.serving_generation(), self.started_at)
    }

    /// 0: none yet.
    fn serving_generation(&self) -> u64 {
        self.instance.generations.iter().find(|g| g.stage == Stage::Serving).map_or(0, |g| g.number)
    }

    /// Whom the app runs as: the master itself may be root still.
    fn user(&self) -> (u32, u32) {
        let own = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let Some((_, runtime)) = self.current().filter(|(_, r)| !r.settings.privileges.master_as_root) else { return own };
        runtime.plan.identity.as_ref().map_or(own, |i| (i.uid.unwrap_or(own.0), i.gid))
    }

    fn bare_snapshot(&self) -> Snapshot {
        let (uid, gid) = self.user();
        Snapshot {
            version: super::setup::UWSGI_VERSION.into(),
            pid: std::process::id() as i32,
            uid,
            gid,
            cwd: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
            daemons: self.daemons.rows(),
            crons: self.crons.rows(),
            imperator: Some(self.extra()),
            ..Snapshot::default()
        }
    }

    fn worker_state(&self, runtime: &Runtime, slot: &Slot) -> WorkerState {
        WorkerState {
            id: slot.id,
            pid: match &slot.life {
                Life::Running(running) => running.pid,
                Life::Cheap | Life::Waiting { .. } | Life::Forking => 0,
            },
            cheap: slot.life == Life::Cheap,
            paused: self.instance.paused,
            harakiri_count: slot.harakiris,
            last_spawn: runtime.born.get(&slot.id).copied().unwrap_or(0),
            // One that is on its way counts: readers that see the old one gone look for the next number.
            respawn_count: u64::from(slot.lives) + u64::from(matches!(slot.life, Life::Waiting { .. } | Life::Forking)),
            apps: runtime.apps.clone(),
        }
    }

    /// Requests and exceptions of every worker's apps, to the log.
    pub(super) fn report(&self) {
        let Some((number, runtime)) = self.current() else { return };
        let total = runtime.scoreboard.total_requests().load(Relaxed);
        say(&format!("generation {number}: workers total requests: {total}"));
        for worker in 1..=runtime.scoreboard.workers() {
            let Some(slot) = runtime.scoreboard.worker(worker) else { continue };
            for app in &runtime.apps {
                let (requests, exceptions) = slot.app(app.id).map_or((0, 0), |(r, e)| (r.load(Relaxed), e.load(Relaxed)));
                say(&format!("worker {worker} app {} [{}] requests: {requests} exceptions: {exceptions}", app.id, app.mountpoint));
            }
        }
    }
}
