//! How bytes of a response leave: at once as far as the peer takes them, the rest beside the request thread.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::language::Yield;
use crate::offload::{AT_ONCE, FilePart, Offload, Pieces, Step, Stream};
use crate::socket;

/// How long a request thread waits for a peer that is reading just now, at a time and in all of a response: that is cheaper than to copy what is left.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES: Duration = Duration::from_millis(5);

/// What the peer did not take at once.
enum Rest {
    Nothing,
    /// The app has no more to say: it goes to the engine together with the connection.
    Whole(Pieces),
    /// The engine sends it while the app goes on.
    Live(Arc<Stream>),
}

pub(super) struct Sender<'c> {
    socket: BorrowedFd<'c>,
    /// Seconds that a peer may read nothing while a request thread waits for it.
    timeout: u32,
    /// sendfile(2) may be used.
    by_kernel: bool,
    offload: Option<&'c Offload>,
    rest: Rest,
    /// What is left of [`PAUSES`].
    pauses: Duration,
    offloaded: bool,
}

/// One call's circumstances.
#[derive(Clone, Copy)]
pub(super) struct Way<'l> {
    pub lock: &'l dyn Yield,
    /// Nothing of the app's follows.
    pub last: bool,
}

impl<'c> Sender<'c> {
    pub fn new(socket: BorrowedFd<'c>, timeout: u32, by_kernel: bool, offload: Option<&'c Offload>) -> Self {
        Self { socket, timeout, by_kernel, offload, rest: Rest::Nothing, pauses: PAUSES, offloaded: false }
    }

    /// Something is left to others already: what follows has to queue behind it.
    pub fn is_open(&self) -> bool {
        !matches!(self.rest, Rest::Nothing)
    }

    pub fn is_offloaded(&self) -> bool {
        self.offloaded
    }

    /// Nothing that is left is sent.
    pub fn cut(&mut self) {
        self.rest = Rest::Nothing;
    }

    /// Ends the engine's part of a response that is made to its end: what is left now goes with the connection.
    pub fn close(&mut self) -> io::Result<()> {
        if let Rest::Live(stream) = &self.rest {
            self.rest = Rest::Whole(stream.take_back()?);
        }
        Ok(())
    }

    pub fn take_rest(&mut self) -> Option<Pieces> {
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Whole(pieces) if !pieces.is_empty() => Some(pieces),
            _ => None,
        }
    }

    /// Sends all of `parts`, or leaves what the peer does not take to others.
    pub fn send(&mut self, mut parts: &mut [IoSlice<'_>], more: bool, way: Way<'_>) -> io::Result<()> {
        while !parts.is_empty() && !self.is_open() {
            match super::batch::try_send(self.socket, parts, more) {
                Ok(n) => IoSlice::advance_slices(&mut parts, n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.blocked(way)?,
                Err(e) => return Err(e),
            }
        }
        parts.iter().try_for_each(|part| self.push(part, way))
    }

    /// The peer takes nothing now: waits for it, or opens the way for the rest.
    fn blocked(&mut self, way: Way<'_>) -> io::Result<()> {
        if self.offload.is_some() && !self.pauses.is_zero() {
            let began = Instant::now();
            let ready = socket::wait_for(self.socket, socket::Ready::Write, PAUSE, way.lock)?;
            self.pauses = self.pauses.saturating_sub(began.elapsed());
            if ready {
                return Ok(());
            }
        }
        if self.open(way.last) { Ok(()) } else { socket::wait_to_write(self.socket, self.timeout, way.lock) }
    }

    /// Whether the rest can be left to others.
    fn open(&mut self, last: bool) -> bool {
        let Some(offload) = self.offload.filter(|o| o.is_ready()) else { return false };
        self.rest = match last {
            true => Rest::Whole(Pieces::default()),
            false => offload.stream(self.socket, &mut Pieces::default()).map_or(Rest::Nothing, Rest::Live),
        };
        self.offloaded |= self.is_open();
        self.is_open()
    }

    /// Puts bytes behind what is left already.
    fn push(&mut self, bytes: &[u8], way: Way<'_>) -> io::Result<()> {
        self.suit(way)?;
        match (&mut self.rest, self.offload) {
            (Rest::Whole(pieces), Some(offload)) => {
                pieces.push_within(bytes, offload.budget());
                Ok(())
            }
            (Rest::Live(stream), _) => stream.push(bytes, self.timeout, way.lock),
            _ => {
                let mut pieces = Pieces::default();
                pieces.push(bytes);
                self.wait_out(pieces, way.lock)
            }
        }
    }

    /// Makes the rest one that fits the call: with more to come from the app the engine begins at once, else it waits for the connection.
    fn suit(&mut self, way: Way<'_>) -> io::Result<()> {
        match &mut self.rest {
            Rest::Live(_) if way.last => self.close(),
            Rest::Whole(pieces) if !way.last => {
                match self.offload.and_then(|o| o.stream(self.socket, pieces)) {
                    Some(stream) => self.rest = Rest::Live(stream),
                    None => {
                        let pieces = std::mem::take(pieces);
                        self.rest = Rest::Nothing;
                        self.wait_out(pieces, way.lock)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sends everything from this thread.
    fn wait_out(&self, mut pieces: Pieces, lock: &dyn Yield) -> io::Result<()> {
        loop {
            match pieces.send(self.socket)? {
                Step::Done => return Ok(()),
                Step::Turn => {}
                Step::Blocked => socket::wait_to_write(self.socket, self.timeout, lock)?,
            }
        }
    }

    /// Sends a part of a file: the beginning at once, the rest as the peer takes it.
    pub fn send_file(&mut self, file: BorrowedFd<'_>, offset: u64, length: u64, way: Way<'_>) -> io::Result<()> {
        let mut part = FilePart::new(file, offset, length, self.by_kernel);
        let mut at_once = if self.offload.is_some() { AT_ONCE } else { u64::MAX };
        while part.left() > 0 && !self.is_open() {
            match part.send(self.socket, usize::try_from(at_once.min(1 << 20)).unwrap_or(0)) {
                Ok(sent) => at_once -= sent as u64,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && !self.open(way.last) => {
                    socket::wait_to_write(self.socket, self.timeout, way.lock)?;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if at_once == 0 && part.left() > 0 && !self.open(way.last) {
                at_once = u64::MAX;
            }
        }
        if part.left() == 0 { Ok(()) } else { self.push_file(part, way) }
    }

    /// Puts a part of a file behind what is left already.
    fn push_file(&mut self, mut part: FilePart<BorrowedFd<'_>>, way: Way<'_>) -> io::Result<()> {
        self.suit(way)?;
        let own = match part.try_clone() {
            Ok(own) => own,
            Err(error) => {
                if let Some(offload) = self.offload {
                    offload.say(&error);
                }
                self.close()?;
                let before = self.take_rest().unwrap_or_default();
                self.wait_out(before, way.lock)?;
                return self.wait_out_file(&mut part, way.lock);
            }
        };
        match &mut self.rest {
            Rest::Whole(pieces) => pieces.push_file(own),
            Rest::Live(stream) => stream.push_file(own)?,
            Rest::Nothing => return self.wait_out_file(&mut part, way.lock),
        }
        Ok(())
    }

    fn wait_out_file(&self, part: &mut FilePart<BorrowedFd<'_>>, lock: &dyn Yield) -> io::Result<()> {
        while part.left() > 0 {
            match part.send(self.socket, 1 << 20) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket::wait_to_write(self.socket, self.timeout, lock)?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
