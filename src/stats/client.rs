//! One connection of a stats reader, as a state machine that never blocks.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use super::page::{Page, Style, target};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

/// A request head longer than this is no reader's.
const HEAD: usize = 16 * 1024;

/// What a client needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Read,
    Write,
    Close,
}

#[derive(Debug)]
pub(super) struct Client {
    stream: OwnedFd,
    state: State,
    pub deadline: Instant,
}

#[derive(Debug)]
enum State {
    /// [`Style::Http`]: up to the blank line.
    Request(Vec<u8>),
    Answer {
        head: String,
        body: Rc<str>,
        sent: usize,
    },
}

impl Client {
    pub fn new(stream: OwnedFd, style: Style, deadline: Instant, make: &mut dyn FnMut(&str) -> Page) -> Self {
        let state = match style {
            Style::Http => State::Request(vec![]),
            Style::Bare => State::Answer { head: String::new(), body: make("").body, sent: 0 },
        };
        Self { stream, state, deadline }
    }

    /// Goes on as far as it can without waiting.
    pub fn step(&mut self, make: &mut dyn FnMut(&str) -> Page) -> Next {
        if let State::Request(head) = &mut self.state {
            match read_head(&self.stream, head) {
                Ok(true) => self.state = answer(head, make),
                Ok(false) => return Next::Read,
                Err(_) => return Next::Close,
            }
        }
        let State::Answer { head, body, sent } = &mut self.state else { return Next::Close };
        match write(&self.stream, head, body, sent) {
            Ok(true) => {
                self.finish();
                Next::Close
            }
            Ok(false) => Next::Write,
            Err(_) => Next::Close,
        }
    }

    /// What a client said that nobody reads would turn our close into a reset, and that may cost it the answer.
    fn finish(&self) {
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Write);
        let mut rest = [0; 4096];
        for _ in 0..16 {
            if !matches!(recv(self.stream.as_raw_fd(), &mut rest, MsgFlags::MSG_DONTWAIT), Ok(n) if n > 0) {
                break;
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn answer(head: &[u8], make: &mut dyn FnMut(&str) -> Page) -> State {
    let (path, only_head) = target(head);
    let page = make(&path);
    let head = page.head();
    State::Answer { head, body: if only_head { "".into() } else { page.body }, sent: 0 }
}

/// Whether the head is complete.
fn read_head(stream: &OwnedFd, head: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    loop {
        let length = match recv(stream.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        // The blank line may have begun in the last chunk.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&chunk[..length]);
        if head[from..].windows(4).any(|w| w == b"\r\n\r\n") || head[from..].windows(2).any(|w| w == b"\n\n") {
            return Ok(true);
        }
        if head.len() > HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

/// Whether all of it is out.
fn write(stream: &OwnedFd, head: &str, body: &str, sent: &mut usize) -> io::Result<bool> {
    while *sent < head.len() + body.len() {
        let part = if *sent < head.len() { &head.as_bytes()[*sent..] } else { &body.as_bytes()[*sent - head.len()..] };
        match send(stream.as_raw_fd(), part, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).map_err(io::Error::from) {
            Ok(n) => *sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}
