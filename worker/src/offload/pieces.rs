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

/// Bytes of one temporary file of what an app is ahead: what is sent of it takes its room until all of it is.
const FILE: u64 = 16 << 20;

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
    /// The same, of an app that is ahead of its peer: the disk is not all its own.
    Ahead(FilePart<File>, Held),
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

    /// Adds bytes of an app that is ahead of its peer: `most` in memory, more of them in temporary files as far as the budget allows, if there is one.
    /// How many of them found room.
    pub fn push_ahead(&mut self, more: &[u8], most: usize, disk: Option<&Arc<Budget>>) -> usize {
        let more = &more[..more.len().min(TURN)];
        let room = most.saturating_sub(self.in_memory).min(more.len());
        // (In order: behind what is on disk already, rather on disk too.)
        if room == 0 || self.ends_on_disk() {
            match disk {
                None => return 0,
                Some(disk) if self.push_to_disk(more, disk) => return more.len(),
                Some(_) => {}
            }
        }
        self.push(&more[..room]);
        room
    }

    /// What is added next belongs behind something on disk.
    pub fn ends_on_disk(&self) -> bool {
        matches!(self.queue.back(), Some(Piece::Ahead(..)))
    }

    /// Whether there was room. A response that holds more than is left for others gets no more.
    fn push_to_disk(&mut self, more: &[u8], disk: &Arc<Budget>) -> bool {
        if self.on_disk() > disk.left() {
            return false;
        }
        if let Some(Piece::Ahead(part, held)) = self.queue.back_mut()
            && part.end().1 < FILE
        {
            let (file, end) = part.end();
            let written = held.grow(more.len()) && file.write_all_at(more, end).is_ok();
            if written {
                part.grow(more.len() as u64);
            }
            return written;
        }
        let held = disk.take(more.len());
        let Some((held, part)) = held.and_then(|held| Some((held, spill(more).ok()?))) else { return false };
        self.queue.push_back(Piece::Ahead(part, held));
        true
    }

    /// Bytes of the budget of temporary files that these pieces hold.
    fn on_disk(&self) -> usize {
        self.queue.iter().map(|piece| if let Piece::Ahead(_, held) = piece { held.bytes() } else { 0 }).sum()
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
                Piece::Spilled(part) | Piece::Ahead(part, _) => part.send(socket, turn),
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
                Piece::Spilled(part) | Piece::Ahead(part, _) => part.left() == 0,
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
    fn an_app_that_is_ahead_goes_on_disk_in_order_and_within_its_budget() {
        let disk = Budget::new(1_000_000);
        let mut pieces = Pieces::default();
        let (mut whole, mut round) = (vec![], 0_u8);
        loop {
            let part = [round; 30_000];
            let taken = pieces.push_ahead(&part, 100_000, Some(&disk));
            whole.extend_from_slice(&part[..taken]);
            if taken == 0 {
                break;
            }
            round += 1;
        }
        assert_eq!(pieces.in_memory(), 100_000);
        assert!((400_000..600_000).contains(&disk.left()), "no more than is left for others: {}", disk.left());
        pieces.push(b"end");
        assert!(all(pieces) == [&whole[..], b"end"].concat());
        assert_eq!(disk.left(), 1_000_000);
        assert_eq!(Pieces::default().push_ahead(&[0; 1000], 100, None), 100);
    }

    #[test]
    fn what_is_sent_makes_room_on_disk() {
        let disk = Budget::new(200 << 20);
        let (peer, ours) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let mut pieces = Pieces::default();
        let part = vec![7; 1 << 20];
        (0..40).for_each(|_| assert_eq!(pieces.push_ahead(&part, 0, Some(&disk)), part.len()));
        assert_eq!(disk.left(), 160 << 20);
        let reader = std::thread::spawn(move || std::io::copy(&mut (&peer).take(20 << 20), &mut std::io::sink()).map(|_| peer));
        while disk.left() == 160 << 20 {
            pieces.send(ours.as_fd()).expect("send");
        }
        assert_eq!(disk.left(), 176 << 20);
        drop(pieces);
        assert_eq!(disk.left(), 200 << 20);
        drop(ours);
        reader.join().expect("join").expect("read");
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
