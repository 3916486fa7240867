//! What lies between the fork and the exec of a supervised process: namespaces, its tie to the parent, descriptors, signals, capabilities.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::unistd::Pid;

use crate::process::{self, Fork};

/// As [`process::fork`], with the child in new namespaces of the kinds in `flags` (only `CLONE_NEW...` counts).
pub fn fork_into(flags: CloneFlags) -> Result<Fork> {
    let namespaces = flags & all_namespaces();
    if namespaces.is_empty() {
        return process::fork();
    }
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Error::other("fork beside other threads"));
    }
    let flags = (namespaces.bits() | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: without CLONE_VM and with no stack given this is a fork: the child goes on here with a copy of everything. There is no other
    // thread whose lock or allocator state could be caught in the middle of a change (libc's own handlers around fork deal with nothing else).
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) } {
        -1 => Err(Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(pid as i32))),
    }
}

fn all_namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWCGROUP
}

/// The flags for a comma-separated list in uWSGI's names.
///
/// # Errors
/// The first name that is none.
pub fn namespaces(list: &str) -> std::result::Result<CloneFlags, String> {
    let mut flags = CloneFlags::empty();
    for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        flags |= match name {
            "fs" | "ns" | "mount" | "mnt" => CloneFlags::CLONE_NEWNS,
            "ipc" => CloneFlags::CLONE_NEWIPC,
            "net" => CloneFlags::CLONE_NEWNET,
            "pid" => CloneFlags::CLONE_NEWPID,
            "uts" => CloneFlags::CLONE_NEWUTS,
            "user" => CloneFlags::CLONE_NEWUSER,
            "cgroup" => CloneFlags::CLONE_NEWCGROUP,
            "files" => CloneFlags::CLONE_FILES,
            "io" => CloneFlags::CLONE_IO,
            "sysvsem" => CloneFlags::CLONE_SYSVSEM,
            "parent" => CloneFlags::CLONE_PARENT,
            _ => return Err(name.to_owned()),
        };
    }
    Ok(flags)
}

/// What kind of namespace a descriptor is, as one of the bits of [`CloneFlags`].
///
/// # Errors
/// It is none.
pub fn namespace_kind(fd: BorrowedFd<'_>) -> Result<i32> {
    /// `NSFS_MAGIC` of linux/magic.h.
    const NSFS: libc::c_long = 0x6e73_6673;
    /// `NS_GET_NSTYPE` of linux/nsfs.h.
    const KIND: libc::c_ulong = 0xb703;
    if nix::sys::statfs::fstatfs(fd)?.filesystem_type().0 as libc::c_long != NSFS {
        return Err(Error::other("it is no namespace"));
    }
    // SAFETY: a request without an argument, to a file that knows it.
    match unsafe { libc::ioctl(fd.as_raw_fd(), KIND as _) } {
        -1 => Err(Error::last_os_error()),
        kind => Ok(kind),
    }
}

/// Gives the signal mask and the signals that std or we changed back to the state in which programs expect them.
pub fn default_signals() -> Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGCHLD] {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { sigaction(signal, &default) }?;
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Has a program start with the signals as programs expect them: what a shell command of a hook needs when its
/// parent blocks signals.
pub fn with_default_signals(command: &mut std::process::Command) -> &mut std::process::Command {
    // SAFETY: between fork and exec the closure makes plain system calls only; nothing is allocated on its way to success.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, default_signals) }
}

/// Linux capabilities, in the order of their numbers; names as in options (lower case, without `cap_`).
pub const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The numbers of a comma-separated list of capability names.
///
/// # Errors
/// The first name that is none.
pub fn capabilities(list: &str) -> std::result::Result<Vec<u32>, String> {
    let number = |name: &str| CAPABILITIES.iter().position(|c| *c == name).map(|n| n as u32).ok_or_else(|| name.to_owned());
    list.split(',').map(str::trim).filter(|n| !n.is_empty()).map(number).collect()
}

/// Takes every capability but these out of the bounding set: neither this process nor any that it executes can gain one again.
pub fn limit_bounding_set(keep: &[u32]) -> Result<()> {
    for cap in 0..64 {
        // SAFETY: two integer arguments; fails with EINVAL above the last capability of this kernel.
        let held = unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(cap), 0, 0, 0) };
        if held < 0 {
            break;
        }
        // SAFETY: as above.
        if held == 1 && !keep.contains(&cap) && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0) } < 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces_have_synonyms() {
        assert_eq!(namespaces("uts, mnt").expect("known"), CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS);
        assert_eq!(namespaces("uts,nonsense"), Err("nonsense".into()));
        assert_eq!(namespaces("").expect("empty"), CloneFlags::empty());
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        assert_eq!(capabilities("setuid,setgid, net_bind_service").expect("known"), [7, 6, 10]);
        assert_eq!(capabilities("checkpoint_restore").expect("known"), [40]);
        assert_eq!(capabilities("CAP_CHOWN"), Err("CAP_CHOWN".into()));
    }

    #[test]
    fn a_fork_beside_other_threads_is_refused() {
        let thread = std::thread::spawn(std::thread::park);
        assert!(fork_into(CloneFlags::CLONE_NEWUTS).is_err());
        thread.thread().unpark();
        thread.join().expect("joined");
    }
}
