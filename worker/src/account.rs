//! Counting: what a request leaves in the scoreboard, and when a worker has served enough.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::vars::Vars;

use crate::queue_time;
use crate::request::Board;
use crate::scoreboard::{CoreCell, Scoreboard, WorkerCell, bucket};
use crate::settings::{Limits, Settings};

/// What one request adds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub micros: u64,
    /// Bytes sent.
    pub bytes: u64,
    pub app: Option<u32>,
    pub is_static: bool,
    pub is_offloaded: bool,
    pub write_errors: u32,
    pub read_errors: u32,
    pub failed: bool,
}

/// Marks the start of a request: by the wall clock, and by CLOCK_MONOTONIC.
pub(crate) fn begin(board: Board<'_>, settings: &Settings, vars: &[u8], start_micros: u64, now_micros: u64) {
    let core = board.core;
    core.cell(CoreCell::RequestStart).store(start_micros / 1_000_000, Relaxed);
    // For the statistics, and for the line that names a request which harakiri ends.
    if settings.stats.enabled() || settings.limits.harakiri > 0 {
        core.set_vars(vars);
    }
    if settings.limits.harakiri > 0 {
        core.cell(CoreCell::Deadline).store(now_micros / 1000 + u64::from(settings.limits.harakiri) * 1000, Relaxed);
    }
    core.cell(CoreCell::InRequest).store(1, Relaxed);
    if let Some(name) = &settings.stats.queue_time {
        waited(board, name, vars, start_micros);
    }
}

/// Counts how long the request waited in front of us, where its front end says when it took it.
fn waited(board: Board<'_>, name: &str, vars: &[u8], now: u64) {
    let said = Vars::parse(vars).ok().and_then(|vars| vars.get(name.as_bytes()));
    let Some(waited) = said.and_then(|value| queue_time::waited(value, now)) else { return };
    let add = |cell: &AtomicU64, n: u64| cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    add(&board.core.queued()[bucket(waited)], 1);
    add(board.core.cell(CoreCell::Queued), waited);
}

/// Marks its end. Returns the requests of its app in this worker (-1 without one) and those of the instance.
pub(crate) fn end(scoreboard: &Scoreboard, board: Board<'_>, spent: Spent) -> (i64, u64) {
    let Board { worker, core } = board;
    let bump = |cell: &AtomicU64, n| cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    let running = if spent.is_static { 0 } else { spent.micros };
    let counts = [
        (worker.cell(WorkerCell::Requests), 1),
        (worker.cell(WorkerCell::DeltaRequests), 1),
        (worker.cell(WorkerCell::Tx), spent.bytes),
        (worker.cell(WorkerCell::Failed), u64::from(spent.failed)),
        (worker.cell(WorkerCell::RunningTime), running),
    ];
    // With one request thread nobody else writes these cells, and a plain store is enough. The cells of a core never have two writers.
    if scoreboard.cores() == 1 {
        counts.iter().for_each(|(cell, n)| bump(cell, *n));
    } else {
        counts.iter().filter(|(_, n)| *n > 0).for_each(|(cell, n)| {
            cell.fetch_add(*n, Relaxed);
        });
    }
    if !spent.is_static {
        bump(&core.durations()[bucket(spent.micros)], 1);
        let average = worker.get(WorkerCell::AvgRt).wrapping_add(spent.micros) / 2;
        worker.cell(WorkerCell::AvgRt).store(average, Relaxed);
    }
    bump(core.cell(CoreCell::Requests), 1);
    bump(core.cell(CoreCell::StaticRequests), u64::from(spent.is_static));
    bump(core.cell(CoreCell::OffloadedRequests), u64::from(spent.is_offloaded));
    if spent.write_errors + spent.read_errors > 0 {
        bump(core.cell(CoreCell::WriteErrors), spent.write_errors.into());
        bump(core.cell(CoreCell::ReadErrors), spent.read_errors.into());
    }
    let app = spent.app.and_then(|id| worker.app(id)).map_or(-1, |(requests, _)| requests.fetch_add(1, Relaxed) as i64 + 1);
    let total = scoreboard.total_requests().fetch_add(1, Relaxed) + 1;
    core.cell(CoreCell::Deadline).store(0, Relaxed);
    core.cell(CoreCell::InRequest).store(0, Relaxed);
    core.cell(CoreCell::VarsLength).store(0, Relaxed);
    (app, total)
}

/// Requests after which worker `id` of `workers` is replaced; 0: never. Without `max-requests-delta` the limits are spread
/// over a tenth, so that workers do not all leave at once.
pub(crate) fn max_requests(limits: &Limits, id: u32, workers: u32) -> u64 {
    let before = u64::from(id.saturating_sub(1));
    match (limits.max_requests, limits.max_requests_delta) {
        (0, _) => 0,
        (max, Some(delta)) => max.saturating_add(before.saturating_mul(delta)),
        (max, None) => max.saturating_add(before.saturating_mul(max) / (10 * u64::from(workers.max(1)))),
    }
}

/// Whether a worker of that age and size has to be replaced after the request. `lived` in seconds, sizes in bytes.
pub(crate) fn has_served_enough(limits: &Limits, max_requests: u64, delta_requests: u64, lived: impl Fn() -> u64, memory: Memory) -> bool {
    let enough = (max_requests > 0 && delta_requests >= max_requests)
        || (limits.reload_on_as_mib > 0 && memory.vsz >= limits.reload_on_as_mib << 20)
        || (limits.reload_on_rss_mib > 0 && memory.rss >= limits.reload_on_rss_mib << 20);
    enough && lived() >= u64::from(limits.min_worker_lifetime)
}

/// A process's size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub vsz: u64,
    pub rss: u64,
}

/// Reads the size of this process, if anything asks for it.
pub(crate) struct Meter {
    statm: Option<File>,
    page: u64,
}

impl Meter {
    pub fn new(settings: &Settings) -> Self {
        let wanted = settings.log.memory_report || settings.limits.reload_on_as_mib > 0 || settings.limits.reload_on_rss_mib > 0;
        let page =
            nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(4096);
        Self { statm: wanted.then(|| File::open("/proc/self/statm").ok()).flatten(), page }
    }

    /// Zeros if nobody wants it.
    pub fn read(&self) -> Memory {
        let mut text = [0; 128];
        let Some(length) = self.statm.as_ref().and_then(|f| f.read_at(&mut text, 0).ok()) else { return Memory::default() };
        let mut pages =
            text[..length].split(|b| *b == b' ').map(|n| std::str::from_utf8(n).ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0));
        Memory { vsz: pages.next().unwrap_or(0) * self.page, rss: pages.next().unwrap_or(0) * self.page }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_spread_unless_a_delta_is_set() {
        let limits = Limits { max_requests: 1000, ..Limits::default() };
        let all: Vec<_> = (1..=4).map(|id| max_requests(&limits, id, 4)).collect();
        assert_eq!(all, [1000, 1025, 1050, 1075]);
        let limits = Limits { max_requests_delta: Some(7), ..limits };
        assert_eq!((max_requests(&limits, 1, 4), max_requests(&limits, 3, 4)), (1000, 1014));
        assert_eq!(max_requests(&Limits { max_requests_delta: Some(7), ..Limits::default() }, 3, 4), 0);
    }

    #[test]
    fn a_worker_goes_only_when_it_is_old_enough() {
        let limits = Limits { reload_on_rss_mib: 100, ..Limits::default() };
        let big = Memory { vsz: 0, rss: 100 << 20 };
        assert!(!has_served_enough(&limits, 5, 5, || 9, Memory::default()));
        assert!(has_served_enough(&limits, 5, 5, || 10, Memory::default()));
        assert!(!has_served_enough(&limits, 0, 5, || 10, Memory::default()));
        assert!(has_served_enough(&limits, 0, 5, || 10, big) && !has_served_enough(&limits, 0, 5, || 0, big));
    }

    #[test]
    fn memory_is_read_only_when_wanted() {
        let mut settings = Settings::default();
        assert_eq!(Meter::new(&settings).read(), Memory::default());
        settings.log.memory_report = true;
        let memory = Meter::new(&settings).read();
        assert!(memory.rss > 0 && memory.vsz >= memory.rss);
    }

    #[test]
    fn the_time_in_front_of_us_is_counted_if_somebody_asks() {
        let scoreboard = Scoreboard::create(1, 1).expect("memfd");
        let worker = scoreboard.worker(1).expect("worker");
        let board = Board { worker, core: worker.core(0).expect("core") };
        let mut block = vec![];
        imperator_protocol::vars::push(&mut block, b"HTTP_X_REQUEST_START", b"t=1700000000.000");
        begin(board, &Settings::default(), &block, 1_700_000_000_002_000, 0);
        assert_eq!(board.core.get(CoreCell::Queued), 0);
        let mut settings = Settings::default();
        settings.stats.queue_time = Some("HTTP_X_REQUEST_START".into());
        begin(board, &settings, &block, 1_700_000_000_002_000, 0);
        begin(board, &settings, b"nonsense", 1_700_000_000_002_000, 0);
        assert_eq!((board.core.get(CoreCell::Queued), board.core.queued()[1].load(Relaxed)), (2_000, 1));
    }

    #[test]
    fn a_request_is_counted_everywhere() {
        let scoreboard = Scoreboard::create(1, 1).expect("memfd");
        let worker = scoreboard.worker(1).expect("worker");
        let board = Board { worker, core: worker.core(0).expect("core") };
        begin(board, &Settings::default(), b"vars", 1, 0);
        assert!(board.core.vars().is_empty(), "nobody looks: no copy");
        let settings = Settings { limits: Limits { harakiri: 5, ..Limits::default() }, ..Settings::default() };
        begin(board, &settings, b"vars", 3_000_000, 7_000_999);
        assert_eq!((board.core.get(CoreCell::InRequest), board.core.get(CoreCell::RequestStart)), (1, 3));
        assert_eq!(board.core.get(CoreCell::Deadline), 12_000);
        assert_eq!(board.core.vars(), b"vars", "harakiri names its request");
        let spent = Spent { micros: 100, bytes: 50, app: Some(0), write_errors: 1, ..Spent::default() };
        assert_eq!(end(&scoreboard, board, spent), (1, 1));
        assert_eq!(end(&scoreboard, board, Spent { app: None, ..spent }), (-1, 2));
        assert_eq!((worker.get(WorkerCell::Requests), worker.get(WorkerCell::Tx), worker.get(WorkerCell::AvgRt)), (2, 100, 75));
        assert_eq!(board.core.durations()[0].load(Relaxed), 2);
        end(&scoreboard, board, Spent { micros: 20_000_000, ..Spent::default() });
        end(&scoreboard, board, Spent { micros: 20_000_000, is_static: true, ..Spent::default() });
        assert_eq!(board.core.durations().last().map(|cell| cell.load(Relaxed)), Some(1), "files are not among them");
        assert_eq!(
            (board.core.get(CoreCell::InRequest), board.core.get(CoreCell::Deadline), board.core.get(CoreCell::WriteErrors)),
            (0, 0, 2)
        );
    }
}
