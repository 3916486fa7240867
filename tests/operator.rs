//! What an operator's commands say and do: `imperator ps|top|why|log|stats|reload|stop|start FILE`.

mod support;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::pty::Pty;
use support::{Server, running, uwsgi, wait_for};

const APP: &str = "import os, time\ndef application(env, sr):\n    while env['PATH_INFO'] == '/slow' and not os.path.exists('go'): time.sleep(0.01)\n    sr('200 OK', [])\n    return [b'hello']\n";
const INI: &str = "socket = app.sock\nwsgi-file = app.py\nprocesses = 2\n";

fn imperator(server: &Server, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imperator"));
    command.args(words).current_dir(server.dir.path()).stdin(Stdio::null()).output().expect("imperator")
}

/// Exit code, standard output, standard error.
fn said(server: &Server, words: &[&str]) -> (Option<i32>, String, String) {
    let output = imperator(server, words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What must work; its standard output.
fn good(server: &Server, words: &[&str]) -> String {
    let (code, out, error) = said(server, words);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{words:?}: {out}");
    out
}

/// What must not; its last words.
fn bad(server: &Server, words: &[&str]) -> String {
    let (code, out, error) = said(server, words);
    assert_eq!(code, Some(1), "{words:?}: {out}{error}");
    error
}

fn started(more: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("{INI}{more}"));
    server.ready("{sock}");
    server
}

#[test]
fn ps_shows_who_runs_and_what_each_does_now() {
    let server = started("stats = app.stats\n");
    let sock = server.sock();
    let slow = std::thread::spawn(move || uwsgi(&sock, "/slow?x=%1B[2J"));
    let rows = wait_for("the slow request in ps", || {
        let rows: Value = serde_json::from_str(&good(&server, &["ps", "app.ini", "--json"])).expect("json");
        rows["workers"].as_array()?.iter().any(|w| w["now"][0]["request"] == "GET /slow?x=%1B[2J").then_some(rows)
    });
    assert_eq!((&rows["pid"], &rows["generation"]), (&server.pid().into(), &1.into()));
    let table = good(&server, &["ps", "app.ini"]);
    assert!(table.starts_with(&format!("app.ini: master {}, generation 1, ", server.pid())), "{table}");
    assert!(table.contains(", 1 of 2 workers busy, ") && table.contains("  GET /slow?x=%1B[2J for "), "{table}");
    assert!(table.contains(" MiB  "), "memory is the kernel's: {table}");
    let stats: Value = serde_json::from_str(&good(&server, &["stats", "app.ini"])).expect("json");
    assert_eq!((&stats["pid"], &stats["imperator"]["generation"]), (&server.pid().into(), &1.into()));
    server.write("go", "");
    assert_eq!(slow.join().expect("no panic").expect("an answer").status, 200);
}

#[test]
fn reload_tells_what_became_of_it_and_stop_waits_for_the_end() {
    let mut server = started("stats = app.stats\nlogto = app.log\n");
    assert!(bad(&server, &["start", "app.ini"]).contains(&format!("runs already (process {})", server.pid())));
    let out = good(&server, &["reload", "app.ini"]);
    assert_eq!(out, format!("reload: SIGHUP to process {}; generation 2 serves\n", server.pid()));
    server.write("app.py", "raise ValueError('no such setting')\n");
    let (code, out, error) = said(&server, &["reload", "app.ini"]);
    assert!(code == Some(1) && error.contains("it failed, and generation 2 serves on"), "{error}");
    assert!(out.contains("ValueError: no such setting"), "the log of it: {out}");
    server.write("app.ini", &format!("[uwsgi]\n{INI}stats = app.stats\nlogto = app.log\nprocesses = many\n"));
    assert!(bad(&server, &["reload", "app.ini"]).contains("`many` is not a number"));
    let why = good(&server, &["why", "app.ini"]);
    assert!(why.contains("the last reload failed: the configuration has errors") && why.contains("  *** reload refused"), "{why}");
    let out = good(&server, &["stop", "app.ini"]);
    assert_eq!(out, format!("stop: SIGQUIT to process {}; it has ended\n", server.pid()));
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(bad(&server, &["stop", "app.ini"]).contains("does not run"));
    assert!(bad(&server, &["ps", "app.ini"]).contains("nothing answers at `stats = "));
    let why = good(&server, &["why", "app.ini"]);
    assert!(why.contains("it does not run") && why.contains("last lines:\n"), "{why}");
}

#[test]
fn why_names_the_last_death() {
    let server = started("stats = app.stats\nlogto = app.log\n");
    let worker = good(&server, &["ps", "app.ini", "--json"]);
    let worker = serde_json::from_str::<Value>(&worker).expect("json")["workers"][1]["pid"].as_i64().expect("a pid") as i32;
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("kill");
    wait_for("its death", || good(&server, &["why", "app.ini"]).contains(&format!("worker 2 (pid {worker}): signal 9")).then_some(()));
    let why: Value = serde_json::from_str(&good(&server, &["why", "app.ini", "--json"])).expect("json");
    assert!(why["events"][0].as_str().is_some_and(|line| line.starts_with("DAMN ! worker 2")), "{why}");
}

#[test]
fn the_log_is_shown_and_followed() {
    let server = started("stats = app.stats\nlogto = app.log\n");
    // The first answer may come before the master's line about it.
    wait_for("its start", || good(&server, &["log", "app.ini", "-n", "100"]).contains("generation 1 serves").then_some(()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_imperator"));
    let command = command.args(["log", "app.ini", "-f", "-n", "0"]).current_dir(server.dir.path()).stdout(Stdio::piped());
    let mut follower = command.spawn().expect("imperator");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().expect("its output")));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (sock, stopped) = (server.sock(), stop.clone());
    let asking = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            uwsgi(&sock, "/followed").expect("an answer");
        }
    });
    assert!(lines.any(|line| line.expect("a line").contains("GET /followed")));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    asking.join().expect("no panic");
    follower.kill().and_then(|()| follower.wait()).expect("its end");
}

#[test]
fn a_fifo_or_a_pidfile_will_do() {
    for (line, told) in [("master-fifo = app.fifo\n", "`q` to app.fifo"), ("pidfile = app.pid\n", "SIGQUIT to process")] {
        let mut server = started(line);
        assert!(good(&server, &["reload", "app.ini"]).contains("with a `stats =` line in app.ini this would tell"), "{line}");
        server.wait_log("generation 2 serves");
        let out = good(&server, &["stop", "app.ini"]);
        assert!(out.contains(told), "{out}");
        assert_eq!(server.wait_exit().code(), Some(0));
    }
}

#[test]
fn errors_say_what_to_do() {
    let server = Server::new();
    server.write("app.ini", &format!("[uwsgi]\n{INI}"));
    for (words, part) in [
        (&["ps", "app.ini"][..], "app.ini has no `stats =` line"),
        (&["reload", "app.ini"], "has none of `stats =`, `pidfile =` and `master-fifo =`: add one"),
        (&["log", "app.ini"], "logs to its standard error: see the journal"),
        (&["ps", "./none.ini"], "there is no file ./none.ini"),
        (&["why"], "name a vassal or the file of an instance"),
        (&["ps", "--at", "nobody.sock"], "no emperor answers at nobody.sock (--at)"),
        (&["top", "app.ini"], "needs a terminal"),
        (&["ps", "app.ini", "--colour"], "--colour: no such option"),
    ] {
        let error = bad(&server, words);
        assert!(error.starts_with(&format!("imperator: {}: ", words[0])) && error.contains(part), "{words:?}: {error}");
    }
    assert!(good(&server, &["reload", "--help"]).contains("imperator top    [NAME|FILE]"));
    assert!(good(&server, &["help"]).contains("imperator ps|top|why|log|stats|reload|stop|start [NAME|FILE]"));
}

fn top(server: &Server) -> Pty {
    Pty::start(Command::new(env!("CARGO_BIN_EXE_imperator")).args(["top", "app.ini"]).current_dir(server.dir.path()))
}

/// Where a screen of its own begins and ends.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

#[test]
fn top_shows_each_worker_until_a_key_ends_it() {
    let server = started("stats = app.stats\n");
    let mut top = top(&server);
    top.wait_for("0 of 2 workers busy");
    top.wait_for("WORKER^");
    top.press("s");
    top.wait_for("PID^");
    top.press("p");
    top.wait_for("PAUSED");
    assert!(top.raw().contains(TAKEN) && !top.raw().contains(GIVEN_BACK));
    top.press("q");
    assert_eq!(top.wait_exit().code(), Some(0));
    wait_for("the terminal as it was", || top.raw().contains(GIVEN_BACK).then_some(()));
}

#[test]
fn a_signal_ends_top_and_gives_the_terminal_back() {
    let mut server = started("stats = app.stats\n");
    let mut top = top(&server);
    top.wait_for("0 of 2 workers busy");
    let master = server.pid();
    server.signal(Signal::SIGINT);
    server.wait_exit();
    assert!(!running(master));
    top.wait_for("nothing answers at");
    kill(Pid::from_raw(top.pid()), Signal::SIGTERM).expect("kill");
    assert_eq!(top.wait_exit().code(), Some(0));
    wait_for("the terminal as it was", || top.raw().contains(GIVEN_BACK).then_some(()));
}

#[test]
fn top_ends_with_its_terminal() {
    let server = started("stats = app.stats\n");
    let mut top = top(&server);
    top.wait_for("0 of 2 workers busy");
    top.hang_up();
    top.wait_exit();
}
