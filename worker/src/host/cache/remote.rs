//! A cache of another instance, by `NAME@ADDRESS`: modifier1 111, modifier2 17, one connection a call, as the protocol has it.

use std::io::{self, Read, Write};
use std::net::{self, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use imperator_protocol::cache::{Answer, Call, Verb, command};
use imperator_protocol::packet::{Header, modifier};

/// Bytes of the largest value that is taken from another instance.
const LARGEST: u64 = 1 << 32;

/// Where a remote cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote<'n> {
    /// Empty: the default one there.
    pub cache: &'n [u8],
    /// `host:port`, a path, or `@name`.
    pub address: &'n str,
    /// For the connection, and for each part of the answer.
    pub timeout: Duration,
}

/// A call that did not go well.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("key and name are too long for a packet")]
    Long,
    #[error("closed without an answer: refused, or not there")]
    Refused,
    #[error("the answer makes no sense")]
    Nonsense,
}

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub value: Vec<u8>,
    /// Absolute unix seconds.
    pub expires: Option<u64>,
    pub number: Option<i64>,
}

impl<'n> Remote<'n> {
    /// Splits `NAME@ADDRESS`; `None` for a name without `@`, which is a cache of this instance.
    pub fn parse(name: &'n [u8], timeout: Duration) -> Option<Self> {
        let at = name.iter().position(|byte| *byte == b'@')?;
        // An address that is no text is nobody's, and so is an empty one.
        Some(Self { cache: &name[..at], address: std::str::from_utf8(&name[at + 1..]).unwrap_or_default(), timeout })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// Nobody there, a refusal, or what is no answer.
    pub fn call(&self, call: &Call<'_>, value: &[u8]) -> Result<Reply, RemoteError> {
        let call = Call { cache: self.cache, size: value.len() as u64, ..*call };
        let packet = call.encode().ok_or(RemoteError::Long)?;
        let mut stream = Stream::connect(self.address, self.timeout)
            .map_err(|source| RemoteError::Connect { address: self.address.to_owned(), source })?;
        stream.write_all(&packet)?;
        if call.verb.carries_value() {
            stream.write_all(value)?;
        }
        read_reply(&mut stream, call.verb)
    }

    /// Asks for all items (modifier2 6); what follows is the stream of [`imperator_protocol::cache::read_entry`] after the dictionary that is given back.
    ///
    /// # Errors
    /// Nobody there, or no such cache.
    pub fn dump(&self) -> Result<(Vec<u8>, Stream), RemoteError> {
        let mut stream = Stream::connect(self.address, self.timeout)
            .map_err(|source| RemoteError::Connect { address: self.address.to_owned(), source })?;
        let datasize = u16::try_from(self.cache.len()).map_err(|_| RemoteError::Long)?;
        stream.write_all(&Header { modifier1: modifier::CACHE, datasize, modifier2: command::DUMP }.encode())?;
        stream.write_all(self.cache)?;
        let head = read_packet(&mut stream, command::DUMPED)?;
        Ok((head, stream))
    }
}

fn read_reply(stream: &mut Stream, verb: Verb) -> Result<Reply, RemoteError> {
    let answer = Answer::parse(&read_packet(stream, command::CALL)?).map_err(|_| RemoteError::Nonsense)?;
    let mut reply = Reply { value: vec![], expires: answer.expires, number: answer.number };
    if matches!(verb, Verb::Get | Verb::Keys | Verb::Stats) {
        let size = answer.size.filter(|size| *size <= LARGEST).ok_or(RemoteError::Nonsense)?;
        // It grows as it comes: a size that is only claimed costs nothing.
        stream.take(size).read_to_end(&mut reply.value)?;
        if reply.value.len() as u64 != size {
            return Err(RemoteError::Nonsense);
        }
    }
    Ok(reply)
}

fn read_packet(stream: &mut Stream, modifier2: u8) -> Result<Vec<u8>, RemoteError> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head) {
        // Who refuses closes, perhaps with some of our value unread, which is a reset.
        Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => return Err(RemoteError::Refused),
        other => other?,
    }
    let header = Header::parse(&head).filter(|h| h.modifier1 == modifier::CACHE && h.modifier2 == modifier2);
    let mut payload = vec![0; usize::from(header.ok_or(RemoteError::Nonsense)?.datasize)];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

/// A connection to `host:port`, a path or `@name`.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &str, timeout: Duration) -> io::Result<Self> {
        if address.starts_with(['/', '.', '@']) || !address.contains(':') {
            let stream = match address.strip_prefix('@') {
                Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
                None => UnixStream::connect(address)?,
            };
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            return Ok(Self::Unix(stream));
        }
        // As uWSGI's own addresses: without a host it is this one.
        let named = if address.starts_with(':') { format!("127.0.0.1{address}") } else { address.to_owned() };
        let stream = connect_one_of(&named.to_socket_addrs()?.collect::<Vec<_>>(), timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self::Tcp(stream))
    }
}

/// To the first that takes the connection: a name may stand for an IPv6 address that nobody listens on and an IPv4 one. All of them share the time.
fn connect_one_of(addresses: &[net::SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let each = timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(address, each.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn every_address_of_a_name_is_tried() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        assert_eq!(connect_one_of(&[closed, open], TIMEOUT).unwrap().peer_addr().unwrap(), open);
        assert_eq!(connect_one_of(&[closed], TIMEOUT).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_one_of(&[], TIMEOUT).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Reads one request, answers these bytes.
    fn peer(answer: Vec<u8>) -> (String, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 1000];
            let n = stream.read(&mut asked).unwrap();
            asked.truncate(n);
            stream.write_all(&answer).unwrap();
            asked
        });
        (address, thread)
    }

    fn get<'k>(key: &'k [u8]) -> Call<'k> {
        Call { verb: Verb::Get, key, cache: b"", size: 0, expires: 0, number: 0 }
    }

    #[test]
    fn names() {
        let parse = |name: &'static str| Remote::parse(name.as_bytes(), TIMEOUT).map(|r| (r.cache, r.address));
        assert_eq!(parse("b@127.0.0.1:3031"), Some((&b"b"[..], "127.0.0.1:3031")));
        assert_eq!(parse("@/run/a.sock"), Some((&b""[..], "/run/a.sock")));
        assert_eq!(parse("b@@abstract"), Some((&b"b"[..], "@abstract")));
        assert_eq!(parse("plain"), None);
    }

    #[test]
    fn a_value_comes_back_and_the_request_is_what_uwsgi_sends() {
        let (address, thread) = peer([&Answer { size: Some(3), expires: Some(77), number: None }.encode()[..], b"abc"].concat());
        let reply = Remote { cache: b"c", address: &address, timeout: TIMEOUT }.call(&get(b"k"), b"").unwrap();
        assert_eq!(reply, Reply { value: b"abc".to_vec(), expires: Some(77), number: None });
        assert_eq!(thread.join().unwrap(), Call { cache: b"c", ..get(b"k") }.encode().unwrap());
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let huge = Answer { size: Some(u64::MAX), ..Answer::default() }.encode();
        let short = [&Answer { size: Some(9), ..Answer::default() }.encode()[..], b"abc"].concat();
        for answer in [vec![], b"HTTP".to_vec(), b"\x6f\x05\x00\x11ab".to_vec(), huge, short] {
            let (address, thread) = peer(answer.clone());
            let remote = Remote { cache: b"", address: &address, timeout: TIMEOUT };
            assert!(remote.call(&get(b"k"), b"").is_err(), "{answer:?}");
            thread.join().unwrap();
        }
        let nobody = Remote { cache: b"", address: "/nonexistent/x.sock", timeout: TIMEOUT };
        assert!(matches!(nobody.call(&get(b"k"), b""), Err(RemoteError::Connect { .. })));
        assert!(Remote { address: "", ..nobody }.call(&get(b"k"), b"").is_err());
    }
}
