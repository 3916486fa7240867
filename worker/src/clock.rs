//! The clocks that the scoreboard and the log lines are written with.

pub(crate) use imperator_sys::process::{coarse_ms, epoch_micros, monotonic_ms, monotonic_us};
