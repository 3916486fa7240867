//! The figures of a cache, as the statistics have them.

use imperator_cache::{Definition, Stats};
use serde::{Deserialize, Serialize};

/// Names and order of uWSGI's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRow {
    pub name: String,
    pub hash: String,
    pub hashsize: u64,
    pub keysize: u64,
    pub max_items: u64,
    pub blocks: u64,
    pub blocksize: u64,
    pub items: u64,
    pub hits: u64,
    pub miss: u64,
    pub full: u64,
    /// Unix seconds; 0 without `lastmod`.
    pub last_modified_at: u64,
}

impl CacheRow {
    /// The counters are in memory that apps can write to: what stands there becomes a number that readers can hold.
    pub fn of(definition: &Definition, stats: &Stats) -> Self {
        let whole = |n: u64| n.min(i64::MAX as u64);
        Self {
            items: whole(stats.items),
            hits: whole(stats.hits),
            miss: whole(stats.misses),
            full: whole(stats.full),
            last_modified_at: if definition.lastmod { whole(stats.last_modified_at) } else { 0 },
            ..Self::elsewhere(definition)
        }
    }

    /// Of a cache whose items are not in this host's memory: what it is, without counters.
    pub fn elsewhere(definition: &Definition) -> Self {
        Self {
            name: definition.name.clone(),
            hash: definition.hash.name().into(),
            hashsize: definition.hashsize,
            keysize: definition.keysize,
            max_items: definition.items,
            blocks: definition.blocks,
            blocksize: definition.blocksize,
            items: 0,
            hits: 0,
            miss: 0,
            full: 0,
            last_modified_at: 0,
        }
    }
}
