//! The clocks that the scoreboard and the log lines are written with.

pub(crate) use imperator_sys::process::{coarse_ms, monotonic_ms};

/// Wall clock, microseconds since the epoch.
pub(crate) fn epoch_micros() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}
