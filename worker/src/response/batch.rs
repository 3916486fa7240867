//! Parts on their way into one system call.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use imperator_protocol::response::ChunkStart;

use super::sender::{Sender, Way};
use crate::socket;

/// Parts that go out in one system call at most.
const BATCH: usize = 16;

/// Parts of no more than so many bytes together are put into one: to copy them is cheaper than to have the kernel collect them.
const JOIN: usize = 2048;
/// So many are put into a smaller place, as that has to be zeroed before.
const FEW: usize = 256;

pub(super) struct Batch<'a, 's, 'c> {
    sender: &'s mut Sender<'c>,
    way: Way<'a>,
    parts: [IoSlice<'a>; BATCH],
    used: usize,
}

impl<'a, 's, 'c> Batch<'a, 's, 'c> {
    pub fn new(sender: &'s mut Sender<'c>, way: Way<'a>) -> Self {
        Self { sender, way, parts: [IoSlice::new(&[]); BATCH], used: 0 }
    }

    /// Adds and sends a part of a response; `more` as in [`Self::flush`].
    pub fn fill(&mut self, head: &'a [u8], line: Option<&'a ChunkStart>, parts: &[&'a [u8]], allowed: u64, more: bool) -> io::Result<()> {
        self.add(head)?;
        if let Some(line) = line {
            self.add(line.as_bytes())?;
        }
        let mut left = usize::try_from(allowed).unwrap_or(usize::MAX);
        for part in parts {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            self.add(part)?;
        }
        if line.is_some() {
            self.add(b"\r\n")?;
        }
        self.flush(more)
    }

    pub fn add(&mut self, part: &'a [u8]) -> io::Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        if self.used == BATCH {
            self.flush(true)?;
        }
        self.parts[self.used] = IoSlice::new(part);
        self.used += 1;
        Ok(())
    }

    /// Sends what was added; `more` follows at once, or the end of the connection.
    pub fn flush(&mut self, more: bool) -> io::Result<()> {
        let used = std::mem::take(&mut self.used);
        self.sender.send(&mut self.parts[..used], more, self.way)
    }
}

/// Sends what the kernel takes now.
pub(super) fn try_send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    if let [part] = parts {
        return socket::try_send_one(socket, part, more);
    }
    match parts.iter().map(|part| part.len()).sum::<usize>() {
        few if few <= FEW => send_joined::<FEW>(socket, parts, more),
        some if some <= JOIN => send_joined::<JOIN>(socket, parts, more),
        _ => socket::try_send(socket, parts, more),
    }
}

/// `parts` are no longer than `N` bytes in all.
fn send_joined<const N: usize>(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let (mut joined, mut end) = ([0; N], 0);
    for part in parts {
        joined[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    socket::try_send_one(socket, &joined[..end], more)
}
