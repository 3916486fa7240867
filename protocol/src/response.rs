//! Response heads: what goes out before a body, over every protocol that speaks HTTP back.
//!
//! Nothing is added to what the application gave: no Date, no Server, no Connection, unless the caller asks for it.

use crate::bytes::{decimal, trim};
use crate::http::Version;
pub use crate::reason::reason;
use crate::scan::{has_line_end, token_length};

/// Why a status line or a header is refused. Nothing of it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("a {0} holds a carriage return, a line feed or a NUL")]
    ControlCharacter(&'static str),
    #[error("a status is missing, or is no number from 100 to 999, alone or followed by a blank and a phrase")]
    Status,
    #[error("the head is complete already")]
    Finished,
    #[error("a header name is empty or holds a blank, a colon or a control character")]
    Name,
    #[error("a Content-Length is not a decimal number, or is a second, different one")]
    ContentLength,
}

/// A head in the making. [`ResponseHead::start`] begins another one in the same memory.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    bytes: Vec<u8>,
    status: u16,
    headers: u32,
    content_length: Option<u64>,
    transfer_encoding: bool,
    close: bool,
    finished: bool,
}

impl ResponseHead {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), status: 0, headers: 0, content_length: None, transfer_encoding: false, close: false, finished: false }
    }

    /// Forgets the head and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        *self = Self { bytes: std::mem::take(&mut self.bytes), ..Self::new() };
    }

    /// Starts a head, dropping what was there. `protocol` is the request's SERVER_PROTOCOL (HTTP/1.0 if that is empty or nonsense),
    /// `status` the code and its phrase as they are to go out; a bare code gets its phrase.
    pub fn start(&mut self, protocol: &[u8], status: &[u8]) -> Result<(), ResponseError> {
        refuse_line_ends(status, "status")?;
        let code = status_code(status)?;
        self.clear();
        self.status = code;
        self.bytes.extend_from_slice(checked_protocol(protocol));
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(status);
        if status.len() == 3 {
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(reason(code).as_bytes());
        }
        self.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Adds a header as it is: order, case and repeats are kept. Names are not held to RFC 9110's tokens, as applications
    /// get along with others today; only what would break the head is refused.
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        if self.finished {
            return Err(ResponseError::Finished);
        }
        if !self.is_started() {
            return Err(ResponseError::Status);
        }
        refuse_name(name)?;
        refuse_line_ends(value, "header value")?;
        self.note(name, value)?;
        self.bytes.reserve(name.len() + value.len() + 4);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(b": ");
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(b"\r\n");
        self.headers += 1;
        Ok(())
    }

    /// Keeps what decides how the body is framed.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            14 if is(b"content-length") => {
                let length = decimal(trim(value)).ok_or(ResponseError::ContentLength)?;
                if self.content_length.is_some_and(|before| before != length) {
                    return Err(ResponseError::ContentLength);
                }
                self.content_length = Some(length);
            }
            17 if is(b"transfer-encoding") => self.transfer_encoding = true,
            10 if is(b"connection") => {
                self.close |= value.split(|&byte| byte == b',').any(|option| trim(option).eq_ignore_ascii_case(b"close"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a head was started.
    pub fn is_started(&self) -> bool {
        self.status != 0
    }

    /// The code of the status line; 0 before [`Self::start`].
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How many headers were added.
    pub fn header_count(&self) -> u32 {
        self.headers
    }

    /// What the Content-Length header promises, in bytes.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the application frames the body itself.
    pub fn has_transfer_encoding(&self) -> bool {
        self.transfer_encoding
    }

    /// Whether the application asked for the end of the connection (`Connection: close`).
    pub fn asks_to_close(&self) -> bool {
        self.close
    }

    /// The status line and the headers so far, without the empty line after them.
    pub fn lines(&self) -> &[u8] {
        &self.bytes
    }

    /// Ends the head with its empty line; nothing can be added after this. The bytes are ready to be sent.
    pub fn finish(&mut self) -> &[u8] {
        if !std::mem::replace(&mut self.finished, true) {
            self.bytes.extend_from_slice(b"\r\n");
        }
        &self.bytes
    }

    /// How the body is to be framed, so that the client knows where it ends and the connection lives on where it can.
    pub fn plan(&self, asked: &Asked<'_>) -> Plan {
        let keep_alive = asked.keep_alive && !self.close;
        let (body, keep_alive) = match self.content_length {
            _ if self.status == 101 => (Body::UntilClose, false),
            _ if !may_have_body(asked.method, self.status) => (Body::None, keep_alive),
            // The application frames by itself; where that ends is not ours to know.
            _ if self.transfer_encoding => (Body::UntilClose, false),
            Some(length) => (Body::Length(length), keep_alive),
            None if keep_alive && asked.version == Version::Http11 => (Body::Chunked, true),
            None => (Body::UntilClose, false),
        };
        let connection = match asked.version {
            Version::Http10 if keep_alive => Some("keep-alive"),
            Version::Http11 if !keep_alive && !self.close && self.status != 101 => Some("close"),
            _ => None,
        };
        Plan { body, keep_alive, connection }
    }
}

/// What a client asked for, as far as it shapes the answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'r> {
    pub method: &'r [u8],
    pub version: Version,
    /// Whether the connection may serve another request: the client wants it and the socket does that at all.
    pub keep_alive: bool,
}

/// How a body goes out over a connection that may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub body: Body,
    /// Whether the connection serves another request after this one.
    pub keep_alive: bool,
    /// The Connection header to add, if one is needed to say so.
    pub connection: Option<&'static str>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none: drop what the application gives.
    None,
    /// After so many bytes.
    Length(u64),
    /// With [`LAST_CHUNK`]; `Transfer-Encoding: chunked` is to be added.
    Chunked,
    /// With the connection.
    UntilClose,
}

fn refuse_line_ends(bytes: &[u8], what: &'static str) -> Result<(), ResponseError> {
    if has_line_end(bytes) { Err(ResponseError::ControlCharacter(what)) } else { Ok(()) }
}

fn refuse_name(name: &[u8]) -> Result<(), ResponseError> {
    // What nearly all are; the others are looked at more closely.
    if !name.is_empty() && token_length(name, |_| ()) == name.len() {
        return Ok(());
    }
    refuse_line_ends(name, "header name")?;
    let wrong = name.is_empty() || name.iter().any(|&byte| byte <= b' ' || byte == b':' || byte == 0x7f);
    if wrong { Err(ResponseError::Name) } else { Ok(()) }
}

/// Three digits, alone or before a blank.
fn status_code(status: &[u8]) -> Result<u16, ResponseError> {
    match status {
        [_, _, _] => code(status),
        [a, b, c, b' ', ..] => code(&[*a, *b, *c]),
        _ => Err(ResponseError::Status),
    }
}

fn code(digits: &[u8]) -> Result<u16, ResponseError> {
    decimal(digits).and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 100).ok_or(ResponseError::Status)
}

/// The peer names its protocol itself: it must not be able to write our headers with it.
fn checked_protocol(protocol: &[u8]) -> &[u8] {
    if protocol == b"HTTP/1.1" {
        return protocol;
    }
    let sound = protocol.len() <= 16 && protocol.starts_with(b"HTTP/") && protocol.iter().all(|byte| byte.is_ascii_graphic());
    if sound { protocol } else { b"HTTP/1.0" }
}

/// Whether the response to `method` with that status has a body at all (RFC 9112, 6.3). A Content-Length may stand in its head even so.
/// What follows a 101 counts as one: it is the other protocol's.
pub fn may_have_body(method: &[u8], status: u16) -> bool {
    match status {
        101 => true,
        100..=199 | 204 | 304 => false,
        _ => method != b"HEAD",
    }
}

/// Appends a whole response of our own: `500 Internal Server Error` and the like in plain text, closing the connection.
pub fn push_error_page(out: &mut Vec<u8>, protocol: &[u8], method: &[u8], status: u16) {
    let reason = reason(status);
    out.extend_from_slice(checked_protocol(protocol));
    let head = format!(" {status} {reason}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", reason.len());
    out.extend_from_slice(head.as_bytes());
    if may_have_body(method, status) {
        out.extend_from_slice(reason.as_bytes());
    }
}

/// The answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What goes before the data of a chunk; [`CHUNK_END`] goes after it.
#[derive(Debug, Clone, Copy)]
pub struct ChunkStart {
    bytes: [u8; 18],
    start: usize,
}

/// What goes after the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What goes after the last chunk.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl ChunkStart {
    /// For a chunk of `length` bytes, which is not 0: an empty chunk would end the body.
    pub fn new(length: std::num::NonZeroUsize) -> Self {
        let mut bytes = *b"0000000000000000\r\n";
        let mut start = 16;
        let mut left = length.get();
        while left > 0 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
        Self { bytes, start }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
