//! Caches for other instances and for nginx: packets of modifier1 111.
//!
//! Whatever goes wrong is a connection that closes without a byte: that is all that the protocol has to say about errors.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use imperator_protocol::cache::{Answer, Call, Entry, Request, Verb, command, push_entry, push_last_entry, value_header};
use imperator_protocol::packet::{Header, Packet, modifier};
use imperator_protocol::response::push_error_page;
use imperator_protocol::vars;
use nix::sys::socket::{SockaddrStorage, getpeername};

use crate::connection::Connection;
use crate::host::cache::{Caches, Math};
use crate::language::NoLock;
use crate::socket;
use crate::thread::Next;

/// Bytes that are collected before they are sent.
const CHUNK: usize = 256 * 1024;

/// Where an answer goes.
struct Client<'c> {
    socket: BorrowedFd<'c>,
    /// Seconds that it may take without reading.
    timeout: u32,
}

impl Client<'_> {
    /// All of it, or an error.
    fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        for (index, part) in parts.iter().enumerate() {
            let mut rest = *part;
            while !rest.is_empty() {
                match socket::try_send(self.socket, &[IoSlice::new(rest)], index + 1 < parts.len()) {
                    Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket::wait_to_write(self.socket, self.timeout, &NoLock)?,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}

/// Answers a packet. Values that follow it are waited for without a thread.
pub(crate) fn answer(caches: &Caches, connection: &mut Connection, packet_length: usize, timeout: u32) -> Next {
    let Ok(Some(packet)) = Packet::parse(connection.buffer.data(), usize::from(u16::MAX)) else { return Next::Close };
    let Ok(request) = Request::parse(packet.header.modifier2, packet.payload) else { return Next::Close };
    if let Request::Call(call) = &request
        && call.verb.carries_value()
    {
        let fits = usize::try_from(call.size).ok().filter(|_| caches.largest(call.cache).is_some_and(|largest| call.size <= largest));
        let Some(total) = fits.and_then(|size| packet_length.checked_add(size)) else { return Next::Close };
        if connection.buffer.data().len() < total {
            if connection.ended {
                return Next::Close;
            }
            connection.wanted = total;
            return Next::Receive;
        }
    }
    let value = connection.buffer.data().get(packet_length..).unwrap_or_default();
    let client = Client { socket: connection.socket.as_fd(), timeout };
    // Who does not read its answer is a closed connection like any other.
    let _ = serve(caches, &client, &request, value);
    Next::Close
}

fn serve(caches: &Caches, client: &Client<'_>, request: &Request<'_>, value: &[u8]) -> io::Result<()> {
    let find = |key: &[u8]| {
        let mut value = vec![];
        caches.fetch(key, b"", &mut value, &NoLock).then_some(value)
    };
    match *request {
        Request::Get { key } => find(key).map_or(Ok(()), |value| client.send(&[&value_header(value.len(), 0), &value])),
        Request::Probe { key } => match find(key) {
            Some(value) => client.send(&[&value_header(value.len(), 1), &value]),
            None => client.send(&[&value_header(0, 0)]),
        },
        Request::Set { key, value } => {
            caches.set(key, value, 0, b"", &NoLock);
            Ok(())
        }
        Request::Delete { key } => {
            caches.delete(key, b"", &NoLock);
            Ok(())
        }
        Request::Page { key, or_404 } => match find(key) {
            Some(value) => client.send(&[&value]),
            None if or_404 => {
                let mut page = vec![];
                push_error_page(&mut page, b"HTTP/1.1", b"GET", 404);
                client.send(&[&page])
            }
            None => Ok(()),
        },
        Request::Dump { cache } => dump(caches, client, cache),
        Request::Call(call) => self::call(caches, client, &call, value),
    }
}

fn call(caches: &Caches, client: &Client<'_>, call: &Call<'_>, value: &[u8]) -> io::Result<()> {
    let Call { verb, key, cache, expires, number, size } = *call;
    let ok = |done: bool| if done { client.send(&[&Answer::default().encode()]) } else { Ok(()) };
    let value = usize::try_from(size).ok().and_then(|size| value.get(..size)).unwrap_or_default();
    let math = |math| match caches.math(math, key, number, expires, cache, &NoLock) {
        Some(result) => client.send(&[&Answer { number: Some(result), ..Answer::default() }.encode()]),
        None => Ok(()),
    };
    match verb {
        Verb::Get => {
            let mut value = vec![];
            let Some(expires) = caches.get(key, cache, &mut value, &NoLock) else { return Ok(()) };
            let answer = Answer { size: Some(value.len() as u64), expires: (expires > 0).then_some(expires), number: None };
            client.send(&[&answer.encode(), &value])
        }
        Verb::Set => ok(caches.set(key, value, expires, cache, &NoLock)),
        Verb::Update => ok(caches.update(key, value, expires, cache, &NoLock)),
        Verb::Exists => ok(caches.exists(key, cache, &NoLock)),
        Verb::Delete => ok(caches.delete(key, cache, &NoLock)),
        Verb::Clear => ok(caches.clear(cache, &NoLock)),
        Verb::Increment => math(Math::Add),
        Verb::Decrement => math(Math::Subtract),
        Verb::Multiply => math(Math::Multiply),
        Verb::Divide => math(Math::Divide),
        Verb::Keys => keys(caches, client, cache),
        Verb::Stats => {
            let rows = serde_json::to_vec(&caches.rows())?;
            client.send(&[&Answer { size: Some(rows.len() as u64), ..Answer::default() }.encode(), &rows])
        }
    }
}

/// Everything in a cache, for an instance that starts with it.
fn dump(caches: &Caches, client: &Client<'_>, name: &[u8]) -> io::Result<()> {
    let Some((definition, cache)) = caches.here(name).filter(|_| caches.may_dump(peer(client.socket))) else { return Ok(()) };
    let mut head = vec![0; 4];
    vars::push(&mut head, b"items", definition.items.to_string().as_bytes());
    vars::push(&mut head, b"blocksize", definition.blocksize.to_string().as_bytes());
    vars::push(&mut head, b"format", b"imperator");
    let datasize = (head.len() - 4) as u16;
    head[..4].copy_from_slice(&Header { modifier1: modifier::CACHE, datasize, modifier2: command::DUMPED }.encode());
    let (mut out, mut sent) = (head, Ok(()));
    let walked = cache.for_each(crate::host::cache::now(), |item| {
        if sent.is_ok() {
            push_entry(&mut out, &Entry { key: &item.key, size: item.value.len() as u64, expires: item.expires });
            out.extend_from_slice(&item.value);
            if out.len() >= CHUNK {
                sent = client.send(&[&out]);
                out.clear();
            }
        }
    });
    sent?;
    // Without its end the stream is known to be cut off.
    if walked.is_ok() {
        push_last_entry(&mut out);
    }
    client.send(&[&out])
}

/// What `imperator cache ls` shows.
fn keys(caches: &Caches, client: &Client<'_>, name: &[u8]) -> io::Result<()> {
    if !caches.may_dump(peer(client.socket)) {
        return Ok(());
    }
    let mut out = vec![];
    match caches.here(name) {
        Some((_, cache)) => {
            let walked = cache.for_each(crate::host::cache::now(), |item| {
                push_entry(&mut out, &Entry { key: &item.key, size: item.value.len() as u64, expires: item.expires });
            });
            if walked.is_err() {
                return Ok(());
            }
        }
        None => {
            let Some(keys) = caches.keys(name, &NoLock) else { return Ok(()) };
            keys.iter().for_each(|key| push_entry(&mut out, &Entry { key, size: 0, expires: 0 }));
        }
    }
    push_last_entry(&mut out);
    client.send(&[&Answer { size: Some(out.len() as u64), ..Answer::default() }.encode(), &out])
}

/// `None` for a unix socket.
fn peer(socket: BorrowedFd<'_>) -> Option<IpAddr> {
    let peer = getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok()?;
    let v4 = peer.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| peer.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}
