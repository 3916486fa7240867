//! Two vassals of an emperor, one of which tries what it should not be able to do.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::Value;

use super::{Server, stats, uwsgi, wait_for};

/// Does what it is asked for, and says what came of it.
pub const APP: &str = r#"
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

pub const LUA: &str = r#"
return function(env)
    local file, problem = io.open(env.QUERY_STRING)
    return 200, { ["Content-Type"] = "text/plain" }, coroutine.wrap(function() coroutine.yield(file and "read" or problem) end)
end
"#;

pub const EPERM: i64 = 1;
pub const EACCES: i64 = 13;

/// An emperor with two vassals in folders of their own: `a`, which tries, and `b`, which has a secret.
pub struct Estate {
    pub server: Server,
}

impl Estate {
    pub fn new(a: &str) -> Self {
        Self::with(a, "", &[])
    }

    /// `a`, `b`: lines of their files; `emperor`: words of its command line.
    pub fn with(a: &str, b: &str, emperor: &[&str]) -> Self {
        let mut server = prepared();
        vassal(&server, "a", a);
        vassal(&server, "b", b);
        start(&mut server, emperor);
        Self { server }
    }

    pub fn try_ask(&self, who: &str, what: &str, about: &str) -> Option<Value> {
        let about: String =
            about.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02x}") }).collect();
        let answer = uwsgi(&self.server.fill(&format!("{{dir}}/{who}/sock")), &format!("/{what}?{about}")).ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    pub fn ask(&self, who: &str, what: &str, about: &str) -> Value {
        self.try_ask(who, what, &self.server.fill(about))
            .unwrap_or_else(|| panic!("{who} does not answer {what} {about}; the log:\n{}", self.server.log()))
    }

    /// What the vassal `a` gets for it.
    pub fn a(&self, what: &str, about: &str) -> Value {
        self.ask("a", what, about)
    }

    pub fn refused(&self, what: &str, about: &str, with: i64) {
        let got = self.a(what, about);
        assert_eq!(got["error"], with, "{what} {about}: {got}");
    }

    pub fn works(&self, who: &str, what: &str, about: &str) -> Value {
        let got = self.ask(who, what, about);
        assert!(got.get("error").is_none(), "{who}: {what} {about}: {got}");
        got["ok"].clone()
    }

    /// The neighbour has noticed nothing.
    pub fn neighbour_is_well(&self) {
        assert_eq!(self.works("b", "read", "{dir}/b/secret"), "b's own");
    }

    /// The pid of a vassal as its emperor knows it: the master, or the one that stays outside of its process namespace.
    pub fn master(&self, name: &str) -> i32 {
        let all = stats(&self.server.fill("{dir}/stats")).expect("the emperor's statistics");
        let vassals = all["vassals"].as_array().expect("vassals");
        let pid = vassals.iter().find(|v| v["id"] == format!("{name}.ini")).and_then(|v| v["pid"].as_i64());
        pid.unwrap_or_else(|| panic!("no {name} in {all}")) as i32
    }
}

pub fn prepared() -> Server {
    let server = Server::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    for name in ["a", "b"] {
        server.write(&format!("{name}/app.py"), APP);
        server.write(&format!("{name}/secret"), &format!("{name}'s own"));
        fs::create_dir(server.path(name).join("var")).expect("a folder");
    }
    fs::create_dir(server.path("v")).expect("the directory of vassals");
    server
}

pub fn vassal(server: &Server, name: &str, more: &str) {
    let text = format!("[uwsgi]\nsocket = {{dir}}/{name}/sock\nchmod-socket = 666\nchdir = {{dir}}/{name}\nwsgi-file = app.py\n{more}");
    server.write(&format!("v/{name}.ini"), &text);
}

pub fn start(server: &mut Server, emperor: &[&str]) {
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
pub fn tyrants(a: &str, emperor: &[&str]) -> Estate {
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
pub fn can(what: &str, yes: bool) -> bool {
    if !yes {
        eprintln!("skipped: {what}");
    }
    yes
}

pub fn root() -> bool {
    can("this needs root", geteuid().is_root())
}

pub fn landlock(version: i32) -> bool {
    let here = imperator_sys::landlock::version();
    can(&format!("this kernel has landlock {here}, not {version}"), here >= version)
}

pub fn controller(name: &str) -> bool {
    let v1 = fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
        .any(|l| l.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == name)));
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default().split_whitespace().any(|c| c == name);
    can(&format!("no control group controller {name} here"), v1 || v2)
}
