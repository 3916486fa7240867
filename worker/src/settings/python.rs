//! Python apps and their interpreter.

use serde::{Deserialize, Serialize};

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
