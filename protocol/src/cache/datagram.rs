//! Replication: what a cache tells its peers, a datagram a change.

use super::{CacheError, Fields, close, command, number, push_field};
use crate::packet::{Header, modifier};

/// Bytes of the largest datagram that IPv4 carries.
pub const MAX_DATAGRAM: usize = 65_507;
/// Bytes of a [`Signed`] datagram's proof (HMAC-SHA-256).
pub const SIGNATURE_LENGTH: usize = 32;
/// Proof, time and modifier2 in front of what is signed.
const ENVELOPE: usize = SIGNATURE_LENGTH + 8 + 1;
/// Bytes of a value that one part carries.
const PART: usize = 32 * 1024;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datagram<'b> {
    /// `expires`: absolute unix seconds, 0: never.
    Set {
        key: &'b [u8],
        value: &'b [u8],
        expires: u64,
    },
    Delete {
        key: &'b [u8],
    },
    Clear,
    /// `part` stands at `offset` of a value of `size` bytes; `transfer` tells one change of a key from another.
    Part {
        key: &'b [u8],
        transfer: u64,
        size: u64,
        offset: u64,
        expires: u64,
        part: &'b [u8],
    },
    Signed(Signed<'b>),
}

/// A change with the proof that its sender knows the shared key: the HMAC of `signed`, which is the time (u64le, unix seconds), modifier2 and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'b> {
    pub proof: &'b [u8; SIGNATURE_LENGTH],
    pub signed: &'b [u8],
}

impl<'b> Datagram<'b> {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// It is not one of ours or of uWSGI's.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, CacheError> {
        let header = Header::parse(bytes).ok_or(CacheError::Truncated)?;
        if header.modifier1 != modifier::CACHE || bytes.len() != header.packet_length() {
            return Err(CacheError::Truncated);
        }
        Self::read(header.modifier2, &bytes[4..])
    }

    fn read(modifier2: u8, payload: &'b [u8]) -> Result<Self, CacheError> {
        let mut fields = Fields(payload);
        Ok(match modifier2 {
            command::REPLICATE => {
                let (key, value) = (fields.take()?, fields.take()?);
                let expires = fields.next()?.map_or(Some(0), number).ok_or(CacheError::Number("expires"))?;
                Self::Set { key, value, expires }
            }
            command::FORGET => Self::Delete { key: fields.take()? },
            command::CLEARED => Self::Clear,
            command::PART => {
                let key = fields.take()?;
                let mut next = |name| number(fields.take()?).ok_or(CacheError::Number(name));
                let (transfer, size, offset, expires) = (next("transfer")?, next("size")?, next("offset")?, next("expires")?);
                Self::Part { key, transfer, size, offset, expires, part: fields.take()? }
            }
            command::SIGNED => {
                let (proof, signed) = payload.split_first_chunk().ok_or(CacheError::Truncated)?;
                Self::Signed(Signed { proof, signed })
            }
            other => return Err(CacheError::Unknown(other)),
        })
    }

    /// The datagram's bytes; `None` if it is too large for one (see [`parts`]).
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = vec![0; 4];
        let decimal = |out: &mut Vec<u8>, n: u64| push_field(out, n.to_string().as_bytes());
        let modifier2 = match *self {
            Self::Set { key, value, expires } => {
                if key.len() + value.len() > MAX_DATAGRAM - ENVELOPE - 64 {
                    return None;
                }
                push_field(&mut out, key);
                push_field(&mut out, value);
                decimal(&mut out, expires);
                command::REPLICATE
            }
            Self::Delete { key } => {
                push_field(&mut out, key.get(..key.len().min(65_000))?);
                command::FORGET
            }
            Self::Clear => command::CLEARED,
            Self::Part { key, transfer, size, offset, expires, part } => {
                push_field(&mut out, key);
                [transfer, size, offset, expires].into_iter().for_each(|n| decimal(&mut out, n));
                push_field(&mut out, part);
                command::PART
            }
            Self::Signed(Signed { proof, signed }) => {
                out.extend_from_slice(proof);
                out.extend_from_slice(signed);
                command::SIGNED
            }
        };
        close(out, modifier2).filter(|bytes| bytes.len() <= MAX_DATAGRAM)
    }
}

impl<'b> Signed<'b> {
    /// When it was sent, and the change itself. The proof is to be checked first.
    ///
    /// # Errors
    /// What is signed is no change; one envelope in another is none either.
    pub fn open(&self) -> Result<(u64, Datagram<'b>), CacheError> {
        let (time, rest) = self.signed.split_first_chunk().ok_or(CacheError::Truncated)?;
        let (modifier2, payload) = rest.split_first().ok_or(CacheError::Truncated)?;
        match Datagram::read(*modifier2, payload)? {
            Datagram::Signed(_) => Err(CacheError::Unknown(command::SIGNED)),
            datagram => Ok((u64::from_le_bytes(*time), datagram)),
        }
    }

    /// What is to be signed of an encoded datagram.
    pub fn material(time: u64, datagram: &[u8]) -> Vec<u8> {
        let (modifier2, payload) = (datagram.get(3).copied().unwrap_or_default(), datagram.get(4..).unwrap_or_default());
        [&time.to_le_bytes()[..], &[modifier2], payload].concat()
    }
}

/// A value that is too large for one datagram, in parts. Keys of more than 16 KiB cannot be sent: there is none then.
pub fn parts<'b>(key: &'b [u8], value: &'b [u8], expires: u64, transfer: u64) -> impl Iterator<Item = Datagram<'b>> {
    let pieces = if key.len() > 16 * 1024 { &[][..] } else { value };
    pieces.chunks(PART).enumerate().map(move |(index, part)| Datagram::Part {
        key,
        transfer,
        size: value.len() as u64,
        offset: (index * PART) as u64,
        expires,
        part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uwsgis_own_datagrams() {
        let set = b"\x6f\x11\x00\x0a\x03\x00raw\x07\x00by hand\x01\x000";
        assert_eq!(Datagram::parse(set), Ok(Datagram::Set { key: b"raw", value: b"by hand", expires: 0 }));
        assert_eq!(Datagram::Set { key: b"raw", value: b"by hand", expires: 0 }.encode().as_deref(), Some(&set[..]));
        assert_eq!(Datagram::parse(b"\x6f\x06\x00\x0a\x01\x00k\x01\x00v"), Ok(Datagram::Set { key: b"k", value: b"v", expires: 0 }));
        assert_eq!(Datagram::parse(b"\x6f\x03\x00\x0b\x01\x00k"), Ok(Datagram::Delete { key: b"k" }));
        for junk in [&b"junk"[..], b"\x6f\xff\xff\x0a\x01\x00k", b"\x6f\x04\x00\x0a\xff\xff\xff\xff", b"", b"\x6f\x00\x00\x0a"] {
            assert!(Datagram::parse(junk).is_err(), "{junk:?}");
        }
    }

    #[test]
    fn what_is_signed_opens_and_an_envelope_in_an_envelope_does_not() {
        let inner = Datagram::Set { key: b"k", value: b"v", expires: 9 }.encode().expect("short");
        let signed = Signed::material(77, &inner);
        let outer = Datagram::Signed(Signed { proof: &[7; 32], signed: &signed }).encode().expect("short");
        let Ok(Datagram::Signed(read)) = Datagram::parse(&outer) else { panic!("not signed") };
        assert_eq!(read.open(), Ok((77, Datagram::Set { key: b"k", value: b"v", expires: 9 })));
        let again = Signed::material(77, &outer);
        assert!(Signed { proof: &[7; 32], signed: &again }.open().is_err());
    }

    #[test]
    fn large_values_come_in_parts_that_fit() {
        let value: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        assert_eq!(Datagram::Set { key: b"k", value: &value, expires: 0 }.encode(), None);
        let mut whole = vec![0; value.len()];
        for part in parts(b"k", &value, 5, 3) {
            let bytes = part.encode().expect("a part fits");
            let Ok(Datagram::Part { key: b"k", transfer: 3, size: 200_000, offset, expires: 5, part }) = Datagram::parse(&bytes) else {
                panic!("not a part")
            };
            whole[offset as usize..][..part.len()].copy_from_slice(part);
        }
        assert_eq!(whole, value);
    }

    proptest! {
        #[test]
        fn changes_survive(key in proptest::collection::vec(any::<u8>(), 1..40), value in proptest::collection::vec(any::<u8>(), 0..400), expires: u64) {
            for change in [Datagram::Set { key: &key, value: &value, expires }, Datagram::Delete { key: &key }, Datagram::Clear] {
                let bytes = change.encode().expect("short");
                prop_assert_eq!(Datagram::parse(&bytes), Ok(change));
            }
        }
    }
}
