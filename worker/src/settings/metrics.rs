//! Metrics, and where statistics are sent.

use serde::{Deserialize, Serialize};

use crate::metrics::{Definition, Threshold};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct MetricSettings {
    pub enabled: bool,
    pub definitions: Vec<Definition>,
    pub thresholds: Vec<Threshold>,
    /// `metrics-no-cores`.
    pub no_cores: bool,
    /// `stats-no-metrics`.
    pub not_in_stats: bool,
    pub directory: Option<String>,
    /// `metrics-dir-restore`.
    pub restore: bool,
    /// `NAME:ARGS`.
    pub push: Vec<String>,
    /// Seconds.
    pub push_freq: u32,
    pub statsd_no_workers: bool,
    pub statsd_all_gauges: bool,
    pub carbon: Carbon,
}

/// Graphite's plain-text protocol.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Carbon {
    /// `HOST:PORT`.
    pub servers: Vec<String>,
    /// Seconds between pushes.
    pub freq: u32,
    /// Seconds that one push may take.
    pub timeout: u32,
    pub max_retry: u32,
    /// Seconds.
    pub retry_delay: u32,
    pub root: String,
    /// `None`: the first socket's name.
    pub id: Option<String>,
    /// What stands for the dots of the host's name.
    pub hostname_dots: Option<String>,
    pub hostname_alias: Option<String>,
    pub no_workers: bool,
    /// `last`, `zero` or `none`.
    pub idle_avg: String,
    pub use_metrics: bool,
}

// uWSGI's defaults.
impl Default for MetricSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            definitions: vec![],
            thresholds: vec![],
            no_cores: false,
            not_in_stats: false,
            directory: None,
            restore: false,
            push: vec![],
            push_freq: 3,
            statsd_no_workers: false,
            statsd_all_gauges: false,
            carbon: Carbon::default(),
        }
    }
}

impl Default for Carbon {
    fn default() -> Self {
        Self {
            servers: vec![],
            freq: 60,
            timeout: 3,
            max_retry: 1,
            retry_delay: 7,
            root: "uwsgi".into(),
            id: None,
            hostname_dots: None,
            hostname_alias: None,
            no_workers: false,
            idle_avg: "last".into(),
            use_metrics: false,
        }
    }
}
