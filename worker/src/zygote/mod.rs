//! The life of a process that loads apps: read what the master left, load, then fork workers on the master's word (or be the one worker itself).
//!
//! All of it is the same for every language. What differs is behind [`Runtime`].

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::control::{Boot, FromZygote, Role};
use crate::hooks::{Effects, HookError, Hooks};
use crate::host::{Host, HostError};
use crate::log::diag;
use crate::privileges::PrivilegeError;
use crate::procname;

mod forking;
mod runtime;
mod together;
mod working;

pub use runtime::{Load, Runtime};
pub use together::Together;

/// Why this process cannot do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum ZygoteError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("the master ({master}) is gone: the parent is {parent}")]
    Orphan { master: i32, parent: i32 },
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("{what}: {source}")]
    Os { what: &'static str, source: std::io::Error },
    #[error("fork failed, the reason is in the log")]
    Fork,
    /// The language's own reason; more of it is in the log.
    #[error("{0}")]
    Runtime(String),
}

pub(crate) fn os<T>(what: &'static str, done: Result<T, impl Into<std::io::Error>>) -> Result<T, ZygoteError> {
    done.map_err(|source| ZygoteError::Os { what, source: source.into() })
}

/// The first deeds of such a process, before its language runs a line: its [`Host`], its name, its tie to the master.
///
/// # Errors
/// A descriptor is missing, or the master is gone.
#[inline(never)] // what it has on the stack would be each worker's for life
pub fn begin(boot: Arc<Boot>) -> Result<&'static Host, ZygoteError> {
    let host = Host::install(boot)?;
    diag::install(host.boot.settings.log.date.as_deref());
    os("signals", imperator_sys::crash::tell())?;
    if host.boot.role == Role::Zygote {
        os("signals", imperator_sys::signals::calm())?;
        os("the process's name", prctl::set_name(c"zygote"))?;
        procname::apply(&host.boot.settings.process, "zygote");
        end_with_parent(host)?;
    }
    if host.boot.settings.process.ksm {
        offer_memory();
    }
    Ok(host)
}

/// `ksm`. Before anything is loaded, so that all of it counts; workers inherit it.
fn offer_memory() {
    let runs = std::fs::read_to_string("/sys/kernel/mm/ksm/run").is_ok_and(|text| text.trim() == "1");
    match imperator_sys::memory::merge() {
        Err(error) => diag::say(&format!("ksm: this kernel does not merge memory of processes (Linux 6.4 with CONFIG_KSM does): {error}")),
        Ok(()) if !runs => diag::say("ksm: memory is offered, and nobody merges it until `echo 1 > /sys/kernel/mm/ksm/run`"),
        Ok(()) => {}
    }
}

/// Loads, and does what the process is for; the value is its exit code.
///
/// # Errors
/// What leaves nothing to do but to end with 1. (An app that cannot be loaded is no such error.)
pub fn run(host: &'static Host, runtime: &mut dyn Runtime) -> Result<i32, ZygoteError> {
    Zygote { host, runtime, forked: BTreeSet::new() }.load_and_go()
}

/// Everything that the process knows while it loads and forks.
struct Zygote<'z> {
    host: &'static Host,
    runtime: &'z mut dyn Runtime,
    /// Workers that were forked before: what a worker does in its first life only is done.
    forked: BTreeSet<u32>,
}

/// Ties the life of this process to its parent, which has to be the master.
fn end_with_parent(host: &Host) -> Result<(), ZygoteError> {
    os("PR_SET_PDEATHSIG", prctl::set_pdeathsig(Signal::SIGKILL))?;
    let (parent, master) = (nix::unistd::getppid().as_raw(), host.boot.master_pid);
    // In a namespace of its own a process does not see its parent: 0.
    if parent != master && parent != 0 { Err(ZygoteError::Orphan { master, parent }) } else { Ok(()) }
}

impl Zygote<'_> {
    fn load_and_go(mut self) -> Result<i32, ZygoteError> {
        let loaded = self.loaded()?;
        if self.host.boot.role == Role::Single {
            return match loaded {
                Load::Done => self.alone(),
                Load::Failed { code, .. } => Ok(code),
            };
        }
        let Some(control) = self.host.take_control() else {
            return Err(ZygoteError::Runtime("a zygote without a control socket".into()));
        };
        let tell = |message: &FromZygote| os("the control socket", control.send(message, &[]));
        match loaded {
            Load::Done => {
                let language = self.runtime.language();
                tell(&FromZygote::Loaded { apps: language.apps(), language: language.name() })?;
                self.wait_for_orders(&control)
            }
            Load::Failed { code, message } => {
                tell(&FromZygote::Failed { code, message })?;
                Ok(code)
            }
        }
    }

    /// Loads, and gives up what is to be given up before or after it.
    #[inline(never)] // what it has on the stack would be each worker's for life
    fn loaded(&mut self) -> Result<Load, ZygoteError> {
        // `drop-after-init`: the runtime is up, and no line of the app's has run.
        let before = self.host.boot.settings.privileges.drop_after_init;
        let mut loaded = if before { self.drop_privileges()? } else { Load::Done };
        if loaded == Load::Done {
            loaded = self.load_first()?;
        }
        if !before && loaded == Load::Done {
            loaded = self.drop_privileges()?;
        }
        Ok(loaded)
    }

    /// What is loaded before the fork.
    fn load_first(&mut self) -> Result<Load, ZygoteError> {
        let process = &self.host.boot.settings.process;
        let mut loaded = self.runtime.begin()?;
        if loaded == Load::Done && !process.lazy_apps {
            loaded = self.load_apps()?;
        }
        if let Some(directory) = process.chdir2.as_ref().filter(|_| loaded == Load::Done) {
            os("chdir2", std::env::set_current_dir(directory))?;
        }
        Ok(loaded)
    }

    fn load_apps(&mut self) -> Result<Load, ZygoteError> {
        if let Some(code) = self.phase("pre-app") {
            return Ok(Load::Failed { code, message: "a pre-app hook ends it".into() });
        }
        let loaded = self.runtime.load()?;
        match self.phase("post-app") {
            Some(code) if loaded == Load::Done => Ok(Load::Failed { code, message: "a post-app hook ends it".into() }),
            _ => Ok(loaded),
        }
    }

    /// Runs the hooks of a phase; the exit code if they want this process to end.
    fn phase(&self, phase: &str) -> Option<i32> {
        let mut done = None;
        let hooks = &self.host.boot.settings.hooks;
        self.runtime.detached(&mut || done = Some(Hooks::parse(hooks).and_then(|hooks| hooks.run(phase))));
        match done? {
            Ok(effects) => self.heed(&effects),
            Err(error) => {
                diag::say(&error.to_string());
                Some(1)
            }
        }
    }

    /// What hooks want of this process: their alarms are raised; the exit code if it is to end.
    fn heed(&self, effects: &Effects) -> Option<i32> {
        for (name, message) in &effects.alarms {
            if let Err(error) = self.host.alarm(name, message) {
                diag::say(&format!("alarm {name}: {error}, which was to hear: {message}"));
            }
        }
        effects.exit
    }

    /// What the configuration wants given up only now.
    fn drop_privileges(&self) -> Result<Load, ZygoteError> {
        let Some(plan) = &self.host.boot.drop else { return Ok(Load::Done) };
        let effects = plan.enter(&Hooks::parse(&self.host.boot.settings.hooks)?)?;
        plan.seal()?;
        if self.host.boot.role == Role::Zygote {
            end_with_parent(self.host)?; // a change of user forgets it
        }
        let ended = |code| Load::Failed { code, message: "a hook ends it".into() };
        Ok(self.heed(&effects).map_or(Load::Done, ended))
    }
}
