//! Processes, signals, identity files.

use serde::{Deserialize, Serialize};

use super::CheaperRules;

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
    /// `ksm`: offer the app's memory to the kernel for merging.
    pub ksm: bool,
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
            ksm: false,
        }
    }
}
