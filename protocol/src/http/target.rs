//! The forms of a request target (RFC 9112, 3.2) and the escapes in its path.

use super::error::HeadError;
use super::fields::is_host;
use crate::scan::find;

/// A request target taken apart. Nothing is decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Host and port of an absolute target.
    pub authority: Option<&'b [u8]>,
    /// Starts with `/`, or is the `*` of OPTIONS.
    pub path: &'b [u8],
    /// What follows the first `?`; `None` without one.
    pub query: Option<&'b [u8]>,
}

impl<'b> Target<'b> {
    /// Takes a target apart. Only what an origin server may be asked for passes.
    pub fn parse(method: &[u8], target: &'b [u8]) -> Result<Self, HeadError> {
        if method == b"CONNECT" {
            return Err(HeadError::Connect);
        }
        if target == b"*" && method == b"OPTIONS" {
            return Ok(Self { authority: None, path: target, query: None });
        }
        if target.starts_with(b"/") {
            let (path, query) = split_query(target);
            return Ok(Self { authority: None, path, query });
        }
        Self::absolute(target).ok_or(HeadError::TargetForm)
    }

    /// `http://host:port/path?query`: the way to a proxy, which every server must understand too.
    fn absolute(target: &'b [u8]) -> Option<Self> {
        let rest = after_scheme(target, b"http://").or_else(|| after_scheme(target, b"https://"))?;
        let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (path, query) = split_query(rest);
        let path = if path.is_empty() { b"/" } else { path };
        is_host(authority).then_some(Self { authority: Some(authority), path, query })
    }
}

fn after_scheme<'b>(target: &'b [u8], scheme: &[u8]) -> Option<&'b [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match find(target, b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// Appends the path as PATH_INFO gives it: without the segments `.` and `..` (RFC 3986, 5.2.4), escapes decoded. As in uWSGI, segments that
/// are written with escapes (`%2e%2e`) stay.
pub(super) fn push_path(out: &mut Vec<u8>, path: &[u8]) -> Result<(), HeadError> {
    if path.windows(2).any(|pair| pair == b"/.") { push_decoded(out, &without_dots(path)) } else { push_decoded(out, path) }
}

/// `path` starts with `/`.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut rest = path.strip_prefix(b"/");
    while let Some(now) = rest {
        let end = now.iter().position(|&byte| byte == b'/');
        let segment = &now[..end.unwrap_or(now.len())];
        rest = end.map(|at| &now[at + 1..]);
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if rest.is_none() {
            kept.push(b"");
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    out
}

/// Appends the path with its escapes decoded.
fn push_decoded(out: &mut Vec<u8>, path: &[u8]) -> Result<(), HeadError> {
    let mut rest = path;
    while let Some(at) = find(rest, b'%') {
        out.extend_from_slice(&rest[..at]);
        let &[_, high, low] = rest[at..].first_chunk().ok_or(HeadError::Escape)?;
        let byte = hex_digit(high).zip(hex_digit(low)).map(|(high, low)| high << 4 | low).ok_or(HeadError::Escape)?;
        if byte == 0 {
            return Err(HeadError::EscapedNul);
        }
        out.push(byte);
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_go_before_escapes_are_decoded() {
        let cases = [
            ("/a/b", "/a/b"),
            ("/../x", "/x"),
            ("/a/..", "/"),
            ("/..", "/"),
            ("/.", "/"),
            ("/a/../../b", "/b"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("//a//b/../c", "//a//c"),
            ("/a..b/..c/...", "/a..b/..c/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/%2e%2e/b", "/a/../b"),
            ("/a%2f..%2fb", "/a/../b"),
        ];
        for (path, expected) in cases {
            let mut out = vec![];
            push_path(&mut out, path.as_bytes()).expect(path);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{path}");
        }
    }
}
