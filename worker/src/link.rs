//! A worker's end of its control pair with the master.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use imperator_sys::seqpacket::{Received, SeqPacket};

use crate::control::{FromWorker, ToWorker};

/// Shared by the loop and by the language (`uwsgi.reload()`, `uwsgi.stop()`).
#[derive(Debug)]
pub struct Link {
    pair: SeqPacket,
}

impl Link {
    /// `fd` came with [`crate::control::ToZygote::Fork`].
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let pair = SeqPacket::from_fd(fd);
        pair.set_nonblocking(true)?;
        Ok(Self { pair })
    }

    /// Tells the master. If it is gone the worker is about to end anyway, so nothing is reported here.
    pub fn tell(&self, message: &FromWorker) {
        let _ = self.pair.send(message, &[]);
    }

    pub(crate) fn next(&self) -> io::Result<Option<Received<ToWorker>>> {
        self.pair.recv()
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pair.as_fd()
    }
}
