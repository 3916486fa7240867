//! `imperator-load ADDRESS REQUESTS CLIENTS [http]`: a bounded number of requests from some clients, and what came of them as JSON.
//!
//! A client is a thread that connects, sends one request, reads until the peer closes, and starts again (over HTTP it keeps its connection).
//! It checks each answer: a run with a wrong status or a short body is no run.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use imperator_protocol::vars;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some(address), Some(requests), Some(clients)) = (args.first(), number(&args, 1), number(&args, 2)) else {
        eprintln!("usage: imperator-load ADDRESS REQUESTS CLIENTS [http]");
        std::process::exit(2);
    };
    let http = args.get(3).is_some_and(|a| a == "http");
    let start = Instant::now();
    let workers: Vec<_> = (0..clients)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(
                move || if http { keep_alive(&address, requests / clients) } else { one_by_one(&address, requests / clients) },
            )
        })
        .collect();
    let mut all = Outcome::default();
    for worker in workers {
        match worker.join() {
            Ok(outcome) => all.add(outcome),
            Err(_) => all.failed += 1,
        }
    }
    all.micros.sort_unstable();
    let seconds = start.elapsed().as_secs_f64();
    let quantile =
        |q: f64| all.micros.get(((all.micros.len() as f64 * q) as usize).min(all.micros.len().saturating_sub(1))).copied().unwrap_or(0);
    let mut out = io::stdout().lock();
    let _ = writeln!(
        out,
        r#"{{"ok":{},"failed":{},"seconds":{seconds:.4},"rps":{:.1},"p50_us":{},"p99_us":{},"error":{:?}}}"#,
        all.micros.len(),
        all.failed,
        all.micros.len() as f64 / seconds,
        quantile(0.5),
        quantile(0.99),
        all.error.unwrap_or_default(),
    );
}

fn number(args: &[String], index: usize) -> Option<usize> {
    args.get(index)?.parse().ok().filter(|n| *n > 0)
}

#[derive(Default)]
struct Outcome {
    micros: Vec<u32>,
    failed: usize,
    error: Option<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }

    fn count(&mut self, started: Instant, result: io::Result<()>) {
        match result {
            Ok(()) => self.micros.push(started.elapsed().as_micros().min(u128::from(u32::MAX)) as u32),
            Err(e) => {
                self.failed += 1;
                self.error.get_or_insert(e.to_string());
            }
        }
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(address: &str) -> io::Result<Box<dyn Stream>> {
    let timeout = Some(Duration::from_secs(20));
    if address.contains('/') {
        let stream = UnixStream::connect(address)?;
        stream.set_read_timeout(timeout)?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(timeout)?;
    Ok(Box::new(stream))
}

/// What nginx's `uwsgi_params` sends for a browser's GET.
fn packet() -> Vec<u8> {
    let mut block = vec![0; 4];
    for (name, value) in [
        ("QUERY_STRING", ""),
        ("REQUEST_METHOD", "GET"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("REQUEST_URI", "/"),
        ("PATH_INFO", "/"),
        ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "40000"),
        ("SERVER_PORT", "80"),
        ("SERVER_NAME", "localhost"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br"),
    ] {
        vars::push(&mut block, name.as_bytes(), value.as_bytes());
    }
    let length = (block.len() - 4) as u16;
    block[1..3].copy_from_slice(&length.to_le_bytes());
    block
}

fn one_by_one(address: &str, requests: usize) -> Outcome {
    let (packet, mut outcome, mut buffer) = (packet(), Outcome::default(), Vec::with_capacity(64 << 10));
    for _ in 0..requests {
        let started = Instant::now();
        buffer.clear();
        let result = connect(address).and_then(|mut stream| {
            stream.write_all(&packet)?;
            stream.read_to_end(&mut buffer)?;
            if buffer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other("the answer is not a 200")) }
        });
        outcome.count(started, result);
    }
    outcome
}

fn keep_alive(address: &str, requests: usize) -> Outcome {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";
    let (mut outcome, mut stream, mut buffer) = (Outcome::default(), None, Vec::with_capacity(64 << 10));
    for _ in 0..requests {
        let started = Instant::now();
        let result = exchange(address, &mut stream, request, &mut buffer);
        if result.is_err() {
            stream = None;
        }
        outcome.count(started, result);
    }
    outcome
}

fn exchange(address: &str, kept: &mut Option<Box<dyn Stream>>, request: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
    if kept.is_none() {
        *kept = Some(connect(address)?);
    }
    let Some(stream) = kept.as_mut() else { return Err(io::Error::other("no connection")) };
    stream.write_all(request)?;
    buffer.clear();
    let mut part = [0; 16 << 10];
    loop {
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(io::Error::other("closed in mid-answer"));
        }
        buffer.extend_from_slice(&part[..n]);
        if let Some(total) = answer_length(buffer)? {
            if buffer.len() >= total {
                return Ok(());
            }
        }
    }
}

/// Head and body together, once the head is there. The servers under test answer with a Content-Length.
fn answer_length(buffer: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(io::Error::other("the answer is not a 200"));
    }
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|v| v.trim().parse::<usize>().ok());
    length.map(|n| Some(end + 4 + n)).ok_or_else(|| io::Error::other("no content-length"))
}
