//! How often a request has a clock read: once, and once more after each wait. (Debug builds count.)
#![cfg(debug_assertions)]

use std::fs::File;
use std::time::Instant;

use imperator_protocol::packet::Header;
use imperator_protocol::vars;
use imperator_worker::measured::{Requests, clock_reads};
use imperator_worker::settings::Protocol;

const N: u64 = 1000;
const GET: &[u8] = b"GET /articles?page=2 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What `serve` has read, without what any span of time costs: the wall clock is looked at once in 10 ms.
fn reads(serve: impl FnOnce()) -> u64 {
    let (began, before) = (Instant::now(), clock_reads());
    serve();
    let looks = began.elapsed().as_millis() as u64 / 10 + 1;
    (clock_reads() - before).saturating_sub(looks)
}

fn packet() -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in [("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/x"), ("PATH_INFO", "/x"), ("SERVER_PROTOCOL", "HTTP/1.1")] {
        vars::push(&mut block, name.as_bytes(), value.as_bytes());
    }
    [&Header { modifier1: 0, datasize: block.len() as u16, modifier2: 0 }.encode()[..], &block].concat()
}

#[test]
fn requests_that_come_one_after_the_other_share_their_clock() {
    let mut requests = Requests::new(Protocol::Uwsgi, None).expect("a worker");
    let packet = packet();
    let mut serve = |count| (0..count).for_each(|_| assert!(requests.serve(&packet).expect("an answer").ends_with(b"hello world")));
    serve(1);
    let read = reads(|| serve(N));
    assert!((N - N / 10..=N).contains(&read), "{read}");
}

#[test]
fn requests_that_are_ready_together_share_the_one_after_the_wait() {
    let mut requests = Requests::new(Protocol::Http11, None).expect("a worker");
    let mut serve = |times| (0..times).for_each(|_| requests.serve_together(GET, 8).expect("answers"));
    serve(1);
    let read = reads(|| serve(N / 8));
    assert!((N - N / 10..=N + N / 8).contains(&read), "{read}");
}

#[test]
fn a_wait_and_a_line_of_the_log_take_time() {
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    for log in [None, Some(null)] {
        let mut requests = Requests::new(Protocol::Http11, log.map(Into::into)).expect("a worker");
        let mut serve = |count| (0..count).for_each(|_| assert!(requests.serve(GET).expect("an answer").ends_with(b"hello world")));
        serve(1);
        let read = reads(|| serve(N));
        assert!((2 * N - N / 10..=2 * N).contains(&read), "{read}");
    }
}
