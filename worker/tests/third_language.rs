//! A third language, to show what one takes (docs/languages.md): its apps are files, and the answer is what the file says. Served by the real zygote and
//! worker, forked and ended on the word of this test, which plays the master.
//!
//! The zygote is this executable once more. A process that forks has one thread, so the tests are not run by libtest, which starts some.
#![allow(clippy::print_stdout)] // it is how the test runner is told

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use imperator_sys::process::{exit_now, set_cloexec};
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::control::{App, BOOT_ENV, Boot, FromWorker, FromZygote, Listener, Role, ToZygote};
use imperator_worker::language::{After, Language, NoLock};
use imperator_worker::request::Request;
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::settings::{Protocol, Settings};
use imperator_worker::zygote::{self, Load, Runtime, ZygoteError};
use nix::sys::memfd::{MFdFlags, memfd_create};

// -- the language: all that a new one has to bring

/// What was loaded: the text of the file that answers.
struct Static {
    answer: String,
}

impl Language for Static {
    fn name(&self) -> String {
        "static".into()
    }

    fn modifiers(&self) -> &[u8] {
        &[99]
    }

    fn apps(&self) -> Vec<App> {
        vec![App { id: 0, modifier1: 99, mountpoint: String::new(), startup_time: 0, chdir: String::new() }]
    }

    fn enter_thread(&self, _core: u32) {}

    fn leave_thread(&self, _core: u32) {}

    fn serve(&self, request: &mut Request<'_>) -> After {
        request.set_app(0);
        if request.var(b"PATH_INFO") == Some(b"/error") {
            request.count_exception();
            request.fail(500, &NoLock);
        } else if request.set_status(b"200 OK").is_ok() {
            // A client that has left is no trouble of ours.
            let _ = request.write(self.answer.as_bytes(), &NoLock);
        }
        After::Continue
    }

    fn teardown(&self) {}
}

/// The same language while it is loaded and forked.
struct Loader {
    file: String,
    language: Option<Arc<Static>>,
}

impl Runtime for Loader {
    fn language(&self) -> Arc<dyn Language> {
        self.language.clone().unwrap_or_else(|| Arc::new(Static { answer: String::new() }))
    }

    fn load(&mut self) -> Result<Load, ZygoteError> {
        Ok(match std::fs::read_to_string(&self.file) {
            Ok(answer) => {
                self.language = Some(Arc::new(Static { answer }));
                Load::Done
            }
            Err(error) => Load::Failed { code: 22, message: format!("{}: {error}", self.file) },
        })
    }
}

// -- its process, and the test that plays the master

const FILE: &str = "IMPERATOR_STATIC_ANSWER";

const TESTS: [(&str, fn()); 2] = [
    ("a_third_language_is_loaded_forked_and_served", a_third_language_is_loaded_forked_and_served),
    ("an_app_that_cannot_be_loaded_ends_the_zygote_with_its_code", an_app_that_cannot_be_loaded_ends_the_zygote_with_its_code),
];

/// The zygote if a test has started this; else what a test runner asks for.
fn main() {
    if let (Ok(number), Ok(file)) = (std::env::var(BOOT_ENV), std::env::var(FILE)) {
        exit_now(zygote(&number, file).unwrap_or(1));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    for (name, test) in TESTS.into_iter().filter(|_| !has("--ignored")) {
        if has("--list") {
            println!("{name}: test");
        } else if has(name) || !has("--exact") {
            test();
        }
    }
}

fn zygote(number: &str, file: String) -> Result<i32, ZygoteError> {
    let host = zygote::begin(Boot::receive(number)?.into())?;
    zygote::run(host, &mut Loader { file, language: None })
}

/// Starts the zygote as a master does; what it says first.
fn start(directory: &std::path::Path) -> (std::process::Child, SeqPacket, FromZygote) {
    let listener = std::os::unix::net::UnixListener::bind(directory.join("socket")).expect("listener");
    let (here, there) = SeqPacket::pair().expect("pair");
    let board = Scoreboard::create(1, 1).expect("board");
    let boot = Boot {
        role: Role::Zygote,
        settings: Settings::default(),
        generation: 1,
        listeners: vec![Listener { fd: listener.as_raw_fd(), protocol: Protocol::Uwsgi, name: "socket".into(), port: None }],
        scoreboard: board.as_fd().as_raw_fd(),
        control: Some(there.as_fd().as_raw_fd()),
        request_log: None,
        master_pid: std::process::id() as i32,
        started_at: 0,
        drop: None,
        caches: vec![],
        metrics: None,
    };
    let mut record = std::fs::File::from(memfd_create("boot", MFdFlags::empty()).expect("memfd"));
    record.write_all(&serde_json::to_vec(&boot).expect("json")).expect("record");
    for fd in [listener.as_fd(), board.as_fd(), there.as_fd()] {
        set_cloexec(fd, false).expect("inheritable");
    }
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.env(BOOT_ENV, record.as_raw_fd().to_string()).env(FILE, directory.join("answer"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("zygote");
    drop(there);
    let said = here.recv::<FromZygote>().expect("packet").expect("a message").message;
    (child, here, said)
}

fn a_third_language_is_loaded_forked_and_served() {
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    let directory = tempfile::tempdir().expect("directory");
    std::fs::write(directory.path().join("answer"), "forty-two").expect("file");
    let (mut zygote, control, said) = start(directory.path());
    assert!(matches!(said, FromZygote::Loaded { apps, language } if apps.len() == 1 && language == "static"));

    let (link, theirs) = SeqPacket::pair().expect("pair");
    link.want_credentials().expect("credentials");
    control.send(&ToZygote::Fork { worker: 1 }, &[theirs.as_fd()]).expect("order");
    drop(theirs);
    let started = link.recv::<FromWorker>().expect("packet").expect("started");
    assert_eq!(started.message, FromWorker::Started);
    assert!(matches!(link.recv::<FromWorker>().expect("packet").expect("accepting").message, FromWorker::Accepting { .. }));

    let ask = |path: &str| {
        let mut client = UnixStream::connect(directory.path().join("socket")).expect("connect");
        let mut block = vec![];
        imperator_protocol::vars::push(&mut block, b"PATH_INFO", path.as_bytes());
        client.write_all(&[&[99, block.len() as u8, 0, 0], &block[..]].concat()).expect("request");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("answer");
        answer
    };
    assert!(ask("/").ends_with("\r\n\r\nforty-two"));
    assert!(ask("/error").contains(" 500 Internal Server Error\r\n"));
    assert!(ask("/").ends_with("forty-two"), "the worker goes on");

    control.send(&ToZygote::Exit, &[]).expect("order");
    assert_eq!(zygote.wait().expect("wait").code(), Some(0));
    let worker = nix::unistd::Pid::from_raw(started.pid.expect("the kernel tells the pid"));
    nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGHUP).expect("graceful");
    assert_eq!(nix::sys::wait::waitpid(worker, None).expect("our child"), nix::sys::wait::WaitStatus::Exited(worker, 17));
}

fn an_app_that_cannot_be_loaded_ends_the_zygote_with_its_code() {
    let directory = tempfile::tempdir().expect("directory");
    let (mut zygote, _control, said) = start(directory.path());
    assert!(matches!(said, FromZygote::Failed { code: 22, message } if message.contains("answer")));
    assert_eq!(zygote.wait().expect("wait").code(), Some(22));
}
