//! One epoll set whose events have names.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::core::Key;

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Signals,
    Sources,
    /// The pipe to the emperor above us.
    Above,
    /// Questions of the emperor above us.
    Asked,
    /// The master of the instance that we are part of.
    Instance,
    Stats,
    Logs,
    Pipe(Key),
    Demand(Key),
    /// Output of the program that names the socket of a vassal.
    Answer(Key),
    /// What a vassal's processes say: number of the pipe.
    Tap(u64),
    /// A vassal's answer to a question.
    Said(Key),
    /// A source that speaks of its own accord.
    Source(usize),
    /// Operators and programs that ask us.
    Clients,
    /// Browsers.
    Dashboard,
}

/// The set. A name is in it once at most.
pub struct Poller {
    epoll: Epoll,
    names: BTreeMap<u64, What>,
    numbers: BTreeMap<RawFd, u64>,
    next: u64,
}

impl Poller {
    pub fn new() -> nix::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, names: BTreeMap::new(), numbers: BTreeMap::new(), next: 0 })
    }

    pub fn readable(&mut self, fd: BorrowedFd<'_>, what: What) -> nix::Result<()> {
        self.next += 1;
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        self.names.insert(self.next, what);
        self.numbers.insert(fd.as_raw_fd(), self.next);
        Ok(())
    }

    /// To be called before the descriptor is closed: a forked child may hold a copy, which would keep it in the set.
    pub fn remove(&mut self, fd: BorrowedFd<'_>) {
        if let Some(number) = self.numbers.remove(&fd.as_raw_fd()) {
            self.names.remove(&number);
        }
        let _ = self.epoll.delete(fd);
    }

    /// Waits for at most `timeout_ms` (`None`: for ever); what is ready.
    pub fn wait(&self, timeout_ms: Option<u64>) -> nix::Result<Vec<What>> {
        let timeout = match timeout_ms {
            None => EpollTimeout::NONE,
            Some(ms) => EpollTimeout::try_from(ms.min(1 << 30)).unwrap_or(EpollTimeout::MAX),
        };
        let mut events = [EpollEvent::empty(); 64];
        match self.epoll.wait(&mut events, timeout) {
            Ok(n) => Ok(events[..n].iter().filter_map(|e| self.names.get(&e.data()).cloned()).collect()),
            Err(Errno::EINTR) => Ok(vec![]),
            Err(e) => Err(e),
        }
    }
}
