//! A request head as CGI variables, in the order of uWSGI's http-socket.

use super::error::HeadError;
use super::head::{Head, MAX_HEADERS};
use super::target::push_path;
use crate::bytes::VARIABLE;
use crate::vars::push;

/// What the server knows about a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnInfo<'c> {
    /// REMOTE_ADDR: the client's address (uWSGI says `0.0.0.0` on a unix socket).
    pub remote_addr: &'c str,
    /// SERVER_NAME: the name of the host.
    pub server_name: &'c str,
    /// SERVER_PORT: the port of the socket, in digits (uWSGI says `80` on a unix socket).
    pub server_port: &'c str,
    /// Whether it came over TLS: adds `HTTPS=on`.
    pub https: bool,
    /// Whether an empty SCRIPT_NAME goes along. With `manage-script-name` it does not.
    pub with_script_name: bool,
}

/// Appends the variables of a request to an encoded block (see [`crate::vars`]). On an error `out` is left with a part of them.
///
/// Repeated headers are joined with `, `, cookies with `; `. `Proxy` is left out, as HTTP_PROXY would set the proxy of
/// an app's own requests ("httpoxy"), and so are names with `_`, as they would pass for those with `-`.
pub fn to_vars(head: &Head<'_>, conn: &ConnInfo<'_>, out: &mut Vec<u8>) -> Result<(), HeadError> {
    let target = &head.parts;
    // Enough for all but heads with an endless number of tiny headers.
    out.reserve(2 * head.length() + 256);
    push(out, b"REQUEST_METHOD", head.method());
    push_with(out, b"PATH_INFO", |out| push_path(out, target.path))?;
    push_with(out, b"REQUEST_URI", |out| {
        push_uri(out, target.path, target.query);
        Ok(())
    })?;
    push(out, b"QUERY_STRING", target.query.unwrap_or_default());
    push(out, b"SERVER_PROTOCOL", head.version().as_str().as_bytes());
    if conn.with_script_name {
        push(out, b"SCRIPT_NAME", b"");
    }
    push(out, b"SERVER_NAME", conn.server_name.as_bytes());
    push(out, b"SERVER_PORT", conn.server_port.as_bytes());
    push(out, b"REMOTE_ADDR", conn.remote_addr.as_bytes());
    if conn.https {
        push(out, b"HTTPS", b"on");
    }
    push_headers(out, head)
}

/// The path of an absolute target too, as if it had been asked for in the usual form.
fn push_uri(out: &mut Vec<u8>, path: &[u8], query: Option<&[u8]>) {
    out.extend_from_slice(path);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

fn push_headers(out: &mut Vec<u8>, head: &Head<'_>) -> Result<(), HeadError> {
    if let (Some(authority), None) = (head.parts.authority, head.header(b"host")) {
        push(out, b"HTTP_HOST", authority);
    }
    let marks = Marks::of(head);
    for (index, (name, value)) in head.headers().enumerate() {
        if is_dropped(head, name) || marks.before(index) && head.headers().take(index).any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            continue;
        }
        push_name(out, name);
        push_value(out, |out| {
            out.extend_from_slice(value);
            if marks.after(index) {
                push_repeats(out, name, head.headers().skip(index + 1));
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn push_repeats<'b>(out: &mut Vec<u8>, name: &[u8], later: impl Iterator<Item = (&'b [u8], &'b [u8])>) {
    for (_, value) in later.filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
        out.extend_from_slice(if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " });
        out.extend_from_slice(value);
    }
}

/// A small hash of each name, so that a header that is not repeated (nearly all of them) is not compared with every other.
struct Marks {
    marks: [u8; MAX_HEADERS],
    count: usize,
    /// Some two are alike.
    alike: bool,
}

impl Marks {
    fn of(head: &Head<'_>) -> Self {
        let (mut marks, mut count, mut seen, mut alike) = ([0; MAX_HEADERS], 0, [0u64; 4], false);
        for (mark, (name, _)) in marks.iter_mut().zip(head.headers()) {
            *mark = Self::mark(name);
            count += 1;
            let (word, bit) = (usize::from(*mark >> 6), 1 << (*mark & 63));
            alike |= seen[word] & bit != 0;
            seen[word] |= bit;
        }
        Self { marks, count, alike }
    }

    /// Of the length and the last two letters, in whatever case: there names differ most (`Sec-Fetch-Mode`, `Sec-Fetch-Site`).
    fn mark(name: &[u8]) -> u8 {
        let letter = |back: usize| name.len().checked_sub(back).map_or(0, |at| name[at] | 0x20);
        (name.len() as u8).wrapping_mul(37) ^ letter(1).wrapping_mul(3) ^ letter(2).wrapping_mul(11)
    }

    fn before(&self, index: usize) -> bool {
        self.alike && self.marks[..index].contains(&self.marks[index])
    }

    fn after(&self, index: usize) -> bool {
        self.alike && self.marks[index + 1..self.count].contains(&self.marks[index])
    }
}

fn is_dropped(head: &Head<'_>, name: &[u8]) -> bool {
    head.has_underscores() && name.contains(&b'_') || name.len() == 5 && name.eq_ignore_ascii_case(b"proxy")
}

fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    let bare = match name.len() {
        12 => name.eq_ignore_ascii_case(b"content-type"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        _ => false,
    };
    let prefix: &[u8] = if bare { b"" } else { b"HTTP_" };
    out.extend_from_slice(&length(prefix.len() + name.len()));
    out.extend_from_slice(prefix);
    out.extend(name.iter().map(|byte| VARIABLE[usize::from(*byte)]));
}

fn push_with(out: &mut Vec<u8>, name: &[u8], fill: impl FnOnce(&mut Vec<u8>) -> Result<(), HeadError>) -> Result<(), HeadError> {
    out.extend_from_slice(&length(name.len()));
    out.extend_from_slice(name);
    push_value(out, fill)
}

/// A value that is put together in place: its length is filled in afterwards.
fn push_value(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> Result<(), HeadError>) -> Result<(), HeadError> {
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    fill(out)?;
    let filled = length(out.len() - at - 2);
    out[at..at + 2].copy_from_slice(&filled);
    Ok(())
}

/// Nothing made of a head is longer than the head, which [`super::MAX_HEAD`] bounds: a joint of two values is shorter than
/// the name, colon and line end that it stands for.
fn length(bytes: usize) -> [u8; 2] {
    debug_assert!(bytes <= usize::from(u16::MAX));
    (bytes as u16).to_le_bytes()
}
