//! The chunked transfer coding (RFC 9112, 7.1), decoded as it arrives.
//!
//! Extensions and trailers are checked and skipped, both within a bound; sizes cannot overflow; a line ends in CR LF only.

use crate::bytes::{is_control, is_token};

/// Bytes of chunk extensions a body may have in all.
pub const MAX_EXTENSIONS: u32 = 16 * 1024;

/// Bytes of trailers a body may have.
pub const MAX_TRAILERS: u32 = 16 * 1024;

/// Hexadecimal digits of a chunk's size, leading zeros included: what fits in a u64.
const MAX_DIGITS: u8 = 16;

/// What is wrong with a chunked body. Nothing after it can be trusted: answer 400 if there is still time, and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    Size,
    Extension,
    Extensions,
    LineEnd,
    ChunkEnd,
    Trailer,
    Trailers,
}

impl ChunkError {
    /// What [`Display`](std::fmt::Display) says.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "a chunk size that is not 1 to 16 hexadecimal digits",
            Self::Extension => "a chunk extension with a control character, or not after a semicolon",
            Self::Extensions => "more than 16 KiB of chunk extensions",
            Self::LineEnd => "a line of a chunked body that does not end in CR LF",
            Self::ChunkEnd => "a chunk that does not end where its size says",
            Self::Trailer => "a malformed trailer line",
            Self::Trailers => "more than 16 KiB of trailers",
        }
    }
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for ChunkError {}

/// What a step of the decoder came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'i> {
    /// The input is used up and the body goes on.
    More,
    /// A chunk of so many bytes starts (not sent for the last one, which is empty).
    Chunk(u64),
    /// The next bytes of the body. One chunk may come in several parts.
    Data(&'i [u8]),
    /// The body is complete, its trailers included. What is left of the input is the next request's.
    End,
}

/// Bytes taken from the input and put into the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub consumed: usize,
    pub produced: usize,
}

/// A body on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Of the chunk in hand: the size while it is read, then the bytes that are still to come.
    left: u64,
    digits: u8,
    extensions: u32,
    trailers: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    /// Blanks between a size and the semicolon of its extension.
    BeforeExtension,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// At the start of a trailer line, or of the empty line that ends all.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    EndLineFeed,
    Done,
    Broken(ChunkError),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    pub const fn new() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extensions: 0, trailers: 0 }
    }

    /// Whether the whole body went through.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of the chunk in hand that are still to come; 0 between chunks.
    pub fn left_in_chunk(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Reads up to the next event. Returns how many bytes of `input` it took; call again with the rest. An error comes again with
    /// every further call.
    pub fn step<'i>(&mut self, input: &'i [u8]) -> Result<(usize, Event<'i>), ChunkError> {
        match self.state {
            State::Done => return Ok((0, Event::End)),
            State::Broken(error) => return Err(error),
            _ => {}
        }
        for (at, &byte) in input.iter().enumerate() {
            if self.state == State::Data {
                let length = usize::try_from(self.left).map_or(input.len() - at, |left| left.min(input.len() - at));
                self.left -= length as u64;
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
                return Ok((at + length, Event::Data(&input[at..at + length])));
            }
            self.state = self.framing_byte(byte).unwrap_or_else(State::Broken);
            match self.state {
                State::Data => return Ok((at + 1, Event::Chunk(self.left))),
                State::Done => return Ok((at + 1, Event::End)),
                State::Broken(error) => return Err(error),
                _ => {}
            }
        }
        Ok((input.len(), Event::More))
    }

    /// Decodes as much of `input` as fits into `output`. Without progress and not [done](Self::is_done): more input is needed.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, ChunkError> {
        let mut progress = Progress { consumed: 0, produced: 0 };
        while progress.produced < output.len() || self.state != State::Data {
            // Within a chunk no more is shown to the decoder than there is room for.
            let rest = &input[progress.consumed..];
            let room = if self.state == State::Data { rest.len().min(output.len() - progress.produced) } else { rest.len() };
            let (taken, event) = self.step(&rest[..room])?;
            progress.consumed += taken;
            match event {
                Event::Data(data) => {
                    output[progress.produced..progress.produced + data.len()].copy_from_slice(data);
                    progress.produced += data.len();
                }
                Event::Chunk(_) => {}
                Event::More | Event::End => break,
            }
        }
        Ok(progress)
    }

    /// A byte that is not data: what state it leads to.
    fn framing_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        let next = match (self.state, byte) {
            (State::Size, _) => self.size_byte(byte)?,
            (State::BeforeExtension | State::Extension, _) => self.extension_byte(byte)?,
            (State::SizeLineFeed, b'\n') => self.after_size(),
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size,
            (State::DataReturn | State::DataLineFeed, _) => return Err(ChunkError::ChunkEnd),
            (State::Trailer, b'\r') => State::EndLineFeed,
            (State::EndLineFeed, b'\n') => State::Done,
            (State::TrailerLineFeed, b'\n') => State::Trailer,
            (State::Trailer | State::TrailerName | State::TrailerValue, _) => self.trailer_byte(byte)?,
            _ => return Err(ChunkError::LineEnd),
        };
        Ok(next)
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.digits == MAX_DIGITS {
                return Err(ChunkError::Size);
            }
            self.digits += 1;
            self.left = self.left << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        match byte {
            _ if self.digits == 0 => Err(ChunkError::Size),
            b'\r' => Ok(State::SizeLineFeed),
            b'\n' => Err(ChunkError::LineEnd),
            b' ' | b'\t' | b';' => self.extension_byte(byte),
            _ => Err(ChunkError::Size),
        }
    }

    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError::Extensions);
        }
        match (self.state, byte) {
            (State::Extension, b'\r') => Ok(State::SizeLineFeed),
            (_, b'\n') => Err(ChunkError::LineEnd),
            (State::Extension, _) if !is_control(byte) => Ok(State::Extension),
            (State::Size | State::BeforeExtension, b';') => Ok(State::Extension),
            (State::Size | State::BeforeExtension, b' ' | b'\t') => Ok(State::BeforeExtension),
            _ => Err(ChunkError::Extension),
        }
    }

    fn after_size(&mut self) -> State {
        self.digits = 0;
        if self.left == 0 { State::Trailer } else { State::Data }
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailers += 1;
        if self.trailers > MAX_TRAILERS {
            return Err(ChunkError::Trailers);
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::Trailer | State::TrailerName, _) if is_token(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, b'\n') => Err(ChunkError::LineEnd),
            (State::TrailerValue, _) if !is_control(byte) => Ok(State::TrailerValue),
            _ => Err(ChunkError::Trailer),
        }
    }
}
