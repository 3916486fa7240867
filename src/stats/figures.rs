//! An instance in a dozen numbers: what an emperor knows of each vassal, `imperator ps` prints and `imperator top` draws.

use serde::{Deserialize, Serialize};

use super::{Snapshot, Totals};

/// Whoever reads it takes what is missing for 0: it may come from a vassal of any version, or from one that lies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Workers that have a process.
    pub workers: u64,
    pub busy: u64,
    pub idle: u64,
    /// Connections in the longest queue of a socket.
    pub queue: u64,
    pub requests: u64,
    /// Exceptions, broken reads and writes.
    pub errors: u64,
    /// Of the workers that have served, microseconds.
    pub avg_rt_us: u64,
    /// Bytes sent.
    pub tx: u64,
    /// Of all workers, bytes.
    pub rss: u64,
    /// The same with shared pages by part; 0: it cannot be read, or there was no time to read it of all.
    pub pss: u64,
    pub generation: u64,
    /// Processes of workers after the first ones.
    pub respawns: u64,
}

impl Figures {
    /// From the snapshot that the stats server shows, with its cores.
    pub fn of(snapshot: &Snapshot, totals: &Totals) -> Self {
        let workers = &snapshot.workers;
        let sum = |of: &dyn Fn(&super::WorkerRow) -> u64| workers.iter().fold(0u64, |sum, w| sum.saturating_add(of(w)));
        let having = |status: &str| workers.iter().filter(|w| w.pid != 0 && w.status == status).count() as u64;
        let served = workers.iter().filter(|w| w.avg_rt > 0).count().max(1) as u64;
        let broken = |w: &super::WorkerRow| {
            w.cores.iter().flatten().fold(0, |n: u64, c| n.saturating_add(c.read_errors).saturating_add(c.write_errors))
        };
        Self {
            workers: workers.iter().filter(|w| w.pid != 0).count() as u64,
            busy: having("busy"),
            idle: having("idle"),
            queue: snapshot.listen_queue,
            requests: sum(&|w| w.requests),
            errors: sum(&|w| w.exceptions.saturating_add(broken(w))),
            avg_rt_us: sum(&|w| w.avg_rt) / served,
            tx: sum(&|w| w.tx),
            rss: totals.memory.iter().fold(0, |n: u64, row| n.saturating_add(row.rss)),
            pss: totals.memory.iter().try_fold(0, |n: u64, row| row.pss.map(|pss| n.saturating_add(pss))).unwrap_or(0),
            generation: totals.extra.generation,
            respawns: sum(&|w| w.respawn_count.saturating_sub(1)), // uWSGI counts a worker's first process, too
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Extra, WorkerMemory, WorkerRow};

    #[test]
    fn sums_of_all_workers() {
        let row = |id: u32, status, avg_rt| WorkerRow {
            id,
            pid: 9,
            status,
            avg_rt,
            requests: u64::MAX / 2,
            exceptions: 1,
            respawn_count: 2,
            ..WorkerRow::default()
        };
        let workers =
            vec![row(1, "busy", 100), row(2, "idle", 200), row(3, "idle", 0), WorkerRow { id: 4, status: "cheap", ..WorkerRow::default() }];
        let snapshot = Snapshot { workers, listen_queue: 7, ..Snapshot::default() };
        let memory = vec![WorkerMemory { worker: 1, rss: 10, pss: Some(4) }, WorkerMemory { worker: 2, rss: 10, pss: Some(3) }];
        let totals = Totals { memory, extra: Extra { generation: 3, ..Extra::default() }, ..Totals::default() };
        let figures = Figures::of(&snapshot, &totals);
        assert_eq!((figures.workers, figures.busy, figures.idle, figures.queue, figures.errors), (3, 1, 2, 7, 3));
        assert_eq!((figures.avg_rt_us, figures.rss, figures.pss, figures.generation, figures.requests), (150, 20, 7, 3, u64::MAX));
        assert_eq!(figures.respawns, 3);
        let unread = vec![WorkerMemory { worker: 1, rss: 10, pss: Some(4) }, WorkerMemory { worker: 2, rss: 10, pss: None }];
        assert_eq!(Figures::of(&snapshot, &Totals { memory: unread, ..Totals::default() }).pss, 0, "a part would be taken for the whole");
    }
}
