//! What becomes of a connection in the engine's hands.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imperator_sys::signals;
use nix::sys::socket::{Shutdown, shutdown};

use super::Census;
use crate::connection::{Absent, Connection};
use crate::thread::Next;

/// What engine and request threads share.
pub(super) struct Post {
    census: Arc<Census>,
    /// Connections that were sent everything, and live on.
    returned: Mutex<Vec<(Connection, Next)>>,
    in_flight: AtomicUsize,
    /// Transfers that ended before their ends, and were not counted in the scoreboard yet.
    failed: AtomicU64,
}

impl Post {
    pub fn new(census: &Arc<Census>) -> Self {
        Self { census: Arc::clone(census), returned: Mutex::default(), in_flight: AtomicUsize::new(0), failed: AtomicU64::new(0) }
    }

    fn returned(&self) -> MutexGuard<'_, Vec<(Connection, Next)>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take_returned(&self) -> Vec<(Connection, Next)> {
        std::mem::take(&mut self.returned())
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    pub fn take_failed(&self) -> u64 {
        self.failed.swap(0, SeqCst)
    }
}

/// A connection without its socket. Dropped it counts as cut: however a transfer ends (with its runtime, in a panic), nobody waits for it for ever.
pub(super) struct Ward {
    inner: Option<(Absent, Next)>,
    post: Arc<Post>,
}

impl Ward {
    pub fn new(post: &Arc<Post>, connection: Absent, next: Next) -> Self {
        post.in_flight.fetch_add(1, SeqCst);
        Self { inner: Some((connection, next)), post: Arc::clone(post) }
    }

    /// Everything was sent.
    pub fn settle(mut self, socket: OwnedFd) {
        let Some((connection, next)) = self.inner.take() else { return };
        if next == Next::Close {
            drop(socket);
            return self.gone();
        }
        if next == Next::Linger {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
        }
        self.post.returned().push((connection.come_back(socket), next));
        self.post.in_flight.fetch_sub(1, SeqCst);
        signals::wake();
    }

    fn gone(&self) {
        self.post.in_flight.fetch_sub(1, SeqCst);
        if self.post.census.left() {
            signals::wake();
        }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        if self.inner.take().is_some() {
            self.post.failed.fetch_add(1, SeqCst);
            self.gone();
        }
    }
}
