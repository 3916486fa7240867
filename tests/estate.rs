//! An operator and an estate of vassals: who runs and why not, their logs, orders, an upgrade that nobody notices.

mod support;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::estate::{answer, emperor, look, row, run, said, vassal, wait_state};
use support::{HELLO, Server, cpu_ticks, http, uwsgi, wait_for};

#[test]
fn ps_shows_each_vassal_with_its_figures_and_why_one_does_not_run() {
    let server = emperor(&["good"], &["--emperor-throttle", "30000"]);
    server.write("v/bad.ini", &vassal("bad", "").replace("app.py", "missing.py"));
    // The first pause is a thousandth of the second.
    let bad =
        wait_for("the second pause", || look(&server, "bad").filter(|r| r["state"] == "throttled" && r["restarts"].as_u64() >= Some(1)));
    assert!(bad["last_exit"].as_str().is_some_and(|e| e.contains("exit code 22")), "{bad}");
    assert!(bad["next_try"].is_i64() && bad["pid"].is_null() && bad["figures"].is_null(), "{bad}");
    let good = row(&server, "good");
    assert_eq!((&good["state"], &good["figures"]["workers"], &good["figures"]["generation"]), (&"running".into(), &1.into(), &1.into()));
    assert!(good["figures"]["requests"].as_u64().is_some_and(|n| n >= 1), "{good}");
    let table = said(&server, &["ps"]);
    assert!(table.contains("good.ini") && table.contains("throttled") && table.contains("could not be loaded"), "{table}");
    let why = said(&server, &["why", "bad"]);
    for part in ["throttled", "exit code 22", "what to do", "imperator check", "missing.py", "next try"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
}

#[test]
fn an_order_is_followed_and_a_failed_one_says_why() {
    let server = emperor(&["a", "b"], &[]);
    let (a, b) = (answer(&server, "a").expect("a"), answer(&server, "b").expect("b"));
    assert!(said(&server, &["reload", "a"]).contains("has reloaded"));
    assert_ne!(answer(&server, "a").expect("a serves"), a);
    assert!(said(&server, &["stop", "a"]).contains("is stopped"));
    assert_eq!(answer(&server, "a"), None);
    server.write("v/a.ini", &vassal("a", "processes = 2\n"));
    server.write("v/c.ini", &vassal("c", ""));
    wait_for("an event after the edit", || answer(&server, "c"));
    assert_eq!((row(&server, "a")["state"].as_str(), answer(&server, "a")), (Some("stopped"), None));
    assert!(said(&server, &["start", "a"]).contains("runs"));
    assert_eq!(row(&server, "a")["figures"]["workers"], 2);
    // A reload that fails leaves the old one, and is reported as what it is.
    fs::write(server.path("app.py"), "nonsense(").expect("written");
    let failed = run(&server, &["reload", "b"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert_eq!(answer(&server, "b"), Some(b));
    let unknown = run(&server, &["why", "nobody"]);
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("no vassal"), "{unknown:?}");
}

#[test]
fn lines_carry_their_vassals_name_and_are_remembered() {
    let server = emperor(&["a"], &[]);
    server.wait_log("[a.ini] generation 1 serves");
    let log = said(&server, &["log", "a", "-n", "1"]);
    assert_eq!(log.lines().count(), 1, "{log}");
    let document: Value = serde_json::from_str(&said(&server, &["log", "a", "--json"])).expect("JSON");
    let lines = document["lines"].as_array().expect("lines");
    assert!(lines.iter().any(|l| l.as_str().is_some_and(|l| l.contains("generation 1 serves"))), "{document}");
}

#[test]
fn every_vassal_may_have_a_file_of_its_own() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    fs::create_dir(server.path("logs")).expect("the directory");
    server.write("v/a.ini", &vassal("a", ""));
    server.write("v/dead.ini", &vassal("dead", "").replace("app.py", "missing.py"));
    server.write("emperor.ini", "[uwsgi]\nemperor = {dir}/v\nvassal-log = {dir}/logs/%n.txt\nemperor-command-socket = {dir}/command\n");
    server.start(&["--ini", "{dir}/emperor.ini"]);
    wait_for("the vassal", || answer(&server, "a"));
    let text = wait_for("its file", || fs::read_to_string(server.path("logs/a.txt")).ok().filter(|t| t.contains("generation 1 serves")));
    assert!(!text.contains("[a.ini]"), "{text}");
    // The emperor's own log has one line a death, with the reason.
    server.wait_log("it said last: ");
    let log = server.log();
    assert!(!log.contains("generation 1 serves"), "{log}");
    assert!(log.lines().any(|l| l.contains("dead.ini") && l.contains("next try in") && l.contains("missing.py")), "{log}");
    assert!(said(&server, &["why", "a"]).contains("logs/a.txt"));
}

#[test]
fn a_vassal_that_floods_its_log_waits_and_the_emperor_does_not() {
    let server = emperor(&["quiet"], &["--vassal-log", "{dir}/logs/", "--vassal-log-limit", "100"]);
    fs::create_dir_all(server.path("logs")).expect("the directory");
    server.write(
        "flood.py",
        "import sys, threading\ndef flood():\n    n = 0\n    while True:\n        n += 1\n        sys.stderr.write('%08d %s\\n' % (n, 'x' * 90))\n\
         threading.Thread(target=flood, daemon=True).start()\ndef application(env, sr):\n    sr('200 OK', [])\n    return [b'']\n",
    );
    server.write("v/loud.ini", &vassal("loud", "lazy-apps = true\nenable-threads = true\n").replace("app.py", "flood.py"));
    server.wait_log("loud.ini: says more than 100 KiB a second");
    let before = cpu_of(server.pid());
    for _ in 0..20 {
        assert!(answer(&server, "quiet").is_some());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(cpu_of(server.pid()) - before < 50, "the emperor is kept busy");
    // No line is lost: the numbers follow each other.
    let text = fs::read_to_string(server.path("logs/loud.log")).expect("its file");
    let numbers: Vec<u64> = text.lines().filter_map(|l| l.split(' ').next()?.parse().ok()).collect();
    assert!(numbers.len() > 500 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{} lines", numbers.len());
    assert!(said(&server, &["stop", "loud"]).contains("is stopped"));
    assert!(cpu_ticks(server.pid()) > 0);
}

/// Of one process, in ticks.
fn cpu_of(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum()
}

#[test]
fn an_upgrade_of_the_emperor_is_noticed_by_no_vassal() {
    let mut server = emperor(&["a"], &["--emperor-stats", "{dir}/stats", "--emperor-on-demand-extension", ".where"]);
    server.write("v/late.ini.where", "{dir}/late.socket\n");
    server.write("v/late.ini", &vassal("late", "").replace("socket = {dir}/late.sock\n", ""));
    wait_state(&server, "late", "sleeping");
    let (a, pid) = (answer(&server, "a").expect("a"), row(&server, "a")["pid"].clone());
    let since = row(&server, "a")["since"].clone();
    for way in [true, false] {
        let before = server.log().matches("[emperor] governing").count();
        if way {
            assert!(said(&server, &["upgrade"]).contains("vassals run on"));
        } else {
            server.signal(Signal::SIGUSR2);
        }
        wait_for("the next life", || (server.log().matches("[emperor] governing").count() > before).then_some(()));
        assert!(server.alive());
        let now = row(&server, "a");
        assert_eq!((&now["pid"], &now["since"], &now["state"]), (&pid, &since, &"running".into()));
        assert_eq!(answer(&server, "a").as_ref(), Some(&a));
        assert!(now["figures"]["workers"].is_u64(), "its channel went along: {now}");
    }
    // What came along works: the on-demand socket, the pipe, the log, the watch for files.
    wait_for("a wake-up", || uwsgi(&server.fill("{dir}/late.socket"), "/").ok().filter(|r| r.status == 200));
    server.write("v/a.ini", &vassal("a", "processes = 2\n"));
    wait_for("the reload", || answer(&server, "a").filter(|now| *now != a));
    assert!(said(&server, &["log", "a"]).contains("generation 2 serves"));
    // With a broken configuration nothing happens.
    assert_eq!(row(&server, "a")["pid"], pid);
    server.signal(Signal::SIGTERM);
    assert!(server.wait_exit().success());
    for socket in ["stats", "command", "late.socket"] {
        assert!(!fs::symlink_metadata(server.path(socket)).is_ok_and(|m| m.file_type().is_socket()), "{socket} is left");
    }
}

#[test]
fn metrics_of_all_vassals_are_one_page() {
    let server = emperor(&["a", "b"], &["--emperor-stats-prometheus", "127.0.0.1:{port}"]);
    let page = http(&format!("127.0.0.1:{}", server.port), "/metrics").expect("the page").text();
    for line in ["imperator_vassals{state=\"running\"} 2", "imperator_vassal_up{vassal=\"a.ini\"} 1"] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
    for name in ["a", "b"] {
        let has = |l: &str| l.starts_with("uwsgi_") && l.contains(&format!("vassal=\"{name}.ini\""));
        assert!(page.lines().any(has), "{name} says nothing in\n{page}");
    }
    assert_eq!(http(&format!("127.0.0.1:{}", server.port), "/").expect("an answer").status, 404);
}

/// Master processes of these vassals, as the emperor below says.
fn masters(server: &Server, names: &[&str]) -> Vec<i64> {
    let socket = server.fill("{dir}/below");
    let ps = Command::new(env!("CARGO_BIN_EXE_imperator")).args(["ps", "--json", "--at", &socket]).output().expect("it runs");
    let ps: Value = serde_json::from_slice(&ps.stdout).unwrap_or_default();
    let rows = ps["vassals"].as_array().cloned().unwrap_or_default();
    let pid = |name: &&str| rows.iter().find(|r| r["name"] == format!("{name}.ini"))?["pid"].as_i64();
    names.iter().filter_map(pid).collect()
}

#[test]
fn an_emperor_that_is_a_vassal_keeps_its_own_over_a_reload() {
    let sub = "[uwsgi]\nemperor = {dir}/w\nemperor-command-socket = {dir}/below\n";
    let server = emperor(&["direct"], &[]);
    for name in ["one", "two", "three"] {
        server.write(&format!("{}/{name}.ini", if name == "three" { "w2" } else { "w" }), &vassal(name, ""));
    }
    server.write("two.ini", "[uwsgi]\nprocesses = 2\n");
    server.write("v/sub.ini", sub);
    let (one, two) = (wait_for("one", || answer(&server, "one")), wait_for("two", || answer(&server, "two")));
    let before = masters(&server, &["one", "two"]);
    let emperor = wait_state(&server, "sub", "running")["pid"].clone();
    let sums = || row(&server, "sub")["figures"].clone();
    assert_eq!(sums()["workers"], 2, "the sum of its vassals: {}", sums());
    let metrics = said(&server, &["stats", "sub"]);
    assert!(metrics.contains("one.ini") && metrics.contains("two.ini"), "{metrics}");
    // Its file is touched, and one of its vassals changes: that one alone is reloaded, in its place.
    server.write("w/two.ini", &vassal("two", "chmod-socket = 666\n"));
    server.write("v/sub.ini", sub);
    server.wait_log("executes its binary anew; vassals run on");
    wait_for("the other life of two", || answer(&server, "two").filter(|text| *text != two));
    assert_eq!(answer(&server, "one").as_ref(), Some(&one));
    assert_eq!(masters(&server, &["one", "two"]), before);
    // More of its own options: one more source takes effect, and whoever runs notices nothing.
    let more = format!("{sub}emperor = {{dir}}/w2\n");
    server.write("v/sub.ini", &more);
    wait_for("the third", || answer(&server, "three"));
    assert_eq!((answer(&server, "one").as_ref(), masters(&server, &["one", "two"])), (Some(&one), before.clone()));
    // A broken file changes nothing; by other options for vassals these are started anew.
    server.write("v/sub.ini", &format!("{more}no-such-option = 1\nstrict = 1\n"));
    server.wait_log("nothing changes");
    assert_eq!(answer(&server, "one").as_ref(), Some(&one));
    server.write("v/sub.ini", &format!("{more}vassals-include = {{dir}}/two.ini\n"));
    wait_for("other masters", || {
        Some(masters(&server, &["one", "two"])).filter(|now| now.len() == 2 && now.iter().all(|pid| !before.contains(pid)))
    });
    wait_for("the new one", || answer(&server, "one").filter(|text| *text != one));
    wait_for("the sum again", || Some(sums()).filter(|sums| sums["workers"].as_u64() >= Some(6)));
    assert_eq!(row(&server, "sub")["pid"], emperor, "all the time it was the same process");
    let workers = || server.tree().iter().filter(|(_, name)| name.contains("worker")).count();
    wait_for("two workers each", || (workers() >= 2 * 3).then_some(()));
}

#[test]
fn an_emperor_beside_an_app_takes_other_options_and_keeps_its_vassals() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.write("w/one.ini", &vassal("one", ""));
    server.write("w2/three.ini", &vassal("three", ""));
    let ini = "[uwsgi]\nmaster = true\nsocket = {dir}/front.sock\nwsgi-file = {dir}/app.py\nemperor = {dir}/w\nemperor-command-socket = {dir}/below\n";
    server.write("app.ini", ini);
    server.start(&["--ini", "{dir}/app.ini"]);
    let (front, one) = (wait_for("the app", || answer(&server, "front")), wait_for("one", || answer(&server, "one")));
    let masters_before = masters(&server, &["one"]);
    // A reload that does not concern it leaves it alone.
    server.signal(Signal::SIGHUP);
    wait_for("the app's next life", || answer(&server, "front").filter(|text| *text != front));
    assert_eq!(answer(&server, "one").as_ref(), Some(&one));
    assert!(!server.log().contains("executes its binary anew"));
    // Twice: what it listens to for other settings has to last.
    let more = format!("{ini}emperor = {{dir}}/w2\n");
    server.write("app.ini", &more);
    server.signal(Signal::SIGHUP);
    wait_for("three", || answer(&server, "three"));
    server.write("w3/four.ini", &vassal("four", ""));
    server.write("app.ini", &format!("{more}emperor = {{dir}}/w3\n"));
    server.signal(Signal::SIGHUP);
    wait_for("four", || answer(&server, "four"));
    assert_eq!((answer(&server, "one"), masters(&server, &["one"])), (Some(one), masters_before));
    // Without a source it ends, and its vassals with it.
    server.write("app.ini", &ini.replace("emperor = {dir}/w\n", ""));
    server.signal(Signal::SIGHUP);
    wait_for("the end of one", || answer(&server, "one").is_none().then_some(()));
    wait_for("the app", || answer(&server, "front"));
}
