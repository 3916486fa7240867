//! What systemd sees of an instance and of an emperor: readiness, reloads, the watchdog, sockets that it passes. The tests play systemd.

mod support;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use support::{HELLO, PATIENCE, Server, binary, http, repository, uwsgi, wait_for};

/// The socket of `NOTIFY_SOCKET`, and what came over it.
struct Systemd {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Systemd {
    fn new(server: &Server) -> Self {
        let socket = UnixDatagram::bind(server.path("notify")).expect("the socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { socket, heard: vec![] }
    }

    /// The first message from now on that has this line. What came before it goes to `heard`.
    fn wait(&mut self, line: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|e| panic!("no {line:?} after {:?}: {e}", self.heard));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(text.clone());
            if text.lines().any(|found| found == line) {
                return text;
            }
        }
    }
}

fn start(server: &mut Server, env: &[(&str, &str)], args: &[&str]) {
    let mut command = Command::new(binary());
    command.env("NOTIFY_SOCKET", server.path("notify")).envs(env.iter().copied()).args(args.iter().map(|a| server.fill(a)));
    server.start_by(command);
}

const INI: &str = "[uwsgi]\nsocket = {sock}\nwsgi-file = app.py\nprocesses = 2\n";

#[test]
fn ready_reloading_ready_again_and_stopping() {
    let mut server = Server::new();
    let mut systemd = Systemd::new(&server);
    server.write("app.py", HELLO);
    server.write("app.ini", INI);
    start(&mut server, &[], &["--ini", "{dir}/app.ini"]);
    let ready = systemd.wait("READY=1");
    assert!(ready.contains(&format!("MAINPID={}\n", server.pid())), "{ready}");
    assert_eq!(uwsgi(&server.sock(), "/").expect("who is ready serves").status, 200);
    // The second worker may be there at once, or come later.
    if !ready.contains("STATUS=generation 1 serves, 2 workers\n") {
        systemd.wait("STATUS=generation 1 serves, 2 workers");
    }

    server.signal(Signal::SIGHUP);
    let reloading = systemd.wait("RELOADING=1");
    assert!(reloading.lines().any(|l| l.strip_prefix("MONOTONIC_USEC=").is_some_and(|us| us.parse::<u64>().is_ok_and(|us| us > 0))));
    let ready = systemd.wait("READY=1");
    assert!(ready.contains("STATUS=generation 2 serves"), "{ready}");

    for broken in [("app.ini", format!("{INI}processes = many\n")), ("app.py", "raise LookupError('broken')\n".into())] {
        server.write(broken.0, &broken.1);
        server.signal(Signal::SIGHUP);
        systemd.wait("RELOADING=1");
        systemd.wait("READY=1");
        assert_eq!(uwsgi(&server.sock(), "/").expect("the old one serves").status, 200, "{}", broken.0);
        server.write("app.ini", INI);
        server.write("app.py", HELLO);
    }

    server.signal(Signal::SIGTERM);
    systemd.wait("STOPPING=1");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(!systemd.heard.iter().any(|text| text.contains("WATCHDOG")), "nobody asked for it");
}

#[test]
fn the_watchdog_hears_of_the_master_also_after_a_reload_and_apps_hear_nothing_of_systemd() {
    let mut server = Server::new();
    let mut systemd = Systemd::new(&server);
    let app = "import os\ndef application(env, sr):\n    sr('200 OK', [])\n    return [' '.join(os.environ).encode()]\n";
    server.write("app.py", app);
    server.write("app.ini", INI);
    start(&mut server, &[("WATCHDOG_USEC", "200000")], &["--ini", "{dir}/app.ini"]);
    systemd.wait("READY=1");
    systemd.wait("WATCHDOG=1");
    systemd.wait("WATCHDOG=1");
    server.signal(Signal::SIGHUP);
    systemd.wait("READY=1");
    systemd.wait("WATCHDOG=1");
    let seen = uwsgi(&server.sock(), "/").expect("an answer").text();
    assert!(seen.contains("PATH") && !seen.contains("NOTIFY_SOCKET") && !seen.contains("WATCHDOG"), "{seen}");
}

#[test]
fn an_emperor_says_how_many_it_governs() {
    let mut server = Server::new();
    let mut systemd = Systemd::new(&server);
    server.write("app.py", HELLO);
    server.write("vassals/a.ini", "[uwsgi]\nsocket = {sock}\nchdir = {dir}\nwsgi-file = app.py\n");
    start(&mut server, &[("WATCHDOG_USEC", "200000")], &["--emperor", "{dir}/vassals"]);
    let ready = systemd.wait("READY=1");
    assert!(ready.contains(&format!("MAINPID={}\n", server.pid())), "{ready}");
    server.ready("{sock}");
    systemd.wait("WATCHDOG=1");
    assert!(systemd.heard.iter().any(|text| text.contains("STATUS=The Emperor is governing 1 vassals")), "{:?}", systemd.heard);
    server.signal(Signal::SIGHUP);
    systemd.wait("RELOADING=1");
    systemd.wait("READY=1");
    server.signal(Signal::SIGTERM);
    systemd.wait("STOPPING=1");
    assert_eq!(server.wait_exit().code(), Some(0));
    assert_eq!(systemd.heard.iter().filter(|text| text.contains("READY=1")).count(), 2, "vassals are the emperor's: {:?}", systemd.heard);
}

/// Starts it with these sockets as descriptors 3 and up.
fn activate(server: &mut Server, sockets: &[OwnedFd], names: &str, args: &[&str]) {
    let copies: Vec<i32> = sockets.iter().map(|fd| fcntl(fd, FcntlArg::F_DUPFD(100)).expect("a copy")).collect();
    let opens: String = copies.iter().zip(3..).map(|(from, to)| format!("{to}<&{from} {from}<&- ")).collect();
    let mut command = Command::new("bash"); // whose descriptors may have more than one digit
    command.args(["-c", &format!("LISTEN_PID=$$ exec \"$0\" \"$@\" {opens}"), binary()]).args(args.iter().map(|a| server.fill(a)));
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    server.start_by(command);
    for fd in copies {
        nix::unistd::close(fd).expect("closed");
    }
}

#[test]
fn sockets_of_systemd_take_the_place_of_socket_lines_and_survive_reloads_and_the_end() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("its address").to_string();
    let extra = TcpListener::bind("127.0.0.1:0").expect("a port");
    let extra_address = extra.local_addr().expect("its address").to_string();
    let unix = UnixListener::bind(server.path("unix.sock")).expect("a socket");
    server.write("app.ini", &format!("[uwsgi]\nhttp-socket = {address}\nsocket = {{dir}}/unix.sock\nwsgi-file = app.py\nvacuum = true\n"));
    let sockets: Vec<OwnedFd> = vec![tcp.into(), unix.into(), extra.into()];
    activate(&mut server, &sockets, "a:b:http", &["--ini", "{dir}/app.ini"]);
    let path = server.fill("{dir}/unix.sock");
    let all_answer = |when: &str| {
        assert_eq!(http(&address, "/").unwrap_or_else(|e| panic!("{when}: {e}")).status, 200, "{when}: the protocol is the line's");
        assert_eq!(uwsgi(&path, "/").unwrap_or_else(|e| panic!("{when}: {e}")).status, 200, "{when}");
        assert_eq!(http(&extra_address, "/").unwrap_or_else(|e| panic!("{when}: {e}")).status, 200, "{when}: the protocol is its name's");
    };
    server.ready(&path);
    all_answer("at first");
    let before = uwsgi(&path, "/").expect("an answer").text();
    server.signal(Signal::SIGHUP);
    wait_for("a new worker", || uwsgi(&path, "/").ok().filter(|a| a.text() != before));
    all_answer("after a reload");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(Path::new(&path).exists(), "the file is systemd's");
    // It starts the service again, with the very same sockets.
    activate(&mut server, &sockets, "a:b:http", &["--ini", "{dir}/app.ini"]);
    server.ready(&path);
    all_answer("at the second start");
}

#[test]
fn an_instance_without_any_socket_line_serves_what_it_is_given() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let unix: OwnedFd = UnixListener::bind(server.path("unix.sock")).expect("a socket").into();
    server.write("app.ini", "[uwsgi]\nwsgi-file = app.py\n");
    activate(&mut server, &[unix], "", &["--ini", "{dir}/app.ini"]);
    server.ready("{dir}/unix.sock");
}

#[test]
fn the_units_are_sound() {
    let units: Vec<_> = std::fs::read_dir(repository().join("packaging/systemd")).expect("the units").flatten().map(|e| e.path()).collect();
    let unit = |path: &&std::path::PathBuf| path.extension().is_some_and(|e| e == "service" || e == "socket");
    assert_eq!(units.iter().filter(unit).count(), 3);
    let Some(version) = version() else {
        eprintln!("SKIPPED: there is no systemd-analyze here");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    for path in units.iter().filter(unit) {
        // The binary is not where it will be installed.
        let mut text = std::fs::read_to_string(path).expect("a unit").replace("/usr/bin/imperator", binary());
        if version < 253 {
            text = text.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID");
        }
        std::fs::write(dir.path().join(path.file_name().expect("a name")), text).expect("its copy");
    }
    let units = ["imperator@shop.service", "imperator@shop.socket", "imperator-emperor.service"].map(|name| dir.path().join(name));
    let out = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().expect("systemd-analyze");
    let said = String::from_utf8_lossy(&out.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("imperator")).collect();
    assert!(out.status.success() && ours.is_empty(), "{said}");
}

/// Of systemd-analyze, if there is one.
fn version() -> Option<u32> {
    let out = Command::new("systemd-analyze").arg("--version").output().ok()?;
    String::from_utf8_lossy(&out.stdout).split_whitespace().nth(1)?.parse().ok()
}
