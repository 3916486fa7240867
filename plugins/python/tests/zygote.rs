//! The extension in a real interpreter, with this test as its master: what a zygote reports, what it forks, how it ends.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use imperator_sys::process::set_cloexec;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::{BOOT_ENV, Boot, FromWorker, FromZygote, Listener, PYTHON_BOOTSTRAP, Role, ToZygote};
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::settings::{Protocol, Settings};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A zygote that this test has started.
struct Zygote {
    child: Child,
    control: SeqPacket,
    port: u16,
    log: std::fs::File,
    _directory: tempfile::TempDir,
}

fn extension() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let beside = |depth: usize| test.ancestors().nth(depth).map(|d| d.join("libimperator_python.so"));
    [beside(2), beside(1)].into_iter().flatten().find(|p| p.exists()).expect("cargo builds the library before its tests")
}

fn start(files: &[(&str, &str)], settings: impl FnOnce(&mut Settings)) -> Zygote {
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    let directory = tempfile::tempdir().expect("directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("file");
    }
    let mut configured = Settings::default();
    configured.process.chdir = directory.path().to_str().map(str::to_owned);
    settings(&mut configured);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    let (here, there) = SeqPacket::pair().expect("pair");
    let board = Scoreboard::create(configured.process.workers, configured.process.threads).expect("board");
    let boot = Boot {
        role: Role::Zygote,
        settings: configured,
        generation: 1,
        listeners: vec![Listener {
            fd: listener.as_raw_fd(),
            protocol: Protocol::Uwsgi,
            name: format!("127.0.0.1:{port}"),
            port: Some(port),
        }],
        scoreboard: board.as_fd().as_raw_fd(),
        caches: vec![],
        control: Some(there.as_fd().as_raw_fd()),
        request_log: None,
        master_pid: std::process::id() as i32,
        started_at: 0,
        drop: None,
        metrics: None,
    };
    let mut record = std::fs::File::from(memfd_create("boot", MFdFlags::empty()).expect("memfd"));
    record.write_all(&serde_json::to_vec(&boot).expect("json")).expect("record");
    for fd in [listener.as_fd(), board.as_fd(), there.as_fd()] {
        set_cloexec(fd, false).expect("inheritable");
    }
    let log = tempfile::tempfile().expect("log");
    let child = Command::new("python3")
        .args(["-c", PYTHON_BOOTSTRAP])
        .arg(extension())
        .env(BOOT_ENV, record.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log.try_clone().expect("log"))
        .spawn()
        .expect("python3");
    Zygote { child, control: here, port, log, _directory: directory }
}

impl Zygote {
    fn hear(&self) -> FromZygote {
        self.control.recv().expect("packet").expect("a message before the end").message
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("wait").code()
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        self.log.rewind().expect("rewind");
        self.log.read_to_string(&mut text).expect("log");
        text
    }
}

fn wsgi_file(settings: &mut Settings) {
    settings.python.wsgi_file = Some("app.py".into());
}

const APP: &str = "import os\nBOOT = os.environ.get('IMPERATOR_BOOT')\ndef application(env, start_response):\n    \
                   start_response('200 OK', [])\n    return [repr((BOOT, os.getppid())).encode()]\n";

#[test]
fn a_worker_is_the_masters_own_child_and_serves() {
    let mut zygote = start(&[("app.py", APP)], wsgi_file);
    let FromZygote::Loaded { apps, language } = zygote.hear() else { panic!("{}", zygote.text()) };
    assert_eq!(apps.len(), 1);
    assert!(language.starts_with("python 3."), "{language}");

    let (here, there) = SeqPacket::pair().expect("pair");
    here.want_credentials().expect("credentials");
    zygote.control.send(&ToZygote::Fork { worker: 1 }, &[there.as_fd()]).expect("order");
    drop(there);
    let started = here.recv::<FromWorker>().expect("packet").expect("started");
    assert_eq!(started.message, FromWorker::Started);
    let pid = started.pid.expect("the kernel tells the pid");
    assert!(matches!(here.recv::<FromWorker>().expect("packet").expect("accepting").message, FromWorker::Accepting { .. }));
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm").trim(), "worker 1");

    let mut client = std::net::TcpStream::connect(("127.0.0.1", zygote.port)).expect("connect");
    client.write_all(b"\0\x14\0\0\x0e\0REQUEST_METHOD\x02\0HI").expect("request");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("answer");
    assert!(answer.ends_with(&format!("(None, {})", std::process::id())), "{answer}");

    // The worker does not need its zygote, and ends with its master's word.
    drop(std::mem::replace(&mut zygote.control, SeqPacket::pair().expect("pair").0));
    assert_eq!(zygote.exit_code(), Some(0));
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("graceful");
    let status = nix::sys::wait::waitpid(pid, None).expect("it is our child");
    assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 17));
}

#[track_caller]
fn fails(app: &str, code: i32, said: &[&str]) {
    let mut zygote = start(&[("app.py", app)], |settings| {
        wsgi_file(settings);
        settings.origins = vec![("wsgi-file".into(), vec!["/srv/app.ini:3".into()])];
    });
    assert!(matches!(zygote.hear(), FromZygote::Failed { code: told, .. } if told == code));
    assert_eq!(zygote.exit_code(), Some(code));
    let text = zygote.text();
    assert!(said.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn an_app_that_cannot_be_loaded_is_told_with_option_place_and_cause() {
    fails(
        "import no_such_module\n",
        22,
        &["Traceback", "wsgi-file = app.py (/srv/app.ini:3)", "ModuleNotFoundError: No module named 'no_such_module'"],
    );
    fails("def app(e, s): pass\n", 22, &["has no attribute 'application'", "callables that are there: app"]);
    fails("async def application(scope, receive, send): pass\n", 22, &["is an ASGI app"]);
    fails("application = 5\n", 22, &["not callable: it is a int"]);
    fails("def application(:\n", 22, &["SyntaxError"]);
    fails("import sys; sys.exit(5)\n", 5, &["sys.exit(5)"]);
}

#[test]
fn a_missing_file_is_named_with_the_directory_that_was_searched() {
    let mut zygote = start(&[], wsgi_file);
    assert!(matches!(zygote.hear(), FromZygote::Failed { code: 22, .. }));
    zygote.exit_code();
    assert!(zygote.text().contains("file not found: app.py (the working directory is "));
}

#[test]
fn threads_at_fork_time_are_warned_of() {
    let app = format!("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='poller', daemon=True).start()\n{APP}");
    let mut zygote = start(&[("app.py", &app)], wsgi_file);
    assert!(matches!(zygote.hear(), FromZygote::Loaded { .. }));
    zygote.control.send(&ToZygote::Exit, &[]).expect("order");
    assert_eq!(zygote.exit_code(), Some(0));
    assert!(zygote.text().contains("do not live on in the workers: poller"));
}

#[test]
fn an_error_in_an_import_option_is_reported_and_the_load_goes_on() {
    let mut zygote = start(&[("app.py", APP), ("broken.py", "1 / 0\n")], |settings| {
        wsgi_file(settings);
        settings.python.import = vec!["broken".into()];
    });
    assert!(matches!(zygote.hear(), FromZygote::Loaded { .. }));
    zygote.control.send(&ToZygote::Exit, &[]).expect("order");
    zygote.exit_code();
    assert!(zygote.text().contains("ZeroDivisionError"));
}

#[test]
fn the_extension_is_not_to_be_started_by_hand() {
    let path: &Path = &extension();
    let done = Command::new("python3").args(["-c", PYTHON_BOOTSTRAP]).arg(path).output().expect("python3");
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("started by imperator"));
}
