//! The doors at which operators and programs ask the emperor: the command socket, Prometheus' address. Listeners and clients are behind one
//! descriptor, and nothing waits for a client.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{getsockopt, sockopt};

use super::client::{Client, Next, Talk};
use crate::sockets::Address;

/// How long listeners are left alone when descriptors run out.
const REST_MS: u64 = 1000;
/// Clients count from here among the epoll events; below are doors.
const FIRST_CLIENT: u64 = 1 << 16;

/// What a server bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Clients at a time; one more takes the place of the oldest that has not asked yet, or else of the oldest.
    pub clients: usize,
    /// How long one may take to ask, and to take its answer.
    pub patience_ms: u64,
    /// Bytes of a request.
    pub request: usize,
}

impl Limits {
    pub const OPERATORS: Self = Self { clients: 64, patience_ms: 4000, request: super::wish::LONGEST };
}

/// Where one asks, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Door {
    /// `emperor-command-socket`.
    Command,
    /// `emperor-stats-prometheus`.
    Prometheus,
    /// `emperor-dashboard`.
    Dashboard,
}

impl Door {
    fn option(self) -> &'static str {
        match self {
            Self::Command => "emperor-command-socket",
            Self::Prometheus => "emperor-stats-prometheus",
            Self::Dashboard => "emperor-dashboard",
        }
    }

    fn talk(self) -> Talk {
        match self {
            Self::Command => Talk::Json,
            Self::Prometheus => Talk::Http,
            Self::Dashboard => Talk::Head,
        }
    }
}

struct Open {
    door: Door,
    listener: OwnedFd,
    address: String,
    /// To be removed at the end.
    path: Option<PathBuf>,
}

/// A request of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub client: u64,
    pub door: Door,
    /// The line, the path, or the head.
    pub text: Vec<u8>,
}

pub struct Server {
    epoll: Epoll,
    limits: Limits,
    doors: Vec<Open>,
    /// By age.
    clients: BTreeMap<u64, (Door, Client)>,
    next: u64,
    resting_until: Option<u64>,
}

impl Server {
    pub fn new(limits: Limits) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, limits, doors: vec![], clients: BTreeMap::new(), next: FIRST_CLIENT, resting_until: None })
    }

    /// Opens a door; `kept` is its listener of the life before, `mode` the permissions of its file, if it is one.
    ///
    /// # Errors
    /// The address cannot be had, or nobody could tell there who asks.
    pub fn open(&mut self, door: Door, address: &str, mode: Option<u32>, kept: Option<OwnedFd>) -> anyhow::Result<()> {
        let option = door.option();
        let parsed = Address::parse(address).with_context(|| format!("{option} = {address}"))?;
        if door == Door::Command && !matches!(parsed, Address::Unix(_) | Address::Abstract(_)) {
            bail!("{option} = {address}: only a unix socket (a path, or @name) tells who asks");
        }
        let path = if let Address::Unix(path) = &parsed { Some(std::path::absolute(path)?) } else { None };
        let listener = match kept {
            Some(listener) => listener,
            None => crate::stats::listen(option, address)?,
        };
        if let (Some(path), Some(mode)) = (&path, mode) {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).with_context(|| format!("{option} = {address}"))?;
        }
        self.epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, self.doors.len() as u64))?;
        self.doors.push(Open { door, listener, address: address.to_owned(), path });
        Ok(())
    }

    /// For the next life: the listeners, each with what it is for.
    pub fn held(&self) -> Vec<(Door, i32, String)> {
        self.doors.iter().map(|o| (o.door, o.listener.as_raw_fd(), o.address.clone())).collect()
    }

    /// The files of the sockets.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.doors.iter().filter_map(|o| o.path.as_deref())
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// What clients ask.
    pub fn on_ready(&mut self, now_ms: u64) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut events = [EpollEvent::empty(); 32];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                number if number < FIRST_CLIENT => self.accept(number as usize, now_ms),
                id => {
                    let Some((door, client)) = self.clients.get_mut(&id) else { continue };
                    let (door, next) = (*door, client.step());
                    if let Next::Asks(text) = &next {
                        requests.push(Request { client: id, door, text: text.clone() });
                    }
                    self.settle(id, &next);
                }
            }
        }
        self.tick(now_ms);
        requests
    }

    fn accept(&mut self, number: usize, now_ms: u64) {
        // A bound, so that a flood cannot keep the loop.
        for _ in 0..16 {
            let Some(open) = self.doors.get(number) else { return };
            match imperator_sys::socket::accept(open.listener.as_fd()) {
                Ok(stream) if open.door == Door::Command && !may_command(stream.as_fd()) => {
                    let _ = nix::unistd::write(&stream, b"{\"error\":\"only root and the emperor's own user may command it\"}\n");
                }
                Ok(stream) => {
                    let door = open.door;
                    self.welcome(door, stream, now_ms);
                }
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => return self.rest(now_ms),
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self, door: Door, stream: OwnedFd, now_ms: u64) {
        let client = Client::new(stream, door.talk(), self.limits.request, now_ms + self.limits.patience_ms);
        if self.clients.len() >= self.limits.clients {
            self.make_room();
        }
        if self.epoll.add(client.fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.next)).is_ok() {
            self.clients.insert(self.next, (door, client));
            self.next += 1;
        }
    }

    fn make_room(&mut self) {
        let silent = self.clients.iter().find(|(_, (_, client))| client.is_silent()).map(|(id, _)| *id);
        match silent {
            Some(id) => drop(self.clients.remove(&id)),
            None => drop(self.clients.pop_first()),
        }
    }

    fn rest(&mut self, now_ms: u64) {
        self.make_room();
        self.resting_until = Some(now_ms + REST_MS);
        for open in &self.doors {
            let _ = self.epoll.delete(&open.listener);
        }
    }

    fn settle(&mut self, id: u64, next: &Next) {
        let interest = match next {
            Next::Read => EpollFlags::EPOLLIN,
            Next::Write => EpollFlags::EPOLLOUT,
            Next::Rest | Next::Asks(_) => EpollFlags::empty(),
            Next::Close => {
                self.clients.remove(&id);
                return;
            }
        };
        if let Some((_, client)) = self.clients.get_mut(&id) {
            if matches!(next, Next::Asks(_)) {
                client.deadline = None; // whoever makes the answer has a deadline of his own
            }
            let _ = self.epoll.modify(client.fd(), &mut EpollEvent::new(interest, id));
        }
    }

    /// The answer to a request; a client that has left gets none.
    pub fn answer(&mut self, id: u64, status: u16, kind: &str, body: &str, now_ms: u64) {
        let Some((_, client)) = self.clients.get_mut(&id) else { return };
        let next = client.answer(status, kind, body, now_ms + self.limits.patience_ms);
        self.settle(id, &next);
    }

    /// The same with a head of the caller's, and a body that many get.
    pub fn answer_with(&mut self, id: u64, head: &str, body: Rc<str>, now_ms: u64) {
        let Some((_, client)) = self.clients.get_mut(&id) else { return };
        let next = client.answer_with(head, body, now_ms + self.limits.patience_ms);
        self.settle(id, &next);
    }

    /// Makes a client a follower.
    pub fn begin_following(&mut self, id: u64, text: &str) {
        let Some((_, client)) = self.clients.get_mut(&id) else { return };
        let next = client.begin_following(text);
        self.settle(id, &next);
    }

    /// One more line for a follower; false if it has left.
    pub fn follow(&mut self, id: u64, line: &str) -> bool {
        let Some((_, client)) = self.clients.get_mut(&id) else { return false };
        let next = client.follow(line);
        self.settle(id, &next);
        self.clients.contains_key(&id)
    }

    pub fn has(&self, id: u64) -> bool {
        self.clients.contains_key(&id)
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.clients.values().filter_map(|(_, c)| c.deadline).chain(self.resting_until).min()
    }

    pub fn tick(&mut self, now_ms: u64) {
        self.clients.retain(|_, (_, client)| client.deadline.is_none_or(|at| at > now_ms));
        if self.resting_until.is_some_and(|until| until <= now_ms) {
            self.resting_until = None;
            for (number, open) in self.doors.iter().enumerate() {
                let _ = self.epoll.add(&open.listener, EpollEvent::new(EpollFlags::EPOLLIN, number as u64));
            }
        }
    }
}

/// Root, or the user that this emperor is.
fn may_command(stream: BorrowedFd<'_>) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(&stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn server() -> (Server, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::new(Limits::OPERATORS).unwrap();
        server.open(Door::Command, dir.path().join("c").to_str().unwrap(), Some(0o600), None).unwrap();
        (server, dir)
    }

    #[test]
    fn a_request_is_handed_out_once_and_its_answer_ends_the_connection() {
        let (mut server, dir) = server();
        let path = dir.path().join("c");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.write_all(b"{}\n").unwrap();
        let mut requests = server.on_ready(0);
        requests.extend(server.on_ready(0));
        assert_eq!(requests, [Request { client: FIRST_CLIENT, door: Door::Command, text: b"{}".to_vec() }]);
        assert_eq!(server.on_ready(60_000), [], "it waits as long as its answer takes");
        server.answer(FIRST_CLIENT, 200, "", "done\n", 0);
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), server.next_deadline()), ("done\n", None));
    }

    #[test]
    fn a_silent_client_is_dropped_and_one_that_leaves_is_forgotten() {
        let (mut server, dir) = server();
        let silent = UnixStream::connect(dir.path().join("c")).unwrap();
        server.on_ready(0);
        assert_eq!(server.next_deadline(), Some(Limits::OPERATORS.patience_ms));
        server.tick(Limits::OPERATORS.patience_ms);
        assert!(!server.has(FIRST_CLIENT));
        let mut follower = UnixStream::connect(dir.path().join("c")).unwrap();
        follower.write_all(b"x\n").unwrap();
        server.on_ready(0);
        server.on_ready(0);
        server.begin_following(FIRST_CLIENT + 1, "a\n");
        assert!(server.follow(FIRST_CLIENT + 1, "b\n"));
        drop((silent, follower));
        server.on_ready(0);
        assert!(!server.follow(FIRST_CLIENT + 1, "c\n"));
    }

    #[test]
    fn when_all_places_are_taken_one_who_says_nothing_has_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let mut server = Server::new(Limits { clients: 2, ..Limits::OPERATORS }).unwrap();
        server.open(Door::Command, path.to_str().unwrap(), Some(0o600), None).unwrap();
        let mut first = UnixStream::connect(&path).unwrap();
        first.write_all(b"x\n").unwrap();
        server.on_ready(0);
        assert_eq!(server.on_ready(0).len(), 1);
        let others: Vec<UnixStream> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
        server.on_ready(0);
        assert!(server.has(FIRST_CLIENT) && !server.has(FIRST_CLIENT + 1) && server.has(FIRST_CLIENT + 2));
        drop(others);
    }

    #[test]
    fn commands_are_not_taken_from_a_network() {
        let error = Server::new(Limits::OPERATORS).unwrap().open(Door::Command, "127.0.0.1:0", None, None).unwrap_err().to_string();
        assert!(error.contains("unix socket"), "{error}");
    }
}
