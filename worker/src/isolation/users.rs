//! A user namespace whose users are those of outside: what somebody who is not root needs before any other namespace.

use std::fs::{self, File};
use std::io::{Read, Write};

use imperator_sys::process::{self, Fork};
use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid};

use super::{IsolationError, step};

/// Goes into a new user namespace, together with the others of `with`. Root keeps all users and groups; anybody else keeps their own, and may be
/// root over what is made in it.
///
/// # Errors
/// The kernel refuses it (`user.max_user_namespaces`, an AppArmor or a sysctl of the distribution).
pub fn enter(with: CloneFlags) -> Result<(), IsolationError> {
    let (uid, gid) = (geteuid(), getegid());
    let flags = with | CloneFlags::CLONE_NEWUSER;
    if !uid.is_root() {
        step("a user namespace", unshare(flags))?;
        return map_own(uid.as_raw(), gid.as_raw());
    }
    // The map of more than one user has to be written by somebody outside.
    let (mut told, tell) = pipe()?;
    let (mut answer, mut answered) = pipe()?;
    // As a folder and not by its number, which may be another one in /proc than in this process's namespace.
    let own = step("a user namespace", File::open("/proc/self"))?;
    match step("a user namespace", process::fork())? {
        Fork::Child => {
            drop((tell, answer));
            let done = told.read(&mut [0]).and_then(|_| map_all(&own));
            let _ = answered.write_all(&[u8::from(done.is_ok())]);
            process::exit_now(0)
        }
        Fork::Parent(helper) => {
            drop((told, answered));
            let entered = step("a user namespace", unshare(flags));
            drop(tell);
            let mut word = [0];
            let mapped = answer.read(&mut word).is_ok_and(|n| n == 1) && word == [1];
            let _ = nix::sys::wait::waitpid(helper, None);
            entered?;
            step("the users of a user namespace", if mapped { Ok(()) } else { Err(std::io::Error::other("the map was not taken")) })
        }
    }
}

fn pipe() -> Result<(File, File), IsolationError> {
    let (read, write) = step("a user namespace", nix::unistd::pipe2(OFlag::O_CLOEXEC))?;
    Ok((read.into(), write.into()))
}

/// The one user and the one group that anybody may map.
///
/// # Errors
/// The kernel takes them not.
pub fn map_own(uid: u32, gid: u32) -> Result<(), IsolationError> {
    step("setgroups of a user namespace", fs::write("/proc/self/setgroups", "deny"))?;
    step("the user of a user namespace", fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))?;
    step("the group of a user namespace", fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")))
}

/// All users and groups as they are; `process` is its folder in /proc. For root outside of the namespace.
///
/// # Errors
/// The kernel takes them not.
pub fn map_all(process: &File) -> std::io::Result<()> {
    for name in ["uid_map", "gid_map"] {
        let file = openat(process, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        File::from(file).write_all(b"0 0 4294967295")?;
    }
    Ok(())
}
