//! The response of one request: its head, how its body is framed, and what was sent of it.

use std::io::{self, IoSlice, Write as _};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;

use imperator_protocol::http::Version;
use imperator_protocol::response::{Asked, Body as Framing, CHUNK_END, ChunkStart, LAST_CHUNK, Plan, ResponseError, ResponseHead, reason};

use crate::language::Yield;
use crate::request::{HeadError, WriteError};
use crate::settings::RequestSettings;
use crate::socket;

/// Parts that go out in one system call at most.
const BATCH: usize = 16;

/// Parts of no more than so many bytes together are put into one: to copy them is cheaper than to have the kernel collect them.
const JOIN: usize = 2048;

/// What the connection allows a response to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// An HTTP socket: HEAD, 204 and 304 have no body. (Over the uwsgi protocol bodies pass as the app gave them; the front end sees to that.)
    pub http: bool,
    /// The connection can serve another request afterwards (http11, and the client agrees).
    pub keep: bool,
    /// Whether `Connection` is told to the client (http11 only: elsewhere nothing is added to a head).
    pub announce: bool,
    pub version: Version,
    pub head_request: bool,
}

impl Default for Terms {
    /// The uwsgi protocol's.
    fn default() -> Self {
        Self { http: false, keep: false, announce: false, version: Version::Http10, head_request: false }
    }
}

pub(crate) struct Response<'c> {
    socket: BorrowedFd<'c>,
    /// Seconds that a peer may not read.
    timeout: u32,
    /// The request's SERVER_PROTOCOL.
    version: &'c [u8],
    terms: Terms,
    /// `add-header` lines.
    add: &'c [String],
    /// `del-header` names.
    del: &'c [String],
    /// Files of `error-page-...`.
    pages: &'c [(u16, String)],
    head: &'c mut ResponseHead,
    /// Framing is decided, the empty line is there.
    ended: bool,
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
    /// `head` is emptied.
    pub fn new(socket: BorrowedFd<'c>, settings: &'c RequestSettings, version: &'c [u8], terms: Terms, head: &'c mut ResponseHead) -> Self {
        head.clear();
        Self {
            socket,
            timeout: settings.socket_timeout,
            version,
            terms,
            add: &settings.add_header,
            del: &settings.del_header,
            pages: &settings.error_pages,
            head,
            ended: false,
            says_connection: false,
            sent: false,
            framing: Framing::UntilClose,
            head_bytes: 0,
            body_bytes: 0,
            broken: false,
            write_errors: 0,
            by_sendfile: false,
        }
    }

    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn headers(&self) -> u32 {
        self.head.header_count()
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
        self.head.start(self.version, status)?;
        (self.ended, self.says_connection) = (false, false);
        Ok(())
    }

    pub fn add_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if self.sent || self.ended {
            return Err(HeadError::Sent);
        }
        if !self.head.is_started() {
            self.head.start(self.version, b"200 OK")?;
        }
        if self.del.iter().any(|d| d.as_bytes().eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        self.head.add(name, value)?;
        self.says_connection |= name.eq_ignore_ascii_case(b"Connection");
        Ok(())
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
            Framing::UntilClose | Framing::Chunked => given,
            Framing::None => 0,
            Framing::Length(left) => {
                let allowed = given.min(*left);
                *left -= allowed;
                allowed
            }
        }
    }

    /// Ends the head and decides on the framing, once.
    fn complete_head(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        if !self.head.is_started() {
            let _ = self.head.start(self.version, b"200 OK");
        }
        for (name, value) in self.add.iter().filter_map(|line| line.split_once(':')) {
            let _ = self.head.add(name.trim_end().as_bytes(), value.trim_start().as_bytes());
        }
        let plan = self.plan();
        self.framing = plan.body;
        self.terms.keep = plan.keep_alive;
        if self.framing == Framing::Chunked {
            let _ = self.head.add(b"Transfer-Encoding", b"chunked");
        }
        if let Some(connection) = plan.connection.filter(|_| self.terms.announce && !self.says_connection) {
            let _ = self.head.add(b"Connection", connection.as_bytes());
        }
        self.head.finish();
    }

    fn plan(&self) -> Plan {
        if self.terms.http {
            let method: &[u8] = if self.terms.head_request { b"HEAD" } else { b"GET" };
            return self.head.plan(&Asked { method, version: self.terms.version, keep_alive: self.terms.keep });
        }
        let length = self.head.content_length().filter(|_| !self.head.has_transfer_encoding());
        Plan { body: length.map_or(Framing::UntilClose, Framing::Length), keep_alive: false, connection: None }
    }

    /// Sends the head if it is due, and the first `allowed` bytes of `parts`.
    fn transmit(&mut self, parts: &[&[u8]], allowed: u64, lock: &dyn Yield) -> Result<(), WriteError> {
        if self.broken {
            return Err(WriteError::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        let line = self.chunk_start(allowed);
        let mut batch = Batch::new(self.socket, self.timeout, lock);
        let result = batch.fill(if self.sent { &[] } else { self.head.lines() }, line.as_ref(), parts, allowed);
        self.head_is_out();
        self.account(result, allowed)
    }

    fn chunk_start(&self, length: u64) -> Option<ChunkStart> {
        let length = NonZeroUsize::new(usize::try_from(length).ok()?)?;
        (self.framing == Framing::Chunked).then(|| ChunkStart::new(length))
    }

    fn head_is_out(&mut self) {
        if !self.sent {
            self.sent = true;
            self.head_bytes = self.head.lines().len() as u64;
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
        let line = self.chunk_start(length);
        let mut batch = Batch::new(self.socket, self.timeout, lock);
        if !self.sent {
            batch.add(self.head.lines())?;
        }
        if let Some(line) = &line {
            batch.add(line.as_bytes())?;
        }
        batch.flush(true)?;
        socket::send_file(self.socket, file, offset, length, self.timeout, lock)?;
        if line.is_some() {
            batch.add(CHUNK_END)?;
            batch.flush(false)?;
        }
        Ok(())
    }

    /// Replaces an unsent response by a page that closes the connection (`error-page-...`, else plain text); cuts one that has begun.
    pub fn fail(&mut self, status: u16, lock: &dyn Yield) {
        if self.sent {
            self.broken = true;
            return;
        }
        let phrase = reason(status);
        let page = self.error_page(status);
        let (kind, body) = page.as_deref().map_or((&b"text/plain"[..], phrase.as_bytes()), |page| (b"text/html", page));
        let (mut line, mut length) = ([0; 64], [0; 24]);
        let _ = self.set_status(text(&mut line, format_args!("{status} {phrase}")));
        self.terms.keep = false;
        for (name, value) in [
            (&b"Connection"[..], &b"close"[..]),
            (b"Content-Type", kind),
            (b"Content-Length", text(&mut length, format_args!("{}", body.len()))),
        ] {
            let _ = self.add_header(name, value);
        }
        let _ = self.write(&[body], lock);
    }

    /// The first file of this status that can be read.
    fn error_page(&self, status: u16) -> Option<Vec<u8>> {
        self.pages.iter().filter(|(of, _)| *of == status).find_map(|(_, file)| std::fs::read(file).ok())
    }

    /// The head is all there is to send.
    pub fn no_body(&mut self) {
        self.framing = Framing::None;
    }

    /// Sends what is still due: the head of an empty response, the last chunk.
    pub fn finish(&mut self, lock: &dyn Yield) -> Outcome {
        if !self.sent && !self.broken {
            let _ = self.write(&[], lock);
        }
        if self.framing == Framing::Chunked && !self.broken {
            let mut batch = Batch::new(self.socket, self.timeout, lock);
            let result = batch.add(LAST_CHUNK).and_then(|()| batch.flush(false));
            let _ = self.account(result, 0);
        }
        let short = match self.framing {
            Framing::Length(left) if left > 0 && !self.broken && !self.terms.head_request => Some(left),
            _ => None,
        };
        Outcome { keep: self.terms.keep && !self.broken && short.is_none(), short }
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

    fn fill(&mut self, head: &'a [u8], line: Option<&'a ChunkStart>, parts: &[&'a [u8]], allowed: u64) -> io::Result<()> {
        self.add(head)?;
        if let Some(line) = line {
            self.add(line.as_bytes())?;
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
            match send(self.socket, parts, more) {
                Ok(n) => IoSlice::advance_slices(&mut parts, n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket::wait_to_write(self.socket, self.timeout, self.lock)?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    if more {
        return socket::try_send(socket, parts, true);
    }
    if let [part] = parts {
        return socket::try_send_one(socket, part);
    }
    if parts.iter().map(|part| part.len()).sum::<usize>() > JOIN {
        return socket::try_send(socket, parts, false);
    }
    let (mut joined, mut end) = ([0; JOIN], 0);
    for part in parts {
        joined[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    socket::try_send_one(socket, &joined[..end])
}

/// Formats into a small buffer of the caller's.
fn text<'b>(buffer: &'b mut [u8], arguments: std::fmt::Arguments<'_>) -> &'b [u8] {
    let mut rest = &mut *buffer;
    let _ = rest.write_fmt(arguments);
    let left = rest.len();
    &buffer[..buffer.len() - left]
}

impl From<ResponseError> for HeadError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::ControlCharacter(what) => Self::ControlCharacter(what),
            ResponseError::Status => Self::Status,
            ResponseError::Name => Self::Name,
            ResponseError::Finished => Self::Sent,
            ResponseError::ContentLength => Self::ContentLength,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::language::NoLock;

    /// What the peer gets of a response that `make` sends, and what became of it.
    fn sent(settings: &RequestSettings, terms: Terms, make: impl FnOnce(&mut Response<'_>)) -> (String, Outcome) {
        let (mut peer, ours) = UnixStream::pair().expect("pair");
        let mut head = ResponseHead::new();
        let mut response = Response::new(ours.as_fd(), settings, b"HTTP/1.1", terms, &mut head);
        make(&mut response);
        let outcome = response.finish(&NoLock);
        drop(ours);
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("read");
        (text, outcome)
    }

    const KEPT: Terms = Terms { http: true, keep: true, announce: true, version: Version::Http11, head_request: false };

    #[test]
    fn any_number_of_parts_goes_out_in_order() {
        let parts: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        let slices: Vec<_> = parts.iter().map(|p| p.as_bytes()).collect();
        let (text, outcome) = sent(&RequestSettings::default(), KEPT, |r| r.write(&slices, &NoLock).expect("write"));
        let all = parts.concat();
        assert_eq!(text, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{all}\r\n0\r\n\r\n", all.len()));
        assert_eq!(outcome, Outcome { keep: true, short: None });
    }

    #[test]
    fn a_content_length_cuts_across_parts_and_calls() {
        let (text, outcome) = sent(&RequestSettings::default(), Terms::default(), |r| {
            r.add_header(b"Content-Length", b"5").expect("header");
            r.write(&[b"ab", b"", b"cd"], &NoLock).expect("write");
            r.write(&[b"ef", b"gh"], &NoLock).expect("write");
            assert_eq!((r.body_bytes(), r.headers()), (5, 1));
        });
        assert!(text.ends_with("\r\n\r\nabcde"), "{text}");
        assert_eq!(outcome.short, None);
    }

    #[test]
    fn the_configuration_adds_and_removes_headers() {
        let settings =
            RequestSettings { add_header: vec!["X-Add: 1".into()], del_header: vec!["x-del".into()], ..RequestSettings::default() };
        let (text, _) = sent(&settings, Terms::default(), |r| {
            r.set_status(b"404 Nope").expect("status");
            r.add_header(b"X-Del", b"1").expect("header");
            r.write(&[b"x"], &NoLock).expect("write");
        });
        assert_eq!(text, "HTTP/1.1 404 Nope\r\nX-Add: 1\r\n\r\nx");
    }

    #[test]
    fn a_failure_replaces_what_is_not_out_and_cuts_what_is() {
        let (text, outcome) = sent(&RequestSettings::default(), KEPT, |r| {
            r.add_header(b"X-Old", b"1").expect("header");
            r.fail(500, &NoLock);
        });
        assert!(text.starts_with("HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n") && !text.contains("X-Old"), "{text}");
        assert!(!outcome.keep);
        let (text, outcome) = sent(&RequestSettings::default(), KEPT, |r| {
            r.write(&[b"half"], &NoLock).expect("write");
            r.fail(500, &NoLock);
            assert!(r.set_status(b"200 OK").is_err() && r.write(&[b"more"], &NoLock).is_err());
        });
        assert!(text.ends_with("\r\n\r\n4\r\nhalf\r\n"), "no last chunk: {text}");
        assert!(!outcome.keep);
    }

    #[test]
    fn the_first_page_that_can_be_read_is_the_body_of_a_failure() {
        let top = tempfile::tempdir().expect("directory");
        let page = |name: &str, text: &str| {
            let path = top.path().join(name);
            std::fs::write(&path, text).expect("write");
            path.display().to_string()
        };
        let error_pages =
            vec![(404, page("404", "lost")), (500, "/nowhere".into()), (500, page("500", "<h1>broken</h1>")), (500, page("more", "x"))];
        let settings = RequestSettings { error_pages, ..RequestSettings::default() };
        let failed = |status| sent(&settings, Terms::default(), |r| r.fail(status, &NoLock)).0;
        assert!(failed(500).ends_with("Content-Type: text/html\r\nContent-Length: 15\r\n\r\n<h1>broken</h1>"), "{}", failed(500));
        assert!(failed(404).ends_with("lost"));
        assert!(failed(503).ends_with("Content-Type: text/plain\r\nContent-Length: 19\r\n\r\nService Unavailable"));
    }

    #[test]
    fn a_peer_that_left_is_an_error_once_and_for_all() {
        let (peer, ours) = UnixStream::pair().expect("pair");
        drop(peer);
        let (settings, mut head) = (RequestSettings::default(), ResponseHead::new());
        let mut response = Response::new(ours.as_fd(), &settings, b"HTTP/1.1", KEPT, &mut head);
        assert!(response.write(&[b"x"], &NoLock).is_err());
        assert!(response.write(&[b"x"], &NoLock).is_err());
        assert_eq!((response.write_errors(), response.body_bytes()), (1, 0));
        assert!(!response.finish(&NoLock).keep);
    }
}
