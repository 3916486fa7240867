use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use super::*;
use crate::language::NoLock;

/// What the peer gets of a response that `make` sends, and what became of it.
fn sent(settings: &RequestSettings, terms: Terms, make: impl FnOnce(&mut Response<'_>)) -> (String, Outcome) {
    let (mut peer, ours) = UnixStream::pair().expect("pair");
    let mut head = ResponseHead::new();
    let mut response = Response::new(ours.as_fd(), settings, b"HTTP/1.1", terms, &mut head, None);
    make(&mut response);
    let outcome = response.finish();
    drop(ours);
    let mut text = String::new();
    peer.read_to_string(&mut text).expect("read");
    (text, outcome)
}

const KEPT: Terms = Terms { http: true, keep: true, announce: true, version: Version::Http11, head_request: false };

#[test]
fn any_number_of_parts_goes_out_in_order() {
    let parts: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let slices: Vec<_> = parts.iter().map(|p| p.as_bytes()).collect();
    let (text, outcome) = sent(&RequestSettings::default(), KEPT, |r| r.write(&slices, &NoLock).expect("write"));
    let all = parts.concat();
    assert_eq!(text, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{all}\r\n0\r\n\r\n", all.len()));
    assert_eq!(outcome, Outcome { keep: true, short: None });
}

#[test]
fn a_content_length_cuts_across_parts_and_calls() {
    let (text, outcome) = sent(&RequestSettings::default(), Terms::default(), |r| {
        r.add_header(b"Content-Length", b"5").expect("header");
        r.write(&[b"ab", b"", b"cd"], &NoLock).expect("write");
        r.write(&[b"ef", b"gh"], &NoLock).expect("write");
        assert_eq!((r.body_bytes(), r.headers()), (5, 1));
    });
    assert!(text.ends_with("\r\n\r\nabcde"), "{text}");
    assert_eq!(outcome.short, None);
}

#[test]
fn the_configuration_adds_and_removes_headers() {
    let settings = RequestSettings { add_header: vec!["X-Add: 1".into()], del_header: vec!["x-del".into()], ..RequestSettings::default() };
    let (text, _) = sent(&settings, Terms::default(), |r| {
        r.set_status(b"404 Nope").expect("status");
        r.add_header(b"X-Del", b"1").expect("header");
        r.write(&[b"x"], &NoLock).expect("write");
    });
    assert_eq!(text, "HTTP/1.1 404 Nope\r\nX-Add: 1\r\n\r\nx");
}

#[test]
fn a_failure_replaces_what_is_not_out_and_cuts_what_is() {
    let (text, outcome) = sent(&RequestSettings::default(), KEPT, |r| {
        r.add_header(b"X-Old", b"1").expect("header");
        r.fail(500, &NoLock);
    });
    assert!(text.starts_with("HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n") && !text.contains("X-Old"), "{text}");
    assert!(!outcome.keep);
    let (text, outcome) = sent(&RequestSettings::default(), KEPT, |r| {
        r.write(&[b"half"], &NoLock).expect("write");
        r.fail(500, &NoLock);
        assert!(r.set_status(b"200 OK").is_err() && r.write(&[b"more"], &NoLock).is_err());
    });
    assert!(text.ends_with("\r\n\r\n4\r\nhalf\r\n"), "no last chunk: {text}");
    assert!(!outcome.keep);
}

#[test]
fn the_first_page_that_can_be_read_is_the_body_of_a_failure() {
    let top = tempfile::tempdir().expect("directory");
    let page = |name: &str, text: &str| {
        let path = top.path().join(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    };
    let error_pages =
        vec![(404, page("404", "lost")), (500, "/nowhere".into()), (500, page("500", "<h1>broken</h1>")), (500, page("more", "x"))];
    let settings = RequestSettings { error_pages, ..RequestSettings::default() };
    let failed = |status| sent(&settings, Terms::default(), |r| r.fail(status, &NoLock)).0;
    assert!(failed(500).ends_with("Content-Type: text/html\r\nContent-Length: 15\r\n\r\n<h1>broken</h1>"), "{}", failed(500));
    assert!(failed(404).ends_with("lost"));
    assert!(failed(503).ends_with("Content-Type: text/plain\r\nContent-Length: 19\r\n\r\nService Unavailable"));
}

#[test]
fn a_peer_that_left_is_an_error_once_and_for_all() {
    let (peer, ours) = UnixStream::pair().expect("pair");
    drop(peer);
    let (settings, mut head) = (RequestSettings::default(), ResponseHead::new());
    let mut response = Response::new(ours.as_fd(), &settings, b"HTTP/1.1", KEPT, &mut head, None);
    assert!(response.write(&[b"x"], &NoLock).is_err());
    assert!(response.write(&[b"x"], &NoLock).is_err());
    assert_eq!((response.write_errors(), response.body_bytes()), (1, 0));
    assert!(!response.finish().keep);
}
