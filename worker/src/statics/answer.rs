//! The answer that a file gives: status, headers in uWSGI's order with ours behind them, and the bytes.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use imperator_protocol::http::ranges::Span;

use super::entity::{Content, Entity, read_at};
use super::expires::Until;
use super::variants::Coding;
use crate::language::NoLock;
use crate::request::{HeadError, Request, WriteError};
use crate::settings::{ServeMode, Subject};

/// Bytes of several ranges together; a client that wants more gets the whole file.
const MULTIPART: u64 = 1 << 20;

pub(super) struct Answer {
    /// The file that was asked for: its type counts, whatever form is sent.
    pub plain: Arc<Entity>,
    /// What is sent.
    pub entity: Arc<Entity>,
    pub coding: Option<Coding>,
    /// Of a compressed form; `None`: the entity's own.
    pub etag: Option<String>,
    /// In the order of the headers.
    pub until: Vec<Until>,
    pub action: Action,
    /// HEAD.
    pub head: bool,
    /// Ranges are honoured.
    pub ranges: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Whole,
    Part(Span),
    /// multipart/byteranges.
    Several(Vec<Span>),
    /// 416.
    Unsatisfiable,
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// The front end is told where the file is.
    HandOver(ServeMode),
}

/// The answer to ranges that were found to be satisfiable.
pub(super) fn parts(mut parts: Vec<Span>) -> Action {
    match parts.as_slice() {
        [one] => Action::Part(*one),
        several if several.iter().map(|part| part.len()).sum::<u64>() <= MULTIPART => Action::Several(std::mem::take(&mut parts)),
        _ => Action::Whole,
    }
}

/// Another one than the plain file's, which may have the same size and time.
pub(super) fn tag_of(entity: &Entity, coding: Coding) -> String {
    format!("{}-{}\"", entity.etag.trim_end_matches('"'), coding.name())
}

impl Answer {
    pub fn send(&self, request: &mut Request<'_>) {
        let sent = match &self.action {
            Action::PreconditionFailed => {
                request.fail(412, &NoLock);
                return;
            }
            Action::Several(spans) => self.send_several(request, spans),
            _ => self.send_one(request),
        };
        match sent {
            // A client that leaves is counted by the response.
            Ok(()) | Err(Trouble::Write(_)) => {}
            Err(Trouble::Head(_) | Trouble::Read) => request.fail(500, &NoLock),
        }
    }

    fn send_one(&self, request: &mut Request<'_>) -> Result<(), Trouble> {
        let size = self.entity.length;
        let (status, length, range) = match self.action {
            Action::Part(span) => (206, Some(span.len()), Some(format!("bytes {}-{}/{size}", span.first, span.last))),
            Action::Unsatisfiable => (416, Some(0), Some(format!("bytes */{size}"))),
            Action::NotModified => (304, None, None),
            Action::HandOver(_) => (200, None, None),
            _ => (200, Some(size), None),
        };
        request.set_status(status_line(status))?;
        let describes = status != 416;
        if describes {
            self.add_expires(request)?;
        }
        if describes && status != 304 {
            self.add_kind(request, self.plain.media_type.as_deref())?;
        }
        if describes {
            self.add_expires_by_type(request)?;
        }
        if let Some(length) = length {
            request.add_header(b"Content-Length", Number::new(length).as_bytes())?;
        }
        if let Some(range) = range {
            request.add_header(b"Content-Range", range.as_bytes())?;
        }
        if let Action::HandOver(mode) = self.action {
            let name = if mode == ServeMode::XSendfile { &b"X-Sendfile"[..] } else { b"X-Accel-Redirect" };
            request.add_header(name, self.entity.name().as_os_str().as_bytes())?;
        }
        if describes {
            self.add_validators(request)?;
        }
        match self.action {
            Action::Part(span) => self.send_bytes(request, span.first, span.len()),
            Action::Whole if !self.head => self.send_bytes(request, 0, size),
            _ => {
                request.write(b"", &NoLock)?;
                request.no_body_expected(true);
                Ok(())
            }
        }
    }

    fn send_bytes(&self, request: &mut Request<'_>, first: u64, length: u64) -> Result<(), Trouble> {
        match &self.entity.content {
            Content::Memory(bytes) => request.write_last(&[slice(bytes, first, length)?], &NoLock)?,
            Content::File(file) => request.send_file(file.as_fd(), first, Some(length), &NoLock)?,
        }
        Ok(())
    }

    /// Small parts, from memory: each with its own head.
    fn send_several(&self, request: &mut Request<'_>, spans: &[Span]) -> Result<(), Trouble> {
        let boundary = boundary();
        let mut body = Vec::new();
        for span in spans {
            let _ = write!(body, "\r\n--{boundary}\r\n");
            if let Some(kind) = &self.plain.media_type {
                let _ = write!(body, "Content-Type: {kind}\r\n");
            }
            let _ = write!(body, "Content-Range: bytes {}-{}/{}\r\n\r\n", span.first, span.last, self.entity.length);
            match &self.entity.content {
                Content::Memory(bytes) => body.extend_from_slice(slice(bytes, span.first, span.len())?),
                Content::File(file) => {
                    let start = body.len();
                    body.resize(start + usize::try_from(span.len()).map_err(|_| Trouble::Read)?, 0);
                    read_at(file, &mut body[start..], span.first).ok_or(Trouble::Read)?;
                }
            }
        }
        let _ = write!(body, "\r\n--{boundary}--\r\n");
        request.set_status(status_line(206))?;
        self.add_expires(request)?;
        self.add_kind(request, Some(&format!("multipart/byteranges; boundary={boundary}")))?;
        self.add_expires_by_type(request)?;
        request.add_header(b"Content-Length", Number::new(body.len() as u64).as_bytes())?;
        self.add_validators(request)?;
        request.write_last(&[&body], &NoLock)?;
        Ok(())
    }

    fn add_expires(&self, request: &mut Request<'_>) -> Result<(), HeadError> {
        self.until.iter().filter(|until| until.subject != Subject::Type).try_for_each(|until| add_until(request, until))
    }

    fn add_kind(&self, request: &mut Request<'_>, media_type: Option<&str>) -> Result<(), HeadError> {
        if let Some(coding) = self.coding {
            request.add_header(b"Content-Encoding", coding.name().as_bytes())?;
        }
        media_type.map_or(Ok(()), |kind| request.add_header(b"Content-Type", kind.as_bytes()))
    }

    /// Where uWSGI has the one that its type gives.
    fn add_expires_by_type(&self, request: &mut Request<'_>) -> Result<(), HeadError> {
        self.until.iter().filter(|until| until.subject == Subject::Type).try_for_each(|until| add_until(request, until))
    }

    /// What clients and caches compare, and what they may do with it.
    fn add_validators(&self, request: &mut Request<'_>) -> Result<(), HeadError> {
        request.add_header(b"Last-Modified", self.entity.last_modified.as_bytes())?;
        request.add_header(b"ETag", self.etag.as_ref().unwrap_or(&self.entity.etag).as_bytes())?;
        if self.ranges && !matches!(self.action, Action::HandOver(_)) {
            request.add_header(b"Accept-Ranges", b"bytes")?;
        }
        if self.plain.may_vary {
            request.add_header(b"Vary", b"Accept-Encoding")?;
        }
        // Of several Expires headers clients take the first, and this before any.
        if let Some(until) = self.until.first() {
            let mut text = [0; 40];
            let mut rest = &mut text[..];
            let _ = write!(rest, "max-age={}", until.max_age);
            let left = rest.len();
            request.add_header(b"Cache-Control", &text[..40 - left])?;
        }
        Ok(())
    }
}

fn add_until(request: &mut Request<'_>, until: &Until) -> Result<(), HeadError> {
    request.add_header(b"Expires", httpdate::fmt_http_date(until.time).as_bytes())
}

/// Why an answer did not go out whole.
enum Trouble {
    Head(#[expect(dead_code, reason = "only that it is one counts")] HeadError),
    Write(#[expect(dead_code, reason = "as above")] WriteError),
    /// The file became shorter.
    Read,
}

impl From<HeadError> for Trouble {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

fn status_line(status: u16) -> &'static [u8] {
    match status {
        206 => b"206 Partial Content",
        304 => b"304 Not Modified",
        416 => b"416 Requested Range Not Satisfiable",
        _ => b"200 OK",
    }
}

fn slice(bytes: &[u8], first: u64, length: u64) -> Result<&[u8], Trouble> {
    let start = usize::try_from(first).map_err(|_| Trouble::Read)?;
    let length = usize::try_from(length).map_err(|_| Trouble::Read)?;
    bytes.get(start..).and_then(|rest| rest.get(..length)).ok_or(Trouble::Read)
}

/// Which nobody who wrote the file could know.
fn boundary() -> String {
    use std::hash::BuildHasher as _;
    let random = || std::collections::hash_map::RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

/// A number as text, without a heap.
struct Number {
    digits: [u8; 20],
    length: usize,
}

impl Number {
    fn new(number: u64) -> Self {
        let mut digits = [0; 20];
        let mut rest = &mut digits[..];
        let _ = write!(rest, "{number}");
        let length = 20 - rest.len();
        Self { digits, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.length]
    }
}
