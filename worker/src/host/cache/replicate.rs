//! Replication over UDP: what changes here is told to other instances, and what they tell is done here.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use imperator_protocol::cache::{Datagram, SIGNATURE_LENGTH, Signed, parts};
use nix::sys::socket::{setsockopt, sockopt};
use sha2::Sha256;

/// Values in parts that are put together at one time; the oldest makes room.
const TRANSFERS: usize = 16;
/// Seconds after which the rest of a value in parts is no longer waited for.
const PATIENCE: u64 = 10;
/// Seconds by which the clocks of two instances with a shared key may differ.
const SKEW: u64 = 60;
/// Bytes that may wait in a receiver's socket: a value in parts comes faster than a busy master reads. The kernel gives less to who is not root (net.core.rmem_max).
const WAITING: usize = 8 << 20;
/// Parts of a value that are sent in a row, and the pause between such rows: no network and no receiver takes megabytes at once.
const ROW: usize = 2;
const PAUSE: Duration = Duration::from_micros(500);
/// Datagrams that are read before others have their turn.
const AT_ONCE: usize = 64;

/// `cache-udp-key`.
#[derive(Clone)]
pub struct SharedKey(Vec<u8>);

impl SharedKey {
    pub fn new(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    fn mac(&self, material: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(material);
        Some(mac)
    }

    fn seal(&self, datagram: &[u8], now: u64) -> Option<Vec<u8>> {
        let signed = Signed::material(now, datagram);
        let proof: [u8; SIGNATURE_LENGTH] = self.mac(&signed)?.finalize().into_bytes().into();
        Datagram::Signed(Signed { proof: &proof, signed: &signed }).encode()
    }

    fn open<'b>(&self, signed: &Signed<'b>, now: u64) -> Option<Datagram<'b>> {
        self.mac(signed.signed)?.verify_slice(signed.proof).ok()?;
        signed.open().ok().filter(|(time, _)| time.abs_diff(now) <= SKEW).map(|(_, datagram)| datagram)
    }
}

/// Tells the nodes of one cache.
pub struct Sender {
    socket: UdpSocket,
    nodes: Vec<SocketAddr>,
    key: Option<SharedKey>,
}

impl Sender {
    /// # Errors
    /// A node whose name cannot be resolved, or no socket.
    pub fn new(nodes: &[String], key: Option<SharedKey>) -> io::Result<Self> {
        let nodes = nodes.iter().map(|node| resolve(node)).collect::<io::Result<Vec<_>>>()?;
        let any = if nodes.iter().any(SocketAddr::is_ipv6) { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, nodes, key })
    }

    /// `expires`: absolute unix seconds, 0: never.
    pub fn set(&self, key: &[u8], value: &[u8], expires: u64, now: u64) {
        match (Datagram::Set { key, value, expires }).encode() {
            Some(bytes) => self.send(&bytes, now),
            None => {
                // Unlike for any other change that is under way.
                let transfer = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
                let transfer = transfer ^ (u64::from(std::process::id()) << 40);
                for (index, bytes) in parts(key, value, expires, transfer).filter_map(|part| part.encode()).enumerate() {
                    if index > 0 && index % ROW == 0 {
                        std::thread::sleep(PAUSE);
                    }
                    self.send(&bytes, now);
                }
            }
        }
    }

    pub fn delete(&self, key: &[u8], now: u64) {
        let _ = (Datagram::Delete { key }).encode().map(|bytes| self.send(&bytes, now));
    }

    pub fn clear(&self, now: u64) {
        let _ = Datagram::Clear.encode().map(|bytes| self.send(&bytes, now));
    }

    /// What cannot be sent at once is lost, as UDP has it.
    fn send(&self, datagram: &[u8], now: u64) {
        let sealed = self.key.as_ref().and_then(|key| key.seal(datagram, now));
        let bytes = match (&self.key, &sealed) {
            (Some(_), None) => return,
            (_, Some(sealed)) => sealed,
            (None, None) => datagram,
        };
        for node in &self.nodes {
            let _ = self.socket.send_to(bytes, node);
        }
    }
}

/// What a peer wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'b> {
    /// `expires`: absolute unix seconds, 0: never.
    Set {
        key: &'b [u8],
        value: &'b [u8],
        expires: u64,
    },
    Delete {
        key: &'b [u8],
    },
    Clear,
}

/// One address that a cache takes changes on.
pub struct Receiver {
    socket: UdpSocket,
    key: Option<SharedKey>,
    assembly: Assembly,
    buffer: Vec<u8>,
}

impl Receiver {
    /// `largest`: bytes of the largest value that the cache holds.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(address: &str, key: Option<SharedKey>, largest: u64) -> io::Result<Self> {
        Self::over(UdpSocket::bind(resolve(address)?)?, key, largest)
    }

    /// On a socket that is bound already (after a reload).
    ///
    /// # Errors
    /// The kernel's.
    pub fn adopt(socket: OwnedFd, key: Option<SharedKey>, largest: u64) -> io::Result<Self> {
        Self::over(UdpSocket::from(socket), key, largest)
    }

    fn over(socket: UdpSocket, key: Option<SharedKey>, largest: u64) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // A smaller buffer loses more, and that is all.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &WAITING).or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &WAITING));
        Ok(Self { socket, key, assembly: Assembly { largest, transfers: VecDeque::new() }, buffer: vec![0; 1 << 16] })
    }

    /// Reads what has come. Whatever is malformed, or not signed where it should be, is nothing.
    pub fn on_ready(&mut self, now: u64, apply: &mut dyn FnMut(&Change<'_>)) {
        for _ in 0..AT_ONCE {
            let Ok((length, from)) = self.socket.recv_from(&mut self.buffer) else { return };
            let Some(Ok(datagram)) = self.buffer.get(..length).map(Datagram::parse) else { continue };
            let datagram = match (datagram, &self.key) {
                (Datagram::Signed(signed), Some(key)) => key.open(&signed, now),
                (Datagram::Signed(_), None) | (_, Some(_)) => None,
                (datagram, None) => Some(datagram),
            };
            match datagram {
                Some(Datagram::Set { key, value, expires }) => apply(&Change::Set { key, value, expires }),
                Some(Datagram::Delete { key }) => apply(&Change::Delete { key }),
                Some(Datagram::Clear) => apply(&Change::Clear),
                Some(part @ Datagram::Part { .. }) => {
                    if let Some(whole) = self.assembly.add(from, &part, now) {
                        apply(&Change::Set { key: &whole.key, value: &whole.value, expires: whole.expires });
                    }
                }
                Some(Datagram::Signed(_)) | None => {}
            }
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Values that come in parts.
struct Assembly {
    largest: u64,
    transfers: VecDeque<Transfer>,
}

struct Transfer {
    from: SocketAddr,
    transfer: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    expires: u64,
    /// Where parts have arrived: begin and end.
    there: Vec<(usize, usize)>,
    since: u64,
}

impl Assembly {
    /// Takes a part; the value if that was the last one.
    fn add(&mut self, from: SocketAddr, datagram: &Datagram<'_>, now: u64) -> Option<Transfer> {
        let Datagram::Part { key, transfer, size, offset, expires, part } = *datagram else { return None };
        let (size, offset) = (usize::try_from(size).ok().filter(|_| size <= self.largest)?, usize::try_from(offset).ok()?);
        let end = offset.checked_add(part.len()).filter(|end| *end <= size && !part.is_empty())?;
        self.transfers.retain(|t| now.saturating_sub(t.since) <= PATIENCE);
        let known = self.transfers.iter().position(|t| t.from == from && t.transfer == transfer && t.key == key && t.value.len() == size);
        let index = known.unwrap_or_else(|| {
            if self.transfers.len() == TRANSFERS {
                self.transfers.pop_front();
            }
            let value = vec![0; size];
            self.transfers.push_back(Transfer { from, transfer, key: key.to_vec(), value, expires, there: vec![], since: now });
            self.transfers.len() - 1
        });
        let found = self.transfers.get_mut(index)?;
        if found.there.iter().any(|(begin, until)| offset < *until && *begin < end) {
            return None;
        }
        found.value[offset..end].copy_from_slice(part);
        found.there.push((offset, end));
        let whole = found.there.iter().map(|(begin, until)| until - begin).sum::<usize>() == size;
        if whole { self.transfers.remove(index) } else { None }
    }
}

/// `host:port`; without a host all addresses.
fn resolve(address: &str) -> io::Result<SocketAddr> {
    let named = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let found: Vec<_> = named.to_socket_addrs().map_err(|e| io::Error::new(e.kind(), format!("{address}: {e}")))?.collect();
    // Of a name that is both, uWSGI knows the IPv4 address only.
    let found = found.iter().find(|found| found.is_ipv4()).or(found.first());
    found.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address}: no such host")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pair(theirs: Option<&str>, ours: Option<&str>) -> (Sender, Receiver) {
        let receiver = Receiver::bind("127.0.0.1:0", ours.map(SharedKey::new), 1 << 20).unwrap();
        let address = receiver.socket.local_addr().unwrap().to_string();
        (Sender::new(&[address], theirs.map(SharedKey::new)).unwrap(), receiver)
    }

    /// What the receiver makes of what was sent before a delete of `end`.
    fn heard(sender: &Sender, receiver: &mut Receiver, now: u64) -> Vec<String> {
        let plain = Sender { socket: sender.socket.try_clone().unwrap(), nodes: sender.nodes.clone(), key: receiver.key.clone() };
        plain.delete(b"end", now);
        let mut heard: Vec<String> = vec![];
        while heard.last().is_none_or(|last| last != "delete end") {
            receiver.on_ready(now, &mut |change| {
                heard.push(match change {
                    Change::Set { key, value, expires } => {
                        format!(
                            "set {} {} {} {expires}",
                            String::from_utf8_lossy(key),
                            value.len(),
                            value.iter().map(|b| u64::from(*b)).sum::<u64>()
                        )
                    }
                    Change::Delete { key } => format!("delete {}", String::from_utf8_lossy(key)),
                    Change::Clear => "clear".into(),
                });
            });
            std::thread::yield_now();
        }
        heard.pop();
        heard
    }

    #[test]
    fn a_receiver_lets_as_much_wait_as_the_kernel_allows() {
        let (_, receiver) = pair(None, None);
        let limit: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
        // The kernel doubles what it is asked for.
        let given = nix::sys::socket::getsockopt(&receiver.socket, sockopt::RcvBuf).unwrap();
        assert!(given >= 2 * limit.min(WAITING), "{given} of {limit}");
    }

    #[test]
    fn a_name_that_is_both_is_its_ipv4_address() {
        assert_eq!(resolve("localhost:7").unwrap(), "127.0.0.1:7".parse().unwrap());
        assert_eq!(resolve("[::1]:7").unwrap(), "[::1]:7".parse().unwrap());
    }

    #[test]
    fn every_change_arrives() {
        let (sender, mut receiver) = pair(None, None);
        sender.set(b"k", &[1; 5], 9, 100);
        sender.delete(b"k", 100);
        sender.clear(100);
        sender.set(b"big", &[2; 150_000], 0, 100);
        assert_eq!(heard(&sender, &mut receiver, 100), ["set k 5 5 9", "delete k", "clear", "set big 150000 300000 0"]);
    }

    #[test]
    fn with_a_shared_key_only_its_holders_are_heard_and_only_for_a_while() {
        let (sender, mut receiver) = pair(Some("secret"), Some("secret"));
        sender.set(b"k", &[1; 5], 9, 100);
        sender.set(b"late", &[1; 5], 9, 100 - SKEW - 1);
        sender.set(b"big", &[2; 150_000], 0, 100);
        assert_eq!(heard(&sender, &mut receiver, 100), ["set k 5 5 9", "set big 150000 300000 0"]);
        for theirs in [None, Some("guess")] {
            let (sender, mut receiver) = pair(theirs, Some("secret"));
            sender.set(b"k", &[1; 5], 9, 100);
            assert!(heard(&sender, &mut receiver, 100).is_empty(), "{theirs:?}");
        }
        let (sender, mut receiver) = pair(Some("secret"), None);
        sender.set(b"k", &[1; 5], 9, 100);
        assert!(heard(&sender, &mut receiver, 100).is_empty());
    }

    #[test]
    fn parts_in_any_order_twice_or_never() {
        let from = "127.0.0.1:1".parse().unwrap();
        let mut assembly = Assembly { largest: 100, transfers: VecDeque::new() };
        let part = |transfer, offset, size, part| Datagram::Part { key: b"k", transfer, size, offset, expires: 0, part };
        assert!(assembly.add(from, &part(1, 2, 4, b"cd"), 0).is_none());
        assert!(assembly.add(from, &part(1, 2, 4, b"cd"), 0).is_none(), "twice");
        assert!(assembly.add(from, &part(1, 1, 4, b"xx"), 0).is_none(), "over another one");
        assert_eq!(assembly.add(from, &part(1, 0, 4, b"ab"), 0).unwrap().value, b"abcd");
        for (offset, size) in [(3, 4), (u64::MAX, 4), (0, 101), (0, u64::MAX)] {
            assert!(assembly.add(from, &part(2, offset, size, b"zz"), 0).is_none());
        }
        assert!(assembly.transfers.is_empty());
        for transfer in 0..40 {
            assembly.add(from, &part(transfer, 0, 4, b"ab"), 0);
        }
        assert_eq!(assembly.transfers.len(), TRANSFERS);
        assembly.add(from, &part(99, 0, 4, b"ab"), PATIENCE + 1);
        assert_eq!(assembly.transfers.len(), 1, "the rest is not waited for any more");
    }
}
