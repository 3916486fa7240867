//! Durations counted in buckets, summed over all cores of the scoreboard.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use imperator_worker::scoreboard::{BUCKETS, CoreCell, CoreSlot, Scoreboard, WorkerCell};

/// How many durations fell into each bucket ([`imperator_worker::scoreboard::BOUNDS`]), and their sum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    pub buckets: [u64; BUCKETS],
    /// Microseconds.
    pub sum: u64,
}

impl Histogram {
    /// How long requests took that were no files.
    pub fn of_requests(board: &Scoreboard) -> Self {
        let workers = (1..=board.workers()).filter_map(|id| board.worker(id));
        let sum = workers.fold(0u64, |sum, worker| sum.saturating_add(worker.get(WorkerCell::RunningTime)));
        Self { buckets: buckets(board, CoreSlot::durations), sum }
    }

    /// How long requests had waited in front of the instance (`queue-time`).
    pub fn of_queue(board: &Scoreboard) -> Self {
        let sum = cores(board).fold(0u64, |sum, core| sum.saturating_add(core.get(CoreCell::Queued)));
        Self { buckets: buckets(board, CoreSlot::queued), sum }
    }
}

fn cores(board: &Scoreboard) -> impl Iterator<Item = CoreSlot<'_>> {
    let workers = (1..=board.workers()).filter_map(|id| board.worker(id));
    workers.flat_map(|worker| (0..board.cores()).filter_map(move |id| worker.core(id)))
}

/// Apps can write there: what does not fit is the most that does.
fn buckets<'b>(board: &'b Scoreboard, of: impl Fn(&CoreSlot<'b>) -> &'b [AtomicU64]) -> [u64; BUCKETS] {
    let mut sums = [0u64; BUCKETS];
    for core in cores(board) {
        sums.iter_mut().zip(of(&core)).for_each(|(sum, cell)| *sum = sum.saturating_add(cell.load(Relaxed)));
    }
    sums
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_cores_of_all_workers_and_no_overflow() {
        let board = Scoreboard::create(2, 2).unwrap();
        for id in [1, 2] {
            let worker = board.worker(id).unwrap();
            worker.cell(WorkerCell::RunningTime).store(50, Relaxed);
            worker.core(1).unwrap().durations()[3].store(4, Relaxed);
            worker.core(0).unwrap().queued()[0].store(u64::MAX, Relaxed);
            worker.core(0).unwrap().cell(CoreCell::Queued).store(u64::MAX, Relaxed);
        }
        let (requests, queue) = (Histogram::of_requests(&board), Histogram::of_queue(&board));
        assert_eq!((requests.buckets[3], requests.sum), (8, 100));
        assert_eq!((queue.buckets[0], queue.sum), (u64::MAX, u64::MAX));
    }
}
