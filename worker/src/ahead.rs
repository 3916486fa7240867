//! A long body on its way to an app that is not called yet: it is kept, so that no thread waits for its sender.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imperator_sys::room::{self, Room};
use nix::errno::Errno;

use crate::budget::{Budget, Held};
use crate::clock::monotonic_ms;
use crate::intake::COLLECT;
use crate::language::NoLock;
use crate::log::diag;
use crate::settings::RequestSettings;
use crate::socket::{self, Ready};
use crate::store::Store;

/// Bytes of memory for such bodies, all of a worker's together; what finds none is on disk.
const MEMORY: usize = 16 << 20;
/// Bytes of a body that is kept in memory at most.
const IN_MEMORY: u64 = 4 << 20;
/// Bytes of memory that one body leaves to the next at most: to get them from the system again costs as much as to copy them.
const SPARE: usize = 1 << 20;
/// Milliseconds between two lines about a disk that takes nothing.
const SAID_MS: u64 = 10_000;
/// Bytes that are asked for at once.
const PART: usize = 256 * 1024;
/// Bytes of a body that are taken before other connections have their turn.
const TURN: u64 = 1 << 20;
/// How long a quick sender is waited for at once, and in all of one body: one upload after the other is sooner done than all of them in turn.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSES: Duration = Duration::from_millis(20);
/// Who sends so many bytes between two waits is quick.
const QUICK: u64 = 16 * 1024;

/// What a worker may keep of bodies whose apps are not called yet.
pub(crate) struct Bodies {
    /// In memory and on disk: `post-ahead`.
    all: Arc<Budget>,
    memory: Arc<Budget>,
    common: Arc<Common>,
}

/// What all bodies of a worker have in common.
#[derive(Default)]
struct Common {
    /// Empty memory that was a body's.
    spare: Mutex<Vec<u8>>,
    /// When the log was told last that the disk takes nothing.
    said: AtomicU64,
}

impl Common {
    fn swap(&self, with: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner), with)
    }

    /// Why an app is called before its body is there, now and then.
    fn say(&self, error: &io::Error) {
        let (now, last) = (monotonic_ms(), self.said.load(Relaxed));
        if last == 0 || now.saturating_sub(last) >= SAID_MS {
            self.said.store(now, Relaxed);
            diag::say(&format!("a body cannot be kept on disk, so its worker waits for the client: {error}"));
        }
    }
}

impl Bodies {
    pub fn new(settings: &RequestSettings) -> Self {
        let all = Budget::new(usize::try_from(settings.post_ahead).unwrap_or(usize::MAX));
        Self { all, memory: Budget::new(MEMORY), common: Arc::default() }
    }

    /// Begins with what is `there` of a body. `None`: it is short, or there is no room, so that its app reads it as it comes.
    pub fn begin(&self, length: u64, there: &[u8]) -> Option<Ahead> {
        if length <= COLLECT {
            return None;
        }
        let all = self.all.take(there.len())?;
        let whole = usize::try_from(length.min(IN_MEMORY)).ok()?;
        let memory = if length <= IN_MEMORY { self.memory.take(whole) } else { None };
        let mut kept = match &memory {
            Some(_) => {
                let mut bytes = self.common.swap(vec![]);
                bytes.reserve_exact(whole);
                Store::Memory(bytes)
            }
            None => Store::Disk(tempfile::tempfile().map_err(|error| self.common.say(&error)).ok()?, 0),
        };
        kept.push(there, u64::MAX).map_err(|error| self.common.say(&error)).ok()?;
        Some(Ahead { length, kept, over: false, tail: vec![], patience: PAUSES, all, _memory: memory, common: Arc::clone(&self.common) })
    }
}

/// The beginning of a body, or all of it.
pub(crate) struct Ahead {
    length: u64,
    kept: Store,
    /// There is nothing more to be waited for: it is whole, its sender is gone, or there is no room for more.
    over: bool,
    /// What was received and could not be kept.
    tail: Vec<u8>,
    /// What is left of [`PAUSES`].
    patience: Duration,
    all: Held,
    _memory: Option<Held>,
    common: Arc<Common>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Store::Memory(bytes) = &mut self.kept
            && bytes.capacity() <= SPARE
        {
            bytes.clear();
            self.common.swap(std::mem::take(bytes));
        }
    }
}

impl Ahead {
    /// Takes what has arrived, and waits a moment for more only where much has come. Whether there is nothing more to be waited for.
    pub fn collect(&mut self, socket: BorrowedFd<'_>) -> bool {
        let mut waited_at = self.kept.size();
        let end = waited_at + TURN;
        while !self.over && self.kept.size() < end {
            match self.receive(socket) {
                Err(Errno::EAGAIN) if self.kept.size() - waited_at >= QUICK && self.comes_at_once(socket) => waited_at = self.kept.size(),
                Err(Errno::EAGAIN) => return false,
                // Who reads to its end will see why there is no more.
                Ok(0) | Err(_) => self.over = true,
                Ok(_) => self.over |= self.kept.size() == self.length,
            }
        }
        self.over
    }

    fn comes_at_once(&mut self, socket: BorrowedFd<'_>) -> bool {
        if self.patience.is_zero() {
            return false;
        }
        let began = Instant::now();
        let ready = socket::wait_for(socket, Ready::Read, PAUSE, &NoLock).is_ok_and(|ready| ready);
        self.patience = self.patience.saturating_sub(began.elapsed());
        ready
    }

    fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        let most = usize::try_from(self.length - self.kept.size()).unwrap_or(PART).min(PART);
        if !self.all.grow(most) {
            return Ok(0);
        }
        let result = self.receive_some(socket, most);
        self.all.shrink(most - result.unwrap_or(0));
        result
    }

    fn receive_some(&mut self, socket: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        if let Store::Memory(bytes) = &mut self.kept {
            return room::receive_onto(bytes, socket, most);
        }
        let mut part = vec![];
        let got = room::receive_onto(&mut part, socket, most)?;
        if let Err(error) = self.kept.push(&part, 0) {
            self.common.say(&error);
            (self.over, self.tail) = (true, part);
        }
        Ok(got)
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What follows what is kept, and is received already.
    pub fn take_tail(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.tail)
    }

    /// The whole body's, as its head said.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that are kept.
    pub fn size(&self) -> u64 {
        self.kept.size()
    }

    /// Reads from `position` on, as far as it is kept.
    pub fn read(&self, position: u64, room: &mut Room<'_>) -> io::Result<usize> {
        self.kept.read(position, &[], room)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn bodies(post_ahead: u64) -> Bodies {
        Bodies::new(&RequestSettings { post_ahead, ..RequestSettings::default() })
    }

    fn all(ahead: &Ahead) -> Vec<u8> {
        let (mut out, mut part) = (vec![], vec![0; 10_000]);
        loop {
            match ahead.read(out.len() as u64, &mut Room::from(&mut part[..])).expect("read") {
                0 => return out,
                n => out.extend_from_slice(&part[..n]),
            }
        }
    }

    #[test]
    fn a_body_is_kept_whole_in_memory_or_on_disk() {
        for length in [COLLECT + 1, 300_000, IN_MEMORY + 1] {
            let bodies = bodies(1 << 30);
            let whole: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let (mut peer, ours) = UnixStream::pair().expect("pair");
            let mut ahead = bodies.begin(length, &whole[..100]).expect("begun");
            assert_eq!(matches!(ahead.kept, Store::Disk(..)), length > IN_MEMORY);
            assert!(!ahead.collect(ours.as_fd()), "nothing came");
            for part in whole[100..].chunks(50_000) {
                assert!(!ahead.is_over());
                peer.write_all(part).expect("write");
                ahead.collect(ours.as_fd());
            }
            peer.write_all(b"the next request").expect("write");
            assert!(ahead.collect(ours.as_fd()) && ahead.size() == length);
            assert!(all(&ahead) == whole, "{length}");
            drop(ahead);
            assert_eq!((bodies.all.left(), bodies.memory.left()), (1 << 30, MEMORY));
        }
    }

    #[test]
    fn only_a_quick_sender_is_waited_for_and_that_comes_to_an_end() {
        let bodies = bodies(1 << 30);
        let (mut peer, ours) = UnixStream::pair().expect("pair");
        let mut ahead = bodies.begin(IN_MEMORY, b"begun").expect("begun");
        for _ in 0..100 {
            peer.write_all(&[b'a'; 1000]).expect("write");
            assert!(!ahead.collect(ours.as_fd()));
        }
        assert_eq!(ahead.patience, PAUSES, "a slow one costs nobody anything");
        for _ in 0..6 {
            peer.write_all(&[b'a'; QUICK as usize]).expect("write");
            assert!(!ahead.collect(ours.as_fd()));
        }
        assert_eq!(ahead.patience, Duration::ZERO, "each time a few milliseconds, for nothing came");
        assert_eq!(ahead.size(), 5 + 100_000 + 6 * QUICK);
    }

    #[test]
    fn short_bodies_are_not_its_business_and_without_room_there_is_none() {
        assert!(bodies(1 << 30).begin(COLLECT, b"").is_none());
        assert!(bodies(0).begin(COLLECT + 1, b"there").is_none());
    }

    #[test]
    fn when_the_room_ends_the_beginning_is_what_there_is() {
        let bodies = bodies(400_000);
        let (mut peer, ours) = UnixStream::pair().expect("pair");
        let mut ahead = bodies.begin(1_000_000, &[b'a'; 50_000]).expect("begun");
        peer.write_all(&[b'b'; 100_000]).expect("write");
        while !ahead.collect(ours.as_fd()) {
            peer.write_all(&[b'b'; 10_000]).expect("write");
        }
        assert!((150_000..=400_000).contains(&ahead.size()), "{}", ahead.size());
        assert!(bodies.begin(1_000_000, &[b'a'; 300_000]).is_none(), "nor is there for another");
        assert_eq!(all(&ahead).len() as u64, ahead.size());
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let (peer, ours) = UnixStream::pair().expect("pair");
        let mut ahead = bodies(1 << 30).begin(1_000_000, b"begun").expect("begun");
        drop(peer);
        assert!(ahead.collect(ours.as_fd()));
        assert_eq!(all(&ahead), b"begun");
    }

    #[test]
    fn what_the_disk_does_not_take_is_not_lost() {
        let (mut peer, ours) = UnixStream::pair().expect("pair");
        let mut ahead = bodies(1 << 30).begin(IN_MEMORY + 1, b"kept").expect("begun");
        let Store::Disk(file, size) = &mut ahead.kept else { panic!("not on disk") };
        // Nobody may write to it, as if the disk were full.
        let read_only = std::fs::File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))).expect("open");
        ahead.kept = Store::Disk(read_only, *size);
        peer.write_all(b"lost?").expect("write");
        assert!(ahead.collect(ours.as_fd()));
        assert_eq!((all(&ahead), ahead.take_tail()), (b"kept".to_vec(), b"lost?".to_vec()));
    }
}
