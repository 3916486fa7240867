//! One request as a language sees it: its variables, its body, and the response it makes.
//!
//! The socket is non-blocking. A method that has to wait for the peer takes a [`Yield`], so that a language's lock is
//! released while it waits and only then.

use std::os::fd::BorrowedFd;

use imperator_protocol::vars::Vars;

use crate::language::Yield;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the client went away before the end of its body ({missing} bytes are missing)")]
    Short { missing: u64 },
    #[error("no data from the client for {0} seconds (socket-timeout)")]
    Timeout(u32),
    #[error("malformed chunked body: {0}")]
    Chunked(&'static str),
    #[error("the body is not seekable (post-buffering makes it so)")]
    NotSeekable,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Why a response could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The client left, or did not read for `socket-timeout`.
    #[error("write error: {0}")]
    Gone(std::io::Error),
}

/// Why a head was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeadError {
    #[error("headers already sent")]
    Sent,
    #[error("a {0} holds a carriage return, a line feed or a NUL")]
    ControlCharacter(&'static str),
    #[error("a header name is empty or holds a blank or a colon")]
    Name,
}

/// A request in hand. (Skeleton: the signatures are the contract, the bodies follow.)
pub struct Request<'c> {
    _marker: std::marker::PhantomData<&'c ()>,
}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_self)]
impl<'c> Request<'c> {
    /// The variables as the front end sent them (or as the HTTP head was turned into them).
    pub fn vars(&self) -> Vars<'_> {
        unimplemented!()
    }

    /// The last variable of that name.
    pub fn var(&self, name: &[u8]) -> Option<&[u8]> {
        unimplemented!()
    }

    pub fn modifier1(&self) -> u8 {
        unimplemented!()
    }

    pub fn modifier2(&self) -> u8 {
        unimplemented!()
    }

    /// Which request thread, from 0.
    pub fn core(&self) -> u32 {
        unimplemented!()
    }

    /// Whether it came over the uwsgi protocol: only there may variables name code to load (with `dynamic-apps`).
    pub fn from_uwsgi(&self) -> bool {
        unimplemented!()
    }

    /// The connection, for `wsgi.input.fileno()` and `uwsgi.connection_fd()`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }

    // -- the body

    /// Reads at most `buf.len()` bytes of the body, chunked ones decoded; 0 at its end. Never reads past CONTENT_LENGTH.
    /// May return less than asked; answers `100 Continue` before the first wait where the client expects it.
    pub fn read(&mut self, buf: &mut [u8], lock: &dyn Yield) -> Result<usize, BodyError> {
        unimplemented!()
    }

    /// Bytes that are left, where the length is known (not with a chunked body).
    pub fn remaining(&self) -> Option<u64> {
        unimplemented!()
    }

    /// Reads the next chunk of a chunked body as `uwsgi.chunked_read` does: empty at the end. `timeout` in seconds, `None`: `chunked-input-timeout`.
    pub fn read_chunk(&mut self, timeout: Option<u32>, lock: &dyn Yield) -> Result<Vec<u8>, BodyError> {
        unimplemented!()
    }

    /// Goes to a position in the body; works only with `post-buffering`.
    pub fn seek(&mut self, position: u64) -> Result<(), BodyError> {
        unimplemented!()
    }

    pub fn tell(&self) -> u64 {
        unimplemented!()
    }

    // -- the head

    /// Starts a head with `200 OK`-like `status` (code and phrase), dropping one that was not sent yet.
    pub fn set_status(&mut self, status: &[u8]) -> Result<(), HeadError> {
        unimplemented!()
    }

    /// Adds a header; order, case and repeats are kept.
    pub fn add_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        unimplemented!()
    }

    pub fn head_sent(&self) -> bool {
        unimplemented!()
    }

    /// The status code set so far; 0 if none.
    pub fn status(&self) -> u16 {
        unimplemented!()
    }

    // -- sending

    /// Sends `data`, and the head before it if that is not out yet (one system call for both). Empty data sends the head alone.
    /// More bytes than a Content-Length header promised are cut. Tries without waiting first, under the language's lock.
    pub fn write(&mut self, data: &[u8], lock: &dyn Yield) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// As [`Self::write`], for several parts that go out in one system call where the peer takes them.
    pub fn write_vectored(&mut self, parts: &[&[u8]], lock: &dyn Yield) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Sends `length` bytes (`None`: all that is left, at most Content-Length) of `file` from `offset`, the head before them.
    pub fn send_file(&mut self, file: BorrowedFd<'_>, offset: u64, length: Option<u64>, lock: &dyn Yield) -> Result<(), WriteError> {
        unimplemented!()
    }

    /// Replaces what was not sent yet by a plain-text error page (`500 Internal Server Error` ...) and closes the connection after it.
    /// If the head is out already, the connection is cut so that the peer sees an incomplete response.
    pub fn fail(&mut self, status: u16, lock: &dyn Yield) {
        unimplemented!()
    }

    // -- what the log line and the stats say

    /// The app that answers, for `app: N` and its counters, and how its mount point shows in stats.
    pub fn set_app(&mut self, id: u32) {
        unimplemented!()
    }

    /// `uwsgi.set_logvar`.
    pub fn set_logvar(&mut self, name: &[u8], value: &[u8]) {
        unimplemented!()
    }

    pub fn logvar(&self, name: &[u8]) -> Option<&[u8]> {
        unimplemented!()
    }

    /// Counts an exception of the app's (worker, core and app counters).
    pub fn count_exception(&mut self) {
        unimplemented!()
    }

    /// Seconds from now at which the master kills this worker (`uwsgi.set_user_harakiri`); 0: takes that back.
    pub fn set_harakiri(&mut self, seconds: u32) {
        unimplemented!()
    }
}
