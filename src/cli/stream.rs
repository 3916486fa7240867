//! Connections of the commands that ask a server something.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A connection to `host:port`, a path or `@name`.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// # Errors
    /// Nobody listens there; the message names the address.
    pub fn connect(address: &str, timeout: Duration) -> Result<Self> {
        let stream = match address.rsplit_once(':') {
            Some((host, port)) => Self::tcp(if host.is_empty() { "127.0.0.1" } else { host }, port, timeout),
            None => Self::unix(address, timeout),
        };
        stream.with_context(|| format!("cannot connect to {address}"))
    }

    fn tcp(host: &str, port: &str, timeout: Duration) -> Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = (host, port.parse::<u16>().context("the port")?).to_socket_addrs()?.next().context("no such host")?;
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self::Tcp(stream))
    }

    fn unix(path: &str, timeout: Duration) -> Result<Self> {
        let stream = match path.strip_prefix('@') {
            Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => UnixStream::connect(path)?,
        };
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self::Unix(stream))
    }

    /// Sends all there is to send.
    pub fn ask(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)),
            Self::Unix(stream) => stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)),
        }
    }

    /// Everything up to the peer's close.
    ///
    /// # Errors
    /// It is not closed until `deadline`, or there is more than `most` bytes.
    pub fn read_all(&mut self, most: usize, deadline: Instant) -> Result<Vec<u8>> {
        let mut out = vec![];
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            anyhow::ensure!(!left.is_zero(), "no whole answer in time");
            self.limit(left)?;
            match self.read(&mut chunk) {
                Ok(0) => return Ok(out),
                Ok(n) => out.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(e.into()),
            }
            anyhow::ensure!(out.len() <= most, "an answer of more than {} MiB", most >> 20);
        }
    }

    /// For a peer that says something when there is something to say.
    pub fn wait_for_ever(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(None),
            Self::Unix(stream) => stream.set_read_timeout(None),
        }
    }

    fn limit(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(wait)),
            Self::Unix(stream) => stream.set_read_timeout(Some(wait)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn an_answer_has_an_end_in_time_and_in_size() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).expect("bind");
        let connect = || {
            let ours = Stream::connect(&path.to_string_lossy(), Duration::from_secs(5)).expect("connect");
            (ours, listener.accept().expect("accept").0)
        };
        let later = Instant::now() + Duration::from_secs(60);
        let (mut ours, mut theirs) = connect();
        theirs.write_all(b"{}").expect("write");
        drop(theirs);
        assert_eq!(ours.read_all(2, later).expect("all"), b"{}");
        let (mut ours, mut theirs) = connect();
        theirs.write_all(b"{}").expect("write");
        assert!(ours.read_all(1, later).is_err());
        let (mut ours, _silent) = connect();
        assert!(ours.read_all(1, Instant::now() + Duration::from_millis(10)).is_err());
    }
}
