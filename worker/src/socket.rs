//! Calls on a connection's socket. None of them blocks except [`wait`].

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, UnixAddr, recv, send, sendmsg};

use crate::language::Yield;

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Read,
    Write,
}

/// Without waiting and without SIGPIPE; `more` says that more follows at once, or the end of the connection: over TCP they go in one packet then.
/// (The kernel holds a packet back for that for 200 ms at most.)
fn flags(more: bool) -> MsgFlags {
    let plain = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    if more { plain | MsgFlags::from_bits_retain(nix::libc::MSG_MORE) } else { plain }
}

/// Sends what the kernel takes now.
pub(crate) fn try_send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), parts, &[], flags(more), None) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// As [`try_send`] of one part, which is a cheaper call.
pub(crate) fn try_send_one(socket: BorrowedFd<'_>, part: &[u8], more: bool) -> io::Result<usize> {
    loop {
        match send(socket.as_raw_fd(), part, flags(more)) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Receives what is there now; 0 is the end of the stream.
pub(crate) fn try_recv(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(socket.as_raw_fd(), buf, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Waits until the socket is ready; false after `seconds` without it. The language's lock is released meanwhile.
pub(crate) fn wait(socket: BorrowedFd<'_>, ready: Ready, seconds: u32, lock: &dyn Yield) -> io::Result<bool> {
    wait_for(socket, ready, Duration::from_secs(seconds.into()), lock)
}

/// As [`wait`], for less than seconds.
pub(crate) fn wait_for(socket: BorrowedFd<'_>, ready: Ready, patience: Duration, lock: &dyn Yield) -> io::Result<bool> {
    let flags = match ready {
        Ready::Read => PollFlags::POLLIN,
        Ready::Write => PollFlags::POLLOUT,
    };
    let deadline = Instant::now() + patience;
    let mut result = Ok(false);
    lock.allow(&mut || {
        result = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let milliseconds = left.as_micros().div_ceil(1000);
            let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(socket.as_fd(), flags)], timeout) {
                Err(Errno::EINTR) => {}
                Err(errno) => break Err(errno.into()),
                Ok(n) => break Ok(n > 0),
            }
        };
    });
    result
}

/// As [`wait`] for writing; a peer that does not read for that long is an error.
pub(crate) fn wait_to_write(socket: BorrowedFd<'_>, seconds: u32, lock: &dyn Yield) -> io::Result<()> {
    if wait(socket, Ready::Write, seconds, lock)? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}
