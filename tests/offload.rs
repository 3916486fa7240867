//! Slow peers cost descriptors, not workers.

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Nginx, Server, Stream, connect, http, packet, running, stats, uwsgi, wait_for};

const MIB: usize = 1 << 20;

const APP: &str = "import os, time
HERE = os.path.dirname(os.path.abspath(__file__))
def pieces(count):
    for n in range(count):
        yield (b'%07d,' % n) * 8192
def application(env, sr):
    path = env['PATH_INFO']
    if path == '/wrapper':
        sr('200 OK', [('Content-Length', str(300 << 20))])
        return env['wsgi.file_wrapper'](open(HERE + '/pub/big.bin', 'rb'))
    if path == '/sendfile':
        import uwsgi
        sr('200 OK', [])
        return uwsgi.sendfile(HERE + '/pub/big.bin')
    if path == '/list':
        sr('200 OK', [('Content-Length', str(8 << 20))])
        return [b'x' * (4 << 20), b'y' * (4 << 20)]
    if path == '/named':
        sr('200 OK', [('Content-Type', 'text/none'), ('Content-Length', '3'), ('X-Sendfile', HERE + '/pub/' + env['QUERY_STRING'])])
        return [b'app']
    if path == '/pieces':
        sr('200 OK', [])
        return pieces(200)
    if path == '/write':
        write = sr('200 OK', [])
        for piece in pieces(100):
            write(piece)
        return pieces(100)
    sr('200 OK', [])
    return [b'%d' % os.getpid()]
";

/// One worker with a sparse file of 300 MiB, on all kinds of sockets.
fn started(more: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    fs::create_dir_all(server.path("pub")).expect("mkdir");
    File::create(server.path("pub/big.bin")).and_then(|file| file.set_len(300 << 20)).expect("a sparse file");
    server.start_ini(&format!(
        "socket = {{sock}}\nchmod-socket = 666\nhttp-socket = 127.0.0.1:{{port}}\nhttp11-socket = 127.0.0.1:{{port2}}\nstats = {{dir}}/stats\n\
         wsgi-file = app.py\nstatic-map = /s={{dir}}/pub\n{more}"
    ));
    server.ready("{sock}");
    server
}

fn worker(server: &Server) -> i32 {
    wait_for("a worker", || server.tree().into_iter().find(|(_, name)| name == "worker 1")).0
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A request whose response is begun and not read on.
fn begun(address: &str, request: &[u8]) -> Box<dyn Stream> {
    let mut stream = connect(address).expect("connect");
    stream.write_all(request).expect("write");
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("the beginning of a response");
    assert!(start.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&start));
    stream
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// The rest of a response, read with pauses; without its head.
fn read_slowly(mut stream: impl Read, pause: Duration) -> io::Result<Vec<u8>> {
    let (mut got, mut part) = (vec![], vec![0; 256 * 1024]);
    loop {
        match stream.read(&mut part)? {
            0 => break,
            n => got.extend_from_slice(&part[..n]),
        }
        std::thread::sleep(pause);
    }
    let head = got.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    Ok(got.split_off(head + 4))
}

fn pieces() -> Vec<u8> {
    (0..200).flat_map(|n| format!("{n:07},").into_bytes().repeat(8192)).collect()
}

#[test]
fn readers_that_never_read_leave_the_only_worker_answering_and_free_everything_when_they_go() {
    let server = started("");
    let (sock, plain, kept) = (server.sock(), server.fill("127.0.0.1:{port}"), server.fill("127.0.0.1:{port2}"));
    let pid = worker(&server);
    // The engine's own descriptors come with its first transfer, and stay.
    let first = begun(&plain, &get("/s/big.bin"));
    server.wait_log("via offload()");
    let with_first = descriptors(pid);
    drop(first);
    let engine = wait_for("the first transfer's end", || Some(descriptors(pid)).filter(|count| count + 2 <= with_first));
    let mut slow = vec![];
    for path in ["/s/big.bin", "/wrapper", "/sendfile", "/list", "/pieces", "/write"] {
        for _ in 0..3 {
            slow.push(begun(&sock, &packet(path, &[])));
            slow.push(begun(&plain, &get(path)));
            slow.push(begun(&kept, &get(path)));
        }
    }
    for address in [&plain, &kept] {
        assert_eq!(http(address, "/").expect("an answer").text(), pid.to_string());
    }
    assert_eq!(uwsgi(&sock, "/").expect("an answer").text(), pid.to_string());
    let said = stats(&server.fill("{dir}/stats")).expect("statistics");
    let core = &said["workers"][0]["cores"][0];
    assert_eq!((core["offloaded_requests"].as_u64(), core["in_request"].as_u64()), (Some(55), Some(0)), "{core}");
    assert!(descriptors(pid) > slow.len());
    assert!(!server.log().contains("TypeError"), "{}", server.log());
    drop(slow);
    wait_for("all descriptors back", || (descriptors(pid) <= engine).then_some(()));
    assert_eq!(worker(&server), pid);
}

#[test]
fn downloads_are_shared_out_over_the_workers() {
    const EACH: u64 = 10;
    let server = started("processes = 2\n");
    wait_for("both workers", || (server.log().matches("spawned uWSGI worker").count() == 2).then_some(()));
    let mut open = vec![];
    let mut requests = [0; 2];
    for begun_before in 0..2 * EACH {
        open.push(begun(&server.sock(), &packet("/s/big.bin", &[])));
        requests = wait_for("its engine", || {
            let all = stats(&server.fill("{dir}/stats")).ok()?;
            let of = |worker: usize| all["workers"][worker]["cores"][0]["offloaded_requests"].as_u64().unwrap_or(0);
            (of(0) + of(1) > begun_before).then(|| [of(0), of(1)])
        });
    }
    assert!(requests.iter().all(|&requests| requests >= EACH / 2), "by worker: {requests:?}");
}

#[test]
fn readers_behind_nginx_that_never_read_leave_the_only_worker_answering() {
    let server = started("");
    let nginx = Nginx::start(&server.fill("uwsgi_buffering off; location / { uwsgi_pass unix:{sock}; }"));
    let slow: Vec<_> = ["/s/big.bin", "/wrapper", "/list"].iter().map(|path| begun(&nginx.address(), &get(path))).collect();
    let answer = http(&nginx.address(), "/").expect("an answer").text();
    assert!(answer.contains(&worker(&server).to_string()), "{answer}");
    drop(slow);
}

#[test]
fn every_kind_of_body_arrives_whole_and_in_order_at_a_slow_peer() {
    let server = started("");
    let plain = server.fill("127.0.0.1:{port}");
    for path in ["/pieces", "/write"] {
        let body = read_slowly(begun(&plain, &get(path)), Duration::from_millis(5)).expect("a whole body");
        assert!(body.len() == pieces().len() || path == "/write", "{path}: {} bytes", body.len());
        let half = pieces()[..100 * 65536].to_vec();
        assert!(body == if path == "/write" { half.repeat(2) } else { pieces() }, "{path}");
        let body = read_slowly(begun(&server.sock(), &packet(path, &[])), Duration::from_millis(5)).expect("a whole body");
        assert!(body == if path == "/write" { half.repeat(2) } else { pieces() }, "{path} over the uwsgi protocol");
    }
    let body = read_slowly(begun(&plain, &get("/list")), Duration::from_millis(5)).expect("a whole body");
    assert!(body.len() == 8 * MIB && body[..4 * MIB].iter().all(|b| *b == b'x') && body[4 * MIB..].iter().all(|b| *b == b'y'));
}

#[test]
fn the_connection_serves_on_after_a_transfer() {
    let server = started("");
    let mut content: Vec<u8> = (0..9 * MIB).map(|n| (n % 251) as u8).collect();
    fs::write(server.path("pub/middle.bin"), &content).expect("write");
    let mut stream = connect(&server.fill("127.0.0.1:{port2}")).expect("connect");
    // All of it is sent before anything is read.
    stream
        .write_all(&[get("/s/middle.bin"), get("/list"), b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec()].concat())
        .expect("write");
    std::thread::sleep(Duration::from_millis(200));
    let got = read_slowly(stream, Duration::from_millis(2)).expect("three responses");
    content.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    assert!(got.starts_with(&content), "the first is not whole");
    let pid = worker(&server).to_string();
    assert!(got.ends_with(pid.as_bytes()), "{}", String::from_utf8_lossy(&got[got.len() - 100..]));
    assert_eq!(got.iter().filter(|b| **b == b'x').count() - content.iter().filter(|b| **b == b'x').count(), 4 * MIB);
}

#[test]
fn a_range_beyond_4_gib_is_sent_exactly() {
    let server = started("honour-range = true\n");
    let big = File::create(server.path("pub/huge.bin")).expect("a file");
    let start = 5u64 << 30;
    let marks: Vec<u8> = (0..6 * MIB).map(|n| (n / 7 % 256) as u8).collect();
    big.write_all_at(&marks, start).expect("write");
    big.set_len(start + (20 << 20)).expect("sparse");
    let (first, last) = (start + 1000, start + 5 * MIB as u64);
    let request = format!("GET /s/huge.bin HTTP/1.1\r\nHost: x\r\nRange: bytes={first}-{last}\r\n\r\n");
    let mut stream = connect(&server.fill("127.0.0.1:{port}")).expect("connect");
    stream.write_all(request.as_bytes()).expect("write");
    std::thread::sleep(Duration::from_millis(200));
    let got = read_slowly(stream, Duration::from_millis(5)).expect("a part");
    assert!(got == marks[1000..=5 * MIB], "{} bytes", got.len());
}

#[test]
fn a_file_that_becomes_shorter_ends_its_transfer() {
    let server = started("");
    let stream = begun(&server.fill("127.0.0.1:{port}"), &get("/s/big.bin"));
    File::options().write(true).open(server.path("pub/big.bin")).and_then(|file| file.set_len(MIB as u64)).expect("truncate");
    let got = read_slowly(stream, Duration::ZERO).map_or(0, |body| body.len());
    assert!(got < 300 << 20, "{got}");
    assert_eq!(http(&server.fill("127.0.0.1:{port}"), "/").expect("an answer").status, 200);
}

#[test]
fn a_peer_that_reads_nothing_for_too_long_is_cut() {
    let server = started("offload-timeout = 1\n");
    let pid = worker(&server);
    let before = descriptors(pid);
    let stream = begun(&server.fill("127.0.0.1:{port}"), &get("/s/big.bin"));
    wait_for("the transfer", || (descriptors(pid) > before + 2).then_some(()));
    // The engine's own stay.
    let with_engine = descriptors(pid);
    wait_for("its end", || (descriptors(pid) + 2 <= with_engine).then_some(()));
    assert!(read_slowly(stream, Duration::ZERO).map_or(0, |body| body.len()) < 300 << 20);
}

#[test]
fn a_download_survives_a_reload_and_its_worker_ends_after_it() {
    let server = started("harakiri = 1\n");
    let content: Vec<u8> = (0..50 * MIB).map(|n| (n / 3 % 256) as u8).collect();
    fs::write(server.path("pub/fifty.bin"), &content).expect("write");
    let old = worker(&server);
    let stream = begun(&server.fill("127.0.0.1:{port}"), &get("/s/fifty.bin"));
    server.signal(Signal::SIGHUP);
    let sock = server.sock();
    let new = wait_for("the next generation", || uwsgi(&sock, "/").ok().filter(|a| a.status == 200 && a.text() != old.to_string()));
    assert!(running(old), "it has a transfer to end");
    // About three seconds: harakiri would have struck.
    let body = read_slowly(stream, Duration::from_millis(15)).expect("the whole file");
    assert!(body == content, "{} bytes", body.len());
    wait_for("the old worker's end", || (!running(old)).then_some(()));
    assert_eq!(uwsgi(&sock, "/").expect("an answer").text(), new.text());
}

#[test]
fn a_worker_that_is_killed_takes_only_its_transfers_along() {
    let server = started("");
    let old = worker(&server);
    let stream = begun(&server.fill("127.0.0.1:{port}"), &get("/s/big.bin"));
    kill(Pid::from_raw(old), Signal::SIGKILL).expect("kill");
    assert!(read_slowly(stream, Duration::ZERO).map_or(0, |body| body.len()) < 300 << 20);
    wait_for("another worker", || uwsgi(&server.sock(), "/").ok().filter(|a| a.status == 200 && a.text() != old.to_string()));
}

#[test]
fn a_worker_that_has_served_enough_goes_on_while_it_sends() {
    let server = started("max-requests = 3\nmin-worker-lifetime = 0\n");
    let old = worker(&server);
    let stream = begun(&server.fill("127.0.0.1:{port}"), &get("/s/big.bin"));
    for _ in 0..5 {
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), old.to_string());
    }
    assert_eq!(read_slowly(stream, Duration::ZERO).expect("the whole file").len(), 300 << 20);
    wait_for("its successor", || uwsgi(&server.sock(), "/").ok().filter(|a| a.status == 200 && a.text() != old.to_string()));
}

#[test]
fn without_the_engine_and_without_sendfile_bodies_are_the_same() {
    for more in ["offload-threads = 0\n", "disable-sendfile = true\n", "offload-threads = 2\n"] {
        let server = started(more);
        let content: Vec<u8> = (0..5 * MIB).map(|n| (n / 5 % 256) as u8).collect();
        fs::write(server.path("pub/five.bin"), &content).expect("write");
        let body =
            read_slowly(begun(&server.fill("127.0.0.1:{port}"), &get("/s/five.bin")), Duration::from_millis(5)).expect("the whole file");
        assert!(body == content, "{more}: {} bytes", body.len());
        let via = if more.starts_with("offload-threads = 0") { "via sendfile()" } else { "via offload()" };
        server.wait_log(&format!("GET /s/five.bin => generated {} bytes in ", content.len()));
        assert!(server.log().contains(via), "{}", server.log());
    }
}

#[test]
fn an_app_names_the_file_that_is_sent_instead_of_its_body() {
    let server = started("collect-header = X-Sendfile FILE\nresponse-route-if-not = empty:${FILE} static:${FILE}\n");
    fs::write(server.path("pub/a.css"), "the file").expect("write");
    let kept = server.fill("127.0.0.1:{port2}");
    let answer = http(&kept, "/named?a.css").expect("an answer");
    assert_eq!(
        (answer.text().as_str(), answer.header("Content-Length"), answer.header("Content-Type")),
        ("the file", Some("8"), Some("text/css"))
    );
    assert_eq!(answer.header("X-Sendfile"), None);
    assert_eq!(http(&kept, "/named?none").expect("an answer").status, 404);
    assert_eq!(http(&kept, "/").expect("an answer").status, 200);
    drop(begun(&kept, &get("/named?big.bin")));
}
