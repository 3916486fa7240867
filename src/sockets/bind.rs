//! Making one listening socket.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use imperator_sys::{process, socket as raw};
use imperator_worker::settings::SocketOptions;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, bind, getsockname, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::Address;

/// Seconds that a client has to send its first byte before the kernel drops the connection (`TCP_DEFER_ACCEPT`).
const DEFER_ACCEPT_SECONDS: i32 = 4;

/// A socket that listens at `address`, non-blocking and close-on-exec.
pub(super) fn listen_at(address: &Address, options: &SocketOptions, backlog: i32) -> Result<OwnedFd> {
    let fd = match address {
        Address::Tcp(address) => tcp(*address, options)?,
        Address::Unix(path) => unix_path(path, options)?,
        Address::Abstract(name) => bound_unix(&UnixAddr::new_abstract(name)?)?,
        Address::Inherited(number) => return inherited(*number, backlog),
        Address::Shared(_) => return Err(ErrorKind::InvalidInput.into()),
    };
    raw::listen(fd.as_fd(), backlog)?;
    Ok(fd)
}

fn open(family: AddressFamily, protocol: Option<SockProtocol>) -> Result<OwnedFd> {
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?)
}

fn tcp(address: SocketAddr, options: &SocketOptions) -> Result<OwnedFd> {
    let fd = open(if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }, Some(SockProtocol::Tcp))?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        raw::set_number(fd.as_fd(), raw::Number::V6Only, i32::from(!address.ip().is_unspecified()))?;
    }
    tcp_options(&fd, options)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

/// Accepted connections inherit these from the listener.
fn tcp_options(fd: &OwnedFd, options: &SocketOptions) -> Result<()> {
    if options.reuse_port {
        setsockopt(fd, sockopt::ReusePort, &true)?;
    }
    if options.freebind {
        setsockopt(fd, sockopt::IpFreebind, &true)?;
    }
    if options.keepalive {
        setsockopt(fd, sockopt::KeepAlive, &true)?;
    }
    if options.tcp_nodelay {
        setsockopt(fd, sockopt::TcpNoDelay, &true)?;
    }
    if options.defer_accept {
        raw::set_number(fd.as_fd(), raw::Number::DeferAccept, DEFER_ACCEPT_SECONDS)?;
    }
    if options.sndbuf > 0 {
        setsockopt(fd, sockopt::SndBuf, &(options.sndbuf as usize))?;
    }
    if options.rcvbuf > 0 {
        setsockopt(fd, sockopt::RcvBuf, &(options.rcvbuf as usize))?;
    }
    if options.send_timeout > 0 {
        setsockopt(fd, sockopt::SendTimeout, &TimeVal::seconds(options.send_timeout.into()))?;
    }
    Ok(())
}

fn bound_unix(address: &UnixAddr) -> Result<OwnedFd> {
    let fd = open(AddressFamily::Unix, None)?;
    bind(fd.as_raw_fd(), address)?;
    Ok(fd)
}

fn unix_path(path: &Path, options: &SocketOptions) -> Result<OwnedFd> {
    remove_stale(path)?;
    let fd = bound_unix(&UnixAddr::new(path)?)?;
    if let Some(mode) = options.chmod {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    if let Some(owner) = &options.chown {
        let (uid, gid) = crate::privileges::owner(owner).map_err(|e| Error::new(ErrorKind::InvalidInput, format!("chown-socket: {e}")))?;
        std::os::unix::fs::chown(path, Some(uid.as_raw()), gid.map(nix::unistd::Gid::as_raw))?;
    }
    Ok(fd)
}

/// A socket that an earlier instance left is removed; anything else of that name is not ours to remove.
fn remove_stale(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(Error::new(ErrorKind::AlreadyExists, "there is a file of that name which is no socket")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// A copy of a socket that the parent left open. It listens already, or is bound and will.
fn inherited(number: i32, backlog: i32) -> Result<OwnedFd> {
    let fd = process::duplicate(number)?;
    if getsockopt(&fd, sockopt::SockType).ok() != Some(SockType::Stream) {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no stream socket"));
    }
    if !getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false) {
        raw::listen(fd.as_fd(), backlog)?;
    }
    process::set_nonblocking(fd.as_fd(), true)?;
    Ok(fd)
}

/// Whether a socket listens where `address` asks for one.
pub(super) fn listens_at(fd: BorrowedFd<'_>, address: &Address) -> bool {
    let Ok(real) = getsockname::<SockaddrStorage>(fd.as_raw_fd()) else { return false };
    let unix = real.as_unix_addr();
    match address {
        Address::Tcp(wanted) => {
            let v4 = real.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port())));
            let found = v4.or_else(|| real.as_sockaddr_in6().map(|a| SocketAddr::from((a.ip(), a.port()))));
            // systemd's `ListenStream=3031` is [::]:3031, for both families.
            let all = |a: &SocketAddr| a.ip().is_unspecified();
            found.is_some_and(|f| f == *wanted || (f.port() == wanted.port() && all(&f) && all(wanted)))
        }
        Address::Unix(path) => unix.and_then(|u| u.path()).is_some_and(|p| p == super::absolute(path)),
        Address::Abstract(name) => unix.and_then(|u| u.as_abstract()) == Some(name),
        Address::Inherited(_) | Address::Shared(_) => false,
    }
}

/// Where it really listens, as configurations write it, and the port.
pub(super) fn actual(fd: BorrowedFd<'_>) -> Option<(String, Option<u16>)> {
    let address: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Some((format!("{}:{}", v4.ip(), v4.port()), Some(v4.port())));
    }
    if let Some(v6) = address.as_sockaddr_in6() {
        return Some((format!("[{}]:{}", v6.ip(), v6.port()), Some(v6.port())));
    }
    let unix = address.as_unix_addr()?;
    let path = unix.path().map(|p| p.display().to_string());
    Some((path.or_else(|| unix.as_abstract().map(|n| format!("@{}", String::from_utf8_lossy(n))))?, None))
}
