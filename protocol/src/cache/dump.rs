//! All items of a cache as a stream (the answer to modifier2 6, and to `cmd=keys`).
//!
//! An entry is the key's length (u16le, never 0), the value's size (u64le), the expiry (u64le, absolute unix seconds, 0: never), the key, and the value where values are
//! sent at all. Two zero bytes end the stream, so that one that was cut off is noticed.

/// The head of an entry: lengths of key and value, expiry.
const HEAD: usize = 2 + 8 + 8;

/// An item without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'b> {
    pub key: &'b [u8],
    /// Bytes of the value.
    pub size: u64,
    /// Absolute unix seconds; 0: never.
    pub expires: u64,
}

/// Appends an entry; its value is the caller's to append. Keys are longer than nothing and shorter than 64 KiB.
pub fn push_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let key = &entry.key[..entry.key.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(&entry.size.to_le_bytes());
    out.extend_from_slice(&entry.expires.to_le_bytes());
    out.extend_from_slice(key);
}

/// Ends the stream.
pub fn push_last_entry(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// The entry at the start of `input` and its length; `Some(None)` is the end of the stream, `None` means that more has to come.
pub fn read_entry(input: &[u8]) -> Option<Option<(Entry<'_>, usize)>> {
    let length = usize::from(u16::from_le_bytes(*input.first_chunk()?));
    if length == 0 {
        return Some(None);
    }
    let head = input.get(2..HEAD)?;
    let (size, expires) = (u64::from_le_bytes(*head.first_chunk()?), u64::from_le_bytes(*head.last_chunk()?));
    let key = input.get(HEAD..HEAD + length)?;
    Some(Some((Entry { key, size, expires }, HEAD + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_and_every_beginning_asks_for_more() {
        let entry = Entry { key: b"key", size: 70_000, expires: 1 << 33 };
        let mut out = vec![];
        push_entry(&mut out, &entry);
        push_last_entry(&mut out);
        for cut in 0..out.len() - 2 {
            assert_eq!(read_entry(&out[..cut]), None, "at {cut}");
        }
        assert_eq!(read_entry(&out), Some(Some((entry, out.len() - 2))));
        assert_eq!(read_entry(&out[out.len() - 2..]), Some(None));
    }
}
