//! Hooks of the running master, whose rights they have, and what becomes of the master while one hangs.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::Signal;
use support::{HELLO, Server, stats, uwsgi, wait_for};

fn read(server: &Server, name: &str) -> Option<String> {
    fs::read_to_string(server.path(name)).ok().filter(|text| text.ends_with('\n'))
}

#[test]
fn a_hook_at_the_end_that_hangs_keeps_neither_statistics_nor_the_old_workers() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let ini = "socket = {sock}\nwsgi-file = app.py\nstats = {dir}/stats\nreload-mercy = 2\nexec-as-user-atexit = echo hangs >> {dir}/ends; sleep 60\n";
    server.start_ini(ini).ready("{sock}");
    let before = uwsgi(&server.sock(), "/").expect("an answer").text();
    server.signal(Signal::SIGHUP);
    wait_for("the hook", || read(&server, "ends"));
    assert_eq!(stats(&server.fill("{dir}/stats")).expect("statistics")["workers"][0]["status"], "idle");
    assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), before);
    server.wait_log("did not end in time: killing it");
    wait_for("the reload", || uwsgi(&server.sock(), "/").ok().filter(|a| a.text() != before));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(read(&server, "ends").as_deref(), Some("hangs\nhangs\n"), "at the reload, and at the end");
}

#[test]
fn a_stop_while_a_reload_waits_for_the_hook_at_the_end_does_not_run_it_again() {
    let mut server = Server::new();
    server.write(
        "app.py",
        "import os, time\ndef application(env, sr):\n    while env['PATH_INFO'] == '/long' and not os.path.exists('go'):\n        open('began', 'w')\n        time.sleep(0.02)\n    sr('200 OK', [])\n    return [b'hello']\n",
    );
    let ini = "socket = {sock}\nwsgi-file = app.py\nprocesses = 2\nexec-as-user-atexit = echo once >> {dir}/ends; while [ ! -e {dir}/done ]; do sleep 0.02; done\n";
    server.start_ini(ini).ready("{sock}");
    let long = std::thread::spawn({
        let sock = server.sock();
        move || uwsgi(&sock, "/long").expect("an answer").text()
    });
    wait_for("the long request", || server.path("began").exists().then_some(()));
    server.signal(Signal::SIGHUP);
    wait_for("the hook", || read(&server, "ends"));
    server.signal(Signal::SIGTERM);
    server.wait_log("SIGTERM");
    server.write("done", "");
    wait_for("the end of the hook", || server.tree().iter().all(|(_, name)| name != "sh").then_some(()));
    server.write("go", "");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(long.join().expect("no panic"), "hello");
    assert_eq!(read(&server, "ends").as_deref(), Some("once\n"));
}

#[test]
fn a_master_that_is_root_does_hooks_and_touched_files_with_the_apps_rights() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this needs root");
        return;
    }
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("touched", "");
    fs::set_permissions(server.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("open to all");
    let ini = "socket = {sock}\nwsgi-file = app.py\nuid = 65534\ngid = 65534\n\
               hook-master-start = write:{dir}/started x\nexec-as-user-atexit = id -u > {dir}/atexit\n\
               touch-exec = {dir}/touched id -u > {dir}/exec\nhook-touch = {dir}/touched writen:{dir}/hook x\n";
    server.start_ini(ini).ready("{sock}");
    let owner = |name: &str| fs::metadata(server.path(name)).ok().map(|m| (m.uid(), m.gid()));
    assert_eq!(wait_for("the hook of the start", || owner("started")), (65534, 65534));
    fs::write(server.path("touched"), "again").expect("touch");
    assert_eq!(wait_for("the command", || read(&server, "exec")), "65534\n");
    assert_eq!(wait_for("the hook", || owner("hook")), (65534, 65534));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(read(&server, "atexit").as_deref(), Some("65534\n"));
}

#[test]
fn hooks_raise_alarms_in_every_process_and_end_what_they_are_told_to_end() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let ini = "socket = {sock}\nwsgi-file = app.py\nalarm = bell cmd:(cat; echo) >> {dir}/rung\n\
               hook-asap = alarm:bell first\nhook-as-user = alarm:bell zygote before\nhook-post-app = alarm:bell zygote after\n\
               hook-accepting = alarm:bell worker\nhook-master-start = alarm:bell master\nhook-as-user-atexit = alarm:bell last\n";
    server.start_ini(ini).ready("{sock}");
    for text in ["first", "zygote before", "zygote after", "worker", "master"] {
        wait_for(text, || read(&server, "rung").filter(|rung| rung.lines().any(|line| line == text)));
    }
    for (phase, code) in [("asap", 3), ("pre-jail", 4), ("as-user", 5), ("pre-app", 6)] {
        let mut server = Server::new();
        server.write("app.py", HELLO);
        server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\nhook-{phase} = exit:{code}\n"));
        assert_eq!(server.wait_exit().code(), Some(code), "{phase}");
    }
}

#[test]
fn a_hook_that_waits_for_a_reader_of_a_fifo_keeps_nobody() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    nix::unistd::mkfifo(&server.path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let ini = "socket = {sock}\nwsgi-file = app.py\nstats = {dir}/stats\nhook-master-start = spinningfifo:{dir}/fifo hello\nhook-master-start = create:{dir}/next\n";
    server.start_ini(ini).ready("{sock}");
    assert_eq!(stats(&server.fill("{dir}/stats")).expect("statistics")["workers"][0]["status"], "idle");
    assert!(!server.path("next").exists(), "one after the other");
    assert_eq!(fs::read_to_string(server.path("fifo")).expect("the FIFO"), "hello");
    wait_for("the next one", || server.path("next").exists().then_some(()));
}

#[test]
fn descriptors_of_the_parent_raise_alarms_and_reload_again_and_again() {
    use std::io::Write as _;
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("app.ini", "[uwsgi]\nsocket = {sock}\nwsgi-file = app.py\nalarm = bell cmd:(cat; echo) >> {dir}/rung\nalarm-fd = bell 8:2 memory is short\nreload-on-fd = 9:1 new release\nalarm-freq = 0\n");
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    let ((alarm, rings), (reload, reloads)) = (pipe(), pipe());
    let high = |fd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD(100)).expect("a copy");
    let (a, b) = (high(&alarm), high(&reload));
    let mut command = std::process::Command::new("bash"); // whose descriptors may have more than one digit
    command.args([
        "-c",
        &format!("exec \"$@\" 8<&{a} 9<&{b} {a}<&- {b}<&-"),
        "x",
        support::binary(),
        "--ini",
        &server.fill("{dir}/app.ini"),
    ]);
    server.start_by(command).ready("{sock}");
    let (mut rings, mut reloads) = (fs::File::from(rings), fs::File::from(reloads));
    for reload in 1..=2 {
        rings.write_all(b"xx").expect("a ring");
        wait_for("the alarm", || read(&server, "rung").filter(|text| *text == "memory is short\n".repeat(reload)));
        let before = wait_for("an answer", || uwsgi(&server.sock(), "/").ok()).text();
        reloads.write_all(b"x").expect("a reload");
        wait_for("a new worker", || uwsgi(&server.sock(), "/").ok().filter(|a| a.text() != before));
    }
    for fd in [a, b] {
        nix::unistd::close(fd).expect("closed");
    }
    drop(rings);
    server.wait_log("descriptor 8: nothing more comes");
}
