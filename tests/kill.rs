//! kill -9 of each kind of process: no orphan, service back, no wedge.

mod support;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HELLO, Server, running, tree, uwsgi, wait_for};

fn instance() -> Server {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nprocesses = 2\n").ready("{sock}");
    wait_for("two workers", || (named(&server, "worker").len() == 2).then_some(()));
    server
}

fn named(server: &Server, name: &str) -> Vec<i32> {
    server.tree().into_iter().filter(|(_, comm)| comm.starts_with(name)).map(|(pid, _)| pid).collect()
}

fn kill_9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
}

#[test]
fn a_killed_worker_comes_back() {
    let server = instance();
    let old = named(&server, "worker");
    kill_9(old[0]);
    wait_for("two workers again", || (named(&server, "worker").len() == 2 && !named(&server, "worker").contains(&old[0])).then_some(()));
    assert!(named(&server, "worker").contains(&old[1]), "its neighbour was replaced too");
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
}

#[test]
fn a_killed_zygote_comes_back_while_the_workers_go_on() {
    let server = instance();
    let workers = named(&server, "worker");
    // The process between it and a worker that was just forked is called that, too.
    let zygote = wait_for("one zygote", || Some(named(&server, "zygote")).filter(|z| z.len() == 1));
    kill_9(zygote[0]);
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").status, 200);
    wait_for("another zygote", || named(&server, "zygote").first().copied().filter(|pid| *pid != zygote[0]));
    assert_eq!(named(&server, "worker"), workers);
    // and it can fork
    kill_9(workers[1]);
    wait_for("two workers again", || {
        (named(&server, "worker").len() == 2 && !named(&server, "worker").contains(&workers[1])).then_some(())
    });
}

#[test]
fn a_killed_master_takes_all_its_processes_along() {
    let mut server = instance();
    let below: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
    assert!(below.len() >= 3);
    kill_9(server.pid());
    server.wait_exit();
    wait_for("no orphan", || below.iter().all(|pid| !running(*pid)).then_some(()));
}

fn emperor() -> Server {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("v/one.ini", "[uwsgi]\nsocket = {dir}/one.sock\nwsgi-file = {dir}/app.py\n");
    server.write("v/two.ini", "[uwsgi]\nsocket = {dir}/two.sock\nwsgi-file = {dir}/app.py\nprocesses = 2\n");
    server.start(&["--emperor", "{dir}/v"]).ready("{dir}/one.sock").ready("{dir}/two.sock");
    server
}

#[test]
fn a_killed_vassal_master_comes_back_without_an_orphan_and_the_other_vassal_notices_nothing() {
    let server = emperor();
    let masters = named(&server, "master");
    assert_eq!(masters.len(), 2);
    let answer = |name: &str| uwsgi(&server.fill(&format!("{{dir}}/{name}.sock")), "/").ok().filter(|a| a.status == 200).map(|a| a.text());
    let (one, two) = (answer("one").expect("one"), answer("two").expect("two"));
    let victim =
        masters.iter().copied().find(|m| tree(*m).iter().any(|(pid, _)| one.starts_with(&format!("{pid} ")))).expect("the master of one");
    let below: Vec<i32> = tree(victim).into_iter().map(|(pid, _)| pid).collect();
    kill_9(victim);
    wait_for("one is back", || answer("one").filter(|a| *a != one));
    wait_for("no orphan", || below.iter().all(|pid| !running(*pid)).then_some(()));
    let pid = |text: &str| text.split(' ').next().map(str::to_owned);
    let two_workers: Vec<String> = named(&server, "worker").iter().map(ToString::to_string).collect();
    assert!(two_workers.contains(&pid(&two).expect("a pid")), "two was disturbed");
}

#[test]
fn a_killed_emperor_takes_everything_along() {
    let mut server = emperor();
    let below: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
    assert!(below.len() >= 7, "{below:?}");
    kill_9(server.pid());
    server.wait_exit();
    wait_for("no orphan", || below.iter().all(|pid| !running(*pid)).then_some(()));
}

#[test]
fn a_stop_that_comes_while_a_worker_loads_is_not_lost() {
    let mut server = Server::new();
    server.write(
        "app.py",
        "import os, time\nopen('loading', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.01)\ndef application(env, sr):\n    sr('200 OK', [])\n    return []\n",
    );
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nlazy-apps = true\nchdir = {dir}\n");
    wait_for("the load", || server.path("loading").exists().then_some(()));
    server.signal(Signal::SIGTERM);
    server.write("go", "");
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_a_worker_that_hangs_in_its_fork_or_in_its_import() {
    for ini in ["", "lazy-apps = true\n"] {
        let mut server = Server::new();
        let hang =
            "import os, time\ndef hang():\n    if os.path.exists('hang'):\n        open('hanging', 'w').close()\n        time.sleep(600)\n";
        let when = if ini.is_empty() { "os.register_at_fork(after_in_child=hang)\n" } else { "hang()\n" };
        server.write("app.py", &format!("{hang}{when}{HELLO}"));
        server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\nprocesses = 2\n{ini}")).ready("{sock}");
        wait_for("two workers", || (named(&server, "worker").len() == 2).then_some(()));
        server.write("hang", "");
        kill_9(named(&server, "worker")[0]);
        wait_for("the hang", || server.path("hanging").exists().then_some(()));
        let below: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
        server.signal(Signal::SIGTERM);
        assert!(server.wait_exit().success());
        wait_for("no orphan", || below.iter().all(|pid| !running(*pid)).then_some(()));
    }
}

#[test]
fn harakiri_names_the_request_and_shows_where_it_hangs() {
    let mut server = Server::new();
    server.write(
        "app.py",
        "import time\ndef stuck():\n    time.sleep(60)\ndef application(env, sr):\n    sr('200 OK', [])\n    if env['PATH_INFO'] == '/stuck': stuck()\n    return []\n",
    );
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nharakiri = 1\n").ready("{sock}");
    assert!(uwsgi(&server.sock(), "/stuck?x=1").is_err(), "cut");
    server.wait_log("127.0.0.1 - GET /stuck?x=1 since ");
    server.wait_log("line 3 in stuck");
    server.ready("{sock}");
}

#[test]
fn a_stop_is_in_the_log_with_who_asked_for_it() {
    let mut server = instance();
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    let line = format!("SIGTERM from pid {}: stopping when the running requests are done", std::process::id());
    assert!(server.log().contains(&line), "{}", server.log());
}
