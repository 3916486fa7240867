//! What `setns-socket` hands out: the namespaces of the app's processes, or with `setns-preopen` those of the master.

use std::fs::File;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use imperator_sys::socket;
use imperator_worker::isolation::joined::{KINDS, NAME};
use imperator_worker::settings::Privileges;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

/// All that are not skipped. `zygote`: the process that the app's others are forked from.
///
/// # Errors
/// There is no such process now, or /proc shows other processes than those of this namespace.
pub fn open(settings: &Privileges, zygote: Option<i32>) -> Result<Vec<OwnedFd>> {
    let process = match zygote {
        _ if settings.setns_preopen => "self".to_owned(),
        Some(pid) => pid.to_string(),
        None => return Err(Error::other("the app is not loaded")),
    };
    let own = std::fs::read_link("/proc/self")?;
    if own.to_str() != Some(&std::process::id().to_string()) {
        return Err(Error::other("/proc is that of another process namespace: mount one (`hook-asap = mount:proc proc /proc`)"));
    }
    let wanted = KINDS.iter().filter(|(name, _)| !settings.setns_skip.iter().any(|skip| skip.trim() == *name));
    wanted.map(|(name, _)| Ok(File::open(format!("/proc/{process}/ns/{name}"))?.into())).collect()
}

/// To one that has connected, which is to be closed then. An abstract socket has no mode: who asks has to be root, or who we are.
///
/// # Errors
/// It is somebody else, is gone, or does not read.
pub fn send(client: BorrowedFd<'_>, namespaces: &[OwnedFd]) -> Result<()> {
    let peer = getsockopt(&client, sockopt::PeerCredentials)?;
    if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
        return Err(Error::new(ErrorKind::PermissionDenied, format!("uid {} asks", peer.uid())));
    }
    let all: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
    let count = (all.len() as i32).to_ne_bytes();
    socket::send_with_fds(client, &[IoSlice::new(NAME), IoSlice::new(&count)], &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_master_without_what_is_skipped() {
        let all = Privileges { setns_preopen: true, ..Privileges::default() };
        assert_eq!(open(&all, None).expect("opened").len(), KINDS.len());
        let some = Privileges { setns_skip: vec!["net".into(), "pid".into()], ..all };
        assert_eq!(open(&some, None).expect("opened").len(), KINDS.len() - 2);
        assert!(open(&Privileges::default(), None).is_err(), "no app, no namespaces");
    }
}
