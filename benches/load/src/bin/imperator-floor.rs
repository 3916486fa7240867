//! The floor of the side-by-side runs: workers that make the system calls of a request and nothing else. No request is parsed, no app called, nothing
//! counted; whatever serves Python takes this and more.
//!
//! `imperator-floor close|keep LENGTH ADDRESS [LOG]`: answers each request with `LENGTH` bytes, in two worker processes. `close`: accept, receive, send and
//! close, and a line of 180 bytes to the end of `LOG`, if that is given; `keep`: wait, receive and send on connections that stay. An address with a slash is a unix socket.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitCode, Stdio};

use imperator_sys::socket::accept;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, UnixAddr, recv, send, sendmsg};

const WORKERS: usize = 2;
const BACKLOG: i32 = 1024;
/// As the servers under test have it.
const BUFFER: usize = 16 * 1024;
const LISTENER: u64 = u64::MAX;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", way, length, ref log @ ..] => worker(way, length, log.first()),
        [way @ ("close" | "keep"), length, address, ref log @ ..] => master(way, length, address, log),
        _ => Err(io::Error::other("usage: imperator-floor close|keep LENGTH ADDRESS [LOG]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "imperator-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the workers with the listener as their standard input, and waits for them.
fn master(way: &str, length: &str, address: &str, log: &[&str]) -> io::Result<()> {
    let listener: OwnedFd = if address.contains('/') {
        let listener = UnixListener::bind(address)?;
        listener.set_nonblocking(true)?;
        listener.into()
    } else {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        nix::sys::socket::setsockopt(&listener, nix::sys::socket::sockopt::TcpNoDelay, &true)?;
        listener.into()
    };
    imperator_sys::socket::listen(listener.as_fd(), BACKLOG)?;
    let start = |_| {
        let stdin = Stdio::from(listener.try_clone()?);
        Command::new(std::env::current_exe()?).args(["worker", way, length]).args(log).stdin(stdin).spawn()
    };
    let workers = (0..WORKERS).map(start).collect::<io::Result<Vec<_>>>()?;
    workers.into_iter().try_for_each(|mut worker| worker.wait().map(drop))
}

fn worker(way: &str, length: &str, log: Option<&&str>) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let length: usize = length.parse().map_err(io::Error::other)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let log = log.map(|path| File::options().append(true).create(true).open(path)).transpose()?;
    let floor = Floor { epoll, head: head.into_bytes(), body: vec![b'x'; length], log };
    floor.listen()?;
    if way == "keep" { floor.keep() } else { floor.close() }
}

struct Floor {
    epoll: Epoll,
    head: Vec<u8>,
    body: Vec<u8>,
    log: Option<File>,
}

impl Floor {
    fn listen(&self) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, LISTENER);
        Ok(self.epoll.add(io::stdin(), event)?)
    }

    fn close(&self) -> io::Result<()> {
        let answer = [&self.head[..], &self.body].concat();
        let (mut buffer, line) = (vec![0; BUFFER], [b'x'; 180]);
        loop {
            let client = match accept(io::stdin().as_fd()) {
                Ok(client) => client,
                Err(Errno::EAGAIN) => {
                    self.epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            while recv(client.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) == Err(Errno::EAGAIN) {
                nix::poll::poll(&mut [nix::poll::PollFd::new(client.as_fd(), nix::poll::PollFlags::POLLIN)], 1000u16)?;
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(nix::libc::MSG_MORE);
            let _ = send(client.as_raw_fd(), &answer, flags);
            drop(client);
            if let Some(mut log) = self.log.as_ref() {
                log.write_all(&line)?;
            }
        }
    }

    fn keep(&self) -> io::Result<()> {
        let (mut clients, mut buffer, mut events) = (Vec::<Option<OwnedFd>>::new(), vec![0; BUFFER], [EpollEvent::empty(); 16]);
        loop {
            let ready = self.epoll.wait(&mut events, EpollTimeout::NONE)?;
            for event in &events[..ready] {
                let at = event.data();
                if at == LISTENER {
                    // To the end of the queue: the next one is for the other worker.
                    self.epoll.delete(io::stdin())?;
                    if let Ok(client) = accept(io::stdin().as_fd()) {
                        self.epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, clients.len() as u64))?;
                        clients.push(Some(client));
                    }
                    self.listen()?;
                } else if let Some(place) = clients.get_mut(at as usize) {
                    self.serve(place, &mut buffer);
                }
            }
        }
    }

    fn serve(&self, place: &mut Option<OwnedFd>, buffer: &mut [u8]) {
        let Some(client) = place else { return };
        match recv(client.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(n) if n > 0 => {
                let parts = [IoSlice::new(&self.head), IoSlice::new(&self.body)];
                let _ = sendmsg::<UnixAddr>(client.as_raw_fd(), &parts, &[], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL, None);
            }
            Err(Errno::EAGAIN) => {}
            _ => *place = None,
        }
    }
}
