//! Long bodies that come slowly, without `post-buffering`: no thread waits for them, and their apps see what they always saw.

mod common;

use std::io::{Read as _, Write as _};
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

/// A stall is long only where a test says so.
fn patient() -> Worker {
    Worker::start(|settings| settings.request.socket_timeout = 60)
}

fn post(path: &str, headers: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n").into_bytes()
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 23) as u8).collect()
}

/// A head and the beginning of a body of `size` bytes on their way.
fn begun(worker: &Worker, path: &str, size: usize, sent: usize) -> UnixStream {
    let mut stream = worker.connect("uwsgi");
    stream.write_all(&packet(path, &[("CONTENT_LENGTH", &size.to_string())])).expect("a head");
    stream.write_all(&body(size)[..sent]).expect("the beginning of a body");
    stream
}

/// Sends what is left of a body while the answer to its beginning is read; the rest of that.
fn finish(mut stream: UnixStream, more: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        let mut sender = stream.try_clone().expect("clone");
        scope.spawn(move || sender.write_all(more).expect("the rest"));
        rest(&mut stream).into_bytes()
    })
}

/// The first `size` bytes of an answer's body.
fn beginning_of_answer(stream: &mut UnixStream, size: usize) -> Vec<u8> {
    let (mut got, mut part) = (vec![], vec![0; 65_536]);
    let mut head = false;
    while !head || got.len() < size {
        let read = stream.read(&mut part).expect("an answer");
        assert!(read > 0, "closed after {} bytes", got.len());
        got.extend_from_slice(&part[..read]);
        if let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| !head) {
            got.drain(..end + 4);
            head = true;
        }
    }
    got
}

#[test]
fn the_only_thread_is_there_for_others_while_bodies_stall() {
    let worker = patient();
    // In memory and on disk; a part of what is collected of any body, all of that, more, and nearly all.
    let sizes = [70_000, 1 << 20, 10 << 20];
    for part in [10_000, 65_536, 100 << 10, usize::MAX] {
        let stalled = sizes.map(|size| {
            let sent = part.min(size - 1);
            let stream = begun(&worker, "/body", size, sent);
            assert!(worker.get("/x").ends_with("ok /x"), "{sent} of {size}");
            (stream, size, sent)
        });
        assert!(worker.get("/y").ends_with("ok /y"));
        for (mut stream, size, sent) in stalled {
            let whole = body(size);
            stream.write_all(&whole[sent..]).expect("the rest");
            let answer = rest(&mut stream);
            let (_, text) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(text == format!("{size}:{}", String::from_utf8_lossy(&whole)), "{sent} of {size}");
        }
    }
}

#[test]
fn a_body_cannot_be_gone_through_again_without_post_buffering() {
    let worker = patient();
    let data = [packet("/seek", &[("CONTENT_LENGTH", "300000")]), body(300_000)].concat();
    assert!(worker.talk("uwsgi", &data).ends_with("\r\n\r\n300000 false"));
}

#[test]
fn an_app_that_wants_a_body_as_it_comes_gets_it_so() {
    // Without room to keep any; and a chunked one in any case.
    for (ahead, socket, head) in
        [(0, "uwsgi", packet("/echo", &[("CONTENT_LENGTH", "1048576")])), (1 << 30, "http", post("/echo", "Transfer-Encoding: chunked"))]
    {
        let worker = Worker::start(|settings| (settings.request.post_ahead, settings.request.socket_timeout) = (ahead, 60));
        let mut stream = worker.connect(socket);
        let first = body(100 << 10);
        let (size, end) = if ahead == 0 { (String::new(), "") } else { ("19000\r\n".into(), "\r\n0\r\n\r\n") };
        stream.write_all(&[&head, size.as_bytes(), &first].concat()).expect("the beginning");
        assert!(beginning_of_answer(&mut stream, first.len()) == first, "before the rest is there");
        let last = if ahead == 0 { body((1 << 20) - first.len()) } else { vec![] };
        assert!(finish(stream, &[&last, end.as_bytes()].concat()) == last);
    }
}

#[test]
fn when_there_is_no_more_room_the_app_has_the_beginning_and_then_what_comes() {
    let worker = Worker::start(|settings| (settings.request.post_ahead, settings.request.socket_timeout) = (300_000, 60));
    for size in [400_000, 5 << 20] {
        let whole = body(size);
        let mut stream = begun(&worker, "/echo", size, 350_000);
        let mut echoed = beginning_of_answer(&mut stream, 350_000);
        echoed.extend(finish(stream, &whole[350_000..]));
        assert!(echoed == whole, "{size}");
    }
}

#[test]
fn what_is_missing_of_a_body_is_an_error_of_its_reader() {
    let worker = Worker::start(|settings| settings.request.socket_timeout = 1);
    for size in [100_000, 5 << 20] {
        let mut gone = begun(&worker, "/body", size, 99_000);
        gone.shutdown(Shutdown::Write).expect("half close");
        assert!(rest(&mut gone).ends_with(&format!("({} bytes are missing)", size - 99_000)), "{size}");
        let mut silent = begun(&worker, "/body", size, 99_000);
        assert!(worker.get("/x").ends_with("ok /x"));
        assert!(rest(&mut silent).ends_with("no data from the client for 1 seconds (socket-timeout)"), "{size}");
    }
    // Nobody is left to be answered; and the next one is.
    drop(begun(&worker, "/body", 5 << 20, 1 << 20));
    assert!(worker.get("/x").ends_with("ok /x"));
}

#[test]
fn a_body_that_the_app_does_not_read_is_followed_by_the_next_request() {
    let worker = patient();
    let mut stream = worker.connect("http11");
    let (next, last) = (post("/next", "Content-Length: 0"), post("/last", "Content-Length: 0\r\nConnection: close"));
    let whole = body(2 << 20);
    stream.write_all(&post("/unread", &format!("Content-Length: {}", whole.len()))).expect("a head");
    stream.write_all(&whole[..70_000]).expect("the beginning");
    assert!(worker.get("/x").ends_with("ok /x"));
    stream.write_all(&[&whole[70_000..], &next, &last].concat()).expect("the rest and more");
    let answers = rest(&mut stream);
    let order: Vec<_> = ["ok /unread", "ok /next", "ok /last"].iter().map(|end| answers.find(end)).collect();
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{answers}");
}

#[test]
fn the_client_is_told_to_go_on_once() {
    let worker = patient();
    let mut stream = worker.connect("http");
    stream.write_all(&post("/body", "Expect: 100-continue\r\nContent-Length: 200000")).expect("a head");
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&body(200_000)[..100_000]).expect("half of it");
    assert!(worker.get("/x").ends_with("ok /x"));
    stream.write_all(&body(200_000)[100_000..]).expect("the rest");
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\r\n\r\n200000:"), "{}", &answer[..200]);
}
