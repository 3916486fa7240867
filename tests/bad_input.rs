//! Whatever a peer sends gets its documented answer; nothing kills or wedges a worker, and nothing is read in two ways.

mod support;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use support::{HELLO, Server, http, packet, uwsgi};

fn both() -> Server {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server
        .start_ini(
            "socket = {sock}\nhttp-socket = 127.0.0.1:{port}\nhttp11-socket = 127.0.0.1:{port2}\nwsgi-file = app.py\nsocket-timeout = 2\n",
        )
        .ready("{sock}");
    server
}

/// What comes back, however the connection ends.
fn talk(address: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if address.contains('/') {
        let mut s = std::os::unix::net::UnixStream::connect(address).expect("connect");
        s.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let _ = s.write_all(data);
        let _ = s.shutdown(Shutdown::Write);
        let _ = s.read_to_end(&mut out);
    } else {
        let mut s = std::net::TcpStream::connect(address).expect("connect");
        s.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let _ = s.write_all(data);
        let _ = s.shutdown(Shutdown::Write);
        let _ = s.read_to_end(&mut out);
    }
    out
}

fn worker_pid(server: &Server) -> String {
    uwsgi(&server.sock(), "/").expect("an answer").text().split(' ').next().expect("a pid").to_owned()
}

#[test]
fn malformed_packets_are_refused_and_the_worker_stays() {
    let server = both();
    let pid = worker_pid(&server);
    let whole = packet("/", &[]);
    let mut hostile: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        vec![0; 4],
        vec![255; 4],
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        [b"\x00\x05\x00\x00".as_slice(), b"\x03\x00abc"].concat(),
        [b"\x63\x00\x00\x00".as_slice()].concat(),
    ];
    hostile.extend((1..whole.len()).step_by(7).map(|n| whole[..n].to_vec()));
    for (i, byte) in whole.iter().enumerate().take(60) {
        let mut bent = whole.clone();
        bent[i] = byte.wrapping_add(129);
        hostile.push(bent);
    }
    for data in &hostile {
        talk(&server.sock(), data);
    }
    assert_eq!(worker_pid(&server), pid);
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_a_400_and_the_connection_is_closed() {
    let server = both();
    let pid = worker_pid(&server);
    let post = |headers: &str| {
        format!("POST /x HTTP/1.1\r\nHost: a\r\n{headers}\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    let hostile = [
        post("Content-Length: 5\r\nContent-Length: 6\r\n"),
        post("Content-Length: 5, 5\r\n"),
        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        post("Content-Length: +5\r\n"),
        post("Content-Length: 0x5\r\n"),
        post("Content-Length: 99999999999999999999999\r\n"),
        post("Content-Length : 5\r\n"),
        post("X-A: b\r\n folded: c\r\n"),
        post("X-A: b\rX-B: c\r\n"),
        post("X-A: b\nX-B: c\r\n"),
        post("X-A: b\0c\r\n"),
        post(": empty\r\n"),
        post("X_Real: a\r\nX-Real: b\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    for address in ["127.0.0.1:{port}", "127.0.0.1:{port2}"] {
        for head in &hostile {
            let answer = String::from_utf8_lossy(&talk(&server.fill(address), head.as_bytes())).into_owned();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?} gave {answer:?}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{head:?}: something was answered behind it: {answer:?}");
        }
    }
    assert_eq!(worker_pid(&server), pid);
}

#[test]
fn half_sent_requests_hold_no_worker() {
    let server = both();
    let mut held: Vec<Box<dyn support::Stream>> = Vec::new();
    for i in 0..100 {
        let (address, part): (String, &[u8]) = match i % 4 {
            0 => (server.sock(), b"\x00\x40\x00\x00\x0e\x00REQU"),
            1 => (server.fill("127.0.0.1:{port}"), b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "),
            2 => (server.fill("127.0.0.1:{port2}"), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"),
            _ => (server.fill("127.0.0.1:{port}"), b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc"),
        };
        let mut stream = support::connect(&address).expect("connect");
        stream.write_all(part).expect("a part");
        held.push(stream);
    }
    // one worker with one thread, a hundred half requests: others are served
    for _ in 0..20 {
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
        assert_eq!(http(&server.fill("127.0.0.1:{port2}"), "/").expect("an answer").status, 200);
    }
}

#[test]
fn a_request_cannot_name_the_code_to_load() {
    let mut server = both();
    server.write("evil.py", "open('loaded', 'w').close()\ndef application(e, sr):\n    sr('200 OK', [])\n    return [b'evil']\n");
    let file = server.path("evil.py").display().to_string();
    let data = packet("/", &[("SCRIPT_NAME", "/new"), ("UWSGI_FILE", &file), ("UWSGI_APPID", "new")]);
    let answer = support::exchange(&server.sock(), &data).expect("an answer");
    assert!(!String::from_utf8_lossy(&answer).contains("evil"));
    assert!(!server.path("loaded").exists());
    assert!(server.alive());
}

#[test]
fn a_head_over_the_limit_is_a_431() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini("http-socket = 127.0.0.1:{port}\nsocket = {sock}\nwsgi-file = app.py\nbuffer-size = 4096\n").ready("{sock}");
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Big: {}\r\n\r\n", "b".repeat(5000));
    let answer = talk(&server.fill("127.0.0.1:{port}"), head.as_bytes());
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{:?}", String::from_utf8_lossy(&answer));
}
