//! Shell commands that the running master starts beside its workers: daemons, cron lines, alarms, touched files. They are the app's in every
//! respect (user, jail, environment, log), each with a session of its own, and nothing waits for them: the master forks, and reaps.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use imperator_sys::process::{self, Fork};
use imperator_sys::{fork, spawn};
use imperator_worker::isolation::joined::KINDS;
use imperator_worker::log::diag::say;
use imperator_worker::privileges::{Identity, Plan, flags};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::unistd::{Pid, setsid};

use super::running::Master;
use super::spawn::{die_with, environment_now};
use crate::privileges::{group, user};

/// A command to start.
#[derive(Default)]
pub struct Helper<'h> {
    pub command: &'h str,
    pub directory: Option<&'h str>,
    /// Descriptor 0; `None`: /dev/null, or what it is with `inherit_stdin`.
    pub stdin: Option<BorrowedFd<'h>>,
    pub inherit_stdin: bool,
    /// It ends with the master.
    pub tied: bool,
    /// Fork once more, and write the pid of that process here.
    pub background: Option<&'h str>,
    pub uid: Option<&'h str>,
    pub gid: Option<&'h str>,
    pub ns_pid: bool,
}

/// What the child needs to know, resolved before the fork.
struct Birth<'b> {
    helper: &'b Helper<'b>,
    argv: [CString; 3],
    env: Vec<CString>,
    log: BorrowedFd<'b>,
    null: std::fs::File,
    identity: Option<Identity>,
    plan: Plan,
    /// Whose namespaces it shares.
    zygote: Option<i32>,
    master: Pid,
}

impl Master {
    /// What somebody who acts in the app's name has given up: all that the app has, or with `master-as-root` nothing.
    pub(super) fn rights(&self) -> Plan {
        let as_root = self.last_settings.as_ref().is_some_and(|s| s.privileges.master_as_root);
        self.last_plan.clone().filter(|_| !as_root).unwrap_or_default()
    }

    /// Starts it; the pid of the first process of its session.
    ///
    /// # Errors
    /// No fork, or no such user. What goes wrong in the child is in the log, and it ends with 1.
    pub(super) fn start_helper(&self, helper: &Helper<'_>) -> Result<Pid> {
        let settings = self.last_settings.as_ref().context("nothing was configured yet")?;
        let plan = self.rights();
        let zygote = self.current().and_then(|(number, _)| self.instance.generations.iter().find(|g| g.number == number)?.zygote.pid());
        let text = |text: &str| CString::new(text).context("a NUL in a command or in its environment");
        let env = environment_now(&self.start, settings);
        let birth = Birth {
            helper,
            argv: [c"/bin/sh".to_owned(), c"-c".to_owned(), text(helper.command)?],
            env: env.iter().map(|(key, value)| text(&format!("{key}={value}"))).collect::<Result<_>>()?,
            log: self.logs.stderr(),
            null: std::fs::File::open("/dev/null")?,
            identity: identity(helper)?.or_else(|| plan.identity.clone()),
            plan,
            zygote,
            master: nix::unistd::getpid(),
        };
        let namespaces = if helper.ns_pid { CloneFlags::CLONE_NEWPID } else { CloneFlags::empty() };
        match spawn::fork_into(namespaces).context("fork")? {
            Fork::Parent(pid) => Ok(pid),
            Fork::Child => {
                let error = match birth.become_command() {
                    Ok(never) => match never {},
                    Err(error) => error,
                };
                say(&format!("cannot run \"{}\": {error:#}", helper.command));
                process::exit_now(1)
            }
        }
    }
}

fn identity(helper: &Helper<'_>) -> Result<Option<Identity>> {
    if helper.uid.is_none() && helper.gid.is_none() {
        return Ok(None);
    }
    let found = helper.uid.map(user).transpose()?;
    let gid = helper.gid.map(group).transpose()?.or(found.as_ref().and_then(|(_, entry)| entry.as_ref().map(|e| e.gid)));
    let gid = gid.unwrap_or_else(nix::unistd::getegid);
    Ok(Some(Identity { uid: found.map(|(uid, _)| uid.as_raw()), gid: gid.as_raw(), groups: vec![gid.as_raw()] }))
}

impl Birth<'_> {
    fn become_command(&self) -> Result<std::convert::Infallible> {
        prctl::set_name(c"helper")?;
        setsid()?;
        if self.helper.tied && !self.helper.ns_pid {
            die_with(self.master)?;
        }
        if let Some(pidfile) = self.helper.background {
            into_background(pidfile)?;
        }
        spawn::default_signals()?;
        match self.helper.stdin {
            Some(stdin) => process::redirect(stdin, 0)?,
            None if self.helper.inherit_stdin => {}
            None => process::redirect(self.null.as_fd(), 0)?,
        }
        process::redirect(self.log, 1)?;
        process::redirect(self.log, 2)?;
        self.enter_namespaces()?;
        self.plan.join_groups()?;
        self.plan.enter_jail()?;
        if let Some(keep) = &self.plan.capabilities {
            spawn::limit_bounding_set(keep).context("cap")?;
        }
        if let Some(directory) = self.helper.directory {
            nix::unistd::chdir(directory).with_context(|| format!("chdir = {directory}"))?;
        }
        if let Some(identity) = &self.identity {
            identity.take(self.plan.capabilities.as_deref())?;
        }
        if self.helper.tied {
            prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?; // a change of user forgets it
        }
        self.plan.seal()?;
        nix::unistd::execve(&self.argv[0], &self.argv, &self.env).context("/bin/sh")
    }

    /// Those of the app: a daemon of its own network could not be reached.
    fn enter_namespaces(&self) -> Result<()> {
        let Some(zygote) = self.zygote else { return Ok(()) };
        let given = self.plan.setns.iter().flat_map(|_| KINDS).map(|(_, flag)| flag).filter(|flag| *flag != CloneFlags::CLONE_NEWPID);
        let made = flags(&self.plan.unshare)? | flags(&self.plan.unshare2)? | flags(&self.plan.own_namespaces)?;
        let shared = given.fold(made, |all, one| all | one);
        if !shared.is_empty() {
            let zygote = fork::pidfd(Pid::from_raw(zygote)).context("the app's namespaces")?;
            setns(zygote, shared).context("the app's namespaces")?;
        }
        Ok(())
    }
}

/// Goes on in a child, and ends here once the pidfile names that child.
fn into_background(pidfile: &str) -> Result<()> {
    match process::fork()? {
        Fork::Child => Ok(setsid().map(drop)?),
        Fork::Parent(pid) => {
            let written = std::fs::File::create(pidfile).and_then(|mut file| file.write_all(format!("{pid}\n").as_bytes()));
            if let Err(error) = &written {
                say(&format!("pidfile = {pidfile}: {error}"));
            }
            process::exit_now(i32::from(written.is_err()))
        }
    }
}
