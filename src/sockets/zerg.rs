//! Listening sockets from and for other instances (`zerg`, `zerg-server`): one message of a name, a count and the descriptors.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use imperator_sys::{process, socket};
use imperator_worker::settings::Protocol;
use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::{Address, Bound, Label, bind};

/// What every message begins with; a C int in the machine's byte order follows, the number of descriptors.
const NAME: &[u8; 10] = b"uwsgi-zerg";
/// The kernel takes so many descriptors in one message (SCM_MAX_FD).
pub const MOST: usize = 253;
/// How long a server may take that accepts nobody: a master that is just being reloaded is back well before.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sockets of the server at `path`; those of `kept` if it was attached before a reload.
pub(super) fn attach(path: &str, protocol: Protocol, kept: &[Bound]) -> Result<Vec<Bound>> {
    let address = Address::parse(path).map_err(|e| Error::new(ErrorKind::InvalidInput, e.to_string()))?;
    let prefix = format!("zerg://{}#", super::key(path, &address));
    let old = |number: usize| kept.iter().find(|bound| bound.label.key == format!("{prefix}{number}"));
    let held: Vec<Bound> = (0..MOST).map_while(old).cloned().collect();
    if !held.is_empty() {
        return Ok(held.into_iter().map(|bound| Bound { label: Label { protocol, ..bound.label }, ..bound }).collect());
    }
    let received = receive(&connect(&address)?)?;
    received.into_iter().enumerate().map(|(number, fd)| adopt(fd, protocol, format!("{prefix}{number}"))).collect()
}

fn connect(address: &Address) -> Result<UnixStream> {
    match address {
        Address::Unix(path) => UnixStream::connect(path),
        Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        _ => Err(Error::new(ErrorKind::InvalidInput, "a zerg server is a unix socket: a path or @NAME")),
    }
}

fn adopt(fd: OwnedFd, protocol: Protocol, key: String) -> Result<Bound> {
    let listens = getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream) && getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
    if !listens {
        return Err(Error::new(ErrorKind::InvalidData, "what it gives are no listening sockets"));
    }
    process::set_nonblocking(fd.as_fd(), true)?;
    let (name, port) = bind::actual(fd.as_fd()).unwrap_or_default();
    Ok(Bound { fd: Rc::new(fd), label: Label { protocol, name, port, key, path: None, automatic: false } })
}

fn receive(server: &UnixStream) -> Result<Vec<OwnedFd>> {
    server.set_read_timeout(Some(PATIENCE))?;
    let mut text = [0; NAME.len() + size_of::<i32>()];
    let (length, fds) = socket::recv_with_fds(server.as_fd(), &mut [IoSliceMut::new(&mut text)])?;
    let wrong = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    if length != text.len() || !text.starts_with(NAME) {
        return Err(wrong("it is no zerg server, or has no sockets"));
    }
    let count = i32::from_ne_bytes(text[NAME.len()..].try_into().unwrap_or_default());
    if fds.is_empty() || usize::try_from(count) != Ok(fds.len()) {
        return Err(wrong("it gives another number of sockets than it says"));
    }
    Ok(fds)
}

/// Hands out `sockets` on a connection, which is to be closed then.
///
/// # Errors
/// The peer is gone, or does not read.
pub fn send(client: BorrowedFd<'_>, sockets: &[BorrowedFd<'_>]) -> Result<()> {
    let sockets = &sockets[..sockets.len().min(MOST)];
    let count = (sockets.len() as i32).to_ne_bytes();
    socket::send_with_fds(client, &[IoSlice::new(NAME), IoSlice::new(&count)], sockets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn what_is_sent_arrives() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        send(there.as_fd(), &[listener.as_fd(), listener.as_fd()]).unwrap();
        let got = receive(&here).unwrap();
        assert_eq!(got.len(), 2);
        let bound = adopt(got.into_iter().next().unwrap(), Protocol::Uwsgi, "k".into()).unwrap();
        assert_eq!(bound.label.port, Some(listener.local_addr().unwrap().port()));
        assert_eq!(bound.label.path, None, "the file is its server's to remove");
    }

    #[test]
    fn what_is_no_zerg_server_is_refused() {
        for text in [&b"HTTP/1.1 400 Bad\r\n"[..], b"", b"uwsgi-zerg\x01\0\0\0"] {
            let (here, mut there) = UnixStream::pair().unwrap();
            there.write_all(text).unwrap();
            drop(there);
            assert_eq!(receive(&here).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        let (not_listening, _) = UnixStream::pair().unwrap();
        assert!(adopt(not_listening.into(), Protocol::Uwsgi, "k".into()).is_err());
    }
}
