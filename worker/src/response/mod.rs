//! The response of one request: its head, how its body is framed, and what was sent of it.

mod batch;
mod sender;

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;

use imperator_protocol::http::Version;
use imperator_protocol::response::{Asked, Body as Framing, CHUNK_END, ChunkStart, LAST_CHUNK, Plan, ResponseError, ResponseHead, reason};

use crate::language::{NoLock, Yield};
use crate::offload::{Offload, Pieces};
use crate::request::{HeadError, WriteError};
use crate::settings::RequestSettings;
use batch::Batch;
use sender::{Sender, Way};

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
    sender: Sender<'c>,
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
    has_file: bool,
    /// A file that takes the place of this response: nothing of it is sent.
    diversion: Option<Vec<u8>>,
}

/// What became of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub keep: bool,
    /// Bytes that a Content-Length promised and that did not come.
    pub short: Option<u64>,
}

impl<'c> Response<'c> {
    /// `head` is emptied. Without `offload` a request thread waits for its peer.
    pub fn new(
        socket: BorrowedFd<'c>,
        settings: &'c RequestSettings,
        version: &'c [u8],
        terms: Terms,
        head: &'c mut ResponseHead,
        offload: Option<&'c Offload>,
    ) -> Self {
        head.clear();
        Self {
            sender: Sender::new(socket, settings.socket_timeout, !settings.disable_sendfile, offload),
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
            has_file: false,
            diversion: None,
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

    /// At least a part of it came from a file.
    pub fn has_file(&self) -> bool {
        self.has_file
    }

    /// At least a part of it was left to the engine.
    pub fn is_offloaded(&self) -> bool {
        self.sender.is_offloaded()
    }

    pub fn head_sent(&self) -> bool {
        self.sent
    }

    pub fn set_status(&mut self, status: &[u8]) -> Result<(), HeadError> {
        if self.sent {
            return Err(HeadError::Sent);
        }
        self.head.start(self.version, status)?;
        (self.ended, self.says_connection, self.diversion) = (false, false, None);
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
        self.write_parts(parts, Way { lock, last: false })
    }

    /// As [`Self::write`], where nothing follows: the peer is not waited for.
    pub fn write_last(&mut self, parts: &[&[u8]], lock: &dyn Yield) -> Result<(), WriteError> {
        self.write_parts(parts, Way { lock, last: true })
    }

    /// The file at `path` is to be sent instead, unless the head is out.
    pub fn divert(&mut self, path: &[u8]) {
        if !self.sent {
            self.diversion = Some(path.to_vec());
        }
    }

    pub fn take_diversion(&mut self) -> Option<Vec<u8>> {
        self.diversion.take()
    }

    fn write_parts(&mut self, parts: &[&[u8]], way: Way<'_>) -> Result<(), WriteError> {
        if self.diversion.is_some() {
            return Ok(());
        }
        self.complete_head();
        let given = parts.iter().map(|p| p.len() as u64).sum::<u64>();
        let allowed = self.allow(given);
        self.transmit(parts, allowed, way)
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
    fn transmit(&mut self, parts: &[&[u8]], allowed: u64, way: Way<'_>) -> Result<(), WriteError> {
        if self.broken {
            return Err(WriteError::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        let line = self.chunk_start(allowed);
        let mut batch = Batch::new(&mut self.sender, way);
        // Then the connection's end is all that follows.
        let more = way.last && !self.terms.keep;
        let result = batch.fill(if self.sent { &[] } else { self.head.lines() }, line.as_ref(), parts, allowed, more);
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
                self.sender.cut();
                self.broken = true;
                self.write_errors += 1;
                Err(WriteError::Gone(error))
            }
        }
    }

    /// Sends `length` bytes (`None`: up to the end of the file) from `offset`. `last`: nothing follows.
    pub fn send_file(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: Option<u64>,
        last: bool,
        lock: &dyn Yield,
    ) -> Result<(), WriteError> {
        if self.diversion.is_some() {
            return Ok(());
        }
        let size = nix::sys::stat::fstat(file).map_err(|e| WriteError::Gone(e.into()))?.st_size.max(0) as u64;
        let there = size.saturating_sub(offset);
        self.complete_head();
        let length = self.allow(length.map_or(there, |l| l.min(there)));
        let way = Way { lock, last };
        self.has_file = true;
        if length == 0 {
            return self.transmit(&[], 0, way);
        }
        if self.broken {
            return Err(WriteError::Gone(io::ErrorKind::BrokenPipe.into()));
        }
        let result = self.send_file_framed(file, offset, length, way);
        self.head_is_out();
        self.account(result, length)
    }

    fn send_file_framed(&mut self, file: BorrowedFd<'_>, offset: u64, length: u64, way: Way<'_>) -> io::Result<()> {
        let line = self.chunk_start(length);
        let mut batch = Batch::new(&mut self.sender, way);
        if !self.sent {
            batch.add(self.head.lines())?;
        }
        if let Some(line) = &line {
            batch.add(line.as_bytes())?;
        }
        batch.flush(true)?;
        self.sender.send_file(file, offset, length, way)?;
        if line.is_some() {
            let mut batch = Batch::new(&mut self.sender, way);
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
        let _ = self.write_last(&[body], lock);
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
    pub fn finish(&mut self) -> Outcome {
        let way = Way { lock: &NoLock, last: true };
        self.diversion = None;
        if !self.sent && !self.broken {
            let _ = self.write_parts(&[], way);
        }
        if self.framing == Framing::Chunked && !self.broken {
            let mut batch = Batch::new(&mut self.sender, way);
            let result = batch.add(LAST_CHUNK).and_then(|()| batch.flush(!self.terms.keep));
            let _ = self.account(result, 0);
        }
        if let Err(error) = self.sender.close() {
            let _ = self.account(Err(error), 0);
        }
        let short = match self.framing {
            Framing::Length(left) if left > 0 && !self.broken && !self.terms.head_request => Some(left),
            _ => None,
        };
        Outcome { keep: self.terms.keep && !self.broken && short.is_none(), short }
    }

    /// What the peer has not taken of a finished response.
    pub fn take_rest(&mut self) -> Option<Box<Pieces>> {
        self.sender.take_rest().map(Box::new)
    }
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
mod tests;
