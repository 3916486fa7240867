//! Apps that try to get out: each mechanism from inside a real vassal, while its neighbour serves on.

mod support;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use serde_json::Value;
use support::jail::*;
use support::{running, wait_for};

#[test]
fn strict_leaves_an_app_its_own_files_and_nobody_elses() {
    if !root() || !landlock(1) {
        return;
    }
    let e = Estate::new("isolate = strict\nlandlock-write = var\n");
    assert_eq!(e.works("a", "read", "secret"), "a's own");
    e.works("a", "write", "var/mine");
    e.works("a", "read", "/etc/passwd");
    e.refused("read", "{dir}/b/secret", EACCES);
    e.refused("list", "{dir}/b", EACCES);
    e.refused("write", "{dir}/b/var/x", EACCES);
    e.refused("write", "secret", EACCES);
    e.refused("list", "/root", EACCES);
    // /tmp is empty, and what is written there nobody sees
    fs::write("/tmp/imperator-isolation-test", "").expect("a file of ours");
    assert_eq!(e.works("a", "list", "/tmp"), Value::Array(vec![]));
    fs::remove_file("/tmp/imperator-isolation-test").expect("remove");
    e.works("a", "write", "/tmp/of-a");
    e.works("a", "write", "/dev/shm/of-a");
    assert!(!Path::new("/tmp/of-a").exists() && !Path::new("/dev/shm/of-a").exists());
    // programs are run where the system has them, and a copy in /tmp is not
    assert_eq!(e.works("a", "run", "id -u"), "0");
    e.works("a", "run", "cp /bin/true /tmp/t && chmod 755 /tmp/t");
    assert!(e.a("run", "/tmp/t").to_string().contains("126"), "permission denied");
    assert_eq!(e.works("b", "read", "{dir}/a/secret"), "a's own", "who is not isolated is not");
    e.neighbour_is_well();
}

#[test]
fn strict_leaves_an_app_its_own_processes() {
    if !root() {
        return;
    }
    let e = Estate::new("isolate = strict\n");
    let pids = e.works("a", "pids", "");
    assert!(pids.as_array().is_some_and(|p| p.len() <= 4 && p[0] == 1), "{pids}");
    assert!(e.works("b", "pids", "").as_array().is_some_and(|p| p.len() > 4));
    let emperor = e.server.pid().to_string();
    assert!(e.a("kill", &emperor)["error"].is_i64(), "no such process, or not permitted");
    for name in ["pid", "mnt", "ipc", "uts"] {
        assert_ne!(e.works("a", "ns", name), e.works("b", "ns", name), "{name}");
    }
    assert_eq!(e.works("a", "ns", "net"), e.works("b", "ns", "net"), "an app may need its database");
    assert_eq!(e.works("a", "status", "CapBnd"), "0000000000000000");
    assert_eq!(e.works("a", "status", "CapEff"), "0000000000000000");
    assert_eq!(e.works("a", "status", "NoNewPrivs"), "1");
    e.neighbour_is_well();
}

#[test]
fn an_isolated_vassal_is_reloaded_and_stopped_as_any_other() {
    if !root() {
        return;
    }
    let e = Estate::new("isolate = strict\nlogto = {dir}/a/var/log\nprocesses = 2\n");
    let (first, master) = (e.works("a", "ids", ""), e.master("a"));
    vassal(&e.server, "a", "isolate = strict\nlogto = {dir}/a/var/log\nprocesses = 2\nlandlock-write = var\n");
    wait_for("its reload", || e.try_ask("a", "write", "var/after").filter(|got| got.get("ok").is_some()));
    assert_ne!(e.works("a", "ids", ""), first, "other workers");
    assert_eq!(e.master("a"), master, "of the same master");
    e.refused("list", "/root", EACCES);
    assert!(fs::read_to_string(e.server.path("a/var/log")).expect("its log").contains("generation 2 serves"));
    fs::remove_file(e.server.path("v/a.ini")).expect("remove");
    wait_for("its end", || (!running(master)).then_some(()));
    e.neighbour_is_well();
}

#[test]
fn signals_and_abstract_sockets_of_others_are_out_of_reach() {
    if !root() || !landlock(6) {
        return;
    }
    let e = Estate::new("isolate = default\n");
    let name = format!("imperator-isolation-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("bind");
    e.refused("connect", &format!("@{name}"), EPERM);
    e.works("b", "connect", &format!("@{name}"));
    let other = e.works("b", "ids", "")[0].to_string();
    e.refused("kill", &other, EPERM);
    e.refused("kill", &e.master("b").to_string(), EPERM);
    e.works("b", "kill", &e.master("a").to_string());
    e.neighbour_is_well();
}

#[test]
fn a_hidden_folder_is_empty_and_its_sockets_cannot_be_reached() {
    if !root() {
        return;
    }
    let e = Estate::new("hide-path = {dir}/b\nhide-path = /etc/hostname\n");
    assert!(e.a("connect", "{dir}/b/sock")["error"].is_i64());
    assert!(e.a("read", "{dir}/b/secret")["error"].is_i64());
    assert_eq!(e.works("a", "read", "/etc/hostname"), "");
    e.works("b", "connect", "{dir}/a/sock");
    e.neighbour_is_well();
}

#[test]
fn forbidden_calls_fail_and_the_rest_works() {
    if !can("the numbers are those of x86-64", cfg!(target_arch = "x86_64")) {
        return;
    }
    let calls = [
        "165 0 0 0 0 0",
        "272 0x10000000",
        "101 16 1 0 0",
        "246 0 0 0 0",
        "321 0 0 0",
        "298 0 0 0 0 0",
        "250 0 0",
        "425 1 0",
        "310 1 0 0 0 0 0",
        "16 0 0x5412 0",
    ];
    let default = Estate::new("seccomp = default\n");
    for call in calls {
        default.refused("call", call, EPERM);
    }
    default.works("a", "thread", "");
    default.works("a", "run", "echo x | cat");
    default.neighbour_is_well();
    drop(default);

    let strict = Estate::new("seccomp = strict\n");
    for call in calls.iter().copied().chain(["41 17 3 0"]) {
        strict.refused("call", call, EPERM);
    }
    strict.refused("call", "303 0 0 0 0 0", 38);
    strict.works("a", "thread", "");
    strict.works("a", "run", "echo x | cat");
    strict.neighbour_is_well();
}

#[test]
fn a_file_says_which_calls_are_refused() {
    let mut server = prepared();
    server.write("list.json", r#"["mkdir", "symlink"]"#);
    server.write(
        "docker.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#,
    );
    vassal(&server, "a", "seccomp = {dir}/list.json\n");
    vassal(&server, "b", "seccomp = {dir}/docker.json\n");
    start(&mut server, &[]);
    let e = Estate { server };
    if cfg!(target_arch = "x86_64") {
        e.refused("call", "83 0 0", EPERM);
        e.refused("call", "165 0 0 0 0 0", EPERM);
        assert_eq!(e.ask("b", "call", "83 0 0")["error"], 95);
    }
    e.server.write("list.json", r#"["no_such_call"]"#);
    vassal(&e.server, "a", "seccomp = {dir}/list.json\nprocesses = 1\n");
    e.server.wait_log("no system call is named \"no_such_call\"");
    assert!(e.works("a", "ids", "").is_array(), "the running one goes on");
}

#[test]
fn no_program_gives_rights_that_were_given_up() {
    if !root() {
        return;
    }
    let late = "uid = 65534\ngid = 65534\ndrop-after-apps = true\n";
    let mut server = prepared();
    let id = server.path("id");
    fs::copy("/usr/bin/id", &id).expect("a copy");
    fs::set_permissions(&id, fs::Permissions::from_mode(0o4755)).expect("setuid");
    vassal(&server, "a", &format!("no-new-privs = true\n{late}"));
    vassal(&server, "b", late);
    start(&mut server, &[]);
    let e = Estate { server };
    assert_eq!(e.works("b", "run", "{dir}/id -u"), "0");
    assert_eq!(e.works("a", "run", "{dir}/id -u"), "65534");
}

#[test]
fn one_that_takes_too_much_memory_is_killed_and_its_neighbour_is_not() {
    if !root() || !controller("memory") {
        return;
    }
    let e = Estate::with("cgroup-memory = 128M\n", "cgroup-memory = 512M\n", &[]);
    assert!(e.works("a", "memory", "1000000").is_i64());
    let neighbour = e.works("b", "ids", "");
    assert!(e.try_ask("a", "memory", "300000000").is_none(), "the worker is killed in the middle of the request");
    wait_for("another worker", || e.try_ask("a", "ids", ""));
    assert_eq!(e.works("b", "memory", "300000000"), 300_000_000);
    assert_eq!(e.works("b", "ids", ""), neighbour);
    e.neighbour_is_well();
}

#[test]
fn a_fork_bomb_hits_its_own_wall_only() {
    if !root() || !controller("pids") {
        return;
    }
    let e = Estate::with("cgroup-pids = 24\n", "", &[]);
    let got = e.works("a", "fork", "100");
    assert!(got[0].as_i64().is_some_and(|n| n < 24) && got[1] == 11, "{got}");
    assert_eq!(e.works("b", "fork", "50"), 50);
    assert_eq!(e.works("a", "fork", "5"), 5, "what has ended counts no more");
    e.neighbour_is_well();
}
