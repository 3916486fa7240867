//! Answers on the statistics socket without ever waiting for a client.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use imperator_worker::settings::{Protocol, Settings, Socket};

use crate::sockets;

/// Clients that are served at once; more wait in the backlog's place and are closed.
const MOST_CLIENTS: usize = 64;
/// A client that does not take its answer is dropped after so long.
const PATIENCE_MS: u64 = 5000;
/// Of a request nothing is of interest but its end.
const LONGEST_REQUEST: usize = 16 * 1024;

/// The listening socket and those who are being answered.
pub struct StatsServer {
    listener: Listener,
    http: bool,
    clients: BTreeMap<u64, Client>,
    next: u64,
    /// Removed at the end.
    path: Option<std::path::PathBuf>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Client {
    stream: File,
    /// `None`: the request (of HTTP) is still being read.
    answer: Option<Vec<u8>>,
    sent: usize,
    request: Vec<u8>,
    until: u64,
}

/// What a client is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Readable,
    Writable,
    Done,
}

impl StatsServer {
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: &str, http: bool) -> anyhow::Result<Self> {
        let (fd, path) = listen(address, false, None)?;
        let tcp = nix::sys::socket::getsockname::<nix::sys::socket::UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&fd)).is_err();
        let listener = if tcp { Listener::Tcp(TcpListener::from(fd)) } else { Listener::Unix(UnixListener::from(fd)) };
        Ok(Self { listener, http, clients: BTreeMap::new(), next: 0, path })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            Listener::Tcp(l) => l.as_fd(),
            Listener::Unix(l) => l.as_fd(),
        }
    }

    /// Accepts who waits; their numbers.
    pub fn accept(&mut self, now_ms: u64) -> Vec<u64> {
        let mut fresh = Vec::new();
        while let Ok(stream) = self.accept_one() {
            if self.clients.len() >= MOST_CLIENTS {
                continue;
            }
            self.next += 1;
            let client = Client { stream: File::from(stream), answer: None, sent: 0, request: vec![], until: now_ms + PATIENCE_MS };
            self.clients.insert(self.next, client);
            fresh.push(self.next);
        }
        fresh
    }

    fn accept_one(&self) -> io::Result<OwnedFd> {
        let fd: OwnedFd = match &self.listener {
            Listener::Tcp(l) => l.accept()?.0.into(),
            Listener::Unix(l) => l.accept()?.0.into(),
        };
        imperator_sys::process::set_nonblocking(fd.as_fd(), true)?;
        Ok(fd)
    }

    pub fn client(&self, number: u64) -> Option<BorrowedFd<'_>> {
        self.clients.get(&number).map(|c| c.stream.as_fd())
    }

    /// Goes on with one client; `json` makes the document when it is needed.
    pub fn advance(&mut self, number: u64, json: impl FnOnce() -> String) -> Progress {
        let Some(client) = self.clients.get_mut(&number) else { return Progress::Done };
        if client.answer.is_none() {
            if self.http && !client.has_request() {
                return Progress::Readable;
            }
            client.answer = Some(if self.http { http(json()) } else { json().into_bytes() });
        }
        client.send()
    }

    pub fn drop_client(&mut self, number: u64) {
        self.clients.remove(&number);
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.clients.values().map(|c| c.until).min()
    }

    /// Those whose time is over.
    pub fn late(&self, now_ms: u64) -> Vec<u64> {
        self.clients.iter().filter(|(_, c)| c.until <= now_ms).map(|(n, _)| *n).collect()
    }
}

impl Drop for StatsServer {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Client {
    /// Whether the head of a request is complete, too long, or will never come.
    fn has_request(&mut self) -> bool {
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(n) => self.request.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != ErrorKind::WouldBlock,
            }
            if self.request.len() > LONGEST_REQUEST || self.request.windows(4).any(|w| w == b"\r\n\r\n") {
                return true;
            }
        }
    }

    fn send(&mut self) -> Progress {
        let answer = self.answer.as_deref().unwrap_or_default();
        while self.sent < answer.len() {
            match self.stream.write(&answer[self.sent..]) {
                Ok(n) if n > 0 => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Progress::Writable,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                _ => return Progress::Done,
            }
        }
        // What the client sent and nobody read would turn our close into a reset, and the answer would be lost.
        let _ = nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.stream), nix::sys::socket::Shutdown::Write);
        let mut rest = [0; 2048];
        while matches!(self.stream.read(&mut rest), Ok(n) if n > 0) {}
        Progress::Done
    }
}

fn http(json: String) -> Vec<u8> {
    let head = "HTTP/1.0 200 OK\r\nConnection: close\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/json";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{json}", json.len()).into_bytes()
}

/// A socket of the emperor's own (not close-on-exec for nobody: it is). `deferred`: TCP connections count only once they have sent something.
///
/// # Errors
/// An address that cannot be parsed or bound, as [`sockets::bind_all`] says it.
pub fn listen(address: &str, deferred: bool, backlog: Option<i32>) -> anyhow::Result<(OwnedFd, Option<std::path::PathBuf>)> {
    let mut settings = Settings { sockets: vec![Socket { address: address.into(), protocol: Protocol::Uwsgi }], ..Settings::default() };
    settings.socket_options.defer_accept = deferred;
    settings.socket_options.backlog = backlog;
    settings.socket_options.chmod = deferred.then_some(0o666);
    let bound = sockets::bind_all(&settings, &[], &[])?.pop().ok_or_else(|| anyhow::anyhow!("{address}: nothing to listen on"))?;
    let fd = bound.fd.try_clone()?;
    Ok((fd, bound.label.path))
}
