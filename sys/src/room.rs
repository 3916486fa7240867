//! Memory that is filled from its start and need not be initialised before: to zero what a megabyte is read into costs as much as to copy it.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Memory of the caller's. It is only ever written to, and [`Room::filled`] never says more than what was written.
pub struct Room<'m> {
    memory: &'m mut [MaybeUninit<u8>],
    filled: usize,
}

impl<'m> Room<'m> {
    pub fn new(memory: &'m mut [MaybeUninit<u8>]) -> Self {
        Self { memory, filled: 0 }
    }

    /// Bytes from the start that are initialised.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes that there is room for.
    pub fn left(&self) -> usize {
        self.memory.len() - self.filled
    }

    /// Copies as many of `bytes` as there is room for; how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.left());
        // SAFETY: both are valid for `count` bytes, and a `&mut` slice overlaps no other one.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory[self.filled..].as_mut_ptr().cast(), count) };
        self.filled += count;
        count
    }

    /// Has `fill` write into at most `most` bytes, zeroed, and keeps as many of them as it says.
    pub fn fill_with<R>(&mut self, most: usize, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let part = &mut self.memory[self.filled..];
        let count = most.min(part.len());
        part[..count].fill(MaybeUninit::new(0));
        // SAFETY: `count` bytes were initialised a line above, and the slice borrows `part`.
        let part = unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast::<u8>(), count) };
        let (kept, result) = fill(part);
        self.filled += kept.min(count);
        result
    }

    /// Receives at most `most` bytes of what is there now; 0 is the end of the stream (or no room).
    ///
    /// # Errors
    /// recv(2)'s, EAGAIN if nothing is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        let part = &mut self.memory[self.filled..];
        let count = most.min(part.len());
        loop {
            // SAFETY: the kernel writes at most `count` bytes, all of them inside `part`, which is borrowed for the call.
            let got = unsafe { libc::recv(socket.as_raw_fd(), part.as_mut_ptr().cast(), count, libc::MSG_DONTWAIT) };
            match Errno::result(got) {
                // It is at most `count`.
                Ok(got) => {
                    let got = usize::try_from(got).unwrap_or(0).min(count);
                    self.filled += got;
                    return Ok(got);
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Receives at most `most` bytes of what is there now and puts them behind the end of `bytes`; 0 is the end of the stream.
///
/// # Errors
/// recv(2)'s, EAGAIN if nothing is there.
pub fn receive_onto(bytes: &mut Vec<u8>, socket: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
    bytes.reserve(most);
    let got = Room::new(&mut bytes.spare_capacity_mut()[..most]).receive(socket, most)?;
    // SAFETY: so many bytes of the memory behind its end were just written.
    unsafe { bytes.set_len(bytes.len() + got) };
    Ok(got)
}

impl<'m> From<&'m mut [u8]> for Room<'m> {
    fn from(bytes: &'m mut [u8]) -> Self {
        // SAFETY: the same memory, borrowed as long; initialised bytes are written here, so it stays initialised.
        Self::new(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_fills_from_its_start_and_no_further_than_its_end() {
        let mut memory = Vec::with_capacity(10);
        let mut room = Room::new(&mut memory.spare_capacity_mut()[..10]);
        assert_eq!((room.put(b"abc"), room.left()), (3, 7));
        assert_eq!(room.fill_with(4, |part| (part.iter().position(|b| *b != 0).unwrap_or(2), part.len())), 4);
        let (mut peer, socket) = UnixStream::pair().expect("pair");
        assert_eq!(room.receive(socket.as_fd(), 9), Err(Errno::EAGAIN));
        peer.write_all(b"defghijk").expect("write");
        assert_eq!(room.receive(socket.as_fd(), 2), Ok(2));
        assert_eq!((room.receive(socket.as_fd(), 99), room.put(b"xyz"), room.filled()), (Ok(3), 0, 10));
        // SAFETY: all ten bytes were filled.
        unsafe { memory.set_len(10) };
        assert_eq!(memory, b"abc\0\0defgh");
    }

    #[test]
    fn a_vector_grows_by_what_came() {
        let (mut peer, socket) = UnixStream::pair().expect("pair");
        let mut bytes = b"ab".to_vec();
        assert_eq!(receive_onto(&mut bytes, socket.as_fd(), 10), Err(Errno::EAGAIN));
        peer.write_all(b"cdefg").expect("write");
        assert_eq!((receive_onto(&mut bytes, socket.as_fd(), 2), receive_onto(&mut bytes, socket.as_fd(), 1000)), (Ok(2), Ok(3)));
        drop(peer);
        assert_eq!(receive_onto(&mut bytes, socket.as_fd(), 10), Ok(0));
        assert_eq!(bytes, b"abcdefg");
    }

    #[test]
    fn initialised_memory_will_do_too() {
        let mut bytes = [1; 4];
        let mut room = Room::from(&mut bytes[..]);
        assert_eq!((room.put(b"ab"), room.fill_with(9, |part| (9, part.len())), room.left()), (2, 2, 0));
        assert_eq!(bytes, *b"ab\0\0");
    }
}
