//! A response that its app still makes while the peer reads the beginning: the request thread adds to it, the engine sends.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::file::FilePart;
use super::pieces::{Pieces, Step};
use crate::budget::Budget;
use crate::language::Yield;

/// Bytes that an app may be ahead of its peer in memory.
pub(crate) const AHEAD: usize = 256 * 1024;
/// How long a peer that keeps up is waited for: that is cheaper than a file.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Stream {
    state: Mutex<State>,
    /// The peer took something, or the engine gave up.
    changed: Condvar,
    /// There is something to send, or nothing will come.
    news: Notify,
    /// For what is more than that.
    disk: Arc<Budget>,
}

#[derive(Default)]
struct State {
    pieces: Pieces,
    /// The request thread wants no more to be sent here.
    ended: bool,
    failed: Option<io::ErrorKind>,
}

/// What the engine has to do with a stream next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Wait until the peer takes more.
    Socket,
    /// Wait until the app has more.
    App,
    Again,
    End,
}

impl Stream {
    pub fn new(pieces: Pieces, disk: &Arc<Budget>) -> Self {
        let state = Mutex::new(State { pieces, ..State::default() });
        Self { state, changed: Condvar::new(), news: Notify::new(), disk: Arc::clone(disk) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // -- for the request thread

    /// Adds bytes. What is more than [`AHEAD`] goes on disk, and where there is no room has to wait for the peer, both with the language's lock
    /// released; a peer that reads nothing for `seconds` is an error then.
    pub fn push(&self, mut bytes: &[u8], seconds: u32, lock: &dyn Yield) -> io::Result<()> {
        bytes = &bytes[self.add(bytes, None)?..];
        while !bytes.is_empty() {
            let mut taken = Ok(0);
            lock.allow(&mut || {
                if self.pause() {
                    taken = self.add(bytes, None);
                }
                if let Ok(0) = taken {
                    taken = self.add(bytes, Some(&self.disk));
                }
                if let Ok(0) = taken {
                    self.wait_for_room(Duration::from_secs(seconds.into()));
                }
            });
            bytes = &bytes[taken?..];
        }
        Ok(())
    }

    /// Adds what there is room for; how much that was.
    fn add(&self, bytes: &[u8], disk: Option<&Arc<Budget>>) -> io::Result<usize> {
        let mut state = self.state();
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        let taken = state.pieces.push_ahead(bytes, AHEAD, disk);
        if taken > 0 {
            self.news.notify_one();
        }
        Ok(taken)
    }

    pub fn push_file(&self, part: FilePart) -> io::Result<()> {
        let mut state = self.state();
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        state.pieces.push_file(part);
        self.news.notify_one();
        Ok(())
    }

    /// Gives a peer that is reading just now a moment, unless there is something on disk already. Whether there is room in memory.
    fn pause(&self) -> bool {
        let full = |state: &mut State| state.failed.is_none() && state.pieces.in_memory() > AHEAD / 2;
        let state = self.state();
        if state.pieces.ends_on_disk() {
            return false;
        }
        self.changed.wait_timeout_while(state, PAUSE, full).is_ok_and(|(_, result)| !result.timed_out())
    }

    /// Until half of what may be ahead is sent, or nothing was for too long.
    fn wait_for_room(&self, patience: Duration) {
        let mut state = self.state();
        while state.failed.is_none() && state.pieces.in_memory() > AHEAD / 2 {
            let sent = state.pieces.sent();
            let (next, result) = self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if result.timed_out() && state.pieces.sent() == sent {
                self.give_up(&mut state, io::ErrorKind::TimedOut);
            }
        }
    }

    /// Takes back what is not sent yet: the engine leaves the socket alone from now on.
    pub fn take_back(&self) -> io::Result<Pieces> {
        let mut state = self.state();
        state.ended = true;
        self.news.notify_one();
        match state.failed {
            Some(kind) => Err(kind.into()),
            None => Ok(std::mem::take(&mut state.pieces)),
        }
    }

    // -- for the engine

    pub fn step(&self, socket: BorrowedFd<'_>) -> Turn {
        let mut state = self.state();
        if state.ended || state.failed.is_some() {
            return Turn::End;
        }
        let step = state.pieces.send(socket);
        self.changed.notify_all();
        match step {
            Ok(Step::Done) => Turn::App,
            Ok(Step::Turn) => Turn::Again,
            Ok(Step::Blocked) => Turn::Socket,
            Err(error) => {
                self.give_up(&mut state, error.kind());
                Turn::End
            }
        }
    }

    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// The peer cannot be sent anything any more.
    pub fn fail(&self, kind: io::ErrorKind) {
        self.give_up(&mut self.state(), kind);
    }

    fn give_up(&self, state: &mut State, kind: io::ErrorKind) {
        state.failed.get_or_insert(kind);
        state.pieces = Pieces::default();
        self.changed.notify_all();
        self.news.notify_one();
    }
}
