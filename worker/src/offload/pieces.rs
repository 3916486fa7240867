//! What is left of a response, in order: bytes and parts of files.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::file::FilePart;
use crate::budget::{Budget, Held};
use crate::socket;

/// Bytes that are sent before others have their turn.
pub(crate) const TURN: usize = 1 << 20;
/// Bytes that always stay in memory: a temporary file would cost more.
const SMALL: usize = 64 * 1024;

/// What became of one attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All is sent.
    Done,
    /// The peer takes more, but others have their turn.
    Turn,
    /// The peer takes nothing now.
    Blocked,
}

#[derive(Debug)]
enum Piece {
    Bytes {
        bytes: Vec<u8>,
        at: usize,
        held: Vec<Held>,
    },
    File(FilePart),
    /// Bytes that found no room in memory: a file without a name, to which more can be added.
    Spilled(FilePart<File>),
}

#[derive(Debug, Default)]
pub(crate) struct Pieces {
    queue: VecDeque<Piece>,
    in_memory: usize,
    sent: u64,
}

impl Pieces {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that are held in memory.
    pub fn in_memory(&self) -> usize {
        self.in_memory
    }

    /// Bytes that went out so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn push_file(&mut self, part: FilePart) {
        if part.left() > 0 {
            self.queue.push_back(Piece::File(part));
        }
    }

    /// Adds bytes that stay in memory.
    pub fn push(&mut self, more: &[u8]) {
        self.push_held(more, None);
    }

    /// Adds bytes as far as the budget allows in memory, else in a temporary file (and in memory all the same where that cannot be written).
    pub fn push_within(&mut self, more: &[u8], budget: &Arc<Budget>) {
        if let Some(Piece::Spilled(part)) = self.queue.back_mut() {
            let (file, end) = part.end();
            if file.write_all_at(more, end).is_ok() {
                return part.grow(more.len() as u64);
            }
        }
        let held = budget.take(more.len());
        if held.is_none() && more.len() > SMALL {
            if let Ok(part) = spill(more) {
                return self.queue.push_back(Piece::Spilled(part));
            }
        }
        self.push_held(more, held);
    }

    fn push_held(&mut self, more: &[u8], more_held: Option<Held>) {
        if more.is_empty() {
            return;
        }
        self.in_memory += more.len();
        match self.queue.back_mut() {
            Some(Piece::Bytes { bytes, held, .. }) if bytes.len() + more.len() <= SMALL => {
                bytes.extend_from_slice(more);
                held.extend(more_held);
            }
            _ => self.queue.push_back(Piece::Bytes { bytes: more.to_vec(), at: 0, held: more_held.into_iter().collect() }),
        }
    }

    /// Sends without waiting until all is gone, the peer takes no more, or it was enough for a turn.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<Step> {
        let mut turn = TURN;
        loop {
            let more = self.queue.len() > 1;
            let Some(piece) = self.queue.front_mut() else { return Ok(Step::Done) };
            if turn == 0 {
                return Ok(Step::Turn);
            }
            let sent = match piece {
                Piece::Bytes { bytes, at, .. } => {
                    let rest = &bytes[*at..];
                    let sent = socket::try_send(socket, &[io::IoSlice::new(&rest[..rest.len().min(turn)])], more);
                    *at += sent.as_ref().unwrap_or(&0);
                    sent
                }
                Piece::File(part) => part.send(socket, turn),
                Piece::Spilled(part) => part.send(socket, turn),
            };
            let sent = match sent {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Blocked),
                Err(error) => return Err(error),
            };
            turn = turn.saturating_sub(sent);
            self.sent += sent as u64;
            let over = match piece {
                Piece::Bytes { bytes, at, .. } => {
                    self.in_memory -= sent;
                    *at == bytes.len()
                }
                Piece::File(part) => part.left() == 0,
                Piece::Spilled(part) => part.left() == 0,
            };
            if over {
                self.queue.pop_front();
            }
        }
    }
}

fn spill(bytes: &[u8]) -> io::Result<FilePart<File>> {
    let file = tempfile::tempfile()?;
    file.write_all_at(bytes, 0)?;
    Ok(FilePart::new(file, 0, bytes.len() as u64, true))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn file(content: &[u8]) -> FilePart {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("write");
        FilePart::new(file.into(), 0, content.len() as u64, true)
    }

    fn all(mut pieces: Pieces) -> Vec<u8> {
        let (mut peer, ours) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let reader = std::thread::spawn(move || {
            let mut got = vec![];
            peer.read_to_end(&mut got).map(|_| got)
        });
        while pieces.send(ours.as_fd()).expect("send") != Step::Done {
            std::thread::yield_now();
        }
        assert_eq!(pieces.in_memory(), 0);
        drop(ours);
        reader.join().expect("join").expect("read")
    }

    #[test]
    fn bytes_and_files_go_out_in_order() {
        let mut pieces = Pieces::default();
        pieces.push(b"head ");
        pieces.push(b"line ");
        assert_eq!(pieces.queue.len(), 1, "small ones are joined");
        pieces.push_file(file(b"file "));
        pieces.push(b"");
        pieces.push_file(file(b""));
        pieces.push(b"tail");
        assert_eq!(pieces.in_memory(), 14);
        assert_eq!(all(pieces), b"head line file tail");
    }

    #[test]
    fn what_exceeds_the_budget_goes_on_disk_and_the_budget_comes_back() {
        let budget = Budget::new(300_000);
        let (first, second, third) = (vec![1; 200_000], vec![2; 200_000], vec![3; 10]);
        let mut pieces = Pieces::default();
        for part in [&first, &second, &third] {
            pieces.push_within(part, &budget);
        }
        assert_eq!(pieces.in_memory(), 200_000);
        assert!(matches!(pieces.queue.back(), Some(Piece::Spilled(_))));
        assert_eq!(all(pieces), [first, second, third].concat());
        assert_eq!(budget.left(), 300_000);
    }

    #[test]
    fn a_peer_that_reads_nothing_blocks_and_one_that_left_is_an_error() {
        let (peer, ours) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let mut pieces = Pieces::default();
        pieces.push(&vec![0; 10 << 20]);
        while pieces.send(ours.as_fd()).expect("send") == Step::Turn {}
        let waiting = pieces.in_memory();
        assert!(waiting > 0 && pieces.send(ours.as_fd()).expect("send") == Step::Blocked && pieces.in_memory() == waiting);
        drop(peer);
        assert!(pieces.send(ours.as_fd()).is_err());
    }
}
