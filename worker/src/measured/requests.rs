//! Whole requests, through a request thread of a worker, with a language that only answers.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::eventfd::EventFd;

use crate::connection::Connection;
use crate::control::{App, Boot, Listener, Role};
use crate::language::{After, Language, NoLock};
use crate::request::Request;
use crate::scoreboard::Scoreboard;
use crate::serve::WorkerConfig;
use crate::settings::{Protocol, Settings};
use crate::shared::Shared;
use crate::thread::Thread;

const BODY: &[u8] = b"hello world";

/// What it takes to serve requests; what it borrows is never freed.
pub struct Requests {
    thread: Thread<'static>,
    /// The other end of a connection that is kept.
    kept: Option<UnixStream>,
    /// Those of connections that ask at the same time.
    together: Vec<UnixStream>,
    protocol: Protocol,
    answer: Vec<u8>,
}

impl Requests {
    /// One worker with one thread. `log`: where request lines go; without it they are not written.
    ///
    /// # Errors
    /// No descriptors, no memory.
    pub fn new(protocol: Protocol, log: Option<OwnedFd>) -> io::Result<Self> {
        let mut settings = Settings::default();
        settings.log.disable = log.is_none();
        let config = Box::leak(Box::new(config(settings, protocol, log)?));
        let wake: &'static EventFd = Box::leak(Box::new(EventFd::new()?));
        let shared = Box::leak(Box::new(Shared::new(config, &Plain, wake.as_fd(), 0)?));
        let mut requests = Self { thread: Thread::new(shared, 0), kept: None, together: vec![], protocol, answer: vec![0; 1 << 16] };
        requests.kept = if protocol.keeps() { Some(requests.connect()?) } else { None };
        Ok(requests)
    }

    /// A connection that the thread has just accepted; what its peer sent is served at once.
    fn accept(&mut self, socket: UnixStream) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.thread.shared.arrived(self.protocol);
        self.thread.work_on(Connection::new(socket.into(), 0, self.protocol));
        Ok(())
    }

    fn connect(&mut self) -> io::Result<UnixStream> {
        let (peer, socket) = UnixStream::pair()?;
        self.accept(socket)?;
        Ok(peer)
    }

    /// Sends `request`, has it served, and gives back the answer.
    ///
    /// # Errors
    /// Those of the client's end.
    pub fn serve(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        let length = match &mut self.kept {
            Some(peer) => {
                peer.write_all(request)?;
                self.thread.turn();
                peer.read(&mut self.answer)?
            }
            None => {
                let (mut peer, socket) = UnixStream::pair()?;
                peer.write_all(request)?;
                self.accept(socket)?;
                peer.read(&mut self.answer)?
            }
        };
        Ok(&self.answer[..length])
    }

    /// Sends `request` on so many kept connections, then has all of them served.
    ///
    /// # Errors
    /// Those of the clients' ends.
    pub fn serve_together(&mut self, request: &[u8], connections: usize) -> io::Result<()> {
        while self.together.len() < connections {
            let peer = self.connect()?;
            self.together.push(peer);
        }
        for mut peer in &self.together {
            peer.write_all(request)?;
        }
        (0..connections).for_each(|_| self.thread.turn());
        for mut peer in &self.together {
            let length = peer.read(&mut self.answer)?;
            if !self.answer[..length].ends_with(BODY) {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }
}

fn config(settings: Settings, protocol: Protocol, log: Option<OwnedFd>) -> io::Result<WorkerConfig> {
    let boot = Boot {
        role: Role::Single,
        settings,
        generation: 1,
        listeners: vec![Listener { fd: -1, protocol, name: "measured".into(), port: Some(8080) }],
        scoreboard: -1,
        control: None,
        request_log: None,
        master_pid: 0,
        started_at: 0,
        drop: None,
        metrics: None,
        caches: vec![],
    };
    Ok(WorkerConfig {
        boot: boot.into(),
        worker: 1,
        listeners: vec![],
        scoreboard: Scoreboard::create(1, 1)?,
        link: None,
        request_log: log,
    })
}

/// Answers with 11 bytes and two headers.
struct Plain;

impl Language for Plain {
    fn name(&self) -> String {
        "plain".into()
    }

    fn modifiers(&self) -> &[u8] {
        &[0]
    }

    fn apps(&self) -> Vec<App> {
        vec![]
    }

    fn enter_thread(&self, _core: u32) {}

    fn leave_thread(&self, _core: u32) {}

    fn serve(&self, request: &mut Request<'_>) -> After {
        request.set_app(0);
        let started = request.set_status(b"200 OK").is_ok()
            && request.add_header(b"Content-Type", b"text/plain").is_ok()
            && request.add_header(b"Content-Length", b"11").is_ok();
        if started {
            let _ = request.write(BODY, &NoLock);
        }
        After::Continue
    }

    fn teardown(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_served_and_logged() {
        let log = tempfile::tempfile().expect("a file");
        let mut requests = Requests::new(Protocol::Http11, Some(log.try_clone().expect("a copy").into())).expect("a worker");
        for _ in 0..2 {
            let answer = requests.serve(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n").expect("an answer");
            assert_eq!(answer, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world");
        }
        let mut text = vec![];
        nix::sys::uio::pread(&log, text_room(&mut text), 0).expect("lines");
        assert_eq!(String::from_utf8_lossy(&text).matches(" GET /x => generated 11 bytes in ").count(), 2);
    }

    fn text_room(text: &mut Vec<u8>) -> &mut [u8] {
        text.resize(4096, 0);
        text
    }
}
