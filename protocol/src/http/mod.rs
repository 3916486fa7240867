//! HTTP/1.0 and HTTP/1.1 requests, read strictly by RFC 9112: what could be read in two ways is refused, never guessed.
//!
//! [`parse_head`] reads a head in place; [`to_vars`] turns it into the CGI variables of a uwsgi packet, so that everything
//! behind it knows one kind of request only.

mod cgi;
mod error;
mod fields;
mod head;
mod target;

pub use cgi::{ConnInfo, to_vars};
pub use error::HeadError;
pub use fields::Framing;
pub use head::{Head, MAX_HEAD, MAX_HEADERS, Version, parse_head};
