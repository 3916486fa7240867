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
mod log;
mod lua;
mod metrics;
mod statics;

pub use background::{Alarm, AlarmDeed, Alarms, Background, Cron, Daemon, Descriptor, DescriptorDeed};
pub use cache::{CacheSettings, CacheSettingsError, OldCache, Preload, PreloadWhat};
pub use cheaper::{Busyness, CheaperAlgorithm, CheaperRules};
pub use emperor::{Emperor, Vassal};
pub use isolation::{GroupLimits, Isolation, Level, Made, Measures, Seccomp};
pub use log::{Log, Stats};
pub use lua::{Lua, is_lua_mount};
pub use metrics::{Carbon, MetricSettings};
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

/// What a socket speaks.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Uwsgi,
    /// One request a connection (`http-socket`).
    Http,
    /// Keep-alive (`http11-socket`).
    Http11,
}

impl Protocol {
    /// Whether a connection may serve more than one request.
    pub fn keeps(self) -> bool {
        self == Self::Http11
    }

    /// As stats print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uwsgi => "uwsgi",
            Self::Http => "http",
            Self::Http11 => "http11",
        }
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Socket {
    /// As configured: `host:port`, `:port`, a path, `@name`, `fd://N`, `=N`, `::` ...
    pub address: String,
    pub protocol: Protocol,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct SocketOptions {
    /// `listen`; `None`: min(somaxconn, 4096).
    pub backlog: Option<i32>,
    /// `chmod-socket`, permission bits.
    pub chmod: Option<u32>,
    /// `chown-socket`, `user[:group]`.
    pub chown: Option<String>,
    pub reuse_port: bool,
    pub freebind: bool,
    pub keepalive: bool,
    pub tcp_nodelay: bool,
    /// TCP_DEFER_ACCEPT; off with `no-defer-accept`.
    pub defer_accept: bool,
    pub send_timeout: u32,
    pub sndbuf: u32,
    pub rcvbuf: u32,
    /// `zerg`: servers to fetch sockets from; `zerg-fallback`; `zerg-server` to hand ours out; `zerg-pool` `PATH:ADDR,...`.
    pub zerg: Vec<String>,
    pub zerg_fallback: bool,
    pub zerg_server: Option<String>,
    pub zerg_pool: Vec<String>,
    /// `umask`.
    pub umask: Option<u32>,
    /// What plain `socket` speaks; already applied to [`Settings::sockets`].
    pub protocol: Protocol,
    /// `abstract-socket`: unix sockets have abstract names; already applied to [`Settings::sockets`].
    pub abstract_names: bool,
    /// `skip-zero`: do not adopt descriptor 0 when it is a socket.
    pub skip_zero: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            backlog: None,
            chmod: None,
            chown: None,
            reuse_port: false,
            freebind: false,
            keepalive: false,
            tcp_nodelay: false,
            defer_accept: true,
            send_timeout: 0,
            sndbuf: 0,
            rcvbuf: 0,
            zerg: vec![],
            zerg_fallback: false,
            zerg_server: None,
            zerg_pool: vec![],
            umask: None,
            protocol: Protocol::Uwsgi,
            abstract_names: false,
            skip_zero: false,
        }
    }
}

/// Processes, signals, identity files.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct Process {
    pub master: bool,
    pub workers: u32,
    /// Request threads a worker.
    pub threads: u32,
    pub threads_stacksize_kib: u32,
    pub lazy_apps: bool,
    /// `worker-exec`, and `worker-exec2` after the post-fork hooks: what each worker becomes, for `/bin/sh`.
    pub worker_exec: Option<String>,
    pub worker_exec2: Option<String>,
    pub lazy: bool,
    /// `need-app`; `None`: on if an app is named.
    pub need_app: Option<bool>,
    /// `die-on-term`; `None`: TERM and QUIT both stop gracefully.
    pub die_on_term: Option<bool>,
    pub vacuum: bool,
    pub auto_procname: bool,
    pub procname: Option<String>,
    pub procname_master: Option<String>,
    pub procname_prefix: Option<String>,
    pub procname_append: Option<String>,
    pub pidfile: Option<String>,
    pub pidfile2: Option<String>,
    pub safe_pidfile: Option<String>,
    pub safe_pidfile2: Option<String>,
    pub daemonize: Option<String>,
    pub daemonize2: Option<String>,
    pub chdir: Option<String>,
    pub chdir2: Option<String>,
    /// `env` lines, `K=V`, and `unenv`, in order; applied before anything of the app's runs.
    pub env: Vec<String>,
    pub unenv: Vec<String>,
    pub master_fifo: Vec<String>,
    pub cpu_affinity: u32,
    pub nice: Option<i32>,
    /// `forkbomb-delay`: the longest pause between respawns of one worker that dies at once.
    pub forkbomb_delay: u32,
    pub cheaper: Option<u32>,
    pub cheaper_initial: Option<u32>,
    pub cheaper_rules: CheaperRules,
    pub cheap: bool,
    pub idle: u32,
    pub die_on_idle: bool,
    pub skip_atexit: bool,
    pub honour_stdin: bool,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            master: true,
            workers: 1,
            threads: 1,
            threads_stacksize_kib: 0,
            lazy_apps: false,
            worker_exec: None,
            worker_exec2: None,
            lazy: false,
            need_app: None,
            die_on_term: None,
            vacuum: true,
            auto_procname: true,
            procname: None,
            procname_master: None,
            procname_prefix: None,
            procname_append: None,
            pidfile: None,
            pidfile2: None,
            safe_pidfile: None,
            safe_pidfile2: None,
            daemonize: None,
            daemonize2: None,
            chdir: None,
            chdir2: None,
            env: vec![],
            unenv: vec![],
            master_fifo: vec![],
            cpu_affinity: 0,
            nice: None,
            forkbomb_delay: 2,
            cheaper: None,
            cheaper_initial: None,
            cheaper_rules: CheaperRules::default(),
            cheap: false,
            idle: 0,
            die_on_idle: false,
            skip_atexit: false,
            honour_stdin: false,
        }
    }
}

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

/// Who the app runs as, and what it may see.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Privileges {
    /// Name or number, as configured.
    pub uid: Option<String>,
    pub gid: Option<String>,
    /// `immediate-uid`, `immediate-gid`: of the master.
    pub immediate_uid: Option<String>,
    pub immediate_gid: Option<String>,
    pub add_gid: Vec<String>,
    pub no_initgroups: bool,
    pub drop_after_init: bool,
    pub drop_after_apps: bool,
    pub master_as_root: bool,
    pub chroot: Option<String>,
    /// `unshare`, `unshare2`: comma lists as configured.
    pub unshare: Vec<String>,
    pub unshare2: Vec<String>,
    pub jailed: bool,
    pub pivot_root: Option<String>,
    pub cap: Vec<String>,
    /// `cgroup` directories and `cgroup-opt` `FILE=VALUE` or `FILE:VALUE`.
    pub cgroup: Vec<String>,
    pub cgroup_opt: Vec<String>,
    pub cgroup_dir_mode: Option<u32>,
}

/// One `hook-PHASE`, `exec-PHASE`, `mount-PHASE`, `umount-PHASE` line.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// `asap`, `pre-jail`, `as-root`, `emperor-start`, `as-vassal` ...
    pub phase: String,
    /// `hook`, `exec`, `mount`, `umount`.
    pub kind: String,
    /// `action:args` of a hook, else the arguments.
    pub text: String,
}

/// The wire and the body.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct RequestSettings {
    /// `buffer-size`; `None`: the protocol's 65535.
    pub buffer_size: Option<u32>,
    pub socket_timeout: u32,
    pub http_timeout: u32,
    /// `offload-threads`; `None`: one, started when it is first needed; 0: a request thread waits for its peer itself.
    pub offload_threads: Option<u32>,
    /// `offload-timeout`: seconds that a peer may read nothing of a response that no worker waits for.
    pub offload_timeout: u32,
    pub disable_sendfile: bool,
    pub limit_post: u64,
    pub post_buffering: u64,
    pub post_buffering_bufsize: u64,
    pub manage_script_name: bool,
    pub ignore_script_name: bool,
    pub no_default_app: bool,
    pub max_apps: u32,
    pub vhost: bool,
    pub vhost_host: bool,
    /// Whether a request may name the code to load (UWSGI_FILE ...): off by default, never from an HTTP socket.
    pub dynamic_apps: bool,
    pub disable_write_exception: bool,
    pub add_header: Vec<String>,
    pub del_header: Vec<String>,
    pub enable_proxy_protocol: bool,
    pub chunked_input_limit: u64,
    pub chunked_input_timeout: u32,
    pub http_modifier1: u8,
    pub http_modifier2: u8,
    /// `error-page-403`, `-404`, `-500`: status and file, in order; the first that can be read is the body of our own answer.
    pub error_pages: Vec<(u16, String)>,
    /// `collect-header`: a header of the app's and the variable that keeps its value.
    pub collect_header: Vec<(String, String)>,
    /// The variable whose value, if an app's header has set it, names the file that is sent instead of the app's body.
    pub file_variable: Option<String>,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            buffer_size: None,
            socket_timeout: 4,
            http_timeout: 60,
            offload_threads: None,
            offload_timeout: 60,
            disable_sendfile: false,
            limit_post: 0,
            post_buffering: 0,
            post_buffering_bufsize: 8192,
            manage_script_name: false,
            ignore_script_name: false,
            no_default_app: false,
            max_apps: 64,
            vhost: false,
            vhost_host: false,
            dynamic_apps: false,
            disable_write_exception: false,
            add_header: vec![],
            del_header: vec![],
            enable_proxy_protocol: false,
            chunked_input_limit: 1 << 20,
            chunked_input_timeout: 4,
            http_modifier1: 0,
            http_modifier2: 0,
            error_pages: vec![],
            collect_header: vec![],
            file_variable: None,
        }
    }
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Python {
    pub wsgi_file: Option<String>,
    /// `mod`, `mod:name` or `mod:factory()`.
    pub module: Option<String>,
    pub callable: Option<String>,
    pub eval: Option<String>,
    /// `/path=what`, in order.
    pub mounts: Vec<String>,
    pub home: Option<String>,
    /// `python-bin`: a path, or a version such as `3.12`.
    pub bin: Option<String>,
    /// What `plugin = python311` and the like demand.
    pub wanted_version: Option<String>,
    pub pythonpath: Vec<String>,
    pub import: Vec<String>,
    pub shared_import: Vec<String>,
    pub pyargv: Option<String>,
    pub executable: Option<String>,
    pub optimize: u8,
    pub no_site: bool,
    pub pymodule_alias: Vec<String>,
    pub post_pymodule_alias: Vec<String>,
    pub pyrun: Option<String>,
    pub worker_override: Option<String>,
    pub catch_exceptions: bool,
    pub accept_buffer: bool,
    pub strict: bool,
    pub start_response_nodelay: bool,
    pub disable_file_wrapper: bool,
    /// Seconds; 0: off.
    pub autoreload: u32,
    pub autoreload_ignore: Vec<String>,
    pub tracebacker: Option<String>,
    /// `plugins-dir`: where else to look for the extension module.
    pub plugins_dir: Vec<String>,
    pub test: Option<String>,
    /// Said in the configuration; without it the start says that several apps share one interpreter.
    pub single_interpreter: bool,
}

impl Python {
    pub fn names_app(&self) -> bool {
        self.wsgi_file.is_some() || self.module.is_some() || self.eval.is_some() || !self.mounts.is_empty()
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
