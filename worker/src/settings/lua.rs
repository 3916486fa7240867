//! Lua's settings.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Lua {
    /// The WSAPI app.
    pub app: Option<String>,
    /// `/path=file.lua`, in order.
    pub mounts: Vec<String>,
    /// Files to run in each state before the apps.
    pub load: Vec<String>,
    /// 0: a full collection after each request; N: after the first and then each Nth of a core.
    pub gc_freq: u64,
    /// Worker 1 runs `debug.debug()` on its standard input before it serves.
    pub shell: bool,
    /// Of each state; 0: none.
    pub memory_limit_mib: u64,
    /// Seconds between looks at the files, where the kernel does not tell of changes; 0: off.
    pub autoreload: u32,
}

impl Lua {
    /// Whether the configuration asks for Lua states.
    pub fn is_wanted(&self) -> bool {
        self.names_app() || !self.load.is_empty() || self.shell
    }

    pub fn names_app(&self) -> bool {
        self.app.is_some() || !self.mounts.is_empty()
    }
}

/// Whether a `mount` line (`/path=what`) names a Lua file.
pub fn is_lua_mount(line: &str) -> bool {
    line.split_once('=').is_some_and(|(_, what)| what.ends_with(".lua") || what.ends_with(".ws"))
}
