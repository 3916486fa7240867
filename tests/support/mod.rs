//! The black-box harness: one instance in a directory of its own, a uwsgi and an HTTP client, nginx.
//!
//! Nothing here knows how the server works; it starts the binary, talks to its sockets and reads its log and /proc.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod estate;
pub mod jail;
pub mod pty;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use imperator_protocol::vars;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long a condition may take on a loaded machine. It never decides a test that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const HELLO: &str = "import os\ndef application(env, sr):\n    sr('200 OK', [('Content-Type', 'text/plain')])\n    return [b'%d ' % os.getpid() + env['PATH_INFO'].encode()]\n";

/// Waits until `probe` gives something.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port()
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The virtualenv with Django and Flask that scripts/setup.sh makes.
pub fn venv() -> PathBuf {
    let venv = repository().join(".venv");
    assert!(venv.join("bin/python").exists(), "no {}: run `make test`, which makes it", venv.display());
    venv
}

/// The server's executable, with the extension beside it.
pub fn binary() -> &'static str {
    let binary = env!("CARGO_BIN_EXE_imperator");
    let extension = Path::new(binary).with_file_name("libimperator_python.so");
    assert!(extension.exists(), "no {}: `cargo build --workspace` first (make test does)", extension.display());
    binary
}

/// One running server and its directory; killed with all its processes when dropped.
pub struct Server {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub port2: u16,
    child: Option<Child>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("imperator-").tempdir().expect("a directory");
        Self { dir, port: free_port(), port2: free_port(), child: None }
    }

    /// In a folder that is not below /tmp, for those to whom /tmp is something else.
    pub fn below(folder: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("imperator-").permissions(world()).tempdir_in(folder).expect("a directory");
        Self { dir, port: free_port(), port2: free_port(), child: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces `{dir}`, `{port}`, `{port2}`, `{sock}`.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{sock}", &self.sock())
            .replace("{dir}", &self.dir.path().to_string_lossy())
            .replace("{port2}", &self.port2.to_string())
            .replace("{port}", &self.port.to_string())
    }

    pub fn sock(&self) -> String {
        self.path("app.sock").to_string_lossy().into_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("its folder");
        // Atomically, as an editor or a deployment does.
        let partial = path.with_extension("partial~");
        fs::write(&partial, self.fill(text)).expect("write");
        fs::rename(&partial, &path).expect("rename");
        path
    }

    /// Starts the binary with these arguments, in its directory, its log in `server.log`.
    pub fn start(&mut self, args: &[&str]) -> &mut Self {
        let mut command = Command::new(binary());
        command.args(args.iter().map(|a| self.fill(a)));
        self.start_by(command)
    }

    /// The same by a command that was prepared (another environment, a wrapper).
    pub fn start_by(&mut self, mut command: Command) -> &mut Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("server.log")).expect("the log");
        let child = command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
        self
    }

    /// Writes `app.ini` and starts with it.
    pub fn start_ini(&mut self, ini: &str) -> &mut Self {
        self.write("app.ini", &format!("[uwsgi]\n{ini}"));
        self.start(&["--ini", "{dir}/app.ini"])
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("started").id() as i32
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("server.log")).unwrap_or_default()).into_owned()
    }

    pub fn wait_log(&self, text: &str) {
        let found = |log: String| log.contains(text).then_some(());
        let deadline = Instant::now() + PATIENCE;
        while found(self.log()).is_none() {
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a request to `address` is answered with 200.
    pub fn ready(&mut self, address: &str) -> &mut Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(answer) = uwsgi(&self.fill(address), "/") {
                if answer.status == 200 {
                    return self;
                }
            }
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                panic!("the server ended with {status}; its log:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "{address} does not answer; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signal");
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().expect("started").try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// All processes below the server, by name.
    pub fn tree(&self) -> Vec<(i32, String)> {
        tree(self.pid())
    }
}

fn world() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let below = tree(child.id() as i32);
        if matches!(child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGINT);
            let deadline = Instant::now() + Duration::from_secs(5);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Its own group: nothing of anyone else's is in it.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let _ = child.wait();
        for (pid, _) in below {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.path("server.log").display(), self.log());
        }
    }
}

/// The descendants of a process: pid and /proc/PID/comm.
pub fn tree(pid: i32) -> Vec<(i32, String)> {
    let mut out = Vec::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return out };
    for task in tasks.flatten() {
        for child in fs::read_to_string(task.path().join("children")).unwrap_or_default().split_whitespace() {
            let Ok(child) = child.parse() else { continue };
            out.push((child, comm(child)));
            out.extend(tree(child));
        }
    }
    out
}

pub fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether a process runs (a zombie does not).
pub fn running(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|s| s.rsplit(')').next().map(|rest| !rest.trim_start().starts_with('Z')))
        .unwrap_or(false)
}

/// User+system time of a process and all below it, in clock ticks.
pub fn cpu_ticks(pid: i32) -> u64 {
    let own = |pid: i32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(4).filter_map(|f| f.parse::<u64>().ok()).sum()
    };
    own(pid) + tree(pid).iter().map(|(p, _)| own(*p)).sum::<u64>()
}

// -- clients

/// A response as it came off the wire.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(raw: &[u8]) -> io::Result<Self> {
        let end = raw
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .ok_or_else(|| io::Error::other(format!("no response head in {:?}", String::from_utf8_lossy(raw))))?;
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let status =
            head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
        Ok(Self { status, head, body: raw[end + 4..].to_vec() })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
    }
}

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// `host:port`, or the path of a unix socket.
pub fn connect(address: &str) -> io::Result<Box<dyn Stream>> {
    let timeout = Some(Duration::from_secs(20));
    if address.contains('/') {
        let stream = UnixStream::connect(address)?;
        stream.set_read_timeout(timeout)?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(timeout)?;
    Ok(Box::new(stream))
}

/// A uwsgi packet with the variables of a GET (and `more`, which win).
pub fn packet(uri: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let mut block = vec![0; 4];
    for (name, value) in [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", uri),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_HOST", "localhost"),
    ]
    .iter()
    .chain(more)
    {
        vars::push(&mut block, name.as_bytes(), value.as_bytes());
    }
    let length = (block.len() - 4) as u16;
    block[1..3].copy_from_slice(&length.to_le_bytes());
    block
}

/// Sends `data`, reads until the peer closes.
pub fn exchange(address: &str, data: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(address)?;
    stream.write_all(data)?;
    let mut out = Vec::new();
    stream.read_to_end(&mut out)?;
    Ok(out)
}

/// One GET over the uwsgi protocol.
pub fn uwsgi(address: &str, uri: &str) -> io::Result<Answer> {
    Answer::parse(&exchange(address, &packet(uri, &[]))?)
}

/// One GET over HTTP/1.1 with `Connection: close`.
pub fn http(address: &str, uri: &str) -> io::Result<Answer> {
    Answer::parse(&exchange(address, format!("GET {uri} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?)
}

/// What a stats socket says.
pub fn stats(address: &str) -> io::Result<serde_json::Value> {
    let mut out = Vec::new();
    connect(address)?.read_to_end(&mut out)?;
    Ok(serde_json::from_slice(&out)?)
}

/// A real nginx with `locations` in its server block; ended when dropped.
pub struct Nginx {
    pub port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Nginx {
    pub fn start(locations: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("nginx-").tempdir().expect("a directory");
        let (root, port) = (dir.path().display(), free_port());
        let params = ["/etc/nginx/uwsgi_params", "/usr/share/nginx/uwsgi_params"]
            .into_iter()
            .find(|p| Path::new(p).exists())
            .expect("nginx's uwsgi_params");
        let temp: String =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].iter().map(|k| format!("{k}_temp_path {root}/{k};\n")).collect();
        fs::write(
            dir.path().join("nginx.conf"),
            format!(
                "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log info; worker_processes 1;\nevents {{ worker_connections 1024; }}\n\
                 http {{ access_log off;\n{temp} server {{ listen 127.0.0.1:{port}; include {params};\n{locations}\n}}\n}}\n"
            ),
        )
        .expect("nginx.conf");
        let binary = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
            .into_iter()
            .find(|p| Path::new(p).exists())
            .expect("nginx (make test installs it)");
        let child = Command::new(binary)
            .args(["-c", &format!("{root}/nginx.conf"), "-e", &format!("{root}/error.log")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        wait_for("nginx listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, child, _dir: dir }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
