//! The loop on real sockets, with a toy language.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;

use common::{Worker, packet, raw_packet, read_until, rest, until};
use nix::sys::signal::Signal;

/// Not a test: the child that the others start.
#[test]
#[ignore = "the child of the other tests"]
fn toy_worker() {
    if let Some(directory) = std::env::var_os(common::toy::DIRECTORY) {
        common::toy::main(directory.as_ref());
    }
}

fn http(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

// -- uwsgi

#[test]
fn a_packet_is_answered_and_the_connection_closed() {
    let worker = Worker::start(|_| {});
    assert_eq!(worker.get("/x"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok /x");
    worker.wait_log("[pid: ");
    let log = worker.log();
    assert!(log.contains("|app: 0|req: 1/1] 10.0.0.9 () {10 vars in "), "{log}");
    assert!(
        log.contains("GET /x => generated 5 bytes in ")
            && log.contains(" msecs (HTTP/1.1 200) 1 headers in 38 bytes (1 switches on core 0)"),
        "{log}"
    );
}

#[test]
fn a_packet_and_its_body_may_come_byte_by_byte() {
    let worker = Worker::start(|_| {});
    let mut stream = worker.connect("uwsgi");
    let data = [packet("/body", &[("CONTENT_LENGTH", "10")]), b"0123456789".to_vec()].concat();
    for byte in &data {
        stream.write_all(&[*byte]).expect("send");
    }
    assert!(rest(&mut stream).ends_with("\r\n\r\n10:0123456789"));
}

#[test]
fn a_thousand_half_sent_requests_hold_nobody_up() {
    let worker = Worker::start(|_| {});
    let data = [packet("/body", &[("CONTENT_LENGTH", "5")]), b"hello".to_vec()].concat();
    let mut slow: Vec<_> = (0..1000).map(|_| worker.connect("uwsgi")).collect();
    for (n, stream) in slow.iter_mut().enumerate() {
        stream.write_all(&data[..n % data.len()]).expect("send");
    }
    for n in 0..20 {
        assert!(worker.get(&format!("/{n}")).ends_with(&format!("ok /{n}")));
    }
    for (n, stream) in slow.iter_mut().enumerate() {
        stream.write_all(&data[n % data.len()..]).expect("send");
        assert!(rest(stream).ends_with("5:hello"), "{n}");
    }
}

#[test]
fn bad_packets_are_refused_and_hurt_nobody() {
    let worker = Worker::start(|settings| settings.request.buffer_size = Some(4096));
    assert_eq!(worker.talk("uwsgi", &raw_packet(0, b"")), "");
    assert_eq!(worker.talk("uwsgi", &raw_packet(0, &[0, 0, 1, 0, b'a'])), "");
    assert_eq!(worker.talk("uwsgi", &raw_packet(99, b"")), "");
    assert!(worker.talk("uwsgi", &raw_packet(0, &[0; 4097])).starts_with("HTTP/1.1 431 "));
    let mut cut = worker.connect("uwsgi");
    cut.write_all(&[0, 32, 0, 0, b'a']).expect("send");
    cut.shutdown(Shutdown::Write).expect("half close");
    assert_eq!(rest(&mut cut), "");
    assert!(worker.get("/after").ends_with("ok /after"));
    worker.wait_log("invalid request block size: 4097 (max 4096)...skip");
    worker.wait_log("-- unavailable modifier requested: 99 --");
    assert!(worker.log().contains(" => generated 0 bytes in 0 msecs ( 500) 0 headers in 0 bytes (0 switches on core 0)"));
}

#[test]
fn ping_and_echo() {
    let worker = Worker::start(|_| {});
    assert_eq!(worker.talk("uwsgi", &raw_packet(100, b"")), "d\0\0\u{1}");
    assert_eq!(worker.talk("uwsgi", &raw_packet(101, b"hello")), "hello");
}

// -- bodies

#[test]
fn a_body_that_stops_early_is_an_error_of_its_reader() {
    let worker = Worker::start(|settings| settings.request.socket_timeout = 1);
    let data = [packet("/body", &[("CONTENT_LENGTH", "100")]), b"short".to_vec()].concat();
    let mut gone = worker.connect("uwsgi");
    gone.write_all(&data).expect("send");
    gone.shutdown(Shutdown::Write).expect("half close");
    assert!(rest(&mut gone).ends_with("(95 bytes are missing)"));
    assert!(worker.talk("uwsgi", &data).ends_with("no data from the client for 1 seconds (socket-timeout)"));
}

#[test]
fn large_bodies_are_read_as_they_come() {
    let worker = Worker::start(|_| {});
    let body = "b".repeat(1 << 20);
    let data = [packet("/body", &[("CONTENT_LENGTH", "1048576")]), body.clone().into_bytes()].concat();
    assert!(worker.talk("uwsgi", &data).ends_with(&format!("\r\n\r\n1048576:{body}")));
}

#[test]
fn limit_post_answers_413_before_the_body_is_read() {
    let worker = Worker::start(|settings| settings.request.limit_post = 1000);
    let data = [packet("/body", &[("CONTENT_LENGTH", "1001")]), vec![b'b'; 1001]].concat();
    assert!(worker.talk("uwsgi", &data).starts_with("HTTP/1.1 413 "));
    worker.wait_log("limit-post is 1000");
    assert!(worker.talk("uwsgi", &[packet("/body", &[("CONTENT_LENGTH", "1")]), b"x".to_vec()].concat()).ends_with("1:x"));
}

#[test]
fn chunked_bodies() {
    let worker = Worker::start(|_| {});
    let chunks = "3\r\nabc\r\n10;note=1\r\n0123456789abcdef\r\n0\r\nTrailer: x\r\n\r\n";
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").into_bytes();
    assert!(worker.talk("http", &post("/body")).ends_with("19:abc0123456789abcdef"));
    assert!(worker.talk("http", &post("/chunks")).ends_with("[abc][0123456789abcdef]"));
    let mut stream = worker.connect("http");
    for byte in post("/body") {
        stream.write_all(&[byte]).expect("send");
    }
    assert!(rest(&mut stream).ends_with("19:abc0123456789abcdef"));
    let bad = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert!(worker.talk("http", bad).contains("malformed chunked body"));
}

#[test]
fn expect_100_continue_is_answered() {
    let worker = Worker::start(|_| {});
    for length in [5, 100_000] {
        let mut stream = worker.connect("http");
        stream
            .write_all(format!("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n").as_bytes())
            .expect("send");
        assert_eq!(read_until(&mut stream, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(&vec![b'b'; length]).expect("send");
        assert!(rest(&mut stream).contains(&format!("\r\n\r\n{length}:b")));
    }
}

// -- responses

#[test]
fn a_content_length_holds() {
    let worker = Worker::start(|_| {});
    assert_eq!(worker.get("/more"), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n123");
    assert_eq!(worker.get("/fewer"), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
    worker.wait_log("the response to GET /fewer ended 5 bytes before its Content-Length");
    let mut stream = worker.connect("http11");
    stream.write_all(&http("/fewer", "")).expect("send");
    assert!(rest(&mut stream).ends_with("\r\n\r\n12345"), "an incomplete response ends the connection");
}

#[test]
fn failures_and_panics_are_500() {
    let worker = Worker::start(|_| {});
    for path in ["/error", "/panic"] {
        let response = worker.get(path);
        assert!(
            response.starts_with("HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Type: text/plain\r\n"),
            "{response}"
        );
        assert!(response.ends_with("\r\n\r\nInternal Server Error"));
    }
    assert!(worker.get("/after").ends_with("ok /after"));
}

#[test]
fn files_are_sent() {
    let worker = Worker::start(|_| {});
    assert!(worker.get("/file").ends_with("\r\n\r\n12345"));
    worker.wait_log(" msecs via sendfile() (HTTP/1.1 200)");
    let mut stream = worker.connect("http11");
    stream.write_all(&http("/file", "")).expect("send");
    assert!(read_until(&mut stream, "0\r\n\r\n").ends_with("\r\n\r\n5\r\n12345\r\n0\r\n\r\n"));
}

#[test]
fn a_response_larger_than_the_socket_takes_is_waited_for() {
    let worker = Worker::start(|_| {});
    let response = worker.get("/big");
    assert_eq!(response.len() - response.find("\r\n\r\n").expect("head") - 4, 8 << 20);
}

// -- http

#[test]
fn an_http_socket_serves_one_request_and_closes() {
    let worker = Worker::start(|_| {});
    let response = worker.talk("http", &[http("/one", ""), http("/two", "")].concat());
    assert_eq!(response, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nok /one");
    assert!(worker.talk("http", b"GET /old HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 OK\r\n"));
    assert!(worker.talk("http", b"HEAD /head HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("Content-Length: 8\r\n\r\n"));
}

#[test]
fn keep_alive_pipelining_and_chunks() {
    let worker = Worker::start(|_| {});
    let mut stream = worker.connect("http11");
    for path in ["/one", "/two"] {
        stream.write_all(&http(path, "")).expect("send");
        assert_eq!(read_until(&mut stream, path), format!("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nok {path}"));
    }
    let post = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let unread = b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nGET ";
    stream
        .write_all(
            &[
                post.to_vec(),
                unread.to_vec(),
                http("/a", ""),
                http("/stream", ""),
                http("/empty", ""),
                http("/last", "Connection: close\r\n"),
            ]
            .concat(),
        )
        .expect("send");
    let all = rest(&mut stream);
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n3:abc\
        HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok /unread\
        HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok /a\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nok /last";
    assert_eq!(all, expected);
}

#[test]
fn http_1_0_keeps_the_connection_only_when_asked() {
    let worker = Worker::start(|_| {});
    let mut stream = worker.connect("http11");
    stream.write_all(b"GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").expect("send");
    assert_eq!(read_until(&mut stream, "ok /k"), "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nok /k");
    stream.write_all(b"GET /k HTTP/1.0\r\n\r\n").expect("send");
    assert!(rest(&mut stream).ends_with("Content-Length: 5\r\n\r\nok /k"));
    assert!(worker.talk("http11", b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").ends_with("\r\n\r\nonetwo"));
}

#[test]
fn bad_heads_are_answered() {
    let worker = Worker::start(|_| {});
    let status = |data: &[u8]| worker.talk("http", data).get(9..12).map(str::to_owned);
    assert_eq!(status(b"GET / HTTP/1.1\r\nno colon here\r\n\r\n").as_deref(), Some("400"));
    assert_eq!(status(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "b".repeat(9000)).as_bytes()).as_deref(), Some("431"));
    assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde").as_deref(), Some("400"));
    worker.wait_log("invalid HTTP request size (max 4096)...skip");
}

#[test]
fn a_silent_client_is_closed_without_a_byte_and_the_log_says_why() {
    let worker = Worker::start(|settings| settings.request.socket_timeout = 1);
    for name in ["http", "http11"] {
        assert_eq!(worker.talk(name, b"GET / HTTP/1.1\r\nHost: x\r\n"), "");
    }
    worker.wait_log("an HTTP request head was not complete after 1 seconds (socket-timeout)");
    assert_eq!(worker.talk("http", b""), "");
    assert_eq!(worker.talk("uwsgi", &[0, 9]), "");
    assert_eq!(worker.talk("uwsgi", b""), "");
}

// -- logs

#[test]
fn log_format_and_filters() {
    let worker = Worker::start(|settings| {
        settings.log.disable = true;
        settings.log.log_5xx = true;
        settings.log.format = Some("L|%(method)|%(uri)|%(status)|%(rsize)|end".into());
    });
    worker.get("/quiet");
    worker.get("/error");
    worker.wait_log("L|GET|/error|500|21|end\n");
    assert!(!worker.log().contains("/quiet"));
}

// -- the end

#[test]
fn hup_finishes_what_runs_and_what_was_accepted() {
    let mut worker = Worker::start(|settings| settings.process.threads = 2);
    let mut idle = worker.connect("http11");
    idle.write_all(&http("/one", "")).expect("send");
    read_until(&mut idle, "/one");
    let mut running = worker.connect("uwsgi");
    running.write_all(&packet("/gate", &[])).expect("send");
    let mut half = worker.connect("uwsgi");
    let data = packet("/half", &[]);
    half.write_all(&data[..10]).expect("send");
    until("the request", || worker.has("entered"));
    // The other half is in the worker's hands once a later connection was answered.
    assert!(worker.get("/later").ends_with("ok /later"));
    worker.signal(Signal::SIGHUP);
    assert_eq!(rest(&mut idle), "", "an idle keep-alive connection is closed");
    half.write_all(&data[10..]).expect("send");
    assert!(rest(&mut half).ends_with("ok /half"));
    worker.write("open", "");
    assert!(rest(&mut running).ends_with("through"));
    assert_eq!(worker.ended(), 17);
    assert!(worker.has("torn-down"));
}

#[test]
fn term_ends_an_idle_worker_in_order_and_a_busy_one_at_once() {
    let mut idle = Worker::start(|_| {});
    idle.get("/x");
    idle.signal(Signal::SIGTERM);
    assert_eq!((idle.ended(), idle.has("torn-down")), (30, true));
    let mut busy = Worker::start(|_| {});
    let mut running = busy.connect("uwsgi");
    running.write_all(&packet("/gate", &[])).expect("send");
    until("the request", || busy.has("entered"));
    busy.signal(Signal::SIGINT);
    assert_eq!(busy.ended(), 30);
    assert_eq!(rest(&mut running), "");
}

#[test]
fn other_signals_do_not_end_it() {
    let worker = Worker::start(|_| {});
    worker.get("/x");
    for signal in [Signal::SIGUSR2, Signal::SIGTSTP, Signal::SIGPIPE, Signal::SIGWINCH, Signal::SIGUSR1] {
        worker.signal(signal);
    }
    worker.wait_log("worker 1 total requests: 1");
    worker.wait_log("worker 1 app 0 [] requests: 1 exceptions: 0");
    assert!(worker.get("/after").ends_with("ok /after"));
}

#[test]
fn limits_and_the_app_end_a_worker_after_its_request() {
    let mut worker = Worker::start(|settings| {
        settings.limits.max_requests = 3;
        settings.limits.min_worker_lifetime = 0;
    });
    for _ in 0..3 {
        assert!(worker.get("/x").ends_with("ok /x"));
    }
    assert_eq!(worker.ended(), 17);
    let mut worker = Worker::start(|_| {});
    assert!(worker.get("/exit").ends_with("bye"));
    assert_eq!(worker.ended(), 5);
}

#[test]
fn threads_serve_at_once() {
    let worker = Worker::start(|settings| settings.process.threads = 3);
    let mut waiting: Vec<_> = (0..2).map(|_| worker.connect("uwsgi")).collect();
    for stream in &mut waiting {
        stream.write_all(&packet("/gate", &[])).expect("send");
    }
    assert!(worker.get("/free").ends_with("ok /free"));
    worker.write("open", "");
    for stream in &mut waiting {
        assert!(rest(stream).ends_with("through"));
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_is_survived() {
    let worker = Worker::start(|settings| settings.log.ioerror = true);
    let mut stream = worker.connect("uwsgi");
    stream.write_all(&packet("/big", &[])).expect("send");
    stream.read_exact(&mut [0; 100]).expect("begin");
    drop(stream);
    assert!(worker.get("/after").ends_with("ok /after"));
}

#[test]
fn static_files_come_before_the_app() {
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("a.css"), "body {}").expect("file");
    let worker = Worker::start(|settings| {
        settings.statics.map =
            vec![imperator_worker::settings::Mapping::parse(&format!("/files={}", directory.path().display())).expect("sound")]
    });
    let response = worker.get("/files/a.css");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: 7\r\nLast-Modified: "), "{response}");
    assert!(response.ends_with("\r\n\r\nbody {}"));
    let modified = response.split("Last-Modified: ").nth(1).and_then(|r| r.split("\r\n").next()).expect("date");
    assert!(worker.talk("uwsgi", &packet("/files/a.css", &[("HTTP_IF_MODIFIED_SINCE", modified)])).starts_with("HTTP/1.1 304 "));
    let mut stream = worker.connect("http11");
    stream
        .write_all(&[b"HEAD /files/a.css HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), http("/files/none", "Connection: close\r\n")].concat())
        .expect("send");
    assert!(rest(&mut stream).ends_with("ok /files/none"));
    worker.wait_log(" via sendfile() (HTTP/1.1 200) 4 headers");
}

#[test]
fn a_worker_without_free_descriptors_waits_and_recovers() {
    let worker = Worker::start(|settings| settings.limits.max_fd = 40);
    let hoard: Vec<_> = (0..60).map(|_| worker.connect("uwsgi")).collect();
    worker.wait_log("no connection can be accepted for a moment");
    drop(hoard);
    assert!(worker.get("/after").ends_with("ok /after"));
    assert_eq!(worker.log().matches("no connection can be accepted").count(), 1, "said once, not in a loop");
}
