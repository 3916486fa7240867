//! Requests over their time: what is interrupted, what ends with its worker, and what becomes of the requests beside them.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::{Server, stats, uwsgi, wait_for};

const APP: &str = "\
import os, time
def spinning():
    while True:
        pass
def sleeping():
    time.sleep(600)
def holding():
    sum(range(10 ** 12))
def stubborn():
    for _ in range(3):
        try:
            spinning()
        except BaseException:
            open('caught', 'a').close()
def user():
    import uwsgi
    uwsgi.set_user_harakiri(1)
    sleeping()
def slow():
    open('slow', 'w').close()
    time.sleep(2.5)
def application(env, sr):
    what = globals().get(env['PATH_INFO'][1:])
    if what:
        what()
    sr('200 OK', [])
    return [b'%d' % os.getpid()]
";

fn up(more: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\nstats = {{dir}}/stats\n{more}")).ready("{sock}");
    server
}

fn worker(server: &Server) -> String {
    wait_for("an answer", || uwsgi(&server.sock(), "/").ok().filter(|a| a.status == 200).map(|a| a.text()))
}

fn count(server: &Server) -> u64 {
    let stats = stats(&server.fill("{dir}/stats")).expect("statistics");
    stats["workers"].as_array().expect("workers").iter().filter_map(|w| w["harakiri_count"].as_u64()).sum()
}

#[test]
fn a_request_that_spins_in_python_is_answered_504_and_its_worker_goes_on() {
    let server = up("harakiri = 1\n");
    let before = worker(&server);
    assert_eq!(uwsgi(&server.sock(), "/spinning?a=1").expect("an answer").status, 504);
    assert_eq!(worker(&server), before);
    server.wait_log("GET /spinning?a=1 since ");
    server.wait_log("in spinning");
    assert_eq!(count(&server), 1);
    for _ in 0..20 {
        assert_eq!(worker(&server), before, "no exception is left over for those who come after it");
    }
}

#[test]
fn a_request_that_waits_in_c_or_catches_everything_ends_with_its_worker() {
    for path in ["/sleeping", "/holding", "/stubborn"] {
        let server = up("harakiri = 1\n");
        let before = worker(&server);
        assert!(uwsgi(&server.sock(), path).is_err(), "{path}: cut");
        assert_ne!(worker(&server), before, "{path}");
        server.wait_log(&format!("in {}", &path[1..]));
        assert!(!server.log().contains("did not end in time"));
    }
}

#[test]
fn one_that_sets_its_own_time_is_held_to_it_without_the_option() {
    let server = up("threads = 2\n");
    let before = worker(&server);
    let (sock, neighbour) = (server.sock(), server.sock());
    let neighbour = std::thread::spawn(move || uwsgi(&neighbour, "/slow"));
    wait_for("the neighbour", || server.path("slow").exists().then_some(()));
    assert!(uwsgi(&sock, "/user").is_err());
    assert_eq!(neighbour.join().expect("the neighbour").expect("an answer").text(), before, "it was finished first");
    assert_ne!(worker(&server), before);
}

/// Clients that ask without a pause; how many answers they got, and what failed.
fn load(server: &Server, clients: usize, while_: impl FnOnce(&AtomicUsize)) -> Vec<String> {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = || {
        let (stop, done, sock) = (stop.clone(), done.clone(), server.sock());
        std::thread::spawn(move || {
            let mut failed = vec![];
            while !stop.load(Ordering::Relaxed) {
                match uwsgi(&sock, "/") {
                    Ok(answer) if answer.status == 200 => drop(done.fetch_add(1, Ordering::Relaxed)),
                    Ok(answer) => failed.push(answer.status.to_string()),
                    Err(error) => failed.push(error.to_string()),
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            failed
        })
    };
    let clients: Vec<_> = (0..clients).map(|_| client()).collect();
    while_(&done);
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().flat_map(|c| c.join().expect("a client")).collect()
}

#[test]
fn of_four_threads_one_sleeps_in_c_one_spins_and_not_one_request_of_the_other_two_fails() {
    let server = up("harakiri = 1\nthreads = 4\n");
    let before = worker(&server);
    let failed = load(&server, 2, |done| {
        let answered = |more: usize| {
            let so_far = done.load(Ordering::Relaxed);
            wait_for("requests beside them", || (done.load(Ordering::Relaxed) >= so_far + more).then_some(()));
        };
        answered(20);
        let (one, two) = (server.sock(), server.sock());
        let sleeping = std::thread::spawn(move || uwsgi(&one, "/sleeping?x=1").is_err());
        let spinning = std::thread::spawn(move || uwsgi(&two, "/spinning?x=2").map(|a| a.status));
        assert_eq!(spinning.join().expect("spinning").expect("an answer"), 504);
        assert!(sleeping.join().expect("sleeping"), "cut");
        answered(20);
    });
    assert!(failed.is_empty(), "{failed:?}\n{}", server.log());
    assert_ne!(worker(&server), before);
    for line in ["GET /sleeping?x=1 since ", "GET /spinning?x=2 since ", "in sleeping", "in spinning"] {
        server.wait_log(line);
    }
}

#[test]
fn a_worker_that_cannot_even_end_itself_is_killed() {
    let server = up("harakiri = 1\n");
    let before = worker(&server);
    let _stuck = {
        let sock = server.sock();
        std::thread::spawn(move || uwsgi(&sock, "/sleeping"))
    };
    wait_for("the request", || {
        let stats = stats(&server.fill("{dir}/stats")).ok()?;
        (stats["workers"][0]["cores"][0]["in_request"] == 1).then_some(())
    });
    let pid = nix::unistd::Pid::from_raw(before.parse().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("stopped");
    assert_ne!(worker(&server), before);
    server.wait_log("killed by signal 9");
}

#[test]
fn the_graceful_signal_comes_first_where_it_is_configured() {
    let mut server = Server::new();
    server.write("app.py", APP);
    let more = "harakiri = 1\nharakiri-graceful-timeout = 1\nharakiri-graceful-signal = 15\n";
    server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\n{more}")).ready("{sock}");
    assert!(uwsgi(&server.sock(), "/spinning").is_err(), "TERM ends a worker at once");
    server.wait_log("graceful: yes");
    worker(&server);
}

#[test]
fn a_stop_right_after_the_start_ends_watched_workers_too() {
    for _ in 0..10 {
        let mut server = Server::new();
        server.write("app.py", "def application(env, sr):\n    sr('200 OK', [])\n    return [b'']\n");
        server
            .start_ini("socket = {sock}\nwsgi-file = app.py\nlazy-apps = true\nprocesses = 4\nthreads = 2\nharakiri = 60\n")
            .ready("{sock}");
        server.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(server.wait_exit().code(), Some(0));
    }
}
