//! What the reader has to know of the machine and the process.

use std::path::PathBuf;
use std::time::Duration;

use super::Options;
use super::TableOptions;

/// Facts that magic letters and conditions ask for. Tests make their own; the program takes [`Context::of_process`].
pub struct Context {
    pub cwd: PathBuf,
    /// Path of the running executable (`%b`).
    pub binary: PathBuf,
    pub hostname: String,
    pub cpus: usize,
    pub user: Identity,
    pub group: Identity,
    /// Since the Unix epoch.
    pub now: Duration,
    /// Whether this is a reload (`if-reload`). UWSGI_RELOADS in the environment says so too, as for uWSGI.
    pub reloading: bool,
    /// `%V`.
    pub version: String,
    /// Which options there are.
    pub options: Box<dyn Options>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub id: u32,
    /// The number as text if the system knows no name.
    pub name: String,
}

impl Context {
    /// The facts of this process, now.
    pub fn of_process() -> Self {
        Self {
            cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            binary: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("imperator")),
            hostname: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            cpus: online_cpus(),
            user: user(),
            group: group(),
            now: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default(),
            reloading: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            options: Box::new(TableOptions),
        }
    }
}

/// As uWSGI counts them: all that are online, whatever the affinity of this process.
fn online_cpus() -> usize {
    let counted = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    counted.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(1)
}

fn user() -> Identity {
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    Identity { id: uid.as_raw(), name }
}

fn group() -> Identity {
    let gid = nix::unistd::getgid();
    let name = nix::unistd::Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name);
    Identity { id: gid.as_raw(), name }
}
