//! Giving up privileges: what a process does between its master's fork and the first line of an app's code, or after the load if the
//! configuration says so. Names were resolved by the master, before any chroot hides the user database.

use std::path::{Path, PathBuf};

use imperator_sys::{caps, spawn};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chdir, chroot, getgroups, getresgid, getresuid, pivot_root, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use crate::hooks::{Effects, HookError, Hooks};
use crate::isolation::{IsolationError, Mounts, Seal, joined, users};

/// Everything that a process gives up, in the order in which it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Plan {
    /// `setns`: where namespaces are given that are joined before any is made.
    #[serde(default)]
    pub setns: Option<String>,
    /// `unshare`: comma lists of namespaces, checked.
    pub unshare: Vec<String>,
    /// `cap`: capabilities to keep, by number.
    pub capabilities: Option<Vec<u32>>,
    /// `jailed`: the post-jail phase runs even without namespaces.
    pub jailed: bool,
    pub chroot: Option<String>,
    /// `NEW OLD`.
    pub pivot_root: Option<(String, String)>,
    pub unshare2: Vec<String>,
    pub identity: Option<Identity>,
    /// Files of control groups that take the pids of their members.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
    /// Namespaces of `isolate`, as a list for `unshare`.
    #[serde(default)]
    pub own_namespaces: Vec<String>,
    #[serde(default)]
    pub mounts: Mounts,
    /// For [`Plan::seal`].
    #[serde(default)]
    pub seal: Seal,
}

/// Who to be from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `None`: stays as it is.
    pub uid: Option<u32>,
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
}

/// A step that could not be taken. The process must end then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("unknown namespace {0:?} (known: fs, ipc, net, pid, uts, user, cgroup)")]
    Namespace(String),
    #[error("{step}: {source}")]
    Step { step: String, source: std::io::Error },
    #[error("after dropping privileges this process is still uid {uid}, gid {gid}, groups {groups:?}")]
    NotDropped { uid: u32, gid: u32, groups: Vec<u32> },
    #[error("this process could become root again")]
    RootAgain,
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl Plan {
    /// Carries it out but for the [`Plan::seal`], with the hooks of the phases in between. There is no way back. What these hooks want of the process is the caller's to do;
    /// one that wants it to end ends the way here.
    ///
    /// # Errors
    /// The step that failed, or that did not have its effect.
    pub fn enter(&self, hooks: &Hooks) -> Result<Effects, PrivilegeError> {
        self.join_groups()?;
        self.setns.as_deref().map_or(Ok(()), joined::enter)?;
        self.enter_namespaces(&self.unshare)?;
        self.enter_namespaces(&self.own_namespaces)?;
        self.mounts.make()?;
        if let Some(keep) = &self.capabilities {
            step("cap", spawn::limit_bounding_set(keep))?;
        }
        let mut done = Effects::default();
        if self.jailed || !self.unshare.is_empty() {
            done = hooks.run("post-jail")?;
        }
        self.enter_jail()?;
        done = done.go_on(|| hooks.run("in-jail"))?;
        if done.exit.is_some() {
            return Ok(done);
        }
        self.enter_namespaces(&self.unshare2)?;
        done = done.go_on(|| hooks.run("as-root"))?;
        if done.exit.is_some() {
            return Ok(done);
        }
        self.limit_capabilities()?;
        if let Some(identity) = &self.identity {
            identity.take(self.capabilities.as_deref())?;
        }
        Ok(done.go_on(|| hooks.run("as-user"))?)
    }

    /// What is given up when nothing else has to be done any more: capabilities, files, system calls.
    ///
    /// # Errors
    /// The part that the kernel refused.
    pub fn seal(&self) -> Result<(), PrivilegeError> {
        Ok(self.seal.close()?)
    }

    /// Goes into the control groups.
    ///
    /// # Errors
    /// One that is not there any more, or takes nobody.
    pub fn join_groups(&self) -> Result<(), PrivilegeError> {
        for members in &self.groups {
            // 0 is whoever writes it, in whatever process namespace.
            step(&format!("cgroup: {}", members.display()), std::fs::write(members, "0"))?;
        }
        Ok(())
    }

    /// The bounding set has to be emptied while this process may: before it is another user.
    fn limit_capabilities(&self) -> Result<(), PrivilegeError> {
        if self.seal.drop_capabilities && self.capabilities.is_none() && caps::has(caps::SETPCAP) {
            step("dropping capabilities", spawn::limit_bounding_set(&[]))?;
        }
        Ok(())
    }

    fn enter_namespaces(&self, lists: &[String]) -> Result<(), PrivilegeError> {
        let flags = flags(lists)?;
        if flags.is_empty() {
            return Ok(());
        }
        if flags.contains(CloneFlags::CLONE_NEWUSER) {
            users::enter(flags)?;
        } else {
            step(&format!("unshare = {}", lists.join(",")), unshare(flags).map_err(Into::into))?;
        }
        if flags.contains(CloneFlags::CLONE_NEWNS) {
            // What is mounted in here stays in here.
            let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
            step("making mounts private", private.map_err(Into::into))?;
        }
        Ok(())
    }

    /// The other root directory, if there is one.
    ///
    /// # Errors
    /// The step that failed.
    pub fn enter_jail(&self) -> Result<(), PrivilegeError> {
        if let Some(directory) = &self.chroot {
            step(&format!("chroot = {directory}"), chroot(Path::new(directory)).map_err(Into::into))?;
            step("chdir into the jail", chdir("/").map_err(Into::into))?;
        }
        if let Some((new, old)) = &self.pivot_root {
            step(&format!("pivot_root = {new} {old}"), pivot_root(Path::new(new), Path::new(old)).map_err(Into::into))?;
            step("chdir into the new root", chdir("/").map_err(Into::into))?;
        }
        Ok(())
    }
}

/// The flags of several lists, without `pid`, which is the master's business (it forks once more for it).
///
/// # Errors
/// The first name that is none.
pub fn flags(lists: &[String]) -> Result<CloneFlags, PrivilegeError> {
    let each = lists.iter().map(|list| spawn::namespaces(list).map_err(PrivilegeError::Namespace));
    Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().fold(CloneFlags::empty(), |a, b| a | b) - CloneFlags::CLONE_NEWPID)
}

impl Identity {
    /// Becomes it, keeping `capabilities` over the change and over what is executed next.
    ///
    /// # Errors
    /// A step that the kernel refused, or one that did not have its effect: all of it is read back.
    pub fn take(&self, capabilities: Option<&[u32]>) -> Result<(), PrivilegeError> {
        let (gid, groups) = (Gid::from_raw(self.gid), self.groups.iter().map(|g| Gid::from_raw(*g)).collect::<Vec<_>>());
        step("setgroups", setgroups(&groups).map_err(Into::into))?;
        step(&format!("setgid to {gid}"), setresgid(gid, gid, gid).map_err(Into::into))?;
        if let Some(uid) = self.uid.map(Uid::from_raw) {
            if capabilities.is_some() {
                step("keeping capabilities", nix::sys::prctl::set_keepcaps(true).map_err(Into::into))?;
            }
            step(&format!("setuid to {uid}"), setresuid(uid, uid, uid).map_err(Into::into))?;
            if let Some(keep) = capabilities {
                step("cap", caps::keep_only(keep))?;
            }
        }
        self.check(capabilities)
    }

    fn check(&self, capabilities: Option<&[u32]>) -> Result<(), PrivilegeError> {
        let read = |e: nix::Error| PrivilegeError::Step { step: "reading the identity back".into(), source: e.into() };
        let (uids, gids, groups) = (getresuid().map_err(read)?, getresgid().map_err(read)?, getgroups().map_err(read)?);
        let uid = self.uid.map_or(uids.real, Uid::from_raw);
        let same_uid = [uids.real, uids.effective, uids.saved].iter().all(|u| *u == uid);
        let same_gid = [gids.real, gids.effective, gids.saved].iter().all(|g| g.as_raw() == self.gid);
        let mut now: Vec<u32> = groups.iter().map(|g| g.as_raw()).collect();
        now.sort_unstable();
        let mut wanted = self.groups.clone();
        wanted.sort_unstable();
        wanted.dedup();
        now.dedup();
        if !same_uid || !same_gid || now != wanted {
            return Err(PrivilegeError::NotDropped { uid: uids.effective.as_raw(), gid: gids.effective.as_raw(), groups: now });
        }
        if !uid.is_root() && capabilities.is_none() && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
            return Err(PrivilegeError::RootAgain);
        }
        Ok(())
    }
}

fn step<T>(step: &str, done: std::io::Result<T>) -> Result<T, PrivilegeError> {
    done.map_err(|source| PrivilegeError::Step { step: step.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_namespaces_are_left_to_the_master_and_unknown_ones_refused() {
        let flags = |list: &str| super::flags(&[list.to_owned()]);
        assert_eq!(flags("pid,uts").expect("known"), CloneFlags::CLONE_NEWUTS);
        assert!(matches!(flags("uts,nonsense"), Err(PrivilegeError::Namespace(name)) if name == "nonsense"));
    }

    #[test]
    fn an_identity_that_is_not_ours_is_noticed() {
        let wrong = Identity { uid: Some(Uid::current().as_raw() + 1), gid: Gid::current().as_raw(), groups: vec![] };
        assert!(matches!(wrong.check(None), Err(PrivilegeError::NotDropped { .. })));
    }
}
