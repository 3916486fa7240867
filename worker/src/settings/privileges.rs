//! Who the app runs as, and hooks.

use serde::{Deserialize, Serialize};

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
    /// `setns`: where namespaces are given to be joined: a folder, a file of nsfs or a socket.
    pub setns: Option<String>,
    /// `setns-socket`: where the app's namespaces are handed out.
    pub setns_socket: Option<String>,
    /// `setns-socket-skip`: names of namespaces that are not.
    pub setns_skip: Vec<String>,
    /// `setns-preopen`: hand out those of the master.
    pub setns_preopen: bool,
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
