//! Reloads, and limits on a worker's life and on a request.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Reload {
    /// `worker-reload-mercy`.
    pub worker_mercy: u32,
    /// `reload-mercy`, for processes other than workers.
    pub mercy: u32,
    pub exit_on_reload: bool,
    pub touch_reload: Vec<String>,
    pub touch_workers_reload: Vec<String>,
    pub touch_chain_reload: Vec<String>,
    pub touch_gracefully_stop: Vec<String>,
    /// `file command`.
    pub touch_exec: Vec<String>,
    pub touch_logreopen: Vec<String>,
    pub touch_logrotate: Vec<String>,
    pub fs_reload: Vec<String>,
    pub fs_brutal_reload: Vec<String>,
    /// `reload-on-exception`, `-type`, `-value`, `-repr`.
    pub on_exception: bool,
    pub on_exception_type: Vec<String>,
    pub on_exception_value: Vec<String>,
    pub on_exception_repr: Vec<String>,
}

impl Default for Reload {
    fn default() -> Self {
        Self {
            worker_mercy: 60,
            mercy: 30,
            exit_on_reload: false,
            touch_reload: vec![],
            touch_workers_reload: vec![],
            touch_chain_reload: vec![],
            touch_gracefully_stop: vec![],
            touch_exec: vec![],
            touch_logreopen: vec![],
            touch_logrotate: vec![],
            fs_reload: vec![],
            fs_brutal_reload: vec![],
            on_exception: false,
            on_exception_type: vec![],
            on_exception_value: vec![],
            on_exception_repr: vec![],
        }
    }
}

/// Limits on a worker's life and on a request.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Limits {
    /// 0: off. Each worker's own limit is jittered unless `max_requests_delta` is set.
    pub max_requests: u64,
    pub max_requests_delta: Option<u64>,
    pub min_worker_lifetime: u32,
    pub max_worker_lifetime: u32,
    pub max_worker_lifetime_delta: Option<u32>,
    pub reload_on_as_mib: u64,
    pub reload_on_rss_mib: u64,
    pub evil_reload_on_as_mib: u64,
    pub evil_reload_on_rss_mib: u64,
    pub mem_collector_freq: u32,
    pub harakiri: u32,
    pub harakiri_verbose: bool,
    pub harakiri_graceful_timeout: u32,
    pub harakiri_graceful_signal: i32,
    pub harakiri_queue_threshold: u32,
    pub limit_as_mib: u64,
    pub limit_nproc: u64,
    /// `max-fd`: RLIMIT_NOFILE.
    pub max_fd: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_requests: 0,
            max_requests_delta: None,
            min_worker_lifetime: 10,
            max_worker_lifetime: 0,
            max_worker_lifetime_delta: None,
            reload_on_as_mib: 0,
            reload_on_rss_mib: 0,
            evil_reload_on_as_mib: 0,
            evil_reload_on_rss_mib: 0,
            mem_collector_freq: 3,
            harakiri: 0,
            harakiri_verbose: false,
            harakiri_graceful_timeout: 0,
            harakiri_graceful_signal: 15,
            harakiri_queue_threshold: 0,
            limit_as_mib: 0,
            limit_nproc: 0,
            max_fd: 0,
        }
    }
}
