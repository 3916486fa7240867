//! The offload engine: what a peer does not take at once of a response leaves the request thread, and so the worker.
//!
//! A request thread tries first, without waiting: small answers and quick peers never come here. What is left then ([`Pieces`]: bytes, parts of
//! files) goes with its connection to one of a few threads that wait for many sockets at a time ([`engine`]), so that a slow peer costs a descriptor and
//! a few hundred bytes. When all is sent the connection is closed there, or comes back to the request threads for its next request.
//!
//! A response that is still being made while its peer is slow has a [`Stream`] in between.
//!
//! No thread of the engine exists before it is needed (a process that forks workers must not have any), and none of them ever runs a language's code.

mod engine;
mod file;
mod pieces;
mod stream;
mod ward;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::budget::Budget;
use crate::clock::monotonic_ms;
use crate::connection::Connection;
use crate::log::diag;
use crate::settings::RequestSettings;
use crate::thread::Next;
use engine::Engine;
use ward::{Post, Ward};

pub(crate) use file::FilePart;
pub(crate) use pieces::{Pieces, Step};
pub(crate) use stream::Stream;

/// Bytes that a request thread itself sends of a file at most.
pub(crate) const AT_ONCE: u64 = 512 * 1024;
/// Bytes of memory for complete bodies that slow peers have still to read, all of a worker's together; what is more is on disk.
const MEMORY: usize = 16 << 20;
/// Milliseconds between two lines about descriptors that are missing.
const SAID_MS: u64 = 10_000;

/// Connections that exist, waiting, in hand or in the engine.
#[derive(Default)]
pub(crate) struct Census {
    live: AtomicUsize,
    draining: AtomicBool,
}

impl Census {
    pub fn arrived(&self) {
        self.live.fetch_add(1, SeqCst);
    }

    /// Whether it was the last one of a worker that drains.
    pub fn left(&self) -> bool {
        self.live.fetch_sub(1, SeqCst) == 1 && self.draining()
    }

    pub fn live(&self) -> usize {
        self.live.load(SeqCst)
    }

    pub fn draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Whether it was so before.
    pub fn drain(&self) -> bool {
        self.draining.swap(true, SeqCst)
    }
}

/// A worker's offload engine, started or not.
pub(crate) struct Offload {
    threads: usize,
    /// How long a peer may read nothing.
    patience: Duration,
    engine: OnceLock<Engine>,
    starting: Mutex<()>,
    post: Arc<Post>,
    budget: Arc<Budget>,
    /// Bytes of temporary files for what apps are ahead of their peers: `offload-ahead`.
    ahead: Arc<Budget>,
    /// When the log was told last that descriptors are missing.
    said: AtomicU64,
}

impl Offload {
    /// `None` with `offload-threads = 0`.
    pub fn new(settings: &RequestSettings, census: &Arc<Census>) -> Option<Self> {
        let threads = settings.offload_threads.unwrap_or(1) as usize;
        (threads > 0).then(|| Self {
            threads,
            patience: Duration::from_secs(settings.offload_timeout.max(1).into()),
            engine: OnceLock::new(),
            starting: Mutex::default(),
            post: Arc::new(Post::new(census)),
            budget: Budget::new(MEMORY),
            ahead: Budget::new(usize::try_from(settings.offload_ahead).unwrap_or(usize::MAX)),
            said: AtomicU64::new(0),
        })
    }

    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Transfers that are under way.
    pub fn in_flight(&self) -> usize {
        self.post.in_flight()
    }

    /// Whether the engine runs, or could be started now.
    pub fn is_ready(&self) -> bool {
        self.engine().is_some()
    }

    fn engine(&self) -> Option<&Engine> {
        if self.engine.get().is_none() {
            let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.engine.get().is_none() {
                match Engine::start(self.threads) {
                    Ok(engine) => drop(self.engine.set(engine)),
                    Err(error) => self.say(&error),
                }
            }
        }
        self.engine.get()
    }

    /// Why a response is waited for by the worker itself, now and then.
    pub fn say(&self, error: &io::Error) {
        let (now, last) = (monotonic_ms(), self.said.load(SeqCst));
        if last == 0 || now.saturating_sub(last) >= SAID_MS {
            self.said.store(now, SeqCst);
            let advice = if matches!(error.raw_os_error(), Some(nix::libc::EMFILE | nix::libc::ENFILE)) { "; raise max-fd" } else { "" };
            diag::say(&format!("a response cannot be offloaded, so its worker waits for the client: {error}{advice}"));
        }
    }

    /// Starts to send `pieces` and what is pushed after them. `None`: the engine is not to be had, or no descriptor is; the pieces are as they were.
    pub fn stream(&self, socket: BorrowedFd<'_>, pieces: &mut Pieces) -> Option<Arc<Stream>> {
        let engine = self.engine()?;
        match socket.try_clone_to_owned() {
            Ok(socket) => {
                let stream = Arc::new(Stream::new(std::mem::take(pieces), &self.ahead));
                engine.stream(Arc::clone(&stream), socket, self.patience);
                Some(stream)
            }
            Err(error) => {
                self.say(&error);
                None
            }
        }
    }

    /// Has the rest of a response sent. The connection is out of the epoll set of the request threads.
    pub fn send(&self, connection: Connection, pieces: Pieces, next: Next) {
        let (socket, connection) = connection.leave();
        let ward = Ward::new(&self.post, connection, next);
        // Pieces are collected only once it runs.
        if let Some(engine) = self.engine() {
            engine.transfer(ward, socket, pieces, self.patience);
        }
    }

    /// Connections whose transfers are over.
    pub fn take_returned(&self) -> Vec<(Connection, Next)> {
        self.post.take_returned()
    }

    /// Transfers that ended early since this was asked last.
    pub fn take_failed(&self) -> u64 {
        self.post.take_failed()
    }
}
