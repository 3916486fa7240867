//! What workers' memory is by the kernel's account, read when somebody asks.

use std::fs;
use std::time::{Duration, Instant};

/// How long one page may spend on this: the kernel walks the page tables of each process.
const BUDGET: Duration = Duration::from_millis(20);

/// One worker's, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerMemory {
    pub worker: u32,
    pub rss: u64,
    /// Resident memory, of which pages that are shared count by part; `None`: the kernel does not let us, or there was no time left.
    pub pss: Option<u64>,
}

/// Of these workers (number and pid), as many as there is time for. Where there is not enough for all, it begins with another one at each call.
pub fn measure(workers: &[(u32, i32)]) -> Vec<WorkerMemory> {
    let end = Instant::now() + BUDGET;
    let first = imperator_sys::process::coarse_ms() as usize % workers.len().max(1);
    let mut rows: Vec<WorkerMemory> = (0..workers.len())
        .map(|n| workers[(first + n) % workers.len()])
        .map(|(worker, pid)| of(worker, pid, Instant::now() < end))
        .collect();
    rows.sort_by_key(|row| row.worker);
    rows
}

fn of(worker: u32, pid: i32, with_pss: bool) -> WorkerMemory {
    let rollup = if with_pss { fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok() } else { None };
    let pss = rollup.as_deref().and_then(|text| kilobytes(text, "Pss:"));
    let rss = rollup.as_deref().and_then(|text| kilobytes(text, "Rss:"));
    let rss = rss.or_else(|| kilobytes(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")).unwrap_or(0);
    WorkerMemory { worker, rss, pss }
}

/// The bytes of a line `NAME: N kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_nobody() {
        let own = std::process::id() as i32;
        let rows = measure(&[(2, -5), (1, own)]);
        assert_eq!((rows[0].worker, rows[1]), (1, WorkerMemory { worker: 2, rss: 0, pss: None }));
        assert!(rows[0].rss > 0 && rows[0].pss.is_some_and(|pss| pss > 0 && pss <= rows[0].rss));
        assert!(measure(&[]).is_empty());
    }

    #[test]
    fn a_line_of_kilobytes() {
        assert_eq!(kilobytes("Rss:   4 kB\nPss:    12 kB\nPss_Dirty: 3 kB\n", "Pss:"), Some(12_288));
        assert_eq!(kilobytes("Pss: x kB\n", "Pss:"), None);
    }
}
