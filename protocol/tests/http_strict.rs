//! What a request head must not hold, and the status each of it is answered with.

use imperator_protocol::http::{Framing, HeadError, MAX_HEAD, MAX_HEADERS, Places, Version, parse_head};

/// Asserts that every head is refused with that error, also when it arrives byte by byte.
fn refused(error: HeadError, status: u16, heads: &[&str]) {
    assert_eq!(error.status(), status, "{error}");
    for head in heads {
        assert_eq!(parse_head(head.as_bytes(), MAX_HEAD, &mut Places::default()).map(|_| ()), Err(error), "{head:?}");
    }
}

/// A sound request with these header lines in it.
fn with(lines: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

fn refused_lines(error: HeadError, status: u16, lines: &[&str]) {
    let heads: Vec<String> = lines.iter().map(|line| with(line)).collect();
    refused(error, status, &heads.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn request_lines() {
    let rest = "\r\nHost: h\r\n\r\n";
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("{line}{rest}")).collect::<Vec<_>>();
    let check = |error, status, cases: &[&str]| refused(error, status, &lines(cases).iter().map(String::as_str).collect::<Vec<_>>());
    check(
        HeadError::Method,
        400,
        &[
            " GET / HTTP/1.1",
            "\tGET / HTTP/1.1",
            "G@T / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET",
            "\0",
            "\x16\x03\x01",
            "\r\n\r\nGET / HTTP/1.1",
        ],
    );
    check(HeadError::NoTarget, 400, &["GET ", "GET  / HTTP/1.1", "GET /", "GET  HTTP/1.1"]);
    check(HeadError::TargetCharacter, 400, &["GET /a\tb HTTP/1.1", "GET /a\0b HTTP/1.1", "GET /a#b HTTP/1.1", "GET /\x7f HTTP/1.1"]);
    check(
        HeadError::TargetForm,
        400,
        &["GET a HTTP/1.1", "GET * HTTP/1.1", "GET ?q HTTP/1.1", "GET ftp://h/ HTTP/1.1", "GET http:///x HTTP/1.1"],
    );
    check(
        HeadError::TargetForm,
        400,
        &["GET http://user@h/ HTTP/1.1", "GET h:80 HTTP/1.1", "OPTIONS ** HTTP/1.1", "GET http:/h/ HTTP/1.1"],
    );
    check(HeadError::Connect, 501, &["CONNECT h:443 HTTP/1.1", "CONNECT / HTTP/1.1"]);
    check(
        HeadError::Protocol,
        400,
        &[
            "GET / ",
            "GET /  HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.1 ",
            "GET / HTTP/11",
            "GET / HTTP/1.1x",
            "GET / x HTTP/1.1",
            "GET / HTTP/+1.1",
            "GET / HTTP/1.x",
        ],
    );
    check(HeadError::Version, 505, &["GET / HTTP/2.0", "PRI * HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/1.2", "GET / HTTP/3.0"]);
}

#[test]
fn line_ends() {
    refused(
        HeadError::BareLineFeed,
        400,
        &["GET / HTTP/1.1\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX\n\r\n"],
    );
    refused(HeadError::BareLineFeed, 400, &["GET / HTTP/1.1\r\nHost: h\r\nA: b\nB: c\r\n\r\n"]);
    refused(HeadError::BareCarriageReturn, 400, &["GET / HTTP/1.1\rHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nA: b\rB: c\r\n\r\n"]);
    refused(
        HeadError::BareCarriageReturn,
        400,
        &["\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\rX", "GET / HTTP/1.1\r\nHost: h\r\n\r\r\n"],
    );
}

#[test]
fn header_lines() {
    refused_lines(HeadError::Folded, 400, &["A: b\r\n c\r\n", "A: b\r\n\tc\r\n", " \r\n"]);
    refused(HeadError::Folded, 400, &["GET / HTTP/1.1\r\n Host: h\r\n\r\n"]);
    refused_lines(HeadError::BlankBeforeColon, 400, &["A : b\r\n", "A\t: b\r\n", "Transfer-Encoding : chunked\r\n", "no colon here\r\n"]);
    refused_lines(HeadError::NoColon, 400, &["nocolon\r\n"]);
    refused_lines(HeadError::Name, 400, &[": b\r\n", "A(: b\r\n", "A\0: b\r\n", "\u{e4}: b\r\n", "A/B: c\r\n", "\"A\": c\r\n"]);
    refused_lines(HeadError::Control(0), 400, &["A: b\0c\r\n", "A:\0\r\n"]);
    refused_lines(HeadError::Control(0x0b), 400, &["Transfer-Encoding: \x0bchunked\r\n"]);
    refused_lines(HeadError::Control(0x7f), 400, &["A: \x7f\r\n"]);
    refused_lines(
        HeadError::AmbiguousName,
        400,
        &["X_A: 1\r\nX-A: 2\r\n", "x-a: 1\r\nX_A: 2\r\n", "Content-Length: 0\r\nContent_Length: 0\r\n", "A-b_C: 1\r\nx: y\r\na-B-c: 2\r\n"],
    );
}

#[test]
fn lengths() {
    let wrong = ["+1", "-3", "", "1 1", "0x10", "1,1", "1, 1", "3abc", "18446744073709551616", "1.0", "\u{661}"];
    let lines: Vec<String> = wrong.iter().map(|value| format!("Content-Length: {value}\r\n")).collect();
    refused_lines(HeadError::ContentLength, 400, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    refused_lines(
        HeadError::RepeatedContentLength,
        400,
        &["Content-Length: 3\r\ncontent-length: 3\r\n", "Content-Length: 3\r\nA: b\r\nContent-Length: 5\r\n"],
    );
}

#[test]
fn codings() {
    refused_lines(
        HeadError::LengthAndCoding,
        400,
        &["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"],
    );
    refused_lines(HeadError::RepeatedCoding, 400, &["Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"]);
    refused_lines(
        HeadError::Coding,
        400,
        &["Transfer-Encoding:\r\n", "Transfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding: chunked, gzip\r\n"],
    );
    refused_lines(
        HeadError::Coding,
        400,
        &[
            "Transfer-Encoding: chunked,\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
        ],
    );
    refused_lines(
        HeadError::UnknownCoding,
        501,
        &[
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: gzip\r\n",
        ],
    );
    refused(HeadError::CodingInHttp10, 400, &["POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"]);
}

#[test]
fn hosts() {
    refused(HeadError::NoHost, 400, &["GET / HTTP/1.1\r\n\r\n", "GET http://h/ HTTP/1.1\r\nA: b\r\n\r\n"]);
    refused_lines(HeadError::RepeatedHost, 400, &["Host: h\r\n", "HOST: other\r\n"]);
    for host in [
        "a b", "a,b", "u@h", "h/x", "h?x", "h:x", "h:-1", "h:123456", "a:1:2", "[::1", "[]", "[::1]x", "::1", "h\\x", "\u{e4}", ":80",
        "\"h\"",
    ] {
        refused(HeadError::Host, 400, &[&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")]);
    }
    for host in ["", "h", "h:80", "h:", "1.2.3.4:5", "[::1]", "[::1]:80", "[fe80::1%25eth0]", "a_b.example", "xn--bcher-kva.example."] {
        assert!(
            parse_head(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), MAX_HEAD, &mut Places::default())
                .is_ok_and(|head| head.is_some()),
            "{host:?}"
        );
    }
    refused(HeadError::HostMismatch, 400, &["GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n"]);
}

#[test]
fn expectations() {
    refused_lines(HeadError::Expect, 417, &["Expect: 200-ok\r\n", "Expect:\r\n", "Expect: 100-continue, x\r\n"]);
}

#[test]
fn sizes() {
    let head = "GET /123456789 HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n".as_bytes();
    let line = "GET /123456789 HTTP/1.1\r\n".len();
    assert!(parse_head(head, head.len(), &mut Places::default()).is_ok_and(|parsed| parsed.is_some()));
    assert_eq!(parse_head(head, head.len() - 1, &mut Places::default()).map(|_| ()), Err(HeadError::TooLong(head.len() - 1)));
    assert_eq!(parse_head(head, line, &mut Places::default()).map(|_| ()), Err(HeadError::TooLong(line)));
    assert_eq!(parse_head(head, line - 1, &mut Places::default()).map(|_| ()), Err(HeadError::LineTooLong(line - 1)));
    assert_eq!((HeadError::TooLong(1).status(), HeadError::LineTooLong(1).status()), (431, 414));
    // An endless line is refused at the limit, not waited for.
    assert_eq!(parse_head(&[b'a'; MAX_HEAD], usize::MAX, &mut Places::default()).map(|_| ()), Err(HeadError::LineTooLong(MAX_HEAD)));
    assert!(parse_head(&[b'a'; MAX_HEAD - 1], usize::MAX, &mut Places::default()).is_ok_and(|parsed| parsed.is_none()));
}

#[test]
fn as_many_headers_as_there_may_be() {
    let head = |count: usize| with(&(0..count).map(|n| format!("X-{n}: {n}\r\n")).collect::<String>());
    let most = head(MAX_HEADERS - 1);
    let mut places = Places::default();
    let parsed = parse_head(most.as_bytes(), MAX_HEAD, &mut places).expect("sound").expect("whole");
    assert_eq!(parsed.headers().count(), MAX_HEADERS);
    assert_eq!(parsed.header(b"x-126"), Some(&b"126"[..]));
    refused(HeadError::TooManyHeaders, 431, &[&head(MAX_HEADERS)]);
}

#[test]
fn a_sound_head_is_read_as_it_is() {
    let input = "\r\nPUT /p%20q?a=b HTTP/1.1\r\nHost: h:1\r\nX-A:\t one  two \t\r\nx-a:\r\nContent-Length: 00012\r\nExpect: 100-Continue\r\nX: \u{e9}\r\n\r\nbody";
    let mut places = Places::default();
    let head = parse_head(input.as_bytes(), MAX_HEAD, &mut places).expect("sound").expect("whole");
    assert_eq!((head.method(), head.target(), head.version()), (&b"PUT"[..], &b"/p%20q?a=b"[..], Version::Http11));
    let headers: Vec<_> = head
        .headers()
        .map(|(name, value)| (std::str::from_utf8(name).expect("ascii"), std::str::from_utf8(value).expect("utf-8")))
        .collect();
    assert_eq!(
        headers,
        [("Host", "h:1"), ("X-A", "one  two"), ("x-a", ""), ("Content-Length", "00012"), ("Expect", "100-Continue"), ("X", "\u{e9}")]
    );
    assert_eq!((head.framing(), head.keep_alive(), head.expects_continue()), (Framing::Length(12), true, true));
    assert_eq!(&input.as_bytes()[head.length()..], b"body");
}

#[test]
fn connections_are_kept_when_the_client_says_so() {
    let kept = |version: &str, lines: &str| {
        let head = format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
        parse_head(head.as_bytes(), MAX_HEAD, &mut Places::default()).expect("sound").expect("whole").keep_alive()
    };
    assert!(kept("1.1", "") && kept("1.1", "Connection: upgrade\r\n") && kept("1.1", "Connection: closed\r\n"));
    assert!(
        !kept("1.1", "Connection: close\r\n")
            && !kept("1.1", "Connection: x , CLOSE\r\n")
            && !kept("1.1", "Connection: x\r\nConnection: close\r\n")
    );
    assert!(!kept("1.0", "") && !kept("1.0", "Connection: keep-alive, close\r\n"));
    assert!(kept("1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn framing_and_expectation_follow_the_version() {
    let parse = |head: &str| {
        let mut places = Places::default();
        let head = parse_head(head.as_bytes(), MAX_HEAD, &mut places).expect("sound").expect("whole");
        (head.framing(), head.expects_continue())
    };
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n"), (Framing::None, false));
    assert_eq!(parse("POST / HTTP/1.0\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"), (Framing::Length(0), false));
    assert_eq!(parse(&with("transfer-encoding:CHUNKED \r\nExpect: 100-continue\r\n")), (Framing::Chunked, true));
    assert_eq!(parse(&with("Content-Length: 18446744073709551615\r\n")), (Framing::Length(u64::MAX), false));
}
