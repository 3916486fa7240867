//! The server: a listener and a few clients behind one descriptor.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::client::{Client, Next};
use super::listener::{ListenError, listen};
use super::page::{Page, Style};

/// Clients at a time; one more takes the place of the oldest.
const CLIENTS: usize = 64;
/// How long one may take, uWSGI's `socket-timeout`.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the listener is left alone when descriptors run out.
const REST: Duration = Duration::from_secs(1);
/// The listener's number among the epoll events; clients count from 1.
const LISTENER: u64 = 0;

/// Serves one page to each client. Whoever owns it polls its descriptor and gives it a function that makes the page.
#[derive(Debug)]
pub struct StatsServer {
    epoll: Epoll,
    listener: OwnedFd,
    style: Style,
    /// By age.
    clients: BTreeMap<u64, Client>,
    next: u64,
    /// The listener is out of the epoll set until then.
    resting: Option<Instant>,
}

impl StatsServer {
    /// Listens at `address` (`host:port`, a path or `@name`), which `option` (`stats`, `emperor-stats`) named for error messages.
    ///
    /// # Errors
    /// The address cannot be had: a start must end with exit code 1.
    pub fn bind(option: &'static str, address: &str, style: Style) -> Result<Self, ListenError> {
        let listener = listen(option, address)?;
        Self::adopt(listener, style).map_err(|e| ListenError { option, address: address.to_owned(), cause: e.to_string() })
    }

    /// Goes on with a listener that came over an exec.
    pub fn adopt(listener: OwnedFd, style: Style) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self { epoll, listener, style, clients: BTreeMap::new(), next: LISTENER + 1, resting: None })
    }

    /// The descriptor to hand over to the next program at a re-exec.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Serves what can be served without waiting. `make` makes the page of a path (always "" with
    /// [`Style::Bare`]), at most once a call for clients who ask for the same in a row.
    pub fn on_ready(&mut self, now: Instant, make: &mut dyn FnMut(&str) -> Page) {
        let mut last: Option<(String, Page)> = None;
        let mut make = |path: &str| match &last {
            Some((of, page)) if of == path => page.clone(),
            _ => last.insert((path.to_owned(), make(path))).1.clone(),
        };
        let mut events = [EpollEvent::empty(); 16];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(now, &mut make),
                id => self.step(id, &mut make),
            }
        }
        self.on_deadline(now);
    }

    /// When [`Self::on_deadline`] has something to do; `None` without clients.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients.values().map(|c| c.deadline).chain(self.resting).min()
    }

    /// Closes the connections of those who took too long.
    pub fn on_deadline(&mut self, now: Instant) {
        self.clients.retain(|_, client| client.deadline > now);
        if self.resting.is_some_and(|until| until <= now) {
            self.resting = None;
            let _ = self.epoll.modify(&self.listener, &mut EpollEvent::new(EpollFlags::EPOLLIN, LISTENER));
        }
    }

    fn accept(&mut self, now: Instant, make: &mut dyn FnMut(&str) -> Page) {
        // A bound, so that a flood cannot keep the loop; the rest waits for the next round.
        for _ in 0..16 {
            match imperator_sys::socket::accept(self.listener.as_fd()) {
                Ok(fd) => self.welcome(fd, now, make),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => return self.rest(now),
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self, stream: OwnedFd, now: Instant, make: &mut dyn FnMut(&str) -> Page) {
        let mut client = Client::new(stream, self.style, now + PATIENCE, make);
        let interest = match client.step(make) {
            Next::Read => EpollFlags::EPOLLIN,
            Next::Write => EpollFlags::EPOLLOUT,
            Next::Close => return,
        };
        if self.clients.len() >= CLIENTS {
            self.clients.pop_first();
        }
        if self.epoll.add(&client, EpollEvent::new(interest, self.next)).is_ok() {
            self.clients.insert(self.next, client);
            self.next += 1;
        }
    }

    fn step(&mut self, id: u64, make: &mut dyn FnMut(&str) -> Page) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let interest = match client.step(make) {
            Next::Read => EpollFlags::EPOLLIN,
            Next::Write => EpollFlags::EPOLLOUT,
            Next::Close => {
                self.clients.remove(&id);
                return;
            }
        };
        let _ = self.epoll.modify(&*client, &mut EpollEvent::new(interest, id));
    }

    /// No descriptor is free: without a pause the waiting connection would wake us for ever.
    fn rest(&mut self, now: Instant) {
        self.clients.pop_first();
        self.resting = Some(now + REST);
        let _ = self.epoll.modify(&self.listener, &mut EpollEvent::new(EpollFlags::empty(), LISTENER));
    }
}

impl AsFd for StatsServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    struct Bench {
        server: StatsServer,
        path: std::path::PathBuf,
        made: usize,
        now: Instant,
        size: usize,
        _dir: tempfile::TempDir,
    }

    fn bench(style: Style) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let server = StatsServer::bind("stats", path.to_str().unwrap(), style).unwrap();
        Bench { server, path, made: 0, now: Instant::now(), size: 2, _dir: dir }
    }

    impl Bench {
        fn connect(&self) -> UnixStream {
            UnixStream::connect(&self.path).unwrap()
        }

        fn turn(&mut self) {
            let (made, size) = (&mut self.made, self.size);
            self.server.on_ready(self.now, &mut |_| {
                *made += 1;
                Page::json("x".repeat(size))
            });
        }
    }

    fn all(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn clients_of_one_round_share_a_text_and_none_is_kept() {
        let mut b = bench(Style::Bare);
        let (one, mut two) = (b.connect(), b.connect());
        two.write_all(b"unread words").unwrap();
        b.turn();
        assert_eq!((all(one), all(two), b.made), ("xx".into(), "xx".into(), 1));
        assert_eq!(b.server.next_deadline(), None);
    }

    #[test]
    fn http_waits_for_the_blank_line_without_blocking() {
        let mut b = bench(Style::Http);
        let mut one = b.connect();
        b.turn();
        one.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r").unwrap();
        b.turn();
        assert_eq!(b.made, 0);
        one.write_all(b"\n").unwrap();
        b.turn();
        let answer = all(one);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && head.contains("Content-Type: application/json"));
        assert_eq!(body, "xx");
    }

    #[test]
    fn a_silent_and_a_deaf_client_are_dropped_in_time() {
        for (style, size) in [(Style::Http, 2), (Style::Bare, 10_000_000)] {
            let mut b = bench(style);
            b.size = size;
            let client = b.connect();
            b.turn();
            assert_eq!(b.server.clients.len(), 1);
            b.now = b.server.next_deadline().unwrap();
            b.turn();
            assert_eq!((b.server.clients.len(), b.server.next_deadline()), (0, None));
            drop(client);
        }
    }

    #[test]
    fn a_slow_reader_gets_all_of_it() {
        let mut b = bench(Style::Bare);
        b.size = 3_000_000;
        let mut client = b.connect();
        client.set_nonblocking(true).unwrap();
        let (mut got, mut chunk) = (0, vec![0; 100_000]);
        loop {
            b.turn();
            match client.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!((got, b.made), (3_000_000, 1));
    }

    #[test]
    fn too_many_clients_push_the_oldest_out() {
        let mut b = bench(Style::Http);
        let clients: Vec<UnixStream> = (0..CLIENTS + 3).map(|_| b.connect()).collect();
        for _ in 0..CLIENTS {
            b.turn();
        }
        assert_eq!(b.server.clients.len(), CLIENTS);
        assert_eq!(all(clients.into_iter().next().unwrap()), "");
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        let mut b = bench(Style::Http);
        let mut client = b.connect();
        b.turn();
        client.write_all(&[b'a'; 20_000]).unwrap();
        b.turn();
        assert_eq!(b.server.clients.len(), 0);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let b = bench(Style::Bare);
        let text = b.path.to_str().unwrap();
        assert!(StatsServer::bind("stats", text, Style::Bare).unwrap_err().to_string().starts_with("stats = "));
        drop(b.server);
        assert!(StatsServer::bind("stats", text, Style::Bare).is_ok());
    }
}
