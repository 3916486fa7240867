//! The response of one request: its head, how its body is framed, and what was sent of it.

use std::io::{self, IoSlice, Write as _};
use std::os::fd::BorrowedFd;

use crate::language::Yield;
use crate::request::{HeadError, WriteError};
use crate::socket;

/// Parts that go out in one system call at most.
const BATCH: usize = 16;

/// What the connection allows a response to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The connection can serve another request afterwards (http11, and the client agrees).
    pub keep: bool,
    /// The client understands chunked bodies (HTTP/1.1).
    pub chunks: bool,
    /// Whether `Connection` is told to the client (http11 only: elsewhere nothing is added to a head).
    pub announce: bool,
    /// Whether HEAD, 204 and 304 are kept without a body. (Over the uwsgi protocol the front end sees to that.)
    pub strict: bool,
    pub head_request: bool,
}

/// How the peer learns where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// The end of the connection.
    Close,
    /// `Content-Length`: bytes that are left of it.
    Length(u64),
    Chunked,
    /// No body, whatever the app gives.
    Empty,
}

pub(crate) struct Response<'c> {
    socket: BorrowedFd<'c>,
    /// Seconds that a peer may not read.
    timeout: u32,
    version: &'c [u8],
    terms: Terms,
    add: &'c [String],
    del: &'c [String],
    head: &'c mut Vec<u8>,
    status: u16,
    headers: u32,
    content_length: Option<u64>,
    /// The app frames or closes by itself (`Transfer-Encoding`, `Connection: close`).
    own_framing: bool,
    says_connection: bool,
    sent: bool,
    framing: Framing,
    head_bytes: u64,
    body_bytes: u64,
    /// The peer is gone, or the response was cut: nothing more is sent.
    broken: bool,
    write_errors: u32,
    by_sendfile: bool,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub keep: bool,
    /// Bytes that a Content-Length promised and that did not come.
    pub short: Option<u64>,
}

impl<'c> Response<'c> {
    /// `head` is emptied; `version` is the request's SERVER_PROTOCOL.
    pub fn new(socket: BorrowedFd<'c>, timeout: u32, version: &'c [u8], terms: Terms, head: &'c mut Vec<u8>) -> Self {
        head.clear();
        Self {
            socket,
            timeout,
            version: if is_version(version) { version } else { b"HTTP/1.0" },
            terms,
            add: &[],
            del: &[],
            head,
            status: 0,
            headers: 0,
            content_length: None,
            own_framing: false,
            says_connection: false,
            sent: false,
            framing: Framing::Close,
            head_bytes: 0,
            body_bytes: 0,
            broken: false,
            write_errors: 0,
            by_sendfile: false,
        }
    }

    /// Headers of the configuration: `add-header` lines, `del-header` names.
    pub fn with_headers(mut self, add: &'c [String], del: &'c [String]) -> Self {
        (self.add, self.del) = (add, del);
        self
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn headers(&self) -> u32 {
        self.headers
    }

    pub fn head_bytes(&self) -> u64 {
        self.head_bytes
    }

    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub fn write_errors(&self) -> u32 {
        self.write_errors
    }

    pub fn by_sendfile(&self) -> bool {
        self.by_sendfile
    }

    pub fn head_sent(&self) -> bool {
        self.sent
    }

    pub fn set_status(&mut self, status: &[u8]) -> Result<(), HeadError> {
        if self.sent {
            return Err(HeadError::Sent);
        }
        check(status, "status")?;
        self.head.clear();
        (self.headers, self.content_length, self.own_framing, self.says_connection) = (0, None, false, false);
        self.status = status.iter().take(3).fold(0, |n, b| if b.is_ascii_digit() { n * 10 + u16::from(b - b'0') } else { n });
        for part in [self.version, b" ", status, b"\r\n"] {
            self.head.extend_from_slice(part);
        }
        Ok(())
    }

    pub fn add_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if self.sent {
            return Err(HeadError::Sent);
        }
        check(name, "header name")?;
        check(value, "header value")?;
        if name.is_empty() || name.iter().any(|b| matches!(b, b' ' | b'\t' | b':')) {
            return Err(HeadError::Name);
        }
        if self.del.iter().any(|d| d.as_bytes().eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        self.notice(name, value);
        self.headers += 1;
        for part in [name, b": ", value, b"\r\n"] {
            self.head.extend_from_slice(part);
        }
        Ok(())
    }

    /// Remembers the headers that decide on framing.
    fn notice(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"Content-Length") => {
                self.content_length = std::str::from_utf8(value).ok().and_then(|v| v.trim().parse().ok())
            }
            17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => self.own_framing = true,
            10 if name.eq_ignore_ascii_case(b"Connection") => {
                self.says_connection = true;
                self.own_framing |= value
                    .split(|b| *b == b',')
                    .any(|v| v.trim_ascii().eq_ignore_ascii_case(b"close") || v.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
            }
            _ => {}
        }
    }

    /// Sends parts of the body, the head before them if it is not out yet.
    pub fn write(&mut self, parts: &[&[u8]], lock: &dyn Yield) -> Result<(), WriteError> {
        self.complete_head();
        let given = parts.iter().map(|p| p.len() as u64).sum::<u64>();
        let allowed = self.allow(given);
        self.transmit(parts, allowed, lock)
    }

    /// How much of `given` body bytes the framing has room for.
    fn allow(&mut self, given: u64) -> u64 {
        match &mut self.framing {
            Framing::Close | Framing::Chunked => given,
            Framing::Empty => 0,
            Framing::Length(left) => {
                let allowed = given.min(*left);
                *left -= allowed;
                allowed
            }
        }
    }

    /// Ends the head and decides on the framing, once.
    fn complete_head(&mut self) {
        if self.sent || self.head.ends_with(b"\r\n\r\n") {
            return;
        }
        if self.head.is_empty() {
            let _ = self.set_status(b"200 OK");
        }
        for line in self.add {
            if !line.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                self.head.extend_from_slice(line.as_bytes());
                self.head.extend_from_slice(b"\r\n");
                self.headers += 1;
            }
        }
        self.framing = self.choose_framing();
        if self.framing == Framing::Chunked {
            self.head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.terms.keep &= self.framing != Framing::Close && !self.own_framing;
        if self.terms.announce && !self.says_connection && (!self.terms.keep || !self.terms.chunks) {
            self.head.extend_from_slice(if self.terms.keep { b"Connection: keep-alive\r\n" } else { b"Connection: close\r\n" });
        }
        self.head.extend_from_slice(b"\r\n");
    }

    fn choose_framing(&self) -> Framing {
        if self.terms.strict && (self.terms.head_request || matches!(self.status, 204 | 304)) {
            Framing::Empty
        } else if self.own_framing && self.content_length.is_none() {
            Framing::Close
        } else if let Some(length) = self.content_length {
            Framing::Length(length)
        } else if self.terms.keep && self.terms.chunks {
            Framing::Chunked
        } else {
            Framing::Close
        }
    }

    /// Sends the head if it is due, and the first `allowed` bytes of `parts`.
    fn transmit(&mut self, parts: &[&[u8]], allowed: u64, lock: &dyn Yield) -> Result<(), WriteError> {
        if self.broken {
            return Err(WriteError::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        let line = (self.framing == Framing::Chunked && allowed > 0).then(|| ChunkLine::new(allowed));
        let mut batch = Batch::new(self.socket, self.timeout, lock);
        let result = batch.fill(if self.sent { &[] } else { self.head }, line.as_ref(), parts, allowed);
        self.head_is_out();
        self.account(result, allowed)
    }

    fn head_is_out(&mut self) {
        if !self.sent {
            self.sent = true;
            self.head_bytes = self.head.len() as u64;
        }
    }

    fn account(&mut self, result: io::Result<()>, bytes: u64) -> Result<(), WriteError> {
        match result {
            Ok(()) => {
                self.body_bytes += bytes;
                Ok(())
            }
            Err(error) => {
                self.broken = true;
                self.write_errors += 1;
                Err(WriteError::Gone(error))
            }
        }
    }

    /// Sends `length` bytes (`None`: up to the end of the file) from `offset`.
    pub fn send_file(&mut self, file: BorrowedFd<'_>, offset: u64, length: Option<u64>, lock: &dyn Yield) -> Result<(), WriteError> {
        let size = nix::sys::stat::fstat(file).map_err(|e| WriteError::Gone(e.into()))?.st_size.max(0) as u64;
        let there = size.saturating_sub(offset);
        self.complete_head();
        let length = self.allow(length.map_or(there, |l| l.min(there)));
        self.by_sendfile = true;
        if length == 0 {
            return self.transmit(&[], 0, lock);
        }
        if self.broken {
            return Err(WriteError::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        let result = self.send_file_framed(file, offset, length, lock);
        self.head_is_out();
        self.account(result, length)
    }

    fn send_file_framed(&self, file: BorrowedFd<'_>, offset: u64, length: u64, lock: &dyn Yield) -> io::Result<()> {
        let line = (self.framing == Framing::Chunked).then(|| ChunkLine::new(length));
        let mut batch = Batch::new(self.socket, self.timeout, lock);
        if !self.sent {
            batch.add(self.head)?;
        }
        if let Some(line) = &line {
            batch.add(line.bytes())?;
        }
        batch.flush(true)?;
        socket::send_file(self.socket, file, offset, length, self.timeout, lock)?;
        if line.is_some() {
            batch.add(b"\r\n")?;
            batch.flush(false)?;
        }
        Ok(())
    }

    /// Replaces an unsent response by a plain-text page that closes the connection; cuts one that has begun.
    pub fn fail(&mut self, status: u16, lock: &dyn Yield) {
        if self.sent {
            self.broken = true;
            return;
        }
        let phrase = phrase(status);
        let mut line = [0; 64];
        let mut rest = &mut line[..];
        let _ = write!(rest, "{status} {phrase}");
        let left = rest.len();
        let length = line.len() - left;
        let _ = self.set_status(&line[..length]);
        self.terms.keep = false;
        let mut digits = [0; 8];
        let mut rest = &mut digits[..];
        let _ = write!(rest, "{}", phrase.len());
        let left = rest.len();
        let length = digits.len() - left;
        for (name, value) in [(&b"Content-Type"[..], &b"text/plain"[..]), (b"Content-Length", &digits[..length]), (b"Connection", b"close")]
        {
            let _ = self.add_header(name, value);
        }
        let _ = self.write(&[phrase.as_bytes()], lock);
    }

    /// Sends what is still due: the head of an empty response, the last chunk.
    pub fn finish(&mut self, lock: &dyn Yield) -> Outcome {
        if !self.sent && !self.broken {
            let _ = self.write(&[], lock);
        }
        if self.framing == Framing::Chunked && !self.broken {
            let mut batch = Batch::new(self.socket, self.timeout, lock);
            let result = batch.add(b"0\r\n\r\n").and_then(|()| batch.flush(false));
            let _ = self.account(result, 0);
        }
        let short = match self.framing {
            Framing::Length(left) if left > 0 && !self.broken && !self.terms.head_request => Some(left),
            _ => None,
        };
        Outcome { keep: self.terms.keep && !self.broken && short.is_none(), short }
    }
}

/// The size line of a chunk.
struct ChunkLine {
    text: [u8; 20],
    length: usize,
}

impl ChunkLine {
    fn new(size: u64) -> Self {
        let mut text = [0; 20];
        let mut rest = &mut text[..];
        let _ = write!(rest, "{size:x}\r\n");
        let left = rest.len();
        Self { text, length: 20 - left }
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }
}

/// Parts on their way into one system call.
struct Batch<'a> {
    socket: BorrowedFd<'a>,
    timeout: u32,
    lock: &'a dyn Yield,
    parts: [IoSlice<'a>; BATCH],
    used: usize,
}

impl<'a> Batch<'a> {
    fn new(socket: BorrowedFd<'a>, timeout: u32, lock: &'a dyn Yield) -> Self {
        Self { socket, timeout, lock, parts: [IoSlice::new(&[]); BATCH], used: 0 }
    }

    fn fill(&mut self, head: &'a [u8], line: Option<&'a ChunkLine>, parts: &[&'a [u8]], allowed: u64) -> io::Result<()> {
        self.add(head)?;
        if let Some(line) = line {
            self.add(line.bytes())?;
        }
        let mut left = usize::try_from(allowed).unwrap_or(usize::MAX);
        for part in parts {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            self.add(part)?;
        }
        if line.is_some() {
            self.add(b"\r\n")?;
        }
        self.flush(false)
    }

    fn add(&mut self, part: &'a [u8]) -> io::Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        if self.used == BATCH {
            self.flush(true)?;
        }
        self.parts[self.used] = IoSlice::new(part);
        self.used += 1;
        Ok(())
    }

    /// Sends all of it, waiting for the peer only when the kernel takes nothing.
    fn flush(&mut self, more: bool) -> io::Result<()> {
        let used = std::mem::take(&mut self.used);
        let mut parts = &mut self.parts[..used];
        while !parts.is_empty() {
            match socket::try_send(self.socket, parts, more) {
                Ok(n) => IoSlice::advance_slices(&mut parts, n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket::wait_to_write(self.socket, self.timeout, self.lock)?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// `HTTP/1.1` and the like, and nothing that could forge a head.
fn is_version(version: &[u8]) -> bool {
    version.len() == 8 && version.starts_with(b"HTTP/") && version[5].is_ascii_digit() && version[6] == b'.' && version[7].is_ascii_digit()
}

fn check(text: &[u8], what: &'static str) -> Result<(), HeadError> {
    if text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) { Err(HeadError::ControlCharacter(what)) } else { Ok(()) }
}

/// The phrase of a status that the container answers with by itself.
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
