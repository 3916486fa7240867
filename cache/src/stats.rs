//! What the statistics show.

use std::sync::atomic::Ordering::Relaxed;

use crate::Cache;
use crate::memory::{Counter, Spread};
use crate::pool;

/// Figures of a cache since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Items in it, expired ones that nobody removed yet included.
    pub items: u64,
    /// Calls of get that found their item.
    pub hits: u64,
    /// Calls of get that did not.
    pub misses: u64,
    /// Writes that found it full.
    pub full: u64,
    /// Unix seconds; 0 unless `lastmod`.
    pub last_modified_at: u64,
    /// Times that something half done was put right, mostly after the death of a process that was writing.
    pub repairs: u64,
}

impl Cache {
    /// The figures as of now. Waits for nobody.
    pub fn stats(&self) -> Stats {
        self.revive();
        Stats {
            items: pool::items(&self.memory),
            hits: self.memory.counted(Spread::Hits),
            misses: self.memory.counted(Spread::Misses),
            full: self.memory.counter(Counter::Full).load(Relaxed),
            last_modified_at: self.memory.counter(Counter::LastModified).load(Relaxed),
            repairs: self.memory.counter(Counter::Repairs).load(Relaxed),
        }
    }
}
