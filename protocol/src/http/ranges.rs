//! The Range header (RFC 9110, 14.2). Where the standard leaves a choice: a set that is out of order, overlaps or asks for as much as
//! there is gets the whole; what cannot be read is unsatisfiable, as it is in uWSGI.

use crate::bytes::{decimal, trim};

/// More ranges than this in one request get the whole representation.
pub const MAX_RANGES: usize = 16;

/// What a Range header asks of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: a plain 200.
    Whole,
    /// One part of it, or several that do not overlap, in the client's order: 206. Never empty.
    Parts(Vec<Span>),
    /// 416.
    Unsatisfiable,
}

/// Bytes `first` to `last`, both included, of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    /// Bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What `header`, the value of Range, asks of a representation of `size` bytes.
pub fn wanted(header: &[u8], size: u64) -> Wanted {
    let Some(equals) = header.iter().position(|&byte| byte == b'=') else { return Wanted::Whole };
    if !trim(&header[..equals]).eq_ignore_ascii_case(b"bytes") {
        return Wanted::Whole;
    }
    let mut parts = Vec::new();
    for (number, spec) in header[equals + 1..].split(|&byte| byte == b',').map(trim).filter(|spec| !spec.is_empty()).enumerate() {
        match one(spec, size) {
            _ if number == MAX_RANGES => return Wanted::Whole,
            None => return Wanted::Unsatisfiable,
            Some(One::Whole) => return Wanted::Whole,
            Some(One::Beyond) => {}
            Some(One::Part(part)) => parts.push(part),
        }
    }
    match parts.len() {
        0 => Wanted::Unsatisfiable,
        1 => Wanted::Parts(parts),
        _ if is_greedy(&parts, size) => Wanted::Whole,
        _ => Wanted::Parts(parts),
    }
}

enum One {
    Part(Span),
    Whole,
    Beyond,
}

/// `None`: it cannot be read.
fn one(spec: &[u8], size: u64) -> Option<One> {
    let dash = spec.iter().position(|&byte| byte == b'-')?;
    let (from, to) = (trim(&spec[..dash]), trim(&spec[dash + 1..]));
    if from.is_empty() {
        return Some(match number(to)? {
            0 => One::Beyond,
            suffix if suffix >= size => One::Whole,
            suffix => One::Part(Span { first: size - suffix, last: size - 1 }),
        });
    }
    let first = number(from)?;
    let last = if to.is_empty() { u64::MAX } else { number(to)? };
    if last < first {
        return None;
    }
    Some(match (first, last.checked_add(1)) {
        (0, end) if end.is_none_or(|end| end >= size) => One::Whole,
        _ if first >= size => One::Beyond,
        _ => One::Part(Span { first, last: last.min(size - 1) }),
    })
}

/// A number that is too large for us is as large as can be.
fn number(digits: &[u8]) -> Option<u64> {
    let sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    sound.then(|| decimal(digits).unwrap_or(u64::MAX))
}

fn is_greedy(parts: &[Span], size: u64) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable_by_key(|part| part.first);
    sorted.windows(2).any(|pair| pair[1].first <= pair[0].last) || parts.iter().map(|part| part.len()).sum::<u64>() >= size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(u64, u64)]) -> Wanted {
        Wanted::Parts(pairs.iter().map(|&(first, last)| Span { first, last }).collect())
    }

    #[test]
    fn one_range_of_seven_bytes() {
        for (asked, expected) in [
            ("bytes=0-1", spans(&[(0, 1)])),
            ("bytes=2-", spans(&[(2, 6)])),
            ("bytes=-2", spans(&[(5, 6)])),
            ("bytes=6-900", spans(&[(6, 6)])),
            ("bytes=6-99999999999999999999999", spans(&[(6, 6)])),
            ("Bytes = 1-2 ", spans(&[(1, 2)])),
            ("bytes=0-", Wanted::Whole),
            ("bytes=0-6", Wanted::Whole),
            ("bytes=-7", Wanted::Whole),
            ("bytes=-100", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("bytes=7-", Wanted::Unsatisfiable),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=", Wanted::Unsatisfiable),
            ("bytes=-", Wanted::Unsatisfiable),
            ("bytes=a-b", Wanted::Unsatisfiable),
            ("bytes=+1-2", Wanted::Unsatisfiable),
        ] {
            assert_eq!(wanted(asked.as_bytes(), 7), expected, "{asked}");
        }
    }

    #[test]
    fn several_ranges() {
        for (asked, expected) in [
            ("bytes=0-1,3-4", spans(&[(0, 1), (3, 4)])),
            ("bytes=4-5, ,0-1", spans(&[(4, 5), (0, 1)])),
            ("bytes=0-1,100-", spans(&[(0, 1)])),
            ("bytes=90-,100-", Wanted::Unsatisfiable),
            ("bytes=0-2,2-4", Wanted::Whole),
            ("bytes=0-3,4-6", Wanted::Whole),
            ("bytes=0-1,x", Wanted::Unsatisfiable),
        ] {
            assert_eq!(wanted(asked.as_bytes(), 7), expected, "{asked}");
        }
        let many = |count: u64| format!("bytes={}", (0..count).map(|n| format!("{}-{}", n * 2, n * 2)).collect::<Vec<_>>().join(","));
        assert!(matches!(wanted(many(16).as_bytes(), 1000), Wanted::Parts(parts) if parts.len() == 16));
        assert_eq!(wanted(many(17).as_bytes(), 1000), Wanted::Whole);
    }

    #[test]
    fn nothing_has_no_parts() {
        for (asked, expected) in [("bytes=0-", Wanted::Whole), ("bytes=-5", Wanted::Whole), ("bytes=1-", Wanted::Unsatisfiable)] {
            assert_eq!(wanted(asked.as_bytes(), 0), expected, "{asked}");
        }
    }
}
