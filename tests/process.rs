//! What single options make of an instance's processes.

mod support;

use std::fs;

use support::{HELLO, Server, running, stats, uwsgi, wait_for};

#[test]
fn variables_come_from_a_directory_and_empty_files_remove_theirs() {
    let mut server = Server::new();
    server.write("app.py", "import os\ndef application(env, sr):\n    sr('200 OK', [])\n    return [repr([os.environ.get(k) for k in ('ONE', 'TWO', 'HOME', '.hidden')]).encode()]\n");
    for (name, text) in [("ONE", "1 and  more  \n"), ("TWO", "a\nb\n\n"), ("HOME", ""), (".hidden", "x"), ("folder/x", "x")] {
        server.write(&format!("env/{name}"), text);
    }
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nenvdir = {dir}/env\n").ready("{sock}");
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), "['1 and  more', 'a\\nb', None, None]");
    let mut server = Server::new();
    server.start_ini("socket = {sock}\nenvdir = {dir}/nowhere\n");
    assert_eq!(server.wait_exit().code(), Some(1));
    server.wait_log("app.ini:3");
}

#[test]
fn workers_become_another_program_that_is_supervised_like_them() {
    for (option, phase_runs) in [("worker-exec", false), ("worker-exec2", true)] {
        let mut server = Server::new();
        server.write(
            "program.py",
            "import os, socket\nlistener = socket.socket(fileno=0)\nwhile True:\n    client, _ = listener.accept()\n    client.recv(4096)\n    client.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\n%d' % os.getpid())\n    client.close()\n",
        );
        let ini = format!(
            "socket = {{sock}}\nprocesses = 2\nstats = {{dir}}/stats\nhook-post-fork = create:{{dir}}/forked\n{option} = python3 {{dir}}/program.py\n"
        );
        server.start_ini(&ini).ready("{sock}");
        let pid: i32 = uwsgi(&server.sock(), "/").expect("an answer").text().parse().expect("a pid");
        let workers = || stats(&server.fill("{dir}/stats")).expect("statistics")["workers"].as_array().cloned().expect("workers");
        assert!(workers().iter().any(|w| w["pid"] == pid), "the program is the worker's own process");
        assert_eq!(server.path("forked").exists(), phase_runs, "{option}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
        wait_for("another one", || workers().iter().all(|w| w["pid"] != pid && w["pid"] != 0).then_some(()));
        let all: Vec<i32> = server.tree().into_iter().map(|(pid, _)| pid).collect();
        server.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(server.wait_exit().code(), Some(0));
        assert!(!all.into_iter().any(running), "nobody stays");
    }
}

#[test]
fn a_crash_says_where_in_uwsgis_words_and_raises_its_alarm() {
    let mut server = Server::new();
    server.write(
        "app.py",
        &HELLO.replace("    sr(", "    if env['PATH_INFO'] == '/crash':\n        __import__('ctypes').string_at(0)\n    sr("),
    );
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nalarm = bell cmd:cat >> {dir}/rung\nalarm-segfault = bell\n").ready("{sock}");
    let pid = uwsgi(&server.sock(), "/").expect("an answer").text().split(' ').next().map(str::to_owned).expect("a pid");
    assert!(uwsgi(&server.sock(), "/crash").is_err(), "not a byte");
    for line in [
        "in application".into(), // Python's view
        format!("!!! uWSGI process {pid} got Segmentation Fault !!!"),
        "*** end of backtrace ***".into(),
        format!("DAMN ! worker 1 (pid: {pid}) died, killed by signal 11 :("),
    ] {
        server.wait_log(&line);
    }
    wait_for("the alarm", || fs::read_to_string(server.path("rung")).ok().filter(|text| text.contains("segmentation fault")));
    server.ready("{sock}");
}

#[test]
fn a_master_may_be_somebody_else_from_its_first_moment() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this needs root");
        return;
    }
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let mut server = Server::new();
    server.write("app.py", HELLO);
    fs::set_permissions(server.dir.path(), fs::Permissions::from_mode(0o777)).expect("open to all");
    server
        .start_ini("socket = {sock}\nwsgi-file = app.py\nimmediate-gid = 65534\nimmediate-uid = 65534\nhook-asap = create:{dir}/asap\n")
        .ready("{sock}");
    let owner = |path: std::path::PathBuf| fs::metadata(path).map(|m| (m.uid(), m.gid())).expect("it is there");
    assert_eq!(owner(server.path("asap")), (65534, 65534));
    assert_eq!(owner(server.path("app.sock")), (65534, 65534));
    assert_eq!(owner(format!("/proc/{}", server.pid()).into()), (65534, 65534));
}
