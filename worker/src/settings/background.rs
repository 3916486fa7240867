//! What the master runs beside the workers: attached daemons, cron lines, and how alarms are raised.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Background {
    pub daemons: Vec<Daemon>,
    /// `daemons-honour-stdin`: for all of them.
    pub daemons_stdin: bool,
    pub crons: Vec<Cron>,
    /// `cron-harakiri`: seconds, for lines without their own. 0: off.
    pub cron_harakiri: u32,
    pub alarms: Alarms,
    pub descriptors: Vec<Descriptor>,
}

/// `alarm-fd`, `reload-on-fd`, `brutal-reload-on-fd`: a descriptor that whoever started us left open.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub fd: i32,
    /// What is read of it each time that it can be: 1, or 8 for an eventfd.
    pub bytes: u32,
    pub deed: DescriptorDeed,
    /// For the alarm, or for the log.
    pub message: String,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum DescriptorDeed {
    /// The name of the alarm to raise.
    Alarm(String),
    Reload,
    BrutalReload,
}

/// One `attach-daemon` line of any kind.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(default)]
pub struct Daemon {
    /// For `/bin/sh -c`.
    pub command: String,
    /// A smart daemon: it lives on beside the instance, and this file tells its pid.
    pub pidfile: Option<String>,
    /// Seconds that a smart daemon has to write its pidfile.
    pub freq: u32,
    /// Its end is the end of the instance.
    pub control: bool,
    /// The command stays in the foreground: we put it into the background and write the pidfile.
    pub daemonize: bool,
    /// It is restarted when one of these files is touched.
    pub touch: Vec<String>,
    pub stop_signal: i32,
    /// A reload sends this and leaves the daemon running; `None`: it is restarted.
    pub reload_signal: Option<i32>,
    /// It keeps the standard input of the instance.
    pub stdin: bool,
    /// Names or numbers; `None`: as the app.
    pub uid: Option<String>,
    pub gid: Option<String>,
    /// It is process 1 of a namespace of its own.
    pub ns_pid: bool,
    pub chdir: Option<String>,
    /// Seconds: the longest pause before a daemon that ends at once is started again.
    pub max_throttle: u32,
    /// A smart daemon is told of the instance's reloads and end by its signals.
    pub notify: bool,
}

impl Default for Daemon {
    /// uWSGI's numbers.
    fn default() -> Self {
        Self {
            command: String::new(),
            pidfile: None,
            freq: 10,
            control: false,
            daemonize: false,
            touch: vec![],
            stop_signal: 15,
            reload_signal: None,
            stdin: false,
            uid: None,
            gid: None,
            ns_pid: false,
            chdir: None,
            max_throttle: 300,
            notify: false,
        }
    }
}

/// One `cron` line of any kind. In each field -1 is every one, -N every one that N divides.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    pub minute: i32,
    pub hour: i32,
    pub day: i32,
    /// 1 to 12.
    pub month: i32,
    /// 0 to 7; 0 and 7 are Sunday.
    pub week: i32,
    /// For `/bin/sh -c`.
    pub command: String,
    /// Not while it still runs.
    pub unique: bool,
    /// Seconds after which it is killed; `None`: as `cron-harakiri` says.
    pub harakiri: Option<u32>,
}

impl Default for Cron {
    fn default() -> Self {
        Self { minute: -1, hour: -1, day: -1, month: -1, week: -1, command: String::new(), unique: false, harakiri: None }
    }
}

/// Alarms, and what raises them. (Lines of the log: [`super::Log`].)
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(default)]
pub struct Alarms {
    pub alarms: Vec<Alarm>,
    /// Seconds before the same message is raised again.
    pub freq: u32,
    /// Bytes of a message.
    pub message_bytes: u32,
    /// Names of those for a full listen queue, and for a crash.
    pub backlog: Vec<String>,
    pub segfault: Vec<String>,
}

impl Default for Alarms {
    /// uWSGI's numbers.
    fn default() -> Self {
        Self { alarms: vec![], freq: 3, message_bytes: 8192, backlog: vec![], segfault: vec![] }
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub name: String,
    pub deed: AlarmDeed,
}

/// What an alarm does with its message.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub enum AlarmDeed {
    /// A line in the log, with this before the message.
    Log(String),
    /// For `/bin/sh -c`; the message is its standard input, without a line end as uWSGI has it, unless it is a line of the log.
    Command(String),
}
