//! One request as a language sees it: its variables, its body, and the response it makes.
//!
//! The socket is non-blocking. A method that has to wait for the peer takes a [`Yield`], so that a language's lock is
//! released while it waits and only then.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;

use imperator_protocol::vars::{self, Vars};
use imperator_sys::room::Room;

use crate::body::Body;
use crate::clock;
use crate::language::Yield;
use crate::offload::Pieces;
use crate::response::{Outcome, Response};
use crate::scoreboard::{CoreCell, CoreSlot, WorkerCell, WorkerSlot};
use crate::settings::{Protocol, RequestSettings};

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
    #[error("a header name is empty, or holds a blank, a colon or a control character")]
    Name,
    #[error("a status does not start with a number from 100 to 999")]
    Status,
    #[error("a Content-Length is not a decimal number, or is a second, different one")]
    ContentLength,
}

/// What a [`Request`] is made of.
pub(crate) struct Parts<'c> {
    pub socket: BorrowedFd<'c>,
    pub protocol: Protocol,
    pub settings: &'c RequestSettings,
    pub vars: Vars<'c>,
    pub modifier1: u8,
    pub modifier2: u8,
    pub core: u32,
    pub body: Body<'c>,
    pub response: Response<'c>,
    /// Emptied by the owner for each request.
    pub logvars: &'c mut Vec<u8>,
    pub board: Board<'c>,
}

/// The places in shared memory that a request thread counts in.
#[derive(Clone, Copy)]
pub(crate) struct Board<'c> {
    pub worker: WorkerSlot<'c>,
    pub core: CoreSlot<'c>,
}

/// A request in hand.
pub struct Request<'c> {
    parts: Parts<'c>,
    app: Option<u32>,
    read_errors: u32,
    failed: bool,
    /// Encoded block of what the app added to the variables, for the log line.
    added: Vec<u8>,
    log_asked: bool,
}

impl<'c> Request<'c> {
    pub(crate) fn new(parts: Parts<'c>) -> Self {
        Self { parts, app: None, read_errors: 0, failed: false, added: Vec::new(), log_asked: false }
    }

    /// The variables as the front end sent them (or as the HTTP head was turned into them).
    pub fn vars(&self) -> Vars<'_> {
        self.parts.vars
    }

    /// The last variable of that name.
    pub fn var(&self, name: &[u8]) -> Option<&[u8]> {
        self.parts.vars.get(name)
    }

    pub fn modifier1(&self) -> u8 {
        self.parts.modifier1
    }

    pub fn modifier2(&self) -> u8 {
        self.parts.modifier2
    }

    /// Which request thread, from 0.
    pub fn core(&self) -> u32 {
        self.parts.core
    }

    /// Whether it came over the uwsgi protocol: only there may variables name code to load (with `dynamic-apps`).
    pub fn from_uwsgi(&self) -> bool {
        self.parts.protocol == Protocol::Uwsgi
    }

    /// The connection, for `wsgi.input.fileno()` and `uwsgi.connection_fd()`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.parts.socket
    }

    // -- the body

    /// Reads at most `buf.len()` bytes of the body, chunked ones decoded; 0 at its end. Never reads past CONTENT_LENGTH.
    /// May return less than asked; answers `100 Continue` before the first wait where the client expects it.
    pub fn read(&mut self, buf: &mut [u8], lock: &dyn Yield) -> Result<usize, BodyError> {
        self.read_into(&mut Room::from(buf), lock)
    }

    /// As [`Self::read`], into memory that need not be initialised: what the kernel has goes straight there.
    pub fn read_into(&mut self, room: &mut Room<'_>, lock: &dyn Yield) -> Result<usize, BodyError> {
        let result = self.parts.body.read(room, lock);
        self.count_read(result)
    }

    /// Bytes that are left, where the length is known (not with a chunked body).
    pub fn remaining(&self) -> Option<u64> {
        self.parts.body.remaining()
    }

    /// Reads the next chunk of a chunked body as `uwsgi.chunked_read` does: empty at the end. `timeout` in seconds, `None`: `chunked-input-timeout`.
    pub fn read_chunk(&mut self, timeout: Option<u32>, lock: &dyn Yield) -> Result<Vec<u8>, BodyError> {
        let result = self.parts.body.read_chunk(timeout, lock);
        self.count_read(result)
    }

    /// Goes to a position in the body; works only with `post-buffering`.
    pub fn seek(&mut self, position: u64) -> Result<(), BodyError> {
        self.parts.body.seek(position)
    }

    /// The length of the body, once it is there as a whole: only with `post-buffering`.
    pub fn stored_length(&self) -> Result<u64, BodyError> {
        self.parts.body.stored_length()
    }

    pub fn tell(&self) -> u64 {
        self.parts.body.position()
    }

    fn count_read<T>(&mut self, result: Result<T, BodyError>) -> Result<T, BodyError> {
        self.read_errors += u32::from(result.is_err());
        result
    }

    // -- the head

    /// Starts a head with `200 OK`-like `status` (code and phrase), dropping one that was not sent yet.
    pub fn set_status(&mut self, status: &[u8]) -> Result<(), HeadError> {
        self.parts.response.set_status(status)
    }

    /// Adds a header; order, case and repeats are kept.
    pub fn add_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        self.parts.response.add_header(name, value)?;
        for (header, variable) in &self.parts.settings.collect_header {
            if header.as_bytes().eq_ignore_ascii_case(name) {
                if self.parts.settings.file_variable.as_deref() == Some(variable) && !value.is_empty() {
                    self.parts.response.divert(value);
                }
                self.add_var(variable.as_bytes(), value);
            }
        }
        Ok(())
    }

    pub fn head_sent(&self) -> bool {
        self.parts.response.head_sent()
    }

    /// The status code set so far; 0 if none.
    pub fn status(&self) -> u16 {
        self.parts.response.status()
    }

    // -- sending

    /// Sends `data`, and the head before it if that is not out yet (one system call for both). Empty data sends the head alone.
    /// More bytes than a Content-Length header promised are cut. Tries without waiting first, under the language's lock.
    pub fn write(&mut self, data: &[u8], lock: &dyn Yield) -> Result<(), WriteError> {
        self.parts.response.write(&[data], lock)
    }

    /// As [`Self::write`], for several parts that go out in one system call where the peer takes them.
    pub fn write_vectored(&mut self, parts: &[&[u8]], lock: &dyn Yield) -> Result<(), WriteError> {
        self.parts.response.write(parts, lock)
    }

    /// As [`Self::write_vectored`], where nothing follows: what the peer does not take at once goes to the offload engine after the request,
    /// copied, and this thread is free.
    pub fn write_last(&mut self, parts: &[&[u8]], lock: &dyn Yield) -> Result<(), WriteError> {
        self.parts.response.write_last(parts, lock)
    }

    /// Sends `length` bytes (`None`: all that is left, at most Content-Length) of `file` from `offset`, the head before them, as the end of the response.
    /// What the peer does not take at once goes to the offload engine after the request, with a descriptor of its own: `file` can be closed.
    pub fn send_file(&mut self, file: BorrowedFd<'_>, offset: u64, length: Option<u64>, lock: &dyn Yield) -> Result<(), WriteError> {
        self.parts.response.send_file(file, offset, length, true, lock)
    }

    /// As [`Self::send_file`], for an app that goes on and may send more: the engine begins at once.
    pub fn send_file_and_more(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: Option<u64>,
        lock: &dyn Yield,
    ) -> Result<(), WriteError> {
        self.parts.response.send_file(file, offset, length, false, lock)
    }

    /// Replaces what was not sent yet by a plain-text error page (`500 Internal Server Error` ...) and closes the connection after it.
    /// If the head is out already, the connection is cut: the peer sees an incomplete response wherever its length was told.
    pub fn fail(&mut self, status: u16, lock: &dyn Yield) {
        self.failed |= status >= 500;
        self.parts.response.fail(status, lock);
    }

    // -- what the log line and the stats say

    /// The app that answers, for `app: N` and its counters.
    pub fn set_app(&mut self, id: u32) {
        self.app = Some(id);
    }

    pub(crate) fn app(&self) -> Option<u32> {
        self.app
    }

    /// `uwsgi.set_logvar`.
    pub fn set_logvar(&mut self, name: &[u8], value: &[u8]) {
        if !name.is_empty() {
            vars::push(self.parts.logvars, name, value);
        }
    }

    pub fn logvar(&self, name: &[u8]) -> Option<&[u8]> {
        Vars::parse(self.parts.logvars).ok()?.get(name)
    }

    /// `uwsgi.add_var`: a variable that the log line can name. Whether there was room: all of them together are at most 65535 bytes, encoded.
    pub fn add_var(&mut self, name: &[u8], value: &[u8]) -> bool {
        let fits = !name.is_empty() && self.added.len() + name.len() + value.len() + 4 <= usize::from(u16::MAX);
        if fits {
            vars::push(&mut self.added, name, value);
        }
        fits
    }

    /// `uwsgi.log_this_request`: the line is written although `disable-logging` holds.
    pub fn ask_for_log(&mut self) {
        self.log_asked = true;
    }

    /// Counts an exception of the app's (worker, core and app counters).
    pub fn count_exception(&mut self) {
        self.failed = true;
        self.parts.board.worker.cell(WorkerCell::Exceptions).fetch_add(1, Relaxed);
        self.parts.board.core.cell(CoreCell::Exceptions).fetch_add(1, Relaxed);
        if let Some((_, exceptions)) = self.app.and_then(|id| self.parts.board.worker.app(id)) {
            exceptions.fetch_add(1, Relaxed);
        }
    }

    /// Seconds from now at which harakiri ends this request (`uwsgi.set_user_harakiri`); 0: takes that back.
    pub fn set_harakiri(&mut self, seconds: u32) {
        let deadline = if seconds == 0 { 0 } else { clock::monotonic_ms() + u64::from(seconds) * 1000 };
        self.parts.board.core.cell(CoreCell::Deadline).store(deadline, Relaxed);
        crate::watchdog::ring();
    }

    // -- for the loop

    pub(crate) fn read_errors(&self) -> u32 {
        self.read_errors
    }

    /// The app raised, or the container had to answer for it.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// The encoded block of log variables.
    pub(crate) fn logvars(&self) -> &[u8] {
        self.parts.logvars
    }

    pub(crate) fn added_vars(&self) -> &[u8] {
        &self.added
    }

    pub(crate) fn is_log_asked(&self) -> bool {
        self.log_asked
    }

    pub(crate) fn body(&mut self) -> &mut Body<'c> {
        &mut self.parts.body
    }

    pub(crate) fn response(&self) -> &Response<'c> {
        &self.parts.response
    }

    /// The head of a file went out for a request that asks for no more, so that its Content-Length is not waited for.
    pub(crate) fn no_body_expected(&mut self, yes: bool) {
        if yes {
            self.parts.response.no_body();
        }
    }

    /// The file that is to be sent instead of what the app has said.
    pub(crate) fn take_diversion(&mut self) -> Option<Vec<u8>> {
        self.parts.response.take_diversion()
    }

    /// What is left of the response once it is finished: somebody else has to send it.
    pub(crate) fn take_rest(&mut self) -> Option<Box<Pieces>> {
        self.parts.response.take_rest()
    }

    /// Sends what is still due of the response.
    pub(crate) fn finish(&mut self) -> Outcome {
        self.parts.response.finish()
    }
}
