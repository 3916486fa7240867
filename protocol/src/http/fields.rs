//! The headers that say how to read the rest of the connection: Host, Content-Length, Transfer-Encoding, Connection, Expect.

use super::error::HeadError;
use super::head::Version;
use crate::bytes::{alphanumeric_and, decimal, is_token, trim};

/// How long the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    /// `Content-Length`, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`; [`crate::chunked`] reads it.
    Chunked,
}

/// What the headers say about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
}

/// The headers of interest, gathered line by line.
#[derive(Default)]
pub(super) struct Fields<'b> {
    host: Option<&'b [u8]>,
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
    /// Whether some name holds an underscore.
    pub underscores: bool,
}

impl<'b> Fields<'b> {
    /// Takes a header line into account.
    pub fn note(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), HeadError> {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            4 if is(b"host") => self.note_host(value),
            6 if is(b"expect") => self.note_expect(value),
            10 if is(b"connection") => self.note_connection(value),
            14 if is(b"content-length") => self.note_length(value),
            17 if is(b"transfer-encoding") => self.note_coding(value),
            _ => Ok(()),
        }
    }

    fn note_host(&mut self, value: &'b [u8]) -> Result<(), HeadError> {
        if self.host.replace(value).is_some() {
            return Err(HeadError::RepeatedHost);
        }
        // An empty one is what a client sends whose address has no host part.
        if value.is_empty() || is_host(value) { Ok(()) } else { Err(HeadError::Host) }
    }

    fn note_expect(&mut self, value: &[u8]) -> Result<(), HeadError> {
        self.expects_continue = true;
        if value.eq_ignore_ascii_case(b"100-continue") { Ok(()) } else { Err(HeadError::Expect) }
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        // What nearly all send; the rest is a list.
        if value == b"keep-alive" {
            self.keep_alive = true;
            return Ok(());
        }
        for option in value.split(|&byte| byte == b',').map(trim) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let length = decimal(value).ok_or(HeadError::ContentLength)?;
        if self.length.replace(length).is_some() {
            return Err(HeadError::RepeatedContentLength);
        }
        self.length_or_coding()
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.chunked {
            return Err(HeadError::RepeatedCoding);
        }
        check_coding(value)?;
        self.chunked = true;
        self.length_or_coding()
    }

    fn length_or_coding(&self) -> Result<(), HeadError> {
        if self.chunked && self.length.is_some() { Err(HeadError::LengthAndCoding) } else { Ok(()) }
    }

    /// What all of them say together. `authority` is the host of an absolute target.
    pub fn meaning(&self, version: Version, authority: Option<&[u8]>) -> Result<Meaning, HeadError> {
        self.check_host(version, authority)?;
        if self.chunked && version == Version::Http10 {
            return Err(HeadError::CodingInHttp10);
        }
        let framing = match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        };
        let keep_alive = !self.close && (version == Version::Http11 || self.keep_alive);
        // A client of HTTP/1.0 cannot know what 100 Continue is (RFC 9110 10.1.1).
        let expects_continue = self.expects_continue && version == Version::Http11;
        Ok(Meaning { framing, keep_alive, expects_continue })
    }

    fn check_host(&self, version: Version, authority: Option<&[u8]>) -> Result<(), HeadError> {
        match (self.host, authority) {
            (None, _) if version == Version::Http11 => Err(HeadError::NoHost),
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Err(HeadError::HostMismatch),
            _ => Ok(()),
        }
    }
}

/// Only `chunked` is taken. Codings we do not know are told from lists that are wrong in themselves.
fn check_coding(value: &[u8]) -> Result<(), HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let codings = || value.split(|&byte| byte == b',').map(trim);
    let sound = codings().all(|coding| !coding.is_empty() && coding.iter().all(|&byte| is_token(byte)));
    let chunked = codings().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
    let last = codings().next_back().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if sound && (chunked == 0 || chunked == 1 && last) { Err(HeadError::UnknownCoding) } else { Err(HeadError::Coding) }
}

/// `name`, `name:port`, `address:port` or `[v6]:port`. Names are not resolved here: what matters is that nobody can read
/// it in another way, so no user part, list, path or blank.
pub(super) fn is_host(value: &[u8]) -> bool {
    let after_name = match value {
        [b'[', rest @ ..] => after(rest, &IN_ADDRESS).and_then(|rest| rest.strip_prefix(b"]")),
        _ => after(value, &IN_NAME),
    };
    match after_name {
        Some([]) => true,
        Some([b':', port @ ..]) => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The bytes of an IPv6 address, and of a name.
const IN_ADDRESS: [bool; 256] = alphanumeric_and(b":.%");
const IN_NAME: [bool; 256] = alphanumeric_and(b"-._~%!$&'()*+;=");

/// What follows a run of such bytes; `None` without one.
fn after<'b>(value: &'b [u8], allowed: &[bool; 256]) -> Option<&'b [u8]> {
    let length = value.iter().take_while(|&&byte| allowed[usize::from(byte)]).count();
    (length > 0).then(|| &value[length..])
}
