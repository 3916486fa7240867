//! Metrics: numbers with names, of the container's and of the app's own (spec: process, part 11).
//!
//! uWSGI collects the built-in ones once a second. Here they are read where they stand, in the scoreboard, when somebody asks, so that an idle
//! instance sleeps; the app's own live in a segment of their own that survives reloads.

pub mod builtin;
mod collect;
mod definition;
mod segment;
mod threshold;

pub use collect::{Source, value};
pub use definition::{Collector, Definition, MetricError};
pub use segment::{MOST, Metrics};
pub use threshold::{Threshold, ThresholdError};

/// What a value means; numbers as in uWSGI's stats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Only grows.
    #[default]
    Counter = 0,
    Gauge = 1,
    /// Of this life of a process.
    Absolute = 2,
    Alias = 3,
}

/// One metric as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub oid: String,
    pub kind: Kind,
    pub value: i64,
}
