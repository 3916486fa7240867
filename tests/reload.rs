//! A reload never loses a request, and never replaces a working app by a broken one.

mod support;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use support::{Nginx, Server, http, uwsgi, wait_for};

const APP: &str = "import os\nVERSION = 'v1'\ndef application(env, sr):\n    sr('200 OK', [])\n    return [('%s %d' % (VERSION, os.getpid())).encode()]\n";

/// Clients that ask without a pause until they are dropped; every failure is kept.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(asks: Vec<Box<dyn Fn() -> std::io::Result<support::Answer> + Send>>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = asks
            .into_iter()
            .map(|ask| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                std::thread::spawn(move || {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match ask() {
                            Ok(answer) if answer.status == 200 => drop(done.fetch_add(1, Ordering::Relaxed)),
                            Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
                            Err(e) => failed.push(e.to_string()),
                        }
                        // A machine with two cores has to run the reloads as well.
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    failed
                })
            })
            .collect();
        Self { stop, done, clients }
    }

    fn finish(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.clients.into_iter().flat_map(|c| c.join().expect("a client")).collect();
        (self.done.load(Ordering::Relaxed), failed)
    }
}

/// Reloads to do: 1,000 with IMPERATOR_RELOADS=1000, fewer in the ordinary run.
fn reloads() -> usize {
    std::env::var("IMPERATOR_RELOADS").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

fn worker_of(address: &str) -> Option<String> {
    uwsgi(address, "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

#[test]
fn graceful_reloads_under_load_lose_nothing_through_nginx_and_straight() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nchmod-socket = 666\nwsgi-file = app.py\nprocesses = 2\n").ready("{sock}");
    let nginx = Nginx::start(&server.fill("location / { uwsgi_pass unix:{sock}; }"));
    let asks = (0..8)
        .map(|i| {
            let (sock, nginx) = (server.sock(), nginx.address());
            let ask: Box<dyn Fn() -> std::io::Result<support::Answer> + Send> =
                if i % 2 == 0 { Box::new(move || uwsgi(&sock, "/")) } else { Box::new(move || http(&nginx, "/")) };
            ask
        })
        .collect();
    let load = Load::start(asks);
    for _ in 0..reloads() {
        let before = wait_for("an answer", || worker_of(&server.sock()));
        let old: Vec<i32> = server.tree().into_iter().filter(|(_, name)| name.starts_with("worker")).map(|(pid, _)| pid).collect();
        server.signal(Signal::SIGHUP);
        wait_for("new workers alone", || {
            let now: Vec<i32> = server.tree().into_iter().filter(|(_, name)| name.starts_with("worker")).map(|(pid, _)| pid).collect();
            (now.len() == 2 && now.iter().all(|pid| !old.contains(pid))).then_some(())
        });
        assert_ne!(wait_for("an answer", || worker_of(&server.sock())), before);
    }
    let (done, failed) = load.finish();
    eprintln!("{} reloads, {done} requests, {} failed", reloads(), failed.len());
    assert!(failed.is_empty(), "{} of {done} requests failed, the first: {:?}", failed.len(), failed.first());
    assert!(done > reloads(), "only {done} requests were made");
}

#[test]
fn a_reload_to_a_broken_app_keeps_the_old_one_and_says_why() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    let before = worker_of(&server.sock()).expect("an answer");
    server.write("app.py", "raise LookupError('this release is broken')\n");
    server.signal(Signal::SIGHUP);
    server.wait_log("LookupError: this release is broken");
    server.wait_log("Traceback");
    assert_eq!(worker_of(&server.sock()), Some(before));
    server.write("app.py", &APP.replace("v1", "v2"));
    server.signal(Signal::SIGHUP);
    wait_for("the mended release", || worker_of(&server.sock()).filter(|a| a.starts_with("v2")));
}

#[test]
fn a_reload_to_a_broken_configuration_changes_nothing_and_names_the_line() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    let before = worker_of(&server.sock()).expect("an answer");
    server.write("app.ini", "[uwsgi]\nsocket = {sock}\nwsgi-file = app.py\nprocesses = many\n");
    server.signal(Signal::SIGHUP);
    server.wait_log("app.ini:4");
    assert_eq!(worker_of(&server.sock()), Some(before));
    server.write("app.ini", "[uwsgi]\nsocket = {sock}\nwsgi-file = app.py\nprocesses = 2\n");
    server.signal(Signal::SIGHUP);
    wait_for("two workers", || (server.tree().iter().filter(|(_, name)| name.starts_with("worker")).count() == 2).then_some(()));
}

#[test]
fn after_a_failed_reload_statistics_are_answered_and_time_limits_hold() {
    let mut server = Server::new();
    let app = APP.replace("    sr('200", "    if env['PATH_INFO'] == '/stuck':\n        __import__('time').sleep(60)\n    sr('200");
    server.write("app.py", &app);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nharakiri = 1\nstats = {dir}/stats\n").ready("{sock}");
    server.write("app.py", "raise LookupError('this release is broken')\n");
    server.signal(Signal::SIGHUP);
    server.wait_log("reload failed");
    let stats = support::stats(&server.fill("{dir}/stats")).expect("statistics");
    assert_eq!(stats["workers"][0]["status"], "idle");
    assert!(uwsgi(&server.sock(), "/stuck").is_err());
    server.wait_log("HARAKIRI ON WORKER 1");
}

#[test]
fn a_release_that_hangs_at_import_is_given_up_for_the_next() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    server.write("app.py", "open('loading', 'w').close()\nwhile True:\n    pass\n");
    server.signal(Signal::SIGHUP);
    wait_for("the import", || server.path("loading").exists().then_some(()));
    assert!(worker_of(&server.sock()).is_some_and(|a| a.starts_with("v1")));
    server.write("app.py", &APP.replace("v1", "v2"));
    server.signal(Signal::SIGHUP);
    wait_for("the mended release", || worker_of(&server.sock()).filter(|a| a.starts_with("v2")));
}

#[test]
fn a_reload_runs_the_end_hooks_and_with_log_reopen_writes_to_a_new_file() {
    let mut server = Server::new();
    server.write("app.py", APP);
    let ini = "socket = {sock}\nwsgi-file = app.py\nlogto = {dir}/log\nlog-reopen = true\nhook-as-user-atexit = appendn:{dir}/ends x\n";
    server.start_ini(ini).ready("{sock}");
    let before = worker_of(&server.sock()).expect("an answer");
    std::fs::rename(server.path("log"), server.path("log.1")).expect("rename");
    server.signal(Signal::SIGHUP);
    wait_for("the new worker", || worker_of(&server.sock()).filter(|a| *a != before));
    wait_for("its log line", || std::fs::read_to_string(server.path("log")).ok().filter(|log| log.contains("GET / ")));
    assert_eq!(std::fs::read_to_string(server.path("ends")).expect("the hook's file"), "x\n");
}
