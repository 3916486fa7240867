//! Namespaces that are handed out and joined, and memory that is offered for merging: seen from /proc, while the app serves.

mod support;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::{Server, running, uwsgi, wait_for};

const APP: &str =
    "import os\ndef application(env, sr):\n    sr('200 OK', [])\n    return [('%s %s' % (os.uname()[1], os.getcwd())).encode()]\n";

fn root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn instance(ini: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("socket = {{sock}}\nmaster = true\nwsgi-file = {{dir}}/app.py\n{ini}"));
    wait_for("the app", || answer(&server));
    server
}

fn answer(server: &Server) -> Option<String> {
    uwsgi(&server.sock(), "/").ok().filter(|a| a.status == 200).map(|a| a.text())
}

fn namespace(pid: i32, name: &str) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/{name}")).ok()?.display().to_string())
}

fn one(server: &Server, name: &str) -> Option<i32> {
    server.tree().into_iter().find(|(_, comm)| comm == name).map(|(pid, _)| pid)
}

/// Of one of the app's processes, as seen from here.
fn of_the_app(server: &Server, name: &str) -> Option<String> {
    namespace(one(server, "zygote")?, name)
}

fn same(a: &Server, b: &Server, name: &str) {
    let theirs = of_the_app(a, name);
    assert!(theirs.is_some());
    assert_eq!(of_the_app(b, name), theirs, "{name}");
}

/// Somebody with namespaces of their own, until dropped.
struct Other(Child);

impl Other {
    fn with(flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", "echo; exec sleep 120"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare");
        child.stdout.take().expect("its output").read_exact(&mut [0]).expect("it is inside");
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_instance_joins_the_namespaces_that_another_hands_out() {
    if !root() {
        return;
    }
    let giver = instance("unshare = uts,ipc,net\nexec-as-root = hostname given\nsetns-socket = {dir}/ns\nsetns-skip = ipc\n");
    let place = wait_for("the socket", || Some(giver.path("ns")).filter(|p| p.exists()));
    assert_eq!(fs::metadata(&place).expect("the socket").permissions().mode() & 0o777, 0o600);
    let mut joins = instance(&format!("setns = {}\ntouch-reload = {{dir}}/again\nattach-daemon = sleep 97\n", place.display()));
    assert!(answer(&joins).expect("an answer").starts_with("given "));
    same(&giver, &joins, "uts");
    same(&giver, &joins, "net");
    let own = |name| namespace(std::process::id() as i32, name);
    assert_eq!(of_the_app(&joins, "ipc"), own("ipc"), "it was left out");
    assert_eq!(namespace(joins.pid(), "net"), own("net"), "the master, and its sockets, stay");
    // what runs in the app's name goes with it
    let daemon = wait_for("the daemon", || one(&joins, "sleep"));
    wait_for("its network", || (namespace(daemon, "net") == of_the_app(&giver, "net")).then_some(()));
    let before = one(&joins, "zygote");
    joins.write("again", "");
    wait_for("a reload", || one(&joins, "zygote").filter(|z| Some(*z) != before && before.is_some_and(|b| !running(b))));
    same(&giver, &joins, "uts");
    joins.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(joins.wait_exit().success());
    assert!(answer(&giver).is_some());
}

#[test]
fn what_is_preopened_are_the_masters() {
    if !root() {
        return;
    }
    let giver = instance("unshare = uts\nexec-as-root = hostname given\nsetns-socket = {dir}/ns\nsetns-preopen = true\n");
    let place = wait_for("the socket", || Some(giver.path("ns")).filter(|p| p.exists()));
    let joins = instance(&format!("setns = {}\n", place.display()));
    assert!(!answer(&joins).expect("an answer").starts_with("given "));
    assert_eq!(of_the_app(&joins, "uts"), namespace(joins.pid(), "uts"));
}

#[test]
fn a_folder_of_proc_gives_mounts_and_processes_too() {
    if !root() {
        return;
    }
    let other = Other::with(&["--mount", "--uts", "--pid", "--fork", "--kill-child"]);
    let inside = wait_for("its child", || support::tree(other.0.id() as i32).first().map(|(pid, _)| *pid));
    let joins = instance(&format!("setns = /proc/{inside}/ns\n"));
    let text = answer(&joins).expect("an answer");
    assert!(text.ends_with(&joins.dir.path().display().to_string()), "it is where it was: {text}");
    for name in ["mnt", "uts", "pid"] {
        assert_eq!(of_the_app(&joins, name), namespace(inside, name), "{name}");
    }
    assert_eq!(of_the_app(&joins, "net"), namespace(joins.pid(), "net"));
}

#[test]
fn one_namespace_may_be_a_file_and_what_is_not_there_ends_the_start() {
    if !root() {
        return;
    }
    let other = Other::with(&["--net"]);
    let joins = instance(&format!("setns = /proc/{}/ns/net\n", other.0.id()));
    assert_eq!(of_the_app(&joins, "net"), namespace(other.0.id() as i32, "net"));
    let mut fails = Server::new();
    fails.write("app.py", APP);
    fails.start_ini("socket = {sock}\nwsgi-file = {dir}/app.py\nsetns = {dir}/nobody\n");
    assert_eq!(fails.wait_exit().code(), Some(1));
    assert!(fails.log().contains("setns = ") && fails.log().contains("nobody"), "{}", fails.log());
}

#[test]
fn an_apps_memory_is_offered_to_the_kernel_for_merging() {
    if !Path::new("/proc/self/ksm_stat").exists() || !fs::read_to_string("/proc/self/ksm_stat").is_ok_and(|s| s.contains("merge_any")) {
        return;
    }
    let offered = |pid: i32| fs::read_to_string(format!("/proc/{pid}/ksm_stat")).is_ok_and(|text| text.contains("ksm_merge_any: yes"));
    for (ini, expected) in [("ksm = true\n", true), ("ksm = 10\n", true), ("ksm = false\n", false), ("", false)] {
        let server = instance(ini);
        let below: Vec<(i32, bool)> = server.tree().into_iter().map(|(pid, _)| (pid, offered(pid))).collect();
        assert!(below.len() >= 2 && below.iter().all(|(_, is)| *is == expected), "{ini}: {below:?}");
        let idle = fs::read_to_string("/sys/kernel/mm/ksm/run").is_ok_and(|text| text.trim() == "0");
        assert_eq!(server.log().contains("ksm: memory is offered"), expected && idle, "{}", server.log());
    }
}
