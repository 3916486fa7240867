//! HTTP/1.0 and HTTP/1.1 requests, read strictly by RFC 9112: what could be read in two ways is refused, never guessed.
//!
//! [`parse_head`] reads a head in place; [`to_vars`] turns it into the CGI variables of a uwsgi packet, so that everything
//! behind it knows one kind of request only.
//!
//! Where the RFC leaves a choice:
//! - one empty line before a request is borne with, more are not;
//! - bytes above 0x7f may stand in targets and values, as browsers and uWSGI's users send them, but not in names and hosts;
//! - a `#` in a target is refused, as some read it as the end of the path and others as a part of it;
//! - versions other than 1.0 and 1.1 are refused with 505, CONNECT and unknown transfer codings with 501;
//! - a broken escape in the path and `%00` are refused; the path is decoded once and not normalised, the query not at all;
//! - a name with `_` is dropped, and refused if the same name with `-` is there too.

mod cgi;
pub mod codings;
mod error;
mod fields;
mod head;
pub mod ranges;
pub mod tags;
mod target;

pub use cgi::{ConnInfo, to_vars};
pub use error::HeadError;
pub use fields::Framing;
pub use head::{Head, MAX_HEAD, MAX_HEADERS, Places, Version, parse_head};
