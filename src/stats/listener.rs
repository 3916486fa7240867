//! Where a stats server listens.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use crate::sockets::Address;

/// The address cannot be used; `option` is the one that named it.
#[derive(Debug, thiserror::Error)]
#[error("{option} = {address}: {cause}")]
pub struct ListenError {
    pub option: &'static str,
    pub address: String,
    pub cause: String,
}

/// A non-blocking listener at `host:port`, a path or `@name`.
pub(crate) fn listen(option: &'static str, text: &str) -> Result<OwnedFd, ListenError> {
    let failed = |cause: String| ListenError { option, address: text.to_owned(), cause };
    match Address::parse(text).map_err(|e| failed(e.to_string()))? {
        Address::Tcp(address) => TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l.into())),
        Address::Unix(path) => unix(&path),
        Address::Abstract(name) => SocketAddr::from_abstract_name(name).and_then(|a| UnixListener::bind_addr(&a)).and_then(quiet),
        Address::Inherited(_) | Address::Shared(_) => Err(io::Error::new(ErrorKind::Unsupported, "expected HOST:PORT, a path or @NAME")),
    }
    .map_err(|e| failed(e.to_string()))
}

fn quiet(listener: UnixListener) -> io::Result<OwnedFd> {
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// A socket file that nobody listens on is left over from an earlier run; one that is in use, or any other file, is not ours to remove.
fn unix(path: &Path) -> io::Result<OwnedFd> {
    let stale = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    if stale {
        std::fs::remove_file(path)?;
    }
    quiet(UnixListener::bind(path)?)
}
