//! Starts the toy worker and talks to it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod toy;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imperator_worker::settings::Settings;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Worker {
    pub directory: tempfile::TempDir,
    child: Child,
}

impl Worker {
    /// `change` makes the settings.
    pub fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
        setrlimit(Resource::RLIMIT_NOFILE, most.min(1 << 16), most).expect("limit");
        let directory = tempfile::tempdir().expect("directory");
        let mut settings = Settings::default();
        change(&mut settings);
        std::fs::write(directory.path().join("settings"), serde_json::to_vec(&settings).expect("json")).expect("settings");
        std::fs::write(directory.path().join("data"), "0123456789").expect("data");
        let log = std::fs::File::create(directory.path().join("log")).expect("log");
        let child = Command::new(std::env::current_exe().expect("exe"))
            .args(["--ignored", "--exact", "toy_worker", "--nocapture"])
            .env(toy::DIRECTORY, directory.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("child");
        let worker = Self { directory, child };
        until("the sockets", || UnixStream::connect(worker.directory.path().join("http11")).is_ok());
        worker
    }

    pub fn connect(&self, socket: &str) -> UnixStream {
        let stream = UnixStream::connect(self.directory.path().join(socket)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// Sends, and reads until the worker closes.
    pub fn talk(&self, socket: &str, data: &[u8]) -> String {
        let mut stream = self.connect(socket);
        stream.write_all(data).expect("send");
        rest(&mut stream)
    }

    pub fn get(&self, path: &str) -> String {
        self.talk("uwsgi", &packet(path, &[]))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub fn wait_log(&self, text: &str) {
        until(text, || self.log().contains(text));
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("kill");
    }

    /// The exit code.
    pub fn ended(&mut self) -> i32 {
        let mut code = None;
        until("the end of the worker", || {
            code = self.child.try_wait().expect("wait");
            code.is_some()
        });
        code.and_then(|status| status.code()).unwrap_or(-1)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("write");
    }

    pub fn has(&self, name: &str) -> bool {
        self.directory.path().join(name).exists()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn rest(stream: &mut UnixStream) -> String {
    let mut out = vec![];
    let _ = stream.read_to_end(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads until what was read ends with `end`.
pub fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut out = String::new();
    let mut buf = [0; 4096];
    while !out.ends_with(end) {
        let n = stream.read(&mut buf).expect("read");
        assert!(n > 0, "closed after {out:?}");
        out += &String::from_utf8_lossy(&buf[..n]);
    }
    out
}

pub fn raw_packet(modifier1: u8, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u16).to_le_bytes();
    [&[modifier1, size[0], size[1], 0], payload].concat()
}

pub fn packet(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    let base = [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", path),
        ("PATH_INFO", path),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REMOTE_ADDR", "10.0.0.9"),
    ];
    for (name, value) in base.iter().chain(more) {
        imperator_protocol::vars::push(&mut block, name.as_bytes(), value.as_bytes());
    }
    raw_packet(0, &block)
}
