//! What is logged, and who may ask for statistics.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Log {
    pub logto: Option<String>,
    pub logto2: Option<String>,
    pub truncate: bool,
    pub chmod: Option<u32>,
    pub chown: Option<String>,
    /// `logfile-chown`: the log file belongs to `uid` and `gid`.
    pub chown_to_user: bool,
    pub disable: bool,
    pub log_4xx: bool,
    pub log_5xx: bool,
    /// Milliseconds; 0: off.
    pub slow: u64,
    pub big: Option<u64>,
    pub zero: bool,
    pub sendfile: bool,
    pub ioerror: bool,
    pub micros: bool,
    pub x_forwarded_for: bool,
    pub format: Option<String>,
    pub format_strftime: bool,
    /// `log-date`: a strftime format; an empty one is ctime's.
    pub date: Option<String>,
    pub memory_report: bool,
    pub master: bool,
    pub master_bufsize: u32,
    pub loggers: Vec<String>,
    pub req_loggers: Vec<String>,
    /// `id regex`.
    pub routes: Vec<String>,
    pub req_routes: Vec<String>,
    pub drain: Vec<String>,
    pub filter: Vec<String>,
    pub encoders: Vec<String>,
    pub req_encoders: Vec<String>,
    /// `log-alarm`, `not-log-alarm`: `NAME[,NAME] REGEX`.
    pub alarms: Vec<String>,
    pub not_alarms: Vec<String>,
    /// Bytes; 0: off.
    pub maxsize: u64,
    pub backupname: Option<String>,
    pub reopen: bool,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Stats {
    pub address: Option<String>,
    pub http: bool,
    pub minified: bool,
    pub no_cores: bool,
    /// An address that Prometheus scrapes.
    pub prometheus: Option<String>,
    /// An address that answers `/live` and `/ready`.
    pub health: Option<String>,
    /// `queue-time`: the variable in which a front end says when it took the request.
    pub queue_time: Option<String>,
}

impl Stats {
    pub fn enabled(&self) -> bool {
        self.address.is_some()
    }
}
