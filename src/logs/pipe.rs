//! The pipes over which lines come to the master.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::lines::Lines;

/// Room for bursts; the kernel may grant less.
const CAPACITY: i32 = 1 << 20;
/// Bytes of one stream taken in one round, so that a flood does not keep the loop.
const ROUND: usize = 256 * 1024;

/// What kind of lines a pipe carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Descriptors 1 and 2 of all processes.
    Server,
    /// Request lines.
    Request,
}

/// The master's end.
#[derive(Debug)]
pub(super) struct Stream {
    pub kind: Kind,
    pub reader: OwnedFd,
    pub lines: Lines,
}

/// A new pipe: our end (non-blocking) and the writers'. Those wait when it is full: an app's `print` must not fail.
pub(super) fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    imperator_sys::process::set_nonblocking(reader.as_fd(), true)?;
    let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(CAPACITY));
    Ok((reader, writer))
}

/// Another end of `writer`'s pipe, for ourselves: we read that pipe, so that we must not wait for room in it.
pub(super) fn own_end(writer: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
    let end = OpenOptions::new().write(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits()).open(path);
    end.map(OwnedFd::from).or_else(|_| writer.try_clone())
}

impl Stream {
    /// Gives `take` the lines that are there; whether there will be more.
    pub fn read(&mut self, mut take: impl FnMut(Kind, &[u8])) -> bool {
        let mut buffer = [0; 32 * 1024];
        let mut taken = 0;
        while taken < ROUND {
            match nix::unistd::read(&self.reader, &mut buffer) {
                Ok(0) => {
                    self.finish(take);
                    return false;
                }
                Ok(n) => {
                    taken += n;
                    self.lines.feed(&buffer[..n], |line| take(self.kind, line));
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        true
    }

    /// What is left of a line whose writer ended.
    pub fn finish(&mut self, mut take: impl FnMut(Kind, &[u8])) {
        let kind = self.kind;
        self.lines.finish(|line| take(kind, line));
    }
}
