//! The resolved settings of an instance: what the configuration said, typed.
//!
//! Only `src/config` knows ini files; everything else (emperor, master, zygote, workers) reads this, and a process that is
//! started gets it as JSON. Times are seconds and sizes are bytes unless a name says otherwise. `Default` is our default
//! for every option (the table in docs/architecture.md says where that differs from uWSGI's).

use serde::{Deserialize, Serialize};

mod background;
mod cache;
mod cheaper;
mod emperor;
mod isolation;
mod limits;
mod log;
mod lua;
mod metrics;
mod privileges;
mod process;
mod python;
mod request;
mod sockets;
mod statics;

pub use background::{Alarm, AlarmDeed, Alarms, Background, Cron, Daemon, Descriptor, DescriptorDeed};
pub use cache::{CacheSettings, CacheSettingsError, OldCache, Preload, PreloadWhat};
pub use cheaper::{Busyness, CheaperAlgorithm, CheaperRules};
pub use emperor::{Emperor, Vassal};
pub use isolation::{GroupLimits, Isolation, Level, Made, Measures, Seccomp};
pub use limits::{Limits, Reload};
pub use log::{Log, Stats};
pub use lua::{Lua, is_lua_mount};
pub use metrics::{Carbon, MetricSettings};
pub use privileges::{Hook, Privileges};
pub use process::Process;
pub use python::Python;
pub use request::RequestSettings;
pub use sockets::{Protocol, Socket, SocketOptions};
pub use statics::{Expiry, Gzip, Mapping, ServeMode, Static, Subject};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Settings {
    pub sockets: Vec<Socket>,
    /// `shared-socket`, by number.
    pub shared_sockets: Vec<String>,
    pub socket_options: SocketOptions,
    pub process: Process,
    pub reload: Reload,
    pub limits: Limits,
    pub privileges: Privileges,
    pub isolation: Isolation,
    pub hooks: Vec<Hook>,
    pub request: RequestSettings,
    pub python: Python,
    pub lua: Lua,
    pub statics: Static,
    pub log: Log,
    pub stats: Stats,
    pub background: Background,
    pub cache: CacheSettings,
    pub metrics: MetricSettings,
    pub emperor: Emperor,
    pub vassal: Vassal,
    /// `uwsgi.opt`: every key of the list in order of first appearance with its values; `None` is an option without a value (True in Python).
    pub opt: Vec<(String, Vec<Option<String>>)>,
    /// Where the values of `opt` were written, key by key and value by value in the same order, for messages: `/srv/app.ini:3`, `command line`.
    pub origins: Vec<(String, Vec<String>)>,
}

impl Settings {
    /// Whether the configuration names an app of any language.
    pub fn names_app(&self) -> bool {
        self.python.names_app() || self.lua.names_app()
    }

    /// Whether the app's processes are a Python's: unless the configuration asks for Lua and for nothing of Python's.
    pub fn wants_python(&self) -> bool {
        let p = &self.python;
        let runs = p.names_app() || p.pyrun.is_some() || p.worker_override.is_some() || p.test.is_some();
        let loads = !p.import.is_empty() || !p.shared_import.is_empty() || self.request.dynamic_apps;
        runs || loads || !self.lua.is_wanted()
    }

    /// `need-app`, whose default depends on the configuration.
    pub fn need_app(&self) -> bool {
        self.process.need_app.unwrap_or_else(|| self.names_app())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_missing_keys_take_their_defaults() {
        let settings = Settings { sockets: vec![Socket { address: ":1".into(), protocol: Protocol::Http11 }], ..Settings::default() };
        let json = serde_json::to_string(&settings).expect("json");
        assert_eq!(serde_json::from_str::<Settings>(&json).expect("back"), settings);
        assert_eq!(serde_json::from_str::<Settings>("{}").expect("empty"), Settings::default());
    }

    #[test]
    fn need_app_follows_the_configuration() {
        let mut settings = Settings::default();
        assert!(!settings.need_app());
        settings.python.wsgi_file = Some("app.py".into());
        assert!(settings.need_app());
        settings.process.need_app = Some(false);
        assert!(!settings.need_app());
    }

    #[test]
    fn lua_alone_needs_no_python() {
        let mut settings = Settings::default();
        assert!(settings.wants_python(), "nothing at all: as ever");
        settings.lua.load = vec!["a.lua".into()];
        assert!(!settings.wants_python() && !settings.names_app());
        settings.python.import = vec!["tasks".into()];
        assert!(settings.wants_python());
    }
}
