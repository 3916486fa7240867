//! Users move one app at a time: a real uWSGI as a vassal of ours, and ours as a vassal of uWSGI's emperor.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use support::{HELLO, Server, repository, stats, uwsgi, wait_for};

/// A uWSGI with its Python plugin inside, as pip builds it; `None`: there is none here, and the tests have nothing to do.
fn real() -> Option<PathBuf> {
    let found = repository().join(".venv/bin/uwsgi");
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: no {} (`scripts/setup.sh bench` installs it)", found.display());
    None
}

fn answer(server: &Server, name: &str) -> Option<String> {
    uwsgi(&server.fill(&format!("{{dir}}/{name}.sock")), "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

fn entry(server: &Server, name: &str) -> Option<Value> {
    let all = stats(&server.fill("{dir}/stats")).ok()?;
    all["vassals"].as_array()?.iter().find(|v| v["id"] == name).cloned()
}

/// The app that tells who serves it.
const WHO: &str = "import os, uwsgi\ndef application(env, sr):\n    sr('200 OK', [])\n    return [b'%s %d' % (b'imperator' if hasattr(uwsgi, 'imperator') or \
                   b'Imperator' in open('/proc/%d/cmdline' % uwsgi.masterpid(), 'rb').read() or os.readlink('/proc/%d/exe' % \
                   uwsgi.masterpid()).endswith('imperator') else b'uwsgi', os.getpid())]\n";

#[test]
fn a_real_uwsgi_is_a_vassal_of_ours() {
    let Some(uwsgi_binary) = real() else { return };
    let mut server = Server::new();
    server.write("app.py", WHO);
    let body = |name: &str| format!("[uwsgi]\nsocket = {{dir}}/{name}.sock\nwsgi-file = {{dir}}/app.py\nheartbeat = 1\n");
    let theirs = format!("[emperor]\nwrapper = {}\n{}", uwsgi_binary.display(), body("theirs"));
    server.write("v/theirs.ini", &theirs);
    server.write("v/ours.ini", &body("ours"));
    server.start(&["--emperor", "{dir}/v", "--emperor-stats", "{dir}/stats", "--emperor-command-socket", "{dir}/command"]);
    let first = wait_for("uWSGI's answer", || answer(&server, "theirs"));
    assert!(first.starts_with("uwsgi "), "{first}");
    assert!(wait_for("ours", || answer(&server, "ours")).starts_with("imperator "));
    // Every byte of the protocol that it sends: spawned, accepting, loyal, heartbeat.
    let told = wait_for("all its bytes", || {
        entry(&server, "theirs.ini").filter(|v| v["loyal"] == 1 && v["accepting"] == 1 && v["last_heartbeat"].as_i64() > Some(0))
    });
    let pid = told["pid"].clone();
    // It has no figures, and is in the list all the same; its lines are read.
    let ps = Command::new(env!("CARGO_BIN_EXE_imperator")).args(["ps", "--json", "--at", &server.fill("{dir}/command")]).output();
    let ps: Value = serde_json::from_slice(&ps.expect("ps").stdout).expect("JSON");
    let row = ps["vassals"].as_array().and_then(|rows| rows.iter().find(|r| r["name"] == "theirs.ini")).expect("a row").clone();
    assert_eq!((row["state"].as_str(), row["figures"].is_null()), (Some("running"), true), "{row}");
    server.wait_log("[theirs.ini] *** Starting uWSGI");
    // A reload keeps its master, as its own emperor's does.
    server.write("v/theirs.ini", &(theirs.clone() + "processes = 2\n"));
    wait_for("its reload", || answer(&server, "theirs").filter(|a| a.starts_with("uwsgi ") && *a != first));
    assert_eq!(entry(&server, "theirs.ini").expect("the entry")["pid"], pid);
    // Changed to ours: one app has moved.
    server.write("v/theirs.ini", &body("theirs"));
    let pid = pid.as_i64().expect("a pid") as i32;
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed: a wrapper is looked at when a vassal is started");
    wait_for("the moved app", || answer(&server, "theirs").filter(|a| a.starts_with("imperator ")));
    fs::remove_file(server.path("v/theirs.ini")).expect("removed");
    wait_for("its end", || answer(&server, "theirs").is_none().then_some(()));
}

#[test]
fn a_real_uwsgi_is_woken_by_a_connection_and_sleeps_again() {
    let Some(uwsgi_binary) = real() else { return };
    let mut server = Server::new();
    server.write("app.py", WHO);
    fs::create_dir(server.path("od")).expect("the directory");
    let ini =
        format!("[emperor]\nwrapper = {}\n[uwsgi]\nwsgi-file = {{dir}}/app.py\nidle = 1\ndie-on-idle = true\n", uwsgi_binary.display());
    server.write("v/od.ini", &ini);
    server.start(&["--emperor", "{dir}/v", "--emperor-stats", "{dir}/stats", "--emperor-on-demand-directory", "{dir}/od"]);
    for _ in 0..2 {
        wait_for("it sleeps", || entry(&server, "od.ini").filter(|v| v["pid"] == -1));
        let first = wait_for("the answer", || uwsgi(&server.fill("{dir}/od/od.socket"), "/").ok().filter(|a| a.status == 200));
        assert!(first.text().starts_with("uwsgi "), "{}", first.text());
    }
}

/// uWSGI's emperor with our binary for its vassals; ended when dropped.
struct Theirs(Child);

impl Drop for Theirs {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT);
        let done = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            matches!(self.0.try_wait(), Ok(Some(_)))
        });
        if !done {
            let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

#[test]
fn ours_is_a_vassal_of_uwsgis_emperor() {
    use std::os::unix::process::CommandExt;
    let Some(uwsgi_binary) = real() else { return };
    let server = Server::new();
    server.write("app.py", HELLO);
    let body = |name: &str, more: &str| format!("[uwsgi]\nsocket = {{dir}}/{name}.sock\nwsgi-file = {{dir}}/app.py\nheartbeat = 1\n{more}");
    server.write("v/a.ini", &body("a", ""));
    fs::create_dir(server.path("od")).expect("the directory");
    let log = fs::File::create(server.path("server.log")).expect("the log");
    let emperor = Command::new(uwsgi_binary)
        .args(["--emperor", &server.fill("{dir}/v"), "--emperor-freq", "1", "--emperor-stats", &server.fill("{dir}/stats")])
        .args(["--emperor-wrapper", env!("CARGO_BIN_EXE_imperator"), "--emperor-on-demand-extension", ".od"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("uWSGI starts");
    let emperor = Theirs(emperor);
    let first = wait_for("our answer", || answer(&server, "a"));
    let told = wait_for("all our bytes", || {
        entry(&server, "a.ini")
            .filter(|v| v["ready"] == 1 && v["accepting"] == 1 && v["loyal"] == 1 && v["last_heartbeat"].as_i64() > Some(0))
    });
    // Its reload byte; the master stays. It looks at whole seconds of the file's time.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    server.write("v/a.ini", &body("a", "processes = 2\n"));
    wait_for("our reload", || answer(&server, "a").filter(|a| *a != first));
    assert_eq!(wait_for("the entry", || entry(&server, "a.ini"))["pid"], told["pid"]);
    // On demand: the socket is descriptor 0, and the idle one asks to sleep.
    fs::write(server.path("v/od.ini.od"), server.fill("{dir}/od.sock")).expect("written");
    server.write("v/od.ini", "[uwsgi]\nwsgi-file = {dir}/app.py\nidle = 1\ndie-on-idle = true\n");
    for _ in 0..2 {
        wait_for("it sleeps", || entry(&server, "od.ini").filter(|v| v["pid"] == -1));
        wait_for("the woken one", || answer(&server, "od"));
    }
    fs::remove_file(server.path("v/a.ini")).expect("removed");
    let pid = told["pid"].as_i64().expect("a pid") as i32;
    wait_for("its stop", || (!support::running(pid)).then_some(()));
    drop(emperor);
}
