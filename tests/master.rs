//! What a master stands: storms of signals at any moment, nobody who reads its log, processes that die at once, a limit of a thousand million files.

mod support;

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HELLO, Server, binary, stats, uwsgi, wait_for};

const INI: &str = "socket = {sock}\nwsgi-file = app.py\nprocesses = 2\nstats = {dir}/stats\n";

/// An app of which the answer is its release, and which takes its time to load.
fn release(number: usize, load_seconds: f32) -> String {
    format!(
        "import time\nopen('loading', 'w').close()\ntime.sleep({load_seconds})\ndef application(env, sr):\n    sr('200 OK', [])\n    return [b'release {number}']\n"
    )
}

fn serves(server: &Server, text: &str) {
    wait_for(text, || uwsgi(&server.sock(), "/").ok().filter(|a| a.text() == text));
}

#[test]
fn five_hundred_hups_four_milliseconds_apart_end_with_the_last_release() {
    let mut server = Server::new();
    server.write("app.py", &release(1, 0.0));
    server.start_ini(INI).ready("{sock}");
    let pid = Pid::from_raw(server.pid());
    for number in 0..500 {
        if number == 400 {
            server.write("app.py", &release(2, 0.0));
        }
        kill(pid, Signal::SIGHUP).expect("it lives");
        std::thread::sleep(Duration::from_millis(4));
    }
    serves(&server, "release 2");
    assert!(server.alive() && server.pid() == pid.as_raw());
    wait_for("the old ones' end", || (server.tree().iter().filter(|(_, name)| name.starts_with("worker")).count() == 2).then_some(()));
}

#[test]
fn orders_that_come_while_the_app_loads_are_kept() {
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 0), (Signal::SIGQUIT, 0)] {
        let mut server = Server::new();
        server.write("app.py", &release(1, 600.0));
        server.start_ini(INI);
        wait_for("the import", || server.path("loading").exists().then_some(()));
        server.signal(signal);
        assert_eq!(server.wait_exit().code(), Some(code), "{signal}");
    }
    let mut server = Server::new();
    server.write("app.py", &release(1, 1.0));
    server.start_ini(INI);
    wait_for("the import", || server.path("loading").exists().then_some(()));
    server.write("app.py", &release(2, 0.0));
    server.signal(Signal::SIGHUP);
    serves(&server, "release 2");
}

#[test]
fn no_signal_kills_it_at_any_moment() {
    let harmless = [
        Signal::SIGUSR2,
        Signal::SIGUSR1,
        Signal::SIGWINCH,
        Signal::SIGURG,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGPIPE,
        Signal::SIGALRM,
    ];
    let mut server = Server::new();
    server.write("app.py", &release(1, 0.2));
    server.start_ini(INI);
    // From the first moment that it has a name of its own, through its load and some reloads.
    wait_for("the master", || (support::comm(server.pid()) == "master").then_some(()));
    let pid = Pid::from_raw(server.pid());
    for number in 0..300 {
        kill(pid, harmless[number % harmless.len()]).expect("it lives");
        if number % 50 == 49 {
            kill(pid, Signal::SIGHUP).expect("it lives");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    serves(&server, "release 1");
    assert!(server.alive());
    server.wait_log("workers total requests:");
}

/// Nobody reads its log, workers die at once, a hook hangs, and somebody asks for statistics without reading them.
#[test]
fn statistics_and_signals_are_answered_whatever_happens() {
    let server = Server::new();
    server.write("app.py", "import os\ndef application(env, sr):\n    if env['PATH_INFO'] == '/die':\n        os._exit(3)\n    sr('200 OK', [])\n    return [b'release 1']\n");
    server.write("noise.py", "import os, sys, time\nwhile True:\n    os.write(2, b'x' * 4000 + b'\\n')\n    time.sleep(0.001)\n");
    let ini = "socket = {sock}\nwsgi-file = app.py\nprocesses = 2\nstats = {dir}/stats\nstats-http = 0\nforkbomb-delay = 1\n\
               hook-post-fork = exec:test ! -e {dir}/crash\n\
               touch-exec = {dir}/touched sleep 600\nattach-daemon = python3 {dir}/noise.py\nlog-master = true\n";
    server.write("app.ini", &format!("[uwsgi]\n{ini}"));
    server.write("touched", "");
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    let probe = writer.try_clone().expect("a copy");
    let mut child = Command::new(binary())
        .args(["--ini", &server.fill("{dir}/app.ini")])
        .current_dir(server.dir.path())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().expect("a copy"))
        .stderr(writer)
        .spawn()
        .expect("the server starts");
    serves(&server, "release 1");
    // From here on the pipe fills, and nobody empties it.
    let silent: Vec<_> = (0..3).map(|_| std::os::unix::net::UnixStream::connect(server.path("stats")).expect("a client")).collect();
    fs::write(server.path("touched"), "again").expect("touch");
    fs::write(server.path("crash"), "").expect("workers die at once from now on");
    let pid = Pid::from_raw(child.id() as i32);
    for _ in 0..2 {
        let _ = uwsgi(&server.sock(), "/die");
    }
    let room = || nix::poll::poll(&mut [nix::poll::PollFd::new(probe.as_fd(), nix::poll::PollFlags::POLLOUT)], 0u8).expect("poll");
    wait_for("a full pipe", || (room() == 0).then_some(()));
    for _ in 0..20 {
        let answer = stats(&server.fill("{dir}/stats")).expect("statistics");
        assert_eq!(answer["pid"], child.id());
        kill(pid, Signal::SIGUSR1).expect("it lives");
    }
    kill(pid, Signal::SIGTSTP).expect("it lives");
    // Two that wait at the same time are one for the kernel, and a pause without end.
    wait_for("the first SIGTSTP to be taken", || (!pending(pid, Signal::SIGTSTP)).then_some(()));
    wait_for("the pause", || {
        let answer = stats(&server.fill("{dir}/stats")).ok()?;
        answer["workers"].as_array()?.iter().all(|w| w["status"] == "pause" || w["pid"] == 0).then_some(())
    });
    kill(pid, Signal::SIGTSTP).expect("it lives");
    fs::remove_file(server.path("crash")).expect("the crashes end");
    serves(&server, "release 1");
    kill(pid, Signal::SIGTERM).expect("it lives");
    wait_for("the end", || child.try_wait().expect("wait"));
    drop((silent, reader));
}

/// Whether a signal was sent to a process that has not taken it yet.
fn pending(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let masks = status.lines().filter_map(|l| l.strip_prefix("ShdPnd:").or_else(|| l.strip_prefix("SigPnd:")));
    masks.map(|mask| u64::from_str_radix(mask.trim(), 16).expect("a mask")).any(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}

/// strace has the kernel answer that a thousand million files (2^30) may be open, as container runtimes have it: few kernels allow to set that.
const FORGED: [&str; 2] = ["-e", "inject=prlimit64:poke_exit=@arg4=00000040000000000000004000000000"];

/// What a start costs: system calls, and memory of the master in KiB. `None`: strace cannot do it here.
fn cost(strace: &[&str]) -> Option<(usize, u64)> {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("app.ini", &format!("[uwsgi]\n{INI}"));
    let out = server.path("trace");
    Command::new("strace").arg("-V").output().ok()?;
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&out).args(strace).arg(binary()).args(["--ini", &server.fill("{dir}/app.ini")]);
    server.start_by(command);
    let up = wait_for("an answer, or no start", || match uwsgi(&server.sock(), "/") {
        Ok(answer) => Some(answer.status == 200),
        Err(_) => (!server.alive()).then_some(false),
    });
    if !up {
        return None;
    }
    let master = wait_for("the master", || server.tree().into_iter().find(|(_, name)| name == "master")).0;
    let status = fs::read_to_string(format!("/proc/{master}/status")).expect("its status");
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.split_whitespace().next()?.parse().ok()).expect("VmRSS");
    kill(Pid::from_raw(master), Signal::SIGINT).expect("it lives");
    server.wait_exit();
    let mut text = String::new();
    fs::File::open(&out).and_then(|mut f| f.read_to_string(&mut text)).expect("strace's table");
    let total = text.lines().find(|line| line.ends_with(" total")).expect("the sum");
    let calls = total.split_whitespace().filter_map(|word| word.parse::<usize>().ok()).next_back();
    Some((calls.map_or(0, |n| n), rss))
}

#[test]
fn a_limit_of_a_thousand_million_open_files_costs_nothing() {
    let Some((small, huge)) = cost(&[]).zip(cost(&FORGED)) else {
        eprintln!("SKIPPED: there is no strace here that can do it");
        return;
    };
    let (calls, rss) = (huge.0 as f64 / small.0 as f64, huge.1 as f64 / small.1 as f64);
    assert!((0.5..1.5).contains(&calls), "system calls: {} instead of {}", huge.0, small.0);
    assert!((0.5..1.3).contains(&rss), "KiB: {} instead of {}", huge.1, small.1);
}
