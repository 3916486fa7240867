//! Response heads.

use imperator_protocol::http::Version;
use imperator_protocol::response::{Asked, Body, ChunkStart, Plan, ResponseError, ResponseHead, may_have_body, push_error_page, reason};
use proptest::prelude::*;

fn started(protocol: &[u8], status: &[u8]) -> String {
    let mut head = ResponseHead::new();
    head.start(protocol, status).expect("sound");
    String::from_utf8_lossy(head.finish()).into_owned()
}

#[test]
fn the_status_line_has_the_protocol_of_the_request() {
    assert_eq!(started(b"HTTP/1.1", b"200 OK"), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(started(b"HTTP/2.0", b"404 Gone Fishing"), "HTTP/2.0 404 Gone Fishing\r\n\r\n");
    for none in [&b""[..], b"X", b"HTTP/1.1\r\nX: y", b"HTTP/1.1 2", b"HTTP/aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        assert_eq!(started(none, b"200 OK"), "HTTP/1.0 200 OK\r\n\r\n");
    }
}

#[test]
fn a_bare_code_gets_its_phrase() {
    assert_eq!(started(b"HTTP/1.1", b"404"), "HTTP/1.1 404 Not Found\r\n\r\n");
    assert_eq!(started(b"HTTP/1.1", b"799"), "HTTP/1.1 799 Unknown\r\n\r\n");
    assert_eq!(started(b"HTTP/1.1", b"200 "), "HTTP/1.1 200 \r\n\r\n");
}

#[test]
fn a_refused_status_leaves_the_head_as_it_was() {
    let mut head = ResponseHead::new();
    head.start(b"HTTP/1.1", b"201 Created").expect("sound");
    head.add(b"A", b"b").expect("sound");
    for status in [&b""[..], b"abc", b"20", b"099 x", b"200OK", b"2000", b"+20", b" 200", b"20\xb2"] {
        assert_eq!(head.start(b"HTTP/1.1", status), Err(ResponseError::Status), "{status:?}");
    }
    for status in [&b"200 a\rb"[..], b"200 a\nb", b"200 a\0b", b"200 OK\r\nX: y"] {
        assert_eq!(head.start(b"HTTP/1.1", status), Err(ResponseError::ControlCharacter("status")), "{status:?}");
    }
    assert_eq!((head.status(), head.lines()), (201, &b"HTTP/1.1 201 Created\r\nA: b\r\n"[..]));
}

#[test]
fn a_head_starts_with_its_status() {
    let mut head = ResponseHead::new();
    assert_eq!(head.add(b"A", b"b"), Err(ResponseError::Status));
    assert!(head.lines().is_empty());
}

#[test]
fn headers_go_out_as_they_are() {
    let mut head = ResponseHead::new();
    head.start(b"HTTP/1.1", b"200 OK").expect("sound");
    for (name, value) in [(&b"B"[..], &b" 2 "[..]), (b"a", b""), (b"B", b"\xe9\t"), (b"X(y)", b":")] {
        head.add(name, value).expect("sound");
    }
    assert_eq!(head.header_count(), 4);
    let expected = b"HTTP/1.1 200 OK\r\nB:  2 \r\na: \r\nB: \xe9\t\r\nX(y): :\r\n\r\n";
    assert_eq!(head.finish(), expected);
    assert_eq!(head.finish(), expected);
    assert_eq!(head.add(b"late", b"x"), Err(ResponseError::Finished));
}

#[test]
fn what_would_break_the_head_is_refused() {
    let mut head = ResponseHead::new();
    head.start(b"HTTP/1.1", b"200 OK").expect("sound");
    for name in [&b""[..], b"a b", b"a:", b"\t", b"a\x7f", b"a\x1f"] {
        assert_eq!(head.add(name, b"x"), Err(ResponseError::Name), "{name:?}");
    }
    for name in [&b"a\r"[..], b"\na", b"a\0"] {
        assert_eq!(head.add(name, b"x"), Err(ResponseError::ControlCharacter("header name")), "{name:?}");
    }
    for value in [&b"a\r\nB: c"[..], b"\n", b"\0", b"a\r"] {
        assert_eq!(head.add(b"A", value), Err(ResponseError::ControlCharacter("header value")), "{value:?}");
    }
    assert_eq!(head.lines(), b"HTTP/1.1 200 OK\r\n");
}

#[test]
fn the_length_is_found_and_must_be_one() {
    let mut head = ResponseHead::new();
    head.start(b"HTTP/1.1", b"200 OK").expect("sound");
    assert_eq!(head.content_length(), None);
    for value in [&b"abc"[..], b"-1", b"", b"1,1"] {
        assert_eq!(head.add(b"Content-Length", value), Err(ResponseError::ContentLength), "{value:?}");
    }
    head.add(b"content-LENGTH", b" 12").expect("sound");
    head.add(b"Content-Length", b"12").expect("the same again");
    assert_eq!(head.add(b"Content-Length", b"13"), Err(ResponseError::ContentLength));
    assert_eq!(head.content_length(), Some(12));
    head.start(b"HTTP/1.1", b"500 No").expect("sound");
    assert_eq!((head.content_length(), head.header_count(), head.status()), (None, 0, 500));
    head.clear();
    assert!(!head.is_started() && head.lines().is_empty());
}

fn plan(status: &[u8], headers: &[(&str, &str)], method: &str, version: Version, keep_alive: bool) -> Plan {
    let mut head = ResponseHead::new();
    head.start(b"HTTP/1.1", status).expect("sound");
    headers.iter().for_each(|(name, value)| head.add(name.as_bytes(), value.as_bytes()).expect("sound"));
    head.plan(&Asked { method: method.as_bytes(), version, keep_alive })
}

#[test]
fn a_body_always_has_an_end_that_the_client_can_see() {
    use Version::{Http10, Http11};
    let length = [("Content-Length", "5")];
    let close = [("Connection", "x, Close")];
    let own = [("Transfer-Encoding", "chunked"), ("Content-Length", "5")];
    let of = |body, keep_alive, connection| Plan { body, keep_alive, connection };
    assert_eq!(plan(b"200 OK", &length, "GET", Http11, true), of(Body::Length(5), true, None));
    assert_eq!(plan(b"200 OK", &[], "GET", Http11, true), of(Body::Chunked, true, None));
    assert_eq!(plan(b"200 OK", &[], "GET", Http11, false), of(Body::UntilClose, false, Some("close")));
    assert_eq!(plan(b"200 OK", &close, "GET", Http11, true), of(Body::UntilClose, false, None));
    assert_eq!(plan(b"200 OK", &length, "GET", Http10, true), of(Body::Length(5), true, Some("keep-alive")));
    assert_eq!(plan(b"200 OK", &[], "GET", Http10, true), of(Body::UntilClose, false, None));
    assert_eq!(plan(b"200 OK", &own, "GET", Http11, true), of(Body::UntilClose, false, Some("close")));
    assert_eq!(plan(b"200 OK", &length, "HEAD", Http11, true), of(Body::None, true, None));
    assert_eq!(plan(b"204 No Content", &length, "GET", Http11, true), of(Body::None, true, None));
    assert_eq!(plan(b"304 Not Modified", &[], "GET", Http11, false), of(Body::None, false, Some("close")));
    assert_eq!(plan(b"101 Switching", &[("Connection", "Upgrade")], "GET", Http11, true), of(Body::UntilClose, false, None));
}

#[test]
fn which_responses_have_a_body() {
    assert!(may_have_body(b"GET", 200) && may_have_body(b"POST", 404) && may_have_body(b"GET", 101) && may_have_body(b"head", 200));
    assert!(!may_have_body(b"HEAD", 200) && !may_have_body(b"GET", 204) && !may_have_body(b"GET", 304) && !may_have_body(b"GET", 100));
}

#[test]
fn error_pages() {
    let page = |method: &[u8], status| {
        let mut out = Vec::new();
        push_error_page(&mut out, b"HTTP/1.1", method, status);
        String::from_utf8(out).expect("ascii")
    };
    let head = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\r\n";
    assert_eq!(page(b"GET", 500), format!("{head}Internal Server Error"));
    assert_eq!(page(b"HEAD", 500), head);
    for status in [400, 408, 413, 414, 417, 431, 501, 503, 505] {
        assert_ne!(reason(status), "Unknown");
        assert!(page(b"", status).starts_with(&format!("HTTP/1.1 {status} {}\r\n", reason(status))));
    }
}

proptest! {
    #[test]
    fn the_size_of_a_chunk_is_hexadecimal(length in 1usize..) {
        let start = ChunkStart::new(length.try_into().expect("not 0"));
        prop_assert_eq!(start.as_bytes().to_vec(), format!("{length:x}\r\n").into_bytes());
    }

    /// Whatever an application passes: a line it adds is one line, and nobody can end the head early.
    #[test]
    fn no_application_can_split_a_response(parts in proptest::collection::vec((any::<Vec<u8>>(), "[ -~\r\n]{0,20}"), 0..6), status in "[0-9]{3}[ -~\r\n]{0,10}") {
        let mut head = ResponseHead::new();
        if head.start(b"HTTP/1.1", status.as_bytes()).is_ok() {
            let added = parts.iter().filter(|(name, value)| head.add(name, value.as_bytes()).is_ok()).count();
            let bytes = head.finish();
            prop_assert_eq!(bytes.windows(2).filter(|pair| pair == b"\r\n").count(), added + 2);
            prop_assert_eq!(bytes.iter().filter(|&&byte| byte == b'\r' || byte == b'\n' || byte == 0).count(), (added + 2) * 2);
            prop_assert_eq!(bytes.windows(4).position(|four| four == b"\r\n\r\n"), Some(bytes.len() - 4));
        }
    }
}
