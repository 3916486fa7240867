//! In the long run a request costs no allocation of the worker's.

use std::fs::File;

use imperator_protocol::packet::Header;
use imperator_protocol::vars;
use imperator_sys::counting::Counting;
use imperator_worker::measured::Requests;
use imperator_worker::settings::Protocol;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As a browser's request comes through nginx.
fn packet() -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in [
        ("QUERY_STRING", "page=2"),
        ("REQUEST_METHOD", "GET"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("REQUEST_URI", "/articles?page=2"),
        ("PATH_INFO", "/articles"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "localhost"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64)"),
    ] {
        vars::push(&mut block, name.as_bytes(), value.as_bytes());
    }
    let header = Header { modifier1: 0, datasize: block.len() as u16, modifier2: 0 };
    [&header.encode()[..], &block].concat()
}

/// Allocations of so many requests, once the thread has served a few.
fn allocations(protocol: Protocol, request: &[u8]) -> u64 {
    let null = File::options().write(true).open("/dev/null").expect("/dev/null");
    let mut requests = Requests::new(protocol, Some(null.into())).expect("a worker");
    let mut serve = |count: u32| {
        for _ in 0..count {
            assert!(requests.serve(request).expect("an answer").ends_with(b"hello world"));
        }
    };
    serve(10);
    let before = Counting::allocations();
    serve(1000);
    Counting::allocations() - before
}

#[test]
fn a_packet_allocates_nothing() {
    assert_eq!(allocations(Protocol::Uwsgi, &packet()), 0);
}

#[test]
fn an_http_request_on_a_kept_connection_allocates_nothing() {
    let request = b"GET /articles?page=2 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n";
    assert_eq!(allocations(Protocol::Http11, request), 0);
}

#[test]
fn the_counter_counts() {
    let before = Counting::allocations();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(Counting::allocations() - before, 1);
}
