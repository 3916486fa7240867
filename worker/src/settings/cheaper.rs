//! How the number of workers follows the load.

use serde::{Deserialize, Serialize};

/// `cheaper` and its kin.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(default)]
pub struct CheaperRules {
    pub algorithm: CheaperAlgorithm,
    /// Workers to start at a time.
    pub step: u32,
    /// Seconds that a state lasts before anything is done; connections for `backlog`; seconds of a cycle for `busyness`.
    pub overload: u32,
    /// `cheaper-idle`: seconds of too many idle workers before one goes, for `spare2`.
    pub idle: u32,
    /// Bytes of all workers together: above the first no worker is added, above the second one goes a second. 0: off.
    pub rss_soft: u64,
    pub rss_hard: u64,
    pub busyness: Busyness,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum CheaperAlgorithm {
    #[default]
    Spare,
    Spare2,
    Backlog,
    Busyness,
    Manual,
}

/// `cheaper-busyness-*`.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(default)]
pub struct Busyness {
    /// Percent: more workers above, perhaps fewer below.
    pub max: u32,
    pub min: u32,
    /// Cycles below the minimum before a worker goes, and what is added when one went too soon.
    pub multiplier: u32,
    pub penalty: u32,
    pub verbose: bool,
    /// Connections in the queue that call for workers at once, and how many.
    pub backlog_alert: u32,
    pub backlog_step: u32,
    /// Cycles before those go again.
    pub backlog_multiplier: u32,
    /// Seconds of a queue that is not empty, which call for one.
    pub backlog_nonzero: u32,
}

impl Default for CheaperRules {
    /// uWSGI's numbers.
    fn default() -> Self {
        Self { algorithm: CheaperAlgorithm::Spare, step: 1, overload: 3, idle: 10, rss_soft: 0, rss_hard: 0, busyness: Busyness::default() }
    }
}

impl Default for Busyness {
    /// uWSGI's numbers.
    fn default() -> Self {
        Self {
            max: 50,
            min: 25,
            multiplier: 10,
            penalty: 2,
            verbose: false,
            backlog_alert: 33,
            backlog_step: 1,
            backlog_multiplier: 3,
            backlog_nonzero: 60,
        }
    }
}
