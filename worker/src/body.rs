//! The body of a request: first what came with the head, then the socket, bounded by its length or its chunks.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use imperator_protocol::chunked::{Decoder, Event};
use imperator_protocol::response::CONTINUE;
use imperator_sys::room::Room;
use nix::errno::Errno;

use crate::ahead::Ahead;
use crate::language::Yield;
use crate::request::BodyError;
use crate::settings::RequestSettings;
use crate::socket::{self, Ready};
use crate::store::Store;

/// Bytes that one read of a chunked body asks the socket for.
const RAW: usize = 16 * 1024;
/// Bytes of a body that are collected before other connections have their turn.
const TURN: u64 = 1 << 20;

pub(crate) struct Body<'c> {
    socket: BorrowedFd<'c>,
    settings: &'c RequestSettings,
    /// Bytes that came with the head, of this body and perhaps of what follows it.
    ahead: &'c [u8],
    /// How many of them are read.
    used: usize,
    length: Length,
    /// The client sent nothing for `socket-timeout` while the request was still being collected: there is no use in waiting again.
    pub overdue: bool,
    /// The client waits for `100 Continue` before it sends.
    pub expects_continue: bool,
    position: u64,
    /// What is collected of it before the app is called, as long as there is more to come.
    parts: Option<Store>,
    /// All of it.
    store: Option<Store>,
    /// What was received of it before the app was called, where the app does not have to wait for all.
    beginning: Option<Ahead>,
    /// Why it will never be whole.
    error: Option<BodyError>,
    /// The peer is waited for.
    waits: bool,
}

enum Length {
    Known(u64),
    Chunked(Box<Chunks>),
}

/// A chunked body on its way: bytes from the socket that the decoder has not seen yet.
struct Chunks {
    decoder: Decoder,
    raw: Vec<u8>,
    at: usize,
}

/// A body that is read before the app is called, between one part of it and the next: what [`Body`] knows without its connection.
pub(crate) struct Collected {
    length: Length,
    position: u64,
    expects_continue: bool,
    parts: Option<Store>,
    store: Option<Store>,
    error: Option<BodyError>,
}

impl Collected {
    /// It is whole, or never will be.
    pub fn is_over(&self) -> bool {
        self.store.is_some() || self.error.is_some()
    }
}

impl<'c> Body<'c> {
    pub fn with_length(socket: BorrowedFd<'c>, settings: &'c RequestSettings, ahead: &'c [u8], length: u64) -> Self {
        Self {
            socket,
            settings,
            ahead,
            used: 0,
            length: Length::Known(length),
            overdue: false,
            expects_continue: false,
            position: 0,
            parts: None,
            store: None,
            beginning: None,
            error: None,
            waits: true,
        }
    }

    /// Goes on with a body that is being collected.
    pub fn collected(socket: BorrowedFd<'c>, settings: &'c RequestSettings, collected: Collected) -> Self {
        let Collected { length, position, expects_continue, parts, store, error } = collected;
        Self { length, position, expects_continue, parts, store, error, ..Self::with_length(socket, settings, &[], 0) }
    }

    /// Reads a body whose beginning is there. `ahead` is what follows that and is there too.
    pub fn begun(socket: BorrowedFd<'c>, settings: &'c RequestSettings, beginning: Ahead, ahead: &'c [u8]) -> Self {
        let body = Self::with_length(socket, settings, ahead, beginning.length());
        Self { beginning: Some(beginning), ..body }
    }

    /// Parts from its connection. `None`: not all that came with the head belongs to it, so that there is nothing to be waited for.
    pub fn part(self) -> Option<Collected> {
        let Self { length, position, expects_continue, parts, store, error, .. } = self;
        (self.used == self.ahead.len()).then_some(Collected { length, position, expects_continue, parts, store, error })
    }

    pub fn chunked(socket: BorrowedFd<'c>, settings: &'c RequestSettings, ahead: &'c [u8]) -> Self {
        let chunks = Chunks { decoder: Decoder::new(), raw: vec![], at: 0 };
        Self { length: Length::Chunked(Box::new(chunks)), ..Self::with_length(socket, settings, ahead, 0) }
    }

    pub fn remaining(&self) -> Option<u64> {
        match (&self.store, &self.length) {
            (Some(store), _) => Some(store.size() - self.position.min(store.size())),
            (None, Length::Known(length)) => Some(length - self.position),
            (None, Length::Chunked(_)) => None,
        }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads once, straight into `room`; how much came, 0 at the end.
    pub fn read(&mut self, room: &mut Room<'_>, lock: &dyn Yield) -> Result<usize, BodyError> {
        let got = match (&self.store, &self.beginning) {
            (Some(store), _) => store.read(self.position, self.ahead, room)?,
            (None, Some(beginning)) if self.position < beginning.size() => beginning.read(self.position, room)?,
            _ => self.read_fresh(room, self.settings.socket_timeout, lock)?,
        };
        self.position += got as u64;
        Ok(got)
    }

    fn read_fresh(&mut self, room: &mut Room<'_>, timeout: u32, lock: &dyn Yield) -> Result<usize, BodyError> {
        match self.length {
            Length::Known(length) => self.read_known(room, length - self.position, timeout, lock),
            Length::Chunked(_) => self.read_decoded(room, timeout, lock),
        }
    }

    fn read_known(&mut self, room: &mut Room<'_>, left: u64, timeout: u32, lock: &dyn Yield) -> Result<usize, BodyError> {
        let want = room.left().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let ahead = &self.ahead[self.used..];
        if ahead.is_empty() {
            return self.receive(room, want, timeout, lock)?.ok_or(BodyError::Short { missing: left });
        }
        let got = room.put(&ahead[..want.min(ahead.len())]);
        self.used += got;
        Ok(got)
    }

    fn read_decoded(&mut self, room: &mut Room<'_>, timeout: u32, lock: &dyn Yield) -> Result<usize, BodyError> {
        if room.left() == 0 {
            return Ok(0);
        }
        loop {
            let (ahead, limit) = (&self.ahead[self.used..], self.settings.limit_post);
            let Length::Chunked(chunks) = &mut self.length else { return Ok(0) };
            let Chunks { decoder, raw, at } = &mut **chunks;
            let input = if ahead.is_empty() { &raw[*at..] } else { ahead };
            // What is decoded is no longer than what it is decoded from.
            let progress = room.fill_with(input.len(), |part| {
                let progress = decoder.decode(input, part);
                (progress.as_ref().map_or(0, |p| p.produced), progress)
            });
            let progress = progress.map_err(|e| BodyError::Chunked(e.as_str()))?;
            *if ahead.is_empty() { at } else { &mut self.used } += progress.consumed;
            if limit > 0 && self.position + progress.produced as u64 > limit {
                return Err(BodyError::Chunked("it is longer than limit-post"));
            }
            if progress.produced > 0 || decoder.is_done() {
                return Ok(progress.produced);
            }
            if progress.consumed == 0 || self.input().is_empty() {
                self.refill(timeout, lock)?;
            }
        }
    }

    /// The next chunk as `uwsgi.chunked_read` gives it: whole, empty at the end.
    pub fn read_chunk(&mut self, timeout: Option<u32>, lock: &dyn Yield) -> Result<Vec<u8>, BodyError> {
        let timeout = timeout.unwrap_or(self.settings.chunked_input_timeout);
        let mut out = vec![];
        loop {
            let (taken, size, done) = {
                let Length::Chunked(chunks) = &mut self.length else { return Err(BodyError::Chunked("the request has no chunked body")) };
                let input = if self.used < self.ahead.len() { &self.ahead[self.used..] } else { &chunks.raw[chunks.at..] };
                let (taken, event) = chunks.decoder.step(input).map_err(|e| BodyError::Chunked(e.as_str()))?;
                match event {
                    Event::More => (taken, None, false),
                    Event::Chunk(size) => (taken, Some(size), false),
                    Event::Data(data) => {
                        out.extend_from_slice(data);
                        (taken, None, chunks.decoder.left_in_chunk() == 0)
                    }
                    Event::End => (taken, None, true),
                }
            };
            self.consume(taken);
            if size.is_some_and(|size| size > self.settings.chunked_input_limit) {
                return Err(BodyError::Chunked("a chunk is longer than chunked-input-limit"));
            }
            if done {
                self.position += out.len() as u64;
                return Ok(out);
            }
            if self.input().is_empty() {
                self.refill(timeout, lock)?;
            }
        }
    }

    /// Bytes that are here and not read, of a chunked body.
    fn input(&self) -> &[u8] {
        match &self.length {
            _ if self.used < self.ahead.len() => &self.ahead[self.used..],
            Length::Chunked(chunks) => &chunks.raw[chunks.at..],
            Length::Known(_) => &[],
        }
    }

    fn consume(&mut self, bytes: usize) {
        match &mut self.length {
            _ if self.used < self.ahead.len() => self.used += bytes,
            Length::Chunked(chunks) => chunks.at += bytes,
            Length::Known(_) => {}
        }
    }

    fn refill(&mut self, timeout: u32, lock: &dyn Yield) -> Result<(), BodyError> {
        let Length::Chunked(chunks) = &mut self.length else { return Ok(()) };
        chunks.at = 0;
        let mut raw = std::mem::take(&mut chunks.raw);
        raw.resize(RAW, 0);
        let got = self.receive(&mut Room::from(&mut raw[..]), RAW, timeout, lock)?;
        raw.truncate(got.unwrap_or(0));
        if let Length::Chunked(chunks) = &mut self.length {
            (chunks.raw, chunks.at) = (raw, 0);
        }
        if got.is_none() { Err(self.cut_short()) } else { Ok(()) }
    }

    /// How much is missing of a chunked body is not known: at least the rest of its chunk, or its last line.
    fn cut_short(&self) -> BodyError {
        let Length::Chunked(chunks) = &self.length else { return BodyError::Short { missing: 0 } };
        BodyError::Short { missing: chunks.decoder.left_in_chunk().max(1) }
    }

    /// From the socket, waiting if need be; `None` at the end of the stream.
    fn receive(&mut self, room: &mut Room<'_>, most: usize, timeout: u32, lock: &dyn Yield) -> Result<Option<usize>, BodyError> {
        loop {
            match room.receive(self.socket, most) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
                Ok(n) => return Ok(Some(n)),
                Err(Errno::EAGAIN) => self.wait(timeout, lock)?,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    fn wait(&mut self, timeout: u32, lock: &dyn Yield) -> Result<(), BodyError> {
        self.ask_for_it();
        if !self.waits {
            return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
        }
        let there = !self.overdue && socket::wait(self.socket, Ready::Read, timeout, lock)?;
        if there { Ok(()) } else { Err(BodyError::Timeout(timeout)) }
    }

    /// Tells a client that waits for it to go on.
    fn ask_for_it(&mut self) {
        if std::mem::take(&mut self.expects_continue) {
            let _ = socket::try_send(self.socket, &[IoSlice::new(CONTINUE)], false);
        }
    }

    // -- post-buffering

    /// Reads what has arrived of the body, into memory below `post-buffering` bytes, else into an unlinked file in TMPDIR. Whether there is nothing
    /// more to be waited for: it is whole, or never will be.
    pub fn collect(&mut self) -> bool {
        self.waits = false;
        let result = self.read_parts(&crate::language::NoLock, self.position.saturating_add(TURN));
        self.waits = true;
        match result {
            Err(BodyError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                self.error = Some(error);
                true
            }
            Ok(whole) => whole,
        }
    }

    /// Reads the whole body, waiting for it.
    pub fn store(&mut self, lock: &dyn Yield) -> Result<(), BodyError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.store.is_some() {
            return Ok(());
        }
        if let Length::Known(length) = self.length
            && let Ok(length) = usize::try_from(length)
            && length <= self.ahead.len()
        {
            self.used = length;
            self.store = Some(Store::Ahead(length));
            return Ok(());
        }
        self.read_parts(lock, u64::MAX).map(drop)
    }

    /// Adds to what is collected until it is whole (whether it is), or reaches beyond `end`.
    fn read_parts(&mut self, lock: &dyn Yield, end: u64) -> Result<bool, BodyError> {
        let mut parts = self.parts.take().unwrap_or_else(|| Store::Memory(vec![]));
        let whole = self.read_to(&mut parts, end, lock);
        match whole {
            Ok(true) => {
                (self.position, self.store) = (0, Some(parts));
            }
            _ => self.parts = Some(parts),
        }
        whole
    }

    fn read_to(&mut self, parts: &mut Store, end: u64, lock: &dyn Yield) -> Result<bool, BodyError> {
        let mut buf = vec![0; usize::try_from(self.settings.post_buffering_bufsize).unwrap_or(8192).clamp(4096, 1 << 20)];
        while self.position < end {
            let got = self.read_fresh(&mut Room::from(&mut buf[..]), self.settings.socket_timeout, lock)?;
            if got == 0 {
                return Ok(true);
            }
            self.position += got as u64;
            parts.push(&buf[..got], self.settings.post_buffering)?;
        }
        Ok(false)
    }

    pub fn seek(&mut self, position: u64) -> Result<(), BodyError> {
        self.store.as_ref().ok_or(BodyError::NotSeekable)?;
        self.position = position;
        Ok(())
    }

    /// The length of a body that was read before the app was called (`post-buffering`).
    pub fn stored_length(&self) -> Result<u64, BodyError> {
        self.store.as_ref().map(Store::size).ok_or(BodyError::NotSeekable)
    }

    // -- afterwards

    /// How much of `ahead` belonged to this request, if the body was read to its end, so that another request may follow
    /// on the connection.
    pub fn end(&self) -> Option<End<'_>> {
        match &self.length {
            Length::Known(length) if self.store.is_some() || self.position == *length => Some(End { ahead: self.used, raw: &[] }),
            Length::Chunked(chunks) if chunks.decoder.is_done() => Some(End { ahead: self.used, raw: &chunks.raw[chunks.at..] }),
            _ => None,
        }
    }

    /// Reads and forgets what is there of the body, at most `bound` bytes, without waiting.
    pub fn skip(&mut self, bound: usize) {
        if let Some(beginning) = &self.beginning {
            self.position = self.position.max(beginning.size());
        }
        // (Before there is a buffer: most requests have no body.)
        if self.expects_continue || self.end().is_some() {
            return;
        }
        self.overdue = true;
        let (mut buf, mut left) = ([0; 8192], bound);
        while left > 0 {
            match self.read_fresh(&mut Room::from(&mut buf[..]), 0, &crate::language::NoLock) {
                Ok(got) if got > 0 => {
                    self.position += got as u64;
                    left = left.saturating_sub(got);
                }
                _ => return,
            }
        }
    }
}

/// Where a body ended.
pub(crate) struct End<'b> {
    /// Bytes of what came with the head.
    pub ahead: usize,
    /// Bytes read from the socket that belong to what follows.
    pub raw: &'b [u8],
}
