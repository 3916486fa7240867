//! Why a request head is refused.

use super::head::MAX_HEADERS;

/// What is wrong with a request head. [`HeadError::status`] is what to answer before closing the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the request line does not start with a method and one space")]
    Method,
    #[error("the request line has no target, or no space after it")]
    NoTarget,
    #[error("the request target holds a control character or a `#`")]
    TargetCharacter,
    #[error("the request target is no path (`/...`), no `http://` or `https://` address, and no `*` of OPTIONS")]
    TargetForm,
    #[error("the request path holds a `%` that is not followed by two hexadecimal digits")]
    Escape,
    #[error("the request path holds an escaped NUL (%00)")]
    EscapedNul,
    #[error("CONNECT is for proxies")]
    Connect,
    #[error("the request line does not end in HTTP/1.0 or HTTP/1.1")]
    Protocol,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("a request line that does not fit in {0} bytes (buffer-size)")]
    LineTooLong(usize),
    #[error("a request head that does not fit in {0} bytes (buffer-size)")]
    TooLong(usize),
    #[error("more than {MAX_HEADERS} header lines")]
    TooManyHeaders,
    #[error("a carriage return without a line feed")]
    BareCarriageReturn,
    #[error("a line feed without a carriage return")]
    BareLineFeed,
    #[error("control character 0x{0:02x} in a header value")]
    Control(u8),
    #[error("a header line that starts with a blank (folded headers are obsolete)")]
    Folded,
    #[error("a header line without a colon")]
    NoColon,
    #[error("a blank in a header name or before its colon")]
    BlankBeforeColon,
    #[error("a header name that is empty or holds a character other than a token's")]
    Name,
    #[error("two headers whose names differ only by `_` and `-`")]
    AmbiguousName,
    #[error("a Content-Length that is not one decimal number")]
    ContentLength,
    #[error("more than one Content-Length")]
    RepeatedContentLength,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    #[error("more than one Transfer-Encoding header")]
    RepeatedCoding,
    #[error("a Transfer-Encoding that is no list of codings ending in one `chunked`")]
    Coding,
    #[error("a transfer coding other than `chunked`")]
    UnknownCoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    #[error("no Host header")]
    NoHost,
    #[error("more than one Host header")]
    RepeatedHost,
    #[error("a Host that is no `name` or `name:port`")]
    Host,
    #[error("a Host other than the one of the request target")]
    HostMismatch,
    #[error("an Expect other than `100-continue`")]
    Expect,
}

impl HeadError {
    /// The status of the answer: 400, 414, 417, 431, 501 or 505.
    pub fn status(self) -> u16 {
        match self {
            Self::LineTooLong(_) => 414,
            Self::Expect => 417,
            Self::TooLong(_) | Self::TooManyHeaders => 431,
            Self::Connect | Self::UnknownCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}
