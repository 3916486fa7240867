//! Hooks and programs of the emperor's, run in processes beside it: however long they take, supervision goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use imperator_sys::process::{self, Fork};
use imperator_sys::spawn;
use imperator_worker::hooks::{Action, Effects, Hooks};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::core::{Exit, Owner};

/// How long one may take before it is killed.
const LIMIT_MS: u64 = 60_000;

/// The processes beside.
#[derive(Default)]
pub struct Asides {
    running: BTreeMap<i32, Aside>,
}

struct Aside {
    what: String,
    /// `Now::ms`.
    until: u64,
}

/// Who a hook is about.
pub struct About<'a> {
    pub name: &'a str,
    pub pid: i32,
    pub owner: Owner,
    /// Where the vassal starts.
    pub directory: &'a Path,
}

impl Asides {
    /// The phase `as-emperor`, after a vassal was started.
    pub fn as_emperor(&mut self, hooks: &Hooks, about: &About<'_>, now_ms: u64) {
        if hooks.any("as-emperor") {
            self.start(format!("as-emperor hooks for {}", about.name), now_ms, || run_as_emperor(hooks, about));
        }
    }

    /// `vassals-stop-hook`: a program, executed directly.
    pub fn stop_hook(&mut self, program: &str, name: &str, directory: &Path, now_ms: u64) {
        self.start(format!("vassals-stop-hook {program} for {name}"), now_ms, || {
            let error = Command::new(program).arg(name).env("UWSGI_VASSALS_DIR", directory).current_dir(directory).exec();
            tracing::error!("[emperor] vassals-stop-hook {program}: {error}");
            1
        });
    }

    /// `emperor-on-demand-exec`: a shell line whose first line of output is an address. Returns where to read it.
    pub fn ask_for_socket(&mut self, command: &str, name: &str, directory: &Path, now_ms: u64) -> io::Result<OwnedFd> {
        let (answer, output) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        process::set_nonblocking(answer.as_fd(), true)?;
        self.start(format!("emperor-on-demand-exec for {name}"), now_ms, || {
            let line = format!("{command} \"$@\"");
            let error = Command::new("/bin/sh").args(["-c", &line, "sh", name]).current_dir(directory).stdout(File::from(output)).exec();
            tracing::error!("[emperor] emperor-on-demand-exec: {error}");
            1
        });
        Ok(answer)
    }

    fn start(&mut self, what: String, now_ms: u64, work: impl FnOnce() -> i32) {
        match process::fork() {
            Ok(Fork::Parent(pid)) => {
                self.running.insert(pid.as_raw(), Aside { what, until: now_ms + LIMIT_MS });
            }
            Ok(Fork::Child) => process::exit_now(if prepare().is_ok() { work() } else { 1 }),
            Err(error) => tracing::error!("[emperor] {what}: cannot fork: {error}"),
        }
    }

    /// Whether the process was one of these.
    pub fn ended(&mut self, pid: i32, exit: Exit) -> bool {
        let Some(aside) = self.running.remove(&pid) else { return false };
        if exit != Exit::Code(0) {
            tracing::warn!("[emperor] {} ended with {exit}", aside.what);
        }
        true
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.running.values().map(|a| a.until).min()
    }

    /// At the end of the emperor they have less time.
    pub fn hurry(&mut self, until_ms: u64) {
        self.running.values_mut().for_each(|a| a.until = a.until.min(until_ms));
    }

    /// Kills those whose time is over.
    pub fn tick(&mut self, now_ms: u64) {
        for (pid, aside) in &mut self.running {
            if aside.until <= now_ms {
                tracing::warn!("[emperor] {} takes too long, killed", aside.what);
                // Its own process group, so that what it started goes too.
                let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL).or_else(|_| kill(Pid::from_raw(*pid), Signal::SIGKILL));
                aside.until = now_ms + LIMIT_MS;
            }
        }
    }
}

/// In the forked process.
fn prepare() -> io::Result<()> {
    spawn::default_signals()?;
    nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    process::redirect(File::open("/dev/null")?.as_fd(), 0)
}

/// Every hook of the phase, whatever becomes of those before it.
fn run_as_emperor(hooks: &Hooks, about: &About<'_>) -> i32 {
    let _ = std::env::set_current_dir(about.directory);
    let mut effects = Effects::default();
    let variables = [
        ("CONFIG", about.name.to_owned()),
        ("PID", about.pid.to_string()),
        ("UID", about.owner.uid.to_string()),
        ("GID", about.owner.gid.to_string()),
    ];
    for (name, value) in variables {
        let set = Action::parse(&format!("putenv:UWSGI_VASSAL_{name}={value}")).and_then(|action| action.run(&mut effects));
        if let Err(error) = set {
            tracing::warn!("[emperor] UWSGI_VASSAL_{name}: {error}");
        }
    }
    for hook in hooks.of("as-emperor") {
        if let Err(error) = hook.action.run(&mut effects) {
            tracing::warn!("[emperor] as-emperor hook for {}: {error}", about.name);
        }
    }
    0
}
