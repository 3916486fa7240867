//! What runs beside the workers: attached daemons, cron lines, alarms, hooks of the running master.

mod support;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{HELLO, Server, wait_for};

const BASE: &str = "socket = {sock}\nwsgi-file = app.py\n";

fn up(more: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini(&format!("{BASE}{more}")).ready("{sock}");
    server
}

/// Pids that daemons wrote down, a start each.
fn starts(server: &Server, name: &str) -> Vec<i32> {
    let text = std::fs::read_to_string(server.path(name)).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn wait_starts(server: &Server, name: &str, count: usize) -> Vec<i32> {
    wait_for(&format!("start {count} of {name}"), || Some(starts(server, name)).filter(|pids| pids.len() >= count))
}

fn gone(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|s| s.trim().starts_with('Z')))
}

fn end(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it runs");
}

#[test]
fn a_daemon_is_restarted_when_it_ends_or_is_touched_and_ends_with_the_instance() {
    let mut server = up(
        "attach-daemon2 = cmd=echo $$ >> {dir}/d; exec sleep 600,touch={dir}/touched\nenv = WHO=app\nattach-daemon = echo $WHO $(id -u) > {dir}/who; sleep 600\n",
    );
    let first = wait_starts(&server, "d", 1)[0];
    end(first, Signal::SIGKILL);
    let second = wait_starts(&server, "d", 2)[1];
    server.write("touched", "");
    let third = wait_starts(&server, "d", 3)[2];
    assert!(gone(first) && gone(second));
    assert_eq!(std::fs::read_to_string(server.path("who")).expect("it ran").split(' ').next(), Some("app"));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    wait_for("its end", || gone(third).then_some(()));
}

#[test]
fn a_daemon_that_does_not_listen_is_killed_and_no_process_of_its_group_stays() {
    let mut server =
        up("reload-mercy = 1\nattach-daemon = trap '' TERM; echo $$ >> {dir}/d; sleep 600 & echo $! >> {dir}/d; while :; do wait; done\n");
    let pids = wait_starts(&server, "d", 2);
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_exit().code(), Some(0));
    wait_for("the end of the group", || pids.iter().all(|pid| gone(*pid)).then_some(()));
}

#[test]
fn daemons_die_with_a_master_that_is_killed() {
    let mut server = up("attach-daemon = echo $$ >> {dir}/d; exec sleep 600\n");
    let pid = wait_starts(&server, "d", 1)[0];
    server.signal(Signal::SIGKILL);
    server.wait_exit();
    wait_for("its end", || gone(pid).then_some(()));
}

#[test]
fn a_reload_restarts_signals_or_ends_a_daemon_and_one_that_fails_leaves_it_alone() {
    let server = up(
        "attach-daemon = echo $$ >> {dir}/plain; exec sleep 600\nattach-daemon2 = cmd=trap 'echo 1 >> {dir}/hups' HUP; echo $$ >> {dir}/told; while :; do sleep 0.1; done,reloadsignal=1\nattach-daemon = echo $$ >> {dir}/dropped; exec sleep 600\n",
    );
    let (plain, dropped) = (wait_starts(&server, "plain", 1)[0], wait_starts(&server, "dropped", 1)[0]);
    wait_starts(&server, "told", 1);
    server.write("app.py", "raise LookupError('broken')\n");
    server.signal(Signal::SIGHUP);
    server.wait_log("goes on serving");
    assert!(!gone(plain) && starts(&server, "plain").len() == 1);
    server.write("app.py", HELLO);
    let ini = std::fs::read_to_string(server.path("app.ini")).expect("ini");
    let kept: Vec<&str> = ini.lines().filter(|line| !line.contains("/dropped")).collect();
    server.write("app.ini", &(kept.join("\n") + "\n"));
    server.signal(Signal::SIGHUP);
    wait_starts(&server, "plain", 2);
    wait_starts(&server, "hups", 1);
    wait_for("the end of the one that is no longer there", || gone(dropped).then_some(()));
    assert!(gone(plain));
    assert_eq!((starts(&server, "told").len(), starts(&server, "dropped").len()), (1, 1));
}

#[test]
fn a_smart_daemon_is_found_by_its_pidfile_outlives_the_instance_and_is_replaced_when_it_ends() {
    let lines = "smart-attach-daemon2 = {dir}/pid echo $$ >> {dir}/d; exec sleep 600\n";
    let mut server = up(lines);
    let pid = wait_starts(&server, "d", 1)[0];
    wait_for("the pidfile", || std::fs::read_to_string(server.path("pid")).ok().filter(|text| *text == format!("{pid}\n")));
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(!gone(pid));
    server.start_ini(&format!("{BASE}{lines}")).ready("{sock}");
    server.signal(Signal::SIGHUP);
    server.wait_log("generation 2 serves");
    assert_eq!(starts(&server, "d"), [pid], "it runs already");
    end(pid, Signal::SIGKILL);
    let second = wait_starts(&server, "d", 2)[1];
    end(second, Signal::SIGKILL);
}

#[test]
fn the_end_of_a_control_daemon_is_the_end_of_the_instance() {
    let mut server = up("attach-control-daemon = echo $$ >> {dir}/d; exec sleep 600\n");
    end(wait_starts(&server, "d", 1)[0], Signal::SIGKILL);
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn cron_runs_at_once_in_a_minute_that_fits_and_once_only_over_reloads() {
    // Every minute fits, so that a minute that passes meanwhile may add a start, and a reload may not.
    let server =
        up("cron = -1 -1 -1 -1 -1 date +%%M >> {dir}/minutes\ncron2 = unique=1,harakiri=1 echo $$ >> {dir}/long; exec sleep 600\n");
    wait_starts(&server, "minutes", 1);
    let long = wait_starts(&server, "long", 1)[0];
    for generation in 2..5 {
        server.signal(Signal::SIGHUP);
        server.wait_log(&format!("generation {generation} serves"));
    }
    wait_for("harakiri", || gone(long).then_some(()));
    server.wait_log("HARAKIRI of the cron command");
    let mut minutes = starts(&server, "minutes");
    let all = minutes.len();
    minutes.dedup();
    assert_eq!(minutes.len(), all, "no minute twice");
}

#[test]
fn an_instance_may_consist_of_daemons_alone() {
    let mut server = Server::new();
    server.start_ini("attach-daemon = echo $$ >> {dir}/d; exec sleep 600\n");
    wait_starts(&server, "d", 1);
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_exit().code(), Some(0));
}

#[test]
fn lines_that_make_no_sense_end_the_start_with_their_place() {
    for line in
        ["cron = every minute please", "cron = 60 -1 -1 -1 -1 x", "attach-daemon2 = cmd=x,nosuch=1", "smart-attach-daemon = /only.pid"]
    {
        let mut server = Server::new();
        server.write("app.py", HELLO);
        server.start_ini(&format!("{BASE}{line}\n"));
        assert_eq!(server.wait_exit().code(), Some(1), "{line}");
        server.wait_log("app.ini:4");
    }
}

#[test]
fn alarms_are_raised_by_the_app_by_lines_and_by_crashes_and_not_too_often() {
    let mut server = Server::new();
    server.write(
        "app.py",
        "import os, sys, uwsgi\ndef application(env, sr):\n    what = env['PATH_INFO']\n    if what == '/alarm':\n        uwsgi.alarm('bell', b'from the app')\n        uwsgi.alarm('note', b'from the app')\n    elif what == '/line':\n        print('an ALERT 42', flush=True)\n    elif what == '/crash':\n        os.kill(os.getpid(), 11)\n    sr('200 OK', [])\n    return []\n",
    );
    let ini = "alarm = bell cmd:cat > {dir}/alarm.$$\nlog-alarm = bell ALERT [0-9]+\nalarm-segfault = bell\nalarm-freq = 600\nalarm = hangs cmd:sleep 600\nalarm = note log:LOOK HERE\n";
    server.start_ini(&format!("{BASE}{ini}")).ready("{sock}");
    for path in ["/alarm", "/alarm", "/line", "/line"] {
        assert_eq!(support::uwsgi(&server.sock(), path).expect("an answer").status, 200);
    }
    assert!(support::uwsgi(&server.sock(), "/crash").is_err());
    let texts = wait_for("three alarms", || {
        let files = std::fs::read_dir(server.path("")).expect("the directory").filter_map(|file| Some(file.ok()?.path()));
        let alarms = files.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"alarm.")));
        let texts: Vec<String> = alarms.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        ["from the app", "ALERT 42", "segmentation fault"].iter().all(|part| texts.iter().any(|text| text.contains(part))).then_some(texts)
    });
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts.iter().any(|text| text == "from the app"), "the message and nothing else, as uWSGI's commands get it: {texts:?}");
    server.wait_log("ALARM: LOOK HERE from the app");
}

#[test]
fn a_reload_that_fails_after_it_changed_addresses_gives_the_old_ones_back() {
    let server = up("stats = {dir}/old\nmaster-fifo = {dir}/fifo\n");
    let ini = std::fs::read_to_string(server.path("app.ini")).expect("ini");
    server.write("app.ini", &ini.replace("/old", "/new").replace("/fifo", "/other"));
    server.write("app.py", "raise LookupError('broken')\n");
    server.signal(Signal::SIGHUP);
    server.wait_log("goes on serving");
    wait_for("statistics where they were", || support::stats(&server.fill("{dir}/old")).ok());
    server.write("app.py", HELLO);
    server.write("app.ini", &ini);
    std::fs::write(server.path("fifo"), "r").expect("the FIFO");
    server.wait_log("generation 3 serves");
}

#[test]
fn a_hook_that_hangs_keeps_nobody_from_statistics_and_signals() {
    let mut server = up(
        "stats = {dir}/stats\nhook-master-start = wait_for_file:{dir}/there\nhook-master-start = exec:echo $$ >> {dir}/hook; sleep 600\nhook-master-start = create:{dir}/after\n",
    );
    wait_for("statistics", || support::stats(&server.fill("{dir}/stats")).ok());
    assert!(!server.path("hook").exists());
    server.write("there", "");
    let pid = wait_starts(&server, "hook", 1)[0];
    wait_for("statistics", || support::stats(&server.fill("{dir}/stats")).ok());
    assert!(!server.path("after").exists(), "hooks run one after the other");
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_exit().code(), Some(0));
    wait_for("its end", || gone(pid).then_some(()));
}

#[test]
fn a_hook_of_the_running_master_that_fails_ends_it() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini(&format!("{BASE}hook-master-start = exec:exit 3\n"));
    assert_eq!(server.wait_exit().code(), Some(1));
}
