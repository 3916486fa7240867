//! Bodies that are read before their requests are served: by one thread, which is there for others meanwhile.

mod common;

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use common::{Worker, packet, read_until, rest};

#[test]
#[ignore = "the other tests run it"]
fn toy_worker() {
    if let Some(directory) = std::env::var_os(common::toy::DIRECTORY) {
        common::toy::main(std::path::Path::new(&directory));
    }
}

const LIMIT: u64 = 100_000;

fn worker() -> Worker {
    Worker::start(|settings| settings.request.post_buffering = LIMIT)
}

fn post(headers: &str) -> Vec<u8> {
    format!("POST /seek HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n").into_bytes()
}

fn chunked(size: usize) -> Vec<u8> {
    let chunk = [b"1000\r\n", &[b'c'; 0x1000][..], b"\r\n"].concat();
    let mut body = chunk.repeat(size / 0x1000);
    body.extend([format!("{:x}\r\n", size % 0x1000).as_bytes(), &vec![b'd'; size % 0x1000], b"\r\n0\r\nTrailer: x\r\n\r\n"].concat());
    body
}

/// A socket, a head and a body of that size.
fn uploads() -> Vec<(&'static str, Vec<u8>, Vec<u8>, usize)> {
    let mut uploads = vec![];
    // In memory, on disk, and below what is collected of any body.
    for size in [99_999, 300_001, 2_500_000, 5_000] {
        let length = size.to_string();
        uploads.push(("uwsgi", packet("/seek", &[("CONTENT_LENGTH", &length)]), vec![b'b'; size], size));
        uploads.push(("http", post(&format!("Content-Length: {length}")), vec![b'b'; size], size));
        uploads.push(("http", post("Transfer-Encoding: chunked"), chunked(size), size));
    }
    uploads
}

#[test]
fn bodies_are_seekable() {
    let worker = worker();
    for size in [0, 10, 99_999, 100_000, 300_000] {
        let data = [packet("/seek", &[("CONTENT_LENGTH", &size.to_string())]), vec![b'b'; size]].concat();
        assert!(worker.talk("uwsgi", &data).ends_with(&format!("\r\n\r\n{size} true")), "{size}");
    }
    assert!(worker.talk("http", &[post("Transfer-Encoding: chunked"), chunked(5)].concat()).ends_with("\r\n\r\n5 true"));
}

#[test]
fn a_body_that_stalls_keeps_no_thread_from_others() {
    let worker = worker();
    // None of the body, some of it, nearly all.
    for part in [0, 3, 2] {
        let stalled: Vec<(UnixStream, Vec<u8>, usize)> = uploads()
            .into_iter()
            .map(|(socket, head, body, size)| {
                let mut stream = worker.connect(socket);
                let at = body.len().checked_div(part).unwrap_or(0);
                stream.write_all(&head).expect("a head");
                stream.write_all(&body[..at]).expect("a part");
                assert!(worker.get("/x").ends_with("ok /x"), "one that has come as far as {at} of {size}");
                (stream, body[at..].to_vec(), size)
            })
            .collect();
        assert!(worker.get("/y").ends_with("ok /y"));
        for (mut stream, more, size) in stalled {
            stream.write_all(&more).expect("the rest");
            assert!(rest(&mut stream).ends_with(&format!("\r\n\r\n{size} true")), "{size}");
        }
    }
}

#[test]
fn a_body_in_tiny_pieces_arrives_whole() {
    let worker = worker();
    let mut stream = worker.connect("http");
    stream.write_all(&post("Transfer-Encoding: chunked")).expect("a head");
    for byte in chunked(5000) {
        stream.write_all(&[byte]).expect("a byte");
    }
    assert!(rest(&mut stream).ends_with("\r\n\r\n5000 true"));
}

#[test]
fn what_follows_a_body_is_the_next_request() {
    let worker = worker();
    for (head, body) in [
        (post("Content-Length: 200000"), vec![b'b'; 200_000]),
        (post("Transfer-Encoding: chunked"), chunked(200_000)),
        (post("Transfer-Encoding: chunked"), chunked(200)),
    ] {
        let mut stream = worker.connect("http11");
        let (next, last) = (b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(&[&head, &body[..100]].concat()).expect("a beginning");
        assert!(worker.get("/x").ends_with("ok /x"));
        stream.write_all(&[&body[100..], next, last].concat()).expect("the rest");
        let answers = rest(&mut stream);
        let order: Vec<_> = ["00 true", "ok /next", "ok /last"].iter().map(|end| answers.find(end)).collect();
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{answers}");
    }
}

#[test]
fn the_client_is_told_to_go_on_once() {
    let worker = worker();
    for headers in ["Expect: 100-continue\r\nContent-Length: 200000", "Expect: 100-continue\r\nTransfer-Encoding: chunked"] {
        let mut stream = worker.connect("http");
        stream.write_all(&post(headers)).expect("a head");
        read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
        let body = if headers.contains("chunked") { chunked(200_000) } else { vec![b'b'; 200_000] };
        stream.write_all(&body[..100_000]).expect("half of it");
        assert!(worker.get("/x").ends_with("ok /x"));
        stream.write_all(&body[100_000..]).expect("the rest");
        let answer = rest(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("200000 true"), "{answer}");
    }
}

#[test]
fn a_body_that_never_comes_whole_never_reaches_the_app() {
    let worker = Worker::start(|settings| {
        (settings.request.post_buffering, settings.request.limit_post, settings.request.socket_timeout) = (LIMIT, 1_000_000, 1);
    });
    let chunked_head = post("Transfer-Encoding: chunked");
    let status = |head: &[u8], body: &[u8], ends: bool| {
        let mut stream = worker.connect("http");
        stream.write_all(&[head, body].concat()).expect("send");
        if ends {
            stream.shutdown(Shutdown::Write).expect("shutdown");
        }
        rest(&mut stream)
    };
    assert!(status(&post("Content-Length: 200000"), b"half", true).starts_with("HTTP/1.1 400 "));
    worker.wait_log("199996 bytes are missing");
    assert!(status(&chunked_head, b"5\r\nab", true).starts_with("HTTP/1.1 400 "));
    assert!(status(&chunked_head, b"5\r\nabcdefg\r\n", false).starts_with("HTTP/1.1 400 "));
    assert!(status(&chunked_head, &chunked(1_000_001), false).starts_with("HTTP/1.1 400 "));
    worker.wait_log("longer than limit-post");
    assert!(status(&post("Content-Length: 200000"), b"silence", false).starts_with("HTTP/1.1 408 "));
    assert!(status(&chunked_head, b"5\r\nab", false).starts_with("HTTP/1.1 408 "));
    worker.wait_log("post-buffering: no data from the client for 1 seconds (socket-timeout)");
    assert!(worker.get("/x").ends_with("ok /x"));
}
