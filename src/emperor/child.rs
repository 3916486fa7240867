//! What a forked child does on its way to become a vassal.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use imperator_sys::process::{self, Fork};
use imperator_sys::spawn;
use imperator_worker::hooks::Hooks;
use imperator_worker::isolation::users;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, User};

use super::core::Owner;
use super::launch;
use crate::config::reader::from_emperor::FD_ENV as CONFIG_FD_ENV;
use crate::privileges::{Cell, FORCED_ENV};

/// Exit code of a child that found nothing to execute.
const NOTHING_TO_EXECUTE: i32 = 26;

/// All that a vassal's process is made of.
pub struct Birth<'b> {
    /// As it is known to the emperor.
    pub name: String,
    pub programs: Vec<OsString>,
    pub arguments: Vec<OsString>,
    /// `UWSGI_BROODLORD_NUM`; 0: no zerg.
    pub zerg: u32,
    pub directory: PathBuf,
    /// Descriptor 0; `None`: /dev/null.
    pub stdin: Option<BorrowedFd<'b>>,
    /// The vassal's end of the pipe.
    pub pipe: OwnedFd,
    /// The emperor's end, of which the child drops its copy.
    pub our_end: Option<OwnedFd>,
    /// The vassal's end of what it is asked over.
    pub asked: BorrowedFd<'b>,
    /// The vassal's end of what its configuration comes over, if it has no file.
    pub config: Option<BorrowedFd<'b>>,
    /// Where its standard output and error go; `None`: where ours go.
    pub log: Option<BorrowedFd<'b>>,
    /// RLIMIT_NOFILE, soft and hard.
    pub descriptors: Option<(u64, u64)>,
    /// Whom to become (tyrant mode), and whether with all of that user's groups.
    pub user: Option<(Owner, bool)>,
    pub namespaces: CloneFlags,
    /// The bounding set of capabilities, if it is limited.
    pub capabilities: Option<&'b [u32]>,
    /// What the emperor demands of it.
    pub cell: Cell,
    pub start_hook: Option<&'b str>,
    pub hooks: &'b Hooks,
}

impl Birth<'_> {
    /// Forks. The parent gets the pid and its end of the pipe back; the child never returns.
    pub fn fork(mut self) -> io::Result<(Pid, Option<OwnedFd>)> {
        let emperor = nix::unistd::getpid();
        let users = Users::of(self.namespaces)?;
        match spawn::fork_into(self.namespaces)? {
            Fork::Parent(pid) => {
                users.give(pid);
                Ok((pid, self.our_end))
            }
            Fork::Child => {
                let name = self.name.clone();
                self.our_end = None;
                let code = users.take().and_then(|()| self.become_vassal(emperor)).unwrap_or_else(|error| {
                    tracing::error!("vassal {name}: {error:#}");
                    1
                });
                process::exit_now(code)
            }
        }
    }

    /// Ends in the exec; what comes back is the exit code.
    fn become_vassal(self, emperor: Pid) -> anyhow::Result<i32> {
        spawn::default_signals().context("signals")?;
        self.die_with(emperor)?;
        self.set_up_descriptors().context("descriptors")?;
        if self.namespaces.contains(CloneFlags::CLONE_NEWNS) {
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).context("private mounts")?;
        }
        self.cell.enter().context("isolation")?;
        std::env::set_current_dir(&self.directory).with_context(|| format!("chdir {}", self.directory.display()))?;
        if let Some(capabilities) = self.capabilities {
            spawn::limit_bounding_set(capabilities).context("vassal-cap")?;
        }
        if let Some((owner, all_groups)) = self.user {
            become_user(owner, all_groups)?;
            self.die_with(emperor)?; // a change of user cancels the request
        }
        self.run_start_hook();
        if let Some(code) = self.hooks.run("as-vassal")?.exit {
            return Ok(code);
        }
        self.cell.close().context("isolation")?;
        Ok(self.execute())
    }

    /// SIGKILL when the emperor ends, also if it has ended already.
    fn die_with(&self, emperor: Pid) -> anyhow::Result<()> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("PR_SET_PDEATHSIG")?;
        // From inside a new pid namespace the parent is 0, be it dead or alive.
        let elsewhere = self.namespaces.contains(CloneFlags::CLONE_NEWPID);
        anyhow::ensure!(elsewhere || nix::unistd::getppid() == emperor, "the emperor has ended");
        Ok(())
    }

    fn set_up_descriptors(&self) -> io::Result<()> {
        process::cloexec_from_3()?;
        process::set_cloexec(self.pipe.as_fd(), false)?;
        process::set_cloexec(self.asked, false)?;
        self.config.map_or(Ok(()), |config| process::set_cloexec(config, false))?;
        if let Some(log) = self.log {
            process::redirect(log, 1)?;
            process::redirect(log, 2)?;
        }
        if let Some((soft, hard)) = self.descriptors {
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
        }
        match self.stdin {
            Some(socket) => process::redirect(socket, 0),
            None => process::redirect(std::fs::File::open("/dev/null")?.as_fd(), 0),
        }
    }

    /// `vassals-start-hook`: a program, executed directly; what becomes of it does not matter.
    fn run_start_hook(&self) {
        let Some(program) = self.start_hook else { return };
        let run = Command::new(program).arg(&self.name).env("UWSGI_VASSALS_DIR", &self.directory).status();
        if let Err(error) = run {
            tracing::error!("vassal {}: vassals-start-hook {program}: {error}", self.name);
        }
    }

    fn execute(&self) -> i32 {
        // In a pid namespace of its own nobody told us if the emperor died meanwhile; its end of the pipe does.
        if self.namespaces.contains(CloneFlags::CLONE_NEWPID) && self.is_abandoned() {
            return 1;
        }
        // Hooks may have changed the environment.
        let mut own = launch::environment(std::env::vars_os(), (self.pipe.as_raw_fd(), self.asked.as_raw_fd()), self.zerg);
        own.retain(|(name, _)| name != FORCED_ENV);
        own.extend(self.config.map(|fd| (CONFIG_FD_ENV.into(), fd.as_raw_fd().to_string().into())));
        own.extend(self.cell.environment.iter().map(|(name, value)| (name.into(), value.into())));
        let pairs = own.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let environment: Vec<CString> = pairs.filter_map(|pair| CString::new(pair).ok()).collect();
        for program in &self.programs {
            let argv = [program].into_iter().chain(&self.arguments).filter_map(|a| CString::new(a.clone().into_vec()).ok());
            let argv: Vec<CString> = argv.collect();
            let Some(path) = argv.first() else { continue };
            let Err(error) = nix::unistd::execvpe(path, &argv, &environment);
            tracing::error!("vassal {}: cannot execute {}: {}", self.name, program.to_string_lossy(), error.desc());
        }
        NOTHING_TO_EXECUTE
    }

    fn is_abandoned(&self) -> bool {
        let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
    }
}

/// The users of a new user namespace: those of outside. Without them nobody would be anybody in it.
enum Users {
    None,
    /// Of an emperor that is not root: its own user and group, which the child may map itself.
    Own(u32, u32),
    /// All of them, which only the emperor may map; the child waits for it.
    All {
        told: File,
        tell: File,
    },
}

impl Users {
    fn of(namespaces: CloneFlags) -> io::Result<Self> {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if !namespaces.contains(CloneFlags::CLONE_NEWUSER) {
            return Ok(Self::None);
        }
        if !uid.is_root() {
            return Ok(Self::Own(uid.as_raw(), gid.as_raw()));
        }
        let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        Ok(Self::All { told: told.into(), tell: tell.into() })
    }

    /// A child that hears nothing ends.
    fn give(self, child: Pid) {
        let Self::All { mut tell, .. } = self else { return };
        let done = File::open(format!("/proc/{child}")).and_then(|process| users::map_all(&process)).and_then(|()| tell.write_all(b"1"));
        if let Err(error) = done {
            tracing::error!("[emperor] the users of a user namespace: {error}");
        }
    }

    fn take(self) -> anyhow::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Own(uid, gid) => {
                // An emperor that was root before may not write to its own /proc until then; the exec to come would say the same.
                nix::sys::prctl::set_dumpable(true)?;
                Ok(users::map_own(uid, gid)?)
            }
            Self::All { mut told, tell } => {
                drop(tell);
                told.read_exact(&mut [0]).context("the users of a user namespace")
            }
        }
    }
}

fn become_user(owner: Owner, all_groups: bool) -> anyhow::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    anyhow::ensure!(!uid.is_root() && owner.gid != 0, "in tyrant mode nothing runs as root");
    nix::unistd::setgid(gid).context("setgid")?;
    match User::from_uid(uid).ok().flatten().filter(|_| all_groups) {
        Some(user) => nix::unistd::initgroups(&CString::new(user.name)?, gid).context("initgroups")?,
        None => nix::unistd::setgroups(&[]).context("setgroups")?,
    }
    nix::unistd::setuid(uid).context("setuid")
}
