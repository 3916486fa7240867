//! A worker with a toy language, run in a child process: `serve` owns the signals of its process.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imperator_worker::control::{App, Boot, Listener, Role};
use imperator_worker::language::{After, Language, NoLock};
use imperator_worker::request::{BodyError, Request};
use imperator_worker::scoreboard::Scoreboard;
use imperator_worker::settings::{Protocol, Settings};
use imperator_worker::{WorkerConfig, serve};
use nix::sys::resource::{Resource, setrlimit};

pub const DIRECTORY: &str = "IMPERATOR_TOY_DIRECTORY";

/// Answers by PATH_INFO; `/gate` waits until the file `open` is there.
struct Toy {
    directory: PathBuf,
}

impl Language for Toy {
    fn name(&self) -> String {
        "toy".into()
    }

    fn modifiers(&self) -> &[u8] {
        &[0, 30]
    }

    fn apps(&self) -> Vec<App> {
        vec![App { id: 0, modifier1: 0, mountpoint: String::new(), startup_time: 0, chdir: String::new() }]
    }

    fn enter_thread(&self, _core: u32) {}

    fn leave_thread(&self, _core: u32) {}

    fn serve(&self, request: &mut Request<'_>) -> After {
        request.set_app(0);
        let path = String::from_utf8_lossy(request.var(b"PATH_INFO").unwrap_or_default()).into_owned();
        match path.as_str() {
            "/panic" => panic!("as asked for"),
            "/error" => request.fail(500, &NoLock),
            "/exit" => {
                answer(request, b"bye");
                return After::Exit(5);
            }
            "/body" => match read_all(request) {
                Ok(body) => answer(request, &[format!("{}:", body.len()).as_bytes(), &body].concat()),
                Err(error) => answer(request, error.to_string().as_bytes()),
            },
            "/seek" => {
                let first = read_all(request).unwrap_or_default();
                let _ = request.seek(0);
                let again = read_all(request).unwrap_or_default();
                answer(request, format!("{} {}", first.len(), again == first).as_bytes());
            }
            "/echo" => {
                let mut buf = [0; 4096];
                while let Ok(got @ 1..) = request.read(&mut buf, &NoLock) {
                    let _ = request.write(&buf[..got], &NoLock);
                }
            }
            "/chunks" => {
                let mut text = String::new();
                while let Ok(chunk) = request.read_chunk(None, &NoLock) {
                    if chunk.is_empty() {
                        break;
                    }
                    text += &format!("[{}]", String::from_utf8_lossy(&chunk));
                }
                answer(request, text.as_bytes());
            }
            "/stream" => {
                for part in [&b"one"[..], b"", b"two"] {
                    let _ = request.write(part, &NoLock);
                }
            }
            "/more" => {
                let _ = request.add_header(b"Content-Length", b"3");
                let _ = request.write_vectored(&[b"12", b"345", b"6"], &NoLock);
            }
            "/fewer" => {
                let _ = request.add_header(b"Content-Length", b"10");
                let _ = request.write(b"12345", &NoLock);
            }
            "/empty" => {
                let _ = request.set_status(b"204 No Content");
            }
            "/file" => {
                let file = File::open(self.directory.join("data")).expect("data");
                let _ = request.send_file(file.as_fd(), 1, Some(5), &NoLock);
            }
            "/big" => {
                let data = vec![b'x'; 8 << 20];
                let _ = request.write(&data, &NoLock);
            }
            "/gate" => {
                let _ = std::fs::write(self.directory.join("entered"), "");
                while !self.directory.join("open").exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                answer(request, b"through");
            }
            _ => answer(request, format!("ok {path}").as_bytes()),
        }
        After::Continue
    }

    fn teardown(&self) {
        let _ = std::fs::write(self.directory.join("torn-down"), "");
    }
}

fn answer(request: &mut Request<'_>, text: &[u8]) {
    let _ = request.set_status(b"200 OK");
    let _ = request.add_header(b"Content-Length", text.len().to_string().as_bytes());
    let _ = request.write(text, &NoLock);
}

fn read_all(request: &mut Request<'_>) -> Result<Vec<u8>, BodyError> {
    let (mut body, mut buf) = (vec![], [0; 4096]);
    loop {
        match request.read(&mut buf, &NoLock)? {
            0 => return Ok(body),
            n => body.extend_from_slice(&buf[..n]),
        }
    }
}

/// The child: listens on `uwsgi`, `http` and `http11` in the directory, serves, and ends with the worker's exit code.
pub fn main(directory: &Path) -> ! {
    let settings: Settings = serde_json::from_slice(&std::fs::read(directory.join("settings")).expect("settings")).expect("json");
    if settings.limits.max_fd > 0 {
        setrlimit(Resource::RLIMIT_NOFILE, settings.limits.max_fd, settings.limits.max_fd).expect("limit");
    }
    let protocols = [("uwsgi", Protocol::Uwsgi), ("http", Protocol::Http), ("http11", Protocol::Http11)];
    let listeners: Vec<OwnedFd> =
        protocols.iter().map(|(name, _)| UnixListener::bind(directory.join(name)).expect("bind").into()).collect();
    let described =
        protocols.iter().map(|(name, protocol)| Listener { fd: -1, protocol: *protocol, name: (*name).into(), port: Some(8080) }).collect();
    let scoreboard = Scoreboard::create(1, settings.process.threads.max(1)).expect("scoreboard");
    let boot = Boot {
        role: Role::Zygote,
        settings,
        generation: 1,
        listeners: described,
        scoreboard: -1,
        caches: vec![],
        control: None,
        request_log: None,
        master_pid: 0,
        started_at: 0,
        drop: None,
        metrics: None,
    };
    let config = WorkerConfig { boot: boot.into(), worker: 1, listeners, scoreboard, link: None, request_log: None };
    std::process::exit(serve(config, &Toy { directory: directory.into() }))
}
