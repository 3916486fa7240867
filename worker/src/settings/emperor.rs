//! The two ends of an emperor's pipe: who supervises, and who is supervised.

use serde::{Deserialize, Serialize};

use super::Isolation;

/// Being an emperor.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Emperor {
    pub sources: Vec<String>,
    pub freq: u32,
    pub stats: Option<String>,
    /// `emperor-stats-prometheus`: where the metrics of all vassals are.
    pub stats_prometheus: Option<String>,
    /// `emperor-command-socket`: where `imperator ps` and the like ask.
    pub command_socket: Option<String>,
    /// `emperor-dashboard`: where the estate is a web page.
    pub dashboard: Option<String>,
    /// More names by which browsers may call it.
    pub dashboard_host: Vec<String>,
    /// The file with what viewers must know.
    pub dashboard_secret: Option<String>,
    /// Whether the page may reload, stop and start vassals.
    pub dashboard_actions: bool,
    /// `vassal-log`: `stderr` (also if there is none), `inherit`, a directory, or a path with `%n`.
    pub vassal_log: Option<String>,
    /// Bytes of such a file before it is moved aside; 0: any.
    pub vassal_log_maxsize: u64,
    /// KiB a second that are read of what one vassal says; 0: any.
    pub vassal_log_limit: u32,
    pub tyrant: bool,
    pub tyrant_nofollow: bool,
    /// `emperor-tyrant-initgroups`: the owner's supplementary groups instead of none.
    pub tyrant_initgroups: bool,
    pub nofollow: bool,
    pub extra_extension: Vec<String>,
    pub magic_exec: bool,
    pub vassal_set: Vec<String>,
    pub include: Vec<String>,
    pub include_before: Vec<String>,
    pub inherit: Vec<String>,
    pub inherit_before: Vec<String>,
    pub wrapper: Option<String>,
    /// `emperor-wrapper-attr`: the name of the attribute of a vassal's `[emperor]` section; `wrapper` if there is none.
    pub wrapper_attr: Option<String>,
    /// `emperor-chdir-attr`: the same for the directory that it starts in; none is looked for without it.
    pub chdir_attr: Option<String>,
    pub wrapper_override: Vec<String>,
    pub wrapper_fallback: Vec<String>,
    pub start_hook: Option<String>,
    pub stop_hook: Option<String>,
    pub throttle_ms: u32,
    pub max_throttle_ms: u32,
    pub no_blacklist: bool,
    pub curse_tolerance: u32,
    pub graceful_shutdown: bool,
    pub required_heartbeat: u32,
    pub pidfile: Option<String>,
    pub procname: Option<String>,
    pub use_clone: Option<String>,
    pub cap: Option<String>,
    pub on_demand_extension: Option<String>,
    pub on_demand_directory: Option<String>,
    pub on_demand_exec: Option<String>,
    pub broodlord: u32,
    pub early: bool,
    /// `emperor-isolate` and its parts: what holds for every vassal.
    pub isolation: Isolation,
}

impl Default for Emperor {
    fn default() -> Self {
        Self {
            sources: vec![],
            freq: 3,
            stats: None,
            stats_prometheus: None,
            command_socket: None,
            dashboard: None,
            dashboard_host: vec![],
            dashboard_secret: None,
            dashboard_actions: false,
            vassal_log: None,
            vassal_log_maxsize: 10 << 20,
            vassal_log_limit: 4096,
            tyrant: false,
            tyrant_nofollow: false,
            tyrant_initgroups: false,
            nofollow: false,
            extra_extension: vec![],
            magic_exec: false,
            vassal_set: vec![],
            include: vec![],
            include_before: vec![],
            inherit: vec![],
            inherit_before: vec![],
            wrapper: None,
            wrapper_attr: None,
            chdir_attr: None,
            wrapper_override: vec![],
            wrapper_fallback: vec![],
            start_hook: None,
            stop_hook: None,
            throttle_ms: 1000,
            max_throttle_ms: 180_000,
            no_blacklist: false,
            curse_tolerance: 30,
            graceful_shutdown: false,
            required_heartbeat: 30,
            pidfile: None,
            procname: None,
            use_clone: None,
            cap: None,
            on_demand_extension: None,
            on_demand_directory: None,
            on_demand_exec: None,
            broodlord: 0,
            early: false,
            isolation: Isolation::default(),
        }
    }
}

/// Being a vassal.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Vassal {
    /// Seconds between heartbeats to the emperor; 0: none.
    pub heartbeat: u32,
    pub sos: u32,
    pub sos_backlog: u32,
}
