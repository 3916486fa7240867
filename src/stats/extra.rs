//! What an instance says of itself beside uWSGI's JSON: under one key, `imperator`, which readers of uWSGI's leave alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whoever reads it takes what is missing for 0: it may come from an older instance, or from uWSGI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// Of this program.
    pub version: String,
    /// The generation that serves; 0: none yet.
    pub generation: u64,
    /// Epoch seconds of the first start.
    pub started_at: u64,
    /// Reloads that took over.
    pub reloads: u64,
    /// Reloads after which the generation of before went on.
    pub failed_reloads: u64,
    /// Why the last one failed; empty: it did not.
    pub last_reload_error: String,
    /// Processes of workers that ended, by cause (`signal 9`, `exit 1`, `max_requests` ...).
    pub respawns: BTreeMap<String, u64>,
    /// How the last worker ended that nobody had asked to.
    pub last_death: String,
    /// Epoch seconds of that; 0: none did.
    pub last_death_at: u64,
}
