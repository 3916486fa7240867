//! Apps that try to get out: each mechanism from inside a real vassal, while its neighbour serves on.

mod support;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use support::{Server, http, running, stats, uwsgi, wait_for};

/// Does what it is asked for, and says what came of it.
const APP: &str = r#"
import ctypes, json, os, socket, subprocess, threading
from urllib.parse import unquote
libc = ctypes.CDLL(None, use_errno=True)
def call(words):
    if libc.syscall(*[int(w, 0) for w in words.split()]) < 0:
        raise OSError(ctypes.get_errno(), 'call')
    return True
def connect(name):
    s = socket.socket(socket.AF_UNIX)
    s.connect('\0' + name[1:] if name[0] == '@' else name)
    return True
def fork(n):
    pids = []
    r, w = os.pipe()
    try:
        for _ in range(int(n)):
            pid = os.fork()
            if pid == 0:
                os.close(w); os.read(r, 1); os._exit(0)
            pids.append(pid)
        return len(pids)
    except OSError as e:
        return [len(pids), e.errno]
    finally:
        os.close(w); os.close(r)
        for pid in pids: os.waitpid(pid, 0)
def thread(_):
    done = []
    t = threading.Thread(target=lambda: done.append(1)); t.start(); t.join()
    return done == [1]
OPS = {
    'read': lambda p: open(p).read(), 'write': lambda p: open(p, 'w').write('x'), 'list': lambda p: sorted(os.listdir(p)),
    'run': lambda line: subprocess.check_output(line, shell=True).decode().strip(), 'kill': lambda pid: os.kill(int(pid), 0),
    'connect': connect, 'call': call, 'fork': fork, 'thread': thread, 'memory': lambda n: len(b'x' * int(n)),
    'status': lambda key: [l.split(':')[1].strip() for l in open('/proc/self/status') if l.startswith(key + ':')][0],
    'pids': lambda _: sorted(int(p) for p in os.listdir('/proc') if p.isdigit()), 'ids': lambda _: [os.getpid(), os.getuid(), os.getgid()],
    'ns': lambda name: os.readlink('/proc/self/ns/' + name), 'unix': lambda p: socket.socket(socket.AF_UNIX).bind(p),
}
def application(env, start_response):
    try:
        out = {'ok': OPS[env['PATH_INFO'][1:]](unquote(env['QUERY_STRING']))}
    except Exception as e:
        out = {'error': getattr(e, 'errno', None) or str(e)}
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps(out).encode()]
"#;

const LUA: &str = r#"
return function(env)
    local file, problem = io.open(env.QUERY_STRING)
    return 200, { ["Content-Type"] = "text/plain" }, coroutine.wrap(function() coroutine.yield(file and "read" or problem) end)
end
"#;

const EPERM: i64 = 1;
const EACCES: i64 = 13;

/// An emperor with two vassals in folders of their own: `a`, which tries, and `b`, which has a secret.
struct Estate {
    server: Server,
}

impl Estate {
    fn new(a: &str) -> Self {
        Self::with(a, "", &[])
    }

    /// `a`, `b`: lines of their files; `emperor`: words of its command line.
    fn with(a: &str, b: &str, emperor: &[&str]) -> Self {
        let mut server = prepared();
        vassal(&server, "a", a);
        vassal(&server, "b", b);
        start(&mut server, emperor);
        Self { server }
    }

    fn try_ask(&self, who: &str, what: &str, about: &str) -> Option<Value> {
        let about: String =
            about.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02x}") }).collect();
        let answer = uwsgi(&self.server.fill(&format!("{{dir}}/{who}/sock")), &format!("/{what}?{about}")).ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    fn ask(&self, who: &str, what: &str, about: &str) -> Value {
        self.try_ask(who, what, &self.server.fill(about))
            .unwrap_or_else(|| panic!("{who} does not answer {what} {about}; the log:\n{}", self.server.log()))
    }

    /// What the vassal `a` gets for it.
    fn a(&self, what: &str, about: &str) -> Value {
        self.ask("a", what, about)
    }

    fn refused(&self, what: &str, about: &str, with: i64) {
        let got = self.a(what, about);
        assert_eq!(got["error"], with, "{what} {about}: {got}");
    }

    fn works(&self, who: &str, what: &str, about: &str) -> Value {
        let got = self.ask(who, what, about);
        assert!(got.get("error").is_none(), "{who}: {what} {about}: {got}");
        got["ok"].clone()
    }

    /// The neighbour has noticed nothing.
    fn neighbour_is_well(&self) {
        assert_eq!(self.works("b", "read", "{dir}/b/secret"), "b's own");
    }

    /// The pid of a vassal as its emperor knows it: the master, or the one that stays outside of its process namespace.
    fn master(&self, name: &str) -> i32 {
        let all = stats(&self.server.fill("{dir}/stats")).expect("the emperor's statistics");
        let vassals = all["vassals"].as_array().expect("vassals");
        let pid = vassals.iter().find(|v| v["id"] == format!("{name}.ini")).and_then(|v| v["pid"].as_i64());
        pid.unwrap_or_else(|| panic!("no {name} in {all}")) as i32
    }
}

fn prepared() -> Server {
    let server = Server::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    for name in ["a", "b"] {
        server.write(&format!("{name}/app.py"), APP);
        server.write(&format!("{name}/secret"), &format!("{name}'s own"));
        fs::create_dir(server.path(name).join("var")).expect("a folder");
    }
    fs::create_dir(server.path("v")).expect("the directory of vassals");
    server
}

fn vassal(server: &Server, name: &str, more: &str) {
    let text = format!("[uwsgi]\nsocket = {{dir}}/{name}/sock\nchmod-socket = 666\nchdir = {{dir}}/{name}\nwsgi-file = app.py\n{more}");
    server.write(&format!("v/{name}.ini"), &text);
}

fn start(server: &mut Server, emperor: &[&str]) {
    let words: Vec<&str> = ["--emperor", "{dir}/v", "--emperor-stats", "{dir}/stats"].into_iter().chain(emperor.iter().copied()).collect();
    server.start(&words);
    for name in ["a", "b"] {
        let address = server.fill(&format!("{{dir}}/{name}/sock"));
        wait_for(&format!("{name}; the log is {}", server.path("server.log").display()), || {
            assert!(server.alive(), "the emperor has ended:\n{}", server.log());
            uwsgi(&address, "/ids").ok().filter(|a| a.status == 200)
        });
    }
}

/// Vassals of `nobody` and `www-data`, whose folders are theirs.
fn tyrants(a: &str, emperor: &[&str]) -> Estate {
    let mut server = prepared();
    for (name, user, group) in [("a", 65534, 65534), ("b", 33, 33)] {
        vassal(&server, name, if name == "a" { a } else { "" });
        for path in [format!("v/{name}.ini"), name.into(), format!("{name}/var"), format!("{name}/secret")] {
            chown(server.path(&path), Some(user), Some(group)).expect("chown");
        }
    }
    let words: Vec<&str> = ["--emperor-tyrant"].into_iter().chain(emperor.iter().copied()).collect();
    start(&mut server, &words);
    Estate { server }
}

/// Whether the test can be done here; if not, the reason is printed.
fn can(what: &str, yes: bool) -> bool {
    if !yes {
        eprintln!("skipped: {what}");
    }
    yes
}

fn root() -> bool {
    can("this needs root", geteuid().is_root())
}

fn landlock(version: i32) -> bool {
    let here = imperator_sys::landlock::version();
    can(&format!("this kernel has landlock {here}, not {version}"), here >= version)
}

fn controller(name: &str) -> bool {
    let v1 = fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
        .any(|l| l.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == name)));
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default().split_whitespace().any(|c| c == name);
    can(&format!("no control group controller {name} here"), v1 || v2)
}

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
