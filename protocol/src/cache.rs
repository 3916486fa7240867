//! Messages to and from a cache: packets of modifier1 111, over a stream or as datagrams.
//!
//! What uWSGI speaks is spoken byte for byte. Where it has no message for something (arithmetic, the keys, a value that is larger than a datagram), there
//! is one of our own beside, that a uWSGI on the other side ignores.

mod datagram;
mod dump;

pub use datagram::{Datagram, MAX_DATAGRAM, SIGNATURE_LENGTH, Signed, parts};
pub use dump::{Entry, push_entry, push_last_entry, read_entry};

use crate::packet::{Header, MAX_DATASIZE, modifier};
use crate::vars::{self, Vars};

/// Values of modifier2.
pub mod command {
    pub const GET: u8 = 0;
    pub const SET: u8 = 1;
    pub const DELETE: u8 = 2;
    /// The value is an HTTP response.
    pub const PAGE: u8 = 3;
    /// As [`PAGE`].
    pub const PAGE_TOO: u8 = 4;
    pub const PROBE: u8 = 5;
    pub const DUMP: u8 = 6;
    /// The answer to [`DUMP`].
    pub const DUMPED: u8 = 7;
    /// A datagram: a value was set or updated.
    pub const REPLICATE: u8 = 10;
    /// A datagram: a key was deleted.
    pub const FORGET: u8 = 11;
    /// The dictionary form, which remote names use.
    pub const CALL: u8 = 17;
    /// Ours, a datagram: a part of a value that fits into none.
    pub const PART: u8 = 32;
    /// Ours, a datagram: the cache was emptied.
    pub const CLEARED: u8 = 33;
    /// Ours, a datagram around another one, with the proof that its sender knows the shared key.
    pub const SIGNED: u8 = 34;
}

/// What a client of a stream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'b> {
    /// The value behind four bytes of header; nothing on a miss.
    Get {
        key: &'b [u8],
    },
    /// Never expires; no answer.
    Set {
        key: &'b [u8],
        value: &'b [u8],
    },
    /// No answer.
    Delete {
        key: &'b [u8],
    },
    /// The bare value; on a miss nothing if the variable is called `key`, a 404 if it is `get`.
    Page {
        key: &'b [u8],
        or_404: bool,
    },
    /// Whether it is there (modifier2 of the header), and the value.
    Probe {
        key: &'b [u8],
    },
    /// All items of a cache; an empty name is the default one's.
    Dump {
        cache: &'b [u8],
    },
    Call(Call<'b>),
}

/// A request of the dictionary form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'b> {
    pub verb: Verb,
    /// Empty for [`Verb::Clear`], [`Verb::Keys`] and [`Verb::Stats`].
    pub key: &'b [u8],
    /// Empty: the default one.
    pub cache: &'b [u8],
    /// Bytes of the value that follow the packet ([`Verb::Set`], [`Verb::Update`]).
    pub size: u64,
    /// Seconds from now; 0: never; negative: at once.
    pub expires: i64,
    /// The operand of arithmetic.
    pub number: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Set,
    Update,
    Exists,
    Delete,
    Clear,
    /// From here on ours: arithmetic that happens where the cache is.
    Increment,
    Decrement,
    Multiply,
    Divide,
    /// All keys, with size and expiry ([`Entry`] without values).
    Keys,
    /// The figures of all caches as JSON.
    Stats,
}

const VERBS: [(Verb, &str); 12] = [
    (Verb::Get, "get"),
    (Verb::Set, "set"),
    (Verb::Update, "update"),
    (Verb::Exists, "exists"),
    (Verb::Delete, "del"),
    (Verb::Clear, "clear"),
    (Verb::Increment, "inc"),
    (Verb::Decrement, "dec"),
    (Verb::Multiply, "mul"),
    (Verb::Divide, "div"),
    (Verb::Keys, "keys"),
    (Verb::Stats, "stats"),
];

impl Verb {
    /// As `cmd` says it.
    pub fn name(self) -> &'static str {
        VERBS.iter().find(|(verb, _)| *verb == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &[u8]) -> Option<Self> {
        VERBS.iter().find(|(_, known)| known.as_bytes() == name).map(|(verb, _)| *verb)
    }

    /// Whether a value follows the packet.
    pub fn carries_value(self) -> bool {
        matches!(self, Self::Set | Self::Update)
    }
}

/// Why a message is not understood. (A client sees its connection closed and nothing else.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error("no cache request has modifier2 {0}")]
    Unknown(u8),
    #[error("the message ends within one of its fields")]
    Truncated,
    #[error("the message lacks `{0}`")]
    Missing(&'static str),
    #[error("`{0}` is no number")]
    Number(&'static str),
    #[error("no such cmd")]
    Verb,
}

impl<'b> Request<'b> {
    /// The request of a packet with modifier1 111.
    ///
    /// # Errors
    /// It is none, or lacks what it needs.
    pub fn parse(modifier2: u8, payload: &'b [u8]) -> Result<Self, CacheError> {
        Ok(match modifier2 {
            command::GET => Self::Get { key: payload },
            command::SET => {
                let mut fields = Fields(payload);
                Self::Set { key: fields.take()?, value: fields.take()? }
            }
            command::DELETE => Self::Delete { key: payload },
            command::PAGE | command::PAGE_TOO => {
                let vars = Vars::parse(payload).map_err(|_| CacheError::Truncated)?;
                let last = vars.iter().filter(|(name, _)| matches!(*name, b"key" | b"get")).last();
                let (name, key) = last.ok_or(CacheError::Missing("key"))?;
                Self::Page { key, or_404: name == b"get" }
            }
            command::PROBE => Self::Probe { key: payload },
            command::DUMP => Self::Dump { cache: payload },
            command::CALL => Self::Call(Call::parse(payload)?),
            other => return Err(CacheError::Unknown(other)),
        })
    }
}

impl<'b> Call<'b> {
    fn parse(payload: &'b [u8]) -> Result<Self, CacheError> {
        let vars = Vars::parse(payload).map_err(|_| CacheError::Truncated)?;
        let (mut verb, mut call) = (None, Self { verb: Verb::Get, key: b"", cache: b"", size: 0, expires: 0, number: 0 });
        for (name, value) in vars {
            match name {
                b"cmd" => verb = Some(Verb::parse(value).ok_or(CacheError::Verb)?),
                b"key" => call.key = value,
                b"cache" => call.cache = value,
                b"size" => call.size = number(value).ok_or(CacheError::Number("size"))?,
                b"expires" => call.expires = number(value).ok_or(CacheError::Number("expires"))?,
                b"num" => call.number = number(value).ok_or(CacheError::Number("num"))?,
                _ => {}
            }
        }
        call.verb = verb.ok_or(CacheError::Missing("cmd"))?;
        let keyless = matches!(call.verb, Verb::Clear | Verb::Keys | Verb::Stats);
        if call.key.is_empty() && !keyless { Err(CacheError::Missing("key")) } else { Ok(call) }
    }

    /// The packet; the value follows it. `None`: key and name do not fit into one.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; 4];
        vars::push(&mut out, b"cmd", self.verb.name().as_bytes());
        if !self.key.is_empty() {
            vars::push(&mut out, b"key", self.key);
        }
        if self.verb.carries_value() {
            vars::push(&mut out, b"size", self.size.to_string().as_bytes());
        }
        if self.expires != 0 {
            vars::push(&mut out, b"expires", self.expires.to_string().as_bytes());
        }
        if matches!(self.verb, Verb::Increment | Verb::Decrement | Verb::Multiply | Verb::Divide) {
            vars::push(&mut out, b"num", self.number.to_string().as_bytes());
        }
        if !self.cache.is_empty() {
            vars::push(&mut out, b"cache", self.cache);
        }
        close(out, command::CALL)
    }
}

/// The answer to a [`Call`] that went well; one that did not is a closed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// Bytes that follow the packet.
    pub size: Option<u64>,
    /// Absolute unix seconds.
    pub expires: Option<u64>,
    /// The result of arithmetic.
    pub number: Option<i64>,
}

impl Answer {
    /// `status`, `size`, `expires`, in this order: clients of uWSGI's compare bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        vars::push(&mut out, b"status", b"ok");
        if let Some(size) = self.size {
            vars::push(&mut out, b"size", size.to_string().as_bytes());
        }
        if let Some(expires) = self.expires {
            vars::push(&mut out, b"expires", expires.to_string().as_bytes());
        }
        if let Some(number) = self.number {
            vars::push(&mut out, b"num", number.to_string().as_bytes());
        }
        close(out, command::CALL).unwrap_or_default()
    }

    /// Reads the payload of an answer.
    ///
    /// # Errors
    /// It is none, or a number in it is none.
    pub fn parse(payload: &[u8]) -> Result<Self, CacheError> {
        let vars = Vars::parse(payload).map_err(|_| CacheError::Truncated)?;
        let (mut answer, mut ok) = (Self::default(), false);
        for (name, value) in vars {
            match name {
                b"status" => ok = value == b"ok",
                b"size" => answer.size = Some(number(value).ok_or(CacheError::Number("size"))?),
                b"expires" => answer.expires = Some(number(value).ok_or(CacheError::Number("expires"))?),
                b"num" => answer.number = Some(number(value).ok_or(CacheError::Number("num"))?),
                _ => {}
            }
        }
        if ok { Ok(answer) } else { Err(CacheError::Missing("status")) }
    }
}

/// The four bytes in front of the value that modifier2 0 and 5 answer. The size is that of the value if it fits; clients read to the end.
pub fn value_header(size: usize, modifier2: u8) -> [u8; 4] {
    Header { modifier1: modifier::CACHE, datasize: u16::try_from(size).unwrap_or(u16::MAX), modifier2 }.encode()
}

/// Fills in the header in front of `out`; `None` if there is more than a packet can hold.
fn close(mut out: Vec<u8>, modifier2: u8) -> Option<Vec<u8>> {
    let datasize = u16::try_from(out.len() - 4).ok().filter(|size| usize::from(*size) <= MAX_DATASIZE)?;
    out[..4].copy_from_slice(&Header { modifier1: modifier::CACHE, datasize, modifier2 }.encode());
    Some(out)
}

/// A whole decimal number.
fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Fields of an array: u16le length, bytes.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self) -> Result<&'b [u8], CacheError> {
        let (length, rest) = self.0.split_first_chunk().ok_or(CacheError::Truncated)?;
        let (field, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(CacheError::Truncated)?;
        self.0 = rest;
        Ok(field)
    }

    /// `None` at the end.
    fn next(&mut self) -> Result<Option<&'b [u8]>, CacheError> {
        if self.0.is_empty() { Ok(None) } else { self.take().map(Some) }
    }
}

/// Appends a field of an array; the caller knows that it fits.
fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u16).to_le_bytes());
    out.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_bytes_of_a_get() {
        let call = Call { verb: Verb::Get, key: b"x", cache: b"", size: 0, expires: 0, number: 0 };
        assert_eq!(call.encode().expect("short"), b"\x6f\x12\x00\x11\x03\x00cmd\x03\x00get\x03\x00key\x01\x00x");
        let answer = Answer { size: Some(5), ..Answer::default() };
        assert_eq!(answer.encode(), b"\x6f\x15\x00\x11\x06\x00status\x02\x00ok\x04\x00size\x01\x005");
    }

    #[test]
    fn requests_by_modifier2() {
        assert_eq!(Request::parse(0, b"k"), Ok(Request::Get { key: b"k" }));
        assert_eq!(Request::parse(1, b"\x01\x00k\x02\x00vv\x01\x009"), Ok(Request::Set { key: b"k", value: b"vv" }));
        assert_eq!(Request::parse(1, b"\x01\x00k\x03\x00vv"), Err(CacheError::Truncated));
        assert_eq!(Request::parse(4, b"\x03\x00get\x01\x00/"), Ok(Request::Page { key: b"/", or_404: true }));
        assert_eq!(Request::parse(4, b"\x03\x00key\x01\x00/"), Ok(Request::Page { key: b"/", or_404: false }));
        assert_eq!(Request::parse(3, b"\x01\x00a\x01\x00/"), Err(CacheError::Missing("key")));
        assert_eq!(Request::parse(6, b""), Ok(Request::Dump { cache: b"" }));
        assert_eq!(Request::parse(9, b""), Err(CacheError::Unknown(9)));
    }

    #[test]
    fn calls_say_what_they_lack() {
        let call = |pairs: &[(&str, &str)]| {
            let mut block = vec![];
            pairs.iter().for_each(|(n, v)| vars::push(&mut block, n.as_bytes(), v.as_bytes()));
            Call::parse(&block).map(|call| call.verb)
        };
        assert_eq!(call(&[("key", "k")]), Err(CacheError::Missing("cmd")));
        assert_eq!(call(&[("cmd", "get")]), Err(CacheError::Missing("key")));
        assert_eq!(call(&[("cmd", "clear"), ("other", "x")]), Ok(Verb::Clear));
        assert_eq!(call(&[("cmd", "steal"), ("key", "k")]), Err(CacheError::Verb));
        assert_eq!(call(&[("cmd", "set"), ("key", "k"), ("size", "5x")]), Err(CacheError::Number("size")));
        assert_eq!(Answer::parse(b"\x04\x00size\x01\x005"), Err(CacheError::Missing("status")));
    }

    #[test]
    fn what_does_not_fit_into_a_packet_is_not_sent() {
        let key = vec![b'k'; 65_530];
        assert_eq!(Call { verb: Verb::Get, key: &key, cache: b"", size: 0, expires: 0, number: 0 }.encode(), None);
        assert_eq!((value_header(70_000, 0), value_header(5, 1)), ([111, 255, 255, 0], [111, 5, 0, 1]));
    }

    proptest! {
        #[test]
        fn a_call_survives(verb in 0..VERBS.len(), key in proptest::collection::vec(any::<u8>(), 1..40), cache in "[a-z]{0,9}", size: u64, expires: i64, number: i64) {
            let verb = VERBS[verb].0;
            let call = Call { verb, key: &key, cache: cache.as_bytes(), size, expires, number };
            let packet = call.encode().expect("short");
            let Ok(Request::Call(read)) = Request::parse(packet[3], &packet[4..]) else { panic!("not a call") };
            prop_assert_eq!((read.verb, read.key, read.cache, read.expires), (verb, call.key, call.cache, expires));
            prop_assert_eq!(read.size, if verb.carries_value() { size } else { 0 });
        }

        #[test]
        fn an_answer_survives(size: Option<u64>, expires: Option<u64>, number: Option<i64>) {
            let answer = Answer { size, expires, number };
            prop_assert_eq!(Answer::parse(&answer.encode()[4..]), Ok(answer));
        }
    }
}
