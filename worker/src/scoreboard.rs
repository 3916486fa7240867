//! The scoreboard: what workers tell the master (and so the stats server) in shared memory.
//!
//! One segment a generation. The master makes it, workers write it, and nobody trusts it: all sizes come from the
//! reader's own settings, never from the segment.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use imperator_sys::shm::SharedCells;

/// Apps that a worker has counters for (`max-apps`).
pub const APPS: usize = 64;
/// Bytes of the current request's variables that the stats server can show.
pub const VARS_BYTES: usize = 4096;
/// Upper bounds of the buckets that durations are counted in, microseconds; what is longer than the last is in one more. Prometheus' own
/// defaults, and one below them: a small app answers within a millisecond.
pub const BOUNDS: [u64; 13] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];
/// Buckets of a histogram.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// Cells of one worker, before its apps and cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum WorkerCell {
    /// 0: no process.
    Pid,
    Accepting,
    /// [`Status`].
    Status,
    /// Over all lives.
    Requests,
    /// In this life.
    DeltaRequests,
    Exceptions,
    HarakiriCount,
    Signals,
    /// Microseconds, over all lives.
    RunningTime,
    /// Epoch seconds.
    LastSpawn,
    RespawnCount,
    /// Bytes sent, heads included.
    Tx,
    /// Microseconds: (previous + last) / 2.
    AvgRt,
    /// Bytes; 0 unless `memory-report` or a limit measures it.
    Rss,
    Vsz,
    /// Requests that failed (write or read errors, 5xx of our own).
    Failed,
    /// Connections of the present process's that may be kept for more than one request.
    Connections,
    /// Who sleeps until a request begins, and is to be told then: bits of [`sleeper`].
    Sleepers,
    Count,
}

/// Bits of [`WorkerCell::Sleepers`]. Who is about to sleep sets its bit, and then looks once more for a request; who begins one has said so before it
/// looks for sleepers. (Both with a fence between.)
pub mod sleeper {
    /// Of harakiri and `cheaper`.
    pub const MASTER: u64 = 1;
    /// The worker's own thread of harakiri.
    pub const WATCHDOG: u64 = 2;
}

/// Cells of one core (request thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum CoreCell {
    Requests,
    StaticRequests,
    RoutedRequests,
    OffloadedRequests,
    WriteErrors,
    ReadErrors,
    Exceptions,
    InRequest,
    /// Epoch seconds at the start of the current request.
    RequestStart,
    /// CLOCK_MONOTONIC milliseconds at which harakiri strikes; 0: never.
    Deadline,
    /// Bytes of `vars` that are valid.
    VarsLength,
    /// Microseconds that requests had waited in front of us (`queue-time`).
    Queued,
    Count,
}

/// What a worker does, as the stats print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    Idle = 0,
    Busy = 1,
    Cheap = 2,
    Pause = 3,
}

const HEADER: usize = 8;
/// Of the header: requests of all workers, and what tells a board of another version's.
const TOTAL: usize = 0;
const KIND: usize = 1;
/// How a board is laid out; the highest bits are to be raised where cells change places and not their number.
const LAYOUT: u64 = 1 << 48 | (WORKER as u64) << 24 | CORE as u64;
const WORKER: usize = WorkerCell::Count as usize;
const APP: usize = 2;
const CORE: usize = VARS + VARS_BYTES / 8;
/// Where a core's parts begin: durations of requests, times in the queue, variables.
const DURATIONS: usize = CoreCell::Count as usize;
const QUEUED: usize = DURATIONS + BUCKETS;
const VARS: usize = QUEUED + BUCKETS;

/// The segment of one generation.
pub struct Scoreboard {
    cells: SharedCells,
    workers: usize,
    cores: usize,
}

impl Scoreboard {
    /// A zeroed board for `workers` workers of `cores` request threads each.
    pub fn create(workers: u32, cores: u32) -> std::io::Result<Self> {
        let (workers, cores) = (workers as usize, cores as usize);
        let cells = SharedCells::create("imperator-scoreboard", HEADER + workers * Self::stride(cores))?;
        cells.cells()[KIND].store(LAYOUT, Relaxed);
        Ok(Self { cells, workers, cores })
    }

    /// Opens the board behind `memfd`. It must have been made for the same numbers.
    ///
    /// # Errors
    /// It was made by another version, whose cells lie elsewhere (`Unsupported`), or is too small.
    pub fn open(memfd: OwnedFd, workers: u32, cores: u32) -> std::io::Result<Self> {
        let (workers, cores) = (workers as usize, cores as usize);
        let cells = SharedCells::open(memfd)?;
        if cells.cells().len() < HEADER + workers * Self::stride(cores) {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the scoreboard is smaller than the settings say"));
        }
        if cells.cells()[KIND].load(Relaxed) != LAYOUT {
            let what = "the scoreboard is another version's: this instance was started by another Imperator, reload it";
            return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, what));
        }
        Ok(Self { cells, workers, cores })
    }

    fn stride(cores: usize) -> usize {
        WORKER + APPS * APP + cores * CORE
    }

    pub fn workers(&self) -> u32 {
        self.workers as u32
    }

    /// Request threads a worker.
    pub fn cores(&self) -> u32 {
        self.cores as u32
    }

    /// Requests of the whole instance in this generation: the second number of `req: N/T` in the log line.
    pub fn total_requests(&self) -> &AtomicU64 {
        &self.cells.cells()[TOTAL]
    }

    /// Worker `id`, from 1; `None` if there is none of that number.
    pub fn worker(&self, id: u32) -> Option<WorkerSlot<'_>> {
        let index = (id as usize).checked_sub(1).filter(|i| *i < self.workers)?;
        let stride = Self::stride(self.cores);
        let start = HEADER + index * stride;
        Some(WorkerSlot { cells: &self.cells.cells()[start..start + stride], cores: self.cores })
    }
}

impl AsFd for Scoreboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cells.as_fd()
    }
}

/// One worker's part of the board.
#[derive(Clone, Copy)]
pub struct WorkerSlot<'b> {
    cells: &'b [AtomicU64],
    cores: usize,
}

impl<'b> WorkerSlot<'b> {
    pub fn cell(&self, cell: WorkerCell) -> &'b AtomicU64 {
        &self.cells[cell as usize]
    }

    pub fn get(&self, cell: WorkerCell) -> u64 {
        self.cell(cell).load(Relaxed)
    }

    /// Requests and exceptions of app `id`; `None` beyond [`APPS`].
    pub fn app(&self, id: u32) -> Option<(&'b AtomicU64, &'b AtomicU64)> {
        let start = WORKER + (id as usize) * APP;
        ((id as usize) < APPS).then(|| (&self.cells[start], &self.cells[start + 1]))
    }

    /// Core `id`, from 0.
    pub fn core(&self, id: u32) -> Option<CoreSlot<'b>> {
        let start = WORKER + APPS * APP + (id as usize) * CORE;
        ((id as usize) < self.cores).then(|| CoreSlot { cells: &self.cells[start..start + CORE] })
    }
}

/// One request thread's part of the board.
#[derive(Clone, Copy)]
pub struct CoreSlot<'b> {
    cells: &'b [AtomicU64],
}

impl<'b> CoreSlot<'b> {
    pub fn cell(&self, cell: CoreCell) -> &'b AtomicU64 {
        &self.cells[cell as usize]
    }

    pub fn get(&self, cell: CoreCell) -> u64 {
        self.cell(cell).load(Relaxed)
    }

    /// Buckets of how long requests took that were no files: each value in one bucket alone, none twice.
    pub fn durations(&self) -> &'b [AtomicU64] {
        &self.cells[DURATIONS..QUEUED]
    }

    /// Buckets of how long requests had waited before (`queue-time`).
    pub fn queued(&self) -> &'b [AtomicU64] {
        &self.cells[QUEUED..VARS]
    }

    /// Leaves the (uwsgi-encoded) variables of the current request for the stats server; what is too long is left out whole.
    pub fn set_vars(&self, payload: &[u8]) {
        let length = if payload.len() <= VARS_BYTES { payload.len() } else { 0 };
        for (cell, chunk) in self.cells[VARS..].iter().zip(payload[..length].chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_le_bytes(word), Relaxed);
        }
        self.cell(CoreCell::VarsLength).store(length as u64, Relaxed);
    }

    /// A copy of those variables: bytes that may be torn or hostile, to be parsed like a packet off the wire.
    pub fn vars(&self) -> Vec<u8> {
        let length = (self.get(CoreCell::VarsLength) as usize).min(VARS_BYTES);
        let mut out: Vec<u8> = self.cells[VARS..].iter().take(length.div_ceil(8)).flat_map(|c| c.load(Relaxed).to_le_bytes()).collect();
        out.truncate(length);
        out
    }
}

/// The bucket of a duration.
pub fn bucket(micros: u64) -> usize {
    BOUNDS.iter().take_while(|bound| micros > **bound).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        assert_eq!([0, 1_000, 1_001, 10_000_000, 10_000_001, u64::MAX].map(bucket), [0, 0, 1, 12, 13, 13]);
    }

    #[test]
    fn slots_do_not_overlap_and_vars_come_back() {
        let board = Scoreboard::create(2, 2).expect("memfd");
        let (one, two) = (board.worker(1).expect("1"), board.worker(2).expect("2"));
        one.cell(WorkerCell::Requests).store(7, Relaxed);
        one.core(1).expect("core").set_vars(b"123456789");
        one.core(1).expect("core").durations()[BUCKETS - 1].store(1, Relaxed);
        one.core(1).expect("core").queued()[BUCKETS - 1].store(2, Relaxed);
        assert!(one.core(0).expect("core").durations().iter().all(|cell| cell.load(Relaxed) == 0));
        assert_eq!((one.get(WorkerCell::Requests), two.get(WorkerCell::Requests)), (7, 0));
        assert_eq!(one.core(1).expect("core").vars(), b"123456789");
        assert_eq!(one.core(0).expect("core").vars(), b"");
        assert!(board.worker(0).is_none() && board.worker(3).is_none() && one.core(2).is_none() && one.app(64).is_none());
    }

    #[test]
    fn a_board_of_another_version_is_known() {
        let board = Scoreboard::create(1, 1).expect("memfd");
        let again = || Scoreboard::open(board.as_fd().try_clone_to_owned().expect("a copy"), 1, 1);
        assert!(again().is_ok());
        board.cells.cells()[KIND].store(LAYOUT + 1, Relaxed);
        assert_eq!(again().err().map(|e| e.kind()), Some(std::io::ErrorKind::Unsupported));
        let small = Scoreboard::open(board.as_fd().try_clone_to_owned().expect("a copy"), 2, 1);
        assert_eq!(small.err().map(|e| e.kind()), Some(std::io::ErrorKind::InvalidData));
    }

    #[test]
    fn a_hostile_length_is_bounded() {
        let board = Scoreboard::create(1, 1).expect("memfd");
        let core = board.worker(1).and_then(|w| w.core(0)).expect("core");
        core.cell(CoreCell::VarsLength).store(u64::MAX, Relaxed);
        assert_eq!(core.vars().len(), VARS_BYTES);
    }
}
