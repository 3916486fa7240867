//! Clients that send slowly cost no worker, and apps see their bodies as they always did.

mod support;
use std::io::{Read as _, Write as _};

use support::{Answer, Server, Stream, connect, http, packet, uwsgi};

const APP: &str = "\
def application(env, sr):
    body, path = env['wsgi.input'], env['PATH_INFO']
    sr('200 OK', [])
    if path == '/echo':
        return iter(lambda: body.read(10000), b'')
    if path == '/parts':
        n, line, some, rest = body.read(10), body.readline(), body.read(100000), body.read()
        return [b'%d %d %d %d' % (len(n), len(line), len(some), len(rest)), body.read()]
    if path == '/spin':
        while True:
            pass
    return [b'%d' % len(body.read())]
";

const LUA: &str = "return function(env) local body = env.input:read(env.CONTENT_LENGTH) return 200, {}, tostring(#(body or '')) end";

fn started(more: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.write("app.lua", LUA);
    server.start_ini(&format!(
        "socket = {{sock}}\nhttp-socket = 127.0.0.1:{{port}}\nwsgi-file = app.py\nlua = app.lua\nprocesses = 1\nthreads = 1\n{more}"
    ));
    server.ready("{sock}");
    server
}

/// `size` bytes in lines of 1 KiB.
fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| if at % 1024 == 1023 { b'\n' } else { b'a' + (at % 7) as u8 }).collect()
}

fn begun(server: &Server, head: &[u8], beginning: &[u8]) -> Box<dyn Stream> {
    let mut stream = connect(&server.sock()).expect("connect");
    stream.write_all(head).expect("a head");
    stream.write_all(beginning).expect("a beginning");
    stream
}

fn head(uri: &str, size: usize, modifier1: u8) -> Vec<u8> {
    let mut head = packet(uri, &[("CONTENT_LENGTH", &size.to_string())]);
    head[0] = modifier1;
    head
}

fn answer(mut stream: Box<dyn Stream>) -> Answer {
    let mut raw = vec![];
    // (Who sends more than was said is reset after the answer.)
    let _ = stream.read_to_end(&mut raw);
    Answer::parse(&raw).expect("an answer")
}

#[test]
fn four_uploads_that_stall_leave_the_only_worker_to_others() {
    const SIZE: usize = 10 << 20;
    let server = started("socket-timeout = 60\n");
    let whole = body(SIZE);
    let mut stalled = vec![];
    for (uri, modifier1) in [("/", 0), ("/parts", 0), ("/", 6), ("/echo", 0)] {
        stalled.push((uri, begun(&server, &head(uri, SIZE, modifier1), &whole[..100 << 10])));
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), "0");
    }
    for _ in 0..20 {
        assert_eq!(http(&server.fill("127.0.0.1:{port}"), "/").expect("an answer").text(), "0");
    }
    for (uri, mut stream) in stalled {
        stream.write_all(&whole[100 << 10..]).expect("the rest");
        let text = answer(stream).text();
        match uri {
            "/echo" => assert!(text.as_bytes() == whole),
            "/parts" => assert_eq!(text, format!("10 1014 100000 {}", SIZE - 101_024)),
            _ => assert_eq!(text, SIZE.to_string()),
        }
    }
}

#[test]
fn without_post_ahead_an_app_answers_before_the_whole_body_is_there() {
    let server = started("post-ahead = 0\nsocket-timeout = 60\n");
    let whole = body(1 << 20);
    let mut stream = begun(&server, &head("/echo", whole.len(), 0), &whole[..100_000]);
    let mut got = vec![];
    while got.len() < 100_000 {
        let mut part = vec![0; 16_384];
        let read = stream.read(&mut part).expect("bytes come back");
        assert!(read > 0, "closed after {} bytes", got.len());
        got.extend_from_slice(&part[..read]);
    }
    drop(stream);
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), "0");
}

#[test]
fn a_client_that_leaves_in_mid_body_or_lies_about_it_hurts_nobody() {
    let server = started("socket-timeout = 1\n");
    let whole = body(300_000);
    drop(begun(&server, &head("/", 10 << 20, 0), &whole));
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), "0");
    // Less than it said and then silence; far more than there is of anything; more than it said.
    assert_eq!(answer(begun(&server, &head("/", 400_000, 0), &whole)).status, 408);
    let huge = begun(&server, &packet("/", &[("CONTENT_LENGTH", "18446744073709551615")]), &whole);
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), "0");
    assert_eq!(answer(huge).status, 408);
    // (What is too much comes with the last of the rest: who still writes when the answer is out has lost its connection.)
    assert_eq!(answer(begun(&server, &head("/", 200_000, 0), &whole[..201_000])).text(), "200000");
    server.wait_log("no data from the client for 1 seconds");
}

#[test]
fn the_time_of_a_request_begins_when_its_app_does() {
    let server = started("harakiri = 1\nsocket-timeout = 60\n");
    let whole = body(300_000);
    let mut slow = begun(&server, &head("/", whole.len(), 0), &whole[..100_000]);
    // Another one's time passes meanwhile, and it ends for it.
    assert_eq!(uwsgi(&server.sock(), "/spin").expect("an answer").status, 504);
    slow.write_all(&whole[100_000..]).expect("the rest");
    assert_eq!(answer(slow).text(), "300000");
}
