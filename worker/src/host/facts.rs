//! What apps may know of their instance and of its processes.

use std::sync::atomic::Ordering::Relaxed;

use imperator_sys::socket;

use super::Host;
use crate::control::FromWorker;
use crate::scoreboard::{CoreCell, Status, WorkerCell};

/// The numbers of a worker that apps see, under uWSGI's names.
const NUMBERS: [(&str, WorkerCell); 12] = [
    ("pid", WorkerCell::Pid),
    ("requests", WorkerCell::Requests),
    ("delta_requests", WorkerCell::DeltaRequests),
    ("signals", WorkerCell::Signals),
    ("exceptions", WorkerCell::Exceptions),
    ("rss", WorkerCell::Rss),
    ("vsz", WorkerCell::Vsz),
    ("running_time", WorkerCell::RunningTime),
    ("last_spawn", WorkerCell::LastSpawn),
    ("respawn_count", WorkerCell::RespawnCount),
    ("tx", WorkerCell::Tx),
    ("avg_rt", WorkerCell::AvgRt),
];

impl Host {
    /// Whether the request that a core of this worker serves is over its time (`harakiri`, `set_user_harakiri`).
    pub fn is_over_time(&self, core: u32) -> bool {
        let core = self.scoreboard.worker(self.worker()).and_then(|worker| worker.core(core));
        let deadline = core.map_or(0, |core| core.get(CoreCell::Deadline));
        deadline != 0 && deadline <= imperator_sys::process::monotonic_ms()
    }

    /// Whether this process is a worker that takes requests.
    pub fn is_accepting(&self) -> bool {
        self.scoreboard.worker(self.worker()).is_some_and(|slot| slot.get(WorkerCell::Accepting) != 0)
    }

    /// Says whether this worker counts as one that takes requests; for the cheaper algorithms and the stats.
    pub fn set_accepting(&self, accepting: bool) {
        if let Some(slot) = self.scoreboard.worker(self.worker()) {
            slot.cell(WorkerCell::Accepting).store(u64::from(accepting), Relaxed);
        }
    }

    /// Requests of the whole instance in this generation.
    pub fn total_requests(&self) -> u64 {
        self.scoreboard.total_requests().load(Relaxed)
    }

    /// What worker `id` (from 1) has counted, name by name. Empty if there is no such worker.
    pub fn worker_numbers(&self, id: u32) -> Vec<(&'static str, u64)> {
        let Some(slot) = self.scoreboard.worker(id) else { return vec![] };
        NUMBERS.into_iter().map(|(name, cell)| (name, slot.get(cell))).collect()
    }

    /// `idle`, `busy`, `cheap` or `pause`.
    pub fn worker_status(&self, id: u32) -> &'static str {
        match self.scoreboard.worker(id).map(|slot| slot.get(WorkerCell::Status)) {
            Some(n) if n == Status::Busy as u64 => "busy",
            Some(n) if n == Status::Cheap as u64 => "cheap",
            Some(n) if n == Status::Pause as u64 => "pause",
            _ => "idle",
        }
    }

    /// Connections that wait to be accepted at socket `number`; 0 for what is no TCP socket, which does not tell. `None`: there is no such socket.
    pub fn listen_queue(&self, number: usize) -> Option<u64> {
        let listener = self.boot.listeners.get(number)?;
        Some(socket::listen_queue_of(listener.fd).map_or(0, |(waiting, _)| u64::from(waiting)))
    }

    /// Has the master reload the instance.
    ///
    /// # Errors
    /// `NotConnected` without a master.
    pub fn reload(&self) -> std::io::Result<()> {
        self.tell_master(&FromWorker::Reload)
    }

    /// Has the master stop the instance.
    ///
    /// # Errors
    /// `NotConnected` without a master.
    pub fn stop(&self) -> std::io::Result<()> {
        self.tell_master(&FromWorker::Stop)
    }
}

/// Resident and virtual size of this process, bytes.
///
/// # Errors
/// There is no /proc.
pub fn memory() -> std::io::Result<(u64, u64)> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let mut pages = statm.split(' ').map(|n| n.parse::<u64>().unwrap_or_default());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(4096);
    let (vsz, rss) = (pages.next().unwrap_or_default() * page, pages.next().unwrap_or_default() * page);
    Ok((rss, vsz))
}

/// Wall clock, microseconds since the epoch.
pub fn micros() -> u64 {
    crate::clock::epoch_micros()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_a_size() {
        let (rss, vsz) = super::memory().expect("/proc");
        assert!(rss > 0 && vsz >= rss);
    }
}
