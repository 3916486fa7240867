//! What an emperor demands of its vassals, what cannot be had, and unusual places: users of one's own, groups, hooks, frameworks.

mod support;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::jail::*;
use support::{Server, http, wait_for};

/// The groups of a vassal of this test, by the emperor's name for them.
fn groups(server: &Server) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", server.pid())).unwrap_or_default();
    text.lines().map(|line| line.rsplit(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn an_emperor_limits_each_vassal_and_cleans_up() {
    if !root() || !controller("pids") || !controller("cpu") {
        return;
    }
    let parent = format!("imperator-test-{}", std::process::id());
    let words = ["--emperor-cgroup-pids", "30", "--emperor-cgroup-cpu", "50", "--emperor-cgroup-parent", &parent];
    let mut e = Estate::with("cgroup-pids = 1000\n", "", &words);
    let master = e.master("a");
    let of_a = fs::read_to_string(format!("/proc/{master}/cgroup")).expect("its groups");
    assert!(of_a.contains(&format!("/{parent}/a.ini")), "{of_a}");
    let got = e.works("a", "fork", "100");
    assert_eq!(got[1], 11, "its own file cannot raise it: {got}");
    assert!(groups(&e.server).iter().all(|g| !g.contains(&parent)), "the emperor itself is in none");
    let below = |name: &str| {
        Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-path", &format!("*{parent}/{name}*")])
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
    };
    assert!(below("a.ini").expect("find").contains("a.ini"));
    let quota = Command::new("sh")
        .arg("-c")
        .arg(format!("cat $(find /sys/fs/cgroup -path '*{parent}/a.ini/cpu.cfs_quota_us' -o -path '*{parent}/a.ini/cpu.max')"))
        .output();
    assert!(String::from_utf8_lossy(&quota.expect("cat").stdout).starts_with("50000"));
    e.server.signal(Signal::SIGTERM);
    e.server.wait_exit();
    assert_eq!(below("").expect("find"), "");
}

#[test]
fn what_the_emperor_demands_no_tyrants_vassal_loosens() {
    if !root() || !landlock(6) {
        return;
    }
    let loose = "isolate = off\nseccomp = off\nno-new-privs = false\nprivate-tmp = false\nlandlock = false\n\
        hook-asap = exec:grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status > {dir}/a/var/asap\n";
    let words = ["--emperor-isolate", "strict", "--emperor-landlock-read", "{dir}/{name}", "--emperor-landlock-write", "{dir}/{name}"];
    let e = tyrants(loose, &words);
    assert_eq!(e.works("a", "ids", "")[1], 65534);
    for key in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"] {
        let seen = fs::read_to_string(e.server.path("a/var/asap")).expect("what its hook saw");
        assert!(seen.contains(key), "{key}: {seen}");
        let master = fs::read_to_string(format!("/proc/{}/status", e.master("a"))).expect("its master");
        assert!(master.contains(key), "{key}: {master}");
    }
    e.refused("read", "{dir}/b/secret", EACCES);
    e.refused("list", "{dir}/v/..", EACCES);
    assert_eq!(e.works("a", "list", "/tmp"), Value::Array(vec![]));
    assert_eq!(e.works("a", "pids", "")[0], 1);
    if cfg!(target_arch = "x86_64") {
        e.refused("call", "165 0 0 0 0 0", EPERM);
        e.refused("call", "272 0x10000000", EPERM);
    }
    e.refused("kill", "1", EPERM);
    // and it is reloaded like any other
    let first = e.works("a", "ids", "");
    e.server.write(
        "v/a.ini",
        &fs::read_to_string(e.server.path("v/a.ini")).expect("its file").replace("isolate = off", "isolate = 0\nprocesses = 1"),
    );
    chown(e.server.path("v/a.ini"), Some(65534), Some(65534)).expect("chown");
    wait_for("its reload", || e.try_ask("a", "ids", "").filter(|now| now["ok"] != first));
    e.refused("read", "{dir}/b/secret", EACCES);
    assert_eq!(e.works("b", "read", "{dir}/b/secret"), "b's own");
}

/// Where the Python of this machine is, which no emperor can know.
fn python_prefix() -> String {
    let said = Command::new("python3").args(["-c", "import sys; print(sys.base_prefix)"]).output().expect("python3");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

#[test]
fn a_demand_holds_for_roots_vassals_too() {
    if !root() || !landlock(1) {
        return;
    }
    let e = Estate::with(
        "isolate = off\nseccomp = off\nlandlock = false\nprivate-tmp = false\nlandlock-read = /\n",
        "",
        &[
            "--emperor-isolate",
            "strict",
            "--emperor-landlock-read",
            "{dir}/a",
            "--emperor-landlock-read",
            "{dir}/b",
            "--emperor-landlock-exec",
            &python_prefix(),
        ],
    );
    assert_eq!(e.works("a", "read", "secret"), "a's own");
    e.refused("list", "/var", EACCES);
    e.refused("write", "secret", EACCES);
    assert_eq!(e.works("a", "status", "NoNewPrivs"), "1");
    assert_eq!(e.works("a", "pids", "")[0], 1);
    assert_eq!(e.works("a", "list", "/tmp"), Value::Array(vec![]));
}

#[test]
fn who_is_not_root_isolates_itself_with_users_of_its_own() {
    if !root()
        || !landlock(1)
        || !can("user namespaces are off", fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() != "0"))
    {
        return;
    }
    let e = tyrants("isolate = strict\nrequire-isolation = true\nlandlock-write = var\n", &[]);
    assert_eq!(e.works("a", "ids", "")[1], 65534, "the same user as outside");
    assert_eq!(e.works("a", "pids", "")[0], 1);
    assert_eq!(e.works("a", "list", "/tmp"), Value::Array(vec![]));
    assert_ne!(e.works("a", "ns", "user"), e.works("b", "ns", "user"));
    assert_eq!(e.works("a", "status", "CapEff"), "0000000000000000");
    e.works("a", "write", "var/x");
    e.refused("list", "/var", EACCES);
    assert_eq!(e.works("b", "read", "{dir}/b/secret"), "b's own");
}

#[test]
fn what_cannot_be_had_is_said_and_ends_the_start_only_where_that_is_asked_for() {
    if !root() {
        return;
    }
    let e = tyrants("cgroup-memory = 64M\n", &[]);
    e.server.wait_log("isolation: this system lacks the control group");
    fs::create_dir(e.server.path("c")).expect("a folder");
    vassal(&e.server, "c", "cgroup-memory = 64M\nrequire-isolation = true\n");
    chown(e.server.path("v/c.ini"), Some(65534), Some(65534)).expect("chown");
    e.server.wait_log("(require-isolation)");
    assert!(!e.server.path("c/sock").exists());
}

#[test]
fn the_users_of_root_stay_what_they_are_in_a_namespace_of_theirs() {
    if !root() {
        return;
    }
    let e = Estate::new("unshare = user\nuid = 65534\ngid = 65534\ndrop-after-apps = true\n");
    let ids = e.works("a", "ids", "");
    assert_eq!((&ids[1], &ids[2]), (&65534.into(), &65534.into()));
    assert_ne!(e.works("a", "ns", "user"), e.works("b", "ns", "user"));
}

#[test]
fn a_lua_app_is_held_like_any_other() {
    if !root() || !landlock(1) {
        return;
    }
    let mut server = prepared();
    server.write("a/app.lua", LUA);
    let ini = "chdir = {dir}/a\nlua = app.lua\nisolate = strict\nhttp-socket = 127.0.0.1:{port}\nhttp-socket-modifier1 = 6\n";
    server.start_ini(ini);
    let address = server.fill("127.0.0.1:{port}");
    let read = |path: &str| http(&address, &format!("/?{}", server.fill(path))).ok().filter(|a| a.status == 200).map(|a| a.text());
    assert_eq!(wait_for("its own file", || read("{dir}/a/secret")), "read");
    let others = read("{dir}/b/secret").expect("an answer");
    assert!(others.contains("Permission denied"), "{others}");
}

#[test]
fn a_group_that_was_made_goes_with_its_vassal_and_namespaces_are_told_by_hooks() {
    if !root() || !controller("pids") {
        return;
    }
    let tree = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].into_iter().find(|p| Path::new(p).join("cgroup.procs").exists());
    let Some(tree) = tree else { return };
    let (made, kept) =
        (format!("{tree}/imperator-test-made-{}", std::process::id()), format!("{tree}/imperator-test-kept-{}", std::process::id()));
    fs::create_dir(&kept).expect("a group of somebody else's");
    let e = Estate::with(
        &format!("cgroup = {made}\nunshare = pid\nrefork-post-jail = true\nexec-post-jail = touch {{dir}}/a/jailed\n"),
        &format!("cgroup = {kept}\n"),
        &[],
    );
    assert!(Path::new(&made).is_dir() && e.server.path("a/jailed").exists(), "the stage runs with any namespace");
    for name in ["a", "b"] {
        fs::remove_file(e.server.path(&format!("v/{name}.ini"))).expect("remove");
    }
    wait_for("the end of its group", || (!Path::new(&made).exists()).then_some(()));
    wait_for("the neighbour's end", || fs::remove_dir(&kept).ok());
}

#[test]
fn vassals_are_cloned_with_users_that_are_those_of_the_host() {
    if !root() {
        return;
    }
    let e = Estate::with("uid = 65534\ngid = 65534\ndrop-after-apps = true\n", "", &["--emperor-use-clone", "user,fs,pid"]);
    assert_eq!(e.works("a", "ids", "")[1], 65534);
    assert_eq!(e.works("b", "ids", "")[1], 0, "root in there only");
    assert_ne!(e.works("a", "ns", "user"), e.works("b", "ns", "user"));
    assert_eq!(e.works("b", "read", "secret"), "b's own");
}

#[test]
fn frameworks_notice_nothing() {
    let mut server = Server::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    for project in ["django", "flask"] {
        let from = support::repository().join("tests/fixtures").join(project);
        assert!(Command::new("cp").arg("-r").arg(from).arg(server.dir.path()).status().expect("cp").success());
    }
    let python = support::venv().join("bin/python");
    let migrated = Command::new(python).args(["manage.py", "migrate", "-v", "0"]).current_dir(server.path("django")).output();
    assert!(migrated.expect("manage.py").status.success());
    let home = support::venv();
    let strict = format!("home = {}\nisolate = strict\nseccomp = strict\nprocesses = 2\nthreads = 2\n", home.display());
    server.write(
        "d.ini",
        &format!("[uwsgi]\nhttp-socket = 127.0.0.1:{{port}}\nchdir = {{dir}}/django\nmodule = site1.wsgi\nlandlock-write = .\n{strict}"),
    );
    server.write(
        "f.ini",
        &format!("[uwsgi]\nhttp-socket = 127.0.0.1:{{port2}}\nchdir = {{dir}}/flask\nwsgi-file = app.py\ncallable = app\n{strict}"),
    );
    for (ini, port, path, part) in [("d.ini", "{port}", "/admin/login/", "csrfmiddlewaretoken"), ("f.ini", "{port2}", "/", "")] {
        server.start(&["--ini", &format!("{{dir}}/{ini}")]);
        let address = server.fill(&format!("127.0.0.1:{port}"));
        let page = wait_for("the page", || http(&address, path).ok());
        assert!(page.status == 200 && page.text().contains(part), "{ini}: {}\n{}", page.status, server.log());
        server.signal(Signal::SIGTERM);
        assert!(server.wait_exit().success());
    }
}

#[test]
fn an_emperor_that_is_not_root_any_more_demands_the_same() {
    let users = || fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() != "0");
    if !root() || !landlock(1) || !can("user namespaces are off", users()) {
        return;
    }
    let mut server = prepared();
    for name in ["a", "b"] {
        vassal(&server, name, "isolate = off\n");
        chown(server.path(name), Some(65534), Some(65534)).expect("chown");
    }
    start(&mut server, &["--uid", "65534", "--gid", "65534", "--emperor-isolate", "strict", "--emperor-require-isolation"]);
    let e = Estate { server };
    assert_eq!(e.works("a", "ids", "")[1], 65534);
    assert_eq!(e.works("a", "pids", "")[0], 1);
    assert_eq!(e.works("a", "list", "/tmp"), Value::Array(vec![]));
    assert_ne!(e.works("a", "ns", "user"), e.works("b", "ns", "user"));
    e.refused("read", "{dir}/b/secret", EACCES);
    assert!(fs::read_to_string(format!("/proc/{}/status", e.master("a"))).expect("its master").contains("NoNewPrivs:\t1"));
    e.neighbour_is_well();
}
