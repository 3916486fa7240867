//! The clocks that the scoreboard is written with.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in milliseconds, which all processes of the host share.
pub(crate) fn monotonic_ms() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    (now.tv_sec().max(0) as u64) * 1000 + (now.tv_nsec().max(0) as u64) / 1_000_000
}

/// Wall clock, microseconds since the epoch.
pub(crate) fn epoch_micros() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}
