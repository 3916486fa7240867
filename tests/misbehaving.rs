//! Vassals that misbehave beside one that serves: it goes on answering, `imperator ps` and `why` tell what is the matter with the other, and at the end of
//! the estate no process is left.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::estate::{answer, emperor, look, said, vassal, wait_state};
use support::{Server, running, uwsgi, wait_for};

const APP: &str = "\ndef application(env, sr):\n    sr('200 OK', [])\n    return [b'x']\n";

/// An emperor with a good vassal, and `bad.ini` whose app is this.
fn beside(code: &str, ini: &str, options: &[&str]) -> Server {
    let server = emperor(&["good"], options);
    server.write("bad.py", &format!("{code}{APP}"));
    server.write("v/bad.ini", &vassal("bad", ini).replace("app.py", "bad.py"));
    wait_for("the bad one is known", || look(&server, "bad"));
    server
}

/// What `why` tells in the end: all of these.
fn wait_why(server: &Server, parts: &[&str]) -> String {
    wait_for(&format!("{parts:?}"), || Some(said(server, &["why", "bad"])).filter(|text| parts.iter().all(|part| text.contains(part))))
}

fn why(server: &Server) -> Value {
    serde_json::from_str(&said(server, &["why", "bad", "--json"])).expect("JSON")
}

/// The good one serves, and when the estate ends nothing of it is left.
fn ends_well(mut server: Server) {
    assert!(answer(&server, "good").is_some(), "the neighbour");
    let below = server.tree();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    wait_for("no orphan", || below.iter().all(|(pid, _)| !running(*pid)).then_some(()));
}

#[test]
fn a_crash_loop_at_import_is_throttled_and_explained() {
    let server = beside("import os\nos._exit(3)", "", &["--emperor-throttle", "30000"]);
    wait_for("the long pause", || look(&server, "bad").filter(|r| r["state"] == "throttled" && r["restarts"].as_u64() >= Some(1)));
    let text = wait_why(&server, &["its app ends the interpreter while it is loaded", "ended with exit code 3", "os._exit", "next try"]);
    assert!(!text.contains("imperator check"), "its configuration is good: {text}");
    ends_well(server);
}

#[test]
fn a_crash_loop_of_workers_is_no_slow_start() {
    let server = beside("import os\nos._exit(3)", "lazy-apps = true\n", &[]);
    let text = wait_why(&server, &["its workers die before they accept a request", "died (exit code 3)", "DAMN ! worker 1"]);
    assert!(!text.contains("hangs at import"), "{text}");
    assert_eq!(why(&server)["state"], "starting");
    ends_well(server);
}

#[test]
fn a_flood_of_lines_is_named_and_waits() {
    let code = "import sys, threading\ndef flood():\n    while True: sys.stderr.write('x' * 90 + '\\n')\n\
                threading.Thread(target=flood, daemon=True).start()\n";
    let server = beside(code, "lazy-apps = true\nenable-threads = true\n", &["--vassal-log-limit", "50"]);
    wait_why(&server, &["it says more than 50 KiB a second", "vassal-log-limit"]);
    assert_eq!(wait_state(&server, "bad", "running")["restarts"], 0);
    ends_well(server);
}

#[test]
fn one_that_hangs_at_import_is_starting_and_why_names_the_process() {
    let server = beside("import time\ntime.sleep(1e6)", "", &[]);
    wait_why(&server, &["hangs at import", "py-spy dump --pid", "imperator stop bad.ini"]);
    assert_eq!(wait_state(&server, "bad", "starting")["restarts"], 0);
    let advice = why(&server)["advice"][0].as_str().expect("advice").to_owned();
    let pid = advice.split("--pid ").nth(1).and_then(|rest| rest.split('`').next()?.parse().ok());
    assert!(server.tree().iter().any(|(p, name)| Some(*p) == pid && name == "zygote"), "{advice}: {:?}", server.tree());
    ends_well(server);
}

/// Its own word at the end is nothing: a program in a vassal's place.
#[test]
fn one_that_ignores_every_word_to_end_is_killed_and_why_says_so_before_and_after() {
    let server = emperor(&["good"], &["--emperor-curse-tolerance", "4", "--reload-mercy", "2"]);
    let deaf = server.write("deaf", "#!/bin/sh\ntrap '' TERM INT\nwhile :; do sleep 1; done\n");
    fs::set_permissions(&deaf, fs::Permissions::from_mode(0o755)).expect("executable");
    server.write("v/bad.ini", "[emperor]\nwrapper = {dir}/deaf\n[uwsgi]\nsocket = {dir}/bad.sock\n");
    let pid = wait_for("its process", || look(&server, "bad")?["pid"].as_i64()) as i32;
    // Deaf only from its first line on.
    wait_for("its sleep", || support::tree(pid).iter().any(|(_, name)| name == "sleep").then_some(()));
    let command = ["stop", "bad", "--at", &server.fill("{dir}/command")].map(str::to_owned);
    let mut stop = Command::new(env!("CARGO_BIN_EXE_imperator")).args(command).spawn().expect("it runs");
    wait_state(&server, "bad", "stopping");
    wait_why(&server, &["it was told to stop", "sent SIGTERM", "SIGKILL follows", "emperor-curse-tolerance"]);
    assert!(answer(&server, "good").is_some(), "the neighbour");
    assert!(stop.wait().expect("it ends").success());
    wait_why(&server, &["stopped", "an operator stopped it", "SIGKILL", "after it was told to stop", "imperator start bad.ini"]);
    assert!(!running(pid));
    said(&server, &["start", "good"]);
    ends_well(server);
}

/// The end of the estate does not wait for ever either.
#[test]
fn an_app_that_blocks_term_and_int_in_the_middle_of_a_request_leaves_no_orphan() {
    let code = "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])\n\
                for s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\n\
                def hang():\n    while True:\n        try: time.sleep(1e6)\n        except BaseException: pass\n";
    let server = emperor(&["good"], &["--emperor-curse-tolerance", "4", "--reload-mercy", "4"]);
    server.write(
        "bad.py",
        &format!("{code}def application(env, sr):\n    sr('200 OK', [])\n    if env['PATH_INFO'] == '/hang': hang()\n    return [b'x']\n"),
    );
    server.write("v/bad.ini", &vassal("bad", "lazy-apps = true\nworker-reload-mercy = 1\n").replace("app.py", "bad.py"));
    wait_for("the bad one", || answer(&server, "bad"));
    let address = server.fill("{dir}/bad.sock");
    let stuck = std::thread::spawn(move || uwsgi(&address, "/hang").is_ok_and(|a| a.status == 200 && !a.body.is_empty()));
    wait_for("the stuck request", || look(&server, "bad").filter(|r| r["figures"]["busy"] == 1));
    ends_well(server);
    assert!(!stuck.join().expect("the client"), "it has no answer");
}

/// A file system that is full of one vassal's data.
struct Quota(PathBuf);

impl Quota {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir_all(&at).expect("the directory");
        let (size, kind) = (Some("size=1m"), Some("tmpfs"));
        nix::mount::mount(kind, &at, kind, nix::mount::MsFlags::empty(), size).expect("a tmpfs");
        Self(at)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn one_that_fills_its_quota_is_throttled_and_serves_again_when_there_is_room() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a file system of 1 MiB is mounted by root only");
        return;
    }
    let server = emperor(&["good"], &["--emperor-throttle", "30000"]);
    let quota = Quota::mount(server.path("quota"));
    fs::write(quota.0.join("others"), vec![b'x'; 900 << 10]).expect("it fits");
    server.write("bad.py", &format!("open('{{dir}}/quota/own', 'wb').write(b'x' * (512 << 10))\n{APP}"));
    server.write("v/bad.ini", &vassal("bad", "").replace("app.py", "bad.py"));
    wait_for("the long pause", || look(&server, "bad").filter(|r| r["state"] == "throttled" && r["restarts"].as_u64() >= Some(1)));
    wait_why(&server, &["a disk or a quota is full: ", "No space left on device", "make room", "imperator start bad.ini", "next try"]);
    assert!(answer(&server, "good").is_some(), "the neighbour");
    fs::remove_file(quota.0.join("others")).expect("room");
    assert!(said(&server, &["start", "bad"]).contains("runs"));
    assert!(answer(&server, "bad").is_some());
    ends_well(server);
}
