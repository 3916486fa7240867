//! An idle instance makes no system call: nothing wakes up that was not asked to. (Without strace, or where it may not attach, the tests say so and pass.)

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HELLO, Server, http, stats, uwsgi, wait_for};

/// How long nothing may happen. Longer than any of the periods below.
const WATCHED: Duration = Duration::from_secs(3);

/// All system calls of the instance's processes in that time; `None` where they cannot be seen.
fn calls(server: &Server) -> Option<Vec<String>> {
    // Not where the instance watches files.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let out = elsewhere.path().join("trace");
    let pids: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).chain([server.pid()]).collect();
    let mut strace = Command::new("strace");
    for pid in &pids {
        strace.args(["-p", &pid.to_string()]);
    }
    let Ok(mut strace) = strace.args(["-f", "-o"]).arg(&out).stderr(Stdio::piped()).spawn() else {
        eprintln!("SKIPPED: there is no strace here");
        return None;
    };
    let mut said = BufReader::new(strace.stderr.take().expect("a pipe")).lines();
    for _ in &pids {
        let line = said.next().and_then(Result::ok).unwrap_or_default();
        if !line.contains("attached") {
            eprintln!("SKIPPED: strace cannot attach: {line}");
            let _ = strace.kill();
            let _ = strace.wait();
            return None;
        }
    }
    std::thread::sleep(WATCHED);
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGINT).expect("strace ends");
    strace.wait().expect("strace ends");
    let trace = std::fs::read_to_string(&out).expect("the trace");
    // What a process hung in when strace came shows as an end of a call, or as one that was cut off when strace left.
    let call = |line: &&str| !line.contains("<unfinished ...>") && !line.contains("<detached ...>") && !line.contains("resumed>");
    let waits = |line: &str| line.contains("restart_syscall(") || line.contains(" = ? ");
    Some(trace.lines().filter(call).filter(|line| !waits(line)).map(ToOwned::to_owned).collect())
}

fn quiet(ini: &str) {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("reload", "");
    server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\nstats = {{dir}}/stats\n{ini}")).ready("{sock}");
    // What a start and a first request leave to be done is done.
    wait_for("idle workers", || {
        let workers = stats(&server.fill("{dir}/stats")).ok()?["workers"].as_array().cloned()?;
        workers.iter().all(|w| w["status"] != "busy").then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let Some(calls) = calls(&server) else { return };
    assert!(calls.is_empty(), "{ini}{} calls: {:#?}", calls.len(), &calls[..calls.len().min(10)]);
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
}

#[test]
fn an_idle_instance_sleeps() {
    quiet("processes = 2\nthreads = 2\n");
}

#[test]
fn time_limits_and_touched_files_wake_nobody() {
    quiet(
        "processes = 2\nharakiri = 1\ntouch-reload = {dir}/reload\nfs-reload = {dir}/app.py\nmaster-fifo = {dir}/fifo\nmax-requests = 100\n",
    );
}

#[test]
fn a_time_limit_by_signal_wakes_nobody() {
    quiet("threads = 2\nharakiri = 1\nharakiri-graceful-timeout = 1\n");
}

#[test]
fn cheaper_at_its_least_wakes_nobody() {
    quiet("processes = 3\ncheaper = 1\ncheaper-overload = 1\nharakiri = 1\n");
}

#[test]
fn a_dashboard_that_nobody_looks_at_any_more_wakes_nobody() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("v/a.ini", "[uwsgi]\nsocket = {sock}\nwsgi-file = {dir}/app.py\n");
    server.start(&["--emperor", "{dir}/v", "--emperor-dashboard", "127.0.0.1:{port}"]).ready("{sock}");
    let address = server.fill("127.0.0.1:{port}");
    for path in ["/", "/estate.json", "/vassal/a.ini.json"] {
        assert_eq!(http(&address, path).expect("an answer").status, 200);
    }
    std::thread::sleep(Duration::from_secs(3));
    let Some(calls) = calls(&server) else { return };
    assert!(calls.is_empty(), "{} calls: {:#?}", calls.len(), &calls[..calls.len().min(10)]);
}

#[test]
fn who_sleeps_is_there_when_it_counts() {
    let mut server = Server::new();
    let app = "import time\ndef application(env, sr):\n    if env['PATH_INFO'] == '/spin':\n        while True:\n            pass\n    if env['PATH_INFO'] == '/long':\n        time.sleep(5)\n    sr('200 OK', [])\n    return [b'']\n";
    server.write("app.py", app);
    let ini = "socket = {sock}\nwsgi-file = app.py\nprocesses = 3\ncheaper = 1\ncheaper-overload = 1\nharakiri = 8\nstats = {dir}/stats\n";
    server.start_ini(ini).ready("{sock}");
    // Long enough that everybody sleeps.
    std::thread::sleep(Duration::from_secs(2));
    let long = {
        let sock = server.sock();
        std::thread::spawn(move || uwsgi(&sock, "/long").map(|a| a.status))
    };
    wait_for("one more worker", || {
        let workers = stats(&server.fill("{dir}/stats")).ok()?["workers"].as_array().cloned()?;
        (workers.iter().filter(|w| w["status"] != "cheap").count() > 1).then_some(())
    });
    assert_eq!(long.join().expect("the client").expect("an answer"), 200);
    assert_eq!(uwsgi(&server.sock(), "/spin").expect("an answer").status, 504);
}
