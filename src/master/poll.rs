//! The master's one epoll set.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::decide::Ms;

/// What a descriptor of the set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Signals,
    /// The control socket of that generation's zygote.
    Zygote(u64),
    /// The control socket of a worker: generation, number.
    Worker(u64, u32),
    /// A service, by its place in the list.
    Service(u32),
    Emperor,
    /// A listening socket on which the first connection is waited for (`cheap`).
    Listener,
    /// The process of an attached daemon that is no child of ours, by its place in the list.
    Daemon(u32),
    /// A descriptor that we were started with, by its place in the list.
    Descriptor(u32),
    /// The wall clock has reached the next minute of a cron line, or was set.
    Clock,
    /// The emperor asks something.
    Asked,
}

/// Sixteen bits hold a worker's number.
pub const MOST_WORKERS: u32 = 0xffff;

impl Source {
    fn number(self) -> u64 {
        match self {
            Self::Signals => 1 << 60,
            Self::Emperor => 2 << 60,
            Self::Listener => 3 << 60,
            Self::Service(index) => 4 << 60 | u64::from(index),
            Self::Daemon(index) => 7 << 60 | u64::from(index),
            Self::Clock => 8 << 60,
            Self::Descriptor(index) => 9 << 60 | u64::from(index),
            Self::Asked => 10 << 60,
            Self::Zygote(generation) => 5 << 60 | (generation & 0xfff_ffff_ffff),
            Self::Worker(generation, worker) => 6 << 60 | (generation & 0xfff_ffff_ffff) << 16 | u64::from(worker & MOST_WORKERS),
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(match number >> 60 {
            1 => Self::Signals,
            2 => Self::Emperor,
            3 => Self::Listener,
            4 => Self::Service(number as u32),
            5 => Self::Zygote(number & 0xfff_ffff_ffff),
            6 => Self::Worker(number >> 16 & 0xfff_ffff_ffff, (number & 0xffff) as u32),
            7 => Self::Daemon(number as u32),
            8 => Self::Clock,
            9 => Self::Descriptor(number as u32),
            10 => Self::Asked,
            _ => return None,
        })
    }
}

pub struct Poll {
    epoll: Epoll,
}

impl Poll {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    pub fn add(&self, fd: impl AsFd, source: Source) -> std::io::Result<()> {
        match self.epoll.add(&fd, EpollEvent::new(EpollFlags::EPOLLIN, source.number())) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// To be called before the descriptor is closed: a copy in another process would keep it in the set.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits until something is ready or `deadline` (`None`: for ever) is there.
    pub fn wait(&self, deadline: Option<Ms>, now: Ms) -> std::io::Result<Vec<Source>> {
        let left = deadline.map(|at| at.saturating_sub(now).min(3_600_000) as i32);
        let timeout = left.map_or(EpollTimeout::NONE, |ms| EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::ZERO));
        let mut events = [EpollEvent::empty(); 64];
        match self.epoll.wait(&mut events, timeout) {
            Ok(n) => Ok(events[..n].iter().filter_map(|e| Source::from_number(e.data())).collect()),
            Err(Errno::EINTR) => Ok(vec![]),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_the_kernel() {
        let all = [
            Source::Signals,
            Source::Emperor,
            Source::Listener,
            Source::Service(7),
            Source::Daemon(7),
            Source::Clock,
            Source::Descriptor(7),
            Source::Asked,
            Source::Zygote(1 << 40),
            Source::Worker(99, MOST_WORKERS),
        ];
        for source in all {
            assert_eq!(Source::from_number(source.number()), Some(source));
        }
        assert_eq!(Source::from_number(0), None);
    }
}
