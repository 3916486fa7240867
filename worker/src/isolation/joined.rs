//! `setns`: going into namespaces that others have made, such as those of a container, of `ip netns`, or of an instance with a `setns-socket`.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, IoSliceMut, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::Duration;

use imperator_sys::{socket, spawn};
use nix::sched::{CloneFlags, setns};

use super::{IsolationError, step};

/// What the message of a `setns-socket` begins with; a C int in the machine's byte order follows, the number of descriptors (uWSGI's).
pub const NAME: &[u8; 11] = b"uwsgi-setns";
/// What is handed out and joined, by its name in /proc/PID/ns. Users are not: those of an app stay what they are. Mounts come last, as paths are others then.
pub const KINDS: [(&str, CloneFlags); 6] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("mnt", CloneFlags::CLONE_NEWNS),
];
/// How long a server may take that accepts nobody.
const PATIENCE: Duration = Duration::from_secs(10);

/// Joins what `place` gives, but for processes: those are the master's business, see [`processes`].
///
/// # Errors
/// Nothing there, no namespaces, or not the rights (CAP_SYS_ADMIN) to join them.
pub fn enter(place: &str) -> std::result::Result<(), IsolationError> {
    let failed = |what: &str| format!("setns = {place}{what}");
    let found = step(failed(""), foreign(place))?;
    let before = std::env::current_dir();
    for (name, flag, fd) in found.iter().filter(|(name, ..)| *name != "pid") {
        step(failed(&format!(": {name}")), setns(fd, *flag))?;
    }
    if found.iter().any(|(name, ..)| *name == "mnt")
        && let Ok(directory) = before
    {
        step(failed(&format!(": {} in it", directory.display())), std::env::set_current_dir(&directory))?;
    }
    Ok(())
}

/// The namespace of processes that `place` gives, if it is not the one of this process already.
///
/// # Errors
/// As [`enter`].
pub fn processes(place: &str) -> std::result::Result<Option<OwnedFd>, IsolationError> {
    let found = step(format!("setns = {place}"), foreign(place))?;
    Ok(found.into_iter().find(|(name, ..)| *name == "pid").map(|(.., fd)| fd))
}

/// Those that are not this process's own, in the order of [`KINDS`].
fn foreign(place: &str) -> Result<Vec<(&'static str, CloneFlags, OwnedFd)>> {
    let mut given = given(place)?;
    let mut found = vec![];
    for (name, flag) in KINDS {
        let Some(at) = position(&given, flag)? else { continue };
        let fd = File::from(given.swap_remove(at));
        let (own, other) = (fs::metadata(format!("/proc/self/ns/{name}"))?, fd.metadata()?);
        if (own.dev(), own.ino()) != (other.dev(), other.ino()) {
            found.push((name, flag, fd.into()));
        }
    }
    Ok(found)
}

fn position(given: &[OwnedFd], flag: CloneFlags) -> Result<Option<usize>> {
    for (at, fd) in given.iter().enumerate() {
        if spawn::namespace_kind(fd.as_fd())? == flag.bits() {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// All that there is: of a folder such as /proc/PID/ns, of one file of it (or of /run/netns), or of who listens at a socket.
fn given(place: &str) -> Result<Vec<OwnedFd>> {
    if let Some(name) = place.strip_prefix('@') {
        return received(&UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?);
    }
    let kind = fs::metadata(place)?.file_type();
    if kind.is_socket() {
        return received(&UnixStream::connect(place)?);
    }
    if !kind.is_dir() {
        return Ok(vec![File::open(place)?.into()]);
    }
    let opened = KINDS.iter().map(|(name, _)| File::open(Path::new(place).join(name)));
    let there: Vec<OwnedFd> = opened
        .filter(|file| !matches!(file, Err(e) if e.kind() == ErrorKind::NotFound))
        .map(|f| f.map(Into::into))
        .collect::<Result<_>>()?;
    if there.is_empty() { Err(Error::new(ErrorKind::NotFound, "no namespaces are in it")) } else { Ok(there) }
}

fn received(server: &UnixStream) -> Result<Vec<OwnedFd>> {
    server.set_read_timeout(Some(PATIENCE))?;
    let mut text = [0; NAME.len() + size_of::<i32>()];
    let (length, fds) = socket::recv_with_fds(server.as_fd(), &mut [IoSliceMut::new(&mut text)])?;
    let count = i32::from_ne_bytes(text[NAME.len()..].try_into().unwrap_or_default());
    if length != text.len() || !text.starts_with(NAME) || fds.is_empty() || usize::try_from(count) != Ok(fds.len()) {
        return Err(Error::new(ErrorKind::InvalidData, "who listens there gives no namespaces"));
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn ones_own_are_nothing_to_join() {
        assert!(foreign("/proc/self/ns").expect("readable").is_empty());
        assert!(foreign("/proc/self/ns/net").expect("readable").is_empty());
        enter("/proc/self/ns").expect("nothing to do");
        assert!(processes("/proc/self/ns").expect("readable").is_none());
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        fs::write(&file, "text").expect("written");
        for place in [dir.path(), &file, Path::new("/no/such")] {
            let error = enter(&place.display().to_string()).expect_err("nothing there").to_string();
            assert!(error.starts_with("setns = /"), "{error}");
        }
    }

    #[test]
    fn who_speaks_otherwise_is_refused() {
        for text in [&b"uwsgi-zerg\x01\0\0\0"[..], b"", b"uwsgi-setns\x01\0\0\0"] {
            let (here, mut there) = UnixStream::pair().expect("a pair");
            there.write_all(text).expect("written");
            drop(there);
            assert_eq!(received(&here).expect_err("no descriptors").kind(), ErrorKind::InvalidData);
        }
    }
}
