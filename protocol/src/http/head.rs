//! The grammar of a request head: lines, names, values. What the fields mean is in [`super::fields`].

use super::error::HeadError;
use super::fields::{Fields, Framing, Meaning};
use super::target::Target;
use crate::bytes::{blanks_before, without_blanks_after};
use crate::scan::{target_length, text_length, token_length};

/// The largest head, whatever the limit asked for: that of a uwsgi packet, so that every variable fits its u16 length.
pub const MAX_HEAD: usize = crate::packet::MAX_DATASIZE;

/// The most header lines in a head. It bounds the work of looking for repeats; browsers and proxies send some 10 to 40.
pub const MAX_HEADERS: usize = 128;

/// The protocol of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

impl Version {
    /// As it stands in a request line, a status line and SERVER_PROTOCOL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A request head that was read and checked. It borrows from the buffer, and from the memory that was lent for its headers' places.
#[derive(Clone)]
pub struct Head<'b> {
    buffer: &'b [u8],
    length: usize,
    method: &'b [u8],
    target: &'b [u8],
    pub(super) parts: Target<'b>,
    version: Version,
    meaning: Meaning,
    underscores: bool,
    headers: &'b [Span],
}

impl<'b> Head<'b> {
    /// As sent: methods are case-sensitive.
    pub fn method(&self) -> &'b [u8] {
        self.method
    }

    /// As sent, nothing decoded.
    pub fn target(&self) -> &'b [u8] {
        self.target
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Names as sent, values without the blanks around them, in order. All of them, also those that are no variables later.
    pub fn headers(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
        of(self.headers, self.buffer)
    }

    /// The first header of that name, in whatever case.
    pub fn header(&self, name: &[u8]) -> Option<&'b [u8]> {
        self.headers().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether some name holds an underscore.
    pub(super) fn has_underscores(&self) -> bool {
        self.underscores
    }

    /// Bytes of the head: where the body starts.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How long the body is.
    pub fn framing(&self) -> Framing {
        self.meaning.framing
    }

    /// Whether the client wants the connection for another request.
    pub fn keep_alive(&self) -> bool {
        self.meaning.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.meaning.expects_continue
    }
}

impl std::fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_struct("Head")
            .field("method", &text(self.method))
            .field("target", &text(self.target))
            .field("version", &self.version)
            .field("headers", &self.headers().map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>())
            .field("length", &self.length)
            .field("meaning", &self.meaning)
            .finish()
    }
}

/// Where the headers of a head are in its buffer; memory that is to be used again for the next head. Offsets fit u16 because of [`MAX_HEAD`],
/// which keeps this at a kilobyte.
#[derive(Debug, Default)]
pub struct Places {
    spans: Vec<Span>,
}

fn of<'b>(spans: &'b [Span], buffer: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + use<'b> {
    spans.iter().map(move |span| span.of(buffer))
}

impl Places {
    /// All are at most [`MAX_HEAD`], as the cursor sees no more of the buffer.
    fn push(&mut self, name: usize, name_length: usize, value: usize, value_length: usize) -> Result<(), HeadError> {
        let part = |start: usize, length: usize| (start as u16, (start + length) as u16);
        if self.spans.len() == MAX_HEADERS {
            return Err(HeadError::TooManyHeaders);
        }
        self.spans.push(Span { name: part(name, name_length), value: part(value, value_length) });
        Ok(())
    }

    /// A name with `_` is dropped later; if there is one with `-` in its place too, it was meant to be taken for that.
    fn refuse_ambiguous_names(&self, buffer: &[u8]) -> Result<(), HeadError> {
        let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let same = |a: &[u8], b: &[u8]| a.len() == b.len() && a.iter().map(dashed).eq(b.iter().map(dashed));
        let plain = |name: &[u8]| !name.contains(&b'_');
        let names = || of(&self.spans, buffer).map(|(name, _)| name);
        let ambiguous = names().filter(|name| !plain(name)).any(|odd| names().any(|name| plain(name) && same(odd, name)));
        if ambiguous { Err(HeadError::AmbiguousName) } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy)]
struct Span {
    name: (u16, u16),
    value: (u16, u16),
}

impl Span {
    fn of(self, buffer: &[u8]) -> (&[u8], &[u8]) {
        let part = |(start, end): (u16, u16)| &buffer[usize::from(start)..usize::from(end)];
        (part(self.name), part(self.value))
    }
}

/// Reads the request head at the start of `buffer`: `None` if more bytes are needed. A head longer than `limit` bytes
/// (`buffer-size`, at most [`MAX_HEAD`]) is refused. Errors show as soon as the bytes that make them are there, and the
/// answer to a buffer never contradicts the one to a beginning of it. What `places` held is forgotten.
pub fn parse_head<'b>(buffer: &'b [u8], limit: usize, places: &'b mut Places) -> Result<Option<Head<'b>>, HeadError> {
    let limit = limit.min(MAX_HEAD);
    let mut cursor = Cursor { bytes: &buffer[..buffer.len().min(limit)], at: 0 };
    let line = match request_line(&mut cursor) {
        Ok(line) => line,
        Err(stop) => return stop.or_wait(buffer.len() < limit, HeadError::LineTooLong(limit)),
    };
    places.spans.clear();
    let fields = match header_lines(&mut cursor, places) {
        Ok(fields) => fields,
        Err(stop) => return stop.or_wait(buffer.len() < limit, HeadError::TooLong(limit)),
    };
    let RequestLine { method, target, version } = line;
    let parts = Target::parse(method, target)?;
    let meaning = fields.meaning(version, parts.authority)?;
    if fields.underscores {
        places.refuse_ambiguous_names(cursor.bytes)?;
    }
    let (buffer, length, underscores) = (cursor.bytes, cursor.at, fields.underscores);
    Ok(Some(Head { buffer, length, method, target, parts, version, meaning, underscores, headers: &places.spans }))
}

/// Why reading stopped before the end of the head.
enum Stop {
    More,
    Wrong(HeadError),
}

impl Stop {
    fn or_wait<T>(self, room: bool, too_long: HeadError) -> Result<Option<T>, HeadError> {
        match self {
            Self::More if room => Ok(None),
            Self::More => Err(too_long),
            Self::Wrong(error) => Err(error),
        }
    }
}

impl From<HeadError> for Stop {
    fn from(error: HeadError) -> Self {
        Self::Wrong(error)
    }
}

struct RequestLine<'b> {
    method: &'b [u8],
    target: &'b [u8],
    version: Version,
}

fn request_line<'b>(cursor: &mut Cursor<'b>) -> Result<RequestLine<'b>, Stop> {
    // One empty line before the request is what RFC 9112 2.2 asks a server to bear with, after old clients' bodies.
    if cursor.peek()? == b'\r' {
        cursor.line_end(HeadError::Method)?;
    }
    let method = cursor.take(|rest| token_length(rest, |_| ()))?;
    if method.is_empty() || cursor.next()? != b' ' {
        return Err(HeadError::Method.into());
    }
    let target = cursor.take(target_length)?;
    match cursor.next()? {
        b' ' if !target.is_empty() => {}
        b' ' | b'\r' | b'\n' => return Err(HeadError::NoTarget.into()),
        _ => return Err(HeadError::TargetCharacter.into()),
    }
    let version = version(cursor)?;
    cursor.line_end(HeadError::Protocol)?;
    Ok(RequestLine { method, target, version })
}

fn version(cursor: &mut Cursor<'_>) -> Result<Version, Stop> {
    // What nearly all send; whatever is wrong with others shows byte by byte.
    if cursor.rest().starts_with(b"HTTP/1.1") {
        cursor.at += 8;
        return Ok(Version::Http11);
    }
    for &expected in b"HTTP/" {
        if cursor.next()? != expected {
            return Err(HeadError::Protocol.into());
        }
    }
    let major = cursor.next()?;
    if !major.is_ascii_digit() || cursor.next()? != b'.' {
        return Err(HeadError::Protocol.into());
    }
    match (major, cursor.next()?) {
        (b'1', b'0') => Ok(Version::Http10),
        (b'1', b'1') => Ok(Version::Http11),
        (_, minor) if minor.is_ascii_digit() => Err(HeadError::Version.into()),
        _ => Err(HeadError::Protocol.into()),
    }
}

fn header_lines<'b>(cursor: &mut Cursor<'b>, headers: &mut Places) -> Result<Fields<'b>, Stop> {
    let mut fields = Fields::default();
    while cursor.peek()? != b'\r' {
        let start = cursor.at;
        let name = header_name(cursor, &mut fields.underscores)?;
        let after_colon = cursor.at;
        let line = header_text(cursor)?;
        let blanks = blanks_before(line);
        let value = without_blanks_after(&line[blanks..]);
        headers.push(start, name.len(), after_colon + blanks, value.len())?;
        fields.note(name, value)?;
    }
    cursor.line_end(HeadError::Name)?;
    Ok(fields)
}

/// The name; the cursor is after its colon then. `underscores`: set if there is one in it.
fn header_name<'b>(cursor: &mut Cursor<'b>, underscores: &mut bool) -> Result<&'b [u8], Stop> {
    let name = cursor.take(|rest| token_length(rest, |byte| *underscores |= byte == b'_'))?;
    match cursor.next()? {
        b':' if !name.is_empty() => Ok(name),
        other => Err(no_name(name, other).into()),
    }
}

#[cold]
fn no_name(name: &[u8], next: u8) -> HeadError {
    match next {
        b' ' | b'\t' if name.is_empty() => HeadError::Folded,
        b' ' | b'\t' => HeadError::BlankBeforeColon,
        b'\r' => HeadError::NoColon,
        b'\n' => HeadError::BareLineFeed,
        _ => HeadError::Name,
    }
}

/// What is between the colon and the end of the line; the cursor is on the next line then.
fn header_text<'b>(cursor: &mut Cursor<'b>) -> Result<&'b [u8], Stop> {
    let rest = cursor.rest();
    let (line, after) = rest.split_at(text_length(rest));
    cursor.at += line.len();
    match after {
        [b'\r', b'\n', ..] => cursor.at += 2,
        [b'\r' | b'\n', ..] => cursor.line_end(HeadError::NoColon)?,
        [control, ..] => return Err(HeadError::Control(*control).into()),
        [] => return Err(Stop::More),
    }
    Ok(line)
}

/// What has arrived, and how far it is read.
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::More)
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// As many bytes as `length` says; the one after them must have arrived.
    fn take(&mut self, length: impl FnOnce(&[u8]) -> usize) -> Result<&'b [u8], Stop> {
        let rest = self.rest();
        let length = length(rest);
        if length >= rest.len() {
            return Err(Stop::More);
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// A carriage return and a line feed; `otherwise` if there is anything but a line end.
    fn line_end(&mut self, otherwise: HeadError) -> Result<(), Stop> {
        match self.next()? {
            b'\r' if self.next()? == b'\n' => Ok(()),
            b'\r' => Err(HeadError::BareCarriageReturn.into()),
            b'\n' => Err(HeadError::BareLineFeed.into()),
            _ => Err(otherwise.into()),
        }
    }
}
