//! The bytes of a request, and whether an answer is the right one.

use std::io;

use imperator_protocol::vars;

use crate::plan::{Plan, Protocol};

pub const HALF_A_HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Ag";

/// Head and body of the plan's request.
pub fn request(plan: &Plan) -> Vec<u8> {
    let mut request = match plan.protocol {
        Protocol::Uwsgi => packet(plan.modifier1, &plan.path, plan.body),
        Protocol::Http => head(&plan.path, plan.body, "keep-alive"),
        Protocol::HttpClose => head(&plan.path, plan.body, "close"),
    };
    request.extend_from_slice(&body(plan.body.unwrap_or(0)));
    request
}

/// Bytes with a long period, so that a part out of place is noticed.
pub fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn head(path: &str, body: Option<usize>, connection: &str) -> Vec<u8> {
    let (method, length) = match body {
        Some(length) => ("POST", format!("Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n")),
        None => ("GET", String::new()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nConnection: {connection}\r\n{length}\r\n")
        .into_bytes()
}

/// What nginx's `uwsgi_params` sends for a browser's request.
fn packet(modifier1: u8, path: &str, body: Option<usize>) -> Vec<u8> {
    let length = body.map(|n| n.to_string()).unwrap_or_default();
    let (method, kind) = if body.is_some() { ("POST", "application/octet-stream") } else { ("GET", "") };
    let mut block = vec![0; 4];
    for (name, value) in [
        ("QUERY_STRING", ""),
        ("REQUEST_METHOD", method),
        ("CONTENT_TYPE", kind),
        ("CONTENT_LENGTH", &length),
        ("REQUEST_URI", path),
        ("PATH_INFO", path),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "40000"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "localhost"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br"),
    ] {
        vars::push(&mut block, name.as_bytes(), value.as_bytes());
    }
    let size = (block.len() - 4) as u16;
    block[0] = modifier1;
    block[1..3].copy_from_slice(&size.to_le_bytes());
    block
}

/// Where the head of an answer ends and how long its body is, once the head is there; without a Content-Length the body
/// lasts until the peer closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub end: usize,
    pub length: Option<usize>,
}

/// Reads the head of an answer. Anything but a 200 is an error.
pub fn answer_head(answer: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = &answer[..end];
    if !(head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200")) {
        return Err(io::Error::other(format!("not a 200: {}", String::from_utf8_lossy(&head[..head.len().min(60)]))));
    }
    let length = head.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        if !name.eq_ignore_ascii_case(b"content-length:") {
            return None;
        }
        std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
    });
    Ok(Some(Head { end: end + 4, length }))
}

/// Whether that is the body that the plan wants. `sent` is the request's own, empty for a GET.
pub fn check(plan: &Plan, sent: &[u8], body: &[u8]) -> io::Result<()> {
    if plan.expected.length.is_some_and(|n| n != body.len()) {
        return Err(io::Error::other(format!("{} bytes", body.len())));
    }
    if plan.expected.text.as_ref().is_some_and(|text| !body.windows(text.len().max(1)).any(|w| w == text)) {
        return Err(io::Error::other("the answer does not contain what it should"));
    }
    if plan.body.is_some() && sent != body {
        return Err(io::Error::other(format!("{} bytes of another body came back", body.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        assert_eq!(answer_head(b"HTTP/1.1 200 OK\r\ncontent-Length: 5\r\n").expect("no error"), None);
        let whole = answer_head(b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-Length: 5\r\n\r\nhello").expect("no error");
        assert_eq!(whole, Some(Head { end: 44, length: Some(5) }));
        assert_eq!(answer_head(b"HTTP/1.0 200 OK\r\n\r\n").expect("no error"), Some(Head { end: 19, length: None }));
        assert!(answer_head(b"HTTP/1.1 500 Oops\r\n\r\n").is_err());
    }

    #[test]
    fn a_wrong_body_is_an_error() {
        let args = ["--body", "3", "--length", "3", "/s"];
        let plan = Plan::parse(args.iter().map(ToString::to_string)).expect("sound");
        assert!(check(&plan, &body(3), &body(3)).is_ok());
        assert!(check(&plan, &body(3), b"xyz").is_err());
        assert!(check(&plan, &body(3), &body(2)).is_err());
    }
}
