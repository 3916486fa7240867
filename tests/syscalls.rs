//! How many system calls a request costs a worker, counted by strace. (Without strace, or where it may not attach, these tests say so and pass.)

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Server, Stream, connect, http, packet, uwsgi, wait_for};

/// Requests that are counted.
const N: usize = 100;
/// Calls that may come beside those of the requests: the first wait, a timer that is set once.
const SLACK: usize = 5;

const APP: &str = "import os, time
def application(env, start_response):
    if env['PATH_INFO'] == '/hold':
        open('held', 'w').close()
        while not os.path.exists('go'):
            time.sleep(0.01)
    if env['PATH_INFO'] == '/echo':
        body = env['wsgi.input'].read()
        start_response('200 OK', [('Content-Length', str(len(body)))])
        return [body]
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '5')])
    return [b'hello']
";

struct Trace {
    strace: Child,
    /// It ends if nobody reads what it says of new threads.
    _stderr: BufReader<ChildStderr>,
    out: PathBuf,
}

impl Trace {
    /// Traces worker 1. `None` where that is not possible.
    fn attach(server: &Server) -> Option<Self> {
        let worker = wait_for("a worker", || server.tree().into_iter().find(|(_, comm)| comm == "worker 1"));
        let out = server.path("trace");
        let strace = Command::new("strace").args(["-f", "-p", &worker.0.to_string(), "-o"]).arg(&out).stderr(Stdio::piped()).spawn();
        let Ok(mut strace) = strace else {
            eprintln!("SKIPPED: there is no strace here");
            return None;
        };
        let mut said = String::new();
        let mut stderr = BufReader::new(strace.stderr.take().expect("a pipe"));
        let _ = stderr.read_line(&mut said);
        if said.contains("attached") {
            return Some(Self { strace, _stderr: stderr, out });
        }
        let _ = strace.wait();
        eprintln!("SKIPPED: strace cannot attach to a worker: {said}");
        None
    }

    /// How often each system call was made.
    fn end(self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for (name, _) in self.calls() {
            *calls.entry(name).or_insert(0) += 1;
        }
        calls
    }

    /// The name and the text of each system call, in order.
    fn calls(mut self) -> Vec<(String, String)> {
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).expect("a pid"));
        kill(pid, Signal::SIGINT).expect("strace ends");
        self.strace.wait().expect("strace ends");
        let named = |line: &str| {
            let name = line.split('(').next().and_then(|before| before.split_whitespace().last()).unwrap_or_default();
            (line.contains('(') && !line.contains(" resumed>") && !name.is_empty()).then(|| (name.to_owned(), line.to_owned()))
        };
        std::fs::read_to_string(&self.out).expect("the trace").lines().filter_map(named).collect()
    }
}

fn server(ini: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("wsgi-file = app.py\nmaster = true\n{ini}"));
    server
}

fn count(calls: &BTreeMap<String, usize>, name: &str) -> usize {
    calls.get(name).copied().unwrap_or(0)
}

/// Nothing but these calls, of each no more than that many.
fn within(calls: &BTreeMap<String, usize>, budget: &[(&str, usize)]) {
    // A debug build asks whether a descriptor is open before it closes it.
    let ours = calls.iter().filter(|(name, _)| !(cfg!(debug_assertions) && *name == "fcntl"));
    for (name, made) in ours {
        let allowed = budget.iter().find(|(other, _)| other == name).map_or(SLACK, |(_, n)| n + SLACK);
        assert!(*made <= allowed, "{made} calls of {name}, {allowed} are the budget of {N} requests: {calls:?}");
    }
    assert!(count(calls, "recvfrom") >= N, "the trace misses requests: {calls:?}");
}

#[test]
fn a_packet_costs_accept_receive_send_and_close() {
    let mut server = server("socket = {sock}\ndisable-logging = true\n");
    server.ready("{sock}");
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
    let Some(trace) = Trace::attach(&server) else { return };
    for _ in 0..N {
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
    }
    // One after the other: the worker waits before each, and looks for another one after it.
    within(&trace.end(), &[("epoll_wait", N), ("accept4", 2 * N), ("recvfrom", N), ("sendto", N), ("close", N)]);
}

#[test]
fn connections_that_queue_cost_no_wait() {
    let mut server = server("socket = {sock}\ndisable-logging = true\nlisten = 128\n");
    server.ready("{sock}");
    let mut held = connect(&server.sock()).expect("a connection");
    held.write_all(&packet("/hold", &[])).expect("a request");
    wait_for("the app to hold the worker", || server.path("held").exists().then_some(()));
    let Some(trace) = Trace::attach(&server) else { return };
    let mut clients: Vec<Box<dyn Stream>> = (0..N).map(|_| connect(&server.sock()).expect("a connection")).collect();
    for client in &mut clients {
        client.write_all(&packet("/", &[])).expect("a request");
    }
    std::fs::write(server.path("go"), "").expect("a file");
    for client in &mut clients {
        let mut answer = vec![];
        client.read_to_end(&mut answer).expect("an answer");
        assert!(answer.ends_with(b"hello"));
    }
    let calls = trace.end();
    for (name, budget) in [("epoll_wait", N / 10), ("accept4", N), ("recvfrom", N), ("sendto", N), ("close", N)] {
        assert!(count(&calls, name) <= budget + SLACK, "{name}: {calls:?}");
    }
    assert!(count(&calls, "accept4") >= N, "the trace misses requests: {calls:?}");
}

/// Asks on a connection that is kept, and reads the whole answer.
fn kept_answer(client: &mut dyn Stream) {
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    read_answer(client);
}

fn read_answer(client: &mut dyn Stream) {
    let (mut answer, mut part) = (vec![], [0; 1024]);
    while !answer.ends_with(b"hello") {
        let got = client.read(&mut part).expect("an answer");
        assert!(got > 0, "closed after {answer:?}");
        answer.extend_from_slice(&part[..got]);
    }
}

#[test]
fn kept_connections_that_are_ready_together_share_a_wait() {
    const CLIENTS: usize = 64;
    let server = server("http11-socket = 127.0.0.1:{port}\ndisable-logging = true\nlisten = 128\n");
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || http(&address, "/").ok().filter(|answer| answer.status == 200));
    let mut clients: Vec<Box<dyn Stream>> = (0..CLIENTS).map(|_| connect(&address).expect("a connection")).collect();
    clients.iter_mut().for_each(|client| kept_answer(&mut **client));
    let mut held = connect(&address).expect("a connection");
    held.write_all(b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    wait_for("the app to hold the worker", || server.path("held").exists().then_some(()));
    let Some(trace) = Trace::attach(&server) else { return };
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    }
    std::fs::write(server.path("go"), "").expect("a file");
    clients.iter_mut().for_each(|client| read_answer(&mut **client));
    let calls = trace.end();
    assert!(count(&calls, "recvfrom") >= CLIENTS, "the trace misses requests: {calls:?}");
    for (name, budget) in [("epoll_wait", CLIENTS / 8), ("recvfrom", CLIENTS), ("sendto", CLIENTS + 1), ("epoll_ctl", 0)] {
        assert!(count(&calls, name) <= budget + SLACK, "{name}: {calls:?}");
    }
}

#[test]
fn a_kept_connection_costs_receive_and_send_and_a_wait() {
    let server = server("http11-socket = 127.0.0.1:{port}\ndisable-logging = true\n");
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || http(&address, "/").ok().filter(|answer| answer.status == 200));
    let mut client = connect(&address).expect("a connection");
    let mut ask = || kept_answer(&mut *client);
    ask();
    let Some(trace) = Trace::attach(&server) else { return };
    (0..N).for_each(|_| ask());
    within(&trace.end(), &[("epoll_wait", N), ("recvfrom", N), ("sendto", N)]);
}

#[test]
fn a_line_of_the_log_costs_one_write() {
    let mut server = server("socket = {sock}\nlogto = {dir}/log\n");
    server.ready("{sock}");
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
    let Some(trace) = Trace::attach(&server) else { return };
    for _ in 0..N {
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
    }
    let calls = trace.end();
    // The line of the last request may come after its answer.
    assert!(count(&calls, "write") + 1 >= N, "the trace misses lines: {calls:?}");
    within(&calls, &[("epoll_wait", N), ("accept4", 2 * N), ("recvfrom", N), ("sendto", N), ("close", N), ("write", N)]);
}

/// The last bytes of a response and the end of its connection leave as one packet, and the client does not wait for the log.
#[test]
fn a_tcp_connection_ends_with_its_last_bytes_and_before_the_log() {
    let server = server("socket = 127.0.0.1:{port}\nlogto = {dir}/log\n");
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || uwsgi(&address, "/").ok().filter(|answer| answer.status == 200));
    let Some(trace) = Trace::attach(&server) else { return };
    for _ in 0..N {
        assert_eq!(uwsgi(&address, "/").expect("an answer").status, 200);
    }
    let calls = trace.calls();
    let wanted = |name: &str| matches!(name, "sendto" | "close" | "write");
    let order: Vec<_> = calls.iter().filter(|(name, _)| wanted(name)).skip_while(|(name, _)| name != "sendto").collect();
    assert!(order.len() + 1 >= 3 * N, "the trace misses requests: {calls:?}");
    for (at, (name, text)) in order.into_iter().enumerate() {
        assert_eq!(name, ["sendto", "close", "write"][at % 3], "call {at}: {text}");
        assert!(name != "sendto" || text.contains("MSG_MORE"), "{text}");
    }
}

#[test]
fn a_large_body_takes_no_memory_anew_whether_it_is_kept_or_read_in_place() {
    large_bodies("");
    large_bodies("post-ahead = 0\n");
}

fn large_bodies(more: &str) {
    const UPLOADS: usize = 20;
    let mut server = server(&format!("socket = {{sock}}\ndisable-logging = true\n{more}"));
    server.ready("{sock}");
    let body: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    let upload = || {
        let mut client = connect(&server.sock()).expect("a connection");
        client.write_all(&packet("/echo", &[("CONTENT_LENGTH", &body.len().to_string())])).expect("a request");
        client.write_all(&body).expect("a body");
        let mut answer = vec![];
        client.read_to_end(&mut answer).expect("an answer");
        assert!(answer.ends_with(&body), "{} bytes came back", answer.len());
    };
    // The C library learns what sizes are wanted again and again.
    (0..3).for_each(|_| upload());
    let Some(trace) = Trace::attach(&server) else { return };
    (0..UPLOADS).for_each(|_| upload());
    let calls = trace.end();
    assert!(count(&calls, "recvfrom") > UPLOADS, "the trace misses requests: {calls:?}");
    for name in ["brk", "mmap", "munmap", "madvise"] {
        assert!(count(&calls, name) <= SLACK, "{name}: {calls:?}");
    }
}

#[test]
fn a_file_asked_for_often_costs_one_stat_and_one_send() {
    let server = server("http11-socket = 127.0.0.1:{port}\ndisable-logging = true\nstatic-map = /s={dir}/files\n");
    server.write("files/a.css", &"x".repeat(4096));
    let address = server.fill("127.0.0.1:{port}");
    wait_for("an answer", || http(&address, "/").ok().filter(|answer| answer.status == 200));
    let mut client = connect(&address).expect("a connection");
    let mut ask = || {
        client.write_all(b"GET /s/a.css HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        let (mut answer, mut part) = (vec![], [0; 8192]);
        while !answer.ends_with(&[b'x'; 4096]) {
            let got = client.read(&mut part).expect("an answer");
            assert!(got > 0, "closed after {} bytes", answer.len());
            answer.extend_from_slice(&part[..got]);
        }
    };
    // A file that has just been written is not kept in memory.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    ask();
    let Some(trace) = Trace::attach(&server) else { return };
    (0..N).for_each(|_| ask());
    let calls = trace.end();
    within(&calls, &[("epoll_wait", N), ("recvfrom", N), ("newfstatat", N), ("stat", N), ("statx", N), ("sendmsg", N)]);
    assert!(count(&calls, "sendmsg") >= N, "from memory: {calls:?}");
}
