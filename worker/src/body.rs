//! The body of a request: first what came with the head, then the socket, bounded by its length.

use std::io;
use std::os::fd::BorrowedFd;

use crate::language::Yield;
use crate::request::BodyError;
use crate::socket::{self, Ready};

pub(crate) struct Body<'c> {
    socket: BorrowedFd<'c>,
    /// Seconds to wait for more.
    timeout: u32,
    /// Bytes that came with the head and are not read yet; more than the body if another request follows.
    ahead: &'c [u8],
    length: u64,
    position: u64,
    /// The client waits for `100 Continue` before it sends.
    expects_continue: bool,
}

impl<'c> Body<'c> {
    pub fn new(socket: BorrowedFd<'c>, timeout: u32, ahead: &'c [u8], length: u64) -> Self {
        Self { socket, timeout, ahead, length, position: 0, expects_continue: false }
    }

    pub fn remaining(&self) -> Option<u64> {
        Some(self.length - self.position)
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn read(&mut self, buf: &mut [u8], lock: &dyn Yield) -> Result<usize, BodyError> {
        let left = self.length - self.position;
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = if self.ahead.is_empty() {
            self.receive(&mut buf[..want], lock)?
        } else {
            let got = want.min(self.ahead.len());
            buf[..got].copy_from_slice(&self.ahead[..got]);
            self.ahead = &self.ahead[got..];
            got
        };
        self.position += got as u64;
        Ok(got)
    }

    fn receive(&mut self, buf: &mut [u8], lock: &dyn Yield) -> Result<usize, BodyError> {
        loop {
            match socket::try_recv(self.socket, buf) {
                Ok(0) => return Err(BodyError::Short { missing: self.length - self.position }),
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(lock)?,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(BodyError::Short { missing: self.length - self.position });
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn wait(&mut self, lock: &dyn Yield) -> Result<(), BodyError> {
        if std::mem::take(&mut self.expects_continue) {
            let _ = socket::try_send(self.socket, &[io::IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")], false);
        }
        if socket::wait(self.socket, Ready::Read, self.timeout, lock)? { Ok(()) } else { Err(BodyError::Timeout(self.timeout)) }
    }

    pub fn read_chunk(&mut self, _timeout: Option<u32>, _lock: &dyn Yield) -> Result<Vec<u8>, BodyError> {
        Err(BodyError::Chunked("the request has no chunked body"))
    }

    pub fn seek(&mut self, _position: u64) -> Result<(), BodyError> {
        Err(BodyError::NotSeekable)
    }
}
