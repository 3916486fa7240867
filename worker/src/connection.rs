//! A connection: its socket, what arrived on it, and where it stands.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{SockaddrStorage, getpeername};

use crate::ahead::Ahead;
use crate::body::{Body, Collected};
use crate::buffer::{Buffer, SIZE};
use crate::lot::Ticket;
use crate::offload::Pieces;
use crate::settings::{Protocol, RequestSettings};
use crate::socket;

pub(crate) struct Connection {
    pub socket: OwnedFd,
    /// The index of the listener it came from.
    pub listener: usize,
    pub protocol: Protocol,
    pub buffer: Buffer,
    pub peer: Address,
    /// Requests that were served on it.
    pub served: u64,
    /// Bytes that have to be there before it is worth parsing again.
    pub wanted: usize,
    /// The head is there, its short body is not.
    pub in_body: bool,
    /// A PROXY line was read.
    pub proxied: bool,
    /// The peer sends no more.
    pub ended: bool,
    /// The peer was silent for `socket-timeout` before its body was complete.
    pub overdue: bool,
    /// `100 Continue` is out for the request in hand.
    pub continued: bool,
    /// Closed by us, what still comes is thrown away: bytes that may still come so.
    pub lingering: Option<usize>,
    /// The body of the request in hand, as far as it is collected before it is served; the buffer has the head alone then.
    pub body: Option<Box<Arriving>>,
    /// What is left of the last response: somebody else sends it.
    pub rest: Option<Box<Pieces>>,
    /// Its place among those that wait, once it had to.
    pub place: Option<Ticket>,
    /// What the epoll set was told last; empty if it does not know the connection.
    pub interest: EpollFlags,
}

/// A body that is read before its request is served.
pub(crate) enum Arriving {
    /// The app is called with nothing less than all of it (`post-buffering`).
    Whole(Collected),
    Ahead(Ahead),
}

impl Arriving {
    /// There is nothing more to be waited for.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_over(),
            Self::Ahead(body) => body.is_over(),
        }
    }
}

/// What receiving brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Some,
    Nothing,
    End,
}

impl Connection {
    pub fn new(socket: OwnedFd, listener: usize, protocol: Protocol) -> Self {
        let peer = if protocol == Protocol::Uwsgi { Address::default() } else { Address::of(&socket) };
        Self::between(socket, listener, protocol, peer)
    }

    fn between(socket: OwnedFd, listener: usize, protocol: Protocol, peer: Address) -> Self {
        Self {
            socket,
            listener,
            protocol,
            buffer: Buffer::default(),
            peer,
            served: 0,
            wanted: 1,
            in_body: false,
            proxied: false,
            ended: false,
            overdue: false,
            continued: false,
            lingering: None,
            body: None,
            rest: None,
            place: None,
            interest: EpollFlags::empty(),
        }
    }

    /// Receives once.
    pub fn receive(&mut self) -> io::Result<Received> {
        let total = self.wanted.max(SIZE);
        match socket::try_recv(self.socket.as_fd(), self.buffer.space(total)) {
            Ok(0) => {
                self.ended = true;
                Ok(Received::End)
            }
            Ok(n) => {
                self.buffer.filled(n);
                Ok(Received::Some)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(e) => Err(e),
        }
    }

    /// Collects what has arrived of a body that is read before its request is served. Whether there is nothing more to be waited for.
    pub fn collect(&mut self, settings: &RequestSettings) -> bool {
        if self.overdue {
            return true;
        }
        let Some(mut body) = self.body.take_if(|body| !body.is_over()) else { return true };
        let over = match *body {
            Arriving::Whole(collected) => {
                let mut body = Body::collected(self.socket.as_fd(), settings, collected);
                let over = body.collect();
                self.body = body.part().map(|part| Box::new(Arriving::Whole(part)));
                over
            }
            Arriving::Ahead(ref mut ahead) => {
                let over = ahead.collect(self.socket.as_fd());
                self.buffer.append(&ahead.take_tail());
                self.body = Some(body);
                over
            }
        };
        if over {
            self.wanted = 1;
        }
        over
    }

    /// The body is collected from now on; the head has `length` bytes.
    pub fn begin_body(&mut self, mut body: Arriving, length: usize) {
        self.buffer.truncate(length);
        if let Arriving::Ahead(ahead) = &mut body {
            self.buffer.append(&ahead.take_tail());
        }
        (self.wanted, self.in_body, self.body) = (if body.is_over() { 1 } else { length + 1 }, true, Some(Box::new(body)));
    }

    /// Whether a request has begun to arrive.
    pub fn has_bytes(&self) -> bool {
        !self.buffer.data().is_empty()
    }

    /// Throws away what comes; whether the connection is done with.
    pub fn drain(&mut self) -> bool {
        let Some(left) = &mut self.lingering else { return true };
        let mut trash = [0; 16 * 1024];
        while *left > 0 {
            match socket::try_recv(self.socket.as_fd(), &mut trash) {
                Ok(n) if n > 0 => *left = left.saturating_sub(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                _ => return true,
            }
        }
        true
    }
}

/// A connection whose socket somebody else has between two requests.
pub(crate) struct Absent {
    listener: usize,
    protocol: Protocol,
    buffer: Buffer,
    peer: Address,
    served: u64,
    proxied: bool,
    ended: bool,
}

impl Connection {
    /// Parts from its socket. The epoll set does not know it (any more).
    pub fn leave(self) -> (OwnedFd, Absent) {
        let Self { socket, listener, protocol, buffer, peer, served, proxied, ended, .. } = self;
        (socket, Absent { listener, protocol, buffer, peer, served, proxied, ended })
    }
}

impl Absent {
    pub fn come_back(self, socket: OwnedFd) -> Connection {
        let Self { listener, protocol, buffer, peer, served, proxied, ended } = self;
        Connection { buffer, served, proxied, ended, ..Connection::between(socket, listener, protocol, peer) }
    }
}

/// REMOTE_ADDR as text, without an allocation.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    text: [u8; 46],
    length: u8,
}

impl Address {
    /// Empty for a unix socket.
    fn of(socket: &OwnedFd) -> Self {
        let Ok(peer) = getpeername::<SockaddrStorage>(socket.as_raw_fd()) else { return Self::default() };
        let v4 = peer.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| peer.as_sockaddr_in6().map(|a| a.ip().to_canonical())).map_or_else(Self::default, Self::from)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl Default for Address {
    fn default() -> Self {
        Self { text: [0; 46], length: 0 }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        let mut address = Self::default();
        let _ = write!(address, "{ip}");
        address
    }
}

impl std::fmt::Write for Address {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let at = usize::from(self.length);
        self.text.get_mut(at..at + more.len()).ok_or(std::fmt::Error)?.copy_from_slice(more.as_bytes());
        self.length += more.len() as u8;
        Ok(())
    }
}
