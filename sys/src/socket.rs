//! What `nix` does not say about sockets: a backlog above its own bound, and options by number.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The kernel's own limit (SCM_MAX_FD): with room for that many, no message can leave descriptors behind that nobody closes.
const KERNEL_MAX_FDS: usize = 253;

/// `listen(2)`; the kernel cuts `backlog` to net.core.somaxconn.
pub fn listen(fd: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: a plain system call on a descriptor that is open.
    match unsafe { libc::listen(fd.as_raw_fd(), backlog) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The socket options of ours that take a number and that `nix` has no name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Seconds.
    DeferAccept,
    V6Only,
}

/// Sets such an option.
pub fn set_number(fd: BorrowedFd<'_>, option: Number, value: i32) -> Result<()> {
    let (level, name) = match option {
        Number::DeferAccept => (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
        Number::V6Only => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    };
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is a C int that lives through the call, and `length` is its size.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// How many connections wait at a TCP listener, and how many may.
///
/// # Errors
/// No TCP socket.
pub fn listen_queue(listener: BorrowedFd<'_>) -> Result<(u32, u32)> {
    // SAFETY: a plain C structure for which all zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has `length` bytes and both live through the call.
    let done =
        unsafe { libc::getsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length) };
    if done < 0 {
        return Err(Error::last_os_error());
    }
    // The kernel tells a listener's queue and backlog in these two.
    Ok((info.tcpi_unacked, info.tcpi_sacked))
}

/// Whether a socket, known by its number, is open and has no error pending.
pub fn is_connected(fd: i32) -> bool {
    if fd < 0 {
        return false;
    }
    // SAFETY: a number that is no open socket makes getsockopt fail, and nothing else.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::SocketError).is_ok_and(|error| error == 0)
}

/// As [`listen_queue`], of a listener that is known by its number only.
///
/// # Errors
/// It is not open, or no TCP socket.
pub fn listen_queue_of(listener: i32) -> Result<(u32, u32)> {
    if listener < 0 {
        return Err(Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: a number that is no open socket makes the system call fail, and nothing else.
    listen_queue(unsafe { BorrowedFd::borrow_raw(listener) })
}

/// Accepts a connection, non-blocking and close-on-exec.
pub fn accept(listener: BorrowedFd<'_>) -> std::result::Result<OwnedFd, nix::errno::Errno> {
    let fd = nix::sys::socket::accept4(
        listener.as_raw_fd(),
        nix::sys::socket::SockFlag::SOCK_CLOEXEC | nix::sys::socket::SockFlag::SOCK_NONBLOCK,
    )?;
    // SAFETY: the kernel just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends one message with descriptors, which stay open here.
///
/// # Errors
/// The kernel's; [`ErrorKind::WriteZero`] if only a part was taken.
pub fn send_with_fds(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let length: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) if sent == length => return Ok(()),
            Ok(_) => return Err(ErrorKind::WriteZero.into()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one message: its length and its descriptors, close-on-exec.
///
/// # Errors
/// The kernel's.
pub fn recv_with_fds(socket: BorrowedFd<'_>, parts: &mut [IoSliceMut<'_>]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; KERNEL_MAX_FDS]);
    let packet = loop {
        match recvmsg::<()>(socket.as_raw_fd(), parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = vec![];
    for control in packet.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((packet.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn an_option_of_another_family_is_an_error() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("socket");
        assert!(set_number(socket.as_fd(), Number::DeferAccept, 4).is_ok());
        assert!(set_number(socket.as_fd(), Number::V6Only, 1).is_err());
        assert!(listen(socket.as_fd(), 5000).is_ok());
    }
}
