//! One client of the emperor: a request, then an answer, or lines for as long as it listens.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use imperator_protocol::response::reason;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

/// Bytes of lines that may wait for a follower who reads slowly.
const BACKLOG: usize = 256 * 1024;

/// How a client talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// One line of JSON.
    Json,
    /// HTTP: the path of a request.
    Http,
    /// HTTP: all of its head.
    Head,
}

/// What it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    /// Its request is being answered.
    Waiting,
    /// Its answer goes out; then it is closed.
    Leaving,
    Following,
}

pub struct Client {
    stream: OwnedFd,
    talk: Talk,
    stage: Stage,
    /// Bytes of its request at most.
    longest: usize,
    request: Vec<u8>,
    out: VecDeque<u8>,
    /// What follows it, shared with others, and how much of that is out.
    body: (Rc<str>, usize),
    lost: u64,
    /// `Now::ms`; `None`: it may stay.
    pub deadline: Option<u64>,
}

/// What the loop has to do about a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Read,
    Write,
    /// Nothing, unless it leaves.
    Rest,
    /// This was its request: the line, the path, or the head.
    Asks(Vec<u8>),
    Close,
}

impl Client {
    pub fn new(stream: OwnedFd, talk: Talk, longest: usize, deadline: u64) -> Self {
        let body = ("".into(), 0);
        let (request, out) = (vec![], VecDeque::new());
        Self { stream, talk, stage: Stage::Reading, longest, request, out, body, lost: 0, deadline: Some(deadline) }
    }

    /// Whether it has not even asked.
    pub fn is_silent(&self) -> bool {
        self.stage == Stage::Reading
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// It can be read from or written to.
    pub fn step(&mut self) -> Next {
        match self.stage {
            Stage::Reading => self.read(),
            Stage::Waiting => Next::Close, // only its leaving wakes us
            Stage::Leaving => self.flush(),
            Stage::Following if self.out.is_empty() => Next::Close,
            Stage::Following => self.flush(),
        }
    }

    fn read(&mut self) -> Next {
        let mut buffer = [0; 1024];
        loop {
            match nix::unistd::read(&self.stream, &mut buffer) {
                Ok(0) if self.talk == Talk::Json && !self.request.is_empty() => self.request.push(b'\n'),
                Ok(0) => return Next::Close,
                Ok(n) => self.request.extend_from_slice(&buffer[..n]),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Next::Read,
                Err(_) => return Next::Close,
            }
            if let Some(request) = self.complete() {
                self.stage = Stage::Waiting;
                return Next::Asks(request);
            }
            if self.request.len() > self.longest {
                return Next::Close;
            }
        }
    }

    fn complete(&self) -> Option<Vec<u8>> {
        match self.talk {
            Talk::Json => self.request.iter().position(|b| *b == b'\n').map(|end| self.request[..end].to_vec()),
            Talk::Http => self.is_head().then(|| path(&self.request)),
            Talk::Head => self.is_head().then(|| self.request.clone()),
        }
    }

    fn is_head(&self) -> bool {
        let ends = |pattern: &[u8]| self.request.windows(pattern.len()).any(|w| w == pattern);
        ends(b"\r\n\r\n") || ends(b"\n\n")
    }

    /// The whole answer, whose head its maker knows best.
    pub fn answer_with(&mut self, head: &str, body: Rc<str>, deadline: u64) -> Next {
        self.out.extend(head.as_bytes());
        self.body = (body, 0);
        self.stage = Stage::Leaving;
        self.deadline = Some(deadline);
        self.flush()
    }

    /// The whole answer.
    pub fn answer(&mut self, status: u16, kind: &str, body: &str, deadline: u64) -> Next {
        if self.talk == Talk::Http {
            let head = format!(
                "HTTP/1.0 {status} {}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                reason(status),
                body.len()
            );
            self.out.extend(head.as_bytes());
        }
        self.out.extend(body.as_bytes());
        self.stage = Stage::Leaving;
        self.deadline = Some(deadline);
        self.flush()
    }

    /// The first part of an answer that goes on for as long as the client listens.
    pub fn begin_following(&mut self, text: &str) -> Next {
        self.stage = Stage::Following;
        self.deadline = None;
        self.out.extend(text.as_bytes());
        self.flush()
    }

    /// One more line for a follower. Who reads too slowly misses some, and is told how many.
    pub fn follow(&mut self, line: &str) -> Next {
        if self.out.len() + line.len() > BACKLOG {
            self.lost += 1;
            return self.flush();
        }
        if self.lost > 0 {
            self.out.extend(format!("{{\"lost\":{}}}\n", std::mem::take(&mut self.lost)).as_bytes());
        }
        self.out.extend(line.as_bytes());
        self.flush()
    }

    fn flush(&mut self) -> Next {
        loop {
            let (body, sent) = &mut self.body;
            let (front, _) = self.out.as_slices();
            let is_body = front.is_empty();
            let part = if is_body { &body.as_bytes()[*sent..] } else { front };
            if part.is_empty() {
                break;
            }
            match send(std::os::fd::AsRawFd::as_raw_fd(&self.stream), part, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
                Ok(n) if is_body => *sent += n,
                Ok(n) => drop(self.out.drain(..n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Next::Write,
                Err(_) => return Next::Close,
            }
        }
        if self.stage == Stage::Leaving { Next::Close } else { Next::Rest }
    }
}

/// The path of a request's first line, without its query.
fn path(head: &[u8]) -> Vec<u8> {
    let line = head.split(|b| *b == b'\r' || *b == b'\n').next().unwrap_or_default();
    let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    target.split(|b| *b == b'?' || *b == b'#').next().unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::wish::LONGEST;
    use super::*;

    fn client(talk: Talk) -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Client::new(ours.into(), talk, LONGEST, 1000), theirs)
    }

    #[test]
    fn a_line_comes_in_pieces_and_is_answered() {
        let (mut client, mut peer) = client(Talk::Json);
        assert_eq!(client.step(), Next::Read);
        peer.write_all(b"{\"command\":").unwrap();
        assert_eq!(client.step(), Next::Read);
        peer.write_all(b"\"ps\"}\nmore").unwrap();
        assert_eq!(client.step(), Next::Asks(b"{\"command\":\"ps\"}".to_vec()));
        assert_eq!(client.answer(200, "", "{}\n", 9), Next::Close);
        drop(client);
        let mut text = String::new();
        let _ = peer.read_to_string(&mut text);
        assert_eq!(text, "{}\n");
    }

    #[test]
    fn a_request_without_a_line_end_is_one_when_the_client_has_no_more() {
        let (mut client, mut peer) = client(Talk::Json);
        peer.write_all(b"{}").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.step(), Next::Asks(b"{}".to_vec()));
    }

    #[test]
    fn http_asks_with_a_path() {
        let (mut client, mut peer) = client(Talk::Http);
        peer.write_all(b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.step(), Next::Asks(b"/metrics".to_vec()));
        client.answer(404, "text/plain", "no", 9);
        drop(client);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.0 404 Not Found\r\n") && text.ends_with("Content-Length: 2\r\n\r\nno"), "{text}");
    }

    #[test]
    fn a_shared_body_follows_its_head_as_fast_as_it_is_read() {
        let (mut client, mut peer) = client(Talk::Head);
        peer.write_all(b"GET / HTTP/1.1\r\nA: b\r\n\r\n").unwrap();
        assert_eq!(client.step(), Next::Asks(b"GET / HTTP/1.1\r\nA: b\r\n\r\n".to_vec()));
        let body: Rc<str> = "x".repeat(1 << 20).into();
        assert_eq!(client.answer_with("head ", body.clone(), 9), Next::Write);
        peer.set_nonblocking(true).unwrap();
        let (mut got, mut chunk) = (vec![], vec![0; 65536]);
        while got.len() < 5 + body.len() {
            got.extend(peer.read(&mut chunk).map(|n| chunk[..n].to_vec()).unwrap_or_default());
            client.step();
        }
        assert_eq!(client.step(), Next::Close);
        assert!(got.starts_with(b"head x") && got[5..] == *body.as_bytes());
    }

    #[test]
    fn an_endless_request_is_cut_off() {
        let (mut client, mut peer) = client(Talk::Json);
        peer.write_all(&[b'x'; 2 * LONGEST]).unwrap();
        assert_eq!(client.step(), Next::Close);
    }

    #[test]
    fn a_slow_follower_misses_lines_and_is_told() {
        let (mut client, mut peer) = client(Talk::Json);
        client.begin_following("first\n");
        let line = "x".repeat(1000) + "\n";
        while client.lost < 5 {
            client.follow(&line);
        }
        let mut got = String::new();
        let mut chunk = [0; 65536];
        while !client.out.is_empty() {
            let n = peer.read(&mut chunk).unwrap();
            got.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
            client.step();
        }
        client.follow("last\n");
        drop(client);
        peer.read_to_string(&mut got).unwrap();
        assert!(got.starts_with("first\n") && got.ends_with("{\"lost\":5}\nlast\n"), "{}", &got[got.len() - 40..]);
    }
}
