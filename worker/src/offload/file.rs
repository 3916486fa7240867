//! A part of a file on its way to a socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::sendfile::sendfile;
use nix::sys::uio::pread;

use crate::socket;

/// Bytes that are read at a time where sendfile is not used.
const BLOCK: usize = 32 * 1024;

/// `left` bytes of a file from `offset` on.
#[derive(Debug)]
pub(crate) struct FilePart<F = OwnedFd> {
    file: F,
    offset: u64,
    left: u64,
    /// By sendfile(2); else by pread(2) and send(2).
    by_kernel: bool,
}

impl<F: AsFd> FilePart<F> {
    pub fn new(file: F, offset: u64, length: u64, by_kernel: bool) -> Self {
        Self { file, offset, left: length, by_kernel }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// More of the file is there to be sent.
    pub fn grow(&mut self, bytes: u64) {
        self.left += bytes;
    }

    /// The same part, with a descriptor of its own.
    pub fn try_clone(&self) -> io::Result<FilePart> {
        let file = self.file.as_fd().try_clone_to_owned()?;
        Ok(FilePart { file, offset: self.offset, left: self.left, by_kernel: self.by_kernel })
    }

    /// The file, and where it ends.
    pub fn end(&self) -> (&F, u64) {
        (&self.file, self.offset + self.left)
    }

    /// Sends at most `limit` bytes without waiting; how many.
    pub fn send(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(limit);
        let sent = if self.by_kernel { self.send_by_kernel(socket, count)? } else { self.copy(socket, count)? };
        if sent == 0 && count > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent"));
        }
        self.offset += sent as u64;
        self.left -= sent as u64;
        Ok(sent)
    }

    fn send_by_kernel(&mut self, socket: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        let mut at = i64::try_from(self.offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            match sendfile(socket, &self.file, Some(&mut at), count) {
                Err(Errno::EINTR) => {}
                // Not every file system can.
                Err(Errno::EINVAL | Errno::ENOSYS) => {
                    self.by_kernel = false;
                    return self.copy(socket, count);
                }
                result => return Ok(result?),
            }
        }
    }

    fn copy(&self, socket: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        let mut block = [0; BLOCK];
        let at = i64::try_from(self.offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let got = loop {
            match pread(&self.file, &mut block[..count.min(BLOCK)], at) {
                Err(Errno::EINTR) => {}
                result => break result?,
            }
        };
        if got == 0 { Ok(0) } else { socket::try_send_one(socket, &block[..got], false) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn sent(by_kernel: bool, offset: u64, length: u64) -> (io::Result<()>, Vec<u8>) {
        let mut file = tempfile::tempfile().expect("a file");
        // Sparse, and beyond what 32 bits can say.
        file.seek(SeekFrom::Start(5 << 30)).expect("seek");
        file.write_all(b"0123456789").expect("write");
        let (mut peer, ours) = UnixStream::pair().expect("pair");
        let mut part = FilePart::new(file, (5 << 30) + offset, length, by_kernel);
        let mut result = Ok(());
        while result.is_ok() && part.left() > 0 {
            result = part.send(ours.as_fd(), 3).map(drop);
        }
        drop(ours);
        let mut got = vec![];
        peer.read_to_end(&mut got).expect("read");
        (result, got)
    }

    #[test]
    fn exactly_the_part_is_sent_either_way() {
        for by_kernel in [true, false] {
            let (result, got) = sent(by_kernel, 2, 7);
            assert!(result.is_ok());
            assert_eq!(got, b"2345678");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_after_what_there_is() {
        for by_kernel in [true, false] {
            let (result, got) = sent(by_kernel, 6, 7);
            assert_eq!(result.expect_err("an error").kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(got, b"6789");
        }
    }
}
