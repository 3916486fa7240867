//! The container's own metrics: names, oids and types as uWSGI 2.0.31 lists them.

use crate::scoreboard::{CoreCell, CoreSlot, Scoreboard, Status, WorkerCell, WorkerSlot};

use super::{Kind, Row};

/// A worker's: name, the oid's last part, type, cell. (uWSGI gives two of them the same oid.)
const WORKER: [(&str, u32, Kind, WorkerCell); 9] = [
    ("requests", 1, Kind::Counter, WorkerCell::Requests),
    ("delta_requests", 2, Kind::Absolute, WorkerCell::DeltaRequests),
    ("failed_requests", 13, Kind::Counter, WorkerCell::Failed),
    ("respawns", 14, Kind::Counter, WorkerCell::RespawnCount),
    ("avg_response_time", 8, Kind::Gauge, WorkerCell::AvgRt),
    ("total_tx", 9, Kind::Counter, WorkerCell::Tx),
    ("rss_size", 11, Kind::Gauge, WorkerCell::Rss),
    ("vsz_size", 12, Kind::Gauge, WorkerCell::Vsz),
    ("running_time", 13, Kind::Counter, WorkerCell::RunningTime),
];

const CORE: [(&str, u32, CoreCell); 7] = [
    ("requests", 1, CoreCell::Requests),
    ("write_errors", 3, CoreCell::WriteErrors),
    ("routed_requests", 4, CoreCell::RoutedRequests),
    ("static_requests", 5, CoreCell::StaticRequests),
    ("offloaded_requests", 6, CoreCell::OffloadedRequests),
    ("exceptions", 7, CoreCell::Exceptions),
    ("read_errors", 8, CoreCell::ReadErrors),
];

/// All of them, in uWSGI's order. `queues` are the listen queues of the sockets; `cores` is false with `metrics-no-cores`.
pub fn rows(board: &Scoreboard, queues: &[u64], cores: bool) -> Vec<Row> {
    let workers: Vec<(u32, WorkerSlot<'_>)> = (1..=board.workers()).filter_map(|id| Some((id, board.worker(id)?))).collect();
    let total = |cell| workers.iter().fold(0u64, |sum, (_, slot)| sum.saturating_add(slot.get(cell)));
    let average = total(WorkerCell::AvgRt) / (workers.len().max(1) as u64);
    let alive = workers.iter().filter(|(_, slot)| slot.get(WorkerCell::Pid) != 0).count();
    let busy = workers.iter().filter(|(_, slot)| slot.get(WorkerCell::Pid) != 0 && is_busy(*slot, board.cores())).count();
    let mut rows = vec![
        row("core.routed_signals", "5.1", Kind::Counter, 0),
        row("core.unrouted_signals", "5.2", Kind::Counter, 0),
        row("core.busy_workers", "5.3", Kind::Gauge, busy as u64),
        row("core.idle_workers", "5.4", Kind::Gauge, (alive - busy) as u64),
        row("core.overloaded", "5.5", Kind::Counter, 0),
    ];
    for (name, last, kind, cell) in WORKER {
        let value = if cell == WorkerCell::AvgRt { average } else { total(cell) };
        rows.push(row(&format!("worker.0.{name}"), &format!("3.0.{last}"), kind, value));
    }
    for (id, slot) in &workers {
        rows.extend(
            WORKER.map(|(name, last, kind, cell)| row(&format!("worker.{id}.{name}"), &format!("3.{id}.{last}"), kind, slot.get(cell))),
        );
        if cores {
            rows.extend((0..board.cores()).filter_map(|core| Some(core_rows(*id, core, slot.core(core)?))).flatten());
        }
    }
    rows.extend([
        row("core.total_tx", "5.100", Kind::Counter, total(WorkerCell::Tx)),
        row("core.total_rss", "5.101", Kind::Gauge, total(WorkerCell::Rss)),
        row("core.total_vsz", "5.102", Kind::Gauge, total(WorkerCell::Vsz)),
        row("core.avg_response_time", "5.103", Kind::Gauge, average),
        row("core.total_running_time", "5.104", Kind::Counter, total(WorkerCell::RunningTime)),
    ]);
    rows.extend(
        queues.iter().enumerate().map(|(n, queue)| row(&format!("socket.{n}.listen_queue"), &format!("7.{n}.1"), Kind::Gauge, *queue)),
    );
    rows.extend([
        row("rss_size", "5.101", Kind::Alias, total(WorkerCell::Rss)),
        row("vsz_size", "5.102", Kind::Alias, total(WorkerCell::Vsz)),
    ]);
    rows
}

fn is_busy(slot: WorkerSlot<'_>, cores: u32) -> bool {
    slot.get(WorkerCell::Status) == Status::Busy as u64
        || (0..cores).filter_map(|id| slot.core(id)).any(|core| core.get(CoreCell::InRequest) != 0)
}

fn core_rows(worker: u32, core: u32, slot: CoreSlot<'_>) -> [Row; 7] {
    CORE.map(|(name, last, cell)| {
        row(&format!("worker.{worker}.core.{core}.{name}"), &format!("3.{worker}.2.{core}.{last}"), Kind::Counter, slot.get(cell))
    })
}

/// Workers can write anything: what does not fit is the most that does.
fn row(name: &str, oid: &str, kind: Kind, value: u64) -> Row {
    Row { name: name.to_owned(), oid: oid.to_owned(), kind, value: i64::try_from(value).unwrap_or(i64::MAX) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn sums_and_single_workers() {
        let board = Scoreboard::create(2, 1).unwrap();
        for (id, requests) in [(1, 3), (2, 4)] {
            let slot = board.worker(id).unwrap();
            slot.cell(WorkerCell::Requests).store(requests, Relaxed);
            slot.cell(WorkerCell::Pid).store(9, Relaxed);
        }
        board.worker(1).unwrap().core(0).unwrap().cell(CoreCell::InRequest).store(1, Relaxed);
        let rows = rows(&board, &[5], true);
        let value = |name: &str| rows.iter().find(|r| r.name == name).map(|r| (r.value, r.oid.as_str()));
        assert_eq!(value("worker.0.requests"), Some((7, "3.0.1")));
        assert_eq!(value("worker.2.requests"), Some((4, "3.2.1")));
        assert_eq!((value("core.busy_workers"), value("core.idle_workers")), (Some((1, "5.3")), Some((1, "5.4"))));
        assert_eq!(value("worker.2.core.0.read_errors"), Some((0, "3.2.2.0.8")));
        assert_eq!(value("socket.0.listen_queue"), Some((5, "7.0.1")));
        assert!(!super::rows(&board, &[], false).iter().any(|r| r.name.contains(".core.")));
    }

    #[test]
    fn nonsense_in_the_scoreboard_fits_into_a_number() {
        let board = Scoreboard::create(2, 1).unwrap();
        (1..=2).for_each(|id| board.worker(id).unwrap().cell(WorkerCell::Tx).store(u64::MAX, Relaxed));
        assert!(rows(&board, &[], true).iter().any(|r| r.name == "core.total_tx" && r.value == i64::MAX));
    }
}
